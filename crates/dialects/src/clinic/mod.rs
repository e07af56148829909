//! `clinic`: events of a laboratory's back office. Its back end tells, its clients listen: in their own room, in their role's, and in
//! those of entities they subscribe to.
//!
//! Start at [`Clinic::event`] for what clients say and at `backend` for what the back end tells; `feeds` gives administrators the
//! audit feed, and clients that come back what the catalogue has seen meanwhile.

mod backend;
pub(crate) mod contract;
mod feeds;
mod rooms;
mod settings;

use domain::{Identity, Rejection, Rights, RightsError, RoomId, Rule};
use serde_json::{Map, Value, json};

pub use settings::ClinicSettings;

use crate::number::id_json;
use crate::time::iso8601;
use crate::{
    Action, Actions, Audience, BackendAction, BackendCall, BackendVerb, Command, FeedSpec, Inbound, Join,
    Out, Outcome, Refusal, Socket, Token, TokenFailure, everyone,
};
use rooms::Entity;

/// A subscription that the application's hook has granted, noted with its room.
const BY_HOOK: &str = "hook";

/// The dialect with its settings.
#[derive(Debug)]
pub struct Clinic {
    namespace: Box<str>,
    rights: Rights,
    settings: ClinicSettings,
}

impl Clinic {
    /// `rules`: rights to the `entity:*` rooms of private entities; empty: the defaults of [`Clinic::default_rules`].
    pub fn new(
        namespace: &str,
        rules: Vec<Rule>,
        settings: ClinicSettings,
    ) -> Result<Self, Vec<RightsError>> {
        let rules = if rules.is_empty() { Self::default_rules(&settings) } else { rules };
        Ok(Self { namespace: namespace.into(), rights: Rights::new(rules)?, settings })
    }

    /// Administrators and doctors: everything. Everybody: oneself, and what the token lists.
    pub fn default_rules(settings: &ClinicSettings) -> Vec<Rule> {
        let rule =
            |room: &str| Rule { room: room.into(), roles: Vec::new(), claim: None, own: false, any: false };
        let staff = vec![settings.administrator.clone(), settings.doctor.clone()];
        let listed = [("result", "results"), ("appointment", "appointments")];
        let by_claim = listed
            .map(|(entity, claim)| Rule { claim: Some(claim.into()), ..rule(&format!("entity:{entity}:*")) });
        let own = ["patient", "user"].map(|entity| Rule { own: true, ..rule(&format!("entity:{entity}:*")) });
        [Rule { roles: staff, ..rule("entity:*") }].into_iter().chain(by_claim).chain(own).collect()
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        *self.namespace == *namespace
    }

    pub(crate) fn feeds(&self) -> Vec<FeedSpec> {
        feeds::specs(&self.settings)
    }

    pub(crate) fn backend(&self, call: &BackendCall<'_>) -> Result<Vec<BackendAction>, Rejection> {
        backend::translate(&self.settings, call)
    }

