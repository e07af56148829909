//! A back end puts a user's sockets into rooms and takes them out, on this thread. A session that moves to another node meanwhile takes
//! part: its old node does it before the freeze, which waits for it, and the new one again when the session has arrived, in case the old
//! one had frozen it. Doing it twice is doing it once.

use std::rc::Rc;
use std::sync::Arc;

use dialects::{Audience, Command, Join, Placed};
use domain::{Rejection, RoomId};
use hub::RoomKey;

use super::commands::{self, Actor, Task};
use super::session::{Entry, Moving, Session};
use super::{Shard, State};
use crate::members::Move;

/// Orders that wait for one arriving session; of more, the oldest are forgotten.
const WAITING: usize = 64;

/// Moves a user's sockets on this thread; returns how many there are.
pub async fn move_user(shard: &Rc<Shard>, app: u16, order: &Arc<Move>) -> Result<usize, Rejection> {
    let actors = shard.turn(|state, shard| state.begin_placing(shard, app, order));
    let mut outcome = Ok(actors.len());
    for actor in &actors {
        let moved = move_socket(shard, actor, order).await;
        shard.turn(|state, shard| {
            state.with_session(shard, actor.session, |_, session| session.placing -= 1);
        });
        outcome = outcome.and_then(|count| moved.map(|()| count));
    }
    outcome
}

async fn move_socket(shard: &Rc<Shard>, actor: &Actor, order: &Move) -> Result<(), Rejection> {
    let join = |room: &RoomId| Join { room: room.clone(), note: None, participant: None };
    let commands = [
        (!order.join.is_empty()).then(|| Command::Join(order.join.iter().map(join).collect())),
        (!order.leave.is_empty()).then(|| Command::Leave(order.leave.clone())),
    ];
    for command in commands.into_iter().flatten() {
        let moved = commands::execute(shard, actor, command).await;
        let is_here = shard.turn(|state, _| state.socket_ix(actor).is_some());
        moved.map(drop).or_else(|rejection| if is_here { Err(rejection) } else { Ok(()) })?;
    }
    Ok(())
}

impl State {
    /// The user's sockets, found in the room of all devices of the user. From now on the order counts for what they say, and their
    /// sessions do not freeze before it is carried out.
    fn begin_placing(&mut self, shard: &Shard, app: u16, order: &Arc<Move>) -> Vec<Actor> {
        let audience = Audience::User(order.user.clone());
        let Some(room) = shard.shared.app(app).dialect.room_of(&audience) else { return Vec::new() };
        let targets: Vec<_> = self.hub.members(&RoomKey::new(app, room.as_str())).collect();
        let mut actors = Vec::new();
        for target in targets {
            match self.sessions.get_mut(target.session) {
                // Its new node has the order, too.
                Some(Entry::Live(session)) if is_frozen(session) => {}
                Some(Entry::Live(session)) => {
                    let place = session.place(shard, target.serial, order);
                    session.placing += usize::from(place.is_some());
                    actors.extend(place);
                }
                Some(Entry::Arriving(arriving)) => {
                    if arriving.orders.len() == WAITING {
                        arriving.orders.remove(0);
                    }
                    arriving.orders.push((app, order.clone()));
                }
                Some(Entry::Out) | None => {}
            }
        }
        actors
    }

    /// What was ordered while the session was on its way: it counts at once, and is carried out next.
    pub(super) fn place_arrived(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        orders: Vec<(u16, Arc<Move>)>,
    ) {
        for (app, order) in orders {
            let serials: Vec<u32> = session.sockets.iter().map(|socket| socket.serial).collect();
            let placed =
                serials.into_iter().filter_map(|serial| session.place(shard, serial, &order)).count();
            if placed > 0 {
                self.tasks.push(Task::Place { app, order });
            }
        }
    }
}

/// Whether what happens to its sockets here from now on stays behind.
fn is_frozen(session: &Session) -> bool {
    matches!(session.moving, Moving::Freezing { barriers: Some(_), .. })
}

impl Session {
    /// The back end's word about rooms, for a socket if it is the user's: the last one counts, and of too many the oldest are forgotten.
    fn place(&mut self, shard: &Shard, serial: u32, order: &Move) -> Option<Actor> {
        let socket = self.sockets.iter_mut().find(|socket| socket.serial == serial)?;
        socket.identity.as_ref().filter(|identity| identity.user == order.user)?;
        let app = shard.shared.app(socket.app);
        if app.name() != order.app {
            return None;
        }
        let left = order.leave.iter().map(|room| (room, false));
        for (room, inside) in order.join.iter().map(|room| (room, true)).chain(left) {
            socket.placed.retain(|placed| *placed.room != *room.as_str());
            socket.placed.push(Placed { room: room.as_str().into(), inside });
        }
        let too_many = socket.placed.len().saturating_sub(app.limits.rooms_per_socket);
        socket.placed.drain(..too_many);
        let socket = self.sockets.iter().find(|socket| socket.serial == serial)?;
        Some(Actor::of(self, socket))
    }
}
