//! A broadcast's bytes, one encoding per wire format, shared by all receivers.

use bytes::{Bytes, BytesMut};
use cluster::Envelope;
use engineio::{Frame, Text};
use socketio::{Parser, msgpack};

/// The wire formats of one event.
#[derive(Clone, Debug)]
pub struct Frames {
    /// Complete WebSocket frames (text packet, then attachments) in one piece: one write.
    ws: Bytes,
    /// The packets as Engine.IO frames, for polling receivers.
    packets: Packets,
}

#[derive(Clone, Debug)]
enum Packets {
    One(Frame),
    Many(Box<[Frame]>),
}

impl Frames {
    /// Nothing for clients.
    pub fn none() -> Self {
        Self { ws: Bytes::new(), packets: Packets::Many(Box::default()) }
    }

    pub fn is_empty(&self) -> bool {
        self.ws.is_empty()
    }

    /// Encodes an envelope's event for the receivers' parser. `offset` becomes the last argument where they can recover. Empty for
    /// msgpack if the arguments are no JSON.
    pub fn prepare(envelope: &Envelope<'_>, offset: Option<&str>, parser: Parser) -> Self {
        match parser {
            Parser::Json => Self::text(envelope, offset),
            Parser::Msgpack => Self::msgpack(envelope, offset),
        }
    }

    fn msgpack(envelope: &Envelope<'_>, offset: Option<&str>) -> Self {
        let Envelope { namespace, event, tail, attachments, .. } = envelope;
        let packet = msgpack::event(namespace, None, event, tail, attachments, offset);
        packet.map_or_else(Self::none, |packet| Self::from_binary(&packet))
    }

    /// From a message that is binary as a whole.
    fn from_binary(message: &[u8]) -> Self {
        let mut ws = BytesMut::with_capacity(message.len() + 10);
        ws_frame_into(&mut ws, OPCODE_BINARY, message);
        let ws = ws.freeze();
        // A slice of the WebSocket bytes, as below.
        let packets = Packets::One(Frame::Binary(ws.slice(ws.len() - message.len()..)));
        Self { ws, packets }
    }

    fn text(envelope: &Envelope<'_>, offset: Option<&str>) -> Self {
        let mut packet = Vec::with_capacity(64 + envelope.tail.len());
        packet.push(b'4');
        socketio::encode_event_into(
            &mut packet,
            envelope.namespace,
            None,
            envelope.event,
            envelope.tail,
            envelope.attachments.len(),
            offset,
        );
        Self::from_packets(packet, envelope.attachments.iter().map(|a| Bytes::copy_from_slice(a)).collect())
    }

    /// From an encoded Engine.IO message packet (with its `4`) and the attachments that follow it.
    pub fn from_packets(packet: Vec<u8>, attachments: Vec<Bytes>) -> Self {
        let size = packet.len() + attachments.iter().map(|a| a.len() + 10).sum::<usize>() + 10;
        let mut ws = BytesMut::with_capacity(size);
        ws_header_into(&mut ws, OPCODE_TEXT, packet.len());
        let start = ws.len();
        ws.extend_from_slice(&packet);
        let end = ws.len();
        for attachment in &attachments {
            ws_frame_into(&mut ws, OPCODE_BINARY, attachment);
        }
        let ws = ws.freeze();
        // The text packet is a slice of the WebSocket bytes: no second copy.
        let text =
            Frame::Text(Text::try_from(ws.slice(start..end)).expect("packets are encoded from checked text"));
        let packets = if attachments.is_empty() {
            Packets::One(text)
        } else {
            Packets::Many(std::iter::once(text).chain(attachments.into_iter().map(Frame::Binary)).collect())
        };
        Self { ws, packets }
    }

    /// The bytes to write to a WebSocket.
    pub fn ws(&self) -> &Bytes {
        &self.ws
    }

    /// The packets for a polling transport, in order.
    pub fn packets(&self) -> &[Frame] {
        match &self.packets {
            Packets::One(frame) => std::slice::from_ref(frame),
            Packets::Many(frames) => frames,
        }
    }
}

const OPCODE_TEXT: u8 = 1;
const OPCODE_BINARY: u8 = 2;

/// Appends one unmasked, unfragmented WebSocket frame (RFC 6455 section 5.2). `opcode`: 1 text, 2 binary, 8 close, 9 ping, 10 pong.
pub fn ws_frame_into(out: &mut BytesMut, opcode: u8, payload: &[u8]) {
    ws_header_into(out, opcode, payload.len());
    out.extend_from_slice(payload);
}

fn ws_header_into(out: &mut BytesMut, opcode: u8, length: usize) {
    out.extend_from_slice(&[0x80 | opcode]);
    match length {
        0..=125 => out.extend_from_slice(&[length as u8]),
        126..=0xffff => {
            out.extend_from_slice(&[126]);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.extend_from_slice(&[127]);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(tail: &[u8]) -> Envelope<'_> {
        Envelope {
            id: 1,
            rooms: vec!["r"],
            at: 0,
            namespace: "/",
            event: "news",
            tail,
            attachments: vec![],
            except: vec![],
            view: None,
            receipt: None,
            trace: None,
        }
    }

    #[test]
    fn text_is_framed_once_and_shared() {
        let frames = Frames::prepare(&envelope(b"1"), Some("s:7"), Parser::Json);
        let text = br#"42["news",1,"s:7"]"#;
        assert_eq!(&frames.ws()[..2], [0x81, text.len() as u8]);
        assert_eq!(&frames.ws()[2..], text);
        assert_eq!(frames.packets().len(), 1);
    }

    #[test]
    fn attachments_follow_as_binary_frames() {
        let mut binary = envelope(br#"{"_placeholder":true,"num":0}"#);
        binary.attachments = vec![b"\x01\x02"];
        let frames = Frames::prepare(&binary, None, Parser::Json);
        assert!(frames.ws().ends_with(&[0x82, 2, 1, 2]));
        assert_eq!(frames.packets().len(), 2);
    }

    #[test]
    fn msgpack_is_one_binary_message_with_its_attachments_inside() {
        let mut binary = envelope(br#"{"_placeholder":true,"num":0}"#);
        binary.attachments = vec![b"\x01\x02"];
        let frames = Frames::prepare(&binary, Some("s:7"), Parser::Msgpack);
        let message = b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x93\xa4news\xc4\x02\x01\x02\xa3s:7";
        assert_eq!(&frames.ws()[..2], [0x82, message.len() as u8]);
        assert_eq!(&frames.ws()[2..], message);
        assert_eq!(frames.packets(), [Frame::Binary(Bytes::from_static(message))]);
        assert!(Frames::prepare(&envelope(b"1,"), None, Parser::Msgpack).is_empty());
    }

    #[test]
    fn lengths_use_the_shortest_form() {
        for (length, header) in [(125, 2), (126, 4), (0xffff, 4), (0x1_0000, 10)] {
            let mut out = BytesMut::new();
            ws_frame_into(&mut out, OPCODE_BINARY, &vec![0; length]);
            assert_eq!(out.len(), length + header);
        }
    }
}
