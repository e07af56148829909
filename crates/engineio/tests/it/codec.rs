//! Byte vectors, round trips and damaged input for packets and payloads.

use bytes::Bytes;
use engineio::payload::{self, Encoder, Limits, PayloadError};
use engineio::{Config, Frame, Message, NotUtf8, Open, Packet, PacketError, Text, handshake_json};
use proptest::prelude::*;

fn text(text: &str) -> Frame {
    Frame::Text(text.into())
}

fn said(text: &str) -> Packet {
    Packet::Message(Message::Text(text.into()))
}

fn bytes(bytes: &'static [u8]) -> Packet {
    Packet::Message(Message::Binary(Bytes::from_static(bytes)))
}

fn decode(body: &'static [u8]) -> Result<Vec<Packet>, PayloadError> {
    payload::decode(&Bytes::from_static(body), Limits::bytes(1000))
}

#[test]
fn packets_have_these_bytes() {
    let table = [
        (Packet::Close, "1"),
        (Packet::Ping("".into()), "2"),
        (Packet::Ping("probe".into()), "2probe"),
        (Packet::Pong("".into()), "3"),
        (Packet::Pong("probe".into()), "3probe"),
        (said("hello"), "4hello"),
        (said(""), "4"),
        (said("пойду"), "4пойду"),
        (Packet::Upgrade, "5"),
        (Packet::Noop, "6"),
    ];
    for (packet, encoded) in table {
        assert_eq!(packet.encode(), text(encoded));
        assert_eq!(Packet::decode_frame(&text(encoded)), Ok(packet));
    }
    let binary = Frame::Binary(Bytes::from_static(&[0, 1, 2]));
    assert_eq!(bytes(&[0, 1, 2]).encode(), binary);
    assert_eq!(Packet::decode_frame(&binary), Ok(bytes(&[0, 1, 2])));
}

