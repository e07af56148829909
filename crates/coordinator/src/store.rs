//! The two buckets of an application: what a plan asks to load and to commit.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bus::kv::{kv_append, kv_delete_append, stream_of, subject_of};
use bus::{Append, AppendError, Bus, KvEntry, ReadError, header_value};
use bytes::Bytes;
use cluster::coordination::{
    call_key, calls_bucket, decode, devices_filter, presence_bucket, presence_key, user_calls_key,
};
use domain::UserId;
use domain::call::CallId;
use domain::presence::DeviceRecord;
use futures_util::future::{join_all, try_join_all};
use serde::de::DeserializeOwned;

use crate::plan::{Commit, Entry, Key, Known, Write, Written};
use crate::timers;

/// A listing that does not show the change it was made for comes from a replica that lags: asked again this often, with this pause.
const LAGGING_TRIES: usize = 50;
const LAGGING_PAUSE: Duration = Duration::from_millis(20);

/// Keys of one read: with a few devices for each user far below the 1024 records that one answer may hold.
const FILTERS_PER_READ: usize = 250;

/// Nothing could be read or written in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

/// Why a commit was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// A key has changed since it was read; or this very write was stored, and its answer lost.
    Conflict,
    /// Perhaps stored, perhaps not.
    Unavailable,
}

/// The buckets of one application.
#[derive(Clone, Debug)]
pub struct Store {
    bus: Bus,
    app: String,
    calls: String,
    presence: String,
    /// One replica: every read sees every acked write.
    single: bool,
}

impl Store {
    pub fn new(bus: Bus, app: &str, single: bool) -> Self {
        Self { bus, app: app.to_owned(), calls: calls_bucket(app), presence: presence_bucket(app), single }
    }

    /// What a command begins with.
    pub fn nothing_known(&self) -> Known {
        Known { fresh: self.single, ..Known::default() }
    }

    /// Reads `keys` into `known`, where every acked write is seen if `known` is to be fresh; the devices always so.
    pub async fn load(&self, known: &mut Known, keys: Vec<Key>) -> Result<(), Unavailable> {
        let of_calls = |key: &Key| matches!(key, Key::Call(_) | Key::UserCalls(_));
        let (calls, presence): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(of_calls);
        if self.single {
            let (of_calls, of_presence) = tokio::try_join!(self.together(&calls), self.together(&presence))?;
            self.remember_all(known, &calls, &of_calls)?;
            return self.remember_all(known, &presence, &of_presence);
        }
        self.load_each(known, &calls).await?;
        self.load_each(known, &presence).await
    }

    /// One request for all keys, which are of one bucket: what it holds at one moment.
    async fn together(&self, keys: &[Key]) -> Result<Vec<KvEntry>, Unavailable> {
        let Some((bucket, _)) = keys.first().map(|key| self.place(key)) else { return Ok(Vec::new()) };
        if let [key @ (Key::Call(_) | Key::UserCalls(_) | Key::Presence(_))] = keys {
            let entry = self.bus.kv_get(bucket, &self.place(key).1).await;
            return Ok(entry.map_err(|error| self.unread(&error))?.into_iter().collect());
        }
        let mut filters: Vec<String> = keys.iter().map(|key| self.place(key).1).collect();
        filters.sort_unstable();
        filters.dedup();
        self.list(bucket, &filters).await
    }

    fn remember_all(&self, known: &mut Known, keys: &[Key], entries: &[KvEntry]) -> Result<(), Unavailable> {
        let by_key: BTreeMap<&str, &KvEntry> = entries.iter().map(|entry| (&*entry.key, entry)).collect();
        for key in keys {
            let (_, name) = self.place(key);
            match key {
                Key::Devices(user) => {
                    let prefix = name.trim_end_matches('>');
                    let after = by_key.range(prefix..).map(|(_, entry)| *entry);
                    let records =
                        self.records(user, after.take_while(|entry| entry.key.starts_with(prefix)))?;
                    known.devices.insert(user.clone(), records);
                }
                key => self.remember(known, key, by_key.get(&*name).map(|entry| (*entry).clone()))?,
            }
        }
        Ok(())
    }

    /// Listings of more records than one answer holds are read one by one.
    async fn list(&self, bucket: &str, filters: &[String]) -> Result<Vec<KvEntry>, Unavailable> {
        let mut all = Vec::new();
        for some in filters.chunks(FILTERS_PER_READ) {
            match self.bus.kv_list_many(bucket, some).await {
                Err(ReadError::TooMany) => {
                    for filter in some {
                        let listed = self.bus.kv_list_marked(bucket, filter).await;
                        all.extend(listed.map_err(|error| self.unread(&error))?);
                    }
                }
                listed => all.extend(listed.map_err(|error| self.unread(&error))?),
            }
        }
        Ok(all)
    }

