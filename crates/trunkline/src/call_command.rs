//! `trunkline call`: any call of the server API, an application's typed ones too, over NATS.

use std::io::Read;
use std::process::ExitCode;

use serde_json::{Map, Value};

use crate::api_client;
use crate::arguments::CallArguments;
use crate::config::Role;
use crate::failure::Failure;

/// Prints the answer; a refused call is a failure.
pub fn run(arguments: &CallArguments) -> Result<ExitCode, Failure> {
    let name = &arguments.call;
    if !api_client::is_token(name) {
        return Err(Failure::Usage(format!("`{name}` is no call's name")));
    }
    let text = match arguments.body.as_deref() {
        Some("-") => standard_input()?,
        Some(text) => text.to_owned(),
        None => "{}".to_owned(),
    };
    let body = body(&text, arguments.idempotency_key.as_deref())?;
    let config = arguments.config.load_valid(Role::Coordinator)?;
    api_client::call(&config, arguments.app.as_deref(), name, &body)
}

fn standard_input() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| Failure::Usage(format!("the body cannot be read from standard input: {error}")))?;
    Ok(text)
}

fn body(text: &str, idempotency_key: Option<&str>) -> Result<Value, Failure> {
    let body: Result<Map<String, Value>, _> = serde_json::from_str(text);
    let mut body =
        body.map_err(|error| Failure::Usage(format!("the body must be a JSON object: {error}")))?;
    body.extend(idempotency_key.map(|key| ("idempotencyKey".to_owned(), key.into())));
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_body_is_an_object() {
        assert_eq!(body(r#"{"a":1}"#, Some("k")).unwrap(), json!({ "a": 1, "idempotencyKey": "k" }));
        assert_eq!(body("{}", None).unwrap(), json!({}));
        for wrong in ["", "7", "[]", "patient"] {
            assert!(matches!(body(wrong, None), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
