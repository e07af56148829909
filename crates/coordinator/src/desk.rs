//! The desk: a command from its request to its reply. Plans, loads, commits, announces, replies; on a conflict it begins anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, Request};
use cluster::TraceParent;
use cluster::coordination::{self, Reply};
use domain::UserId;
use domain::call::{self, CallId, Command, CommandId};
use telemetry::trace::{Context, Kind, Span, Tracer};

use crate::carer::Carer;
use crate::clock::unix_ms;
use crate::metrics::{Metrics, result_of};
use crate::peers::Peers;
use crate::plan::presence::{Chosen, Refold};
use crate::plan::{self, App, Care, Commit, Done, Key, Known, Step, Written};
use crate::store::{NotStored, Store, Unavailable};
use crate::teller::{Teller, Who};

/// A request is answered within this time: whoever asked repeats it then.
const REQUEST_DEADLINE: Duration = Duration::from_secs(4);

/// The first pause for somebody who is in the middle of it; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// So many pauses at most where work that could not be done comes again.
const WAITS: u32 = 4;

/// One application's desk; shared by all who work at it.
#[derive(Debug)]
pub struct Desk {
    pub app: App,
    pub bus: Bus,
    pub store: Store,
    pub teller: Teller,
    pub peers: Arc<Peers>,
    pub carer: Carer,
    pub metrics: Metrics,
    pub tracer: Tracer,
}

impl Desk {
    /// Answers one request.
    pub async fn serve(&self, request: Request) {
        let started = Instant::now();
        let deadline = started + REQUEST_DEADLINE;
        let mut span = self.span(&request);
        let trace = trace_of(span.as_ref());
        let mut care = None;
        let (kind, reply) = match coordination::decode::<coordination::Request>(&request.payload) {
            Ok(coordination::Request::Call(command)) => {
                let decided = self.decide(&command, trace, deadline).await;
                let reply = decided.map(|(reply, left)| {
                    care = left;
                    reply
                });
                (act_name(&command), reply)
            }
            Ok(coordination::Request::Choose { id, user, wire_id, change }) => {
                let chosen = Some(Chosen { id, wire_id, change });
                let refold = Refold { user, chosen, gone_ms: unix_ms() };
                ("choose", self.fold(&refold, self.store.nothing_known(), deadline).await)
            }
            Err(error) => {
                tracing::warn!(%error, app = self.app.name, "a request could not be read");
                ("malformed", Ok(Reply::Malformed))
            }
        };
        let reply = reply.unwrap_or(Reply::Unavailable);
        if let Some(span) = &mut span {
            span.set("trunkline.command", kind);
            span.set("trunkline.result", result_of(&reply));
        }
        self.metrics.answered(&self.app.name, kind, &reply, started.elapsed());
        if let Err(error) = self.bus.reply(&request.reply, coordination::encode(&reply)) {
            tracing::warn!(%error, app = self.app.name, "a reply was not sent");
        }
        if let Some(care) = care {
            self.carer.leave(care);
        }
    }

    /// The command's place in the trace of who asked.
    fn span(&self, request: &Request) -> Option<Span> {
        let asked: Option<TraceParent> = request.header(cluster::trace::HEADER)?.parse().ok();
        let parent = asked.map(|asked| Context { trace: asked.trace, span: asked.span });
        let span = self.tracer.child(parent, Kind::Server, "coordinator command")?;
        Some(span.with("trunkline.app", &*self.app.name))
    }

    /// Carries a command for a call out. What is committed is true whether or not it could be told yet: a follower of the
    /// call's record tells it then.
    pub async fn call(
        &self,
        command: &Command,
        trace: Option<TraceParent>,
        deadline: Instant,
    ) -> Result<Reply, Unavailable> {
        self.decide(command, trace, deadline).await.map(|(reply, _)| reply)
    }

