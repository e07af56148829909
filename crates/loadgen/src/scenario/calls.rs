//! Calls of two: the caller on one node, the callee on the next; ring, answer, a short talk, the end. Open loop.
//!
//! Client `2p` is the caller of pair `p`, client `2p + 1` its callee. An operation is one call from its first packet to
//! `call:ended` on both sides.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;

use super::{FIRST_ACK, assemble};
use crate::RunError;
use crate::call_ledger::{Entry, Pair, Steps, Verdict, What, audit};
use crate::crew::{Client, Connects, Crew, Muster, Script};
use crate::measure::{Measured, Progress, Window};
use crate::report::{Cpu, Errors, Latencies, Quantiles};
use crate::schedule::Schedule;
use crate::session::{Session, SessionError, Target};
use crate::stamp::now_ns;
use crate::tokens::minted_user;
use crate::vocabulary::{Vocabulary, is_refusal, string_member};

#[derive(Debug, Clone)]
pub struct Calls {
    pub pairs: usize,
    pub threads: usize,
    pub connect_rate: f64,
    /// New calls per second over all pairs.
    pub rate: f64,
    /// From `call:accepted` to `call:end`.
    pub talk: Duration,
    pub window: Window,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub connects: Connects,
    pub disconnects: Errors,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Commands that were answered with an error, by its code.
    pub refused: Errors,
    pub unanswered: u64,
    pub seconds: f64,
    pub calls_per_s: f64,
    /// From the moment `call:initiate` was due to `call:incoming` at the callee.
    pub set_up: Quantiles,
    /// From `call:accept` to `call:accepted` at the caller.
    pub answer: Quantiles,
    /// From `call:end` to `call:ended` at the later of the two.
    pub end: Quantiles,
    pub cpu: Option<Cpu>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.unanswered + self.refused.total() + self.disconnects.total() == 0
    }
}

impl Calls {
    pub fn run(&self, target: &Arc<Target>) -> Result<Report, RunError> {
        target.vocabulary.supports_realtime()?;
        let script = Arc::new(Telephone {
            words: target.vocabulary.clone(),
            first_user: target.first_user,
            talk: self.talk,
            ended: AtomicU64::new(0),
            progress: Progress::default(),
        });
        let clients = self.pairs * 2;
        let muster = Muster { clients, threads: self.threads, connect_rate: self.connect_rate };
        let (crew, connects) = assemble(&script, target, muster)?;
        let schedule = Schedule::new(self.pairs, self.rate / self.pairs as f64);
        let give = |pair: usize, due_ns| crew.orders().give(pair * 2, due_ns);
        let measured = self.window.run_open(&script.progress, schedule, give);
        match measured {
            Ok(measured) => Ok(self.report(&script, crew, connects, measured)),
            Err(error) => {
                crew.dismiss();
                Err(error)
            }
        }
    }

    fn report(
        &self,
        script: &Telephone,
        crew: Crew<Telephone>,
        connects: Connects,
        measured: Measured,
    ) -> Report {
        let (mut refused, mut disconnects, mut unanswered) = (Errors::default(), Errors::default(), 0);
        let mut pairs: Vec<Pair> = (0..self.pairs).map(|_| Pair::default()).collect();
        for findings in crew.dismiss() {
            refused.merge(findings.notes);
            disconnects.merge(findings.disconnects);
            for (index, role) in findings.roles {
                unanswered += role.asked.len() as u64;
                let pair = &mut pairs[index / 2];
                *(if is_caller(index) { &mut pair.caller } else { &mut pair.callee }) = role.log;
            }
        }
        let (mut verdict, mut times) = (Verdict::default(), Times::default());
        for pair in &pairs {
            audit(pair, &mut verdict, |steps| {
                if script.progress.is_measured(steps.due_ns) {
                    times.record(&steps);
                }
            });
        }
        Report {
            connects,
            disconnects,
            verdict,
            refused,
            unanswered,
            seconds: measured.seconds,
            calls_per_s: measured.operations as f64 / measured.seconds,
            set_up: times.set_up.quantiles(),
            answer: times.answer.quantiles(),
            end: times.end.quantiles(),
            cpu: measured.cpu,
        }
    }
}

#[derive(Default)]
struct Times {
    set_up: Latencies,
    answer: Latencies,
    end: Latencies,
}

