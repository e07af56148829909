//! Records that a thread keeps in a bucket. Each is written by one task at a time, again when it has changed meanwhile, and
//! after a pause when it was not written: until the bucket says what the thread knows.
//!
//! What is in them is their owners' business: `roster` and `presence`. Start at [`Record`].

use std::time::{Duration, Instant};

use bus::kv::kv_delete_append;
use bus::{AppendError, Bus, Headers};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::node::Unavailable;

/// Pauses before a failed write is repeated: the first, and the longest.
pub const RETRY_FIRST: Duration = Duration::from_millis(100);
pub const RETRY_LONGEST: Duration = Duration::from_secs(5);

const REMOVAL_DEADLINE: Duration = Duration::from_secs(5);

/// Whether a record says what its thread knew when this was asked for.
pub type Settled = Result<(), Unavailable>;

/// The writes of one record whose content is a `V`.
#[derive(Debug)]
pub struct Record<V> {
    /// What is being written; `None`: the record is as its owner knows it.
    under_way: Option<V>,
    /// Revision of the last write.
    rev: u64,
    waiting: Vec<oneshot::Sender<Settled>>,
}

/// A record to write, or to remove, after a pause.
#[derive(Debug)]
pub struct Change<K> {
    /// Whose record it is.
    pub of: K,
    /// `None`: it is removed.
    pub value: Option<Bytes>,
    pub pause: Duration,
    /// Headers of a removal, for those who follow the records.
    pub farewell: Headers,
}

impl<V> Default for Record<V> {
    fn default() -> Self {
        Self { under_way: None, rev: 0, waiting: Vec::new() }
    }
}

impl<V: PartialEq> Record<V> {
    /// The content has changed: what is to be written now. `None`: a write is under way, the next one follows it.
    pub fn change(&mut self, now: impl FnOnce() -> V) -> Option<&V> {
        match self.under_way {
            Some(_) => None,
            None => Some(self.under_way.insert(now())),
        }
    }

    /// A write that had this pause has ended. Returns what is to be written next, and after which pause: the content is `now`
    /// another, or was not written. Who waits is told of a failure at once, the write is repeated none the less.
    pub fn written(
        &mut self,
        pause: Duration,
        result: Result<u64, Unavailable>,
        now: V,
    ) -> Option<(&V, Duration)> {
        let written = self.under_way.take()?;
        let pause = match result {
            Ok(rev) => {
                self.rev = rev;
                if now == written {
                    self.tell(Ok(()));
                    return None;
                }
                Duration::ZERO
            }
            Err(Unavailable) => {
                self.tell(Err(Unavailable));
                (pause * 2).clamp(RETRY_FIRST, RETRY_LONGEST)
            }
        };
        Some((self.under_way.insert(now), pause))
    }

    /// Settles once the record says what its owner knows now.
    pub fn settled(&mut self) -> oneshot::Receiver<Settled> {
        let (done, settled) = oneshot::channel();
        if self.is_clean() {
            // Nobody listens any more if this fails.
            let _ = done.send(Ok(()));
        } else {
            self.waiting.push(done);
        }
        settled
    }

    pub fn is_clean(&self) -> bool {
        self.under_way.is_none()
    }

    /// Revision of the last write; 0: none.
    pub fn revision(&self) -> u64 {
        self.rev
    }

    fn tell(&mut self, result: Settled) {
        for waiting in self.waiting.drain(..) {
            // Whoever waited may have left.
            let _ = waiting.send(result);
        }
    }
}

impl<K> Change<K> {
    pub fn new(of: K, value: Option<Bytes>, pause: Duration) -> Self {
        Self { of, value, pause, farewell: Headers::new() }
    }

    /// Carries it out; returns the record's revision.
    pub async fn write(&self, bus: &Bus, bucket: &str, key: &str) -> Result<u64, AppendError> {
        tokio::time::sleep(self.pause).await;
        match &self.value {
            Some(value) => bus.kv_put(bucket, key, value.clone(), None, None).await,
            None => {
                let mut removal = kv_delete_append(bucket, key, None);
                removal.headers.extend(self.farewell.iter().cloned());
                bus.append(removal, Instant::now() + REMOVAL_DEADLINE).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_write_at_a_time_and_the_last_content_wins() {
        let mut record = Record::<u32>::default();
        assert_eq!(record.settled().try_recv(), Ok(Ok(())));
        assert_eq!(record.change(|| 1), Some(&1));
        assert_eq!(record.change(|| 2), None);
        let mut settled = record.settled();
        assert_eq!(record.written(Duration::ZERO, Ok(7), 3), Some((&3, Duration::ZERO)));
        assert!(settled.try_recv().is_err());
        assert_eq!(record.written(Duration::ZERO, Ok(8), 3), None);
        assert_eq!((settled.try_recv(), record.revision(), record.is_clean()), (Ok(Ok(())), 8, true));
        assert_eq!(record.written(Duration::ZERO, Ok(9), 3), None, "nothing was under way");
    }

    #[test]
    fn failures_are_told_and_repeated_more_and_more_slowly() {
        let mut record = Record::<u32>::default();
        record.change(|| 1);
        let mut settled = record.settled();
        let mut pause = Duration::ZERO;
        for expected_ms in [100, 200, 400, 800, 1600, 3200, 5000, 5000] {
            pause = record.written(pause, Err(Unavailable), 1).unwrap().1;
            assert_eq!(pause, Duration::from_millis(expected_ms));
        }
        assert_eq!(settled.try_recv(), Ok(Err(Unavailable)));
        assert_eq!(record.written(pause, Ok(1), 1), None);
    }
}
