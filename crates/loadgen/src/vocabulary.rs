//! What an application calls things on the wire: the one table to extend for another application.
//!
//! Builds and recognises whole Engine.IO text packets (`42["send",…]`). Room names and payloads come from this
//! program and need no JSON escaping.

use std::borrow::Cow;

/// Which events join, send and deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum App {
    /// `join [room]`, `leave [room]`, `send [room, payload]`, `store [room, payload]`, `echo [payload]`; all but
    /// `send` are acked; the server broadcasts `event [room, payload]` to the whole room, the sender included.
    Rooms,
    /// `room:join`, `room:leave`, `message:send` with acks; `message:new` to everyone in the room but the sending
    /// socket. Always recoverable; needs a token per user.
    Telehealth,
}

/// The two delivery classes of the server under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Class {
    /// At most once, in order per sender; not acked.
    Ephemeral,
    /// Stored before it is acked; one order per room.
    Recoverable,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unsupported {
    #[error("`--app telehealth` has no ephemeral room message: use `--class recoverable`")]
    EphemeralTelehealth,
    #[error("`--app telehealth` has no echo: use `--app rooms`")]
    EchoTelehealth,
    #[error("`--app rooms` has no calls and no presence: use `--app telehealth`")]
    RealtimeRooms,
}

#[derive(Debug, Clone)]
pub struct Vocabulary {
    app: App,
    /// `/name,` or empty for the main namespace.
    namespace: String,
    delivery_prefix: String,
    event_prefix: String,
    ack_prefix: String,
}

impl Vocabulary {
    pub fn new(app: App, namespace: &str) -> Self {
        let namespace = if namespace == "/" { String::new() } else { format!("{namespace},") };
        let event = match app {
            App::Rooms => "event",
            App::Telehealth => "message:new",
        };
        Vocabulary {
            app,
            delivery_prefix: format!("42{namespace}[\"{event}\","),
            event_prefix: format!("42{namespace}[\""),
            ack_prefix: format!("43{namespace}"),
            namespace,
        }
    }

    pub fn supports(&self, class: Class) -> Result<(), Unsupported> {
        match (self.app, class) {
            (App::Telehealth, Class::Ephemeral) => Err(Unsupported::EphemeralTelehealth),
            _ => Ok(()),
        }
    }

    /// Whether a sender's own socket receives what it sent.
    pub fn sender_hears_itself(&self) -> bool {
        self.app == App::Rooms
    }

    pub fn room(&self, run: u32, index: usize) -> String {
        match self.app {
            App::Rooms => format!("lg{run}-{index}"),
            App::Telehealth => format!("topic:lg{run}-{index}"),
        }
    }

