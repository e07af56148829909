//! Calls: what the coordinator decides for a socket, and the rooms of the calls its device is in.
//!
//! A socket that is about to enter a call is a member of the call's rooms before the coordinator is asked, so that no signal
//! passes it by; what comes meanwhile waits ([`Entering`]) until it is let in, or is not for it. From then on each
//! [`View`] that comes down the feed says whether it still belongs there. Start at [`call`].

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cluster::coordination::{self, Reply, Request};
use cluster::sid::ulid;
use dialects::Outcome;
use domain::call::{
    self, Act, Call, CallId, CommandId, Person, Refusal, UserCalls, View, call_room, seat_room,
};
use domain::presence::ChoiceChange;
use domain::{Identity, Rejection, UserId};
use engineio::Input;
use hub::{Broadcast, Order, RoomKey};
use serde::Deserialize;

use super::commands::{Actor, announce_to_taker, interest};
use super::session::{Entry, Session, SessionKey, Socket};
use super::{Shard, State};
use crate::app::App;
use crate::clock::unix_ms;
use crate::node::Unavailable;

/// A socket on its way into a call.
#[derive(Debug)]
pub struct Entering {
    pub serial: u32,
    pub call: CallId,
    rooms: [RoomKey; 2],
    /// What came for it in the call's rooms, in order.
    held: Vec<Arc<Broadcast>>,
    bytes: usize,
    /// The coordinator has let it in; what waits is due once the client has its answer.
    let_in: bool,
}

impl Entering {
    /// Whether what comes in this room has to wait.
    pub fn holds(&self, serial: u32, room: &str) -> bool {
        self.serial == serial && self.rooms.iter().any(|key| *key.room == *room)
    }

    /// `false`: more waits than may.
    pub fn hold(&mut self, broadcast: &Arc<Broadcast>, limit: usize) -> bool {
        self.bytes += broadcast.size();
        self.held.push(broadcast.clone());
        self.bytes <= limit
    }
}

/// What a view meant to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Known already.
    Old,
    /// The socket's device is in the call.
    In,
    Out,
}

impl Socket {
    /// Takes note of a call as it is now. Older revisions than the known one are ignored.
    pub fn see(&mut self, view: &Arc<View>) -> Seen {
        let known = self.calls.iter().position(|known| known.call == view.call);
        if known.is_some_and(|at| self.calls[at].rev >= view.rev) {
            return Seen::Old;
        }
        match (known, view.seat_of(&self.id).is_some()) {
            (Some(at), true) => self.calls[at] = view.clone(),
            (None, true) => self.calls.push(view.clone()),
            (Some(at), false) => drop(self.calls.swap_remove(at)),
            (None, false) => {}
        }
        if view.seat_of(&self.id).is_some() { Seen::In } else { Seen::Out }
    }

    fn is_in(&self, call: &CallId) -> bool {
        self.calls.iter().any(|known| known.call == *call)
    }
}

/// The rooms of a user's device in a call.
pub fn rooms(app: u16, call: &CallId, user: &UserId) -> [RoomKey; 2] {
    [call_room(call), seat_room(call, user)].map(|room| RoomKey::new(app, room.as_str()))
}

/// Has the coordinator decide. Afterwards the socket is in the call's rooms if its device is in the call.
pub async fn call(
    shard: &Rc<Shard>,
    actor: &Actor,
    call: Option<CallId>,
    act: Act,
) -> Result<Outcome, Rejection> {
    let identity = actor.identity.clone().ok_or(Rejection::Call(Refusal::UnknownCall))?;
    let call = match call {
        Some(call) => call,
        None if matches!(act, Act::Initiate(_)) => mint(),
        None => return Err(Rejection::Call(Refusal::UnknownCall)),
    };
    super::presence::recorded(shard, actor).await?;
    let enters = matches!(act, Act::Initiate(_) | Act::Answer { .. } | Act::Join | Act::Rejoin);
    if enters {
        enter(shard, actor, &call).await?;
    }
    let command = call::Command {
        id: CommandId(rand::random()),
        call: call.clone(),
        actor: Some(call::Actor { who: Person::of(&identity), device: actor.socket.clone() }),
        act,
    };
    let app = shard.shared.app(actor.app);
    let decided = match shard.shared.coordinator.ask(app, &Request::Call(Box::new(command))).await {
        Ok(Reply::Call(decided)) => Ok(decided),
        Ok(_) => Err(misreply(app)),
        Err(rejection) => Err(rejection),
    };
    match decided {
        Ok(decided) => {
            place(shard, actor, &call, &decided).await;
            Ok(Outcome::Call(decided))
        }
        Err(rejection) => {
            shard.turn(|state, shard| state.stay_out(shard, actor, &call));
            Err(rejection)
        }
    }
}

