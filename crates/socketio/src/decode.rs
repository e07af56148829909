//! Text and binary messages in, packets out. Every limit is checked before anything is kept.

use bytes::Bytes;
use memchr::memchr;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    args::Args,
    json::{self, Json, JsonError, MAX_ATTACHMENTS, MAX_DEPTH},
    namespace::Namespace,
    packet::{Packet, is_reserved_event},
};

/// Bounds of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Binary attachments of one packet; the reference parser's default is 10. At most [`MAX_ATTACHMENTS`] counts.
    pub max_attachments: usize,
    /// Nesting of arrays and objects in a payload. At most [`MAX_DEPTH`] counts.
    pub max_depth: usize,
    /// Text and attachments of one packet together, in bytes.
    pub max_packet_bytes: usize,
    /// Bytes of a namespace as sent, query part included.
    pub max_namespace_len: usize,
    /// Namespaces of one session, connected or waiting for the server's decision.
    pub max_sockets_per_session: usize,
    /// Answers one session still owes the server.
    pub max_pending_acks: usize,
    /// Packets kept for a namespace while the server decides on its CONNECT.
    pub max_held_packets: usize,
    /// Their bytes, text and attachments.
    pub max_held_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_attachments: 10,
            max_depth: 64,
            // Four full Engine.IO payloads: several attachments fit, and a half-received packet stays affordable.
            max_packet_bytes: 4_000_000,
            max_namespace_len: 256,
            max_sockets_per_session: 32,
            max_pending_acks: 1024,
            max_held_packets: 64,
            max_held_bytes: 1_000_000,
        }
    }
}

/// One Engine.IO message from the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// Text after the Engine.IO digit; UTF-8 is checked here.
    Text(Bytes),
    Binary(Bytes),
}

/// Why a message is no packet. The session must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("text is not UTF-8")]
    NotUtf8,
    #[error("unknown packet type")]
    UnknownType,
    #[error("malformed attachment count")]
    AttachmentCount,
    #[error("too many attachments")]
    TooManyAttachments,
    #[error("namespace too long")]
    NamespaceTooLong,
    #[error("malformed ack id")]
    AckId,
    #[error("packet too large")]
    TooLarge,
    #[error("payload: {0}")]
    Json(#[from] JsonError),
    #[error("payload does not fit the packet type")]
    Payload,
    #[error("reserved event name")]
    ReservedEvent,
    #[error("text while attachments are outstanding")]
    UnexpectedText,
    #[error("binary without a packet that announced it")]
    UnexpectedBinary,
    #[error("no msgpack packet")]
    Msgpack,
}

/// Assembles packets of one session. A half-received binary packet moves with its session: the decoder is serde.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Partial {
    target: Target,
    json: Json,
    attachments: Vec<Bytes>,
    missing: usize,
    bytes: usize,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Target {
    Event { nsp: Namespace, ack: Option<u64> },
    Ack { nsp: Namespace, id: u64 },
}

impl Decoder {
    /// Takes one message; `None` while attachments are outstanding. After an error the decoder is of no more use.
    pub fn feed(&mut self, limits: &Limits, incoming: Incoming) -> Result<Option<Packet>, DecodeError> {
        match (incoming, self.partial.take()) {
            (Incoming::Text(text), None) => self.text(limits, text),
            (Incoming::Binary(bytes), Some(partial)) => self.attachment(limits, partial, bytes),
            (Incoming::Text(_), Some(_)) => Err(DecodeError::UnexpectedText),
            (Incoming::Binary(_), None) => Err(DecodeError::UnexpectedBinary),
        }
    }

