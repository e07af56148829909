//! `trunkline emit`: tells an event to users, rooms, roles or everyone of a running cluster, by the server API over NATS.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use bus::{Bus, RequestError};
use serde_json::{Map, Value, json};
use telemetry::Metrics;

use crate::arguments::EmitArguments;
use crate::config::{Config, Role};
use crate::failure::Failure;

/// Longer than any node takes over a call.
const PATIENCE: Duration = Duration::from_secs(30);

/// Prints the answer; a refused call is a failure.
pub fn run(arguments: &EmitArguments) -> Result<ExitCode, Failure> {
    let config = arguments.config.load_valid(Role::Coordinator)?;
    let subject = format!("tl.api.{}.emit", app_name(&config, arguments.app.as_deref())?);
    let body = body(arguments)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    let answer = runtime.block_on(ask(&config, &subject, body.to_string().as_bytes()))?;
    let answer: Value = serde_json::from_slice(&answer)
        .map_err(|error| Failure::Call(format!("the answer is no JSON: {error}")))?;
    if answer["ok"] == true {
        println!("{answer}");
        return Ok(ExitCode::SUCCESS);
    }
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    Err(Failure::Call(format!("{} ({})", text("message"), text("code"))))
}

async fn ask(config: &Config, subject: &str, body: &[u8]) -> Result<bytes::Bytes, Failure> {
    let bus = Bus::connect(config.nats.bus(), Metrics::new().registry()).await;
    let bus = bus.map_err(|error| Failure::Call(error.to_string()))?;
    let answer = bus.request(subject, body, Instant::now() + PATIENCE).await;
    answer.map_err(|error| {
        Failure::Call(match error {
            RequestError::NoResponders => "no gateway serves this application's API".to_owned(),
            other => other.to_string(),
        })
    })
}

fn app_name<'a>(config: &'a Config, name: Option<&'a str>) -> Result<&'a str, Failure> {
    let names = || config.app.iter().map(|app| app.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, &config.app[..]) {
        // The cluster may have applications that this configuration does not speak of.
        (Some(name), _) if !name.is_empty() && !name.contains(['.', ' ', '*', '>']) => Ok(name),
        (Some(name), _) => Err(Failure::Usage(format!("`{name}` is no application's name"))),
        (None, [only]) => Ok(&only.name),
        (None, _) => Err(Failure::Usage(format!("give --app, one of {}", names()))),
    }
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

    #[test]
    fn an_application_is_named_or_the_only_one() {
        let config = Config {
            app: vec![gateway::config::AppConfig { name: "one".into(), ..Default::default() }],
            ..Config::default()
        };
        assert_eq!(app_name(&config, None).unwrap(), "one");
        assert_eq!(app_name(&config, Some("other")).unwrap(), "other");
        assert!(app_name(&config, Some("a.b")).is_err());
        assert!(app_name(&Config::default(), None).is_err());
    }
}
