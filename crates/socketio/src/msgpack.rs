//! The msgpack parser of the Socket.IO ecosystem (npm `socket.io-msgpack-parser`, python-socketio's `msgpack`): one packet
//! `{type, nsp, data, id}` is one binary Engine.IO message, its binary arguments inside. Behind this module packets are what they are
//! with JSON: text with placeholders, and attachments beside it. Start at [`decode`] and [`event`].
//!
//! What JSON does not know becomes what `JSON.stringify` makes of it: a date its ISO text, `undefined` nothing or `null`, a number that
//! is none `null`. An `ArrayBuffer` is an attachment. Other extension types are refused.

mod read;
mod write;

use bytes::Bytes;

use crate::{
    args::Args,
    decode::{DecodeError, Limits, check_event_name, connect_error},
    encode,
    json::{self, Json, MAX_ATTACHMENTS, MAX_DEPTH},
    namespace::Namespace,
    packet::Packet,
};
use read::Reader;

const CONNECT: u8 = 0;
const DISCONNECT: u8 = 1;
const EVENT: u8 = 2;
const ACK: u8 = 3;
const CONNECT_ERROR: u8 = 4;

/// One message in, one packet out. Never panics; every limit is checked before something is kept.
pub fn decode(limits: &Limits, message: &Bytes) -> Result<Packet, DecodeError> {
    if message.len() > limits.max_packet_bytes {
        return Err(DecodeError::TooLarge);
    }
    let fields = Fields::read(limits, message)?;
    let nsp = fields.nsp.ok_or(DecodeError::Payload)?;
    let data = fields.data.filter(|data| data.text != "null");
    match fields.kind.ok_or(DecodeError::UnknownType)? {
        CONNECT => Ok(Packet::Connect { nsp, data: data.map(|data| data.object(limits)).transpose()? }),
        DISCONNECT if data.is_none() => Ok(Packet::Disconnect { nsp }),
        EVENT => {
            let args = data.ok_or(DecodeError::Payload)?.args(limits)?;
            check_event_name(args.json())?;
            Ok(Packet::Event { nsp, ack: fields.id, args })
        }
        ACK => {
            let id = fields.id.ok_or(DecodeError::AckId)?;
            Ok(Packet::Ack { nsp, id, args: data.ok_or(DecodeError::Payload)?.args(limits)? })
        }
        CONNECT_ERROR => connect_error(limits, nsp, data.ok_or(DecodeError::Payload)?.text.into()),
        DISCONNECT => Err(DecodeError::Payload),
        _ => Err(DecodeError::UnknownType),
    }
}

/// One packet in, one message out.
pub fn encode(packet: &Packet) -> Vec<u8> {
    let nsp = packet.namespace().as_str();
    let error;
    let (kind, id, data) = match packet {
        Packet::Connect { data, .. } => (CONNECT, None, data.as_ref().map(|json| &json.as_bytes()[..])),
        Packet::Disconnect { .. } => (DISCONNECT, None, None),
        Packet::Event { ack, args, .. } => (EVENT, *ack, Some(&args.json().as_bytes()[..])),
        Packet::Ack { id, args, .. } => (ACK, Some(*id), Some(&args.json().as_bytes()[..])),
        Packet::ConnectError { message, data, .. } => {
            error = encode::refused(message, data.as_ref());
            (CONNECT_ERROR, None, Some(&error[..]))
        }
    };
    self::packet(kind, nsp, id, data, packet.attachments()).expect("packets hold checked JSON")
}

/// An EVENT. The arguments are as for [`crate::encode_event_into`], the attachments those of its placeholders. `None`: the arguments
/// are no JSON.
pub fn event(
    nsp: &str,
    ack: Option<u64>,
    name: &str,
    tail_json: &[u8],
    attachments: &[impl AsRef<[u8]>],
    offset: Option<&str>,
) -> Option<Vec<u8>> {
    let mut args = vec![b'['];
    json::write_string(&mut args, name);
    if !tail_json.is_empty() {
        args.push(b',');
        args.extend_from_slice(tail_json);
    }
    if let Some(offset) = offset {
        args.push(b',');
        json::write_string(&mut args, offset);
    }
    args.push(b']');
    packet(EVENT, nsp, ack, Some(&args), attachments)
}

/// An ACK for the event that asked with `id`. `None`: the arguments are no JSON.
pub fn ack(nsp: &str, id: u64, body_json: &[u8], attachments: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let args = [b"[", body_json, b"]"].concat();
    packet(ACK, nsp, Some(id), Some(&args), attachments)
}

