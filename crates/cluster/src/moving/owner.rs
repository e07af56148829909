//! The node the session lives at.

use bytes::Bytes;

use super::Millis;
use crate::node_message::{MoveAsk, NodeId, NodeMessage, RefuseReason, Sid};

/// Reservations of this node's sessions.
#[derive(Debug, Default)]
pub struct MoveOwner {}

/// A move: the node that wants the session and the id it chose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveKey {
    pub taker: NodeId,
    pub mv: u64,
}

#[derive(Clone, Debug)]
pub enum MoveOwnerInput {
    Message {
        from: NodeId,
        mv: u64,
        msg: MoveAsk,
    },
    /// The session is reserved (answer to `Reserve`). `info`: application and rooms at this moment, at most
    /// [`crate::node_message::MAX_PART_BYTES`]; from here on every join is announced by `RoomsJoined`.
    Reserved {
        key: MoveKey,
        info: Bytes,
    },
    /// The session is unknown or cannot be upgraded (answer to `Reserve`).
    Refused {
        key: MoveKey,
        reason: RefuseReason,
    },
    /// The reserved session joins rooms (opaque, at most `MAX_PART_BYTES`). Ack the join only after
    /// `ExtendDone` with this ticket.
    RoomsJoined {
        key: MoveKey,
        ticket: u64,
        rooms: Bytes,
    },
    /// The barrier is passed and the session is frozen (answer to `Freeze`). `tails`: commands still running, each of
    /// which sends one `Tail`.
    Frozen {
        key: MoveKey,
        state: Bytes,
        tails: u32,
    },
    /// The result of a command that ran on; in the order in which they are to reach the session.
    Tail {
        key: MoveKey,
        bytes: Bytes,
    },
    /// The session ended, or took its reservation back (its own deadline).
    Withdrawn {
        key: MoveKey,
    },
    /// The taker's node does not exist: what was sent with this tag had no receiver.
    NoResponders {
        mv: u64,
    },
    Tick,
}

/// After `Reserve` and `Reserved`, exactly one of `Release`, `HandedOver`, `CloseSession` comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveOwnerOutput {
    Send {
        to: NodeId,
        msg: NodeMessage,
    },
    /// Reserve the session; answer with `Reserved` or `Refused`. `key.mv` serves as the session machine's token.
    Reserve {
        key: MoveKey,
        sid: Sid,
    },
    /// The upgrade did not happen: the session goes on untouched.
    Release {
        key: MoveKey,
        sid: Sid,
    },
    /// The join of this ticket may be acked. Comes also when the reservation ended instead.
    ExtendDone {
        key: MoveKey,
        ticket: u64,
    },
    /// Pass the barrier, freeze, answer with `Frozen`. From here on polls get 400 and the session is never used again.
    Freeze {
        key: MoveKey,
        sid: Sid,
    },
    /// The session lives at the taker: drop it silently. Running commands give their results by `Tail`.
    HandedOver {
        key: MoveKey,
        sid: Sid,
    },
    /// The hand-over failed or is in doubt: drop the frozen session. Its recovery record stays: the session may live at
    /// the taker, and if not, recovery decides.
    CloseSession {
        key: MoveKey,
        sid: Sid,
        reason: CloseReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    #[error("the taker abandoned the upgrade after the freeze")]
    Abandoned,
    #[error("the taker's node does not exist")]
    NoTaker,
    #[error("the hand-over was not confirmed in time")]
    Unconfirmed,
    #[error("the session ended during its hand-over")]
    SessionEnded,
    #[error("the state is too large to hand over")]
    TooLarge,
}

impl MoveOwner {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn handle(&mut self, now: Millis, input: MoveOwnerInput) {
        let _ = (now, input);
    }

    pub fn poll_output(&mut self) -> Option<MoveOwnerOutput> {
        None
    }

    /// When `Tick` is due.
    pub fn next_timeout(&self) -> Option<Millis> {
        None
    }
}
