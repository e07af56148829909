//! What operators of `portal` look for in the log, one line for each: connects with where the token was and what came of it, rooms
//! joined and left, events published, disconnects. Other applications are not written down step by step. Tokens and payloads never
//! are.

use cluster::sid::log_name;
use dialects::{Command, Outcome};
use domain::{Identity, Rejection, RoomId};

use super::Shard;
use super::admission::Knock;
use super::commands::Actor;
use super::session::{Session, Socket};
use crate::auth::{TokenError, find_token};

fn is_kept(shard: &Shard, app: u16) -> bool {
    shard.shared.app(app).dialect.keeps_journal()
}

/// A CONNECT's token was decided.
pub fn connected(
    shard: &Shard,
    session: &Session,
    knock: &Knock,
    examined: &Result<Option<Identity>, TokenError>,
) {
    if !is_kept(shard, knock.app) {
        return;
    }
    let app = shard.shared.app(knock.app);
    let auth: Option<serde_json::Value> = knock.auth.as_ref().and_then(|auth| auth.parse().ok());
    let none = http::HeaderMap::new();
    let headers = session.opening.headers.as_deref().unwrap_or(&none);
    let found =
        app.config.token.as_ref().and_then(|token| find_token(&token.sources, auth.as_ref(), headers));
    let token_from = found.map_or_else(|| "nowhere".to_owned(), |(_, source)| source.to_string());
    let identity = examined.as_ref().ok().and_then(Option::as_ref);
    let result = examined.as_ref().err().map_or("success", |error| error.name());
    tracing::info!(
        session = log_name(&session.sid),
        app = app.name(),
        peer = %session.opening.peer,
        token_from,
        auth = result,
        user = identity.map(|identity| identity.user.as_str()),
        role = identity.and_then(|identity| identity.role.as_deref()),
        "[RT Gateway] connect"
    );
}

/// What a command was for, kept while it is carried out.
#[derive(Debug)]
pub enum Step {
    Join(String),
    Leave(String),
    Publish { event: String, rooms: String },
    Authorization,
}

/// `None`: nobody looks for it.
pub fn step(shard: &Shard, app: u16, command: &Command) -> Option<Step> {
    if !is_kept(shard, app) {
        return None;
    }
    Some(match command {
        Command::Join(joins) => Step::Join(list(joins.iter().map(|join| &join.room))),
        Command::Leave(rooms) => Step::Leave(list(rooms)),
        Command::Emit(told) => Step::Publish { event: told.event.to_string(), rooms: list(&told.rooms) },
        Command::Post(post) => Step::Publish { event: post.event.to_string(), rooms: list(&post.rooms) },
        Command::Verify { .. } => Step::Authorization,
        _ => return None,
    })
}

/// What came of it.
pub fn settled(shard: &Shard, actor: &Actor, step: Step, outcome: &Result<Outcome, Rejection>) {
    let (socket, app) = (&*actor.socket, shard.shared.app(actor.app).name());
    let identity = match outcome {
        Ok(Outcome::Verified(identity)) => Some(&**identity),
        _ => actor.identity.as_deref(),
    };
    let user = identity.map(|identity| identity.user.as_str());
    let result = outcome.as_ref().err().map_or("success", Rejection::code);
    match step {
        Step::Join(rooms) => tracing::info!(socket, app, user, rooms, result, "[RT Gateway] join"),
        Step::Leave(rooms) => tracing::info!(socket, app, user, rooms, result, "[RT Gateway] leave"),
        Step::Publish { event, rooms } => {
            tracing::info!(socket, app, user, event, rooms, result, "[RT Gateway] publish");
        }
        Step::Authorization => tracing::info!(socket, app, user, auth = result, "[RT Gateway] authorization"),
    }
}

/// A socket has ended.
pub fn disconnected(shard: &Shard, session: &Session, socket: &Socket, why: &'static str) {
    if is_kept(shard, socket.app) {
        tracing::info!(
            session = log_name(&session.sid),
            socket = &*socket.id,
            app = shard.shared.app(socket.app).name(),
            user = socket.identity.as_ref().map(|identity| identity.user.as_str()),
            why,
            "[RT Gateway] disconnect"
        );
    }
}

/// The first of them, and how many more.
fn list<'a>(rooms: impl IntoIterator<Item = &'a RoomId>) -> String {
    const SHOWN: usize = 16;
    let mut rooms = rooms.into_iter();
    let shown: Vec<&str> = rooms.by_ref().take(SHOWN).map(RoomId::as_str).collect();
    let more = rooms.count();
    if more == 0 { shown.join(" ") } else { format!("{} and {more} more", shown.join(" ")) }
}
