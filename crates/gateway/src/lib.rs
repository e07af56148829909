//! The edge: accepts HTTP and WebSocket, authenticates, owns sessions (each pinned to a core), executes commands, drains.

pub mod auth;
pub mod config;
