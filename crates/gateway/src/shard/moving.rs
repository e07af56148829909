//! The session move as a shard sees it: what leaves, what arrives. The protocol between the nodes is `cluster::moving`.
//!
//! Leaving: reserved, the session goes on as before; at the freeze it waits until no command is under way, passes a barrier in
//! its own feed, and is packed. Arriving: its sockets are members of their rooms here before the old node freezes, and what
//! comes for them waits; what the old node has delivered already is dropped by sequence and by id.

use bytes::Bytes;
use cluster::moving::{MoveKey, MoveOwnerInput, MoveOwnerOutput, TakerInput, TakerOutput};
use cluster::node_message::RefuseReason;
use cluster::sid::{NodeId, log_name};
use dialects::{Handshake, Membership, Participant};
use domain::Identity;
use engineio::{CloseReason, Frame, Input, WsId};
use hub::RoomKey;
use serde::{Deserialize, Serialize};
use socketio::{FrozenConnections, Namespace};

use super::commands::Task;
use super::session::{
    Arriving, ArrivingSocket, ArrivingStage, DeliveredBefore, Entry, Moving, Opening, Session, SessionKey,
    Socket, Target,
};
use super::{Shard, State};
use crate::clock::Millis;
use crate::link::{self, Link, Pushed};

/// The rooms of one socket, for the node that is about to have it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SocketRooms {
    pub id: String,
    pub rooms: Vec<String>,
    /// Rooms that it has left since.
    #[serde(default)]
    pub left: Vec<String>,
}

/// A session on its way. Times are milliseconds left, never a node's clock.
#[derive(Debug, Serialize, Deserialize)]
struct Packed {
    sid: String,
    app: String,
    engine: engineio::Frozen,
    io: Option<FrozenConnections>,
    sockets: Vec<PackedSocket>,
    handshake: Option<Handshake>,
    /// Name and value of the headers in which a token may stand.
    headers: Vec<(String, String)>,
    peer: std::net::IpAddr,
    /// The old node has applied the application's stream up to here.
    applied: u64,
    /// Ephemeral events the old node has delivered since the reservation.
    seen: Vec<u128>,
}

#[derive(Debug, Serialize, Deserialize)]
struct PackedSocket {
    id: String,
    nsp: Namespace,
    identity: Option<Identity>,
    memberships: Vec<Membership>,
    listed: Vec<(Box<str>, Participant)>,
    stage: u32,
    accepted: bool,
}

/// Who waits for a barrier in the shard's feed.
#[derive(Clone, Copy, Debug)]
pub enum Barrier {
    /// A session that freezes behind it.
    Freezing(SessionKey),
    /// A session that moved here: behind it the old node's deliveries are past.
    Arrived(SessionKey),
    /// A session that is arriving: behind it nothing comes that was published before its reservation.
    Subscribed { mv: u64, seq: u32 },
}

/// Most bytes of late frames that wait for their session.
const MAX_LATE_BYTES: usize = 4 << 20;

pub fn encode(value: &impl Serialize) -> Bytes {
    rmp_serde::to_vec(value).expect("strings and bytes always encode into memory").into()
}

