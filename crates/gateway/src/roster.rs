//! Who takes part in a room, across the cluster: one record per room, node and thread in the application's bucket,
//! rewritten when its list changes and until it was written. Records of nodes without a lease count as absent and are removed
//! by who reads them.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use cluster::sid::NodeId;
use cluster::subject::escape_token;
use dialects::Participant;
use hub::RoomKey;
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::app::App;
use crate::lease::Nodes;
use crate::node::Unavailable;
use crate::records::{self, Record, Settled};

/// A listing that lacks our own newest record comes from a replica that lags: asked again this often, with this pause.
const LAGGING_TRIES: usize = 5;
const LAGGING_REPLICA: Duration = Duration::from_millis(20);

/// Records of dead nodes that wait to be removed at most; who reads the room next finds the rest.
const MAX_SWEEPS: usize = 1024;

/// One thread's participants and the records it keeps of them. Owned by its shard.
#[derive(Debug, Default)]
pub struct Roster {
    rooms: FxHashMap<RoomKey, Room>,
    /// Participants of one record at most, by application; without an entry: no limit.
    limits: Vec<usize>,
}

#[derive(Debug, Default)]
struct Room {
    /// How many sockets of this thread stand behind each.
    here: BTreeMap<Participant, usize>,
    record: Record<Vec<Participant>>,
}

/// What one record holds.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Content<'a> {
    /// Ids of long rooms are hashed in the key.
    room: Cow<'a, str>,
    list: Cow<'a, [Participant]>,
    /// How many more there were at the time of the write.
    #[serde(default)]
    more: usize,
}

/// A room's record to write, or to remove.
pub type Change = records::Change<RoomKey>;

impl Roster {
    /// `limits`: participants of one record at most, by application.
    pub fn new(limits: Vec<usize>) -> Self {
        Self { rooms: FxHashMap::default(), limits }
    }

    /// Adds a socket. The receiver settles once its record is written. A change must be written with [`RosterStore::write`],
    /// and its end told to [`Roster::written`].
    pub fn add(&mut self, room: &RoomKey, who: &Participant) -> (Option<Change>, oneshot::Receiver<Settled>) {
        let limit = self.limit(room);
        let entry = self.rooms.entry(room.clone()).or_default();
        let count = entry.here.entry(who.clone()).or_default();
        *count += 1;
        let is_new = *count == 1;
        let change = (is_new && entry.is_listed(who, limit)).then(|| entry.change(room, limit)).flatten();
        (change, entry.record.settled())
    }

    /// Takes a socket away.
    pub fn remove(&mut self, room: &RoomKey, who: &Participant) -> Option<Change> {
        let limit = self.limit(room);
        let entry = self.rooms.get_mut(room)?;
        let count = entry.here.get_mut(who)?;
        *count -= 1;
        if *count > 0 {
            return None;
        }
        let was_listed = entry.is_listed(who, limit);
        entry.here.remove(who);
        was_listed.then(|| entry.change(room, limit)).flatten()
    }

    /// Settles once the room's record says what this thread knows now.
    pub fn recorded(&mut self, room: &RoomKey) -> oneshot::Receiver<Settled> {
        match self.rooms.get_mut(room) {
            Some(entry) => entry.record.settled(),
            None => Record::<()>::default().settled(),
        }
    }

    /// Revision of the room's last record; 0: none.
    pub fn revision(&self, room: &RoomKey) -> u64 {
        self.rooms.get(room).map_or(0, |entry| entry.record.revision())
    }

    /// A write has ended, with its revision. Returns the next one: the list has changed meanwhile, or was not written.
    pub fn written(&mut self, change: &Change, result: Result<u64, Unavailable>) -> Option<Change> {
        let (room, limit) = (&change.of, self.limit(&change.of));
        let entry = self.rooms.get_mut(room)?;
        let (list, more) = (entry.list(limit), entry.more(limit));
        if let Some((list, pause)) = entry.record.written(change.pause, result, list) {
            return Some(change_to(room, list, more, pause));
        }
        if entry.here.is_empty() {
            self.rooms.remove(room);
        }
        None
    }

    /// Every record anew: others may have removed them while this node had no lease.
    pub fn rewrite_all(&mut self) -> Vec<Change> {
        let limits = &self.limits;
        let all = self.rooms.iter_mut().filter_map(|(room, entry)| {
            entry.change(room, limits.get(usize::from(room.app)).copied().unwrap_or(usize::MAX))
        });
        all.collect()
    }

    fn limit(&self, room: &RoomKey) -> usize {
        self.limits.get(usize::from(room.app)).copied().unwrap_or(usize::MAX)
    }
}

impl Room {
    fn list(&self, limit: usize) -> Vec<Participant> {
        self.here.keys().take(limit).cloned().collect()
    }

    /// Whether the record names this one: long lists are cut.
    fn is_listed(&self, who: &Participant, limit: usize) -> bool {
        self.here.keys().take(limit).any(|listed| listed == who)
    }

