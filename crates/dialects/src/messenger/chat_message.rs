//! `message:send`, `message:edit`, `message:delete`, and the message object that clients see.

use domain::chat::{Amendment, Draft, Editor, Message, Standing, parse_id};
use domain::{Rejection, RoomId};
use serde_json::{Map, Value, json};

use super::Ask;
use super::asked::done;
use super::payload::invalid;
use super::wire::user_room;
use crate::time::iso8601;
use crate::{Action, Actions, Amend, Announcement, Command, Out, Outcome, Post, chatting};

pub const KINDS: [&str; 5] = ["text", "image", "file", "audio", "video"];

/// Stored, told to the chat with this socket in it, then acked.
pub fn send(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    ask.check_speaker("senderId")?;
    let chat = ask.chat()?;
    let attachments = attachments(ask.payload.value("attachments"))?;
    let content = match ask.payload.said("content")? {
        Some(content) => content.into(),
        None if attachments.is_empty() => return Err(invalid("content", "is missing")),
        None => String::new(),
    };
    let own_id = ask.payload.value("clientId").or_else(|| ask.payload.value("clientMessageId"));
    let draft = Draft {
        kind: Some(kind(ask)?.into()),
        reply_to: reply_to(ask, &chat.room)?,
        attachments,
        addressing: [("chatId".to_owned(), chat.wire_id)].into_iter().collect(),
        client_id: chatting::client_id(own_id.as_ref())?,
        ..Draft::new(chat.room.clone(), ask.identity.user.clone(), ask.identity.wire_id(), content)
    };
    let post = Post {
        draft,
        rooms: vec![chat.room.clone()],
        event: "message:receive".into(),
        args: |message| {
            let body = json!({ "message": wire(message, Standing::Sent), "chatId": chat_id(message) });
            Out::json(&body)
        },
        except_self: false,
        receipt: Some(delivered),
    };
    let asked = ask.asked.clone();
    let post = Action::Run(
        Command::Post(Box::new(post)),
        Box::new(move |_, outcome| match outcome {
            Ok(Outcome::Posted(message)) => {
                vec![done(&json!({ "message": wire(&message, Standing::Sent) }))]
            }
            Ok(_) => asked.refuse(&Rejection::Unavailable),
            Err(rejection) => asked.refuse(&rejection),
        }),
    );
    Ok(ask.inside(&chat.room, vec![post]))
}

pub fn edit(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let amendment = Amendment::Edit { text: ask.payload.text("content")? };
    amend(ask, amendment, |message| {
        let body = json!({ "chatId": chat_id(message), "message": wire(message, Standing::Sent) });
        to_chat(message, "message:edit", &body)
    })
}

pub fn delete(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    amend(ask, Amendment::Delete, |message| {
        let by = message.deleted.as_ref().map(|tombstone| &tombstone.by);
        let body = json!({ "chatId": chat_id(message), "messageId": message.id(), "deletedBy": by });
        to_chat(message, "message:delete", &body)
    })
}

fn amend(
    ask: &Ask<'_>,
    amendment: Amendment,
    tell: fn(&Message) -> Announcement,
) -> Result<Actions, Rejection> {
    let (n, room) = named(ask, ask.payload.text("messageId")?)?;
    let administers = ask.dialect.administrators.grants(ask.identity, room.as_str());
    let editor = Editor { user: ask.identity.user.clone(), wire_id: ask.identity.wire_id(), administers };
    let asked = ask.asked.clone();
    let amend = Action::Run(
        Command::Amend(Box::new(Amend { room: room.clone(), n, amendment, editor, tell })),
        Box::new(move |_, outcome| match outcome {
            Ok(Outcome::Amended(message)) => {
                let message_id = message.id();
                let body = wire(&message, Standing::Sent);
                vec![done(&json!({ "chatId": chat_id(&message), "messageId": message_id, "message": body }))]
            }
            Ok(_) => asked.refuse(&Rejection::Unavailable),
            Err(rejection) => asked.refuse(&rejection),
        }),
    );
    Ok(ask.inside(&room, vec![amend]))
}

