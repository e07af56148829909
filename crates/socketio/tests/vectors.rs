//! Byte vectors: the protocol document's examples both ways, what the reference accepts, what it refuses, and every limit.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use serde_json::{Value, json};
use socketio::{
    Args, ArgsBuilder, ArgsError, DecodeError, Decoder, Incoming, Json, JsonError, Limits, Namespace, Packet,
    encode_ack_into, encode_event_into, is_reserved_event,
};

const PLACEHOLDER: &str = r#"{"_placeholder":true,"num":0}"#;

fn nsp(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

fn args(json: &str, attachments: &[&'static [u8]]) -> Args {
    let attachments = attachments.iter().map(|bytes| Bytes::from_static(bytes)).collect();
    Args::new(json.to_owned(), attachments).unwrap()
}

fn json_text(text: &str) -> Json {
    Json::new(text.to_owned()).unwrap()
}

fn decode(text: &str, attachments: &[&'static [u8]]) -> Result<Option<Packet>, DecodeError> {
    decode_within(&Limits::default(), text, attachments)
}

fn decode_within(
    limits: &Limits,
    text: &str,
    attachments: &[&'static [u8]],
) -> Result<Option<Packet>, DecodeError> {
    let mut decoder = Decoder::default();
    let mut packet = decoder.feed(limits, Incoming::Text(Bytes::from(text.to_owned())))?;
    for bytes in attachments {
        assert_eq!(packet, None, "complete before its attachments: {text}");
        packet = decoder.feed(limits, Incoming::Binary(Bytes::from_static(bytes)))?;
    }
    Ok(packet)
}

fn encoded(packet: &Packet) -> String {
    let mut out = Vec::new();
    packet.encode_into(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn protocol_document_examples_decode_and_encode() {
    let main = || nsp("/");
    let admin = || nsp("/admin");
    let object = |text| Some(json_text(text));
    let event = |nsp, ack, json, bytes: &[&'static [u8]]| Packet::Event { nsp, ack, args: args(json, bytes) };
    let ack = |nsp, id, json, bytes: &[&'static [u8]]| Packet::Ack { nsp, id, args: args(json, bytes) };
    let refused = |nsp, data| Packet::ConnectError { nsp, message: "Not authorized".to_owned(), data };
    let two = r#"["baz",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#;

    let table = [
        ("0", Packet::Connect { nsp: main(), data: None }),
        (r#"0{"sid":"wZX3"}"#, Packet::Connect { nsp: main(), data: object(r#"{"sid":"wZX3"}"#) }),
        ("0/admin,", Packet::Connect { nsp: admin(), data: None }),
        (r#"0/admin,{"token":"1"}"#, Packet::Connect { nsp: admin(), data: object(r#"{"token":"1"}"#) }),
        (r#"4{"message":"Not authorized"}"#, refused(main(), None)),
        (
            r#"4/admin,{"message":"Not authorized","data":{"code":[1]}}"#,
            refused(admin(), object(r#"{"code":[1]}"#)),
        ),
        (r#"2["foo"]"#, event(main(), None, r#"["foo"]"#, &[])),
        (r#"2/admin,["bar"]"#, event(admin(), None, r#"["bar"]"#, &[])),
        (r#"212["foo"]"#, event(main(), Some(12), r#"["foo"]"#, &[])),
        ("312[]", ack(main(), 12, "[]", &[])),
        (r#"2/admin,13["foo"]"#, event(admin(), Some(13), r#"["foo"]"#, &[])),
        (r#"3/admin,13["bar"]"#, ack(admin(), 13, r#"["bar"]"#, &[])),
        (
            r#"51-["baz",{"_placeholder":true,"num":0}]"#,
            event(main(), None, r#"["baz",{"_placeholder":true,"num":0}]"#, &[&[1, 2, 3, 4]]),
        ),
        (&format!("52-/admin,{two}"), event(admin(), None, two, &[&[1, 2], &[3, 4]])),
        (
            r#"51-14["foo",{"_placeholder":true,"num":0}]"#,
            event(main(), Some(14), r#"["foo",{"_placeholder":true,"num":0}]"#, &[&[1]]),
        ),
        (
            r#"61-15["bar",{"_placeholder":true,"num":0}]"#,
            ack(main(), 15, r#"["bar",{"_placeholder":true,"num":0}]"#, &[&[1]]),
        ),
        ("1", Packet::Disconnect { nsp: main() }),
        ("1/admin,", Packet::Disconnect { nsp: admin() }),
    ];
    for (text, packet) in table {
        let mut decoder = Decoder::default();
        let mut decoded = decoder.feed(&Limits::default(), Incoming::Text(Bytes::from(text.to_owned())));
        for bytes in packet.attachments() {
            assert_eq!(decoded, Ok(None), "{text}");
            assert!(decoder.is_partial());
            decoded = decoder.feed(&Limits::default(), Incoming::Binary(bytes.clone()));
        }
        assert_eq!(decoded, Ok(Some(packet.clone())), "{text}");
        assert_eq!(encoded(&packet), text);
    }
}

#[test]
fn accepts_what_the_reference_accepts() {
    let connect = |name| Ok(Some(Packet::Connect { nsp: nsp(name), data: None }));
    assert_eq!(decode("0/custom", &[]), connect("/custom"));
    assert_eq!(decode("0/custom?token=1,", &[]), connect("/custom"));
    assert_eq!(decode("0/custom?token=1", &[]), connect("/custom"));
    assert_eq!(decode("0/?token=1,", &[]), connect("/"));
    assert_eq!(decode("0/комната,", &[]), connect("/комната"));
    assert_eq!(decode("1/custom", &[]), Ok(Some(Packet::Disconnect { nsp: nsp("/custom") })));

    let bare = Packet::ConnectError { nsp: nsp("/"), message: "no".to_owned(), data: None };
    assert_eq!(decode(r#"4"no""#, &[]), Ok(Some(bare)));

    for (text, name) in [
        (r#"2["error",1]"#, "error"),
        (r#"2["ping"]"#, "ping"),
        (r#"2[""]"#, ""),
        ("2[7,8]", "7"),
        ("2[-1.5e3]", "-1.5e3"),
        (r#"2 [ "spaced" , 1 ] "#, "spaced"),
        (r#"2["a\u0062\n"]"#, "ab\n"),
        (r#"20["zero"]"#, "zero"),
        (r#"218446744073709551615["most"]"#, "most"),
    ] {
        let Ok(Some(Packet::Event { args, .. })) = decode(text, &[]) else { panic!("refused: {text}") };
        assert_eq!(args.event_name().as_deref(), Some(name), "{text}");
    }
}

#[test]
fn refuses_what_is_no_packet() {
    use DecodeError::*;
    let syntax = |at| Json(JsonError::Syntax(at));
    for (text, error) in [
        ("", UnknownType),
        ("abc", UnknownType),
        ("7[]", UnknownType),
        ("2", syntax(0)),
        ("2{}", Payload),
        ("2[]", Payload),
        ("2[{}]", Payload),
        ("2[null]", Payload),
        ("2[true]", Payload),
        (r#"2"foo""#, Payload),
        (r#"2abc["foo"]"#, syntax(0)),
        (r#"2["foo"]]"#, syntax(7)),
        (r#"2["foo",]"#, syntax(7)),
        (r#"2["foo""#, syntax(6)),
        (r#"2["foo","bad \x escape"]"#, syntax(13)),
        (r#"2["\ud800"]"#, Payload),
        (r#"2["connect"]"#, ReservedEvent),
        (r#"2["connect_error"]"#, ReservedEvent),
        (r#"2["disconnect"]"#, ReservedEvent),
        (r#"2["disconnecting"]"#, ReservedEvent),
        (r#"2["newListener"]"#, ReservedEvent),
        (r#"2["removeListener"]"#, ReservedEvent),
        (r#"2["\u0063onnect"]"#, ReservedEvent),
        (r#"218446744073709551616["foo"]"#, AckId),
        (r#"2000000000000000000000["foo"]"#, AckId),
        ("3[]", AckId),
        ("3", AckId),
        ("31", syntax(0)),
        ("31{}", Payload),
        ("0[]", Payload),
        (r#"0"token""#, Payload),
        ("0null", Payload),
        ("0{", syntax(1)),
        ("01{}", AckId),
        ("1{}", Payload),
        ("1[]", Payload),
        ("4", syntax(0)),
        ("4[]", Payload),
        (r#"5["a"]"#, AttachmentCount),
        (r#"5-["a"]"#, AttachmentCount),
        (r#"50-["a"]"#, AttachmentCount),
        (r#"51["a"]"#, AttachmentCount),
        (r#"5-1-["a"]"#, AttachmentCount),
        (r#"51e1-["a"]"#, AttachmentCount),
        (r#"599999999999999999999-["a"]"#, AttachmentCount),
        (r#"511-["a"]"#, TooManyAttachments),
    ] {
        assert_eq!(decode(text, &[]), Err(error), "{text}");
    }
    let mut decoder = Decoder::default();
    let bad_utf8 = Incoming::Text(Bytes::from_static(b"2[\"\xff\"]"));
    assert_eq!(decoder.feed(&Limits::default(), bad_utf8), Err(NotUtf8));
}

#[test]
fn placeholders_match_attachments_exactly() {
    let count = |attachments: usize, tail: &str| decode(&format!(r#"5{attachments}-["a",{tail}]"#), &[]);
    for tail in [
        PLACEHOLDER,
        r#"{"num":0,"_placeholder":true}"#,
        r#"{"deep":[[{"_placeholder" : true , "num" : 0 }]]}"#,
        r#"{"_placeholder":true,"num":0,"extra":[1]}"#,
        r#"{"_\u0070laceholder":true,"num":0}"#,
        r#"{"_placeholder":true,"num":9,"num":0}"#,
        r#"{"_placeholder":false,"num":7},{"_placeholder":true,"num":0}"#,
        r#"{"_placeholder":"true","num":7},{"_placeholder":true,"num":0}"#,
        r#"{"_placeholder":true,"_placeholder":1,"num":7},{"_placeholder":true,"num":0}"#,
    ] {
        assert_eq!(count(1, tail), Ok(None), "{tail}");
    }
    for tail in [
        "1",
        r#"{"_placeholder":true}"#,
        r#"{"_placeholder":true,"num":1}"#,
        r#"{"_placeholder":true,"num":-1}"#,
        r#"{"_placeholder":true,"num":"0"}"#,
        r#"{"_placeholder":true,"num":0.0}"#,
        r#"{"_placeholder":true,"num":[0]}"#,
        r#"{"_placeholder":true,"num":{}}"#,
        r#"{"_placeholder":true,"num":null}"#,
        r#"{"_placeholder":"true","num":0}"#,
        r#"{"_placeholder":{"_placeholder":true},"num":0}"#,
        r#""{\"_placeholder\":true,\"num\":0}""#,
        r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}"#,
        r#"{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}"#,
        r#"{"_placeholder":true,"num":0},{"_\u0070laceholder":true,"num":5}"#,
    ] {
        assert_eq!(count(1, tail), Err(DecodeError::Json(JsonError::Placeholders)), "{tail}");
    }
    assert_eq!(count(2, PLACEHOLDER), Err(DecodeError::Json(JsonError::Placeholders)));

    let plain = r#"2["a",{"_placeholder":true,"num":7}]"#;
    let Ok(Some(Packet::Event { args, .. })) = decode(plain, &[]) else {
        panic!("plain data in a text packet")
    };
    assert!(!args.is_binary_at(1));
}

#[test]
fn every_attachment_number_up_to_the_ceiling_is_told_apart() {
    let limits = Limits { max_attachments: 1000, ..Limits::default() };
    let packet = |count: usize| {
        let all: Vec<String> =
            (0..count).map(|num| format!(r#"{{"_placeholder":true,"num":{num}}}"#)).collect();
        format!(r#"5{count}-["a",{}]"#, all.join(","))
    };
    assert_eq!(decode_within(&limits, &packet(64), &[]), Ok(None));
    assert_eq!(decode_within(&limits, &packet(65), &[]), Err(DecodeError::TooManyAttachments));
}

#[test]
fn binary_and_text_must_alternate_as_announced() {
    let limits = Limits::default();
    let mut decoder = Decoder::default();
    let binary = || Incoming::Binary(Bytes::from_static(b"x"));
    assert_eq!(decoder.feed(&limits, binary()), Err(DecodeError::UnexpectedBinary));
    let text = format!(r#"51-["a",{PLACEHOLDER}]"#);
    assert_eq!(decoder.feed(&limits, Incoming::Text(text.clone().into())), Ok(None));
    assert_eq!(decoder.feed(&limits, Incoming::Text(text.into())), Err(DecodeError::UnexpectedText));
}

#[test]
fn limits_are_checked_at_their_edge() {
    let limits = Limits { max_depth: 3, max_packet_bytes: 60, max_namespace_len: 5, ..Limits::default() };
    let at = |text: &str| decode_within(&limits, text, &[]);
    assert!(at(r#"2["a",[[]]]"#).is_ok());
    assert_eq!(at(r#"2["a",[[[]]]]"#), Err(DecodeError::Json(JsonError::TooDeep)));
    assert_eq!(at(r#"2["a",{"b":{"c":{}}}]"#), Err(DecodeError::Json(JsonError::TooDeep)));
    assert!(at("0/abcd,").is_ok());
    assert!(at("0/abcd").is_ok());
    assert_eq!(at("0/abcde,"), Err(DecodeError::NamespaceTooLong));
    assert_eq!(at("0/abcde"), Err(DecodeError::NamespaceTooLong));
    assert!(at(&format!(r#"2["{}"]"#, "x".repeat(55))).is_ok());
    assert_eq!(at(&format!(r#"2["{}"]"#, "x".repeat(56))), Err(DecodeError::TooLarge));

    let binary = format!(r#"51-["a",{PLACEHOLDER}]"#);
    let json_bytes = binary.len() - "51-".len();
    for (length, fits) in [(60 - json_bytes, true), (61 - json_bytes, false)] {
        let mut decoder = Decoder::default();
        decoder.feed(&limits, Incoming::Text(binary.clone().into())).unwrap();
        let fed = decoder.feed(&limits, Incoming::Binary(vec![0; length].into()));
        assert_eq!(fed.is_ok(), fits, "{fed:?}");
    }

    let deep = format!("2[\"a\",{}{}]", "[".repeat(200_000), "]".repeat(200_000));
    let unbounded = Limits { max_depth: usize::MAX, ..Limits::default() };
    assert_eq!(decode_within(&unbounded, &deep, &[]), Err(DecodeError::Json(JsonError::TooDeep)));
}

#[test]
fn splices_events_and_acks() {
    let event = |nsp: &str, ack, name: &str, tail: &str, attachments, offset| {
        let mut out = Vec::new();
        encode_event_into(&mut out, nsp, ack, name, tail.as_bytes(), attachments, offset);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(event("/", None, "a", "", 0, None), r#"2["a"]"#);
    assert_eq!(event("/", None, "a", "", 0, Some("s:7")), r#"2["a","s:7"]"#);
    assert_eq!(event("/x", Some(3), "a", "1,{}", 0, Some("s:7")), r#"2/x,3["a",1,{},"s:7"]"#);
    assert_eq!(event("/", None, "a", PLACEHOLDER, 1, None), format!(r#"51-["a",{PLACEHOLDER}]"#));
    assert_eq!(event("/", None, "q\"\\\n\u{1}é", "", 0, None), "2[\"q\\\"\\\\\\n\\u0001é\"]");

    let ack = |body: &str, attachments| {
        let mut out = Vec::new();
        encode_ack_into(&mut out, "/x", 9, body.as_bytes(), attachments);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(ack("", 0), "3/x,9[]");
    assert_eq!(ack("1,2", 0), "3/x,9[1,2]");
    assert_eq!(ack(PLACEHOLDER, 1), format!("61-/x,9[{PLACEHOLDER}]"));
}

#[test]
fn args_are_cut_without_parsing() {
    for (json, name, tail, body, len) in [
        ("[]", None, "", "", 0),
        (" [ ] ", None, "", "", 0),
        (r#"["a"]"#, Some("a"), "", r#""a""#, 1),
        (r#"["a",1]"#, Some("a"), "1", r#""a",1"#, 2),
        (
            r#" [ "a\"," , [1,"]"] , null ] "#,
            Some("a\","),
            r#"[1,"]"] , null"#,
            r#""a\"," , [1,"]"] , null"#,
            3,
        ),
        (r#"["\\","]"]"#, Some("\\"), r#""]""#, r#""\\","]""#, 2),
        ("[5,6]", Some("5"), "6", "5,6", 2),
        ("[{},1]", None, "", "{},1", 2),
    ] {
        let args = args(json, &[]);
        assert_eq!(args.event_name().as_deref(), name, "{json}");
        assert_eq!(&args.tail()[..], tail.as_bytes(), "{json}");
        assert_eq!(&args.body()[..], body.as_bytes(), "{json}");
        assert_eq!(args.len(), len, "{json}");
        assert_eq!(args.is_empty(), len == 0, "{json}");
    }
}

#[test]
fn binaries_are_found_where_they_stand() {
    let json = r#"["a",{"_placeholder":true,"num":1},{"photo":{"_placeholder":true,"num":0}},"text"]"#;
    let args = args(json, &[b"zero", b"one"]);
    let found: Vec<_> = (0..5).map(|index| args.binary_at(index).map(|bytes| &bytes[..])).collect();
    assert_eq!(found, [None, Some(&b"one"[..]), None, None, None]);
    let photo: Value = serde_json::from_str(args.elements()[2].get()).unwrap();
    assert_eq!(args.binary_in(&photo["photo"]), Some(&Bytes::from_static(b"zero")));
    assert_eq!(args.binary_in(&photo), None);
    assert_eq!(args.size(), json.len() + 7);
}

#[test]
fn builds_args() {
    let mut builder = ArgsBuilder::event("photo");
    builder.push(&json!({"id": 7})).unwrap();
    builder.push_binary(Bytes::from_static(b"raw"));
    let nested = builder.attach(Bytes::from_static(b"nested"));
    builder.push(&json!({"deep": [nested]})).unwrap();
    builder.push_json(&json_text("[1, 2]"));
    let args = builder.build().unwrap();
    assert_eq!(
        args.json().as_str(),
        r#"["photo",{"id":7},{"_placeholder":true,"num":0},{"deep":[{"_placeholder":true,"num":1}]},[1, 2]]"#
    );
    assert_eq!(args.binary_at(2), Some(&Bytes::from_static(b"raw")));

    assert!(ArgsBuilder::ack().build().unwrap().is_empty());
    let mut forged = ArgsBuilder::ack();
    forged.push_binary(Bytes::from_static(b"raw"));
    forged.push(&json!({"_placeholder": true, "num": 3})).unwrap();
    assert!(matches!(forged.build(), Err(ArgsError::Json(JsonError::Placeholders))));
    let many = vec![Bytes::new(); 65];
    assert!(matches!(Args::new("[]", many), Err(ArgsError::TooManyAttachments)));
    assert!(matches!(Args::new("{}", vec![]), Err(ArgsError::NotAnArray)));
}

#[test]
fn namespaces_and_reserved_names() {
    assert_eq!(Namespace::new(""), None);
    assert_eq!(Namespace::new("admin"), None);
    assert_eq!(Namespace::new("/a,b"), None);
    assert_eq!(Namespace::new("?/a"), None);
    assert_eq!(Namespace::new("/?a,b").as_ref(), Some(&Namespace::MAIN));
    assert!(nsp("/").is_main() && !nsp("/a").is_main());
    assert_eq!(nsp("/a?b").to_string(), "/a");
    assert!(serde_json::from_str::<Namespace>(r#""/a""#).is_ok());
    assert!(serde_json::from_str::<Namespace>(r#""a""#).is_err());
    assert!(is_reserved_event("disconnect") && !is_reserved_event("error") && !is_reserved_event("ping"));
}

#[test]
fn foreign_args_are_checked_on_arrival() {
    let good = args(&format!("[1,{PLACEHOLDER}]"), &[b"x"]);
    let wire = rmp_serde::to_vec(&good).unwrap();
    assert_eq!(rmp_serde::from_slice::<Args>(&wire).unwrap(), good);
    for (json, attachments) in [("{}", 0), ("[", 0), ("[]", 1), ("[1]", 1)] {
        let wire = rmp_serde::to_vec(&(json, vec![Bytes::new(); attachments])).unwrap();
        assert!(rmp_serde::from_slice::<Args>(&wire).is_err(), "{json}");
    }
}
