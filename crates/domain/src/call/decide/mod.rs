//! The machine: what a command makes of a call. Values in, values out; the clock is an argument and may be another replica's with
//! every command, so time is taken as never earlier than what the call has seen ([`Draft::new`]).
//!
//! Rules that hold for every command:
//! - A command whose id the call remembers changes nothing and is answered with the call as it is.
//! - Who has no seat learns nothing: [`Refusal::UnknownCall`]. A call that is over refuses with [`Refusal::Over`], except a look.
//! - Who acts in a call does so with the device that is in it; one's other devices may take the seat over ([`Act::Rejoin`]).
//! - Time and presence ([`Act::Tick`], [`Act::Devices`]) are never refused, and their ids are not remembered: where they come late
//!   or again, nothing changes by itself, and what they say counts although it was said before.
//!
//! Start at [`decide`]; `begin` makes calls, `ring` answers them, `part` ends legs and calls, `media` keeps what is shown and shared.

mod begin;
mod media;
mod part;
mod ring;

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Act, Actor, Call, CallId, CallSettings, Command, CommandId, Event, Kind, Leg, Limit, REMEMBERED_COMMANDS,
    Refusal, Status, UserCall, UserCalls, apply,
};
use crate::UserId;

/// Everything a decision may know, loaded before it.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// `None`: there is no such call.
    pub call: Option<Call>,
    /// Of everybody in [`concerned`]; who is missing has no calls. Of this call they say what it says itself.
    pub users: BTreeMap<UserId, UserCalls>,
    /// Invited users who chose not to be disturbed.
    pub do_not_disturb: BTreeSet<UserId>,
    /// Invited users with a connected device.
    pub connected: BTreeSet<UserId>,
    /// How many calls still ring for an invited user of which the user's record says already that he is in them: answers under way,
    /// which may fail.
    pub ringing_besides: BTreeMap<UserId, usize>,
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

/// Whose [`UserCalls`] a decision needs: of a new call, the actor's and those of all invited (bound them before with
/// [`super::Offer::checked`]); else of all who are in the call or hear it ring, and the actor. None where the command cannot
/// change them. A superset of the records that the decision changes.
pub fn concerned(call: Option<&Call>, command: &Command) -> Vec<UserId> {
    let actor = command.actor.iter().map(|actor| actor.who.user.clone());
    let users: BTreeSet<UserId> = match (call, &command.act) {
        (None, Act::Initiate(offer)) => {
            actor.chain(offer.invited.iter().map(|invite| invite.who.user.clone())).collect()
        }
        (None, _) | (_, Act::Initiate(_) | Act::Media(_) | Act::Look | Act::Progress | Act::Rejoin) => {
            BTreeSet::new()
        }
        (Some(call), _) if call.status.is_over() => BTreeSet::new(),
        (Some(call), _) => {
            actor.filter(|user| call.seat(user).is_some()).chain(call.entries().into_keys()).collect()
        }
    };
    users.into_iter().collect()
}

/// For an [`Act::Initiate`] of two: the unanswered call in the other direction that it answers, because both call each other. To be
/// decided as `Answer { glare: true }` of that call, with the same command id. If that is refused as [`Refusal::Over`] (its ring
/// has run out, and only the timer has not come yet) the command goes on as what it is.
pub fn glare(world: &World, command: &Command) -> Option<CallId> {
    let (Act::Initiate(offer), Some(actor), None) = (&command.act, &command.actor, &world.call) else {
        return None;
    };
    let (Kind::OneToOne, [invite]) = (offer.kind, &*offer.invited) else {
        return None;
    };
    world.users.get(&invite.who.user)?.calling(&actor.who.user).cloned()
}

/// What `command` makes of the call, or why not. Pure and total: the same arguments give the same decision, and no state or
/// command panics. A decision with events is one revision of the call.
///
/// [`Act::Initiate`] with the id of a call that exists and was not made by this command is refused as [`Refusal::UnknownCall`]:
/// ids are minted, so this is no call of the actor's.
pub fn decide(
    world: &World,
    command: &Command,
    settings: &CallSettings,
    now_ms: u64,
) -> Result<Decision, Refusal> {
    let Some(call) = &world.call else {
        return begin::begin(world, command, settings, now_ms);
    };
    if command.act.is_remembered() && call.done.contains(&command.id) {
        return Ok(Decision { call: call.clone(), users: BTreeMap::new(), events: Vec::new() });
    }
    let mut draft = Draft::new(call.clone(), world, settings, now_ms);
    match (&command.act, &command.actor) {
        (Act::Tick { due_ms }, _) => draft.tick(*due_ms),
        (Act::Devices { user, present, since_ms }, _) => draft.devices(user, present, *since_ms),
        (act, Some(actor)) => draft.act(act, actor)?,
        (_, None) => return Err(Refusal::UnknownCall),
    }
    Ok(draft.commit(command))
}

