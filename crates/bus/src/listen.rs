//! Subscriptions of the room connection whose messages go to a queue of their own, not into the feed: requests to answer,
//! and what a consumer pulls.
//!
//! They survive reconnects. A queue that is not read in time drops what is new and counts it: its senders repeat.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::lean::Shared;
use crate::lock;
use crate::types::SubId;
use crate::wire::Message;

/// Numbers from here on are listeners' subscriptions; the feed's stay below.
pub(crate) const FIRST_SID: u64 = 1 << 40;

/// The queues of all listeners, by subscription.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    queues: Mutex<FxHashMap<u64, mpsc::Sender<Message>>>,
}

impl Listeners {
    /// Hands a message to its listener; false if it was dropped.
    pub(crate) fn deliver(&self, message: Message) -> bool {
        match lock(&self.queues).get(&message.sid) {
            Some(queue) => !matches!(queue.try_send(message), Err(mpsc::error::TrySendError::Full(_))),
            // Given up meanwhile: nobody misses it.
            None => true,
        }
    }

    pub(crate) fn add(&self, sid: u64, capacity: usize) -> mpsc::Receiver<Message> {
        let (sender, receiver) = mpsc::channel(capacity);
        lock(&self.queues).insert(sid, sender);
        receiver
    }

    fn remove(&self, sid: u64) {
        lock(&self.queues).remove(&sid);
    }
}

/// A subscription and its queue; dropping it ends both.
#[derive(Debug)]
pub(crate) struct Listener {
    shared: Arc<Shared>,
    sid: u64,
    messages: mpsc::Receiver<Message>,
}

impl Listener {
    /// `interest` is a subject, or a subject and a queue group.
    pub(crate) fn open(shared: &Arc<Shared>, interest: &str, capacity: usize) -> Self {
        let (sid, messages) = shared.listen(interest, capacity);
        Self { shared: Arc::clone(shared), sid, messages }
    }

    /// The next message; `None` once it was stopped and its queue is empty. Cancelling the call loses nothing.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }

    /// Ends the subscription. What the server had sent before stays in the queue: the answer of the round trip comes behind
    /// it.
    pub(crate) async fn stop(&mut self, deadline: Instant) {
        self.shared.unsubscribe(SubId(self.sid));
        self.shared.flush(deadline).await;
        self.shared.listeners.remove(self.sid);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.shared.listeners.remove(self.sid);
        self.shared.unsubscribe(SubId(self.sid));
    }
}
