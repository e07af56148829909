//! What one node says to another about sessions, and its bytes.
//!
//! Owns the wire form: version byte, kind byte, the request's or move's id (big endian), then the fields as a msgpack
//! array. Refuses what it does not know with a typed error; decoding never panics and never holds more than it was given.
//! The four inner enums are named after their receiver: each goes to exactly one machine.

use std::io::Cursor;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// First byte of every message of this release.
pub const VERSION: u8 = 1;
/// Payload of one message at most: a part of a request, of an answer, or of a state.
pub const MAX_PART_BYTES: usize = 512 * 1024;
/// Encoded message at most: a part, and room for its fields. Half of NATS's default `max_payload`.
pub const MAX_MESSAGE_BYTES: usize = MAX_PART_BYTES + 1024;
/// Parts of one body or state at most: `Confirm` names the received ones in 64 bits. So a body holds at most 32 MiB.
pub const MAX_PARTS: u32 = 64;
/// Bytes of a session id at most.
pub const MAX_SID_BYTES: usize = 128;
/// Bytes of a content type at most.
pub const MAX_CONTENT_BYTES: usize = 128;

const HEAD_BYTES: usize = 10;

/// Name of a node, as in subjects and session ids.
pub type NodeId = Arc<str>;
/// An Engine.IO session id.
pub type Sid = Arc<str>;

/// One datagram between nodes. Its [`tag`](Self::tag) is the id the first sender chose, random and unique per node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeMessage {
    /// For [`crate::forwarding::ForwardOwner`].
    ForwardAsk { req: u64, msg: ForwardAsk },
    /// For [`crate::forwarding::Forwarder`].
    ForwardReply { req: u64, msg: ForwardReply },
    /// For [`crate::moving::MoveOwner`].
    MoveAsk { mv: u64, msg: MoveAsk },
    /// For [`crate::moving::Taker`].
    MoveReply { mv: u64, msg: MoveReply },
}

/// From the node that holds the HTTP request to the owner of its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardAsk {
    /// One part of the request (only a POST has more than one).
    Request { sid: Sid, part: AskPart },
    /// The answer is complete here and is being written to the client.
    Writing,
    /// The answer was written to the client.
    Wrote,
    /// The client went away, or this node knows nothing of the request.
    Gone,
}

/// What is asked of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskPart {
    Get,
    /// Part `part` of `parts` of the body.
    Post {
        part: u32,
        parts: u32,
        bytes: Bytes,
    },
    /// Is the session there, and may it be upgraded?
    Check,
}

/// From the owner of the session to the node that holds the HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardReply {
    /// The owner lives and has these parts of the request (bit n: part n).
    Confirm { have: u64 },
    /// Part `part` of `parts` of the answer; `status` and `content` are the same in every part.
    Answer { part: u32, parts: u32, status: u16, content: Arc<str>, bytes: Bytes },
}

/// From the node with the candidate WebSocket to the owner of the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveAsk {
    Reserve {
        sid: Sid,
    },
    /// The rooms of `Extend` number `seq` are subscribed and the barrier is passed.
    Extended {
        seq: u32,
    },
    /// The upgrade is abandoned. Answered by `Aborted`.
    Release,
    /// The client has sent its upgrade packet: freeze and send the state.
    Take,
    /// State chunk `chunk` is here.
    Got {
        chunk: u32,
    },
    /// The session lives here now. Answered by `Handed`.
    Installed,
    /// All tails below `next` are here.
    GotTail {
        next: u32,
    },
}

/// From the owner of the session to the node with the candidate WebSocket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveReply {
    /// The session is reserved; `info` (application, rooms) is opaque here.
    Reserved {
        info: Bytes,
    },
    Refused {
        reason: RefuseReason,
    },
    /// Subscribe to more: the session is joining these rooms (opaque).
    Extend {
        seq: u32,
        rooms: Bytes,
    },
    /// The reservation is over and the state will not come.
    Aborted,
    /// Chunk `chunk` of `chunks` of the state; `tails` results will follow it.
    State {
        chunk: u32,
        chunks: u32,
        tails: u32,
        bytes: Bytes,
    },
    /// The owner has dropped the session.
    Handed,
    /// Piece `seq` of the results of commands that still ran at the freeze; `more`: the result goes on in the next piece.
    Tail {
        seq: u32,
        more: bool,
        bytes: Bytes,
    },
}

