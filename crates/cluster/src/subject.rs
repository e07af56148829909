//! Subject grammar: how ids become NATS subject tokens and which subject carries what.
//!
//! Owns the escaping of ids, the builders of room, event and node subjects, and their parsers. Refuses subjects over
//! [`MAX_SUBJECT_BYTES`]. Every token produced here is legal in a NATS subject and in a JetStream KV key.
//! Start at [`escape_token`] and [`RoomSubjects`].

use std::borrow::Cow;
use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// Longest subject that is sent. nats-server closes the connection over 4 KiB (its control line limit, which
/// also holds the reply subject and sizes).
pub const MAX_SUBJECT_BYTES: usize = 1024;

/// Longest escaped token; a longer one is replaced by a hash.
pub const MAX_TOKEN_BYTES: usize = 96;

/// Token of the empty id. `=` is otherwise followed by two hexadecimal digits.
const EMPTY_TOKEN: &str = "=_";

/// Head of a hashed token: `h` is no hexadecimal digit, so no escaped id starts like it.
const HASH_HEAD: &str = "=h";

/// The subject is longer than [`MAX_SUBJECT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subject of {bytes} bytes is over the limit of 1024")]
pub struct SubjectTooLong {
    pub bytes: usize,
}

/// One id as one subject token.
///
/// `[A-Za-z0-9_-]` stays, every other byte of the UTF-8 text becomes `=XX` (upper case hexadecimal). The empty id is `=_`.
/// A token over [`MAX_TOKEN_BYTES`] becomes `=h` and the first 128 bits of the id's SHA-256 in lower case hexadecimal; then
/// the full id must travel in the envelope and be compared. Different ids give different tokens, hash collisions apart.
pub fn escape_token(id: &str) -> Cow<'_, str> {
    if id.is_empty() {
        return Cow::Borrowed(EMPTY_TOKEN);
    }
    let escaped = id.bytes().filter(|byte| !is_plain(*byte)).count();
    if id.len() + 2 * escaped > MAX_TOKEN_BYTES {
        return Cow::Owned(hash_token(id));
    }
    if escaped == 0 {
        return Cow::Borrowed(id);
    }
    let mut token = String::with_capacity(id.len() + 2 * escaped);
    for byte in id.bytes() {
        if is_plain(byte) {
            token.push(char::from(byte));
        } else {
            push_hex(&mut token, byte);
        }
    }
    Cow::Owned(token)
}

/// The id behind a token of [`escape_token`]; `None` for a hashed token and for text that is no token.
pub fn unescape_token(token: &str) -> Option<Cow<'_, str>> {
    if token == EMPTY_TOKEN {
        return Some(Cow::Borrowed(""));
    }
    if token.is_empty() || token.len() > MAX_TOKEN_BYTES || token.starts_with(HASH_HEAD) {
        return None;
    }
    if token.bytes().all(is_plain) {
        return Some(Cow::Borrowed(token));
    }
    let mut id = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match byte {
            b'=' => {
                let [high, low, tail @ ..] = tail else { return None };
                let byte = hex_digit(*high)? << 4 | hex_digit(*low)?;
                // Only the canonical form is a token, or two tokens would name one id.
                if is_plain(byte) {
                    return None;
                }
                id.push(byte);
                tail
            }
            byte if is_plain(byte) => {
                id.push(byte);
                tail
            }
            _ => return None,
        };
    }
    String::from_utf8(id).ok().map(Cow::Owned)
}

/// Whether the token carries a hash instead of the id: the reader must compare the full id in the envelope.
pub fn is_hashed(token: &str) -> bool {
    token.starts_with(HASH_HEAD)
}

/// Refuses subjects over [`MAX_SUBJECT_BYTES`].
pub fn check_length(subject: &str) -> Result<(), SubjectTooLong> {
    if subject.len() > MAX_SUBJECT_BYTES { Err(SubjectTooLong { bytes: subject.len() }) } else { Ok(()) }
}

/// The subjects of one room: `tl.<app>.room.<room>.{e,d,p}` and `tl.<app>.u.<room>.<slot>.<ulid>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSubjects {
    app: String,
    room: String,
}

