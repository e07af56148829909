//! When to send again what was not answered.

use super::Millis;

const FIRST_MS: Millis = 250;
const MAX_MS: Millis = 1_000;

/// Repetition after 250 ms, 500 ms, then every second; the phase's deadline ends it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retry {
    at: Millis,
    wait: Millis,
}

impl Retry {
    /// Counts from `now`, the first sending.
    pub(super) fn new(now: Millis) -> Self {
        Self { at: now + FIRST_MS, wait: FIRST_MS }
    }

    pub(super) fn at(&self) -> Millis {
        self.at
    }

    /// Whether to send again now; if so the next time is set.
    pub(super) fn due(&mut self, now: Millis) -> bool {
        if now < self.at {
            return false;
        }
        self.wait = (self.wait * 2).min(MAX_MS);
        self.at = now + self.wait;
        true
    }
}
