//! The node's lease and the set of nodes that hold one: a key per gateway in a bucket, renewed while the process lives.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bus::{BucketSpec, Bus, BusError, ChangeKind, WatchEvent};
use bytes::Bytes;
use cluster::sid::NodeId;
use telemetry::Readiness;
use tokio::sync::watch;

/// A node that is silent this long is gone.
pub const TTL: Duration = Duration::from_secs(15);
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// A watch may pause for seconds after a leader change: the set is listed anew this often.
const RELIST_EVERY: Duration = Duration::from_secs(10);
const BUCKET: &str = "TL_nodes";

/// Nodes with a lease, this one included once its own is written.
pub type Nodes = watch::Receiver<Arc<HashSet<NodeId>>>;

/// The condition of [`Readiness`] that stands for the lease.
pub const CONDITION: &str = "lease";

/// Creates the bucket, starts renewing and watching. The tasks end with the runtime; [`Lease::give_up`] ends the lease at once.
pub async fn start(
    bus: &Bus,
    node: NodeId,
    replicas: usize,
    readiness: Readiness,
) -> Result<(Lease, Nodes), BusError> {
    bus.ensure_bucket(&BucketSpec::new(BUCKET, replicas)).await?;
    let (set, nodes) = watch::channel(Arc::new(HashSet::from([node])));
    tokio::spawn(follow(bus.clone(), node, set));
    let renewal = tokio::spawn(renew(bus.clone(), node, readiness));
    Ok((Lease { bus: bus.clone(), node, renewal }, nodes))
}

/// This node's lease.
#[derive(Debug)]
pub struct Lease {
    bus: Bus,
    node: NodeId,
    renewal: tokio::task::JoinHandle<()>,
}

impl Lease {
    /// Ends the lease now, so that nobody waits for it to run out. The last step of a drain.
    pub async fn give_up(self) {
        self.renewal.abort();
        if let Err(error) = self.bus.kv_delete(BUCKET, self.node.as_str(), None).await {
            tracing::info!(%error, "the lease was left to run out");
        }
    }
}

async fn renew(bus: Bus, node: NodeId, readiness: Readiness) {
    loop {
        match bus.kv_put(BUCKET, node.as_str(), Bytes::from_static(b"1"), Some(TTL), None).await {
            Ok(_) => readiness.ready(CONDITION),
            Err(error) => {
                tracing::warn!(%error, "the lease was not renewed");
                readiness.not_ready(CONDITION, "the lease cannot be renewed");
            }
        }
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

async fn follow(bus: Bus, me: NodeId, set: watch::Sender<Arc<HashSet<NodeId>>>) {
    let mut watch = bus.kv_watch(BUCKET, ">", RELIST_EVERY);
    let mut nodes = HashSet::from([me]);
    loop {
        let WatchEvent::Change(change) = watch.next().await else { continue };
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
