//! What happens to a session: requests, frames, deadlines, its end. Each entry takes the session out of the table, works on
//! it, draws its outputs and puts it back.

use cluster::forwarding::{Answer, Ask, ForwardKey};
use engineio::{CloseReason, Frame, Input, Message, Output, PollId, WsId};

use super::access::{self, Access, Transport};
use super::reader::End;
use super::session::{Entry, Moving, Opening, Responder, Session, SessionKey};
use super::{Shard, State};
use crate::link::{self, Link, Pushed};

/// Poll ids of forwarded requests are the shard's own; those of local requests come from the handlers and are below.
const FORWARDED_POLLS: u64 = 1 << 63;

impl State {
    /// At the end of a turn: sessions that were sent to, but not entered.
    pub(super) fn settle(&mut self, shard: &Shard) {
        while let Some(key) = self.touched.pop() {
            self.with_session(shard, key, |_, _| {});
        }
    }

    /// Enters a live session; whatever it then has to do is done before it goes back.
    pub(super) fn with_session<R>(
        &mut self,
        shard: &Shard,
        key: SessionKey,
        work: impl FnOnce(&mut Self, &mut Session) -> R,
    ) -> Option<R> {
        let mut session = self.sessions.take(key)?;
        if session.paused || !session.held_answers.is_empty() {
            // What the client sent waits at our side: its silence is ours.
            session.engine.excuse(&shard.shared.app(session.app).engine, shard.now());
        }
        let result = work(self, &mut session);
        self.draw(shard, &mut session);
        if session.closed {
            self.sessions.remove(key, &session.sid);
        } else {
            if self.timers.schedule(&mut session) {
                shard.timer_changed.notify_one();
            }
            self.sessions.put(key, Entry::Live(session));
        }
        Some(result)
    }

    pub(super) fn new_poll(&mut self) -> PollId {
        self.next_token += 1;
        PollId(FORWARDED_POLLS | self.next_token)
    }

    /// A new session over polling; `None`: the limit is reached.
    pub(super) fn open_polling(&mut self, shard: &Shard, opening: Opening) -> Option<String> {
        if !shard.shared.take_place(opening.app) {
            return None;
        }
        let engine = engineio::Session::polling(shard.now(), &shard.shared.app(opening.app).engine);
        let key = self.add(shard, opening, engine, Transport::Polling);
        self.with_session(shard, key, |state, session| {
            state.opened(shard, session);
            session.sid.to_string()
        })
    }

    /// A new session over this WebSocket.
    pub(super) fn open_websocket(
        &mut self,
        shard: &Shard,
        opening: Opening,
        link: std::rc::Rc<Link>,
    ) -> Option<(SessionKey, WsId)> {
        if !shard.shared.take_place(opening.app) {
            return None;
        }
        let ws = WsId(0);
        let config = &shard.shared.app(opening.app).engine;
        let engine = engineio::Session::websocket(shard.now(), config, ws);
        let key = self.add(shard, opening, engine, Transport::WebSocket);
        self.with_session(shard, key, |state, session| {
            session.links.push((ws, link));
            let open = Frame::Text(engineio::handshake_json(&session.sid, config, false));
            state.write(session, ws, &open);
            state.opened(shard, session);
        });
        Some((key, ws))
    }

    pub(super) fn add(
        &mut self,
        shard: &Shard,
        opening: Opening,
        engine: engineio::Session,
        transport: Transport,
    ) -> SessionKey {
        let app = shard.shared.app(opening.app);
        let key = self.sessions.reserve();
        let sid: Box<str> =
            shard.shared.key.mint(shard.shared.id, shard.ix, app.name(), rand::random()).into();
        let io = (app.dialect.layer() == dialects::Layer::SocketIo).then(|| {
            socketio::Connections::new(shard.now(), app.limits.connect_timeout_ms)
                .with_parser(app.config.parser)
        });
        self.sessions.name(&sid, key);
        let session = Session::new(key, sid, opening, engine, io, Access::new(transport));
        self.access_opened(shard, &session);
        self.sessions.put(key, Entry::Live(Box::new(session)));
        key
    }

