//! What must hold: at every commit, at every answer, and in the end.

use std::collections::{BTreeMap, BTreeSet};

use cluster::coordination::{Reply, Request};
use coordinator::plan::{Key, Of, Write};
use domain::UserId;
use domain::call::{
    Act, Call, CallId, CommandId, Event, Kind, Leg, Seat, Status, UserCallState, UserCalls, View,
};
use domain::presence::{Sources, fold};

use crate::Millis;
use crate::gateway::Gateway;
use crate::sim::{Sim, unix};
use crate::store::{At, Value};

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Witness {
    pub asked: u32,
    pub unavailable: u32,
    pub accepted: u32,
    pub glares: u32,
    /// Commands that had an effect, and how far the calls' bucket was then.
    effects: BTreeMap<u128, u64>,
    over: BTreeSet<CallId>,
    answered: BTreeSet<CallId>,
    /// The newest revision of a call.
    revs: BTreeMap<CallId, u64>,
    /// Devices that are connected, since when.
    since: BTreeMap<Box<str>, Millis>,
}

impl Witness {
    pub fn connected(&mut self, device: &str, now: Millis) {
        self.since.entry(device.into()).or_insert(now);
    }

    pub fn disconnected(&mut self, device: &str, _now: Millis) {
        self.since.remove(device);
    }
}

impl Sim {
    /// A decision was committed.
    pub fn check_point(&mut self, command: Option<CommandId>, point: &Write, events: &[Event]) {
        if let Some(id) = command.filter(|id| !self.is_repeat(id, point)) {
            let first = self.witness.effects.insert(id.0, self.store.seqs()[0]).is_none();
            assert!(first, "a command had two effects: {events:?}");
        }
        if let Key::Call(call) = &point.key {
            self.check_call(call, events);
        }
    }

    /// A choice that was made before may find something else to fold.
    fn is_repeat(&self, id: &CommandId, point: &Write) -> bool {
        match self.store.previous(&At::of(&point.key)).and_then(|stored| stored.value.as_ref()) {
            Some(Value::Presence(record)) => record.done.contains(id),
            _ => false,
        }
    }

    fn call(&self, call: &CallId) -> Option<Call> {
        match &self.store.newest(&At::Call(call.clone()))?.value {
            Some(Value::Call(record)) => Some(record.call.clone()),
            _ => None,
        }
    }

    fn user_calls(&self, user: &UserId) -> UserCalls {
        self.store.user(user, self.now).value.unwrap_or_default()
    }

    fn check_call(&mut self, id: &CallId, events: &[Event]) {
        let call = self.call(id).expect("records of calls are not deleted");
        let witness = &mut self.witness;
        let rev = witness.revs.insert(id.clone(), call.rev).unwrap_or(0);
        assert_eq!(call.rev, rev + 1, "revisions have a gap");
        assert!(!witness.over.contains(id), "something happened after the end of a call");
        if call.status.is_over() {
            witness.over.insert(id.clone());
        }
        for event in events {
            if let Event::Accepted { glare, .. } = event {
                assert!(witness.answered.insert(id.clone()), "two first answers");
                witness.accepted += 1;
                witness.glares += u32::from(*glare);
            }
        }
        let users: BTreeSet<&UserId> = call.seats.iter().map(|seat| &seat.who.user).collect();
        assert_eq!(users.len(), call.seats.len(), "a user has two seats");
        assert!(call.kind == Kind::Conference || users.len() == 2);
        for seat in &call.seats {
            self.check_limits(&seat.who.user);
        }
        self.check_loss(&call, events);
        self.check_glare(&call);
    }

    /// Nobody is taken for lost who has been connected for long.
    fn check_loss(&self, call: &Call, events: &[Event]) {
        let settings = &self.app.dialect.realtime().expect("it has calls").calls;
        for event in events {
            let Event::Left { user, lost: true } = event else { continue };
            let device = call.seat(user).and_then(|seat| seat.leg.device());
            let since = device.and_then(|device| self.witness.since.get(device));
            let long = since.is_some_and(|since| self.now - since > settings.grace_ms + 15_000);
            assert!(!long, "{user} was there, and counted as lost");
        }
    }

    /// Two unanswered calls against each other; but a ring that has run out may wait for its timer.
    fn check_glare(&self, call: &Call) {
        let waits = |call: &Call| call.kind == Kind::OneToOne && call.status.is_waiting();
        if !waits(call) {
            return;
        }
        let (from, to) = (&call.seats[0].who.user, &call.seats[1].who.user);
        let slack_ms = 2 * self.faults.skew_ms + 5_000;
        for other in self.store.calls().filter(|other| waits(other) && other.id != call.id) {
            let against = other.seats[0].who.user == *to && other.seats[1].who.user == *from;
            let rings = other.ring_until_ms.min(call.ring_until_ms) > unix(self.now) + slack_ms;
            assert!(!(against && rings), "both call each other, in two calls");
        }
    }

    /// Of the calls that are committed, whatever the records say.
    fn check_limits(&self, user: &UserId) {
        let seats = self.store.calls().filter_map(|call| expected(call, call.seat(user)?));
        let (ringing, taken): (Vec<_>, Vec<_>) = seats.partition(|state| *state == UserCallState::Ringing);
        let settings = &self.app.dialect.realtime().expect("it has calls").calls;
        assert!(taken.len() <= settings.per_user, "{user} is in too many calls");
        assert!(ringing.len() <= settings.ringing_per_user, "too many calls ring for {user}");
    }

