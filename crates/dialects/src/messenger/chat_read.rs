//! `message:read`, `message:history`, `message:unread`.

use domain::chat::{Page, parse_id};
use domain::{Rejection, RoomId};
use serde_json::{Map, Value, json};

use super::Ask;
use super::asked::done;
use super::chat::{Chat, is_chat};
use super::chat_message::{chat_id, delivered, named, to_chat, wire};
use super::payload::{Named, invalid};
use crate::chatting::{bound, page_limit};
use crate::time::iso8601;
use crate::{Action, Actions, Command, MarkRead, Outcome, Reader};

/// `messageId` or `messageIds`, all of one chat. With a message all before it are read; the chat is told of those named that were
/// not read before.
pub fn read(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let ids = ids(ask)?;
    let mut found = ids.iter().map(|id| named(ask, id.clone())).collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    found.dedup();
    let room = found[0].1.clone();
    if found.iter().any(|(_, other)| *other != room) {
        return Err(invalid("messageIds", "must be of one chat"));
    }
    let read = MarkRead {
        room: room.clone(),
        ns: found.into_iter().map(|(n, _)| n).collect(),
        reader: Reader {
            user: ask.identity.user.clone(),
            wire_id: ask.identity.wire_id(),
            at_ms: ask.inbound.now_ms,
        },
        tell: |message, reader| {
            let body = json!({
                "chatId": chat_id(message), "messageId": message.id(),
                "userId": reader.wire_id, "readAt": iso8601(reader.at_ms)
            });
            Some(to_chat(message, "message:read", &body))
        },
    };
    let body = match &ids[..] {
        [one] => json!({ "messageId": one }),
        _ => json!({ "messageIds": ids }),
    };
    let asked = ask.asked.clone();
    let mark = Action::Run(
        Command::MarkRead(Box::new(read)),
        Box::new(move |_, outcome| match outcome {
            Ok(_) => vec![done(&body)],
            Err(rejection) => asked.refuse(&rejection),
        }),
    );
    Ok(ask.inside(&room, vec![mark]))
}

fn ids(ask: &Ask<'_>) -> Result<Vec<String>, Rejection> {
    let Some(list) = ask.payload.value("messageIds") else { return Ok(vec![ask.payload.text("messageId")?]) };
    let most = ask.dialect.chat.history_page;
    match list {
        Value::Array(list) if list.len() > most => {
            let limit = most as u64;
            Err(Rejection::OverLimit { what: "number of messages", limit, setting: "chat.history_page" })
        }
        Value::Array(list) if !list.is_empty() => {
            let texts = list.into_iter().map(|id| match id {
                Value::String(id) => Ok(id),
                _ => Err(invalid("messageIds", "must hold ids of messages")),
            });
            texts.collect()
        }
        _ => Err(invalid("messageIds", "must be a list of ids of messages")),
    }
}

/// The newest messages, those before one, or those after one; oldest first.
pub fn history(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let (before, after) = (ask.payload.value("before"), ask.payload.value("after"));
    let bounds = [bound(before.as_ref(), "before")?, bound(after.as_ref(), "after")?];
    let room = match ask.payload.user_if_any("chatId")? {
        Some(chat) => ask.chat_named(chat)?.room,
        None => room_of(ask, [&before, &after])?,
    };
    if bounds.iter().flatten().any(|(_, named)| named.is_some_and(|named| named != room.as_str())) {
        return Err(invalid("before", "is a message of another chat"));
    }
    let [before, after] = bounds.map(|bound| bound.map(|(n, _)| n));
    let limit = page_limit(ask.payload.value("limit").as_ref(), ask.dialect.chat.history_page)?;
    let asked = ask.asked.clone();
    let history = Action::Run(
        Command::History { room: room.clone(), page: Page { before, after, limit }, receipt: delivered },
        Box::new(move |_, outcome| match outcome {
            Ok(Outcome::History(history)) => {
                let marks = &history.marks;
                let messages: Vec<Value> =
                    history.messages.iter().map(|it| wire(it, marks.standing(it))).collect();
                vec![done(&json!({ "messages": messages, "hasMore": history.has_more }))]
            }
            Ok(_) => asked.refuse(&Rejection::Unavailable),
            Err(rejection) => asked.refuse(&rejection),
        }),
    );
    Ok(ask.inside(&room, vec![history]))
}

/// Without `chatId` a bound's id says which chat it is.
fn room_of(ask: &Ask<'_>, bounds: [&Option<Value>; 2]) -> Result<RoomId, Rejection> {
    let ids = bounds.into_iter().filter_map(|bound| parse_id(bound.as_ref()?.as_str()?));
    let room = ids.map(|(_, room)| room).find(|room| is_chat(room)).and_then(RoomId::new);
    let room = room.ok_or(invalid("chatId", "is missing"))?;
    ask.check_chat(&room)?;
    Ok(room)
}

/// The chats named, or those of the token.
pub fn unread(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let named = match ask.payload.value("chatIds") {
        Some(_) => ask.payload.users("chatIds")?,
        None => own_chats(ask),
    };
    let most = ask.dialect.chat.unread_rooms;
    if named.len() > most {
        let limit = most as u64;
        return Err(Rejection::OverLimit { what: "number of chats", limit, setting: "chat.unread_rooms" });
    }
    let chats = named.into_iter().map(|it| ask.chat_named(it)).collect::<Result<Vec<Chat>, _>>()?;
    let ids: Vec<String> = chats.iter().map(|chat| key(&chat.wire_id)).collect();
    let asked = ask.asked.clone();
    Ok(vec![Action::Run(
        Command::Unread(chats.into_iter().map(|chat| chat.room).collect()),
        Box::new(move |_, outcome| match outcome {
            Ok(Outcome::Unread(counts)) => {
                let unread: Map<String, Value> =
                    ids.into_iter().zip(counts).map(|(id, n)| (id, n.into())).collect();
                vec![done(&json!({ "unread": unread }))]
            }
            Ok(_) => asked.refuse(&Rejection::Unavailable),
            Err(rejection) => asked.refuse(&rejection),
        }),
    )])
}

/// The chats that this socket is in, as far as one question goes.
fn own_chats(ask: &Ask<'_>) -> Vec<Named> {
    let rooms = ask.socket.memberships.iter().map(|membership| &*membership.room);
    let ids = rooms.filter_map(|room| domain::UserId::new(room.strip_prefix("chat:")?));
    let named = ids.map(|user| Named { wire_id: user.as_str().into(), user });
    named.filter(|chat| ask.chat_named(chat.clone()).is_ok()).take(ask.dialect.chat.unread_rooms).collect()
}

/// A key of a JSON object is a string.
fn key(id: &Value) -> String {
    id.as_str().map_or_else(|| id.to_string(), str::to_owned)
}
