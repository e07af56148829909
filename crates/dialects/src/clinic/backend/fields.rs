//! The body of a call, field by field, and the payload made of it. What is an object of the back end's own stays the text it is.

use std::collections::HashMap;

use domain::{Rejection, UserId};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clinic::invalid;
use crate::number::id_json;
use crate::time::{in_reach, iso8601, parse_iso8601};

/// A JSON object's fields. `null` counts as absent.
#[derive(Debug)]
pub struct Body<'a> {
    fields: HashMap<String, &'a RawValue>,
    text_chars: usize,
    now_ms: u64,
}

impl<'a> Body<'a> {
    /// `text_chars`: most characters of a text field.
    pub fn read(json: &'a str, text_chars: usize, now_ms: u64) -> Result<Self, Rejection> {
        let fields = serde_json::from_str(json).map_err(|_| invalid("body", "must be a JSON object"))?;
        Ok(Self { fields, text_chars, now_ms })
    }

    /// A field as it came.
    pub fn raw(&self, field: &str) -> Option<&'a RawValue> {
        self.fields.get(field).copied().filter(|raw| raw.get() != "null")
    }

    pub fn object(&self, field: &'static str) -> Result<Option<Body<'a>>, Rejection> {
        let Some(raw) = self.raw(field) else { return Ok(None) };
        let read = Self::read(raw.get(), self.text_chars, self.now_ms);
        read.map(Some).map_err(|_| invalid(field, "must be an object"))
    }

    pub fn text(&self, field: &'static str) -> Result<String, Rejection> {
        self.optional_text(field)?.ok_or(invalid(field, "is missing"))
    }

    pub fn optional_text(&self, field: &'static str) -> Result<Option<String>, Rejection> {
        let Some(text) = self.string(field)? else { return Ok(None) };
        if text.trim().is_empty() {
            return Err(invalid(field, "must not be empty"));
        }
        if text.chars().count() > self.text_chars {
            return Err(Rejection::OverLimit {
                what: field,
                limit: self.text_chars as u64,
                setting: "clinic.text_chars",
            });
        }
        Ok(Some(text))
    }

    /// Text of any length: the caller bounds it.
    pub fn base64(&self, field: &'static str) -> Result<Option<String>, Rejection> {
        self.string(field)
    }

    pub fn one_of(&self, field: &'static str, known: &[&'static str]) -> Result<&'static str, Rejection> {
        let given = self.text(field)?;
        known
            .iter()
            .find(|name| **name == given)
            .copied()
            .ok_or(invalid(field, "is none of its known values"))
    }

    pub fn flag(&self, field: &'static str) -> Result<Option<bool>, Rejection> {
        let Some(raw) = self.raw(field) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|_| invalid(field, "must be true or false"))
    }

    pub fn id(&self, field: &'static str) -> Result<UserId, Rejection> {
        let raw = self.raw(field).ok_or(invalid(field, "is missing"))?;
        let value: Option<Value> = serde_json::from_str(raw.get()).ok();
        let id = value.as_ref().and_then(UserId::from_json);
        id.ok_or(invalid(field, "must be an integer or a non-empty string"))
    }

    /// As clients see it; `null` for what is about no single thing, but that must be said.
    pub fn id_or_null(&self, field: &'static str) -> Result<Value, Rejection> {
        if self.fields.get(field).is_some_and(|raw| raw.get() == "null") {
            return Ok(Value::Null);
        }
        self.id(field).map(|id| id_json(id.as_str()))
    }

    /// When it happened: as the publisher says, in milliseconds since the epoch or as text, or now.
    pub fn timestamp(&self) -> Result<String, Rejection> {
        const FIELD: &str = "timestamp";
        let Some(raw) = self.raw(FIELD) else { return Ok(iso8601(self.now_ms)) };
        let at_ms = match serde_json::from_str(raw.get()) {
            Ok(Value::Number(ms)) => ms.as_u64().and_then(in_reach),
            Ok(Value::String(text)) => parse_iso8601(&text),
            _ => None,
        };
        let problem = "must be an ISO 8601 time from 1970 to 9999, or milliseconds since the epoch";
        at_ms.map(iso8601).ok_or(invalid(FIELD, problem))
    }

    fn string(&self, field: &'static str) -> Result<Option<String>, Rejection> {
        let Some(raw) = self.raw(field) else { return Ok(None) };
        serde_json::from_str(raw.get()).map(Some).map_err(|_| invalid(field, "must be a string"))
    }
}

/// A JSON object under construction, its keys in this order.
#[derive(Debug, Default)]
pub struct Payload(String);

impl Payload {
    pub fn new() -> Self {
        Self::default()
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: &impl Serialize) -> Self {
        let value = serde_json::to_string(value).expect("the dialects' own values have string keys");
        self.0.push(if self.0.is_empty() { '{' } else { ',' });
        self.0.push_str(&format!("\"{key}\":{value}"));
        self
    }

    #[must_use]
    pub fn with_some(self, key: &str, value: Option<impl Serialize>) -> Self {
        match value {
            Some(value) => self.with(key, &value),
            None => self,
        }
    }

    pub fn text(&self) -> String {
        format!("{}}}", self.0)
    }
}
