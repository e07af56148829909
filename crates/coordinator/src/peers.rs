//! What replicas tell each other: the records they have written, and which messages followers need not work off, because somebody has
//! seen to what they ask for. Told once and without confirmation: who did not hear of a record reads it, and who did not hear that there
//! is nothing to do looks. What is remembered may be old, as what a lagging replica of the stream shows: only a commit may follow from it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::{Bus, BusError, Heard};
use bytes::Bytes;
use cluster::coordination::{call_key, decode, encode, subject, user_calls_key};
use domain::call::{self, Act, Command, UserCalls};
use rustc_hash::FxBuildHasher;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::plan::{CallRecord, Care, Claim, Claims, Entry, Key, Known};

/// What is told gathers for this long: far below what followers wait for it.
const GATHER: Duration = Duration::from_millis(20);
/// Bytes of records in one message: what else was written is read.
const MESSAGE_BYTES: usize = 256 * 1024;
/// Bytes of one record that is worth remembering: those of large conferences are read.
const RECORD_BYTES: usize = 32 * 1024;
/// Claims that are remembered for each bucket: half a minute of the busiest system.
const REMEMBERED: usize = 65_536;
/// Records that are remembered, and their bytes.
const RECORDS: usize = 8_192;
const RECORDS_BYTES: usize = 16 * 1024 * 1024;

/// What this replica knows to be finished and remembers of records, of one application.
#[derive(Debug)]
pub struct Peers {
    bus: Bus,
    subject: String,
    /// This replica among those of the application.
    me: u64,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug)]
struct State {
    calls: Claims,
    /// Presence records whose announcement is stored.
    told: Claims,
    records: Records,
    unsaid: Said,
    /// Bytes of the records in it.
    unsaid_bytes: usize,
}

/// One message. Sequences of the two buckets.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Said {
    by: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    calls: Vec<(u64, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    told: Vec<u64>,
    /// Keys of the calls' bucket, revisions, what is stored; without it: deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    records: Vec<(String, u64, Option<Bytes>)>,
}

fn size(value: &Option<Bytes>) -> usize {
    value.as_ref().map_or(0, Bytes::len)
}

/// What was written last to keys of the calls' bucket, the newest only.
#[derive(Debug, Default)]
struct Records {
    by_key: HashMap<String, (u64, Option<Bytes>), FxBuildHasher>,
    order: VecDeque<String>,
    bytes: usize,
}

impl Records {
    fn note(&mut self, key: String, rev: u64, value: Option<Bytes>) {
        if let Some(known) = self.by_key.get_mut(&key) {
            if known.0 < rev {
                self.bytes = self.bytes + size(&value) - size(&known.1);
                *known = (rev, value);
            }
        } else {
            self.bytes += size(&value);
            self.order.push_back(key.clone());
            self.by_key.insert(key, (rev, value));
        }
        while self.order.len() > RECORDS || self.bytes > RECORDS_BYTES {
            let Some((_, forgotten)) = self.order.pop_front().and_then(|oldest| self.by_key.remove(&oldest))
            else {
                return;
            };
            self.bytes -= size(&forgotten);
        }
    }

    fn forget(&mut self, key: &str) {
        if let Some((_, value)) = self.by_key.remove(key) {
            self.bytes -= size(&value);
            self.order.retain(|known| known != key);
        }
    }

    /// `None`: nothing is remembered, or it cannot be read.
    fn get<T: DeserializeOwned>(&self, key: &str) -> Option<Entry<T>> {
        let (rev, value) = self.by_key.get(key)?;
        let value = match value {
            Some(bytes) => Some(decode::<T>(bytes).ok()?),
            None => None,
        };
        // When it was written does not matter to a commit.
        Some(Entry { value, rev: *rev, at_ms: 0 })
    }
}

impl Peers {
    /// Hears the others and tells them until the runtime ends.
    pub fn start(bus: &Bus, app: &str) -> Result<Arc<Self>, BusError> {
        let subject = format!("{}.finished", subject(app));
        let heard = bus.hear(&subject)?;
        let peers = Arc::new(Self {
            bus: bus.clone(),
            subject,
            me: rand::random(),
            state: Mutex::new(State {
                calls: Claims::new(REMEMBERED),
                told: Claims::new(REMEMBERED),
                records: Records::default(),
                unsaid: Said::default(),
                unsaid_bytes: 0,
            }),
            news: Notify::new(),
        });
        tokio::spawn(peers.clone().hear(heard));
        tokio::spawn(peers.clone().tell());
        Ok(peers)
    }

