//! Vectors, round trips, and perturbed input of the NATS protocol codec.

use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1 << 20;

fn parse_all(parser: &mut Parser, buffer: &mut BytesMut, out: &mut Vec<Frame>) -> Result<(), WireError> {
    while let Some(frame) = parser.next(buffer)? {
        out.push(frame);
    }
    Ok(())
}

fn parse(bytes: &[u8]) -> Result<Vec<Frame>, WireError> {
    let mut out = Vec::new();
    parse_all(&mut Parser::new(LIMIT), &mut BytesMut::from(bytes), &mut out)?;
    Ok(out)
}

fn message(sid: u64, subject: &str, reply: Option<&str>, headers: &[u8], payload: &[u8]) -> Message {
    Message {
        sid,
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        reply: reply.map(|reply| Bytes::copy_from_slice(reply.as_bytes())),
        headers: Bytes::copy_from_slice(headers),
        payload: Bytes::copy_from_slice(payload),
    }
}

/// What a server would write for a message.
fn encode(message: &Message) -> Vec<u8> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let reply = message.reply.as_ref().map(|reply| format!("{} ", text(reply))).unwrap_or_default();
    let total = message.headers.len() + message.payload.len();
    let mut out = if message.headers.is_empty() {
        format!("MSG {} {} {reply}{total}\r\n", text(&message.subject), message.sid)
    } else {
        format!(
            "HMSG {} {} {reply}{} {total}\r\n",
            text(&message.subject),
            message.sid,
            message.headers.len()
        )
    }
    .into_bytes();
    out.extend_from_slice(&message.headers);
    out.extend_from_slice(&message.payload);
    out.extend_from_slice(b"\r\n");
    out
}

#[test]
fn every_operation_is_understood() {
    let wire = b"INFO {\"a\":1}\r\nPING\r\nPONG\r\n+OK\r\n-ERR 'Slow Consumer'\r\nMSG a.b 7 2\r\nhi\r\n\
                 HMSG a 8 r.x 12 14\r\nNATS/1.0\r\n\r\nyo\r\n";
    let expected = vec![
        Frame::Info(Bytes::from_static(b"{\"a\":1}")),
        Frame::Ping,
        Frame::Pong,
        Frame::Ok,
        Frame::Error("Slow Consumer".to_owned()),
        Frame::Message(message(7, "a.b", None, b"", b"hi")),
        Frame::Message(message(8, "a", Some("r.x"), b"NATS/1.0\r\n\r\n", b"yo")),
    ];
    assert_eq!(parse(wire).unwrap(), expected);
}

#[test]
fn malformed_input_is_refused() {
    let cases: [(&[u8], WireError); 8] = [
        (b"HELLO\r\n", WireError::UnknownOperation),
        (b"\r\n", WireError::UnknownOperation),
        (b"MSG a 1\r\n", WireError::MalformedLine),
        (b"MSG a x 1\r\n", WireError::MalformedLine),
        (b"MSG a 1 r s 1\r\n", WireError::MalformedLine),
        (b"HMSG a 1 9 5\r\n", WireError::MalformedLine),
        (b"MSG a 1 9999999\r\n", WireError::MessageTooLarge { bytes: 9_999_999 }),
        (b"MSG a 1 2\r\nhiXX", WireError::MalformedMessage),
    ];
    for (wire, error) in cases {
        assert_eq!(parse(wire), Err(error), "{}", String::from_utf8_lossy(wire));
    }
    assert_eq!(parse(&vec![b'A'; MAX_LINE_BYTES + 1]), Err(WireError::LineTooLong));
}

