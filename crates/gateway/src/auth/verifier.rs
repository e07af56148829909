//! The keys of an application and the rules a token must meet (RFC 7515, 7519). The time is an argument.

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::{Identity, UserId};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto};
use serde::Deserialize;
use serde_json::{Map, Value};
use telemetry::Secret;

use super::{ClaimNames, Jwks, PublicKeyConfig, TokenConfig, TokenError};
use crate::config::ConfigError;

/// Verifies the tokens of one application.
pub struct Verifier {
    keys: Vec<Key>,
    /// Further keys, which change.
    jwks: Option<Arc<Jwks>>,
    algorithms: Vec<Algorithm>,
    issuer: Vec<String>,
    audience: Vec<String>,
    leeway_s: u64,
    max_token_bytes: usize,
    claims: ClaimNames,
}

/// A key and the configured algorithms it can serve: never those of another family.
#[derive(Debug)]
pub(super) struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

impl Key {
    /// `None`: it is not whole, or works with none of the algorithms.
    pub(super) fn serving(
        kid: Option<String>,
        decoding: DecodingKey,
        algorithms: &[Algorithm],
    ) -> Option<Self> {
        // The library slices an Ed25519 key to 32 bytes without looking.
        let is_whole = decoding.family() != AlgorithmFamily::Ed
            || decoding.try_get_as_bytes().is_ok_and(|bytes| bytes.len() == 32);
        if !is_whole {
            return None;
        }
        // Only a verifier that can be built proves that the key fits: P-256 and P-384 keys are of one family.
        let serves = |algorithm: &Algorithm| crypto::verify("", b"", &decoding, *algorithm).is_ok();
        let algorithms: Vec<_> = algorithms.iter().copied().filter(serves).collect();
        (!algorithms.is_empty()).then_some(Self { kid, algorithms, decoding })
    }

    fn fits(&self, algorithm: Algorithm, message: &str, signature: &str) -> bool {
        self.algorithms.contains(&algorithm)
            && crypto::verify(signature, message.as_bytes(), &self.decoding, algorithm).unwrap_or(false)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515, 4.1.11); none is.
    crit: Option<Value>,
}

impl Verifier {
    /// Reads the keys, from files and the environment where the configuration says so.
    ///
    /// # Errors
    /// Every mistake, with paths relative to the token section.
    pub fn build(config: &TokenConfig) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut keys = Vec::new();
        match config.hmac_secret() {
            Ok(Some(secret)) => keys.push(Key {
                kid: None,
                algorithms: of_family(config, AlgorithmFamily::Hmac),
                decoding: DecodingKey::from_secret(secret.expose().as_bytes()),
            }),
            Ok(None) => {}
            Err(error) => errors.push(error),
        }
        for (index, key) in config.keys.iter().enumerate() {
            match public_key(key, &config.algorithms) {
                Ok(key) => keys.push(key),
                Err((field, message)) => {
                    errors.push(ConfigError::new(format!("keys[{index}]{field}"), message))
                }
            }
        }
        check_rules(config, &mut errors);
        let jwks = Jwks::build(config).unwrap_or_else(|error| {
            errors.push(error);
            None
        });
        if errors.is_empty() {
            check_coverage(config, &keys, jwks.is_some(), &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Self {
            keys,
            jwks,
            algorithms: config.algorithms.clone(),
            issuer: config.issuer.clone(),
            audience: config.audience.clone(),
            leeway_s: config.leeway_s,
            max_token_bytes: config.max_token_bytes,
            claims: config.claims.clone(),
        })
    }

