//! Where sockets stand towards calls: on their way in, in, or out.
//!
//! A socket on its way into a call is a member of the call's rooms, and what comes for it there waits ([`Entering`]) until the
//! coordinator has let it in, or is not for it. From then on each [`View`] that comes down the feed says whether it still
//! belongs there ([`Socket::see`]).

use std::sync::Arc;

use domain::call::{CallId, View, call_room, seat_room};
use domain::{Rejection, UserId};
use engineio::Input;
use hub::{Broadcast, Order, RoomKey};

use super::commands::Actor;
use super::session::{Entry, Session, SessionKey, Socket};
use super::{Shard, State};

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

    /// `false`: more waits than may. Ephemeral events are dropped first.
    pub fn hold(&mut self, broadcast: &Arc<Broadcast>, limit: usize) -> bool {
        let bytes = self.bytes + broadcast.size();
        if broadcast.order == Order::Ephemeral && bytes > limit / 2 {
            return true;
        }
        self.bytes = bytes;
        self.held.push(broadcast.clone());
        bytes <= limit
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

impl State {
    /// `None`: it is in the call already.
    pub(super) fn begin_entering(
        &mut self,
        actor: &Actor,
        call: &CallId,
    ) -> Result<Option<[RoomKey; 2]>, Rejection> {
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
    pub(super) fn place(&mut self, shard: &Shard, actor: &Actor, view: &Arc<View>) -> bool {
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

    pub(super) fn let_in(&mut self, shard: &Shard, actor: &Actor, call: &CallId) {
        self.with_session(shard, actor.session, |_, session| {
            let entering = session.entering.as_mut().filter(|entering| entering.call == *call);
            if let Some(entering) = entering {
                entering.let_in = true;
            }
        });
    }

    /// The socket is not let in: it leaves the rooms again.
    pub(super) fn stay_out(&mut self, shard: &Shard, actor: &Actor, call: &CallId) {
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
        let room = RoomKey::new(broadcast.app, broadcast.room());
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
        for broadcast in entering.held {
            let Order::Recoverable(seq) = broadcast.order else { continue };
            let Some(ix) = session.socket_by_serial(entering.serial).map(|socket| socket.ix) else { return };
            let mut later = broadcast.rooms[broadcast.at + 1..].iter().zip(seq + 1..);
            let other = later.find(|(room, _)| self.hub.contains(ix, &RoomKey::new(broadcast.app, room)));
            if other.is_some_and(|(_, seq)| seq <= self.hub.delivered(broadcast.app)) {
                send_frames(shard, session, &broadcast);
            }
        }
    }

    /// A call as it is now, for one socket: one whose device is not in it leaves its rooms.
    fn see(&mut self, shard: &Shard, session: &mut Session, serial: u32, view: &Arc<View>) -> Seen {
        let Some(socket) = session.socket_by_serial(serial) else { return Seen::Old };
        let before = socket.calls.len();
        let seen = socket.see(view);
        count(shard, socket.app, before, socket.calls.len());
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
        let Some(socket) = session.socket_by_serial(serial) else { return };
        let Some(identity) = &socket.identity else { return };
        for room in rooms(socket.app, call, &identity.user) {
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

pub fn send_frames(shard: &Shard, session: &mut Session, broadcast: &Broadcast) {
    let config = &shard.shared.app(session.app).engine;
    for frame in broadcast.frames_for(session.plain.is_some()).packets() {
        session.engine.handle(config, shard.now(), Input::Send(frame.clone()));
    }
}
