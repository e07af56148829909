//! What operators see of a process: logs, metrics, health. Owns redaction; knows nothing of sessions, rooms or NATS.

mod secret;

pub use secret::{REDACTED, Secret};
