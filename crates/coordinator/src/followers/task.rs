//! What a batch of changes asks for: sorted by whom it concerns, read together, then done one by one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bus::{AckHandle, Delivered, Stored, header_value};
use cluster::coordination::{GONE_HEADER, presence_bucket};
use cluster::subject::unescape_token;
use domain::UserId;
use domain::call::{Act, Call, CallId, Command, CommandId};
use domain::presence::{DeviceRecord, Presence};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};
use serde::Deserialize;

use crate::desk::{Desk, fresh};
use crate::metrics::Followed;
use crate::plan::presence::Refold;
use crate::plan::{self, CallRecord, Claim, Entry, Key, Known, Of, PresenceRecord, Tell, Touched};
use crate::store::{self, Unavailable, is_marker};
use crate::teller::Who;
use crate::timers;

/// Pause before a message comes again that could not be worked off.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// How often a user is looked for of whom only a hash is known.
const LOOKS: u64 = 4;

/// What to do, and the messages that ask for it.
#[derive(Default)]
struct Batch {
    ticks: Vec<(Command, AckHandle)>,
    /// Timers of calls that are finished otherwise.
    timers: Vec<(CallId, u64, AckHandle)>,
    /// A call's record as it was stored, and when.
    records: Vec<(CallRecord, u64, Asked)>,
    folds: BTreeMap<UserId, Fold>,
}

/// A message that asks for something.
struct Asked {
    ack: AckHandle,
    /// Of the calls' bucket: once it is done, nobody else need look.
    claim: Option<Claim>,
}

/// All messages of one user are one fold.
#[derive(Default)]
struct Fold {
    asked: Vec<Asked>,
    /// When a device was last there that a record no longer names.
    device_gone_ms: Option<u64>,
    changed_ms: u64,
    /// A device, or the user's calls, have changed: the calls are to look at the devices.
    stirs: bool,
    /// What was folded, as it was stored.
    folded: Option<Entry<PresenceRecord>>,
}

/// Why a user is folded.
enum Stirred {
    Device {
        gone_ms: u64,
    },
    Calls,
    /// It was folded.
    Folded,
}

/// Does what the messages ask for, and says of each whether it was done.
pub async fn run(desk: &Desk, messages: Vec<Delivered>, deadline: Instant) {
    let mut batch = Batch::default();
    for message in messages {
        sort(desk, &mut batch, message).await;
    }
    let known = &read(desk, &batch).await;
    look(desk, &batch, known).await;
    let records = batch.records.into_iter().map(async |(record, at_ms, asked)| {
        say(desk, announce(desk, record, at_ms, known, deadline).await, [asked]);
    });
    let folds = batch.folds.into_iter().map(async |(user, fold)| {
        let gone_ms = fold.device_gone_ms.unwrap_or(fold.changed_ms);
        let known = known.of_user(&user);
        let refold = Refold { user, chosen: None, gone_ms };
        let folded = match fold.stirs {
            true => desk.fold(&refold, known, deadline).await.map(drop),
            false => desk.fold_only(&refold, known, deadline).await.map(drop),
        };
        say(desk, folded, fold.asked);
    });
    let ticks = batch.ticks.into_iter().map(async |(tick, ack)| {
        let done = desk.call(&tick, None, deadline).await.map(drop);
        say(desk, done, [Asked { ack, claim: None }]);
    });
    let timers = batch.timers.into_iter().map(async |(call, at_ms, ack)| {
        let set = desk.store.set_timer(&call, at_ms, deadline).await;
        say(desk, set, [Asked { ack, claim: None }]);
    });
    tokio::join!(in_turn(records), in_turn(folds), join_all(ticks), join_all(timers));
}

/// A few at a time: clients' commands are not to wait behind a whole batch.
async fn in_turn<T: Future<Output = ()>>(work: impl Iterator<Item = T>) {
    const AT_ONCE: usize = 2;
    stream::iter(work).buffer_unordered(AT_ONCE).collect().await
}

fn say(desk: &Desk, done: Result<(), Unavailable>, asked: impl IntoIterator<Item = Asked>) {
    for Asked { ack, claim } in asked {
        match done {
            Ok(()) => {
                desk.peers.claim(claim);
                ack.ack();
            }
            Err(Unavailable) => ack.nak(TRY_AGAIN),
        }
    }
}

