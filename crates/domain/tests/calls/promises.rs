//! What holds after every command, one predicate each.

use std::collections::BTreeMap;

use domain::UserId;
use domain::call::{
    Act, Call, CallId, CallSettings, Command, Decision, Event, Kind, Leg, UserCallState, UserCalls, apply,
    concerned, decide,
};

use crate::random::USERS;
use crate::stage::{Stage, user};

/// One command, and what stood before and after.
pub struct Step<'a> {
    pub command: &'a Command,
    pub before: Option<&'a Call>,
    pub decision: &'a Decision,
    /// After the commit.
    pub stage: &'a Stage,
    pub now_ms: u64,
    /// How often each call was answered and ended so far.
    pub history: &'a BTreeMap<CallId, Marks>,
}

#[derive(Clone, Copy, Default)]
pub struct Marks {
    pub answered: usize,
    pub ended: usize,
}

impl Step<'_> {
    fn call(&self) -> &Call {
        &self.decision.call
    }

    fn events(&self) -> &[Event] {
        &self.decision.events
    }

    fn settings(&self) -> &CallSettings {
        &self.stage.settings
    }

    fn is_in(&self, user: &UserId) -> bool {
        self.call().seat(user).is_some_and(|seat| seat.leg.is_in())
    }
}

pub type Promise = (&'static str, fn(&Step<'_>) -> bool);

pub const PROMISES: [Promise; 24] = [
    ("a user has one seat", |step| {
        let seats = &step.call().seats;
        seats.iter().all(|seat| seats.iter().filter(|other| other.who.user == seat.who.user).count() == 1)
    }),
    ("a device is in one seat of a call", |step| {
        let devices: Vec<_> = step.call().seats.iter().filter_map(|seat| seat.leg.device()).collect();
        devices.iter().all(|device| devices.iter().filter(|other| *other == device).count() == 1)
    }),
    ("a call is answered once", |step| step.history[&step.call().id].answered <= 1),
    ("a call ends once", |step| step.history[&step.call().id].ended <= 1),
    ("nothing changes after the end", |step| {
        step.before.is_none_or(|before| !before.status.is_over() || before == step.call())
    }),
    ("the end is the last that is told", |step| {
        let end = step.events().iter().position(|event| matches!(event, Event::Ended { .. }));
        end.is_none_or(|at| at + 1 == step.events().len())
    }),
    ("a call that is over has no deadline, nobody in it, no media", |step| {
        let call = step.call();
        let empty = call.next_deadline_ms().is_none() && call.media == Default::default();
        !call.status.is_over() || empty && call.seats.iter().all(|seat| !live(&seat.leg))
    }),
    ("users' records say what the calls say", |step| {
        USERS.iter().all(|name| entries(&step.stage.calls_of(name)) == said_of(step.stage, &user(name)))
    }),
    ("nobody has more calls than allowed", |step| {
        step.stage.users.values().all(|calls| calls.taken_part_in() <= step.settings().per_user)
    }),
    ("nobody hears more rings than allowed", |step| {
        step.stage.users.values().all(|calls| calls.ringing() <= step.settings().ringing_per_user)
    }),
    ("a call has no more seats than allowed", |step| {
        let max = if step.call().kind == Kind::OneToOne { 2 } else { step.settings().participants };
        (2..=max).contains(&step.call().seats.len())
    }),
    ("each decision with events is one revision", |step| {
        let before = step.before.map_or(0, |call| call.rev);
        step.call().rev == before + u64::from(!step.events().is_empty())
    }),
    ("the events alone make the call", |step| replayed(step) == *step.call()),
    ("events are those of their command", |step| {
        step.events().iter().all(|event| event.fits(&step.command.act))
    }),
    ("only records that were loaded change", |step| {
        let concerned = concerned(step.before, step.command);
        step.decision.users.keys().all(|user| concerned.contains(user))
    }),
    ("a repeat has no effect", |step| {
        let again = decide(&step.stage.world(step.command), step.command, step.settings(), step.now_ms);
        let quiet = |again: Decision| again.events.is_empty() && again.call == *step.call();
        step.events().is_empty() || again.is_ok_and(quiet)
    }),
    ("after a timer nothing is overdue", |step| match step.command.act {
        Act::Tick { due_ms } => {
            step.call().next_deadline_ms().is_none_or(|next| next > due_ms.max(step.now_ms))
        }
        _ => true,
    }),
    ("a status never goes back", |step| {
        step.before.is_none_or(|before| before.status.is_over() || before.status <= step.call().status)
    }),
    ("somebody is in a live call, both in one of two, only the caller in one that waits", |step| {
        let call = step.call();
        let inside = call.seats.iter().filter(|seat| seat.leg.is_in()).count();
        let waits = inside == 1
            && call.seats[0].leg.is_in()
            && call.seats.iter().any(|seat| seat.leg == Leg::Ringing);
        let live = if call.kind == Kind::OneToOne { inside == 2 } else { inside > 0 };
        call.status.is_over() || if call.status.is_live() { live } else { waits }
    }),
    ("time only goes forward", |step| {
        let call = step.call();
        let answered = call.accepted_ms.unwrap_or(call.created_ms);
        call.created_ms <= answered && call.ended_ms.is_none_or(|ended| answered <= ended)
    }),
    ("one shares, unless more may", |step| {
        step.settings().many_sharers || step.call().media.shares.len() <= 1
    }),
    ("streams, shares and controls are of who is in, controls over who shares", |step| {
        let media = &step.call().media;
        media.streams.iter().all(|stream| step.is_in(&stream.user))
            && media.shares.iter().all(|share| step.is_in(&share.user))
            && media.controls.iter().all(|it| {
                media.is_shared_by(&it.sharer) && step.is_in(&it.requester) && it.requester != it.sharer
            })
    }),
    ("annotations are bounded", |step| {
        let kept = &step.call().media.annotations;
        let bytes: usize = kept.iter().map(|it| it.payload.len()).sum();
        kept.len() <= step.settings().annotations && bytes <= step.settings().annotations_bytes
    }),
    ("media come from the device in the call", |step| {
        let device = |user| step.before.and_then(|call| call.seat(user)).and_then(|seat| seat.leg.device());
        step.events().iter().all(|event| match event {
            Event::Media { user, device: by, .. } => device(user) == Some(by),
            _ => true,
        })
    }),
];