/// A decision in the making.
struct Draft<'a> {
    call: Call,
    events: Vec<Event>,
    /// What the users' records say of the call before the decision.
    entries: BTreeMap<UserId, UserCall>,
    users: &'a BTreeMap<UserId, UserCalls>,
    settings: &'a CallSettings,
    now_ms: u64,
}

impl<'a> Draft<'a> {
    /// Replicas' clocks differ: it is never earlier than what the call has seen already.
    fn new(call: Call, world: &'a World, settings: &'a CallSettings, now_ms: u64) -> Self {
        let joined = call.seats.iter().filter_map(|seat| match seat.leg {
            Leg::Joined { since_ms, .. } | Leg::Lost { since_ms, .. } => Some(since_ms),
            _ => None,
        });
        let seen = [Some(call.created_ms), call.accepted_ms].into_iter().flatten().chain(joined).max();
        let now_ms = now_ms.max(seen.unwrap_or(0));
        Self { entries: call.entries(), call, events: Vec::new(), users: &world.users, settings, now_ms }
    }

    fn act(&mut self, act: &Act, actor: &Actor) -> Result<(), Refusal> {
        self.call.seat(&actor.who.user).ok_or(Refusal::UnknownCall)?;
        if self.call.status.is_over() && *act != Act::Look {
            return Err(Refusal::Over);
        }
        match act {
            Act::Look => Ok(()),
            Act::Initiate(_) => Err(Refusal::UnknownCall),
            Act::Answer { glare } => self.answer(actor, *glare),
            Act::Decline { said } => self.decline(actor, said.clone()),
            Act::Join => self.join(actor),
            Act::Rejoin => self.rejoin(actor),
            Act::Progress => self.progress(actor),
            Act::End { said } => self.end(actor, said.clone()),
            Act::Leave => self.leave(actor),
            Act::Fail { said } => self.fail(actor, said.clone()),
            Act::Media(act) => self.media(actor, act),
            // Nobody's command; decided before.
            Act::Tick { .. } | Act::Devices { .. } => Ok(()),
        }
    }

    /// Makes an event so, and part of the decision.
    fn tell(&mut self, event: Event) {
        apply(&mut self.call, &event);
        self.events.push(event);
    }

    fn commit(mut self, command: &Command) -> Decision {
        if self.events.is_empty() {
            return Decision { call: self.call, users: BTreeMap::new(), events: self.events };
        }
        self.call.rev += 1;
        if command.act.is_remembered() {
            self.remember(command.id);
        }
        let users = self.changed_users();
        Decision { call: self.call, users, events: self.events }
    }

    /// The records of everybody of whom the call says something else now. Those that stay as they are need not have been loaded.
    fn changed_users(&self) -> BTreeMap<UserId, UserCalls> {
        let mut now = self.call.entries();
        let mut changed = BTreeMap::new();
        for user in self.call.seats.iter().map(|seat| &seat.who.user) {
            let entry = now.remove(user);
            if self.entries.get(user) != entry.as_ref() {
                let mut calls = self.users.get(user).cloned().unwrap_or_default();
                calls.set(&self.call.id, entry);
                changed.insert(user.clone(), calls);
            }
        }
        changed
    }

    fn remember(&mut self, command: CommandId) {
        if self.call.done.len() >= REMEMBERED_COMMANDS {
            self.call.done.pop_front();
        }
        self.call.done.push_back(command);
    }

    /// `Left` for somebody without a seat.
    fn leg(&self, user: &UserId) -> &Leg {
        self.call.seat(user).map_or(&Leg::Left, |seat| &seat.leg)
    }

    fn waits(&self) -> bool {
        self.call.status.is_waiting()
    }

    /// The actor speaks with the device that is in the call, and its connection stands.
    fn must_be_in(&self, actor: &Actor) -> Result<(), Refusal> {
        match self.leg(&actor.who.user) {
            Leg::Joined { device, .. } if *device == actor.device => Ok(()),
            Leg::Joined { .. } => Err(Refusal::OtherDevice),
            _ => Err(Refusal::NotIn),
        }
    }

    fn must_be_live(&self) -> Result<(), Refusal> {
        if self.call.status.is_live() { Ok(()) } else { Err(Refusal::NotLive) }
    }
}

impl Act {
    /// A repeat of the command that was meant once; not so of time and presence.
    fn is_remembered(&self) -> bool {
        !matches!(self, Self::Tick { .. } | Self::Devices { .. })
    }
}

/// One more call for this user is within the limit.
fn must_have_room(calls: Option<&UserCalls>, settings: &CallSettings) -> Result<(), Refusal> {
    let taken = calls.map_or(0, UserCalls::taken_part_in);
    if taken < settings.per_user {
        return Ok(());
    }
    Err(Refusal::OverLimit { limit: Limit::CallsPerUser, max: settings.per_user as u64 })
}