    /// In the end the records mirror the calls, and name no others.
    fn check_user(&self, user: &UserId) {
        let calls = self.user_calls(user);
        for entry in &calls.calls {
            let call = self.call(&entry.call).filter(|call| call.id == entry.call);
            let call =
                call.unwrap_or_else(|| panic!("{user}'s record does not mirror: there is no such call"));
            let seat = call.seat(user).expect("a record names the user's calls");
            assert_eq!(Some(entry.state), expected(&call, seat), "{user}'s record does not mirror the call");
        }
        for call in self.store.calls() {
            let Some(seat) = call.seat(user) else { continue };
            let noted = calls.get(&call.id).map(|entry| entry.state);
            assert_eq!(noted, expected(call, seat), "{user}'s record does not mirror the call");
        }
    }

    /// What is said to be so is stored.
    pub fn check_reply(&self, reply: &Reply) {
        if let Reply::Call(call) = reply {
            let known = self.witness.revs.get(&call.id).copied().unwrap_or(0);
            assert!(call.rev <= known, "an answer tells what was not stored");
        }
    }

    /// `read`: how far the bucket was when the reading began that it was refused after. Another copy of the command that is
    /// under way at the same time may well come to another end.
    pub fn check_refusal(&self, command: &CommandId, read: u64, reply: &Reply) {
        let done = self.witness.effects.get(&command.0).is_some_and(|at| *at <= read);
        assert!(!done, "a command that had its effect was refused: {reply:?}");
    }

    pub fn check_answer(&self, request: &Request, reply: &Reply) {
        match (request, reply) {
            (Request::Choose { id, .. }, Reply::Presence(_)) => {
                assert!(self.witness.effects.contains_key(&id.0), "a choice was answered and not made");
            }
            (Request::Call(command), Reply::Call(call)) => {
                let quiet = matches!(command.act, Act::Look | Act::Join | Act::Rejoin | Act::Progress);
                let done = self.witness.effects.contains_key(&command.id.0);
                assert!(done || quiet, "{command:?} was answered without an effect");
                let Act::Initiate(offer) = &command.act else { return };
                let glare = call.id != command.call;
                assert!(!glare || call.caller().user == offer.invited[0].who.user);
            }
            (Request::Call(_), Reply::Refused(_)) => {}
            other => panic!("no such answer: {other:?}"),
        }
    }

    pub fn check_end(&self) {
        assert!(self.tasks.is_empty() && self.asks.is_empty(), "somebody hangs");
        for call in self.store.calls().filter(|call| !call.status.is_over()) {
            self.check_live(call);
        }
        for user in &self.users {
            self.check_user(user);
            self.check_presence(user);
        }
        self.check_told();
    }

    /// It may go on for ever: everybody who is in it is connected, and nobody is waited for.
    fn check_live(&self, call: &Call) {
        assert!(call.status.is_live(), "{} rings for ever", call.id);
        assert!(call.seats.iter().any(|seat| seat.leg.is_in()), "{} goes on without anybody", call.id);
        for seat in &call.seats {
            match &seat.leg {
                Leg::Joined { device, .. } => {
                    let user = &seat.who.user;
                    assert!(self.is_connected(user, device), "{user} is a ghost in {}", call.id);
                }
                Leg::Ringing | Leg::Lost { .. } => panic!("{} waits for ever: {seat:?}", call.id),
                _ => {}
            }
        }
    }

    fn check_presence(&self, user: &UserId) {
        let Some(record) = self.store.presence(user, self.now).value else { return };
        let presence = record.presence;
        let records = self.store.devices(user);
        let mut recorded: Vec<_> = records.iter().flat_map(|record| &record.devices).collect();
        let mut connected: Vec<_> = self
            .gateways
            .iter()
            .flat_map(Gateway::devices)
            .filter(|(of, _)| *of == user)
            .map(|(_, it)| it)
            .collect();
        recorded.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        connected.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        assert_eq!(recorded, connected, "the records of devices are not true");
        let in_call = self.store.calls().any(|call| {
            let leg = call.seat(user).map(|seat| &seat.leg);
            call.status.is_live() && leg.is_some_and(Leg::is_in)
        });
        let truth = fold(&Sources { records: &records, choice: &presence.choice, in_call });
        assert_eq!(presence.status, truth, "{user}'s presence is not true");
    }

    fn check_told(&self) {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for (of, told) in &self.store.told {
            let last = last.entry(format!("{of:?}")).or_default();
            match of {
                Of::Call(call) => {
                    assert_eq!(told.rev, *last + 1, "{call} was told with a gap");
                    let view: View = cluster::coordination::decode(&told.view).expect("a view");
                    assert_eq!(view.rev, told.rev);
                }
                Of::Presence(user) => assert!(told.rev > *last, "{user}'s presence was told out of order"),
            }
            *last = told.rev;
        }
        for call in self.store.calls() {
            let told = last.get(&format!("{:?}", Of::Call(call.id.clone())));
            assert_eq!(told, Some(&call.rev), "{} was not told to its end", call.id);
        }
        for user in &self.users {
            let rev = self.store.presence(user, self.now).value.map_or(0, |it| it.presence.rev);
            let told = last.get(&format!("{:?}", Of::Presence(user.clone()))).copied();
            assert_eq!(told.unwrap_or(0), rev, "{user}'s presence was not told to its end");
        }
    }
}

/// What the record of a seat's user must say of the call; written here anew, not taken from the domain.
fn expected(call: &Call, seat: &Seat) -> Option<UserCallState> {
    match (call.status, &seat.leg) {
        (Status::Initiating | Status::Ringing, Leg::Joined { .. } | Leg::Lost { .. }) => {
            Some(UserCallState::Calling)
        }
        (Status::Accepted | Status::InProgress, Leg::Joined { .. } | Leg::Lost { .. }) => {
            Some(UserCallState::In)
        }
        (status, Leg::Ringing) if !status.is_over() => Some(UserCallState::Ringing),
        _ => None,
    }
}
