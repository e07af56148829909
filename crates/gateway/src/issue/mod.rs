//! Socket tokens: short-lived ones that the application's pages and apps get for the session they have. Who the caller is, is proved
//! by the session alone; a socket token is no session, so nobody lengthens one by itself.
//!
//! Start at [`Issuer::issue`]; the request and its answer are in `http::issue`.

mod config;
mod slots;
#[cfg(test)]
mod tests;

use bus::Bus;
use domain::Identity;
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value};

use crate::app::App;
use crate::auth::{Source, TokenConfig, TokenError, Verifier, find_token};
use crate::config::ConfigError;
use crate::rate::Rates;
pub use config::{CookieConfig, IssueConfig, SameSite, session_sources};

/// Says of a token that it is for sockets: the keys of sessions and socket tokens may be the same.
const USE: &str = "token_use";
const SOCKET: &str = "socket";

/// Issues the socket tokens of one application.
pub struct Issuer {
    config: IssueConfig,
    session: Verifier,
    sources: Vec<Source>,
    /// `None`: without limit.
    rates: Option<Rates>,
    key: EncodingKey,
    algorithm: Algorithm,
    /// How socket tokens are read: their claims have these names.
    rules: TokenConfig,
}

impl Issuer {
    /// `token`: how the application verifies socket tokens.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the section.
    pub fn build(config: &IssueConfig, token: &TokenConfig) -> Result<Self, Vec<ConfigError>> {
        let mut errors = config.check();
        let session_rules = config.session_rules(token);
        let session = Verifier::build(&session_rules).map_err(|mistakes| {
            let inside = |e: ConfigError| ConfigError::new(format!("session.{}", e.path), e.message);
            errors.extend(mistakes.into_iter().map(inside));
        });
        let key = signing_key(token).map_err(|error| errors.push(error));
        let (Ok(session), Ok((algorithm, key)), true) = (session, key, errors.is_empty()) else {
            return Err(errors);
        };
        Ok(Self {
            config: config.clone(),
            session,
            sources: session_rules.sources,
            rates: (config.per_minute > 0).then(|| Rates::new(config.per_minute)),
            key,
            algorithm,
            rules: token.clone(),
        })
    }

    pub fn ttl_s(&self) -> u64 {
        self.config.ttl_s
    }

    /// The verifier of sessions, whose keys may change.
    pub fn session(&self) -> &Verifier {
        &self.session
    }

    /// Who asks, and where the session was found.
    pub async fn caller(&self, headers: &HeaderMap, now_s: u64) -> Result<(Identity, &Source), TokenError> {
        let (session, source) = find_token(&self.sources, None, headers).ok_or(TokenError::Missing)?;
        let identity = self.session.verify_with_newer_keys(&session, now_s).await?;
        let is_socket_token = identity.claims.get(USE).is_some_and(|used| used == SOCKET);
        if is_socket_token { Err(TokenError::Audience) } else { Ok((identity, source)) }
    }

    /// Counts a request: at this node, which costs nothing, then over all nodes. `false`: the user asks too often. While NATS gives no
    /// answer this node's count stands alone.
    pub async fn may_ask(&self, bus: &Bus, app: &App, identity: &Identity, now_ms: u64) -> bool {
        let user = identity.user.as_str();
        let Some(rates) = &self.rates else { return true };
        if !rates.take(user, now_ms) {
            return false;
        }
        slots::take(bus, app, user, rates.per_minute).await.unwrap_or_else(|error| {
            tracing::warn!(app = app.name(), %error, "[Socket Utils] requests are counted by this node alone");
            true
        })
    }

    /// A socket token for the user of a session; `id` names it (`jti`).
    ///
    /// # Errors
    /// The library cannot sign.
    pub fn issue(
        &self,
        identity: &Identity,
        id: u128,
        now_s: u64,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let mut claims = Map::new();
        for name in &self.config.claims {
            claims.extend(identity.claims.get(name).map(|value| (name.clone(), value.clone())));
        }
        let names = &self.rules.claims;
        let mut put = |name: Option<&str>, value: Option<Value>| {
            if let (Some(name), Some(value)) = (name, value) {
                claims.insert(name.to_owned(), value);
            }
        };
        let first = |list: &[String]| list.first().map(|text| Value::from(text.as_str()));
        put(names.role.first().map(String::as_str), identity.role.as_deref().map(Value::from));
        put(names.name.first().map(String::as_str), identity.name.as_deref().map(Value::from));
        put(names.user.first().map(String::as_str), Some(identity.wire_id()));
        put(Some("iss"), first(&self.rules.issuer));
        put(Some("aud"), first(&self.rules.audience));
        put(Some(USE), Some(SOCKET.into()));
        put(Some("jti"), Some(format!("{id:032x}").into()));
        put(Some("iat"), Some(now_s.into()));
        put(Some("exp"), Some((now_s + self.config.ttl_s).into()));
        jsonwebtoken::encode(&Header::new(self.algorithm), &claims, &self.key)
    }

    /// The value of `Set-Cookie`.
    pub fn cookie(&self, token: &str) -> HeaderValue {
        let CookieConfig { name, domain, path, same_site, secure } = &self.config.cookie;
        let (ttl_s, same_site) = (self.config.ttl_s, same_site.name());
        let mut text =
            format!("{name}={token}; HttpOnly; Path={path}; SameSite={same_site}; Max-Age={ttl_s}");
        if let Some(domain) = domain {
            text.push_str(&format!("; Domain={domain}"));
        }
        if *secure {
            text.push_str("; Secure");
        }
        HeaderValue::try_from(text).expect("a token is base64, and the settings are checked to be plain text")
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("config", &self.config).finish_non_exhaustive()
    }
}

/// The key with which the application verifies socket tokens signs them too.
fn signing_key(token: &TokenConfig) -> Result<(Algorithm, EncodingKey), ConfigError> {
    let is_hmac = |algorithm: &&Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
    let algorithm = token.algorithms.iter().find(is_hmac).copied();
    // A mistake in the secret is reported where it stands.
    let secret = token.hmac_secret().ok().flatten();
    match (algorithm, secret) {
        (Some(algorithm), Some(secret)) => {
            Ok((algorithm, EncodingKey::from_secret(secret.expose().as_bytes())))
        }
        _ => Err(ConfigError::new("", "needs a secret to sign with: app.token.secret and an HS algorithm")),
    }
}
