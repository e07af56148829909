//! A room's stored conversation: a dense sequence of messages, each of which its author may change. Decides what is appended and what
//! a message becomes; where it is kept is the edge's business.
//!
//! Start at [`decide`]; `amend` is editing and deleting, `page` the reading of a part, `mark` who has what, `typing` who is about to
//! write.

mod amend;
mod mark;
mod page;
mod settings;
mod typing;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Rejection, RoomId, UserId};

pub use amend::{Amendment, Editor, amend};
pub use mark::{Mark, Marks, Standing, may_read, unread};
pub use page::{Page, Positions};
pub use settings::ChatSettings;
pub use typing::{Shown, Typing, TypingTimes};

/// Limits of a message. Bytes of UTF-8, entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatLimits {
    /// Characters of a message's text.
    pub max_message_chars: usize,
    pub max_attachments: usize,
    /// Bytes of JSON that describe one attachment.
    pub max_attachment_bytes: usize,
    /// Bytes of JSON in a message's metadata.
    pub max_metadata_bytes: usize,
}

impl Default for ChatLimits {
    fn default() -> Self {
        Self {
            max_message_chars: 4096,
            max_attachments: 32,
            max_attachment_bytes: 4096,
            max_metadata_bytes: 65_536,
        }
    }
}

/// What a client asks to have stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    pub room: RoomId,
    pub sender: UserId,
    /// The sender's id as clients see it: a number stays a number.
    pub sender_id: Value,
    pub text: String,
    /// What kind of message it is, in the application's words.
    pub kind: Option<Box<str>>,
    /// Position of the message that this one answers.
    pub reply_to: Option<u64>,
    pub attachments: Vec<Value>,
    pub metadata: Map<String, Value>,
    /// Addressing that the application wants back on the message, as it came.
    pub addressing: Map<String, Value>,
    /// The one whose having it counts; `None`: anybody's but the sender's.
    pub recipient: Option<UserId>,
    /// The sender's own name for it: a second message of this sender and name in the room is the first one.
    pub client_id: Option<Box<str>>,
}

impl Draft {
    /// A text, and nothing besides.
    pub fn new(room: RoomId, sender: UserId, sender_id: Value, text: impl Into<String>) -> Self {
        Self {
            room,
            sender,
            sender_id,
            text: text.into(),
            kind: None,
            reply_to: None,
            attachments: Vec::new(),
            metadata: Map::new(),
            addressing: Map::new(),
            recipient: None,
            client_id: None,
        }
    }
}

/// A stored message. The id names its room, so that a message can be found by id alone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Message {
    pub room: RoomId,
    /// Position in the room, from 1, without holes.
    pub n: u64,
    pub sender: UserId,
    /// As clients see it.
    pub sender_id: Value,
    /// Empty once it is deleted.
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<u64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attachments: Vec<Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub addressing: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<UserId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<Box<str>>,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Changes since it was stored.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rev: u64,
    /// When the text was last changed, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<Tombstone>,
    /// Of a changed message: the room's newest position then, as far as it was known.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub head: u64,
}

/// What is left of a deleted message, besides who wrote it, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tombstone {
    /// Who deleted it, as clients see the id.
    pub by: Value,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Message {
    /// `<n>@<room>`.
    pub fn id(&self) -> String {
        id(&self.room, self.n)
    }

    /// When it became what it is, in milliseconds since the Unix epoch.
    pub fn changed_ms(&self) -> u64 {
        let deleted = self.deleted.as_ref().map(|tombstone| tombstone.at_ms);
        deleted.or(self.edited_ms).unwrap_or(self.at_ms)
    }

    /// The newest position that the room had when this was stored, as far as it shows.
    pub fn newest_known(&self) -> u64 {
        self.n.max(self.head)
    }
}

/// A message's id: `<n>@<room>`.
pub fn id(room: &RoomId, n: u64) -> String {
    format!("{n}@{room}")
}

/// Room and position behind a message's id.
pub fn parse_id(id: &str) -> Option<(u64, &str)> {
    let (n, room) = id.split_once('@')?;
    let canonical = !n.starts_with('0') && n.bytes().all(|byte| byte.is_ascii_digit());
    let n = n.parse().ok().filter(|_| canonical && !room.is_empty())?;
    Some((n, room))
}

/// Why a message is not as was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("No such message")]
    UnknownMessage,
    #[error("The message was deleted")]
    Deleted,
    #[error("Only its author may edit a message")]
    NotAuthor,
    #[error("Only its author or an administrator of the chat may delete a message")]
    NotAdministrator,
}

impl Refusal {
    pub fn code(self) -> &'static str {
        match self {
            Self::UnknownMessage => "unknown_message",
            Self::Deleted => "message_deleted",
            Self::NotAuthor => "not_author",
            Self::NotAdministrator => "not_administrator",
        }
    }
}

/// What is known of a room's conversation: the newest position. A head may be behind the store; the store's
/// compare-and-set tells, and the command is decided again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub last: u64,
}

