//! Room names of `telehealth`: the prefix decides the kind.

use domain::{Identity, Rejection, RoomId, UserId};
use serde_json::{Value, json};

use crate::Participant;

/// Rooms of this prefix are the server's own: members are the sockets whose join metadata named the visit.
const HIDDEN: &str = ".visit-members:";
const PERSONAL: &str = "notifications:";

/// A room a client named, in canonical form.
#[derive(Debug)]
pub struct Room {
    pub id: RoomId,
    pub kind: Kind,
}

#[derive(Debug)]
pub enum Kind {
    /// The two users, sorted.
    Chat(Box<str>, Box<str>),
    Personal(Box<str>),
    /// `visit:`, `call:`, `topic:`: rights by configuration.
    ByRule,
}

impl Room {
    /// `chat:b:a` is the room `chat:a:b`. Ids with a `:` stand percent-encoded in chat rooms.
    pub fn parse(name: &str) -> Result<Self, Rejection> {
        let (prefix, rest) = name.split_once(':').ok_or(Rejection::InvalidRoom("expected `kind:id`"))?;
        if rest.is_empty() {
            return Err(Rejection::InvalidRoom("the id is missing"));
        }
        let (id, kind) = match prefix {
            "chat" => {
                let Some((a, b)) =
                    rest.split_once(':').filter(|(a, b)| !a.is_empty() && !b.is_empty() && !b.contains(':'))
                else {
                    return Err(Rejection::InvalidRoom("expected `chat:userA:userB`"));
                };
                let (a, b) = (unescape(a), unescape(b));
                let (a, b) = if a <= b { (a, b) } else { (b, a) };
                (pair(&a, &b), Kind::Chat(a, b))
            }
            "notifications" => (name.to_owned(), Kind::Personal(rest.into())),
            "visit" | "call" | "topic" => (name.to_owned(), Kind::ByRule),
            _ => {
                return Err(Rejection::InvalidRoom(
                    "the kind is none of chat, call, visit, notifications, topic",
                ));
            }
        };
        let id = RoomId::new(id).ok_or(Rejection::InvalidRoom("the name is too long"))?;
        Ok(Self { id, kind })
    }
}

/// The chat room of two users.
pub fn of_pair(one: &UserId, other: &UserId) -> Result<RoomId, Rejection> {
    let (a, b) = if one <= other { (one, other) } else { (other, one) };
    RoomId::new(pair(a.as_str(), b.as_str())).ok_or(Rejection::InvalidRoom("the name is too long"))
}

/// One spelling for each pair, whoever writes it.
fn pair(a: &str, b: &str) -> String {
    format!("chat:{}:{}", escape(a), escape(b))
}

/// The room of all of a user's devices.
pub fn personal(user: &UserId) -> Option<RoomId> {
    RoomId::new(format!("{PERSONAL}{user}"))
}

pub fn is_personal(room: &str) -> bool {
    room.starts_with(PERSONAL)
}

/// The hidden room of sockets whose join metadata named the visit.
pub fn of_visit_members(visit: &str) -> Result<RoomId, Rejection> {
    RoomId::new(format!("{HIDDEN}{visit}")).ok_or(Rejection::InvalidRoom("the name is too long"))
}

pub fn is_hidden(room: &str) -> bool {
    room.starts_with(HIDDEN)
}

pub fn participant(identity: &Identity) -> Participant {
    Participant { user: identity.wire_id().to_string().into(), role: identity.role.clone() }
}

pub fn participant_json(participant: &Participant) -> Value {
    let user: Value = serde_json::from_str(&participant.user).unwrap_or_else(|_| (*participant.user).into());
    json!({ "userId": user, "role": participant.role })
}

fn escape(id: &str) -> String {
    id.replace('%', "%25").replace(':', "%3A")
}

fn unescape(part: &str) -> Box<str> {
    part.replace("%3A", ":").replace("%25", "%").into()
}