    pub(super) fn opened(&mut self, shard: &Shard, session: &mut Session) {
        for action in shard.shared.app(session.app).dialect.engine_opened() {
            self.engine_send(shard, session, action);
        }
    }

    /// A request for a session. `app`: the application it came in at; a forwarded one was checked by its node's sid.
    pub(super) fn request(
        &mut self,
        shard: &Shard,
        app: Option<u16>,
        sid: &str,
        poll: PollId,
        ask: Ask,
        responder: Responder,
    ) {
        let key = self.sessions.by_sid(sid);
        let mut responder = Some(responder);
        let taken = key.and_then(|key| {
            self.with_session(shard, key, |_, session| {
                let frozen = matches!(session.moving, Moving::Freezing { .. });
                if frozen || app.is_some_and(|app| app != session.app) {
                    return false;
                }
                let config = &shard.shared.app(session.app).engine;
                let input = match ask {
                    Ask::Get => Input::Poll(poll),
                    Ask::Post(body) => {
                        let body = post_body(session, body);
                        session.access.traffic.bytes_in += body.len() as u64;
                        Input::Post { id: poll, body }
                    }
                    Ask::Check => {
                        session.engine.handle(config, shard.now(), Input::Expect);
                        let present = Answer { status: 200, content: "".into(), body: bytes::Bytes::new() };
                        respond(shard, responder.take(), (!session.engine.is_closed()).then_some(present));
                        return true;
                    }
                };
                session.responders.extend(responder.take().map(|responder| (poll, responder)));
                session.engine.handle(config, shard.now(), input);
                true
            })
        });
        if taken != Some(true) {
            respond(shard, responder.take(), None);
        }
    }

    pub(super) fn poll_gone(&mut self, shard: &Shard, sid: &str, poll: PollId) {
        let Some(key) = self.sessions.by_sid(sid) else { return };
        self.with_session(shard, key, |_, session| {
            let input = match session.responders.iter().position(|(id, _)| *id == poll) {
                Some(at) => {
                    session.responders.swap_remove(at);
                    Input::PollGone(poll)
                }
                // Its answer was on its way to a handler that is gone: what it carried is lost.
                None if session.engine.transport().is_none() => Input::Close(CloseReason::TransportClosed),
                None => return,
            };
            session.engine.handle(&shard.shared.app(session.app).engine, shard.now(), input);
        });
    }

    /// The client of a forwarded request is gone, or its answer was perhaps never written: in doubt the session ends.
    pub(super) fn forwarded_gone(&mut self, shard: &Shard, sid: &str, key: &ForwardKey) {
        let Some(session_key) = self.sessions.by_sid(sid) else { return };
        self.with_session(shard, session_key, |_, session| {
            let waits = |(_, r): &(PollId, Responder)| matches!(r, Responder::Forwarded(k) if k == key);
            let input = match session.responders.iter().position(waits) {
                Some(at) => Input::PollGone(session.responders.swap_remove(at).0),
                None if session.engine.transport().is_none() => Input::Close(CloseReason::TransportClosed),
                None => return,
            };
            session.engine.handle(&shard.shared.app(session.app).engine, shard.now(), input);
        });
    }

    /// Frames of a WebSocket. `true`: the session has too much to do, and its readers wait until they are woken.
    pub(super) fn ws_frame(&mut self, shard: &Shard, key: SessionKey, ws: WsId, frame: Frame) -> bool {
        let app = match self.sessions.get_mut(key) {
            Some(Entry::Live(session)) => session.app,
            Some(Entry::Arriving(_)) => {
                self.arriving_frame(shard, key, frame);
                return false;
            }
            _ => return false,
        };
        let limits = &shard.shared.app(app).limits;
        self.with_session(shard, key, |_, session| {
            session.access.traffic.bytes_in += frame.len() as u64;
            session.engine.handle(&shard.shared.app(app).engine, shard.now(), Input::WsFrame { ws, frame });
        });
        let Some(Entry::Live(session)) = self.sessions.get_mut(key) else { return false };
        session.paused |= session.inbox.len() >= limits.pending_commands;
        session.paused
    }

