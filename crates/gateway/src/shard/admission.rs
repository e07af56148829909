//! Tokens that take a while: a key set to read again, a hook to ask. And sockets whose token was revoked.

use std::rc::Rc;
use std::sync::Arc;

use cluster::sid::log_name;
use dialects::{Outcome, TokenFailure};
use domain::{Identity, Rejection};
use engineio::CloseReason;
use socketio::{AckId, Json, Namespace};

use super::actions::Run;
use super::commands::{Actor, Task};
use super::session::{Entry, Session, SessionKey};
use super::{Shard, State};
use crate::auth::TokenError;
use crate::clock::unix_ms;
use crate::config::Auth;
use crate::revocation::News;

/// How long a client without sockets has to leave.
const LEAVE_MS: u64 = 5_000;

/// A CONNECT that is not decided yet.
#[derive(Debug)]
pub struct Knock {
    /// The application that has the namespace.
    pub app: u16,
    pub nsp: Namespace,
    pub auth: Option<Json>,
    /// A plain client's wish to have its token answered.
    pub ack: Option<AckId>,
}

/// Decides a CONNECT whose token takes a while. The session's later messages wait.
pub async fn answer(shard: Rc<Shard>, key: SessionKey, knock: Knock, token: &str) {
    let examined = examine(&shard, knock.app, token).await;
    shard.turn(|state, shard| {
        state.with_session(shard, key, |state, session| {
            session.busy = false;
            let examined = examined.and_then(|identity| state.not_revoked(knock.app, identity));
            state.examined(shard, session, knock, examined.map(Some));
        });
    });
}

/// The identity that a token proves, with what the application's hook adds to it.
async fn examine(shard: &Shard, app: u16, token: &str) -> Result<Identity, TokenError> {
    let verifier = shard.shared.app(app).verifier.as_ref().ok_or(TokenError::Missing)?;
    let mut identity = verifier.verify_with_newer_keys(token, unix_ms() / 1000).await?;
    if let Some(hook) = shard.hook(app) {
        let own_name = identity.name.clone();
        hook.admit(&mut identity).await?;
        if shard.shared.app(app).dialect.believes_names_of_tokens() {
            identity.name = own_name.or(identity.name);
        }
    }
    Ok(identity)
}

/// A live connection shows a new token: only one of the same user is taken.
pub async fn verify(shard: &Rc<Shard>, actor: &Actor, token: &str) -> Result<Outcome, Rejection> {
    let examined = examine(shard, actor.app, token).await;
    shard.turn(|state, shard| {
        let identity =
            examined.and_then(|identity| state.not_revoked(actor.app, identity)).map_err(|error| {
                let app = shard.shared.app(actor.app).name();
                shard.shared.metrics.auth_failures.with_label_values(&[error.name()]).inc();
                tracing::info!(app, %error, "a further token was refused");
                error.rejection()
            })?;
        let Some(Entry::Live(session)) = state.sessions.get_mut(actor.session) else {
            return Err(Rejection::Unavailable);
        };
        let socket = session.socket_by_serial(actor.serial).ok_or(Rejection::Unavailable)?;
        let is_same = match &socket.identity {
            Some(before) => before.user == identity.user,
            // Its first token that counts.
            None => socket.grace.is_some(),
        };
        if !is_same {
            return Err(Rejection::InvalidToken);
        }
        socket.expires = super::connect::expiry(shard, actor.app, Some(&identity));
        socket.identity = Some(Arc::new(identity.clone()));
        Ok(Outcome::Verified(Box::new(identity)))
    })
}

/// A right that no rule grants: the hook's word, or no.
pub async fn authorize(shard: &Shard, actor: &Actor, right: &str) -> Result<Outcome, Rejection> {
    let is_known = actor.identity.is_some() || shard.shared.app(actor.app).config.auth == Auth::None;
    let Some(hook) = shard.hook(actor.app).filter(|_| is_known) else {
        return Ok(Outcome::Authorized(false));
    };
    hook.may(actor.identity.as_deref(), right).await.map(Outcome::Authorized)
}

/// A client that polls reads DISCONNECT and the end of its transport from one payload, and takes the end first: it would come back.
/// So it may leave by itself, or connect with a better token, before its session ends.
fn end_without_sockets(shard: &Shard, session: &mut Session) {
    if let Some(io) = session.io.as_mut().filter(|_| session.engine.transport().is_none()) {
        return io.expect_connect(shard.now(), LEAVE_MS);
    }
    session.close(
        shard,
        CloseReason::TokenRevoked,
        "it, or every token of its user, was revoked while connected",
    );
}

