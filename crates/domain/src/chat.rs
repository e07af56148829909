//! A room's stored conversation: a dense sequence of messages. Decides what is appended; where it is kept is the edge's business.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Rejection, RoomId, UserId};

/// Limits of a message. Bytes of UTF-8, entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatLimits {
    /// Characters of a message's text.
    pub max_message_chars: usize,
    pub max_attachments: usize,
}

impl Default for ChatLimits {
    fn default() -> Self {
        Self { max_message_chars: 4096, max_attachments: 32 }
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
    pub attachments: Vec<Value>,
    pub metadata: Map<String, Value>,
    /// Addressing that the application wants back on the message, as it came.
    pub addressing: Map<String, Value>,
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
    pub text: String,
    #[serde(default)]
    pub attachments: Vec<Value>,
    #[serde(default)]
    pub metadata: Map<String, Value>,
    #[serde(default)]
    pub addressing: Map<String, Value>,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl Message {
    /// `<n>@<room>`.
    pub fn id(&self) -> String {
        format!("{}@{}", self.n, self.room)
    }
}

/// What is known of a room's conversation: the newest position. A head may be behind the store; the store's
/// compare-and-set tells, and the command is decided again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head {
    pub last: u64,
}

/// The message that a draft becomes at this head.
pub fn decide(head: &Head, draft: &Draft, limits: &ChatLimits, now_ms: u64) -> Result<Message, Rejection> {
    check(draft, limits)?;
    Ok(Message {
        room: draft.room.clone(),
        n: head.last + 1,
        sender: draft.sender.clone(),
        sender_id: draft.sender_id.clone(),
        text: draft.text.clone(),
        attachments: draft.attachments.clone(),
        metadata: draft.metadata.clone(),
        addressing: draft.addressing.clone(),
        at_ms: now_ms,
    })
}

/// The head after a message was stored or seen.
pub fn apply(head: &mut Head, message_n: u64) {
    head.last = head.last.max(message_n);
}

fn check(draft: &Draft, limits: &ChatLimits) -> Result<(), Rejection> {
    if draft.text.is_empty() && draft.attachments.is_empty() {
        return Err(Rejection::InvalidPayload { field: "message", problem: "must not be empty" });
    }
    if draft.text.chars().count() > limits.max_message_chars {
        let limit = limits.max_message_chars as u64;
        return Err(Rejection::OverLimit { what: "message length", limit, setting: "limits.message_chars" });
    }
    if draft.attachments.len() > limits.max_attachments {
        let limit = limits.max_attachments as u64;
        return Err(Rejection::OverLimit {
            what: "number of attachments",
            limit,
            setting: "limits.message_attachments",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> Draft {
        Draft {
            room: RoomId::new("chat:1:2").unwrap(),
            sender: UserId::new("1").unwrap(),
            sender_id: "1".into(),
            text: text.into(),
            attachments: vec![],
            metadata: Map::new(),
            addressing: Map::new(),
        }
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
        let limits = ChatLimits { max_message_chars: 3, max_attachments: 0 };
        assert!(decide(&Head::default(), &draft("äöü"), &limits, 0).is_ok());
        for (text, code) in [("äöüx", "over_limit"), ("", "invalid_payload")] {
            assert_eq!(decide(&Head::default(), &draft(text), &limits, 0).unwrap_err().code(), code);
        }
    }
}
