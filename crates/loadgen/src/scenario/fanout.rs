//! Room fan-out: a few members of each room send, all members receive, every delivery is accounted for.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::{ENTRY_ACK, FIRST_ACK, Pending, assemble};
use crate::RunError;
use crate::crew::{Client, Connects, Crew, Findings, Muster, Script};
use crate::ledger::{self, Log, MessageId, Verdict};
use crate::measure::{Measured, Progress, Window};
use crate::report::{Cpu, Errors, Latencies, Quantiles};
use crate::schedule::Schedule;
use crate::session::{Session, SessionError, Target};
use crate::stamp::{Stamp, now_ns};
use crate::vocabulary::{Class, Vocabulary, is_refusal};

/// Messages of one sender whose receivers can be counted at once in a closed loop: far above any window.
const CLOSED_LOOP_SLOTS: usize = 4096;

#[derive(Debug, Clone)]
pub struct Fanout {
    pub threads: usize,
    pub connect_rate: f64,
    pub rooms: usize,
    pub members: usize,
    /// Senders per room; sender `s` is member `s`.
    pub senders: usize,
    pub class: Class,
    pub payload_bytes: usize,
    pub load: Load,
    pub window: Window,
}

#[derive(Debug, Clone, Copy)]
pub enum Load {
    /// Messages per second and room, shared by its senders.
    Open { rate: f64 },
    /// Messages that each sender keeps in flight: the next goes out when all receivers have one.
    Closed { in_flight: usize },
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub connects: Connects,
    pub disconnects: Errors,
    pub sent: u64,
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Messages that the server answered with an error.
    pub refused: u64,
    /// Messages that asked for an ack and got none.
    pub unacked: u64,
    /// Deliveries to a socket that is not in the room.
    pub misrouted: u64,
    pub seconds: f64,
    pub deliveries_per_s: f64,
    pub latency: Quantiles,
    pub ack_latency: Option<Quantiles>,
    pub cpu: Option<Cpu>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean()
            && self.refused + self.unacked + self.misrouted + self.disconnects.total() == 0
    }
}

impl Fanout {
    pub fn run(&self, target: &Arc<Target>) -> Result<Report, RunError> {
        target.vocabulary.supports(self.class)?;
        let script = Arc::new(Rooms::new(self, target.vocabulary.clone()));
        let clients = self.rooms * self.members;
        let muster = Muster { clients, threads: self.threads, connect_rate: self.connect_rate };
        let (crew, connects) = assemble(&script, target, muster)?;
        let measured = self.load(&script, &crew);
        let findings = crew.dismiss();
        Ok(self.report(&script, connects, measured?, findings))
    }

    fn load(&self, script: &Rooms, crew: &Crew<Rooms>) -> Result<Measured, RunError> {
        let senders = self.rooms * self.senders;
        match self.load {
            Load::Open { rate } => {
                let schedule = Schedule::new(senders, rate / self.senders as f64);
                let give = |sender, due_ns| crew.orders().give(script.client_of(sender), due_ns);
                self.window.run_open(&script.progress, schedule, give)
            }
            Load::Closed { in_flight } => self.window.run_closed(&script.progress, || {
                for sender in (0..in_flight).flat_map(|_| 0..senders) {
                    crew.orders().give(script.client_of(sender), now_ns());
                }
            }),
        }
    }

    fn report(
        &self,
        script: &Rooms,
        connects: Connects,
        measured: Measured,
        findings: Vec<Findings<Rooms>>,
    ) -> Report {
        let mut rooms: Vec<ledger::Room> = (0..self.rooms).map(|_| script.empty_room()).collect();
        let (mut notes, mut disconnects) = (Notes::default(), Errors::default());
        let mut unacked = 0;
        for thread in findings {
            notes.merge(thread.notes);
            disconnects.merge(thread.disconnects);
            for (index, role) in thread.roles {
                unacked += role.pending.0.len() as u64;
                let (room, member) = script.place(index);
                role.enter_into(&mut rooms[room], member);
            }
        }
        let mut verdict = Verdict::default();
        rooms.iter().for_each(|room| verdict.add(&ledger::audit(room)));
        Report {
            connects,
            disconnects,
            sent: rooms.iter().flat_map(|room| &room.sent).map(|&sent| u64::from(sent)).sum(),
            verdict,
            refused: notes.refused,
            unacked,
            misrouted: notes.misrouted,
            seconds: measured.seconds,
            deliveries_per_s: measured.operations as f64 / measured.seconds,
            latency: notes.latency.quantiles(),
            ack_latency: (notes.acks.quantiles().count > 0).then(|| notes.acks.quantiles()),
            cpu: measured.cpu,
        }
    }
}

/// The script. Clients are numbered room by room: client `room * members + member`.
struct Rooms {
    words: Vocabulary,
    run: u32,
    members: usize,
    senders: usize,
    class: Class,
    payload_bytes: usize,
    receivers: u32,
    progress: Progress,
    /// Closed loop only: receivers still missing, by sender and sequence number modulo `CLOSED_LOOP_SLOTS`.
    missing: Option<Vec<Vec<AtomicU32>>>,
}

#[derive(Default)]
struct Role {
    room: usize,
    member: usize,
    name: String,
    sent: u32,
    log: Log,
    pending: Pending,
    refused: Vec<u32>,
}

#[derive(Default)]
struct Notes {
    latency: Latencies,
    acks: Latencies,
    refused: u64,
    misrouted: u64,
}

