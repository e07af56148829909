//! The side that takes a session: its WebSocket is here before its state is. What comes for its sockets waits, what the old node
//! has delivered already is dropped.

use std::sync::Arc;

use cluster::moving::{TakerInput, TakerOutput};
use cluster::sid::NodeId;
use engineio::{CloseReason, Frame, Input, WsId};
use hub::RoomKey;
use rustc_hash::FxHashSet;
use socketio::Namespace;

use super::{Barrier, Packed, PackedSocket, SocketRooms};
use crate::clock::Millis;
use crate::link::{self, Link, Pushed};
use crate::shard::access::Access;
use crate::shard::commands::Task;
use crate::shard::session::{
    Arriving, ArrivingSocket, ArrivingStage, DeliveredBefore, Entry, Opening, Session, SessionKey, Socket,
    Target,
};
use crate::shard::unauthenticated::Grace;
use crate::shard::{Shard, State, connect, entering};

/// Most bytes of late frames that wait for their session.
const MAX_LATE_BYTES: usize = 4 << 20;

impl State {
    /// A WebSocket of a session that another node owns.
    pub(in crate::shard) fn add_arriving(
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
            orders: Vec::new(),
            next_serial: 0,
            has_place: false,
            open: false,
        };
        self.sessions.put(key, Entry::Arriving(Box::new(arriving)));
        key
    }

    /// A frame of a WebSocket whose session is not here yet: the probe, the upgrade, then what comes after it.
    pub(in crate::shard) fn arriving_frame(&mut self, shard: &Shard, key: SessionKey, frame: Frame) {
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
    pub(in crate::shard) fn arriving_gone(&mut self, shard: &Shard, key: SessionKey) -> bool {
        let is_arriving = matches!(self.sessions.get_mut(key), Some(Entry::Arriving(_)));
        if is_arriving {
            self.abandon_arriving(shard, key);
        }
        is_arriving
    }

    /// Gives an arriving session up: its owner keeps it, or in doubt closes it.
    pub(in crate::shard) fn abandon_arriving(&mut self, shard: &Shard, key: SessionKey) {
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

    pub(in crate::shard) fn on_taker(&mut self, shard: &Shard, output: TakerOutput) {
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
                    // Installed too late: its owner has said farewell for it.
                    self.close(shard, key, CloseReason::MoveFailed, reason.to_string());
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
    pub(in crate::shard) fn silent_limit_ms(&mut self, shard: &Shard, key: SessionKey) -> Option<Millis> {
        match self.sessions.get_mut(key) {
            Some(Entry::Arriving(arriving)) if arriving.stage == ArrivingStage::Silent => {
                Some(shard.shared.app(arriving.app).limits.upgrade_timeout_ms)
            }
            _ => None,
        }
    }

    /// Closes a WebSocket that has said nothing.
    pub(in crate::shard) fn abandon_silent(&mut self, shard: &Shard, key: SessionKey) {
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
        for SocketRooms { id, namespace, rooms, left } in listed {
            let app = match &namespace {
                Some(namespace) => shard.shared.app_with(arriving.app, namespace),
                None => Some(arriving.app),
            };
            let Some(app) = app else {
                // Configured differently: its owner keeps it.
                self.sessions.put(key, Entry::Arriving(arriving));
                return self.abandon_arriving(shard, key);
            };
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
                let room = RoomKey::new(app, &room);
                self.hub.join(ix, &room);
                all.push(room);
            }
            for room in left {
                let room = RoomKey::new(app, &room);
                if self.hub.leave(ix, &room) == Some(true) {
                    shard.shared.node.release(room, shard.ix);
                }
            }
        }
        let mut apps: Vec<u16> = all.iter().map(|room| room.app).chain([arriving.app]).collect();
        apps.sort_unstable();
        apps.dedup();
        self.tasks.push(Task::Subscribe { apps, rooms: all, mv, seq });
        self.sessions.put(key, Entry::Arriving(arriving));
    }

    /// The rooms of an arriving session are subscribed: the last step before its owner hears so is a barrier in this feed for each
    /// application.
    pub(in crate::shard) fn pass_subscription(
        &mut self,
        shard: &Shard,
        mut apps: Vec<u16>,
        mv: u64,
        seq: u32,
    ) {
        if let Some(app) = apps.pop() {
            self.next_token += 1;
            self.barriers.insert(self.next_token, Barrier::Subscribed { mv, seq, rest: apps });
            shard.shared.node.barrier(app, shard.ix, self.next_token);
        }
    }

    pub(super) fn subscribed(&mut self, shard: &Shard, mv: u64, seq: u32, rest: Vec<u16>, passed: bool) {
        if !passed {
            return shard.shared.peers.taker(TakerInput::ClientGone { mv });
        }
        if !rest.is_empty() {
            return self.pass_subscription(shard, rest, mv, seq);
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
        let Some(mut arriving) = self.sessions.take_arriving(key) else { return failed() };
        let app = shard.shared.app(arriving.app);
        let packed = rmp_serde::from_slice::<Packed>(state).map_err(|error| error.to_string());
        let packed = match packed {
            Ok(packed) if is_of(shard, &arriving, &packed) => packed,
            other => {
                let error =
                    other.err().unwrap_or_else(|| "it is of another application or session".to_owned());
                tracing::error!(%error, "a session's state could not be read");
                failed();
                self.sessions.put(key, Entry::Arriving(arriving));
                return self.abandon_arriving(shard, key);
            }
        };
        let orders = std::mem::take(&mut arriving.orders);
        let session = self.unpack(shard, *arriving, packed);
        shard.shared.metrics.upgrades.with_label_values(&["moved_in"]).inc();
        let (session, late) = session;
        self.access_arrived(shard, &session);
        let awaited = session.apps();
        self.sessions.put(key, Entry::Live(Box::new(session)));
        self.with_session(shard, key, |state, session| {
            // What was revoked on its way here was said to neither node's sockets.
            state.cut_revoked(shard, session);
            state.place_arrived(shard, session, orders);
            for frame in late {
                session.engine.handle(&app.engine, shard.now(), Input::WsFrame { ws: WsId(0), frame });
            }
        });
        for app in awaited {
            self.watch_feed(shard, key, app);
        }
        shard.shared.peers.taker(TakerInput::Installed { mv });
    }

    fn unpack(&mut self, shard: &Shard, arriving: Arriving, packed: Packed) -> (Session, Vec<Frame>) {
        let app = shard.shared.app(arriving.app);
        let ws = WsId(0);
        let opening = Opening {
            app: arriving.app,
            handshake: packed.handshake.map(Box::new),
            headers: headers(&packed.headers),
            peer: packed.peer,
        };
        let engine = engineio::Session::thaw(packed.engine, shard.now(), &app.engine, ws);
        let io = packed.io.map(|io| socketio::Connections::thaw(io, shard.now()));
        let access = Access::unpack(packed.access);
        let mut session = Session::new(arriving.key, arriving.sid, opening, engine, io, access);
        session.links.push((ws, arriving.link));
        session.next_serial = arriving.next_serial;
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
        let ix = |name: &str| shard.shared.apps.iter().find(|app| app.name() == name).map(|app| app.ix);
        let others = packed.applied_others.into_iter().filter_map(|(name, seq)| Some((ix(&name)?, seq)));
        let before = DeliveredBefore {
            applied: others.chain([(app.ix, packed.applied)]).collect(),
            seen: packed.seen.into_iter().collect(),
            awaits: session.apps(),
        };
        for (serial, broadcast) in arriving.buffer {
            if !before.has(&broadcast) {
                self.replay(shard, &mut session, serial, &broadcast);
            }
        }
        session.delivered_before = Some(Box::new(before));
        (session, arriving.late)
    }

    pub(super) fn feed_passed(&mut self, shard: &Shard, key: SessionKey, app: u16, passed: bool) {
        let Some(Entry::Live(session)) = self.sessions.get_mut(key) else { return };
        if !passed {
            return self.watch_feed(shard, key, app);
        }
        session.delivered_before.take_if(|before| {
            before.awaits.retain(|awaited| *awaited != app);
            before.awaits.is_empty()
        });
    }

    /// Once this barrier comes down the feed, nothing of the application can come any more that the old node has delivered.
    fn watch_feed(&mut self, shard: &Shard, key: SessionKey, app: u16) {
        self.next_token += 1;
        self.barriers.insert(self.next_token, Barrier::Arrived { key, app });
        shard.shared.node.barrier(app, shard.ix, self.next_token);
    }

    fn unpack_socket(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        packed: PackedSocket,
        members: &mut Vec<ArrivingSocket>,
    ) {
        let app = shard.shared.app_with(session.app, packed.nsp.as_str()).unwrap_or(session.app);
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
        let rooms = rooms_of(app, &packed);
        let left: Vec<RoomKey> =
            self.hub.rooms_of(ix).filter(|key| !rooms.contains(&*key.room)).cloned().collect();
        for room in left {
            if self.hub.leave(ix, &room) == Some(true) {
                shard.shared.node.release(room, shard.ix);
            }
        }
        for (room, participant) in &packed.listed {
            let (change, _) = self.roster.add(&RoomKey::new(app, room), participant);
            self.tasks.extend(change.map(|change| Task::Roster { app, change }));
        }
        shard.shared.metrics.sockets.with_label_values(&[shard.shared.app(app).name()]).inc();
        let expires = connect::expiry(shard, app, packed.identity.as_ref());
        let in_grace = packed.grace.is_some();
        session.has_grace |= in_grace;
        entering::count(shard, app, 0, packed.calls.len());
        let mut socket = Socket {
            serial,
            app,
            nsp: packed.nsp,
            id: packed.id.into(),
            ix,
            identity: packed.identity.map(Arc::new),
            memberships: packed.memberships,
            placed: packed.placed,
            calls: packed.calls.into_iter().map(Arc::new).collect(),
            listed: packed.listed,
            stage: packed.stage,
            accepted: packed.accepted,
            expires: expires.filter(|_| !in_grace),
            heard: None,
            grace: packed.grace.map(|grace| Box::new(Grace::unpack(grace, shard.now()))),
            counted: None,
        };
        if packed.since_ms.is_some() {
            self.count_socket(shard, &mut socket, packed.since_ms);
        }
        if let Some(quiet_ms) = packed.quiet_ms {
            self.list_device(shard, &mut socket, quiet_ms);
        }
        session.sockets.push(socket);
    }
}

/// Whether it is the state of this session, and all its sockets are of applications that this node serves there.
fn is_of(shard: &Shard, arriving: &Arriving, packed: &Packed) -> bool {
    let has = |nsp: &Namespace| shard.shared.app_with(arriving.app, nsp.as_str()).is_some();
    packed.app == shard.shared.app(arriving.app).name()
        && *packed.sid == *arriving.sid
        && packed.sockets.iter().all(|socket| has(&socket.nsp))
}

/// Every room that the socket is in.
fn rooms_of(app: u16, packed: &PackedSocket) -> FxHashSet<Box<str>> {
    let own = packed.memberships.iter().map(|membership| membership.room.clone());
    let watched = packed.watched.iter().map(|room| room.as_str().into());
    let user = packed.identity.as_ref().map(|identity| &identity.user);
    let calls = packed.calls.iter().zip(user.into_iter().cycle());
    let calls = calls.flat_map(|(view, user)| entering::rooms(app, &view.call, user)).map(|key| key.room);
    own.chain(watched).chain(calls).collect()
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
