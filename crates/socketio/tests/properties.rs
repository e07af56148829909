//! Round trips and perturbation: what is encoded decodes to itself, and no input makes the decoder panic or disagree with itself.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::{collection::vec, prelude::*};
use serde_json::Value;
use socketio::{
    Args, ArgsBuilder, Connections, Decoder, Event, Incoming, Json, Limits, Namespace, Packet,
    encode_event_into, is_reserved_event,
};

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            vec((".{0,6}", inner), 0..4).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn namespace() -> impl Strategy<Value = Namespace> {
    prop_oneof![Just(Namespace::MAIN), "/[^,?]{0,20}".prop_map(|name| Namespace::new(&name).unwrap())]
}

fn fill(mut builder: ArgsBuilder, values: Vec<Value>, binaries: Vec<Vec<u8>>, nested: bool) -> Args {
    for value in values {
        builder.push(&value).unwrap();
    }
    for bytes in binaries {
        if nested {
            let placeholder = builder.attach(bytes.into());
            builder.push(&serde_json::json!({"in": [placeholder]})).unwrap();
        } else {
            builder.push_binary(bytes.into());
        }
    }
    builder.build().unwrap()
}

fn packet() -> impl Strategy<Value = Packet> {
    let content = || (vec(value(), 0..4), vec(vec(any::<u8>(), 0..8), 0..4), any::<bool>());
    let name = ".{0,10}".prop_filter("reserved", |name| !is_reserved_event(name));
    let object = || {
        proptest::option::of(vec((".{0,6}", value()), 0..3).prop_map(|pairs| {
            Json::of(&Value::Object(pairs.into_iter().collect::<serde_json::Map<_, _>>())).unwrap()
        }))
    };
    prop_oneof![
        (namespace(), object()).prop_map(|(nsp, data)| Packet::Connect { nsp, data }),
        namespace().prop_map(|nsp| Packet::Disconnect { nsp }),
        (namespace(), any::<Option<u64>>(), name, content()).prop_map(
            |(nsp, ack, name, (values, bytes, nested))| {
                Packet::Event { nsp, ack, args: fill(ArgsBuilder::event(&name), values, bytes, nested) }
            }
        ),
        (namespace(), any::<u64>(), content()).prop_map(|(nsp, id, (values, bytes, nested))| {
            Packet::Ack { nsp, id, args: fill(ArgsBuilder::ack(), values, bytes, nested) }
        }),
        (namespace(), ".{0,20}", object()).prop_map(|(nsp, message, data)| Packet::ConnectError {
            nsp,
            message,
            data
        }),
    ]
}

fn encoded(packet: &Packet) -> Vec<Incoming> {
    let mut text = Vec::new();
    packet.encode_into(&mut text);
    let attachments = packet.attachments().iter().cloned().map(Incoming::Binary);
    std::iter::once(Incoming::Text(text.into())).chain(attachments).collect()
}

fn decoded(messages: Vec<Incoming>) -> Option<Packet> {
    let mut decoder = Decoder::default();
    let mut last = None;
    for message in messages {
        // A half-received packet survives the move to another node at every point.
        let wire = rmp_serde::to_vec_named(&decoder).unwrap();
        decoder = rmp_serde::from_slice(&wire).unwrap();
        last = decoder.feed(&Limits::default(), message).ok()?;
    }
    last
}

/// Walks everything a handler can ask of a packet that was let in.
fn touch(packet: &Packet) {
    let (Packet::Event { args, .. } | Packet::Ack { args, .. }) = packet else { return };
    let _ = (args.event_name(), args.tail(), args.body(), args.size());
    for index in 0..args.len() {
        let _ = args.binary_at(index);
    }
}

#[derive(Clone, Debug)]
enum Damage {
    Cut(usize),
    Flip(usize, u8),
    Insert(usize, u8),
    Double(usize),
}

impl Damage {
    fn apply(&self, text: &mut Vec<u8>) {
        let place = |at: usize, len: usize| at % (len + 1);
        match *self {
            Self::Cut(at) => text.truncate(place(at, text.len())),
            Self::Flip(at, bits) if !text.is_empty() => {
                let at = at % text.len();
                text[at] ^= bits;
            }
            Self::Flip(..) => {}
            Self::Insert(at, byte) => text.insert(place(at, text.len()), byte),
            Self::Double(at) => text.extend_from_within(place(at, text.len())..),
        }
    }
}