impl Times {
    fn record(&mut self, steps: &Steps) {
        let record = |latencies: &mut Latencies, from: Option<u64>, to: Option<u64>| {
            if let (Some(from), Some(to)) = (from, to) {
                latencies.record_ns(to.saturating_sub(from));
            }
        };
        record(&mut self.set_up, Some(steps.due_ns), steps.incoming_ns);
        record(&mut self.answer, steps.incoming_ns, steps.accepted_ns);
        record(&mut self.end, steps.hung_up_ns, steps.ended_ns);
    }
}

fn is_caller(client: usize) -> bool {
    client.is_multiple_of(2)
}

struct Telephone {
    words: Vocabulary,
    first_user: usize,
    talk: Duration,
    /// `call:ended` events; two of them are one call.
    ended: AtomicU64,
    progress: Progress,
}

#[derive(Default)]
struct Role {
    callee: String,
    acks: u32,
    /// Commands without an answer, with the moment they were due if they begin a call.
    asked: Vec<(u32, Option<u64>)>,
    log: Vec<Entry>,
}

impl Role {
    fn ask(&mut self, begun_ns: Option<u64>) -> u32 {
        let ack = FIRST_ACK + self.acks;
        self.acks += 1;
        self.asked.push((ack, begun_ns));
        ack
    }

    fn note(&mut self, call: &str, what: What, at_ns: u64) {
        self.log.push(Entry { call: call.to_owned(), what, at_ns });
    }
}

impl Telephone {
    fn on_ack(&self, client: &mut Client<'_, Self>, ack: u32, arguments: &[u8]) {
        let asked = &mut client.role.asked;
        let Some(at) = asked.iter().position(|&(pending, _)| pending == ack) else { return };
        let (_, begun_ns) = asked.remove(at);
        if is_refusal(arguments) {
            client.notes.count(&string_member(arguments, "code").unwrap_or("no code"));
            self.progress.expected.fetch_sub(u64::from(begun_ns.is_some()), Relaxed);
        } else if let (Some(due_ns), Some(call)) = (begun_ns, string_member(arguments, "callId")) {
            client.role.note(call, What::Initiated, due_ns);
        }
    }

    fn on_event(&self, client: &mut Client<'_, Self>, event: &[u8], call: &str) {
        let role = &mut *client.role;
        match event {
            b"call:incoming" => {
                role.note(call, What::Incoming, now_ns());
                let ack = role.ask(None);
                client.outbound.send(&self.words.of_call("call:accept", ack, call));
            }
            b"call:accepted" => {
                role.note(call, What::Accepted, now_ns());
                client.remind(self.talk, call.to_owned());
            }
            b"call:ended" => {
                role.note(call, What::Ended, now_ns());
                let other_side_was_first = self.ended.fetch_add(1, Relaxed) % 2 == 1;
                self.progress.done.fetch_add(u64::from(other_side_was_first), Relaxed);
            }
            _ => {}
        }
    }
}

impl Script for Telephone {
    type Role = Role;
    /// Refusals.
    type Notes = Errors;

    /// The two sides of a pair are on neighbouring nodes, and so are callers of successive pairs.
    fn node(&self, index: usize) -> usize {
        index / 2 + index % 2
    }

    async fn enter(&self, index: usize, _: &mut Session) -> Result<Role, SessionError> {
        Ok(Role { callee: minted_user(self.first_user + index + 1), ..Role::default() })
    }

    fn on_order(&self, client: &mut Client<'_, Self>, due_ns: u64) {
        let ack = client.role.ask(Some(due_ns));
        self.progress.expected.fetch_add(1, Relaxed);
        client.outbound.send(&self.words.initiate(ack, &client.role.callee));
    }

    fn on_reminder(&self, client: &mut Client<'_, Self>, call: String) {
        let ack = client.role.ask(None);
        client.outbound.send(&self.words.of_call("call:end", ack, &call));
        client.role.note(&call, What::HungUp, now_ns());
    }

    fn on_packet(&self, client: &mut Client<'_, Self>, packet: &[u8]) {
        if let Some((ack, arguments)) = self.words.ack(packet) {
            return self.on_ack(client, ack, arguments);
        }
        let Some((event, rest)) = self.words.told(packet) else { return };
        if let Some(call) = string_member(rest, "callId") {
            self.on_event(client, event, call);
        }
    }
}
