//! What a replica does for one request or one message, a step at a time: the loops of `desk`, `followers` and `teller`, with every
//! other task's steps in between.

use std::collections::VecDeque;

use cluster::coordination::{Reply, Request};
use coordinator::plan::presence::Refold;
use coordinator::plan::{self, Commit, Done, Key, Known, Of, Step, Tell};
use domain::UserId;
use domain::call::{Act, Command, CommandId};

use crate::Millis;
use crate::sim::{Event, Sim};
use crate::store::{At, Moment, Stored, Value};

const REQUEST_DEADLINE: Millis = 4_000;
const TRY_AGAIN: Millis = 500;

pub struct Task {
    pub replica: usize,
    origin: Origin,
    deadline: Millis,
    work: Work,
    /// For the calls of a user that was folded.
    acts: VecDeque<Command>,
    known: Known,
    /// The calls' and the presence bucket when the oldest of `known` was read.
    since: [u64; 2],
    telling: Option<(VecDeque<Tell>, Finished)>,
    reply: Option<Reply>,
}

enum Origin {
    Ask(u64),
    Message(u64),
}

enum Work {
    Command(Command),
    Fold(Refold, Option<(At, u64)>),
    /// Only `telling`.
    Tell,
}

/// What follows once all is told.
struct Finished {
    reply: Reply,
    committed: bool,
}

struct Unavailable;

/// How a step ends.
enum Next {
    Again,
    /// Replies or acks.
    End,
}

impl Task {
    pub fn of_request(replica: usize, ask: u64, request: &Request, now: Millis, unix_ms: u64) -> Self {
        let work = match request {
            Request::Call(command) => Work::Command((**command).clone()),
            Request::Choose { id, user, wire_id, change } => Work::Fold(
                Refold {
                    user: user.clone(),
                    chosen: Some((*id, wire_id.clone(), change.clone())),
                    gone_ms: unix_ms,
                },
                None,
            ),
        };
        Self::new(replica, Origin::Ask(ask), now, work)
    }

    /// `None`: there is nothing to do for it.
    pub fn of_message(
        replica: usize,
        message: u64,
        at: &At,
        stored: &Stored,
        now: Millis,
        id: u128,
    ) -> Option<Self> {
        let origin = Origin::Message(message);
        let fold = |user: &UserId, gone_ms, trigger| {
            Work::Fold(Refold { user: user.clone(), chosen: None, gone_ms }, trigger)
        };
        let work = match (at, &stored.value) {
            (At::Due(call), Some(Value::Due(due_ms))) => {
                let act = Act::Tick { due_ms: *due_ms };
                Work::Command(Command { id: CommandId(id), call: call.clone(), actor: None, act })
            }
            (At::Call(_), Some(Value::Call(record))) => {
                let of = Of::Call(record.call.id.clone());
                let tells = record.told.iter().map(|told| Tell { of: of.clone(), told: told.clone() });
                let done = Finished { reply: Reply::Unavailable, committed: false };
                let telling = Some((tells.collect(), done));
                return Some(Self { telling, ..Self::new(replica, origin, now, Work::Tell) });
            }
            (At::User(user), _) => fold(user, crate::sim::unix(stored.at_ms), None),
            (At::Device(user, _), value) => {
                let said = match value {
                    Some(Value::Device(record)) if record.gone_ms > 0 => Some(record.gone_ms),
                    _ => None,
                };
                let gone_ms = stored.gone_ms.or(said).unwrap_or(crate::sim::unix(stored.at_ms));
                fold(user, gone_ms, Some((at.clone(), stored.rev)))
            }
            _ => return None,
        };
        Some(Self::new(replica, origin, now, work))
    }

    fn new(replica: usize, origin: Origin, now: Millis, work: Work) -> Self {
        Self {
            replica,
            origin,
            deadline: now + REQUEST_DEADLINE,
            work,
            acts: VecDeque::new(),
            known: Known::default(),
            since: [0; 2],
            telling: None,
            reply: None,
        }
    }

    fn is_follower(&self) -> bool {
        matches!(self.origin, Origin::Message(_))
    }
}

impl Sim {
    /// One step of a task; it steps again until it ends.
    pub fn step(&mut self, id: u64) {
        let Some(mut task) = self.tasks.remove(&id) else { return };
        let next = if task.telling.is_some() { self.tell_one(&mut task) } else { self.planned(&mut task) };
        match next {
            Ok(Next::Again) => {
                self.tasks.insert(id, task);
                self.step_soon(id);
            }
            Ok(Next::End) => self.end(task),
            Err(Unavailable) => self.give_up(&task),
        }
    }

    fn end(&mut self, task: Task) {
        match task.origin {
            Origin::Ask(ask) => self.reply(ask, task.reply.expect("a request's work has a reply")),
            Origin::Message(message) => self.ack(message),
        }
    }

    fn give_up(&mut self, task: &Task) {
        match task.origin {
            Origin::Ask(ask) => self.reply(ask, Reply::Unavailable),
            Origin::Message(message) => self.after(TRY_AGAIN, Event::Deliver { message }),
        }
    }

