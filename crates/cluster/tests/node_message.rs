//! Node messages: byte vectors, round trips, perturbed input.

use std::sync::Arc;

use bytes::Bytes;
use cluster::node_message::*;
use proptest::prelude::*;

fn sid() -> Sid {
    Arc::from("n1abc")
}

/// One of each kind, with its bytes after the version and before the id, and after the id.
fn vectors() -> Vec<(NodeMessage, u8, &'static [u8])> {
    let ask = |msg| NodeMessage::ForwardAsk { req: 7, msg };
    let reply = |msg| NodeMessage::ForwardReply { req: 7, msg };
    let pull = |msg| NodeMessage::MoveAsk { mv: 7, msg };
    let push = |msg| NodeMessage::MoveReply { mv: 7, msg };
    let bytes = Bytes::from_static(b"\x00\xff");
    let post = AskPart::Post { part: 1, parts: 2, bytes: bytes.clone() };
    let content = Arc::from("text/html");
    vec![
        (ask(ForwardAsk::Request { sid: sid(), part: AskPart::Get }), 0x01, b"\x91\xa5n1abc"),
        (ask(ForwardAsk::Request { sid: sid(), part: post }), 0x02, b"\x94\xa5n1abc\x01\x02\xc4\x02\x00\xff"),
        (ask(ForwardAsk::Request { sid: sid(), part: AskPart::Check }), 0x03, b"\x91\xa5n1abc"),
        (ask(ForwardAsk::Writing), 0x04, b""),
        (ask(ForwardAsk::Wrote), 0x05, b""),
        (ask(ForwardAsk::Gone), 0x06, b""),
        (reply(ForwardReply::Confirm { have: 3 }), 0x20, b"\x91\x03"),
        (
            reply(ForwardReply::Answer { part: 0, parts: 1, status: 200, content, bytes: bytes.clone() }),
            0x21,
            b"\x95\x00\x01\xcc\xc8\xa9text/html\xc4\x02\x00\xff",
        ),
        (pull(MoveAsk::Reserve { sid: sid() }), 0x40, b"\x91\xa5n1abc"),
        (pull(MoveAsk::Extended { seq: 300 }), 0x41, b"\x91\xcd\x01\x2c"),
        (pull(MoveAsk::Release), 0x42, b""),
        (pull(MoveAsk::Take), 0x43, b""),
        (pull(MoveAsk::Got { chunk: 5 }), 0x44, b"\x91\x05"),
        (pull(MoveAsk::Installed), 0x45, b""),
        (pull(MoveAsk::GotTail { next: 1 }), 0x46, b"\x91\x01"),
        (push(MoveReply::Reserved { info: bytes.clone() }), 0x60, b"\x91\xc4\x02\x00\xff"),
        (push(MoveReply::Refused { reason: RefuseReason::AlreadyReserved }), 0x61, b"\x91\x02"),
        (push(MoveReply::Extend { seq: 1, rooms: bytes.clone() }), 0x62, b"\x92\x01\xc4\x02\x00\xff"),
        (push(MoveReply::Aborted), 0x63, b""),
        (
            push(MoveReply::State { chunk: 0, chunks: 1, tails: 2, bytes: bytes.clone() }),
            0x64,
            b"\x94\x00\x01\x02\xc4\x02\x00\xff",
        ),
        (push(MoveReply::Handed), 0x65, b""),
        (push(MoveReply::Tail { seq: 9, more: true, bytes }), 0x66, b"\x93\x09\xc3\xc4\x02\x00\xff"),
    ]
}

fn raw(version: u8, kind: u8, fields: &[u8]) -> Vec<u8> {
    [&[version, kind], &7u64.to_be_bytes()[..], fields].concat()
}

#[test]
fn every_kind_has_its_bytes() {
    for (message, kind, fields) in vectors() {
        assert_eq!(message.encode(), raw(VERSION, kind, fields), "{message:?}");
        assert_eq!(NodeMessage::decode(&raw(VERSION, kind, fields)), Ok(message));
    }
}