#[test]
fn the_open_packet_has_five_keys() {
    let config = Config { ping_interval_ms: 300, ping_timeout_ms: 200, ..Config::default() };
    let frame = handshake_json("abc", &config, true);
    let json =
        r#"{"sid":"abc","upgrades":["websocket"],"pingInterval":300,"pingTimeout":200,"maxPayload":1000000}"#;
    assert_eq!(frame.as_str(), format!("0{json}"));
    let expected = Open {
        sid: "abc".into(),
        upgrades: vec!["websocket".into()],
        ping_interval: 300,
        ping_timeout: 200,
        max_payload: 1_000_000,
    };
    let packet = Packet::Open(Box::new(expected));
    assert_eq!(Packet::decode_text(&frame), Ok(packet.clone()));
    assert_eq!(packet.encode(), Frame::Text(frame));
    assert!(handshake_json("abc", &config, false).as_str().contains(r#""upgrades":[]"#));
}

#[test]
fn what_is_no_packet_has_a_reason() {
    let table = [
        ("", PacketError::Empty),
        ("7", PacketError::UnknownType),
        ("abc", PacketError::UnknownType),
        ("bAAEC", PacketError::UnknownType),
        ("ж", PacketError::UnknownType),
        ("1x", PacketError::UnexpectedData),
        ("5 ", PacketError::UnexpectedData),
        ("66", PacketError::UnexpectedData),
        ("0", PacketError::BadOpen),
        ("0{}", PacketError::BadOpen),
    ];
    for (input, error) in table {
        assert_eq!(Packet::decode_frame(&text(input)), Err(error), "{input}");
    }
}

#[test]
fn payloads_have_these_bytes() {
    assert_eq!(
        decode(b"4hello\x1e2\x1e4world").unwrap(),
        [said("hello"), Packet::Ping("".into()), said("world")]
    );
    assert_eq!(decode(b"4hello\x1ebAQIDBA==").unwrap(), [said("hello"), bytes(&[1, 2, 3, 4])]);
    assert_eq!(decode(b"bAQIDBA").unwrap(), [bytes(&[1, 2, 3, 4])], "padding is optional to read");
    assert_eq!(decode(b"b").unwrap(), [bytes(&[])]);
    let frames = [text("4hello"), Frame::Binary(Bytes::from_static(&[1, 2, 3, 4])), text("2")];
    assert_eq!(payload::encode(&frames), "4hello\x1ebAQIDBA==\x1e2");
}

#[test]
fn what_is_no_payload_has_a_reason() {
    let table: [(&[u8], PayloadError); 9] = [
        (b"", PacketError::Empty.into()),
        (b"abc", PacketError::UnknownType.into()),
        (b"4a\x1e", PacketError::Empty.into()),
        (b"\x1e4a", PacketError::Empty.into()),
        (b"4a\x1e\x1e4b", PacketError::Empty.into()),
        (b"b!!!!", PacketError::BadBase64.into()),
        (b"bA", PacketError::BadBase64.into()),
        (b"4\xff", NotUtf8.into()),
        (&[b'4'; 1001], PayloadError::TooLarge),
    ];
    for (input, error) in table {
        assert_eq!(decode(input), Err(error), "{input:?}");
    }
}

#[test]
fn a_payload_has_a_bounded_number_of_packets() {
    let limits = Limits { max_bytes: 1000, max_packets: 2 };
    assert_eq!(payload::decode(&Bytes::from_static(b"4\x1e4"), limits).unwrap().len(), 2);
    assert_eq!(
        payload::decode(&Bytes::from_static(b"4\x1e4\x1e4"), limits),
        Err(PayloadError::TooManyPackets)
    );
}

#[test]
fn the_encoder_stops_before_its_limit_but_takes_one_frame() {
    let mut encoder = Encoder::new(5);
    assert!(encoder.try_push(&text("4a")));
    assert!(encoder.try_push(&text("4b")));
    assert!(!encoder.try_push(&text("4")));
    assert_eq!(encoder.finish(), "4a\x1e4b");
    let mut encoder = Encoder::new(5);
    assert!(encoder.try_push(&text("4abcdefgh")));
    assert!(!encoder.try_push(&text("4")));
}

#[test]
fn texts_of_a_payload_share_its_buffer() {
    let body = Bytes::from_static(b"4one\x1e4two");
    let packets = payload::decode(&body, Limits::bytes(100)).unwrap();
    let Packet::Message(Message::Text(two)) = &packets[1] else { panic!("a text") };
    assert_eq!(two.as_bytes().as_ptr(), body[6..].as_ptr());
}

#[test]
fn frames_travel_in_serde() {
    let frames = vec![text("4a\"\u{1F600}"), Frame::Binary(Bytes::from_static(&[0, 255]))];
    let json = serde_json::to_string(&frames).unwrap();
    assert_eq!(serde_json::from_str::<Vec<Frame>>(&json).unwrap(), frames);
}

fn any_text() -> impl Strategy<Value = Text> {
    "[^\u{1e}]{0,40}".prop_map(Text::from)
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let binary = proptest::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        Just(Packet::Close),
        Just(Packet::Upgrade),
        Just(Packet::Noop),
        any_text().prop_map(Packet::Ping),
        any_text().prop_map(Packet::Pong),
        any_text().prop_map(|text| Packet::Message(Message::Text(text))),
        binary.prop_map(|bytes| Packet::Message(Message::Binary(bytes.into()))),
    ]
}

proptest! {
    #[test]
    fn a_packet_comes_back(packet in any_packet()) {
        prop_assert_eq!(Packet::decode_frame(&packet.encode()), Ok(packet));
    }

    #[test]
    fn a_payload_comes_back(packets in proptest::collection::vec(any_packet(), 1..12)) {
        let frames: Vec<Frame> = packets.iter().map(Packet::encode).collect();
        let body = payload::encode(&frames);
        let lengths: usize = frames.iter().map(payload::encoded_len).sum();
        prop_assert_eq!(body.len(), lengths + frames.len() - 1);
        prop_assert_eq!(payload::decode(&body, Limits::bytes(body.len())), Ok(packets));
    }

    #[test]
    fn damage_is_refused_or_read_but_never_more_than_was_there(
        packets in proptest::collection::vec(any_packet(), 1..6),
        damage in proptest::collection::vec((any::<u8>(), any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let frames: Vec<Frame> = packets.iter().map(Packet::encode).collect();
        let mut body = payload::encode(&frames).to_vec();
        for (kind, at, value) in damage {
            let at = at.index(body.len() + 1);
            match kind % 3 {
                0 => body.truncate(at),
                1 => body.insert(at, value),
                _ => if let Some(byte) = body.get_mut(at) { *byte ^= value },
            }
        }
        check_bounded(body.into());
    }

    #[test]
    fn any_bytes_are_refused_or_read(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        check_bounded(body.into());
    }
}

fn check_bounded(body: Bytes) {
    let Ok(packets) = payload::decode(&body, Limits::bytes(1 << 20)) else { return };
    let read: usize = packets.iter().map(|packet| packet.encode().len()).sum();
    assert!(packets.len() <= body.len());
    // An open packet is written anew, so its length may differ.
    assert!(read <= body.len() || packets.iter().any(|packet| matches!(packet, Packet::Open(_))));
}
