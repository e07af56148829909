//! The server API: what back ends ask of applications, over HTTP and as NATS requests. Owns who may call, how a call and its answer
//! look, and that a repeated call is executed once; what a typed call means is its dialect's, how it is carried out a shard's
//! business.
//!
//! Start at [`Call`]: `http` and `nats` make them, `serve` answers them on a shard, `plain` reads the calls that every application
//! has, `once` keeps results, `openapi` describes it all.

pub mod config;
mod fault;
mod http;
mod keys;
mod nats;
mod once;
mod openapi;
mod plain;
mod reads;
mod serve;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cluster::TraceParent;
use serde_json::Value;

use crate::config::ConfigError;
use config::{ApiConfig, Scope};
use keys::Keys;

pub use fault::Fault;
pub use http::router;
pub use nats::listen;
pub use serve::serve;

/// Calls of one node at a time; more are told to come back.
const MOST_CALLS: usize = 1024;

/// Longest idempotency key in bytes.
const MOST_KEY_BYTES: usize = 255;

/// What all threads of a node know of the API.
#[derive(Debug, Default)]
pub struct Api {
    pub config: ApiConfig,
    keys: Keys,
    calls: AtomicUsize,
}

/// A back end's call, its caller known.
#[derive(Clone, Debug)]
pub struct Call {
    pub app: u16,
    /// As in the path and the subject: `new-message`.
    pub verb: String,
    /// JSON.
    pub body: Bytes,
    pub caller: Caller,
    pub idempotency_key: Option<String>,
    /// The caller's trace, if it keeps it.
    pub trace: Option<TraceParent>,
}

/// Who calls, and what it may do.
#[derive(Clone, Debug)]
pub struct Caller {
    pub name: String,
    scopes: Vec<Scope>,
}

/// What a call is answered with.
pub type Answer = Result<Value, Fault>;

impl Api {
    /// # Errors
    /// Keys that cannot be read.
    pub fn build(config: &ApiConfig) -> Result<Self, Vec<ConfigError>> {
        Ok(Self { keys: Keys::build(config)?, config: config.clone(), calls: AtomicUsize::new(0) })
    }

    /// Waits until no call is under way, or as long as one may take.
    pub async fn finish(&self) {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let until = Instant::now() + Duration::from_millis(self.config.timeout_ms);
        while self.calls.load(Ordering::Relaxed) > 0 && Instant::now() < until {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// A place among the calls under way.
    fn begin(&self) -> Result<Place<'_>, Fault> {
        let more = |count: usize| (count < MOST_CALLS).then_some(count + 1);
        match self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Place(&self.calls)),
            Err(_) => Err(Fault::overloaded()),
        }
    }
}

/// Given back when dropped.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Caller {
    /// Whoever may publish to the API's subjects: NATS has judged that.
    fn of_nats() -> Self {
        let scopes = vec![Scope::Emit, Scope::Post, Scope::Notify, Scope::Admin, Scope::Read];
        Self { name: "nats".to_owned(), scopes }
    }

    fn require(&self, scope: Scope) -> Result<(), Fault> {
        if self.scopes.contains(&scope) { Ok(()) } else { Err(Fault::no_scope(scope)) }
    }
}

/// The answer as JSON, alike over HTTP and NATS.
fn body_of(answer: &Answer) -> Vec<u8> {
    let body = match answer {
        Ok(value) => serde_json::to_vec(value),
        Err(fault) => serde_json::to_vec(&fault.to_json()),
    };
    body.expect("JSON values have string keys")
}

fn check_key(key: &str) -> Result<(), Fault> {
    let printable = key.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if key.is_empty() || key.len() > MOST_KEY_BYTES || !printable {
        let problem = "must be 1 to 255 printable ASCII characters";
        return Err(Fault::invalid("idempotencyKey", problem));
    }
    Ok(())
}
