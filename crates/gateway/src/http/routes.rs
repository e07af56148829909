//! What tells applications apart: listener, then host name, then path, then namespace. Owns how host names compare, and refuses the
//! configurations in which a request or a socket could be for two applications, or a path or host name that no request can have. Start
//! at [`check`].

mod site;

pub use site::site_of;
use site::{differences, is_site};

use crate::config::{AppConfig, ConfigError, GatewayConfig};

/// Every mistake in the applications' hosts and paths.
pub fn check(config: &GatewayConfig) -> Vec<ConfigError> {
    let mistakes = config.app.iter().enumerate().flat_map(|(index, app)| {
        let all = wrong_hosts(app).chain(wrong_paths(app)).chain(confusions(config, index));
        all.map(move |(key, message)| ConfigError::new(format!("app[{index}].{key}"), message))
    });
    mistakes.collect()
}

/// A key of an application, and what is wrong with its value.
type Mistake = (&'static str, String);

fn wrong_hosts(app: &AppConfig) -> impl Iterator<Item = Mistake> {
    app.hosts.iter().filter(|host| !is_host(host)).map(|host| {
        ("hosts", format!("`{host}` is no host name: write it without scheme, port, path and `*`"))
    })
}

fn wrong_paths(app: &AppConfig) -> impl Iterator<Item = Mistake> {
    let plain = app.plain_path.as_ref().map(|path| ("plain_path", path));
    let all = [("path", &app.path)].into_iter().chain(plain);
    all.filter_map(|(key, path)| Some((key, mistake_of(path)?.to_owned())))
}

/// The routes of the application that an earlier one has already, unless the two are a site.
fn confusions(config: &GatewayConfig, index: usize) -> impl Iterator<Item = Mistake> {
    let (earlier, app) = (&config.app[..index], &config.app[index]);
    paths(app).flat_map(move |(key, path)| {
        let meeting = earlier.iter().enumerate().filter(|(_, other)| meets(config, other, app, path));
        let mistakes = meeting.map(|(first, has)| {
            let may_share = key == "path" && is_site(config, has, app);
            match may_share {
                true if has.namespace == app.namespace => vec![same_namespace(first)],
                true => differences(config, has, app, first),
                false => vec![(key, confusion(first))],
            }
        });
        mistakes.into_iter().find(|mistakes| !mistakes.is_empty()).unwrap_or_default()
    })
}

/// `first`: the number of the application that has it already.
fn same_namespace(first: usize) -> Mistake {
    let why = format!(
        "no socket can tell this application from app[{first}]: they share listener, host, path and namespace"
    );
    ("namespace", why)
}

fn confusion(first: usize) -> String {
    format!("no request can tell this application from app[{first}]: they share listener, host and path")
}

/// A host name as names are compared: in lower case, without port and the root's dot. `a.example:8080`, `[::1]:80`, `a.example.`.
pub fn name_of(host: &str) -> String {
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    without_port.strip_suffix('.').unwrap_or(without_port).to_ascii_lowercase()
}

/// Whether a request for `path` of `app` may be one of `other` too.
fn meets(config: &GatewayConfig, other: &AppConfig, app: &AppConfig, path: &str) -> bool {
    share_door(config, other, app) && paths(other).any(|(_, taken)| taken == path)
}

fn share_door(config: &GatewayConfig, other: &AppConfig, app: &AppConfig) -> bool {
    let own = config.listen_of(app);
    config.listen_of(other).iter().any(|address| own.contains(address)) && share_host(other, app)
}

/// An application with host names goes before one that takes any: those two are told apart.
fn share_host(a: &AppConfig, b: &AppConfig) -> bool {
    let has = |name: &str| b.hosts.iter().any(|host| name_of(host) == name);
    (a.hosts.is_empty() && b.hosts.is_empty()) || a.hosts.iter().any(|host| has(&name_of(host)))
}

/// Keys and values of an application's paths, without their trailing slashes.
fn paths(app: &AppConfig) -> impl Iterator<Item = (&'static str, &str)> {
    let plain = app.plain_base().map(|path| ("plain_path", path));
    [("path", app.base_path())].into_iter().chain(plain)
}

/// Why a path cannot be served. Braces, and `:` and `*` that begin a segment, mean something else to the router, which stops on them.
fn mistake_of(path: &str) -> Option<&'static str> {
    if path.contains(['{', '}', '?', '#']) {
        return Some("must not contain `{`, `}`, `?` or `#`");
    }
    if path.split('/').any(|segment| segment.starts_with([':', '*'])) {
        return Some("no part of it may begin with `:` or `*`");
    }
    (!path.bytes().all(|byte| byte.is_ascii_graphic()))
        .then_some("must be as it stands in a URL: ASCII without spaces, anything else as `%..`")
}

/// A name or an address (IPv6 in brackets), as the header `Host` has it.
fn is_host(host: &str) -> bool {
    let in_brackets = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(address) = in_brackets {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !host.is_empty() && host != "." && host.bytes().all(name)
}

#[cfg(test)]
mod tests;
