//! The two buckets and the event stream, as NATS keeps them: one sequence per bucket, compare-and-set on a key, only the newest revision of a key to read or to follow, replicas that lag.

use std::collections::{BTreeMap, BTreeSet};

use cluster::coordination::decode;
use coordinator::plan::{CallRecord, Entry, Key, Of, PresenceRecord, Tell, Told, Write};
use domain::UserId;
use domain::call::{Call, CallId, UserCalls};
use domain::presence::DeviceRecord;

use crate::Millis;
use crate::sim::unix;

/// A key of the calls' bucket, or of presence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum At {
    Call(CallId),
    User(UserId),
    /// A fired timer.
    Due(CallId, u64),
    Presence(UserId),
    /// Of one life of a gateway.
    Device(UserId, String),
}

impl At {
    pub fn of(key: &Key) -> Self {
        match key {
            Key::Call(call) => Self::Call(call.clone()),
            Key::UserCalls(user) => Self::User(user.clone()),
            Key::Presence(user) => Self::Presence(user.clone()),
            Key::Devices(_) => unreachable!("a plan writes no device records"),
        }
    }

    fn bucket(&self) -> usize {
        usize::from(matches!(self, Self::Presence(_) | Self::Device(..)))
    }
}

#[derive(Clone, Debug)]
pub enum Value {
    Call(Box<CallRecord>),
    User(UserCalls),
    Due(u64),
    Presence(Box<PresenceRecord>),
    Device(DeviceRecord),
}

#[derive(Clone, Debug)]
pub struct Stored {
    pub rev: u64,
    pub value: Option<Value>,
    pub at_ms: Millis,
    /// Says when a swept device was last there.
    pub gone_ms: Option<u64>,
}

#[derive(Debug, Default)]
pub struct Store {
    seq: [u64; 2],
    /// Every revision, the oldest first.
    keys: BTreeMap<At, Vec<Stored>>,
    /// The event stream.
    pub told: Vec<(Of, Told)>,
    guards: BTreeSet<(String, u64)>,
}

impl Store {
    /// Whether it was stored. Without `checked` nothing is compared: a broken store.
    pub fn write(&mut self, write: &Write, now: Millis, checked: bool) -> bool {
        let at = At::of(&write.key);
        if checked && self.rev(&at) != write.expect {
            return false;
        }
        let value = write.value.as_ref().map(|bytes| match &at {
            At::Call(_) => Value::Call(decode(bytes).expect("a record")),
            At::User(_) => Value::User(decode(bytes).expect("a record")),
            _ => Value::Presence(decode(bytes).expect("a record")),
        });
        self.put(at, value, now, None);
        true
    }

    pub fn put(&mut self, at: At, value: Option<Value>, now: Millis, gone_ms: Option<u64>) -> u64 {
        let seq = &mut self.seq[at.bucket()];
        *seq += 1;
        let stored = Stored { rev: *seq, value, at_ms: now, gone_ms };
        self.keys.entry(at).or_default().push(stored);
        *seq
    }

    /// Sequences of the calls' bucket and of presence.
    pub fn seqs(&self) -> [u64; 2] {
        self.seq
    }

    pub fn rev(&self, at: &At) -> u64 {
        self.newest(at).map_or(0, |stored| stored.rev)
    }

    pub fn previous(&self, at: &At) -> Option<&Stored> {
        self.keys.get(at)?.iter().rev().nth(1)
    }

    pub fn newest(&self, at: &At) -> Option<&Stored> {
        self.keys.get(at)?.last()
    }

    /// As of a moment; a lagging replica shows an earlier one.
    fn as_of(&self, at: &At, moment: Millis) -> Option<&Stored> {
        let shown = |stored: &&Stored| stored.at_ms <= moment;
        self.keys.get(at)?.iter().rev().find(shown)
    }

    pub fn call(&self, call: &CallId, moment: Millis) -> Entry<CallRecord> {
        entry(self.as_of(&At::Call(call.clone()), moment), |value| match value {
            Value::Call(record) => Some(*record),
            _ => None,
        })
    }

    pub fn user(&self, user: &UserId, moment: Millis) -> Entry<UserCalls> {
        entry(self.as_of(&At::User(user.clone()), moment), |value| match value {
            Value::User(calls) => Some(calls),
            _ => None,
        })
    }

    pub fn presence(&self, user: &UserId, moment: Millis) -> Entry<PresenceRecord> {
        entry(self.as_of(&At::Presence(user.clone()), moment), |value| match value {
            Value::Presence(presence) => Some(*presence),
            _ => None,
        })
    }

    /// Listings are as fresh as the leader.
    pub fn devices(&self, user: &UserId) -> Vec<DeviceRecord> {
        let first = At::Device(user.clone(), String::new());
        let keys = self.keys.range(first..).map(|(at, _)| at);
        let own = keys.take_while(|at| matches!(at, At::Device(owner, _) if owner == user));
        own.filter_map(|at| match &self.newest(at)?.value {
            Some(Value::Device(record)) => Some(record.clone()),
            _ => None,
        })
        .collect()
    }

    /// Records of one life of a gateway, with their revisions.
    pub fn records_of(&self, node: &str) -> Vec<(At, u64)> {
        let of = |at: &At| matches!(at, At::Device(_, owner) if owner == node);
        let live = self.keys.iter().filter(|(at, _)| of(at));
        live.filter_map(|(at, all)| all.last().filter(|it| it.value.is_some()).map(|it| (at.clone(), it.rev)))
            .collect()
    }

    /// Every call as it is now; not what stands where another call was answered instead.
    pub fn calls(&self) -> impl Iterator<Item = &Call> {
        self.keys.iter().filter_map(|(at, all)| match (at, &all.last()?.value) {
            (At::Call(id), Some(Value::Call(record))) if record.call.id == *id => Some(&record.call),
            _ => None,
        })
    }

    /// The batch of one announcement; a second one finds the guard.
    pub fn tell(&mut self, tell: &Tell) {
        let of = match &tell.of {
            Of::Call(call) => format!("c{call}"),
            Of::Presence(user) => format!("p{user}"),
        };
        if self.guards.insert((of, tell.told.rev)) {
            self.told.push((tell.of.clone(), tell.told.clone()));
        }
    }
}

fn entry<T>(stored: Option<&Stored>, take: impl Fn(Value) -> Option<T>) -> Entry<T> {
    let Some(stored) = stored else { return Entry::default() };
    Entry { value: stored.value.clone().and_then(take), rev: stored.rev, at_ms: unix(stored.at_ms) }
}
