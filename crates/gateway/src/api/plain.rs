//! The calls that every application has: emit to a user, a room, a role, everyone; move a user between rooms; revoke.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cluster::envelope::{MAX_EXCEPT, MAX_ROOMS};
use dialects::{Audience, BackendAction, BackendEmission, BackendVerb, Delivery, Dialect, Out};
use domain::{RoomId, UserId};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::Fault;
use crate::revocation::{Revoked, TOKEN_ID_BYTES, Terms};

/// Questions; they change nothing.
const READS: [&str; 3] = ["stats", "clients", "presence"];

/// A call's body: raw values by key, so that what is passed on stays as it came.
pub type Fields<'a> = std::collections::HashMap<String, &'a RawValue>;

pub fn is_read(verb: &str) -> bool {
    READS.contains(&verb)
}

/// For the description of the API.
pub const VERBS: [BackendVerb; 4] = [
    BackendVerb {
        name: "emit",
        summary: "Tells an event to a user, a room, a role or everyone; stored and recoverable unless it is volatile.",
        example: r#"{"to":{"user":"7"},"event":"notification:new","data":{"title":"Hello","message":"World"}}"#,
    },
    BackendVerb {
        name: "members",
        summary: "Makes the connected sockets of a user enter and leave rooms, on every node.",
        example: r#"{"user":"7","join":["chat:100"],"leave":["chat:99"]}"#,
    },
    BackendVerb {
        name: "revoke",
        summary: "Refuses a user's tokens, those issued up to `issuedUntil` or all of them, or the one token `tokenId`, and cuts off who \
                  is connected by them; until `until` or a `restore`. Times are seconds since the Unix epoch.",
        example: r#"{"user":"7"}"#,
    },
    BackendVerb { name: "restore", summary: "Takes a revocation back.", example: r#"{"user":"7"}"# },
];

pub fn fields(body: &[u8]) -> Result<Fields<'_>, Fault> {
    let text =
        std::str::from_utf8(body).map_err(|_| Fault::new(400, "invalid_payload", "the body is no UTF-8"))?;
    serde_json::from_str(text).map_err(|error| {
        Fault::new(400, "invalid_payload", format!("the body must be a JSON object: {error}"))
    })
}

/// What an `emit` does.
pub fn emit(dialect: &Dialect, fields: &Fields<'_>) -> Result<Vec<BackendAction>, Fault> {
    let audiences = audiences(fields)?;
    let event: String = required(fields, "event", "must be a string")?;
    if let Some(problem) = dialects::wrong_event(&event) {
        return Err(Fault::invalid("event", problem));
    }
    let args = args(fields)?;
    let volatile: bool = optional(fields, "volatile", "must be true or false")?.unwrap_or(false);
    let except: Vec<Box<str>> =
        optional(fields, "except", "must be an array of socket ids")?.unwrap_or_default();
    if except.len() > MAX_EXCEPT {
        return Err(Fault::invalid("except", "names more than 256 sockets"));
    }
    let delivery = if volatile { Delivery::Ephemeral } else { Delivery::Recoverable };
    let mut rooms = Vec::new();
    for audience in &audiences {
        let room = dialect.room_of(audience);
        let room = room.ok_or_else(|| Fault::invalid("to", "this application has no such audience"))?;
        if !rooms.contains(&room) {
            rooms.push(room);
        }
    }
    let emission = BackendEmission { rooms, event: event.into(), args, except, delivery };
    Ok(dialect.told(&audiences, emission))
}

/// Tokens that a `revoke` refuses from now on, or a `restore` takes back.
pub fn revoked(fields: &Fields<'_>) -> Result<(Revoked, Terms), Fault> {
    let token: Option<String> = optional(fields, "tokenId", "must be a string")?;
    let whose = match (fields.contains_key("user"), token) {
        (true, None) => Revoked::User(user(fields, "user")?),
        (false, Some(id)) if !id.is_empty() && id.len() <= TOKEN_ID_BYTES => Revoked::Token(id),
        (false, Some(_)) => return Err(Fault::invalid("tokenId", "must be 1 to 512 bytes")),
        _ => return Err(Fault::invalid("user", "give one of user and tokenId")),
    };
    let terms = Terms { issued_until_s: number(fields, "issuedUntil")?, until_s: number(fields, "until")? };
    Ok((whose, terms))
}