    /// Where replicas may lag: single keys at the leader if `known` is to be fresh, listings with proof that they are.
    async fn load_each(&self, known: &mut Known, keys: &[Key]) -> Result<(), Unavailable> {
        let reads = keys.iter().filter(|key| !matches!(key, Key::Devices(_)));
        let entries = if known.fresh {
            try_join_all(reads.map(|key| self.read_at_leader(key))).await?
        } else {
            self.read_any(reads.cloned().collect()).await?
        };
        for (key, entry) in entries {
            self.remember(known, &key, entry)?;
        }
        let users = keys.iter().filter_map(|key| match key {
            Key::Devices(user) => Some(user),
            _ => None,
        });
        let listed = users.map(async |user| Ok((user.clone(), self.devices(user).await?)));
        known.devices.extend(try_join_all(listed).await?);
        Ok(())
    }

    /// Reservations and the timer, all at once. Returns the new revisions.
    pub async fn reserve(
        &self,
        before: &[Write],
        timer: Option<&(CallId, u64)>,
        deadline: Instant,
    ) -> Result<Vec<u64>, NotStored> {
        let timer = async {
            match timer {
                Some((call, at_ms)) => self.set_timer(call, *at_ms, deadline).await,
                None => Ok(()),
            }
        };
        let before = before.iter().map(|write| self.append(self.message(write), deadline));
        let (reserved, timed) = tokio::join!(join_all(before), timer);
        let reserved = reserved.into_iter().collect::<Result<Vec<u64>, _>>()?;
        timed.map_err(|Unavailable| NotStored::Unavailable)?;
        Ok(reserved)
    }

    /// Carries a commit out. `Ok`: it is committed.
    pub async fn commit(&self, commit: &Commit, deadline: Instant) -> Result<Written, NotStored> {
        let reserved = self.reserve(&commit.before, commit.timer.as_ref(), deadline).await?;
        let point = self.append(self.message(&commit.point), deadline).await?;
        let after = commit.after.iter().map(|write| self.append(self.message(write), deadline));
        let after = join_all(after).await;
        let mut written = Written { point, ..Written::default() };
        let stored =
            commit.before.iter().zip(reserved.into_iter().map(Ok)).chain(commit.after.iter().zip(after));
        for (write, stored) in stored {
            let Some(user) = write.key.user_calls().cloned() else { continue };
            match stored {
                Ok(rev) => drop(written.users.insert(user, rev)),
                Err(_) => written.late.push(user),
            }
        }
        Ok(written)
    }

    /// The first before the others: who conflicts on it has written nothing.
    pub async fn write(&self, writes: &[Write], deadline: Instant) -> Result<(), NotStored> {
        let Some((first, rest)) = writes.split_first() else { return Ok(()) };
        self.append(self.message(first), deadline).await?;
        let rest = rest.iter().map(|write| self.append(self.message(write), deadline));
        join_all(rest).await.into_iter().try_for_each(|stored| stored.map(drop))
    }

    /// Setting it again does no harm.
    pub async fn set_timer(&self, call: &CallId, at_ms: u64, deadline: Instant) -> Result<(), Unavailable> {
        let timer = timers::schedule(&self.app, call, at_ms);
        self.append(timer, deadline).await.map(drop).map_err(|_| Unavailable)
    }

    async fn append(&self, message: Append, deadline: Instant) -> Result<u64, NotStored> {
        match self.bus.append(message, deadline).await {
            Ok(seq) => Ok(seq),
            Err(AppendError::Conflict { .. }) => Err(NotStored::Conflict),
            Err(error) => {
                tracing::warn!(%error, app = self.app, "a decision was not stored");
                Err(NotStored::Unavailable)
            }
        }
    }

    fn message(&self, write: &Write) -> Append {
        let (bucket, key) = self.place(&write.key);
        match &write.value {
            Some(value) => {
                let ttl = write.ttl_ms.map(Duration::from_millis);
                kv_append(bucket, &key, value.clone(), ttl, Some(write.expect))
            }
            None => kv_delete_append(bucket, &key, Some(write.expect)),
        }
    }

    fn place(&self, key: &Key) -> (&str, String) {
        match key {
            Key::Call(call) => (&self.calls, call_key(call)),
            Key::UserCalls(user) => (&self.calls, user_calls_key(user)),
            Key::Presence(user) => (&self.presence, presence_key(user)),
            Key::Devices(user) => (&self.presence, devices_filter(user)),
        }
    }

    async fn read_at_leader(&self, key: &Key) -> Result<(Key, Option<KvEntry>), Unavailable> {
        let (bucket, name) = self.place(key);
        let entry = self.bus.kv_get_at_leader(bucket, &name).await.map_err(|error| self.unread(&error))?;
        Ok((key.clone(), entry))
    }

