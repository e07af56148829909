//! Out of a call: hanging up, cancelling, failing, losing the connection, running out of time; and how a call ends.

use super::{Actor, Draft, Event, Kind, Leg, Refusal, Status, UserId};
use crate::call::{DeviceId, EndReason};

/// How a participant goes.
#[derive(Clone, Copy, PartialEq)]
enum Going {
    HangsUp,
    Fails,
    /// Its connection did not come back in time.
    IsLost,
}

impl Draft<'_> {
    /// Before the answer the caller cancels, and who is rung declines. After it, a call of two and a creator's conference are over
    /// for everybody; another participant of a conference leaves.
    pub(super) fn end(&mut self, actor: &Actor, said: Option<Box<str>>) -> Result<(), Refusal> {
        let user = &actor.who.user;
        if *self.leg(user) == Leg::Ringing {
            return self.decline(actor, said);
        }
        self.may_part(actor)?;
        if self.call.caller().user == *user {
            self.over_by(user, Going::HangsUp, said);
        } else {
            self.part(user, Going::HangsUp, said);
        }
        Ok(())
    }

    /// Out of a conference, which goes on as long as somebody is in it, be it one. Of two: [`Self::end`].
    pub(super) fn leave(&mut self, actor: &Actor) -> Result<(), Refusal> {
        if self.call.kind == Kind::OneToOne {
            return self.end(actor, None);
        }
        self.may_part(actor)?;
        self.part(&actor.who.user, Going::HangsUp, None);
        Ok(())
    }

    /// Like leaving, but a call that this ends has failed.
    pub(super) fn fail(&mut self, actor: &Actor, said: Option<Box<str>>) -> Result<(), Refusal> {
        self.may_part(actor)?;
        self.part(&actor.who.user, Going::Fails, said);
        Ok(())
    }

    /// Rings run out first, then the grace of lost connections. `due_ms` counts where this replica's clock is behind the one
    /// that set the timer.
    pub(super) fn tick(&mut self, due_ms: u64) {
        self.now_ms = self.now_ms.max(due_ms);
        if self.call.status.is_over() {
            return;
        }
        if self.ring_ran_out() {
            self.miss();
        }
        for user in self.out_of_grace() {
            if self.call.status.is_over() {
                return;
            }
            self.part(&user, Going::IsLost, None);
        }
    }

    /// What the connections of one participant mean. A leg whose device is not among them is lost, but at the earliest since it
    /// joined (news of devices may be older than that) and at the latest since now (clocks differ); one that was given up long ago
    /// goes at once. A lost one whose device is back goes on.
    pub(super) fn devices(&mut self, user: &UserId, present: &[DeviceId], since_ms: u64) {
        if self.call.status.is_over() {
            return;
        }
        match self.leg(user).clone() {
            Leg::Joined { device, since_ms: joined_ms } if !present.contains(&device) => {
                let lost_ms = since_ms.min(self.now_ms).max(joined_ms);
                self.lose(user, lost_ms.saturating_add(self.settings.grace_ms));
            }
            Leg::Lost { device, .. } if present.contains(&device) => {
                self.tell(Event::Rejoined { user: user.clone(), device, at_ms: self.now_ms });
            }
            Leg::Ringing if self.call.status == Status::Initiating && !present.is_empty() => {
                self.tell(Event::Rang);
            }
            _ => {}
        }
    }

    /// The call is over for everybody. `by` is `None` where time did it.
    pub(super) fn over(
        &mut self,
        status: Status,
        reason: EndReason,
        by: Option<&UserId>,
        said: Option<Box<str>>,
    ) {
        self.tell(Event::Ended { status, reason, by: by.cloned(), said, at_ms: self.now_ms });
    }

    /// With the device that is in the call; or with any of the user's while that one's connection is lost, for then it may be the
    /// same client under a new id.
    fn may_part(&self, actor: &Actor) -> Result<(), Refusal> {
        match self.leg(&actor.who.user) {
            Leg::Lost { .. } => Ok(()),
            _ => self.must_be_in(actor),
        }
    }

    /// One leg ends; with it the call, if it is of two or nobody else is in it. A lost connection still counts as in.
    fn part(&mut self, user: &UserId, going: Going, said: Option<Box<str>>) {
        let others = self.call.seats.iter().any(|seat| seat.leg.is_in() && seat.who.user != *user);
        if self.call.kind == Kind::OneToOne || !others {
            return self.over_by(user, going, said);
        }
        self.end_media_of(user);
        self.tell(Event::Left { user: user.clone(), lost: going == Going::IsLost });
    }

    fn over_by(&mut self, user: &UserId, going: Going, said: Option<Box<str>>) {
        match going {
            Going::HangsUp if self.waits() => {
                self.over(Status::Ended, EndReason::Cancelled, Some(user), said);
            }
            Going::HangsUp => self.over(Status::Ended, EndReason::HungUp, Some(user), said),
            Going::Fails => self.over(Status::Failed, EndReason::Failed, Some(user), said),
            Going::IsLost => self.over(Status::Ended, EndReason::ConnectionLost, None, None),
        }
    }

    fn lose(&mut self, user: &UserId, until_ms: u64) {
        if until_ms <= self.now_ms {
            self.part(user, Going::IsLost, None);
        } else {
            self.tell(Event::Lost { user: user.clone(), until_ms });
        }
    }

    /// Nobody rings any more; a call that nobody has answered is over.
    fn miss(&mut self) {
        for user in self.ringing() {
            self.tell(Event::Missed { user });
        }
        if self.waits() {
            self.over(Status::Missed, EndReason::Missed, None, None);
        }
    }

    fn out_of_grace(&self) -> Vec<UserId> {
        let out = |leg: &Leg| matches!(leg, Leg::Lost { until_ms, .. } if *until_ms <= self.now_ms);
        let seats = self.call.seats.iter().filter(|seat| out(&seat.leg));
        seats.map(|seat| seat.who.user.clone()).collect()
    }
}
