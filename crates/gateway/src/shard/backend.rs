//! What a back end's call does, carried out on this thread: events told, messages stored and told.

use std::rc::Rc;

use cluster::TraceParent;
use dialects::{Audience, BackendAction, Command, Delivery, Join, Placed};
use domain::{Rejection, UserId};
use hub::RoomKey;
use serde_json::Value;

use super::commands::{self, Actor};
use super::emit::{Stamp, Telling};
use super::session::Entry;
use super::{Shard, State, chat};
use crate::members::{self, Move};
use crate::revocation::{self, Revoked, Terms};

/// Carries one action out; settles when what it stores is stored. Under the same stamp nothing is stored twice. Answers with what
/// the caller is told besides, and under which name.
pub async fn carry_out(
    shard: &Rc<Shard>,
    app: u16,
    action: BackendAction,
    stamp: Stamp,
    trace: Option<TraceParent>,
) -> Result<Option<(&'static str, Value)>, Rejection> {
    let namespace = &shard.shared.app(app).config.namespace;
    match action {
        BackendAction::Emit(emission) => {
            if emission.rooms.is_empty() {
                return Ok(None);
            }
            let telling = Telling {
                app,
                namespace,
                rooms: &emission.rooms,
                event: &emission.event,
                args: &emission.args,
                except: emission.except.iter().map(|id| &**id).collect(),
                receipt: None,
                trace,
            };
            match emission.delivery {
                Delivery::Ephemeral => telling.publish(shard)?,
                Delivery::Recoverable => telling.store(shard, stamp).await?,
            }
            Ok(None)
        }
        BackendAction::Post(post) => {
            let args = post.args;
            let message =
                chat::post(shard, chat::Origin { app, namespace, socket: None, trace }, *post).await?;
            let said = serde_json::from_slice(&args(&message).tail).unwrap_or_default();
            Ok(Some(("posted", said)))
        }
        BackendAction::Record(record) => {
            let seq = super::feeds::record(shard, app, &record, stamp).await?;
            Ok(Some(("seq", seq.into())))
        }
        BackendAction::Notify(notice) => {
            let said = crate::notifications::notify(shard, app, *notice, stamp).await?;
            Ok(Some(("notified", said)))
        }
        BackendAction::Fact(fact) => {
            crate::facts::learn(&shard.shared.bus, shard.shared.app(app), &fact).await?;
            Ok(None)
        }
        BackendAction::Move { user, join, leave } => {
            let name = shard.shared.app(app).name().to_owned();
            let order = Move { app: name, user, join, leave };
            let moved = members::everywhere(&shard.shared, &order).await?;
            Ok(Some(("moved", moved.into())))
        }
        BackendAction::Revoke(user) => {
            let (bus, app) = (&shard.shared.bus, shard.shared.app(app));
            let stored = revocation::revoke(bus, app, &Revoked::User(user), &Terms::default()).await;
            stored.map(|_| None).map_err(|_| Rejection::Unavailable)
        }
        BackendAction::Restore(user) => {
            let (bus, app) = (&shard.shared.bus, shard.shared.app(app));
            let stored = revocation::restore(bus, app, &Revoked::User(user)).await;
            stored.map(|_| None).map_err(|_| Rejection::Unavailable)
        }
    }
}

/// Moves a user's sockets on this thread; returns how many there are.
pub async fn move_user(shard: &Rc<Shard>, app: u16, order: &Move) -> Result<usize, Rejection> {
    let actors = shard.turn(|state, shard| state.actors_of(shard, app, &order.user));
    for actor in &actors {
        // Before anything else the client says: what it is taken out of it does not enter again.
        shard.turn(|state, shard| state.note_placing(shard, actor, order));
        let join = |room: &domain::RoomId| Join { room: room.clone(), note: None, participant: None };
        let commands = [
            (!order.join.is_empty()).then(|| Command::Join(order.join.iter().map(join).collect())),
            (!order.leave.is_empty()).then(|| Command::Leave(order.leave.clone())),
        ];
        for command in commands.into_iter().flatten() {
            let moved = commands::execute(shard, actor, command).await;
            let is_here = shard.turn(|state, _| state.socket_ix(actor).is_some());
            moved.map(drop).or_else(|rejection| if is_here { Err(rejection) } else { Ok(()) })?;
        }
    }
    Ok(actors.len())
}

impl State {
    /// The back end's word about rooms: the last one counts, and of too many the oldest are forgotten.
    fn note_placing(&mut self, shard: &Shard, actor: &Actor, order: &Move) {
        let most = shard.shared.app(actor.app).limits.rooms_per_socket;
        let Some(Entry::Live(session)) = self.sessions.get_mut(actor.session) else { return };
        let Some(socket) = session.socket_by_serial(actor.serial) else { return };
        let left = order.leave.iter().map(|room| (room, false));
        for (room, inside) in order.join.iter().map(|room| (room, true)).chain(left) {
            socket.placed.retain(|placed| *placed.room != *room.as_str());
            socket.placed.push(Placed { room: room.as_str().into(), inside });
        }
        let too_many = socket.placed.len().saturating_sub(most);
        socket.placed.drain(..too_many);
    }

    /// The user's sockets, found in the room of all devices of the user.
    fn actors_of(&mut self, shard: &Shard, app: u16, user: &UserId) -> Vec<Actor> {
        let Some(room) = shard.shared.app(app).dialect.room_of(&Audience::User(user.clone())) else {
            return Vec::new();
        };
        let targets: Vec<_> = self.hub.members(&RoomKey::new(app, room.as_str())).collect();
        let actor = |target: super::session::Target| match self.sessions.get_mut(target.session)? {
            Entry::Live(session) => {
                let socket = session.sockets.iter().find(|socket| socket.serial == target.serial)?;
                socket.identity.as_ref().filter(|identity| identity.user == *user)?;
                Some(Actor::of(session, socket))
            }
            Entry::Arriving(_) | Entry::Out => None,
        };
        targets.into_iter().filter_map(actor).collect()
    }
}
