//! What waits to be written to the room connection, and the subscriptions it must have.
//!
//! Subscriptions and publishes share one buffer, so that they reach the server in the order of the calls: a marker
//! published after a subscription is stored after the subscription took effect. Pure: the lock around it and the wake-up
//! of the writer are the caller's.

use std::collections::BTreeMap;
use std::mem;
use std::time::{Duration, Instant};

use crate::wire;

/// Whether the writer must be woken.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    Yes,
    No,
}

/// Why something was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    Disconnected,
    Full,
}

#[derive(Debug)]
pub(crate) struct Outbox {
    connected: bool,
    buffer: Vec<u8>,
    max_bytes: usize,
    /// Ephemeral messages in the buffer, to count them when it is thrown away.
    ephemeral: u64,
    /// Buffer length at which the writer wants to be woken, once.
    wake_at: usize,
    /// Somebody waits for the answer to what is in the buffer.
    urgent: bool,
    subscriptions: BTreeMap<u64, Box<str>>,
}

impl Outbox {
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self {
            connected: false,
            buffer: Vec::new(),
            max_bytes,
            ephemeral: 0,
            wake_at: usize::MAX,
            urgent: false,
            subscriptions: BTreeMap::new(),
        }
    }

    /// An ephemeral message; while disconnected it waits for the next connection.
    pub(crate) fn publish(&mut self, subject: &str, payload: &[u8]) -> Result<Wake, Refused> {
        if self.buffer.len() + subject.len() + payload.len() > self.max_bytes {
            return Err(Refused::Full);
        }
        wire::put_pub(&mut self.buffer, subject, None, payload);
        self.ephemeral += 1;
        Ok(self.wake())
    }

    /// Something that is of no use on a later connection: `put` appends its frames.
    pub(crate) fn send(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> Result<Wake, Refused> {
        if !self.connected {
            return Err(Refused::Disconnected);
        }
        if self.buffer.len() >= self.max_bytes {
            return Err(Refused::Full);
        }
        put(&mut self.buffer);
        Ok(self.wake())
    }

    pub(crate) fn subscribe(&mut self, sid: u64, subject: &str) -> Wake {
        self.subscriptions.insert(sid, subject.into());
        if !self.connected {
            return Wake::No;
        }
        wire::put_sub(&mut self.buffer, subject, sid);
        self.wake()
    }

    pub(crate) fn unsubscribe(&mut self, sid: u64) -> Wake {
        if self.subscriptions.remove(&sid).is_none() || !self.connected {
            return Wake::No;
        }
        wire::put_unsub(&mut self.buffer, sid);
        self.wake()
    }

    /// A new connection: all subscriptions first, then what was published meanwhile.
    pub(crate) fn connect(&mut self) {
        let waiting = mem::take(&mut self.buffer);
        for (sid, subject) in &self.subscriptions {
            wire::put_sub(&mut self.buffer, subject, *sid);
        }
        self.buffer.extend_from_slice(&waiting);
        self.connected = true;
    }

    /// The connection is gone and what was not written with it; returns how many ephemeral messages that were.
    pub(crate) fn disconnect(&mut self) -> u64 {
        self.connected = false;
        self.buffer.clear();
        self.wake_at = usize::MAX;
        self.urgent = false;
        mem::take(&mut self.ephemeral)
    }

    /// What waits now is written without delay.
    pub(crate) fn urge(&mut self) -> Wake {
        self.urgent = !self.buffer.is_empty();
        if !self.urgent || self.wake_at == usize::MAX {
            return Wake::No;
        }
        self.wake_at = usize::MAX;
        Wake::Yes
    }

    /// True if `bytes` wait to be written, or something urgent; otherwise the push that reaches them says [`Wake::Yes`].
    pub(crate) fn holds(&mut self, bytes: usize) -> bool {
        let enough = self.buffer.len() >= bytes || self.urgent;
        self.wake_at = if enough { usize::MAX } else { bytes };
        enough
    }

    /// Swaps everything that waits into `out`, which must be empty.
    pub(crate) fn take(&mut self, out: &mut Vec<u8>) {
        mem::swap(&mut self.buffer, out);
        self.ephemeral = 0;
        self.wake_at = usize::MAX;
        self.urgent = false;
    }

    fn wake(&mut self) -> Wake {
        if self.buffer.len() < self.wake_at {
            return Wake::No;
        }
        self.wake_at = usize::MAX;
        Wake::Yes
    }
}

