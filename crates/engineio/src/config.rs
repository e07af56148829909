//! The numbers a session obeys. One value is shared by all sessions of an application; no session keeps a copy.

use crate::Millis;

/// Timings and limits of Engine.IO sessions. The defaults are those of the reference server, where it has the setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// From the opening, or from the last pong, to the next ping.
    pub ping_interval_ms: Millis,
    /// From the moment a ping is due to the moment the client counts as gone.
    pub ping_timeout_ms: Millis,
    /// Largest POST body and largest WebSocket message a client may send, in bytes.
    pub max_payload: usize,
    /// How long a candidate WebSocket, here or at another node, may take from its arrival to the packet `5`.
    pub upgrade_timeout_ms: Millis,
    /// Most that may wait for one client, counted as in [`Session::queued_bytes`](crate::Session::queued_bytes).
    pub max_queue_bytes: usize,
    /// Largest body of one poll's answer; a single packet larger than this goes out alone.
    pub answer_max_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ping_interval_ms: 25_000,
            ping_timeout_ms: 20_000,
            max_payload: 1_000_000,
            upgrade_timeout_ms: 10_000,
            max_queue_bytes: 4 * 1024 * 1024,
            answer_max_bytes: 512 * 1024,
        }
    }
}
