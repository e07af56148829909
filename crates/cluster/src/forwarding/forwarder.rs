//! The node that holds the HTTP request.

use super::{Answer, Ask, ForwardLimits, Millis};
use crate::node_message::{ForwardReply, NodeId, NodeMessage, Sid};

/// Requests this node forwards, by their id.
#[derive(Debug)]
pub struct Forwarder {
    limits: ForwardLimits,
}

#[derive(Clone, Debug)]
pub enum ForwarderInput {
    /// A request for a session of `owner`. `req` is random and new.
    Start {
        req: u64,
        owner: NodeId,
        sid: Sid,
        ask: Ask,
    },
    /// The client hung up, before or while its answer was written.
    ClientGone {
        req: u64,
    },
    /// The answer was written to the client.
    Written {
        req: u64,
    },
    Message {
        from: NodeId,
        req: u64,
        msg: ForwardReply,
    },
    /// The owner's node does not exist: what was sent with this tag had no receiver.
    NoResponders {
        req: u64,
    },
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwarderOutput {
    Send {
        to: NodeId,
        msg: NodeMessage,
    },
    /// Write this to the client, once, then say `Written` or `ClientGone`.
    Answer {
        req: u64,
        answer: Answer,
    },
    /// Nobody will answer: HTTP 400 code 1. The request is forgotten; say nothing more about it.
    Fail {
        req: u64,
        reason: FailReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailReason {
    #[error("too many requests are being forwarded")]
    Overloaded,
    #[error("the body is too large to forward")]
    TooLarge,
    #[error("the owner's node does not exist")]
    NoOwner,
    #[error("the owner did not confirm")]
    Unconfirmed,
}

impl Forwarder {
    pub fn new(limits: ForwardLimits) -> Self {
        Self { limits }
    }

    pub fn handle(&mut self, now: Millis, input: ForwarderInput) {
        let _ = (now, input, self.limits);
    }

    pub fn poll_output(&mut self) -> Option<ForwarderOutput> {
        None
    }

    /// When `Tick` is due.
    pub fn next_timeout(&self) -> Option<Millis> {
        None
    }
}
