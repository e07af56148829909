//! bus
mod api_sketch;
mod config;
mod error;
#[allow(dead_code)]
mod metrics;
mod types;
pub mod wire;
pub use api_sketch::{Bus, Feed, KvWatch, NodeInbox};
pub use config::{Auth, BusConfig, Secret, TlsConfig};
pub use error::{AppendError, BusError, ConnectError, PublishError, ReadError};
pub use types::*;
pub use wire::{header_lines, header_value};