    pub fn connect(&self, token: Option<&str>) -> String {
        let auth = token.map_or(Cow::Borrowed(""), |token| format!(r#"{{"token":"{token}"}}"#).into());
        format!("40{}{auth}", self.namespace)
    }

    pub fn join(&self, ack: u32, room: &str) -> String {
        match self.app {
            App::Rooms => self.event(Some(ack), &format!(r#""join","{room}""#)),
            App::Telehealth => {
                self.event(Some(ack), &format!(r#""room:join",{{"roomId":"{room}","roomType":"topic"}}"#))
            }
        }
    }

    pub fn leave(&self, ack: u32, room: &str) -> String {
        match self.app {
            App::Rooms => self.event(Some(ack), &format!(r#""leave","{room}""#)),
            App::Telehealth => self.event(Some(ack), &format!(r#""room:leave",{{"roomId":"{room}"}}"#)),
        }
    }

    /// A room message; only the recoverable class asks for an ack.
    pub fn send(&self, class: Class, ack: u32, room: &str, payload: &str) -> String {
        match (self.app, class) {
            (App::Telehealth, _) => {
                let message = format!(r#""message:send",{{"roomId":"{room}","message":"{payload}"}}"#);
                self.event(Some(ack), &message)
            }
            (App::Rooms, Class::Ephemeral) => self.event(None, &format!(r#""send","{room}","{payload}""#)),
            (App::Rooms, Class::Recoverable) => {
                self.event(Some(ack), &format!(r#""store","{room}","{payload}""#))
            }
        }
    }

    pub fn echo(&self, ack: u32, payload: &str) -> Result<String, Unsupported> {
        match self.app {
            App::Rooms => Ok(self.event(Some(ack), &format!(r#""echo","{payload}""#))),
            App::Telehealth => Err(Unsupported::EchoTelehealth),
        }
    }

    /// Calls and presence.
    pub fn supports_realtime(&self) -> Result<(), Unsupported> {
        match self.app {
            App::Telehealth => Ok(()),
            App::Rooms => Err(Unsupported::RealtimeRooms),
        }
    }

    pub fn initiate(&self, ack: u32, recipient: &str) -> String {
        self.event(
            Some(ack),
            &format!(r#""call:initiate",{{"recipientId":"{recipient}","callType":"video"}}"#),
        )
    }

    /// `call:accept` and `call:end`.
    pub fn of_call(&self, event: &str, ack: u32, call: &str) -> String {
        self.event(Some(ack), &format!(r#""{event}",{{"callId":"{call}"}}"#))
    }

    pub fn set_status(&self, ack: u32, status: &str, custom: &str) -> String {
        let change = format!(r#""presence:setStatus",{{"status":"{status}","customStatus":"{custom}"}}"#);
        self.event(Some(ack), &change)
    }

    /// `presence:subscribe` and `presence:get`.
    pub fn of_users(&self, event: &str, ack: u32, users: impl Iterator<Item = String>) -> String {
        let users: Vec<String> = users.map(|user| format!(r#""{user}""#)).collect();
        self.event(Some(ack), &format!(r#""{event}",{{"userIds":[{}]}}"#, users.join(",")))
    }

    /// An event's name and what stands behind it, if this packet is an event without an ack id.
    pub fn told<'p>(&self, packet: &'p [u8]) -> Option<(&'p [u8], &'p [u8])> {
        let rest = packet.strip_prefix(self.event_prefix.as_bytes())?;
        let end = memchr::memchr(b'"', rest)?;
        Some((&rest[..end], &rest[end + 1..]))
    }

    pub fn is_delivery(&self, packet: &[u8]) -> bool {
        packet.starts_with(self.delivery_prefix.as_bytes())
    }

    /// The ack's id and its JSON arguments, if this packet is an ack.
    pub fn ack<'p>(&self, packet: &'p [u8]) -> Option<(u32, &'p [u8])> {
        let rest = packet.strip_prefix(self.ack_prefix.as_bytes())?;
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let id = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
        Some((id, &rest[digits..]))
    }

    fn event(&self, ack: Option<u32>, arguments: &str) -> String {
        let ack = ack.map_or(String::new(), |id| id.to_string());
        format!("42{}{ack}[{arguments}]", self.namespace)
    }
}

/// Whether an ack's arguments say that the server refused.
pub fn is_refusal(arguments: &[u8]) -> bool {
    [&br#""success":false"#[..], br#""error":"#]
        .iter()
        .any(|sign| memchr::memmem::find(arguments, sign).is_some())
}

/// The first string member of this name; for values that need no unescaping, such as ids.
pub fn string_member<'p>(json: &'p [u8], name: &str) -> Option<&'p str> {
    let key = format!(r#""{name}":""#);
    let value = &json[memchr::memmem::find(json, key.as_bytes())? + key.len()..];
    std::str::from_utf8(&value[..memchr::memchr(b'"', value)?]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_carry_namespace_and_ack_in_protocol_order() {
        let main = Vocabulary::new(App::Rooms, "/");
        assert_eq!(main.connect(None), "40");
        assert_eq!(main.join(3, "r"), r#"423["join","r"]"#);
        assert_eq!(main.send(Class::Ephemeral, 9, "r", "p"), r#"42["send","r","p"]"#);
        let other = Vocabulary::new(App::Telehealth, "/visits");
        assert_eq!(other.connect(Some("t")), r#"40/visits,{"token":"t"}"#);
        let sent = other.send(Class::Recoverable, 4, "topic:a", "p");
        assert_eq!(sent, r#"42/visits,4["message:send",{"roomId":"topic:a","message":"p"}]"#);
        let users = ["a", "b"].map(str::to_owned).into_iter();
        let asked = other.of_users("presence:get", 5, users);
        assert_eq!(asked, r#"42/visits,5["presence:get",{"userIds":["a","b"]}]"#);
        assert_eq!(other.of_call("call:end", 6, "c"), r#"42/visits,6["call:end",{"callId":"c"}]"#);
    }

    #[test]
    fn deliveries_and_acks_are_told_apart() {
        let words = Vocabulary::new(App::Telehealth, "/");
        assert!(words.is_delivery(br#"42["message:new",{"message":"x"}]"#));
        assert!(!words.is_delivery(br#"42["message:sent",{"message":"x"}]"#));
        assert_eq!(words.ack(br#"4312[{"success":true}]"#), Some((12, &br#"[{"success":true}]"#[..])));
        assert_eq!(words.ack(br#"42["x"]"#), None);
        let ended = br#"42["call:ended",{"callId":"01J","duration":3}]"#;
        let (event, rest) = words.told(ended).unwrap();
        assert_eq!((event, string_member(rest, "callId")), (&b"call:ended"[..], Some("01J")));
        assert_eq!((words.told(br#"4312[{}]"#), string_member(rest, "userId")), (None, None));
        assert!(is_refusal(br#"[{"success":false,"error":"Room access denied"}]"#));
        assert!(!is_refusal(br#"[{"success":true}]"#));
    }
}
