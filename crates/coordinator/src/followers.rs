//! Followers: what changed is worked off by one replica or another, at least once, whatever became of the replica that changed it.
//!
//! Calls: a record that was committed is announced and its users' records follow (mostly it is so already), a timer that fired becomes
//! a tick, a user's changed calls are folded into the user's presence and compared with the calls they name. Presence: a gateway's
//! changed device record is folded; what was folded is looked at again, and told.
//!
//! What waits is worked off together (`task`): mostly somebody has said that there is nothing to do (`peers`), and otherwise it is seen in
//! three or four reads for all.

mod task;

use std::collections::BTreeMap;
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
/// How long what changed gathers at the server, calls and presence.
const GATHERED: [Duration; 2] = [Duration::from_millis(50), Duration::from_millis(20)];
/// How long a changed device waits here for those that come with it.
const WAITS: Duration = Duration::from_millis(5);
/// How long a record that a coordinator wrote waits for word of what is left to do for it ([`Peers`](crate::peers::Peers)): whoever wrote
/// it mostly gives it by then.
const WAITS_FOR_WORD: Duration = Duration::from_millis(100);
/// What would be due in this time is done together with what is.
const SOON: Duration = Duration::from_millis(20);
/// What may wait; beyond it the server waits.
const WAITING: usize = 1024;
/// Messages under way in all replicas together.
const PENDING: usize = 2048;

/// Starts both followers of an application; they end when `stop` says so, and give back what they have not begun.
pub async fn start(desk: &Arc<Desk>, bus: &Bus, stop: &watch::Receiver<bool>) -> Result<(), BusError> {
    let app = &desk.app.name;
    let calls =
        vec![store::calls_subject(app, "c.*"), store::calls_subject(app, "u.*"), timers::due_filter(app)];
    let presence = vec![store::presence_subject(app, "d.>"), store::presence_subject(app, "s.*")];
    let [calls_gather, presence_gather] = GATHERED;
    for (bucket, name, filters, gather) in [
        (calls_bucket(app), "coordinator_calls", calls, calls_gather),
        (presence_bucket(app), "coordinator_presence", presence, presence_gather),
    ] {
        let spec = ConsumerSpec {
            stream: bus::kv::stream_of(&bucket),
            durable: name.to_owned(),
            filters,
            ack_wait: ACK_WAIT,
            max_ack_pending: PENDING,
            gather,
        };
        let consumer = bus.consume(spec).await?;
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let devices = store::presence_subject(app, "d.");
        let follower =
            Follower { desk: desk.clone(), consumer, devices, waiting: BTreeMap::new(), took: 0, places };
        tokio::spawn(follower.run(stop.clone()));
    }
    Ok(())
}

/// One of the two buckets, to follow.
struct Follower {
    desk: Arc<Desk>,
    consumer: Consumer,
    /// How subjects of device records begin.
    devices: String,
    /// What waits, by when it has waited long enough, and in the order in which it came.
    waiting: BTreeMap<(Instant, u64), Delivered>,
    took: u64,
    places: Arc<Semaphore>,
}

impl Follower {
    async fn run(mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let due = self.waiting.first_key_value().map(|((due, _), _)| *due);
            let is_due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                _ = stop.changed() => return self.give_back(),
                () = is_due => self.work_off().await,
                message = self.consumer.next(), if self.waiting.len() < WAITING => self.take(message),
            }
        }
    }

    fn take(&mut self, message: Delivered) {
        let subject = &message.stored.subject;
        let waits = match () {
            () if timers::is_fired(&self.desk.app.name, subject) => Duration::ZERO,
            () if subject.starts_with(&self.devices) => WAITS,
            () => WAITS_FOR_WORD,
        };
        self.took += 1;
        self.waiting.insert((Instant::now() + waits, self.took), message);
    }

    /// Works off what has waited long enough, and with it what soon will have.
    async fn work_off(&mut self) {
        let place = self.places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let soon = Instant::now() + SOON;
        let mut batch = Vec::new();
        while batch.len() < TOGETHER
            && let Some(first) = self.waiting.first_entry().filter(|first| first.key().0 <= soon)
        {
            batch.push(first.remove());
        }
        let desk = self.desk.clone();
        tokio::spawn(async move {
            let deadline = Instant::now() + WORK_DEADLINE;
            task::run(&desk, batch, deadline).await;
            drop(place);
        });
    }

    /// Somebody else gets what was not begun.
    fn give_back(self) {
        self.waiting.into_values().for_each(|message| message.ack.nak(Duration::ZERO));
    }
}
