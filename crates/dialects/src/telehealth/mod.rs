//! `telehealth`: remote visits. Rooms, messages with their history and status, typing, calls of two, presence; acks everywhere.
//!
//! Start at [`Telehealth::event`] for what clients say; what the coordinator announces stands in `announce` and `presence`.
//! Notifications stand in `notifications`, what back ends call in `backend`.

mod announce;
mod backend;
mod calls;
pub(crate) mod contract;
mod history;
mod message;
mod notifications;
mod presence;
mod rooms;

use std::borrow::Cow;

use domain::chat::ChatSettings;
use domain::{ChatLimits, Identity, Rejection, Rights, RightsError, RoomId, Rule};
use serde_json::{Map, Value, json};

use crate::calling;
use crate::{
    Action, Actions, Command, Delivery, Emission, Inbound, Join, Out, Outcome, Realtime, Refusal, Socket,
    TokenFailure,
};
use rooms::Room;

/// The dialect with its settings.
#[derive(Debug)]
pub struct Telehealth {
    namespace: Box<str>,
    rights: Rights,
    limits: ChatLimits,
    chat: ChatSettings,
    realtime: Realtime,
}

impl Telehealth {
    /// `rules`: rights to `visit:*`, `call:*` and `topic:*` rooms and to see `presence:*`; empty: the defaults of
    /// [`Telehealth::default_rules`].
    pub fn new(
        namespace: &str,
        rules: Vec<Rule>,
        limits: ChatLimits,
        realtime: Realtime,
    ) -> Result<Self, Vec<RightsError>> {
        let rules = if rules.is_empty() { Self::default_rules() } else { rules };
        Ok(Self {
            namespace: namespace.into(),
            rights: Rights::new(rules)?,
            limits,
            chat: ChatSettings::default(),
            realtime,
        })
    }

    /// With settings of the chat other than the defaults.
    #[must_use]
    pub fn with_chat(self, chat: ChatSettings) -> Self {
        Self { chat, ..self }
    }

    /// Visits and calls by the claim `visits`; topics and everybody's presence for everyone who is authenticated.
    pub fn default_rules() -> Vec<Rule> {
        let rule = |room: &str, claim: Option<&str>| Rule {
            room: room.into(),
            roles: Vec::new(),
            claim: claim.map(Into::into),
            own: false,
            any: claim.is_none(),
        };
        vec![
            rule("visit:*", Some("visits")),
            rule("call:*", Some("visits")),
            rule("topic:*", None),
            rule("presence:*", None),
        ]
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        *self.namespace == *namespace
    }

    pub(crate) fn realtime(&self) -> &Realtime {
        &self.realtime
    }

    pub(crate) fn chat_limits(&self) -> ChatLimits {
        self.limits
    }

    /// Clients compare the two messages word for word; `data.code` tells the cases apart.
    pub(crate) fn refuse_token(&self, failure: TokenFailure) -> Refusal {
        let message = match failure {
            TokenFailure::Expired => "Authentication error: Token expired",
            _ => "Authentication error: Invalid token",
        };
        Refusal { message: message.into(), data: Some(json!({ "code": failure.code() })) }
    }

    /// Joins the user's own room first, so that nothing addressed to the user is missed after `connected`; a call that begins to
    /// ring in between may be told twice.
    pub(crate) fn connecting(&self, socket: &Socket<'_>) -> Actions {
        let Some(identity) = socket.identity else {
            return vec![Action::Refuse(self.refuse_token(TokenFailure::Missing))];
        };
        let Some(own) = rooms::personal(&identity.user) else {
            return vec![Action::Refuse(self.refuse_token(TokenFailure::Invalid))];
        };
        let join = Join { room: own, note: None, participant: None };
        vec![Action::Run(
            Command::Join(vec![join]),
            Box::new(|socket, outcome| match (outcome, socket.identity) {
                (Ok(_), Some(identity)) => vec![
                    Action::Accept,
                    Action::emit(
                        "connected",
                        Out::json(&json!({ "socketId": socket.id, "userId": identity.wire_id() })),
                    ),
                    calls::catch_up(),
                ],
                // The edge closes the transport for this one: a CONNECT_ERROR would stop the client for good.
                _ => vec![],
            }),
        )]
    }

