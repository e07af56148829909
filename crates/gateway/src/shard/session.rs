//! The state of one session, and the table of a shard's sessions.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use cluster::forwarding::{Answer, ForwardKey};
use cluster::moving::MoveKey;
use cluster::sid::NodeId;
use dialects::{Handshake, Membership, Participant, Placed};
use domain::Identity;
use engineio::{CloseReason, Frame, Message, PollId, WsId};
use http::HeaderMap;
use hub::{Broadcast, Order, SocketIx};
use rustc_hash::{FxHashMap, FxHashSet};
use slab::Slab;
use socketio::{Connections, Namespace, Parser};
use tokio::sync::oneshot;

use super::access::Access;
use super::census::Counted;
use super::entering::Entering;
use super::presence::Heard;
use super::unauthenticated::Grace;
use crate::clock::Millis;
use crate::link::Link;
use crate::members::Move;
use crate::plain::Front;

/// A session's place in its shard; never valid for another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey {
    ix: u32,
    generation: u32,
}

/// What the hub keeps per socket: its session, and which of the session's sockets it is.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub session: SessionKey,
    pub serial: u32,
}

/// A shard's sessions, those that are arriving included.
#[derive(Debug, Default)]
pub struct Table {
    entries: Slab<(u32, Entry)>,
    /// Sessions this node opened. One that moved here is reached by its WebSocket only.
    by_sid: FxHashMap<Box<str>, SessionKey>,
    generation: u32,
}

#[derive(Debug)]
pub enum Entry {
    Live(Box<Session>),
    Arriving(Box<Arriving>),
    /// Being worked on: its owner puts it back.
    Out,
}

/// The request that opens a session.
#[derive(Debug)]
pub struct Opening {
    pub app: u16,
    pub handshake: Option<Box<Handshake>>,
    /// The headers in which a token may stand, if there are any.
    pub headers: Option<Box<HeaderMap>>,
    pub peer: std::net::IpAddr,
}

/// One Engine.IO session and the sockets in it.
#[derive(Debug)]
pub struct Session {
    pub key: SessionKey,
    pub sid: Box<str>,
    /// The application at whose door it came in, the first of its site: transport, limits and parser are its. Each socket has its own.
    pub app: u16,
    pub engine: engineio::Session,
    /// `None` at the bare Engine.IO layer.
    pub io: Option<Connections>,
    /// The client speaks the plain WebSocket's frames.
    pub plain: Option<Box<Front>>,
    pub sockets: Vec<Socket>,
    pub links: Vec<(WsId, Rc<Link>)>,
    pub responders: Vec<(PollId, Responder)>,
    /// Messages that wait for a command under way.
    pub inbox: VecDeque<Message>,
    /// Packets that a namespace's acceptance released; before `inbox`.
    pub released: VecDeque<socketio::Event>,
    /// A command is under way: one at a time keeps the session's order.
    pub busy: bool,
    /// Orders of the back end under way, which are no commands of its own: it does not freeze before they are carried out.
    pub placing: usize,
    /// Readers of its WebSockets wait for room in `inbox`.
    pub paused: bool,
    /// The client is gone; what it had sent before is done first.
    pub ending: Option<CloseReason>,
    /// Answers to POSTs that wait for room in `inbox`.
    pub held_answers: Vec<(PollId, engineio::Answer)>,
    pub opening: Opening,
    pub access: Access,
    /// One of its sockets is on its way into a call.
    pub entering: Option<Box<Entering>>,
    /// One of its sockets is in its grace: who delivers looks closer.
    pub has_grace: bool,
    pub moving: Moving,
    /// Set on a session that moved here, until this node's feed is past what the old node delivered.
    pub delivered_before: Option<Box<DeliveredBefore>>,
    /// Earliest entry in the timers.
    pub scheduled: Millis,
    pub next_serial: u32,
    pub next_ws: u32,
    /// Ended, and no longer in the table after this turn.
    pub closed: bool,
}

/// Whether another node wants the session.
#[derive(Debug, Default)]
pub enum Moving {
    #[default]
    No,
    /// Reserved. Ids of ephemeral events delivered meanwhile.
    Reserved { key: MoveKey, seen: Vec<u128> },
    /// The client has upgraded there: freeze as soon as no command is under way and the barrier is passed.
    Freezing { key: MoveKey, seen: Vec<u128>, barriers: Option<Barriers> },
}