fn mint() -> CallId {
    let (_, text) = ulid(unix_ms(), rand::random());
    CallId::new(text).expect("a ULID is 26 letters and digits")
}

fn misreply(app: &App) -> Rejection {
    tracing::error!(app = app.name(), "a coordinator's answer does not fit the question");
    Rejection::Unavailable
}

/// Makes the socket a member of the call's rooms; nothing that comes there reaches it yet.
async fn enter(shard: &Rc<Shard>, actor: &Actor, call: &CallId) -> Result<(), Rejection> {
    let Some(rooms) = shard.turn(|state, _| state.begin_entering(actor, call))? else { return Ok(()) };
    match interest(shard, rooms.to_vec()).await {
        Ok(()) => {
            announce_to_taker(shard, actor, &rooms, &[]).await;
            Ok(())
        }
        Err(Unavailable) => {
            shard.turn(|state, shard| state.stay_out(shard, actor, call));
            Err(Rejection::Unavailable)
        }
    }
}

/// The coordinator has decided: the socket goes where the call says. `asked`: the call it was on its way into, if it was.
async fn place(shard: &Rc<Shard>, actor: &Actor, asked: &CallId, call: &Call) {
    let view = Arc::new(View::of(call));
    let is_late = shard.turn(|state, shard| {
        if call.id != *asked {
            state.stay_out(shard, actor, asked);
        }
        state.place(shard, actor, &view)
    });
    if is_late {
        enter_late(shard, actor, &call.id).await;
    }
}

/// Into a call that the socket was not on its way into: an answer by glare. What the call became before its rooms held is read;
/// signals that came before are lost.
async fn enter_late(shard: &Rc<Shard>, actor: &Actor, call: &CallId) {
    /// Reads of the call's record.
    const TRIES: usize = 3;
    if enter(shard, actor, call).await.is_err() {
        // The client is in the call and told so; it hears nothing there until it rejoins.
        tracing::warn!(app = shard.shared.app(actor.app).name(), "a call's rooms could not be joined");
        return;
    }
    let app = shard.shared.app(actor.app);
    for _ in 0..TRIES {
        match shard.shared.bus.kv_get_at_leader(&app.calls, &coordination::call_key(call)).await {
            Ok(entry) => {
                let now = entry.and_then(|entry| read_call(&entry.value?));
                if let Some(now) = now {
                    shard.turn(|state, shard| state.place(shard, actor, &Arc::new(View::of(&now))));
                }
                break;
            }
            Err(error) => tracing::debug!(%error, "a call could not be read"),
        }
    }
    shard.turn(|state, shard| state.let_in(shard, actor, call));
}

impl State {
    /// `None`: it is in the call already.
    fn begin_entering(&mut self, actor: &Actor, call: &CallId) -> Result<Option<[RoomKey; 2]>, Rejection> {
        let Some(Entry::Live(session)) = self.sessions.get_mut(actor.session) else {
            return Err(Rejection::Unavailable);
        };
        let socket = session.socket_by_serial(actor.serial).ok_or(Rejection::Unavailable)?;
        let identity = socket.identity.clone().ok_or(Rejection::Unavailable)?;
        let (ix, rooms) = (socket.ix, rooms(actor.app, call, &identity.user));
        if socket.is_in(call) && rooms.iter().all(|room| self.hub.contains(ix, room)) {
            return Ok(None);
        }
        for room in &rooms {
            self.hub.join(ix, room);
        }
        session.entering = Some(Box::new(Entering {
            serial: actor.serial,
            call: call.clone(),
            rooms: rooms.clone(),
            held: Vec::new(),
            bytes: 0,
            let_in: false,
        }));
        Ok(Some(rooms))
    }

