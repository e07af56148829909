//! Sockets come and go: CONNECT with its token, the token's expiry, the end of a socket.

use std::sync::Arc;

use cluster::sid::{log_name, socket_id};
use dialects::{Action, TokenFailure};
use domain::Identity;
use engineio::{CloseReason, Message};
use socketio::{AckId, Event, Incoming, Json, Namespace, Violation};

use super::actions::Run;
use super::admission::Knock;
use super::commands::{Actor, Task};
use super::session::{Session, Socket, Target};
use super::{Shard, State, entering, journal};
use crate::auth::{TokenError, find_token};
use crate::clock::{Millis, unix_ms};
use crate::config::OnTokenExpiry;

impl State {
    pub(super) fn socketio_message(&mut self, shard: &Shard, session: &mut Session, message: Message) {
        let incoming = match message {
            Message::Text(text) => Incoming::Text(text.into_bytes()),
            Message::Binary(bytes) => Incoming::Binary(bytes),
        };
        let Some(io) = &mut session.io else { return };
        match io.handle(&shard.shared.app(session.app).packets, shard.now(), incoming) {
            Ok(None) => {}
            Ok(Some(event)) => self.on_packet(shard, session, event),
            Err(violation) => violated(shard, session, violation),
        }
    }

    /// Deadlines of the Socket.IO layer.
    pub(super) fn expire_packets(&mut self, shard: &Shard, session: &mut Session) {
        let Some(io) = &mut session.io else { return };
        if io.next_timeout().is_none_or(|due| due > shard.now()) {
            return;
        }
        // Acks that never came have no one to tell in today's dialects.
        if let Err(violation) = io.expire(shard.now()) {
            violated(shard, session, violation);
        }
    }

    pub(super) fn on_packet(&mut self, shard: &Shard, session: &mut Session, event: Event) {
        match event {
            Event::ConnectRequested { nsp, auth } => self.connect(shard, session, nsp, auth, None),
            Event::Received { nsp, ack, args } => self.on_event(shard, session, nsp, ack, args),
            Event::Acked { nsp, tag, args } => self.on_ack(shard, session, nsp, tag, args),
            Event::StrayAck { .. } => shard.shared.metrics.stray_acks.inc(),
            Event::AckExpired { .. } => {}
            Event::Left { nsp, .. } => {
                if let Some(at) = session.sockets.iter().position(|socket| socket.nsp == nsp) {
                    let socket = session.sockets.remove(at);
                    self.socket_gone(shard, session, socket, "namespace_left");
                }
            }
        }
    }

    /// Lets a socket in, or says why not. `ack`: a plain client's wish to have its token answered.
    pub(super) fn connect(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        nsp: Namespace,
        auth: Option<Json>,
        ack: Option<AckId>,
    ) {
        let Some(app) = shard.shared.app_with(session.app, nsp.as_str()) else {
            return self.refuse(shard, session, &nsp, "Invalid namespace", None);
        };
        let knock = Knock { app, nsp, auth, ack };
        let examined = match token_of(shard, session, &knock) {
            Ok(Some(token)) => {
                let verified = verify(shard, app, &token);
                if self.has_to_wait(shard, app, &verified) {
                    return self.knock(session, knock, token);
                }
                verified.and_then(|identity| self.not_revoked(app, identity)).map(Some)
            }
            Ok(None) => Ok(None),
            Err(error) => Err(error),
        };
        self.examined(shard, session, knock, examined);
    }

