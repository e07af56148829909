//! Followers: what changed is worked off by one replica or another, at least once, whatever became of the replica that changed it.
//!
//! Calls: a record that was committed is announced and its users' records follow (mostly it is so already), a timer that fired becomes
//! a tick, a user's changed calls are folded into the user's presence and compared with the calls they name. Presence: a gateway's changed device record is folded; what was folded is looked at
//! again, and told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, BusError, Consumer, ConsumerSpec, Delivered, header_value};
use cluster::coordination::{GONE_HEADER, calls_bucket, presence_bucket};
use cluster::subject::unescape_token;
use domain::UserId;
use domain::call::{Act, Command, CommandId};
use domain::presence::{DeviceRecord, Presence};
use tokio::sync::{Semaphore, watch};

use crate::desk::Desk;
use crate::plan::presence::Refold;
use crate::plan::{CallRecord, Of, Tell, Touched};
use crate::store::{self, Unavailable, is_marker};
use crate::teller::Who;
use crate::timers;

/// A replica that took a message and died: another gets it after this time.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// One message's work ends well before it is given to somebody else.
const WORK_DEADLINE: Duration = Duration::from_secs(4);
/// Pause before a message comes again that could not be worked off.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Messages that one follower works on at once.
const AT_ONCE: usize = 64;
/// Messages under way in all replicas together.
const PENDING: usize = 2048;

/// Starts both followers of an application; they end when `stop` says so, and give back what they have not begun.
pub async fn start(desk: &Arc<Desk>, bus: &Bus, stop: &watch::Receiver<bool>) -> Result<(), BusError> {
    let app = &desk.app.name;
    let calls =
        vec![store::calls_subject(app, "c.*"), store::calls_subject(app, "u.*"), timers::due_filter(app)];
    let presence = vec![store::presence_subject(app, "d.>"), store::presence_subject(app, "s.*")];
    for (bucket, name, filters) in [
        (calls_bucket(app), "coordinator_calls", calls),
        (presence_bucket(app), "coordinator_presence", presence),
    ] {
        let spec = ConsumerSpec {
            stream: bus::kv::stream_of(&bucket),
            durable: name.to_owned(),
            filters,
            ack_wait: ACK_WAIT,
            max_ack_pending: PENDING,
        };
        let consumer = bus.consume(spec).await?;
        tokio::spawn(follow(desk.clone(), consumer, stop.clone()));
    }
    Ok(())
}

async fn follow(desk: Arc<Desk>, mut consumer: Consumer, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let delivered = tokio::select! {
            biased;
            _ = stop.changed() => return,
            delivered = consumer.next() => delivered,
        };
        let desk = desk.clone();
        tokio::spawn(async move {
            work_off(&desk, delivered).await;
            drop(place);
        });
    }
}

async fn work_off(desk: &Desk, delivered: Delivered) {
    match changed(desk, &delivered).await {
        Ok(()) => delivered.ack.ack(),
        Err(Unavailable) => delivered.ack.nak(TRY_AGAIN),
    }
}

async fn changed(desk: &Desk, delivered: &Delivered) -> Result<(), Unavailable> {
    let (stored, deadline) = (&delivered.stored, Instant::now() + WORK_DEADLINE);
    let app = &desk.app.name;
    if let Some((call, due_ms)) = timers::fired(app, &stored.subject, &stored.payload) {
        let id = CommandId(rand::random());
        let tick = Command { id, call, actor: None, act: Act::Tick { due_ms } };
        return desk.call(&tick, None, deadline).await.map(|_| ());
    }
    let calls = store::calls_subject(app, "");
    if let Some(key) = stored.subject.strip_prefix(&calls) {
        return match key.split_once('.') {
            Some(("c", _)) => announce(desk, stored, deadline).await,
            Some(("u", token)) => fold_token(desk, token, stored.time_ms, deadline).await,
            _ => Ok(()),
        };
    }
    let Some(key) = stored.subject.strip_prefix(&store::presence_subject(app, "")) else { return Ok(()) };
    let token = key.split('.').nth(1).unwrap_or_default();
    fold_token(desk, token, gone_ms(stored), deadline).await
}

/// The record's revisions are announced by now, and its users' records follow; if not, its replica has died in between.
async fn announce(desk: &Desk, stored: &bus::Stored, deadline: Instant) -> Result<(), Unavailable> {
    if is_marker(&stored.headers) {
        return Ok(());
    }
    let Some(record) = store::read::<CallRecord>(&stored.payload) else {
        tracing::error!(subject = stored.subject, "a call's record cannot be read");
        return Ok(());
    };
    let call = record.call.id.clone();
    let of = Of::Call(call.clone());
    let tells: Vec<Tell> = record.told.into_iter().map(|told| Tell { of: of.clone(), told }).collect();
    desk.teller.tell(&desk.app, Who::Follower, &tells, deadline).await?;
    if let Some(at_ms) = timers::set_again(&record.call, stored.time_ms) {
        desk.store.set_timer(&call, at_ms, deadline).await?;
    }
    if record.touched.is_empty() {
        return Ok(());
    }
    let users: Vec<UserId> = record.touched.iter().map(|touched| touched.user.clone()).collect();
    desk.settle(&call, &users, deadline).await?;
    for Touched { user, .. } in record.touched.into_iter().filter(|touched| touched.back) {
        let act = Act::Devices { user, present: Vec::new(), since_ms: stored.time_ms };
        let command = Command { id: CommandId(rand::random()), call: call.clone(), actor: None, act };
        desk.call(&command, None, deadline).await?;
    }
    Ok(())
}

async fn fold_token(desk: &Desk, token: &str, gone_ms: u64, deadline: Instant) -> Result<(), Unavailable> {
    let Some(user) = user_of(desk, token).await? else { return Ok(()) };
    let refold = Refold { user, chosen: None, gone_ms };
    desk.fold(&refold, deadline).await.map(|_| ())
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
fn gone_ms(stored: &bus::Stored) -> u64 {
    let swept = header_value(&stored.headers, GONE_HEADER).and_then(|text| text.parse().ok());
    let said = || {
        let record = store::read::<DeviceRecord>(&stored.payload)?;
        (record.gone_ms > 0).then_some(record.gone_ms)
    };
    swept.or_else(said).unwrap_or(stored.time_ms)
}