    /// The socket takes note of the call. `true`: its device is in the call, and it is not on its way into its rooms.
    fn place(&mut self, shard: &Shard, actor: &Actor, view: &Arc<View>) -> bool {
        let placed = self.with_session(shard, actor.session, |state, session| {
            let seen = state.see(shard, session, actor.serial, view);
            let socket = session.socket_by_serial(actor.serial)?;
            if seen == Seen::Out || !socket.is_in(&view.call) {
                return Some(false);
            }
            let user = &socket.identity.as_ref()?.user;
            let [room, _] = rooms(actor.app, &view.call, user);
            let is_member = state.hub.contains(socket.ix, &room);
            if let Some(entering) = session.entering.as_mut().filter(|entering| entering.call == view.call) {
                entering.let_in = true;
            }
            Some(!is_member)
        });
        placed.flatten().unwrap_or(false)
    }

    fn let_in(&mut self, shard: &Shard, actor: &Actor, call: &CallId) {
        self.with_session(shard, actor.session, |_, session| {
            let entering = session.entering.as_mut().filter(|entering| entering.call == *call);
            if let Some(entering) = entering {
                entering.let_in = true;
            }
        });
    }

    /// The socket is not let in: it leaves the rooms again.
    fn stay_out(&mut self, shard: &Shard, actor: &Actor, call: &CallId) {
        self.with_session(shard, actor.session, |state, session| {
            let on_its_way = session.entering.as_ref().is_some_and(|entering| entering.call == *call);
            let Some(entering) = session.entering.take_if(|_| on_its_way) else { return };
            if session.socket_by_serial(actor.serial).is_some_and(|socket| socket.is_in(call)) {
                // In it before, by an earlier command: only the rooms were missing.
                return state.replay_all(shard, session, *entering);
            }
            state.leave_rooms(shard, session, actor.serial, call);
            state.rescue(shard, session, *entering);
        });
    }

    /// The client has its answer: what came in the call's rooms meanwhile follows.
    pub(super) fn end_entering(&mut self, shard: &Shard, session: &mut Session) {
        if let Some(entering) = session.entering.take_if(|entering| entering.let_in) {
            self.replay_all(shard, session, *entering);
        }
    }

    fn replay_all(&mut self, shard: &Shard, session: &mut Session, entering: Entering) {
        for broadcast in entering.held {
            self.replay(shard, session, entering.serial, &broadcast);
        }
    }

    /// Delivers what waited for a socket, if it is still in the room.
    pub(super) fn replay(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        serial: u32,
        broadcast: &Arc<Broadcast>,
    ) {
        let room = RoomKey::new(session.app, broadcast.room());
        let Some(ix) = session.socket_by_serial(serial).map(|socket| socket.ix) else { return };
        if !self.hub.contains(ix, &room) {
            return;
        }
        send_frames(shard, session, broadcast);
        if let Some(view) = &broadcast.view {
            self.see(shard, session, serial, view);
        }
    }

    /// What waited for a socket that was not let in may be for it by another of its rooms: those copies passed while this one
    /// waited. Later ones are yet to come.
    fn rescue(&mut self, shard: &Shard, session: &mut Session, entering: Entering) {
        let delivered = self.hub.delivered(session.app);
        for broadcast in entering.held {
            let Order::Recoverable(seq) = broadcast.order else { continue };
            let Some(ix) = session.socket_by_serial(entering.serial).map(|socket| socket.ix) else { return };
            let mut later = broadcast.rooms[broadcast.at + 1..].iter().zip(seq + 1..);
            let other = later.find(|(room, _)| self.hub.contains(ix, &RoomKey::new(session.app, room)));
            if other.is_some_and(|(_, seq)| seq <= delivered) {
                send_frames(shard, session, &broadcast);
            }
        }
    }

