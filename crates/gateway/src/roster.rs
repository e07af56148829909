//! Who takes part in a room, across the cluster: one record per room, node and thread in the application's bucket,
//! rewritten when its list changes. Records of nodes without a lease count as absent and are removed by who reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bus::Bus;
use bytes::Bytes;
use cluster::sid::NodeId;
use cluster::subject::escape_token;
use dialects::Participant;
use hub::RoomKey;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::app::App;
use crate::lease::Nodes;
use crate::node::Unavailable;

/// One thread's participants and the records it keeps of them. Owned by its shard.
#[derive(Debug, Default)]
pub struct Roster {
    rooms: FxHashMap<RoomKey, Room>,
}

#[derive(Debug, Default)]
struct Room {
    /// How many sockets of this thread stand behind each.
    here: BTreeMap<Participant, usize>,
    /// Ids of long rooms are hashed in the key; the record holds the full one.
    write: Write,
    waiting: Vec<oneshot::Sender<Result<(), Unavailable>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Write {
    #[default]
    Clean,
    UnderWay,
    /// Changed since the write under way began.
    Stale,
}

/// What one record holds.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Record {
    room: String,
    list: Vec<Participant>,
}

/// A record to write; `None`: to remove.
#[derive(Debug)]
pub struct Change {
    pub room: RoomKey,
    value: Option<Bytes>,
}

impl Roster {
    /// Adds a socket. The receiver settles once the record is written; `None`: it was listed already. A change must be written
    /// with [`write`], and its end told to [`Roster::written`].
    pub fn add(
        &mut self,
        room: &RoomKey,
        who: &Participant,
    ) -> (Option<Change>, oneshot::Receiver<Result<(), Unavailable>>) {
        let (done, settled) = oneshot::channel();
        let entry = self.rooms.entry(room.clone()).or_default();
        let count = entry.here.entry(who.clone()).or_default();
        *count += 1;
        if *count > 1 && entry.write == Write::Clean {
            // Nobody listens any more if this fails.
            let _ = done.send(Ok(()));
            return (None, settled);
        }
        entry.waiting.push(done);
        (self.change(room), settled)
    }

    /// Takes a socket away.
    pub fn remove(&mut self, room: &RoomKey, who: &Participant) -> Option<Change> {
        let entry = self.rooms.get_mut(room)?;
        let count = entry.here.get_mut(who)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        entry.here.remove(who);
        self.change(room)
    }

    /// A write has ended. Returns the next one where the list has changed meanwhile.
    pub fn written(&mut self, room: &RoomKey, result: Result<(), Unavailable>) -> Option<Change> {
        let entry = self.rooms.get_mut(room)?;
        let before = std::mem::take(&mut entry.write);
        if before == Write::Stale {
            return self.change(room);
        }
        for waiting in entry.waiting.drain(..) {
            // Whoever waited may have left.
            let _ = waiting.send(result);
        }
        if entry.here.is_empty() {
            self.rooms.remove(room);
        }
        None
    }

    /// One write per room at a time; what changes meanwhile goes into the next.
    fn change(&mut self, room: &RoomKey) -> Option<Change> {
        let entry = self.rooms.get_mut(room)?;
        if entry.write != Write::Clean {
            entry.write = Write::Stale;
            return None;
        }
        entry.write = Write::UnderWay;
        let list: Vec<Participant> = entry.here.keys().cloned().collect();
        let record = Record { room: room.room.to_string(), list };
        let value =
            (!record.list.is_empty()).then(|| serde_json::to_vec(&record).expect("strings serialize").into());
        Some(Change { room: room.clone(), value })
    }
}

/// Where a thread's records stand.
#[derive(Clone, Debug)]
pub struct RosterStore {
    pub bus: Bus,
    pub node: NodeId,
    pub shard: u8,
    pub nodes: Nodes,
}

impl RosterStore {
    /// Writes or removes one record.
    pub async fn write(&self, app: &App, change: Change) -> Result<(), Unavailable> {
        let key = format!("{}.{}.{}", escape_token(&change.room.room), self.node, self.shard);
        let result = match change.value {
            Some(value) => self.bus.kv_put(&app.roster, &key, value, None, None).await,
            None => self.bus.kv_delete(&app.roster, &key, None).await,
        };
        result.map(drop).map_err(|error| {
            tracing::warn!(%error, app = app.name(), "a room's participants were not written");
            Unavailable
        })
    }

    /// Everybody in the room, each once, at most `limit`.
    pub async fn list(&self, app: &App, room: &str, limit: usize) -> Result<Vec<Participant>, Unavailable> {
        let filter = format!("{}.>", escape_token(room));
        let entries = self.bus.kv_list(&app.roster, &filter).await.map_err(|error| {
            tracing::warn!(%error, app = app.name(), "a room's participants were not read");
            Unavailable
        })?;
        let live = Arc::clone(&self.nodes.borrow());
        let mut everybody = BTreeSet::new();
        for entry in entries {
            let Some(value) = entry.value else { continue };
            let node = entry.key.split('.').nth(1).and_then(NodeId::parse);
            if !node.is_some_and(|node| live.contains(&node)) {
                self.sweep(app, entry.key, entry.rev);
                continue;
            }
            let Ok(record) = serde_json::from_slice::<Record>(&value) else { continue };
            if record.room == room {
                everybody.extend(record.list);
            }
        }
        Ok(everybody.into_iter().take(limit).collect())
    }

    /// Removes a dead node's record, unless it was written since. A node that is only unknown here yet (its lease is younger
    /// than our watch) is protected by that too: it has just written.
    fn sweep(&self, app: &App, key: String, rev: u64) {
        let (bus, bucket, nodes) = (self.bus.clone(), app.roster.clone(), self.nodes.clone());
        tokio::task::spawn_local(async move {
            tokio::time::sleep(crate::lease::TTL).await;
            let node = key.split('.').nth(1).and_then(NodeId::parse);
            if !node.is_some_and(|node| nodes.borrow().contains(&node)) {
                // Somebody else swept it, or it was written again.
                let _ = bus.kv_delete(&bucket, &key, Some(rev)).await;
            }
        });
    }
}
