//! What requests do: polls, POSTs, and how a session closes without a WebSocket.

use bytes::Bytes;

use super::{Answer, Output, PollId, Session, State, WsId};
use crate::payload::{self, Limits, PayloadError};
use crate::{CloseReason, Config, Frame, Millis, Packet, Refusal};

#[derive(Debug, Default)]
pub(super) struct Polling {
    pub held: Option<Held>,
    pub upgrade: Upgrade,
    /// A WebSocket for this session was announced.
    pub expects: bool,
}

/// A poll that waits for something to carry.
#[derive(Debug)]
pub(super) struct Held {
    pub id: PollId,
    pub since: Millis,
    /// The client sent it with its WebSocket open: a client that has upgraded by then must not get it answered.
    pub late: bool,
}

/// The attempt to leave polling; there is one at a time, the latest.
#[derive(Debug, Default)]
pub(super) enum Upgrade {
    #[default]
    None,
    /// The WebSocket is here.
    Candidate { ws: WsId, probed: bool, deadline: Millis },
    /// The WebSocket is at another node and has been probed there.
    Reserved { token: u64, deadline: Millis },
}

impl Upgrade {
    /// The client has its `3probe`, or soon will, and stops polling when its poll comes back.
    fn wants_poll_back(&self) -> bool {
        matches!(self, Self::Candidate { probed: true, .. } | Self::Reserved { .. })
    }

    fn deadline(&self) -> Option<Millis> {
        match self {
            Self::None => None,
            Self::Candidate { deadline, .. } | Self::Reserved { deadline, .. } => Some(*deadline),
        }
    }
}

impl Polling {
    pub fn noop_at(&self) -> Option<Millis> {
        let held = self.held.as_ref().filter(|_| self.upgrade.wants_poll_back())?;
        Some(held.since.saturating_add(Session::NOOP_DELAY_MS))
    }

    pub fn next_timeout(&self) -> Millis {
        let noop_at = self.noop_at().unwrap_or(Millis::MAX);
        self.upgrade.deadline().unwrap_or(Millis::MAX).min(noop_at)
    }
}

impl Session {
    pub(super) fn on_poll(&mut self, config: &Config, now: Millis, id: PollId) {
        // A poll that is about to be answered is not open any more.
        self.answer_from_outbox(config);
        match &mut self.state {
            State::Polling(polling) if polling.held.is_none() => {
                polling.held = Some(Held { id, since: now, late: polling.expects });
            }
            State::Polling(_) => {
                self.answer_held_with(&Frame::CLOSE);
                self.answer(id, Refusal::BAD_REQUEST.into());
                self.close(config, now, CloseReason::OverlappingPoll);
            }
            State::Closing { .. } => self.answer_with_goodbye(config, id),
            State::WebSocket(_) | State::Moved => self.answer(id, Refusal::BAD_REQUEST.into()),
            State::Ending(_) | State::Closed => self.answer(id, Refusal::UNKNOWN_SID.into()),
        }
    }

    /// The session leaves polling: what is held comes back with a noop, unless it may have been sent after the upgrade.
    pub(super) fn let_go_of_poll(&mut self) {
        match self.take_held() {
            Some(held) if held.late => self.answer(held.id, Refusal::BAD_REQUEST.into()),
            Some(held) => self.answer(held.id, Answer::Payload(payload::encode([&Frame::NOOP]))),
            None => {}
        }
    }

    pub(super) fn on_poll_gone(&mut self, config: &Config, now: Millis, id: PollId) {
        let State::Polling(polling) = &mut self.state else { return };
        if polling.held.take_if(|held| held.id == id).is_some() {
            self.close(config, now, CloseReason::TransportClosed);
        }
    }

    pub(super) fn on_post(&mut self, config: &Config, now: Millis, id: PollId, body: &Bytes) {
        match &self.state {
            State::Polling(_) => {}
            // The client cannot know yet; a refusal would make it drop the goodbye that waits for its poll.
            State::Closing { .. } => return self.answer(id, Answer::Ok),
            State::WebSocket(_) | State::Moved => return self.answer(id, Refusal::BAD_REQUEST.into()),
            State::Ending(_) | State::Closed => return self.answer(id, Refusal::UNKNOWN_SID.into()),
        }
        match payload::decode(body, Limits::bytes(config.max_payload)) {
            Ok(packets) if packets.iter().all(may_come_from_client) => {
                self.take_post(config, now, id, packets)
            }
            Err(PayloadError::TooLarge) => {
                self.answer(id, Answer::TooLarge);
                self.close(config, now, CloseReason::PayloadTooLarge);
            }
            _ => {
                self.answer(id, Refusal::BAD_REQUEST.into());
                self.close(config, now, CloseReason::BadPacket);
            }
        }
    }

    fn take_post(&mut self, config: &Config, now: Millis, id: PollId, packets: Vec<Packet>) {
        let mut closes = false;
        for packet in packets {
            match packet {
                Packet::Message(message) => self.outputs.push_back(Output::Received(message)),
                Packet::Pong(_) => self.on_pong(config, now),
                Packet::Close => {
                    closes = true;
                    break;
                }
                // An upgrade is a WebSocket's to ask for, and a noop says nothing.
                _ => {}
            }
        }
        self.answer(id, Answer::Ok);
        if closes {
            self.on_client_close(config, now);
        }
    }

    // The client is not interested in what was queued, but its poll must come back: with a noop.
    fn on_client_close(&mut self, config: &Config, now: Millis) {
        self.abandon_upgrade();
        self.outbox = [Frame::NOOP].into_iter().collect();
        self.say_goodbye(config, CloseReason::ClientClose, now.saturating_add(Self::CLIENT_CLOSE_LINGER_MS));
    }

    pub(super) fn close_polling(&mut self, config: &Config, now: Millis, reason: CloseReason) {
        self.abandon_upgrade();
        if reason.lingers() {
            self.outbox.push(Frame::CLOSE);
            self.say_goodbye(config, reason, now.saturating_add(Self::LINGER_MS));
        } else {
            self.answer_held_with(&Frame::CLOSE);
            self.finish(reason);
        }
    }

    fn say_goodbye(&mut self, config: &Config, reason: CloseReason, until: Millis) {
        let held = self.take_held();
        self.state = State::Closing { reason, until };
        if let Some(held) = held {
            self.answer_with_goodbye(config, held.id);
        }
    }

    // A queue larger than one answer takes several polls.
    fn answer_with_goodbye(&mut self, config: &Config, id: PollId) {
        let State::Closing { reason, .. } = self.state else { return };
        let payload = self.outbox.take_payload(config.answer_max_bytes);
        self.answer(id, Answer::Payload(payload));
        if self.outbox.is_empty() {
            self.finish(reason);
        }
    }

    pub(super) fn answer_from_outbox(&mut self, config: &Config) {
        if self.outbox.is_empty() {
            return;
        }
        if let Some(held) = self.take_held() {
            let payload = self.outbox.take_payload(config.answer_max_bytes);
            self.answer(held.id, Answer::Payload(payload));
        }
    }
}

/// Only servers open and ping; a client's `2probe` belongs to a candidate WebSocket.
pub(super) fn may_come_from_client(packet: &Packet) -> bool {
    !matches!(packet, Packet::Open(_) | Packet::Ping(_))
}
