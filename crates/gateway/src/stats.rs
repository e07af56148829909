//! Cluster-wide numbers: each node keeps a record of what it serves, under a short lease; whoever is asked sums what is there and
//! waits for nobody. What the asked node serves itself is counted at that moment, the others' numbers are up to a second old.
//!
//! `<node>` holds the counts, `<node>.<application>.<i>` a part of the list of clients, which counts as long as the counts do.

mod publish;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{KvEntry, ReadError};
use cluster::sid::NodeId;
use cluster::subject::escape_token;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::shard::{Control, ShardHandle, Shared};
pub use publish::start;
use users::Users;

pub const BUCKET: &str = "TL_stats";

/// A thread that does not count within this time is left out this once.
const COUNT_WAIT: Duration = Duration::from_secs(2);

/// Clients of one part of a list: their record stays far below what one NATS message may hold.
const CLIENTS_PER_PART: usize = 256;

/// What one thread, or one node, counts of an application.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppCount {
    pub total: u64,
    pub by_role: BTreeMap<String, u64>,
    /// Hashes of the users' ids.
    pub users: Vec<u64>,
}

/// A socket, as lists of clients show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Client {
    #[serde(rename = "s")]
    pub socket: String,
    /// As clients see it.
    #[serde(rename = "u")]
    pub user: Option<Value>,
    #[serde(rename = "r")]
    pub role: Option<String>,
    /// Milliseconds since the Unix epoch.
    #[serde(rename = "c")]
    pub connected_ms: u64,
    #[serde(rename = "n")]
    pub node: String,
    #[serde(rename = "t")]
    pub transport: String,
}

/// What a node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct NodeRecord {
    apps: BTreeMap<String, AppRecord>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct AppRecord {
    total: u64,
    #[serde(default)]
    by_role: BTreeMap<String, u64>,
    #[serde(default)]
    users: Users,
    /// Parts of its list of clients.
    #[serde(default)]
    parts: usize,
}

/// An application's numbers over all nodes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    pub total: u64,
    pub by_role: BTreeMap<String, u64>,
    /// Exact for some thousands of users of each node, within some percent beyond.
    pub users: u64,
    pub by_node: BTreeMap<String, u64>,
}

/// Clients of an application, and where the list goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    pub clients: Vec<Client>,
    pub next: Option<String>,
}

impl Client {
    /// As applications see it.
    pub fn to_json(&self, numeric_ids: bool) -> Value {
        let number = |user: &Value| {
            let text = user.as_str().filter(|_| numeric_ids)?;
            let number: i64 = text.parse().ok()?;
            (number.to_string() == text).then(|| Value::from(number))
        };
        let user = self.user.as_ref().map(|user| number(user).unwrap_or_else(|| user.clone()));
        json!({
            "socketId": self.socket,
            "userId": user,
            "role": self.role,
            "connectedAt": dialects::iso(self.connected_ms),
            "node": self.node,
            "transport": self.transport,
        })
    }
}

impl AppCount {
    fn add(&mut self, other: AppCount) {
        self.total += other.total;
        for (role, count) in other.by_role {
            *self.by_role.entry(role).or_default() += count;
        }
        self.users.extend(other.users);
    }

    fn into_record(mut self, parts: usize) -> AppRecord {
        self.users.sort_unstable();
        self.users.dedup();
        AppRecord { total: self.total, by_role: self.by_role, users: Users::of(self.users), parts }
    }
}

/// What this node serves, by application in their order.
async fn count_here(shared: &Shared, shards: &[ShardHandle]) -> Vec<AppCount> {
    let waits = shards.iter().map(|shard| {
        let (done, counted) = oneshot::channel();
        shard.control(Control::Count { done });
        tokio::time::timeout(COUNT_WAIT, counted)
    });
    let mut sum: Vec<AppCount> = shared.apps.iter().map(|_| AppCount::default()).collect();
    for counts in join_all(waits).await.into_iter().filter_map(|counted| counted.ok()?.ok()) {
        sum.iter_mut().zip(counts).for_each(|(sum, count)| sum.add(count));
    }
    sum
}

/// Clients that this node serves, up to the application's limit.
async fn clients_here(shared: &Shared, shards: &[ShardHandle], app: u16) -> Vec<Client> {
    let limit = shared.app(app).limits.clients_listed;
    let waits = shards.iter().map(|shard| {
        let (done, listed) = oneshot::channel();
        shard.control(Control::Clients { app, limit, done });
        tokio::time::timeout(COUNT_WAIT, listed)
    });
    let lists = join_all(waits).await.into_iter().filter_map(|listed| listed.ok()?.ok());
    lists.flatten().take(limit).collect()
}