    /// A CONNECT whose token is decided. `None`: the application asks for none.
    pub(super) fn examined(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        knock: Knock,
        examined: Result<Option<Identity>, TokenError>,
    ) {
        let app = shard.shared.app(knock.app);
        journal::connected(shard, session, &knock, &examined);
        let Knock { nsp, auth, ack, .. } = knock;
        let (identity, grace) = match examined {
            Ok(identity) => (identity, None),
            Err(TokenError::Unavailable(why)) => {
                // The client comes back on its own: a refusal would stop it for good.
                shard.shared.metrics.auth_failures.with_label_values(&["unavailable"]).inc();
                tracing::warn!(
                    session = log_name(&session.sid),
                    app = app.name(),
                    why,
                    "a token cannot be checked"
                );
                return session.close(
                    shard,
                    CloseReason::Internal,
                    format!("its token cannot be checked: {why}"),
                );
            }
            Err(error) => {
                shard.shared.metrics.auth_failures.with_label_values(&[error.name()]).inc();
                tracing::info!(session = log_name(&session.sid), app = app.name(), peer = %session.opening.peer, %error, "token refused");
                let failure = error.failure().unwrap_or(TokenFailure::Invalid);
                let Some(words) = app.dialect.grace(failure) else {
                    let refusal = app.dialect.refuse_token(failure);
                    let data = refusal.data.as_ref().and_then(|data| Json::of(data).ok());
                    return self.refuse(shard, session, &nsp, &refusal.message, data.as_ref());
                };
                (None, Some(words))
            }
        };
        let id = socket_id(rand::random());
        let serial = session.new_serial();
        let ix = self.hub.insert(&id, Target { session: session.key, serial });
        let expires = expiry(shard, app.ix, identity.as_ref());
        let identity = identity.map(Arc::new);
        session.access.entered(identity.as_ref());
        session.sockets.push(Socket {
            serial,
            app: app.ix,
            nsp: nsp.clone(),
            id: id.into(),
            ix,
            identity,
            memberships: Vec::new(),
            placed: Vec::new(),
            calls: Vec::new(),
            listed: Vec::new(),
            stage: 0,
            accepted: false,
            expires,
            heard: None,
            grace: None,
            counted: None,
        });
        shard.shared.metrics.sockets.with_label_values(&[app.name()]).inc();
        if let Some(words) = grace {
            let words = std::iter::once(Action::Accept).chain(words).collect();
            return self.begin_grace(shard, session, serial, CloseReason::Unauthorized, words);
        }
        let handshake = session.opening.handshake.as_deref();
        let Some(socket) = session.sockets.last() else { return };
        let raw = auth
            .as_ref()
            .and_then(|auth| serde_json::from_str::<&serde_json::value::RawValue>(auth.as_str()).ok());
        let actions = app.dialect.connecting(&socket.view(handshake), raw);
        self.carry_out(shard, session, Run::connect(nsp, serial, ack, actions));
    }

    pub(super) fn refuse(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        nsp: &Namespace,
        message: &str,
        data: Option<&Json>,
    ) {
        if session.plain.is_some() {
            return self.refuse_plain(shard, session, message, data);
        }
        let Some(frame) = session.io.as_mut().and_then(|io| io.refuse(nsp, message, data)) else { return };
        self.send_encoded(shard, session, frame);
    }

    /// A socket has ended: its rooms are left, who saw it is told. The session may live on.
    pub(super) fn socket_gone(
        &mut self,
        shard: &Shard,
        session: &Session,
        socket: Socket,
        why: &'static str,
    ) {
        journal::disconnected(shard, session, &socket, why);
        self.typing_gone(shard, session.key, socket.serial);
        self.tasks.extend(farewells(shard, session, &socket));
        self.leave_all(shard, &socket);
    }

    /// Takes a socket out of the hub and its rooms' lists.
    pub(super) fn leave_all(&mut self, shard: &Shard, socket: &Socket) {
        let app = socket.app;
        shard.shared.metrics.sockets.with_label_values(&[shard.shared.app(app).name()]).dec();
        for room in self.hub.remove(socket.ix) {
            shard.shared.node.release(room, shard.ix);
        }
        self.uncount_socket(shard, socket);
        entering::count(shard, app, socket.calls.len(), 0);
        if let Some(gone) = Self::gone(shard, socket) {
            self.unlist_device(shard, &gone);
        }
        for (room, participant) in &socket.listed {
            let change = self.roster.remove(&hub::RoomKey::new(app, room), participant);
            self.tasks.extend(change.map(|change| Task::Roster { app, change }));
        }
    }