impl Rooms {
    fn new(plan: &Fanout, words: Vocabulary) -> Self {
        let slots = || (0..CLOSED_LOOP_SLOTS).map(|_| AtomicU32::new(0)).collect();
        let closed = matches!(plan.load, Load::Closed { .. });
        let receivers = plan.members as u32 - u32::from(!words.sender_hears_itself());
        Rooms {
            words,
            run: std::process::id(),
            members: plan.members,
            senders: plan.senders,
            class: plan.class,
            payload_bytes: plan.payload_bytes,
            receivers,
            progress: Progress::default(),
            missing: closed.then(|| (0..plan.rooms * plan.senders).map(|_| slots()).collect()),
        }
    }

    /// The client that is sender number `sender` of all rooms together.
    fn client_of(&self, sender: usize) -> usize {
        sender / self.senders * self.members + sender % self.senders
    }

    fn place(&self, client: usize) -> (usize, usize) {
        (client / self.members, client % self.members)
    }

    fn empty_room(&self) -> ledger::Room {
        ledger::Room {
            sent: vec![0; self.senders],
            excused: Vec::new(),
            logs: vec![Log::new(); self.members],
            senders_hear_themselves: self.words.sender_hears_itself(),
        }
    }

    fn on_delivery(&self, client: &mut Client<'_, Self>, stamp: Stamp) {
        if usize::from(stamp.room) != client.role.room {
            return client.notes.misrouted += 1;
        }
        client.role.log.push(MessageId { sender: stamp.sender, seq: stamp.seq });
        if self.progress.is_measured(stamp.due_ns) {
            client.notes.latency.record_ns(now_ns().saturating_sub(stamp.due_ns));
        }
        self.progress.done.fetch_add(1, Relaxed);
        if let Some(missing) = &self.missing {
            self.close_the_loop(client, missing, stamp);
        }
    }

    fn close_the_loop(&self, client: &Client<'_, Self>, missing: &[Vec<AtomicU32>], stamp: Stamp) {
        let sender = client.role.room * self.senders + usize::from(stamp.sender);
        let Some(slots) = missing.get(sender) else { return };
        let slot = &slots[stamp.seq as usize % CLOSED_LOOP_SLOTS];
        let was_last = slot.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)) == Ok(1);
        if was_last && !self.progress.is_stopped() {
            client.orders.give_now(self.client_of(sender));
        }
    }

    fn on_ack(&self, client: &mut Client<'_, Self>, ack: u32, arguments: &[u8]) {
        let Some(due_ns) = client.role.pending.take(ack) else { return };
        if is_refusal(arguments) {
            client.notes.refused += 1;
            client.role.refused.push(ack - FIRST_ACK);
            self.progress.expected.fetch_sub(u64::from(self.receivers), Relaxed);
        } else if self.progress.is_measured(due_ns) {
            client.notes.acks.record_ns(now_ns().saturating_sub(due_ns));
        }
    }
}

impl Script for Rooms {
    type Role = Role;
    type Notes = Notes;

    /// Members alternate over the nodes, and so do the first senders of successive rooms.
    fn node(&self, index: usize) -> usize {
        let (room, member) = self.place(index);
        room + member
    }

    async fn enter(&self, index: usize, session: &mut Session) -> Result<Role, SessionError> {
        let (room, member) = self.place(index);
        let name = self.words.room(self.run, room);
        session.request(&self.words, ENTRY_ACK, &self.words.join(ENTRY_ACK, &name)).await?;
        Ok(Role { room, member, name, ..Role::default() })
    }

    fn on_order(&self, client: &mut Client<'_, Self>, due_ns: u64) {
        let role = &mut *client.role;
        let seq = role.sent;
        let stamp = Stamp { room: role.room as u16, sender: role.member as u16, seq, due_ns };
        let payload = stamp.payload(self.payload_bytes);
        if let Some(missing) = &self.missing {
            let slots = &missing[role.room * self.senders + role.member];
            slots[seq as usize % CLOSED_LOOP_SLOTS].store(self.receivers, Relaxed);
        }
        self.progress.expected.fetch_add(u64::from(self.receivers), Relaxed);
        client.outbound.send(&self.words.send(self.class, FIRST_ACK + seq, &role.name, &payload));
        role.sent += 1;
        if self.class == Class::Recoverable {
            role.pending.push(FIRST_ACK + seq, due_ns);
        }
    }

    fn on_packet(&self, client: &mut Client<'_, Self>, packet: &[u8]) {
        if self.words.is_delivery(packet) {
            if let Some(stamp) = Stamp::find(packet) {
                self.on_delivery(client, stamp);
            }
        } else if let Some((ack, arguments)) = self.words.ack(packet) {
            self.on_ack(client, ack, arguments);
        }
    }
}

impl Role {
    /// What is unacked may be missing: nobody promised it.
    fn enter_into(self, room: &mut ledger::Room, member: usize) {
        room.logs[member] = self.log;
        if let Some(sent) = room.sent.get_mut(member) {
            *sent = self.sent;
            let open = self.pending.0.iter().map(|&(ack, _)| ack - FIRST_ACK).chain(self.refused);
            room.excused.extend(open.map(|seq| MessageId { sender: member as u16, seq }));
        }
    }
}

impl Notes {
    fn merge(&mut self, other: Notes) {
        self.latency.merge(&other.latency);
        self.acks.merge(&other.acks);
        self.refused += other.refused;
        self.misrouted += other.misrouted;
    }
}
