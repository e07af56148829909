//! The body of a back end's call, key by key: what is missing or wrong is named.

use std::collections::HashMap;

use domain::{Rejection, UserId};
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{BackendCall, BackendEmission, Delivery, Out};

/// Values by key, raw: what is passed on stays as it came.
pub struct Body<'a>(HashMap<String, &'a RawValue>);

impl<'a> Body<'a> {
    pub fn of(call: &BackendCall<'a>) -> Result<Self, Rejection> {
        Self::parse(call.body, "body")
    }

    fn parse(raw: &'a RawValue, field: &'static str) -> Result<Self, Rejection> {
        let values = serde_json::from_str(raw.get());
        values.map(Self).map_err(|_| Rejection::InvalidPayload { field, problem: "must be an object" })
    }

    /// The object under `field`.
    pub fn object(&self, field: &'static str) -> Result<Self, Rejection> {
        Self::parse(self.raw(field)?, field)
    }

    pub fn raw(&self, field: &'static str) -> Result<&'a RawValue, Rejection> {
        self.0.get(field).copied().ok_or(Rejection::InvalidPayload { field, problem: "is missing" })
    }

    /// `null` counts as absent.
    pub fn read<T: DeserializeOwned>(
        &self,
        field: &'static str,
        problem: &'static str,
    ) -> Result<Option<T>, Rejection> {
        let Some(raw) = self.0.get(field) else { return Ok(None) };
        serde_json::from_str(raw.get()).map_err(|_| Rejection::InvalidPayload { field, problem })
    }

    /// A text that is not empty.
    pub fn text(&self, field: &'static str) -> Result<String, Rejection> {
        let text: Option<String> = self.read(field, "must be a string")?;
        let text = text.ok_or(Rejection::InvalidPayload { field, problem: "is missing" })?;
        if text.is_empty() {
            return Err(Rejection::InvalidPayload { field, problem: "must not be empty" });
        }
        Ok(text)
    }

    /// A user's, or another thing's, id, and how it was written.
    pub fn id(&self, field: &'static str) -> Result<(UserId, Value), Rejection> {
        let value: Option<Value> = self.read(field, "must be a string or an integer")?;
        let value = value.ok_or(Rejection::InvalidPayload { field, problem: "is missing" })?;
        let id = UserId::from_json(&value).ok_or(Rejection::InvalidPayload {
            field,
            problem: "must be a non-empty string or an integer",
        })?;
        Ok((id, value))
    }

    /// The event that a call names and its one argument, for nobody yet; without `data` it has none.
    pub fn emission(&self) -> Result<BackendEmission, Rejection> {
        let event = self.text("event")?;
        if let Some(problem) = wrong_event(&event) {
            return Err(Rejection::InvalidPayload { field: "event", problem });
        }
        let data = self.0.get("data").map(|data| data.get().as_bytes().to_vec());
        Ok(BackendEmission {
            rooms: Vec::new(),
            event: event.into(),
            args: Out::raw(data.unwrap_or_default(), Vec::new()),
            except: Vec::new(),
            delivery: Delivery::Recoverable,
        })
    }
}

/// Why this cannot be an event's name: stock clients keep some for themselves and disconnect over a packet with one.
pub fn wrong_event(name: &str) -> Option<&'static str> {
    const MOST_BYTES: usize = 256;
    const RESERVED: [&str; 6] =
        ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    if name.is_empty() || name.len() > MOST_BYTES {
        return Some("must be 1 to 256 bytes");
    }
    RESERVED.contains(&name).then_some("is a name that clients keep for themselves")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_of(body: &str, read: impl FnOnce(&Body<'_>) -> Result<(), Rejection>) -> &'static str {
        let raw: &RawValue = serde_json::from_str(body).unwrap();
        let call = BackendCall { name: "x", body: raw, now_ms: 0 };
        match Body::of(&call).and_then(|body| read(&body)) {
            Err(Rejection::InvalidPayload { field, .. }) => field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(field_of("[]", |_| Ok(())), "body");
        for body in ["{}", r#"{"event":7}"#, r#"{"event":""}"#, r#"{"event":"disconnect"}"#] {
            assert_eq!(field_of(body, |body| body.emission().map(drop)), "event", "{body}");
        }
        for body in [r#"{"userId":null}"#, r#"{"userId":{}}"#, r#"{"userId":""}"#, r#"{"userId":1.5}"#] {
            assert_eq!(field_of(body, |body| body.id("userId").map(drop)), "userId", "{body}");
        }
    }

    #[test]
    fn what_is_passed_on_stays_as_it_came() {
        let raw: &RawValue = serde_json::from_str(r#"{"event":"e","data": {"b":1.0, "a":[ ]}}"#).unwrap();
        let call = BackendCall { name: "x", body: raw, now_ms: 0 };
        let emission = Body::of(&call).unwrap().emission().unwrap();
        assert_eq!(emission.args.tail, br#"{"b":1.0, "a":[ ]}"#);
    }
}