/// What a room subject carries; the last token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoomClass {
    /// `e`: published directly, at most once.
    Ephemeral,
    /// `d`: republished by the server from the application's event stream, with `Nats-Sequence`.
    Durable,
    /// `p`: a quiet publisher's last acked sequence.
    Progress,
}

impl RoomSubjects {
    pub fn new(app: &str, room: &str) -> Self {
        Self { app: escape_token(app).into_owned(), room: escape_token(room).into_owned() }
    }

    /// The same, from the room's token.
    pub fn of_token(app: &str, token: &str) -> Self {
        Self { app: escape_token(app).into_owned(), room: token.to_owned() }
    }

    /// The one subscription of a node with members: all classes. Not of rooms of calls, which have one for each class.
    pub fn filter(&self) -> String {
        format!("tl.{}.room.{}.*", self.app, self.room)
    }

    pub fn class(&self, class: RoomClass) -> String {
        format!("tl.{}.room.{}.{}", self.app, self.room, class.token())
    }

    /// The stored subject of one recoverable event; `slot` is the time in [`SLOT_SECONDS`], `id` unique (a ULID).
    pub fn event(&self, slot: u64, id: &str) -> String {
        format!("tl.{}.u.{}.{slot}.{id}", self.app, self.room)
    }

    /// All stored events of one slot, for a direct get with `multi_last`.
    pub fn slot_filter(&self, slot: u64) -> String {
        format!("tl.{}.u.{}.{slot}.*", self.app, self.room)
    }

    /// All stored events of the room.
    pub fn event_filter(&self) -> String {
        format!("tl.{}.u.{}.>", self.app, self.room)
    }

    /// The room's token in the subjects.
    pub fn room_token(&self) -> &str {
        &self.room
    }
}

impl RoomClass {
    pub fn token(self) -> &'static str {
        match self {
            RoomClass::Ephemeral => "e",
            RoomClass::Durable => "d",
            RoomClass::Progress => "p",
        }
    }
}

/// Width of a slot of time in event subjects, in seconds: a resume lists slots, and one `multi_last` answers at most
/// 1024 subjects, so a slot must stay well below that for an ordinary room.
pub const SLOT_SECONDS: u64 = 10;

/// The slot of a time in milliseconds since the Unix epoch.
pub fn slot_of(unix_ms: u64) -> u64 {
    unix_ms / (SLOT_SECONDS * 1000)
}

/// Subjects that an application's event stream stores: `tl.<app>.u.>`.
pub fn event_stream_filter(app: &str) -> String {
    format!("tl.{}.u.>", escape_token(app))
}

/// Source and destination of the event stream's RePublish: every event goes to its room's `d` subject.
pub fn event_republish(app: &str) -> (String, String) {
    let app = escape_token(app);
    (format!("tl.{app}.u.*.*.*"), format!("tl.{app}.room.{{{{wildcard(1)}}}}.d"))
}

/// Name of an application's event stream: `TL_<app>_events`. Stream names refuse `.`, `*`, `>`, space, `/` and `\`, which no
/// token contains.
pub fn event_stream_name(app: &str) -> String {
    format!("TL_{}_events", escape_token(app))
}

/// A node's marker in an application's event stream. `=m` begins no escaped id, so a marker is no room's event.
pub fn marker(app: &str, node: &str, unix_ms: u64, id: &str) -> String {
    format!("tl.{}.u.=m{node}.{}.{id}", escape_token(app), slot_of(unix_ms))
}

/// Where the copies of a node's markers arrive.
pub fn marker_copy(app: &str, node: &str) -> String {
    format!("tl.{}.room.=m{node}.d", escape_token(app))
}

/// Splits `tl.<app>.room.<room>.<class>` into application token, room token and class.
pub fn parse_room(subject: &str) -> Option<(&str, &str, RoomClass)> {
    let mut tokens = subject.split('.');
    let (head, app, room_word, room, class) =
        (tokens.next()?, tokens.next()?, tokens.next()?, tokens.next()?, tokens.next()?);
    if head != "tl" || room_word != "room" || tokens.next().is_some() {
        return None;
    }
    let class = match class {
        "e" => RoomClass::Ephemeral,
        "d" => RoomClass::Durable,
        "p" => RoomClass::Progress,
        _ => return None,
    };
    Some((app, room, class))
}