/// Position and room of a message that the payload names: its id says which chat it is in, and the payload's `chatId` says the same
/// or nothing.
pub fn named(ask: &Ask<'_>, id: String) -> Result<(u64, RoomId), Rejection> {
    let (n, room) = parse_id(&id).ok_or(invalid("messageId", "must be the id of a message"))?;
    if !super::is_chat(room) {
        return Err(invalid("messageId", "must be the id of a message"));
    }
    let room = RoomId::new(room).ok_or(invalid("messageId", "is too long"))?;
    ask.check_chat(&room)?;
    let said = ask.payload.user_if_any("chatId")?.map(|chat| ask.chat_named(chat)).transpose()?;
    if said.is_some_and(|chat| chat.room != room) {
        return Err(invalid("messageId", "is of another chat"));
    }
    Ok((n, room))
}

/// The message object.
pub fn wire(message: &Message, standing: Standing) -> Value {
    let mut body = Map::new();
    let mut put = |key: &str, value: Value| drop(body.insert(key.to_owned(), value));
    put("id", message.id().into());
    put("chatId", chat_id(message));
    put("senderId", message.sender_id.clone());
    put("content", message.text.clone().into());
    put("type", message.kind.as_deref().unwrap_or(KINDS[0]).into());
    if let Some(n) = message.reply_to {
        put("replyTo", domain::chat::id(&message.room, n).into());
    }
    put("attachments", message.attachments.clone().into());
    put("status", standing.name().into());
    put("createdAt", iso8601(message.at_ms).into());
    if let Some(ms) = message.edited_ms {
        put("editedAt", iso8601(ms).into());
    }
    if let Some(tombstone) = &message.deleted {
        put("deletedAt", iso8601(tombstone.at_ms).into());
    }
    if let Some(id) = &message.client_id {
        put("clientId", (**id).into());
    }
    body.into()
}

/// The chat's id as it was written when the message was sent.
pub fn chat_id(message: &Message) -> Value {
    let written = message.addressing.get("chatId").cloned();
    written.unwrap_or_else(|| message.room.as_str().trim_start_matches("chat:").into())
}

/// Tells the sender that somebody's device has the message.
pub fn delivered(message: &Message) -> Announcement {
    let body = json!({
        "chatId": chat_id(message), "messageId": message.id(), "status": Standing::Delivered.name()
    });
    Announcement {
        rooms: vec![user_room(&message.sender)],
        event: "message:status".into(),
        args: Out::json(&body),
        except: Vec::new(),
    }
}

pub fn to_chat(message: &Message, event: &'static str, body: &Value) -> Announcement {
    Announcement {
        rooms: vec![message.room.clone()],
        event: event.into(),
        args: Out::json(body),
        except: Vec::new(),
    }
}

fn kind(ask: &Ask<'_>) -> Result<&'static str, Rejection> {
    let Some(said) = ask.payload.said("type")? else { return Ok(KINDS[0]) };
    let kind = KINDS.into_iter().find(|kind| **kind == *said);
    kind.ok_or(invalid("type", "must be text, image, file, audio or video"))
}

fn reply_to(ask: &Ask<'_>, room: &RoomId) -> Result<Option<u64>, Rejection> {
    let Some(id) = ask.payload.said("replyTo")? else { return Ok(None) };
    match parse_id(&id) {
        Some((n, of)) if of == room.as_str() => Ok(Some(n)),
        _ => Err(invalid("replyTo", "must be the id of a message of this chat")),
    }
}

/// Descriptions of what is stored elsewhere; keys that are not known stay.
pub fn attachments(value: Option<Value>) -> Result<Vec<Value>, Rejection> {
    let wrong = || invalid("attachments", "must be a list of { type, url, name, size }");
    let Some(value) = value else { return Ok(Vec::new()) };
    let Value::Array(list) = value else { return Err(wrong()) };
    if list.iter().all(is_attachment) { Ok(list) } else { Err(wrong()) }
}

fn is_attachment(value: &Value) -> bool {
    let Value::Object(object) = value else { return false };
    let text = |key: &str| object.get(key).is_none_or(|value| value.is_string() || value.is_null());
    let url = object.get("url").and_then(Value::as_str).is_some_and(|url| !url.is_empty());
    let size =
        object.get("size").is_none_or(|size| size.is_null() || size.as_f64().is_some_and(|n| n >= 0.0));
    url && text("type") && text("name") && size
}
