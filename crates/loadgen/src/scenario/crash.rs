//! A gateway dies: how long until its users are offline for others, and is everybody else left alone?
//!
//! Other generators (`loadgen connections`) hold the users; this one watches them all from a gateway that stays: observer `n`
//! watches a thousand of them. It kills the gateway itself, so that the clock starts with the kill.

use std::ops::Range;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{ENTRY_ACK, FIRST_ACK, assemble};
use crate::RunError;
use crate::crew::{Client, Connects, Crew, Muster, Script};
use crate::report::{Cpu, Errors, Latencies, Quantiles};
use crate::session::{Session, SessionError, Target};
use crate::stamp::now_ns;
use crate::tokens::minted_user;
use crate::usage;
use crate::vocabulary::{Vocabulary, string_member};

/// What a server answers in one `presence:get`.
const USERS_PER_OBSERVER: usize = 1000;
const POLL: Duration = Duration::from_millis(500);
/// A poll that nobody answers is asked again.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// Nothing told for this long: all that was told of users as they came has come.
const QUIET: Duration = Duration::from_secs(2);
const QUIET_POLL: Duration = Duration::from_millis(50);

#[derive(Debug, Clone)]
pub struct Crash {
    /// Users `u0` and on.
    pub users: usize,
    /// How many of them, from the first on, are with the gateway that dies.
    pub doomed: usize,
    pub kill: u32,
    /// Longest wait until all are online, until nothing is told any more, and until the doomed are offline.
    pub patience: Duration,
    /// How long the others are watched after that.
    pub settle: Duration,
    /// Processes whose CPU is sampled from the kill to the end of detection.
    pub pids: Vec<u32>,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub connects: Connects,
    pub disconnects: Errors,
    pub users: usize,
    pub doomed: usize,
    /// From the start of this program until every user was online.
    pub online_s: f64,
    /// From the kill until `presence:get` had all the doomed offline. `None`: it never had.
    pub offline_s: Option<f64>,
    /// From the kill to `presence:changed` at an observer, for each of the doomed.
    pub told: Quantiles,
    /// Doomed users whose end was never told.
    pub untold: u64,
    /// Anything told besides one end of each of the doomed.
    pub wrongly_told: u64,
    pub doomed_not_offline: u64,
    pub others_not_online: u64,
    pub cpu: Option<Cpu>,
}

impl Report {
    pub fn is_clean(&self) -> bool {
        let wrong = self.untold + self.wrongly_told;
        wrong + self.doomed_not_offline + self.others_not_online + self.disconnects.total() == 0
    }
}

impl Crash {
    pub fn run(&self, target: &Arc<Target>) -> Result<Report, RunError> {
        target.vocabulary.supports_realtime()?;
        let observers = self.users.div_ceil(USERS_PER_OBSERVER);
        let script = Arc::new(Watch {
            words: target.vocabulary.clone(),
            users: self.users,
            doomed: self.doomed,
            boards: (0..observers).map(|_| Board::default()).collect(),
            killed_ns: AtomicU64::new(u64::MAX),
            told_ns: AtomicU64::new(0),
        });
        // They are few, and what is measured are seconds: one thread.
        let muster = Muster { clients: observers, threads: 1, connect_rate: 100.0 };
        let (crew, connects) = assemble(&script, target, muster)?;
        let seen = self.observe(&script, &crew);
        let (mut notes, mut disconnects) = (Notes::default(), Errors::default());
        for thread in crew.dismiss() {
            disconnects.merge(thread.disconnects);
            notes = thread.notes;
        }
        let seen = seen?;
        let told = notes.told.quantiles();
        let (_, doomed_offline, others_online) = script.totals();
        Ok(Report {
            connects,
            disconnects,
            users: self.users,
            doomed: self.doomed,
            online_s: seen.online_s,
            offline_s: seen.offline_s,
            untold: (self.doomed as u64).saturating_sub(told.count),
            told,
            wrongly_told: notes.wrong,
            doomed_not_offline: (self.doomed - doomed_offline) as u64,
            others_not_online: (self.users - self.doomed - others_online) as u64,
            cpu: seen.cpu,
        })
    }

