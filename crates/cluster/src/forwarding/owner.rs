//! The node that owns the session.

use super::{Answer, Ask, ForwardLimits, Millis};
use crate::node_message::{ForwardAsk, NodeId, NodeMessage, Sid};

/// Requests other nodes forwarded here.
#[derive(Debug)]
pub struct ForwardOwner {
    limits: ForwardLimits,
}

/// A forwarded request: the node that holds it and the id it chose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardKey {
    pub from: NodeId,
    pub req: u64,
}

#[derive(Clone, Debug)]
pub enum ForwardOwnerInput {
    Message {
        from: NodeId,
        req: u64,
        msg: ForwardAsk,
    },
    /// The session's answer to `Deliver`.
    Answered {
        key: ForwardKey,
        answer: Answer,
    },
    /// There is no such session, or it ended without an answer: the client gets 400 code 1.
    SessionGone {
        key: ForwardKey,
    },
    /// The forwarding node does not exist: what was sent with this tag had no receiver.
    NoResponders {
        req: u64,
    },
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardOwnerOutput {
    Send {
        to: NodeId,
        msg: NodeMessage,
    },
    /// Give this to the session; once per request. Answer with `Answered` or `SessionGone`.
    Deliver {
        key: ForwardKey,
        sid: Sid,
        ask: Ask,
    },
    /// The client of this poll went away, or its answer was perhaps never written: close the session.
    PollGone {
        key: ForwardKey,
        sid: Sid,
    },
}

impl ForwardOwner {
    pub fn new(limits: ForwardLimits) -> Self {
        Self { limits }
    }

    pub fn handle(&mut self, now: Millis, input: ForwardOwnerInput) {
        let _ = (now, input, self.limits);
    }

    pub fn poll_output(&mut self) -> Option<ForwardOwnerOutput> {
        None
    }

    /// When `Tick` is due.
    pub fn next_timeout(&self) -> Option<Millis> {
        None
    }
}
