//! How a session leaves this node for the one that holds its WebSocket, and how it arrives there.
//!
//! Frozen means given away: the machine left behind refuses requests and never serves again.

use serde::{Deserialize, Serialize};

use super::polling::Upgrade;
use super::timers::Heartbeat;
use super::{Session, State, WsId};
use crate::{Config, Frame, Millis};

/// All of a session that another node needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// What waits for the client, in order.
    pub queue: Vec<Frame>,
    pub heartbeat: HeartbeatLeft,
}

/// Time left, in milliseconds: clocks of nodes have nothing in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeartbeatLeft {
    PingIn(Millis),
    PongWithin(Millis),
}

impl Session {
    /// Gives the session away: a poll that is held comes back with a noop, or refused if it came after
    /// [`Input::Expect`](super::Input::Expect); the queue is the other node's to send. `None`
    /// when there is no polling session to give (closed, closing, upgraded or given away already).
    ///
    /// What [`Session::poll_output`] has left is still to be drawn. Afterwards only `Close` has an effect: it puts out
    /// `Closed`, for an owner whose move failed.
    pub fn freeze(&mut self, config: &Config, now: Millis) -> Option<Frozen> {
        self.run_timers(config, now);
        let State::Polling(polling) = &mut self.state else { return None };
        if matches!(polling.upgrade, Upgrade::Reserved { .. }) {
            polling.upgrade = Upgrade::None;
        }
        self.abandon_upgrade();
        self.let_go_of_poll();
        self.state = State::Moved;
        let heartbeat = self.heartbeat.left(now);
        Some(Frozen { queue: std::mem::take(&mut self.outbox).into_frames(), heartbeat })
    }

    /// The session at its new node, over this WebSocket. Its queue comes out of [`Session::poll_output`]. The time under
    /// way does not count against the client.
    pub fn thaw(frozen: Frozen, now: Millis, config: &Config, ws: WsId) -> Self {
        let heartbeat = Heartbeat::resume(frozen.heartbeat, config, now);
        Self::new(State::WebSocket(ws), heartbeat, frozen.queue.into_iter().collect())
    }
}

impl Heartbeat {
    fn left(self, now: Millis) -> HeartbeatLeft {
        match self {
            Self::Idle { ping_at } => HeartbeatLeft::PingIn(ping_at.saturating_sub(now)),
            Self::Waiting { deadline } => HeartbeatLeft::PongWithin(deadline.saturating_sub(now)),
        }
    }

    // What arrives is another node's word: no wait becomes longer than this configuration's.
    fn resume(left: HeartbeatLeft, config: &Config, now: Millis) -> Self {
        match left {
            HeartbeatLeft::PingIn(ms) => {
                Self::Idle { ping_at: now.saturating_add(ms.min(config.ping_interval_ms)) }
            }
            HeartbeatLeft::PongWithin(ms) => {
                Self::Waiting { deadline: now.saturating_add(ms.min(config.ping_timeout_ms)) }
            }
        }
    }
}