    /// What was written for a call, and told. The answer to a call that rings may come at once, to another replica; the rest is told with
    /// what comes next.
    pub fn share(&self, care: &Care) {
        let claim = care.record();
        let records = care.records().map(|(key, rev, value)| (key, rev, value.cloned()));
        let mut state = self.state();
        claim.into_iter().for_each(|claim| state.calls.add(claim));
        state.unsaid.calls.extend(claim.map(|claim| (claim.seq, claim.after)));
        for (key, rev, value) in records.filter(|(_, _, value)| size(value) <= RECORD_BYTES) {
            state.records.note(key.clone(), rev, value.clone());
            if state.unsaid_bytes < MESSAGE_BYTES {
                state.unsaid_bytes += size(&value);
                state.unsaid.records.push((key, rev, value));
            }
        }
        drop(state);
        if care.rings() {
            self.publish();
        } else {
            self.news.notify_one();
        }
    }

    /// What is remembered of what a client's command needs. It may be old; of a call that is about to begin it is that there is none, and
    /// of somebody of whom nothing is remembered then, that there are no other calls: mostly it is so.
    pub fn recall(&self, command: &Command) -> Option<Known> {
        let state = self.state();
        let mut known = Known::default();
        let remembered = state.records.get::<CallRecord>(&call_key(&command.call));
        let begins = matches!(command.act, Act::Initiate(_));
        let call = remembered.or_else(|| begins.then(Entry::default))?;
        let record = call.value.as_ref().map(|record| &record.call);
        for user in call::concerned(record, command) {
            let remembered = state.records.get::<UserCalls>(&user_calls_key(&user));
            if let Some(entry) = remembered.or_else(|| begins.then(Entry::default)) {
                known.users.insert(user, entry);
            }
        }
        known.calls.insert(command.call.clone(), call);
        Some(known)
    }

    /// A write of these keys has failed: what is remembered of them is old.
    pub fn mistrust<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let mut state = self.state();
        for key in keys {
            if let Some(key) = key.of_calls() {
                state.records.forget(&key);
            }
        }
    }

    /// For a message of the calls' bucket there is nothing to do.
    pub fn claim(&self, claims: impl IntoIterator<Item = Claim>) {
        let mut state = self.state();
        for claim in claims {
            state.calls.add(claim);
            state.unsaid.calls.push((claim.seq, claim.after));
        }
        self.news.notify_one();
    }

    /// What the presence record with this sequence announces is stored.
    pub fn told(&self, seq: u64) {
        let mut state = self.state();
        state.told.add(Claim { seq, after: 0 });
        state.unsaid.told.push(seq);
        self.news.notify_one();
    }

    pub fn is_finished(&self, seq: u64) -> bool {
        self.state().calls.is_finished(seq)
    }

    pub fn is_told(&self, seq: u64) -> bool {
        self.state().told.is_finished(seq)
    }

    /// The buckets may have been made anew, and their sequences begin again.
    pub fn forget(&self) {
        let mut state = self.state();
        state.calls.forget_all();
        state.told.forget_all();
        state.records = Records::default();
        state.unsaid = Said::default();
        state.unsaid_bytes = 0;
    }

    async fn tell(self: Arc<Self>) {
        loop {
            self.news.notified().await;
            tokio::time::sleep(GATHER).await;
            self.publish();
        }
    }

    fn publish(&self) {
        let mut state = self.state();
        let said = std::mem::take(&mut state.unsaid);
        state.unsaid_bytes = 0;
        drop(state);
        if said.calls.is_empty() && said.told.is_empty() && said.records.is_empty() {
            return;
        }
        if let Err(error) = self.bus.publish(&self.subject, encode(&Said { by: self.me, ..said })) {
            tracing::debug!(%error, "other replicas do not hear what was done");
        }
    }

    async fn hear(self: Arc<Self>, mut heard: Heard) {
        loop {
            let payload = heard.next().await;
            match decode::<Said>(&payload) {
                Ok(said) if said.by != self.me => {
                    let mut state = self.state();
                    said.calls.into_iter().for_each(|(seq, after)| state.calls.add(Claim { seq, after }));
                    said.told.into_iter().for_each(|seq| state.told.add(Claim { seq, after: 0 }));
                    for (key, rev, value) in said.records {
                        state.records.note(key, rev, value);
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "what another replica has finished could not be read"),
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_of_a_record_is_remembered_and_only_so_many_bytes() {
        let mut records = Records::default();
        let big = || Some(Bytes::from(vec![0; RECORD_BYTES]));
        records.note("u.a".to_owned(), 5, None);
        records.note("u.a".to_owned(), 4, big());
        assert_eq!((records.by_key["u.a"].clone(), records.bytes), ((5, None), 0));
        for rev in 6..6 + 2 * (RECORDS_BYTES / RECORD_BYTES) as u64 {
            records.note(format!("c.{rev}"), rev, big());
        }
        assert_eq!(records.bytes, RECORDS_BYTES);
        assert_eq!((records.order.len(), records.by_key.len()), (512, 512));
        assert!(!records.by_key.contains_key("u.a"), "the oldest goes first");
    }
}
