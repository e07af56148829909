//! The scenarios: each is a `Script` and the report it ends in.

pub mod calls;
pub mod churn;
pub mod connections;
pub mod crash;
pub mod echo;
pub mod fanout;
pub mod presence;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::RunError;
use crate::crew::{Connects, Crew, Muster, Script};
use crate::session::Target;

/// The ack id of what a client asks for on entering; the load's ids come after it.
const ENTRY_ACK: u32 = 0;
const FIRST_ACK: u32 = 1;

/// Connects everybody; a crew with a gap in it measures something else, so any failure ends the run.
fn assemble<S: Script>(
    script: &Arc<S>,
    target: &Arc<Target>,
    muster: Muster,
) -> Result<(Crew<S>, Connects), RunError> {
    let crew = Crew::assemble(script.clone(), target.clone(), muster);
    let connects = crew.wait();
    if connects.failed == 0 {
        return Ok((crew, connects));
    }
    crew.dismiss();
    let errors = serde_json::to_string(&connects.errors).unwrap_or_default();
    Err(RunError::Connect { failed: connects.failed, wanted: muster.clients, errors })
}

/// Requests without an answer yet, oldest first.
#[derive(Debug, Default)]
struct Pending(VecDeque<(u32, u64)>);

impl Pending {
    fn push(&mut self, ack: u32, due_ns: u64) {
        self.0.push_back((ack, due_ns));
    }

    /// When the request was due; `None` for an ack that nobody waits for. Answers mostly come in order.
    fn take(&mut self, ack: u32) -> Option<u64> {
        let at = self.0.iter().position(|&(pending, _)| pending == ack)?;
        self.0.remove(at).map(|(_, due_ns)| due_ns)
    }
}
