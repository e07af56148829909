//! New calls: who may be invited, who rings.

use super::{
    Act, Actor, BTreeMap, BTreeSet, Call, CallSettings, Command, Decision, Draft, Event, Kind, Limit,
    Refusal, UserCalls, UserId, World, must_have_room,
};
use crate::call::{Invite, Offer};

impl Offer {
    /// The offer as it is carried out: everybody once, and in a conference without the actor. Refused if nobody is left, if one
    /// calls oneself, or over the limit of participants (two, in a call of two). Needs no state: ask before loading any.
    pub fn checked(&self, actor: &UserId, settings: &CallSettings) -> Result<Self, Refusal> {
        let mut seen = BTreeSet::new();
        let once = self.invited.iter().filter(|invite| seen.insert(&invite.who.user));
        let invited: Vec<Invite> = once.filter(|invite| invite.who.user != *actor).cloned().collect();
        let with_oneself = seen.contains(actor);
        if with_oneself && (invited.is_empty() || self.kind == Kind::OneToOne) {
            return Err(Refusal::Oneself);
        }
        if invited.is_empty() {
            return Err(Refusal::NobodyInvited);
        }
        let max = if self.kind == Kind::OneToOne { 2 } else { settings.participants };
        if invited.len() + 1 > max {
            return Err(Refusal::OverLimit { limit: Limit::Participants, max: max as u64 });
        }
        Ok(Self { invited, ..self.clone() })
    }
}

/// Makes the call. It rings for all invited who are not busy; if that is nobody, there is no call.
pub(super) fn begin(
    world: &World,
    command: &Command,
    settings: &CallSettings,
    now_ms: u64,
) -> Result<Decision, Refusal> {
    let (Act::Initiate(offer), Some(actor)) = (&command.act, &command.actor) else {
        return Err(Refusal::UnknownCall);
    };
    let offer = offer.checked(&actor.who.user, settings)?;
    must_have_room(world.users.get(&actor.who.user), settings)?;
    let busy: Vec<Event> =
        offer.invited.iter().filter_map(|invite| busy(world, &invite.who.user, settings)).collect();
    if busy.len() == offer.invited.len() {
        return Err(nobody_rings(offer.kind, &busy));
    }
    let mut draft = started(world, command, actor, offer, settings, now_ms);
    busy.into_iter().for_each(|event| draft.tell(event));
    draft.ring(&world.connected);
    Ok(draft.commit(command))
}

fn started<'a>(
    world: &'a World,
    command: &Command,
    actor: &Actor,
    offer: Offer,
    settings: &'a CallSettings,
    now_ms: u64,
) -> Draft<'a> {
    let ring_until_ms = now_ms.saturating_add(settings.ring_ms());
    let call = Call::begun(&command.call, actor, &offer, now_ms, ring_until_ms);
    let mut draft = Draft { entries: BTreeMap::new(), ..Draft::new(call, world, settings, now_ms) };
    draft.tell(Event::Initiated { by: actor.clone(), offer: offer.into(), at_ms: now_ms, ring_until_ms });
    draft
}

impl Draft<'_> {
    /// Every invited user's devices ring, also those that connect in time.
    fn ring(&mut self, connected: &BTreeSet<UserId>) {
        let ringing = self.ringing();
        if ringing.iter().any(|user| connected.contains(user)) {
            self.tell(Event::Rang);
        }
        for user in ringing {
            self.tell(Event::Rings { user });
        }
    }
}

/// Why a call does not ring for this user, if it does not.
fn busy(world: &World, user: &UserId, settings: &CallSettings) -> Option<Event> {
    let do_not_disturb = world.do_not_disturb.contains(user);
    let besides = world.ringing_besides.get(user).copied().unwrap_or(0);
    let full = |calls: &UserCalls| {
        calls.taken_part_in() >= settings.per_user || calls.ringing() + besides >= settings.ringing_per_user
    };
    let busy = do_not_disturb || world.users.get(user).is_some_and(full);
    busy.then(|| Event::Busy { user: user.clone(), do_not_disturb })
}

fn nobody_rings(kind: Kind, busy: &[Event]) -> Refusal {
    match (kind, busy) {
        (Kind::OneToOne, [Event::Busy { do_not_disturb: true, .. }]) => Refusal::DoNotDisturb,
        _ => Refusal::Busy,
    }
}
