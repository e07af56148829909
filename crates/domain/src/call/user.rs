//! A user's calls, as one record: the limits of a user hold because it is committed together with the call.

use serde::{Deserialize, Serialize};

use super::CallId;
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