    /// Nothing more is read of a WebSocket.
    pub(super) fn ws_gone(&mut self, shard: &Shard, key: SessionKey, ws: WsId, end: &End) {
        if self.arriving_gone(shard, key) {
            return;
        }
        self.with_session(shard, key, |_, session| {
            let config = &shard.shared.app(session.app).engine;
            let is_transport = session.engine.transport() == Some(ws);
            let too_large = matches!(end, End::TooLarge);
            if too_large && is_transport {
                let limit = shard.shared.app(session.app).limits.max_payload_bytes;
                let known = format!("a message of more than {limit} bytes (limits.max_payload_bytes)");
                return session.close(shard, CloseReason::PayloadTooLarge, known);
            }
            if is_transport && session.engine.is_open() {
                session.access.note(end.known());
            }
            session.engine.handle(config, shard.now(), Input::WsGone(ws));
            if let Some(at) = session.links.iter().position(|(id, _)| *id == ws) {
                let (_, link) = session.links.swap_remove(at);
                if too_large {
                    link.finish(link::ws_close_bytes(CloseReason::PayloadTooLarge.ws_code()));
                }
            }
        });
    }

    pub(super) fn on_deadline(&mut self, shard: &Shard, session: &mut Session) {
        let now = shard.now();
        session.engine.handle(&shard.shared.app(session.app).engine, now, Input::Tick);
        if !session.engine.is_open() {
            return;
        }
        self.expire_packets(shard, session);
        self.expire_plain(shard, session);
        self.end_grace(shard, session);
        let mut expired = Vec::new();
        for socket in &mut session.sockets {
            expired.extend(socket.expires.take_if(|at| *at <= now).map(|_| socket.serial));
        }
        for serial in expired {
            self.token_expired(shard, session, serial);
        }
    }

    /// Ends a session. `known`: what the log tells besides the reason.
    pub(super) fn close(
        &mut self,
        shard: &Shard,
        key: SessionKey,
        reason: CloseReason,
        known: impl Into<Box<str>>,
    ) {
        self.with_session(shard, key, |_, session| session.close(shard, reason, known));
    }

    /// Closes up to `batch` sessions that are not closing yet; returns how many sessions and connections are left after that.
    pub(super) fn close_some(&mut self, shard: &Shard, batch: usize) -> usize {
        let mut closed = 0;
        for key in self.sessions.keys() {
            if closed == batch {
                break;
            }
            let open = match self.sessions.get_mut(key) {
                Some(Entry::Live(session)) => session.engine.is_open(),
                Some(Entry::Arriving(_)) => true,
                _ => false,
            };
            if open {
                closed += 1;
                self.close(shard, key, CloseReason::ServerShutdown, "the node drains");
                self.abandon_arriving(shard, key);
            }
        }
        self.sessions.len() + shard.readers.get()
    }

    /// Closes what is left, goodbyes included.
    pub(super) fn cut_off(&mut self, shard: &Shard) {
        for key in self.sessions.keys() {
            let known = "the drain's time was over (node.drain_s)";
            self.close(shard, key, CloseReason::ServerShutdown, known);
            self.abandon_arriving(shard, key);
        }
    }

    /// Carries out what the session machine put out, and handles messages until there is nothing to do now.
    fn draw(&mut self, shard: &Shard, session: &mut Session) {
        let config = &shard.shared.app(session.app).engine;
        loop {
            while let Some(output) = session.engine.poll_output(config, shard.now()) {
                self.output(shard, session, output);
            }
            if session.closed || session.busy {
                break;
            }
            if !self.next_message(shard, session) {
                match session.ending {
                    Some(reason) => self.end(shard, session, reason),
                    None => break,
                }
            }
        }
        if !session.closed {
            self.make_room(shard, session);
            self.try_freeze(shard, session);
        }
    }

