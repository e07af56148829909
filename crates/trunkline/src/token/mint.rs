//! `trunkline token mint`: a signed token that the application's verifier accepts.

use std::process::ExitCode;

use gateway::auth::{Algorithm, TokenConfig};
use gateway::config::AppConfig;
use jsonwebtoken::{AlgorithmFamily, EncodingKey, Header};
use serde_json::{Map, Value};

use super::{duration_s, unix_now_s, with_secret_file};
use crate::arguments::MintArguments;
use crate::config::Mistake;
use crate::failure::Failure;

/// Who a token is for.
#[derive(Clone, Debug, Default)]
pub struct Subject {
    pub user: String,
    pub role: Option<String>,
    pub name: Option<String>,
    pub claims: Map<String, Value>,
}

/// Prints the token alone, so that it can be piped.
pub fn run(arguments: &MintArguments) -> Result<ExitCode, Failure> {
    let rules = rules(arguments)?;
    let subject = Subject {
        user: arguments.user.clone(),
        role: arguments.role.clone(),
        name: arguments.name.clone(),
        claims: arguments.claims.iter().map(|text| claim(text)).collect::<Result<_, _>>()?,
    };
    println!("{}", mint(&rules, &subject, duration_s("--ttl", &arguments.ttl)?, arguments.algorithm)?);
    Ok(ExitCode::SUCCESS)
}

/// A token for `subject` under `rules`, signed with their HMAC key; `ttl_s` `None`: it does not expire.
///
/// # Errors
/// No HMAC key or algorithm, or a key that cannot be read.
pub fn mint(
    rules: &TokenConfig,
    subject: &Subject,
    ttl_s: Option<u64>,
    algorithm: Option<Algorithm>,
) -> Result<String, Failure> {
    let is_hmac = |algorithm: &Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
    let algorithm = algorithm.or_else(|| rules.algorithms.iter().copied().find(is_hmac)).filter(is_hmac);
    let algorithm = algorithm
        .ok_or_else(|| Failure::Usage("tokens are minted with HS256, HS384 or HS512 only".to_owned()))?;
    let secret = rules.hmac_secret().map_err(|error| Failure::Usage(error.to_string()))?;
    let secret =
        secret.ok_or_else(|| Failure::Usage("there is no HMAC key: give --secret-file".to_owned()))?;
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    Ok(jsonwebtoken::encode(&Header::new(algorithm), &claims(rules, subject, ttl_s), &key)?)
}

/// The claims under the names the application reads; those given explicitly are the last word.
fn claims(rules: &TokenConfig, subject: &Subject, ttl_s: Option<u64>) -> Map<String, Value> {
    let now_s = unix_now_s();
    let mut claims = Map::new();
    let mut put = |name: Option<&str>, value: Option<Value>| {
        if let (Some(name), Some(value)) = (name, value) {
            claims.insert(name.to_owned(), value);
        }
    };
    let first = |names: &'_ [String]| names.first().cloned();
    let user =
        rules.claims.user.iter().find(|name| *name == "sub").cloned().or_else(|| first(&rules.claims.user));
    put(user.as_deref(), Some(subject.user.clone().into()));
    put(first(&rules.claims.role).as_deref(), subject.role.clone().map(Value::from));
    put(first(&rules.claims.name).as_deref(), subject.name.clone().map(Value::from));
    put(Some("iss"), first(&rules.issuer).map(Value::from));
    put(Some("aud"), first(&rules.audience).map(Value::from));
    put(Some("jti"), Some(format!("{:032x}", rand::random::<u128>()).into()));
    put(Some("iat"), Some(now_s.into()));
    put(Some("exp"), ttl_s.map(|ttl_s| now_s.saturating_add(ttl_s).into()));
    claims.extend(subject.claims.clone());
    claims
}

fn rules(arguments: &MintArguments) -> Result<TokenConfig, Failure> {
    let Some(file) = &arguments.secret_file else {
        let config = arguments.config.load_valid(crate::config::Role::Gateway)?;
        return Ok(rules_of(choose(&config.app, arguments.app.as_deref())?));
    };
    if !arguments.config.is_given() {
        return Ok(with_secret_file(&TokenConfig::default(), file));
    }
    // The file may be right but for the key that is given here.
    let loaded = arguments.config.load()?;
    let other: Vec<Mistake> =
        loaded.mistakes.into_iter().filter(|mistake| !mistake.key.contains(".token")).collect();
    if !other.is_empty() {
        return Err(Failure::Configuration(other));
    }
    Ok(with_secret_file(&rules_of(choose(&loaded.config.app, arguments.app.as_deref())?), file))
}

fn rules_of(app: &AppConfig) -> TokenConfig {
    app.token.clone().unwrap_or_default()
}

fn choose<'a>(apps: &'a [AppConfig], name: Option<&str>) -> Result<&'a AppConfig, Failure> {
    let names = || apps.iter().map(|app| app.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, apps) {
        (None, [only]) => Ok(only),
        (None, _) => Err(Failure::Usage(format!(
            "several applications are configured: give --app, one of {}",
            names()
        ))),
        (Some(name), _) => {
            let found = apps.iter().find(|app| app.name == name);
            found.ok_or_else(|| {
                Failure::Usage(format!("no application is named `{name}`: there are {}", names()))
            })
        }
    }
}

fn claim(text: &str) -> Result<(String, Value), Failure> {
    let (name, value) =
        text.split_once('=').ok_or_else(|| Failure::Usage(format!("--claim {text}: write name=value")))?;
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
    Ok((name.to_owned(), value))
}
