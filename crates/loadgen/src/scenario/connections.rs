//! Opens many connections, holds them, and weighs the servers: memory and idle CPU per connection.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use crate::RunError;
use crate::crew::{Client, Connects, Crew, Muster, Script};
use crate::report::{Cpu, Errors};
use crate::session::{Session, SessionError, Target};
use crate::usage::{self, Consumption, Usage};

/// Lets the handshakes' leftovers settle before memory is read.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct Connections {
    pub muster: Muster,
    pub hold: Duration,
    pub pids: Vec<u32>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub connects: Connects,
    pub disconnects: Errors,
    pub held_seconds: f64,
    /// One entry per watched process.
    pub memory: Vec<Memory>,
    /// CPU while nothing but heartbeats happens; an operation is one connection held for one second.
    pub idle_cpu: Option<Cpu>,
}

/// Resident memory of a process before the first connection and while all are held.
#[derive(Debug, Serialize)]
pub struct Memory {
    pub pid: u32,
    pub name: String,
    pub empty_kib: u64,
    pub held_kib: u64,
    /// The growth, divided by the connections of the whole run.
    pub kib_per_connection: f64,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.connects.failed + self.disconnects.total() == 0
    }
}

impl Connections {
    pub fn run(&self, target: &Arc<Target>) -> Result<Report, RunError> {
        let empty = usage::sample(&self.pids).map_err(RunError::Usage)?;
        let crew = Crew::assemble(Arc::new(Idle), target.clone(), self.muster);
        let connects = crew.wait();
        std::thread::sleep(SETTLE);
        let full = usage::sample(&self.pids).map_err(RunError::Usage)?;
        std::thread::sleep(self.hold);
        let held = usage::sample(&self.pids).map_err(RunError::Usage)?;
        let mut disconnects = Errors::default();
        for findings in crew.dismiss() {
            disconnects.merge(findings.disconnects);
        }
        let connection_seconds = connects.opened as f64 * self.hold.as_secs_f64();
        Ok(Report {
            memory: weigh(&empty, &held, connects.opened),
            idle_cpu: Cpu::per_operation(usage::between(&full, &held), connection_seconds as u64),
            held_seconds: self.hold.as_secs_f64(),
            connects,
            disconnects,
        })
    }
}

fn weigh(empty: &[Usage], held: &[Usage], connections: u64) -> Vec<Memory> {
    let weigh = |process: Consumption| Memory {
        pid: process.pid,
        name: process.name,
        empty_kib: process.rss_kib.saturating_add_signed(-process.rss_growth_kib),
        held_kib: process.rss_kib,
        kib_per_connection: process.rss_growth_kib as f64 / connections.max(1) as f64,
    };
    usage::between(empty, held).into_iter().map(weigh).collect()
}

struct Idle;

impl Script for Idle {
    type Role = ();
    type Notes = ();

    fn node(&self, index: usize) -> usize {
        index
    }

    async fn enter(&self, _: usize, _: &mut Session) -> Result<(), SessionError> {
        Ok(())
    }

    fn on_packet(&self, _: &mut Client<'_, Self>, _: &[u8]) {}

    fn on_order(&self, _: &mut Client<'_, Self>, _: u64) {}
}