    fn output(&mut self, shard: &Shard, session: &mut Session, output: Output) {
        match output {
            Output::Answer { id, answer } => self.answer(shard, session, id, answer),
            Output::Ws { ws, frame } => self.write(session, ws, &frame),
            Output::WsClose { ws, code } => {
                if let Some(at) = session.links.iter().position(|(id, _)| *id == ws) {
                    let (_, link) = session.links.swap_remove(at);
                    link.finish(link::ws_close_bytes(code));
                }
            }
            Output::Received(message) => {
                session.access.traffic.messages_in += 1;
                session.inbox.push_back(message);
            }
            Output::Upgraded(_) => self.access_upgraded(shard, session),
            Output::ReservationLost(token) => self.reservation_lost(shard, session, token),
            Output::Closed(reason) => self.ended(shard, session, reason),
        }
    }

    /// A POST's `ok` waits while the session has more to do than it may hold: the client sends no more meanwhile.
    fn answer(&mut self, shard: &Shard, session: &mut Session, id: PollId, answer: engineio::Answer) {
        let full = session.inbox.len() >= shard.shared.app(session.app).limits.pending_commands;
        if full && answer == engineio::Answer::Ok {
            session.held_answers.push((id, answer));
            return;
        }
        let Some(at) = session.responders.iter().position(|(poll, _)| *poll == id) else { return };
        let (_, responder) = session.responders.swap_remove(at);
        let payload = matches!(answer, engineio::Answer::Payload(_));
        let (status, content, body) = answer.into_http();
        session.access.traffic.bytes_out += body.len() as u64;
        let delivered =
            respond(shard, Some(responder), Some(Answer { status, content: content.into(), body }));
        if !delivered && payload {
            // What that client was to get is lost with it.
            let config = &shard.shared.app(session.app).engine;
            session.engine.handle(config, shard.now(), Input::Close(CloseReason::TransportClosed));
        }
    }

    /// Below half of its limit the session takes more.
    fn make_room(&mut self, shard: &Shard, session: &mut Session) {
        if session.inbox.len() > shard.shared.app(session.app).limits.pending_commands / 2 {
            return;
        }
        if std::mem::take(&mut session.paused) {
            for (_, link) in &session.links {
                link.resume.notify_one();
            }
        }
        for (id, answer) in std::mem::take(&mut session.held_answers) {
            self.answer(shard, session, id, answer);
        }
    }

    /// Takes up one message. `false`: there is none.
    fn next_message(&mut self, shard: &Shard, session: &mut Session) -> bool {
        if let Some(event) = session.released.pop_front() {
            self.on_packet(shard, session, event);
            return true;
        }
        let Some(message) = session.inbox.pop_front() else { return false };
        if session.inbox.is_empty() {
            session.inbox = std::collections::VecDeque::new();
        }
        match shard.shared.app(session.app).dialect.layer() {
            dialects::Layer::Engine => self.engine_message(shard, session, message),
            _ if session.plain.is_some() => self.plain_message(shard, session, message),
            dialects::Layer::SocketIo => self.socketio_message(shard, session, message),
        }
        true
    }

    fn engine_message(&mut self, shard: &Shard, session: &mut Session, message: Message) {
        let message = match message {
            Message::Text(text) => dialects::EngineAction::Text(text.as_str().to_owned()),
            Message::Binary(bytes) => dialects::EngineAction::Binary(bytes),
        };
        let answers = shard
            .shared
            .app(session.app)
            .dialect
            .engine_message(session.opening.handshake.as_deref(), message);
        for answer in answers {
            self.engine_send(shard, session, answer);
        }
    }

