//! A node's own records: written when something changed, and often enough that they do not run out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bus::AppendError;
use bytes::Bytes;

use super::{BUCKET, CLIENTS_PER_PART, NodeRecord, clients_here, count_here, part_key};
use crate::shard::{ShardHandle, Shared};

/// As the node's own lease.
const TTL: Duration = bus::lease::TTL;
const RENEW: Duration = bus::lease::RENEW_EVERY;

/// How soon a change is written, and how soon the next one.
const PAUSE: Duration = Duration::from_millis(250);

/// Lists of clients are larger, and less in a hurry.
const LIST_PAUSE: Duration = Duration::from_secs(1);

/// A part of a list that did not change is left as it is; it counts only with the node's counts.
const PART_TTL: Duration = Duration::from_secs(600);
const PART_RENEW: Duration = Duration::from_secs(240);

/// Keeps the node's records until the runtime ends.
pub fn start(shared: Arc<Shared>, shards: Vec<ShardHandle>) {
    let publisher = Publisher {
        shared,
        shards,
        counted: None,
        written: None,
        listed: None,
        list_written: None,
        parts: HashMap::new(),
    };
    tokio::spawn(publisher.run());
}

struct Publisher {
    shared: Arc<Shared>,
    shards: Vec<ShardHandle>,
    /// The state of the census that was written last, and when.
    counted: Option<u64>,
    written: Option<Instant>,
    /// The same of the lists of clients.
    listed: Option<u64>,
    list_written: Option<Instant>,
    parts: HashMap<String, Part>,
}

struct Part {
    bytes: Bytes,
    at: Instant,
}

impl Publisher {
    async fn run(mut self) {
        loop {
            tokio::time::sleep(PAUSE).await;
            let state = self.shared.census.load(Ordering::Relaxed);
            let list_due = self.list_written.is_none_or(|at| at.elapsed() >= LIST_PAUSE);
            let lists_old = self.list_written.is_some_and(|at| at.elapsed() >= RENEW);
            if list_due && (self.listed != Some(state) || lists_old) && self.write_lists().await.is_ok() {
                self.listed = Some(state);
                self.list_written = Some(Instant::now());
                // The counts say how many parts count.
                self.counted = None;
            }
            let old = self.written.is_none_or(|at| at.elapsed() >= RENEW);
            if (self.counted != Some(state) || old) && self.write_counts().await.is_ok() {
                self.counted = Some(state);
                self.written = Some(Instant::now());
            }
        }
    }

    async fn write_counts(&self) -> Result<(), AppendError> {
        let counts = count_here(&self.shared, &self.shards).await;
        let apps = self.shared.apps.iter().zip(counts).map(|(app, count)| {
            let prefix = part_prefix(&self.shared, app.name());
            let parts = self.parts.keys().filter(|key| key.starts_with(&prefix)).count();
            (app.name().to_owned(), count.into_record(parts))
        });
        let record = NodeRecord { apps: apps.collect() };
        let key = self.shared.id.to_string();
        let written = self.shared.bus.kv_put(BUCKET, &key, encode(&record), Some(TTL), None).await;
        written.map(drop).inspect_err(|error| tracing::warn!(%error, "the node's counts were not written"))
    }

    async fn write_lists(&mut self) -> Result<(), AppendError> {
        let shared = self.shared.clone();
        for app in shared.apps.iter() {
            let clients = clients_here(&shared, &self.shards, app.ix).await;
            let mut count = 0;
            for (index, part) in clients.chunks(CLIENTS_PER_PART).enumerate() {
                self.write_part(part_key(shared.id, app.name(), index), encode(&part)).await?;
                count = index + 1;
            }
            let prefix = part_prefix(&shared, app.name());
            self.parts.retain(|key, _| {
                let index = key.strip_prefix(&prefix).and_then(|index| index.parse::<usize>().ok());
                index.is_none_or(|index| index < count)
            });
        }
        Ok(())
    }

    async fn write_part(&mut self, key: String, bytes: Bytes) -> Result<(), AppendError> {
        let kept =
            self.parts.get(&key).is_some_and(|part| part.bytes == bytes && part.at.elapsed() < PART_RENEW);
        if kept {
            return Ok(());
        }
        let written = self.shared.bus.kv_put(BUCKET, &key, bytes.clone(), Some(PART_TTL), None).await;
        written.inspect_err(|error| tracing::warn!(%error, "a list of clients was not written"))?;
        self.parts.insert(key, Part { bytes, at: Instant::now() });
        Ok(())
    }
}

fn part_prefix(shared: &Shared, app: &str) -> String {
    let key = part_key(shared.id, app, 0);
    key[..key.len() - 1].to_owned()
}

fn encode(value: &impl serde::Serialize) -> Bytes {
    rmp_serde::to_vec_named(value).expect("counts have string keys").into()
}