    /// The same, and what is left to do after the reply, if all went well.
    async fn decide(
        &self,
        command: &Command,
        trace: Option<TraceParent>,
        deadline: Instant,
    ) -> Result<(Reply, Option<Care>), Unavailable> {
        let planned = |known: &Known| plan::call::plan(&self.app, command, known, unix_ms());
        // Nobody waits for what follows from devices: it comes again.
        let waits = if matches!(command.act, call::Act::Devices { .. }) { WAITS } else { u32::MAX };
        let recalled = command.actor.as_ref().and_then(|_| self.peers.recall(command));
        let known = recalled.unwrap_or_else(|| self.store.nothing_known());
        let carried = self.carry_out(planned, known, Patience::new(waits, deadline)).await?;
        let Carried { done, committed, .. } = carried;
        let care = committed.and_then(|committed| committed.care);
        if let (Some(care), [earlier @ .., _]) = (&care, &*done.tell)
            && self.peers.is_finished(care.previous())
        {
            self.teller.note(earlier);
        }
        if self.teller.tell(&self.app, Who::Desk(trace), &done.tell, deadline).await.is_err() {
            tracing::debug!(app = self.app.name, "left to a follower");
            return Ok((done.reply, None));
        }
        if let Some(care) = &care {
            self.peers.share(care);
        }
        Ok((done.reply, care))
    }

    /// Folds a user's presence, and has the user's calls look at the devices. What it was folded from may change before it is
    /// committed, unseen by whoever folds that change: so what is committed is folded again, by a follower of the record
    /// itself, until nothing changes and it is told. `known`: what was read for it already.
    pub async fn fold(&self, refold: &Refold, known: Known, deadline: Instant) -> Result<Reply, Unavailable> {
        let (reply, known) = self.fold_only(refold, known, deadline).await?;
        for (call, act) in plan::presence::devices_acts(&self.app, refold, &known, unix_ms()) {
            let command = Command { id: CommandId(rand::random()), call, actor: None, act };
            self.call(&command, None, deadline).await?;
        }
        Ok(reply)
    }

    /// The same without a word to the calls: where neither a device nor a call has changed.
    pub async fn fold_only(
        &self,
        refold: &Refold,
        known: Known,
        deadline: Instant,
    ) -> Result<(Reply, Known), Unavailable> {
        let planned = |known: &Known| plan::presence::plan(&self.app, refold, known, unix_ms());
        let Carried { done, known, committed } =
            self.carry_out(planned, known, Patience::new(WAITS, deadline)).await?;
        self.teller.tell(&self.app, Who::Desk(None), &done.tell, deadline).await?;
        if let Some(Committed { written, .. }) = committed {
            self.peers.told(written.point);
        }
        Ok((done.reply, known))
    }

    /// Sees to it that these users' records say what the call says. `known`: what was read for it already, the users' records before
    /// the call's.
    pub async fn settle(
        &self,
        call: &CallId,
        users: &[UserId],
        mut known: Known,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        let planned = |known: &Known| plan::call::settle(&self.app, call, users, known, unix_ms());
        let mut patience = Patience::new(WAITS, deadline);
        loop {
            match self.step(planned(&known), &mut known, &mut patience).await? {
                Stepped::On => {}
                Stepped::Done(_) => return Ok(()),
                Stepped::Committed(..) => unreachable!("settling decides nothing"),
            }
        }
    }

    async fn carry_out(
        &self,
        plan: impl Fn(&Known) -> Step,
        mut known: Known,
        mut patience: Patience,
    ) -> Result<Carried, Unavailable> {
        loop {
            match self.step(plan(&known), &mut known, &mut patience).await? {
                Stepped::On => {}
                Stepped::Done(done) => return Ok(Carried { done, known, committed: None }),
                Stepped::Committed(done, committed) => {
                    self.follow_up(&done, &committed.written.late, patience.deadline).await;
                    return Ok(Carried { done, known, committed: Some(*committed) });
                }
            }
        }
    }

