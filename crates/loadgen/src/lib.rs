//! Load on any Socket.IO v5 / Engine.IO v4 server, measured from the client's side: connections, acked echo, room
//! fan-out, join churn, calls, presence; and `floor`, the bare server that every figure is compared with.
//!
//! One scenario is a `Script` (`scenario/`): what a client does when it has connected, on a packet, and when the
//! schedule says that it is time. A `Crew` (`crew.rs`) runs a script with thousands of clients on a few
//! single-threaded runtimes; `measure.rs` paces it and samples the servers. Start reading there.
//!
//! Deliberately absent: TLS, the msgpack parser, permessage-deflate, reconnection. A connection that ends is counted,
//! never replaced.

pub mod call_ledger;
pub mod cli;
pub mod crew;
pub mod floor;
pub mod ledger;
pub mod measure;
pub mod report;
pub mod scenario;
pub mod schedule;
pub mod session;
pub mod stamp;
pub mod tokens;
pub mod usage;
pub mod vocabulary;
pub mod wire;

use crate::vocabulary::Unsupported;
use crate::wire::http::HttpError;

/// Why a run ended without a result.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("--url: {0}")]
    Url(#[from] HttpError),
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    #[error("--{name}: {reason}")]
    Option { name: &'static str, reason: &'static str },
    #[error("{failed} of {wanted} clients did not connect and join: {errors}")]
    Connect { failed: u64, wanted: usize, errors: String },
    #[error("a watched process: {0}")]
    Usage(std::io::Error),
    #[error("{online} of {wanted} users were online after {seconds} s")]
    NotOnline { online: u64, wanted: usize, seconds: u64 },
    #[error("--kill: {0}")]
    Kill(std::io::Error),
    #[error("floor: {0}")]
    Floor(#[from] std::io::Error),
}
