//! What was loaded for a command, with revisions.

use std::collections::BTreeMap;

use domain::UserId;
use domain::call::{CallId, UserCalls};
use domain::presence::DeviceRecord;

use cluster::coordination::{call_key, decode, user_calls_key};

use super::{Begin, CallRecord, PresenceRecord, Write};

/// A place in one of the application's two buckets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Call(CallId),
    UserCalls(UserId),
    Presence(UserId),
    /// All device records of a user; read only.
    Devices(UserId),
}

impl Key {
    /// As in the calls' bucket, if it is there.
    pub fn of_calls(&self) -> Option<String> {
        match self {
            Self::Call(call) => Some(call_key(call)),
            Self::UserCalls(user) => Some(user_calls_key(user)),
            Self::Presence(_) | Self::Devices(_) => None,
        }
    }

    pub fn user_calls(&self) -> Option<&UserId> {
        match self {
            Self::UserCalls(user) => Some(user),
            _ => None,
        }
    }
}

/// What a key holds. `rev` is the revision of the last write, a deletion included; 0: none.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry<T> {
    pub value: Option<T>,
    pub rev: u64,
    /// When that was, by the store's clock: milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl<T> Default for Entry<T> {
    fn default() -> Self {
        Self { value: None, rev: 0, at_ms: 0 }
    }
}

/// What a command knows so far.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub calls: BTreeMap<CallId, Entry<CallRecord>>,
    pub users: BTreeMap<UserId, Entry<UserCalls>>,
    pub presences: BTreeMap<UserId, Entry<PresenceRecord>>,
    pub devices: BTreeMap<UserId, Vec<DeviceRecord>>,
    /// Single keys were read where every acked write is seen. Without it only a commit may be concluded: its conditions
    /// are checked by the store.
    pub fresh: bool,
    /// The reservations that this command has made.
    pub begun: Option<Begun>,
}

/// What a [`Begin`] became.
#[derive(Clone, Debug)]
pub struct Begun {
    /// With their revisions.
    pub made: Vec<(Write, u64)>,
    pub timer: Option<(CallId, u64)>,
    pub at_ms: u64,
}

impl Begun {
    /// Whether this write is made.
    pub fn covers(&self, write: &Write) -> bool {
        self.made
            .iter()
            .any(|(made, rev)| (&made.key, &made.value, *rev) == (&write.key, &write.value, write.expect))
    }
}

impl Known {
    /// The reservations were stored, with these revisions in their order.
    pub fn begin(&mut self, begin: Begin, revs: Vec<u64>) {
        let Begin { before, timer, at_ms, .. } = begin;
        let made: Vec<(Write, u64)> = before.into_iter().zip(revs).collect();
        for (write, rev) in &made {
            if let Some(user) = write.key.user_calls() {
                let value = write.value.as_ref().and_then(|bytes| decode::<UserCalls>(bytes).ok());
                self.users.insert(user.clone(), Entry { value, rev: *rev, at_ms });
            }
        }
        self.begun = Some(Begun { made, timer, at_ms });
    }

    pub fn has(&self, key: &Key) -> bool {
        match key {
            Key::Call(call) => self.calls.contains_key(call),
            Key::UserCalls(user) => self.users.contains_key(user),
            Key::Presence(user) => self.presences.contains_key(user),
            Key::Devices(user) => self.devices.contains_key(user),
        }
    }

    /// What is known of one user, and of the calls that the user's record names.
    pub fn of_user(&self, user: &UserId) -> Self {
        let users: BTreeMap<_, _> = self.users.get_key_value(user).map(owned).into_iter().collect();
        let named = users.values().filter_map(|entry: &Entry<UserCalls>| entry.value.as_ref());
        let named = named.flat_map(|calls| &calls.calls).filter_map(|it| self.calls.get_key_value(&it.call));
        Self {
            calls: named.map(owned).collect(),
            presences: self.presences.get_key_value(user).map(owned).into_iter().collect(),
            devices: self.devices.get_key_value(user).map(owned).into_iter().collect(),
            users,
            fresh: self.fresh,
            begun: None,
        }
    }

    /// What is known of one call and these users' calls.
    pub fn of_call<'a>(&self, call: &CallId, users: impl Iterator<Item = &'a UserId>) -> Self {
        Self {
            calls: self.calls.get_key_value(call).map(owned).into_iter().collect(),
            users: users.filter_map(|user| self.users.get_key_value(user)).map(owned).collect(),
            fresh: self.fresh,
            ..Self::default()
        }
    }

    /// Those of `keys` that are missing, each once.
    pub fn missing(&self, keys: impl IntoIterator<Item = Key>) -> Vec<Key> {
        let mut missing: Vec<Key> = keys.into_iter().filter(|key| !self.has(key)).collect();
        missing.sort_unstable();
        missing.dedup();
        missing
    }
}

fn owned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}
