//! What a token does for a connection: the words of success and failure, and `authorization`, by which a live connection shows a
//! further token.
//!
//! A good token of the same user replaces rights and expiry. The rooms that it still gives a right to stay, the others are left; then
//! what waited for the token follows.

use std::sync::Arc;

use domain::{Identity, Rejection, RoomId};
use serde_json::{Value, json};

use super::access::{Access, Verdict};
use super::{Portal, rooms};
use crate::time::iso8601;
use crate::{Action, Actions, Command, Inbound, Join, Out, Outcome, Socket, Token, TokenFailure};

/// `core:auth:success`.
pub fn success(identity: &Identity, rooms: &[RoomId]) -> Action {
    let expires_at = identity.expires_at.map(|at_s| iso8601(at_s.saturating_mul(1000)));
    let body = json!({
        "userId": identity.wire_id(),
        "role": identity.role,
        "rooms": rooms,
        "expiresAt": expires_at,
    });
    Action::emit("core:auth:success", Out::json(&body))
}

/// Code and message of `core:auth:error`. For clients a user who is not known is one whose token was revoked.
pub fn failure(failure: TokenFailure) -> (&'static str, &'static str) {
    match failure {
        TokenFailure::Missing => ("missing_token", "No token was given"),
        TokenFailure::Invalid => ("invalid_token", "The token is not valid"),
        TokenFailure::Expired => ("expired_token", "The token has expired"),
        TokenFailure::Revoked | TokenFailure::UnknownUser => ("revoked_token", "The token was revoked"),
    }
}

impl Portal {
    pub(super) fn authorization(&self, inbound: &Inbound<'_>) -> Actions {
        let wants_ack = inbound.wants_ack;
        let Some(token) = shown(inbound) else {
            let (code, message) = failure(TokenFailure::Missing);
            return refuse(wants_ack, code, message);
        };
        let access = self.access.clone();
        let then = move |socket: &Socket<'_>, outcome: Result<Outcome, Rejection>| match outcome {
            Ok(Outcome::Verified(identity)) => Renewal::begin(access, *identity, socket, wants_ack),
            Ok(_) => reject(wants_ack, &Rejection::Unavailable),
            Err(rejection) => reject(wants_ack, &rejection),
        };
        vec![Action::Run(Command::Verify { token }, Box::new(then))]
    }
}

/// The token of an `authorization`: an object's field, or the bare text.
fn shown(inbound: &Inbound<'_>) -> Option<Token> {
    let value: Value = serde_json::from_str(inbound.args.first()?.get()).ok()?;
    let fields = ["socket_token", "socketToken", "token"];
    let text = match &value {
        Value::String(text) => Some(text.as_str()),
        Value::Object(object) => fields.iter().find_map(|field| object.get(*field)?.as_str()),
        _ => None,
    };
    let text = text?.trim();
    let bare =
        text.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer ")).map(|_| text[7..].trim());
    let token = bare.unwrap_or(text);
    (!token.is_empty()).then(|| Token(token.to_owned()))
}

fn reject(wants_ack: bool, rejection: &Rejection) -> Actions {
    let (code, message) = match rejection {
        Rejection::ExpiredToken => failure(TokenFailure::Expired),
        Rejection::RevokedToken => failure(TokenFailure::Revoked),
        Rejection::InvalidToken => ("invalid_token", "The token is not valid, or is another user's"),
        other => (other.code(), "The token could not be checked, try again"),
    };
    refuse(wants_ack, code, message)
}

fn refuse(wants_ack: bool, code: &str, message: &str) -> Actions {
    let mut actions =
        vec![Action::emit("core:auth:error", Out::json(&json!({ "code": code, "message": message })))];
    if wants_ack {
        actions.push(Action::Ack(Out::json(&json!({ "ok": false, "error": message, "code": code }))));
    }
    actions
}

/// A token that counts from now on: what it means for the socket's rooms.
struct Renewal {
    identity: Identity,
    wants_ack: bool,
    kept: Vec<RoomId>,
    lost: Vec<RoomId>,
    /// Rooms for which the hook is to be asked again.
    open: Vec<RoomId>,
}

impl Renewal {
    fn begin(access: Arc<Access>, identity: Identity, socket: &Socket<'_>, wants_ack: bool) -> Actions {
        let own = rooms::of_user(&identity.user);
        let mut renewal =
            Self { kept: vec![own.clone()], identity, wants_ack, lost: Vec::new(), open: Vec::new() };
        for membership in socket.memberships {
            let Some(room) = RoomId::new(membership.room.clone()).filter(|room| *room != own) else {
                continue;
            };
            match access.of(&renewal.identity, room.as_str()) {
                _ if rooms::is_by_back_end(membership) => renewal.kept.push(room),
                Verdict::Granted => renewal.kept.push(room),
                Verdict::AskHook if rooms::is_by_hook(membership) => renewal.open.push(room),
                Verdict::AskHook | Verdict::Denied => renewal.lost.push(room),
            }
        }
        renewal.go_on()
    }

    /// One question to the hook after the other. One that gives no answer keeps nobody in.
    fn go_on(mut self) -> Actions {
        let Some(room) = self.open.pop() else { return self.leave() };
        let right = room.to_string();
        let then = move |_: &Socket<'_>, outcome| {
            match outcome {
                Ok(Outcome::Authorized(true)) => self.kept.push(room),
                Ok(_) => self.lost.push(room),
                Err(_) => {
                    self.lost.push(room);
                    self.lost.append(&mut self.open);
                }
            }
            self.go_on()
        };
        vec![Action::Run(Command::Authorize { right }, Box::new(then))]
    }

    fn leave(mut self) -> Actions {
        let lost = std::mem::take(&mut self.lost);
        if lost.is_empty() {
            return self.enter();
        }
        vec![Action::Run(Command::Leave(lost), Box::new(move |_, _| self.enter()))]
    }

    /// A socket that shows its first token enters its user's room now.
    fn enter(self) -> Actions {
        let join = Join { room: self.kept[0].clone(), note: None, participant: None };
        let then = move |_: &Socket<'_>, outcome: Result<Outcome, Rejection>| match outcome {
            Ok(_) => self.done(),
            Err(rejection) => reject(self.wants_ack, &rejection),
        };
        vec![Action::Run(Command::Join(vec![join]), Box::new(then))]
    }

    fn done(&self) -> Actions {
        let ack = self.wants_ack.then(|| Action::Ack(Out::json(&json!({ "ok": true, "rooms": self.kept }))));
        let told = [success(&self.identity, &self.kept)];
        told.into_iter().chain(ack).chain([Action::Restore]).collect()
    }
}
