//! Why a call was not carried out: one form for all edges of the API.

use domain::Rejection;
use serde_json::{Value, json};

use super::config::Scope;

/// A refused call. `status` is HTTP's, and means the same over NATS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub status: u16,
    /// Stable, for programs.
    pub code: String,
    /// For people.
    pub message: String,
    /// The key of the body that is wrong.
    pub field: Option<String>,
    /// Milliseconds after which another try makes sense.
    pub retry_after_ms: Option<u64>,
}

impl Fault {
    pub fn new(status: u16, code: &str, message: impl Into<String>) -> Self {
        let (code, message) = (code.to_owned(), message.into());
        Self { status, code, message, field: None, retry_after_ms: None }
    }

    pub fn invalid(field: &str, problem: &str) -> Self {
        Self {
            field: Some(field.to_owned()),
            ..Self::new(400, "invalid_payload", format!("{field}: {problem}"))
        }
    }

    pub fn no_scope(scope: Scope) -> Self {
        Self::new(403, "forbidden", format!("this key has no scope `{}`", scope.name()))
    }

    pub fn unknown_app(name: &str) -> Self {
        Self::new(404, "unknown_app", format!("no application is named `{name}`"))
    }

    pub fn unknown_verb(name: &str) -> Self {
        Self::new(404, "unknown_call", format!("this application has no call `{name}`"))
    }

    pub fn unavailable() -> Self {
        let message = "the call was not confirmed in time; with an idempotency key it may be repeated safely";
        Self { retry_after_ms: Some(1000), ..Self::new(503, "unavailable", message) }
    }

    pub fn overloaded() -> Self {
        let message = "too many calls are under way at this node";
        Self { retry_after_ms: Some(1000), ..Self::new(503, "overloaded", message) }
    }

    /// Whether the same call may be answered otherwise a little later.
    pub fn is_passing(&self) -> bool {
        self.status == 503 || self.status == 429
    }

    pub fn to_json(&self) -> Value {
        let mut body = json!({ "ok": false, "code": self.code, "message": self.message });
        if let Some(field) = &self.field {
            body["field"] = field.as_str().into();
        }
        body
    }
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        let status = match &rejection {
            Rejection::InvalidPayload { field, problem } => return Self::invalid(field, problem),
            Rejection::Unavailable | Rejection::HookUnavailable => return Self::unavailable(),
            Rejection::InvalidRoom(_) => 400,
            Rejection::OverLimit { .. } => 422,
            Rejection::UnknownEvent => 404,
            Rejection::RoomDenied | Rejection::NotGranted { .. } => 403,
            _ => 409,
        };
        Self::new(status, rejection.code(), rejection.to_string())
    }
}
