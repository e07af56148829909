//! `trunkline token revoke` and `restore`: good tokens that a running cluster refuses, by the server API over NATS.

use std::process::ExitCode;

use serde_json::{Map, Value};

use super::{duration_s, unix_now_s};
use crate::api_client;
use crate::arguments::{RestoreArguments, RevokeArguments, Whose};
use crate::config::Role;
use crate::failure::Failure;

pub fn revoke(arguments: &RevokeArguments) -> Result<ExitCode, Failure> {
    let config = arguments.config.load_valid(Role::Coordinator)?;
    api_client::call(&config, arguments.app.as_deref(), "revoke", &entry(arguments, unix_now_s())?)
}

pub fn restore(arguments: &RestoreArguments) -> Result<ExitCode, Failure> {
    let config = arguments.config.load_valid(Role::Coordinator)?;
    api_client::call(&config, arguments.app.as_deref(), "restore", &whose(&arguments.whose).into())
}

fn entry(arguments: &RevokeArguments, now_s: u64) -> Result<Value, Failure> {
    let mut body = whose(&arguments.whose);
    if let Some(text) = &arguments.issued_until {
        body.insert("issuedUntil".to_owned(), moment_s(text, now_s)?.into());
    }
    if let Some(kept_s) = duration_s("--for", &arguments.kept)? {
        body.insert("until".to_owned(), now_s.saturating_add(kept_s).into());
    }
    Ok(body.into())
}

fn whose(whose: &Whose) -> Map<String, Value> {
    let fields = [("user", &whose.user), ("tokenId", &whose.token_id)];
    let given = fields.into_iter().filter_map(|(key, id)| Some((key.to_owned(), id.as_deref()?.into())));
    given.collect()
}

fn moment_s(text: &str, now_s: u64) -> Result<u64, Failure> {
    let moment = if text == "now" { Some(now_s) } else { text.parse().ok() };
    let wrong =
        || Failure::Usage(format!("--issued-until {text}: write seconds since the Unix epoch, or `now`"));
    moment.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::arguments::{Arguments, Command, TokenCommand};

    fn body(line: &str) -> Option<Result<Value, Failure>> {
        let arguments =
            Arguments::try_parse_from(format!("trunkline token revoke {line}").split(' ')).ok()?;
        match arguments.command {
            Command::Token(TokenCommand::Revoke(revoke)) => Some(entry(&revoke, 1000)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_becomes_an_entry() {
        let cases = [
            ("--user 7", json!({ "user": "7" })),
            (
                "--user 7 --issued-until now --for 1h",
                json!({ "user": "7", "issuedUntil": 1000, "until": 4600 }),
            ),
            ("--user 7 --issued-until 900", json!({ "user": "7", "issuedUntil": 900 })),
            ("--token-id a-b --for 10s", json!({ "tokenId": "a-b", "until": 1010 })),
        ];
        for (line, expected) in cases {
            assert_eq!(body(line).unwrap().unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn one_of_user_and_token_is_named_and_times_are_times() {
        for line in ["--for 1h", "--user 7 --token-id x", "--token-id x --issued-until now"] {
            assert!(body(line).is_none(), "{line}");
        }
        for line in ["--user 7 --for 1w", "--user 7 --issued-until yesterday", "--user 7 --issued-until -1"] {
            assert!(body(line).is_none_or(|body| body.is_err()), "{line}");
        }
    }
}
