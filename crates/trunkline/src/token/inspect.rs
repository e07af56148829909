//! `trunkline token inspect`: what a token says, when it expires, and whether each application believes it.

use std::io::Read;
use std::process::ExitCode;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use gateway::auth::{TokenConfig, Verifier};
use serde_json::Value;

use super::{unix_now_s, with_secret_file};
use crate::arguments::InspectArguments;
use crate::failure::Failure;

/// More than any token is worth.
const MAX_STDIN_BYTES: u64 = 1 << 20;

/// Prints header, claims, expiry and a verdict for each application; status 1 if there were keys and none fitted.
pub fn run(arguments: &InspectArguments) -> Result<ExitCode, Failure> {
    let token = token(arguments)?;
    let mut parts = token.split('.');
    let (header, claims) = (part(parts.next(), "header")?, part(parts.next(), "claims")?);
    println!("header {header:#}\nclaims {claims:#}");
    let now_s = unix_now_s();
    for (claim, past, future) in
        [("iat", "issued", "issued"), ("nbf", "valid since", "valid"), ("exp", "expired", "expires")]
    {
        if let Some(at_s) = claims.get(claim).and_then(Value::as_f64) {
            println!("{}", when(at_s as u64, now_s, past, future));
        }
    }
    if claims.get("exp").is_none() {
        println!("does not expire");
    }
    let rules = rules(arguments)?;
    if rules.is_empty() {
        println!("not verified: no key is given; use --config or --secret-file");
        return Ok(ExitCode::SUCCESS);
    }
    let mut believed = false;
    for (name, rules) in &rules {
        let verdict = verdict(rules, &token, now_s);
        believed |= verdict.is_ok();
        println!("{name}: {}", verdict.unwrap_or_else(|why| format!("not verified: {why}")));
    }
    Ok(if believed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn token(arguments: &InspectArguments) -> Result<String, Failure> {
    if let Some(token) = &arguments.token {
        return Ok(token.trim().to_owned());
    }
    let mut text = String::new();
    let read = std::io::stdin().take(MAX_STDIN_BYTES).read_to_string(&mut text);
    read.map_err(|source| Failure::Read { path: "standard input".into(), source })?;
    Ok(text.trim().to_owned())
}

fn part(text: Option<&str>, what: &str) -> Result<Value, Failure> {
    let wrong = || Failure::Usage(format!("this is no token: its {what} cannot be read"));
    let bytes = text.and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok()).ok_or_else(wrong)?;
    serde_json::from_slice(&bytes).map_err(|_| wrong())
}

/// The rules to judge by, with the name of each.
fn rules(arguments: &InspectArguments) -> Result<Vec<(String, TokenConfig)>, Failure> {
    if let Some(file) = &arguments.secret_file {
        let name = file.display().to_string();
        return Ok(vec![(name, with_secret_file(&TokenConfig::default(), file))]);
    }
    if !arguments.config.is_given() {
        return Ok(Vec::new());
    }
    let apps = arguments.config.load_valid(crate::config::Role::Gateway)?.app.into_iter();
    Ok(apps.filter_map(|app| Some((format!("application {}", app.name), app.token?))).collect())
}

fn verdict(rules: &TokenConfig, token: &str, now_s: u64) -> Result<String, String> {
    let join = |errors: Vec<_>| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let verifier = Verifier::build(rules).map_err(join)?;
    let identity = verifier.verify(token, now_s).map_err(|error| error.to_string())?;
    let role = identity.role.map(|role| format!(" with the role {role}")).unwrap_or_default();
    Ok(format!("verified, user {}{role}", identity.user))
}

/// `expires in 2 hours` and the like.
fn when(at_s: u64, now_s: u64, past: &str, future: &str) -> String {
    let distance = |seconds: u64| {
        let units = [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
        let (unit_s, name) = *units.iter().find(|(unit_s, _)| seconds >= *unit_s).unwrap_or(&units[3]);
        let count = seconds / unit_s;
        format!("{count} {name}{}", if count == 1 { "" } else { "s" })
    };
    if at_s <= now_s {
        format!("{past} {} ago", distance(now_s - at_s))
    } else {
        format!("{future} in {}", distance(at_s - now_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_words() {
        assert_eq!(when(100, 160, "expired", "expires"), "expired 1 minute ago");
        assert_eq!(when(7300, 100, "expired", "expires"), "expires in 2 hours");
        assert_eq!(when(100, 100, "expired", "expires"), "expired 0 seconds ago");
    }
}
