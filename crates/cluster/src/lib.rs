//! What nodes say to each other: subject grammar, versioned envelopes, node messages, session ids, and the pure
//! machines of forwarding, the session move and room recovery. No I/O, no clock, no randomness: those are arguments.

pub mod coordination;
pub mod envelope;
pub mod forwarding;
pub mod moving;
pub mod node_message;
pub mod sid;
pub mod subject;
pub mod trace;

pub use envelope::{Envelope, Receipt};
pub use trace::TraceParent;
