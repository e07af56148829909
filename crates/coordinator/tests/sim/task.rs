//! What a replica does for one request or one message, a step at a time: the loops of `desk`, `followers` and `teller`, with every
//! other task's steps in between. What it does after the reply stands in `caring`.

mod caring;
mod writing;

use std::collections::VecDeque;

use cluster::coordination::{Reply, Request};
use coordinator::plan::presence::{Chosen, Refold};
use coordinator::plan::{self, CallRecord, Care, Cares, Claim, Done, Entry, Key, Known, Of, Step, Tell};
use domain::UserId;
use domain::call::{Act, CallId, Command, CommandId};

use crate::Millis;
use crate::faults::Broken;
use crate::sim::{Event, Sim};
use crate::store::{At, Stored, Value};
use writing::Writing;

const REQUEST_DEADLINE: Millis = 4_000;
const TRY_AGAIN: Millis = 500;
const FIRST_PAUSE: Millis = 5;
const WAITS: u32 = 4;

pub struct Task {
    pub replica: usize,
    origin: Origin,
    deadline: Millis,
    work: Work,
    /// What is being written.
    writing: Option<Writing>,
    /// What comes after `work`: the calls of a user that was folded, the users of a call that was told.
    next: VecDeque<Work>,
    waits: u32,
    /// Whose records are read before the plan asks, as a follower does for all it works off together.
    ahead: Option<UserId>,
    /// A fold that has the user's calls look at the devices.
    stirs: bool,
    /// What is left to do after the reply.
    care: Option<Care>,
    pub known: Known,
    /// The calls' and the presence bucket when the oldest of `known` was read.
    since: [u64; 2],
    /// And the reply once all is told.
    telling: Option<(VecDeque<Tell>, Reply)>,
    reply: Option<Reply>,
}

enum Origin {
    Ask(u64),
    /// And what is claimed when it is done.
    Message(u64, Option<Claim>),
    /// What was left to do after several replies, or one fold of it, and what is claimed then.
    Care(Vec<Claim>),
}

enum Work {
    Command(Box<Command>),
    Fold(Refold),
    Settle(CallId, Vec<UserId>),
    SetTimer(CallId, u64),
    /// Only `telling`.
    Tell,
    Care(Box<Cares>),
}

struct Unavailable;

/// How a step ends.
enum Next {
    Again,
    Pause(Millis),
    /// Replies or acks.
    End,
}