/// Flushes that go out at once after a quiet time, so that a short chain of requests is not slowed down.
const BURST: u32 = 8;

/// When to write: at once while flushes are rare, else at most one flush per interval.
#[derive(Debug)]
pub(crate) struct Pacer {
    interval: Duration,
    /// When the flushes so far would have been due at one per interval; at most [`BURST`] intervals ahead of now.
    paid_until: Instant,
}

impl Pacer {
    pub(crate) fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, paid_until: now }
    }

    /// Until when to wait for company; `None`: write now.
    pub(crate) fn hold_until(&self, now: Instant) -> Option<Instant> {
        let due = self.paid_until.checked_sub(self.interval * (BURST - 1))?;
        (due > now).then_some(due)
    }

    pub(crate) fn flushed(&mut self, now: Instant) {
        self.paid_until = (self.paid_until.max(now) + self.interval).min(now + self.interval * BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(outbox: &mut Outbox) -> String {
        let mut out = Vec::new();
        outbox.take(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn calls_keep_their_order() {
        let mut outbox = Outbox::new(1000);
        outbox.connect();
        let _ = outbox.subscribe(7, "a");
        let _ = outbox.send(|out| wire::put_pub(out, "m", Some("r"), b"")).unwrap();
        let _ = outbox.unsubscribe(7);
        assert_eq!(taken(&mut outbox), "SUB a 7\r\nPUB m r 0\r\n\r\nUNSUB 7\r\n");
    }

    #[test]
    fn a_reconnect_sends_live_subscriptions_then_waiting_messages() {
        let mut outbox = Outbox::new(1000);
        outbox.connect();
        let _ = (outbox.subscribe(7, "a"), outbox.subscribe(8, "b"), outbox.publish("x", b"1").unwrap());
        assert_eq!(outbox.disconnect(), 1);
        let _ = (outbox.unsubscribe(7), outbox.subscribe(9, "c"), outbox.publish("x", b"2").unwrap());
        assert_eq!(outbox.send(|_| ()), Err(Refused::Disconnected));
        outbox.connect();
        assert_eq!(taken(&mut outbox), "SUB b 8\r\nSUB c 9\r\nPUB x 1\r\n2\r\n");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut outbox = Outbox::new(30);
        assert!(outbox.publish("x", &[0; 20]).is_ok());
        assert_eq!(outbox.publish("x", &[0; 20]), Err(Refused::Full));
    }

    #[test]
    fn the_writer_is_woken_once() {
        let mut outbox = Outbox::new(1000);
        assert!(!outbox.holds(1));
        assert_eq!(outbox.publish("x", b""), Ok(Wake::Yes));
        assert_eq!(outbox.publish("x", b""), Ok(Wake::No));
        assert!(!outbox.holds(40));
        assert_eq!(outbox.publish("x", b""), Ok(Wake::No));
        assert_eq!(outbox.publish("x", &[0; 20]), Ok(Wake::Yes));
    }

    #[test]
    fn what_is_urgent_does_not_wait_for_company() {
        let mut outbox = Outbox::new(1000);
        assert_eq!(outbox.urge(), Wake::No);
        assert!(!outbox.holds(1));
        assert_eq!((outbox.publish("x", b""), outbox.holds(1000)), (Ok(Wake::Yes), false));
        assert_eq!((outbox.urge(), outbox.urge()), (Wake::Yes, Wake::No));
        assert!(outbox.holds(1000));
        taken(&mut outbox);
        assert!(!outbox.holds(1));
    }

    #[test]
    fn flushes_are_paced() {
        let interval = Duration::from_millis(2);
        let start = Instant::now();
        let mut pacer = Pacer::new(interval, start);
        for _ in 0..BURST {
            assert_eq!(pacer.hold_until(start), None);
            pacer.flushed(start);
        }
        let due = pacer.hold_until(start).unwrap();
        assert!(due <= start + interval);
        // Flushes forced by size never push a lone message further away than one interval.
        for _ in 0..100 {
            pacer.flushed(start);
        }
        assert!(pacer.hold_until(start).unwrap() <= start + interval);
        assert_eq!(pacer.hold_until(start + interval * BURST), None);
    }
}
