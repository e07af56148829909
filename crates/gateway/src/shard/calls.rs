//! Calls: what the coordinator decides for a socket. Start at [`call`]; where sockets stand towards calls is `entering`.
//!
//! A socket that is about to enter a call is made a member of the call's rooms before the coordinator is asked, so that no
//! signal passes it by.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cluster::coordination::{self, Reply, Request};
use cluster::sid::ulid;
use dialects::Outcome;
use domain::call::{self, Act, Call, CallId, CommandId, Person, Refusal, UserCalls, View};
use domain::presence::ChoiceChange;
use domain::{Identity, Rejection};
use serde::Deserialize;

use super::Shard;
use super::commands::{Actor, announce_to_taker};
use crate::app::App;
use crate::clock::unix_ms;
use crate::node::Unavailable;

/// Has the coordinator decide. Afterwards the socket is in the call's rooms if its device is in the call.
pub async fn call(
    shard: &Rc<Shard>,
    actor: &Actor,
    call: Option<CallId>,
    act: Act,
) -> Result<Outcome, Rejection> {
    let identity = actor.identity.clone().ok_or(Rejection::Call(Refusal::UnknownCall))?;
    let call = match call {
        Some(call) => call,
        None if matches!(act, Act::Initiate(_)) => mint(),
        None => return Err(Rejection::Call(Refusal::UnknownCall)),
    };
    super::presence::recorded(shard, actor).await?;
    let enters = matches!(act, Act::Initiate(_) | Act::Answer { .. } | Act::Join | Act::Rejoin);
    if enters {
        enter(shard, actor, &call).await?;
    }
    let command = call::Command {
        id: CommandId(rand::random()),
        call: call.clone(),
        actor: Some(call::Actor { who: Person::of(&identity), device: actor.socket.clone() }),
        act,
    };
    let app = shard.shared.app(actor.app);
    let request = Request::Call(Box::new(command));
    let decided = match shard.shared.coordinator.ask(app, &request, actor.trace()).await {
        Ok(Reply::Call(decided)) => Ok(decided),
        Ok(_) => Err(misreply(app)),
        Err(rejection) => Err(rejection),
    };
    match decided {
        Ok(decided) => {
            place(shard, actor, &call, &decided).await;
            Ok(Outcome::Call(decided))
        }
        Err(rejection) => {
            shard.turn(|state, shard| state.stay_out(shard, actor, &call));
            Err(rejection)
        }
    }
}

fn mint() -> CallId {
    let (_, text) = ulid(unix_ms(), rand::random());
    CallId::new(text).expect("a ULID is 26 letters and digits")
}

fn misreply(app: &App) -> Rejection {
    tracing::error!(app = app.name(), "a coordinator's answer does not fit the question");
    Rejection::Unavailable
}

/// Makes the socket a member of the call's rooms; nothing that comes there reaches it yet.
async fn enter(shard: &Rc<Shard>, actor: &Actor, call: &CallId) -> Result<(), Rejection> {
    let Some(rooms) = shard.turn(|state, _| state.begin_entering(actor, call))? else { return Ok(()) };
    // Nobody knows of this device in the call before the command that follows is decided.
    let [one, other] = rooms.clone().map(|room| shard.shared.node.interest_ahead(room, shard.ix));
    match tokio::try_join!(one, other) {
        Ok(_) => {
            announce_to_taker(shard, actor, &rooms, &[]).await;
            Ok(())
        }
        Err(Unavailable) => {
            shard.turn(|state, shard| state.stay_out(shard, actor, call));
            Err(Rejection::Unavailable)
        }
    }
}

/// The coordinator has decided: the socket goes where the call says. `asked`: the call it was on its way into, if it was.
async fn place(shard: &Rc<Shard>, actor: &Actor, asked: &CallId, call: &Call) {
    let view = Arc::new(View::of(call));
    let is_late = shard.turn(|state, shard| {
        if call.id != *asked {
            state.stay_out(shard, actor, asked);
        }
        state.place(shard, actor, &view)
    });
    if is_late {
        enter_late(shard, actor, &call.id).await;
    }
}

/// Into a call that the socket was not on its way into: an answer by glare. What the call became before its rooms held is read;
/// signals that came before are lost.
async fn enter_late(shard: &Rc<Shard>, actor: &Actor, call: &CallId) {
    /// Reads of the call's record.
    const TRIES: usize = 3;
    if enter(shard, actor, call).await.is_err() {
        // The client is in the call and told so; it hears nothing there until it rejoins.
        tracing::warn!(app = shard.shared.app(actor.app).name(), "a call's rooms could not be joined");
        return;
    }
    let app = shard.shared.app(actor.app);
    for _ in 0..TRIES {
        match shard.shared.bus.kv_get_at_leader(&app.calls, &coordination::call_key(call)).await {
            Ok(entry) => {
                let now = entry.and_then(|entry| read_call(&entry.value?));
                if let Some(now) = now {
                    shard.turn(|state, shard| state.place(shard, actor, &Arc::new(View::of(&now))));
                }
                break;
            }
            Err(error) => tracing::debug!(%error, "a call could not be read"),
        }
    }
    shard.turn(|state, shard| state.let_in(shard, actor, call));
}

/// What this node reads of a call's record.
#[derive(Deserialize)]
struct Record {
    call: Call,
}

fn read_call(value: &Bytes) -> Option<Call> {
    let record = coordination::decode::<Record>(value);
    record
        .inspect_err(|error| tracing::warn!(%error, "a call's record could not be read"))
        .ok()
        .map(|r| r.call)
}

/// The user's calls that are not over.
pub async fn own_calls(shard: &Shard, actor: &Actor) -> Result<Outcome, Rejection> {
    let app = shard.shared.app(actor.app);
    let Some(identity) = &actor.identity else { return Ok(Outcome::Calls(Vec::new())) };
    let unread = |error: bus::ReadError| {
        tracing::warn!(%error, app = app.name(), "a user's calls could not be read");
        Rejection::Unavailable
    };
    let bus = &shard.shared.bus;
    let key = coordination::user_calls_key(&identity.user);
    let Some(value) = bus.kv_get(&app.calls, &key).await.map_err(unread)?.and_then(|entry| entry.value)
    else {
        return Ok(Outcome::Calls(Vec::new()));
    };
    let listed: UserCalls = coordination::decode(&value).map_err(|error| {
        tracing::warn!(%error, app = app.name(), "a user's calls could not be read");
        Rejection::Unavailable
    })?;
    let keys: Vec<String> = listed.calls.iter().map(|entry| coordination::call_key(&entry.call)).collect();
    let entries = bus.kv_get_many(&app.calls, &keys).await.map_err(unread)?;
    let calls = entries.iter().filter_map(|entry| read_call(entry.value.as_ref()?));
    Ok(Outcome::Calls(calls.filter(|call| !call.status.is_over()).collect()))
}

/// The user's own choice of status.
pub async fn choose(shard: &Rc<Shard>, actor: &Actor, change: ChoiceChange) -> Result<Outcome, Rejection> {
    let identity: &Identity = actor.identity.as_deref().ok_or(Rejection::Unavailable)?;
    // A choice is folded with the devices there are.
    super::presence::recorded(shard, actor).await?;
    let request = Request::Choose {
        id: CommandId(rand::random()),
        user: identity.user.clone(),
        wire_id: identity.wire_id(),
        change,
    };
    let app = shard.shared.app(actor.app);
    match shard.shared.coordinator.ask(app, &request, actor.trace()).await? {
        Reply::Presence(presence) => Ok(Outcome::Chosen(presence)),
        _ => Err(misreply(app)),
    }
}
