//! `diet`: dietitian and client messaging. Clients join rooms and listen; messages come from the back end (`backend`).
//!
//! Clients of old send no token: then the first `join` says who a connection is ([`Access::Open`]). Ids go out as JSON integers
//! where they are canonical decimal integers: clients compare them with `===`. Start at [`Diet::event`].

mod backend;
pub(crate) mod contract;
mod rights;

use domain::notification::Texts;
use domain::{Identity, Rejection, Rights, RightsError, RoomId, Rule, UserId};
use serde_json::{Map, Value, json};

use crate::number::id_json;
use crate::{
    Action, Actions, Command, Inbound, Join, Out, Refusal, Socket, TokenFailure, everyone, iso, notifying,
};

/// The dialect with its settings.
#[derive(Debug)]
pub struct Diet {
    namespace: Box<str>,
    rights: Rights,
    access: Access,
    texts: Texts,
}

/// Who is let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Who shows a token.
    Token,
    /// Everybody; the first `join` says who it is. With a hook, that one decides about every room.
    Open { hook: bool },
}

impl Diet {
    /// `rules`: rights to `diet_*` rooms; empty: the defaults of [`Diet::default_rules`].
    pub fn new(
        namespace: &str,
        rules: Vec<Rule>,
        access: Access,
        texts: Texts,
    ) -> Result<Self, Vec<RightsError>> {
        let rules = if rules.is_empty() { Self::default_rules() } else { rules };
        Ok(Self { namespace: namespace.into(), rights: Rights::new(rules)?, access, texts })
    }

    /// The claim `diets`. Dietitians have the diets of their clients besides, whatever the rules.
    pub fn default_rules() -> Vec<Rule> {
        let claim = Some("diets".to_owned());
        vec![Rule { room: "diet_*".into(), roles: Vec::new(), claim, own: false, any: false }]
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        *self.namespace == *namespace
    }

    pub(crate) fn refuse_token(&self, failure: TokenFailure) -> Refusal {
        Refusal { message: "Authentication error".into(), data: Some(json!({ "code": failure.code() })) }
    }

    /// Everybody hears what is told to everybody, also before the first `join`. Who has an identity enters those rooms with any
    /// join, so with this one.
    pub(crate) fn connecting(&self, socket: &Socket<'_>) -> Actions {
        let joins = match (self.access, socket.identity) {
            (Access::Token, None) => return vec![Action::Refuse(self.refuse_token(TokenFailure::Missing))],
            (_, Some(_)) => Vec::new(),
            (Access::Open { .. }, None) => vec![Join { room: everyone(), note: None, participant: None }],
        };
        // The edge closes the transport of who could not be let in: a CONNECT_ERROR would stop the client for good.
        let then =
            |outcome: Result<_, Rejection>| outcome.map_or_else(|_| Actions::new(), |_| vec![Action::Accept]);
        vec![Action::Run(Command::Join(joins), Box::new(move |_, outcome| then(outcome)))]
    }

