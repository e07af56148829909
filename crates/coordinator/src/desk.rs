//! The desk: a command from its request to its reply. Plans, loads, commits, announces, replies; on a conflict it begins anew.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Bus, Request};
use cluster::coordination::{self, Reply};
use domain::call::{self, Command, CommandId};

use crate::clock::unix_ms;
use crate::metrics::Metrics;
use crate::plan::presence::{Chosen, Refold};
use crate::plan::{self, App, Done, Step};
use crate::store::{NotStored, Store, Unavailable};
use crate::teller::{Teller, Who};

/// A request is answered within this time: whoever asked repeats it then.
const REQUEST_DEADLINE: Duration = Duration::from_secs(4);

/// One application's desk; shared by all who work at it.
#[derive(Debug)]
pub struct Desk {
    pub app: App,
    pub bus: Bus,
    pub store: Store,
    pub teller: Arc<Teller>,
    pub metrics: Metrics,
}

impl Desk {
    /// Answers one request.
    pub async fn serve(&self, request: Request) {
        let started = Instant::now();
        let deadline = started + REQUEST_DEADLINE;
        let (kind, reply) = match coordination::decode::<coordination::Request>(&request.payload) {
            Ok(coordination::Request::Call(command)) => {
                (act_name(&command), self.call(&command, deadline).await)
            }
            Ok(coordination::Request::Choose { id, user, wire_id, change }) => {
                let chosen = Some(Chosen { id, wire_id, change });
                let refold = Refold { user, chosen, gone_ms: unix_ms() };
                ("choose", self.fold(&refold, deadline).await)
            }
            Err(error) => {
                tracing::warn!(%error, app = self.app.name, "a request could not be read");
                ("malformed", Ok(Reply::Malformed))
            }
        };
        let reply = reply.unwrap_or(Reply::Unavailable);
        self.metrics.answered(&self.app.name, kind, &reply, started.elapsed());
        if let Err(error) = self.bus.reply(&request.reply, coordination::encode(&reply)) {
            tracing::warn!(%error, app = self.app.name, "a reply was not sent");
        }
    }

    /// Carries a command for a call out. What is committed is true whether or not it could be told yet: a follower of the
    /// call's record tells it then.
    pub async fn call(&self, command: &Command, deadline: Instant) -> Result<Reply, Unavailable> {
        let planned = |known: &plan::Known| plan::call::plan(&self.app, command, known, unix_ms());
        let (done, _) = self.carry_out(planned, deadline).await?;
        if self.teller.tell(&self.app, Who::Desk, &done.tell, deadline).await.is_err() {
            tracing::debug!(app = self.app.name, "left to a follower");
        }
        Ok(done.reply)
    }

    /// Folds a user's presence, and has the user's calls look at the devices. What it was folded from may change before it is
    /// committed, unseen by whoever folds that change: so what is committed is folded again, by a follower of the record
    /// itself, until nothing changes and it is told.
    pub async fn fold(&self, refold: &Refold, deadline: Instant) -> Result<Reply, Unavailable> {
        let planned = |known: &plan::Known| plan::presence::plan(&self.app, refold, known, unix_ms());
        let (done, known) = self.carry_out(planned, deadline).await?;
        self.teller.tell(&self.app, Who::Desk, &done.tell, deadline).await?;
        for (call, act) in plan::presence::devices_acts(refold, &known) {
            let command = Command { id: CommandId(rand::random()), call, actor: None, act };
            self.call(&command, deadline).await?;
        }
        Ok(done.reply)
    }

    async fn carry_out(
        &self,
        plan: impl Fn(&plan::Known) -> Step,
        deadline: Instant,
    ) -> Result<(Done, plan::Known), Unavailable> {
        let mut known = self.store.nothing_known();
        loop {
            if Instant::now() >= deadline {
                return Err(Unavailable);
            }
            match plan(&known) {
                Step::Load(keys) => self.store.load(&mut known, keys).await?,
                Step::Reload => known = fresh(),
                Step::Done(done) => return Ok((*done, known)),
                Step::Commit(commit) => {
                    self.teller.tell(&self.app, Who::Desk, &commit.first, deadline).await?;
                    match self.store.commit(&commit, deadline).await {
                        Ok(()) => {
                            self.metrics.committed(&self.app.name, &commit.done);
                            return Ok((commit.done, known));
                        }
                        Err(NotStored::Conflict) => {
                            self.metrics.conflicts.with_label_values(&[&self.app.name]).inc();
                            known = fresh();
                        }
                        // Perhaps stored: the next look shows it.
                        Err(NotStored::Unavailable) => known = fresh(),
                    }
                }
            }
        }
    }
}

fn fresh() -> plan::Known {
    plan::Known { fresh: true, ..plan::Known::default() }
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
