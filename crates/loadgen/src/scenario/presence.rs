//! Changes of presence: every user sets a status again and again, on schedule; watchers hear of it, each of a part of the users.
//!
//! The first clients are the watchers, on all nodes in turn; the rest are the users. A change carries a stamp as its custom
//! text, so that a watcher knows which change of whom it was told. An operation is one acked change.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use serde::Serialize;

use super::{ENTRY_ACK, FIRST_ACK, Pending, assemble};
use crate::RunError;
use crate::crew::{Client, Connects, Crew, Muster, Script};
use crate::measure::{Measured, Progress, Window};
use crate::report::{Cpu, Errors, Latencies, Quantiles};
use crate::schedule::Schedule;
use crate::session::{Session, SessionError, Target};
use crate::stamp::{STAMP_BYTES, Stamp, now_ns};
use crate::tokens::minted_user;
use crate::vocabulary::{Vocabulary, is_refusal, string_member};

/// None of them is what the user was before, so each is a change.
const STATUSES: [&str; 3] = ["busy", "away", "online"];

#[derive(Debug, Clone)]
pub struct Presence {
    pub users: usize,
    pub watchers: usize,
    /// Users that one watcher watches.
    pub watched: usize,
    pub threads: usize,
    pub connect_rate: f64,
    /// Changes per second over all users.
    pub rate: f64,
    pub window: Window,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub connects: Connects,
    pub disconnects: Errors,
    pub changes: u64,
    /// Changes that were answered with an error, by its code.
    pub refused: Errors,
    pub unanswered: u64,
    #[serde(flatten)]
    pub told: Told,
    pub seconds: f64,
    pub changes_per_s: f64,
    pub ack_latency: Quantiles,
    /// From the moment the change was due to a watcher.
    pub latency: Quantiles,
    pub cpu: Option<Cpu>,
}

/// What watchers were told, over all of them.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Told {
    pub expected: u64,
    pub delivered: u64,
    /// Changes that a watcher was never told.
    pub lost: u64,
    /// Watched users whose last change was never told: the watcher believes something wrong. Counted in `lost` too.
    pub stale: u64,
    pub duplicated: u64,
    /// A change told after a later one of the same user.
    pub out_of_order: u64,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        let Told { lost, duplicated, out_of_order, .. } = self.told;
        let refused = self.refused.total() + self.unanswered + self.disconnects.total();
        lost + duplicated + out_of_order + refused == 0
    }
}

impl Presence {
    pub fn run(&self, target: &Arc<Target>) -> Result<Report, RunError> {
        target.vocabulary.supports_realtime()?;
        let script = Arc::new(Moods {
            words: target.vocabulary.clone(),
            run: std::process::id() as u16,
            first_user: target.first_user,
            users: self.users,
            watchers: self.watchers,
            watched: self.watched,
            progress: Progress::default(),
        });
        let clients = self.watchers + self.users;
        let muster = Muster { clients, threads: self.threads, connect_rate: self.connect_rate };
        let (crew, connects) = assemble(&script, target, muster)?;
        let schedule = Schedule::new(self.users, self.rate / self.users as f64);
        let give = |user: usize, due_ns| crew.orders().give(self.watchers + user, due_ns);
        let measured = self.window.run_open(&script.progress, schedule, give);
        match measured {
            Ok(measured) => Ok(self.report(&script, crew, connects, measured)),
            Err(error) => {
                crew.dismiss();
                Err(error)
            }
        }
    }