    fn tell_one(&mut self, task: &mut Task) -> Result<Next, Unavailable> {
        let (tells, _) = task.telling.as_mut().expect("it tells");
        if self.rules.newest_only {
            tells.drain(..tells.len().saturating_sub(1));
        }
        while let Some(tell) = tells.pop_front() {
            let stored = self.replicas[task.replica].stored.entry(tell.of.clone()).or_default();
            if *stored >= tell.told.rev {
                continue;
            }
            if self.chance.percent(self.faults.lost_writes) {
                if self.chance.percent(50) {
                    self.store.tell(&tell);
                }
                if task.is_follower() && matches!(task.work, Work::Tell) {
                    return Err(Unavailable);
                }
                tells.clear();
                break;
            }
            *stored = tell.told.rev;
            self.store.tell(&tell);
            return Ok(Next::Again);
        }
        let (_, finished) = task.telling.take().expect("it tells");
        self.told(task, finished)
    }

    /// What a plan concluded is committed and told.
    fn told(&mut self, task: &mut Task, done: Finished) -> Result<Next, Unavailable> {
        self.check_reply(&done.reply);
        task.known = self.nothing_known();
        match &mut task.work {
            Work::Tell => return Ok(Next::End),
            Work::Command(_) => {
                task.reply.get_or_insert(done.reply);
            }
            Work::Fold(refold, _) => {
                task.reply.get_or_insert(done.reply);
                refold.chosen = None;
                if done.committed && !self.rules.fold_once {
                    return Ok(Next::Again);
                }
            }
        }
        match task.acts.pop_front() {
            Some(command) => {
                task.work = Work::Command(command);
                Ok(Next::Again)
            }
            None => Ok(Next::End),
        }
    }

    fn planned(&mut self, task: &mut Task) -> Result<Next, Unavailable> {
        if self.now >= task.deadline {
            return Err(Unavailable);
        }
        let unix_ms = self.replica_unix(task.replica);
        let step = match &task.work {
            Work::Command(command) => plan::call::plan(&self.app, command, &task.known, unix_ms),
            Work::Fold(refold, _) => plan::presence::plan(&self.app, refold, &task.known, unix_ms),
            Work::Tell => return Ok(Next::End),
        };
        match step {
            Step::Load(keys) => self.load(task, keys),
            Step::Reload => {
                let steady = task.known.fresh && task.since == self.store.seqs() && !self.lags();
                assert!(!steady, "what was read of one moment does not fit together: it would be read for ever");
                self.forget(task);
            }
            Step::Done(done) => self.conclude(task, *done, false),
            Step::Commit(commit) => self.commit(task, *commit),
        }
        Ok(Next::Again)
    }

    fn forget(&mut self, task: &mut Task) {
        task.known = Known { fresh: true, ..Known::default() };
        task.since = self.store.seqs();
    }

    fn conclude(&mut self, task: &mut Task, done: Done, committed: bool) {
        if let Work::Fold(refold, _) = &task.work
            && !committed
        {
            for (call, act) in plan::presence::devices_acts(refold, &task.known) {
                let id = CommandId(self.any_id());
                task.acts.push_back(Command { id, call, actor: None, act });
            }
        }
        let finished = Finished { reply: done.reply, committed };
        task.telling = Some((done.tell.into(), finished));
    }

    /// Some of what is missing, each at a moment of its own: the plan asks again for the rest.
    fn load(&mut self, task: &mut Task, keys: Vec<Key>) {
        if task.known.calls.is_empty() && task.known.users.is_empty() && task.known.presences.is_empty() {
            task.since = self.store.seqs();
        }
        let most = 1 + self.chance.below(2 * keys.len() as u64);
        for key in keys.into_iter().take(most as usize) {
            let fresh = task.known.fresh;
            let single = self.moment(fresh);
            match &key {
                Key::Call(call) => {
                    let mut entry = self.store.call(call, single);
                    if let Some(record) = entry.value.as_mut().filter(|_| self.rules.forget_done) {
                        record.call.done.clear();
                    }
                    task.known.calls.insert(call.clone(), entry);
                }
                Key::UserCalls(user) => {
                    task.known.users.insert(user.clone(), self.store.user(user, single));
                }
                Key::Presence(user) => {
                    task.known.presences.insert(user.clone(), self.store.presence(user, single));
                }
                Key::Devices(user) => {
                    let records = self.list(task, user);
                    task.known.devices.insert(user.clone(), records);
                }
            }
        }
    }

    /// A listing may come from a lagging replica, but shows what it was made for.
    fn list(&mut self, task: &Task, user: &UserId) -> Vec<domain::presence::DeviceRecord> {
        let seq = match &task.work {
            Work::Fold(_, Some((_, seq))) => *seq,
            _ => 0,
        };
        let moment = self.moment(false);
        self.store.devices(user, Moment { seq: seq.max(moment.seq), ..moment })
    }

    fn commit(&mut self, task: &mut Task, commit: Commit) {
        let trouble = self.chance.percent(self.faults.lost_writes);
        if trouble && self.chance.percent(50) {
            return self.forget(task);
        }
        let command = match &task.work {
            Work::Command(command) => Some(command.id),
            Work::Fold(refold, _) => refold.chosen.as_ref().map(|(id, ..)| *id),
            Work::Tell => None,
        };
        if !self.store.commit(&commit.writes, self.now, !self.rules.unchecked) {
            self.conflicts += 1;
            return self.forget(task);
        }
        self.committed(command, &commit);
        if trouble {
            return self.forget(task);
        }
        self.conclude(task, commit.done, true);
    }
}
