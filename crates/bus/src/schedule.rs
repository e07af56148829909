//! Schedules: messages that the server publishes into their own stream at a time.
//!
//! A schedule is a stored message on a subject of its own; writing the subject again replaces it, and it vanishes when it has
//! fired. It can stand in an atomic batch beside keys with conditions. Reference: nats-architecture-and-design ADR-51.

use std::time::Duration;

use bytes::Bytes;

use crate::kv::ttl_text;
use crate::time::rfc3339;
use crate::types::Append;

/// A schedule for [`crate::Bus::append`] and [`crate::Bus::append_batch`]: at `at_ms` (Unix time; at once if it is over) the
/// server publishes `payload` to `target`, a subject of the same stream, and keeps it there for `ttl`. It comes up to a
/// second late. The stream needs `allow_msg_schedules`, and `allow_msg_ttl` if `ttl` is given.
pub fn schedule_append(
    subject: &str,
    target: &str,
    at_ms: u64,
    payload: Bytes,
    ttl: Option<Duration>,
) -> Append {
    let message = Append::to(subject, payload)
        .header("Nats-Schedule", format!("@at {}", rfc3339(at_ms)))
        .header("Nats-Schedule-Target", target);
    match ttl {
        Some(ttl) => message.header("Nats-Schedule-TTL", ttl_text(ttl)),
        None => message,
    }
}

/// Takes a schedule back: an empty message in its place, which vanishes after a second. One that has fired meanwhile stays
/// fired.
pub fn schedule_cancel_append(subject: &str) -> Append {
    Append::to(subject, Bytes::new()).header("Nats-TTL", ttl_text(Duration::from_secs(1)))
}
