//! A session moves to the node that holds its WebSocket.
//!
//! [`MoveOwner`] runs at the node the session lives at, [`Taker`] at the node with the candidate WebSocket; both are
//! tables over all moves of a node. Between them datagrams may be lost, doubled and reordered, and either node may die.
//! The rule that keeps a session single: the owner's copy is dead from [`MoveOwnerOutput::Freeze`] on, and the taker's
//! lives only from [`TakerOutput::Install`] on, which needs the state that is sent after the freeze. What a room, a state
//! or a command is they do not know: those are bytes.

mod outgoing;
mod owner;
mod retry;
mod taker;

pub use crate::forwarding::Millis;
pub use owner::{CloseReason, MoveKey, MoveOwner, MoveOwnerInput, MoveOwnerOutput};
pub use taker::{AbandonReason, Taker, TakerInput, TakerOutput};

/// From the reservation to the client's upgrade packet.
pub const RESERVATION_MS: Millis = 10_000;
/// From `Take` to the frozen session: a running command may wait 5 s for its publication, then comes a barrier.
pub const FREEZE_WITHIN_MS: Millis = 8_000;
/// From the frozen session to the confirmed hand-over; at the taker each step of it: the state, its installation, its
/// confirmation.
pub const HAND_OVER_MS: Millis = 5_000;
/// The taker confirms rooms that are joined meanwhile within this time, or the reservation ends.
pub const EXTEND_WITHIN_MS: Millis = 2_000;
/// Results of commands that ran on at the old owner are waited for this long after the hand-over.
pub const TAILS_MS: Millis = 10_000;
/// One chunk of a state.
pub const CHUNK_BYTES: usize = 256 * 1024;
/// Moves under way per table.
pub const MAX_MOVES: usize = 4096;
/// Joins of one reserved session that wait for the taker.
pub const MAX_EXTENDS: usize = 1024;

/// The taker waits this much longer than the owner may take to freeze: the slowest repetition of `Take`, and the way of
/// the first chunk.
const TAKE_SLACK_MS: Millis = 2_000;
/// Chunks, and pieces of tails, under way unconfirmed.
const WINDOW: usize = 8;
/// A finished move is remembered this long, so that a late copy of `Reserve` reserves nothing.
const FORGET_MS: Millis = 30_000;
/// Finished moves remembered at most: 2,000 upgrades a second for [`FORGET_MS`].
const MAX_REMEMBERED: usize = 65_536;
