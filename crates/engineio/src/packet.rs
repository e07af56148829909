//! Packets (decoded) and frames (encoded): the codec of one packet, as a WebSocket carries it.
//!
//! How packets share a polling body is in [`payload`](crate::payload).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Config, Text};

/// One decoded packet (Engine.IO protocol, "Packet types").
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Open(Box<Open>),
    Close,
    /// With the probe's word, or empty.
    Ping(Text),
    Pong(Text),
    Message(Message),
    Upgrade,
    Noop,
}

/// What the layer above sends and receives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    Text(Text),
    Binary(Bytes),
}

/// One encoded packet as it goes out. Text begins with the type digit (`4hello`, `2`); binary is a message's bytes alone.
/// Clones share the buffer, so that all receivers of a broadcast hold the same frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Frame {
    Text(Text),
    Binary(Bytes),
}

/// The open packet's JSON (Engine.IO protocol, "Handshake").
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Open {
    pub sid: String,
    /// Names of the transports this session may upgrade to.
    pub upgrades: Vec<String>,
    /// Milliseconds.
    pub ping_interval: u64,
    /// Milliseconds.
    pub ping_timeout: u64,
    /// Bytes.
    pub max_payload: u64,
}

/// Why a frame is no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    #[error("the packet is empty")]
    Empty,
    #[error("the packet type is unknown")]
    UnknownType,
    #[error("a packet without data carries some")]
    UnexpectedData,
    #[error("the open packet is not valid JSON of the expected shape")]
    BadOpen,
    #[error("the base64 of a binary message is invalid")]
    BadBase64,
}

/// The frame of the open packet: `0` and exactly the five keys, in the reference server's order.
/// `upgrades` says whether the session may upgrade to a WebSocket.
pub fn handshake_json(sid: &str, config: &Config, upgrades: bool) -> Text {
    let open = Open {
        sid: sid.to_owned(),
        upgrades: if upgrades { vec!["websocket".to_owned()] } else { Vec::new() },
        ping_interval: config.ping_interval_ms,
        ping_timeout: config.ping_timeout_ms,
        max_payload: config.max_payload as u64,
    };
    open.encode()
}

impl Open {
    fn encode(&self) -> Text {
        let json = serde_json::to_string(self).expect("strings and numbers always serialize");
        Text::from(format!("0{json}"))
    }
}

impl Packet {
    /// Decodes a text frame. `b…` (base64) is not a packet here: it exists in polling bodies alone.
    pub fn decode_text(text: &Text) -> Result<Self, PacketError> {
        let (&kind, data) = text.as_bytes().split_first().ok_or(PacketError::Empty)?;
        match kind {
            b'0' => {
                let open = serde_json::from_slice(data).map_err(|_| PacketError::BadOpen)?;
                Ok(Self::Open(Box::new(open)))
            }
            b'1' => without_data(data, Self::Close),
            b'2' => Ok(Self::Ping(text.slice(1..))),
            b'3' => Ok(Self::Pong(text.slice(1..))),
            b'4' => Ok(Self::Message(Message::Text(text.slice(1..)))),
            b'5' => without_data(data, Self::Upgrade),
            b'6' => without_data(data, Self::Noop),
            _ => Err(PacketError::UnknownType),
        }
    }

    /// Decodes what a WebSocket delivered; any binary is a message.
    pub fn decode_frame(frame: &Frame) -> Result<Self, PacketError> {
        match frame {
            Frame::Text(text) => Self::decode_text(text),
            Frame::Binary(bytes) => Ok(Self::Message(Message::Binary(bytes.clone()))),
        }
    }

    pub fn encode(&self) -> Frame {
        match self {
            Self::Open(open) => Frame::Text(open.encode()),
            Self::Close => Frame::CLOSE,
            Self::Ping(data) => Frame::Text(prefixed('2', data)),
            Self::Pong(data) => Frame::Text(prefixed('3', data)),
            Self::Message(Message::Text(text)) => Frame::Text(prefixed('4', text)),
            Self::Message(Message::Binary(bytes)) => Frame::Binary(bytes.clone()),
            Self::Upgrade => Frame::UPGRADE,
            Self::Noop => Frame::NOOP,
        }
    }
}

fn without_data(data: &[u8], packet: Packet) -> Result<Packet, PacketError> {
    if data.is_empty() { Ok(packet) } else { Err(PacketError::UnexpectedData) }
}

fn prefixed(kind: char, text: &Text) -> Text {
    let mut encoded = String::with_capacity(1 + text.len());
    encoded.push(kind);
    encoded.push_str(text.as_str());
    encoded.into()
}

impl Frame {
    pub const CLOSE: Self = Self::Text(Text::from_static("1"));
    pub const PING: Self = Self::Text(Text::from_static("2"));
    pub const PONG: Self = Self::Text(Text::from_static("3"));
    pub const UPGRADE: Self = Self::Text(Text::from_static("5"));
    pub const NOOP: Self = Self::Text(Text::from_static("6"));
    pub(crate) const PROBE_ANSWER: Self = Self::Text(Text::from_static("3probe"));

    /// The frame of a text message: `4` and the text.
    pub fn message(text: &str) -> Self {
        let mut encoded = String::with_capacity(1 + text.len());
        encoded.push('4');
        encoded.push_str(text);
        Self::Text(encoded.into())
    }

    /// Bytes on a WebSocket, without its header.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// True only of a binary message without bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
