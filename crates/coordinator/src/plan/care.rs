//! What whoever changed a call sees to right after its reply, so that followers need not read for it: that the devices which are in
//! the call are still there, and that the users' presence shows it. What was seen to is said in [`Claim`]s; what was not is left to
//! followers.

use std::collections::BTreeMap;

use bytes::Bytes;
use cluster::coordination::{call_key, decode, user_calls_key};
use domain::UserId;
use domain::call::{Call, Leg, Status, UserCalls};

use super::call::{mirrors, rests};
use super::{App, CallRecord, Claim, Commit, Entry, Key, Known};

/// A call's record as a commit stores it, and what stood there before.
#[derive(Debug)]
pub struct Leaves {
    record: CallRecord,
    /// Revision of the record before; 0: none.
    previous: u64,
    /// Who was in a call before, of those whose records were read.
    were_in_call: BTreeMap<UserId, bool>,
}

/// What a commit's writes became.
#[derive(Debug, Default)]
pub struct Written {
    /// Revision of the point.
    pub point: u64,
    /// Of the users' records that were stored.
    pub users: BTreeMap<UserId, u64>,
    /// Users whose records did not follow.
    pub late: Vec<UserId>,
}

/// What is left to do after a commit.
#[derive(Debug)]
pub struct Care {
    /// The call and the users' records, as they were stored.
    pub known: Known,
    call: Call,
    /// Of the call's record; to be said once all it tells is stored.
    record: Option<Claim>,
    /// Revision of the call's record before; 0: none.
    previous: u64,
    users: Vec<Cared>,
    /// What was stored: keys, revisions, contents.
    stored: Vec<(Key, u64, Option<Bytes>)>,
}

/// A user whose record was written.
#[derive(Debug)]
struct Cared {
    user: UserId,
    claim: Claim,
    /// Presence shows something else now.
    folds: bool,
}

impl Leaves {
    pub(super) fn new(record: CallRecord, known: &Known) -> Self {
        let in_call = |entry: &Entry<UserCalls>| entry.value.as_ref().is_some_and(UserCalls::is_in_call);
        Self {
            previous: known.calls.get(&record.call.id).map_or(0, |entry| entry.rev),
            were_in_call: known.users.iter().map(|(user, entry)| (user.clone(), in_call(entry))).collect(),
            record,
        }
    }
}

impl Care {
    /// `None`: the commit was not about a call. `now_ms`: a moment after it.
    pub fn of(app: &App, commit: &Commit, written: &Written, now_ms: u64) -> Option<Self> {
        let Leaves { record, previous, were_in_call } = &**commit.leaves.as_ref()?;
        let call = record.call.clone();
        // Who came back is looked at by a follower, which knows when the record was stored.
        let whole = written.late.is_empty() && record.touched.iter().all(|touched| !touched.back);
        let mut known = Known { fresh: true, ..Known::default() };
        let mut users = Vec::new();
        let mut stored = vec![(commit.point.key.clone(), written.point, commit.point.value.clone())];
        for write in commit.before.iter().chain(&commit.after) {
            let Some((user, rev)) = write.key.user_calls().and_then(|user| written.users.get_key_value(user))
            else {
                continue;
            };
            let value = write.value.as_ref().and_then(|bytes| decode::<UserCalls>(bytes).ok());
            let is_in_call = value.as_ref().is_some_and(UserCalls::is_in_call);
            users.push(Cared {
                user: user.clone(),
                claim: Claim { seq: *rev, after: write.expect },
                folds: were_in_call.get(user) != Some(&is_in_call),
            });
            stored.push((write.key.clone(), *rev, write.value.clone()));
            known.users.insert(user.clone(), Entry { value, rev: *rev, at_ms: now_ms });
        }
        known.calls.insert(call.id.clone(), Entry { value: Some(record.clone()), rev: written.point, at_ms: now_ms });
        let whole = whole && known.users.keys().all(|user| mirrors(app, user, &call.id, &known, now_ms));
        let record = whole.then_some(Claim { seq: written.point, after: *previous });
        Some(Self { known, call, record, previous: *previous, users, stored })
    }

    /// Revision of the call's record that was replaced; 0: there was none.
    pub fn previous(&self) -> u64 {
        self.previous
    }

    /// What was stored: key of the calls' bucket, revision, content.
    pub fn records(&self) -> impl Iterator<Item = (String, u64, Option<&Bytes>)> {
        self.stored.iter().filter_map(|(key, rev, value)| {
            let key = match key {
                Key::Call(call) => call_key(call),
                Key::UserCalls(user) => user_calls_key(user),
                Key::Presence(_) | Key::Devices(_) => return None,
            };
            Some((key, *rev, value.as_ref()))
        })
    }

    /// Of the call's record, if all it tells is stored: the users' records follow.
    pub fn record(&self) -> Option<Claim> {
        self.record
    }

    /// What is to be loaded into `known`.
    pub fn keys(&self) -> Vec<Key> {
        let of = |cared: &Cared| {
            let devices = (cared.folds || self.has_devices(&cared.user)).then(|| Key::Devices(cared.user.clone()));
            devices.into_iter().chain(cared.folds.then(|| Key::Presence(cared.user.clone())))
        };
        self.users.iter().flat_map(of).collect()
    }

    /// Whose presence is to be folded from what is known, and what may be claimed then: a fold looks at all calls of the user.
    pub fn folds(&self) -> impl Iterator<Item = (&UserId, Claim)> {
        let folds = self.users.iter().filter(|cared| cared.folds);
        folds.map(|cared| (&cared.user, Claim { after: 0, ..cared.claim }))
    }

    /// The claims for the others for whom there is nothing to do.
    pub fn at_rest(&self, app: &App, now_ms: u64) -> Vec<Claim> {
        let (id, known) = (&self.call.id, &self.known);
        let is_at_rest = |cared: &&Cared| match self.has_devices(&cared.user) {
            true => rests(app, &cared.user, now_ms, id, known, now_ms),
            false => mirrors(app, &cared.user, id, known, now_ms),
        };
        let others = self.users.iter().filter(|cared| !cared.folds);
        others.filter(is_at_rest).map(|cared| cared.claim).collect()
    }

    /// Whether it matters to the call which devices the user has.
    fn has_devices(&self, user: &UserId) -> bool {
        let Some(seat) = self.call.seat(user) else { return false };
        match seat.leg {
            _ if self.call.status.is_over() => false,
            Leg::Ringing => self.call.status == Status::Initiating,
            _ => seat.leg.is_in(),
        }
    }
}
