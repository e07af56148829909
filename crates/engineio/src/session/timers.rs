//! Deadlines: the heartbeat, the upgrade, a held poll, a goodbye.
//!
//! They are kept as points in time and looked at on every input, so that a late tick changes nothing a client can see.

use super::polling::Upgrade;
use super::{Answer, Output, Session, State};
use crate::{CloseReason, Config, Frame, Millis};

/// The server pings, the client answers (Engine.IO protocol, "Heartbeat").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heartbeat {
    /// The next ping is due then.
    Idle { ping_at: Millis },
    /// A ping is out; without a pong the client is gone at that very millisecond.
    Waiting { deadline: Millis },
}

impl Heartbeat {
    pub fn start(config: &Config, now: Millis) -> Self {
        Self::Idle { ping_at: now.saturating_add(config.ping_interval_ms) }
    }

    pub fn next(self) -> Millis {
        match self {
            Self::Idle { ping_at } => ping_at,
            Self::Waiting { deadline } => deadline,
        }
    }

    // Counted from when the ping was due, not from when a late tick sent it: the client counts the same way.
    fn deadline(self, config: &Config) -> Millis {
        match self {
            Self::Idle { ping_at } => ping_at.saturating_add(config.ping_timeout_ms),
            Self::Waiting { deadline } => deadline,
        }
    }
}

impl Session {
    pub(super) fn run_timers(&mut self, config: &Config, now: Millis) {
        match &self.state {
            State::Moved | State::Ending(_) | State::Closed => {}
            State::Closing { reason, until } => {
                if now >= *until {
                    self.finish(*reason);
                }
            }
            State::WebSocket(_) => self.run_heartbeat(config, now),
            State::Polling(_) => {
                self.run_heartbeat(config, now);
                self.run_upgrade_deadline(now);
                self.run_noop(now);
            }
        }
    }

    fn run_heartbeat(&mut self, config: &Config, now: Millis) {
        let deadline = self.heartbeat.deadline(config);
        if now >= deadline {
            return self.close(config, now, CloseReason::PingTimeout);
        }
        if matches!(self.heartbeat, Heartbeat::Idle { ping_at } if now >= ping_at) {
            self.heartbeat = Heartbeat::Waiting { deadline };
            self.send(config, now, Frame::PING);
        }
    }

    // A pong nobody asked for counts as well: the client is there.
    pub(super) fn on_pong(&mut self, config: &Config, now: Millis) {
        self.heartbeat = Heartbeat::start(config, now);
    }

    fn run_upgrade_deadline(&mut self, now: Millis) {
        let State::Polling(polling) = &self.state else { return };
        match polling.upgrade {
            Upgrade::Candidate { deadline, .. } | Upgrade::Reserved { deadline, .. } if now >= deadline => {
                self.abandon_upgrade();
            }
            _ => {}
        }
    }

    fn run_noop(&mut self, now: Millis) {
        let State::Polling(polling) = &self.state else { return };
        // With something to say the poll is answered by that.
        if self.outbox.is_empty() && polling.noop_at().is_some_and(|at| now >= at) {
            self.answer_held_with(&Frame::NOOP);
        }
    }

    pub(super) fn answer_held_with(&mut self, frame: &Frame) {
        if let Some(held) = self.take_held() {
            let answer = Answer::Payload(crate::payload::encode([frame]));
            self.outputs.push_back(Output::Answer { id: held.id, answer });
        }
    }
}
