//! Presence: a user's devices, choice and calls folded into one record.

use cluster::coordination::{Reply, encode};
use domain::UserId;
use domain::call::{Act, CallId};
use domain::presence::{ChoiceChange, DeviceRecord, Presence, Sources, Status, fold};

use super::{App, Commit, Done, Key, Known, Of, Step, Tell, Told, Write};

/// Why a user is folded anew.
#[derive(Clone, Debug)]
pub struct Refold {
    pub user: UserId,
    /// The user chose; with the id as clients see it.
    pub chosen: Option<(serde_json::Value, ChoiceChange)>,
    /// When a device that is missing now was last there.
    pub gone_ms: u64,
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
    let before = entry.value.clone();
    let after = folded(app, refold, before.as_ref(), known, now_ms);
    let tell: Vec<Tell> = tell(app, &after).into_iter().collect();
    let done = Done { tell, ..Done::reply(Reply::Presence(Box::new(after.clone()))) };
    if before.as_ref() == Some(&after) || (before.is_none() && after.rev == 0) {
        return if known.fresh { Step::Done(Box::new(done)) } else { Step::Reload };
    }
    let write = Write {
        key: Key::Presence(user.clone()),
        value: Some(encode(&after).into()),
        expect: entry.rev,
        ttl_ms: forgotten_ms(&after),
    };
    Step::Commit(Box::new(Commit { writes: vec![write], timer: None, done }))
}

/// What the user's calls are to be told about the devices: those that need it are found by their own machine.
pub fn devices_acts(refold: &Refold, known: &Known) -> Vec<(CallId, Act)> {
    let user = &refold.user;
    let calls = known.users.get(user).and_then(|entry| entry.value.as_ref());
    let records = known.devices.get(user).map_or(&[][..], Vec::as_slice);
    let present: Vec<_> =
        records.iter().flat_map(|record| &record.devices).map(|device| device.id.clone()).collect();
    let act = Act::Devices { user: user.clone(), present, since_ms: refold.gone_ms };
    calls.iter().flat_map(|calls| &calls.calls).map(|entry| (entry.call.clone(), act.clone())).collect()
}

fn folded(app: &App, refold: &Refold, before: Option<&Presence>, known: &Known, now_ms: u64) -> Presence {
    let records = &known.devices[&refold.user];
    let calls = known.users[&refold.user].value.as_ref();
    let mut after = before.cloned().unwrap_or_else(|| unknown(refold, records));
    if let Some((wire_id, change)) = &refold.chosen {
        after.wire_id = wire_id.clone();
        apply(&mut after, change);
    }
    if let Some(record) = records.first() {
        after.wire_id = record.wire_id.clone();
    }
    let in_call = calls.is_some_and(domain::call::UserCalls::is_in_call);
    after.status = fold(&Sources { records, choice: &after.choice, in_call });
    let most = app.dialect.realtime().map_or(0, |realtime| realtime.presence.rooms_told);
    if let Some(told) = rooms(records, most) {
        after.told = told;
    }
    let visible =
        before.map_or((Status::Offline, None), |before| (before.status, before.choice.custom.clone()));
    if visible != (after.status, after.choice.custom.clone()) {
        if after.status == Status::Offline {
            after.last_seen_ms = Some(last_seen(refold, records, now_ms));
        }
        after.rev += 1;
        after.changed_ms = now_ms;
    }
    after
}

fn unknown(refold: &Refold, records: &[DeviceRecord]) -> Presence {
    let wire_id = records.first().map(|record| record.wire_id.clone());
    Presence {
        user: refold.user.clone(),
        wire_id: wire_id.unwrap_or_else(|| refold.user.as_str().into()),
        choice: Default::default(),
        status: Status::Offline,
        last_seen_ms: None,
        rev: 0,
        changed_ms: 0,
        told: Vec::new(),
    }
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
fn tell(app: &App, presence: &Presence) -> Option<Tell> {
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
