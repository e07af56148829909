//! The `[app.issue]` section: whose sessions are believed, and what becomes of them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::auth::{Source, TokenConfig};
use crate::config::ConfigError;

/// Each request takes a subject of its own, and NATS lists no more than 1024 at once.
const MOST_PER_MINUTE: u32 = 1000;

/// How socket tokens are issued (`portal`, `/api/rt/issue-socket-token`).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IssueConfig {
    /// The callers' session: how it is found and verified. Its sources are `bearer` and `cookie:session` where it names none; its
    /// algorithms and keys are those of `app.token` where it names no key.
    pub session: TokenConfig,
    /// How long a socket token is good for.
    pub ttl_s: u64,
    /// Claims that a socket token takes over from the session, besides user, role and name.
    pub claims: Vec<String>,
    pub cookie: CookieConfig,
    /// Tokens that one user may ask for in a minute, at whichever node; at most 1000, 0: no limit.
    pub per_minute: u32,
}

impl Default for IssueConfig {
    fn default() -> Self {
        let claims = ["patientId", "doctorId", "patients"].map(str::to_owned);
        Self {
            session: TokenConfig::default(),
            ttl_s: 1800,
            claims: claims.into(),
            cookie: CookieConfig::default(),
            per_minute: 30,
        }
    }
}

/// The cookie that carries a socket token.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CookieConfig {
    /// The cookie's name.
    pub name: String,
    /// `None`: the host that was asked, alone.
    pub domain: Option<String>,
    /// Paths that it is sent to.
    pub path: String,
    pub same_site: SameSite,
    /// Sent over TLS only; switch it off for development without TLS.
    pub secure: bool,
}

impl Default for CookieConfig {
    fn default() -> Self {
        Self {
            name: "socket_token".to_owned(),
            domain: None,
            path: "/".to_owned(),
            same_site: SameSite::Lax,
            secure: true,
        }
    }
}

/// With which requests of other sites a browser sends the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

impl SameSite {
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Lax => "Lax",
            Self::None => "None",
        }
    }
}

impl IssueConfig {
    /// What the session is verified by: with the application's keys where it names none of its own.
    pub fn session_rules(&self, token: &TokenConfig) -> TokenConfig {
        let mut rules = self.session.clone();
        rules.sources = rules.sources_or(&session_sources());
        let own_key = rules.secret.is_some()
            || rules.secret_file.is_some()
            || rules.secret_env.is_some()
            || !rules.keys.is_empty()
            || rules.jwks_file.is_some()
            || rules.jwks_url.is_some();
        if own_key {
            return rules;
        }
        TokenConfig {
            sources: rules.sources,
            claims: rules.claims,
            issuer: rules.issuer,
            audience: rules.audience,
            ..token.clone()
        }
    }

    /// Mistakes, with paths relative to the section.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut refuse = |path: &str, message: &str| errors.push(ConfigError::new(path, message));
        if self.ttl_s == 0 {
            refuse("ttl_s", "must be at least 1");
        }
        if self.per_minute > MOST_PER_MINUTE {
            refuse("per_minute", "must be at most 1000");
        }
        let cookie = &self.cookie;
        if !is_token(&cookie.name) {
            refuse("cookie.name", "must be letters, digits, `-`, `_` and `.`");
        }
        let plain =
            |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';' && byte != b',');
        if !cookie.path.starts_with('/') || !plain(&cookie.path) {
            refuse("cookie.path", "must start with `/` and hold no `;`");
        }
        if cookie.domain.as_deref().is_some_and(|domain| domain.is_empty() || !plain(domain)) {
            refuse("cookie.domain", "must be a host name");
        }
        if cookie.same_site == SameSite::None && !cookie.secure {
            refuse("cookie.same_site", "browsers take `none` with `secure = true` only");
        }
        errors
    }
}

/// Where callers put their session, if the configuration does not say.
pub fn session_sources() -> [Source; 2] {
    [Source::Bearer, Source::Cookie("session".to_owned())]
}

fn is_token(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}