impl Task {
    pub fn of_request(replica: usize, ask: u64, request: &Request, now: Millis, unix_ms: u64) -> Self {
        let work = match request {
            Request::Call(command) => Work::Command(command.clone()),
            Request::Choose { id, user, wire_id, change } => Work::Fold(Refold {
                user: user.clone(),
                chosen: Some(Chosen { id: *id, wire_id: wire_id.clone(), change: change.clone() }),
                gone_ms: unix_ms,
            }),
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
        let of_calls = matches!(at, At::Call(_) | At::User(_));
        let origin = Origin::Message(message, of_calls.then_some(Claim { seq: stored.rev, after: 0 }));
        let fold = |user: &UserId, gone_ms| Work::Fold(Refold { user: user.clone(), chosen: None, gone_ms });
        let work = match (at, &stored.value) {
            (At::Due(call, _), Some(Value::Due(due_ms))) => {
                let act = Act::Tick { due_ms: *due_ms };
                Work::Command(Command { id: CommandId(id), call: call.clone(), actor: None, act }.into())
            }
            (At::Call(_), Some(Value::Call(record))) => {
                let of = Of::Call(record.call.id.clone());
                let tells = record.told.iter().map(|told| Tell { of: of.clone(), told: told.clone() });
                let telling = Some((tells.collect(), Reply::Unavailable));
                let next = after_telling(record, crate::sim::unix(stored.at_ms), id);
                return Some(Self { telling, next, ..Self::new(replica, origin, now, Work::Tell) });
            }
            (At::User(user), _) => fold(user, crate::sim::unix(stored.at_ms)),
            (At::Presence(user), value) => {
                let value = match value {
                    Some(Value::Presence(record)) => Some((**record).clone()),
                    _ => None,
                };
                let work = fold(user, crate::sim::unix(stored.at_ms));
                let entry = Entry { value, rev: stored.rev, at_ms: crate::sim::unix(stored.at_ms) };
                let mut known = Known { fresh: true, ..Known::default() };
                known.presences.insert(user.clone(), entry);
                let task = Self::new(replica, origin, now, work);
                return Some(Self { ahead: Some(user.clone()), stirs: false, known, ..task });
            }
            (At::Device(user, _), value) => {
                let said = match value {
                    Some(Value::Device(record)) if record.gone_ms > 0 => Some(record.gone_ms),
                    _ => None,
                };
                let gone_ms = stored.gone_ms.or(said).unwrap_or(crate::sim::unix(stored.at_ms));
                fold(user, gone_ms)
            }
            _ => return None,
        };
        let ahead = match &work {
            Work::Fold(refold) => Some(refold.user.clone()),
            _ => None,
        };
        Some(Self { ahead, ..Self::new(replica, origin, now, work) })
    }

    fn new(replica: usize, origin: Origin, now: Millis, work: Work) -> Self {
        Self {
            replica,
            origin,
            deadline: now + REQUEST_DEADLINE,
            work,
            writing: None,
            next: VecDeque::new(),
            waits: 0,
            ahead: None,
            stirs: true,
            care: None,
            known: Known::default(),
            since: [0; 2],
            telling: None,
            reply: None,
        }
    }

    /// The client's command that it works at.
    fn command(&self) -> Option<CommandId> {
        match &self.work {
            Work::Command(command) => command.actor.as_ref().map(|_| command.id),
            Work::Fold(refold) => refold.chosen.as_ref().map(|chosen| chosen.id),
            Work::Settle(..) | Work::SetTimer(..) | Work::Tell | Work::Care(_) => None,
        }
    }
}

/// The users' records follow; who came back is looked at.
fn after_telling(record: &CallRecord, since_ms: u64, id: u128) -> VecDeque<Work> {
    let call = &record.call.id;
    let users: Vec<UserId> = record.touched.iter().map(|touched| touched.user.clone()).collect();
    let again =
        coordinator::set_again(&record.call, since_ms).map(|at_ms| Work::SetTimer(call.clone(), at_ms));
    if users.is_empty() {
        return again.into_iter().collect();
    }
    let back = record.touched.iter().filter(|touched| touched.back).map(|touched| {
        let act = Act::Devices { user: touched.user.clone(), present: Vec::new(), since_ms };
        Work::Command(Command { id: CommandId(id), call: call.clone(), actor: None, act }.into())
    });
    again.into_iter().chain([Work::Settle(call.clone(), users)]).chain(back).collect()
}

/// The user's record, then the calls it names if they are to look at the devices, then the rest.
fn read_ahead(known: &Known, user: &UserId, stirs: bool) -> Vec<Key> {
    let calls = known.users.get(user).and_then(|entry| entry.value.as_ref()).filter(|_| stirs);
    let named = calls.iter().flat_map(|calls| &calls.calls).map(|entry| Key::Call(entry.call.clone()));
    let stages = [
        vec![Key::UserCalls(user.clone())],
        named.collect(),
        vec![Key::Presence(user.clone()), Key::Devices(user.clone())],
    ];
    let missing = stages.into_iter().map(|keys| known.missing(keys));
    missing.into_iter().find(|keys| !keys.is_empty()).unwrap_or_default()
}

impl Sim {
    /// One step of a task; it steps again until it ends.
    pub fn step(&mut self, id: u64) {
        let Some(mut task) = self.tasks.remove(&id) else { return };
        let next = match task.writing.take() {
            Some(writing) => self.write_one(&mut task, writing),
            None if task.telling.is_some() => self.tell_one(&mut task),
            None if matches!(task.work, Work::Care(_)) => self.care(&mut task),
            None => self.planned(&mut task),
        };
        match next {
            Ok(Next::Again) => {
                self.tasks.insert(id, task);
                self.step_soon(id);
            }
            Ok(Next::Pause(pause)) => {
                self.tasks.insert(id, task);
                self.after(pause, Event::Step { task: id });
            }
            Ok(Next::End) => self.end(task),
            // Left to a follower.
            Err(Unavailable) if task.reply.is_some() && matches!(task.origin, Origin::Ask(_)) => {
                self.end(task)
            }
            Err(Unavailable) => self.give_up(&task),
        }
    }

    fn end(&mut self, mut task: Task) {
        match task.origin {
            Origin::Ask(ask) => {
                self.reply(ask, task.reply.expect("a request's work has a reply"));
                if let Some(care) = task.care.take() {
                    self.leave_care(task.replica, care);
                }
            }
            Origin::Message(message, claim) => {
                self.claim(task.replica, claim.into_iter().collect());
                self.ack(message);
            }
            Origin::Care(claims) => self.claim(task.replica, claims),
        }
    }

    fn give_up(&mut self, task: &Task) {
        match task.origin {
            Origin::Ask(ask) => self.reply(ask, Reply::Unavailable),
            Origin::Message(message, _) => self.after(TRY_AGAIN, Event::Deliver { message }),
            Origin::Care(_) => {}
        }
    }

    fn tell_one(&mut self, task: &mut Task) -> Result<Next, Unavailable> {
        let must = matches!(task.work, Work::Tell | Work::Fold(_));
        let newest_only = self.breaks(Broken::TellEarlier);
        let (tells, _) = task.telling.as_mut().expect("it tells");
        if newest_only {
            tells.drain(..tells.len().saturating_sub(1));
        }
        if let Some(tell) = tells.pop_front() {
            let told = self.tell(task.replica, &tell);
            if told.is_err() && must {
                return Err(Unavailable);
            }
            if let (Err(Unavailable), Some((tells, _))) = (told, &mut task.telling) {
                // Left to the follower of the call's record.
                tells.clear();
                task.care = None;
            }
            return Ok(Next::Again);
        }
        let (_, reply) = task.telling.take().expect("it tells");
        self.told(task, reply)
    }

