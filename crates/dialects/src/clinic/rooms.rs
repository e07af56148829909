//! Rooms of `clinic`: `user:{id}` and `role:{role}` for everybody, `entity:{entity}` and `entity:{entity}:{id}` by subscription.

use domain::{Rejection, RoomId, UserId};
use serde_json::{Map, Value, json};

use super::invalid;
use crate::number::id_json;

/// Who has asked for it hears how far the catalogue's feed is.
const CATALOG: &str = ".catalog";

/// What a client subscribes to: all of an entity's instances, or one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entity {
    pub name: Box<str>,
    pub id: Option<UserId>,
}

impl Entity {
    /// Longest name of an entity, in characters. Names of entities are part of a program, not data.
    const MAX_CHARS: usize = 64;

    /// `{ entity, entityId? }`.
    pub fn read(payload: &Map<String, Value>) -> Result<Self, Rejection> {
        let name = payload.get("entity").and_then(Value::as_str);
        let name = name.ok_or(invalid("entity", "must be a string"))?;
        if name.trim().is_empty() || name.chars().count() > Self::MAX_CHARS {
            return Err(invalid("entity", "must have 1 to 64 characters"));
        }
        let id = match payload.get("entityId") {
            // JavaScript sends NaN as null: a client that has lost the id does not mean all instances.
            None => None,
            Some(value) => Some(
                UserId::from_json(value)
                    .ok_or(invalid("entityId", "must be an integer or a non-empty string"))?,
            ),
        };
        Ok(Self { name: name.into(), id })
    }

    /// What events of this entity are told in.
    pub fn room(&self) -> Result<RoomId, Rejection> {
        let name = escape(&self.name);
        let room = match &self.id {
            None => format!("entity:{name}"),
            Some(id) => format!("entity:{name}:{id}"),
        };
        RoomId::new(room).ok_or(Rejection::InvalidRoom("the name is too long"))
    }

    /// As the client wrote it, ids as numbers.
    pub fn json(&self) -> Map<String, Value> {
        let mut body = Map::new();
        body.insert("entity".into(), json!(self.name));
        body.extend(self.id.as_ref().map(|id| ("entityId".to_owned(), id_json(id.as_str()))));
        body
    }

    /// The entity whose room this is.
    pub fn of_room(room: &str) -> Option<Self> {
        let rest = room.strip_prefix("entity:")?;
        let (name, id) = match rest.split_once(':') {
            Some((name, id)) => (name, Some(UserId::new(id)?)),
            None => (rest, None),
        };
        Some(Self { name: unescape(name).into(), id })
    }
}

/// The kind and the instance, whoever subscribed to either.
pub fn of_entity(name: &str, id: &UserId) -> [RoomId; 2] {
    let room =
        |id| Entity { name: name.into(), id }.room().expect("names of the server's own and ids are short");
    [room(Some(id.clone())), room(None)]
}

pub fn of_user(user: &UserId) -> RoomId {
    RoomId::new(format!("user:{user}")).expect("user ids are shorter than room names")
}

pub fn of_role(role: &str) -> Result<RoomId, Rejection> {
    RoomId::new(format!("role:{role}")).ok_or(Rejection::InvalidRoom("the role's name is too long"))
}

pub fn catalog() -> RoomId {
    RoomId::new(CATALOG).expect("the name is short")
}

/// Without a `:`, so that the name of a kind is never that of an instance.
fn escape(name: &str) -> String {
    name.replace('%', "%25").replace(':', "%3A")
}

fn unescape(name: &str) -> String {
    name.replace("%3A", ":").replace("%25", "%")
}
