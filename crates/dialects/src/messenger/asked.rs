//! How an event is answered: in the ack where one was asked for, else as the error event of its part of the application.

use domain::Rejection;
use domain::call::Refusal;
use serde_json::{Map, Value, json};

use super::payload::Payload;
use crate::{Action, Actions, Inbound, Out};

/// An event whose answer is due, detached from its payload.
#[derive(Clone, Debug)]
pub struct Asked {
    event: Box<str>,
    wants_ack: bool,
    /// What the payload names, to be said again in errors.
    call: Option<Value>,
    receiver: Option<Value>,
}

impl Asked {
    pub fn of(inbound: &Inbound<'_>, payload: Option<&Payload<'_>>) -> Self {
        let short = |field| payload.and_then(|payload| payload.value(field)).filter(is_short);
        Self {
            event: inbound.name.into(),
            wants_ack: inbound.wants_ack,
            call: short("callId"),
            receiver: short("receiverId"),
        }
    }

    pub fn refuse(&self, rejection: &Rejection) -> Actions {
        let mut actions = Actions::new();
        if let Rejection::Call(Refusal::Busy | Refusal::DoNotDisturb) = rejection {
            let busy = json!({ "receiverId": self.receiver, "message": rejection.to_string(), "code": rejection.code() });
            actions.push(Action::emit("call:busy", Out::json(&busy)));
        }
        actions.push(if self.wants_ack { self.refusing_ack(rejection) } else { self.error(rejection) });
        actions
    }

    fn refusing_ack(&self, rejection: &Rejection) -> Action {
        let (error, code) = (rejection.to_string(), rejection.code());
        Action::Ack(Out::json(&json!({ "success": false, "error": error, "code": code })))
    }

    fn error(&self, rejection: &Rejection) -> Action {
        let event = match rejection {
            Rejection::UnknownEvent => "error",
            _ => error_event(&self.event),
        };
        let mut body = Map::new();
        body.insert("message".into(), rejection.to_string().into());
        body.insert("code".into(), rejection.code().into());
        if event == "error" {
            body.insert("event".into(), (*self.event).into());
        } else if let Some(call) = &self.call {
            body.insert("callId".into(), call.clone());
        }
        Action::emit(event, Out::json(&body))
    }
}

/// The answer where nothing went wrong: these fields (an object) with `success`.
pub fn done(fields: &Value) -> Action {
    let mut body = fields.as_object().cloned().unwrap_or_default();
    body.insert("success".into(), true.into());
    Action::Ack(Out::json(&body))
}

fn error_event(event: &str) -> &'static str {
    match event.split(':').next() {
        Some("conference") if event.starts_with("conference:video:") => "video:error",
        Some("call" | "conference" | "webrtc") => "call:error",
        Some("video") => "video:error",
        Some("screen") => "screen:error",
        _ => "error",
    }
}

/// Worth repeating: an id, not whatever a client put in its place.
fn is_short(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() <= domain::UserId::MAX_BYTES,
        other => other.is_number(),
    }
}
