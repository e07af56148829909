//! Arbitrary messages into the decoder and the session machine. Whatever is let in must re-encode to itself.
//! Input: a sequence of an opcode byte, a length byte and that many bytes of message.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use socketio::{Connections, Decoder, Event, Incoming, Limits, Namespace, Packet};

fuzz_target!(|data: &[u8]| {
    let limits = Limits { max_held_packets: 4, max_pending_acks: 4, ..Limits::default() };
    let mut decoder = Some(Decoder::default());
    let mut session = Some(Connections::new(0, 1000));
    let mut rest = data;
    let mut now = 0;
    while let [op, length, tail @ ..] = rest {
        let (message, tail) = tail.split_at(tail.len().min(usize::from(*length)));
        rest = tail;
        now += u64::from(op >> 4);
        let message = Bytes::copy_from_slice(message);
        let message = if op & 1 == 0 { Incoming::Text(message) } else { Incoming::Binary(message) };
        decoder = decoder.and_then(|decoder| decode(&limits, decoder, message.clone()));
        session = session.and_then(|session| step(&limits, session, now, op & 2 == 0, message));
    }
});

fn decode(limits: &Limits, mut decoder: Decoder, message: Incoming) -> Option<Decoder> {
    if let Some(packet) = decoder.feed(limits, message).ok()? {
        check(limits, &packet);
    }
    Some(decoder)
}

fn check(limits: &Limits, packet: &Packet) {
    if let Packet::Event { args, .. } | Packet::Ack { args, .. } = packet {
        let _ = (args.event_name(), args.tail(), args.body());
        for index in 0..args.len() {
            let _ = args.binary_at(index);
        }
    }
    let mut text = Vec::new();
    packet.encode_into(&mut text);
    let mut decoder = Decoder::default();
    let mut again = decoder.feed(limits, Incoming::Text(text.into()));
    for bytes in packet.attachments() {
        again = decoder.feed(limits, Incoming::Binary(bytes.clone()));
    }
    assert_eq!(again.as_ref(), Ok(&Some(packet.clone())));
}

fn step(
    limits: &Limits,
    mut session: Connections,
    now: u64,
    accept: bool,
    message: Incoming,
) -> Option<Connections> {
    if let Some(Event::ConnectRequested { nsp, .. }) = session.handle(limits, now, message).ok()? {
        if accept {
            session.accept(&nsp, "sid", None).expect("it was just requested");
        } else {
            session.refuse(&nsp, "no", None).expect("it was just requested");
        }
    }
    session.expire(now).ok()?;
    // Refused when the namespace is not connected or too many answers are owed: both are fine here.
    let _ = session.register_ack(limits, &Namespace::MAIN, now, now + 50);
    Some(Connections::thaw(session.freeze(now), now))
}
