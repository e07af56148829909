//! The `[app.ice]` section: which STUN and TURN servers the participants of a call are told of. Owns what is a valid server; the
//! credentials are computed in [`domain::ice`].

use std::path::PathBuf;

use domain::ice::{IceServers, Turn};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::Secret;

use crate::auth::secret_of;
use crate::config::ConfigError;

/// The ICE servers of one application; empty: clients get none and find only direct routes.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IceConfig {
    /// `stun:host[:port]` or `stuns:…`, told as they are.
    pub stun: Vec<String>,
    /// TURN servers; each participant gets credentials of its own.
    pub turn: Vec<TurnConfig>,
}

/// TURN servers with one shared secret (coturn's `use-auth-secret`). Exactly one of `secret`, `secret_file` and `secret_env`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TurnConfig {
    /// `turn:host[:port][?transport=udp]` or `turns:…`.
    pub urls: Vec<String>,
    /// coturn's `static-auth-secret`, as text.
    pub secret: Option<Secret<String>>,
    /// A file with it; one line end at its end is dropped.
    pub secret_file: Option<PathBuf>,
    /// The environment variable with it.
    pub secret_env: Option<String>,
    /// How long credentials are good for. A server asks for them again while a call goes on: longer than calls last.
    pub ttl_s: u64,
}

impl Default for TurnConfig {
    fn default() -> Self {
        Self { urls: Vec::new(), secret: None, secret_file: None, secret_env: None, ttl_s: 3600 }
    }
}

impl IceConfig {
    /// Reads the secrets, from files and the environment where the configuration says so.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the ICE section.
    pub fn build(&self) -> Result<IceServers, Vec<ConfigError>> {
        let mut errors = Vec::new();
        check_urls("stun", &self.stun, is_stun, "`stun:host[:port]` or `stuns:host[:port]`", &mut errors);
        let turn = self.turn.iter().enumerate();
        let turn =
            turn.filter_map(|(index, turn)| turn.build(&format!("turn[{index}]"), &mut errors)).collect();
        if errors.is_empty() { Ok(IceServers { stun: self.stun.clone(), turn }) } else { Err(errors) }
    }
}

impl TurnConfig {
    fn build(&self, at: &str, errors: &mut Vec<ConfigError>) -> Option<Turn> {
        if self.urls.is_empty() {
            errors.push(ConfigError::new(format!("{at}.urls"), "name at least one server"));
        }
        let form = "`turn:host[:port][?transport=udp|tcp]` or `turns:…`";
        check_urls(&format!("{at}.urls"), &self.urls, is_turn, form, errors);
        if self.ttl_s == 0 {
            errors.push(ConfigError::new(format!("{at}.ttl_s"), "must be at least 1"));
        }
        let missing = || ConfigError::new("secret", "give one of secret, secret_file and secret_env");
        let found = secret_of(self.secret.as_ref(), self.secret_file.as_deref(), self.secret_env.as_deref());
        match found.and_then(|secret| secret.ok_or_else(missing)) {
            Ok(secret) => {
                let secret = secret.expose().as_bytes().into();
                Some(Turn { urls: self.urls.clone(), secret, ttl_s: self.ttl_s })
            }
            Err(error) => {
                errors.push(ConfigError::new(format!("{at}.{}", error.path), error.message));
                None
            }
        }
    }
}

fn check_urls(
    at: &str,
    urls: &[String],
    is_valid: fn(&str) -> bool,
    form: &str,
    errors: &mut Vec<ConfigError>,
) {
    let wrong = urls.iter().filter(|url| !is_valid(url));
    errors.extend(wrong.map(|url| ConfigError::new(at, format!("`{url}` is not of the form {form}"))));
}

/// RFC 7064, 3.1.
fn is_stun(url: &str) -> bool {
    url.strip_prefix("stun:").or_else(|| url.strip_prefix("stuns:")).is_some_and(is_address)
}

/// RFC 7065, 3.1.
fn is_turn(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("turn:").or_else(|| url.strip_prefix("turns:")) else { return false };
    let (address, transport) = rest.split_once('?').unwrap_or((rest, "transport=udp"));
    is_address(address) && matches!(transport, "transport=udp" | "transport=tcp")
}

/// `host` or `host:port`; an IPv6 address stands in brackets.
fn is_address(text: &str) -> bool {
    let after_host = match text.strip_prefix('[') {
        Some(v6) => v6.split_once(']').filter(|(ip, _)| ip.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            let end = text.find(':').unwrap_or(text.len());
            Some(text.split_at(end)).filter(|(host, _)| is_host(host))
        }
    };
    let Some((_, rest)) = after_host else { return false };
    rest.is_empty()
        || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn is_host(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !name.is_empty() && name.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(value: Value) -> IceConfig {
        serde_json::from_value(value).unwrap()
    }

    fn mistakes(value: Value) -> Vec<String> {
        config(value).build().unwrap_err().iter().map(|error| error.path.clone()).collect()
    }

    #[test]
    fn servers_are_built_with_their_secrets() {
        let servers = config(json!({
            "stun": ["stun:a.example:3478", "stuns:b", "stun:[::1]:5"],
            "turn": [{ "urls": ["turn:t:3478?transport=udp", "turns:t"], "secret": "s" }, { "urls": ["turn:10.0.0.1"], "secret": "r", "ttl_s": 86400 }],
        }))
        .build()
        .unwrap();
        assert_eq!(servers.stun.len(), 3);
        let told: Vec<_> =
            servers.turn.iter().map(|turn| (turn.urls.len(), &*turn.secret, turn.ttl_s)).collect();
        assert_eq!(told, [(2, &b"s"[..], 3600), (1, &b"r"[..], 86400)]);
    }

    #[test]
    fn a_section_that_is_not_there_names_no_server() {
        let servers = IceConfig::default().build().unwrap();
        assert!(servers.stun.is_empty() && servers.turn.is_empty());
    }

    #[test]
    fn every_mistake_has_its_path() {
        let wrong = json!({
            "stun": ["turn:a", "stun://a", "stun:a:0", "stun:", "stun:a?transport=udp"],
            "turn": [
                { "urls": ["stun:a", "turn:a?transport=sctp", "turn:user@a", "turn:[::g]"], "secret": "s" },
                { "urls": [], "ttl_s": 0 },
                { "urls": ["turn:a"], "secret": "s", "secret_env": "S" },
                { "urls": ["turn:a"], "secret_file": "/nonexistent/secret" },
            ],
        });
        let (stun, turn) = (vec!["stun"; 5], vec!["turn[0].urls"; 4]);
        let rest =
            ["turn[1].urls", "turn[1].ttl_s", "turn[1].secret", "turn[2].secret", "turn[3].secret_file"];
        assert_eq!(mistakes(wrong), [stun, turn, rest.to_vec()].concat());
    }

    #[test]
    fn secrets_are_shown_nowhere() {
        let config = config(json!({ "turn": [{ "urls": ["turn:a"], "secret": "hunter2" }] }));
        let shown = format!("{config:?} {} {:?}", json!(config), config.build().unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
