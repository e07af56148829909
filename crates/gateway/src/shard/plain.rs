//! What a session does whose client speaks the plain WebSocket's frames: it shows a token, its one socket is let in to the
//! application's namespace, and from then on its events are those of any socket.

use std::rc::Rc;

use bytes::Bytes;
use dialects::{Out, Token};
use engineio::{CloseReason, Frame, Message, WsId};
use hub::plain;
use serde_json::{Value, json};
use socketio::{AckId, Args, Json, Namespace};

use super::access::Transport;
use super::session::{Opening, Session, SessionKey};
use super::{Shard, State};
use crate::link::Link;
use crate::plain::{Front, Heard, Mistake, Stage};

/// The event that shows a token.
const AUTHENTICATE: &str = "authenticate";

impl State {
    /// A new session over this plain WebSocket; `None`: the limit is reached.
    pub(super) fn open_plain(
        &mut self,
        shard: &Shard,
        opening: Opening,
        link: Rc<Link>,
        token: Option<Token>,
    ) -> Option<(SessionKey, WsId)> {
        if !shard.shared.take_place(opening.app) {
            return None;
        }
        let app = shard.shared.app(opening.app);
        let ws = WsId(0);
        let engine = engineio::Session::websocket(shard.now(), &app.engine, ws);
        let key = self.add(shard, opening, engine, Transport::Plain);
        self.with_session(shard, key, |state, session| {
            session.links.push((ws, link));
            session.io = None;
            let until = shard.now() + app.limits.authenticate_timeout_ms;
            session.plain = Some(Box::new(Front::new(until)));
            state.opened(shard, session);
            let is_open = app.dialect.layer() == dialects::Layer::Engine;
            if is_open {
                set_proven(session);
            } else if token.is_some() || app.verifier.is_none() {
                state.let_in_plain(shard, session, token, None);
            }
        });
        Some((key, ws))
    }

    /// Connects the session's one socket, by this token.
    fn let_in_plain(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        token: Option<Token>,
        ack: Option<AckId>,
    ) {
        let Some(front) = &mut session.plain else { return };
        front.stage = Stage::Proven;
        front.token = token;
        let namespace = &shard.shared.app(session.app).config.namespace;
        let nsp = Namespace::new(namespace).unwrap_or(Namespace::MAIN);
        self.connect(shard, session, nsp, None, ack);
    }

    pub(super) fn plain_message(&mut self, shard: &Shard, session: &mut Session, message: Message) {
        let Some(front) = &mut session.plain else { return };
        let stage = front.stage;
        match front.decoder.feed(&shard.shared.app(session.app).packets, message) {
            Ok(None) => {}
            Ok(Some(Heard::Ping)) => self.send(shard, session, Frame::Text("pong".to_owned().into())),
            Ok(Some(Heard::Event { id, args })) => match stage {
                Stage::Unproven { .. } => self.before_token(shard, session, id, &args),
                Stage::Proven => self.plain_event(shard, session, id, args),
            },
            Err(mistake) => self.plain_mistake(shard, session, &mistake),
        }
    }

    fn plain_event(&mut self, shard: &Shard, session: &mut Session, id: Option<u64>, args: Args) {
        let Some(socket) = session.sockets.first() else { return };
        let nsp = socket.nsp.clone();
        self.on_event(shard, session, nsp, id.map(AckId::new), args);
    }

    /// Nothing but a token is heard of a client that has shown none.
    fn before_token(&mut self, shard: &Shard, session: &mut Session, id: Option<u64>, args: &Args) {
        let name = args.event_name().unwrap_or_default();
        let payload = args.elements().get(1).and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
        let token = payload.as_ref().and_then(|payload| payload.get("token")).and_then(Value::as_str);
        match token {
            Some(token) if name == AUTHENTICATE => {
                self.let_in_plain(shard, session, Some(Token(token.to_owned())), id.map(AckId::new));
            }
            _ if name == AUTHENTICATE => {
                let error =
                    json!({ "message": "token: must be a string", "code": "invalid_payload", "event": name });
                self.plain_error(shard, session, id, &error);
            }
            _ => {
                let error = json!({
                    "message": "Not authenticated: send { \"event\": \"authenticate\", \"data\": { \"token\" } } first",
                    "code": "unauthenticated",
                    "event": name,
                });
                self.plain_error(shard, session, id, &error);
            }
        }
    }

    fn plain_mistake(&mut self, shard: &Shard, session: &mut Session, mistake: &Mistake) {
        let error = json!({ "message": mistake.what, "code": "bad_frame", "event": null });
        self.plain_error(shard, session, mistake.id, &error);
    }

    /// An answer where one was asked for, else the event `error`.
    fn plain_error(&mut self, shard: &Shard, session: &mut Session, id: Option<u64>, error: &Value) {
        match id {
            Some(id) => {
                let body = json!({ "success": false, "error": error["message"], "code": error["code"] });
                self.send_plain_ack(shard, session, AckId::new(id), Out::json(&body));
            }
            None => self.send_plain_event(shard, session, "error", Out::json(error)),
        }
    }

    /// Says why the client is not let in, and closes.
    pub(super) fn refuse_plain(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        message: &str,
        data: Option<&Json>,
    ) {
        let mut error = json!({ "message": message, "code": "unauthorized", "event": null });
        if let Some(Value::Object(more)) = data.and_then(|data| data.parse::<Value>().ok()) {
            error.as_object_mut().expect("it was made one").extend(more);
        }
        self.send_plain_event(shard, session, "error", Out::json(&error));
        session.close(shard, CloseReason::Unauthorized, message);
    }

    /// The time to show a token is over.
    pub(super) fn expire_plain(&mut self, shard: &Shard, session: &mut Session) {
        let due = session.plain.as_ref().and_then(|front| front.deadline());
        if due.is_some_and(|due| due <= shard.now()) {
            set_proven(session);
            let data = Json::of(&json!({ "code": "missing_token" })).ok();
            let message = "Unauthorized: no token was shown in time (limits.authenticate_timeout_ms)";
            self.refuse_plain(shard, session, message, data.as_ref());
        }
    }

    pub(super) fn send_plain_event(&mut self, shard: &Shard, session: &mut Session, event: &str, out: Out) {
        let header = plain::event(event, &out.tail, out.attachments.len());
        self.send_plain(shard, session, header, out.attachments);
    }

    pub(super) fn send_plain_ack(&mut self, shard: &Shard, session: &mut Session, id: AckId, out: Out) {
        let header = plain::ack(&id.into_u64().to_string(), &out.tail, out.attachments.len());
        self.send_plain(shard, session, header, out.attachments);
    }

    fn send_plain(&mut self, shard: &Shard, session: &mut Session, header: Vec<u8>, attachments: Vec<Bytes>) {
        let Ok(text) = engineio::Text::try_from(Bytes::from(header)) else { return };
        self.send(shard, session, Frame::Text(text));
        for attachment in attachments {
            self.send(shard, session, Frame::Binary(attachment));
        }
    }
}

/// No deadline runs any more.
fn set_proven(session: &mut Session) {
    if let Some(front) = &mut session.plain {
        front.stage = Stage::Proven;
    }
}