    /// One request; all keys are of one bucket.
    async fn read_any(&self, keys: Vec<Key>) -> Result<Vec<(Key, Option<KvEntry>)>, Unavailable> {
        let Some((bucket, _)) = keys.first().map(|key| self.place(key)) else { return Ok(Vec::new()) };
        let names: Vec<String> = keys.iter().map(|key| self.place(key).1).collect();
        let entries = self.bus.kv_get_many(bucket, &names).await.map_err(|error| self.unread(&error))?;
        let found = |name: String| entries.iter().find(|entry| entry.key == name).cloned();
        Ok(keys.into_iter().zip(names.into_iter().map(found)).collect())
    }

    fn remember(&self, known: &mut Known, key: &Key, entry: Option<KvEntry>) -> Result<(), Unavailable> {
        match key {
            Key::Call(call) => {
                known.calls.insert(call.clone(), self.decoded(entry)?);
            }
            Key::UserCalls(user) => {
                known.users.insert(user.clone(), self.decoded(entry)?);
            }
            Key::Presence(user) => {
                known.presences.insert(user.clone(), self.decoded(entry)?);
            }
            Key::Devices(_) => {}
        }
        Ok(())
    }

    fn decoded<T: DeserializeOwned>(&self, entry: Option<KvEntry>) -> Result<Entry<T>, Unavailable> {
        let Some(entry) = entry else { return Ok(Entry::default()) };
        let value = entry.value.map(|bytes| self.decode(&entry.key, &bytes)).transpose()?;
        Ok(Entry { value, rev: entry.rev, at_ms: entry.time_ms })
    }

    fn decode<T: DeserializeOwned>(&self, key: &str, bytes: &[u8]) -> Result<T, Unavailable> {
        decode(bytes).map_err(|error| {
            tracing::error!(%error, app = self.app, key, "a record cannot be read: is it of a newer version?");
            Unavailable
        })
    }

    /// Every change that was acked before the call is in it.
    async fn devices(&self, user: &UserId) -> Result<Vec<DeviceRecord>, Unavailable> {
        let filter = devices_filter(user);
        let newest = self.newest(&filter).await?;
        let mut tries = 0;
        let entries = loop {
            let listed = self.bus.kv_list_marked(&self.presence, &filter).await;
            let entries = listed.map_err(|error| self.unread(&error))?;
            if newest.as_ref().is_none_or(|newest| shows(&entries, newest)) {
                break entries;
            }
            tries += 1;
            if tries == LAGGING_TRIES {
                tracing::warn!(app = self.app, "a replica of the device records lags behind for too long");
                return Err(Unavailable);
            }
            tokio::time::sleep(LAGGING_PAUSE).await;
        };
        self.records(user, entries.iter())
    }

    /// Those of the user: ids of long ones are hashed in the key.
    fn records<'a>(
        &self,
        user: &UserId,
        entries: impl Iterator<Item = &'a KvEntry>,
    ) -> Result<Vec<DeviceRecord>, Unavailable> {
        let values = entries.filter_map(|entry| Some((&entry.key, entry.value.as_ref()?)));
        let records = values.map(|(key, value)| self.decode::<DeviceRecord>(key, value));
        Ok(records.collect::<Result<Vec<_>, _>>()?.into_iter().filter(|r| r.user == *user).collect())
    }

    /// The last change of any key of the presence bucket that matches, as its leader knows it.
    async fn newest(&self, filter: &str) -> Result<Option<Newest>, Unavailable> {
        let stream = stream_of(&self.presence);
        let subject = subject_of(&self.presence, filter);
        let last =
            self.bus.get_last_at_leader(&stream, &subject).await.map_err(|error| self.unread(&error))?;
        Ok(last.map(|last| Newest {
            key: last.subject.strip_prefix(&subject_of(&self.presence, "")).unwrap_or_default().to_owned(),
            seq: last.seq,
        }))
    }

    fn unread(&self, error: &ReadError) -> Unavailable {
        tracing::warn!(%error, app = self.app, "a record was not read");
        Unavailable
    }
}

/// A change that a listing must show.
struct Newest {
    key: String,
    seq: u64,
}

/// Replicas apply writes in order: one that shows this change, or a later one, shows all before it. Deletions are listed too; their
/// markers are gone only minutes later.
fn shows(entries: &[KvEntry], newest: &Newest) -> bool {
    entries.iter().any(|entry| entry.key == newest.key && entry.rev >= newest.seq)
}

/// A deletion, by somebody or by the server.
pub fn is_marker(headers: &[u8]) -> bool {
    header_value(headers, "KV-Operation").is_some() || header_value(headers, "Nats-Marker-Reason").is_some()
}

/// The subject of a key of the calls bucket; for consumers.
pub fn calls_subject(app: &str, key: &str) -> String {
    subject_of(&calls_bucket(app), key)
}

/// The same of the presence bucket.
pub fn presence_subject(app: &str, key: &str) -> String {
    subject_of(&presence_bucket(app), key)
}

/// A record's bytes, for followers.
pub fn read<T: DeserializeOwned>(bytes: &Bytes) -> Option<T> {
    decode(bytes).ok()
}