#[test]
fn headers_and_status_are_read() {
    let block = b"NATS/1.0 503\r\nNats-Sequence: 42\r\nX:y\r\n\r\n";
    assert_eq!(header_value(block, "nats-sequence"), Some("42"));
    assert_eq!(header_value(block, "X"), Some("y"));
    assert_eq!(header_value(block, "Y"), None);
    assert_eq!(status(block), Some((503, "")));
    assert_eq!(status(b"NATS/1.0 404 No Messages\r\n\r\n"), Some((404, "No Messages")));
    assert_eq!(status(b"NATS/1.0\r\n\r\n"), None);
}

#[test]
fn subjects_are_checked() {
    for good in ["a", "a.b-c.=2E", "tl.x.room.y.d"] {
        assert!(is_publishable(good), "{good}");
    }
    for bad in ["", "a b", "a..b", ".a", "a.", "a.*", ">", "a\r\nPING", "a\tb", &"x".repeat(1025)] {
        assert!(!is_publishable(bad), "{bad:?}");
    }
    assert!(is_subscribable("a.*.b.>") && is_subscribable(">"));
    assert!(!is_subscribable("a.>.b") && !is_subscribable("a b"));
}

#[test]
fn outgoing_frames_have_the_right_sizes() {
    let mut out = Vec::new();
    put_sub(&mut out, "a.>", 3);
    put_unsub(&mut out, 3);
    put_pub(&mut out, "a", None, b"hi");
    put_pub(&mut out, "a", Some("r"), b"");
    let headers = encode_headers([("K", "v")]);
    put_hpub(&mut out, "a", Some("r"), &headers, b"hi");
    let expected = "SUB a.> 3\r\nUNSUB 3\r\nPUB a 2\r\nhi\r\nPUB a r 0\r\n\r\nHPUB a r 18 20\r\nNATS/1.0\r\nK: v\r\n\r\nhi\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    assert!(is_header("Nats-Msg-Id", "x y") && !is_header("a:b", "") && !is_header("a", "x\r\ny"));
}

fn any_message() -> impl Strategy<Value = Message> {
    (
        any::<u32>(),
        "[a-z.]{1,20}",
        proptest::option::of("[A-Z]{1,8}"),
        prop_oneof![Just(Vec::new()), Just(b"NATS/1.0\r\nA: b\r\n\r\n".to_vec())],
        proptest::collection::vec(any::<u8>(), 0..64),
    )
        .prop_map(|(sid, subject, reply, headers, payload)| {
            message(u64::from(sid), &subject, reply.as_deref(), &headers, &payload)
        })
}

proptest! {
    #[test]
    fn messages_round_trip_however_they_are_split(
        messages in proptest::collection::vec(any_message(), 1..8),
        cuts in proptest::collection::vec(1usize..40, 1..40),
    ) {
        let wire: Vec<u8> = messages.iter().flat_map(encode).collect();
        let mut parser = Parser::new(LIMIT);
        let (mut buffer, mut out, mut rest) = (BytesMut::new(), Vec::new(), &wire[..]);
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (part, tail) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            buffer.extend_from_slice(part);
            parse_all(&mut parser, &mut buffer, &mut out).unwrap();
            rest = tail;
        }
        let expected: Vec<Frame> = messages.into_iter().map(Frame::Message).collect();
        prop_assert_eq!(out, expected);
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn perturbed_input_never_panics_and_sizes_stay_bounded(
        messages in proptest::collection::vec(any_message(), 1..4),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
        cut in 1usize..50,
    ) {
        let mut wire: Vec<u8> = messages.iter().flat_map(encode).collect();
        for (at, byte) in edits {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        let (mut parser, mut buffer, mut out) = (Parser::new(4096), BytesMut::new(), Vec::new());
        for part in wire.chunks(cut) {
            buffer.extend_from_slice(part);
            if parse_all(&mut parser, &mut buffer, &mut out).is_err() {
                break;
            }
            prop_assert!(parser.needed() <= 4096 + MAX_LINE_BYTES + 3);
        }
    }

    #[test]
    fn arbitrary_input_never_panics(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&wire);
        let _ = (status(&wire), header_value(&wire, "a"));
    }
}
