//! What is to be seen of other users: read from the coordinators' records, and watched in rooms that no client can name.

use std::collections::BTreeSet;
use std::rc::Rc;

use cluster::coordination;
use dialects::{Outcome, Watch};
use domain::call::is_call_room;
use domain::presence::{Choice, Presence, Status, is_watchers_room, watchers_room};
use domain::{Rejection, UserId};
use hub::{RoomKey, SocketIx};
use rustc_hash::FxHashMap;
use serde_json::Value;

use super::audience::is_audience;
use super::commands::{Actor, announce_to_taker, interest};
use super::{Shard, State};
use crate::node::Unavailable;

/// Whether a room is the node's own business: no client joins or leaves it, and it does not count among a socket's rooms.
pub fn is_internal(room: &str) -> bool {
    is_call_room(room) || is_watchers_room(room) || is_audience(room)
}

/// The users' presences in the order asked for. Who watches hears of every change after what is read here.
pub async fn presences(
    shard: &Rc<Shard>,
    actor: &Actor,
    users: Vec<(UserId, Value)>,
    watch: Watch,
) -> Result<Outcome, Rejection> {
    begin_watching(shard, actor, &users, watch).await?;
    let app = shard.shared.app(actor.app);
    let keys: BTreeSet<String> = users.iter().map(|(user, _)| coordination::presence_key(user)).collect();
    let keys: Vec<String> = keys.into_iter().collect();
    let entries = shard.shared.bus.kv_get_many(&app.presence, &keys).await.map_err(|error| {
        tracing::warn!(%error, app = app.name(), "presences could not be read");
        Rejection::Unavailable
    })?;
    let known: FxHashMap<UserId, Presence> =
        entries.iter().filter_map(|entry| read(entry.value.as_ref()?)).collect();
    let presences = users.into_iter().map(|(user, wire_id)| match known.get(&user) {
        Some(presence) => Presence { wire_id, ..presence.clone() },
        None => unknown(user, wire_id),
    });
    Ok(Outcome::Presences(presences.collect()))
}

fn read(value: &[u8]) -> Option<(UserId, Presence)> {
    match coordination::decode::<Presence>(value) {
        Ok(presence) => Some((presence.user.clone(), presence)),
        Err(error) => {
            tracing::warn!(%error, "a presence could not be read");
            None
        }
    }
}

/// Never seen, or of no known user: that is nobody else's business.
fn unknown(user: UserId, wire_id: Value) -> Presence {
    Presence {
        user,
        wire_id,
        choice: Choice::default(),
        status: Status::Offline,
        last_seen_ms: None,
        rev: 0,
        changed_ms: 0,
        told: Vec::new(),
    }
}

async fn begin_watching(
    shard: &Rc<Shard>,
    actor: &Actor,
    users: &[(UserId, Value)],
    watch: Watch,
) -> Result<(), Rejection> {
    let limit =
        shard.turn(|state, _| state.devices.settings(actor.app).map_or(0, |it| it.watched_per_socket));
    let added = shard.turn(|state, _| state.add_watched(actor, users, watch, limit))?;
    if added.is_empty() {
        return Ok(());
    }
    match interest(shard, added.clone()).await {
        Ok(()) => {
            announce_to_taker(shard, actor, &added, &[]).await;
            Ok(())
        }
        Err(Unavailable) => {
            shard.turn(|state, shard| state.remove_members(shard, actor, &added));
            Err(Rejection::Unavailable)
        }
    }
}

pub async fn unwatch(shard: &Rc<Shard>, actor: &Actor, users: &[UserId]) -> Outcome {
    let rooms: Vec<RoomKey> = users.iter().map(|user| room(actor.app, user)).collect();
    shard.turn(|state, shard| state.remove_members(shard, actor, &rooms));
    announce_to_taker(shard, actor, &[], &rooms).await;
    Outcome::Unwatched
}

fn room(app: u16, user: &UserId) -> RoomKey {
    RoomKey::new(app, watchers_room(user).as_str())
}

impl State {
    /// Makes the socket a watcher of those it does not watch yet; returns their rooms.
    fn add_watched(
        &mut self,
        actor: &Actor,
        users: &[(UserId, Value)],
        watch: Watch,
        limit: usize,
    ) -> Result<Vec<RoomKey>, Rejection> {
        let ix = self.socket_ix(actor).ok_or(Rejection::Unavailable)?;
        let asked: BTreeSet<RoomKey> = users.iter().map(|(user, _)| room(actor.app, user)).collect();
        let mut new: Vec<RoomKey> = asked.into_iter().filter(|room| !self.hub.contains(ix, room)).collect();
        let free = limit.saturating_sub(self.watched(ix).count());
        if new.len() > free && watch == Watch::Required {
            return Err(Rejection::OverLimit {
                what: "number of watched users",
                limit: limit as u64,
                setting: "presence.watched_per_socket",
            });
        }
        new.truncate(free);
        for room in &new {
            self.hub.join(ix, room);
        }
        Ok(new)
    }

    /// The rooms of those whom a socket watches.
    pub(super) fn watched(&self, ix: SocketIx) -> impl Iterator<Item = &RoomKey> {
        self.hub.rooms_of(ix).filter(|room| is_watchers_room(&room.room))
    }
}
