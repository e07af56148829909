//! What a replica sees to after its replies, and what it tells the others of it: `carer` and `peers`.

use cluster::coordination::Request;
use coordinator::plan::presence::Refold;
use coordinator::plan::{Care, Cares, Claim, Entry, Known};
use domain::call::{self, Act};

use super::{Next, Origin, Task, Unavailable, Work};
use crate::faults::Broken;
use crate::sim::{Event, Sim};

/// How long a replica gathers, at most.
const GATHER_MS: u64 = 40;

impl Task {
    fn caring(replica: usize, now: u64, cares: Cares) -> Self {
        Self::new(replica, Origin::Care(Vec::new()), now, Work::Care(Box::new(cares)))
    }
}

impl Sim {
    pub(super) fn leave_care(&mut self, replica: usize, care: Care) {
        self.claim(replica, care.record().into_iter().collect());
        let left = &mut self.replicas[replica].left;
        left.push(care);
        if left.len() == 1 {
            self.soon(GATHER_MS, Event::Care { replica });
        }
    }

    /// What was left is begun.
    pub fn begin_care(&mut self, replica: usize) {
        let left = std::mem::take(&mut self.replicas[replica].left);
        if !left.is_empty() {
            let cares = Cares::new(left, self.replica_unix(replica));
            self.spawn(Task::caring(replica, self.now, cares));
        }
    }

    /// Noted here, and told to the others, who may not hear of it.
    pub(super) fn claim(&mut self, replica: usize, claims: Vec<Claim>) {
        if claims.is_empty() {
            return;
        }
        claims.iter().for_each(|claim| self.replicas[replica].claims.add(*claim));
        for other in (0..self.replicas.len()).filter(|other| *other != replica) {
            if !self.chance.percent(self.faults.lost) {
                self.soon(40, Event::Hear { replica: other, claims: claims.clone() });
            }
        }
    }

    pub(super) fn care(&mut self, task: &mut Task) -> Result<Next, Unavailable> {
        if self.now >= task.deadline {
            return Err(Unavailable);
        }
        let Work::Care(cares) = &mut task.work else { unreachable!("asked for care only") };
        let blind = self.broken == Some(Broken::LookFirst);
        let missing = if blind { Vec::new() } else { cares.known.missing(cares.keys()) };
        if !missing.is_empty() {
            task.known = std::mem::take(&mut cares.known);
            self.load(task, missing);
            if let Work::Care(cares) = &mut task.work {
                cares.known = std::mem::take(&mut task.known);
            }
            return Ok(Next::Again);
        }
        let (replica, unix_ms) = (task.replica, self.replica_unix(task.replica));
        let Work::Care(cares) = &task.work else { unreachable!("asked for care only") };
        if blind {
            let claims = cares.claims().collect();
            self.claim(replica, claims);
            return Ok(Next::End);
        }
        let mut folds = Vec::new();
        for (user, claims) in cares.folds() {
            let refold = Refold { user: user.clone(), chosen: None, gone_ms: unix_ms };
            let task = Task::new(replica, Origin::Care(claims), self.now, Work::Fold(refold));
            folds.push(Task { known: cares.known.of_user(user), since: task.since, ..task });
        }
        let at_rest = cares.at_rest(&self.app, unix_ms);
        self.claim(replica, at_rest);
        for fold in folds {
            self.spawn(fold);
        }
        Ok(Next::End)
    }

    /// What a replica remembers of what a command needs: it may be old, and of a call that begins it may be that there is none.
    pub fn recalled(&mut self, request: &Request) -> Option<Known> {
        let Request::Call(command) = request else { return None };
        if !self.chance.percent(50) {
            return None;
        }
        let moment = self.now.saturating_sub(self.chance.below(300));
        let begins = matches!(command.act, Act::Initiate(_)) && self.chance.percent(70);
        let call = if begins { Entry::default() } else { self.store.call(&command.call, moment) };
        let mut known = Known::default();
        for user in call::concerned(call.value.as_ref().map(|record| &record.call), command) {
            if self.chance.percent(70) {
                known.users.insert(user.clone(), self.store.user(&user, moment));
            } else if begins {
                known.users.insert(user.clone(), Entry::default());
            }
        }
        known.calls.insert(command.call.clone(), call);
        Some(known)
    }
}
