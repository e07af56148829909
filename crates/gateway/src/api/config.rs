//! The `[api]` section: where back ends call, with which keys, and how much.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::Secret;

use crate::auth::secret_of;
use crate::config::{AppConfig, ConfigError};

/// The server API. Without keys it is not served over HTTP.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiConfig {
    /// Addresses for back ends; port 0 takes a free one.
    pub listen: Vec<SocketAddr>,
    /// Who may call.
    pub keys: Vec<ApiKeyConfig>,
    /// Answer calls that come as NATS requests, too. Whoever may publish to `tl.api.>` may then call.
    pub nats: bool,
    /// Largest body of a call.
    pub max_body_bytes: usize,
    /// How long a call may take; then the caller hears `unavailable`.
    pub timeout_ms: u64,
    /// Calls of one key and node in a second; 0: no limit. A key that was silent may catch up a second's worth at once.
    pub requests_per_second: u32,
    /// How long the result of a call with an idempotency key is kept.
    pub idempotency_s: u64,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 9100))],
            keys: Vec::new(),
            nats: true,
            max_body_bytes: 1 << 20,
            timeout_ms: 10_000,
            requests_per_second: 1000,
            idempotency_s: 86_400,
        }
    }
}

/// One back end's key. Exactly one of `secret`, `secret_file` and `secret_env` is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ApiKeyConfig {
    /// Shown in logs; idempotency keys belong to it.
    pub name: String,
    /// The key, as text of at least 16 characters.
    pub secret: Option<Secret<String>>,
    /// A file with the key; one line end at its end is dropped.
    pub secret_file: Option<PathBuf>,
    /// The environment variable with the key.
    pub secret_env: Option<String>,
    /// Applications it may call; empty: all.
    pub apps: Vec<String>,
    /// What it may do; nothing unless said.
    pub scopes: Vec<Scope>,
}

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Tell events.
    Emit,
    /// Store chat messages.
    Post,
    /// Store notifications.
    Notify,
    /// Revoke tokens and users, move users between rooms.
    Admin,
    /// Statistics and presence.
    Read,
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Self::Emit => "emit",
            Self::Post => "post",
            Self::Notify => "notify",
            Self::Admin => "admin",
            Self::Read => "read",
        }
    }
}

impl ApiConfig {
    pub fn is_served(&self) -> bool {
        !self.keys.is_empty() && !self.listen.is_empty()
    }

    /// Every mistake that types alone do not show; secrets are read elsewhere.
    pub fn check(&self, apps: &[AppConfig]) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut refuse = |path: String, message: String| errors.push(ConfigError::new(path, message));
        let least = [
            ("max_body_bytes", self.max_body_bytes as u64),
            ("timeout_ms", self.timeout_ms),
            ("idempotency_s", self.idempotency_s),
        ];
        for (name, _) in least.iter().filter(|(_, value)| *value == 0) {
            refuse(format!("api.{name}"), "must be at least 1".to_owned());
        }
        for (index, key) in self.keys.iter().enumerate() {
            let at = |field: &str| format!("api.keys[{index}].{field}");
            if key.name.is_empty() {
                refuse(at("name"), "name the back end that has this key".to_owned());
            }
            if let Some(other) = self.keys[..index].iter().position(|earlier| earlier.name == key.name) {
                refuse(at("name"), format!("`{}` is already the name of api.keys[{other}]", key.name));
            }
            if key.scopes.is_empty() {
                refuse(at("scopes"), "a key without scopes may do nothing".to_owned());
            }
            for name in key.apps.iter().filter(|name| apps.iter().all(|app| app.name != **name)) {
                refuse(at("apps"), format!("no application is named `{name}`"));
            }
        }
        errors
    }
}

impl ApiKeyConfig {
    /// Shorter ones can be guessed.
    const LEAST_BYTES: usize = 16;

    /// The key itself.
    ///
    /// # Errors
    /// No secret, more than one, one that cannot be read, or one that is too short; with a path relative to the key.
    pub fn secret(&self) -> Result<Secret<String>, ConfigError> {
        let found = secret_of(self.secret.as_ref(), self.secret_file.as_deref(), self.secret_env.as_deref())?;
        let secret = found
            .ok_or_else(|| ConfigError::new("secret", "give one of secret, secret_file and secret_env"))?;
        if secret.expose().len() < Self::LEAST_BYTES {
            let message = format!("must have at least {} characters", Self::LEAST_BYTES);
            return Err(ConfigError::new("secret", message));
        }
        Ok(secret)
    }
}
