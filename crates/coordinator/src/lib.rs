//! The coordinator: presence and calls as authoritative state in JetStream KV, kept by replicas that have no state of their own.
//!
//! [`plan`] is the pure heart: what to load, what to commit, whom to tell. Everything else carries that out: `desk` answers
//! requests, `carer` sees to what follows from them and `peers` tells the other replicas so, `followers` work off what changed and nobody
//! has seen to (records to announce, timers that fired, device records to fold), `sweep` clears up after nodes that died. Start at
//! [`Coordinator::start`].

mod carer;
mod clock;
mod coordinator;
mod desk;
mod followers;
mod metrics;
mod peers;
pub mod plan;
mod store;
mod sweep;
mod teller;
mod timers;

pub use coordinator::{Coordinator, Deps, RunningCoordinator, StartError};
pub use timers::set_again;
