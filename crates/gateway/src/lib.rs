//! The edge: accepts HTTP and WebSocket, authenticates, owns sessions (each pinned to a core), executes commands, drains.
//!
//! Start at [`Gateway::start`]: it wires everything. `http` takes requests, `shard` owns sessions, `node` is the rooms' side
//! towards the bus, `peers` talks with other nodes about single sessions.

mod app;
pub mod auth;
mod clock;
pub mod config;
mod coordination;
mod gateway;
mod http;
mod ice_config;
mod lease;
mod hook;
mod link;
mod metrics;
mod node;
mod peers;
mod presence;
mod records;
mod notifications;
mod outbound;
mod roster;
mod shard;

pub use app::dialects;
pub use gateway::{Deps, Gateway, RunningGateway, StartError};
pub mod revocation;
