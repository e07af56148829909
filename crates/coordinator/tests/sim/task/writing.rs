//! A commit or a repair on its way, a write at a time: everything else may happen between two, and a replica may die or an answer be
//! lost after each.

use std::collections::VecDeque;

use cluster::coordination::{Reply, decode};
use coordinator::plan::{Begin, CallRecord, Care, Commit, Key, Write, Written};
use domain::call::CallId;

use super::{Next, Task, Unavailable, Work};
use crate::faults::Broken;
use crate::sim::Sim;
use crate::store::At;

/// A commit or a repair on its way, a write at a time.
pub struct Writing {
    rest: VecDeque<Op>,
    /// `None`: a repair, or only reservations.
    commit: Option<Commit>,
    begin: Option<Begin>,
    written: Written,
    /// A reservation was not stored.
    failed: bool,
}

pub enum Op {
    /// Before the point, all at once: if one fails, the command is planned anew.
    Before(Write),
    /// Of a repair: if it fails, the rest is left.
    Repair(Write),
    Timer(CallId, u64),
    Point(Write),
    After(Write),
}

impl Sim {
    pub(super) fn prepare(&mut self, task: &mut Task, mut commit: Commit) -> Result<Next, Unavailable> {
        if !self.breaks(Broken::TellFirst) {
            for tell in std::mem::take(&mut commit.first) {
                self.tell(task.replica, &tell)?;
            }
        }
        commit.before.retain(|write| !self.is_broken_off(write));
        let mut rest = self.reservations(&commit.before, commit.timer.as_ref());
        rest.push_back(Op::Point(commit.point.clone()));
        let mut after = commit.after.clone();
        self.shuffle(&mut after);
        rest.extend(after.into_iter().map(Op::After));
        task.writing = Some(Writing {
            rest,
            commit: Some(commit),
            begin: None,
            written: Written::default(),
            failed: false,
        });
        Ok(Next::Again)
    }

    /// In any order.
    fn reservations(&mut self, before: &[Write], timer: Option<&(CallId, u64)>) -> VecDeque<Op> {
        let mut before = before.to_vec();
        self.shuffle(&mut before);
        let mut rest: VecDeque<Op> = before.into_iter().map(Op::Before).collect();
        if let Some((call, at_ms)) = timer {
            let at = self.chance.below(rest.len() as u64 + 1);
            rest.insert(at as usize, Op::Timer(call.clone(), *at_ms));
        }
        rest
    }

    /// Reservations while it is looked for whom it rings, which may come before or after.
    pub(super) fn begin_call(&mut self, task: &mut Task, begin: Begin) {
        if self.chance.percent(40) {
            return self.load(task, begin.keys);
        }
        let rest = self.reservations(&begin.before, begin.timer.as_ref());
        let (written, begin) = (Written::default(), Some(begin));
        task.writing = Some(Writing { rest, commit: None, begin, written, failed: false });
    }

    pub(super) fn repair(&mut self, task: &mut Task, writes: Vec<Write>) {
        let rest = self.in_order(writes);
        task.writing =
            Some(Writing { rest, commit: None, begin: None, written: Written::default(), failed: false });
    }

    /// The first before the others.
    fn in_order(&mut self, mut writes: Vec<Write>) -> VecDeque<Op> {
        if let Some((_, others)) = writes.split_first_mut() {
            self.shuffle(others);
        }
        writes.into_iter().map(Op::Repair).collect()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for at in (1..items.len()).rev() {
            items.swap(at, self.chance.below(at as u64 + 1) as usize);
        }
    }

    /// A write that a broken world leaves out.
    fn is_broken_off(&self, write: &Write) -> bool {
        match (self.broken, &write.key, &write.value) {
            (Some(Broken::NoteInstead), Key::Call(call), Some(bytes)) => {
                decode::<CallRecord>(bytes).expect("a record").call.id != *call
            }
            _ => false,
        }
    }

    /// One write of a commit or a repair: everything else may happen between two.
    pub(super) fn write_one(&mut self, task: &mut Task, mut writing: Writing) -> Result<Next, Unavailable> {
        let Some(op) = writing.rest.pop_front() else {
            self.written_all(task, writing);
            return Ok(Next::Again);
        };
        if writing.failed && !matches!(op, Op::Before(_) | Op::Timer(..)) {
            self.forget(task);
            return Ok(Next::Again);
        }
        let stored = match &op {
            Op::Before(write) | Op::Repair(write) | Op::After(write) => self.store_one(write, |_| {}),
            Op::Timer(call, at_ms) => {
                self.set_timer(call.clone(), *at_ms);
                true
            }
            Op::Point(write) => {
                let commit = writing.commit.as_ref().expect("a point is a commit's");
                self.store_one(write, |sim| sim.check_point(task.command(), write, &commit.done.events))
            }
        };
        match &op {
            Op::Before(write) | Op::After(write) if stored => {
                if let Some(user) = write.key.user_calls() {
                    writing.written.users.insert(user.clone(), self.store.rev(&At::of(&write.key)));
                }
            }
            Op::Point(write) if stored => writing.written.point = self.store.rev(&At::of(&write.key)),
            Op::Before(_) => writing.failed |= !stored,
            Op::After(write) => writing.written.late.extend(write.key.user_calls().cloned()),
            _ if !stored => {
                self.forget(task);
                return Ok(Next::Again);
            }
            _ => {}
        }
        task.writing = Some(writing);
        Ok(Next::Again)
    }

    fn written_all(&mut self, task: &mut Task, writing: Writing) {
        let Writing { commit, begin, written, failed, .. } = writing;
        if let (Some(begin), false) = (begin, failed) {
            let rev =
                |write: &Write| write.key.user_calls().and_then(|user| written.users.get(user).copied());
            let revs = begin.before.iter().map(|write| rev(write).expect("all were stored")).collect();
            return task.known.begin(begin, revs);
        }
        let Some(commit) = commit else { return self.forget(task) };
        task.care = Care::of(&self.app, &commit, &written, self.replica_unix(task.replica));
        if let (Reply::Call(call), false) = (&commit.done.reply, written.late.is_empty()) {
            task.next.push_front(Work::Settle(call.id.clone(), written.late));
        }
        self.conclude(task, commit.done);
    }

    /// Whether it is known to be stored.
    fn store_one(&mut self, write: &Write, check: impl FnOnce(&mut Self)) -> bool {
        let trouble = self.chance.percent(self.faults.lost_writes);
        if trouble && self.chance.percent(50) {
            return false;
        }
        if !self.store.write(write, self.now, !self.breaks(Broken::Compare)) {
            self.conflicts += 1;
            return false;
        }
        let at = At::of(&write.key);
        let rev = self.store.rev(&at);
        self.stored(at, rev);
        check(self);
        !trouble
    }
}
