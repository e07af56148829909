//! Socket.IO 5 (protocol revision 5) without I/O: packets in JSON text encoding or msgpack ([`Parser`]), and the per-session machine above Engine.IO.
//!
//! Owns: decoding with limits ([`Decoder`]), encoding ([`Packet::encode_into`], [`encode_event_into`]), namespaces, CONNECT
//! and acks of one session ([`Connections`]). Payloads stay the JSON text they came as; binary attachments stay beside
//! their placeholders. Refuses: rooms, users, time and sockets. Start reading at [`Connections`].
//!
//! Texts here carry no Engine.IO type digit, except the ready frames that [`Connections`] returns.

mod args;
mod connections;
mod decode;
mod encode;
mod json;
pub mod msgpack;
mod namespace;
mod packet;

pub use args::{Args, ArgsBuilder, ArgsError};
pub use connections::{
    Accepted, AckError, AckId, Connections, Departed, Encoded, Event, FrozenConnections, Millis, Parser,
    Violation,
};
pub use decode::{DecodeError, Decoder, Incoming, Limits};
pub use encode::{encode_ack_into, encode_event_into};
pub use json::{Json, JsonError, MAX_ATTACHMENTS, MAX_DEPTH};
pub use namespace::Namespace;
pub use packet::{Packet, is_reserved_event};
