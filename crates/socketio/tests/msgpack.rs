//! The msgpack parser: bytes of the published encoder, round trips, limits, and no input that makes it panic.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};
use socketio::{
    Args, ArgsBuilder, Connections, DecodeError, Encoded, Event, Incoming, Json, JsonError, Limits,
    Namespace, Packet, Parser, Violation, msgpack,
};

/// What npm `socket.io-msgpack-parser` 3.0.2 sends.
mod published {
    pub const CONNECT: &str = "83a47479706500a46461746181a5746f6b656ea174a36e7370a12f";
    pub const BARE: &str =
        "84a47479706500a464617461d40000a76f7074696f6e7381a8636f6d7072657373c3a36e7370a72f6576656e7473";
    pub const DISCONNECT: &str = "83a47479706501a36e7370a12fa464617461d40000";
    pub const EVENT: &str = "85a47479706502a46461746198a46e65777301ffcb3ff8000000000000a3c3a90ac0d4000082a161d40000a162c3a76f7074696f6e7381a8636f6d7072657373c3a2696407a36e7370a12f";
    pub const BINARY: &str = "83a47479706502a46461746193a3706466c402010281a2696e91c7010003a36e7370a12f";
    pub const DATES: &str =
        "83a47479706502a46461746193a164d7000000018df3e5530fd700ffffffffffffffffa36e7370a12f";
    pub const NUMBERS: &str = "83a47479706502a4646174619aa16eccffcd0100ce00010000cf0000000100000000d0dfd1ff7fd2ffff7fffd3ffffffff7fffffffcf001fffffffffffffa36e7370a12f";
    pub const ACK: &str = "84a47479706503a2696400a46461746190a36e7370a22f61";
    pub const ALL: [&str; 8] = [CONNECT, BARE, DISCONNECT, EVENT, BINARY, DATES, NUMBERS, ACK];
}

