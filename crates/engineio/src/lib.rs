//! Engine.IO 4, the server's side, without I/O: packets, polling payloads, request checks and the session machine.
//!
//! Everything here is values in, values out: time is an argument, nothing reads a clock, a socket or the environment, and
//! nothing in here knows Socket.IO. Session ids are strings to this crate; who may use one is decided by the caller.
//!
//! Start at [`Session`]: the caller feeds [`Input`]s with [`Session::handle`], then draws [`Output`]s with
//! [`Session::poll_output`] until there are none, and comes back at [`Session::next_timeout`].

mod close;
mod config;
mod packet;
pub mod payload;
pub mod request;
mod session;
mod text;

pub use close::CloseReason;
pub use config::Config;
pub use packet::{Frame, Message, Open, Packet, PacketError, handshake_json};
pub use request::{Refusal, Request, Transport};
pub use session::{Answer, Frozen, HeartbeatLeft, Input, Output, PollId, Session, WsId};
pub use text::{NotUtf8, Text};

/// Milliseconds of a monotonic clock, from any epoch; the caller reads the clock.
pub type Millis = u64;