    /// How many the record leaves out.
    fn more(&self, limit: usize) -> usize {
        self.here.len().saturating_sub(limit)
    }

    /// What changes while a write is under way goes into the next.
    fn change(&mut self, room: &RoomKey, limit: usize) -> Option<Change> {
        let (here, more) = (&self.here, self.more(limit));
        let list = self.record.change(|| here.keys().take(limit).cloned().collect())?;
        Some(change_to(room, list, more, Duration::ZERO))
    }
}

fn change_to(room: &RoomKey, list: &[Participant], more: usize, pause: Duration) -> Change {
    let content = Content { room: Cow::Borrowed(&room.room), list: Cow::Borrowed(list), more };
    let value = (!list.is_empty()).then(|| serde_json::to_vec(&content).expect("strings serialize").into());
    Change::new(room.clone(), value, pause)
}

/// Where a thread's records stand.
#[derive(Clone, Debug)]
pub struct RosterStore {
    pub bus: Bus,
    pub node: NodeId,
    pub shard: u8,
    pub nodes: Nodes,
    pub sweeps: Sweeps,
}

impl RosterStore {
    /// Writes or removes one record; returns its revision.
    pub async fn write(&self, app: &App, change: &Change) -> Result<u64, Unavailable> {
        let key = self.own_key(&change.of.room);
        let result = change.write(&self.bus, &app.roster, &key).await;
        result.map_err(|error| {
            tracing::warn!(%error, app = app.name(), "a room's participants were not written");
            Unavailable
        })
    }

    /// Everybody in the room, each once, at most `limit`. `own_rev`: revision of this thread's last record; a listing without
    /// it is asked for again a few times.
    pub async fn list(
        &self,
        app: &App,
        room: &str,
        limit: usize,
        own_rev: u64,
    ) -> Result<Vec<Participant>, Unavailable> {
        let filter = format!("{}.>", escape_token(room));
        let own_key = self.own_key(room);
        let mut tries = 0;
        let entries = loop {
            let entries = self.bus.kv_list(&app.roster, &filter).await.map_err(|error| {
                tracing::warn!(%error, app = app.name(), "a room's participants were not read");
                Unavailable
            })?;
            let is_new = entries.iter().any(|entry| entry.key == own_key && entry.rev >= own_rev);
            if is_new || own_rev == 0 || tries == LAGGING_TRIES {
                break entries;
            }
            tries += 1;
            tokio::time::sleep(LAGGING_REPLICA).await;
        };
        let live = Arc::clone(&self.nodes.borrow());
        let mut everybody = BTreeSet::new();
        for entry in entries {
            let Some(value) = entry.value else { continue };
            if !node_of(&entry.key).is_some_and(|node| live.contains(&node)) {
                self.sweep(app, entry.key, entry.rev);
                continue;
            }
            let Ok(content) = serde_json::from_slice::<Content<'_>>(&value) else { continue };
            if content.room == room {
                everybody.extend(content.list.into_owned());
            }
        }
        Ok(everybody.into_iter().take(limit).collect())
    }

    fn own_key(&self, room: &str) -> String {
        format!("{}.{}.{}", escape_token(room), self.node, self.shard)
    }

    /// Removes a dead node's record after a lease's time, unless it was written since. A node that is only unknown here yet
    /// (its lease is younger than our watch) is protected by that too: it has just written.
    fn sweep(&self, app: &App, key: String, rev: u64) {
        let sweep = Sweep { due: Instant::now() + crate::lease::TTL, bucket: app.roster.clone(), key, rev };
        if self.sweeps.add(sweep) {
            tokio::task::spawn_local(self.clone().run_sweeps());
        }
    }

    async fn run_sweeps(self) {
        while let Some(due) = self.sweeps.next() {
            tokio::time::sleep_until(due).await;
            let Some(sweep) = self.sweeps.take() else { return };
            if !node_of(&sweep.key).is_some_and(|node| self.nodes.borrow().contains(&node)) {
                // Somebody else swept it, or it was written again.
                let _ = self.bus.kv_delete(&sweep.bucket, &sweep.key, Some(sweep.rev)).await;
            }
        }
    }
}

/// `<room>.<node>.<shard>`.
fn node_of(key: &str) -> Option<NodeId> {
    NodeId::parse(key.split('.').nth(1)?)
}

/// Records of dead nodes that wait to be removed, each once, oldest first; one task works them off.
#[derive(Clone, Debug, Default)]
pub struct Sweeps(Rc<RefCell<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    queue: VecDeque<Sweep>,
    /// Bucket and key of what is in the queue.
    known: FxHashSet<(String, String)>,
    running: bool,
}

#[derive(Debug)]
struct Sweep {
    due: Instant,
    bucket: String,
    key: String,
    rev: u64,
}

