//! The node's clocks. The only place of this crate that reads them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds of the node's monotonic clock; starts at 0.
pub type Millis = u64;

/// Monotonic time for deadlines, Unix time for what leaves the node.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    pub fn now(&self) -> Millis {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The same in microseconds.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// The moment `at` for tokio's timers.
    pub fn instant(&self, at: Millis) -> tokio::time::Instant {
        (self.start + Duration::from_millis(at)).into()
    }
}

/// Milliseconds since the Unix epoch; 0 for a clock before it.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX))
}
