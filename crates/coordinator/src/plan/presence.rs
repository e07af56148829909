//! Presence: a user's devices, choice and calls folded into one record.

use cluster::coordination::{Reply, encode};
use domain::UserId;
use domain::call::{Act, CallId, CommandId};
use domain::presence::{ChoiceChange, DeviceRecord, Presence, Sources, Status, fold};

use super::{App, Commit, Done, Key, Known, Of, PresenceRecord, Step, Tell, Told, Write};

/// Why a user is folded anew.
#[derive(Clone, Debug)]
pub struct Refold {
    pub user: UserId,
    pub chosen: Option<Chosen>,
    /// When a device that is missing now was last there.
    pub gone_ms: u64,
}

/// The user chose.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// A repeat has the same one.
    pub id: CommandId,
    /// The user's id as clients see it.
    pub wire_id: serde_json::Value,
    pub change: ChoiceChange,
}

/// The next step.
pub fn plan(app: &App, refold: &Refold, known: &Known, now_ms: u64) -> Step {
    let user = &refold.user;
    let missing = known.missing([
        Key::Presence(user.clone()),
        Key::UserCalls(user.clone()),
        Key::Devices(user.clone()),
    ]);
    if !missing.is_empty() {
        return Step::Load(missing);
    }
    let entry = &known.presences[user];
    let before = entry.value.as_ref();
    let after = folded(app, refold, before, known, now_ms);
    let told = tell(app, &after.presence);
    let reply = Reply::Presence(Box::new(after.presence.clone()));
    let done = Done { tell: told.into_iter().collect(), ..Done::reply(reply) };
    if before == Some(&after) || (before.is_none() && after.presence.rev == 0 && after.done.is_empty()) {
        return if known.fresh { Step::Done(Box::new(done)) } else { Step::Reload };
    }
    let point = Write {
        key: Key::Presence(user.clone()),
        value: Some(encode(&after).into()),
        expect: entry.rev,
        ttl_ms: forgotten_ms(&after.presence),
    };
    let replaced = before.filter(|before| before.presence.rev < after.presence.rev);
    let first = replaced.and_then(|before| tell(app, &before.presence)).into_iter().collect();
    let (before, made, after) = (Vec::new(), Vec::new(), Vec::new());
    Step::Commit(Box::new(Commit { first, before, made, timer: None, point, after, leaves: None, done }))
}

/// The user's calls are to look at the devices, which are read for each of them anew; but not those of which it is known that there
/// is nothing to see.
pub fn devices_acts(app: &App, refold: &Refold, known: &Known, now_ms: u64) -> Vec<(CallId, Act)> {
    let (user, since_ms) = (&refold.user, refold.gone_ms);
    let calls = known.users.get(user).and_then(|entry| entry.value.as_ref());
    let named = calls.iter().flat_map(|calls| &calls.calls).map(|entry| &entry.call);
    let awake = named.filter(|call| !super::call::rests(app, user, since_ms, call, known, now_ms));
    let act = Act::Devices { user: user.clone(), present: Vec::new(), since_ms };
    awake.map(|call| (call.clone(), act.clone())).collect()
}

fn folded(
    app: &App,
    refold: &Refold,
    before: Option<&PresenceRecord>,
    known: &Known,
    now_ms: u64,
) -> PresenceRecord {
    let records = &known.devices[&refold.user];
    let calls = known.users[&refold.user].value.as_ref();
    let mut record = before.cloned().unwrap_or_else(|| unknown(refold, records));
    if let Some(chosen) = refold.chosen.as_ref().filter(|chosen| record.is_new(chosen.id)) {
        record.remember(chosen.id);
        record.presence.wire_id = chosen.wire_id.clone();
        apply(&mut record.presence, &chosen.change);
    }
    let after = &mut record.presence;
    if let Some(record) = records.first() {
        after.wire_id = record.wire_id.clone();
    }
    let in_call = calls.is_some_and(domain::call::UserCalls::is_in_call);
    after.status = fold(&Sources { records, choice: &after.choice, in_call });
    let most = app.dialect.realtime().map_or(0, |realtime| realtime.presence.rooms_told);
    if let Some(told) = rooms(records, most) {
        after.told = told;
    }
    let seen = |presence: &Presence| (presence.status, presence.choice.custom.clone());
    let visible = before.map_or((Status::Offline, None), |before| seen(&before.presence));
    if visible != seen(after) {
        if after.status == Status::Offline {
            after.last_seen_ms = Some(last_seen(refold, records, now_ms));
        }
        after.rev += 1;
        after.changed_ms = now_ms;
    }
    record
}

fn unknown(refold: &Refold, records: &[DeviceRecord]) -> PresenceRecord {
    let wire_id = records.first().map(|record| record.wire_id.clone());
    let presence = Presence {
        user: refold.user.clone(),
        wire_id: wire_id.unwrap_or_else(|| refold.user.as_str().into()),
        choice: Default::default(),
        status: Status::Offline,
        last_seen_ms: None,
        rev: 0,
        changed_ms: 0,
        told: Vec::new(),
    };
    PresenceRecord { presence, done: Default::default() }
}

fn apply(presence: &mut Presence, change: &ChoiceChange) {
    if let Some(status) = change.status {
        presence.choice.status = (status != Status::Online).then_some(status);
    }
    if let Some(custom) = &change.custom {
        presence.choice.custom = custom.clone();
    }
}

/// `None`: there is nobody to ask; the rooms known last are told.
fn rooms(records: &[DeviceRecord], most: usize) -> Option<Vec<Box<str>>> {
    if records.is_empty() {
        return None;
    }
    let mut rooms: Vec<Box<str>> = records.iter().flat_map(|record| &record.rooms).cloned().collect();
    rooms.sort_unstable();
    rooms.dedup();
    rooms.truncate(most);
    Some(rooms)
}

/// Somebody who only appears offline was here now.
fn last_seen(refold: &Refold, records: &[DeviceRecord], now_ms: u64) -> u64 {
    if records.is_empty() { refold.gone_ms.min(now_ms) } else { now_ms }
}

/// Users who are gone and chose nothing are forgotten after a while; `last_seen` goes with them.
fn forgotten_ms(presence: &Presence) -> Option<u64> {
    const FORGOTTEN_AFTER_MS: u64 = 30 * 24 * 3_600_000;
    (presence.status == Status::Offline && presence.choice == Default::default())
        .then_some(FORGOTTEN_AFTER_MS)
}

/// The announcement of the newest revision. Its content follows from the record, so it needs no outbox.
pub fn tell(app: &App, presence: &Presence) -> Option<Tell> {
    (presence.rev > 0).then(|| Tell {
        of: Of::Presence(presence.user.clone()),
        told: Told {
            rev: presence.rev,
            at_ms: presence.changed_ms,
            view: Default::default(),
            announcements: app.dialect.presence_changed(presence),
        },
    })
}
