//! A call on a shard: read, allowed, carried out, answered.

use std::rc::Rc;
use std::time::{Duration, Instant};

use cluster::TraceParent;
use dialects::{BackendAction, BackendCall};
use domain::Rejection;
use serde_json::value::RawValue;

use super::config::Scope;
use super::once::Once;
use super::plain::{self, Fields};
use super::{Answer, Call, Fault, reads};
use crate::app::App;
use crate::clock::unix_ms;
use crate::revocation;
use crate::shard::{Shard, Stamp, carry_out, of_call, parent};

/// Longer names are no call's, and are not repeated in answers and logs.
const MOST_VERB_BYTES: usize = 64;

/// Answers one call. What it stores is stored before the answer.
pub async fn serve(shard: Rc<Shard>, call: Call) -> Answer {
    let (started, app) = (Instant::now(), shard.shared.app(call.app).name());
    let mut span =
        if plain::is_read(&call.verb) { None } else { of_call(&shard, call.app, &call.verb, call.trace) };
    let answer = serve_uncounted(&shard, &call, parent(span.as_ref())).await;
    let outcome = answer.as_ref().map_or_else(|fault| fault.code.as_str(), |_| "ok");
    let metrics = &shard.shared.metrics;
    metrics.api_calls.with_label_values(&[app, outcome]).inc();
    metrics.api_seconds.observe(started.elapsed().as_secs_f64());
    if let Some(span) = &mut span {
        span.set("trunkline.outcome", outcome);
    }
    if !plain::is_read(&call.verb) {
        let name = call.verb.get(..MOST_VERB_BYTES).unwrap_or(&call.verb);
        tracing::info!(app, call = name, by = call.caller.name, outcome, "[Publish API] call");
    }
    answer
}

async fn serve_uncounted(shard: &Rc<Shard>, call: &Call, trace: Option<TraceParent>) -> Answer {
    let app = shard.shared.app(call.app);
    if call.verb.len() > MOST_VERB_BYTES {
        return Err(Fault::unknown_verb("…"));
    }
    let fields = plain::fields(&call.body)?;
    if plain::is_read(&call.verb) {
        call.caller.require(Scope::Read)?;
        return reads::answer(shard, call.app, &call.verb, &fields).await;
    }
    if let "revoke" | "restore" = call.verb.as_str() {
        call.caller.require(Scope::Admin)?;
        return revoke(shard, app, call, &fields).await;
    }
    let actions = plan(app, call, &fields, unix_ms())?;
    for action in &actions {
        call.caller.require(scope_of(action))?;
    }
    match &call.idempotency_key {
        None => execute(shard, call.app, actions, Stamp::now(), trace).await,
        Some(key) => {
            let config = &shard.shared.api.config;
            let once = Once {
                bus: &shard.shared.bus,
                app,
                timeout_ms: config.timeout_ms,
                kept: Duration::from_secs(config.idempotency_s),
            };
            let work = async |stamp: Stamp| {
                let mut actions = plan(app, call, &fields, stamp.at_ms)?;
                name_posts(&mut actions, stamp);
                execute(shard, call.app, actions, stamp, trace).await
            };
            once.run(call, key, work).await
        }
    }
}

/// Puts tokens on the list of revoked ones, or takes them off. To repeat it changes nothing, so it needs no idempotency key.
async fn revoke(shard: &Shard, app: &App, call: &Call, fields: &Fields<'_>) -> Answer {
    if app.verifier.is_none() {
        return Err(Fault::new(404, "unsupported", "this application asks for no tokens"));
    }
    let (whose, terms) = plain::revoked(fields)?;
    let bus = &shard.shared.bus;
    let stored = match call.verb.as_str() {
        "revoke" => revocation::revoke(bus, app, &whose, &terms).await,
        _ => revocation::restore(bus, app, &whose).await,
    };
    stored.map_err(|error| {
        tracing::warn!(%error, app = app.name(), "[Publish API] a revocation was not stored");
        Fault::unavailable()
    })?;
    Ok(plain::done().into())
}

/// What the call does; the dialect's judgement of it included.
fn plan(app: &App, call: &Call, fields: &Fields<'_>, now_ms: u64) -> Result<Vec<BackendAction>, Fault> {
    match call.verb.as_str() {
        "emit" => plain::emit(&app.dialect, fields),
        "members" => plain::members(fields),
        name => {
            let body: &RawValue = serde_json::from_slice(&call.body).expect("its fields were read");
            let planned = app.dialect.backend(&BackendCall { name, body, now_ms });
            planned.map_err(|rejection| match rejection {
                Rejection::UnknownEvent => Fault::unknown_verb(name),
                other => other.into(),
            })
        }
    }
}

/// A key needs the scope of everything that a call does.
fn scope_of(action: &BackendAction) -> Scope {
    match action {
        BackendAction::Emit(_) => Scope::Emit,
        BackendAction::Post(_) => Scope::Post,
        BackendAction::Notify(_) => Scope::Notify,
        BackendAction::Record(_) | BackendAction::Fact(_) => Scope::Emit,
        BackendAction::Move { .. } | BackendAction::Revoke(_) | BackendAction::Restore(_) => Scope::Admin,
    }
}

/// A message that is posted again under the same name is stored once.
fn name_posts(actions: &mut [BackendAction], stamp: Stamp) {
    for (index, action) in actions.iter_mut().enumerate() {
        if let BackendAction::Post(post) = action {
            let name = || format!("api-{:032x}", stamp.random.wrapping_add(index as u128)).into();
            post.draft.client_id.get_or_insert_with(name);
        }
    }
}

async fn execute(
    shard: &Rc<Shard>,
    app: u16,
    actions: Vec<BackendAction>,
    stamp: Stamp,
    trace: Option<TraceParent>,
) -> Answer {
    let mut result = plain::done();
    for (index, action) in actions.into_iter().enumerate() {
        let stamp = Stamp { random: stamp.random.wrapping_add(index as u128), ..stamp };
        let said = carry_out(shard, app, action, stamp, trace).await?;
        if let Some((key, value)) = said {
            let list = result.entry(key).or_insert_with(|| serde_json::Value::Array(Vec::new()));
            list.as_array_mut().expect("made above").push(value);
        }
    }
    Ok(result.into())
}
