//! `message:send`: stored under the patient's room, then told to everybody in it, then acked.

use domain::chat::{Draft, Message};
use domain::{Identity, Rejection, UserId};
use serde_json::{Map, Value, json};

use super::{Asked, Portal, rooms};
use crate::time::iso8601;
use crate::{Action, Actions, Command, Inbound, Out, Outcome, Post, Socket};

impl Portal {
    pub(super) fn message_send(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        let payload: Map<String, Value> = inbound.object()?;
        check_sender(identity, &payload)?;
        if !inbound.attachments.is_empty() {
            let problem = "must not hold bytes: name where they are, as in attachments: [{ url }]";
            return Err(Rejection::InvalidPayload { field: "payload", problem });
        }
        let (patient, wire_id) = self.patient(identity, &payload)?;
        let room = rooms::of_patient(&patient);
        self.permitted(socket, identity, room.as_str())?;
        let mut draft = Draft::new(room.clone(), identity.user.clone(), identity.wire_id(), text(&payload)?);
        draft.attachments = list(&payload)?;
        draft.metadata = object(&payload)?;
        draft.addressing = addressing(identity, wire_id);
        // A sender outside of the room hears its own message all the same.
        let is_inside = socket.memberships.iter().any(|membership| *membership.room == *room.as_str());
        let post = Post {
            draft,
            rooms: vec![room],
            event: "message:new".into(),
            args: told,
            except_self: false,
            receipt: None,
        };
        let asked = Asked::of(inbound);
        let then = move |_: &Socket<'_>, outcome: Result<Outcome, Rejection>| match outcome {
            Ok(Outcome::Posted(message)) => {
                let own = (!is_inside).then(|| Action::emit("message:new", told(&message)));
                let ack = Action::Ack(Out::json(&json!({ "ok": true, "message": wire(&message) })));
                own.into_iter().chain([ack]).collect()
            }
            Ok(_) => asked.refuse(&Rejection::Unavailable),
            Err(rejection) => asked.refuse(&rejection),
        };
        Ok(vec![Action::Run(Command::Post(Box::new(post)), Box::new(then))])
    }

    /// Whom the message is about, and the id as it was written. Patients who name nobody mean themselves; `null` is what JavaScript
    /// makes of NaN, and names nobody rightly.
    fn patient(
        &self,
        identity: &Identity,
        payload: &Map<String, Value>,
    ) -> Result<(UserId, Value), Rejection> {
        let invalid = |problem| Rejection::InvalidPayload { field: "patientId", problem };
        let id = payload.get("patientId").cloned();
        let id = id.or_else(|| self.access.own_patient(identity)).ok_or_else(|| invalid("is missing"))?;
        match UserId::from_json(&id) {
            Some(patient) => Ok((patient, id)),
            None => Err(invalid("must be a non-empty string or an integer")),
        }
    }
}

/// A payload that says it is somebody else's is refused; who sends is what the token says.
fn check_sender(identity: &Identity, payload: &Map<String, Value>) -> Result<(), Rejection> {
    for field in ["senderId", "userId"] {
        let claimed = payload.get(field).and_then(UserId::from_json);
        if claimed.is_some_and(|user| user != identity.user) {
            return Err(Rejection::InvalidPayload { field, problem: "is another user's" });
        }
    }
    Ok(())
}

fn told(message: &Message) -> Out {
    let patient = message.addressing.get("patientId");
    Out::json(&json!({ "message": wire(message), "patientId": patient }))
}

fn wire(message: &Message) -> Value {
    let mut object = Map::new();
    object.insert("id".into(), message.id().into());
    object.extend(message.addressing.clone());
    object.insert("senderId".into(), message.sender_id.clone());
    object.insert("text".into(), message.text.clone().into());
    object.insert("attachments".into(), message.attachments.clone().into());
    object.insert("metadata".into(), message.metadata.clone().into());
    object.insert("createdAt".into(), iso8601(message.at_ms).into());
    object.into()
}

/// What goes back out with the message besides its content.
fn addressing(identity: &Identity, patient: Value) -> Map<String, Value> {
    let mut map = Map::new();
    map.insert("patientId".into(), patient);
    let optional = [("senderRole", &identity.role), ("senderName", &identity.name)];
    for (key, value) in optional {
        map.extend(value.as_deref().map(|value| (key.to_owned(), value.into())));
    }
    map
}

/// Under whichever of its names it came; a message of attachments alone has none.
fn text(payload: &Map<String, Value>) -> Result<String, Rejection> {
    let mut named = ["text", "message", "content"].into_iter().filter_map(|key| payload.get(key));
    match named.find(|value| !value.is_null()) {
        Some(Value::String(text)) => Ok(text.clone()),
        Some(_) => Err(Rejection::InvalidPayload { field: "text", problem: "must be a string" }),
        None if payload.get("attachments").is_some_and(Value::is_array) => Ok(String::new()),
        None => Err(Rejection::InvalidPayload { field: "text", problem: "is missing" }),
    }
}

fn list(payload: &Map<String, Value>) -> Result<Vec<Value>, Rejection> {
    match payload.get("attachments") {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items.clone()),
        Some(_) => Err(Rejection::InvalidPayload { field: "attachments", problem: "must be an array" }),
    }
}

fn object(payload: &Map<String, Value>) -> Result<Map<String, Value>, Rejection> {
    match payload.get("metadata") {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object.clone()),
        Some(_) => Err(Rejection::InvalidPayload { field: "metadata", problem: "must be an object" }),
    }
}