    /// Whether a packet waits for attachments.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    fn text(&mut self, limits: &Limits, text: Bytes) -> Result<Option<Packet>, DecodeError> {
        if text.len() > limits.max_packet_bytes {
            return Err(DecodeError::TooLarge);
        }
        std::str::from_utf8(&text).map_err(|_| DecodeError::NotUtf8)?;
        let head = Head::parse(limits, &text)?;
        let payload = text.slice(head.payload..);
        let nsp = head.nsp;
        match head.kind {
            Kind::Connect => Ok(Some(Packet::Connect { nsp, data: object_or_none(limits, payload)? })),
            Kind::Disconnect if payload.is_empty() => Ok(Some(Packet::Disconnect { nsp })),
            Kind::Disconnect => Err(DecodeError::Payload),
            Kind::ConnectError => connect_error(limits, nsp, payload).map(Some),
            Kind::Event => {
                let json = array(limits, payload, head.attachments)?;
                check_event_name(&json)?;
                Ok(self.complete_or_keep(Target::Event { nsp, ack: head.id }, json, head.attachments))
            }
            Kind::Ack => {
                let id = head.id.ok_or(DecodeError::AckId)?;
                let json = array(limits, payload, head.attachments)?;
                Ok(self.complete_or_keep(Target::Ack { nsp, id }, json, head.attachments))
            }
        }
    }

    fn complete_or_keep(&mut self, target: Target, json: Json, missing: usize) -> Option<Packet> {
        if missing == 0 {
            return Some(target.packet(Args::checked(json, Vec::new())));
        }
        let bytes = json.as_bytes().len();
        self.partial = Some(Box::new(Partial { target, json, attachments: Vec::new(), missing, bytes }));
        None
    }

    fn attachment(
        &mut self,
        limits: &Limits,
        mut partial: Box<Partial>,
        bytes: Bytes,
    ) -> Result<Option<Packet>, DecodeError> {
        partial.bytes = partial.bytes.saturating_add(bytes.len());
        if partial.bytes > limits.max_packet_bytes {
            return Err(DecodeError::TooLarge);
        }
        partial.attachments.push(bytes);
        partial.missing = partial.missing.saturating_sub(1);
        if partial.missing > 0 {
            self.partial = Some(partial);
            return Ok(None);
        }
        let Partial { target, json, attachments, .. } = *partial;
        // Checked again: the other half may have come from another node.
        let args = Args::new(json.as_bytes().clone(), attachments).map_err(|_| DecodeError::Payload)?;
        Ok(Some(target.packet(args)))
    }
}

impl Target {
    fn packet(self, args: Args) -> Packet {
        match self {
            Self::Event { nsp, ack } => Packet::Event { nsp, ack, args },
            Self::Ack { nsp, id } => Packet::Ack { nsp, id, args },
        }
    }
}

enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

/// What stands before the payload: `<type>[<attachments>-][<namespace>,][<id>]`.
struct Head {
    kind: Kind,
    attachments: usize,
    nsp: Namespace,
    id: Option<u64>,
    /// Where the payload begins.
    payload: usize,
}

impl Head {
    fn parse(limits: &Limits, text: &[u8]) -> Result<Self, DecodeError> {
        let (kind, binary) = match text.first() {
            Some(b'0') => (Kind::Connect, false),
            Some(b'1') => (Kind::Disconnect, false),
            Some(b'2') => (Kind::Event, false),
            Some(b'3') => (Kind::Ack, false),
            Some(b'4') => (Kind::ConnectError, false),
            Some(b'5') => (Kind::Event, true),
            Some(b'6') => (Kind::Ack, true),
            _ => return Err(DecodeError::UnknownType),
        };
        let mut at = 1;
        let attachments = if binary { attachment_count(limits, text, &mut at)? } else { 0 };
        let nsp = namespace(limits, text, &mut at)?;
        let id = number(text, &mut at)?;
        if id.is_some() && !matches!(kind, Kind::Event | Kind::Ack) {
            return Err(DecodeError::AckId);
        }
        Ok(Self { kind, attachments, nsp, id, payload: at })
    }
}

