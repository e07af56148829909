//! The edge: accepts HTTP and WebSocket, authenticates, owns sessions (each pinned to a core), executes commands, drains.
//!
//! Start at [`Gateway::start`]: it wires everything. `http` takes requests, `shard` owns sessions, `node` is the rooms' side
//! towards the bus, `peers` talks with other nodes about single sessions.

mod api;
mod app;
pub mod auth;
mod clock;
pub mod config;
mod coordination;
mod facts;
mod gateway;
mod hook;
mod http;
mod ice_config;
mod inflating;
mod issue;
mod lease;
mod link;
mod members;
mod metrics;
mod node;
mod notifications;
pub mod outbound;
mod peers;
mod plain;
mod portal_config;
mod presence;
mod rate;
mod records;
pub mod revocation;
mod roster;
mod shard;
mod stats;

pub use app::dialects;
pub use gateway::{Deps, Gateway, RunningGateway, StartError};