/// A node's inbox subject for one correlation tag: `tl.node.<node>.in.<tag>`.
pub fn node_inbox(node: &str, tag: u64) -> String {
    format!("tl.node.{}.in.{tag}", escape_token(node))
}

/// All of a node's inbox: `tl.node.<node>.in.>`.
pub fn node_inbox_filter(node: &str) -> String {
    format!("tl.node.{}.in.>", escape_token(node))
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn hash_token(id: &str) -> String {
    let digest = Sha256::digest(id.as_bytes());
    let mut token = String::with_capacity(HASH_HEAD.len() + 32);
    token.push_str(HASH_HEAD);
    for byte in &digest[..16] {
        write!(token, "{byte:02x}").expect("writing to a String never fails");
    }
    token
}

fn push_hex(token: &mut String, byte: u8) {
    write!(token, "={byte:02X}").expect("writing to a String never fails");
}

fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_ids_stay_and_others_are_escaped() {
        let cases = [
            ("room-1_A", "room-1_A"),
            ("", "=_"),
            ("a.b", "a=2Eb"),
            ("=", "=3D"),
            ("é *>", "=C3=A9=20=2A=3E"),
        ];
        for (id, token) in cases {
            assert_eq!(escape_token(id), token);
            assert_eq!(unescape_token(token).as_deref(), Some(id));
        }
    }

    #[test]
    fn long_ids_are_hashed() {
        let plain = "x".repeat(MAX_TOKEN_BYTES);
        assert_eq!(escape_token(&plain), plain);
        for long in ["x".repeat(MAX_TOKEN_BYTES + 1), "é".repeat(17)] {
            let token = escape_token(&long);
            assert!(is_hashed(&token) && token.len() == 34, "{token}");
            assert_eq!(unescape_token(&token), None);
        }
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        for text in ["a.b", "=", "=4", "=2e", "=41", "a b", "=FF", ""] {
            assert_eq!(unescape_token(text), None, "{text}");
        }
    }

    #[test]
    fn room_subjects_follow_the_grammar() {
        let room = RoomSubjects::new("shop", "order.7");
        assert_eq!(room.filter(), "tl.shop.room.order=2E7.*");
        assert_eq!(room.event(12, "01H"), "tl.shop.u.order=2E7.12.01H");
        assert_eq!(room.slot_filter(12), "tl.shop.u.order=2E7.12.*");
        assert_eq!(room.event_filter(), "tl.shop.u.order=2E7.>");
        assert_eq!(RoomSubjects::of_token("shop", room.room_token()), room);
        let durable = room.class(RoomClass::Durable);
        assert_eq!(parse_room(&durable), Some(("shop", "order=2E7", RoomClass::Durable)));
        assert_eq!(parse_room("tl.shop.room.order.7.d"), None);
        assert_eq!(
            event_republish("shop"),
            ("tl.shop.u.*.*.*".to_owned(), "tl.shop.room.{{wildcard(1)}}.d".to_owned())
        );
        assert_eq!(node_inbox("n1", 7), "tl.node.n1.in.7");
    }

    #[test]
    fn subjects_over_a_kibibyte_are_refused() {
        assert_eq!(check_length(&"x".repeat(1024)), Ok(()));
        assert_eq!(check_length(&"x".repeat(1025)), Err(SubjectTooLong { bytes: 1025 }));
    }

    proptest! {
        #[test]
        fn tokens_are_legal_short_and_reversible(id in "\\PC{0,120}") {
            let token = escape_token(&id);
            prop_assert!(!token.is_empty() && token.len() <= MAX_TOKEN_BYTES);
            prop_assert!(token.bytes().all(|byte| is_plain(byte) || byte == b'='));
            if is_hashed(&token) {
                prop_assert_eq!(unescape_token(&token), None);
            } else {
                let back = unescape_token(&token);
                prop_assert_eq!(back.as_deref(), Some(id.as_str()));
            }
        }

        #[test]
        fn unescaping_is_canonical(text in "[A-Za-z0-9_=.h-]{0,40}") {
            if let Some(id) = unescape_token(&text) {
                prop_assert_eq!(escape_token(&id), text.as_str());
            }
        }
    }
}
