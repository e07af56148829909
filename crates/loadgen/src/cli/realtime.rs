//! Parameters of the scenarios of calls and presence.

use clap::Args;

use super::{Common, Timing, at_least_one, positive, seconds};
use crate::RunError;
use crate::scenario::calls::Calls;
use crate::scenario::crash::Crash;
use crate::scenario::presence::Presence;

/// Stamps number users with 16 bits.
const MAX_USERS: usize = 65_536;

#[derive(Debug, Args)]
pub(super) struct CallsArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    timing: Timing,
    /// Callers, each with a callee on another node.
    #[arg(long, default_value_t = 500)]
    pairs: usize,
    /// New calls per second over all pairs, on schedule whatever the server does.
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Seconds from the answer to the end of a call.
    #[arg(long, default_value_t = 0.2)]
    talk: f64,
}

#[derive(Debug, Args)]
pub(super) struct PresenceArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    timing: Timing,
    #[arg(long, default_value_t = 2000)]
    users: usize,
    /// Changes per second over all users.
    #[arg(long, default_value_t = 2000.0)]
    rate: f64,
    #[arg(long, default_value_t = 20)]
    watchers: usize,
    /// Users that each watcher watches.
    #[arg(long, default_value_t = 100)]
    watched: usize,
}

#[derive(Debug, Args)]
pub(super) struct CrashArgs {
    #[command(flatten)]
    common: Common,
    /// Users that other generators hold, from the first one on.
    #[arg(long, default_value_t = 50_000)]
    users: usize,
    /// How many of them, from the first one on, are with the gateway that is killed.
    #[arg(long, default_value_t = 5000)]
    doomed: usize,
    /// The gateway's process.
    #[arg(long)]
    kill: u32,
    /// Longest wait for everybody to be online, and again for the doomed to be offline, seconds.
    #[arg(long, default_value_t = 180.0)]
    patience: f64,
    /// Seconds to watch the others after that.
    #[arg(long, default_value_t = 10.0)]
    settle: f64,
}

impl CallsArgs {
    pub fn run(self) -> Result<bool, RunError> {
        let muster = self.common.muster(self.pairs)?;
        let plan = Calls {
            pairs: self.pairs,
            threads: muster.threads,
            connect_rate: muster.connect_rate,
            rate: positive("rate", self.rate)?,
            talk: seconds("talk", self.talk)?,
            window: self.common.window(&self.timing)?,
        };
        let report = plan.run(&self.common.target()?)?;
        self.common.print("calls", &report);
        Ok(report.is_clean())
    }
}

impl PresenceArgs {
    pub fn run(self) -> Result<bool, RunError> {
        at_least_one("watchers", self.watchers)?;
        let muster = self.common.muster(self.users)?;
        if self.users > MAX_USERS || self.watched > self.users {
            let reason = "65536 at most, and not fewer than --watched";
            return Err(RunError::Option { name: "users", reason });
        }
        let plan = Presence {
            users: self.users,
            watchers: self.watchers,
            watched: self.watched,
            threads: muster.threads,
            connect_rate: muster.connect_rate,
            rate: positive("rate", self.rate)?,
            window: self.common.window(&self.timing)?,
        };
        let report = plan.run(&self.common.target()?)?;
        self.common.print("presence", &report);
        Ok(report.is_clean())
    }
}

impl CrashArgs {
    pub fn run(self) -> Result<bool, RunError> {
        at_least_one("doomed", self.doomed)?;
        if self.doomed > self.users {
            return Err(RunError::Option { name: "doomed", reason: "some of --users" });
        }
        if self.common.first_user < self.users {
            return Err(RunError::Option { name: "first-user", reason: "observers come behind --users" });
        }
        let plan = Crash {
            users: self.users,
            doomed: self.doomed,
            kill: self.kill,
            patience: seconds("patience", self.patience)?,
            settle: seconds("settle", self.settle)?,
            pids: self.common.pids.clone(),
        };
        let report = plan.run(&self.common.target()?)?;
        self.common.print("crash", &report);
        Ok(report.is_clean())
    }
}
