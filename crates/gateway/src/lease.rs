//! The node's lease and the set of nodes that hold one: a key per gateway in a bucket, renewed while the process lives.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bus::{AppendError, BucketSpec, Bus, BusError, ChangeKind, KvEntry, WatchEvent};
use bytes::Bytes;
use cluster::sid::NodeId;
use telemetry::Readiness;
use tokio::sync::{oneshot, watch};

/// A node that is silent this long is gone.
pub const TTL: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// A watch may pause for seconds after a leader change: the set is listed anew this often.
const RELIST_EVERY: Duration = Duration::from_secs(10);
/// A node that starts waits this long to learn who else is there.
const FIRST_LISTING: Duration = Duration::from_secs(2);
const BUCKET: &str = "TL_nodes";

/// Nodes with a lease, this one included once its own is written.
pub type Nodes = watch::Receiver<Arc<HashSet<NodeId>>>;

/// The condition of [`Readiness`] that stands for the lease.
pub const CONDITION: &str = "lease";

/// Creates the bucket, starts renewing and watching; returns once the nodes that hold a lease are known, or after
/// [`FIRST_LISTING`]. The tasks end with the runtime; [`Lease::give_up`] ends the lease at once.
pub async fn start(
    bus: &Bus,
    node: NodeId,
    replicas: usize,
    readiness: Readiness,
) -> Result<(Lease, Nodes), BusError> {
    bus.ensure_bucket(&BucketSpec::new(BUCKET, replicas)).await?;
    let (set, nodes) = watch::channel(Arc::new(HashSet::from([node])));
    let (listed, first_listing) = oneshot::channel();
    tokio::spawn(follow(bus.clone(), node, set, listed));
    let (returns, returned) = watch::channel(());
    let renewal =
        tokio::spawn(Renewal { bus: bus.clone(), node, rev: None, lapsed: false, returns }.run(readiness));
    if !matches!(tokio::time::timeout(FIRST_LISTING, first_listing).await, Ok(Ok(()))) {
        tracing::warn!("the nodes that hold a lease are not known yet");
    }
    Ok((Lease { bus: bus.clone(), node, renewal, returned }, nodes))
}

/// This node's lease.
#[derive(Debug)]
pub struct Lease {
    bus: Bus,
    node: NodeId,
    renewal: tokio::task::JoinHandle<()>,
    returned: watch::Receiver<()>,
}

impl Lease {
    /// Calls `back` whenever the lease had lapsed and is held again: others may have removed what this node has written.
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
        if let Err(error) = self.bus.kv_delete(BUCKET, self.node.as_str(), None).await {
            tracing::info!(%error, "the lease was left to run out");
        }
    }
}

struct Renewal {
    bus: Bus,
    node: NodeId,
    /// Revision of our last write; `None`: not held yet.
    rev: Option<u64>,
    /// It ran out since we held it.
    lapsed: bool,
    returns: watch::Sender<()>,
}

impl Renewal {
    async fn run(mut self, readiness: Readiness) {
        loop {
            match self.renew().await {
                Ok(()) => readiness.ready(CONDITION),
                Err(error) => {
                    tracing::warn!(%error, "the lease was not renewed");
                    readiness.not_ready(CONDITION, "the lease cannot be renewed");
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
        let last = self.bus.kv_get_at_leader(BUCKET, self.node.as_str()).await;
        if let Ok(Some(KvEntry { rev, value: Some(_), .. })) = last {
            return self.put(Some(rev)).await;
        }
        tracing::warn!("the lease had lapsed, it is taken again");
        self.lapsed = true;
        self.put(None).await
    }

    async fn put(&mut self, expect: Option<u64>) -> Result<(), AppendError> {
        let value = Bytes::from_static(b"1");
        let rev = self.bus.kv_put(BUCKET, self.node.as_str(), value, Some(TTL), expect).await?;
        self.rev = Some(rev);
        if std::mem::take(&mut self.lapsed) {
            // Nobody asks to be told when this fails.
            let _ = self.returns.send(());
        }
        Ok(())
    }
}

async fn follow(bus: Bus, me: NodeId, set: watch::Sender<Arc<HashSet<NodeId>>>, listed: oneshot::Sender<()>) {
    let mut watch = bus.kv_watch(BUCKET, ">", RELIST_EVERY);
    let mut nodes = HashSet::from([me]);
    let mut listed = Some(listed);
    loop {
        let change = match watch.next().await {
            WatchEvent::Change(change) => change,
            WatchEvent::Synced => {
                // Nobody waits for it any more when this fails.
                let _ = listed.take().map(|listed| listed.send(()));
                continue;
            }
        };
        let Some(node) = NodeId::parse(&change.key) else { continue };
        let changed = match change.kind {
            ChangeKind::Put(_) => nodes.insert(node),
            ChangeKind::Deleted { expired } => {
                if expired {
                    tracing::warn!(%node, "a node's lease ran out");
                }
                node != me && nodes.remove(&node)
            }
        };
        if changed && set.send(Arc::new(nodes.clone())).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use bus::BusConfig;
    use bus::child::{ChildOptions, NatsChild};

    use super::*;

    async fn soon<T>(wait: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("nothing came")
    }

    #[tokio::test]
    async fn a_lapsed_lease_is_taken_again_and_told_and_others_are_known_at_once() {
        let dir = std::env::temp_dir().join(format!("trunkline-lease-{}", std::process::id()));
        let child = NatsChild::start(ChildOptions::new(&dir)).await.unwrap();
        let bus =
            Bus::connect(BusConfig::for_server(child.url()), &prometheus::Registry::new()).await.unwrap();
        let [a, b] = [1, 2].map(NodeId::from_random);
        let (lease, mut nodes) = start(&bus, a, 1, Readiness::new([CONDITION])).await.unwrap();
        let (returns, mut returned) = watch::channel(());
        let mut renewal = Renewal { bus: bus.clone(), node: b, rev: None, lapsed: false, returns };
        renewal.renew().await.unwrap();
        soon(nodes.wait_for(|nodes| nodes.contains(&b))).await.unwrap();
        let (_, others) = start(&bus, NodeId::from_random(3), 1, Readiness::new([CONDITION])).await.unwrap();
        assert!(others.borrow().contains(&b));
        // A write of ours whose ack was lost is no lapse.
        bus.kv_put(BUCKET, b.as_str(), Bytes::from_static(b"1"), Some(TTL), None).await.unwrap();
        renewal.renew().await.unwrap();
        assert!(!returned.has_changed().unwrap());
        bus.kv_delete(BUCKET, b.as_str(), None).await.unwrap();
        renewal.renew().await.unwrap();
        soon(returned.changed()).await.unwrap();
        renewal.renew().await.unwrap();
        assert!(!returned.has_changed().unwrap());
        lease.give_up().await;
        child.stop().await;
        std::fs::remove_dir_all(dir).unwrap();
    }
}
