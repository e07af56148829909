//! An HTTP request that reached a node which does not own its session.
//!
//! [`Forwarder`] runs at the node that holds the request, [`ForwardOwner`] at the node that owns the session; between
//! them datagrams may be lost, doubled and reordered. Both are tables over all requests of a node, and both are values
//! in, values out: ids and `now` are arguments. They refuse to guess: a request that is not confirmed fails, an answer
//! whose writing is not confirmed is reported as [`ForwardOwnerOutput::PollGone`].

pub(crate) mod deadlines;
mod forwarder;
mod owner;
pub(crate) mod parts;

use std::sync::Arc;

use bytes::Bytes;

pub use forwarder::{FailReason, Forwarder, ForwarderInput, ForwarderOutput};
pub use owner::{ForwardKey, ForwardOwner, ForwardOwnerInput, ForwardOwnerOutput};

/// Monotonic milliseconds from any epoch.
pub type Millis = u64;

/// The owner confirms a request within this time.
pub const CONFIRM_WITHIN_MS: Millis = 500;
/// While a request is held the owner confirms again this often.
pub const CONFIRM_EVERY_MS: Millis = 2_000;
/// This many confirmations may be missed, one after the other, before the request fails.
pub const MAX_MISSES: u32 = 3;

/// A finished request is remembered this long: longer than any retransmission (6.5 s) and any delay of NATS, so that a
/// late copy is not executed again.
const FORGET_MS: Millis = 30_000;
/// Finished requests remembered at most: 8,700 a second for [`FORGET_MS`], some 16 MiB.
const MAX_REMEMBERED: usize = 262_144;

/// Bounds of one table; what is over them is refused at once.
#[derive(Clone, Copy, Debug)]
pub struct ForwardLimits {
    /// Requests under way.
    pub max_forwards: usize,
    /// Bytes of bodies and answers held for them.
    pub max_bytes: usize,
}

impl Default for ForwardLimits {
    fn default() -> Self {
        Self { max_forwards: 4096, max_bytes: 64 * 1024 * 1024 }
    }
}

/// What a client asks of a session that lives elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// A poll.
    Get,
    /// A POST with its whole body.
    Post(Bytes),
    /// Is the session there, and may it be upgraded?
    Check,
}

/// An HTTP answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    /// Content type; empty for none. At most [`crate::node_message::MAX_CONTENT_BYTES`].
    pub content: Arc<str>,
    pub body: Bytes,
}
