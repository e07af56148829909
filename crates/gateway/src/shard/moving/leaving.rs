//! The side that gives a session away: reserved it goes on as before, frozen it is packed and forgotten.

use std::collections::BTreeMap;
use std::sync::Arc;

use cluster::moving::{MoveKey, MoveOwnerInput, MoveOwnerOutput};
use cluster::node_message::RefuseReason;
use cluster::sid::log_name;
use engineio::{CloseReason, Input};
use rustc_hash::FxHashMap;

use super::{Barrier, Packed, PackedSocket, SocketRooms, encode};
use crate::shard::commands::Task;
use crate::shard::session::{Barriers, Moving, Session, SessionKey, Socket};
use crate::shard::{Shard, State, connect, entering};

impl State {
    pub(in crate::shard) fn on_move_owner(&mut self, shard: &Shard, output: MoveOwnerOutput) {
        match output {
            MoveOwnerOutput::Reserve { key, sid } => self.reserve(shard, key, &sid),
            MoveOwnerOutput::Release { key, sid } => self.release_reservation(shard, &key, &sid),
            MoveOwnerOutput::ExtendDone { ticket, .. } => {
                if let Some(join) = self.tickets.remove(&ticket) {
                    // The session may have ended meanwhile.
                    let _ = join.send(());
                }
            }
            MoveOwnerOutput::Freeze { key, sid } => self.freeze(shard, key, &sid),
            MoveOwnerOutput::HandedOver { key, .. } => {
                self.farewells.remove(&key);
                shard.shared.metrics.upgrades.with_label_values(&["moved_out"]).inc()
            }
            MoveOwnerOutput::CloseSession { key: moved, sid, reason } => {
                self.tasks.extend(self.farewells.remove(&moved).into_iter().flatten());
                tracing::warn!(session = log_name(&sid), %reason, "a session was lost in its move");
                // Packed already, or still waiting for its barrier.
                if let Some(key) = self.sessions.by_sid(&sid) {
                    self.close(shard, key, CloseReason::MoveFailed, reason.to_string());
                }
            }
            MoveOwnerOutput::Send { .. } => {}
        }
    }

    fn reserve(&mut self, shard: &Shard, key: MoveKey, sid: &str) {
        let reply = |input| shard.shared.peers.move_owner(input);
        let Some(session_key) = self.sessions.by_sid(sid) else {
            return reply(MoveOwnerInput::Refused { key, reason: RefuseReason::UnknownSession });
        };
        let info = self.with_session(shard, session_key, |state, session| {
            if session.move_key().is_some() {
                return Err(RefuseReason::AlreadyReserved);
            }
            session.moving = Moving::Reserved { key: key.clone(), seen: Vec::new() };
            let config = &shard.shared.app(session.app).engine;
            session.engine.handle(config, shard.now(), Input::Reserve(crate::peers::token(&key)));
            if session.engine.direct().is_some() || session.engine.is_closed() {
                session.moving = Moving::No;
                return Err(RefuseReason::NotUpgradable);
            }
            let rooms =
                |socket: &Socket| state.hub.rooms_of(socket.ix).map(|key| key.room.to_string()).collect();
            let all: Vec<SocketRooms> = session
                .sockets
                .iter()
                .map(|socket| SocketRooms {
                    id: socket.id.to_string(),
                    namespace: Some(socket.nsp.as_str().to_owned()),
                    rooms: rooms(socket),
                    left: Vec::new(),
                })
                .collect();
            Ok(encode(&all))
        });
        match info {
            Some(Ok(info)) => reply(MoveOwnerInput::Reserved { key, info }),
            Some(Err(reason)) => reply(MoveOwnerInput::Refused { key, reason }),
            None => reply(MoveOwnerInput::Refused { key, reason: RefuseReason::UnknownSession }),
        }
    }