    /// A call as it is now, for one socket: one whose device is not in it leaves its rooms.
    fn see(&mut self, shard: &Shard, session: &mut Session, serial: u32, view: &Arc<View>) -> Seen {
        let Some(socket) = session.socket_by_serial(serial) else { return Seen::Old };
        let before = socket.calls.len();
        let seen = socket.see(view);
        let after = socket.calls.len();
        count(shard, session.app, before, after);
        if seen == Seen::Out {
            self.leave_rooms(shard, session, serial, &view.call);
            if let Some(entering) = session.entering.take_if(|entering| entering.call == view.call) {
                self.rescue(shard, session, *entering);
            }
        }
        seen
    }

    /// The same, while the feed is delivered.
    pub(super) fn see_live(&mut self, shard: &Shard, key: SessionKey, serial: u32, view: &Arc<View>) {
        self.with_session(shard, key, |state, session| state.see(shard, session, serial, view));
    }

    fn leave_rooms(&mut self, shard: &Shard, session: &mut Session, serial: u32, call: &CallId) {
        let app = session.app;
        let Some(socket) = session.socket_by_serial(serial) else { return };
        let Some(identity) = &socket.identity else { return };
        for room in rooms(app, call, &identity.user) {
            if self.hub.leave(socket.ix, &room) == Some(true) {
                shard.shared.node.release(room, shard.ix);
            }
        }
    }
}

/// Keeps the gauge of sockets in calls.
pub fn count(shard: &Shard, app: u16, before: usize, after: usize) {
    let change = after as i64 - before as i64;
    if change != 0 {
        shard.shared.metrics.in_calls.with_label_values(&[shard.shared.app(app).name()]).add(change);
    }
}

fn send_frames(shard: &Shard, session: &mut Session, broadcast: &Broadcast) {
    let config = &shard.shared.app(session.app).engine;
    for frame in broadcast.frames.packets() {
        session.engine.handle(config, shard.now(), Input::Send(frame.clone()));
    }
}

/// What this node reads of a call's record.
#[derive(Deserialize)]
struct Record {
    call: Call,
}

fn read_call(value: &Bytes) -> Option<Call> {
    let record = coordination::decode::<Record>(value);
    record
        .inspect_err(|error| tracing::warn!(%error, "a call's record could not be read"))
        .ok()
        .map(|r| r.call)
}

/// The user's calls that are not over.
pub async fn own_calls(shard: &Shard, actor: &Actor) -> Result<Outcome, Rejection> {
    let app = shard.shared.app(actor.app);
    let Some(identity) = &actor.identity else { return Ok(Outcome::Calls(Vec::new())) };
    let unread = |error: bus::ReadError| {
        tracing::warn!(%error, app = app.name(), "a user's calls could not be read");
        Rejection::Unavailable
    };
    let bus = &shard.shared.bus;
    let key = coordination::user_calls_key(&identity.user);
    let Some(value) = bus.kv_get(&app.calls, &key).await.map_err(unread)?.and_then(|entry| entry.value)
    else {
        return Ok(Outcome::Calls(Vec::new()));
    };
    let listed: UserCalls = coordination::decode(&value).map_err(|error| {
        tracing::warn!(%error, app = app.name(), "a user's calls could not be read");
        Rejection::Unavailable
    })?;
    let keys: Vec<String> = listed.calls.iter().map(|entry| coordination::call_key(&entry.call)).collect();
    let entries = bus.kv_get_many(&app.calls, &keys).await.map_err(unread)?;
    let calls = entries.iter().filter_map(|entry| read_call(entry.value.as_ref()?));
    Ok(Outcome::Calls(calls.filter(|call| !call.status.is_over()).collect()))
}

/// The user's own choice of status.
pub async fn choose(shard: &Rc<Shard>, actor: &Actor, change: ChoiceChange) -> Result<Outcome, Rejection> {
    let identity: &Identity = actor.identity.as_deref().ok_or(Rejection::Unavailable)?;
    // A choice is folded with the devices there are.
    super::presence::recorded(shard, actor).await?;
    let request = Request::Choose {
        id: CommandId(rand::random()),
        user: identity.user.clone(),
        wire_id: identity.wire_id(),
        change,
    };
    let app = shard.shared.app(actor.app);
    match shard.shared.coordinator.ask(app, &request).await? {
        Reply::Presence(presence) => Ok(Outcome::Chosen(presence)),
        _ => Err(misreply(app)),
    }
}