    /// The identity a token proves at `now_unix_s`, seconds since the Unix epoch. The signature is checked before any claim is read.
    pub fn verify(&self, token: &str, now_unix_s: u64) -> Result<Identity, TokenError> {
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > self.max_token_bytes {
            return Err(TokenError::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, payload) = message
            .split_once('.')
            .filter(|(_, payload)| !payload.contains('.'))
            .ok_or(TokenError::Malformed)?;
        let header: Header = decode_json(header)?;
        self.check_signature(&header, message, signature)?;
        let claims: Map<String, Value> = decode_json(payload)?;
        self.check_times(&claims, now_unix_s)?;
        self.check_parties(&claims)?;
        self.identity(claims)
    }

    fn check_signature(&self, header: &Header, message: &str, signature: &str) -> Result<(), TokenError> {
        if header.crit.is_some() {
            return Err(TokenError::Malformed);
        }
        let algorithm: Algorithm = header.alg.parse().map_err(|_| TokenError::Algorithm)?;
        if !self.algorithms.contains(&algorithm) {
            return Err(TokenError::Algorithm);
        }
        let set = self.jwks.as_ref().and_then(|jwks| jwks.keys());
        let keys: Vec<&Key> = self.keys.iter().chain(set.iter().flat_map(|set| set.iter())).collect();
        let kid = header.kid.as_deref();
        let is_named = kid.is_some_and(|kid| keys.iter().any(|key| key.kid.as_deref() == Some(kid)));
        if candidates(&keys, kid, is_named).any(|key| key.fits(algorithm, message, signature)) {
            return Ok(());
        }
        let may_come = self.jwks.is_some() && algorithm.family() != AlgorithmFamily::Hmac && !is_named;
        Err(if may_come { TokenError::UnknownKey } else { TokenError::Signature })
    }

    /// The set of keys that changes, if there is one.
    pub fn jwks(&self) -> Option<&Arc<Jwks>> {
        self.jwks.as_ref()
    }

    /// Like [`Verifier::verify`], after one more look at the set of keys where the token's key is unknown. A set that cannot be read
    /// leaves it open whether the token is good.
    pub async fn verify_with_newer_keys(&self, token: &str, now_unix_s: u64) -> Result<Identity, TokenError> {
        let first = self.verify(token, now_unix_s);
        let (Err(TokenError::UnknownKey), Some(jwks)) = (&first, &self.jwks) else { return first };
        jwks.newer().await;
        match self.verify(token, now_unix_s) {
            Err(TokenError::UnknownKey) if jwks.is_doubtful() => {
                Err(TokenError::Unavailable("the public keys could not be read"))
            }
            second => second,
        }
    }

    fn check_times(&self, claims: &Map<String, Value>, now_unix_s: u64) -> Result<(), TokenError> {
        if seconds(claims, "exp")?.is_some_and(|exp| now_unix_s >= exp.saturating_add(self.leeway_s)) {
            return Err(TokenError::Expired);
        }
        if seconds(claims, "nbf")?.is_some_and(|nbf| nbf > now_unix_s.saturating_add(self.leeway_s)) {
            return Err(TokenError::NotYet);
        }
        Ok(())
    }

    fn check_parties(&self, claims: &Map<String, Value>) -> Result<(), TokenError> {
        if !self.issuer.is_empty() && !names_one_of(claims.get("iss"), &self.issuer) {
            return Err(TokenError::Issuer);
        }
        if !self.audience.is_empty() && !names_one_of(claims.get("aud"), &self.audience) {
            return Err(TokenError::Audience);
        }
        Ok(())
    }

    fn identity(&self, claims: Map<String, Value>) -> Result<Identity, TokenError> {
        let first = |names: &[String]| {
            names.iter().filter_map(|name| claims.get(name)).find(|value| !value.is_null())
        };
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(Box::from);
        let claimed = first(&self.claims.user).ok_or(TokenError::NoUser)?;
        Ok(Identity {
            user: UserId::from_json(claimed).ok_or(TokenError::NoUser)?,
            numeric: claimed.is_number(),
            role: text(first(&self.claims.role)),
            name: text(first(&self.claims.name)),
            token_id: text(claims.get("jti")),
            expires_at: seconds(&claims, "exp")?,
            claims,
        })
    }
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier")
            .field("algorithms", &self.algorithms)
            .field("keys", &self.keys.len())
            .finish()
    }
}

/// The key named by the token; keys without a name where none is so named; every key for a token without a name.
fn candidates<'a>(
    keys: &'a [&'a Key],
    kid: Option<&'a str>,
    is_named: bool,
) -> impl Iterator<Item = &'a &'a Key> {
    let named = kid.filter(|_| is_named);
    keys.iter().filter(move |key| kid.is_none() || key.kid.as_deref() == named)
}

fn decode_json<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, TokenError> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenError::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed)
}

/// A NumericDate (RFC 7519, 2), which may have a fraction; before the epoch is 0.
fn seconds(claims: &Map<String, Value>, name: &str) -> Result<Option<u64>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let whole = value.as_u64().or_else(|| value.as_f64().map(|float| float as u64));
            whole.map(Some).ok_or(TokenError::Malformed)
        }
    }
}

fn names_one_of(claim: Option<&Value>, accepted: &[String]) -> bool {
    let is_accepted =
        |value: &Value| value.as_str().is_some_and(|text| accepted.iter().any(|name| name == text));
    match claim {
        Some(Value::Array(values)) => values.iter().any(is_accepted),
        Some(value) => is_accepted(value),
        None => false,
    }
}

