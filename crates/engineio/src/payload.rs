//! Polling bodies: packets joined by the record separator, binary messages as `b` and base64
//! (Engine.IO protocol, "HTTP long-polling").
//!
//! Decoding allocates in proportion to the number of packets only; texts stay slices of the body.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use bytes::{BufMut, Bytes, BytesMut};

use crate::{Frame, Message, NotUtf8, Packet, PacketError, Text};

/// The record separator.
pub const SEPARATOR: u8 = 0x1E;

// Encodes with padding, as the protocol shows it; reads both, since clients differ.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a body may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub max_bytes: usize,
    pub max_packets: usize,
}

impl Limits {
    /// A decoded packet takes about 40 bytes whatever its length: without this bound a body of two-byte packets would
    /// cost twenty times its size.
    pub const MAX_PACKETS: usize = 65_536;

    pub const fn bytes(max_bytes: usize) -> Self {
        Self { max_bytes, max_packets: Self::MAX_PACKETS }
    }
}

/// Why a body is no payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("the body is larger than allowed")]
    TooLarge,
    #[error("the body holds more packets than allowed")]
    TooManyPackets,
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    #[error(transparent)]
    Packet(#[from] PacketError),
}

/// All packets of a body, in order, or the first error: a body is taken whole or not at all.
pub fn decode(body: &Bytes, limits: Limits) -> Result<Vec<Packet>, PayloadError> {
    if body.len() > limits.max_bytes {
        return Err(PayloadError::TooLarge);
    }
    let text = Text::try_from(body.clone())?;
    let count = 1 + memchr::memchr_iter(SEPARATOR, body).count();
    if count > limits.max_packets {
        return Err(PayloadError::TooManyPackets);
    }
    let mut packets = Vec::with_capacity(count);
    let mut start = 0;
    for end in memchr::memchr_iter(SEPARATOR, body).chain([body.len()]) {
        packets.push(decode_part(&text.slice(start..end))?);
        start = end + 1;
    }
    Ok(packets)
}

fn decode_part(part: &Text) -> Result<Packet, PacketError> {
    match part.as_bytes().split_first() {
        Some((b'b', base64)) => {
            let bytes = BASE64.decode(base64).map_err(|_| PacketError::BadBase64)?;
            Ok(Packet::Message(Message::Binary(bytes.into())))
        }
        _ => Packet::decode_text(part),
    }
}

/// The body of these frames, whatever its size.
pub fn encode<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Bytes {
    let mut encoder = Encoder::new(usize::MAX);
    for frame in frames {
        encoder.push(frame);
    }
    encoder.finish()
}

/// Joins frames to one body of at most `max_bytes`, or of one frame.
#[derive(Debug)]
pub struct Encoder {
    body: BytesMut,
    max_bytes: usize,
}

impl Encoder {
    pub fn new(max_bytes: usize) -> Self {
        Self { body: BytesMut::new(), max_bytes }
    }

    /// Takes the frame, or answers false when the body has frames and has no room for this one.
    #[must_use]
    pub fn try_push(&mut self, frame: &Frame) -> bool {
        let room = self.max_bytes.saturating_sub(self.body.len() + 1);
        if !self.body.is_empty() && encoded_len(frame) > room {
            return false;
        }
        self.push(frame);
        true
    }

    pub fn finish(self) -> Bytes {
        self.body.freeze()
    }

    fn push(&mut self, frame: &Frame) {
        self.body.reserve(1 + encoded_len(frame));
        if !self.body.is_empty() {
            self.body.put_u8(SEPARATOR);
        }
        match frame {
            Frame::Text(text) => self.body.put_slice(text.as_bytes()),
            Frame::Binary(bytes) => {
                self.body.put_u8(b'b');
                self.body.put_slice(BASE64.encode(bytes).as_bytes());
            }
        }
    }
}

/// Bytes the frame takes in a polling body, without a separator.
pub fn encoded_len(frame: &Frame) -> usize {
    match frame {
        Frame::Text(text) => text.len(),
        Frame::Binary(bytes) => 1 + bytes.len().div_ceil(3) * 4,
    }
}
