//! Room names as applications use them.

use serde::{Deserialize, Serialize};

/// A room's full name: any non-empty text up to [`RoomId::MAX_BYTES`]. What its prefix means is the dialect's business.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RoomId(Box<str>);

impl RoomId {
    /// Bytes; a visit or order id of 300 characters of any script fits.
    pub const MAX_BYTES: usize = 2048;

    pub fn new(id: impl Into<Box<str>>) -> Option<Self> {
        let id = id.into();
        (!id.is_empty() && id.len() <= Self::MAX_BYTES).then_some(Self(id))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for RoomId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
