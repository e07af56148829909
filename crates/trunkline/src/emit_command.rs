//! `trunkline emit`: tells an event to users, rooms, roles or everyone of a running cluster, by the server API over NATS.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use crate::api_client;
use crate::arguments::EmitArguments;
use crate::config::Role;
use crate::failure::Failure;

/// Prints the answer; a refused call is a failure.
pub fn run(arguments: &EmitArguments) -> Result<ExitCode, Failure> {
    let config = arguments.config.load_valid(Role::Coordinator)?;
    api_client::call(&config, arguments.app.as_deref(), "emit", &body(arguments)?)
}

fn body(arguments: &EmitArguments) -> Result<Value, Failure> {
    let to = audiences(arguments);
    if to.is_empty() {
        let message = "say who is to hear it: --to-user, --to-room, --to-role or --everyone";
        return Err(Failure::Usage(message.to_owned()));
    }
    let args: Vec<Value> = arguments
        .data
        .iter()
        .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::from(text.as_str())))
        .collect();
    let mut body = Map::new();
    body.insert("to".to_owned(), to.into());
    body.insert("event".to_owned(), arguments.event.as_str().into());
    body.insert("args".to_owned(), args.into());
    body.insert("volatile".to_owned(), arguments.volatile.into());
    body.insert("except".to_owned(), arguments.except.clone().into());
    if let Some(key) = &arguments.idempotency_key {
        body.insert("idempotencyKey".to_owned(), key.as_str().into());
    }
    Ok(body.into())
}

fn audiences(arguments: &EmitArguments) -> Vec<Value> {
    let named = |kind: &'static str, names: &[String]| {
        names.iter().map(|name| json!({ kind: name })).collect::<Vec<_>>()
    };
    let mut to = named("user", &arguments.to_user);
    to.extend(named("room", &arguments.to_room));
    to.extend(named("role", &arguments.to_role));
    to.extend(arguments.everyone.then(|| json!({ "everyone": true })));
    to
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::arguments::{Arguments, Command};

    fn emit(line: &str) -> EmitArguments {
        match Arguments::parse_from(line.split(' ')).command {
            Command::Emit(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_line_becomes_a_call() {
        let line = r#"trunkline emit --app visits --to-user 7 --to-room topic:x --except s1 --volatile news {"a":1} text"#;
        let expected = json!({
            "to": [{ "user": "7" }, { "room": "topic:x" }], "event": "news", "args": [{ "a": 1 }, "text"],
            "volatile": true, "except": ["s1"],
        });
        assert_eq!(body(&emit(line)).unwrap(), expected);
    }

    #[test]
    fn somebody_must_be_named() {
        assert!(matches!(body(&emit("trunkline emit --app visits news")), Err(Failure::Usage(_))));
        let all = body(&emit("trunkline emit --app visits --everyone news")).unwrap();
        assert_eq!(all["to"], json!([{ "everyone": true }]));
    }
}