    fn release_reservation(&mut self, shard: &Shard, key: &MoveKey, sid: &str) {
        let Some(session_key) = self.sessions.by_sid(sid) else { return };
        shard.shared.metrics.upgrades.with_label_values(&["abandoned"]).inc();
        self.with_session(shard, session_key, |_, session| {
            if session.move_key() == Some(key) {
                session.moving = Moving::No;
                let config = &shard.shared.app(session.app).engine;
                session.engine.handle(config, shard.now(), Input::Release(crate::peers::token(key)));
            }
        });
    }

    /// The session machine ended the reservation: its deadline passed, or another upgrade superseded it.
    pub(in crate::shard) fn reservation_lost(&mut self, shard: &Shard, session: &mut Session, token: u64) {
        if session.move_key().is_some_and(|key| crate::peers::token(key) == token)
            && let Moving::Reserved { key, .. } | Moving::Freezing { key, .. } =
                std::mem::take(&mut session.moving)
        {
            shard.shared.peers.move_owner(MoveOwnerInput::Withdrawn { key });
        }
    }

    fn freeze(&mut self, shard: &Shard, key: MoveKey, sid: &str) {
        let session_key = self.sessions.by_sid(sid);
        let begun = session_key.and_then(|session_key| {
            self.with_session(shard, session_key, |_, session| match std::mem::take(&mut session.moving) {
                Moving::Reserved { key: reserved, seen } if reserved == key => {
                    // The client was in time; what is left to do here does not count against it.
                    let config = &shard.shared.app(session.app).engine;
                    session.engine.handle(config, shard.now(), Input::Reserve(crate::peers::token(&key)));
                    session.moving = Moving::Freezing { key: key.clone(), seen, barriers: None };
                    true
                }
                other => {
                    session.moving = other;
                    false
                }
            })
        });
        if begun != Some(true) {
            shard.shared.peers.move_owner(MoveOwnerInput::Withdrawn { key });
        }
    }

    /// Goes on with a freeze once no command is under way: barriers through this shard's own feed, one for each application.
    pub(in crate::shard) fn try_freeze(&mut self, shard: &Shard, session: &mut Session) {
        let idle =
            !session.busy && session.placing == 0 && session.inbox.is_empty() && session.released.is_empty();
        let rest = session.apps();
        if let Moving::Freezing { barriers: barriers @ None, .. } = &mut session.moving
            && idle
        {
            let barriers = barriers.insert(Barriers { rest, passed: FxHashMap::default(), token: 0 });
            self.next_barrier(shard, session.key, barriers);
        }
    }

    /// `false`: all are passed.
    fn next_barrier(&mut self, shard: &Shard, key: SessionKey, barriers: &mut Barriers) -> bool {
        let Some(app) = barriers.rest.last() else { return false };
        self.next_token += 1;
        barriers.token = self.next_token;
        self.barriers.insert(self.next_token, Barrier::Freezing(key));
        shard.shared.node.barrier(*app, shard.ix, self.next_token);
        true
    }

    /// A barrier came down the feed: everything of its application up to `seq` is with the session. Behind the last one the session is
    /// frozen, and nothing more reaches it here.
    pub(super) fn pass_freeze(
        &mut self,
        shard: &Shard,
        session_key: SessionKey,
        token: u64,
        seq: Option<u64>,
    ) {
        let packed = self.with_session(shard, session_key, |state, session| {
            let is_muted = session.is_muted();
            let Moving::Freezing { key, seen, barriers: Some(barriers) } = &mut session.moving else {
                return None;
            };
            // One of a freeze that was withdrawn.
            if barriers.token != token {
                return None;
            }
            let passed = barriers.rest.pop().zip(seq);
            barriers.passed.extend(passed);
            if passed.is_some() && state.next_barrier(shard, session_key, barriers) {
                return None;
            }
            let (key, seen, applied) =
                (key.clone(), std::mem::take(seen), std::mem::take(&mut barriers.passed));
            let config = &shard.shared.app(session.app).engine;
            let may_move = passed.is_some() && !is_muted;
            let frozen = may_move.then(|| session.engine.freeze(config, shard.now())).flatten();
            let Some(engine) = frozen else {
                let known = "it could not be frozen: the bus is away, or events wait for its token";
                session.close(shard, CloseReason::MoveFailed, known);
                return None;
            };
            Some((key, state.pack(shard, session, engine, applied, seen)))
        });
        let Some(Some((key, packed))) = packed else { return };
        shard.shared.peers.move_owner(MoveOwnerInput::Frozen { key, state: encode(&packed), tails: 0 });
        self.drop_moved(shard, session_key);
    }