/// Puts a message where it belongs; one that asks for nothing, or for what is done, is done.
async fn sort(desk: &Desk, batch: &mut Batch, message: Delivered) {
    let Delivered { stored, ack, deliveries } = message;
    if let Some((call, due_ms)) = timers::fired(&desk.app.name, &stored.subject, &stored.payload) {
        let id = CommandId(rand::random());
        let tick = Command { id, call, actor: None, act: Act::Tick { due_ms } };
        return batch.ticks.push((tick, ack));
    }
    let Some((token, stirred)) = stirred(desk, &stored) else { return sort_call(desk, batch, stored, ack) };
    let is_of_calls = matches!(stirred, Stirred::Calls);
    if is_of_calls && desk.peers.is_finished(stored.seq) {
        desk.metrics.followed(&desk.app.name, Followed::Finished);
        return ack.ack();
    }
    match user_of(desk, &token).await {
        Ok(Some(user)) => {
            if is_of_calls {
                desk.metrics.followed(&desk.app.name, Followed::Looked);
            }
            let claim = is_of_calls.then_some(Claim { seq: stored.seq, after: 0 });
            let fold = batch.folds.entry(user).or_default();
            fold.asked.push(Asked { ack, claim });
            fold.changed_ms = fold.changed_ms.max(stored.time_ms);
            match stirred {
                Stirred::Device { gone_ms } => {
                    fold.device_gone_ms = fold.device_gone_ms.max(Some(gone_ms));
                    fold.stirs = true;
                }
                Stirred::Calls => fold.stirs = true,
                Stirred::Folded => fold.folded = folded(desk, &stored),
            }
        }
        // A replica that lags may not have the record yet.
        Ok(None) if deliveries < LOOKS => ack.nak(TRY_AGAIN),
        Ok(None) => ack.ack(),
        Err(Unavailable) => ack.nak(TRY_AGAIN),
    }
}

fn sort_call(desk: &Desk, batch: &mut Batch, stored: Stored, ack: AckHandle) {
    if is_marker(&stored.headers) {
        return ack.ack();
    }
    let unread = || tracing::error!(subject = stored.subject, "a call's record cannot be read");
    if desk.peers.is_finished(stored.seq) {
        desk.metrics.followed(&desk.app.name, Followed::Finished);
        let Some(Timed { call }) = store::read(&stored.payload) else {
            unread();
            return ack.ack();
        };
        // Only the server knows when it was stored.
        return match timers::set_again(&call, stored.time_ms) {
            Some(at_ms) => batch.timers.push((call.id, at_ms, ack)),
            None => ack.ack(),
        };
    }
    let Some(record) = store::read::<CallRecord>(&stored.payload) else {
        unread();
        return ack.ack();
    };
    desk.metrics.followed(&desk.app.name, Followed::Looked);
    let claim = Some(Claim { seq: stored.seq, after: 0 });
    batch.records.push((record, stored.time_ms, Asked { ack, claim }));
}

/// Of a call's record what timers are about; the rest is not decoded.
#[derive(Deserialize)]
struct Timed {
    call: Call,
}

/// Whose presence a message changes, by the token in its key. `None`: it is about a call.
fn stirred(desk: &Desk, stored: &Stored) -> Option<(String, Stirred)> {
    let app = &desk.app.name;
    let token = |key: &str| key.split('.').nth(1).unwrap_or_default().to_owned();
    if let Some(key) = stored.subject.strip_prefix(&store::presence_subject(app, "")) {
        let stirred = match key.starts_with("d.") {
            true => Stirred::Device { gone_ms: gone_ms(stored) },
            false => Stirred::Folded,
        };
        return Some((token(key), stirred));
    }
    let key = stored.subject.strip_prefix(&store::calls_subject(app, ""))?;
    key.starts_with("u.").then(|| (token(key), Stirred::Calls))
}

/// A presence record as it was stored; if it has changed since, that is a message of its own, and a write finds out.
fn folded(desk: &Desk, stored: &Stored) -> Option<Entry<PresenceRecord>> {
    let value = (!is_marker(&stored.headers)).then(|| store::read::<PresenceRecord>(&stored.payload));
    let value = match value {
        Some(read) => Some(read?),
        None => None,
    };
    if let Some(record) = &value
        && desk.peers.is_told(stored.seq)
    {
        desk.teller.note(&plan::presence::tell(&desk.app, &record.presence));
    }
    Some(Entry { value, rev: stored.seq, at_ms: stored.time_ms })
}

/// What the whole batch needs, each once: users' records, the calls they name, presences and devices, in this order. What could not
/// be read is read by who needs it.
async fn read(desk: &Desk, batch: &Batch) -> Known {
    let mut known = fresh();
    match read_all(desk, batch, &mut known).await {
        Ok(()) => known,
        Err(Unavailable) => fresh(),
    }
}

