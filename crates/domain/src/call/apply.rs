//! Makes events so. The events of a call, in order, are all it takes to have its state: [`Call::begin`] and then [`apply`], which
//! takes any event in any state. What is not state of the call (`rev`, `done`) is counted where decisions are made.

use std::collections::VecDeque;

use super::{Actor, Call, CallId, DeviceId, Event, Leg, MediaState, Offer, Person, Seat, Status};
use crate::UserId;

impl Call {
    /// The call that an [`Event::Initiated`] makes, before any later event; `None` for other events.
    pub fn begin(id: &CallId, event: &Event) -> Option<Self> {
        match event {
            Event::Initiated { by, offer, at_ms, ring_until_ms } => {
                Some(Self::begun(id, by, offer, *at_ms, *ring_until_ms))
            }
            _ => None,
        }
    }

    pub(super) fn begun(id: &CallId, by: &Actor, offer: &Offer, at_ms: u64, ring_until_ms: u64) -> Self {
        let caller =
            Seat { who: by.who.clone(), leg: Leg::Joined { device: by.device.clone(), since_ms: at_ms } };
        let invited = offer.invited.iter().map(|it| Seat { who: it.who.clone(), leg: Leg::Ringing });
        Self {
            id: id.clone(),
            kind: offer.kind,
            medium: offer.medium,
            status: Status::Initiating,
            subject: offer.subject.clone(),
            seats: std::iter::once(caller).chain(invited).collect(),
            created_ms: at_ms,
            ring_until_ms,
            accepted_ms: None,
            ended_ms: None,
            reason: None,
            ended_by: None,
            said: None,
            media: MediaState::default(),
            rev: 0,
            done: VecDeque::new(),
        }
    }
}

/// Makes an event so. Events about users without a seat change nothing; [`Event::Initiated`] starts the call anew.
pub fn apply(call: &mut Call, event: &Event) {
    match event {
        Event::Initiated { by, offer, at_ms, ring_until_ms } => {
            let begun = Call::begun(&call.id, by, offer, *at_ms, *ring_until_ms);
            *call = Call { rev: call.rev, done: std::mem::take(&mut call.done), ..begun };
        }
        Event::Rang => call.status = Status::Ringing,
        Event::Rings { .. } | Event::StopsRinging { .. } => {}
        Event::Busy { user, .. } | Event::Declined { user, .. } => call.set_leg(user, Leg::Declined),
        Event::Missed { user } => call.set_leg(user, Leg::Missed),
        Event::Accepted { who, device, at_ms, .. } => {
            call.status = Status::Accepted;
            call.accepted_ms = Some(*at_ms);
            call.seat_in(who, device, *at_ms);
        }
        Event::Joined { who, device, at_ms } => call.seat_in(who, device, *at_ms),
        Event::Progressed => call.status = Status::InProgress,
        Event::Lost { user, until_ms } => lose(call, user, *until_ms),
        Event::Rejoined { user, device, at_ms } => {
            call.set_leg(user, Leg::Joined { device: device.clone(), since_ms: *at_ms });
        }
        Event::Left { user, .. } => {
            call.set_leg(user, Leg::Left);
            call.media.forget(user);
        }
        Event::Media { user, act, .. } => call.media.change(user, act),
        Event::AnnotationsDropped { oldest } => call.media.drop_oldest_annotations(*oldest),
        Event::ShareEnded { user } => call.media.end_share(user),
        Event::ControlEnded { sharer, controller } => call.media.end_control(sharer, controller),
        Event::Ended { status, reason, by, said, at_ms } => {
            call.status = *status;
            call.reason = Some(*reason);
            call.ended_by = by.clone();
            call.said = said.clone();
            call.ended_ms = Some(*at_ms);
            empty(call);
        }
    }
}

impl Call {
    /// Who comes in shows a name; who was invited had none.
    fn seat_in(&mut self, who: &Person, device: &DeviceId, since_ms: u64) {
        if let Some(seat) = self.seat_mut(&who.user) {
            let leg = Leg::Joined { device: device.clone(), since_ms };
            *seat = Seat { who: who.clone(), leg };
        }
    }

    fn set_leg(&mut self, user: &UserId, leg: Leg) {
        if let Some(seat) = self.seat_mut(user) {
            seat.leg = leg;
        }
    }
}

fn lose(call: &mut Call, user: &UserId, until_ms: u64) {
    if let Some(seat) = call.seat_mut(user)
        && let Leg::Joined { device, since_ms } = &seat.leg
    {
        seat.leg = Leg::Lost { device: device.clone(), since_ms: *since_ms, until_ms };
    }
}

/// Nobody is in a call that is over; who had not answered has missed it.
fn empty(call: &mut Call) {
    call.media = MediaState::default();
    for seat in &mut call.seats {
        seat.leg = match seat.leg {
            Leg::Joined { .. } | Leg::Lost { .. } => Leg::Left,
            Leg::Ringing => Leg::Missed,
            Leg::Declined => Leg::Declined,
            Leg::Missed => Leg::Missed,
            Leg::Left => Leg::Left,
        };
    }
}