impl State {
    /// Whether a token that is good was revoked.
    pub(super) fn not_revoked(&self, app: u16, identity: Identity) -> Result<Identity, TokenError> {
        if self.is_revoked(app, &identity) { Err(TokenError::Revoked) } else { Ok(identity) }
    }

    pub(super) fn is_revoked(&self, app: u16, identity: &Identity) -> bool {
        self.revoked.get(usize::from(app)).is_some_and(|list| list.has(identity))
    }

    /// The application's list of revoked tokens changed: who is connected by one of them is cut off.
    pub(super) fn on_revoked(&mut self, shard: &Shard, app: u16, news: &[News]) {
        let Some(list) = self.revoked.get_mut(usize::from(app)) else { return };
        if !list.apply(news) {
            return;
        }
        let mut hit = Vec::new();
        for entry in self.sessions.entries_mut() {
            let Entry::Live(session) = entry else { continue };
            let by_revoked = |socket: &super::session::Socket| {
                socket.app == app && socket.identity.as_deref().is_some_and(|identity| list.has(identity))
            };
            if session.sockets.iter().any(by_revoked) {
                hit.push(session.key);
            }
        }
        for key in hit {
            self.with_session(shard, key, |state, session| state.cut_revoked(shard, session));
        }
    }

    /// Cuts off the session's sockets whose token is revoked. The session ends with the last of them.
    pub(super) fn cut_revoked(&mut self, shard: &Shard, session: &mut Session) {
        let revoked: Vec<u32> = session
            .sockets
            .iter()
            .filter(|s| s.identity.as_deref().is_some_and(|identity| self.is_revoked(s.app, identity)))
            .map(|socket| socket.serial)
            .collect();
        if revoked.is_empty() {
            return;
        }
        for serial in revoked {
            self.cut_socket(shard, session, serial);
        }
        if session.sockets.is_empty() {
            end_without_sockets(shard, session);
        }
    }

    fn cut_socket(&mut self, shard: &Shard, session: &mut Session, serial: u32) {
        let Some(socket) = session.socket_by_serial(serial) else { return };
        let (app, hook) = (shard.shared.app(socket.app), shard.hook(socket.app));
        let (nsp, accepted) = (socket.nsp.clone(), socket.accepted);
        shard.shared.metrics.auth_failures.with_label_values(&["revoked_live"]).inc();
        if let (Some(hook), Some(identity)) = (hook, &socket.identity) {
            hook.forget(&identity.user);
        }
        tracing::info!(
            session = log_name(&session.sid),
            app = app.name(),
            "a live connection's token was revoked"
        );
        let refusal = app.dialect.refuse_token(TokenFailure::Revoked);
        if accepted {
            let words = app.dialect.cut_off(TokenFailure::Revoked);
            self.carry_out(shard, session, Run::event(nsp.clone(), serial, None, words));
        }
        if let Some(at) = session.sockets.iter().position(|socket| socket.serial == serial) {
            let socket = session.sockets.remove(at);
            self.socket_gone(shard, session, socket, "token_revoked");
        }
        if accepted {
            let departed = session.io.as_mut().and_then(|io| io.disconnect(&nsp));
            if let Some(departed) = departed {
                self.send_encoded(shard, session, departed.frame);
            }
        } else {
            let data = refusal.data.as_ref().and_then(|data| Json::of(data).ok());
            self.refuse(shard, session, &nsp, &refusal.message, data.as_ref());
        }
    }

    /// Whether a CONNECT's token has to wait: its key may be in a newer set, or the hook is to be asked.
    pub(super) fn has_to_wait(
        &self,
        shard: &Shard,
        app: u16,
        verified: &Result<Identity, TokenError>,
    ) -> bool {
        match verified {
            Ok(_) => shard.hook(app).is_some_and(crate::hook::Hook::asks_about_users),
            Err(error) => *error == TokenError::UnknownKey,
        }
    }

    pub(super) fn knock(&mut self, session: &mut Session, knock: Knock, token: String) {
        session.busy = true;
        self.tasks.push(Task::Knock { key: session.key, knock, token });
    }
}