    pub(crate) fn event(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Actions {
        let Some(identity) = socket.identity else { return Actions::new() };
        let result = check_speaker(identity, inbound).and_then(|()| self.answer(socket, identity, inbound));
        match result {
            Ok(actions) => actions,
            Err(Rejection::UnknownEvent) if !inbound.wants_ack => Actions::new(),
            Err(Rejection::NotGranted { right }) => {
                let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
                let otherwise = move |rejection: &Rejection| refuse(&event, wants_ack, rejection);
                vec![Action::AskHook { right, otherwise: Box::new(otherwise) }]
            }
            Err(rejection) => refuse(inbound.name, inbound.wants_ack, &rejection),
        }
    }

    fn answer(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        match inbound.name {
            "room:join" => self.room_join(socket, identity, inbound),
            "room:leave" => self.room_leave(socket, identity, inbound),
            "message:send" => self.message_send(socket, identity, inbound),
            "message:history" => self.message_history(socket, identity, inbound),
            "message:read" => self.message_read(socket, identity, inbound),
            "typing:start" | "typing:stop" => self.typing(socket, identity, inbound),
            name if name.starts_with("call:") => self.call_event(socket, identity, inbound),
            name if name.starts_with("notification:") => self.notification_event(identity, inbound),
            name if name.starts_with("presence:") => self.presence_event(identity, inbound),
            _ => Err(Rejection::UnknownEvent),
        }
    }

    /// Everybody who saw the participant come is told that it went.
    pub(crate) fn disconnected(&self, socket: &Socket<'_>) -> Actions {
        let Some(identity) = socket.identity else { return Actions::new() };
        let visible =
            socket.memberships.iter().filter(|m| !rooms::is_hidden(&m.room) && !rooms::is_personal(&m.room));
        visible
            .filter_map(|m| RoomId::new(m.room.clone()))
            .map(|room| Action::run(Command::Emit(announcement("room:userLeft", identity, &room))))
            .collect()
    }

    fn room_join(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        let payload: Map<String, Value> = inbound.object()?;
        let asked = text(&payload, "roomId")?;
        let room = self.permitted(socket, identity, asked)?;
        let metadata = match payload.get("metadata") {
            None | Some(Value::Null) => None,
            Some(Value::Object(metadata)) => Some(metadata),
            Some(_) => {
                return Err(Rejection::InvalidPayload { field: "metadata", problem: "must be an object" });
            }
        };
        let visit = metadata.and_then(|m| id_text(m, "visitId").transpose()).transpose()?;
        let mut joins = vec![Join {
            room: room.id.clone(),
            note: visit.as_deref().map(Into::into),
            participant: (!rooms::is_personal(room.id.as_str())).then(|| rooms::participant(identity)),
        }];
        if let Some(visit) = visit {
            self.permitted(socket, identity, &format!("visit:{visit}"))?;
            joins.push(Join { room: rooms::of_visit_members(&visit)?, note: None, participant: None });
        }
        let before = socket.memberships.iter().find(|m| *m.room == *room.id.as_str());
        let news = before.is_none();
        let old_visit =
            before.and_then(|m| m.note.clone()).filter(|old| Some(&**old) != joins[0].note.as_deref());
        let forsaken = old_visit.filter(|old| !noted_elsewhere(socket, &room.id, old));
        let forsaken = forsaken.map(|old| rooms::of_visit_members(&old)).transpose()?;
        let announce = news && joins[0].participant.is_some();
        let (event, wants_ack, asked) = (inbound.name.to_owned(), inbound.wants_ack, asked.to_owned());
        Ok(vec![Action::Run(
            Command::Join(joins),
            Box::new(move |socket, outcome| match (outcome, socket.identity) {
                (Ok(Outcome::Joined { participants }), Some(identity)) => {
                    let list: Vec<Value> = participants.iter().map(rooms::participant_json).collect();
                    let mut actions = vec![Action::Ack(Out::json(
                        &json!({ "success": true, "roomId": asked, "participants": list }),
                    ))];
                    actions.extend(forsaken.map(|room| Action::run(Command::Leave(vec![room]))));
                    if announce {
                        actions.push(Action::run(Command::Emit(announcement(
                            "room:userJoined",
                            identity,
                            &room.id,
                        ))));
                    }
                    actions
                }
                (Err(rejection), _) => refuse(&event, wants_ack, &rejection),
                _ => Actions::new(),
            }),
        )])
    }

    fn room_leave(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        let payload: Map<String, Value> = inbound.object()?;
        let asked = text(&payload, "roomId")?.to_owned();
        let room = Room::parse(&asked)?.id;
        let Some(membership) = socket.memberships.iter().find(|m| *m.room == *room.as_str()) else {
            // Who may not enter is not told more.
            return self.permitted(socket, identity, &asked).and(Err(Rejection::NotMember));
        };
        let mut leaving = vec![room.clone()];
        if let Some(visit) = membership.note.as_deref().filter(|visit| !noted_elsewhere(socket, &room, visit))
        {
            leaving.push(rooms::of_visit_members(visit)?);
        }
        let news = announcement("room:userLeft", identity, &room);
        Ok(vec![
            Action::Run(
                Command::Leave(leaving),
                Box::new(move |_, _| {
                    vec![Action::Ack(Out::json(&json!({ "success": true, "roomId": asked })))]
                }),
            ),
            Action::run(Command::Emit(news)),
        ])
    }

    /// The canonical room behind a name, if the user may enter it and send to it. `call:{callId}` is open to the devices in that
    /// call while they are. Of rooms with rules, what no rule grants the application's hook may. What the back end has said about
    /// this connection counts first; it opens nothing that belongs to others.
    fn permitted(&self, socket: &Socket<'_>, identity: &Identity, name: &str) -> Result<Room, Rejection> {
        let room = Room::parse(name)?;
        let placed = socket.placed_in(room.id.as_str());
        if placed == Some(false) {
            return Err(Rejection::RoomDenied);
        }
        let granted = match &room.kind {
            rooms::Kind::Chat(a, b) => [a, b].into_iter().any(|user| **user == *identity.user.as_str()),
            rooms::Kind::Personal(owner) => **owner == *identity.user.as_str(),
            rooms::Kind::ByRule => {
                let granted = placed == Some(true)
                    || self.rights.grants(identity, name)
                    || is_own_call(socket, name)
                    || socket.is_granted(name);
                return if granted { Ok(room) } else { Err(Rejection::NotGranted { right: name.into() }) };
            }
        };
        if granted { Ok(room) } else { Err(Rejection::RoomDenied) }
    }
}

/// Who one is the token says. A payload that says somebody else is refused: `userId` of any event that is one's own doing, the sender of
/// a message, the caller of a call.
fn check_speaker(identity: &Identity, inbound: &Inbound<'_>) -> Result<(), Rejection> {
    let fields: &[&'static str] = match inbound.name {
        "message:send" => &["userId", "senderId"],
        "call:initiate" => &["userId", "callerId"],
        // These speak of others, too.
        "call:signal" => &[],
        _ => &["userId"],
    };
    let text = inbound.args.first().map_or("", |raw| raw.get());
    let mut named = fields.iter().filter(|field| text.contains(**field)).peekable();
    if named.peek().is_none() {
        return Ok(());
    }
    // What is no object, each event refuses in its own words.
    let Ok(payload) = inbound.object::<Map<String, Value>>() else { return Ok(()) };
    let says_other = |field: &&&'static str| {
        let said = payload.get(**field).and_then(domain::UserId::from_json);
        said.is_some_and(|user| user != identity.user)
    };
    match named.find(|field| says_other(field)) {
        Some(field) => Err(Rejection::InvalidPayload { field, problem: "is another user's" }),
        None => Ok(()),
    }
}