    /// A socket's token has run out: what follows is the application's setting.
    pub(super) fn token_expired(&mut self, shard: &Shard, session: &mut Session, serial: u32) {
        let Some(socket) = session.socket_by_serial(serial) else { return };
        let app = shard.shared.app(socket.app);
        match app.config.on_token_expiry {
            OnTokenExpiry::Close => match app.dialect.grace_of_expired() {
                Some(words) => {
                    self.begin_grace(shard, session, serial, CloseReason::TokenExpired, words);
                }
                None => session.close(shard, CloseReason::TokenExpired, expired_at(session, serial)),
            },
            OnTokenExpiry::Warn => {
                shard.shared.metrics.auth_failures.with_label_values(&["expired_live"]).inc();
                tracing::warn!(
                    session = log_name(&session.sid),
                    app = app.name(),
                    "a live connection's token has expired"
                );
            }
            OnTokenExpiry::Off => {}
        }
    }
}

/// What is to be said when a socket is gone.
pub(super) fn farewells(shard: &Shard, session: &Session, socket: &Socket) -> Vec<Task> {
    if !socket.accepted {
        return Vec::new();
    }
    let dialect = &shard.shared.app(socket.app).dialect;
    let actions = dialect.disconnected(&socket.view(session.opening.handshake.as_deref()));
    let commands = actions.into_iter().filter_map(|action| match action {
        dialects::Action::Run(command, _) => Some(command),
        _ => None,
    });
    let actor = Actor::of(session, socket);
    commands.map(|command| Task::Farewell { actor: actor.clone(), command }).collect()
}

/// When the node acts on the end of this identity's token.
pub(super) fn expiry(shard: &Shard, app: u16, identity: Option<&Identity>) -> Option<Millis> {
    let app = shard.shared.app(app);
    let expires_at_s = identity?.expires_at?;
    if app.config.on_token_expiry == OnTokenExpiry::Off {
        return None;
    }
    let leeway_s = app.config.token.as_ref().map_or(0, |token| token.leeway_s);
    let due_unix_ms = expires_at_s.saturating_add(leeway_s).saturating_mul(1000);
    Some(shard.now().saturating_add(due_unix_ms.saturating_sub(unix_ms())))
}

fn violated(shard: &Shard, session: &mut Session, violation: Violation) {
    let reason = match violation {
        Violation::ConnectTimeout => CloseReason::ConnectTimeout,
        _ => CloseReason::BadMessage,
    };
    session.close(shard, reason, violation.to_string());
}

/// What the log tells of a token that ran out.
fn expired_at(session: &Session, serial: u32) -> String {
    let socket = session.sockets.iter().find(|socket| socket.serial == serial);
    let identity = socket.and_then(|socket| socket.identity.as_deref());
    let at = identity.and_then(|identity| identity.expires_at);
    at.map_or_else(|| "exp is past".to_owned(), |at| format!("exp was {at}"))
}

/// `None`: the application asks for no token.
fn token_of(shard: &Shard, session: &Session, knock: &Knock) -> Result<Option<String>, TokenError> {
    let Some(config) = &shard.shared.app(knock.app).config.token else { return Ok(None) };
    let auth: Option<serde_json::Value> = knock.auth.as_ref().and_then(|auth| auth.parse().ok());
    let none = http::HeaderMap::new();
    let headers = session.opening.headers.as_deref().unwrap_or(&none);
    let plain = session.plain.as_ref().and_then(|front| front.token.as_ref()).map(|token| token.0.clone());
    let found = plain.or_else(|| find_token(&config.sources, auth.as_ref(), headers).map(|(token, _)| token));
    found.ok_or(TokenError::Missing).map(Some)
}

fn verify(shard: &Shard, app: u16, token: &str) -> Result<Identity, TokenError> {
    let verifier = shard.shared.app(app).verifier.as_ref().ok_or(TokenError::Missing)?;
    verifier.verify(token, unix_ms() / 1000)
}