    async fn step(
        &self,
        step: Step,
        known: &mut Known,
        patience: &mut Patience,
    ) -> Result<Stepped, Unavailable> {
        let deadline = patience.deadline;
        if Instant::now() >= deadline {
            return Err(Unavailable);
        }
        match step {
            Step::Load(keys) => self.store.load(known, keys).await?,
            Step::Begin(begin) => {
                let reserved = self.store.reserve(&begin.before, begin.timer.as_ref(), deadline);
                let (loaded, reserved) = tokio::join!(self.store.load(known, begin.keys.clone()), reserved);
                loaded?;
                match reserved {
                    Ok(revs) => known.begin(*begin, revs),
                    failed => {
                        self.peers.mistrust(begin.before.iter().map(|write| &write.key));
                        self.count_conflict(failed.map(drop));
                        *known = fresh();
                    }
                }
            }
            Step::Reload => *known = fresh(),
            Step::Wait => {
                patience.wait().await?;
                *known = fresh();
            }
            Step::Repair(writes) => {
                self.count_conflict(self.store.write(&writes, deadline).await);
                *known = fresh();
            }
            Step::Done(done) => return Ok(Stepped::Done(*done)),
            Step::Commit(commit) => {
                if matches!(commit.point.key, Key::Presence(_)) && self.peers.is_told(commit.point.expect) {
                    self.teller.note(&commit.first);
                }
                self.teller.tell(&self.app, Who::Desk(None), &commit.first, deadline).await?;
                match self.store.commit(&commit, deadline).await {
                    Ok(written) => {
                        let care = Care::of(&self.app, &commit, &written, unix_ms());
                        let Commit { done, .. } = *commit;
                        return Ok(Stepped::Committed(done, Box::new(Committed { written, care })));
                    }
                    // Perhaps stored: the next look shows it.
                    failed => {
                        let writes = commit.before.iter().chain([&commit.point]);
                        self.peers.mistrust(writes.map(|write| &write.key));
                        self.count_conflict(failed.map(drop));
                    }
                }
                *known = fresh();
            }
        }
        Ok(Stepped::On)
    }

    /// What follows from a commit is done as far as can be, before the reply: whoever asked may ask for more at once.
    async fn follow_up(&self, done: &Done, late: &[UserId], deadline: Instant) {
        self.metrics.committed(&self.app.name, done);
        if let (Reply::Call(call), false) = (&done.reply, late.is_empty())
            && self.settle(&call.id, late, fresh(), deadline).await.is_err()
        {
            tracing::debug!(app = self.app.name, "users' records are left to a follower");
        }
    }

    fn count_conflict(&self, stored: Result<(), NotStored>) {
        if stored == Err(NotStored::Conflict) {
            self.metrics.conflicts.with_label_values(&[&self.app.name]).inc();
        }
    }
}

/// What is told because of this span carries it.
fn trace_of(span: Option<&Span>) -> Option<TraceParent> {
    span.map(|span| TraceParent { trace: span.context().trace, span: span.context().span })
}

/// What came of a step.
enum Stepped {
    On,
    Done(Done),
    Committed(Done, Box<Committed>),
}

/// What a commit became, and what is left to do.
struct Committed {
    written: Written,
    care: Option<Care>,
}

/// Something that was planned, and carried out.
struct Carried {
    done: Done,
    known: Known,
    committed: Option<Committed>,
}

/// How long somebody works at one thing, and how often it waits for others in the meantime.
struct Patience {
    deadline: Instant,
    waits: u32,
    pause: Duration,
}

impl Patience {
    fn new(waits: u32, deadline: Instant) -> Self {
        Self { deadline, waits, pause: FIRST_PAUSE }
    }

    async fn wait(&mut self) -> Result<(), Unavailable> {
        self.waits = self.waits.checked_sub(1).ok_or(Unavailable)?;
        let left = self.deadline.saturating_duration_since(Instant::now());
        tokio::time::sleep(self.pause.min(left)).await;
        self.pause *= 2;
        Ok(())
    }
}

/// Nothing is known, and what will be is to be read where every acked write is seen.
pub fn fresh() -> Known {
    Known { fresh: true, ..Known::default() }
}

/// A closed set, for metrics.
fn act_name(command: &Command) -> &'static str {
    match command.act {
        call::Act::Initiate(_) => "initiate",
        call::Act::Answer { .. } => "answer",
        call::Act::Decline { .. } => "decline",
        call::Act::End { .. } => "end",
        call::Act::Join => "join",
        call::Act::Leave => "leave",
        call::Act::Rejoin => "rejoin",
        call::Act::Progress => "progress",
        call::Act::Fail { .. } => "fail",
        call::Act::Media(_) => "media",
        call::Act::Look => "look",
        call::Act::Tick { .. } => "tick",
        call::Act::Devices { .. } => "devices",
    }
}
