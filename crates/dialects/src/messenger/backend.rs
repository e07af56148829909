//! The typed calls of this application's back end: an event or a message in a chat, everyone, who is in a chat.

use domain::call::call_room;
use domain::chat::{Draft, Standing, parse_id};
use domain::{Rejection, RoomId, UserId};
use serde_json::{Value, json};

use super::chat_message::{self, KINDS};
use super::{Messenger, chat, wire};
use crate::backend_body::Body;
use crate::calling::parse_call_id;
use crate::{BackendAction, BackendCall, BackendEmission, BackendVerb, Out, Post, chatting, everyone};

const VERBS: &[BackendVerb] = &[
    BackendVerb {
        name: "send-to-chat",
        summary: "An event to a chat.",
        example: r#"{"chatId":"100","event":"chat:renamed","data":{"chatId":"100","title":"Plans"}}"#,
    },
    BackendVerb {
        name: "send-chat-message",
        summary: "A message in a chat, stored and told as `message:receive`; answered as `posted`.",
        example: r#"{"chatId":"100","message":{"senderId":"bot","content":"Welcome"}}"#,
    },
    BackendVerb {
        name: "emit-to-user",
        summary: "An event on all devices of a user.",
        example: r#"{"userId":"7","event":"profile:updated","data":{}}"#,
    },
    BackendVerb {
        name: "notify-all",
        summary: "An event to everybody who is connected.",
        example: r#"{"event":"notification","data":{"message":"Back at noon"}}"#,
    },
    BackendVerb {
        name: "chat-add",
        summary: "The connected devices of users enter a chat. What lets them in at their next connect is the token or the hook.",
        example: r#"{"chatId":"100","userIds":["7","8"]}"#,
    },
    BackendVerb {
        name: "chat-remove",
        summary: "The connected devices of users leave a chat.",
        example: r#"{"chatId":"100","userIds":["7"]}"#,
    },
];

impl Messenger {
    pub(crate) const VERBS: &'static [BackendVerb] = VERBS;

    pub(crate) fn backend(&self, call: &BackendCall<'_>) -> Result<Vec<BackendAction>, Rejection> {
        let body = Body::of(call)?;
        let emit = |room: RoomId| {
            let emission = BackendEmission { rooms: vec![room], ..body.emission()? };
            Ok(vec![BackendAction::Emit(emission)])
        };
        match call.name {
            "send-to-chat" => emit(named_chat(&body)?.0),
            "emit-to-user" => emit(wire::user_room(&body.id("userId")?.0)),
            "notify-all" => emit(everyone()),
            "send-chat-message" => message(&body),
            "chat-add" => move_users(&body, true),
            "chat-remove" => move_users(&body, false),
            _ => Err(Rejection::UnknownEvent),
        }
    }
}

impl Messenger {
    /// The room behind a name that a back end writes: a call's participants are in one room, by whichever of its three names.
    pub(crate) fn room_named(name: &RoomId) -> RoomId {
        let named =
            ["call:", "video:", "screen:"].iter().find_map(|prefix| name.as_str().strip_prefix(prefix));
        let call = named.and_then(|id| parse_call_id(id).ok());
        call.map_or_else(|| name.clone(), |call| call_room(&call))
    }
}

/// The chat's room, and its id as the back end wrote it.
fn named_chat(body: &Body<'_>) -> Result<(RoomId, Value), Rejection> {
    let (id, wire_id) = body.id("chatId")?;
    let room = chat::room(&id).ok_or(Rejection::InvalidRoom("the name is too long"))?;
    Ok((room, wire_id))
}

fn message(body: &Body<'_>) -> Result<Vec<BackendAction>, Rejection> {
    let (room, chat_id) = named_chat(body)?;
    let message = body.object("message")?;
    let (sender, sender_id) = message.id("senderId")?;
    let attachments = chat_message::attachments(message.read("attachments", "must be a list")?)?;
    let content: Option<String> = message.read("content", "must be a string")?;
    let content = match content {
        None if attachments.is_empty() => {
            return Err(Rejection::InvalidPayload { field: "content", problem: "is missing" });
        }
        content => content.unwrap_or_default(),
    };
    let own_id: Option<Value> = message.read("clientId", "must be a string")?;
    let draft = Draft {
        kind: Some(kind(&message)?.into()),
        reply_to: reply_to(&message, &room)?,
        attachments,
        addressing: [("chatId".to_owned(), chat_id)].into_iter().collect(),
        client_id: chatting::client_id(own_id.as_ref())?,
        ..Draft::new(room.clone(), sender, sender_id, content)
    };
    Ok(vec![BackendAction::Post(Box::new(Post {
        draft,
        rooms: vec![room],
        event: "message:receive".into(),
        args: |message| {
            let body = chat_message::wire(message, Standing::Sent);
            Out::json(&json!({ "message": body, "chatId": chat_message::chat_id(message) }))
        },
        except_self: false,
        receipt: Some(chat_message::delivered),
    }))])
}

fn kind(message: &Body<'_>) -> Result<&'static str, Rejection> {
    const PROBLEM: &str = "must be text, image, file, audio or video";
    let Some(said) = message.read::<String>("type", PROBLEM)? else { return Ok(KINDS[0]) };
    let kind = KINDS.into_iter().find(|kind| **kind == *said);
    kind.ok_or(Rejection::InvalidPayload { field: "type", problem: PROBLEM })
}

fn reply_to(message: &Body<'_>, room: &RoomId) -> Result<Option<u64>, Rejection> {
    const PROBLEM: &str = "must be the id of a message of this chat";
    let Some(id) = message.read::<String>("replyTo", PROBLEM)? else { return Ok(None) };
    match parse_id(&id) {
        Some((n, of)) if of == room.as_str() => Ok(Some(n)),
        _ => Err(Rejection::InvalidPayload { field: "replyTo", problem: PROBLEM }),
    }
}

/// `userIds`, or `userId` for one.
fn move_users(body: &Body<'_>, enter: bool) -> Result<Vec<BackendAction>, Rejection> {
    const MOST: usize = 100;
    let (room, _) = named_chat(body)?;
    let wrong = |problem| Rejection::InvalidPayload { field: "userIds", problem };
    let users = match body.read::<Vec<Value>>("userIds", "must be an array of ids")? {
        None => vec![body.id("userId")?.0],
        Some(ids) if ids.is_empty() || ids.len() > MOST => return Err(wrong("must name 1 to 100 users")),
        Some(ids) => {
            let users: Option<Vec<UserId>> = ids.iter().map(UserId::from_json).collect();
            users.ok_or(wrong("must be an array of ids"))?
        }
    };
    let moved = |user| {
        let (join, leave) = if enter { (vec![room.clone()], vec![]) } else { (vec![], vec![room.clone()]) };
        BackendAction::Move { user, join, leave }
    };
    Ok(users.into_iter().map(moved).collect())
}
