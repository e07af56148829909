//! The machine: what a command makes of a call.

use std::collections::{BTreeMap, BTreeSet};

use super::{Act, Call, CallId, CallSettings, Command, Event, Refusal, UserCalls};
use crate::UserId;

/// Everything a decision may know, loaded before it.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// `None`: there is no such call.
    pub call: Option<Call>,
    /// Of everybody in [`concerned`].
    pub users: BTreeMap<UserId, UserCalls>,
    /// Invited users who chose not to be disturbed.
    pub do_not_disturb: BTreeSet<UserId>,
    /// Invited users with a connected device.
    pub connected: BTreeSet<UserId>,
}

/// What is to be committed, and told.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// The call after the events. Equal to the call before if there are none.
    pub call: Call,
    /// Records of users that changed.
    pub users: BTreeMap<UserId, UserCalls>,
    /// Empty: nothing changed (a repeat, a stale timer, a look).
    pub events: Vec<Event>,
}

/// Whose [`UserCalls`] a decision needs.
pub fn concerned(call: Option<&Call>, command: &Command) -> Vec<UserId> {
    let _ = (call, command);
    unimplemented!()
}

/// For an [`Act::Initiate`] of two: the unanswered call in the other direction that it answers.
pub fn glare(world: &World, command: &Command) -> Option<CallId> {
    let _ = (world, command);
    unimplemented!()
}

pub fn decide(
    world: &World,
    command: &Command,
    settings: &CallSettings,
    now_ms: u64,
) -> Result<Decision, Refusal> {
    let _ = (world, command, settings, now_ms, Act::Look);
    unimplemented!()
}

/// Makes an event so.
pub fn apply(call: &mut Call, event: &Event) {
    let _ = (call, event);
    unimplemented!()
}