    pub(crate) fn backend_verbs() -> &'static [BackendVerb] {
        backend::VERBS
    }

    pub(crate) fn room_of(audience: &Audience) -> Option<RoomId> {
        match audience {
            Audience::Room(room) => Some(room.clone()),
            Audience::Everyone => Some(everyone()),
            Audience::Role(role) => rooms::of_role(role).ok(),
            Audience::User(user) => Some(rooms::of_user(user)),
        }
    }

    /// One message for all cases; `data.code` tells them apart.
    pub(crate) fn refuse_token(&self, failure: TokenFailure) -> Refusal {
        Refusal { message: "Unauthorized".into(), data: Some(json!({ "code": failure.code() })) }
    }

    /// Joins what is everybody's own first, so that nothing told after `connected` is missed.
    pub(crate) fn connecting(&self, socket: &Socket<'_>) -> Actions {
        let Some(identity) = socket.identity else {
            return vec![Action::Refuse(self.refuse_token(TokenFailure::Missing))];
        };
        let Ok(own) = own_rooms(identity) else {
            return vec![Action::Refuse(self.refuse_token(TokenFailure::Invalid))];
        };
        let history = self.is_administrator(identity).then(|| feeds::audit_at_connect(&self.settings));
        vec![Action::Run(
            Command::Join(own.into_iter().map(join).collect()),
            Box::new(move |socket, outcome| match (outcome, socket.identity) {
                (Ok(_), Some(identity)) => {
                    let connected = Action::emit("connected", Out::json(&welcome(identity)));
                    [Action::Accept, connected].into_iter().chain(history).collect()
                }
                // The edge closes the transport for this one: a CONNECT_ERROR would stop the client for good.
                _ => Actions::new(),
            }),
        )]
    }

    pub(crate) fn event(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Actions {
        let Some(identity) = socket.identity else { return Actions::new() };
        let result = match inbound.name {
            "ping" => Ok(pong(identity, inbound.now_ms)),
            "subscribe" => self.subscribe(socket, identity, inbound),
            "unsubscribe" => unsubscribe(inbound),
            "authenticate" => self.authenticate(identity, inbound),
            "admin:events" if self.is_administrator(identity) => feeds::audit(&self.settings, inbound),
            "admin:events" => Err(Rejection::RoomDenied),
            "catalog:sync" => feeds::sync_catalog(&self.settings, inbound),
            _ => Err(Rejection::UnknownEvent),
        };
        match result {
            Ok(actions) => actions,
            Err(Rejection::NotGranted { right }) => {
                let asked = Asked::of(inbound);
                vec![Action::AskHook { right, otherwise: Box::new(move |rejection| asked.refuse(rejection)) }]
            }
            Err(rejection) => Asked::of(inbound).refuse(&rejection),
        }
    }

    pub(crate) fn is_administrator(&self, identity: &Identity) -> bool {
        identity.role.as_deref() == Some(&*self.settings.administrator)
    }

    fn subscribe(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        let entity = Entity::read(&inbound.object()?)?;
        let room = entity.room()?;
        let by_hook = socket.is_granted(room.as_str());
        if !self.may_hear(identity, &entity, &room) && !by_hook {
            return Err(Rejection::NotGranted { right: room.as_str().into() });
        }
        let asked = Asked::of(inbound);
        let note = by_hook.then(|| BY_HOOK.into());
        Ok(vec![Action::Run(
            Command::Join(vec![Join { room, note, participant: None }]),
            Box::new(move |_, outcome| match outcome {
                Ok(_) => asked.done("subscribed", entity.json()),
                Err(rejection) => asked.refuse(&rejection),
            }),
        )])
    }

    /// Whether an entity's events are for this user, as far as the rules know.
    fn may_hear(&self, identity: &Identity, entity: &Entity, room: &RoomId) -> bool {
        let is_private = self.settings.private_entities.iter().any(|name| **name == *entity.name);
        !is_private || self.rights.grants(identity, room.as_str())
    }

    /// A further token of the same user. What it says about the user's role and rights counts from now on.
    fn authenticate(&self, identity: &Identity, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
        let payload: Map<String, Value> = inbound.object()?;
        let token =
            payload.get("token").and_then(Value::as_str).ok_or(invalid("token", "must be a string"))?;
        let (asked, role_before) = (Asked::of(inbound), identity.role.clone());
        let (rights, private) = (self.rights.clone(), self.settings.private_entities.clone());
        Ok(vec![Action::Run(
            Command::Verify { token: Token(token.to_owned()) },
            Box::new(move |socket, outcome| match outcome {
                Ok(Outcome::Verified(identity)) => {
                    let keeps = |room: &str, note: Option<&str>| {
                        let Some(entity) = Entity::of_room(room) else { return true };
                        let is_private = private.iter().any(|name| **name == *entity.name);
                        let by_hook = note == Some(BY_HOOK) && identity.role == role_before;
                        !is_private || by_hook || rights.grants(&identity, room)
                    };
                    moved(socket, &identity, role_before.as_deref(), keeps, &asked)
                }
                Ok(_) => asked.refuse(&Rejection::Unavailable),
                Err(rejection) => asked.refuse(&rejection),
            }),
        )])
    }
}

