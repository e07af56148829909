//! Into a call: answering, joining, coming back; and declining.

use super::{Actor, Draft, Event, Kind, Leg, Refusal, Status, UserId, must_have_room};
use crate::call::EndReason;

impl Draft<'_> {
    /// The first answer makes the call live; in a conference further ones join it. Who was too late is refused: as
    /// [`Refusal::AlreadyAnswered`] if the user is in with this or another device, as [`Refusal::Over`] if the ring has run out
    /// and only the timer has not come yet, as [`Refusal::NotRinging`] otherwise.
    pub(super) fn answer(&mut self, actor: &Actor, glare: bool) -> Result<(), Refusal> {
        self.must_ring(&actor.who.user)?;
        if self.ring_ran_out() {
            return Err(if self.waits() { Refusal::Over } else { Refusal::NotRinging });
        }
        self.take_seat(actor, glare)
    }

    /// Into a conference: answering, or coming (back) to it later, also after declining or missing its ring. Who is in with this
    /// device stays so; a seat whose connection is lost is taken back; one that another device is in is not ([`Self::rejoin`]
    /// would).
    pub(super) fn join(&mut self, actor: &Actor) -> Result<(), Refusal> {
        if self.call.kind != Kind::Conference {
            return Err(Refusal::NotConference);
        }
        match self.leg(&actor.who.user) {
            Leg::Joined { .. } => self.must_be_in(actor),
            Leg::Lost { .. } => self.rejoin(actor),
            _ if self.waits() && self.ring_ran_out() => Err(Refusal::Over),
            _ => self.take_seat(actor, false),
        }
    }

    /// Back into one's seat, from a lost connection or another device. What the user streams, shares and controls is kept: a
    /// connection that was lost says nothing about the media.
    pub(super) fn rejoin(&mut self, actor: &Actor) -> Result<(), Refusal> {
        match self.leg(&actor.who.user) {
            Leg::Joined { device, .. } if *device == actor.device => return Ok(()),
            leg if !leg.is_in() => return Err(Refusal::NotIn),
            _ => {}
        }
        let (user, device) = (actor.who.user.clone(), actor.device.clone());
        self.tell(Event::Rejoined { user, device, at_ms: self.now_ms });
        Ok(())
    }

    /// The user's devices stop ringing. The call is rejected when it rings for nobody else and nobody has answered; the last one
    /// to decline is who ended it.
    pub(super) fn decline(&mut self, actor: &Actor, said: Option<Box<str>>) -> Result<(), Refusal> {
        let user = &actor.who.user;
        self.must_ring(user)?;
        self.tell(Event::Declined { user: user.clone(), device: actor.device.clone(), said: said.clone() });
        self.stop_ringing(actor);
        if self.waits() && self.ringing().is_empty() {
            self.over(Status::Rejected, EndReason::Rejected, Some(user), said);
        }
        Ok(())
    }

    /// The devices negotiate. Told once.
    pub(super) fn progress(&mut self, actor: &Actor) -> Result<(), Refusal> {
        self.must_be_in(actor)?;
        self.must_be_live()?;
        if self.call.status == Status::Accepted {
            self.tell(Event::Progressed);
        }
        Ok(())
    }

    /// Invited users whose devices ring.
    pub(super) fn ringing(&self) -> Vec<UserId> {
        let ringing = self.call.seats.iter().filter(|seat| seat.leg == Leg::Ringing);
        ringing.map(|seat| seat.who.user.clone()).collect()
    }

    pub(super) fn ring_ran_out(&self) -> bool {
        self.call.ring_until_ms <= self.now_ms
    }

    fn must_ring(&self, user: &UserId) -> Result<(), Refusal> {
        match self.leg(user) {
            Leg::Ringing => Ok(()),
            leg if leg.is_in() && !self.waits() => Err(Refusal::AlreadyAnswered),
            _ => Err(Refusal::NotRinging),
        }
    }

    fn take_seat(&mut self, actor: &Actor, glare: bool) -> Result<(), Refusal> {
        let (who, device, at_ms) = (actor.who.clone(), actor.device.clone(), self.now_ms);
        let user = who.user.clone();
        must_have_room(self.users.get(&user), self.settings)?;
        let rang = *self.leg(&user) == Leg::Ringing;
        if self.waits() {
            self.tell(Event::Accepted { who, device, at_ms, glare });
        } else {
            self.tell(Event::Joined { who, device, at_ms });
        }
        if rang {
            self.stop_ringing(actor);
        }
        Ok(())
    }

    fn stop_ringing(&mut self, actor: &Actor) {
        let (user, device) = (actor.who.user.clone(), Some(actor.device.clone()));
        self.tell(Event::StopsRinging { user, device });
    }
}
