//! What others publish once, for everybody who wants to hear it: core NATS, at most once, no answer.

use bytes::Bytes;

use crate::bus::Bus;
use crate::error::BusError;
use crate::listen::Listener;
use crate::wire;

/// Messages that wait for [`Heard::next`] at most; beyond it new ones are dropped.
const MAX_WAITING: usize = 4096;

/// The messages of one subject; dropping it ends the subscription.
#[derive(Debug)]
pub struct Heard {
    listener: Listener,
}

impl Bus {
    /// Hears every message for `subject` from now on, one's own included. Survives reconnects; what is published meanwhile is missed.
    pub fn hear(&self, subject: &str) -> Result<Heard, BusError> {
        if !wire::is_subscribable(subject) {
            return Err(BusError::Subject { subject: subject.to_owned() });
        }
        Ok(Heard { listener: Listener::open(self.shared(), subject, MAX_WAITING) })
    }
}

impl Heard {
    /// The next message. Cancelling the call loses nothing; after the bus is gone it waits for ever.
    pub async fn next(&mut self) -> Bytes {
        match self.listener.next().await {
            Some(message) => message.payload,
            None => std::future::pending().await,
        }
    }
}