    pub(crate) fn event(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Actions {
        let result = match inbound.name {
            "join" => self.join(socket, inbound),
            "join_diet" => self.join_diet(socket, inbound),
            "leave_diet" => leave_diet(inbound),
            "ping" => Ok(said("pong", inbound.now_ms)),
            name if name.starts_with("notification:") => asked(socket, inbound),
            _ => Err(Rejection::UnknownEvent),
        };
        match result {
            Ok(actions) => actions,
            Err(Rejection::UnknownEvent) if !inbound.wants_ack => Actions::new(),
            Err(Rejection::NotGranted { right }) => vec![ask_hook(inbound, right)],
            Err(rejection) => refuse(inbound.name, inbound.wants_ack, &rejection),
        }
    }

    /// Coming, going and asking for a sign of life are never held against anybody.
    pub(crate) fn is_counted(event: &str) -> bool {
        !matches!(event, "join" | "join_diet" | "leave_diet" | "ping")
    }

    /// One's own room. Without tokens the first one says who this connection is.
    fn join(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
        let user = id(inbound, "userId")?;
        let room = of_user(&user).ok_or(Rejection::InvalidRoom("the id is too long"))?;
        let join = enter(inbound, room.clone(), "joined", "userId", &user);
        match (self.access, socket.identity) {
            (_, Some(identity)) if identity.user == user => Ok(vec![join]),
            (Access::Token, _) | (_, Some(_)) => Err(Rejection::RoomDenied),
            (Access::Open { hook: true }, None) if !socket.is_granted(room.as_str()) => {
                Err(Rejection::NotGranted { right: room.as_str().into() })
            }
            (Access::Open { .. }, None) => Ok(vec![self.identify(inbound, user, join)]),
        }
    }

    fn identify(&self, inbound: &Inbound<'_>, user: UserId, join: Action) -> Action {
        let identity = Identity {
            numeric: id_json(user.as_str()).is_number(),
            user,
            role: None,
            name: None,
            token_id: None,
            expires_at: None,
            claims: Map::new(),
        };
        let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
        Action::Run(
            Command::Identify(Box::new(identity)),
            Box::new(move |_, outcome| match outcome {
                Ok(_) => vec![join],
                Err(rejection) => refuse(&event, wants_ack, &rejection),
            }),
        )
    }

    fn join_diet(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
        let diet = id(inbound, "dietId")?;
        let room = of_diet(&diet).ok_or(Rejection::InvalidRoom("the id is too long"))?;
        let join = enter(inbound, room.clone(), "joined_diet", "dietId", &diet);
        match self.standing(socket, &room, &diet) {
            rights::Standing::Granted => Ok(vec![join]),
            rights::Standing::IfClientOf(clients) => {
                Ok(vec![rights::of_clients(inbound, room, &diet, clients, join)])
            }
            rights::Standing::AskHook => Err(Rejection::NotGranted { right: room.as_str().into() }),
        }
    }
}

/// What is not one's room any more is left, whether or not one was in it.
fn leave_diet(inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
    let diet = id(inbound, "dietId")?;
    let room = of_diet(&diet).ok_or(Rejection::InvalidRoom("the id is too long"))?;
    let answer = Answer::new("left_diet", "dietId", &diet, &room);
    Ok(vec![Action::Run(Command::Leave(vec![room]), Box::new(move |_, _| answer.actions()))])
}

fn asked(socket: &Socket<'_>, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
    let identity = socket.identity.ok_or(Rejection::Unidentified)?;
    notifying::asked(inbound, of_user(&identity.user), refuse)
}

fn enter(inbound: &Inbound<'_>, room: RoomId, event: &'static str, key: &'static str, id: &UserId) -> Action {
    let answer = Answer::new(event, key, id, &room);
    let (name, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
    let join = Join { room, note: None, participant: None };
    Action::Run(
        Command::Join(vec![join]),
        Box::new(move |_, outcome| match outcome {
            Ok(_) => answer.actions(),
            Err(rejection) => refuse(&name, wants_ack, &rejection),
        }),
    )
}

/// `joined`, `joined_diet`, `left_diet`, and the ack of who asked for one.
struct Answer {
    event: &'static str,
    body: Map<String, Value>,
}

impl Answer {
    fn new(event: &'static str, key: &str, id: &UserId, room: &RoomId) -> Self {
        let members = [(key, id_json(id.as_str())), ("room", room.as_str().into())];
        Self { event, body: members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect() }
    }

    fn actions(self) -> Actions {
        let Self { event, mut body } = self;
        let told = Action::emit(event, Out::json(&body));
        body.insert("success".to_owned(), true.into());
        vec![told, Action::Ack(Out::json(&body))]
    }
}

fn said(event: &'static str, now_ms: u64) -> Actions {
    let body = json!({ "timestamp": iso(now_ms) });
    vec![Action::emit(event, Out::json(&body)), Action::Ack(Out::json(&body))]
}

fn ask_hook(inbound: &Inbound<'_>, right: Box<str>) -> Action {
    let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
    Action::AskHook { right, otherwise: Box::new(move |rejection| refuse(&event, wants_ack, rejection)) }
}

/// An error as this application's clients expect it: the event `error`, and the ack where one was asked for.
fn refuse(event: &str, wants_ack: bool, rejection: &Rejection) -> Actions {
    let (message, code) = (rejection.to_string(), rejection.code());
    let body = json!({ "code": code, "message": message, "event": event });
    let mut actions = vec![Action::emit("error", Out::json(&body))];
    if wants_ack {
        actions.push(Action::Ack(Out::json(&json!({ "success": false, "error": message, "code": code }))));
    }
    actions
}

/// The event's only argument: a number or a string. `NaN` arrives as `null`, and is none.
fn id(inbound: &Inbound<'_>, field: &'static str) -> Result<UserId, Rejection> {
    let value = inbound.args.first().and_then(|raw| serde_json::from_str::<Value>(raw.get()).ok());
    let id = value.as_ref().and_then(UserId::from_json);
    id.ok_or(Rejection::InvalidPayload { field, problem: "must be an integer or a non-empty string" })
}

/// The room of all of a user's devices; `None`: its name would be too long.
pub fn of_user(user: &UserId) -> Option<RoomId> {
    RoomId::new(format!("user_{user}"))
}

fn of_diet(diet: &UserId) -> Option<RoomId> {
    RoomId::new(format!("diet_{diet}"))
}

#[cfg(test)]
mod tests;
