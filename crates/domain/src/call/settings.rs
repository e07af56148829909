//! What an application's calls may do; the `[app.calls]` section of the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds and times. Times in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CallSettings {
    /// How long a call rings; `None`: the dialect's own (`telehealth` 30 s, `messenger` 60 s).
    pub ring_ms: Option<u64>,
    /// How long the seat of a participant with a lost connection is kept, from the loss on.
    pub grace_ms: u64,
    /// Calls of one user at once: being in them or making them. One more is refused; to a callee it is busy.
    pub per_user: usize,
    /// Calls that ring for one user at once; a further one finds it busy.
    pub ringing_per_user: usize,
    /// Seats of one conference, the creator's included.
    pub participants: usize,
    /// Largest signal that is relayed (the whole payload).
    pub signal_bytes: usize,
    /// Whether several participants may share their screens at once.
    pub many_sharers: bool,
    /// Annotations kept for who joins later; the oldest go first.
    pub annotations: usize,
    /// Their bytes together; the oldest go first.
    pub annotations_bytes: usize,
    /// Largest single annotation.
    pub annotation_bytes: usize,
    /// How long the record of a call that is over stays, to answer late commands properly.
    pub kept_ms: u64,
}

impl Default for CallSettings {
    fn default() -> Self {
        Self {
            ring_ms: None,
            grace_ms: 15_000,
            per_user: 5,
            ringing_per_user: 20,
            participants: 50,
            signal_bytes: 64 * 1024,
            many_sharers: false,
            annotations: 500,
            annotations_bytes: 128 * 1024,
            annotation_bytes: 16 * 1024,
            kept_ms: 300_000,
        }
    }
}

impl CallSettings {
    /// The ring time where neither the application nor its dialect says one.
    pub const RING_MS: u64 = 30_000;

    pub fn ring_ms(&self) -> u64 {
        self.ring_ms.unwrap_or(Self::RING_MS)
    }
}
