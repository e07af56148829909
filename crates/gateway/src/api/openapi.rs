//! The description of the API (OpenAPI 3.1), made from the calls themselves.

use dialects::BackendVerb;
use serde_json::{Map, Value, json};

use super::plain;
use crate::app::App;

/// The document for these applications.
pub fn document(apps: &[App]) -> Value {
    let mut paths = Map::new();
    for app in apps {
        for verb in plain::VERBS.iter().chain(app.dialect.backend_verbs()) {
            paths.insert(path(app, verb.name), json!({ "post": operation(app, verb) }));
        }
        for (name, summary, parameters) in reads() {
            paths.insert(path(app, name), json!({ "get": question(app, name, summary, parameters) }));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Trunkline server API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What back ends ask of the applications. The same calls are NATS requests on `tl.api.<application>.<call>`.",
        },
        "security": [{ "key": [] }],
        "paths": paths,
        "components": { "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } }, "schemas": schemas() },
    })
}

fn path(app: &App, name: &str) -> String {
    format!("/v1/apps/{}/{name}", app.name())
}

fn operation(app: &App, verb: &BackendVerb) -> Value {
    let example: Value = serde_json::from_str(verb.example).unwrap_or_default();
    json!({
        "operationId": format!("{}_{}", app.name(), verb.name.replace('-', "_")),
        "tags": [app.name()],
        "summary": verb.summary,
        "parameters": [{
            "name": "Idempotency-Key", "in": "header", "required": false, "schema": { "type": "string", "maxLength": 255 },
            "description": "The first result of a call with this key is kept and returned again.",
        }],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": { "type": "object" }, "example": example } },
        },
        "responses": responses("Done"),
    })
}

fn question(app: &App, name: &str, summary: &str, parameters: &[(&str, &str, bool)]) -> Value {
    let parameter = |(name, kind, required): &(&str, &str, bool)| json!({ "name": name, "in": "query", "required": required, "schema": { "type": kind } });
    json!({
        "operationId": format!("{}_{name}", app.name()),
        "tags": [app.name()],
        "summary": summary,
        "parameters": parameters.iter().map(parameter).collect::<Vec<_>>(),
        "responses": responses("Answer"),
    })
}

type Parameters = &'static [(&'static str, &'static str, bool)];

fn reads() -> [(&'static str, &'static str, Parameters); 3] {
    [
        ("stats", "How many sockets and users are connected to the whole cluster.", &[]),
        (
            "clients",
            "The connected sockets, page by page: `next` of an answer is `after` of the next question.",
            &[("limit", "integer", false), ("after", "string", false)],
        ),
        ("presence", "What is to be seen of users, separated by commas.", &[("users", "string", true)]),
    ]
}

fn responses(done: &str) -> Value {
    let fault = |description: &str| {
        let schema = json!({ "$ref": "#/components/schemas/Fault" });
        json!({ "description": description, "content": { "application/json": { "schema": schema } } })
    };
    let answer = json!({ "schema": { "$ref": "#/components/schemas/Answer" } });
    json!({
        "200": { "description": done, "content": { "application/json": answer } },
        "400": fault("The body is wrong; `field` says where"),
        "401": fault("No key, or an unknown one"),
        "403": fault("The key is not for this application, or has not the scope"),
        "404": fault("No such application or call"),
        "409": fault("A call with this idempotency key is under way, or the state of things forbids the call"),
        "413": fault("The body is too large"),
        "422": fault("Over a limit, or an idempotency key of another call"),
        "429": fault("Too many calls; see `Retry-After`"),
        "503": fault("Not confirmed in time; see `Retry-After`"),
    })
}

fn schemas() -> Value {
    json!({
        "Answer": {
            "type": "object", "required": ["ok"],
            "properties": {
                "ok": { "const": true },
                "posted": { "type": "array", "description": "For each stored message what its readers are told" },
                "notified": { "type": "array", "description": "Each stored notification" },
            },
        },
        "Fault": {
            "type": "object", "required": ["ok", "code", "message"],
            "properties": {
                "ok": { "const": false },
                "code": { "type": "string" },
                "message": { "type": "string" },
                "field": { "type": "string" },
            },
        },
    })
}
