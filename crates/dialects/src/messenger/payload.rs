//! A client's payload: an object read once into its members, each still the JSON text it came as. Fields are typed where a
//! handler asks for them; what is passed on keeps the client's own text.

use domain::call::{CallId, Medium};
use domain::{Rejection, UserId};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::Inbound;
use crate::calling::parse_call_id;

/// The members in their order; of a key that stands twice the last one counts.
#[derive(Debug, Default)]
pub struct Payload<'a> {
    members: Vec<(String, &'a RawValue)>,
}

/// A user that a payload names: the id, and how it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Named {
    pub user: UserId,
    pub wire_id: Value,
}

impl<'a> Payload<'a> {
    /// The first argument; without one, nothing is said.
    pub fn read(inbound: &Inbound<'a>) -> Result<Self, Rejection> {
        let first: &'a str = inbound.args.first().map_or("{}", |raw| raw.get());
        Self::parse(first).ok_or(Rejection::InvalidPayload { field: "payload", problem: "must be an object" })
    }

    /// `None` unless it is an object.
    pub fn parse(text: &'a str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    /// The object with this member set, everything else as it came.
    pub fn with(&self, key: &str, value: &Value) -> String {
        let mut out = String::from("{");
        for (name, raw) in self.members.iter().filter(|(name, _)| name != key) {
            push_member(&mut out, name, raw.get());
        }
        push_member(&mut out, key, &value.to_string());
        out.push('}');
        out
    }

    /// `null` counts as absent.
    pub fn value(&self, field: &str) -> Option<Value> {
        let raw = self.members.iter().rev().find(|(name, _)| name == field)?.1;
        serde_json::from_str(raw.get()).ok().filter(|value: &Value| !value.is_null())
    }

    pub fn call_id(&self) -> Result<CallId, Rejection> {
        parse_call_id(&self.text("callId")?)
    }

    pub fn text(&self, field: &'static str) -> Result<String, Rejection> {
        match self.required(field)? {
            Value::String(text) => Ok(text),
            _ => Err(invalid(field, "must be a string")),
        }
    }

    /// A string that may be absent.
    pub fn said(&self, field: &'static str) -> Result<Option<Box<str>>, Rejection> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.into())),
            Some(_) => Err(invalid(field, "must be a string")),
        }
    }

    pub fn flag(&self, field: &'static str) -> Result<bool, Rejection> {
        match self.required(field)? {
            Value::Bool(flag) => Ok(flag),
            _ => Err(invalid(field, "must be true or false")),
        }
    }

    pub fn medium(&self) -> Result<Medium, Rejection> {
        match &*self.text("callType")? {
            "audio" => Ok(Medium::Audio),
            "video" => Ok(Medium::Video),
            _ => Err(invalid("callType", "must be audio or video")),
        }
    }

    pub fn user(&self, field: &'static str) -> Result<Named, Rejection> {
        named(field, self.required(field)?)
    }

    pub fn user_if_any(&self, field: &'static str) -> Result<Option<Named>, Rejection> {
        self.value(field).map(|value| named(field, value)).transpose()
    }

    pub fn users(&self, field: &'static str) -> Result<Vec<Named>, Rejection> {
        match self.required(field)? {
            Value::Array(list) => list.into_iter().map(|value| named(field, value)).collect(),
            _ => Err(invalid(field, "must be a list of ids")),
        }
    }

    fn required(&self, field: &'static str) -> Result<Value, Rejection> {
        self.value(field).ok_or(invalid(field, "is missing"))
    }
}

pub fn invalid(field: &'static str, problem: &'static str) -> Rejection {
    Rejection::InvalidPayload { field, problem }
}

fn named(field: &'static str, value: Value) -> Result<Named, Rejection> {
    match UserId::from_json(&value) {
        Some(user) => Ok(Named { user, wire_id: value }),
        None => Err(invalid(field, "must be a non-empty string or an integer")),
    }
}

fn push_member(out: &mut String, name: &str, value: &str) {
    if out.len() > 1 {
        out.push(',');
    }
    out.push_str(&Value::from(name).to_string());
    out.push(':');
    out.push_str(value);
}

impl<'de> Deserialize<'de> for Payload<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Payload<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Payload { members })
            }
        }

        deserializer.deserialize_map(Members)
    }
}
