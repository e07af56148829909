//! bus
mod api_sketch;
pub mod child;
mod config;
mod error;
#[allow(dead_code)]
mod metrics;
mod types;
mod version;
pub mod wire;
pub use api_sketch::{Bus, Feed, KvWatch, NodeInbox};
pub use config::{Auth, BusConfig, Secret, TlsConfig};
pub use error::{AppendError, BusError, ConnectError, PublishError, ReadError};
pub use types::*;
pub use wire::{header_lines, header_value};
