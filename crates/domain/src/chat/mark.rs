//! Who has what: marks that only grow. A mark at a message holds for all before it.
//!
//! Each reader has a mark in a room, and the room has one of its own for what *somebody other than its sender* has: that tells how a
//! message without a certain recipient fares, with one record however many people are in the room.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Message;
use crate::UserId;

/// How far somebody is in a room: positions, 0 for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    #[serde(rename = "r", default)]
    pub read: u64,
    #[serde(rename = "d", default)]
    pub delivered: u64,
}

impl Mark {
    /// The mark with another's progress; what is read was delivered.
    #[must_use]
    pub fn raised(self, by: Mark) -> Self {
        let read = self.read.max(by.read);
        Self { read, delivered: self.delivered.max(by.delivered).max(read) }
    }
}

/// The marks of a room that matter for some messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Of somebody other than the sender.
    pub any: Mark,
    pub of: BTreeMap<UserId, Mark>,
}

/// How a message fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    Sent,
    Delivered,
    Read,
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
        }
    }
}

impl Marks {
    /// By its recipient, where it has one; otherwise by anybody but its sender.
    pub fn standing(&self, message: &Message) -> Standing {
        let mark = match &message.recipient {
            Some(user) => self.of.get(user).copied().unwrap_or_default(),
            None => self.any,
        };
        match message.n {
            n if n <= mark.read => Standing::Read,
            n if n <= mark.delivered => Standing::Delivered,
            _ => Standing::Sent,
        }
    }
}

/// Whether the reader's having this message is what its sender waits for.
pub fn may_read(message: &Message, reader: &UserId) -> bool {
    message.sender != *reader && message.recipient.as_ref().is_none_or(|recipient| recipient == reader)
}

/// Messages of others after the mark and after the reader's own last one: who writes has read. `newest`: a room's newest messages,
/// in order.
pub fn unread(newest: &[Message], reader: &UserId, mark: Mark) -> usize {
    let after = newest.iter().rev().take_while(|message| message.n > mark.read && message.sender != *reader);
    after.filter(|message| message.deleted.is_none()).count()
}

#[cfg(test)]
mod tests {
    use super::super::{ChatLimits, Draft, Head, Tombstone, decide};
    use super::*;
    use crate::RoomId;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn message(n: u64, sender: &str, recipient: Option<&str>) -> Message {
        let draft = Draft {
            recipient: recipient.map(user),
            ..Draft::new(RoomId::new("r").unwrap(), user(sender), sender.into(), "x")
        };
        decide(&Head { last: n - 1 }, &draft, &ChatLimits::default(), 0).unwrap()
    }

    #[test]
    fn marks_only_grow_and_reading_is_having() {
        let mark = Mark { read: 5, delivered: 7 };
        assert_eq!(mark.raised(Mark { read: 3, delivered: 9 }), Mark { read: 5, delivered: 9 });
        assert_eq!(mark.raised(Mark { read: 8, delivered: 0 }), Mark { read: 8, delivered: 8 });
    }

    #[test]
    fn a_message_fares_by_its_recipient_or_by_anybody() {
        let marks = Marks {
            any: Mark { read: 2, delivered: 4 },
            of: [(user("bob"), Mark { read: 0, delivered: 1 })].into(),
        };
        for (n, recipient, standing) in [
            (2, None, Standing::Read),
            (4, None, Standing::Delivered),
            (5, None, Standing::Sent),
            (1, Some("bob"), Standing::Delivered),
            (2, Some("bob"), Standing::Sent),
            (1, Some("eve"), Standing::Sent),
        ] {
            assert_eq!(marks.standing(&message(n, "ann", recipient)), standing, "{n} {recipient:?}");
        }
    }

    #[test]
    fn unread_is_what_others_said_since() {
        let mut talk: Vec<Message> =
            ["ann", "bob", "eve", "bob", "eve"].iter().zip(1..).map(|(who, n)| message(n, who, None)).collect();
        let count = |talk: &[Message], who: &str, read| unread(talk, &user(who), Mark { read, delivered: 0 });
        assert_eq!(count(&talk, "ann", 0), 4);
        assert_eq!(count(&talk, "ann", 3), 2);
        assert_eq!(count(&talk, "bob", 0), 1, "who writes has read");
        assert_eq!(count(&talk, "eve", 0), 0);
        assert_eq!(count(&talk, "zoe", 99), 0);
        talk[4].deleted = Some(Tombstone { by: "eve".into(), at_ms: 1 });
        assert_eq!(count(&talk, "bob", 0), 0);
    }

    #[test]
    fn a_sender_waits_for_others() {
        assert!(may_read(&message(1, "ann", None), &user("bob")));
        assert!(!may_read(&message(1, "ann", None), &user("ann")));
        assert!(!may_read(&message(1, "ann", Some("eve")), &user("bob")));
    }
}
