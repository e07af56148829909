//! Followers: what changed is worked off by one replica or another, at least once, whatever became of the replica that changed it.
//!
//! Calls: a record that was committed is announced and its users' records follow (mostly it is so already), a timer that fired becomes
//! a tick, a user's changed calls are folded into the user's presence and compared with the calls they name. Presence: a gateway's
//! changed device record is folded; what was folded is looked at again, and told.
//!
//! What waits is worked off together: mostly there is nothing to do, and that is seen in three or four reads for all (`task`).

mod task;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, BusError, Consumer, ConsumerSpec, Delivered};
use cluster::coordination::{calls_bucket, presence_bucket};
use tokio::sync::{Semaphore, watch};

use crate::desk::Desk;
use crate::store;
use crate::timers;

/// A replica that took a message and died: another gets it after this time.
const ACK_WAIT: Duration = Duration::from_secs(5);
/// One message's work ends well before it is given to somebody else.
const WORK_DEADLINE: Duration = Duration::from_secs(4);
/// Messages that are worked off together: their users' device records must fit into one read.
const TOGETHER: usize = 128;
/// How many such batches are under way at once: one that waits for somebody holds up no other.
const AT_ONCE: usize = 4;
/// How long a batch gathers after its first message: whoever committed a call is done with it by then, mostly.
const GATHER: Duration = Duration::from_millis(20);
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
        let first = tokio::select! {
            biased;
            _ = stop.changed() => return,
            first = consumer.next() => first,
        };
        tokio::time::sleep(GATHER).await;
        let mut batch = vec![first];
        consumer.take(&mut batch, TOGETHER);
        let desk = desk.clone();
        tokio::spawn(async move {
            work_off(&desk, batch).await;
            drop(place);
        });
    }
}

async fn work_off(desk: &Desk, batch: Vec<Delivered>) {
    let deadline = Instant::now() + WORK_DEADLINE;
    task::run(desk, batch, deadline).await;
}
