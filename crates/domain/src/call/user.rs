//! A user's calls, as one record: what the limits of a user are counted from.
//!
//! It mirrors the calls ([`Call::entries`]), with one lead: what counts towards a limit is noted here before the call is committed,
//! by compare-and-set, so that two commands cannot both take a user's last place. An entry that its call never confirms is a
//! reservation of somebody who died or lost; it counts until it is removed, seconds later. Everything else follows the call.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Call, CallId, Kind, Leg, Seat};
use crate::UserId;

/// Every call that concerns the user and is not over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCalls {
    pub calls: Vec<UserCall>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserCall {
    pub call: CallId,
    pub state: UserCallState,
    /// The other one, in a call of two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<UserId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserCallState {
    /// Made by the user, not answered.
    Calling,
    /// Rings for the user.
    Ringing,
    /// Answered, and the user is in it.
    In,
}

impl UserCalls {
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub fn get(&self, call: &CallId) -> Option<&UserCall> {
        self.calls.iter().find(|entry| entry.call == *call)
    }

    /// Says of a call what `entry` says; `None`: nothing.
    pub fn set(&mut self, call: &CallId, entry: Option<UserCall>) {
        let at = self.calls.iter().position(|known| known.call == *call);
        match (at, entry) {
            (Some(at), Some(entry)) => self.calls[at] = entry,
            (Some(at), None) => drop(self.calls.remove(at)),
            (None, Some(entry)) => self.calls.push(entry),
            (None, None) => {}
        }
    }

    /// Calls that count for the limit of concurrent calls.
    pub fn taken_part_in(&self) -> usize {
        self.calls.iter().filter(|entry| entry.state != UserCallState::Ringing).count()
    }

    pub fn ringing(&self) -> usize {
        self.calls.iter().filter(|entry| entry.state == UserCallState::Ringing).count()
    }

    /// Whether presence shows the user as in a call.
    pub fn is_in_call(&self) -> bool {
        self.calls.iter().any(|entry| entry.state == UserCallState::In)
    }

    /// An unanswered call of two from this user to `other`.
    pub fn calling(&self, other: &UserId) -> Option<&CallId> {
        let matches =
            |entry: &&UserCall| entry.state == UserCallState::Calling && entry.peer.as_ref() == Some(other);
        self.calls.iter().find(matches).map(|entry| &entry.call)
    }
}

impl UserCallState {
    /// Whether a record that says `self` where it said `before` takes a place under a limit: to be noted before the call is.
    pub fn takes_a_place(self, before: Option<Self>) -> bool {
        before.is_none() || (before == Some(Self::Ringing) && self == Self::In)
    }
}

impl Call {
    /// What the records of all seats' users say of the call: derived from the seats. Nothing of a call that is over, for nobody is
    /// in it.
    pub fn entries(&self) -> BTreeMap<UserId, UserCall> {
        let entry = |seat: &Seat| Some((seat.who.user.clone(), self.entry_of(seat)?));
        self.seats.iter().filter_map(entry).collect()
    }

    /// Who is in an unanswered call made it.
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