/// Why a session was not reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefuseReason {
    #[error("the session is unknown")]
    UnknownSession,
    #[error("another upgrade has reserved the session")]
    AlreadyReserved,
    #[error("the session cannot be upgraded now")]
    NotUpgradable,
    #[error("the owner has no room for another reservation")]
    Overloaded,
    /// A reason this release does not know.
    #[error("the owner refused")]
    Other,
}

/// Why bytes are not a message of this release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("the message is shorter than its head")]
    Short,
    #[error("the message has {0} bytes, more than {MAX_MESSAGE_BYTES}")]
    TooLarge(usize),
    #[error("message version {0} is unknown")]
    UnknownVersion(u8),
    #[error("message kind {0} is unknown")]
    UnknownKind(u8),
    #[error("the fields of message kind {0} are malformed")]
    Malformed(u8),
    #[error("the fields of message kind {0} are outside their limits")]
    OutOfBounds(u8),
}

impl NodeMessage {
    /// The id of the request or move: the tag under which the datagram is sent.
    pub fn tag(&self) -> u64 {
        match self {
            Self::ForwardAsk { req, .. } | Self::ForwardReply { req, .. } => *req,
            Self::MoveAsk { mv, .. } | Self::MoveReply { mv, .. } => *mv,
        }
    }

    /// What it says, for logs.
    pub fn kind_name(&self) -> &'static str {
        match self {
            Self::ForwardAsk { msg, .. } => match msg {
                ForwardAsk::Request { .. } => "request",
                ForwardAsk::Writing => "writing",
                ForwardAsk::Wrote => "wrote",
                ForwardAsk::Gone => "gone",
            },
            Self::ForwardReply { msg, .. } => match msg {
                ForwardReply::Confirm { .. } => "confirm",
                ForwardReply::Answer { .. } => "answer",
            },
            Self::MoveAsk { msg, .. } => match msg {
                MoveAsk::Reserve { .. } => "reserve",
                MoveAsk::Extended { .. } => "extended",
                MoveAsk::Release => "release",
                MoveAsk::Take => "take",
                MoveAsk::Got { .. } => "got",
                MoveAsk::Installed => "installed",
                MoveAsk::GotTail { .. } => "got_tail",
            },
            Self::MoveReply { msg, .. } => match msg {
                MoveReply::Reserved { .. } => "reserved",
                MoveReply::Refused { .. } => "refused",
                MoveReply::Extend { .. } => "extend",
                MoveReply::Aborted => "aborted",
                MoveReply::State { .. } => "state",
                MoveReply::Handed => "handed",
                MoveReply::Tail { .. } => "tail",
            },
        }
    }

    pub fn encode(&self) -> Bytes {
        let tag = self.tag();
        match self {
            Self::ForwardAsk { msg, .. } => encode_forward_ask(tag, msg),
            Self::ForwardReply { msg, .. } => encode_forward_reply(tag, msg),
            Self::MoveAsk { msg, .. } => encode_move_ask(tag, msg),
            Self::MoveReply { msg, .. } => encode_move_reply(tag, msg),
        }
    }

    /// Reads one datagram. Every length and count it returns is within this module's limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(DecodeError::TooLarge(bytes.len()));
        }
        let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else {
            return Err(DecodeError::Short);
        };
        if head[0] != VERSION {
            return Err(DecodeError::UnknownVersion(head[0]));
        }
        let (mut tag, kind) = ([0; 8], head[1]);
        tag.copy_from_slice(&head[2..]);
        let (tag, fields) = (u64::from_be_bytes(tag), Fields { kind, rest });
        match kind {
            0x01..0x20 => decode_forward_ask(&fields).map(|msg| Self::ForwardAsk { req: tag, msg }),
            0x20..0x40 => decode_forward_reply(&fields).map(|msg| Self::ForwardReply { req: tag, msg }),
            0x40..0x60 => decode_move_ask(&fields).map(|msg| Self::MoveAsk { mv: tag, msg }),
            0x60..0x80 => decode_move_reply(&fields).map(|msg| Self::MoveReply { mv: tag, msg }),
            _ => Err(DecodeError::UnknownKind(kind)),
        }
    }
}

mod kind {
    pub const GET: u8 = 0x01;
    pub const POST: u8 = 0x02;
    pub const CHECK: u8 = 0x03;
    pub const WRITING: u8 = 0x04;
    pub const WROTE: u8 = 0x05;
    pub const GONE: u8 = 0x06;
    pub const CONFIRM: u8 = 0x20;
    pub const ANSWER: u8 = 0x21;
    pub const RESERVE: u8 = 0x40;
    pub const EXTENDED: u8 = 0x41;
    pub const RELEASE: u8 = 0x42;
    pub const TAKE: u8 = 0x43;
    pub const GOT: u8 = 0x44;
    pub const INSTALLED: u8 = 0x45;
    pub const GOT_TAIL: u8 = 0x46;
    pub const RESERVED: u8 = 0x60;
    pub const REFUSED: u8 = 0x61;
    pub const EXTEND: u8 = 0x62;
    pub const ABORTED: u8 = 0x63;
    pub const STATE: u8 = 0x64;
    pub const HANDED: u8 = 0x65;
    pub const TAIL: u8 = 0x66;
}

