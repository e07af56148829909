//! Who a socket is in an application without tokens: what its first word says, for as long as it lives.

use std::rc::Rc;
use std::sync::Arc;

use dialects::Outcome;
use domain::{Identity, Rejection};

use super::Shard;
use super::commands::Actor;
use super::session::Entry;
use crate::config::Auth;

/// A socket that speaks for somebody else already is refused.
pub fn identify(shard: &Rc<Shard>, actor: &Actor, identity: Identity) -> Result<Outcome, Rejection> {
    if shard.shared.app(actor.app).config.auth != Auth::None {
        return Err(Rejection::RoomDenied);
    }
    shard.turn(|state, shard| {
        let Some(Entry::Live(session)) = state.sessions.get_mut(actor.session) else {
            return Err(Rejection::Unavailable);
        };
        let socket = session.socket_by_serial(actor.serial).ok_or(Rejection::Unavailable)?;
        if socket.identity.as_ref().is_some_and(|before| before.user != identity.user) {
            return Err(Rejection::RoomDenied);
        }
        socket.identity = Some(Arc::new(identity));
        state.count_again(shard, actor);
        Ok(Outcome::Identified)
    })
}
