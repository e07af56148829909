//! `message:send`: stored under its room, then delivered once to everybody concerned, then acked: an acked message is stored
//! *and* on its way to every member.

use domain::chat::{Draft, Message, Standing};
use domain::{Identity, Rejection, RoomId, UserId};
use serde_json::{Map, Value, json};

use super::{Telehealth, id_text, refuse, rooms, text};
use crate::{Action, Actions, Announcement, Command, Inbound, Out, Outcome, Post, Socket, chatting};

/// Whom a message is for.
#[derive(Debug)]
pub struct Audience {
    /// Where the message is kept.
    pub home: RoomId,
    /// Everybody who hears it, one copy per socket.
    rooms: Vec<RoomId>,
    /// The one whose having it counts.
    recipient: Option<UserId>,
}

impl Telehealth {
    pub(super) fn message_send(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        let payload: Map<String, Value> = inbound.object()?;
        let audience = self.audience(socket, identity, &payload)?;
        let draft = Draft {
            attachments: list(&payload, "attachments")?,
            metadata: object(&payload, "metadata")?,
            addressing: addressing(&payload),
            recipient: audience.recipient.clone(),
            client_id: client_id(&payload)?,
            ..Draft::new(audience.home, identity.user.clone(), identity.wire_id(), text(&payload, "message")?)
        };
        let receipt: Option<fn(&Message) -> Announcement> = audience.recipient.is_some().then_some(delivered);
        let post = Post {
            draft,
            rooms: audience.rooms,
            event: "message:new".into(),
            args: |message| Out::json(&wire(message, Standing::Sent)),
            except_self: true,
            receipt,
        };
        let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
        Ok(vec![Action::Run(
            Command::Post(Box::new(post)),
            Box::new(move |_, outcome| match outcome {
                Ok(Outcome::Posted(message)) => {
                    let message = wire(&message, Standing::Sent);
                    vec![
                        Action::Ack(Out::json(&json!({ "success": true, "message": message }))),
                        Action::emit("message:sent", Out::json(&message)),
                    ]
                }
                Err(rejection) => refuse(&event, wants_ack, &rejection),
                _ => Actions::new(),
            }),
        )])
    }

    /// The rights to every place the payload names are checked; a chat's other user is a recipient too.
    pub(super) fn audience(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        payload: &Map<String, Value>,
    ) -> Result<Audience, Rejection> {
        let mut rooms = Vec::new();
        let mut recipients: Vec<UserId> = Vec::new();
        if let Some(value) = payload.get("roomId").filter(|value| !value.is_null()) {
            let name = value
                .as_str()
                .ok_or(Rejection::InvalidPayload { field: "roomId", problem: "must be a string" })?;
            let room = self.permitted(socket, identity, name)?;
            if let rooms::Kind::Chat(a, b) = &room.kind {
                let other = if **a == *identity.user.as_str() { b } else { a };
                recipients.extend(UserId::new(other.clone()));
            }
            rooms.push(room.id);
        }
        if let Some(visit) = id_text(payload, "visitId")? {
            rooms.push(self.permitted(socket, identity, &format!("visit:{visit}"))?.id);
            rooms.push(rooms::of_visit_members(&visit)?);
        }
        if let Some(recipient) = id_text(payload, "recipientId")?.and_then(UserId::new) {
            if rooms.is_empty() {
                rooms.push(rooms::of_pair(&identity.user, &recipient)?);
            }
            recipients.push(recipient);
        }
        let home = rooms.first().cloned().ok_or(Rejection::InvalidPayload {
            field: "roomId",
            problem: "is missing: name a roomId, a visitId or a recipientId",
        })?;
        let recipient = recipients.last().filter(|user| **user != identity.user).cloned();
        recipients.push(identity.user.clone());
        rooms.extend(recipients.iter().filter_map(rooms::personal));
        let mut seen = std::collections::HashSet::new();
        rooms.retain(|room| seen.insert(room.clone()));
        Ok(Audience { home, rooms, recipient })
    }
}

/// The flat message object that clients know.
pub fn wire(message: &Message, standing: Standing) -> Value {
    let mut object = Map::new();
    object.insert("id".into(), message.id().into());
    object.insert("senderId".into(), message.sender_id.clone());
    object.extend(message.addressing.clone());
    object.insert("roomId".into(), message.room.as_str().into());
    object.insert("message".into(), message.text.clone().into());
    object.insert("attachments".into(), message.attachments.clone().into());
    object.insert("timestamp".into(), crate::time::iso8601(message.at_ms).into());
    object.insert("status".into(), standing.name().into());
    object.insert("metadata".into(), message.metadata.clone().into());
    let clients = message.client_id.as_deref();
    object.extend(clients.map(|id| ("clientId".to_owned(), id.into())));
    let edited = message.edited_ms.map(|ms| ("editedAt", ms));
    let deleted = message.deleted.as_ref().map(|tombstone| ("deletedAt", tombstone.at_ms));
    let times = edited.into_iter().chain(deleted);
    object.extend(times.map(|(key, ms)| (key.to_owned(), crate::time::iso8601(ms).into())));
    object.into()
}

/// Tells the sender that a device of the recipient has the message.
pub fn delivered(message: &Message) -> Announcement {
    status(message, Standing::Delivered)
}

/// `message:status` for the sender's devices.
pub fn status(message: &Message, standing: Standing) -> Announcement {
    let body = json!({ "messageId": message.id(), "roomId": message.room, "status": standing.name() });
    Announcement {
        rooms: rooms::personal(&message.sender).into_iter().collect(),
        event: "message:status".into(),
        args: Out::json(&body),
        except: Vec::new(),
    }
}

/// `recipientId` and `visitId` go back out in the form they came in.
fn addressing(payload: &Map<String, Value>) -> Map<String, Value> {
    let keys = ["recipientId", "visitId"];
    let given =
        keys.into_iter().filter_map(|key| payload.get(key).filter(|v| !v.is_null()).map(|v| (key, v)));
    given.map(|(key, value)| (key.to_owned(), value.clone())).collect()
}

fn client_id(payload: &Map<String, Value>) -> Result<Option<Box<str>>, Rejection> {
    chatting::client_id(payload.get("clientId").or_else(|| payload.get("clientMessageId")))
}

fn list(payload: &Map<String, Value>, field: &'static str) -> Result<Vec<Value>, Rejection> {
    match payload.get(field) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items.clone()),
        Some(_) => Err(Rejection::InvalidPayload { field, problem: "must be an array" }),
    }
}

fn object(payload: &Map<String, Value>, field: &'static str) -> Result<Map<String, Value>, Rejection> {
    match payload.get(field) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(_) => Err(Rejection::InvalidPayload { field, problem: "must be an object" }),
    }
}
