//! What happens to messages after they were sent: `message:history`, `message:read`; and `typing:start`, `typing:stop`.

use std::borrow::Cow;

use domain::chat::{Page, Standing, parse_id};
use domain::{Identity, Rejection, RoomId};
use serde_json::{Map, Value, json};

use super::message::{delivered, status, wire};
use super::{Telehealth, refuse, required, text};
use crate::chatting::{bound, page_limit};
use crate::{
    Action, Actions, Command, Delivery, Emission, Inbound, MarkRead, Out, Outcome, Reader, Socket,
    TypingSignal,
};

impl Telehealth {
    /// The newest messages, those before one, or those after one; oldest first.
    pub(super) fn message_history(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        let mut payload: Map<String, Value> = inbound.object()?;
        let bounds = [bound(payload.get("before"), "before")?, bound(payload.get("after"), "after")?];
        let named = bounds.iter().flatten().find_map(|(_, room)| *room).map(str::to_owned);
        let bounds = bounds.map(|bound| bound.map(|(n, _)| n));
        let addressed = ["roomId", "visitId", "recipientId"];
        let nowhere = addressed.iter().all(|key| payload.get(*key).is_none_or(Value::is_null));
        if let (true, Some(room)) = (nowhere, &named) {
            payload.insert("roomId".into(), room.clone().into());
        }
        let room = self.audience(socket, identity, &payload)?.home;
        if named.is_some_and(|named| self.home_of(socket, identity, &named).as_ref() != Ok(&room)) {
            return Err(Rejection::InvalidPayload {
                field: "before",
                problem: "is a message of another room",
            });
        }
        let [before, after] = bounds;
        let page = Page { before, after, limit: page_limit(payload.get("limit"), self.chat.history_page)? };
        let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
        Ok(vec![Action::Run(
            Command::History { room, page, receipt: delivered },
            Box::new(move |_, outcome| match outcome {
                Ok(Outcome::History(history)) => {
                    let marks = &history.marks;
                    let messages: Vec<Value> =
                        history.messages.iter().map(|it| wire(it, marks.standing(it))).collect();
                    let body = json!({ "success": true, "messages": messages, "hasMore": history.has_more });
                    vec![Action::Ack(Out::json(&body))]
                }
                Err(rejection) => refuse(&event, wants_ack, &rejection),
                _ => Actions::new(),
            }),
        )])
    }

    /// With a message all before it are read; who sent those that are named is told.
    pub(super) fn message_read(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        let payload: Map<String, Value> = inbound.object()?;
        required(&payload, "messageId")?;
        let (n, name) = parse_id(text(&payload, "messageId")?).ok_or(Rejection::InvalidPayload {
            field: "messageId",
            problem: "must be the id of a message",
        })?;
        let room = self.home_of(socket, identity, name)?;
        let reader =
            Reader { user: identity.user.clone(), wire_id: identity.wire_id(), at_ms: inbound.now_ms };
        let read =
            MarkRead { room, ns: vec![n], reader, tell: |message, _| Some(status(message, Standing::Read)) };
        let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
        let id = payload.get("messageId").cloned();
        Ok(vec![Action::Run(
            Command::MarkRead(Box::new(read)),
            Box::new(move |_, outcome| match outcome {
                Ok(_) => vec![Action::Ack(Out::json(&json!({ "success": true, "messageId": id })))],
                Err(rejection) => refuse(&event, wants_ack, &rejection),
            }),
        )])
    }

    pub(super) fn typing(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        let payload: Map<String, Value> = inbound.object()?;
        let asked = text(&payload, "roomId")?;
        let room = self.permitted(socket, identity, asked)?.id;
        let args = Out::json(&json!({ "roomId": room, "userId": identity.wire_id(), "role": identity.role }));
        let told = |event| Emission {
            rooms: vec![room.clone()],
            event: Cow::Borrowed(event),
            args: args.clone(),
            delivery: Delivery::Ephemeral,
            except_self: true,
        };
        let signal = TypingSignal {
            typing: inbound.name == "typing:start",
            start: told("typing:start"),
            stop: told("typing:stop"),
            room,
        };
        let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
        Ok(vec![Action::Run(
            Command::Typing(Box::new(signal)),
            Box::new(move |_, outcome| match outcome {
                Ok(_) => vec![Action::Ack(Out::json(&json!({ "success": true })))],
                Err(rejection) => refuse(&event, wants_ack, &rejection),
            }),
        )])
    }

    /// The room that a message's id names, if the user may be there.
    fn home_of(&self, socket: &Socket<'_>, identity: &Identity, name: &str) -> Result<RoomId, Rejection> {
        self.permitted(socket, identity, name).map(|room| room.id)
    }
}
