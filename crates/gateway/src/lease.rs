//! The node's lease and the set of nodes that hold one; [`bus::lease`] keeps them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

pub use bus::lease::{Lease, TTL};

use bus::lease::{Followed, LeaseEvent, LeaseState, follow};
use bus::{Bus, BusError};
use bytes::Bytes;
use cluster::sid::NodeId;
use telemetry::Readiness;
use tokio::sync::{oneshot, watch};

/// A node that starts waits this long to learn who else is there.
const FIRST_LISTING: Duration = Duration::from_secs(2);
const BUCKET: &str = "TL_nodes";

/// Nodes with a lease, this one included once its own is written.
pub type Nodes = watch::Receiver<Arc<HashSet<NodeId>>>;

/// The condition of [`Readiness`] that stands for the lease.
pub const CONDITION: &str = "lease";

/// Starts renewing and watching; returns once the nodes that hold a lease are known, or after [`FIRST_LISTING`]. The tasks end
/// with the runtime; [`Lease::give_up`] ends the lease at once.
pub async fn start(
    bus: &Bus,
    node: NodeId,
    replicas: usize,
    readiness: Readiness,
) -> Result<(Lease, Nodes), BusError> {
    let tell = move |state| match state {
        LeaseState::Held => readiness.ready(CONDITION),
        LeaseState::NotRenewed => readiness.not_ready(CONDITION, "the lease cannot be renewed"),
    };
    let lease = Lease::start(bus, BUCKET, node.as_str(), Bytes::from_static(b"1"), replicas, tell).await?;
    let (set, nodes) = watch::channel(Arc::new(HashSet::from([node])));
    let (listed, first_listing) = oneshot::channel();
    tokio::spawn(keep(follow(bus, BUCKET), node, set, listed));
    if !matches!(tokio::time::timeout(FIRST_LISTING, first_listing).await, Ok(Ok(()))) {
        tracing::warn!("the nodes that hold a lease are not known yet");
    }
    Ok((lease, nodes))
}

/// Keeps the set up to date; this node stays in it whatever the bucket says.
async fn keep(
    mut leases: Followed,
    me: NodeId,
    set: watch::Sender<Arc<HashSet<NodeId>>>,
    listed: oneshot::Sender<()>,
) {
    let mut nodes = HashSet::from([me]);
    let mut listed = Some(listed);
    loop {
        let changed = match leases.next().await {
            LeaseEvent::Held(key) => NodeId::parse(&key).is_some_and(|node| nodes.insert(node)),
            LeaseEvent::GivenUp(key) => remove(&mut nodes, me, &key),
            LeaseEvent::Expired(key) => {
                tracing::warn!(node = %key, "a node's lease ran out");
                remove(&mut nodes, me, &key)
            }
            LeaseEvent::Listed => {
                // Nobody waits for it any more when this fails.
                let _ = listed.take().map(|listed| listed.send(()));
                false
            }
        };
        if changed && set.send(Arc::new(nodes.clone())).is_err() {
            return;
        }
    }
}

fn remove(nodes: &mut HashSet<NodeId>, me: NodeId, key: &str) -> bool {
    NodeId::parse(key).is_some_and(|node| node != me && nodes.remove(&node))
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
    async fn nodes_are_known_at_once_and_gone_when_they_give_up() {
        let dir = std::env::temp_dir().join(format!("trunkline-nodes-{}", std::process::id()));
        let child = NatsChild::start(ChildOptions::new(&dir)).await.unwrap();
        let bus =
            Bus::connect(BusConfig::for_server(child.url()), &prometheus::Registry::new()).await.unwrap();
        let [a, b, c] = [1, 2, 3].map(NodeId::from_random);
        let readiness = || Readiness::new([CONDITION]);
        let (_lease, mut nodes) = start(&bus, a, 1, readiness()).await.unwrap();
        let (lease, _) = start(&bus, b, 1, readiness()).await.unwrap();
        soon(nodes.wait_for(|nodes| nodes.contains(&b))).await.unwrap();
        let (_, others) = start(&bus, c, 1, readiness()).await.unwrap();
        assert!(others.borrow().contains(&b) && others.borrow().contains(&c));
        lease.give_up().await;
        soon(nodes.wait_for(|nodes| !nodes.contains(&b))).await.unwrap();
        // Whatever happens to its lease, a node counts itself in: the news come in the order of the deletes.
        bus.kv_delete(BUCKET, a.as_str(), None).await.unwrap();
        bus.kv_delete(BUCKET, c.as_str(), None).await.unwrap();
        soon(nodes.wait_for(|nodes| !nodes.contains(&c))).await.unwrap();
        assert!(nodes.borrow().contains(&a));
        child.stop().await;
        std::fs::remove_dir_all(dir).unwrap();
    }
}
