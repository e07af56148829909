//! What the environment and flags say over the file.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use gateway::config::HttpConfig;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Inputs;
use super::document::Document;
use super::report::Reporter;

/// One value from outside the file, with the ways it may still be read.
pub struct Override<'i> {
    pub span: Range<usize>,
    path: Vec<String>,
    text: Cow<'i, str>,
    reading: Reading,
}

/// How the text of an override is understood; tried in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Toml,
    Text,
    List,
}

impl<'i> Override<'i> {
    /// The next reading that could please a key that refused the last one with `message`.
    pub fn reread(&mut self, message: &str) -> Option<(Vec<String>, DeValue<'i>)> {
        let was_text = matches!(self.value(), DeValue::String(_));
        self.reading = match self.reading {
            Reading::Toml if !was_text => Reading::Text,
            Reading::Toml | Reading::Text if message.contains("expected a sequence") => Reading::List,
            _ => return None,
        };
        Some((self.path.clone(), self.value()))
    }

    fn value(&self) -> DeValue<'i> {
        let text = |text: &str| DeValue::String(text.to_owned().into());
        match (self.reading, &self.text) {
            (Reading::Toml, Cow::Borrowed(toml)) => {
                DeValue::parse(toml).map_or_else(|_| text(toml), |value| at(value.into_inner(), &self.span))
            }
            (Reading::Toml | Reading::Text, plain) => text(plain),
            (Reading::List, plain) => {
                let items = plain.split(',').map(str::trim).filter(|item| !item.is_empty());
                DeValue::Array(items.map(|item| Spanned::new(self.span.clone(), text(item))).collect())
            }
        }
    }
}

/// Puts all overrides into the document, the weakest first; those that have no place are reported.
pub fn apply<'i>(
    inputs: &'i Inputs,
    document: &mut Document<'i>,
    reporter: &mut Reporter,
) -> Vec<Override<'i>> {
    let mut set = Setter { document, reporter, done: Vec::new() };
    set.listeners(inputs);
    set.secret(inputs);
    set.origins(inputs);
    for (name, value) in inputs.environment.iter().filter(|(name, _)| is_ours(name)) {
        let path = name["TRUNKLINE_".len()..].to_lowercase();
        set.put(&format!("environment variable {name}"), path.split("__"), value.into(), Reading::Toml);
    }
    for setting in &inputs.flags {
        let names = setting.path.split(['.', '[']).map(|name| name.trim_end_matches(']'));
        set.put(&setting.flag, names, (&setting.value).into(), Reading::Toml);
    }
    set.done
}

struct Setter<'a, 'i> {
    document: &'a mut Document<'i>,
    reporter: &'a mut Reporter,
    done: Vec<Override<'i>>,
}