    /// Up to where each application's stream is with the session: while a later barrier was on its way, its sockets got more of the
    /// earlier ones' streams.
    fn applied(&self, passed: FxHashMap<u16, u64>) -> BTreeMap<u16, u64> {
        passed.into_iter().map(|(app, seq)| (app, seq.max(self.hub.delivered(app)))).collect()
    }

    fn pack(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        engine: engineio::Frozen,
        passed: FxHashMap<u16, u64>,
        seen: Vec<u128>,
    ) -> Packed {
        let app = shard.shared.app(session.app);
        let mut applied = self.applied(passed);
        let farewells: Vec<Task> =
            session.sockets.iter().flat_map(|socket| connect::farewells(shard, session, socket)).collect();
        if let Some(key) = session.move_key() {
            self.farewells.insert(key.clone(), farewells);
        }
        let mut sockets = Vec::new();
        let mut gone = Vec::new();
        for socket in session.sockets.drain(..) {
            self.typing_gone(shard, session.key, socket.serial);
            let watched = self
                .watched(socket.ix)
                .chain(self.audiences(socket.ix))
                .map(|room| room.room.to_string())
                .collect();
            for room in self.hub.remove(socket.ix) {
                shard.shared.node.release(room, shard.ix);
            }
            shard.shared.metrics.sockets.with_label_values(&[shard.shared.app(socket.app).name()]).dec();
            if !socket.listed.is_empty() {
                self.tasks.push(Task::RosterLater { app: socket.app, rooms: socket.listed.clone() });
            }
            gone.extend(Self::gone(shard, &socket));
            self.uncount_socket(shard, &socket);
            entering::count(shard, socket.app, socket.calls.len(), 0);
            let quiet_ms = socket.heard.map(|heard| shard.now().saturating_sub(heard.at));
            sockets.push(PackedSocket {
                id: socket.id.into(),
                nsp: socket.nsp,
                identity: socket.identity.map(Arc::unwrap_or_clone),
                memberships: socket.memberships,
                placed: socket.placed,
                listed: socket.listed,
                stage: socket.stage,
                accepted: socket.accepted,
                calls: socket.calls.into_iter().map(Arc::unwrap_or_clone).collect(),
                watched,
                since_ms: socket.counted.map(|counted| counted.since_ms),
                quiet_ms,
                grace: socket.grace.map(|grace| grace.pack(shard.now())),
            });
        }
        if !gone.is_empty() {
            self.tasks.push(Task::UnlistLater(gone));
        }
        let name_of = |app: u16| shard.shared.app(app).name().to_owned();
        let text = |value: &http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = session.opening.headers.iter().flat_map(|headers| headers.iter());
        Packed {
            sid: session.sid.to_string(),
            app: app.name().to_owned(),
            engine,
            io: session.io.take().map(|io| io.freeze(shard.now())),
            sockets,
            handshake: session.opening.handshake.take().map(|handshake| *handshake),
            headers: headers.filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect(),
            peer: session.opening.peer,
            access: session.access.pack(),
            applied: applied.remove(&session.app).unwrap_or(0),
            applied_others: applied.into_iter().map(|(app, seq)| (name_of(app), seq)).collect(),
            seen,
        }
    }

    /// What a packed session held here goes, without a word to anybody: it lives on elsewhere.
    fn drop_moved(&mut self, shard: &Shard, key: SessionKey) {
        let Some(mut session) = self.sessions.take(key) else { return };
        self.forget(shard, &mut session);
        self.sessions.remove(key, &session.sid);
    }
}