fn damage() -> impl Strategy<Value = Damage> {
    // Bytes that mean something in a packet hit more branches than random ones.
    let byte =
        prop_oneof![proptest::sample::select(&b"0123456789[]{}\",:-\\/?eu._ \x00\xff"[..]), any::<u8>()];
    prop_oneof![
        any::<usize>().prop_map(Damage::Cut),
        (any::<usize>(), any::<u8>()).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (any::<usize>(), byte).prop_map(|(at, byte)| Damage::Insert(at, byte)),
        any::<usize>().prop_map(Damage::Double),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn packets_round_trip(packet in packet()) {
        prop_assert_eq!(decoded(encoded(&packet)), Some(packet));
    }

    #[test]
    fn damaged_packets_never_panic(packet in packet(), damages in vec(damage(), 1..4)) {
        let mut messages = encoded(&packet);
        if let Incoming::Text(text) = &mut messages[0] {
            let mut damaged = text.to_vec();
            damages.iter().for_each(|damage| damage.apply(&mut damaged));
            *text = damaged.into();
        }
        if let Some(packet) = decoded(messages) {
            touch(&packet);
            prop_assert_eq!(decoded(encoded(&packet)), Some(packet));
        }
    }

    #[test]
    fn the_scanner_accepts_exactly_json(value in value(), damages in vec(damage(), 0..3)) {
        let mut text = serde_json::to_vec(&value).unwrap();
        damages.iter().for_each(|damage| damage.apply(&mut text));
        let reference = std::str::from_utf8(&text).ok()
            .is_some_and(|text| serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok());
        prop_assert_eq!(Json::new(text).is_ok(), reference);
    }

    #[test]
    fn a_spliced_event_is_the_decoded_one(packet in packet(), offset in proptest::option::of("[a-z]{1,5}:[0-9]{1,9}")) {
        if let Packet::Event { nsp, ack, args } = &packet {
            let (name, count) = (args.event_name().unwrap(), args.attachments().len());
            let mut text = Vec::new();
            encode_event_into(&mut text, nsp.as_str(), *ack, &name, &args.tail(), count, offset.as_deref());
            let mut messages = encoded(&packet);
            messages[0] = Incoming::Text(text.into());
            let Some(Packet::Event { args: spliced, .. }) = decoded(messages) else { panic!("refused") };
            let elements = spliced.elements();
            prop_assert_eq!(elements.len(), args.len() + usize::from(offset.is_some()));
            for (before, after) in args.elements().iter().zip(&elements) {
                prop_assert_eq!(before.get(), after.get());
            }
            prop_assert_eq!(spliced.attachments(), args.attachments());
        }
    }

    #[test]
    fn any_messages_leave_a_session_sound(messages in vec(client_message(), 0..40), timeout in 1..200u64) {
        let limits = Limits { max_sockets_per_session: 3, max_held_packets: 2, max_pending_acks: 2, ..Limits::default() };
        let mut session = Connections::new(0, timeout);
        let mut owed = std::collections::BTreeSet::new();
        for (now, (message, accept)) in messages.into_iter().enumerate() {
            let now = now as u64;
            let Ok(event) = session.handle(&limits, now, message) else { return Ok(()) };
            let decided = if let Some(Event::ConnectRequested { nsp, .. }) = &event {
                if accept {
                    session.accept(nsp, "sid", None).unwrap().held
                } else {
                    session.refuse(nsp, "no", None).unwrap();
                    Vec::new()
                }
            } else {
                Vec::new()
            };
            let Ok(expired) = session.expire(now) else { return Ok(()) };
            for event in event.into_iter().chain(decided).chain(expired) {
                match event {
                    Event::Acked { tag, .. } | Event::AckExpired { tag, .. } => prop_assert!(owed.remove(&tag)),
                    Event::Left { unanswered, .. } => prop_assert!(unanswered.iter().all(|tag| owed.remove(tag))),
                    _ => {}
                }
            }
            if session.register_ack(&limits, &Namespace::MAIN, now, now + 3).is_ok() {
                owed.insert(now);
            }
            prop_assert!(owed.len() <= 2);
            prop_assert!(session.connected().count() <= 3);
            session = Connections::thaw(session.freeze(now), now);
        }
        prop_assert_eq!(session.into_unanswered().len(), owed.len());
    }
}

fn client_message() -> impl Strategy<Value = (Incoming, bool)> {
    let text = proptest::sample::select(
        &[
            "0",
            "0/a,",
            "0/b,",
            "1",
            "1/a,",
            "2[\"x\"]",
            "2/a,[\"x\",1]",
            "27[\"x\"]",
            "30[]",
            "31[]",
            "32[]",
            "3/a,0[]",
            "51-[\"x\",{\"_placeholder\":true,\"num\":0}]",
            "2{}",
            "9",
        ][..],
    );
    let message = prop_oneof![
        20 => text.prop_map(|text| Incoming::Text(Bytes::from_static(text.as_bytes()))),
        1 => vec(any::<u8>(), 0..20).prop_map(|bytes| Incoming::Text(bytes.into())),
        4 => vec(any::<u8>(), 0..4).prop_map(|bytes| Incoming::Binary(bytes.into())),
    ];
    (message, any::<bool>())
}