    fn report(&self, script: &Moods, crew: Crew<Moods>, connects: Connects, measured: Measured) -> Report {
        let (mut notes, mut disconnects) = (Notes::default(), Errors::default());
        let (mut sent, mut logs, mut unanswered) = (vec![0; self.users], Vec::new(), 0);
        for findings in crew.dismiss() {
            notes.merge(findings.notes);
            disconnects.merge(findings.disconnects);
            for (index, role) in findings.roles {
                unanswered += role.pending.0.len() as u64;
                match index.checked_sub(self.watchers) {
                    Some(user) => sent[user] = role.sent,
                    None => logs.push((index, role.seen)),
                }
            }
        }
        let mut told = Told::default();
        for (watcher, seen) in &logs {
            script.watched_by(*watcher).zip(seen).for_each(|(user, seen)| told.audit(sent[user], seen));
        }
        Report {
            connects,
            disconnects,
            changes: sent.iter().map(|&sent| u64::from(sent)).sum(),
            refused: notes.refused,
            unanswered,
            told,
            seconds: measured.seconds,
            changes_per_s: measured.operations as f64 / measured.seconds,
            ack_latency: notes.acks.quantiles(),
            latency: notes.latency.quantiles(),
            cpu: measured.cpu,
        }
    }
}

impl Told {
    /// One user at one watcher: changes `0..sent` were made, `seen` were told.
    fn audit(&mut self, sent: u32, seen: &[u32]) {
        let mut marks = vec![false; sent as usize];
        let mut latest = None;
        for &seq in seen {
            match marks.get_mut(seq as usize) {
                Some(mark) if !*mark => *mark = true,
                _ => self.duplicated += 1,
            }
            self.out_of_order += u64::from(latest.is_some_and(|latest| seq < latest));
            latest = latest.max(Some(seq));
        }
        self.expected += u64::from(sent);
        self.delivered += seen.len() as u64;
        self.lost += marks.iter().filter(|&&mark| !mark).count() as u64;
        self.stale += u64::from(marks.last() == Some(&false));
    }
}

struct Moods {
    words: Vocabulary,
    /// Tells the stamps of this run from those that earlier runs left as custom texts.
    run: u16,
    first_user: usize,
    users: usize,
    watchers: usize,
    watched: usize,
    progress: Progress,
}

#[derive(Default)]
struct Role {
    /// `None`: a watcher.
    user: Option<u16>,
    watchers: u64,
    sent: u32,
    pending: Pending,
    /// A watcher's: the changes it was told, by the user's place in `watched_by`.
    seen: Vec<Vec<u32>>,
    first_watched: usize,
}

#[derive(Default)]
struct Notes {
    acks: Latencies,
    latency: Latencies,
    refused: Errors,
}

impl Notes {
    fn merge(&mut self, other: Notes) {
        self.acks.merge(&other.acks);
        self.latency.merge(&other.latency);
        self.refused.merge(other.refused);
    }
}

impl Moods {
    /// Neighbours on a circle of all users, so that all are watched alike.
    fn watched_by(&self, watcher: usize) -> impl Iterator<Item = usize> + use<> {
        let (first, users) = (self.first_watched(watcher), self.users);
        (first..first + self.watched).map(move |user| user % users)
    }

    fn first_watched(&self, watcher: usize) -> usize {
        watcher * self.users / self.watchers
    }

    fn watchers_of(&self, user: usize) -> u64 {
        let place = |watcher| (user + self.users - self.first_watched(watcher)) % self.users;
        (0..self.watchers).filter(|&watcher| place(watcher) < self.watched).count() as u64
    }

    fn wire_id(&self, user: usize) -> String {
        minted_user(self.first_user + self.watchers + user)
    }

    fn on_ack(&self, client: &mut Client<'_, Self>, ack: u32, arguments: &[u8]) {
        let Some(due_ns) = client.role.pending.take(ack) else { return };
        if is_refusal(arguments) {
            client.notes.refused.count(&string_member(arguments, "code").unwrap_or("no code"));
            self.progress.expected.fetch_sub(1, Relaxed);
            self.progress.expected_after.fetch_sub(client.role.watchers, Relaxed);
            return;
        }
        self.progress.done.fetch_add(1, Relaxed);
        if self.progress.is_measured(due_ns) {
            client.notes.acks.record_ns(now_ns().saturating_sub(due_ns));
        }
    }

