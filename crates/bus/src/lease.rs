//! Leases: a key per process in a bucket, renewed while the process lives, and the view of who holds one.
//!
//! Owns the renewal, what happens when a lease lapsed, and the news about everybody's. What a key stands for is the
//! caller's. Start at [`Lease::start`] and [`follow`].

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::bus::Bus;
use crate::error::{AppendError, BusError};
use crate::kv::KvWatch;
use crate::types::{BucketSpec, Change, ChangeKind, KvEntry, WatchEvent};

/// A process that is silent this long is gone.
pub const TTL: Duration = Duration::from_secs(15);
/// Three renewals may fail before a lease runs out.
pub const RENEW_EVERY: Duration = Duration::from_secs(4);
/// A watch may pause for seconds after a leader change: holders are listed anew this often.
pub const RELIST_EVERY: Duration = Duration::from_secs(10);

/// What the last renewal said of the own lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseState {
    Held,
    /// It could not be renewed: it runs out [`TTL`] after the last success.
    NotRenewed,
}

/// The own lease. Its renewal goes on until [`Lease::give_up`] or the end of the runtime.
#[derive(Debug)]
pub struct Lease {
    bus: Bus,
    bucket: String,
    key: String,
    renewal: JoinHandle<()>,
    returned: watch::Receiver<()>,
}

impl Lease {
    /// Makes the bucket and starts renewing `key` in it, whose only writer this is; the first write follows at once.
    /// `on_state` hears the outcome of every renewal.
    pub async fn start(
        bus: &Bus,
        bucket: &str,
        key: &str,
        value: Bytes,
        replicas: usize,
        on_state: impl Fn(LeaseState) + Send + 'static,
    ) -> Result<Lease, BusError> {
        bus.ensure_bucket(&BucketSpec::new(bucket, replicas)).await?;
        let (renewal, returned) = Renewal::new(bus, bucket, key, value);
        let renewal = tokio::spawn(renewal.run(on_state));
        Ok(Lease { bus: bus.clone(), bucket: bucket.to_owned(), key: key.to_owned(), renewal, returned })
    }

    /// Calls `back` whenever the lease had lapsed and is held again: others may have removed what this process has written.
    pub fn on_return(&self, back: impl Fn() + Send + 'static) {
        let mut returned = self.returned.clone();
        tokio::spawn(async move {
            while returned.changed().await.is_ok() {
                back();
            }
        });
    }

    /// Ends the lease now, so that nobody waits for it to run out. The last step of a drain.
    pub async fn give_up(self) {
        self.renewal.abort();
        if let Err(error) = self.bus.kv_delete(&self.bucket, &self.key, None).await {
            tracing::info!(%error, "the lease was left to run out");
        }
    }
}

struct Renewal {
    bus: Bus,
    bucket: String,
    key: String,
    value: Bytes,
    /// Revision of our last write; `None`: not held yet.
    rev: Option<u64>,
    /// It ran out since we held it.
    lapsed: bool,
    returns: watch::Sender<()>,
}

impl Renewal {
    fn new(bus: &Bus, bucket: &str, key: &str, value: Bytes) -> (Self, watch::Receiver<()>) {
        let (returns, returned) = watch::channel(());
        let (bucket, key) = (bucket.to_owned(), key.to_owned());
        (Self { bus: bus.clone(), bucket, key, value, rev: None, lapsed: false, returns }, returned)
    }

    async fn run(mut self, on_state: impl Fn(LeaseState) + Send + 'static) {
        loop {
            match self.renew().await {
                Ok(()) => on_state(LeaseState::Held),
                Err(error) => {
                    self.bus.shared().metrics.lease_failures.inc();
                    tracing::warn!(%error, "the lease was not renewed");
                    on_state(LeaseState::NotRenewed);
                }
            }
            tokio::time::sleep(RENEW_EVERY).await;
        }
    }

    async fn renew(&mut self) -> Result<(), AppendError> {
        match self.put(self.rev).await {
            Err(AppendError::Conflict { .. }) => {}
            done => return done,
        }
        // Nobody else writes this key: it ran out, or a write of ours that seemed to fail was stored after all.
        let last = self.bus.kv_get_at_leader(&self.bucket, &self.key).await;
        if let Ok(Some(KvEntry { rev, value: Some(_), .. })) = last {
            return self.put(Some(rev)).await;
        }
        self.bus.shared().metrics.lease_lapses.inc();
        tracing::warn!("the lease had lapsed, it is taken again");
        self.lapsed = true;
        self.put(None).await
    }