fn encode_forward_ask(tag: u64, msg: &ForwardAsk) -> Bytes {
    match msg {
        ForwardAsk::Request { sid, part: AskPart::Get } => with(kind::GET, tag, &(sid,)),
        ForwardAsk::Request { sid, part: AskPart::Post { part, parts, bytes } } => {
            with(kind::POST, tag, &(sid, part, parts, bytes))
        }
        ForwardAsk::Request { sid, part: AskPart::Check } => with(kind::CHECK, tag, &(sid,)),
        ForwardAsk::Writing => bare(kind::WRITING, tag),
        ForwardAsk::Wrote => bare(kind::WROTE, tag),
        ForwardAsk::Gone => bare(kind::GONE, tag),
    }
}

fn decode_forward_ask(fields: &Fields<'_>) -> Result<ForwardAsk, DecodeError> {
    let request = |sid: Sid, part| {
        fields.check(sid.len() <= MAX_SID_BYTES)?;
        Ok(ForwardAsk::Request { sid, part })
    };
    match fields.kind {
        kind::GET => request(fields.read::<(Sid,)>()?.0, AskPart::Get),
        kind::POST => {
            let (sid, part, parts, bytes) = fields.read()?;
            fields.check_part(part, parts, MAX_PARTS)?;
            request(sid, AskPart::Post { part, parts, bytes })
        }
        kind::CHECK => request(fields.read::<(Sid,)>()?.0, AskPart::Check),
        kind::WRITING => fields.none(ForwardAsk::Writing),
        kind::WROTE => fields.none(ForwardAsk::Wrote),
        kind::GONE => fields.none(ForwardAsk::Gone),
        unknown => Err(DecodeError::UnknownKind(unknown)),
    }
}

fn encode_forward_reply(tag: u64, msg: &ForwardReply) -> Bytes {
    match msg {
        ForwardReply::Confirm { have } => with(kind::CONFIRM, tag, &(have,)),
        ForwardReply::Answer { part, parts, status, content, bytes } => {
            with(kind::ANSWER, tag, &(part, parts, status, content, bytes))
        }
    }
}

fn decode_forward_reply(fields: &Fields<'_>) -> Result<ForwardReply, DecodeError> {
    match fields.kind {
        kind::CONFIRM => fields.read().map(|(have,)| ForwardReply::Confirm { have }),
        kind::ANSWER => {
            let (part, parts, status, content, bytes): (_, _, _, Arc<str>, _) = fields.read()?;
            fields.check_part(part, parts, MAX_PARTS)?;
            fields.check((100..600).contains(&status) && content.len() <= MAX_CONTENT_BYTES)?;
            Ok(ForwardReply::Answer { part, parts, status, content, bytes })
        }
        unknown => Err(DecodeError::UnknownKind(unknown)),
    }
}

fn encode_move_ask(tag: u64, msg: &MoveAsk) -> Bytes {
    match msg {
        MoveAsk::Reserve { sid } => with(kind::RESERVE, tag, &(sid,)),
        MoveAsk::Extended { seq } => with(kind::EXTENDED, tag, &(seq,)),
        MoveAsk::Release => bare(kind::RELEASE, tag),
        MoveAsk::Take => bare(kind::TAKE, tag),
        MoveAsk::Got { chunk } => with(kind::GOT, tag, &(chunk,)),
        MoveAsk::Installed => bare(kind::INSTALLED, tag),
        MoveAsk::GotTail { next } => with(kind::GOT_TAIL, tag, &(next,)),
    }
}

fn decode_move_ask(fields: &Fields<'_>) -> Result<MoveAsk, DecodeError> {
    match fields.kind {
        kind::RESERVE => {
            let (sid,): (Sid,) = fields.read()?;
            fields.check(sid.len() <= MAX_SID_BYTES)?;
            Ok(MoveAsk::Reserve { sid })
        }
        kind::EXTENDED => fields.read().map(|(seq,)| MoveAsk::Extended { seq }),
        kind::RELEASE => fields.none(MoveAsk::Release),
        kind::TAKE => fields.none(MoveAsk::Take),
        kind::GOT => fields.read().map(|(chunk,)| MoveAsk::Got { chunk }),
        kind::INSTALLED => fields.none(MoveAsk::Installed),
        kind::GOT_TAIL => fields.read().map(|(next,)| MoveAsk::GotTail { next }),
        unknown => Err(DecodeError::UnknownKind(unknown)),
    }
}

