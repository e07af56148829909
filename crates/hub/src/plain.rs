//! The frames of the plain WebSocket: events, acks and errors as JSON text, attachments as binary frames behind their header.
//!
//! An event is `{"event":…,"data":…}`: `data` is its first argument, further ones stand in the list `more`. With attachments a
//! `"binary":n` says how many binary frames follow; the arguments hold `{"_placeholder":true,"num":i}` for them, as in Socket.IO.

use std::sync::OnceLock;

use bytes::Bytes;
use cluster::Envelope;

use crate::Frames;

/// What a plain client is told, from the arguments as they stand in an envelope. Start at [`event`].
#[derive(Clone, Copy, Debug)]
enum Head<'a> {
    Event(&'a str),
    /// The `id` of the event that is answered, as JSON.
    Ack(&'a str),
}

/// One event, as JSON text. `tail`: JSON values joined by commas.
pub fn event(name: &str, tail: &[u8], attachments: usize) -> Vec<u8> {
    encode(Head::Event(name), tail, attachments)
}

/// The answer to the event that came with this `id`, itself JSON text.
pub fn ack(id: &str, tail: &[u8], attachments: usize) -> Vec<u8> {
    encode(Head::Ack(id), tail, attachments)
}

fn encode(head: Head<'_>, tail: &[u8], attachments: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(tail.len() + 96);
    match head {
        Head::Event(name) => {
            out.extend_from_slice(b"{\"event\":");
            serde_json::to_writer(&mut out, name).expect("text has a JSON form");
        }
        Head::Ack(id) => {
            out.extend_from_slice(b"{\"ack\":");
            out.extend_from_slice(id.as_bytes());
        }
    }
    let (first, more) = split_first(tail);
    if !first.is_empty() {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(first);
    }
    if !more.is_empty() {
        out.extend_from_slice(b",\"more\":[");
        out.extend_from_slice(more);
        out.push(b']');
    }
    if attachments > 0 {
        out.extend_from_slice(format!(",\"binary\":{attachments}").as_bytes());
    }
    out.push(b'}');
    out
}

/// The first of several JSON values joined by commas, and the rest.
fn split_first(tail: &[u8]) -> (&[u8], &[u8]) {
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    for (at, byte) in tail.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => return (&tail[..at], &tail[at + 1..]),
            _ => {}
        }
    }
    (tail, &[])
}

/// An emission for plain clients: encoded when the first of them is written to, once for all cores.
#[derive(Debug)]
pub struct Plain {
    event: Box<str>,
    tail: Bytes,
    attachments: Vec<Bytes>,
    frames: OnceLock<Frames>,
}

impl Plain {
    pub fn of(envelope: &Envelope<'_>) -> Self {
        Self {
            event: envelope.event.into(),
            tail: Bytes::copy_from_slice(envelope.tail),
            attachments: envelope.attachments.iter().map(|bytes| Bytes::copy_from_slice(bytes)).collect(),
            frames: OnceLock::new(),
        }
    }

    pub fn frames(&self) -> &Frames {
        self.frames.get_or_init(|| {
            Frames::from_packets(
                event(&self.event, &self.tail, self.attachments.len()),
                self.attachments.clone(),
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn an_event_has_data_and_whatever_more_it_says() {
        assert_eq!(text(event("pong", b"", 0)), r#"{"event":"pong"}"#);
        assert_eq!(text(event("a\"b", br#"{"x":[1,2]}"#, 0)), r#"{"event":"a\"b","data":{"x":[1,2]}}"#);
        let tail = br#""a,\"]",[1,{"b":2}],null"#;
        assert_eq!(text(event("e", tail, 0)), r#"{"event":"e","data":"a,\"]","more":[[1,{"b":2}],null]}"#);
    }

    #[test]
    fn an_ack_repeats_the_id_as_it_came() {
        assert_eq!(text(ack("7", b"true", 0)), r#"{"ack":7,"data":true}"#);
        assert_eq!(text(ack("\"x\"", b"", 0)), r#"{"ack":"x"}"#);
    }

    #[test]
    fn an_emission_is_encoded_once_with_its_attachments_behind_it() {
        let envelope = Envelope {
            id: 1,
            rooms: vec!["r"],
            at: 0,
            namespace: "/events",
            event: "result:update",
            tail: br#"{"pdf":{"_placeholder":true,"num":0}}"#,
            attachments: vec![b"%PDF"],
            except: vec![],
            view: None,
            receipt: None,
            trace: None,
        };
        let plain = Plain::of(&envelope);
        let frames = plain.frames();
        assert!(std::ptr::eq(frames, plain.frames()));
        assert_eq!(frames.packets().len(), 2);
        let header = br#"{"event":"result:update","data":{"pdf":{"_placeholder":true,"num":0}},"binary":1}"#;
        assert_eq!(&frames.ws()[2..2 + header.len()], header);
        assert!(frames.ws().ends_with(b"\x82\x04%PDF"));
    }
}