/// Whether another of the socket's rooms names the visit.
fn noted_elsewhere(socket: &Socket<'_>, room: &RoomId, visit: &str) -> bool {
    socket.memberships.iter().any(|m| *m.room != *room.as_str() && m.note.as_deref() == Some(visit))
}

/// Whether the room is `call:` and the id of a call that the socket's device is in.
fn is_own_call(socket: &Socket<'_>, room: &str) -> bool {
    room.strip_prefix("call:").is_some_and(|call| calling::seat_in(socket, call).is_ok())
}

/// An error as this application's clients expect it: in the ack where one was asked for, as event `error` otherwise.
fn refuse(event: &str, wants_ack: bool, rejection: &Rejection) -> Actions {
    let (message, code) = (rejection.to_string(), rejection.code());
    if wants_ack {
        vec![Action::Ack(Out::json(&json!({ "success": false, "error": message, "code": code })))]
    } else {
        vec![Action::emit("error", Out::json(&json!({ "message": message, "code": code, "event": event })))]
    }
}

fn announcement(event: &'static str, identity: &Identity, room: &RoomId) -> Emission {
    let args = Out::json(&json!({ "roomId": room, "userId": identity.wire_id(), "role": identity.role }));
    Emission {
        rooms: vec![room.clone()],
        event: Cow::Borrowed(event),
        args,
        delivery: Delivery::Recoverable,
        except_self: true,
    }
}

/// A text field that must be there.
fn text<'a>(payload: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, Rejection> {
    required(payload, field)?.as_str().ok_or(Rejection::InvalidPayload { field, problem: "must be a string" })
}

/// A field that must be there.
fn required<'a>(payload: &'a Map<String, Value>, field: &'static str) -> Result<&'a Value, Rejection> {
    payload.get(field).ok_or(Rejection::InvalidPayload { field, problem: "is missing" })
}

/// An id that may be absent, as text; `null` counts as absent.
fn id_text(payload: &Map<String, Value>, field: &'static str) -> Result<Option<String>, Rejection> {
    match payload.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match domain::UserId::from_json(value) {
            Some(id) => Ok(Some(id.as_str().to_owned())),
            None => {
                Err(Rejection::InvalidPayload { field, problem: "must be a non-empty string or an integer" })
            }
        },
    }
}

#[cfg(test)]
mod tests;
