//! The `[nats]` section: how to reach the cluster's NATS, and how many copies its streams keep.

use std::path::PathBuf;

use bus::{Auth, BusConfig, TlsConfig};
use gateway::config::ConfigError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::Secret;

/// How NATS is reached. At most one way to log in is given: `user` and `password`, `token`, `nkey_seed` or `creds_file`.
// Flat on purpose: each key can be set by one environment variable.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// `nats://host:port` or `tls://host:port` of one or more servers of the same cluster.
    pub servers: Vec<String>,
    /// Copies of each stream: 1, 3 or 5. With 3 an acknowledged message survives the loss of a server.
    pub replicas: usize,
    /// Login by name; `password` goes with it.
    pub user: Option<String>,
    /// The password of `user`.
    pub password: Option<Secret<String>>,
    /// Login by token.
    pub token: Option<Secret<String>>,
    /// The seed of a user nkey (`SU…`).
    pub nkey_seed: Option<Secret<String>>,
    /// A `.creds` file; read again at every connect, so it may rotate.
    pub creds_file: Option<PathBuf>,
    pub tls: NatsTls,
    /// Longest time an outgoing message of a gateway waits for company. Requests and barriers never
    /// wait, nor does anything of a coordinator.
    pub flush_delay_ms: u64,
    /// So many waiting bytes go out at once.
    pub flush_bytes: usize,
    /// Outgoing bytes held while NATS is slow or away.
    pub max_pending_bytes: usize,
    /// Received bytes that wait for this process.
    pub max_feed_bytes: usize,
    /// A server that has not let us in by then is given up, and the next one tried.
    pub connect_timeout_ms: u64,
    /// How long NATS may take to answer.
    pub request_timeout_ms: u64,
}

/// TLS towards NATS.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NatsTls {
    /// Refuse servers without TLS.
    pub required: bool,
    /// TLS before the server's greeting (`handshake_first` in the server's configuration).
    pub first: bool,
    /// Authorities to trust instead of the system's, in PEM form.
    pub ca_file: Option<PathBuf>,
    /// The client's certificate and key in PEM form; both or none.
    pub cert_file: Option<PathBuf>,
    /// The key of `cert_file`.
    pub key_file: Option<PathBuf>,
}

impl Default for NatsConfig {
    fn default() -> Self {
        Self {
            servers: vec!["nats://127.0.0.1:4222".to_owned()],
            replicas: 1,
            user: None,
            password: None,
            token: None,
            nkey_seed: None,
            creds_file: None,
            tls: NatsTls::default(),
            flush_delay_ms: 2,
            flush_bytes: 16 * 1024,
            max_pending_bytes: 64 << 20,
            max_feed_bytes: 64 << 20,
            connect_timeout_ms: 2_000,
            request_timeout_ms: 5_000,
        }
    }
}

impl NatsConfig {
    /// The settings of the connection.
    pub fn bus(&self) -> BusConfig {
        BusConfig {
            servers: self.servers.clone(),
            auth: self.auth(),
            tls: TlsConfig {
                required: self.tls.required,
                first: self.tls.first,
                ca_file: self.tls.ca_file.clone(),
                cert_file: self.tls.cert_file.clone(),
                key_file: self.tls.key_file.clone(),
            },
            connect_timeout_ms: self.connect_timeout_ms,
            request_timeout_ms: self.request_timeout_ms,
            flush_delay_ms: self.flush_delay_ms,
            flush_bytes: self.flush_bytes,
            max_pending_bytes: self.max_pending_bytes,
            max_feed_bytes: self.max_feed_bytes,
            ..BusConfig::default()
        }
    }

    fn auth(&self) -> Auth {
        let secret = |secret: &Secret<String>| bus::Secret::new(secret.expose());
        match (&self.user, &self.password, &self.token, &self.nkey_seed, &self.creds_file) {
            (Some(user), Some(password), ..) => {
                Auth::UserPassword { user: user.clone(), password: secret(password) }
            }
            (_, _, Some(token), ..) => Auth::Token { token: secret(token) },
            (_, _, _, Some(seed), _) => Auth::NkeySeed { seed: secret(seed) },
            (_, _, _, _, Some(path)) => Auth::CredsFile { path: path.clone() },
            _ => Auth::None,
        }
    }

    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        let mut refuse =
            |key: &str, message: String| errors.push(ConfigError::new(format!("nats.{key}"), message));
        if self.servers.is_empty() {
            refuse("servers", "name at least one server".to_owned());
        }
        for server in self.servers.iter().filter(|server| !is_server(server)) {
            refuse("servers", format!("`{server}` is no address: write nats://host:port or tls://host:port"));
        }
        if ![1, 3, 5].contains(&self.replicas) {
            refuse("replicas", "must be 1, 3 or 5".to_owned());
        }
        if self.user.is_some() != self.password.is_some() {
            refuse("user", "give user and password together".to_owned());
        }
        let logins =
            [self.user.is_some(), self.token.is_some(), self.nkey_seed.is_some(), self.creds_file.is_some()];
        if logins.into_iter().filter(|given| *given).count() > 1 {
            refuse("user", "give only one of user, token, nkey_seed and creds_file".to_owned());
        }
        if self.tls.cert_file.is_some() != self.tls.key_file.is_some() {
            refuse("tls.cert_file", "give cert_file and key_file together".to_owned());
        }
        for (key, file) in [
            ("creds_file", &self.creds_file),
            ("tls.ca_file", &self.tls.ca_file),
            ("tls.cert_file", &self.tls.cert_file),
            ("tls.key_file", &self.tls.key_file),
        ] {
            if let Some(Err(error)) = file.as_ref().map(std::fs::File::open) {
                refuse(key, format!("cannot be read: {error}"));
            }
        }
    }
}

/// A scheme the bus speaks, and a host. A user and password in the address would end up in logs.
fn is_server(address: &str) -> bool {
    let rest = address.strip_prefix("nats://").or_else(|| address.strip_prefix("tls://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.contains(['@', '/', ' ']))
}
