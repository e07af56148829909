//! Users' records that do not say what a call says, and what is done about it.
//!
//! A record is read before its call, and written by compare-and-set: so what is written was said by the call after the record was
//! last written, and whoever changes the call later finds it changed. An entry that may be a reservation is taken away only after
//! a fence: a write of the call's record that changes nothing, and makes whoever is about to commit fail and plan anew.

use cluster::coordination::encode;
use domain::UserId;
use domain::call::{Call, CallId, UserCall, UserCallState, UserCalls};

use super::{CallRecord, Key, Known, Step, Write};

/// An entry that its call does not confirm within this time is nobody's any more: longer than any command takes. By clocks that may
/// differ, which costs a command a conflict at worst: the fence decides.
const RESERVED_MS: u64 = 5_000;

/// A call, and what is known of users' records.
#[derive(Clone, Copy, Debug)]
pub struct Settling<'a> {
    pub known: &'a Known,
    pub id: &'a CallId,
    /// `None`: it was not made.
    pub call: Option<&'a Call>,
    pub now_ms: u64,
    /// How long a record of the call is kept that is not going to change, in milliseconds.
    pub kept_ms: u64,
}

impl<'a> Settling<'a> {
    /// What must be done until the record of `user` says what the call says; `None`: it does. Needs both, read at the leader, the
    /// user's first.
    pub fn settle(&self, user: &UserId) -> Option<Step> {
        if !self.differs(user) {
            return None;
        }
        if !self.known.fresh {
            return Some(Step::Reload);
        }
        let write = self.mirroring(user);
        if !self.is_reserved(user) {
            return Some(Step::Repair(vec![write]));
        }
        let since_ms = self.known.users.get(user).map_or(0, |entry| entry.at_ms);
        if self.now_ms < since_ms + RESERVED_MS {
            return Some(Step::Wait);
        }
        Some(Step::Repair(vec![self.fence(), write]))
    }

    /// The writes that need no fence.
    pub fn plain(&self, users: impl IntoIterator<Item = UserId>) -> Vec<Write> {
        let plain = |user: &UserId| self.differs(user) && !self.is_reserved(user);
        users.into_iter().filter(plain).map(|user| self.mirroring(&user)).collect()
    }

    /// Takes the entries of a call that is not made away.
    pub fn withdraw<'b>(&self, users: impl IntoIterator<Item = &'b UserId>) -> Vec<Write> {
        let named = users.into_iter().filter(|user| self.entry(user).is_some());
        let writes: Vec<Write> = named.map(|user| self.mirroring(user)).collect();
        if writes.is_empty() { writes } else { std::iter::once(self.fence()).chain(writes).collect() }
    }

    fn entry(&self, user: &UserId) -> Option<&'a UserCall> {
        self.known.users.get(user)?.value.as_ref()?.get(self.id)
    }

    fn meant(&self, user: &UserId) -> Option<UserCall> {
        self.call?.entries().remove(user)
    }

    fn differs(&self, user: &UserId) -> bool {
        self.known.users.contains_key(user) && self.entry(user) != self.meant(user).as_ref()
    }

    /// It may be the first half of a commit that is under way: of a new call, or of coming into one. Not if the call was written
    /// since (both are in one stream): whoever made it read the call before, and will find it changed.
    fn is_reserved(&self, user: &UserId) -> bool {
        let Some(entry) = self.entry(user) else { return false };
        let revs = (self.known.users.get(user), self.known.calls.get(self.id));
        let written_since = matches!(revs, (Some(user), Some(call)) if user.rev < call.rev);
        let takes_part = |call: &Call| !call.status.is_over() && entry.state == UserCallState::In;
        !written_since && self.call.is_none_or(takes_part)
    }

    fn mirroring(&self, user: &UserId) -> Write {
        let entry = self.known.users.get(user);
        let mut calls = entry.and_then(|entry| entry.value.clone()).unwrap_or_default();
        calls.set(self.id, self.meant(user));
        write_user(self.known, user.clone(), &calls)
    }

    /// What stands there, stored once more; where nothing does, a deletion.
    pub fn fence(&self) -> Write {
        let entry = self.known.calls.get(self.id);
        let record = entry.and_then(|entry| entry.value.as_ref());
        Write {
            key: Key::Call(self.id.clone()),
            value: record.map(|record| encode(record).into()),
            expect: entry.map_or(0, |entry| entry.rev),
            ttl_ms: record.filter(|_| self.call.is_none_or(|it| it.status.is_over())).map(|_| self.kept_ms),
        }
    }
}

/// The record of a call that was made.
pub fn own<'a>(known: &'a Known, id: &CallId) -> Option<&'a CallRecord> {
    known.calls.get(id)?.value.as_ref().filter(|record| record.call.id == *id)
}

/// The whole record of a user.
pub fn write_user(known: &Known, user: UserId, calls: &UserCalls) -> Write {
    Write {
        expect: known.users.get(&user).map_or(0, |entry| entry.rev),
        value: (!calls.is_empty()).then(|| encode(calls).into()),
        key: Key::UserCalls(user),
        ttl_ms: None,
    }
}
