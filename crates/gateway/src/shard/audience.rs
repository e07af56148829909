//! The rooms of everybody and of everybody with a role, for back ends. A socket with an identity enters them with its first join,
//! so that their interest, which a node that serves anybody holds already, costs no wait of its own; clients cannot name them and
//! dialects do not see them.

use std::rc::Rc;

use dialects::Outcome;
use domain::{Identity, Rejection};
use hub::{RoomKey, SocketIx};

use super::commands::{Actor, announce_to_taker, interest};
use super::session::Entry;
use super::{Shard, State};
use crate::node::Unavailable;

/// Whether a room stands for everybody, or everybody with a role.
pub fn is_audience(room: &str) -> bool {
    room == ".everyone" || room.starts_with(".role:")
}

/// The rooms that this identity belongs in. A role whose name is too long for a room has none.
fn rooms(app: u16, identity: &Identity) -> Vec<RoomKey> {
    let role = identity.role.as_deref().and_then(|role| dialects::everyone_with(role).ok());
    let rooms = std::iter::once(dialects::everyone()).chain(role);
    rooms.map(|room| RoomKey::new(app, room.as_str())).collect()
}

/// What follows from a further token: a socket that speaks for another role is counted and found as such.
pub async fn after_token(
    shard: &Rc<Shard>,
    actor: &Actor,
    outcome: Result<Outcome, Rejection>,
) -> Result<Outcome, Rejection> {
    if let Ok(Outcome::Verified(identity)) = &outcome {
        shard.turn(|state, shard| state.count_again(shard, actor));
        refresh(shard, actor, identity).await.map_err(|Unavailable| Rejection::Unavailable)?;
    }
    outcome
}

/// A socket enters the room of its new role and leaves that of the old one.
async fn refresh(shard: &Rc<Shard>, actor: &Actor, identity: &Identity) -> Result<(), Unavailable> {
    let wanted = rooms(actor.app, identity);
    let (new, old) = shard.turn(|state, _| state.audience_change(actor, &wanted));
    if !new.is_empty()
        && let Err(Unavailable) = interest(shard, new.clone()).await
    {
        shard.turn(|state, shard| state.remove_members(shard, actor, &new));
        return Err(Unavailable);
    }
    shard.turn(|state, shard| state.remove_members(shard, actor, &old));
    if !(new.is_empty() && old.is_empty()) {
        announce_to_taker(shard, actor, &new, &old).await;
    }
    Ok(())
}

impl State {
    /// The audiences that a socket is to enter with the join under way: none once it is in them.
    pub(super) fn audiences_to_enter(&mut self, actor: &Actor) -> Vec<RoomKey> {
        let Some(Entry::Live(session)) = self.sessions.get_mut(actor.session) else { return Vec::new() };
        let Some(socket) = session.socket_by_serial(actor.serial) else { return Vec::new() };
        let (Some(identity), ix) = (socket.identity.clone(), socket.ix) else { return Vec::new() };
        if self.hub.contains(ix, &RoomKey::new(actor.app, dialects::everyone().as_str())) {
            return Vec::new();
        }
        rooms(actor.app, &identity)
    }

    /// Joins what is wanted; returns what was new, and what is no longer wanted and still to be left.
    fn audience_change(&mut self, actor: &Actor, wanted: &[RoomKey]) -> (Vec<RoomKey>, Vec<RoomKey>) {
        let Some(ix) = self.socket_ix(actor) else { return Default::default() };
        let new: Vec<RoomKey> = wanted.iter().filter(|key| !self.hub.contains(ix, key)).cloned().collect();
        let old = self.audiences(ix).filter(|key| !wanted.contains(key)).cloned().collect();
        for room in &new {
            self.hub.join(ix, room);
        }
        (new, old)
    }

    pub(super) fn audiences(&self, ix: SocketIx) -> impl Iterator<Item = &RoomKey> {
        self.hub.rooms_of(ix).filter(|room| is_audience(&room.room))
    }
}
