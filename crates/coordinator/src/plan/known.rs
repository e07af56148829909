//! What was loaded for a command, with revisions.

use std::collections::BTreeMap;

use domain::UserId;
use domain::call::{CallId, UserCalls};
use domain::presence::DeviceRecord;

use super::{CallRecord, PresenceRecord};

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
}

impl Known {
    pub fn has(&self, key: &Key) -> bool {
        match key {
            Key::Call(call) => self.calls.contains_key(call),
            Key::UserCalls(user) => self.users.contains_key(user),
            Key::Presence(user) => self.presences.contains_key(user),
            Key::Devices(user) => self.devices.contains_key(user),
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