/// What a server answers to CONNECT, and DISCONNECT.
pub(crate) fn control(kind: Control<'_>, nsp: &str) -> Vec<u8> {
    let (kind, data) = match kind {
        Control::Accepted(data) => (CONNECT, Some(data)),
        Control::Refused(data) => (CONNECT_ERROR, Some(data)),
        Control::Disconnect => (DISCONNECT, None),
    };
    packet::<&[u8]>(kind, nsp, None, data, &[]).expect("encoders splice checked JSON")
}

/// A packet of a server that is neither event nor ack, with its payload as JSON.
pub(crate) enum Control<'a> {
    Accepted(&'a [u8]),
    Refused(&'a [u8]),
    Disconnect,
}

fn packet<A: AsRef<[u8]>>(
    kind: u8,
    nsp: &str,
    id: Option<u64>,
    data: Option<&[u8]>,
    attachments: &[A],
) -> Option<Vec<u8>> {
    let binary = attachments.iter().map(|bytes| bytes.as_ref().len() + 5).sum::<usize>();
    let mut out = Vec::with_capacity(nsp.len() + data.map_or(0, <[u8]>::len) + binary + 32);
    let entries = 2 + usize::from(data.is_some()) + usize::from(id.is_some());
    write::map_head(&mut out, entries);
    write::text(&mut out, "type");
    out.push(kind);
    write::text(&mut out, "nsp");
    write::text(&mut out, nsp);
    if let Some(id) = id {
        write::text(&mut out, "id");
        write::unsigned(&mut out, id);
    }
    if let Some(data) = data {
        write::text(&mut out, "data");
        write::json(&mut out, data, attachments)?;
    }
    Some(out)
}

/// What a packet's map holds, in whatever order.
#[derive(Default)]
struct Fields {
    kind: Option<u8>,
    nsp: Option<Namespace>,
    id: Option<u64>,
    data: Option<Data>,
}

impl Fields {
    fn read(limits: &Limits, message: &Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(limits, message);
        let mut fields = Self::default();
        for _ in 0..reader.map_head()? {
            match reader.key()? {
                b"type" => fields.kind = reader.integer()?.and_then(|kind| u8::try_from(kind).ok()),
                b"nsp" => fields.nsp = Some(namespace(limits, reader.string()?)?),
                b"id" => fields.id = reader.integer().map_err(|_| DecodeError::AckId)?,
                b"data" if fields.data.is_some() => return Err(DecodeError::Msgpack),
                b"data" => {
                    let (text, attachments) = reader.json()?;
                    let text = String::from_utf8(text).map_err(|_| DecodeError::NotUtf8)?;
                    fields.data = Some(Data { text, attachments });
                }
                // `options` of the JavaScript client, and whatever comes.
                _ => drop(reader.json()?),
            }
        }
        if reader.is_at_end() { Ok(fields) } else { Err(DecodeError::Msgpack) }
    }
}

fn namespace(limits: &Limits, name: &str) -> Result<Namespace, DecodeError> {
    if name.len() > limits.max_namespace_len {
        return Err(DecodeError::NamespaceTooLong);
    }
    Namespace::new(name).ok_or(DecodeError::Payload)
}

/// A payload as JSON.
struct Data {
    text: String,
    attachments: Vec<Bytes>,
}

impl Data {
    /// Scanned once more: an object that only looks like a placeholder must not meet the attachments.
    fn checked(self, limits: &Limits) -> Result<(Json, Vec<Bytes>), DecodeError> {
        if self.attachments.len() > limits.max_attachments.min(MAX_ATTACHMENTS) {
            return Err(DecodeError::TooManyAttachments);
        }
        json::scan(self.text.as_bytes(), limits.max_depth.min(MAX_DEPTH), self.attachments.len())?;
        Ok((Json::checked(self.text.into()), self.attachments))
    }

    fn args(self, limits: &Limits) -> Result<Args, DecodeError> {
        let (json, attachments) = self.checked(limits)?;
        if json.is_array() { Ok(Args::checked(json, attachments)) } else { Err(DecodeError::Payload) }
    }

    fn object(self, limits: &Limits) -> Result<Json, DecodeError> {
        let (json, attachments) = self.checked(limits)?;
        if json.is_object() && attachments.is_empty() { Ok(json) } else { Err(DecodeError::Payload) }
    }
}
