//! KV buckets, written raw: the stream `KV_<bucket>` with one message per key under `$KV.<bucket>.`.
//!
//! Writes are durable publishes with conditions and TTL headers, so they share the retries of [`Bus::append`]; deletes are
//! markers that vanish by themselves. Watches are in `watch`.

mod watch;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::watch::KvWatch;
use crate::bus::Bus;
use crate::error::{AppendError, BusError, ReadError};
use crate::types::{Append, BucketSpec, KvEntry, ReadOptions, Stored, StreamSpec, StreamState};
use crate::wire;

/// How long the marker of a deleted key stays: longer than any watcher's pause between two listings.
const DELETE_MARKER_TTL: Duration = Duration::from_secs(120);

/// Tries of [`Bus::kv_create`] against markers that change under it.
const CREATE_TRIES: usize = 3;

/// Keys of one read: far below the server's 1024 matches, and with keys of 1 KiB still one message.
const KEYS_PER_READ: usize = 500;

impl Bus {
    /// Makes the bucket or checks it, as [`Bus::ensure_stream`] does.
    pub async fn ensure_bucket(&self, spec: &BucketSpec) -> Result<StreamState, BusError> {
        let subjects =
            std::iter::once(format!("$KV.{}.>", spec.name)).chain(spec.extra_subjects.iter().cloned());
        let stream = StreamSpec {
            replicas: spec.replicas,
            max_msgs_per_subject: 1,
            max_bytes: spec.max_bytes,
            // The server has no schedules in a stream that refuses new messages.
            discard_new: !spec.allow_msg_schedules,
            republish: spec.republish.clone(),
            allow_atomic: true,
            allow_msg_ttl: true,
            allow_msg_schedules: spec.allow_msg_schedules,
            allow_rollup: true,
            deny_delete: true,
            subject_delete_marker_ttl: Some(spec.limit_markers),
            ..StreamSpec::new(stream_of(&spec.name), subjects)
        };
        self.ensure_stream(&stream).await
    }

    /// Writes a key and returns its revision. `expect`: only if the key's last revision is this one (0: never written, no
    /// marker either; see [`Bus::kv_create`]). `ttl` counts from the write in whole seconds, rounded up, at least one.
    pub async fn kv_put(
        &self,
        bucket: &str,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
        expect: Option<u64>,
    ) -> Result<u64, AppendError> {
        let message = kv_append(bucket, key, value, ttl, expect);
        self.append(message, Instant::now() + self.inner.client.timeout).await
    }

    /// Writes a key that has no value: never written, deleted, or expired. [`AppendError::Conflict`] with the revision if it
    /// has one.
    pub async fn kv_create(
        &self,
        bucket: &str,
        key: &str,
        value: Bytes,
        ttl: Option<Duration>,
    ) -> Result<u64, AppendError> {
        let mut expect = 0;
        for _ in 0..CREATE_TRIES {
            match self.kv_put(bucket, key, value.clone(), ttl, Some(expect)).await {
                Err(AppendError::Conflict { .. }) => {}
                done => return done,
            }
            let unavailable =
                |_| AppendError::Unavailable { stored: Some(false), reason: "the key cannot be read" };
            let last = self
                .get_last_at_leader(&stream_of(bucket), &subject_of(bucket, key))
                .await
                .map_err(unavailable)?;
            expect = match last {
                None => 0,
                Some(last) if is_marker(&last.headers) => last.seq,
                Some(last) => return Err(AppendError::Conflict { last: Some(last.seq) }),
            };
        }
        Err(AppendError::Conflict { last: None })
    }

    /// Deletes a key by a marker, which stays for two minutes; returns the marker's revision.
    pub async fn kv_delete(&self, bucket: &str, key: &str, expect: Option<u64>) -> Result<u64, AppendError> {
        let message = kv_delete_append(bucket, key, expect);
        self.append(message, Instant::now() + self.inner.client.timeout).await
    }