impl<'i> Setter<'_, 'i> {
    fn put<'p>(
        &mut self,
        origin: &str,
        names: impl Iterator<Item = &'p str>,
        text: Cow<'i, str>,
        reading: Reading,
    ) {
        let span = self.reporter.origin(origin);
        let names: Vec<String> = names.map(str::to_owned).collect();
        let key = names.join(".");
        let outcome = self.with_app_index(names).and_then(|path| {
            let new = Override { span: span.clone(), path, text, reading };
            self.document.set(&new.path, &span, new.value())?;
            self.done.push(new);
            Ok(())
        });
        if let Err(message) = outcome {
            self.reporter.add(&span, &key, message);
        }
    }

    /// `app.<name>` as `app.<index>`. Names are compared as the environment can write them: in lower case, `-` as `_`.
    fn with_app_index(&self, mut path: Vec<String>) -> Result<Vec<String>, String> {
        let is_name = path.len() > 2 && path[0] == "app" && path[1].parse::<usize>().is_err();
        if is_name {
            let plain = |name: &str| name.to_lowercase().replace('-', "_");
            let wanted = plain(&path[1]);
            let is_wanted = |app: Option<&DeTable<'_>>| {
                app.and_then(|app| app.get("name")?.get_ref().as_str())
                    .is_some_and(|name| plain(name) == wanted)
            };
            let index = self.document.apps().position(is_wanted);
            path[1] = index.ok_or_else(|| format!("no application is named `{}`", path[1]))?.to_string();
        }
        Ok(path)
    }

    /// `HOST` and `PORT` in place of those of `http.listen`, as other servers of these applications read them.
    fn listeners(&mut self, inputs: &'i Inputs) {
        let (host, port) = (variable(inputs, "HOST"), variable(inputs, "PORT"));
        let (Some(name), Some(_)) = (host.map(|_| "HOST").or(port.map(|_| "PORT")), host.or(port)) else {
            return;
        };
        let hosts = match host.map(hosts) {
            None => None,
            Some(Ok(hosts)) => Some(hosts),
            Some(Err(message)) => return self.refuse("HOST", "http.listen", message),
        };
        let port = match port.map(|port| port.parse::<u16>().map_err(|_| format!("`{port}` is no port"))) {
            None => None,
            Some(Ok(port)) => Some(port),
            Some(Err(message)) => return self.refuse("PORT", "http.listen", message),
        };
        let mut listen = Vec::new();
        for addr in self.listen_in_file() {
            for ip in hosts.clone().unwrap_or_else(|| vec![addr.ip()]) {
                let addr = SocketAddr::new(ip, port.unwrap_or(addr.port())).to_string();
                if !listen.contains(&addr) {
                    listen.push(addr);
                }
            }
        }
        self.put(
            &format!("environment variable {name}"),
            ["http", "listen"].into_iter(),
            listen.join(",").into(),
            Reading::List,
        );
    }

    fn listen_in_file(&self) -> Vec<SocketAddr> {
        let path = ["http".to_owned(), "listen".to_owned()];
        match self.document.get(&path).and_then(DeValue::as_array) {
            Some(array) => array.iter().filter_map(|item| item.get_ref().as_str()?.parse().ok()).collect(),
            None => HttpConfig::default().listen,
        }
    }

    /// `JWT_SECRET` for each application that verifies HMAC signatures and names no key for them.
    fn secret(&mut self, inputs: &'i Inputs) {
        let Some(secret) = variable(inputs, "JWT_SECRET") else { return };
        self.fill(secret, "JWT_SECRET", &["token", "secret"], Reading::Text, wants_secret);
    }

    /// `CORS_ORIGINS`, separated by commas, for each application that names none.
    fn origins(&mut self, inputs: &'i Inputs) {
        let Some(origins) = variable(inputs, "CORS_ORIGINS") else { return };
        self.fill(origins, "CORS_ORIGINS", &["cors_origins"], Reading::List, |app| {
            !app.contains_key("cors_origins")
        });
    }

    fn fill(
        &mut self,
        text: &'i str,
        name: &str,
        key: &[&str],
        reading: Reading,
        wants: fn(&DeTable<'_>) -> bool,
    ) {
        let apps = self.document.apps().enumerate();
        let wanting: Vec<usize> =
            apps.filter(|(_, app)| app.is_some_and(wants)).map(|(index, _)| index).collect();
        for index in wanting.iter().map(usize::to_string) {
            let names = ["app", index.as_str()].into_iter().chain(key.iter().copied());
            self.put(&format!("environment variable {name}"), names, text.into(), reading);
        }
    }

    fn refuse(&mut self, variable: &str, key: &str, message: String) {
        let span = self.reporter.origin(&format!("environment variable {variable}"));
        self.reporter.add(&span, key, message);
    }
}

fn variable<'a>(inputs: &'a Inputs, name: &str) -> Option<&'a str> {
    let found = inputs.environment.iter().find(|(key, value)| key == name && !value.is_empty());
    found.map(|(_, value)| value.as_str())
}

/// A setting of ours. Kubernetes adds variables named after each service, and one may be called `trunkline`.
fn is_ours(name: &str) -> bool {
    let Some(rest) = name.strip_prefix("TRUNKLINE_") else { return false };
    let of_kubernetes = rest.contains("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || rest.starts_with("PORT")
        || rest.contains("_PORT");
    rest != "CONFIG" && (rest.contains("__") || !of_kubernetes)
}

fn hosts(host: &str) -> Result<Vec<IpAddr>, String> {
    match host {
        "localhost" => Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]),
        _ => host
            .parse()
            .map(|ip| vec![ip])
            .map_err(|_| format!("`{host}` is neither an IP address nor `localhost`")),
    }
}

fn wants_secret(app: &DeTable<'_>) -> bool {
    let text = |key: &str| app.get(key).and_then(|value| value.get_ref().as_str());
    let Some(token) = app.get("token").and_then(|token| token.get_ref().as_table()) else {
        return text("dialect") != Some("conformance") && text("auth") != Some("none");
    };
    let has_secret = ["secret", "secret_file", "secret_env"].iter().any(|key| token.contains_key(*key));
    let algorithms = token.get("algorithms").and_then(|list| list.get_ref().as_array());
    let is_hmac =
        |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().is_some_and(|name| name.starts_with("HS"));
    !has_secret && algorithms.is_none_or(|list| list.iter().any(is_hmac))
}

/// The value with every place in it at `span`.
fn at<'i>(value: DeValue<'i>, span: &Range<usize>) -> DeValue<'i> {
    let moved = |value: Spanned<DeValue<'i>>| Spanned::new(span.clone(), at(value.into_inner(), span));
    match value {
        DeValue::Array(items) => DeValue::Array(items.into_iter().map(moved).collect()),
        DeValue::Table(entries) => {
            let entries = entries.into_iter();
            DeValue::Table(
                entries
                    .map(|(key, value)| (Spanned::new(span.clone(), key.into_inner()), moved(value)))
                    .collect(),
            )
        }
        plain => plain,
    }
}
