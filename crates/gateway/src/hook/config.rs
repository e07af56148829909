//! The `[app.hook]` section: whom to ask about users and rights.

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::Secret;

use super::way::{HttpWay, Way};
use crate::auth::secret_of;
use crate::config::ConfigError;
use crate::outbound::{Outbound, check_url};

/// An application's own server that decides what tokens and rules leave open. One of `url` and `nats_subject` is given.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HookConfig {
    /// Asked by POST with a JSON body.
    pub url: Option<String>,
    /// Asked by a NATS request with the same body.
    pub nats_subject: Option<String>,
    /// Whether it is asked about rights that no rule grants.
    pub rights: bool,
    /// Whether it is asked about every user who connects or shows a further token.
    pub users: bool,
    /// Whether it is told all claims of the token.
    pub send_claims: bool,
    /// Sent as `Authorization: Bearer`. At most one of `secret`, `secret_file` and `secret_env` is given.
    pub secret: Option<Secret<String>>,
    /// A file with the secret; one line end at its end is dropped.
    pub secret_file: Option<PathBuf>,
    /// The environment variable with the secret.
    pub secret_env: Option<String>,
    /// Certificates to trust for `url` instead of the system's, in PEM form.
    pub ca_file: Option<PathBuf>,
    /// No answer by then counts as none: nothing is granted.
    pub timeout_ms: u64,
    /// How long an answer that grants is believed; 0: not at all.
    pub cache_s: u64,
    /// The same for one that denies.
    pub cache_denied_s: u64,
    /// Answers kept by each thread.
    pub cache_entries: usize,
    /// Questions of each thread that are open at once; more wait within their timeout.
    pub concurrency: usize,
    /// A larger answer counts as none.
    pub max_answer_bytes: usize,
}

impl Default for HookConfig {
    fn default() -> Self {
        Self {
            url: None,
            nats_subject: None,
            rights: true,
            users: false,
            send_claims: false,
            secret: None,
            secret_file: None,
            secret_env: None,
            ca_file: None,
            timeout_ms: 2_000,
            cache_s: 30,
            cache_denied_s: 5,
            cache_entries: 10_000,
            concurrency: 64,
            max_answer_bytes: 65_536,
        }
    }
}

impl HookConfig {
    /// The way to the hook, or every mistake, with paths relative to the section.
    pub fn build(&self) -> Result<Way, Vec<ConfigError>> {
        let mut errors = self.check();
        let mut or_note = |result: Result<Way, ConfigError>| result.map_err(|error| errors.push(error)).ok();
        let way = match (&self.url, &self.nats_subject) {
            (Some(url), None) => or_note(self.http(url)),
            (None, Some(subject)) => Some(Way::Nats { subject: subject.clone() }),
            _ => or_note(Err(ConfigError::new("url", "give one of url and nats_subject"))),
        };
        match way {
            Some(way) if errors.is_empty() => Ok(way),
            _ => Err(errors),
        }
    }

    fn http(&self, url: &str) -> Result<Way, ConfigError> {
        let url = check_url(url).map_err(|message| ConfigError::new("url", message))?;
        let client = Outbound::build(self.ca_file.as_deref());
        let client = client.map_err(|message| ConfigError::new("ca_file", message))?;
        let secret =
            secret_of(self.secret.as_ref(), self.secret_file.as_deref(), self.secret_env.as_deref())?;
        let authorization = secret.map(|secret| HeaderValue::try_from(format!("Bearer {}", secret.expose())));
        let mut authorization = authorization
            .transpose()
            .map_err(|_| ConfigError::new("secret", "has characters that no HTTP header may have"))?;
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Way::Http(Box::new(HttpWay { url, client, authorization })))
    }

    fn check(&self) -> Vec<ConfigError> {
        let least = [
            ("timeout_ms", self.timeout_ms),
            ("cache_entries", self.cache_entries as u64),
            ("concurrency", self.concurrency as u64),
            ("max_answer_bytes", self.max_answer_bytes as u64),
        ];
        let low = least.iter().filter(|(_, value)| *value == 0);
        let mut errors: Vec<_> = low.map(|(key, _)| ConfigError::new(*key, "must be at least 1")).collect();
        if self.nats_subject.as_deref().is_some_and(|subject| !is_subject(subject)) {
            errors.push(ConfigError::new("nats_subject", "must be a NATS subject without wildcards"));
        }
        if self.nats_subject.is_some()
            && (self.secret.is_some() || self.secret_file.is_some() || self.secret_env.is_some())
        {
            errors.push(ConfigError::new("secret", "belongs to url: NATS has logins of its own"));
        }
        errors
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }
}

fn is_subject(subject: &str) -> bool {
    let whole = |token: &str| !token.is_empty() && token != "*" && token != ">";
    subject.split('.').all(whole) && !subject.contains(char::is_whitespace)
}
