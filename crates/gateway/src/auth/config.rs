//! The token section of an application: which keys, which algorithms, which claims.

use std::path::PathBuf;

use jsonwebtoken::Algorithm;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::Secret;

use super::Source;

/// How an application's tokens are found and verified. At most one of `secret`, `secret_file` and `secret_env` is given.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TokenConfig {
    /// The only algorithms believed; the token's header does not choose among others.
    #[schemars(with = "Vec<String>")]
    pub algorithms: Vec<Algorithm>,
    /// The key of HS256, HS384 and HS512, as text.
    pub secret: Option<Secret<String>>,
    /// A file with that key; one line end at its end is dropped.
    pub secret_file: Option<PathBuf>,
    /// The environment variable with that key.
    pub secret_env: Option<String>,
    /// Public keys of the other algorithms.
    pub keys: Vec<PublicKeyConfig>,
    /// A set of public keys (JWKS) besides `keys`; read again every `jwks_refresh_ms`.
    pub jwks_file: Option<PathBuf>,
    /// The same, fetched from an `http://` or `https://` URL.
    pub jwks_url: Option<String>,
    /// Certificates to trust for `jwks_url` instead of the system's, in PEM form.
    pub jwks_ca_file: Option<PathBuf>,
    /// How often the set is read again.
    pub jwks_refresh_ms: u64,
    /// The shortest pause between two looks at the set: after a failure, and when tokens name keys that are not in it.
    pub jwks_pause_ms: u64,
    /// A look that takes longer has failed.
    pub jwks_timeout_ms: u64,
    /// A larger set is refused.
    pub jwks_max_bytes: usize,
    /// Accepted `iss`; empty: any or none.
    pub issuer: Vec<String>,
    /// Accepted `aud`; empty: the claim is ignored.
    pub audience: Vec<String>,
    /// Clock difference forgiven in `exp` and `nbf`. 0, as with the libraries the applications used.
    pub leeway_s: u64,
    /// Longer tokens are refused before they are decoded.
    pub max_token_bytes: usize,
    /// Where the token is looked for, in this order: `auth.<field>`, `bearer`, `header:<name>`, `cookie:<name>`.
    #[schemars(with = "Vec<String>")]
    pub sources: Vec<Source>,
    pub claims: ClaimNames,
}

impl Default for TokenConfig {
    fn default() -> Self {
        Self {
            algorithms: vec![Algorithm::HS256],
            secret: None,
            secret_file: None,
            secret_env: None,
            keys: Vec::new(),
            jwks_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_refresh_ms: 300_000,
            jwks_pause_ms: 10_000,
            jwks_timeout_ms: 5_000,
            jwks_max_bytes: 262_144,
            issuer: Vec::new(),
            audience: Vec::new(),
            leeway_s: 0,
            max_token_bytes: 8192,
            sources: vec![Source::ConnectAuth("token".to_owned()), Source::Bearer],
            claims: ClaimNames::default(),
        }
    }
}

impl TokenConfig {
    /// Where the token is looked for, when `own` stands for the general default.
    pub fn sources_or(&self, own: &[Source]) -> Vec<Source> {
        let is_default = self.sources == Self::default().sources;
        if is_default { own.to_vec() } else { self.sources.clone() }
    }
}

/// One public key in PEM form (`BEGIN PUBLIC KEY`), inline or in a file.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PublicKeyConfig {
    /// The `kid` of tokens signed with it; `None`: for tokens whose `kid` names no other key, or that have none.
    pub kid: Option<String>,
    /// The key itself; this or `file`.
    pub pem: Option<String>,
    /// A file with it.
    pub file: Option<PathBuf>,
}

/// Which claims make the identity; of each list the first that is there counts.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimNames {
    /// A string or an integer; a token without any is refused.
    pub user: Vec<String>,
    /// What the user is; without any there is no role.
    pub role: Vec<String>,
    /// Shown to others.
    pub name: Vec<String>,
}

impl Default for ClaimNames {
    fn default() -> Self {
        let names = |list: &[&str]| list.iter().map(|&name| name.to_owned()).collect();
        Self {
            user: names(&["userId", "sub", "id"]),
            role: names(&["role"]),
            name: names(&["username", "name"]),
        }
    }
}
