//! What whoever changed a call sees to soon after its reply, so that followers need not read for it: that the devices which are in the
//! call are still there, and that the users' presence shows it. What was seen to is said in [`Claim`]s; what was not is left to
//! followers.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cluster::coordination::decode;
use domain::UserId;
use domain::call::{Call, CallId, Leg, Status, UserCalls};

use super::call::{mirrors, rests};
use super::{App, CallRecord, Claim, Commit, Entry, Key, Known};

/// A call's record as a commit stores it, and what stood there before.
#[derive(Debug)]
pub struct Leaves {
    record: CallRecord,
    /// Revision of the record before; 0: none.
    previous: u64,
    /// Of those whose records were read, who was in a call before.
    were_in_call: BTreeSet<UserId>,
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

/// What is left to do after one commit.
#[derive(Debug)]
pub struct Care {
    call: CallRecord,
    /// What was stored: the call first, then users' records. Keys of the calls' bucket, revisions, contents.
    stored: Vec<(Key, u64, Option<Bytes>)>,
    /// Of the call's record; to be said once all it tells is stored.
    record: Option<Claim>,
    /// Revision of the call's record before; 0: none.
    previous: u64,
    users: Vec<(UserId, Entry<UserCalls>, Cared)>,
}

/// What a user's record, as one commit stored it, asks for.
#[derive(Debug)]
struct Cared {
    call: CallId,
    claim: Claim,
    /// Presence shows something else now.
    folds: bool,
}

impl Leaves {
    pub(super) fn new(record: CallRecord, known: &Known) -> Self {
        let in_call = |entry: &Entry<UserCalls>| entry.value.as_ref().is_some_and(UserCalls::is_in_call);
        let were_in_call = known.users.iter().filter(|(_, entry)| in_call(entry));
        Self {
            previous: known.calls.get(&record.call.id).map_or(0, |entry| entry.rev),
            were_in_call: were_in_call.map(|(user, _)| user.clone()).collect(),
            record,
        }
    }
}

impl Care {
    /// `None`: the commit was not about a call. `now_ms`: a moment after it.
    pub fn of(app: &App, commit: &Commit, written: &Written, now_ms: u64) -> Option<Self> {
        let Leaves { record, previous, were_in_call } = &**commit.leaves.as_ref()?;
        let id = &record.call.id;
        let mut stored = vec![(commit.point.key.clone(), written.point, commit.point.value.clone())];
        let mut users = Vec::new();
        let mut known = Known { fresh: true, ..Known::default() };
        let made = commit.made.iter().map(|(write, rev)| (write, Some(*rev)));
        let others = commit.before.iter().chain(&commit.after).map(|write| (write, None));
        for (write, made) in made.chain(others) {
            let Some(user) = write.key.user_calls() else { continue };
            let Some(rev) = made.or_else(|| written.users.get(user).copied()) else { continue };
            let value = write.value.as_ref().and_then(|bytes| decode::<UserCalls>(bytes).ok());
            let is_in_call = value.as_ref().is_some_and(UserCalls::is_in_call);
            let claim = Claim { seq: rev, after: write.expect };
            let folds = were_in_call.contains(user) != is_in_call;
            let entry = Entry { value, rev, at_ms: now_ms };
            stored.push((write.key.clone(), rev, write.value.clone()));
            known.users.insert(user.clone(), entry.clone());
            users.push((user.clone(), entry, Cared { call: id.clone(), claim, folds }));
        }
        let entry = Entry { value: Some(record.clone()), rev: written.point, at_ms: now_ms };
        known.calls.insert(id.clone(), entry);
        // Who came back is looked at by a follower, which knows when the record was stored.
        let whole = written.late.is_empty()
            && record.touched.iter().all(|touched| !touched.back)
            && known.users.keys().all(|user| mirrors(app, user, id, &known, now_ms));
        let claim = whole.then_some(Claim { seq: written.point, after: *previous });
        let call = known.calls.remove(id)?.value?;
        Some(Self { call, stored, record: claim, previous: *previous, users })
    }

    /// Of the call's record, if all it tells is stored: the users' records follow.
    pub fn record(&self) -> Option<Claim> {
        self.record
    }