/// An application's numbers.
pub async fn totals(shared: &Arc<Shared>, shards: &[ShardHandle], app: u16) -> Result<Totals, ReadError> {
    let name = shared.app(app).name();
    let others = node_records(shared).await?;
    let here = std::mem::take(&mut count_here(shared, shards).await[usize::from(app)]).into_record(0);
    let others = others.into_iter().filter_map(|(node, mut record)| Some((node, record.apps.remove(name)?)));
    let mut totals = Totals::default();
    let mut users = Users::default();
    for (node, record) in others.chain([(shared.id, here)]) {
        totals.total += record.total;
        totals.by_node.insert(node.to_string(), record.total);
        for (role, count) in record.by_role {
            *totals.by_role.entry(role).or_default() += count;
        }
        users.merge(record.users);
    }
    totals.users = users.count();
    Ok(totals)
}

/// Clients of an application in the order of their socket ids, after one; `limit` at most.
pub async fn clients(
    shared: &Arc<Shared>,
    shards: &[ShardHandle],
    app: u16,
    after: Option<&str>,
    limit: usize,
) -> Result<Page, ReadError> {
    let token = escape_token(shared.app(app).name());
    let counted = node_records(shared).await?;
    let parts = shared.bus.kv_list(BUCKET, &format!("*.{token}.*")).await?;
    let mut clients = clients_here(shared, shards, app).await;
    for entry in parts {
        let Some((node, part)) = part_of(&entry.key) else { continue };
        let record = counted.iter().find(|(counted, _)| *counted == node).map(|(_, record)| record);
        let known = record.and_then(|record| record.apps.get(shared.app(app).name()));
        if known.is_some_and(|known| part < known.parts) {
            clients.extend(decode::<Vec<Client>>(&entry).unwrap_or_default());
        }
    }
    Ok(page(clients, after, limit))
}

fn page(mut clients: Vec<Client>, after: Option<&str>, limit: usize) -> Page {
    clients.retain(|client| after.is_none_or(|after| *client.socket > *after));
    clients.sort_unstable_by(|a, b| a.socket.cmp(&b.socket));
    // A session that moved may be listed at both nodes for a moment.
    clients.dedup_by(|a, b| a.socket == b.socket);
    let more = clients.len() > limit;
    clients.truncate(limit);
    let next = clients.last().filter(|_| more).map(|client| client.socket.clone());
    Page { clients, next }
}

/// Records of the other nodes that are alive.
async fn node_records(shared: &Shared) -> Result<Vec<(NodeId, NodeRecord)>, ReadError> {
    let entries = shared.bus.kv_list(BUCKET, "*").await?;
    let alive = shared.nodes.borrow().clone();
    let record = |entry: KvEntry| {
        let node = NodeId::parse(&entry.key)?;
        (node != shared.id && alive.contains(&node)).then_some((node, decode(&entry)?))
    };
    Ok(entries.into_iter().filter_map(record).collect())
}

fn decode<T: serde::de::DeserializeOwned>(entry: &KvEntry) -> Option<T> {
    let decoded = rmp_serde::from_slice(entry.value.as_ref()?);
    decoded.inspect_err(|error| tracing::warn!(key = entry.key, %error, "a count could not be read")).ok()
}

fn part_key(node: NodeId, app: &str, part: usize) -> String {
    format!("{node}.{}.{part}", escape_token(app))
}

fn part_of(key: &str) -> Option<(NodeId, usize)> {
    let (rest, part) = key.rsplit_once('.')?;
    let (node, _) = rest.split_once('.')?;
    Some((NodeId::parse(node)?, part.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(socket: &str) -> Client {
        Client {
            socket: socket.to_owned(),
            user: Some("7".into()),
            role: None,
            connected_ms: 0,
            node: "n".to_owned(),
            transport: "polling".to_owned(),
        }
    }

    #[test]
    fn pages_follow_one_another_without_overlap() {
        let all = || ["c", "a", "b", "b"].map(client).to_vec();
        let first = page(all(), None, 2);
        assert_eq!((first.clients.len(), first.next.as_deref()), (2, Some("b")));
        let second = page(all(), first.next.as_deref(), 2);
        assert_eq!((second.clients, second.next), (vec![client("c")], None));
    }

    #[test]
    fn keys_of_parts_are_read_as_written() {
        let node = NodeId::from_random(7);
        assert_eq!(part_of(&part_key(node, "a.b", 3)), Some((node, 3)));
        assert_eq!(part_of("nonsense"), None);
    }

    #[test]
    fn ids_that_are_numbers_go_out_as_numbers_where_clients_compare() {
        assert_eq!(client("a").to_json(true)["userId"], 7);
        assert_eq!(client("a").to_json(false)["userId"], "7");
        let odd = Client { user: Some("07".into()), ..client("a") };
        assert_eq!(odd.to_json(true)["userId"], "07");
    }
}
