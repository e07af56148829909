//! What the dialects with conversations have in common: the commands beyond sending, and the parts of payloads that they read alike.

use domain::chat::{Amendment, Editor, Marks, Message};
use domain::{Rejection, RoomId, UserId};
use serde_json::Value;

use crate::{Announcement, Emission};

/// Messages of a page where the client names no number.
pub const PAGE: usize = 50;

/// Bytes of a client's own id of a message.
const CLIENT_ID_BYTES: usize = 128;

/// A message that is to become another.
#[derive(Clone, Debug)]
pub struct Amend {
    pub room: RoomId,
    pub n: u64,
    pub amendment: Amendment,
    pub editor: Editor,
    /// Tells of it, once it is done.
    pub tell: fn(&Message) -> Announcement,
}

/// Messages that somebody has read, and with the newest of them all before it.
#[derive(Clone, Debug)]
pub struct MarkRead {
    pub room: RoomId,
    pub ns: Vec<u64>,
    pub reader: Reader,
    /// Tells of each of them that had not been read before.
    pub tell: fn(&Message, &Reader) -> Option<Announcement>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Reader {
    pub user: UserId,
    /// As clients see it.
    pub wire_id: Value,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// A part of a conversation, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub messages: Vec<Message>,
    /// For how the messages fare.
    pub marks: Marks,
    pub has_more: bool,
}

/// A socket's word about its user's typing in a room, and how the others are shown it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypingSignal {
    pub room: RoomId,
    pub typing: bool,
    pub start: Emission,
    pub stop: Emission,
}

/// A client's own id of a message, from whichever of the two names it is under.
pub fn client_id(value: Option<&Value>) -> Result<Option<Box<str>>, Rejection> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if !text.is_empty() && text.len() <= CLIENT_ID_BYTES => {
            Ok(Some(text.as_str().into()))
        }
        Some(Value::Number(n)) if n.is_u64() || n.is_i64() => Ok(Some(n.to_string().into())),
        Some(_) => Err(Rejection::InvalidPayload {
            field: "clientId",
            problem: "must be an integer or a string of 1 to 128 bytes",
        }),
    }
}

/// A page's `limit`: at least one message, at most the application's largest page.
pub fn page_limit(value: Option<&Value>, largest: usize) -> Result<usize, Rejection> {
    let wrong = Rejection::InvalidPayload { field: "limit", problem: "must be an integer from 1" };
    match value {
        None | Some(Value::Null) => Ok(PAGE.min(largest)),
        Some(value) => match value.as_u64() {
            Some(limit @ 1..) => Ok(usize::try_from(limit).unwrap_or(usize::MAX).min(largest)),
            _ => Err(wrong),
        },
    }
}

/// A bound of a page, `before` or `after`: a message's position, or its id with the room's name.
pub fn bound<'a>(
    value: Option<&'a Value>,
    field: &'static str,
) -> Result<Option<(u64, Option<&'a str>)>, Rejection> {
    let wrong = Rejection::InvalidPayload { field, problem: "must be the id of a message" };
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => match domain::chat::parse_id(id) {
            Some((n, room)) => Ok(Some((n, Some(room)))),
            None => Err(wrong),
        },
        Some(value) => value.as_u64().map(|n| Some((n, None))).ok_or(wrong),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pages_are_bounded() {
        for (given, limit) in [(json!(null), Some(50)), (json!(1), Some(1)), (json!(9999), Some(200))] {
            assert_eq!(page_limit(Some(&given), 200).ok(), limit, "{given}");
        }
        for wrong in [json!(0), json!(-1), json!("5"), json!(1.5), json!([])] {
            assert!(page_limit(Some(&wrong), 200).is_err(), "{wrong}");
        }
        assert_eq!(page_limit(None, 20).ok(), Some(20));
    }

    #[test]
    fn bounds_are_ids_or_positions() {
        assert_eq!(bound(Some(&json!("3@chat:a")), "before"), Ok(Some((3, Some("chat:a")))));
        assert_eq!(bound(Some(&json!(3)), "before"), Ok(Some((3, None))));
        assert_eq!(bound(None, "before"), Ok(None));
        for wrong in [json!("x"), json!(-1), json!({}), json!("")] {
            assert!(bound(Some(&wrong), "before").is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_clients_own_id_is_short() {
        assert_eq!(client_id(Some(&json!(7))).unwrap().as_deref(), Some("7"));
        for wrong in [json!(""), json!("x".repeat(129)), json!(1.5), json!({})] {
            assert!(client_id(Some(&wrong)).is_err());
        }
    }
}
