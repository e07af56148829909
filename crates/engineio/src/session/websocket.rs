//! What WebSockets do: as the transport, and as the candidate of an upgrade (Engine.IO protocol, "Upgrade"), here or at
//! another node.
//!
//! Until the packet `5` the session polls, answers included; what is queued at that moment goes to the WebSocket.

use super::polling::{Upgrade, may_come_from_client};
use super::{Output, Session, State, WsId};
use crate::{CloseReason, Config, Frame, Message, Millis, Packet};

/// The close code (policy violation) of a WebSocket that did not become the transport.
const REFUSED_CODE: u16 = 1008;

impl Session {
    pub(super) fn on_ws_open(&mut self, config: &Config, now: Millis, ws: WsId) {
        self.abandon_upgrade();
        match &mut self.state {
            State::Polling(polling) => {
                let deadline = now.saturating_add(config.upgrade_timeout_ms);
                polling.upgrade = Upgrade::Candidate { ws, probed: false, deadline };
            }
            _ => self.outputs.push_back(Output::WsClose { ws, code: REFUSED_CODE }),
        }
    }

    pub(super) fn on_ws_frame(&mut self, config: &Config, now: Millis, ws: WsId, frame: &Frame) {
        match &self.state {
            State::WebSocket(transport) if *transport == ws => self.on_transport_frame(config, now, frame),
            State::Polling(polling) => match polling.upgrade {
                Upgrade::Candidate { ws: candidate, probed, .. } if candidate == ws => {
                    self.on_candidate_frame(ws, probed, frame);
                }
                _ => {}
            },
            // A frame that was under way when its WebSocket was told to close.
            _ => {}
        }
    }

    fn on_transport_frame(&mut self, config: &Config, now: Millis, frame: &Frame) {
        if frame.len() > config.max_payload {
            return self.close(config, now, CloseReason::PayloadTooLarge);
        }
        match Packet::decode_frame(frame) {
            Ok(packet) if !may_come_from_client(&packet) => self.close(config, now, CloseReason::BadPacket),
            Ok(Packet::Message(message)) => self.received(message),
            Ok(Packet::Pong(_)) => self.on_pong(config, now),
            Ok(Packet::Close) => self.close(config, now, CloseReason::ClientClose),
            // An upgrade that is complete, and a noop, say nothing.
            Ok(_) => {}
            Err(_) => self.close(config, now, CloseReason::BadPacket),
        }
    }

    fn received(&mut self, message: Message) {
        self.outputs.push_back(Output::Received(message));
    }

    fn on_candidate_frame(&mut self, ws: WsId, probed: bool, frame: &Frame) {
        match frame {
            Frame::Text(text) if !probed && *text == "2probe" => self.on_probe(ws),
            Frame::Text(text) if probed && *text == "5" => self.on_upgrade(ws),
            _ => self.abandon_upgrade(),
        }
    }

    fn on_probe(&mut self, ws: WsId) {
        if let State::Polling(polling) = &mut self.state
            && let Upgrade::Candidate { probed, .. } = &mut polling.upgrade
        {
            *probed = true;
        }
        self.outputs.push_back(Output::Ws { ws, frame: Frame::PROBE_ANSWER });
        self.free_poll();
    }

    fn on_upgrade(&mut self, ws: WsId) {
        self.let_go_of_poll();
        self.state = State::WebSocket(ws);
        self.outputs.push_back(Output::Upgraded(ws));
    }

    pub(super) fn on_ws_gone(&mut self, ws: WsId) {
        match &mut self.state {
            State::WebSocket(transport) if *transport == ws => self.finish(CloseReason::TransportClosed),
            State::Polling(polling) => {
                if matches!(polling.upgrade, Upgrade::Candidate { ws: candidate, .. } if candidate == ws) {
                    polling.upgrade = Upgrade::None;
                }
            }
            _ => {}
        }
    }

    pub(super) fn on_expect(&mut self) {
        if let State::Polling(polling) = &mut self.state {
            polling.expects = true;
        }
    }

    pub(super) fn on_reserve(&mut self, config: &Config, now: Millis, token: u64) {
        let holds_it = self.reservation() == Some(token);
        if !holds_it {
            self.abandon_upgrade();
        }
        let State::Polling(polling) = &mut self.state else {
            return self.outputs.push_back(Output::ReservationLost(token));
        };
        let deadline = now.saturating_add(config.upgrade_timeout_ms);
        polling.upgrade = Upgrade::Reserved { token, deadline };
        if !holds_it {
            self.free_poll();
        }
    }

    pub(super) fn on_release(&mut self, token: u64) {
        if self.reservation() == Some(token)
            && let State::Polling(polling) = &mut self.state
        {
            polling.upgrade = Upgrade::None;
        }
    }

    fn reservation(&self) -> Option<u64> {
        match &self.state {
            State::Polling(polling) => match polling.upgrade {
                Upgrade::Reserved { token, .. } => Some(token),
                _ => None,
            },
            _ => None,
        }
    }

    // The client pauses its polling when the poll comes back. With something queued that goes out by it at once.
    fn free_poll(&mut self) {
        let State::Polling(polling) = &self.state else { return };
        if self.outbox.is_empty() && !polling.held.as_ref().is_some_and(|held| held.late) {
            self.answer_held_with(&Frame::NOOP);
        }
    }

    /// Ends the attempt to upgrade, if there is one, and tells whoever made it. The session polls on.
    pub(super) fn abandon_upgrade(&mut self) {
        let State::Polling(polling) = &mut self.state else { return };
        match std::mem::take(&mut polling.upgrade) {
            Upgrade::None => {}
            Upgrade::Candidate { ws, .. } => {
                self.outputs.push_back(Output::WsClose { ws, code: REFUSED_CODE })
            }
            Upgrade::Reserved { token, .. } => self.outputs.push_back(Output::ReservationLost(token)),
        }
    }

    pub(super) fn flush_to_websocket(&mut self, ws: WsId) {
        while let Some(frame) = self.outbox.pop() {
            self.outputs.push_back(Output::Ws { ws, frame });
        }
    }
}
