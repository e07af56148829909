//! A commit or a repair on its way, a write at a time: everything else may happen between two, and a replica may die or an answer be
//! lost after each.

use std::collections::VecDeque;

use cluster::coordination::{Reply, decode};
use coordinator::plan::{CallRecord, Commit, Done, Key, Write};
use domain::UserId;
use domain::call::CallId;

use super::{Next, Task, Unavailable, Work};
use crate::faults::Broken;
use crate::sim::Sim;
use crate::store::At;

/// A commit or a repair on its way, a write at a time.
pub struct Writing {
    rest: VecDeque<Op>,
    /// Of a commit.
    done: Option<Done>,
    /// Users whose records did not follow.
    late: Vec<UserId>,
}

pub enum Op {
    /// Before the point: if it fails, the command is planned anew.
    Before(Write),
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
        let mut rest = self.in_order(commit.before, Op::Before);
        if let Some((call, at_ms)) = commit.timer {
            let at = self.chance.below(rest.len() as u64 + 1);
            rest.insert(at as usize, Op::Timer(call, at_ms));
        }
        rest.push_back(Op::Point(commit.point));
        let mut after = commit.after;
        self.shuffle(&mut after);
        rest.extend(after.into_iter().map(Op::After));
        task.writing = Some(Writing { rest, done: Some(commit.done), late: Vec::new() });
        Ok(Next::Again)
    }

    pub(super) fn repair(&mut self, task: &mut Task, writes: Vec<Write>) {
        let rest = self.in_order(writes, Op::Before);
        task.writing = Some(Writing { rest, done: None, late: Vec::new() });
    }

    /// The first before the others.
    fn in_order(&mut self, mut writes: Vec<Write>, op: impl Fn(Write) -> Op) -> VecDeque<Op> {
        if let Some((_, others)) = writes.split_first_mut() {
            self.shuffle(others);
        }
        writes.into_iter().map(op).collect()
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
        let stored = match &op {
            Op::Before(write) | Op::After(write) => self.store_one(write, |_| {}),
            Op::Timer(call, at_ms) => {
                self.set_timer(call.clone(), *at_ms);
                true
            }
            Op::Point(write) => {
                let done = writing.done.as_ref().expect("a commit has a point");
                self.store_one(write, |sim| sim.check_point(task.command(), write, &done.events))
            }
        };
        match op {
            Op::After(write) if !stored => writing.late.extend(write.key.user_calls().cloned()),
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
        let Some(done) = writing.done else { return self.forget(task) };
        if let (Reply::Call(call), false) = (&done.reply, writing.late.is_empty()) {
            task.next.push_front(Work::Settle(call.id.clone(), writing.late));
        }
        self.conclude(task, done);
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
