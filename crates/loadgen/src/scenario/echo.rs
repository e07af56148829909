//! Acked echo: the server answers each event with the payload it carried.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::{FIRST_ACK, Pending, assemble};
use crate::RunError;
use crate::crew::{Client, Connects, Muster, Script};
use crate::measure::{Progress, Window};
use crate::report::{Cpu, Errors, Latencies, Quantiles};
use crate::schedule::Schedule;
use crate::session::{Session, SessionError, Target};
use crate::stamp::{Stamp, now_ns};
use crate::vocabulary::Vocabulary;

#[derive(Debug, Clone)]
pub struct Echo {
    pub muster: Muster,
    /// Echoes per second over all clients; `None`: each client sends again as soon as it is answered.
    pub rate: Option<f64>,
    pub payload_bytes: usize,
    pub window: Window,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub connects: Connects,
    pub disconnects: Errors,
    pub sent: u64,
    pub answered: u64,
    pub unanswered: u64,
    /// Answers that did not carry back what was sent, or that nobody had asked for.
    pub wrong: u64,
    pub seconds: f64,
    pub echoes_per_s: f64,
    pub latency: Quantiles,
    pub cpu: Option<Cpu>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.unanswered + self.wrong + self.disconnects.total() == 0
    }
}

impl Echo {
    pub fn run(&self, target: &Arc<Target>) -> Result<Report, RunError> {
        target.vocabulary.echo(FIRST_ACK, "")?;
        let words = target.vocabulary.clone();
        let closed = self.rate.is_none();
        let script = Arc::new(Caller {
            words,
            payload_bytes: self.payload_bytes,
            closed,
            progress: Progress::default(),
        });
        let (crew, connects) = assemble(&script, target, self.muster)?;
        let clients = self.muster.clients;
        let measured = match self.rate {
            Some(rate) => {
                let schedule = Schedule::new(clients, rate / clients as f64);
                self.window
                    .run_open(&script.progress, schedule, |client, due| crew.orders().give(client, due))
            }
            None => self.window.run_closed(&script.progress, || {
                (0..clients).for_each(|client| crew.orders().give(client, now_ns()));
            }),
        };
        let (mut notes, mut disconnects, mut sent) = (Notes::default(), Errors::default(), 0);
        for findings in crew.dismiss() {
            notes.latency.merge(&findings.notes.latency);
            notes.wrong += findings.notes.wrong;
            notes.answered += findings.notes.answered;
            disconnects.merge(findings.disconnects);
            sent += findings.roles.iter().map(|(_, role)| u64::from(role.sent)).sum::<u64>();
        }
        let measured = measured?;
        Ok(Report {
            connects,
            disconnects,
            sent,
            answered: notes.answered,
            unanswered: sent.saturating_sub(notes.answered),
            wrong: notes.wrong,
            seconds: measured.seconds,
            echoes_per_s: measured.operations as f64 / measured.seconds,
            latency: notes.latency.quantiles(),
            cpu: measured.cpu,
        })
    }
}

struct Caller {
    words: Vocabulary,
    payload_bytes: usize,
    closed: bool,
    progress: Progress,
}

#[derive(Default)]
struct Role {
    sent: u32,
    pending: Pending,
}

#[derive(Default)]
struct Notes {
    latency: Latencies,
    answered: u64,
    wrong: u64,
}

impl Script for Caller {
    type Role = Role;
    type Notes = Notes;

    fn node(&self, index: usize) -> usize {
        index
    }

    async fn enter(&self, _: usize, _: &mut Session) -> Result<Role, SessionError> {
        Ok(Role::default())
    }

    fn on_order(&self, client: &mut Client<'_, Self>, due_ns: u64) {
        let seq = client.role.sent;
        let stamp = Stamp { room: 0, sender: 0, seq, due_ns };
        let event = self.words.echo(FIRST_ACK + seq, &stamp.payload(self.payload_bytes));
        client.outbound.send(&event.expect("the vocabulary was asked before the run"));
        client.role.sent += 1;
        client.role.pending.push(FIRST_ACK + seq, due_ns);
        self.progress.expected.fetch_add(1, Relaxed);
    }

    fn on_packet(&self, client: &mut Client<'_, Self>, packet: &[u8]) {
        let Some((ack, arguments)) = self.words.ack(packet) else { return };
        let Some(due_ns) = client.role.pending.take(ack) else { return client.notes.wrong += 1 };
        let returned = Stamp::find(arguments)
            .is_some_and(|stamp| stamp.seq + FIRST_ACK == ack && stamp.due_ns == due_ns);
        client.notes.wrong += u64::from(!returned);
        client.notes.answered += 1;
        if self.progress.is_measured(due_ns) {
            client.notes.latency.record_ns(now_ns().saturating_sub(due_ns));
        }
        self.progress.done.fetch_add(1, Relaxed);
        if self.closed && !self.progress.is_stopped() {
            self.on_order(client, now_ns());
        }
    }
}
