//! What a plain client sends: `{"event","data"?,"more"?,"id"?,"binary"?}`, the binary frames that a header announced, or the text
//! `ping`. Everything else is a [`Mistake`], told to the client; the connection stays up.

use bytes::Bytes;
use engineio::{Message, Text};
use serde::Deserialize;
use serde_json::value::RawValue;
use socketio::{Args, ArgsError, Limits};

/// Largest `id` that every client can hold exactly.
const MAX_ID: u64 = (1 << 53) - 1;

/// What a frame completed.
#[derive(Debug, PartialEq)]
pub enum Heard {
    /// The text `ping`, asked by people and simple tools.
    Ping,
    Event {
        /// The `id` it came with: an answer is asked for.
        id: Option<u64>,
        /// The name first, then the arguments.
        args: Args,
    },
}

/// A frame that says nothing. Nothing came of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct Mistake {
    pub what: &'static str,
    /// Where the frame had one.
    pub id: Option<u64>,
}

/// Frames to events.
#[derive(Debug, Default)]
pub struct Decoder {
    awaited: Option<Box<Awaited>>,
}

/// A header whose binary frames are not all here.
#[derive(Debug)]
struct Awaited {
    id: Option<u64>,
    args: String,
    count: usize,
    attachments: Vec<Bytes>,
    bytes: usize,
}

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow, default)]
    more: Vec<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(default)]
    binary: usize,
}

impl Decoder {
    /// Takes one message. `None`: more is to come.
    pub fn feed(&mut self, limits: &Limits, message: Message) -> Result<Option<Heard>, Mistake> {
        match message {
            Message::Text(text) if text.as_str().trim() == "ping" => Ok(Some(Heard::Ping)),
            Message::Text(text) => self.header(limits, &text),
            Message::Binary(bytes) => self.attachment(limits, bytes),
        }
    }

    fn header(&mut self, limits: &Limits, text: &Text) -> Result<Option<Heard>, Mistake> {
        if let Some(awaited) = self.awaited.take() {
            return Err(Mistake { what: "binary frames are missing before this text frame", id: awaited.id });
        }
        let header: Header<'_> = serde_json::from_str(text.as_str()).map_err(|_| Mistake {
            what: "expected a JSON object: { \"event\", \"data\"?, \"id\"? }",
            id: None,
        })?;
        let id = id(header.id)?;
        let refuse = |what| Mistake { what, id };
        let name = header
            .event
            .and_then(|raw| serde_json::from_str::<String>(raw.get()).ok())
            .filter(|name| !name.is_empty())
            .ok_or(refuse("`event` must be a non-empty string"))?;
        if header.binary > limits.max_attachments {
            return Err(refuse("too many binary frames are announced (limits.attachments)"));
        }
        let args = args(&name, header.data, &header.more);
        if header.binary == 0 {
            return complete(id, args, Vec::new()).map(Some);
        }
        self.awaited = Some(Box::new(Awaited {
            id,
            bytes: args.len(),
            args,
            count: header.binary,
            attachments: Vec::new(),
        }));
        Ok(None)
    }

    fn attachment(&mut self, limits: &Limits, bytes: Bytes) -> Result<Option<Heard>, Mistake> {
        let Some(mut awaited) = self.awaited.take() else {
            return Err(Mistake { what: "a binary frame that no header announced", id: None });
        };
        awaited.bytes += bytes.len();
        if awaited.bytes > limits.max_packet_bytes {
            return Err(Mistake {
                what: "an event and its binary frames are too large (limits.max_payload_bytes)",
                id: awaited.id,
            });
        }
        awaited.attachments.push(bytes);
        if awaited.attachments.len() < awaited.count {
            self.awaited = Some(awaited);
            return Ok(None);
        }
        complete(awaited.id, awaited.args, awaited.attachments).map(Some)
    }
}

fn id(raw: Option<&RawValue>) -> Result<Option<u64>, Mistake> {
    let Some(raw) = raw else { return Ok(None) };
    let id = serde_json::from_str::<u64>(raw.get()).ok().filter(|id| *id <= MAX_ID);
    id.map(Some).ok_or(Mistake { what: "`id` must be an integer from 0 to 2^53 - 1", id: None })
}

/// The arguments as Socket.IO has them: one list with the event's name in front.
fn args(name: &str, data: Option<&RawValue>, more: &[&RawValue]) -> String {
    let mut list = format!("[{}", serde_json::Value::from(name));
    let data = data.or((!more.is_empty()).then_some(RawValue::NULL));
    for value in data.iter().chain(more) {
        list.push(',');
        list.push_str(value.get());
    }
    list.push(']');
    list
}