    /// Revision of the call's record that was replaced; 0: there was none.
    pub fn previous(&self) -> u64 {
        self.previous
    }

    /// Whether somebody may answer at once.
    pub fn rings(&self) -> bool {
        self.call.call.status.is_waiting()
    }

    /// What was stored and is of use to the next command: key of the calls' bucket, revision, content.
    pub fn records(&self) -> impl Iterator<Item = (String, u64, Option<&Bytes>)> {
        let is_over = self.call.call.status.is_over();
        self.stored.iter().filter_map(move |(key, rev, value)| {
            let is_of_use = !(is_over && matches!(key, Key::Call(_)));
            let key = key.of_calls().filter(|_| is_of_use)?;
            Some((key, *rev, value.as_ref()))
        })
    }
}

/// What is left to do after several commits, done together.
#[derive(Debug)]
pub struct Cares {
    /// The newest of each record that was stored.
    pub known: Known,
    users: BTreeMap<UserId, Vec<Cared>>,
}

impl Cares {
    /// In the order of the commits.
    pub fn new(of: impl IntoIterator<Item = Care>, now_ms: u64) -> Self {
        let mut known = Known { fresh: true, ..Known::default() };
        let mut users: BTreeMap<UserId, Vec<Cared>> = BTreeMap::new();
        for Care { call, stored, users: written, .. } in of {
            let rev = stored.first().map_or(0, |(_, rev, _)| *rev);
            let id = call.call.id.clone();
            renew(&mut known.calls, id, Entry { value: Some(call), rev, at_ms: now_ms });
            for (user, entry, cared) in written {
                renew(&mut known.users, user.clone(), entry);
                users.entry(user).or_default().push(cared);
            }
        }
        Self { known, users }
    }

    /// What is to be loaded into `known`.
    pub fn keys(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for (user, cared) in &self.users {
            let folds = cared.iter().any(|it| it.folds);
            if folds {
                keys.push(Key::Presence(user.clone()));
            }
            if folds || cared.iter().any(|it| self.has_devices(user, &it.call)) {
                keys.push(Key::Devices(user.clone()));
            }
        }
        keys
    }

    /// All that may be claimed once everything is seen to.
    pub fn claims(&self) -> impl Iterator<Item = Claim> {
        self.users.values().flatten().map(|cared| cared.claim)
    }

    /// Whose presence is to be folded from what is known, and what may be claimed then: a fold looks at all calls of the user.
    pub fn folds(&self) -> impl Iterator<Item = (&UserId, Vec<Claim>)> {
        let folds = self.users.iter().filter(|(_, cared)| cared.iter().any(|it| it.folds));
        folds.map(|(user, cared)| (user, cared.iter().map(|it| Claim { after: 0, ..it.claim }).collect()))
    }

    /// The claims for the others for whom there is nothing to do.
    pub fn at_rest(&self, app: &App, now_ms: u64) -> Vec<Claim> {
        let known = &self.known;
        let is_at_rest = |user: &UserId, cared: &&Cared| match self.has_devices(user, &cared.call) {
            true => rests(app, user, now_ms, &cared.call, known, now_ms),
            false => mirrors(app, user, &cared.call, known, now_ms),
        };
        let others = self.users.iter().filter(|(_, cared)| cared.iter().all(|it| !it.folds));
        let claims = others.flat_map(|(user, cared)| cared.iter().filter(move |it| is_at_rest(user, it)));
        claims.map(|cared| cared.claim).collect()
    }

    /// Whether it matters to the call which devices the user has.
    fn has_devices(&self, user: &UserId, call: &CallId) -> bool {
        let call = self.known.calls.get(call).and_then(|entry| entry.value.as_ref());
        call.is_some_and(|record| matters(&record.call, user))
    }
}

fn matters(call: &Call, user: &UserId) -> bool {
    let Some(seat) = call.seat(user).filter(|_| !call.status.is_over()) else { return false };
    match seat.leg {
        Leg::Ringing => call.status == Status::Initiating,
        _ => seat.leg.is_in(),
    }
}

fn renew<K: Ord, T>(of: &mut BTreeMap<K, Entry<T>>, key: K, entry: Entry<T>) {
    if of.get(&key).is_none_or(|known| known.rev < entry.rev) {
        of.insert(key, entry);
    }
}
