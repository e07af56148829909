//! The access log: a line when a session opens, one when it ends that answers why, and one when it moves to another node. What a
//! session costs its client and us is counted here. Tokens and payloads are never written down.
//!
//! The target of all lines is [`TARGET`], so that a filter tells them from the rest: `log = "warn,access=info"`.

use std::sync::Arc;

use cluster::sid::log_name;
use domain::Identity;
use engineio::{CloseReason, Input};
use serde::{Deserialize, Serialize};

use super::session::Session;
use super::{Shard, State};
use crate::clock::unix_ms;

pub const TARGET: &str = "access";

/// What a session's client speaks, as a metrics label and in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Polling,
    WebSocket,
    /// A WebSocket without Engine.IO.
    Plain,
}

impl Transport {
    pub const ALL: [Self; 3] = [Self::Polling, Self::WebSocket, Self::Plain];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::WebSocket => "websocket",
            Self::Plain => "plain",
        }
    }
}

/// What is told of a session when it ends.
#[derive(Debug)]
pub struct Access {
    transport: Transport,
    /// When it was opened, here or at another node: Unix milliseconds.
    opened_ms: u64,
    /// Nodes it has left.
    moves: u32,
    /// Sockets it has had.
    sockets: u32,
    pub traffic: Traffic,
    /// Who was let in first; kept for when the sockets are gone.
    identity: Option<Arc<Identity>>,
    /// What is known of its end besides the reason.
    known: Option<Box<str>>,
}

/// What crossed the wire: messages (attachments count) and their bytes as the transport carries them, without its headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    pub messages_in: u64,
    pub bytes_in: u64,
    pub messages_out: u64,
    pub bytes_out: u64,
}

/// A session's account on its way to another node.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PackedAccess {
    age_ms: u64,
    moves: u32,
    sockets: u32,
    traffic: Traffic,
}

impl Access {
    pub fn new(transport: Transport) -> Self {
        let (opened_ms, traffic) = (unix_ms(), Traffic::default());
        Self { transport, opened_ms, moves: 0, sockets: 0, traffic, identity: None, known: None }
    }

    pub fn pack(&self) -> PackedAccess {
        let age_ms = unix_ms().saturating_sub(self.opened_ms);
        PackedAccess { age_ms, moves: self.moves, sockets: self.sockets, traffic: self.traffic }
    }

    /// After a move: to be upgraded is why sessions move.
    pub fn unpack(packed: PackedAccess) -> Self {
        Self {
            opened_ms: unix_ms().saturating_sub(packed.age_ms),
            moves: packed.moves + 1,
            sockets: packed.sockets,
            traffic: packed.traffic,
            ..Self::new(Transport::WebSocket)
        }
    }

    /// A socket is let in.
    pub fn entered(&mut self, identity: Option<&Arc<Identity>>) {
        self.sockets += 1;
        self.identity = self.identity.take().or_else(|| identity.cloned());
    }

    /// What is known of the end that comes; who knows first is right.
    pub fn note(&mut self, known: impl Into<Box<str>>) {
        self.known.get_or_insert_with(|| known.into());
    }
}

impl Session {
    /// Ends the session. `known`: what the log tells besides the reason.
    pub fn close(&mut self, shard: &Shard, reason: CloseReason, known: impl Into<Box<str>>) {
        if self.engine.is_open() {
            self.access.note(known);
        }
        self.engine.handle(&shard.shared.app(self.app).engine, shard.now(), Input::Close(reason));
    }

    /// The one the session is of, as far as anybody knows.
    fn identity(&self) -> Option<&Identity> {
        let of_sockets = || self.sockets.iter().find_map(|socket| socket.identity.as_deref());
        self.access.identity.as_deref().or_else(of_sockets)
    }
}

impl State {
    /// A session began here.
    pub(super) fn access_opened(&self, shard: &Shard, session: &Session) {
        let (app, transport) = (shard.shared.app(session.app).name(), session.access.transport.name());
        shard.shared.metrics.sessions_opened.with_label_values(&[app, transport]).inc();
        tracing::info!(
            target: TARGET,
            session = log_name(&session.sid),
            app,
            peer = %session.opening.peer,
            transport,
            node = %shard.shared.id,
            "session opened"
        );
        count(shard, session, 1);
    }

    /// A session came from another node.
    pub(super) fn access_arrived(&self, shard: &Shard, session: &Session) {
        tracing::info!(
            target: TARGET,
            session = log_name(&session.sid),
            app = shard.shared.app(session.app).name(),
            peer = %session.opening.peer,
            node = %shard.shared.id,
            "session moved here"
        );
        count(shard, session, 1);
    }

    pub(super) fn access_upgraded(&self, shard: &Shard, session: &mut Session) {
        shard.shared.metrics.upgrades.with_label_values(&["local"]).inc();
        count(shard, session, -1);
        session.access.transport = Transport::WebSocket;
        count(shard, session, 1);
    }

    /// It is over: the line that is looked for when somebody asks why a client was disconnected.
    pub(super) fn access_ended(&self, shard: &Shard, session: &Session, reason: CloseReason) {
        let (app, access) = (shard.shared.app(session.app).name(), &session.access);
        shard.shared.metrics.sessions_closed.with_label_values(&[app, reason.name()]).inc();
        let identity = session.identity();
        tracing::info!(
            target: TARGET,
            session = log_name(&session.sid),
            app,
            user = identity.map(|identity| identity.user.as_str()),
            role = identity.and_then(|identity| identity.role.as_deref()),
            peer = %session.opening.peer,
            transport = access.transport.name(),
            sockets = access.sockets,
            reason = reason.name(),
            code = reason.ws_code(),
            text = reason.text(),
            known = access.known.as_deref(),
            duration_s = seconds_since(access.opened_ms),
            messages_in = access.traffic.messages_in,
            bytes_in = access.traffic.bytes_in,
            messages_out = access.traffic.messages_out,
            bytes_out = access.traffic.bytes_out,
            moves = access.moves,
            node = %shard.shared.id,
            "session closed"
        );
    }
}

/// The session is no longer of this node, closed or moved.
pub(super) fn left(shard: &Shard, session: &Session) {
    count(shard, session, -1);
}

fn count(shard: &Shard, session: &Session, change: i64) {
    let labels = [shard.shared.app(session.app).name(), session.access.transport.name()];
    shard.shared.metrics.sessions.with_label_values(&labels).add(change);
}

fn seconds_since(unix: u64) -> f64 {
    unix_ms().saturating_sub(unix) as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_moves_with_its_session() {
        let mut access = Access::new(Transport::Polling);
        access.opened_ms -= 5_000;
        access.entered(None);
        access.traffic = Traffic { messages_in: 1, bytes_in: 2, messages_out: 3, bytes_out: 4 };
        let bytes = rmp_serde::to_vec_named(&access.pack()).unwrap();
        let there = Access::unpack(rmp_serde::from_slice(&bytes).unwrap());
        assert_eq!((there.traffic, there.moves, there.sockets), (access.traffic, 1, 1));
        assert!(seconds_since(there.opened_ms) >= 5.0);
        assert_eq!(there.transport, Transport::WebSocket);
    }

    #[test]
    fn who_knows_first_is_right() {
        let mut access = Access::new(Transport::Plain);
        access.note("the drain");
        access.note("its connection ended");
        assert_eq!(access.known.as_deref(), Some("the drain"));
    }
}