#[test]
fn what_is_not_a_message_of_this_release_has_a_name() {
    let cases: &[(Vec<u8>, DecodeError)] = &[
        (vec![], DecodeError::Short),
        (vec![VERSION, 0x05, 0, 0], DecodeError::Short),
        (raw(2, 0x05, b""), DecodeError::UnknownVersion(2)),
        (raw(VERSION, 0x00, b""), DecodeError::UnknownKind(0x00)),
        (raw(VERSION, 0x1f, b""), DecodeError::UnknownKind(0x1f)),
        (raw(VERSION, 0x80, b""), DecodeError::UnknownKind(0x80)),
        (raw(VERSION, 0x05, b"\xc0"), DecodeError::Malformed(0x05)),
        (raw(VERSION, 0x01, b""), DecodeError::Malformed(0x01)),
        (raw(VERSION, 0x01, b"\x91\xa5n1ab"), DecodeError::Malformed(0x01)),
        (raw(VERSION, 0x01, b"\x91\xa1\xff"), DecodeError::Malformed(0x01)),
        (raw(VERSION, 0x20, b"\x91\x01\x01"), DecodeError::Malformed(0x20)),
        (raw(VERSION, 0x02, b"\x94\xa1n\x02\x02\xc4\x00"), DecodeError::OutOfBounds(0x02)),
        (raw(VERSION, 0x02, b"\x94\xa1n\x00\x41\xc4\x00"), DecodeError::OutOfBounds(0x02)),
        (raw(VERSION, 0x21, b"\x95\x00\x01\x07\xa0\xc4\x00"), DecodeError::OutOfBounds(0x21)),
        (raw(VERSION, 0x64, b"\x94\x00\x41\x00\xc4\x00"), DecodeError::OutOfBounds(0x64)),
        // An array that claims 4 GiB of bytes, and one that claims 4 G elements.
        (raw(VERSION, 0x60, b"\x91\xc6\xff\xff\xff\xff"), DecodeError::Malformed(0x60)),
        (raw(VERSION, 0x60, b"\x91\xdd\xff\xff\xff\xff"), DecodeError::Malformed(0x60)),
    ];
    for (bytes, error) in cases {
        assert_eq!(NodeMessage::decode(bytes), Err(*error), "{bytes:02x?}");
    }
    let large = vec![VERSION; MAX_MESSAGE_BYTES + 1];
    assert_eq!(NodeMessage::decode(&large), Err(DecodeError::TooLarge(large.len())));
    let long = raw(VERSION, 0x40, &[b"\x91\xd9\x81".as_slice(), &[b'x'; MAX_SID_BYTES + 1]].concat());
    assert_eq!(NodeMessage::decode(&long), Err(DecodeError::OutOfBounds(0x40)));
}

#[test]
fn a_refusal_for_an_unknown_reason_is_a_refusal() {
    let refused = NodeMessage::MoveReply { mv: 7, msg: MoveReply::Refused { reason: RefuseReason::Other } };
    assert_eq!(NodeMessage::decode(&raw(VERSION, 0x61, b"\x91\x63")), Ok(refused));
}

#[test]
fn the_largest_part_fits_a_message() {
    let (bytes, content) = (Bytes::from(vec![7; MAX_PART_BYTES]), Arc::from("x".repeat(MAX_CONTENT_BYTES)));
    let sid = Arc::from("s".repeat(MAX_SID_BYTES));
    let part = AskPart::Post { part: 0, parts: MAX_PARTS, bytes: bytes.clone() };
    let post = NodeMessage::ForwardAsk { req: u64::MAX, msg: ForwardAsk::Request { sid, part } };
    let msg = ForwardReply::Answer { part: 0, parts: MAX_PARTS, status: 599, content, bytes };
    for message in [post, NodeMessage::ForwardReply { req: u64::MAX, msg }] {
        let encoded = message.encode();
        assert!(encoded.len() <= MAX_MESSAGE_BYTES);
        assert_eq!(NodeMessage::decode(&encoded), Ok(message));
    }
}

proptest! {
    #[test]
    fn perturbed_bytes_never_panic_and_what_is_read_is_written_alike(
        which in 0..22_usize, at in 0..64_usize, with in any::<u8>(), how in 0..3_u8,
    ) {
        let mut bytes = vectors()[which].0.encode().to_vec();
        let at = at % bytes.len();
        match how {
            0 => bytes[at] = with,
            1 => bytes.insert(at, with),
            _ => bytes.truncate(at),
        }
        if let Ok(message) = NodeMessage::decode(&bytes) {
            prop_assert_eq!(NodeMessage::decode(&message.encode()), Ok(message));
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), kind in 0..0x70_u8) {
        let _ = NodeMessage::decode(&bytes);
        if bytes.len() > 2 {
            (bytes[0], bytes[1]) = (VERSION, kind);
            let _ = NodeMessage::decode(&bytes);
        }
    }
}
