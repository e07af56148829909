//! Chats: who may be in one, entering and leaving, typing. What is said there is in `chat_message` and `chat_read`.
//!
//! Clients never had to enter a chat: the chats of the token are entered at connect, any other with the first event that names it
//! and is permitted.

use domain::{Identity, Rejection, RoomId, Rule};
use serde_json::{Value, json};

use super::asked::done;
use super::payload::{Named, invalid};
use super::{Ask, Messenger};
use crate::{Action, Actions, Command, Delivery, Emission, Join, Out, TypingSignal};

const PREFIX: &str = "chat:";

/// A chat that a payload names, and that the user may be in.
#[derive(Clone, Debug, PartialEq)]
pub struct Chat {
    pub room: RoomId,
    /// The id as the client wrote it.
    pub wire_id: Value,
}

pub fn is_chat(room: &str) -> bool {
    room.starts_with(PREFIX)
}

/// Administrators of a chat may delete what others wrote: role `admin`, or the claim `chatAdmin` names the chat.
pub fn administrators() -> Vec<Rule> {
    let rule = |roles: &[&str], claim: Option<&str>| Rule {
        room: format!("{PREFIX}*"),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        claim: claim.map(Into::into),
        own: false,
        any: false,
    };
    vec![rule(&["admin"], None), rule(&[], Some("chatAdmin"))]
}

/// The chats that the token's claim `chats` names, as far as they are entered at connect.
pub fn of_token<'a>(
    dialect: &'a Messenger,
    identity: &'a Identity,
) -> impl Iterator<Item = RoomId> + use<'a> {
    let listed = match identity.claims.get("chats") {
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => &[],
    };
    let mut seen = std::collections::BTreeSet::new();
    let rooms = listed.iter().filter_map(|id| room(&domain::UserId::from_json(id)?));
    let may_enter = |room: &RoomId| dialect.chat.open || dialect.rights.grants(identity, room.as_str());
    rooms.filter(move |room| may_enter(room) && seen.insert(room.clone())).take(dialect.chat.chats_joined)
}

/// Chat ids are bounded as user ids are.
pub fn room(id: &domain::UserId) -> Option<RoomId> {
    RoomId::new(format!("{PREFIX}{id}"))
}

/// `chat:join` `{ chatId }`.
pub fn join(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let chat = ask.chat()?;
    let answer = done(&json!({ "chatId": chat.wire_id }));
    Ok(ask.inside(&chat.room, vec![answer]))
}

/// `chat:leave` `{ chatId }`: nothing of it reaches this socket until an event names the chat again.
pub fn leave(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let chat = ask.chat()?;
    let answer = done(&json!({ "chatId": chat.wire_id }));
    Ok(vec![Action::run(Command::Leave(vec![chat.room])), answer])
}

/// `typing:start`, `typing:stop` `{ chatId, isTyping }`: a start that says `isTyping: false` is a stop.
pub fn typing(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let chat = ask.chat()?;
    let says = match ask.payload.value("isTyping") {
        None => true,
        Some(Value::Bool(says)) => says,
        Some(_) => return Err(invalid("isTyping", "must be true or false")),
    };
    let signal = typing_signal(ask, &chat, ask.inbound.name == "typing:start" && says);
    let answer = done(&json!({ "chatId": chat.wire_id }));
    let asked = ask.asked.clone();
    let said = Action::Run(
        Command::Typing(Box::new(signal)),
        Box::new(move |_, outcome| match outcome {
            Ok(_) => vec![answer],
            Err(rejection) => asked.refuse(&rejection),
        }),
    );
    Ok(ask.inside(&chat.room, vec![said]))
}

fn typing_signal(ask: &Ask<'_>, chat: &Chat, typing: bool) -> TypingSignal {
    let told = |event: &'static str, is_typing: bool| Emission {
        rooms: vec![chat.room.clone()],
        event: event.into(),
        args: Out::json(&json!({
            "chatId": chat.wire_id, "userId": ask.identity.wire_id(), "isTyping": is_typing
        })),
        delivery: Delivery::Ephemeral,
        except_self: true,
    };
    TypingSignal {
        room: chat.room.clone(),
        typing,
        start: told("typing:start", true),
        stop: told("typing:stop", false),
    }
}

impl Ask<'_> {
    /// The chat under `chatId`.
    pub fn chat(&self) -> Result<Chat, Rejection> {
        self.chat_named(self.payload.user("chatId")?)
    }

    /// A chat by its id, if the user may be in it.
    pub fn chat_named(&self, named: Named) -> Result<Chat, Rejection> {
        let room = room(&named.user).ok_or(Rejection::InvalidRoom("the name is too long"))?;
        self.check_chat(&room)?;
        Ok(Chat { room, wire_id: named.wire_id })
    }

    /// The back end's word about this connection counts first.
    pub fn check_chat(&self, room: &RoomId) -> Result<(), Rejection> {
        match self.socket.placed_in(room.as_str()) {
            Some(true) => Ok(()),
            Some(false) => Err(Rejection::RoomDenied),
            None if self.dialect.chat.open => Ok(()),
            None => self.check_right(room.as_str()),
        }
    }

    /// These steps, the socket being in the chat.
    pub fn inside(&self, room: &RoomId, steps: Actions) -> Actions {
        if self.socket.memberships.iter().any(|membership| *membership.room == *room.as_str()) {
            return steps;
        }
        let asked = self.asked.clone();
        let join = Join { room: room.clone(), note: None, participant: None };
        vec![Action::Run(
            Command::Join(vec![join]),
            Box::new(move |_, outcome| match outcome {
                Ok(_) => steps,
                Err(rejection) => asked.refuse(&rejection),
            }),
        )]
    }
}