fn live(leg: &Leg) -> bool {
    leg.is_in() || *leg == Leg::Ringing
}

fn entries(calls: &UserCalls) -> BTreeMap<&CallId, (UserCallState, Option<&UserId>)> {
    calls.calls.iter().map(|entry| (&entry.call, (entry.state, entry.peer.as_ref()))).collect()
}

/// What the record of `user` must say, by the seats of all calls.
fn said_of<'a>(stage: &'a Stage, user: &UserId) -> BTreeMap<&'a CallId, (UserCallState, Option<&'a UserId>)> {
    let mut said = BTreeMap::new();
    for call in stage.calls.values().filter(|call| !call.status.is_over()) {
        let Some(seat) = call.seat(user).filter(|seat| live(&seat.leg)) else { continue };
        let state = match seat.leg {
            Leg::Ringing => UserCallState::Ringing,
            _ if call.status.is_waiting() => UserCallState::Calling,
            _ => UserCallState::In,
        };
        let other = call.seats.iter().map(|seat| &seat.who.user).find(|other| *other != user);
        said.insert(&call.id, (state, other.filter(|_| call.kind == Kind::OneToOne)));
    }
    said
}

fn replayed(step: &Step<'_>) -> Call {
    let mut events = step.events().iter();
    let mut call = match step.before {
        Some(call) => call.clone(),
        None => Call::begin(&step.call().id, events.next().unwrap()).unwrap(),
    };
    events.for_each(|event| apply(&mut call, event));
    Call { rev: step.call().rev, done: step.call().done.clone(), ..call }
}