    fn on_change(&self, client: &mut Client<'_, Self>, stamp: Stamp) {
        // Users hear of themselves too.
        if client.role.user.is_some() || stamp.room != self.run {
            return;
        }
        let place = (usize::from(stamp.sender) + self.users - client.role.first_watched) % self.users;
        let Some(seen) = client.role.seen.get_mut(place) else { return };
        seen.push(stamp.seq);
        self.progress.done_after.fetch_add(1, Relaxed);
        if self.progress.is_measured(stamp.due_ns) {
            client.notes.latency.record_ns(now_ns().saturating_sub(stamp.due_ns));
        }
    }
}

impl Script for Moods {
    type Role = Role;
    type Notes = Notes;

    fn node(&self, index: usize) -> usize {
        index
    }

    async fn enter(&self, index: usize, session: &mut Session) -> Result<Role, SessionError> {
        if let Some(user) = index.checked_sub(self.watchers) {
            let (number, watchers) = (user as u16, self.watchers_of(user));
            return Ok(Role { user: Some(number), watchers, ..Role::default() });
        }
        let users = self.watched_by(index).map(|user| self.wire_id(user));
        let event = self.words.of_users("presence:subscribe", ENTRY_ACK, users);
        session.request(&self.words, ENTRY_ACK, &event).await?;
        let seen = vec![Vec::new(); self.watched];
        Ok(Role { seen, first_watched: self.first_watched(index), ..Role::default() })
    }

    fn on_order(&self, client: &mut Client<'_, Self>, due_ns: u64) {
        let role = &mut *client.role;
        let Some(user) = role.user else { return };
        let (seq, ack) = (role.sent, FIRST_ACK + role.sent);
        let stamp = Stamp { room: self.run, sender: user, seq, due_ns };
        let status = STATUSES[seq as usize % STATUSES.len()];
        role.sent += 1;
        role.pending.push(ack, due_ns);
        self.progress.expected.fetch_add(1, Relaxed);
        self.progress.expected_after.fetch_add(role.watchers, Relaxed);
        client.outbound.send(&self.words.set_status(ack, status, &stamp.payload(STAMP_BYTES)));
    }

    fn on_packet(&self, client: &mut Client<'_, Self>, packet: &[u8]) {
        if let Some((ack, arguments)) = self.words.ack(packet) {
            self.on_ack(client, ack, arguments);
        } else if let Some((b"presence:changed", rest)) = self.words.told(packet)
            && let Some(stamp) = Stamp::find(rest)
        {
            self.on_change(client, stamp);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(sent: u32, seen: &[u32]) -> Told {
        let mut told = Told::default();
        told.audit(sent, seen);
        told
    }

    #[test]
    fn each_fault_of_a_watcher_has_its_own_count() {
        assert_eq!(told(3, &[0, 1, 2]), Told { expected: 3, delivered: 3, ..Told::default() });
        let skipped = told(3, &[0, 2]);
        assert_eq!((skipped.lost, skipped.stale), (1, 0));
        let stale = told(3, &[0, 1]);
        assert_eq!((stale.lost, stale.stale), (1, 1));
        let doubled = told(2, &[0, 1, 1]);
        assert_eq!((doubled.duplicated, doubled.lost, doubled.out_of_order), (1, 0, 0));
        assert_eq!(told(2, &[1, 0]).out_of_order, 1);
        assert_eq!(told(1, &[0, 7]).duplicated, 1);
        assert_eq!(told(0, &[]), Told::default());
    }

    #[test]
    fn users_are_counted_by_as_many_watchers_as_watch_them() {
        let moods = Moods {
            words: Vocabulary::new(crate::vocabulary::App::Telehealth, "/"),
            run: 0,
            first_user: 0,
            users: 10,
            watchers: 4,
            watched: 3,
            progress: Progress::default(),
        };
        let watched: Vec<usize> = (0..4).flat_map(|watcher| moods.watched_by(watcher)).collect();
        for user in 0..10 {
            let by = watched.iter().filter(|&&watched| watched == user).count() as u64;
            assert_eq!(moods.watchers_of(user), by, "{user}");
        }
        assert_eq!(moods.wire_id(0), "u4");
    }
}
