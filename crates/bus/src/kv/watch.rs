//! Watches of KV buckets that repair themselves.
//!
//! Each pass is one ordered consumer: it lists the last message of every key and then follows the changes. A pass ends when
//! its time is over or the consumer breaks; the next one lists again. Known revisions keep repeats from the
//! caller, and a key that is missing from a whole listing is told as deleted, so nothing stays wrong longer than a pass.

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy, push};
use async_nats::jetstream::{self, Message};
use bytes::Bytes;
use futures_util::StreamExt;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{stream_of, subject_of};
use crate::bus::Bus;
use crate::read::header;
use crate::types::{Change, ChangeKind, WatchEvent};

/// Events that wait for the caller; beyond it the watch pauses, and the consumer starts over if it must.
const CHANNEL_EVENTS: usize = 1024;
/// Pause after a pass that broke.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// A running watch; dropping it ends it.
#[derive(Debug)]
pub struct KvWatch {
    events: mpsc::Receiver<WatchEvent>,
    task: JoinHandle<()>,
}

impl KvWatch {
    /// The next change, or [`WatchEvent::Synced`] after a whole listing. Cancelling the call loses nothing.
    pub async fn next(&mut self) -> WatchEvent {
        match self.events.recv().await {
            Some(event) => event,
            // Only a runtime that shuts down ends the task before the watch.
            None => std::future::pending().await,
        }
    }
}

impl Drop for KvWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Bus {
    /// Follows the keys that match `filter` (a key with wildcards): all values at first, then the changes. Lists again every
    /// `relist`, because a watch may miss changes while streams move. Runs on the calling runtime.
    pub fn kv_watch(&self, bucket: &str, filter: &str, relist: Duration) -> KvWatch {
        let (sender, events) = mpsc::channel(CHANNEL_EVENTS);
        let watcher = Watcher {
            jetstream: jetstream::new(self.inner.client.nats.clone()),
            timeout: self.inner.client.timeout,
            stream: stream_of(bucket),
            subject: subject_of(bucket, filter),
            prefix: subject_of(bucket, ""),
            relist,
            known: FxHashMap::default(),
            sender,
        };
        KvWatch { events, task: tokio::spawn(watcher.run()) }
    }
}

struct Watcher {
    jetstream: jetstream::Context,
    timeout: Duration,
    stream: String,
    subject: String,
    prefix: String,
    relist: Duration,
    /// Last revision of each key with a value, and the pass that saw it.
    known: FxHashMap<String, (u64, u64)>,
    sender: mpsc::Sender<WatchEvent>,
}

/// Why a pass ended.
enum PassEnd {
    TimeToList,
    Broken(String),
    CallerGone,
}