    fn observe(&self, script: &Watch, crew: &Crew<Watch>) -> Result<Seen, RunError> {
        let (started, all) = (Instant::now(), 0..script.boards.len());
        let online_s = script.poll(crew, all.clone(), self.patience, || {
            let (doomed_online, _, others_online) = script.totals();
            doomed_online + others_online == self.users
        });
        let online_s = online_s.ok_or_else(|| script.not_online(self.patience))?;
        script.wait_until_quiet(started + self.patience);
        let before = usage::sample(&self.pids).map_err(RunError::Usage)?;
        script.killed_ns.store(now_ns(), Relaxed);
        kill(self.kill).map_err(RunError::Kill)?;
        let doomed = 0..self.doomed.div_ceil(USERS_PER_OBSERVER);
        let offline_s = script.poll(crew, doomed, self.patience, || script.totals().1 == self.doomed);
        let after = usage::sample(&self.pids).map_err(RunError::Usage)?;
        std::thread::sleep(self.settle);
        // A last look at everybody.
        script.poll(crew, all, ANSWER_LIMIT, || true);
        let cpu = Cpu::per_operation(usage::between(&before, &after), self.doomed as u64);
        Ok(Seen { online_s, offline_s, cpu })
    }
}

struct Seen {
    online_s: f64,
    offline_s: Option<f64>,
    cpu: Option<Cpu>,
}

/// SIGKILL, by the tool that every system has.
fn kill(pid: u32) -> std::io::Result<()> {
    let status = Command::new("kill").args(["-9", &pid.to_string()]).status()?;
    status.success().then_some(()).ok_or_else(|| std::io::Error::other("no such process"))
}

struct Watch {
    words: Vocabulary,
    users: usize,
    doomed: usize,
    boards: Vec<Board>,
    killed_ns: AtomicU64,
    /// When anything was told last.
    told_ns: AtomicU64,
}

/// What the last answer to one observer said.
#[derive(Default)]
struct Board {
    answers: AtomicUsize,
    doomed_online: AtomicUsize,
    doomed_offline: AtomicUsize,
    others_online: AtomicUsize,
}

#[derive(Default)]
struct Role {
    observer: usize,
    asked: u32,
    /// By user, from the observer's first on: its end was told.
    told: Vec<bool>,
}

#[derive(Default)]
struct Notes {
    told: Latencies,
    wrong: u64,
}

#[derive(Deserialize)]
struct Answer {
    presences: Vec<Shown>,
}

#[derive(Deserialize)]
struct Shown {
    status: String,
}

impl Watch {
    /// Asks some observers' users again and again until `done`; seconds until then, as of the answer.
    fn poll(
        &self,
        crew: &Crew<Watch>,
        observers: Range<usize>,
        patience: Duration,
        done: impl Fn() -> bool,
    ) -> Option<f64> {
        let started = Instant::now();
        while started.elapsed() < patience {
            let asked = Instant::now();
            self.boards.iter().for_each(|board| board.answers.store(0, Relaxed));
            observers.clone().for_each(|observer| crew.orders().give(observer, now_ns()));
            let answered =
                || self.boards[observers.clone()].iter().all(|board| board.answers.load(Relaxed) > 0);
            while !answered() && asked.elapsed() < ANSWER_LIMIT {
                std::thread::sleep(Duration::from_millis(1));
            }
            if answered() && done() {
                return Some(started.elapsed().as_secs_f64());
            }
            std::thread::sleep(POLL.saturating_sub(asked.elapsed()));
        }
        None
    }

    fn wait_until_quiet(&self, deadline: Instant) {
        let quiet = || now_ns().saturating_sub(self.told_ns.load(Relaxed)) > QUIET.as_nanos() as u64;
        while !quiet() && Instant::now() < deadline {
            std::thread::sleep(QUIET_POLL);
        }
    }

