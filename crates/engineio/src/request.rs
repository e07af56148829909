//! What an HTTP request asks of Engine.IO: the check of method and query, and the refusals with their codes.
//!
//! Whether a session id exists is the caller's to know; it answers [`Refusal::UNKNOWN_SID`] itself.

/// A request that is well formed. The sid is as it stands in the query, not yet verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Opens a session over this transport.
    Handshake(Transport),
    /// GET: the client waits for packets.
    Poll { sid: &'a str },
    /// POST: the client sends packets.
    Post { sid: &'a str },
    /// A WebSocket for a session that polls.
    Upgrade { sid: &'a str },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    Polling,
    WebSocket,
}

/// A refusal as the reference server words it: status 400 (403 for [`Refusal::FORBIDDEN`]), JSON body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    pub code: u8,
    pub message: &'static str,
}

/// Longer ones are nobody's: session ids of this server are far shorter.
const MAX_SID_BYTES: usize = 256;

/// Reads a request. `query` is the raw query without `?`; `websocket` says that the request carries `Upgrade: websocket`.
///
/// As in the reference server the protocol version matters at the handshake only, and `b64` is without effect over
/// polling, where Engine.IO 4 always uses base64; over a WebSocket see [`wants_base64`]. JSONP (`j`) is not supported.
///
/// # Errors
/// The refusal to answer with.
pub fn parse<'a>(method: &str, query: &'a str, websocket: bool) -> Result<Request<'a>, Refusal> {
    let transport = match value(query, "transport") {
        Some("polling") => Transport::Polling,
        Some("websocket") => Transport::WebSocket,
        _ => return Err(Refusal::UNKNOWN_TRANSPORT),
    };
    match value(query, "sid") {
        None | Some("") => handshake(method, query, websocket, transport),
        Some(sid) if sid.len() > MAX_SID_BYTES => Err(Refusal::UNKNOWN_SID),
        Some(sid) => with_session(method, query, websocket, transport, sid),
    }
}

fn handshake<'a>(
    method: &str,
    query: &str,
    websocket: bool,
    transport: Transport,
) -> Result<Request<'a>, Refusal> {
    if method != "GET" {
        return Err(Refusal::BAD_HANDSHAKE_METHOD);
    }
    if !encoding_is_supported(query) || websocket != (transport == Transport::WebSocket) {
        return Err(Refusal::BAD_REQUEST);
    }
    if value(query, "EIO") != Some("4") {
        return Err(Refusal::UNSUPPORTED_VERSION);
    }
    Ok(Request::Handshake(transport))
}

fn with_session<'a>(
    method: &str,
    query: &str,
    websocket: bool,
    transport: Transport,
    sid: &'a str,
) -> Result<Request<'a>, Refusal> {
    if !encoding_is_supported(query) {
        return Err(Refusal::BAD_REQUEST);
    }
    match (transport, method, websocket) {
        (Transport::Polling, "GET", false) => Ok(Request::Poll { sid }),
        (Transport::Polling, "POST", false) => Ok(Request::Post { sid }),
        (Transport::WebSocket, "GET", true) => Ok(Request::Upgrade { sid }),
        _ => Err(Refusal::BAD_REQUEST),
    }
}

fn encoding_is_supported(query: &str) -> bool {
    value(query, "j").is_none()
}

/// Whether the client wants binary messages as base64 text over its WebSocket (`b64`).
pub fn wants_base64(query: &str) -> bool {
    value(query, "b64").is_some()
}

// The keys and values Engine.IO uses need no percent-encoding; an encoded one is simply another value.
fn value<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    query.split('&').find_map(|pair| match pair.split_once('=') {
        Some((name, value)) if name == key => Some(value),
        None if pair == key => Some(""),
        _ => None,
    })
}

impl Refusal {
    pub const UNKNOWN_TRANSPORT: Self = Self { code: 0, message: "Transport unknown" };
    pub const UNKNOWN_SID: Self = Self { code: 1, message: "Session ID unknown" };
    pub const BAD_HANDSHAKE_METHOD: Self = Self { code: 2, message: "Bad handshake method" };
    pub const BAD_REQUEST: Self = Self { code: 3, message: "Bad request" };
    pub const FORBIDDEN: Self = Self { code: 4, message: "Forbidden" };
    pub const UNSUPPORTED_VERSION: Self = Self { code: 5, message: "Unsupported protocol version" };

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        if self.code == Self::FORBIDDEN.code { 403 } else { 400 }
    }

    /// The JSON body, `{"code":1,"message":"Session ID unknown"}`.
    pub fn body(self) -> String {
        format!("{{\"code\":{},\"message\":\"{}\"}}", self.code, self.message)
    }
}
