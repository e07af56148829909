//! What a batch of changes asks for: sorted by whom it concerns, read together, then done one by one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bus::{AckHandle, Delivered, Stored, header_value};
use cluster::coordination::{GONE_HEADER, presence_bucket};
use cluster::subject::unescape_token;
use domain::UserId;
use domain::call::{Act, Command, CommandId};
use domain::presence::{DeviceRecord, Presence};
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};

use crate::desk::{Desk, fresh};
use crate::plan::presence::Refold;
use crate::plan::{self, CallRecord, Key, Known, Of, Tell, Touched};
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
    /// A call's record as it was stored, and when.
    records: Vec<(CallRecord, u64, AckHandle)>,
    folds: BTreeMap<UserId, Fold>,
}

/// All messages of one user are one fold.
#[derive(Default)]
struct Fold {
    acks: Vec<AckHandle>,
    /// When a device was last there that a record no longer names.
    device_gone_ms: Option<u64>,
    changed_ms: u64,
}

/// Whose presence a message changes.
struct Folded {
    token: String,
    /// A device record has changed.
    device_gone_ms: Option<u64>,
}

/// Does what the messages ask for, and says of each whether it was done.
pub async fn run(desk: &Desk, messages: Vec<Delivered>, deadline: Instant) {
    let mut batch = Batch::default();
    for message in messages {
        sort(desk, &mut batch, message).await;
    }
    let known = &read(desk, &batch).await;
    look(desk, &batch, known).await;
    let records = batch.records.into_iter().map(async |(record, at_ms, ack)| {
        say(announce(desk, record, at_ms, known, deadline).await, [ack]);
    });
    let folds = batch.folds.into_iter().map(async |(user, fold)| {
        let gone_ms = fold.device_gone_ms.unwrap_or(fold.changed_ms);
        let known = known.of_user(&user);
        let refold = Refold { user, chosen: None, gone_ms };
        say(desk.fold(&refold, known, deadline).await.map(drop), fold.acks);
    });
    let ticks = batch.ticks.into_iter().map(async |(tick, ack)| {
        say(desk.call(&tick, None, deadline).await.map(drop), [ack]);
    });
    tokio::join!(in_turn(records), in_turn(folds), join_all(ticks));
}

/// A few at a time: clients' commands are not to wait behind a whole batch.
async fn in_turn<T: Future<Output = ()>>(work: impl Iterator<Item = T>) {
    const AT_ONCE: usize = 2;
    stream::iter(work).buffer_unordered(AT_ONCE).collect().await
}

fn say(done: Result<(), Unavailable>, acks: impl IntoIterator<Item = AckHandle>) {
    for ack in acks {
        match done {
            Ok(()) => ack.ack(),
            Err(Unavailable) => ack.nak(TRY_AGAIN),
        }
    }
}

/// Puts a message where it belongs; one that asks for nothing is done.
async fn sort(desk: &Desk, batch: &mut Batch, message: Delivered) {
    let Delivered { stored, ack, deliveries } = message;
    if let Some((call, due_ms)) = timers::fired(&desk.app.name, &stored.subject, &stored.payload) {
        let id = CommandId(rand::random());
        let tick = Command { id, call, actor: None, act: Act::Tick { due_ms } };
        return batch.ticks.push((tick, ack));
    }
    if let Some(folded) = folded(desk, &stored) {
        return match user_of(desk, &folded.token).await {
            Ok(Some(user)) => {
                let fold = batch.folds.entry(user).or_default();
                fold.acks.push(ack);
                fold.device_gone_ms = fold.device_gone_ms.max(folded.device_gone_ms);
                fold.changed_ms = fold.changed_ms.max(stored.time_ms);
            }
            // A replica that lags may not have the record yet.
            Ok(None) if deliveries < LOOKS => ack.nak(TRY_AGAIN),
            Ok(None) => ack.ack(),
            Err(Unavailable) => ack.nak(TRY_AGAIN),
        };
    }
    if is_marker(&stored.headers) {
        return ack.ack();
    }
    match store::read::<CallRecord>(&stored.payload) {
        Some(record) => batch.records.push((record, stored.time_ms, ack)),
        None => {
            tracing::error!(subject = stored.subject, "a call's record cannot be read");
            ack.ack();
        }
    }
}

/// `None`: it is about a call.
fn folded(desk: &Desk, stored: &Stored) -> Option<Folded> {
    let app = &desk.app.name;
    let token = |key: &str| key.split('.').nth(1).unwrap_or_default().to_owned();
    if let Some(key) = stored.subject.strip_prefix(&store::presence_subject(app, "")) {
        let device_gone_ms = key.starts_with("d.").then(|| gone_ms(stored));
        return Some(Folded { token: token(key), device_gone_ms });
    }
    let key = stored.subject.strip_prefix(&store::calls_subject(app, ""))?;
    key.starts_with("u.").then(|| Folded { token: token(key), device_gone_ms: None })
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
    let users = batch.folds.keys().chain(batch.records.iter().flat_map(|(record, ..)| touched(record)));
    let keys = known.missing(users.map(|user| Key::UserCalls(user.clone())));
    desk.store.load(known, keys).await?;
    let told = batch.records.iter().filter(|(record, ..)| !record.touched.is_empty());
    let told = told.map(|(record, ..)| &record.call.id);
    let users = batch.folds.keys().filter_map(|user| known.users.get(user)?.value.as_ref());
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
