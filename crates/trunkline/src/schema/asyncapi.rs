//! The AsyncAPI 3 document of a contract. One channel: the namespace. What clients say is received, its ack is the reply.

use dialects::{Contract, Shape};
use serde_json::{Map, Value, json};

use super::shape;

const CHANNEL: &str = "#/channels/socket";

pub fn document(contract: &Contract) -> Value {
    let messages = messages(contract);
    let in_channel: Map<String, Value> = messages
        .keys()
        .map(|name| (name.clone(), json!({ "$ref": format!("#/components/messages/{name}") })))
        .collect();
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": contract.title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!(
                "{} Socket.IO 5 on path {}; a message is one event of namespace {}, a reply is its ack.",
                contract.about, contract.path, contract.namespace
            ),
        },
        "defaultContentType": "application/json",
        "channels": { "socket": { "address": contract.namespace, "messages": in_channel } },
        "operations": operations(contract),
        "components": { "messages": messages, "schemas": schemas(contract) },
    })
}

fn messages(contract: &Contract) -> Map<String, Value> {
    let mut messages = Map::new();
    for said in contract.says {
        let payload = said.payload.map_or_else(|| json!({ "type": "null" }), |text| schema(&shape(text)));
        messages.insert(id("say", said.event), message(said.event, said.about, payload));
        if let Some(ack) = said.ack {
            let answer =
                json!({ "oneOf": [schema(&shape(ack)), { "$ref": "#/components/schemas/Failure" }] });
            let title = format!("The ack of {}.", said.event);
            messages.insert(id("ack", said.event), message(said.event, &title, answer));
        }
    }
    for heard in contract.hears {
        let payload = schema(&shape(heard.payload));
        messages.insert(id("hear", heard.event), message(heard.event, heard.about, payload));
    }
    messages
}

fn message(event: &str, summary: &str, payload: Value) -> Value {
    json!({ "name": event, "summary": summary, "payload": payload })
}

fn operations(contract: &Contract) -> Map<String, Value> {
    let channel = || json!({ "$ref": CHANNEL });
    let of = |kind, event| json!([{ "$ref": format!("{CHANNEL}/messages/{}", id(kind, event)) }]);
    let mut operations = Map::new();
    for said in contract.says {
        let mut operation = json!({
            "action": "receive", "channel": channel(), "summary": said.about, "messages": of("say", said.event),
        });
        if said.ack.is_some() {
            operation["reply"] = json!({ "channel": channel(), "messages": of("ack", said.event) });
        }
        operations.insert(id("say", said.event), operation);
    }
    for heard in contract.hears {
        let operation = json!({
            "action": "send", "channel": channel(), "summary": heard.about, "messages": of("hear", heard.event),
        });
        operations.insert(id("hear", heard.event), operation);
    }
    operations
}

/// An event's name where colons may not stand.
fn id(kind: &str, event: &str) -> String {
    format!("{kind}_{}", event.replace(':', "_"))
}

fn schemas(contract: &Contract) -> Map<String, Value> {
    let built_in = [
        (
            "Id",
            json!({ "type": ["string", "integer"], "description": "A number where it was written as one." }),
        ),
        (
            "Time",
            json!({ "type": "string", "format": "date-time", "description": "UTC, with milliseconds." }),
        ),
        ("Binary", json!({ "description": "Bytes, as an attachment of Socket.IO." })),
        ("Failure", schema(&shape(contract.failure))),
    ];
    let own = contract.types.iter().map(|(name, text)| (*name, schema(&shape(text))));
    built_in.into_iter().chain(own).map(|(name, schema)| (name.to_owned(), schema)).collect()
}

/// As JSON Schema. Objects may have further keys.
fn schema(shape: &Shape) -> Value {
    match shape {
        Shape::Name(name) => match name.as_str() {
            "string" | "number" | "integer" | "boolean" | "null" => json!({ "type": name }),
            "unknown" => json!({}),
            _ => json!({ "$ref": format!("#/components/schemas/{name}") }),
        },
        Shape::Literal(json) => json!({ "const": literal(json) }),
        Shape::List(inner) => json!({ "type": "array", "items": schema(inner) }),
        Shape::Map(inner) => json!({ "type": "object", "additionalProperties": schema(inner) }),
        Shape::Object(fields, _) => object(fields),
        Shape::OneOf(shapes) => match literals(shapes) {
            Some(values) => json!({ "enum": values }),
            None => json!({ "anyOf": shapes.iter().map(schema).collect::<Vec<_>>() }),
        },
    }
}

fn object(fields: &[(String, bool, Shape)]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(key, _, shape)| (key.clone(), schema(shape))).collect();
    let mut object = json!({ "type": "object", "properties": properties });
    let required: Vec<&str> =
        fields.iter().filter(|(_, may_lack, _)| !may_lack).map(|(key, _, _)| key.as_str()).collect();
    if !required.is_empty() {
        object["required"] = required.into();
    }
    object
}

fn literals(shapes: &[Shape]) -> Option<Vec<Value>> {
    let value = |shape: &Shape| match shape {
        Shape::Literal(json) => Some(literal(json)),
        _ => None,
    };
    shapes.iter().map(value).collect()
}

fn literal(json: &str) -> Value {
    serde_json::from_str(json).expect("a literal is written as JSON")
}