    async fn put(&mut self, expect: Option<u64>) -> Result<(), AppendError> {
        let value = self.value.clone();
        let rev = self.bus.kv_put(&self.bucket, &self.key, value, Some(TTL), expect).await?;
        self.rev = Some(rev);
        if std::mem::take(&mut self.lapsed) {
            // Nobody asks to be told when this fails.
            let _ = self.returns.send(());
        }
        Ok(())
    }
}

/// News of the leases in a bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseEvent {
    /// Somebody new holds one.
    Held(String),
    /// It was not renewed in time; also told when nobody knows how it went.
    Expired(String),
    /// Its holder left in good order.
    GivenUp(String),
    /// All holders are known: once after the start, and after every later listing.
    Listed,
}

/// Who holds a lease, kept up to date by [`Followed::next`].
#[derive(Debug)]
pub struct Followed {
    watch: KvWatch,
    held: HashMap<String, u64>,
}

/// Follows the leases of a bucket, from a listing on. Keys that were gone before are not told.
pub fn follow(bus: &Bus, bucket: &str) -> Followed {
    Followed { watch: bus.kv_watch(bucket, ">", RELIST_EVERY), held: HashMap::new() }
}

impl Followed {
    /// The next piece of news; renewals are none. Cancelling the call loses nothing.
    pub async fn next(&mut self) -> LeaseEvent {
        loop {
            let event = match self.watch.next().await {
                WatchEvent::Change(change) => self.note(change),
                WatchEvent::Synced => Some(LeaseEvent::Listed),
            };
            if let Some(event) = event {
                return event;
            }
        }
    }

    /// Holders and the revisions of their last renewals, as far as they were told.
    pub fn held(&self) -> &HashMap<String, u64> {
        &self.held
    }

    fn note(&mut self, Change { key, rev, kind }: Change) -> Option<LeaseEvent> {
        match kind {
            ChangeKind::Put(_) => {
                self.held.insert(key.clone(), rev).is_none().then_some(LeaseEvent::Held(key))
            }
            ChangeKind::Deleted { expired } => {
                self.held.remove(&key)?;
                Some(if expired { LeaseEvent::Expired(key) } else { LeaseEvent::GivenUp(key) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::{ChildOptions, NatsChild};
    use crate::config::BusConfig;

    async fn soon<T>(wait: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("nothing came")
    }

    fn renewal(bus: &Bus, key: &str) -> (Renewal, watch::Receiver<()>) {
        Renewal::new(bus, "leases", key, Bytes::from_static(b"1"))
    }

    #[tokio::test]
    async fn a_lapsed_lease_is_taken_again_and_told() {
        let dir = std::env::temp_dir().join(format!("trunkline-lease-{}", std::process::id()));
        let child = NatsChild::start(ChildOptions::new(&dir)).await.unwrap();
        let bus =
            Bus::connect(BusConfig::for_server(child.url()), &prometheus::Registry::new()).await.unwrap();
        bus.ensure_bucket(&BucketSpec::new("leases", 1)).await.unwrap();
        let mut followed = follow(&bus, "leases");
        let (mut renewal, mut returned) = renewal(&bus, "b");
        renewal.renew().await.unwrap();
        renewal.renew().await.unwrap();
        loop {
            match soon(followed.next()).await {
                LeaseEvent::Listed => {}
                event => break assert_eq!(event, LeaseEvent::Held("b".to_owned())),
            }
        }
        // A write of ours whose ack was lost is no lapse.
        bus.kv_put("leases", "b", Bytes::from_static(b"1"), Some(TTL), None).await.unwrap();
        renewal.renew().await.unwrap();
        assert!(!returned.has_changed().unwrap());
        bus.kv_delete("leases", "b", None).await.unwrap();
        renewal.renew().await.unwrap();
        soon(returned.changed()).await.unwrap();
        renewal.renew().await.unwrap();
        assert!(!returned.has_changed().unwrap());
        child.stop().await;
        std::fs::remove_dir_all(dir).unwrap();
    }
}
