//! The few packets that the floor understands, cut out of the bytes without parsing JSON. Pure.

/// One packet of the `rooms` vocabulary. `arguments` are the event's arguments as they came, without brackets.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<'p> {
    Connect,
    Disconnect,
    Join { ack: Option<&'p [u8]>, room: &'p [u8] },
    Leave { ack: Option<&'p [u8]>, room: &'p [u8] },
    Send { ack: Option<&'p [u8]>, room: &'p [u8], arguments: &'p [u8] },
    Echo { ack: Option<&'p [u8]>, arguments: &'p [u8] },
    Other,
}

impl<'p> Request<'p> {
    pub fn parse(packet: &'p [u8]) -> Request<'p> {
        match packet {
            [b'4', b'0', ..] => Request::Connect,
            [b'4', b'1', ..] => Request::Disconnect,
            [b'4', b'2', rest @ ..] => Self::parse_event(rest).unwrap_or(Request::Other),
            _ => Request::Other,
        }
    }

    fn parse_event(rest: &'p [u8]) -> Option<Request<'p>> {
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (ack, event) = rest.split_at(digits);
        let ack = (!ack.is_empty()).then_some(ack);
        let event = event.strip_prefix(b"[")?.strip_suffix(b"]")?;
        let (name, rest) = string(event)?;
        let arguments = rest.strip_prefix(b",")?;
        if name == b"echo" {
            return Some(Request::Echo { ack, arguments });
        }
        let (room, _) = string(arguments)?;
        match name {
            b"join" => Some(Request::Join { ack, room }),
            b"leave" => Some(Request::Leave { ack, room }),
            b"send" | b"store" => Some(Request::Send { ack, room, arguments }),
            _ => None,
        }
    }
}

/// A JSON string without escapes, and what follows it.
fn string(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', text)?;
    Some((&text[..end], &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_vocabulary_is_understood() {
        let some = |ack: &'static str| Some(ack.as_bytes());
        assert_eq!(Request::parse(b"40"), Request::Connect);
        assert_eq!(Request::parse(br#"420["join","r1"]"#), Request::Join { ack: some("0"), room: b"r1" });
        assert_eq!(Request::parse(br#"42["leave","r1"]"#), Request::Leave { ack: None, room: b"r1" });
        let send = Request::Send { ack: None, room: b"r", arguments: br#""r","x""# };
        assert_eq!(Request::parse(br#"42["send","r","x"]"#), send);
        let store = Request::Send { ack: some("7"), room: b"r", arguments: br#""r","x""# };
        assert_eq!(Request::parse(br#"427["store","r","x"]"#), store);
        assert_eq!(
            Request::parse(br#"421["echo","x"]"#),
            Request::Echo { ack: some("1"), arguments: br#""x""# }
        );
    }

    #[test]
    fn anything_else_is_ignored() {
        for packet in [&b"3"[..], b"", b"42", b"42[", b"42[\"join\"]", b"42[\"join\",7]", b"42[\"x\",\"y\"]"]
        {
            assert_eq!(Request::parse(packet), Request::Other);
        }
    }
}
