//! Who a connection speaks for. Built only from a verified token.

use serde::{Deserialize, Serialize};

/// A user's id. `1` and `"1"` in a token or payload are the same user: ids are compared as text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(Box<str>);

impl UserId {
    /// Longest accepted id in bytes; longer ones are refused at the edge.
    pub const MAX_BYTES: usize = 512;

    /// `None` for an empty or oversized id.
    pub fn new(id: impl Into<Box<str>>) -> Option<Self> {
        let id = id.into();
        (!id.is_empty() && id.len() <= Self::MAX_BYTES).then_some(Self(id))
    }

    /// From a claim or payload value: a non-empty string or an integer; anything else is `None`.
    pub fn from_json(value: &serde_json::Value) -> Option<Self> {
        match value {
            serde_json::Value::String(text) => Self::new(text.as_str()),
            serde_json::Value::Number(n) if n.is_i64() || n.is_u64() => Self::new(n.to_string()),
            _ => None,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for UserId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The verified identity of a socket.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    pub user: UserId,
    /// The token carries the id as a number: so do payloads.
    #[serde(default)]
    pub numeric: bool,
    pub role: Option<Box<str>>,
    pub name: Option<Box<str>>,
    /// `jti`, for revocation.
    pub token_id: Option<Box<str>>,
    /// `exp`, seconds since the Unix epoch; `None`: the token does not expire.
    pub expires_at: Option<u64>,
    /// Every claim of the token, for rules that name one.
    pub claims: serde_json::Map<String, serde_json::Value>,
}

impl Identity {
    /// The user's id as clients see it: a JSON number where the token carried it as one, a string otherwise.
    pub fn wire_id(&self) -> serde_json::Value {
        let number = self.user.as_str().parse::<serde_json::Number>().ok().filter(|_| self.numeric);
        number.map_or_else(|| self.user.as_str().into(), serde_json::Value::Number)
    }
}