async fn read_all(desk: &Desk, batch: &Batch, known: &mut Known) -> Result<(), Unavailable> {
    let folded = batch.folds.iter().filter_map(|(user, fold)| Some((user, fold.folded.as_ref()?)));
    known.presences.extend(folded.map(|(user, entry)| (user.clone(), entry.clone())));
    let users = batch.folds.keys().chain(batch.records.iter().flat_map(|(record, ..)| touched(record)));
    let keys = known.missing(users.map(|user| Key::UserCalls(user.clone())));
    desk.store.load(known, keys).await?;
    let told = batch.records.iter().filter(|(record, ..)| !record.touched.is_empty());
    let told = told.map(|(record, ..)| &record.call.id);
    let stirred = batch.folds.iter().filter(|(_, fold)| fold.stirs).map(|(user, _)| user);
    let users = stirred.filter_map(|user| known.users.get(user)?.value.as_ref());
    let named = users.flat_map(|calls| &calls.calls).map(|entry| &entry.call);
    let keys = known.missing(told.chain(named).map(|call| Key::Call(call.clone())));
    desk.store.load(known, keys).await?;
    let of = |user: &UserId| [Key::Presence(user.clone()), Key::Devices(user.clone())];
    let keys = known.missing(batch.folds.keys().flat_map(of));
    desk.store.load(known, keys).await
}

/// What was told already is not told again. Where that cannot be seen now, it is tried: a copy is stored once.
async fn look(desk: &Desk, batch: &Batch, known: &Known) {
    let presences = known.presences.values().filter_map(|entry| entry.value.as_ref());
    let presences = presences.filter_map(|record| plan::presence::tell(&desk.app, &record.presence));
    let calls = batch.records.iter().flat_map(|(record, ..)| tells(record));
    let all: Vec<Tell> = calls.chain(presences).collect();
    if desk.teller.look(&desk.app, &all).await.is_err() {
        tracing::debug!(app = desk.app.name, "which announcements are stored could not be seen");
    }
}

fn tells(record: &CallRecord) -> impl Iterator<Item = Tell> {
    let of = Of::Call(record.call.id.clone());
    record.told.iter().map(move |told| Tell { of: of.clone(), told: told.clone() })
}

fn touched(record: &CallRecord) -> impl Iterator<Item = &UserId> {
    record.touched.iter().map(|touched| &touched.user)
}

/// The record's revisions are announced by now, and its users' records follow; if not, its replica has died in between.
async fn announce(
    desk: &Desk,
    record: CallRecord,
    at_ms: u64,
    known: &Known,
    deadline: Instant,
) -> Result<(), Unavailable> {
    let call = record.call.id.clone();
    let tells: Vec<Tell> = tells(&record).collect();
    desk.teller.tell(&desk.app, Who::Follower, &tells, deadline).await?;
    if let Some(timer_ms) = timers::set_again(&record.call, at_ms) {
        desk.store.set_timer(&call, timer_ms, deadline).await?;
    }
    if record.touched.is_empty() {
        return Ok(());
    }
    let users: Vec<UserId> = record.touched.iter().map(|touched| touched.user.clone()).collect();
    let known = known.of_call(&call, users.iter());
    desk.settle(&call, &users, known, deadline).await?;
    for Touched { user, .. } in record.touched.into_iter().filter(|touched| touched.back) {
        let act = Act::Devices { user, present: Vec::new(), since_ms: at_ms };
        let command = Command { id: CommandId(rand::random()), call: call.clone(), actor: None, act };
        desk.call(&command, None, deadline).await?;
    }
    Ok(())
}

/// The user behind a token; that of a hashed one stands in a record. `None`: there is no such record any more.
async fn user_of(desk: &Desk, token: &str) -> Result<Option<UserId>, Unavailable> {
    if let Some(id) = unescape_token(token) {
        return Ok(UserId::new(id.into_owned()));
    }
    let bucket = presence_bucket(&desk.app.name);
    let records = desk.bus.kv_list(&bucket, &format!("d.{token}.>")).await.map_err(|_| Unavailable)?;
    let listed =
        records.iter().filter_map(|entry| entry.value.as_ref()).find_map(store::read::<DeviceRecord>);
    if let Some(record) = listed {
        return Ok(Some(record.user));
    }
    let entry = desk.bus.kv_get(&bucket, &format!("s.{token}")).await.map_err(|_| Unavailable)?;
    let presence = entry.and_then(|entry| entry.value).and_then(|value| store::read::<Presence>(&value));
    Ok(presence.map(|presence| presence.user))
}

/// When a device that the record no longer names was last there: the node says it, the sweep says it of a dead node, or it was now.
fn gone_ms(stored: &Stored) -> u64 {
    let swept = header_value(&stored.headers, GONE_HEADER).and_then(|text| text.parse().ok());
    let said = || {
        let record = store::read::<DeviceRecord>(&stored.payload)?;
        (record.gone_ms > 0).then_some(record.gone_ms)
    };
    swept.or_else(said).unwrap_or(stored.time_ms)
}
