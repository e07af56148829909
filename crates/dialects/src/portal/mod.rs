//! `portal`: admin panel and patient app of a clinic. Socket tokens with a grace for who shows none, rooms of users, patients and
//! doctors, messages about a patient; appointments and treatments come from the back end.
//!
//! Start at [`Portal::event`] for what clients say. `access` is who may enter what, `authorization` what a new token does, `backend`
//! the typed calls. Without an identity a socket is in its grace: it never showed a token that counts, or its token has expired.

mod access;
mod authorization;
mod backend;
pub(crate) mod contract;
mod message;
mod rooms;

use std::sync::Arc;

use domain::{ChatLimits, Identity, Rejection, RightsError, Rule};
use serde_json::{Value, json};

use crate::{Action, Actions, Command, Inbound, Join, Out, Refusal, Socket, TokenFailure};
pub use access::PortalRoles;
use access::{Access, Verdict};

/// What the dialect is built with.
#[derive(Clone, Debug, Default)]
pub struct PortalSettings {
    pub roles: PortalRoles,
    /// Rights to `patient:*` and `doctor:*`; empty: by role and claim, see [`PortalRoles`].
    pub rules: Vec<Rule>,
    pub chat: ChatLimits,
    /// Longest list of rooms that one event may name.
    pub max_rooms: usize,
    /// Who shows no token that counts gets a CONNECT_ERROR instead of a grace.
    pub refuse_at_once: bool,
}

/// The dialect with its settings.
#[derive(Debug)]
pub struct Portal {
    namespace: Box<str>,
    access: Arc<Access>,
    chat: ChatLimits,
    max_rooms: usize,
    refuse_at_once: bool,
}

impl Portal {
    pub fn new(namespace: &str, settings: PortalSettings) -> Result<Self, Vec<RightsError>> {
        Ok(Self {
            namespace: namespace.into(),
            access: Arc::new(Access::new(settings.roles, settings.rules)?),
            chat: settings.chat,
            max_rooms: settings.max_rooms,
            refuse_at_once: settings.refuse_at_once,
        })
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        *self.namespace == *namespace
    }

    pub(crate) fn chat_limits(&self) -> ChatLimits {
        self.chat
    }

    /// Where clients are refused at once.
    pub(crate) fn refuse_token(&self, failure: TokenFailure) -> Refusal {
        let (code, message) = authorization::failure(failure);
        Refusal { message: message.into(), data: Some(json!({ "code": code })) }
    }

    /// What a socket is told that connects without a token that counts, and gets a grace; `None`: it gets none.
    pub(crate) fn grace(&self, failure: TokenFailure) -> Option<Actions> {
        (!self.refuse_at_once).then(|| self.cut_off(failure))
    }

    /// The last words about a token.
    pub(crate) fn cut_off(&self, failure: TokenFailure) -> Actions {
        let (code, message) = authorization::failure(failure);
        vec![Action::emit("core:auth:error", Out::json(&json!({ "code": code, "message": message })))]
    }

    /// Joins the user's own room first, so that nothing addressed to the user is missed after `core:auth:success`.
    pub(crate) fn connecting(&self, socket: &Socket<'_>) -> Actions {
        let Some(identity) = socket.identity else {
            return vec![Action::Refuse(self.refuse_token(TokenFailure::Missing))];
        };
        let join = Join { room: rooms::of_user(&identity.user), note: None, participant: None };
        vec![Action::Run(
            Command::Join(vec![join]),
            Box::new(|socket, outcome| match (outcome, socket.identity) {
                (Ok(_), Some(identity)) => {
                    let rooms = [rooms::of_user(&identity.user)];
                    vec![Action::Accept, authorization::success(identity, &rooms)]
                }
                // The edge closes the transport for this one: a CONNECT_ERROR would stop the client for good.
                _ => Actions::new(),
            }),
        )]
    }

    pub(crate) fn event(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Actions {
        if inbound.name == "authorization" {
            return self.authorization(inbound);
        }
        let Some(identity) = socket.identity else { return in_grace(inbound) };
        let result = match inbound.name {
            "join" => self.join(identity, inbound),
            "leave" => self.leave(socket, inbound),
            "message:send" => self.message_send(socket, identity, inbound),
            _ => Err(Rejection::UnknownEvent),
        };
        result.unwrap_or_else(|rejection| match rejection {
            Rejection::UnknownEvent if !inbound.wants_ack => Actions::new(),
            Rejection::NotGranted { right } => {
                let asked = Asked::of(inbound);
                let otherwise = Box::new(move |rejection: &Rejection| asked.refuse(rejection));
                vec![Action::AskHook { right, otherwise }]
            }
            rejection => Asked::of(inbound).refuse(&rejection),
        })
    }

    /// A room of a patient, if the user may enter it and send to it.
    fn permitted(&self, socket: &Socket<'_>, identity: &Identity, room: &str) -> Result<(), Rejection> {
        match self.access.of(identity, room) {
            Verdict::Granted => Ok(()),
            Verdict::AskHook if socket.is_granted(room) => Ok(()),
            Verdict::AskHook => Err(Rejection::NotGranted { right: room.into() }),
            Verdict::Denied => Err(Rejection::RoomDenied),
        }
    }
}

/// A socket in its grace: what it says about rooms waits for its token, the rest is not served.
fn in_grace(inbound: &Inbound<'_>) -> Actions {
    let asked = Asked::of(inbound);
    match inbound.name {
        "join" | "leave" => {
            vec![Action::PutOff { otherwise: Box::new(move |rejection| asked.refuse(rejection)) }]
        }
        _ => asked.answer("Not authenticated", "unauthenticated"),
    }
}

/// An event, for the words of its refusal.
#[derive(Clone, Debug)]
struct Asked {
    event: Box<str>,
    wants_ack: bool,
}

impl Asked {
    fn of(inbound: &Inbound<'_>) -> Self {
        Self { event: inbound.name.into(), wants_ack: inbound.wants_ack }
    }

    fn refuse(&self, rejection: &Rejection) -> Actions {
        self.answer(&rejection.to_string(), rejection.code())
    }

    /// An error as this application's clients expect it: in the ack where one was asked for, as event `core:error` otherwise. The ack's
    /// lists are never absent.
    fn answer(&self, message: &str, code: &str) -> Actions {
        if !self.wants_ack {
            let body = json!({ "message": message, "code": code, "event": self.event });
            return vec![Action::emit("core:error", Out::json(&body))];
        }
        let mut body = json!({ "ok": false, "error": message, "code": code });
        let lists: &[&str] = match &*self.event {
            "join" => &["joined", "denied"],
            "leave" => &["left"],
            _ => &[],
        };
        for list in lists {
            body[*list] = Value::Array(Vec::new());
        }
        vec![Action::Ack(Out::json(&body))]
    }
}

#[cfg(test)]
mod tests;
