//! What a call means for its users' records: derived from its seats, so that the two never differ.

use std::collections::BTreeMap;

use super::{Call, Kind, UserCallState, UserCalls, UserId};
use crate::call::{Seat, UserCall};

impl Call {
    /// What the record of this seat's user says of the call; `None`: nothing. Who is in an unanswered call made it.
    pub(super) fn entry_of(&self, seat: &Seat) -> Option<UserCall> {
        let state = match &seat.leg {
            _ if self.status.is_over() => return None,
            super::Leg::Ringing => UserCallState::Ringing,
            leg if !leg.is_in() => return None,
            _ if self.status.is_waiting() => UserCallState::Calling,
            _ => UserCallState::In,
        };
        Some(UserCall { call: self.id.clone(), state, peer: self.peer_of(&seat.who.user) })
    }

    /// Users whose records name the call.
    pub(super) fn listed(&self) -> impl Iterator<Item = UserId> {
        self.seats
            .iter()
            .filter(|seat| seat.leg.is_in() || seat.leg == super::Leg::Ringing)
            .map(|seat| seat.who.user.clone())
    }

    fn peer_of(&self, user: &UserId) -> Option<UserId> {
        let mut others = self.seats.iter().map(|seat| &seat.who.user).filter(|other| *other != user);
        others.next().filter(|_| self.kind == Kind::OneToOne).cloned()
    }
}

/// The records that must change so that they say what the call says.
pub(super) fn changed(call: &Call, users: &BTreeMap<UserId, UserCalls>) -> BTreeMap<UserId, UserCalls> {
    let mut changed = BTreeMap::new();
    for seat in &call.seats {
        let entry = call.entry_of(seat);
        let before = users.get(&seat.who.user);
        if before.and_then(|calls| calls.get(&call.id)) != entry.as_ref() {
            let before = before.cloned().unwrap_or_default();
            changed.insert(seat.who.user.clone(), with(before, call, entry));
        }
    }
    changed
}

fn with(mut calls: UserCalls, call: &Call, entry: Option<UserCall>) -> UserCalls {
    let at = calls.calls.iter().position(|known| known.call == call.id);
    match (at, entry) {
        (Some(at), Some(entry)) => calls.calls[at] = entry,
        (Some(at), None) => {
            calls.calls.remove(at);
        }
        (None, Some(entry)) => calls.calls.push(entry),
        (None, None) => {}
    }
    calls
}
