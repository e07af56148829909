//! One subscription for the answers of all reads of several messages: a subscription for each costs the server more than the read
//! does (it goes through its cache of subjects for every SUB and UNSUB).
//!
//! Reads under way are bounded, so that all their answers fit into what async-nats holds for a subscription: none is dropped.

use std::sync::{Arc, Mutex, OnceLock};

use async_nats::Message;
use bytes::Bytes;
use futures_util::StreamExt;
use rustc_hash::FxHashMap;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc};
use tokio::task::AbortHandle;

use crate::client::SUBSCRIPTION_CAPACITY;
use crate::lock;
use crate::read::MAX_MATCHES;

/// Messages of one answer, its end included.
const ANSWER: usize = MAX_MATCHES + 1;

/// Reads at a time. Half of what fits: a read that was given up may still be answered.
const AT_ONCE: usize = SUBSCRIPTION_CAPACITY / ANSWER / 2;

#[derive(Debug, Clone)]
pub(crate) struct Inbox {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    nats: async_nats::Client,
    /// Answer `n` comes to `<prefix>.<n>`.
    prefix: String,
    places: Semaphore,
    waiting: Mutex<Waiting>,
    hearing: OnceLock<AbortHandle>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    answers: FxHashMap<u64, mpsc::Sender<Message>>,
}

/// The answer of one read, as it comes; dropping it gives the read up.
#[derive(Debug)]
pub(crate) struct Answers<'a> {
    inner: &'a Inner,
    number: u64,
    messages: mpsc::Receiver<Message>,
    _place: SemaphorePermit<'a>,
}

impl Inbox {
    pub(crate) async fn open(nats: &async_nats::Client) -> Result<Self, String> {
        let prefix = nats.new_inbox();
        let mut heard = nats.subscribe(format!("{prefix}.*")).await.map_err(|error| error.to_string())?;
        let inner = Arc::new(Inner {
            nats: nats.clone(),
            prefix,
            places: Semaphore::new(AT_ONCE),
            waiting: Mutex::default(),
            hearing: OnceLock::new(),
        });
        let weak = Arc::downgrade(&inner);
        let hearing = tokio::spawn(async move {
            while let Some(message) = heard.next().await {
                let Some(inner) = weak.upgrade() else { return };
                inner.hand_on(message);
            }
        });
        inner.hearing.get_or_init(|| hearing.abort_handle());
        Ok(Self { inner })
    }

    /// Publishes a request and returns its answer; `None`: the connection is gone for good.
    pub(crate) async fn ask(&self, subject: String, body: Bytes) -> Option<Answers<'_>> {
        let inner = &*self.inner;
        let place = inner.places.acquire().await.expect("the semaphore is never closed");
        let (sender, messages) = mpsc::channel(ANSWER);
        let number = lock(&inner.waiting).add(sender);
        let answers = Answers { inner, number, messages, _place: place };
        let reply = format!("{}.{number}", inner.prefix);
        inner.nats.publish_with_reply(subject, reply, body).await.ok()?;
        Some(answers)
    }
}

impl Inner {
    /// What nobody waits for any more is dropped.
    fn hand_on(&self, message: Message) {
        let number = message.subject.rsplit('.').next().and_then(|text| text.parse::<u64>().ok());
        let waiting = lock(&self.waiting);
        if let Some(answer) = number.and_then(|number| waiting.answers.get(&number)) {
            // The channel holds a whole answer.
            let _ = answer.try_send(message);
        }
    }
}

impl Drop for Inner {
    /// The subscription would keep the connection open.
    fn drop(&mut self) {
        self.hearing.get().inspect(|hearing| hearing.abort());
    }
}

impl Waiting {
    fn add(&mut self, sender: mpsc::Sender<Message>) -> u64 {
        self.next += 1;
        self.answers.insert(self.next, sender);
        self.next
    }
}

impl Answers<'_> {
    /// The next message; never the last: the answer says itself where it ends.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        self.messages.recv().await
    }
}

impl Drop for Answers<'_> {
    fn drop(&mut self) {
        lock(&self.inner.waiting).answers.remove(&self.number);
    }
}