fn bytes(hex: &str) -> Bytes {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn decode(message: &[u8]) -> Result<Packet, DecodeError> {
    msgpack::decode(&Limits::default(), &Bytes::copy_from_slice(message))
}

fn args_of(hex: &str) -> Args {
    match decode(&bytes(hex)).unwrap() {
        Packet::Event { args, .. } | Packet::Ack { args, .. } => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_published_clients_packets_are_understood() {
    let data = Some(Json::new(r#"{"token":"t"}"#).unwrap());
    assert_eq!(decode(&bytes(published::CONNECT)), Ok(Packet::Connect { nsp: Namespace::MAIN, data }));
    let events = Namespace::new("/events").unwrap();
    assert_eq!(decode(&bytes(published::BARE)), Ok(Packet::Connect { nsp: events, data: None }));
    assert_eq!(decode(&bytes(published::DISCONNECT)), Ok(Packet::Disconnect { nsp: Namespace::MAIN }));
    let args = Args::new(r#"["news",1,-1,1.5,"é\n",null,null,{"b":true}]"#, vec![]).unwrap();
    assert_eq!(
        decode(&bytes(published::EVENT)),
        Ok(Packet::Event { nsp: Namespace::MAIN, ack: Some(7), args })
    );
    let nsp = Namespace::new("/a").unwrap();
    let args = Args::new("[]", vec![]).unwrap();
    assert_eq!(decode(&bytes(published::ACK)), Ok(Packet::Ack { nsp, id: 0, args }));
}

#[test]
fn what_json_does_not_know_is_what_stringify_makes_of_it() {
    let args = args_of(published::BINARY);
    assert_eq!(
        args.json().as_str(),
        r#"["pdf",{"_placeholder":true,"num":0},{"in":[{"_placeholder":true,"num":1}]}]"#
    );
    assert_eq!(args.attachments(), [Bytes::from_static(&[1, 2]), Bytes::from_static(&[3])]);
    let dates = r#"["d","2024-02-29T08:05:09.007Z","1969-12-31T23:59:59.999Z"]"#;
    assert_eq!(args_of(published::DATES).json().as_str(), dates);
    let numbers = r#"["n",255,256,65536,4294967296,-33,-129,-32769,-2147483649,9007199254740991]"#;
    assert_eq!(args_of(published::NUMBERS).json().as_str(), numbers);
    // Not a number, and a key as Python may have it.
    let event =
        |data: &[u8]| decode(&[b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data\x92\xa1e".as_slice(), data].concat());
    let Ok(Packet::Event { args, .. }) = event(b"\xcb\x7f\xf8\0\0\0\0\0\0") else { panic!() };
    assert_eq!(args.json().as_str(), r#"["e",null]"#);
    let Ok(Packet::Event { args, .. }) = event(b"\x81\x07\xa1x") else { panic!() };
    assert_eq!(args.json().as_str(), r#"["e",{"7":"x"}]"#);
    assert_eq!(event(b"\xc7\x01\x05\x00"), Err(DecodeError::Msgpack));
}

#[test]
fn what_is_sent_is_the_published_bytes() {
    for hex in [published::NUMBERS, published::CONNECT, published::ACK] {
        let packet = decode(&bytes(hex)).unwrap();
        // The order of the keys is ours; the reference takes any.
        let sent = msgpack::encode(&packet);
        assert_eq!((sent.len(), decode(&sent)), (bytes(hex).len(), Ok(packet)));
    }
    let event = msgpack::event("/", Some(3), "n", b"[1,-1],\"x\"", &[b""; 0], Some("s:1")).unwrap();
    assert_eq!(event, b"\x84\xa4type\x02\xa3nsp\xa1/\xa2id\x03\xa4data\x94\xa1n\x92\x01\xff\xa1x\xa3s:1");
    let ack = msgpack::ack("/a", 300, br#"{"_placeholder":true,"num":0}"#, &[b"\x09"]).unwrap();
    assert_eq!(ack, b"\x84\xa4type\x03\xa3nsp\xa2/a\xa2id\xcd\x01\x2c\xa4data\x91\xc4\x01\x09");
    for tail in ["1,", "{", "\"", "[1}", "tru", "\"\\u12\"", "{\"a\" 1}", "1 2", "{\"a\":\"\\", "--1"] {
        assert_eq!(msgpack::event("/", None, "n", tail.as_bytes(), &[b""; 0], None), None, "{tail}");
    }
}

#[test]
fn containers_of_every_size_come_back() {
    for count in [0, 15, 16, 0xffff, 0x1_0000] {
        let list = Value::from(vec![0; count]);
        let map: serde_json::Map<_, _> = (0..count).map(|n| (n.to_string(), Value::Null)).collect();
        let text = json!(["e", list, map, "x".repeat(count)]).to_string();
        let packet =
            Packet::Event { nsp: Namespace::MAIN, ack: None, args: Args::new(text, vec![]).unwrap() };
        assert_eq!(decode(&msgpack::encode(&packet)), Ok(packet));
    }
}

#[test]
fn half_a_surrogate_is_replaced() {
    let event = msgpack::event("/", None, "n", br#""\ud83d\ude00\ud800x\u00e9\/""#, &[b""; 0], None).unwrap();
    let Ok(Packet::Event { args, .. }) = decode(&event) else { panic!() };
    assert_eq!(args.json().as_str(), "[\"n\",\"\u{1f600}\u{fffd}x\u{e9}/\"]");
}

#[test]
fn limits_hold_and_claims_cost_nothing() {
    let event = |data: &[u8]| [b"\x83\xa4type\x02\xa3nsp\xa1/\xa4data".as_slice(), data].concat();
    // Four thousand million elements, in as many bytes as it takes to say so.
    assert_eq!(decode(&event(b"\xdd\xff\xff\xff\xff")), Err(DecodeError::Msgpack));
    assert_eq!(decode(&event(b"\x92\xa1e\xc6\xff\xff\xff\xff")), Err(DecodeError::Msgpack));
    assert_eq!(decode(&event(&[0x91; 500])), Err(JsonError::TooDeep.into()));
    let attachments = [b"\x9c\xa1e".as_slice(), &b"\xc4\x00".repeat(11)].concat();
    assert_eq!(decode(&event(&attachments)), Err(DecodeError::TooManyAttachments));
    // Control characters are one byte here and six as JSON.
    let limits = Limits { max_packet_bytes: 1000, ..Limits::default() };
    let control = event(&[b"\x92\xa1e\xd9\xc8".as_slice(), &[1; 200]].concat());
    assert_eq!(msgpack::decode(&limits, &control.into()), Err(DecodeError::TooLarge));
    assert_eq!(decode(&event(b"\x91\xa7connect")), Err(DecodeError::ReservedEvent));
    assert_eq!(decode(&event(b"\x91\xc0")), Err(DecodeError::Payload));
    assert_eq!(decode(&event(b"\x91\xa1\xff")), Err(DecodeError::NotUtf8));
    assert_eq!(decode(&event(b"\x91\xa1e\x00")), Err(DecodeError::Msgpack));
    // An object that only looks like a placeholder beside a true attachment.
    let lie = b"\x93\xa1e\xc4\x00\x82\xac_placeholder\xc3\xa3num\x00";
    assert_eq!(decode(&event(lie)), Err(JsonError::Placeholders.into()));
    assert_eq!(decode(b"\x82\xa4type\x05\xa3nsp\xa1/"), Err(DecodeError::UnknownType));
    assert_eq!(decode(b"\x82\xa4type\x03\xa3nsp\xa1/"), Err(DecodeError::AckId));
    assert_eq!(decode(b"\x83\xa4type\x01\xa3nsp\xa1/\xa4data\x90"), Err(DecodeError::Payload));
    assert_eq!(decode(b"\x81\xa4type\x00"), Err(DecodeError::Payload));
    let long = [b"\x82\xa4type\x00\xa3nsp\xda\x01\x2c/".as_slice(), &[b'a'; 299]].concat();
    assert_eq!(decode(&long), Err(DecodeError::NamespaceTooLong));
}

#[test]
fn a_session_speaks_it_from_connect_to_disconnect_and_after_a_move() {
    let limits = Limits::default();
    let mut session = Connections::new(0, 1000).with_parser(Parser::Msgpack);
    let hear = |session: &mut Connections, hex: &str| {
        session.handle(&limits, 1, Incoming::Binary(bytes(hex))).map(Option::unwrap)
    };
    assert!(matches!(hear(&mut session, published::CONNECT), Ok(Event::ConnectRequested { .. })));
    let accepted = session.accept(&Namespace::MAIN, "abc", None).unwrap();
    let said = b"\x83\xa4type\x00\xa3nsp\xa1/\xa4data\x81\xa3sid\xa3abc";
    assert_eq!(accepted.frame, Encoded::Binary(Bytes::from_static(said)));
    let moved = rmp_serde::to_vec_named(&session.freeze(2)).unwrap();
    let mut session = Connections::thaw(rmp_serde::from_slice(&moved).unwrap(), 2);
    assert!(matches!(hear(&mut session, published::EVENT), Ok(Event::Received { .. })));
    assert!(matches!(hear(&mut session, published::BARE), Ok(Event::ConnectRequested { .. })));
    let no =
        session.refuse(&Namespace::new("/events").unwrap(), "no", Some(&Json::new("{\"a\":1}").unwrap()));
    let said = b"\x83\xa4type\x04\xa3nsp\xa7/events\xa4data\x82\xa7message\xa2no\xa4data\x81\xa1a\x01";
    assert_eq!(no, Some(Encoded::Binary(Bytes::from_static(said))));
    let departed = session.disconnect(&Namespace::MAIN).unwrap();
    assert_eq!(departed.frame, Encoded::Binary(Bytes::from_static(b"\x82\xa4type\x01\xa3nsp\xa1/")));
    let text = session.handle(&limits, 3, Incoming::Text(Bytes::from_static(b"0")));
    assert_eq!(text, Err(Violation::Decode(DecodeError::Msgpack)));
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 20, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..20).prop_map(Value::from),
            vec((".{0,6}", inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn packets_come_back(
        values in vec(value(), 0..4),
        binaries in vec(vec(any::<u8>(), 0..300), 0..4),
        ack in any::<Option<u64>>(),
        name in "[a-z:]{3,40}x",
    ) {
        let mut builder = ArgsBuilder::event(&name);
        for value in &values {
            builder.push(value).unwrap();
        }
        for bytes in binaries {
            let placeholder = builder.attach(bytes.into());
            builder.push(&json!({"in": [placeholder]})).unwrap();
        }
        let args = builder.build().unwrap();
        let packet = Packet::Event { nsp: Namespace::MAIN, ack, args: args.clone() };
        let Ok(Packet::Event { ack: back, args: came, .. }) = decode(&msgpack::encode(&packet)) else { panic!() };
        // A control character has two spellings in JSON.
        let values = |args: &Args| args.json().parse::<Value>().unwrap();
        prop_assert_eq!((back, values(&came), came.attachments()), (ack, values(&args), args.attachments()));
    }

    #[test]
    fn no_bytes_make_it_panic(noise in vec(any::<u8>(), 0..200)) {
        let _ = decode(&noise);
    }

    /// What still decodes is a packet that can be sent on.
    #[test]
    fn perturbed_packets_are_packets_or_refused(which in 0..published::ALL.len(), at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let mut message = bytes(published::ALL[which]).to_vec();
        let at = at.index(message.len());
        message[at] = with;
        if let Ok(packet) = decode(&message) {
            let mut text = Vec::new();
            packet.encode_into(&mut text);
            prop_assert!(std::str::from_utf8(&text).is_ok());
            prop_assert_eq!(decode(&msgpack::encode(&packet)), Ok(packet));
        }
        let _ = decode(&message[..at]);
    }

    #[test]
    fn no_text_makes_the_writer_panic(text in ".{0,60}", json_like in "[\\[\\]{}:,\"\\\\u0-9a-f.e+-]{0,40}") {
        for tail in [text, json_like] {
            let _ = msgpack::event("/", None, "n", tail.as_bytes(), &[b"x"], None);
        }
    }
}