    /// The last thing written to a key, from any replica; `None`: nothing.
    pub async fn kv_get(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>, ReadError> {
        let found = self.get_last(&stream_of(bucket), &subject_of(bucket, key)).await?;
        Ok(found.and_then(|stored| entry(bucket, stored)))
    }

    /// Like [`Bus::kv_get`], but answered by the leader: sees every acked write.
    pub async fn kv_get_at_leader(&self, bucket: &str, key: &str) -> Result<Option<KvEntry>, ReadError> {
        let found = self.get_last_at_leader(&stream_of(bucket), &subject_of(bucket, key)).await?;
        Ok(found.and_then(|stored| entry(bucket, stored)))
    }

    /// All keys with values that match `filter` (a key with wildcards), ordered by revision, from any replica. Indexed up to
    /// 1024 matches, a scan beyond.
    pub async fn kv_list(&self, bucket: &str, filter: &str) -> Result<Vec<KvEntry>, ReadError> {
        let mut entries = self.kv_list_marked(bucket, filter).await?;
        entries.retain(|entry| entry.value.is_some());
        Ok(entries)
    }

    /// Like [`Bus::kv_list`], with the markers of keys that were deleted or expired not long ago.
    pub async fn kv_list_marked(&self, bucket: &str, filter: &str) -> Result<Vec<KvEntry>, ReadError> {
        let (stream, subject) = (stream_of(bucket), subject_of(bucket, filter));
        let found =
            match self.read_last(&stream, std::slice::from_ref(&subject), ReadOptions::default()).await {
                Err(ReadError::TooMany) => self.read_from(&stream, &subject, 1, usize::MAX).await?,
                found => found?,
            };
        Ok(latest(found.into_iter().filter_map(|stored| entry(bucket, stored)).collect()))
    }

    /// Like [`Bus::kv_list_marked`], for several filters that do not overlap, in one read: at most 1024 matches, or
    /// [`ReadError::TooMany`].
    pub async fn kv_list_many(&self, bucket: &str, filters: &[String]) -> Result<Vec<KvEntry>, ReadError> {
        let subjects: Vec<String> = filters.iter().map(|filter| subject_of(bucket, filter)).collect();
        let found = self.read_last(&stream_of(bucket), &subjects, ReadOptions::default()).await?;
        Ok(latest(found.into_iter().filter_map(|stored| entry(bucket, stored)).collect()))
    }

    /// The last thing written to each of `keys`, markers included, ordered by revision, from any replica; keys never written
    /// are missing. Keys are literal; up to 500 are one read, and more are several, each of its own moment.
    pub async fn kv_get_many(&self, bucket: &str, keys: &[String]) -> Result<Vec<KvEntry>, ReadError> {
        let stream = stream_of(bucket);
        let subjects: Vec<String> = keys.iter().map(|key| subject_of(bucket, key)).collect();
        if let Some(subject) = subjects.iter().find(|subject| !wire::is_publishable(subject)) {
            return Err(ReadError::Subject { subject: subject.clone() });
        }
        let mut entries = Vec::with_capacity(keys.len());
        for some in subjects.chunks(KEYS_PER_READ) {
            let found = self.read_last(&stream, some, ReadOptions::default()).await?;
            entries.extend(found.into_iter().filter_map(|stored| entry(bucket, stored)));
        }
        Ok(latest(entries))
    }
}

/// A write to a key, for [`Bus::append`] and [`Bus::append_batch`].
pub fn kv_append(
    bucket: &str,
    key: &str,
    value: Bytes,
    ttl: Option<Duration>,
    expect: Option<u64>,
) -> Append {
    let mut message =
        Append { expect_last_subject_seq: expect, ..Append::to(subject_of(bucket, key), value) };
    if let Some(ttl) = ttl {
        message = message.header("Nats-TTL", ttl_text(ttl));
    }
    message
}

/// The delete of a key, for [`Bus::append`] and [`Bus::append_batch`]: a marker that stays for two minutes. More headers may be
/// added, to tell consumers and watchers why. No rollup: a bucket keeps one message per key, and a rollup purges every
/// consumer's state as well, which stalled whole servers (2.15).
pub fn kv_delete_append(bucket: &str, key: &str, expect: Option<u64>) -> Append {
    kv_append(bucket, key, Bytes::new(), Some(DELETE_MARKER_TTL), expect).header("KV-Operation", "DEL")
}

/// The server counts whole seconds and cuts fractions off.
pub(crate) fn ttl_text(ttl: Duration) -> String {
    let seconds = (ttl + Duration::from_nanos(999_999_999)).as_secs().max(1);
    format!("{seconds}s")
}

/// The stream of a bucket.
pub fn stream_of(bucket: &str) -> String {
    format!("KV_{bucket}")
}

/// The subject of a key.
pub fn subject_of(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// A delete by a client, or a marker that the server left for an expired value.
fn is_marker(headers: &[u8]) -> bool {
    let operation = wire::header_value(headers, "KV-Operation");
    matches!(operation, Some("DEL" | "PURGE")) || wire::header_value(headers, "Nats-Marker-Reason").is_some()
}

/// `None`: a message of the stream that is no key (such as a schedule).
fn entry(bucket: &str, stored: Stored) -> Option<KvEntry> {
    let key = stored.subject.strip_prefix(&subject_of(bucket, ""))?.to_owned();
    let value = (!is_marker(&stored.headers)).then_some(stored.payload);
    Some(KvEntry { key, rev: stored.seq, value, time_ms: stored.time_ms })
}

/// A scan meets a key twice if it was written meanwhile: the last one counts.
fn latest(mut entries: Vec<KvEntry>) -> Vec<KvEntry> {
    entries.sort_unstable_by(|a, b| a.key.cmp(&b.key).then(b.rev.cmp(&a.rev)));
    entries.dedup_by(|later, first| later.key == first.key);
    entries.sort_unstable_by_key(|entry| entry.rev);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ttls_are_whole_seconds_rounded_up() {
        let ttl = |millis| {
            let message = kv_append("b", "k", Bytes::new(), Some(Duration::from_millis(millis)), None);
            message.headers[0].1.clone()
        };
        assert_eq!([ttl(1), ttl(1000), ttl(1001), ttl(15_000)], ["1s", "1s", "2s", "15s"]);
    }

    #[test]
    fn the_last_revision_of_a_key_is_listed() {
        let entry = |key: &str, rev, value: Option<&'static [u8]>| KvEntry {
            key: key.to_owned(),
            rev,
            value: value.map(Bytes::from_static),
            time_ms: 0,
        };
        let listed = latest(vec![
            entry("a", 1, Some(b"1")),
            entry("b", 2, Some(b"2")),
            entry("a", 3, Some(b"3")),
            entry("b", 4, None),
        ]);
        assert_eq!(listed, [entry("a", 3, Some(b"3")), entry("b", 4, None)]);
    }
}