fn complete(id: Option<u64>, args: String, attachments: Vec<Bytes>) -> Result<Heard, Mistake> {
    let what = |error| match error {
        ArgsError::Json(_) => {
            "the placeholders do not fit the binary frames, or the data is nested too deeply"
        }
        _ => "the data cannot be read",
    };
    match Args::new(args, attachments) {
        Ok(args) => Ok(Heard::Event { id, args }),
        Err(error) => Err(Mistake { what: what(error), id }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(text: &str) -> Message {
        Message::Text(Text::from(text.to_owned()))
    }

    fn binary(bytes: &'static [u8]) -> Message {
        Message::Binary(Bytes::from_static(bytes))
    }

    fn feed(decoder: &mut Decoder, message: Message) -> Result<Option<Heard>, Mistake> {
        decoder.feed(&Limits { max_attachments: 2, max_packet_bytes: 200, ..Limits::default() }, message)
    }

    fn event(heard: Option<Heard>) -> (Option<u64>, String, usize) {
        let Some(Heard::Event { id, args }) = heard else { panic!("no event: {heard:?}") };
        (id, args.json().as_str().to_owned(), args.attachments().len())
    }

    #[test]
    fn an_event_is_its_name_and_arguments() {
        let mut decoder = Decoder::default();
        let cases = [
            (r#"{"event":"ping"}"#, None, r#"["ping"]"#),
            (r#" { "data" : {"a":[1]} , "event" : "x\n" , "else":1 }"#, None, r#"["x\n",{"a":[1]}]"#),
            (r#"{"event":"x","data":1,"id":7}"#, Some(7), r#"["x",1]"#),
            (r#"{"event":"x","more":[2,"3"],"id":0}"#, Some(0), r#"["x",null,2,"3"]"#),
            (r#"{"event":"x","data":null,"id":null}"#, None, r#"["x"]"#),
        ];
        for (frame, id, args) in cases {
            assert_eq!(event(feed(&mut decoder, text(frame)).unwrap()), (id, args.to_owned(), 0), "{frame}");
        }
        assert_eq!(feed(&mut decoder, text("ping\n")), Ok(Some(Heard::Ping)));
    }

    #[test]
    fn what_is_no_event_is_a_mistake_and_what_follows_is_heard() {
        let mut decoder = Decoder::default();
        let frames = [
            "",
            "pong",
            "[]",
            "1",
            "null",
            "{}",
            r#"{"event":1}"#,
            r#"{"event":""}"#,
            r#"{"event":"x""#,
            r#"{"event":"x","id":-1}"#,
            r#"{"event":"x","id":"a"}"#,
            r#"{"event":"x","id":1.5}"#,
            r#"{"event":"x","id":9007199254740992}"#,
            r#"{"event":"x","more":1}"#,
            r#"{"event":"x","binary":-1}"#,
            r#"{"event":"x","binary":3}"#,
        ];
        for frame in frames {
            assert!(feed(&mut decoder, text(frame)).is_err(), "{frame}");
        }
        assert!(feed(&mut decoder, binary(b"x")).is_err());
        let refused = feed(&mut decoder, text(r#"{"event":7,"id":5}"#)).unwrap_err();
        assert_eq!(refused.id, Some(5));
        assert_eq!(event(feed(&mut decoder, text(r#"{"event":"x"}"#)).unwrap()).1, r#"["x"]"#);
    }

    #[test]
    fn binary_frames_complete_the_event_that_announced_them() {
        let mut decoder = Decoder::default();
        let header = r#"{"event":"x","data":[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}],"binary":2}"#;
        assert_eq!(feed(&mut decoder, text(header)), Ok(None));
        assert_eq!(feed(&mut decoder, binary(b"a")), Ok(None));
        assert_eq!(feed(&mut decoder, text("ping")), Ok(Some(Heard::Ping)));
        assert_eq!(event(feed(&mut decoder, binary(b"b")).unwrap()).2, 2);
        // A header that is not completed is dropped.
        assert_eq!(feed(&mut decoder, text(header)), Ok(None));
        assert!(feed(&mut decoder, text(r#"{"event":"y"}"#)).is_err());
        assert!(feed(&mut decoder, binary(b"a")).is_err());
        // So is one that becomes too large, or whose placeholders do not fit.
        assert_eq!(feed(&mut decoder, text(header)), Ok(None));
        assert!(feed(&mut decoder, Message::Binary(vec![0; 200].into())).is_err());
        assert_eq!(feed(&mut decoder, text(r#"{"event":"x","data":1,"binary":1}"#)), Ok(None));
        assert!(feed(&mut decoder, binary(b"a")).is_err());
    }

    proptest! {
        /// Nothing panics, and a mistake leaves the decoder able to hear.
        #[test]
        fn anything_is_answered(frames in prop::collection::vec(
            prop_oneof![".*".prop_map(Ok), prop::collection::vec(any::<u8>(), 0..20).prop_map(Err),
                r#"\{"event":"x","data":.{0,10},"binary":[0-3]\}"#.prop_map(Ok)], 0..20)) {
            let mut decoder = Decoder::default();
            for frame in frames {
                let message = match frame {
                    Ok(frame) => text(&frame),
                    Err(bytes) => Message::Binary(bytes.into()),
                };
                let _ = feed(&mut decoder, message);
            }
            let _ = feed(&mut decoder, text("{}"));
            let heard = feed(&mut decoder, text(r#"{"event":"x"}"#));
            prop_assert!(heard.is_ok(), "{:?}", heard);
        }
    }
}