/// The barriers that a session which freezes passes one after another: one for each application of its sockets.
#[derive(Debug)]
pub struct Barriers {
    pub rest: Vec<u16>,
    /// With everything of the application's stream before it.
    pub passed: FxHashMap<u16, u64>,
    /// Of the one under way.
    pub token: u64,
}

/// What the node a session came from has delivered to it. This node's feed may be behind that one's.
#[derive(Debug)]
pub struct DeliveredBefore {
    /// Of each application of its sockets: every event of the application's stream up to here.
    pub applied: FxHashMap<u16, u64>,
    /// Ephemeral events.
    pub seen: FxHashSet<u128>,
    /// Applications whose barrier has not come down this node's feed yet.
    pub awaits: Vec<u16>,
}

impl DeliveredBefore {
    pub fn has(&self, broadcast: &Broadcast) -> bool {
        match broadcast.order {
            Order::Recoverable(seq) => {
                self.applied.get(&broadcast.app).is_some_and(|applied| seq <= *applied)
            }
            Order::Ephemeral => self.seen.contains(&broadcast.id),
        }
    }
}

/// Who waits for a request's answer.
#[derive(Debug)]
pub enum Responder {
    Local(oneshot::Sender<Option<Answer>>),
    Forwarded(ForwardKey),
}

/// A socket: the session in a namespace.
#[derive(Debug)]
pub struct Socket {
    pub serial: u32,
    /// The application that has the namespace.
    pub app: u16,
    pub nsp: Namespace,
    pub id: Box<str>,
    pub ix: SocketIx,
    pub identity: Option<Arc<Identity>>,
    pub memberships: Vec<Membership>,
    /// Where the back end has put it, the oldest first.
    pub placed: Vec<Placed>,
    /// The calls its device is in.
    pub calls: Vec<Arc<domain::call::View>>,
    /// Rooms in which others see it.
    pub listed: Vec<(Box<str>, Participant)>,
    pub stage: u32,
    pub accepted: bool,
    /// When its token runs out.
    pub expires: Option<Millis>,
    /// Set while it is listed as a device of its user.
    pub heard: Option<Heard>,
    /// Set while it has no token that counts.
    pub grace: Option<Box<Grace>>,
    /// Set while it counts among the application's sockets.
    pub counted: Option<Counted>,
}

/// A session on its way here: its WebSocket is here, its state is not yet.
#[derive(Debug)]
pub struct Arriving {
    pub key: SessionKey,
    pub mv: u64,
    pub owner: NodeId,
    pub sid: Box<str>,
    pub app: u16,
    pub link: Rc<Link>,
    pub stage: ArrivingStage,
    pub sockets: Vec<ArrivingSocket>,
    /// Live events for its sockets, in order.
    pub buffer: Vec<(u32, Arc<Broadcast>)>,
    pub buffered_bytes: usize,
    /// What the client sent after its upgrade packet.
    pub late: Vec<Frame>,
    pub late_bytes: usize,
    /// What the back end ordered for its sockets meanwhile, with the application.
    pub orders: Vec<(u16, Arc<Move>)>,
    pub next_serial: u32,
    /// Counted among the application's sessions: taken with the probe, so that a full node leaves the session where it is.
    pub has_place: bool,
    /// Behind the barrier of its reservation. Ephemeral events before it are the old node's to deliver.
    pub open: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArrivingStage {
    /// Nothing was said yet.
    Silent,
    Probed,
    /// The client upgraded without waiting for its probe's answer.
    Early,
    Answered,
    Upgraded,
}

#[derive(Debug)]
pub struct ArrivingSocket {
    pub serial: u32,
    pub id: Box<str>,
    pub ix: SocketIx,
}

impl Table {
    /// A key for a session to be put in with [`Table::put`].
    pub fn reserve(&mut self) -> SessionKey {
        self.generation = self.generation.wrapping_add(1);
        let ix = self.entries.insert((self.generation, Entry::Out));
        SessionKey {
            ix: u32::try_from(ix).expect("a core holds far fewer than 2^32 sessions"),
            generation: self.generation,
        }
    }

    pub fn name(&mut self, sid: &str, key: SessionKey) {
        self.by_sid.insert(sid.into(), key);
    }

    pub fn by_sid(&self, sid: &str) -> Option<SessionKey> {
        self.by_sid.get(sid).copied()
    }

    pub fn get_mut(&mut self, key: SessionKey) -> Option<&mut Entry> {
        match self.entries.get_mut(key.ix as usize) {
            Some((generation, entry)) if *generation == key.generation => Some(entry),
            _ => None,
        }
    }