fn attachment_count(limits: &Limits, text: &[u8], at: &mut usize) -> Result<usize, DecodeError> {
    let count = number(text, at).map_err(|_| DecodeError::AttachmentCount)?;
    let count = count.filter(|count| *count > 0).ok_or(DecodeError::AttachmentCount)?;
    if text.get(*at) != Some(&b'-') {
        return Err(DecodeError::AttachmentCount);
    }
    *at += 1;
    let max = limits.max_attachments.min(MAX_ATTACHMENTS);
    usize::try_from(count).ok().filter(|count| *count <= max).ok_or(DecodeError::TooManyAttachments)
}

/// A namespace ends at a comma, or with the text (`0/custom`).
fn namespace(limits: &Limits, text: &[u8], at: &mut usize) -> Result<Namespace, DecodeError> {
    let rest = &text[*at..];
    if rest.first() != Some(&b'/') {
        return Ok(Namespace::MAIN);
    }
    let window = &rest[..rest.len().min(limits.max_namespace_len.saturating_add(1))];
    let (end, next) = match memchr(b',', window) {
        Some(comma) => (comma, comma + 1),
        None if rest.len() <= limits.max_namespace_len => (rest.len(), rest.len()),
        None => return Err(DecodeError::NamespaceTooLong),
    };
    *at += next;
    let name = std::str::from_utf8(&rest[..end]).map_err(|_| DecodeError::NotUtf8)?;
    Namespace::new(name).ok_or(DecodeError::Payload)
}

/// Decimal digits, maybe none; more than a `u64` holds is an error.
fn number(text: &[u8], at: &mut usize) -> Result<Option<u64>, DecodeError> {
    let start = *at;
    let mut value: Option<u64> = None;
    while let Some(digit) = text.get(*at).filter(|byte| byte.is_ascii_digit()) {
        let shifted = value.unwrap_or(0).checked_mul(10).ok_or(DecodeError::AckId)?;
        value = Some(shifted.checked_add(u64::from(digit - b'0')).ok_or(DecodeError::AckId)?);
        *at += 1;
        // Leading zeros could go on for the whole text without overflowing.
        if *at - start > 20 {
            return Err(DecodeError::AckId);
        }
    }
    Ok(value)
}

fn array(limits: &Limits, payload: Bytes, attachments: usize) -> Result<Json, DecodeError> {
    let json = checked(limits, payload, attachments)?;
    if json.is_array() { Ok(json) } else { Err(DecodeError::Payload) }
}

fn object_or_none(limits: &Limits, payload: Bytes) -> Result<Option<Json>, DecodeError> {
    if payload.is_empty() {
        return Ok(None);
    }
    let json = checked(limits, payload, 0)?;
    if json.is_object() { Ok(Some(json)) } else { Err(DecodeError::Payload) }
}

fn checked(limits: &Limits, payload: Bytes, attachments: usize) -> Result<Json, DecodeError> {
    json::scan(&payload, limits.max_depth.min(MAX_DEPTH), attachments)?;
    Ok(Json::checked(payload))
}

pub(crate) fn check_event_name(json: &Json) -> Result<(), DecodeError> {
    let args = Args::checked(json.clone(), Vec::new());
    let name = args.event_name().ok_or(DecodeError::Payload)?;
    if is_reserved_event(&name) { Err(DecodeError::ReservedEvent) } else { Ok(()) }
}

/// A payload is an object, or a bare string as servers of revision 4 sent it.
pub(crate) fn connect_error(limits: &Limits, nsp: Namespace, payload: Bytes) -> Result<Packet, DecodeError> {
    #[derive(Deserialize)]
    struct Body {
        #[serde(default)]
        message: String,
        data: Option<Box<RawValue>>,
    }
    let json = checked(limits, payload, 0)?;
    if json.is_object() {
        let body: Body = json.parse().map_err(|_| DecodeError::Payload)?;
        let data = body.data.map(|raw| Json::checked(Bytes::from(raw.get().to_owned())));
        return Ok(Packet::ConnectError { nsp, message: body.message, data });
    }
    let message: String = json.parse().map_err(|_| DecodeError::Payload)?;
    Ok(Packet::ConnectError { nsp, message, data: None })
}
