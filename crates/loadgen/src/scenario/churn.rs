//! Join churn: every client leaves and rejoins its room in turn, acked, at a fixed rate over all clients.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::{ENTRY_ACK, FIRST_ACK, Pending, assemble};
use crate::RunError;
use crate::crew::{Client, Connects, Muster, Script};
use crate::measure::{Progress, Window};
use crate::report::{Cpu, Errors, Latencies, Quantiles};
use crate::schedule::Schedule;
use crate::session::{Session, SessionError, Target};
use crate::stamp::now_ns;
use crate::vocabulary::{Vocabulary, is_refusal};

#[derive(Debug, Clone)]
pub struct Churn {
    pub muster: Muster,
    pub rooms: usize,
    /// Joins and leaves together, per second over all clients.
    pub rate: f64,
    pub window: Window,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub connects: Connects,
    pub disconnects: Errors,
    pub changes: u64,
    pub unanswered: u64,
    pub refused: u64,
    pub seconds: f64,
    pub changes_per_s: f64,
    pub join_latency: Quantiles,
    pub leave_latency: Quantiles,
    pub cpu: Option<Cpu>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.unanswered + self.refused + self.disconnects.total() == 0
    }
}

impl Churn {
    pub fn run(&self, target: &Arc<Target>) -> Result<Report, RunError> {
        let script = Arc::new(Mover {
            words: target.vocabulary.clone(),
            run: std::process::id(),
            rooms: self.rooms,
            progress: Progress::default(),
        });
        let (crew, connects) = assemble(&script, target, self.muster)?;
        let clients = self.muster.clients;
        let schedule = Schedule::new(clients, self.rate / clients as f64);
        let give = |client, due| crew.orders().give(client, due);
        let measured = self.window.run_open(&script.progress, schedule, give);
        let (mut notes, mut disconnects, mut changes) = (Notes::default(), Errors::default(), 0);
        for findings in crew.dismiss() {
            notes.joins.merge(&findings.notes.joins);
            notes.leaves.merge(&findings.notes.leaves);
            notes.refused += findings.notes.refused;
            disconnects.merge(findings.disconnects);
            changes += findings.roles.iter().map(|(_, role)| u64::from(role.changes)).sum::<u64>();
        }
        let measured = measured?;
        Ok(Report {
            connects,
            disconnects,
            changes,
            unanswered: changes.saturating_sub(script.progress.done.load(Relaxed)),
            refused: notes.refused,
            seconds: measured.seconds,
            changes_per_s: measured.operations as f64 / measured.seconds,
            join_latency: notes.joins.quantiles(),
            leave_latency: notes.leaves.quantiles(),
            cpu: measured.cpu,
        })
    }
}

struct Mover {
    words: Vocabulary,
    run: u32,
    rooms: usize,
    progress: Progress,
}

#[derive(Default)]
struct Role {
    room: String,
    /// Even: inside the room, the next change is a leave.
    changes: u32,
    pending: Pending,
}

#[derive(Default)]
struct Notes {
    joins: Latencies,
    leaves: Latencies,
    refused: u64,
}

impl Script for Mover {
    type Role = Role;
    type Notes = Notes;

    fn node(&self, index: usize) -> usize {
        index
    }

    async fn enter(&self, index: usize, session: &mut Session) -> Result<Role, SessionError> {
        let room = self.words.room(self.run, index % self.rooms);
        session.request(&self.words, ENTRY_ACK, &self.words.join(ENTRY_ACK, &room)).await?;
        Ok(Role { room, ..Role::default() })
    }

    fn on_order(&self, client: &mut Client<'_, Self>, due_ns: u64) {
        let role = &mut *client.role;
        let ack = FIRST_ACK + role.changes;
        let event = match role.changes % 2 {
            0 => self.words.leave(ack, &role.room),
            _ => self.words.join(ack, &role.room),
        };
        client.outbound.send(&event);
        role.changes += 1;
        role.pending.push(ack, due_ns);
        self.progress.expected.fetch_add(1, Relaxed);
    }

    fn on_packet(&self, client: &mut Client<'_, Self>, packet: &[u8]) {
        let Some((ack, arguments)) = self.words.ack(packet) else { return };
        let Some(due_ns) = client.role.pending.take(ack) else { return };
        self.progress.done.fetch_add(1, Relaxed);
        client.notes.refused += u64::from(is_refusal(arguments));
        if self.progress.is_measured(due_ns) {
            let was_leave = (ack - FIRST_ACK).is_multiple_of(2);
            let latencies = if was_leave { &mut client.notes.leaves } else { &mut client.notes.joins };
            latencies.record_ns(now_ns().saturating_sub(due_ns));
        }
    }
}
