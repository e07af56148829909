//! What operators see of a process: logs, metrics, traces, health. Owns redaction; knows nothing of sessions, rooms or NATS.
//! Start at [`admin::router`].

pub mod admin;
pub mod log;
mod metrics;
mod process;
mod readiness;
mod secret;
pub mod trace;

pub use metrics::{Metrics, UnnamedMetric};
pub use readiness::{NotReady, Readiness};
pub use secret::{REDACTED, Secret};