    /// Takes a live session out, to be put back with [`Table::put`] or forgotten with [`Table::remove`].
    pub fn take(&mut self, key: SessionKey) -> Option<Box<Session>> {
        let entry = self.get_mut(key)?;
        match std::mem::replace(entry, Entry::Out) {
            Entry::Live(session) => Some(session),
            other => {
                *entry = other;
                None
            }
        }
    }

    pub fn take_arriving(&mut self, key: SessionKey) -> Option<Box<Arriving>> {
        let entry = self.get_mut(key)?;
        match std::mem::replace(entry, Entry::Out) {
            Entry::Arriving(arriving) => Some(arriving),
            other => {
                *entry = other;
                None
            }
        }
    }

    pub fn put(&mut self, key: SessionKey, entry: Entry) {
        *self.get_mut(key).expect("a place is kept until it is removed") = entry;
    }

    pub fn remove(&mut self, key: SessionKey, sid: &str) {
        if self.by_sid.get(sid) == Some(&key) {
            self.by_sid.remove(sid);
        }
        if self.get_mut(key).is_some() {
            self.entries.remove(key.ix as usize);
        }
    }

    pub fn entries_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.entries.iter_mut().map(|(_, (_, entry))| entry)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn keys(&self) -> Vec<SessionKey> {
        let key = |(ix, (generation, _)): (usize, &(u32, Entry))| SessionKey {
            ix: ix as u32,
            generation: *generation,
        };
        self.entries.iter().map(key).collect()
    }
}

impl Session {
    /// What its packets look like.
    pub fn parser(&self) -> Parser {
        self.io.as_ref().map_or(Parser::Json, Connections::parser)
    }

    /// A session without sockets and links.
    pub fn new(
        key: SessionKey,
        sid: Box<str>,
        opening: Opening,
        engine: engineio::Session,
        io: Option<Connections>,
        access: Access,
    ) -> Self {
        Self {
            key,
            sid,
            app: opening.app,
            engine,
            io,
            plain: None,
            sockets: Vec::new(),
            links: Vec::new(),
            responders: Vec::new(),
            inbox: VecDeque::new(),
            released: VecDeque::new(),
            busy: false,
            placing: 0,
            paused: false,
            ending: None,
            held_answers: Vec::new(),
            opening,
            access,
            entering: None,
            has_grace: false,
            moving: Moving::No,
            delivered_before: None,
            scheduled: Millis::MAX,
            next_serial: 0,
            next_ws: 0,
            closed: false,
        }
    }

    pub fn socket_by_serial(&mut self, serial: u32) -> Option<&mut Socket> {
        self.sockets.iter_mut().find(|socket| socket.serial == serial)
    }

    /// The socket in a namespace.
    pub fn socket_in(&self, nsp: &Namespace) -> Option<&Socket> {
        self.sockets.iter().find(|socket| socket.nsp == *nsp)
    }

    /// The applications of its sockets, each once; without a socket that of its door.
    pub fn apps(&self) -> Vec<u16> {
        let mut apps: Vec<u16> = self.sockets.iter().map(|socket| socket.app).collect();
        apps.sort_unstable();
        apps.dedup();
        if apps.is_empty() { vec![self.app] } else { apps }
    }

    pub fn link(&self, ws: WsId) -> Option<&Rc<Link>> {
        self.links.iter().find(|(id, _)| *id == ws).map(|(_, link)| link)
    }

    pub fn new_serial(&mut self) -> u32 {
        self.next_serial += 1;
        self.next_serial
    }

    pub fn new_ws(&mut self) -> WsId {
        self.next_ws += 1;
        WsId(self.next_ws)
    }

    /// The reservation, whether or not the freeze has begun.
    pub fn move_key(&self) -> Option<&MoveKey> {
        match &self.moving {
            Moving::No => None,
            Moving::Reserved { key, .. } | Moving::Freezing { key, .. } => Some(key),
        }
    }
}

impl Socket {
    /// As dialects see it.
    pub fn view<'a>(&'a self, handshake: Option<&'a Handshake>) -> dialects::Socket<'a> {
        dialects::Socket {
            id: &self.id,
            namespace: self.nsp.as_str(),
            identity: self.identity.as_deref().filter(|_| self.grace.is_none()),
            memberships: &self.memberships,
            placed: &self.placed,
            calls: &self.calls,
            handshake,
            stage: self.stage,
            granted: &[],
        }
    }
}