// The side that gives the session away.
impl State {
    pub(super) fn on_move_owner(&mut self, shard: &Shard, output: MoveOwnerOutput) {
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
                    self.close(shard, key, CloseReason::MoveFailed);
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
    pub(super) fn reservation_lost(&mut self, shard: &Shard, session: &mut Session, token: u64) {
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
                    session.moving = Moving::Freezing { key: key.clone(), seen, barrier: false };
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

    /// Goes on with a freeze once no command is under way: a barrier through this shard's own feed.
    pub(super) fn try_freeze(&mut self, shard: &Shard, session: &mut Session) {
        let idle = !session.busy && session.inbox.is_empty() && session.released.is_empty();
        if let Moving::Freezing { barrier, .. } = &mut session.moving
            && idle
            && !*barrier
        {
            *barrier = true;
            self.next_token += 1;
            self.barriers.insert(self.next_token, Barrier::Freezing(session.key));
            shard.shared.node.barrier(session.app, shard.ix, self.next_token);
        }
    }

    /// The barrier came down the feed: everything up to `seq` is with the session, nothing after it.
    pub(super) fn on_barrier(&mut self, shard: &Shard, token: u64, seq: Option<u64>) {
        let session_key = match self.barriers.remove(&token) {
            Some(Barrier::Freezing(key)) => key,
            Some(Barrier::Arrived(key)) => return self.feed_passed(shard, key, seq.is_some()),
            Some(Barrier::Subscribed { mv, seq: number }) => {
                return self.subscribed(shard, mv, number, seq.is_some());
            }
            None => return,
        };
        let packed = self.with_session(shard, session_key, |state, session| {
            let Moving::Freezing { key, seen, .. } = &mut session.moving else { return None };
            let (key, seen) = (key.clone(), std::mem::take(seen));
            let config = &shard.shared.app(session.app).engine;
            let frozen = seq.and_then(|seq| Some((seq, session.engine.freeze(config, shard.now())?)));
            let Some((applied, engine)) = frozen else {
                session.engine.handle(config, shard.now(), Input::Close(CloseReason::MoveFailed));
                return None;
            };
            Some((key, state.pack(shard, session, engine, applied, seen)))
        });
        let Some(Some((key, packed))) = packed else { return };
        shard.shared.peers.move_owner(MoveOwnerInput::Frozen { key, state: encode(&packed), tails: 0 });
        self.drop_moved(shard, session_key);
    }

    fn feed_passed(&mut self, shard: &Shard, key: SessionKey, passed: bool) {
        let Some(Entry::Live(session)) = self.sessions.get_mut(key) else { return };
        if passed {
            session.delivered_before = None;
        } else {
            let app = session.app;
            self.watch_feed(shard, key, app);
        }
    }

    fn pack(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        engine: engineio::Frozen,
        applied: u64,
        seen: Vec<u128>,
    ) -> Packed {
        let app = shard.shared.app(session.app);
        let farewells: Vec<Task> = session
            .sockets
            .iter()
            .flat_map(|socket| super::connect::farewells(shard, session, socket))
            .collect();
        if let Some(key) = session.move_key() {
            self.farewells.insert(key.clone(), farewells);
        }
        let mut sockets = Vec::new();
        for socket in session.sockets.drain(..) {
            for room in self.hub.remove(socket.ix) {
                shard.shared.node.release(room, shard.ix);
            }
            shard.shared.metrics.sockets.with_label_values(&[app.name()]).dec();
            if !socket.listed.is_empty() {
                self.tasks.push(Task::RosterLater { app: session.app, rooms: socket.listed.clone() });
            }
            sockets.push(PackedSocket {
                id: socket.id.into(),
                nsp: socket.nsp,
                identity: socket.identity.map(|identity| *identity),
                memberships: socket.memberships,
                listed: socket.listed,
                stage: socket.stage,
                accepted: socket.accepted,
            });
        }
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
            applied,
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

// The side that takes the session.
impl State {
    /// A WebSocket of a session that another node owns.
    pub(super) fn add_arriving(
        &mut self,
        app: u16,
        sid: &str,
        owner: NodeId,
        link: std::rc::Rc<Link>,
    ) -> SessionKey {
        let key = self.sessions.reserve();
        let mv: u64 = rand::random();
        self.arriving.insert(mv, key);
        let arriving = Arriving {
            key,
            mv,
            owner,
            sid: sid.into(),
            app,
            link,
            stage: ArrivingStage::Silent,
            sockets: Vec::new(),
            buffer: Vec::new(),
            buffered_bytes: 0,
            late: Vec::new(),
            late_bytes: 0,
            next_serial: 0,
            has_place: false,
            open: false,
        };
        self.sessions.put(key, Entry::Arriving(Box::new(arriving)));
        key
    }

    /// A frame of a WebSocket whose session is not here yet: the probe, the upgrade, then what comes after it.
    pub(super) fn arriving_frame(&mut self, shard: &Shard, key: SessionKey, frame: Frame) {
        let Some(Entry::Arriving(arriving)) = self.sessions.get_mut(key) else { return };
        let is = |text: &[u8]| matches!(&frame, Frame::Text(t) if t.as_bytes() == text);
        match arriving.stage {
            ArrivingStage::Silent if is(b"2probe") => {
                if !shard.shared.take_place(arriving.app) {
                    return self.abandon_arriving(shard, key);
                }
                arriving.has_place = true;
                arriving.stage = ArrivingStage::Probed;
                shard.shared.peers.probe(arriving.mv, arriving.owner, &arriving.sid, shard.ix);
            }
            // Some do not wait for their probe's answer: the upgrade is taken up when it has gone out.
            ArrivingStage::Probed if is(b"5") => arriving.stage = ArrivingStage::Early,
            ArrivingStage::Answered if is(b"5") => {
                arriving.stage = ArrivingStage::Upgraded;
                shard.shared.peers.taker(TakerInput::UpgradeArrived { mv: arriving.mv });
            }
            ArrivingStage::Early | ArrivingStage::Upgraded
                if arriving.late_bytes + frame.len() <= MAX_LATE_BYTES =>
            {
                arriving.late_bytes += frame.len() + 64;
                arriving.late.push(frame);
            }
            _ => self.abandon_arriving(shard, key),
        }
    }

    /// The WebSocket of an arriving session closed. `false`: the session is no arriving one.
    pub(super) fn arriving_gone(&mut self, shard: &Shard, key: SessionKey) -> bool {
        let is_arriving = matches!(self.sessions.get_mut(key), Some(Entry::Arriving(_)));
        if is_arriving {
            self.abandon_arriving(shard, key);
        }
        is_arriving
    }

    /// Gives an arriving session up: its owner keeps it, or in doubt closes it.
    pub(super) fn abandon_arriving(&mut self, shard: &Shard, key: SessionKey) {
        let Some(arriving) = self.sessions.take_arriving(key) else { return };
        self.arriving.remove(&arriving.mv);
        for socket in &arriving.sockets {
            for room in self.hub.remove(socket.ix) {
                shard.shared.node.release(room, shard.ix);
            }
        }
        if arriving.has_place {
            shard.shared.give_place(arriving.app);
        }
        arriving.link.finish(link::ws_close_bytes(CloseReason::MoveFailed.ws_code()));
        if arriving.stage != ArrivingStage::Silent {
            shard.shared.peers.taker(TakerInput::ClientGone { mv: arriving.mv });
        }
        self.sessions.remove(key, &arriving.sid);
    }

    pub(super) fn on_taker(&mut self, shard: &Shard, output: TakerOutput) {
        match output {
            TakerOutput::Subscribe { mv, seq, rooms } => self.subscribe(shard, mv, seq, &rooms),
            TakerOutput::AnswerProbe { mv } => self.answer_probe(shard, mv),
            TakerOutput::Install { mv, state, .. } => self.install(shard, mv, &state),
            // Sessions are packed when no command is under way: there are no tails.
            TakerOutput::Tail { .. } => {}
            TakerOutput::Settled { mv, .. } => {
                self.arriving.remove(&mv);
            }
            TakerOutput::Abandon { mv, reason } => {
                tracing::debug!(%reason, "an upgrade was abandoned");
                if let Some(key) = self.arriving.remove(&mv) {
                    self.abandon_arriving(shard, key);
                    // Installed already: the owner never confirmed, but only it could have sent the state.
                }
            }
            TakerOutput::Send { .. } => {}
        }
    }

    fn answer_probe(&mut self, shard: &Shard, mv: u64) {
        let Some(Entry::Arriving(arriving)) = self.arriving_entry(mv) else { return };
        let answer = Frame::Text("3probe".into());
        let pushed = arriving.link.push(link::ws_bytes(&answer, false));
        let link = arriving.link.clone();
        if arriving.stage == ArrivingStage::Early {
            arriving.stage = ArrivingStage::Upgraded;
            shard.shared.peers.taker(TakerInput::UpgradeArrived { mv });
        } else {
            arriving.stage = ArrivingStage::Answered;
        }
        if pushed == Pushed::List {
            self.dirty.push(link);
        }
    }

    /// How long a WebSocket may say nothing; `None`: it is not, or no longer, a silent one.
    pub(super) fn silent_limit_ms(&mut self, shard: &Shard, key: SessionKey) -> Option<Millis> {
        match self.sessions.get_mut(key) {
            Some(Entry::Arriving(arriving)) if arriving.stage == ArrivingStage::Silent => {
                Some(shard.shared.app(arriving.app).limits.upgrade_timeout_ms)
            }
            _ => None,
        }
    }

    /// Closes a WebSocket that has said nothing.
    pub(super) fn abandon_silent(&mut self, shard: &Shard, key: SessionKey) {
        if self.silent_limit_ms(shard, key).is_some() {
            self.abandon_arriving(shard, key);
        }
    }

    fn arriving_entry(&mut self, mv: u64) -> Option<&mut Entry> {
        let key = *self.arriving.get(&mv)?;
        self.sessions.get_mut(key)
    }

    /// Makes the sockets members of their rooms here, then has the rooms subscribed.
    fn subscribe(&mut self, shard: &Shard, mv: u64, seq: u32, rooms: &[u8]) {
        let Some(key) = self.arriving.get(&mv).copied() else { return };
        let Some(mut arriving) = self.sessions.take_arriving(key) else { return };
        let listed: Vec<SocketRooms> = rmp_serde::from_slice(rooms).unwrap_or_default();
        let mut all = Vec::new();
        for SocketRooms { id, rooms, left } in listed {
            let ix = match arriving.sockets.iter().find(|socket| *socket.id == *id) {
                Some(socket) => socket.ix,
                None => {
                    arriving.next_serial += 1;
                    let serial = arriving.next_serial;
                    let ix = self.hub.insert(&id, Target { session: key, serial });
                    arriving.sockets.push(ArrivingSocket { serial, id: id.into(), ix });
                    ix
                }
            };
            for room in rooms {
                let room = RoomKey::new(arriving.app, &room);
                self.hub.join(ix, &room);
                all.push(room);
            }
            for room in left {
                let room = RoomKey::new(arriving.app, &room);
                if self.hub.leave(ix, &room) == Some(true) {
                    shard.shared.node.release(room, shard.ix);
                }
            }
        }
        self.tasks.push(Task::Subscribe { app: arriving.app, rooms: all, mv, seq });
        self.sessions.put(key, Entry::Arriving(arriving));
    }

    /// The rooms of an arriving session are subscribed: the last step before its owner hears so is a barrier in this feed.
    pub(super) fn pass_subscription(&mut self, shard: &Shard, app: u16, mv: u64, seq: u32) {
        self.next_token += 1;
        self.barriers.insert(self.next_token, Barrier::Subscribed { mv, seq });
        shard.shared.node.barrier(app, shard.ix, self.next_token);
    }

    fn subscribed(&mut self, shard: &Shard, mv: u64, seq: u32, passed: bool) {
        if !passed {
            return shard.shared.peers.taker(TakerInput::ClientGone { mv });
        }
        if let Some(Entry::Arriving(arriving)) = self.arriving_entry(mv) {
            arriving.open = true;
        }
        shard.shared.peers.taker(TakerInput::Subscribed { mv, seq });
    }

    /// The session's state is here: it goes on where it stopped.
    fn install(&mut self, shard: &Shard, mv: u64, state: &[u8]) {
        let failed = || shard.shared.peers.taker(TakerInput::InstallFailed { mv });
        let Some(key) = self.arriving.get(&mv).copied() else { return failed() };
        let Some(arriving) = self.sessions.take_arriving(key) else { return failed() };
        let app = shard.shared.app(arriving.app);
        let packed = rmp_serde::from_slice::<Packed>(state).map_err(|error| error.to_string());
        let packed = match packed {
            Ok(packed) if packed.app == app.name() && *packed.sid == *arriving.sid => packed,
            other => {
                let error =
                    other.err().unwrap_or_else(|| "it is of another application or session".to_owned());
                tracing::error!(%error, "a session's state could not be read");
                failed();
                self.sessions.put(key, Entry::Arriving(arriving));
                return self.abandon_arriving(shard, key);
            }
        };
        let session = self.unpack(shard, *arriving, packed);
        shard.shared.metrics.sessions.with_label_values(&[app.name()]).inc();
        shard.shared.metrics.upgrades.with_label_values(&["moved_in"]).inc();
        tracing::info!(session = log_name(&session.0.sid), app = app.name(), "session moved here");
        let (session, late) = session;
        self.sessions.put(key, Entry::Live(Box::new(session)));
        self.with_session(shard, key, |_, session| {
            for frame in late {
                session.engine.handle(&app.engine, shard.now(), Input::WsFrame { ws: WsId(0), frame });
            }
        });
        self.watch_feed(shard, key, app.ix);
        shard.shared.peers.taker(TakerInput::Installed { mv });
    }

    fn unpack(&mut self, shard: &Shard, arriving: Arriving, packed: Packed) -> (Session, Vec<Frame>) {
        let app = shard.shared.app(arriving.app);
        let ws = WsId(0);
        let mut session = Session {
            key: arriving.key,
            sid: arriving.sid,
            app: arriving.app,
            engine: engineio::Session::thaw(packed.engine, shard.now(), &app.engine, ws),
            io: packed.io.map(|io| socketio::Connections::thaw(io, shard.now())),
            sockets: Vec::new(),
            links: vec![(ws, arriving.link)],
            responders: Vec::new(),
            inbox: std::collections::VecDeque::new(),
            released: std::collections::VecDeque::new(),
            busy: false,
            paused: false,
            ending: None,
            held_answers: Vec::new(),
            opening: Opening {
                app: arriving.app,
                handshake: packed.handshake.map(Box::new),
                headers: headers(&packed.headers),
                peer: packed.peer,
            },
            moving: Moving::No,
            delivered_before: None,
            scheduled: Millis::MAX,
            next_serial: arriving.next_serial,
            next_ws: 0,
            closed: false,
        };
        let mut members = arriving.sockets;
        for socket in packed.sockets {
            self.unpack_socket(shard, &mut session, socket, &mut members);
        }
        // Sockets that left between the reservation and the freeze.
        for gone in members {
            for room in self.hub.remove(gone.ix) {
                shard.shared.node.release(room, shard.ix);
            }
        }
        let before = DeliveredBefore { applied: packed.applied, seen: packed.seen.into_iter().collect() };
        for (serial, broadcast) in arriving.buffer {
            let new = !before.has(&broadcast);
            let room = RoomKey::new(session.app, &broadcast.rooms[broadcast.at]);
            let member =
                session.socket_by_serial(serial).is_some_and(|socket| self.hub.contains(socket.ix, &room));
            if new && member {
                for frame in broadcast.frames.packets() {
                    session.engine.handle(&app.engine, shard.now(), Input::Send(frame.clone()));
                }
            }
        }
        session.delivered_before = Some(Box::new(before));
        (session, arriving.late)
    }

    /// Once this barrier comes down the feed, nothing can come any more that the old node has delivered.
    fn watch_feed(&mut self, shard: &Shard, key: SessionKey, app: u16) {
        self.next_token += 1;
        self.barriers.insert(self.next_token, Barrier::Arrived(key));
        shard.shared.node.barrier(app, shard.ix, self.next_token);
    }

    fn unpack_socket(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        packed: PackedSocket,
        members: &mut Vec<ArrivingSocket>,
    ) {
        let (serial, ix) = match members.iter().position(|member| *member.id == *packed.id) {
            Some(at) => {
                let member = members.swap_remove(at);
                (member.serial, member.ix)
            }
            None => {
                let serial = session.new_serial();
                (serial, self.hub.insert(&packed.id, Target { session: session.key, serial }))
            }
        };
        let left: Vec<RoomKey> = self
            .hub
            .rooms_of(ix)
            .filter(|key| packed.memberships.iter().all(|membership| membership.room != key.room))
            .cloned()
            .collect();
        for room in left {
            if self.hub.leave(ix, &room) == Some(true) {
                shard.shared.node.release(room, shard.ix);
            }
        }
        for (room, participant) in &packed.listed {
            let (change, _) = self.roster.add(&RoomKey::new(session.app, room), participant);
            self.tasks.extend(change.map(|change| Task::Roster { app: session.app, change }));
        }
        shard.shared.metrics.sockets.with_label_values(&[shard.shared.app(session.app).name()]).inc();
        let expires = super::connect::expiry(shard, session.app, packed.identity.as_ref());
        session.sockets.push(Socket {
            serial,
            nsp: packed.nsp,
            id: packed.id.into(),
            ix,
            identity: packed.identity.map(Box::new),
            memberships: packed.memberships,
            listed: packed.listed,
            stage: packed.stage,
            accepted: packed.accepted,
            expires,
        });
    }
}

fn headers(pairs: &[(String, String)]) -> Option<Box<http::HeaderMap>> {
    let parsed = pairs.iter().filter_map(|(name, value)| {
        Some((
            http::HeaderName::try_from(name.as_str()).ok()?,
            http::HeaderValue::try_from(value.as_str()).ok()?,
        ))
    });
    let map: http::HeaderMap = parsed.collect();
    (!map.is_empty()).then(|| Box::new(map))
}