impl Watcher {
    async fn run(mut self) {
        for pass in 0.. {
            match self.pass(pass).await {
                PassEnd::TimeToList => {}
                PassEnd::CallerGone => return,
                PassEnd::Broken(reason) => {
                    tracing::debug!(subject = %self.subject, reason, "a KV watch starts over");
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn pass(&mut self, pass: u64) -> PassEnd {
        let until = Instant::now() + self.relist;
        let opening = tokio::time::timeout(self.timeout, self.open()).await;
        let (mut messages, mut pending) = match opening {
            Ok(Ok(opened)) => opened,
            Ok(Err(reason)) => return PassEnd::Broken(reason),
            Err(_) => return PassEnd::Broken("timed out".to_owned()),
        };
        if pending == 0 && self.finish_listing(pass).await.is_err() {
            return PassEnd::CallerGone;
        }
        loop {
            // An unfinished listing is not given up for the next one.
            let wait = if pending > 0 { Instant::now() + self.timeout } else { until };
            let message = match tokio::time::timeout_at(wait.into(), messages.next()).await {
                Ok(Some(Ok(message))) => message,
                Ok(Some(Err(error))) => return PassEnd::Broken(error.to_string()),
                Ok(None) => return PassEnd::Broken("the consumer ended".to_owned()),
                Err(_) if pending > 0 => return PassEnd::Broken("the listing stopped".to_owned()),
                Err(_) => return PassEnd::TimeToList,
            };
            let was_listing = pending > 0;
            // A value that was replaced while it waited is not sent: the server's count then ends earlier than ours.
            let rest = message.info().map_or(0, |info| info.pending);
            pending = pending.saturating_sub(1).min(rest);
            if self.deliver(&message, pass).await.is_err() {
                return PassEnd::CallerGone;
            }
            if was_listing && pending == 0 && self.finish_listing(pass).await.is_err() {
                return PassEnd::CallerGone;
            }
        }
    }

    /// A consumer over the last message of every key, and how many of those there are.
    async fn open(&self) -> Result<(push::Ordered, u64), String> {
        let stream =
            self.jetstream.get_stream_no_info(&self.stream).await.map_err(|error| error.to_string())?;
        let consumer = stream
            .create_consumer(push::OrderedConfig {
                deliver_subject: self.jetstream.client().new_inbox(),
                filter_subject: self.subject.clone(),
                deliver_policy: DeliverPolicy::LastPerSubject,
                replay_policy: ReplayPolicy::Instant,
                ..Default::default()
            })
            .await
            .map_err(|error| error.to_string())?;
        let pending = consumer.cached_info().num_pending;
        let messages = consumer.messages().await.map_err(|error| error.to_string())?;
        Ok((messages, pending))
    }

    async fn deliver(&mut self, message: &Message, pass: u64) -> Result<(), CallerGone> {
        let Some(key) = message.subject.strip_prefix(&self.prefix).map(str::to_owned) else { return Ok(()) };
        let Ok(rev) = message.info().map(|info| info.stream_sequence) else { return Ok(()) };
        let seen = self.known.get(&key).copied();
        match change_of(message) {
            ChangeKind::Deleted { .. } if seen.is_none_or(|(known, _)| known >= rev) => Ok(()),
            ChangeKind::Put(_) if seen.is_some_and(|(known, _)| known >= rev) => {
                self.known.entry(key).and_modify(|(_, last_pass)| *last_pass = pass);
                Ok(())
            }
            kind => {
                match kind {
                    ChangeKind::Put(_) => self.known.insert(key.clone(), (rev, pass)),
                    ChangeKind::Deleted { .. } => self.known.remove(&key),
                };
                self.send(WatchEvent::Change(Change { key, rev, kind })).await
            }
        }
    }

    /// Keys that this listing did not show are gone, marker and all.
    async fn finish_listing(&mut self, pass: u64) -> Result<(), CallerGone> {
        let gone: Vec<(String, u64)> = self
            .known
            .iter()
            .filter(|(_, (_, last_pass))| *last_pass != pass)
            .map(|(key, (rev, _))| (key.clone(), *rev))
            .collect();
        for (key, rev) in gone {
            self.known.remove(&key);
            let kind = ChangeKind::Deleted { expired: true };
            self.send(WatchEvent::Change(Change { key, rev, kind })).await?;
        }
        self.send(WatchEvent::Synced).await
    }

    async fn send(&self, event: WatchEvent) -> Result<(), CallerGone> {
        self.sender.send(event).await.map_err(|_| CallerGone)
    }
}

struct CallerGone;

fn change_of(message: &Message) -> ChangeKind {
    if header(message, "Nats-Marker-Reason") == Some("MaxAge") {
        return ChangeKind::Deleted { expired: true };
    }
    match header(message, "KV-Operation") {
        Some("DEL" | "PURGE") => ChangeKind::Deleted { expired: false },
        _ if header(message, "Nats-Marker-Reason").is_some() => ChangeKind::Deleted { expired: false },
        _ => ChangeKind::Put(Bytes::clone(&message.payload)),
    }
}