impl Sweeps {
    /// Whether a task must be started for it.
    fn add(&self, sweep: Sweep) -> bool {
        let mut waiting = self.0.borrow_mut();
        if waiting.queue.len() >= MAX_SWEEPS
            || !waiting.known.insert((sweep.bucket.clone(), sweep.key.clone()))
        {
            return false;
        }
        waiting.queue.push_back(sweep);
        !std::mem::replace(&mut waiting.running, true)
    }

    /// When the oldest is due; `None` ends the task.
    fn next(&self) -> Option<Instant> {
        let mut waiting = self.0.borrow_mut();
        let due = waiting.queue.front().map(|sweep| sweep.due);
        waiting.running = due.is_some();
        due
    }

    fn take(&self) -> Option<Sweep> {
        let mut waiting = self.0.borrow_mut();
        let sweep = waiting.queue.pop_front()?;
        waiting.known.remove(&(sweep.bucket.clone(), sweep.key.clone()));
        Some(sweep)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn who(user: &str) -> Participant {
        Participant { user: user.into(), role: None }
    }

    fn users(change: &Change) -> Vec<String> {
        let Some(value) = &change.value else { return Vec::new() };
        let record: Content<'_> = serde_json::from_slice(value).unwrap();
        record.list.iter().map(|who| who.user.to_string()).collect()
    }

    #[test]
    fn a_join_settles_when_its_record_is_written() {
        let (mut roster, room) = (Roster::default(), RoomKey::new(0, "r"));
        let (change, mut first) = roster.add(&room, &who("a"));
        let change = change.unwrap();
        // A second socket of the same user, and another user, while the write is under way.
        let (none, mut again) = roster.add(&room, &who("a"));
        assert!(none.is_none());
        let (none, mut other) = roster.add(&room, &who("b"));
        assert!(none.is_none());
        let next = roster.written(&change, Ok(7)).unwrap();
        assert_eq!(users(&next), ["a", "b"]);
        assert!(other.try_recv().is_err() && roster.recorded(&room).try_recv().is_err());
        assert!(roster.written(&next, Ok(8)).is_none());
        for settled in [&mut first, &mut again, &mut other, &mut roster.recorded(&room)] {
            assert_eq!(settled.try_recv(), Ok(Ok(())));
        }
        assert_eq!(roster.revision(&room), 8);
    }

    #[test]
    fn a_failed_write_is_repeated_until_the_record_is_as_the_list() {
        let (mut roster, room) = (Roster::default(), RoomKey::new(0, "r"));
        let (change, mut settled) = roster.add(&room, &who("a"));
        let mut change = change.unwrap();
        for pause_ms in [100, 200, 400] {
            change = roster.written(&change, Err(Unavailable)).unwrap();
            assert_eq!(change.pause, Duration::from_millis(pause_ms));
        }
        assert_eq!(settled.try_recv(), Ok(Err(Unavailable)));
        // The one that was refused leaves: the record goes with it, however late.
        assert!(roster.remove(&room, &who("a")).is_none());
        for _ in 0..10 {
            change = roster.written(&change, Err(Unavailable)).unwrap();
        }
        assert_eq!((users(&change).len(), change.pause), (0, records::RETRY_LONGEST));
        assert!(roster.written(&change, Ok(9)).is_none());
        assert!(roster.rooms.is_empty());
    }

    #[test]
    fn a_cut_list_is_written_only_when_it_changes() {
        let (mut roster, room) = (Roster::new(vec![2]), RoomKey::new(0, "r"));
        for user in ["b", "c"] {
            let change = roster.add(&room, &who(user)).0.unwrap();
            assert!(roster.written(&change, Ok(1)).is_none());
        }
        let (none, mut settled) = roster.add(&room, &who("d"));
        assert!(none.is_none());
        assert_eq!(settled.try_recv(), Ok(Ok(())));
        let change = roster.add(&room, &who("a")).0.unwrap();
        assert_eq!(users(&change), ["a", "b"]);
        let record: Content<'_> = serde_json::from_slice(change.value.as_ref().unwrap()).unwrap();
        assert_eq!(record.more, 2);
        assert!(roster.written(&change, Ok(2)).is_none());
        assert!(roster.remove(&room, &who("c")).is_none());
        assert_eq!(roster.rewrite_all().len(), 1);
        assert!(roster.rewrite_all().is_empty(), "it is being written");
    }

    #[test]
    fn a_dead_record_waits_once_and_sweeps_are_bounded() {
        let sweeps = Sweeps::default();
        let sweep =
            |key: usize| Sweep { due: Instant::now(), bucket: "b".into(), key: key.to_string(), rev: 1 };
        assert!(sweeps.add(sweep(0)));
        assert!(!sweeps.add(sweep(0)) && sweeps.0.borrow().queue.len() == 1);
        for key in 0..2 * MAX_SWEEPS {
            assert!(!sweeps.add(sweep(key)));
        }
        assert_eq!(sweeps.0.borrow().queue.len(), MAX_SWEEPS);
        while sweeps.next().is_some() {
            sweeps.take().unwrap();
        }
        assert!(sweeps.add(sweep(0)));
    }
}