    /// Doomed online, doomed offline, others online.
    fn totals(&self) -> (usize, usize, usize) {
        let sum =
            |of: fn(&Board) -> &AtomicUsize| self.boards.iter().map(|board| of(board).load(Relaxed)).sum();
        (
            sum(|board| &board.doomed_online),
            sum(|board| &board.doomed_offline),
            sum(|board| &board.others_online),
        )
    }

    fn not_online(&self, patience: Duration) -> RunError {
        let (doomed_online, _, others_online) = self.totals();
        let online = (doomed_online + others_online) as u64;
        RunError::NotOnline { online, wanted: self.users, seconds: patience.as_secs() }
    }

    fn watched_by(&self, observer: usize) -> Range<usize> {
        let first = observer * USERS_PER_OBSERVER;
        first..(first + USERS_PER_OBSERVER).min(self.users)
    }

    fn ask(&self, event: &str, ack: u32, observer: usize) -> String {
        self.words.of_users(event, ack, self.watched_by(observer).map(minted_user))
    }

    fn on_answer(&self, observer: usize, answer: &Answer) {
        let (mut doomed_online, mut doomed_offline, mut others_online) = (0, 0, 0);
        for (user, shown) in self.watched_by(observer).zip(&answer.presences) {
            match (user < self.doomed, shown.status.as_str()) {
                (true, "offline") => doomed_offline += 1,
                (true, "online") => doomed_online += 1,
                (false, "online") => others_online += 1,
                _ => {}
            }
        }
        let board = &self.boards[observer];
        board.doomed_online.store(doomed_online, Relaxed);
        board.doomed_offline.store(doomed_offline, Relaxed);
        board.others_online.store(others_online, Relaxed);
        board.answers.fetch_add(1, Relaxed);
    }

    fn on_change(&self, client: &mut Client<'_, Self>, rest: &[u8]) {
        let now_ns = now_ns();
        self.told_ns.store(now_ns, Relaxed);
        let killed_ns = self.killed_ns.load(Relaxed);
        if now_ns < killed_ns {
            return;
        }
        let user = string_member(rest, "userId").and_then(number_of);
        let first = client.role.observer * USERS_PER_OBSERVER;
        let doomed = user.filter(|&user| user < self.doomed).and_then(|user| user.checked_sub(first));
        let told = doomed.and_then(|place| client.role.told.get_mut(place));
        match (told, string_member(rest, "status")) {
            (Some(told @ false), Some("offline")) => {
                *told = true;
                client.notes.told.record_ns(now_ns - killed_ns);
            }
            _ => client.notes.wrong += 1,
        }
    }
}

/// The number of a minted user.
fn number_of(user: &str) -> Option<usize> {
    user.strip_prefix('u')?.parse().ok()
}

impl Script for Watch {
    type Role = Role;
    type Notes = Notes;

    fn node(&self, index: usize) -> usize {
        index
    }

    async fn enter(&self, index: usize, session: &mut Session) -> Result<Role, SessionError> {
        let event = self.ask("presence:subscribe", ENTRY_ACK, index);
        session.request(&self.words, ENTRY_ACK, &event).await?;
        Ok(Role { observer: index, asked: 0, told: vec![false; self.watched_by(index).len()] })
    }

    fn on_order(&self, client: &mut Client<'_, Self>, _: u64) {
        let ack = FIRST_ACK + client.role.asked;
        client.role.asked += 1;
        client.outbound.send(&self.ask("presence:get", ack, client.role.observer));
    }

    fn on_packet(&self, client: &mut Client<'_, Self>, packet: &[u8]) {
        if let Some((ack, arguments)) = self.words.ack(packet) {
            // An answer to an earlier question says nothing about now.
            let is_last = ack == FIRST_ACK + client.role.asked - 1;
            if let (true, Ok([answer])) = (is_last, serde_json::from_slice::<[Answer; 1]>(arguments)) {
                self.on_answer(client.role.observer, &answer);
            }
        } else if let Some((b"presence:changed", rest)) = self.words.told(packet) {
            self.on_change(client, rest);
        }
    }
}
