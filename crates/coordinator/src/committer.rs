//! Atomic batches on one application's calls, several decisions in one where they touch different keys.
//!
//! The server stages each batch on the disk, with flushes that other batches of the stream wait for; decisions that wait for the one
//! under way share the next. If such a batch is refused, one of them has conflicted: each is then tried by itself.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bus::{Append, AppendError, Bus};
use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::store::NotStored;

/// Messages of one batch; the server takes 1000.
const MAX_MESSAGES: usize = 500;
/// Bytes of one batch.
const MAX_BYTES: usize = 4 << 20;
/// Decisions that wait; who comes then waits to be let in.
const QUEUE: usize = 256;
/// A batch's own deadline: those who wait for it give up by theirs.
const DEADLINE: Duration = Duration::from_secs(4);

/// The way to the writer, which ends with the last of these.
#[derive(Clone, Debug)]
pub struct Committer {
    waiting: mpsc::Sender<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    messages: Vec<Append>,
    done: oneshot::Sender<Result<(), NotStored>>,
}

impl Committer {
    /// Runs its writer on the calling runtime.
    pub fn start(bus: Bus) -> Self {
        let (waiting, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(bus, queue));
        Self { waiting }
    }

    /// All of these messages or none.
    pub async fn commit(&self, messages: Vec<Append>, deadline: Instant) -> Result<(), NotStored> {
        let (done, stored) = oneshot::channel();
        let wait = async {
            self.waiting.send(Waiting { messages, done }).await.ok()?;
            stored.await.ok()
        };
        let stored = tokio::time::timeout_at(deadline.into(), wait).await;
        stored.ok().flatten().unwrap_or(Err(NotStored::Unavailable))
    }
}

async fn write(bus: Bus, mut queue: mpsc::Receiver<Waiting>) {
    let mut left: Option<Waiting> = None;
    loop {
        let Some(first) = (match left.take() {
            Some(waiting) => Some(waiting),
            None => queue.recv().await,
        }) else {
            return;
        };
        let mut group = Group::new(first);
        while let Ok(next) = queue.try_recv() {
            if let Err(other) = group.add(next) {
                left = Some(other);
                break;
            }
        }
        group.store(&bus).await;
    }
}

/// Decisions that touch different keys.
struct Group {
    decisions: Vec<Waiting>,
    subjects: HashSet<String>,
    bytes: usize,
}

impl Group {
    fn new(first: Waiting) -> Self {
        let mut group = Self { decisions: Vec::new(), subjects: HashSet::new(), bytes: 0 };
        group.push(first);
        group
    }

    /// Gives it back if it does not fit.
    fn add(&mut self, next: Waiting) -> Result<(), Waiting> {
        let apart = next.messages.iter().all(|message| !self.subjects.contains(&message.subject));
        let fits = self.subjects.len() + next.messages.len() <= MAX_MESSAGES
            && self.bytes + bytes_of(&next) <= MAX_BYTES;
        if !apart || !fits {
            return Err(next);
        }
        self.push(next);
        Ok(())
    }

    fn push(&mut self, decision: Waiting) {
        self.subjects.extend(decision.messages.iter().map(|message| message.subject.clone()));
        self.bytes += bytes_of(&decision);
        self.decisions.push(decision);
    }

    async fn store(self, bus: &Bus) {
        let deadline = Instant::now() + DEADLINE;
        if self.decisions.len() > 1 {
            let all = self.decisions.iter().flat_map(|decision| decision.messages.clone()).collect();
            match bus.append_batch(all, deadline).await {
                // Somebody's key has changed; or the batch was stored and its answer lost, which each finds out.
                Err(AppendError::Conflict { .. }) => {}
                stored => return tell(self.decisions, &result(stored)),
            }
        }
        let each = self.decisions.into_iter().map(async |Waiting { messages, done }| {
            // Who waited may have given up.
            let _ = done.send(result(bus.append_batch(messages, deadline).await));
        });
        join_all(each).await;
    }
}

fn bytes_of(decision: &Waiting) -> usize {
    decision.messages.iter().map(|message| message.payload.len()).sum()
}

fn tell(decisions: Vec<Waiting>, result: &Result<(), NotStored>) {
    for decision in decisions {
        // Who waited may have given up.
        let _ = decision.done.send(*result);
    }
}

fn result(stored: Result<u64, AppendError>) -> Result<(), NotStored> {
    match stored {
        Ok(_) => Ok(()),
        Err(AppendError::Conflict { .. }) => Err(NotStored::Conflict),
        Err(error) => {
            tracing::warn!(%error, "a decision was not stored");
            Err(NotStored::Unavailable)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(subjects: &[&str]) -> Waiting {
        let messages = subjects.iter().map(|subject| Append::to(*subject, "x")).collect();
        Waiting { messages, done: oneshot::channel().0 }
    }

    #[test]
    fn only_decisions_about_different_keys_share_a_batch() {
        let mut group = Group::new(decision(&["c.1", "u.a", "u.b"]));
        assert!(group.add(decision(&["c.2", "u.c"])).is_ok());
        assert!(group.add(decision(&["c.3", "u.a"])).is_err());
        assert_eq!((group.decisions.len(), group.subjects.len()), (2, 5));
    }

    #[test]
    fn a_batch_is_bounded() {
        let names: Vec<String> = (0..MAX_MESSAGES).map(|n| format!("u.{n}")).collect();
        let mut group = Group::new(decision(&names.iter().map(String::as_str).collect::<Vec<_>>()));
        assert!(group.add(decision(&["c.1"])).is_err());
    }
}
