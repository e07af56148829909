//! Configuration of the bus: where the servers are, how to authenticate, how long to wait, how much to hold.
//!
//! Plain data, deserialised with unknown keys refused. Secrets never show in `Debug`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

/// How a process reaches NATS. Every field has a default; a local server needs none.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BusConfig {
    /// `nats://host:port` or `tls://host:port`, tried in random order; the port defaults to 4222.
    pub servers: Vec<String>,
    pub auth: Auth,
    pub tls: TlsConfig,
    /// Shown by the server's monitoring, and the `connection` label of the metrics.
    pub name: String,
    /// One attempt to connect to one address: TCP, TLS and login.
    pub connect_timeout_ms: u64,
    /// One attempt of a durable publish; the caller's deadline holds several.
    pub publish_timeout_ms: u64,
    /// Reads, stream and KV operations that carry no deadline of their own.
    pub request_timeout_ms: u64,
    /// Upper bound of the (jittered) pause between two attempts to connect.
    pub reconnect_delay_max_ms: u64,
    /// Silence after which the server is pinged; a connection is given up after two unanswered pings.
    pub ping_interval_ms: u64,
    /// Longest time an outgoing message waits for company. nats-server pays 90 µs for a lone publish, 1 µs in a batch.
    pub flush_delay_ms: u64,
    /// Outgoing bytes that are written without waiting for company.
    pub flush_bytes: usize,
    /// Outgoing bytes held at most; beyond it ephemeral messages are dropped and durable ones refused.
    pub max_pending_bytes: usize,
    /// Received bytes that wait for [`crate::Feed`] at most; beyond it messages are dropped and the feed says so.
    pub max_feed_bytes: usize,
}

/// Login to NATS.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Auth {
    #[default]
    None,
    UserPassword {
        user: String,
        password: Secret,
    },
    Token {
        token: Secret,
    },
    /// The seed of a user nkey (`SU…`).
    NkeySeed {
        seed: Secret,
    },
    /// A `.creds` file: a user JWT and its seed. Read again at every connect, so it may rotate.
    CredsFile {
        path: PathBuf,
    },
}

/// TLS towards NATS. A server that requires TLS gets it whatever is set here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Refuse servers without TLS.
    pub required: bool,
    /// TLS before the server's greeting (`handshake_first` in the server's configuration).
    pub first: bool,
    /// PEM file of the authorities to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the client certificate and its key; both or none.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
}

/// A text that `Debug` does not show.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself; never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

impl Default for BusConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            auth: Auth::None,
            tls: TlsConfig::default(),
            name: "trunkline".to_owned(),
            connect_timeout_ms: 2_000,
            publish_timeout_ms: 1_000,
            request_timeout_ms: 5_000,
            reconnect_delay_max_ms: 250,
            ping_interval_ms: 3_000,
            flush_delay_ms: 2,
            flush_bytes: 16 * 1024,
            max_pending_bytes: 64 * 1024 * 1024,
            max_feed_bytes: 64 * 1024 * 1024,
        }
    }
}

impl BusConfig {
    /// The defaults with one server address.
    pub fn for_server(url: impl Into<String>) -> Self {
        Self { servers: vec![url.into()], ..Self::default() }
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(crate) fn publish_timeout(&self) -> Duration {
        Duration::from_millis(self.publish_timeout_ms)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_millis(self.request_timeout_ms)
    }

    pub(crate) fn ping_interval(&self) -> Duration {
        Duration::from_millis(self.ping_interval_ms.max(1))
    }

    pub(crate) fn flush_delay(&self) -> Duration {
        Duration::from_millis(self.flush_delay_ms)
    }

    /// A pause before the next attempt to connect; jittered so that a fleet does not arrive at once.
    pub(crate) fn reconnect_delay(&self) -> Duration {
        let longest_ms = self.reconnect_delay_max_ms.max(1);
        Duration::from_millis(rand::random_range(longest_ms / 5..=longest_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_do_not_show_and_unknown_keys_are_refused() {
        let config: BusConfig = serde_json::from_str(
            r#"{"servers":["nats://h"],"auth":{"kind":"user_password","user":"u","password":"hunter2"}}"#,
        )
        .unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && shown.contains("redacted"), "{shown}");
        assert!(serde_json::from_str::<BusConfig>(r#"{"server":"x"}"#).is_err());
        assert!(serde_json::from_str::<BusConfig>(r#"{"auth":{"kind":"token","token":"t","x":1}}"#).is_err());
    }

    #[test]
    fn reconnect_pauses_are_bounded() {
        let config = BusConfig::default();
        assert!((0..200).all(|_| config.reconnect_delay() <= Duration::from_millis(250)));
    }
}