impl TokenConfig {
    /// The HMAC key, from where the configuration says; `None` where it names none.
    ///
    /// # Errors
    /// An unreadable file, an unset variable, an empty key, or more than one place.
    pub fn hmac_secret(&self) -> Result<Option<Secret<String>>, ConfigError> {
        secret_of(self.secret.as_ref(), self.secret_file.as_deref(), self.secret_env.as_deref())
    }
}

/// The secret that a section names by `secret`, `secret_file` or `secret_env`; `None` where it names none.
///
/// # Errors
/// An unreadable file, an unset variable, an empty key, or more than one place.
pub(crate) fn secret_of(
    secret: Option<&Secret<String>>,
    file: Option<&Path>,
    env: Option<&str>,
) -> Result<Option<Secret<String>>, ConfigError> {
    let (path, found) = match (secret, file, env) {
        (None, None, None) => return Ok(None),
        (Some(secret), None, None) => ("secret", Ok(secret.expose().clone())),
        (None, Some(file), None) => {
            ("secret_file", read(file).map(|text| without_line_end(&text).to_owned()))
        }
        (None, None, Some(name)) => (
            "secret_env",
            std::env::var(name).map_err(|_| format!("the environment variable {name} is not set")),
        ),
        _ => return Err(ConfigError::new("secret", "give only one of secret, secret_file and secret_env")),
    };
    match found {
        Ok(secret) if secret.is_empty() => Err(ConfigError::new(path, "the key is empty")),
        Ok(secret) => Ok(Some(Secret::new(secret))),
        Err(message) => Err(ConfigError::new(path, message)),
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn without_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn of_family(config: &TokenConfig, family: AlgorithmFamily) -> Vec<Algorithm> {
    config.algorithms.iter().copied().filter(|algorithm| algorithm.family() == family).collect()
}

/// The key, or the field that is wrong and why.
fn public_key(config: &PublicKeyConfig, algorithms: &[Algorithm]) -> Result<Key, (&'static str, String)> {
    let (field, pem) = match (&config.pem, &config.file) {
        (Some(pem), None) => (".pem", pem.clone()),
        (None, Some(file)) => (".file", read(file).map_err(|message| (".file", message))?),
        _ => return Err(("", "give one of pem and file".to_owned())),
    };
    if pem.contains("PRIVATE KEY") {
        return Err((field, "this is a private key: give its public half".to_owned()));
    }
    let readers = [DecodingKey::from_rsa_pem, DecodingKey::from_ec_pem, DecodingKey::from_ed_pem];
    let Some(decoding) = readers.iter().find_map(|read| read(pem.as_bytes()).ok()) else {
        return Err((field, "no RSA, EC or Ed25519 public key in PEM form".to_owned()));
    };
    Key::serving(config.kid.clone(), decoding, algorithms)
        .ok_or_else(|| (field, "none of `algorithms` works with this key".to_owned()))
}

fn check_rules(config: &TokenConfig, errors: &mut Vec<ConfigError>) {
    let mut refuse = |path: &str, message: &str| errors.push(ConfigError::new(path, message));
    if config.algorithms.is_empty() {
        refuse("algorithms", "name at least one algorithm");
    }
    if config.sources.is_empty() {
        refuse("sources", "name at least one place to look for the token");
    }
    if config.claims.user.is_empty() {
        refuse("claims.user", "name at least one claim that holds the user id");
    }
    if config.max_token_bytes == 0 {
        refuse("max_token_bytes", "must be at least 1");
    }
    for (key, value) in [
        ("jwks_refresh_ms", config.jwks_refresh_ms),
        ("jwks_pause_ms", config.jwks_pause_ms),
        ("jwks_timeout_ms", config.jwks_timeout_ms),
        ("jwks_max_bytes", config.jwks_max_bytes as u64),
    ] {
        if value == 0 {
            refuse(key, "must be at least 1");
        }
    }
}

/// Every algorithm has a key and the secret has an algorithm.
fn check_coverage(config: &TokenConfig, keys: &[Key], has_set: bool, errors: &mut Vec<ConfigError>) {
    for algorithm in &config.algorithms {
        let by_set = has_set && algorithm.family() != AlgorithmFamily::Hmac;
        if by_set || keys.iter().any(|key| key.algorithms.contains(algorithm)) {
            continue;
        }
        let message = match algorithm.family() {
            AlgorithmFamily::Hmac => {
                format!("{algorithm:?} has no key: set secret, secret_file, secret_env or JWT_SECRET")
            }
            _ => format!("{algorithm:?} has no key: add one to keys, or name a jwks_file or jwks_url"),
        };
        errors.push(ConfigError::new("algorithms", message));
    }
    if keys.iter().any(|key| key.algorithms.is_empty()) {
        errors.push(ConfigError::new("secret", "none of `algorithms` uses a secret"));
    }
}
