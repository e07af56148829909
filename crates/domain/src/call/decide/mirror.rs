//! What a call means for its users' records: derived from its seats, so that the two never differ.

use std::collections::BTreeMap;

use super::{Call, Kind, Leg, UserCall, UserCallState, UserCalls, UserId};
use crate::call::Seat;

impl Call {
    /// What the record of this seat's user says of the call; `None`: nothing, as always of a
    /// call that is over, for nobody is in it. Who is in an unanswered call made it.
    fn entry_of(&self, seat: &Seat) -> Option<UserCall> {
        let state = match &seat.leg {
            Leg::Ringing => UserCallState::Ringing,
            leg if !leg.is_in() => return None,
            _ if self.status.is_waiting() => UserCallState::Calling,
            _ => UserCallState::In,
        };
        Some(UserCall { call: self.id.clone(), state, peer: self.peer_of(&seat.who.user) })
    }

    fn peer_of(&self, user: &UserId) -> Option<UserId> {
        let mut others = self.seats.iter().map(|seat| &seat.who.user).filter(|other| *other != user);
        others.next().filter(|_| self.kind == Kind::OneToOne).cloned()
    }
}

/// What the records of all seats' users say of the call.
pub(super) fn entries(call: &Call) -> BTreeMap<UserId, UserCall> {
    let entry = |seat: &Seat| Some((seat.who.user.clone(), call.entry_of(seat)?));
    call.seats.iter().filter_map(entry).collect()
}

/// The records that must change so that they say what the call says; `before` is what they said of it. Records that stay as they
/// are need not have been loaded.
pub(super) fn changed(
    call: &Call,
    before: &BTreeMap<UserId, UserCall>,
    users: &BTreeMap<UserId, UserCalls>,
) -> BTreeMap<UserId, UserCalls> {
    let mut changed = BTreeMap::new();
    for seat in &call.seats {
        let user = &seat.who.user;
        let entry = call.entry_of(seat);
        if before.get(user) != entry.as_ref() {
            let calls = users.get(user).cloned().unwrap_or_default();
            changed.insert(user.clone(), with(calls, call, entry));
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