fn encode_move_reply(tag: u64, msg: &MoveReply) -> Bytes {
    match msg {
        MoveReply::Reserved { info } => with(kind::RESERVED, tag, &(info,)),
        MoveReply::Refused { reason } => with(kind::REFUSED, tag, &(reason.code(),)),
        MoveReply::Extend { seq, rooms } => with(kind::EXTEND, tag, &(seq, rooms)),
        MoveReply::Aborted => bare(kind::ABORTED, tag),
        MoveReply::State { chunk, chunks, tails, bytes } => {
            with(kind::STATE, tag, &(chunk, chunks, tails, bytes))
        }
        MoveReply::Handed => bare(kind::HANDED, tag),
        MoveReply::Tail { seq, more, bytes } => with(kind::TAIL, tag, &(seq, more, bytes)),
    }
}

fn decode_move_reply(fields: &Fields<'_>) -> Result<MoveReply, DecodeError> {
    match fields.kind {
        kind::RESERVED => fields.read().map(|(info,)| MoveReply::Reserved { info }),
        kind::REFUSED => {
            fields.read().map(|(code,)| MoveReply::Refused { reason: RefuseReason::from_code(code) })
        }
        kind::EXTEND => fields.read().map(|(seq, rooms)| MoveReply::Extend { seq, rooms }),
        kind::ABORTED => fields.none(MoveReply::Aborted),
        kind::STATE => {
            let (chunk, chunks, tails, bytes) = fields.read()?;
            fields.check_part(chunk, chunks, MAX_PARTS)?;
            Ok(MoveReply::State { chunk, chunks, tails, bytes })
        }
        kind::HANDED => fields.none(MoveReply::Handed),
        kind::TAIL => fields.read().map(|(seq, more, bytes)| MoveReply::Tail { seq, more, bytes }),
        unknown => Err(DecodeError::UnknownKind(unknown)),
    }
}

impl RefuseReason {
    fn code(self) -> u8 {
        match self {
            Self::Other => 0,
            Self::UnknownSession => 1,
            Self::AlreadyReserved => 2,
            Self::NotUpgradable => 3,
            Self::Overloaded => 4,
        }
    }

    /// A later release may refuse for reasons unknown here; the refusal itself is understood.
    fn from_code(code: u8) -> Self {
        match code {
            1 => Self::UnknownSession,
            2 => Self::AlreadyReserved,
            3 => Self::NotUpgradable,
            4 => Self::Overloaded,
            _ => Self::Other,
        }
    }
}

fn bare(kind: u8, tag: u64) -> Bytes {
    head(kind, tag, 0).freeze()
}

fn with(kind: u8, tag: u64, fields: &impl Serialize) -> Bytes {
    let mut writer = head(kind, tag, 64).writer();
    rmp_serde::encode::write(&mut writer, fields)
        .expect("integers, strings and bytes have a msgpack form, and memory does not fail");
    writer.into_inner().freeze()
}

fn head(kind: u8, tag: u64, more: usize) -> BytesMut {
    let mut bytes = BytesMut::with_capacity(HEAD_BYTES + more);
    bytes.put_u8(VERSION);
    bytes.put_u8(kind);
    bytes.put_u64(tag);
    bytes
}

struct Fields<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl Fields<'_> {
    fn read<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        let mut reader = rmp_serde::Deserializer::new(Cursor::new(self.rest));
        let fields = T::deserialize(&mut reader).map_err(|_| DecodeError::Malformed(self.kind))?;
        if reader.position() != self.rest.len() as u64 {
            return Err(DecodeError::Malformed(self.kind));
        }
        Ok(fields)
    }

    fn none<T>(&self, message: T) -> Result<T, DecodeError> {
        if self.rest.is_empty() { Ok(message) } else { Err(DecodeError::Malformed(self.kind)) }
    }

    fn check(&self, within: bool) -> Result<(), DecodeError> {
        if within { Ok(()) } else { Err(DecodeError::OutOfBounds(self.kind)) }
    }

    fn check_part(&self, part: u32, parts: u32, max: u32) -> Result<(), DecodeError> {
        self.check(part < parts && parts <= max)
    }
}
