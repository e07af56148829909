//! The one crate that speaks NATS.
//!
//! Two connections per process: the *lean* one carries all room traffic (durable and ephemeral publishes, subscriptions, the
//! room feed) on one socket in the server's order; async-nats does the rest (streams, reads, KV watches, node messages). It owns
//! reconnects, retries inside deadlines, coalescing, and drop counting; it refuses subjects that would break the
//! connection. What a message means is not its business. Start at [`Bus`].

mod append;
mod bus;
pub mod child;
mod client;
mod config;
mod consume;
mod error;
mod feed;
mod hear;
mod inbox;
pub mod kv;
mod lean;
pub mod lease;
mod link;
mod listen;
mod metrics;
mod node;
mod outbox;
mod patience;
mod read;
mod request;
mod schedule;
mod stream;
mod time;
mod types;
mod version;
pub mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::bus::Bus;
pub use self::config::{Auth, BusConfig, Secret, TlsConfig};
pub use self::consume::{AckHandle, Consumer, ConsumerSpec, Delivered};
pub use self::error::{AppendError, BusError, ConnectError, PublishError, ReadError, RequestError};
pub use self::feed::Feed;
pub use self::hear::Heard;
pub use self::kv::KvWatch;
pub use self::node::NodeInbox;
pub use self::request::{Request, Requests};
pub use self::schedule::{schedule_append, schedule_cancel_append};
pub use self::types::*;
pub use self::wire::{header_lines, header_value};

/// A lock whose holder panicked still guards data that every method leaves whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