    fn tell(&mut self, replica: usize, tell: &Tell) -> Result<(), Unavailable> {
        let stored = self.replicas[replica].stored.entry(tell.of.clone()).or_default();
        if *stored >= tell.told.rev {
            return Ok(());
        }
        if self.chance.percent(self.faults.lost_writes) {
            if self.chance.percent(50) {
                self.store.tell(tell);
            }
            return Err(Unavailable);
        }
        *stored = tell.told.rev;
        self.store.tell(tell);
        Ok(())
    }

    /// What a plan concluded is committed and told.
    fn told(&mut self, task: &mut Task, done: Reply) -> Result<Next, Unavailable> {
        self.check_reply(&done);
        task.known = self.nothing_known();
        match &task.work {
            Work::Tell => {}
            _ => drop(task.reply.get_or_insert(done)),
        }
        match task.next.pop_front() {
            Some(Work::Settle(..)) if self.breaks(Broken::Follow) => Ok(Next::End),
            Some(Work::SetTimer(call, at_ms)) => {
                self.set_timer(call, at_ms);
                task.telling = Some((VecDeque::new(), Reply::Unavailable));
                Ok(Next::Again)
            }
            Some(work) => {
                (task.work, task.waits) = (work, 0);
                Ok(Next::Again)
            }
            None => Ok(Next::End),
        }
    }

    fn planned(&mut self, task: &mut Task) -> Result<Next, Unavailable> {
        if self.now >= task.deadline {
            return Err(Unavailable);
        }
        if let Some(keys) = task.ahead.as_ref().map(|user| read_ahead(&task.known, user, task.stirs)) {
            return Ok(self.load_ahead(task, keys));
        }
        let unix_ms = self.replica_unix(task.replica);
        let step = match &task.work {
            Work::Command(command) => plan::call::plan(&self.app, command, &task.known, unix_ms),
            Work::Fold(refold) => plan::presence::plan(&self.app, refold, &task.known, unix_ms),
            Work::Settle(call, users) => plan::call::settle(&self.app, call, users, &task.known, unix_ms),
            Work::SetTimer(..) | Work::Tell | Work::Care(_) => return Ok(Next::End),
        };
        match step {
            Step::Load(keys) => self.load(task, keys),
            Step::Begin(begin) => self.begin_call(task, *begin),
            Step::Reload => {
                let steady = task.known.fresh && task.since == self.store.seqs();
                assert!(
                    !steady,
                    "what was read of one moment does not fit together: it would be read for ever"
                );
                self.forget(task);
            }
            Step::Wait => return self.wait(task),
            Step::Repair(writes) => self.repair(task, writes),
            Step::Done(done) => self.conclude(task, *done),
            Step::Commit(commit) => return self.prepare(task, *commit),
        }
        Ok(Next::Again)
    }

    fn wait(&mut self, task: &mut Task) -> Result<Next, Unavailable> {
        let for_ever = matches!(&task.work, Work::Command(command) if command.actor.is_some());
        if !for_ever && self.breaks(Broken::Dangling) {
            return Ok(Next::End);
        }
        if task.waits >= WAITS && !for_ever {
            return Err(Unavailable);
        }
        task.waits += 1;
        self.forget(task);
        Ok(Next::Pause(FIRST_PAUSE << task.waits.min(10)))
    }

    fn forget(&mut self, task: &mut Task) {
        task.known = Known { fresh: true, ..Known::default() };
        task.since = self.store.seqs();
    }

    fn load_ahead(&mut self, task: &mut Task, keys: Vec<Key>) -> Next {
        if !task.known.fresh {
            self.forget(task);
        } else if keys.is_empty() {
            task.ahead = None;
        } else {
            self.load(task, keys);
        }
        Next::Again
    }

    fn conclude(&mut self, task: &mut Task, done: Done) {
        if let (Work::Fold(refold), true) = (&task.work, task.stirs) {
            let unix_ms = self.replica_unix(task.replica);
            for (call, act) in plan::presence::devices_acts(&self.app, refold, &task.known, unix_ms) {
                let id = CommandId(self.any_id());
                task.next.push_back(Work::Command(Command { id, call, actor: None, act }.into()));
            }
        }
        if let (Work::Command(command), Reply::Refused(_)) = (&task.work, &done.reply) {
            self.check_refusal(&command.id, task.since[0], &done.reply);
        }
        task.telling = Some((done.tell.into(), done.reply));
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
                    if let Some(record) =
                        entry.value.as_mut().filter(|_| self.breaks(Broken::RememberCommands))
                    {
                        record.call.done.clear();
                    }
                    task.known.calls.insert(call.clone(), entry);
                }
                Key::UserCalls(user) => {
                    task.known.users.insert(user.clone(), self.store.user(user, single));
                }
                Key::Presence(user) => {
                    let mut entry = self.store.presence(user, single);
                    if let Some(record) =
                        entry.value.as_mut().filter(|_| self.breaks(Broken::RememberChoices))
                    {
                        record.done.clear();
                    }
                    task.known.presences.insert(user.clone(), entry);
                }
                Key::Devices(user) => {
                    task.known.devices.insert(user.clone(), self.store.devices(user));
                }
            }
        }
    }
}