/// The message that a draft becomes at this head. One that answers a message beyond the head is refused: who may be behind reads the
/// head first.
pub fn decide(head: &Head, draft: &Draft, limits: &ChatLimits, now_ms: u64) -> Result<Message, Rejection> {
    check(draft, limits)?;
    if draft.reply_to.is_some_and(|n| n == 0 || n > head.last) {
        return Err(Refusal::UnknownMessage.into());
    }
    Ok(Message {
        room: draft.room.clone(),
        n: head.last + 1,
        sender: draft.sender.clone(),
        sender_id: draft.sender_id.clone(),
        text: draft.text.clone(),
        kind: draft.kind.clone(),
        reply_to: draft.reply_to,
        attachments: draft.attachments.clone(),
        metadata: draft.metadata.clone(),
        addressing: draft.addressing.clone(),
        recipient: draft.recipient.clone(),
        client_id: draft.client_id.clone(),
        at_ms: now_ms,
        rev: 0,
        edited_ms: None,
        deleted: None,
        head: 0,
    })
}

/// The head after a message was stored or seen.
pub fn apply(head: &mut Head, message_n: u64) {
    head.last = head.last.max(message_n);
}

fn check(draft: &Draft, limits: &ChatLimits) -> Result<(), Rejection> {
    check_text(&draft.text, draft.attachments.is_empty(), limits)?;
    let over = |what, limit: usize, setting| Rejection::OverLimit { what, limit: limit as u64, setting };
    if draft.attachments.len() > limits.max_attachments {
        return Err(over("number of attachments", limits.max_attachments, "limits.message_attachments"));
    }
    if draft.attachments.iter().any(|it| json_bytes(it) > limits.max_attachment_bytes) {
        return Err(over("size of an attachment's description", limits.max_attachment_bytes, "limits.attachment_bytes"));
    }
    if !draft.metadata.is_empty() && json_bytes(&draft.metadata) > limits.max_metadata_bytes {
        return Err(over("size of the metadata", limits.max_metadata_bytes, "limits.metadata_bytes"));
    }
    Ok(())
}

/// `alone`: there is nothing but the text.
fn check_text(text: &str, alone: bool, limits: &ChatLimits) -> Result<(), Rejection> {
    if text.is_empty() && alone {
        return Err(Rejection::InvalidPayload { field: "message", problem: "must not be empty" });
    }
    if text.chars().count() > limits.max_message_chars {
        let limit = limits.max_message_chars as u64;
        return Err(Rejection::OverLimit { what: "message length", limit, setting: "limits.message_chars" });
    }
    Ok(())
}

/// Bytes that a value takes as JSON.
fn json_bytes(value: &impl Serialize) -> usize {
    serde_json::to_vec(value).expect("JSON values have string keys").len()
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn draft(text: &str) -> Draft {
        let room = RoomId::new("chat:1:2").unwrap();
        Draft::new(room, UserId::new("1").unwrap(), "1".into(), text)
    }

    #[test]
    fn positions_are_dense() {
        let mut head = Head::default();
        for n in 1..4 {
            let message = decide(&head, &draft("hi"), &ChatLimits::default(), 5).unwrap();
            assert_eq!((message.n, message.id()), (n, format!("{n}@chat:1:2")));
            apply(&mut head, message.n);
        }
        apply(&mut head, 1);
        assert_eq!(head.last, 3);
    }

    #[test]
    fn limits_count_characters() {
        let limits = ChatLimits { max_message_chars: 3, max_attachments: 0, ..ChatLimits::default() };
        assert!(decide(&Head::default(), &draft("äöü"), &limits, 0).is_ok());
        for (text, code) in [("äöüx", "over_limit"), ("", "invalid_payload")] {
            assert_eq!(decide(&Head::default(), &draft(text), &limits, 0).unwrap_err().code(), code);
        }
    }

    #[test]
    fn what_comes_with_a_message_is_bounded() {
        let limits = ChatLimits { max_attachment_bytes: 16, max_metadata_bytes: 16, ..ChatLimits::default() };
        let refused = |draft: &Draft| decide(&Head::default(), draft, &limits, 0).err().map(|it| it.to_string());
        let attached = |url: &str| Draft { attachments: vec![json!({ "url": url })], ..draft("") };
        assert_eq!(refused(&attached("12345")), None);
        assert!(refused(&attached("1234567")).unwrap().contains("limits.attachment_bytes"));
        let described = Draft { metadata: json!({ "a": "123456789" }).as_object().unwrap().clone(), ..draft("x") };
        assert!(refused(&described).unwrap().contains("limits.metadata_bytes"));
    }

    #[test]
    fn answers_name_a_message_that_there_is() {
        let head = Head { last: 2 };
        for (n, ok) in [(0, false), (1, true), (2, true), (3, false)] {
            let answer = Draft { reply_to: Some(n), ..draft("yes") };
            assert_eq!(decide(&head, &answer, &ChatLimits::default(), 0).is_ok(), ok, "{n}");
        }
    }

    #[test]
    fn ids_name_room_and_position_in_one_way() {
        assert_eq!(parse_id("12@chat:a@b"), Some((12, "chat:a@b")));
        for bad in ["", "@", "1@", "0@r", "01@r", "+1@r", "x@r", "1", "99999999999999999999@r"] {
            assert_eq!(parse_id(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_message_of_an_older_version_is_read() {
        let old = json!({ "room": "r", "n": 1, "sender": "1", "sender_id": 1, "text": "x", "attachments": [],
            "metadata": {}, "addressing": {}, "at_ms": 5 });
        let message: Message = serde_json::from_value(old).unwrap();
        assert_eq!((message.rev, message.newest_known(), message.changed_ms()), (0, 1, 5));
    }
}