/// What a `members` does.
pub fn members(fields: &Fields<'_>) -> Result<Vec<BackendAction>, Fault> {
    let user = user(fields, "user")?;
    let (join, leave) = (rooms(fields, "join")?, rooms(fields, "leave")?);
    if join.is_empty() && leave.is_empty() {
        return Err(Fault::invalid("join", "name a room to join or to leave"));
    }
    Ok(vec![BackendAction::Move { user, join, leave }])
}

/// The user of a call.
pub fn user(fields: &Fields<'_>, field: &'static str) -> Result<UserId, Fault> {
    let value: Value = required(fields, field, "must be a string or an integer")?;
    UserId::from_json(&value).ok_or_else(|| Fault::invalid(field, "must be a string or an integer"))
}

pub fn required<T: serde::de::DeserializeOwned>(
    fields: &Fields<'_>,
    field: &'static str,
    problem: &str,
) -> Result<T, Fault> {
    optional(fields, field, problem)?.ok_or_else(|| Fault::invalid(field, "is missing"))
}

/// `null` counts as absent.
pub fn optional<T: serde::de::DeserializeOwned>(
    fields: &Fields<'_>,
    field: &'static str,
    problem: &str,
) -> Result<Option<T>, Fault> {
    let Some(raw) = fields.get(field) else { return Ok(None) };
    serde_json::from_str(raw.get()).map_err(|_| Fault::invalid(field, problem))
}

fn audiences(fields: &Fields<'_>) -> Result<Vec<Audience>, Fault> {
    let to: Value = required(fields, "to", "must be an object, or an array of objects")?;
    let list = match to {
        Value::Array(list) => list,
        one => vec![one],
    };
    if list.is_empty() || list.len() > MAX_ROOMS {
        return Err(Fault::invalid("to", "must name 1 to 64 audiences"));
    }
    list.iter().map(audience).collect()
}

fn audience(to: &Value) -> Result<Audience, Fault> {
    const FORM: &str = "must be one of {user}, {room}, {role} and {everyone: true}";
    let known = |(key, _): &(&String, &Value)| ["user", "room", "role", "everyone"].contains(&key.as_str());
    let object = to.as_object().ok_or_else(|| Fault::invalid("to", FORM))?;
    let mut named = object.iter().filter(known);
    let (Some((kind, value)), None) = (named.next(), named.next()) else {
        return Err(Fault::invalid("to", FORM));
    };
    match (kind.as_str(), value) {
        ("user", id) => {
            let user = UserId::from_json(id);
            user.map(Audience::User)
                .ok_or_else(|| Fault::invalid("to.user", "must be a string or an integer"))
        }
        ("room", Value::String(name)) => room(name, "to.room").map(Audience::Room),
        ("role", Value::String(name)) if !name.is_empty() => Ok(Audience::Role(name.as_str().into())),
        ("everyone", Value::Bool(true)) => Ok(Audience::Everyone),
        _ => Err(Fault::invalid("to", FORM)),
    }
}

/// A room that an application may speak of: those that begin with a dot are Trunkline's own.
fn room(name: &str, field: &str) -> Result<RoomId, Fault> {
    let room = RoomId::new(name).filter(|_| !name.starts_with('.'));
    room.ok_or_else(|| Fault::invalid(field, "must be 1 to 2048 bytes and not begin with a dot"))
}

