//! The node that holds the candidate WebSocket.

use bytes::Bytes;

use super::Millis;
use crate::node_message::{MoveReply, NodeId, NodeMessage, RefuseReason, Sid};

/// Upgrades under way at this node, of sessions that live elsewhere.
#[derive(Debug, Default)]
pub struct Taker {}

#[derive(Clone, Debug)]
pub enum TakerInput {
    /// A WebSocket sent `2probe` for a session of `owner`. `mv` is random and new.
    ProbeArrived {
        mv: u64,
        owner: NodeId,
        sid: Sid,
    },
    /// `Subscribe` number `seq` is done: subscribed, barrier passed, live messages are buffered.
    Subscribed {
        mv: u64,
        seq: u32,
    },
    /// The client sent its upgrade packet `5`.
    UpgradeArrived {
        mv: u64,
    },
    /// The WebSocket closed.
    ClientGone {
        mv: u64,
    },
    /// `Install` is done: the session lives here.
    Installed {
        mv: u64,
    },
    Message {
        from: NodeId,
        mv: u64,
        msg: MoveReply,
    },
    /// The owner's node does not exist: what was sent with this tag had no receiver.
    NoResponders {
        mv: u64,
    },
    Tick,
}

/// Each move ends with exactly one of `Abandon` and, after `Install`, `Settled`; after it only `Send` comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakerOutput {
    Send {
        to: NodeId,
        msg: NodeMessage,
    },
    /// Subscribe to the rooms (`seq` 0: `info` of the reservation; later: rooms joined meanwhile), pass the barrier,
    /// buffer what arrives, then say `Subscribed`.
    Subscribe {
        mv: u64,
        seq: u32,
        rooms: Bytes,
    },
    /// Send `3probe`.
    AnswerProbe {
        mv: u64,
    },
    /// Build the session from the state, drop buffered messages it has seen, deliver the rest, then what the client
    /// sent after `5`; then say `Installed`. `tails` results will follow as `Tail`.
    Install {
        mv: u64,
        state: Bytes,
        tails: u32,
    },
    /// The result of a command that ran on at the old owner, in order.
    Tail {
        mv: u64,
        bytes: Bytes,
    },
    /// The move is complete. `tails_lost`: the old owner died before all tails came; close the session, so that recovery
    /// decides.
    Settled {
        mv: u64,
        tails_lost: bool,
    },
    /// The upgrade failed: close the WebSocket, drop subscriptions and buffers.
    Abandon {
        mv: u64,
        reason: AbandonReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbandonReason {
    #[error("too many upgrades are under way")]
    Overloaded,
    #[error("the owner refused: {0}")]
    Refused(RefuseReason),
    #[error("the owner ended the reservation")]
    Aborted,
    #[error("the owner's node does not exist")]
    NoOwner,
    #[error("the owner did not answer in time, or the client did not upgrade in time")]
    Timeout,
    #[error("the client upgraded before its probe was answered")]
    EarlyUpgrade,
    #[error("the client went away")]
    ClientGone,
}

impl Taker {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn handle(&mut self, now: Millis, input: TakerInput) {
        let _ = (now, input);
    }

    pub fn poll_output(&mut self) -> Option<TakerOutput> {
        None
    }

    /// When `Tick` is due.
    pub fn next_timeout(&self) -> Option<Millis> {
        None
    }
}