/// Leaves what the new token gives no right to, and enters its role's room; then the client has its answer.
fn moved(
    socket: &Socket<'_>,
    identity: &Identity,
    role_before: Option<&str>,
    keeps: impl Fn(&str, Option<&str>) -> bool,
    asked: &Asked,
) -> Actions {
    let mut leaving: Vec<RoomId> = Vec::new();
    let mut actions = Actions::new();
    for membership in socket.memberships.iter().filter(|it| !keeps(&it.room, it.note.as_deref())) {
        leaving.extend(RoomId::new(membership.room.clone()));
        let lost = Entity::of_room(&membership.room).map(|entity| Value::from(entity.json()));
        actions.extend(lost.map(|body| Action::emit("unsubscribed", Out::json(&body))));
    }
    let is_new_role = identity.role.as_deref() != role_before;
    if is_new_role {
        leaving.extend(role_before.and_then(|role| rooms::of_role(role).ok()));
    }
    if !leaving.is_empty() {
        actions.insert(0, Action::run(Command::Leave(leaving)));
    }
    let answer = authenticated(identity);
    let entered = identity.role.as_deref().filter(|_| is_new_role).and_then(|role| rooms::of_role(role).ok());
    match entered {
        None => actions.extend(asked.clone().done("authenticated", answer)),
        Some(role) => {
            let asked = asked.clone();
            actions.push(Action::Run(
                Command::Join(vec![join(role)]),
                Box::new(move |_, outcome| match outcome {
                    Ok(_) => asked.done("authenticated", answer),
                    Err(rejection) => asked.refuse(&rejection),
                }),
            ));
        }
    }
    actions
}

fn unsubscribe(inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
    let entity = Entity::read(&inbound.object()?)?;
    let (room, asked) = (entity.room()?, Asked::of(inbound));
    Ok(vec![Action::Run(
        Command::Leave(vec![room]),
        Box::new(move |_, outcome| match outcome {
            Ok(_) => asked.done("unsubscribed", entity.json()),
            Err(rejection) => asked.refuse(&rejection),
        }),
    )])
}

/// What is told in these everybody hears without asking.
fn own_rooms(identity: &Identity) -> Result<Vec<RoomId>, Rejection> {
    let role = identity.role.as_deref().map(rooms::of_role).transpose()?;
    Ok([rooms::of_user(&identity.user), everyone()].into_iter().chain(role).collect())
}

fn join(room: RoomId) -> Join {
    Join { room, note: None, participant: None }
}

fn welcome(identity: &Identity) -> Value {
    json!({
        "message": "Connected to the event server",
        "userId": id_json(identity.user.as_str()),
        "role": identity.role.as_deref().unwrap_or_default(),
    })
}

fn authenticated(identity: &Identity) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("userId".into(), id_json(identity.user.as_str()));
    body.insert("role".into(), identity.role.as_deref().unwrap_or_default().into());
    let expires = identity.expires_at.map(|seconds| iso8601(seconds.saturating_mul(1000)));
    body.extend(expires.map(|at| ("expiresAt".to_owned(), at.into())));
    body
}

fn pong(identity: &Identity, now_ms: u64) -> Actions {
    let body = Out::json(&json!({ "timestamp": iso8601(now_ms), "userId": id_json(identity.user.as_str()) }));
    vec![Action::emit("pong", body.clone()), Action::Ack(body)]
}

/// What a client asked, for its answer.
#[derive(Clone, Debug)]
struct Asked {
    event: Box<str>,
    wants_ack: bool,
}

impl Asked {
    fn of(inbound: &Inbound<'_>) -> Self {
        Self { event: inbound.name.into(), wants_ack: inbound.wants_ack }
    }

    /// The event that says so, and the same as ack.
    fn done(self, event: &'static str, body: Map<String, Value>) -> Actions {
        let mut ack = Map::from_iter([("success".to_owned(), Value::from(true))]);
        ack.extend(body.clone());
        vec![Action::emit(event, Out::json(&body)), Action::Ack(Out::json(&ack))]
    }

    /// An error in the ack where one was asked for, as event `error` otherwise.
    fn refuse(self, rejection: &Rejection) -> Actions {
        crate::refused(&self.event, self.wants_ack, rejection)
    }
}

fn invalid(field: &'static str, problem: &'static str) -> Rejection {
    Rejection::InvalidPayload { field, problem }
}

#[cfg(test)]
mod tests;
