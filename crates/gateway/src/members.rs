//! Moving a user's sockets between rooms: whoever was asked asks every node that has a lease, each moves what it has. The answer
//! comes when all of them have; a node that died meanwhile has no sockets any more. A session that is just moving from one node to
//! another is served by the one or by the other, or by both (`shard::placing`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{BusError, Request, RequestError, Requests};
use cluster::sid::NodeId;
use domain::{Rejection, RoomId, UserId};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use crate::shard::{Control, ShardHandle, Shared};

/// One of the process that has the node's id.
const QUEUE: &str = "node";

/// Whose sockets are to be where.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    pub app: String,
    pub user: UserId,
    pub join: Vec<RoomId>,
    pub leave: Vec<RoomId>,
}

/// How many sockets were moved; `None`: not all could be.
type Moved = Option<usize>;

/// Serves the other nodes until the runtime ends.
pub fn listen(shared: &Arc<Shared>, shards: &[ShardHandle]) -> Result<(), BusError> {
    let requests = shared.bus.serve(&subject(shared.id), QUEUE)?;
    tokio::spawn(serve(shared.clone(), shards.to_vec(), requests));
    Ok(())
}

/// Moves the user's sockets on every node; settles when all are where they are to be.
pub async fn everywhere(shared: &Shared, order: &Move) -> Result<usize, Rejection> {
    let app = shared.apps.iter().find(|app| app.name() == order.app).ok_or(Rejection::Unavailable)?;
    let deadline = Instant::now() + Duration::from_millis(app.limits.publish_timeout_ms);
    let body = serde_json::to_vec(order).expect("rooms have string names");
    let nodes = shared.nodes.borrow().clone();
    let waits = nodes.iter().map(|node| shared.bus.request(&subject(*node), &body, deadline));
    let mut moved = 0;
    for answer in join_all(waits).await {
        match answer.map(|body| serde_json::from_slice::<Moved>(&body)) {
            Ok(Ok(Some(count))) => moved += count,
            Err(RequestError::NoResponders) => {}
            Ok(_) | Err(_) => return Err(Rejection::Unavailable),
        }
    }
    Ok(moved)
}

fn subject(node: NodeId) -> String {
    format!("tl.node.{node}.members")
}

async fn serve(shared: Arc<Shared>, shards: Vec<ShardHandle>, mut requests: Requests) {
    loop {
        let request = requests.next().await;
        let (shared, shards) = (shared.clone(), shards.clone());
        tokio::spawn(async move { answer(&shared, &shards, &request).await });
    }
}

async fn answer(shared: &Shared, shards: &[ShardHandle], request: &Request) {
    let moved = match serde_json::from_slice::<Move>(&request.payload) {
        Ok(order) => here(shared, shards, order).await,
        Err(error) => {
            tracing::warn!(%error, "a request to move a user could not be read");
            None
        }
    };
    let body = serde_json::to_vec(&moved).expect("a number has a JSON form");
    if let Err(error) = shared.bus.reply(&request.reply, body) {
        tracing::warn!(%error, "an answer to another node was not sent");
    }
}

/// An application that this node does not serve has no sockets here.
async fn here(shared: &Shared, shards: &[ShardHandle], order: Move) -> Moved {
    let Some(app) = shared.apps.iter().find(|app| app.name() == order.app) else { return Some(0) };
    let order = Arc::new(order);
    let waits = shards.iter().map(|shard| {
        let (done, moved) = oneshot::channel();
        shard.control(Control::Move { app: app.ix, order: order.clone(), done });
        moved
    });
    let mut sum = 0;
    for moved in join_all(waits).await {
        sum += moved.ok()?.ok()?;
    }
    Some(sum)
}