    fn engine_send(&mut self, shard: &Shard, session: &mut Session, action: dialects::EngineAction) {
        let frame = match action {
            dialects::EngineAction::Text(text) if session.plain.is_some() => Frame::Text(text.into()),
            dialects::EngineAction::Text(text) => Frame::message(&text),
            dialects::EngineAction::Binary(bytes) => Frame::Binary(bytes),
        };
        self.send(shard, session, frame);
    }

    /// Sends one frame to the client over whatever transport it has.
    pub(super) fn send(&mut self, shard: &Shard, session: &mut Session, frame: Frame) {
        let config = &shard.shared.app(session.app).engine;
        if let Some(link) = session.engine.direct().and_then(|ws| session.link(ws))
            && link.queued_bytes() + frame.len() > config.max_queue_bytes
        {
            return session.close(shard, CloseReason::SlowClient, too_slow(config.max_queue_bytes));
        }
        session.access.traffic.messages_out += 1;
        session.engine.handle(config, shard.now(), Input::Send(frame));
    }

    pub(super) fn write(&mut self, session: &mut Session, ws: WsId, frame: &Frame) {
        let Some(link) = session.link(ws) else { return };
        let bytes = link.bytes_of(frame);
        let count = bytes.len() as u64;
        if link.push(bytes) == Pushed::List {
            self.dirty.push(link.clone());
        }
        session.access.traffic.bytes_out += count;
    }

    /// The client is gone. What it sent before it left by itself is done first; after a fault of its own nothing is.
    fn ended(&mut self, shard: &Shard, session: &mut Session, reason: CloseReason) {
        if reason == CloseReason::PingTimeout {
            let limit_ms = shard.shared.app(session.app).engine.ping_timeout_ms;
            session.access.note(format!("no answer to a ping for {limit_ms} ms"));
        }
        let left = matches!(reason, CloseReason::ClientClose | CloseReason::TransportClosed);
        let open = session.busy || !session.inbox.is_empty() || !session.released.is_empty();
        if left && open && session.ending.is_none() {
            session.ending = Some(reason);
        } else {
            self.end(shard, session, reason);
        }
    }

    /// The session is over: everybody who waits for it hears so, its rooms go.
    fn end(&mut self, shard: &Shard, session: &mut Session, reason: CloseReason) {
        let shared = &shard.shared;
        session.closed = true;
        self.access_ended(shard, session, reason);
        if let Some(key) = session.move_key() {
            shared.peers.move_owner(cluster::moving::MoveOwnerInput::Withdrawn { key: key.clone() });
        }
        while let Some(socket) = session.sockets.pop() {
            self.socket_gone(shard, session, socket, reason.name());
        }
        self.forget(shard, session);
    }

    /// Frees what a session that ended or moved away held here.
    pub(super) fn forget(&mut self, shard: &Shard, session: &mut Session) {
        let shared = &shard.shared;
        for (_, responder) in session.responders.drain(..) {
            respond(shard, Some(responder), None);
        }
        for (_, link) in session.links.drain(..) {
            link.abandon();
        }
        access::left(shard, session);
        shared.give_place(session.app);
    }
}

/// The body of a POST; where handshakes are kept its headers come with it.
fn post_body(session: &mut Session, body: bytes::Bytes) -> bytes::Bytes {
    let Some(handshake) = &mut session.opening.handshake else { return body };
    match crate::http::handshake::split_headers(body.clone()) {
        Some((headers, body)) => {
            handshake.post_headers = Some(headers);
            body
        }
        None => body,
    }
}

/// What the log tells of a client that reads too slowly.
pub(super) fn too_slow(limit: usize) -> String {
    format!("more than {limit} bytes waited for it (limits.outbox_bytes)")
}

/// `false`: nobody waits any more.
fn respond(shard: &Shard, responder: Option<Responder>, answer: Option<Answer>) -> bool {
    match responder {
        None => false,
        Some(Responder::Local(done)) => done.send(answer).is_ok(),
        Some(Responder::Forwarded(key)) => {
            shard.shared.peers.answered(key, answer);
            true
        }
    }
}
