//! The wire, by hand: WebSocket frames, HTTP/1.1 requests, buffered sockets. Written for a generator that holds
//! tens of thousands of connections on one core; nothing here is shared with the servers under test, so that a
//! mistake in a codec of theirs cannot cancel itself out here.

pub mod http;
pub mod pipe;
pub mod ws;
