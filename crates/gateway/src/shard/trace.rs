//! Spans of a gateway: one for each sampled event of a client and call of a back end, one on each core that hands on what was told of
//! it. They name events and applications, and sessions as the log does; never users, rooms or payloads.

use cluster::TraceParent;
use cluster::sid::log_name;
use hub::{Broadcast, Order};
use telemetry::trace::{Context, Kind, Span};

use super::Shard;
use super::session::Session;

/// A client's event, from its arrival until its commands have settled.
pub fn of_event(shard: &Shard, session: &Session, event: &str) -> Option<Span> {
    let span = shard.shared.tracer.root(Kind::Server, "client event")?;
    let app = shard.shared.app(session.app).name();
    Some(
        placed(shard, span, app)
            .with("trunkline.session", log_name(&session.sid))
            .with("trunkline.event", event),
    )
}

/// A call of a back end; one that the caller traces is traced here too.
pub fn of_call(shard: &Shard, app: u16, verb: &str, caller: Option<TraceParent>) -> Option<Span> {
    const NAME: &str = "back end call";
    let tracer = &shard.shared.tracer;
    let span = match caller {
        Some(caller) => tracer.child(Some(context(caller)), Kind::Server, NAME)?,
        None => tracer.root(Kind::Server, NAME)?,
    };
    Some(placed(shard, span, shard.shared.app(app).name()).with("trunkline.call", verb))
}

/// A room event went to this core's sockets.
pub fn delivered(shard: &Shard, broadcast: &Broadcast, receivers: usize) {
    let Some(traced) = broadcast.trace else { return };
    let parent = Some(context(traced.parent));
    let Some(span) = shard.shared.tracer.child(parent, Kind::Consumer, "deliver") else { return };
    let class = if broadcast.order == Order::Ephemeral { "ephemeral" } else { "recoverable" };
    let app = shard.shared.app(broadcast.app).name();
    let span = placed(shard, span.since(traced.since_ns), app);
    drop(span.with("trunkline.class", class).with("trunkline.receivers", receivers));
}

fn context(parent: TraceParent) -> Context {
    Context { trace: parent.trace, span: parent.span }
}

/// What a message caused by this span carries.
pub fn parent(span: Option<&Span>) -> Option<TraceParent> {
    span.map(|span| TraceParent { trace: span.context().trace, span: span.context().span })
}

fn placed(shard: &Shard, span: Span, app: &str) -> Span {
    let shard_ix = usize::from(shard.ix);
    span.with("trunkline.app", app)
        .with("trunkline.node", shard.shared.id.as_str())
        .with("trunkline.shard", shard_ix)
}
