//! The room feed: what the room connection delivers, in the order of the connection, to one consumer.
//!
//! The queue is bounded in bytes. When the consumer is too slow, messages are dropped and the feed says so with
//! [`FeedEvent::Lost`] at the place of the hole; acks and pings on the same connection go on.

use std::sync::{Arc, Mutex};

use tokio::sync::Notify;

use crate::lock;
use crate::time::unix_ms;
use crate::types::FeedEvent;

/// Bytes counted for an event besides its texts: about what it costs in memory.
const EVENT_BYTES: usize = 128;

/// The consumer's end; there is one per bus.
#[derive(Debug)]
pub struct Feed {
    queue: Arc<FeedQueue>,
}

#[derive(Debug)]
pub(crate) struct FeedQueue {
    state: Mutex<State>,
    ready: Notify,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<FeedEvent>,
    bytes: usize,
    taken: bool,
}

impl Feed {
    /// Waits until something is there, then moves everything that is there to the end of `out`. Cancelling the call loses
    /// nothing. After the last handle of the bus was dropped it waits for ever.
    pub async fn next_batch(&mut self, out: &mut Vec<FeedEvent>) {
        loop {
            let ready = self.queue.ready.notified();
            if self.queue.drain(out) {
                return;
            }
            ready.await;
        }
    }
}

impl FeedQueue {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { state: Mutex::default(), ready: Notify::new(), max_bytes }
    }

    /// The consumer's end, once.
    pub(crate) fn take(self: &Arc<Self>) -> Option<Feed> {
        let taken = std::mem::replace(&mut lock(&self.state).taken, true);
        (!taken).then(|| Feed { queue: Arc::clone(self) })
    }

    /// Moves `events` into the queue; returns how many messages were dropped.
    pub(crate) fn push(&self, events: &mut Vec<FeedEvent>) -> u64 {
        let mut dropped = 0;
        {
            let mut state = lock(&self.state);
            for event in events.drain(..) {
                let bytes = event_bytes(&event);
                let is_message = matches!(event, FeedEvent::Message { .. });
                if is_message && state.bytes + bytes > self.max_bytes {
                    dropped += 1;
                    state.note_lost();
                } else {
                    state.bytes += bytes;
                    state.events.push(event);
                }
            }
        }
        self.ready.notify_one();
        dropped
    }

    fn drain(&self, out: &mut Vec<FeedEvent>) -> bool {
        let mut state = lock(&self.state);
        state.bytes = 0;
        let any = !state.events.is_empty();
        if out.is_empty() {
            std::mem::swap(out, &mut state.events);
        } else {
            out.append(&mut state.events);
        }
        any
    }
}

impl State {
    fn note_lost(&mut self) {
        match self.events.last_mut() {
            Some(FeedEvent::Lost { messages, .. }) => *messages += 1,
            _ => self.events.push(FeedEvent::Lost { messages: 1, at_ms: unix_ms() }),
        }
    }
}

fn event_bytes(event: &FeedEvent) -> usize {
    match event {
        FeedEvent::Message { subject, headers, payload, .. } => {
            EVENT_BYTES + subject.len() + headers.len() + payload.len()
        }
        _ => EVENT_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::types::SubId;

    fn message(payload: &'static [u8]) -> FeedEvent {
        FeedEvent::Message {
            sub: SubId(1),
            subject: Bytes::from_static(b"s"),
            seq: None,
            stream: None,
            headers: Bytes::new(),
            payload: Bytes::from_static(payload),
        }
    }

    #[tokio::test]
    async fn overflow_is_told_in_place_and_other_events_pass() {
        let queue = Arc::new(FeedQueue::new(200));
        let mut feed = queue.take().unwrap();
        assert!(queue.take().is_none());
        let mut events =
            vec![message(b"1"), message(b"2"), message(b"3"), FeedEvent::Disconnected { at_ms: 5 }];
        assert_eq!(queue.push(&mut events), 2);
        let mut out = Vec::new();
        feed.next_batch(&mut out).await;
        let FeedEvent::Lost { messages: 2, at_ms } = out[1] else { panic!("{out:?}") };
        assert!(at_ms > 1_700_000_000_000);
        assert_eq!((&out[0], &out[2]), (&message(b"1"), &FeedEvent::Disconnected { at_ms: 5 }));
        assert_eq!(queue.push(&mut vec![message(b"4")]), 0);
        feed.next_batch(&mut out).await;
        assert_eq!(out.len(), 4);
    }
}
