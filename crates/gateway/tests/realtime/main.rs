//! Calls and presence as a gateway serves them, with a coordinator that the test plays: every race is made by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod calls;
mod client;
mod devices;
mod stage;