fn rooms(fields: &Fields<'_>, field: &'static str) -> Result<Vec<RoomId>, Fault> {
    let names: Vec<String> = optional(fields, field, "must be an array of rooms")?.unwrap_or_default();
    if names.len() > MAX_ROOMS {
        return Err(Fault::invalid(field, "names more than 64 rooms"));
    }
    names.iter().map(|name| room(name, field)).collect()
}

/// `args` (all arguments), or `data` (the only one), or none. Binary ones stand as `{"_placeholder":true,"num":i}` for the entries
/// of `attachments`, in base64.
fn args(fields: &Fields<'_>) -> Result<Out, Fault> {
    let list: Vec<Box<RawValue>> = match (fields.get("args"), fields.get("data")) {
        (Some(_), Some(_)) => return Err(Fault::invalid("args", "give args or data, not both")),
        (Some(args), None) => {
            serde_json::from_str(args.get()).map_err(|_| Fault::invalid("args", "must be an array"))?
        }
        (None, Some(data)) => vec![(*data).to_owned()],
        (None, None) => Vec::new(),
    };
    let attachments = attachments(fields)?;
    if !attachments.is_empty() {
        let mut seen = vec![false; attachments.len()];
        for arg in &list {
            let value: Value = serde_json::from_str(arg.get()).expect("raw values are JSON");
            find_placeholders(&value, &mut seen)?;
        }
        if seen.contains(&false) {
            return Err(Fault::invalid("attachments", "no argument has a placeholder for one of them"));
        }
    }
    let tail = list.iter().map(|arg| arg.get()).collect::<Vec<_>>().join(",");
    Ok(Out::raw(tail, attachments))
}

fn attachments(fields: &Fields<'_>) -> Result<Vec<Bytes>, Fault> {
    let texts: Vec<String> =
        optional(fields, "attachments", "must be an array of base64 texts")?.unwrap_or_default();
    let decode = |text: &String| BASE64_STANDARD.decode(text).map(Bytes::from);
    let decoded: Result<Vec<Bytes>, _> = texts.iter().map(decode).collect();
    decoded.map_err(|_| Fault::invalid("attachments", "must be an array of base64 texts"))
}

/// A client disconnects over a placeholder that stands for nothing.
fn find_placeholders(value: &Value, seen: &mut [bool]) -> Result<(), Fault> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| find_placeholders(item, seen)),
        Value::Object(object) if object.get("_placeholder") == Some(&Value::Bool(true)) => {
            let num = object.get("num").and_then(Value::as_u64).and_then(|num| usize::try_from(num).ok());
            let place = num.and_then(|num| seen.get_mut(num));
            *place.ok_or_else(|| Fault::invalid("args", "a placeholder names no attachment"))? = true;
            Ok(())
        }
        Value::Object(object) => object.values().try_for_each(|item| find_placeholders(item, seen)),
        _ => Ok(()),
    }
}

/// An object whose members are all strings, or a list: `users=a,b` of a query is `["a", "b"]` of a body.
pub fn list(fields: &Fields<'_>, field: &'static str) -> Result<Vec<Value>, Fault> {
    match required(fields, field, "must be an array, or text with commas")? {
        Value::Array(values) => Ok(values),
        Value::String(text) => Ok(text.split(',').map(str::trim).map(Value::from).collect()),
        _ => Err(Fault::invalid(field, "must be an array, or text with commas")),
    }
}

/// A number, also where a query made text of it.
pub fn number(fields: &Fields<'_>, field: &'static str) -> Result<Option<u64>, Fault> {
    const PROBLEM: &str = "must be a number";
    match optional(fields, field, PROBLEM)? {
        None => Ok(None),
        Some(Value::String(text)) => text.parse().map(Some).map_err(|_| Fault::invalid(field, PROBLEM)),
        Some(value) => value.as_u64().map(Some).ok_or_else(|| Fault::invalid(field, PROBLEM)),
    }
}

/// The answer of a call that has nothing else to say.
pub fn done() -> Map<String, Value> {
    Map::from_iter([("ok".to_owned(), Value::Bool(true))])
}
