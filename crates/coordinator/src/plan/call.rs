//! Commands for calls.

use std::collections::{BTreeMap, BTreeSet};

use cluster::coordination::{Reply, encode};
use domain::UserId;
use domain::call::{
    self, Act, Call, CallId, CallSettings, Command, CommandId, Decision, Event, Leg, Refusal, UserCall,
    UserCallState, UserCalls, View, World,
};

use super::mirror::{Settling, own, write_user};
use super::{
    App, Begin, CallRecord, Commit, Done, Entry, Key, Known, Leaves, Of, PresenceRecord, Step, Tell, Told,
    Touched, Write,
};

/// The next step of a command.
pub fn plan(app: &App, command: &Command, known: &Known, now_ms: u64) -> Step {
    if let Some(step) = devices_first(command, known) {
        return step;
    }
    let Some(entry) = known.calls.get(&command.call) else {
        return Step::Load(vec![Key::Call(command.call.clone())]);
    };
    if let Err(refusal) = checked(app, command) {
        return Step::Done(Box::new(Done::reply(Reply::Refused(refusal))));
    }
    let record = own(known, &command.call);
    let note = entry.value.as_ref().filter(|_| record.is_none());
    if let Some(step) = note.and_then(|note| answered_instead(command, note, known)) {
        return step;
    }
    // A call begins at the moment for which its timer was set.
    let now_ms = known.begun.as_ref().map_or(now_ms, |begun| begun.at_ms);
    let missing = known.missing(needed(record, command, now_ms));
    if !missing.is_empty() {
        return begin(app, command, &missing, known, now_ms).unwrap_or(Step::Load(missing));
    }
    let missing = known.missing(answers_under_way(app, record, command, known));
    if !missing.is_empty() {
        return Step::Load(missing);
    }
    let settling = settling(app, &command.call, known, now_ms);
    if let Act::Devices { user, .. } = &command.act
        && let Some(step) = settling.settle(user)
    {
        return step;
    }
    let command = &with_devices(command, known);
    let world = world(record, command, known);
    if record.is_none()
        && let Some(other) = crossing(&world, command, note, known)
        && let Some(step) = plan_glare(app, command, &other, known, now_ms)
    {
        return step;
    }
    if let Some(step) = note.and_then(|note| give_up_answer(app, command, note, known, now_ms)) {
        return step;
    }
    conclude(app, command, &settling, &world)
}

/// What a new call takes if all who are invited can be rung: reserved while it is looked at whether they can, which is all that is
/// missing. `None`: something speaks against it already, or it was tried and the world was not as remembered.
fn begin(app: &App, command: &Command, missing: &[Key], known: &Known, now_ms: u64) -> Option<Step> {
    let only_whom = missing.iter().all(|key| matches!(key, Key::Presence(_) | Key::Devices(_)));
    let is_new = known.calls.get(&command.call).is_some_and(|entry| *entry == Entry::default());
    if known.fresh || known.begun.is_some() || !only_whom || !is_new {
        return None;
    }
    let mut assumed = known.clone();
    for key in missing {
        match key {
            Key::Presence(user) => drop(assumed.presences.insert(user.clone(), Entry::default())),
            Key::Devices(user) => drop(assumed.devices.insert(user.clone(), Vec::new())),
            Key::Call(_) | Key::UserCalls(_) => return None,
        }
    }
    if !assumed.missing(answers_under_way(app, None, command, &assumed)).is_empty() {
        return None;
    }
    let world = world(None, command, &assumed);
    if crossing(&world, command, None, &assumed).is_some() {
        return None;
    }
    let Decision { call, users, .. } = call::decide(&world, command, settings(app), now_ms).ok()?;
    let (before, _) = writes(known, None, &call, &users);
    let timer = timer(command, None, &call);
    Some(Step::Begin(Box::new(Begin { keys: missing.to_vec(), before, timer, at_ms: now_ms })))
}

/// The next step of whoever sees to it that these users' records say what the call says. What may be a reservation is left to the
/// follower of the user's record.
pub fn settle(app: &App, call: &CallId, users: &[UserId], known: &Known, now_ms: u64) -> Step {
    if !known.fresh {
        return Step::Reload;
    }
    let missing = known.missing(users.iter().cloned().map(Key::UserCalls));
    if !missing.is_empty() {
        return Step::Load(missing);
    }
    if !known.has(&Key::Call(call.clone())) {
        return Step::Load(vec![Key::Call(call.clone())]);
    }
    let Some(record) = own(known, call) else {
        return Step::Done(Box::new(Done::reply(Reply::Refused(Refusal::UnknownCall))));
    };
    match settling(app, call, known, now_ms).plain(users.iter().cloned()) {
        writes if writes.is_empty() => {
            Step::Done(Box::new(Done::reply(Reply::Call(Box::new(record.call.clone())))))
        }
        writes => Step::Repair(writes),
    }
}

/// Whether `Act::Devices` of this user would change nothing: what is known is fresh, and was read in the order that the act needs, the
/// user's record, the call, the devices. So no act need be made; in doubt it is.
pub fn rests(app: &App, user: &UserId, since_ms: u64, call: &CallId, known: &Known, now_ms: u64) -> bool {
    let (Some(record), true) = (own(known, call), known.fresh && known.devices.contains_key(user)) else {
        return false;
    };
    if !mirrors(app, user, call, known, now_ms) {
        return false;
    }
    let act = Act::Devices { user: user.clone(), present: Vec::new(), since_ms };
    let command = Command { id: CommandId(0), call: call.clone(), actor: None, act };
    let world = world(Some(record), &command, known);
    let decided = call::decide(&world, &with_devices(&command, known), settings(app), now_ms);
    decided.is_ok_and(|decision| decision.events.is_empty())
}

/// Whether the user's record says of a call what the call says, as far as is known.
pub fn mirrors(app: &App, user: &UserId, call: &CallId, known: &Known, now_ms: u64) -> bool {
    settling(app, call, known, now_ms).settle(user).is_none()
}

fn settling<'a>(app: &App, id: &'a CallId, known: &'a Known, now_ms: u64) -> Settling<'a> {
    let call = own(known, id).map(|record| &record.call);
    Settling { known, id, call, now_ms, kept_ms: settings(app).kept_ms }
}

/// What the user's record says of the call is compared with it, so it is read first, and both at the leader.
fn devices_first(command: &Command, known: &Known) -> Option<Step> {
    let Act::Devices { user, .. } = &command.act else { return None };
    if !known.fresh {
        return Some(Step::Reload);
    }
    let missing = known.missing([Key::UserCalls(user.clone())]);
    (!missing.is_empty()).then_some(Step::Load(missing))
}

/// What can be refused without knowing anything is, before a thousand records are read for it.
fn checked(app: &App, command: &Command) -> Result<(), Refusal> {
    match (&command.act, &command.actor) {
        (Act::Initiate(offer), Some(actor)) => offer.checked(&actor.who.user, settings(app)).map(drop),
        _ => Ok(()),
    }
}

fn settings(app: &App) -> &CallSettings {
    &app.dialect.realtime().expect("commands come from applications that have calls").calls
}

/// Under the command's id stands that it answers a call in the other direction. `None`: it has not; so there is no call, and whoever
/// noted it cannot answer any more, or that call still rings ([`crossing`]).
fn answered_instead(command: &Command, note: &CallRecord, known: &Known) -> Option<Step> {
    if !known.fresh {
        return Some(Step::Reload);
    }
    if !matches!(command.act, Act::Initiate(_)) {
        return None;
    }
    let other = &note.call.id;
    let Some(entry) = known.calls.get(other) else { return Some(Step::Load(vec![Key::Call(other.clone())])) };
    let call = match &entry.value {
        Some(record) if !record.call.done.contains(&command.id) => return None,
        Some(record) => record.call.clone(),
        None => note.call.clone(),
    };
    let decision = Decision { call, users: Default::default(), events: Vec::new() };
    Some(Step::Done(Box::new(repeated(known, decision))))
}

/// The unanswered call in the other direction.
fn crossing(world: &World, command: &Command, note: Option<&CallRecord>, known: &Known) -> Option<CallId> {
    let noted = note.map(|note| &note.call.id).filter(|_| matches!(command.act, Act::Initiate(_)));
    let rings = |id: &&CallId| own(known, id).is_some_and(|record| record.call.status.is_waiting());
    noted.filter(rings).cloned().or_else(|| call::glare(world, command))
}

/// The call in the other direction is answered. `None`: its ring has run out, so the command goes on as what it is. Another refusal
/// means that one of the records was read before it changed, or does not follow its call yet.
fn plan_glare(app: &App, command: &Command, other: &CallId, known: &Known, now_ms: u64) -> Option<Step> {
    if known.has(&Key::Call(other.clone())) && own(known, other).is_none() {
        return unborn(app, command, other, known, now_ms);
    }
    let answer = Command { call: other.clone(), act: Act::Answer { glare: true }, ..command.clone() };
    match plan(app, &answer, &without(known, &command.call), now_ms) {
        Step::Commit(mut commit) => {
            // Before all else: who makes a call under this id cannot come between.
            commit.before.splice(0..0, instead(app, command, known, &commit.done.reply));
            Some(Step::Commit(commit))
        }
        Step::Done(done) => match done.reply {
            Reply::Refused(Refusal::Over) => None,
            Reply::Refused(refusal @ Refusal::OverLimit { .. }) => {
                Some(refused(&settling(app, &command.call, known, now_ms), refusal))
            }
            Reply::Call(_) => Some(Step::Done(done)),
            _ if known.fresh => Some(Step::Wait),
            _ => Some(Step::Reload),
        },
        step => Some(step),
    }
}

/// Another try of the command may still be about to answer the noted call, which rings by its clock and not by this one: it must fail
/// before the command goes on as what it is. A call written after the note has made it fail.
fn give_up_answer(
    app: &App,
    command: &Command,
    note: &CallRecord,
    known: &Known,
    now_ms: u64,
) -> Option<Step> {
    let other = &note.call.id;
    let rings = own(known, other).is_some_and(|record| record.call.status.is_waiting());
    let fenced =
        known.calls.get(other).map(|entry| entry.rev) > known.calls.get(&command.call).map(|it| it.rev);
    (rings && !fenced).then(|| Step::Repair(vec![settling(app, other, known, now_ms).fence()]))
}

/// Both have begun, and the other's call is about to be made; or whoever was making it is dead. Where each has one of the two places,
/// or one beside the other's, one of them gives back what it has.
fn unborn(app: &App, command: &Command, other: &CallId, known: &Known, now_ms: u64) -> Option<Step> {
    let Act::Initiate(offer) = &command.act else { return None };
    let (caller, called) = (&command.actor.as_ref()?.who.user, &offer.invited.first()?.who.user);
    if gives_way(&command.call, other, caller.min(called), caller.max(called), known) {
        let own = settling(app, &command.call, known, now_ms);
        return Some(if known.fresh { Step::Repair(own.withdraw([caller, called])) } else { Step::Reload });
    }
    settling(app, other, known, now_ms).settle(called)
}

/// Who has the place of the later user gives way to who has that of the earlier one; of two who have both, the later call. One rule
/// for both commands: they see the same records once nothing is written any more.
fn gives_way(own: &CallId, other: &CallId, earlier: &UserId, later: &UserId, known: &Known) -> bool {
    let has = |call: &CallId, user: &UserId| {
        let entry = known.users.get(user).and_then(|entry| entry.value.as_ref());
        entry.is_some_and(|calls| calls.get(call).is_some())
    };
    let loses = has(other, earlier) && has(own, later);
    let wins = has(own, earlier) && has(other, later);
    loses && (!wins || other < own)
}

/// As if this call had never been begun.
fn without(known: &Known, call: &CallId) -> Known {
    let mut known = known.clone();
    for calls in known.users.values_mut().filter_map(|entry| entry.value.as_mut()) {
        calls.set(call, None);
    }
    known
}

/// Taken for the call that is not made, so that no other try of the command makes it.
fn instead(app: &App, command: &Command, known: &Known, reply: &Reply) -> Option<Write> {
    let Reply::Call(answered) = reply else { return None };
    Some(Write {
        key: Key::Call(command.call.clone()),
        value: Some(encode(&CallRecord::instead(answered)).into()),
        expect: known.calls[&command.call].rev,
        ttl_ms: Some(settings(app).kept_ms),
    })
}

fn conclude(app: &App, command: &Command, settling: &Settling<'_>, world: &World) -> Step {
    let known = settling.known;
    match call::decide(world, command, settings(app), settling.now_ms) {
        Ok(decision) if !decision.events.is_empty() => {
            Step::Commit(Box::new(commit(app, command, settling, decision)))
        }
        Ok(decision) if known.fresh => Step::Done(Box::new(repeated(known, decision))),
        Err(refusal) if known.fresh => refused(settling, refusal),
        _ => Step::Reload,
    }
}

/// A call that is not made leaves nothing behind.
fn refused(settling: &Settling<'_>, refusal: Refusal) -> Step {
    let left = match settling.call {
        None if settling.known.fresh => settling.withdraw(settling.known.users.keys()),
        _ => Vec::new(),
    };
    if !left.is_empty() {
        return Step::Repair(left);
    }
    Step::Done(Box::new(Done::reply(Reply::Refused(refusal))))
}

/// Nothing changes; what was committed before may not have been told yet.
fn repeated(known: &Known, decision: Decision) -> Done {
    let told = known.calls.get(&decision.call.id).and_then(|entry| entry.value.as_ref());
    let tell = told.map(tell).unwrap_or_default();
    Done { tell, ..Done::reply(Reply::Call(Box::new(decision.call))) }
}

fn tell(record: &CallRecord) -> Vec<Tell> {
    let of = Of::Call(record.call.id.clone());
    record.told.iter().map(|told| Tell { of: of.clone(), told: told.clone() }).collect()
}

fn commit(app: &App, command: &Command, settling: &Settling<'_>, decision: Decision) -> Commit {
    let (known, now_ms) = (settling.known, settling.now_ms);
    let Decision { call, users, events } = decision;
    let previous = own(known, &call.id);
    let news = Told {
        rev: call.rev,
        at_ms: now_ms,
        view: encode(&View::of(&call)).into(),
        announcements: app.dialect.call_changed(&call, &events, now_ms),
    };
    let touches = touches(users.keys(), came_back(command, &events), now_ms);
    let (record, dropped) = CallRecord::next(previous, call, news, touches);
    let call = &record.call;
    let of = Of::Call(call.id.clone());
    let first = dropped.into_iter().map(|told| Tell { of: of.clone(), told }).collect();
    let (mut before, mut after) = writes(known, settling.call, call, &users);
    let begun = known.begun.as_ref();
    before.retain(|write| !begun.is_some_and(|begun| begun.covers(write)));
    let made = begun.map(|begun| begun.made.clone()).unwrap_or_default();
    let settled = Settling { call: Some(call), ..*settling };
    after.extend(settled.plain(known.users.keys().filter(|user| !users.contains_key(*user)).cloned()));
    let point = Write {
        key: Key::Call(call.id.clone()),
        value: Some(encode(&record).into()),
        expect: known.calls.get(&call.id).map_or(0, |entry| entry.rev),
        ttl_ms: call.status.is_over().then_some(settings(app).kept_ms),
    };
    let reply = Reply::Call(Box::new(call.clone()));
    let done = Done { reply, tell: tell(&record), events };
    let timer = timer(command, settling.call, call)
        .filter(|timer| begun.and_then(|it| it.timer.as_ref()) != Some(timer));
    let leaves = Some(Box::new(Leaves::new(record, known)));
    Commit { first, before, made, timer, point, after, leaves, done }
}

/// The users' records: those that take a place under a limit are written before the call, in the order of users, the others after
/// it. Each is written though it may say so already: by another try of the command, whose entry may be about to go.
fn writes(
    known: &Known,
    previous: Option<&Call>,
    call: &Call,
    users: &BTreeMap<UserId, UserCalls>,
) -> (Vec<Write>, Vec<Write>) {
    let (was, is) = (previous.map(Call::entries).unwrap_or_default(), call.entries());
    let takes_a_place = |user: &UserId| {
        let before = was.get(user).map(|entry| entry.state);
        is.get(user).is_some_and(|entry| entry.state.takes_a_place(before))
    };
    let (before, after): (Vec<_>, Vec<_>) = users.iter().partition(|(user, _)| takes_a_place(user));
    let write = |(user, calls): (&UserId, &UserCalls)| write_user(known, user.clone(), calls);
    (
        before.into_iter().map(|it| reserve(known, &call.id, it)).collect(),
        after.into_iter().map(write).collect(),
    )
}

/// A place that the user has in this call is not given up: the call was made by another try after this one looked, and this one
/// will find out.
fn reserve(known: &Known, call: &CallId, (user, calls): (&UserId, &UserCalls)) -> Write {
    let mut calls = calls.clone();
    let noted = known.users.get(user).and_then(|entry| entry.value.as_ref()?.get(call));
    if let Some(noted) = noted.filter(|noted| noted.state == UserCallState::In) {
        calls.set(call, Some(noted.clone()));
    }
    write_user(known, user.clone(), &calls)
}

fn timer(command: &Command, previous: Option<&Call>, call: &Call) -> Option<(CallId, u64)> {
    let deadline = call.next_deadline_ms();
    let moved = deadline != previous.and_then(Call::next_deadline_ms);
    // A fired timer is used up: what is still due needs a new one.
    let used = matches!(command.act, Act::Tick { .. });
    deadline.filter(|_| moved || used).map(|at_ms| (call.id.clone(), at_ms))
}

/// Who is back in a seat by a command of its own.
fn came_back<'a>(command: &'a Command, events: &[Event]) -> Option<&'a UserId> {
    let user = &command.actor.as_ref()?.who.user;
    let back = events.iter().any(|event| matches!(event, Event::Rejoined { user: it, .. } if it == user));
    back.then_some(user)
}

fn touches<'a>(
    changed: impl Iterator<Item = &'a UserId>,
    back: Option<&'a UserId>,
    at_ms: u64,
) -> Vec<Touched> {
    let changed = changed.filter(|user| Some(*user) != back).map(|user| (user, false));
    let all = changed.chain(back.map(|user| (user, true)));
    all.map(|(user, back)| Touched { user: user.clone(), at_ms, back }).collect()
}

/// The devices are read after the call: one that is in the call was listed before it came into it, so it is among them, unless
/// it is gone.
fn with_devices(command: &Command, known: &Known) -> Command {
    let mut command = command.clone();
    if let Act::Devices { user, present, .. } = &mut command.act {
        let records = known.devices.get(user).map_or(&[][..], Vec::as_slice);
        let devices = records.iter().flat_map(|record| &record.devices);
        *present = devices.map(|device| device.id.clone()).collect();
    }
    command
}

fn needed(record: Option<&CallRecord>, command: &Command, now_ms: u64) -> Vec<Key> {
    let call = record.map(|record| &record.call);
    let mut keys: Vec<Key> = call::concerned(call, command).into_iter().map(Key::UserCalls).collect();
    keys.extend(record.iter().flat_map(|it| it.left_alone(now_ms)).cloned().map(Key::UserCalls));
    if let Act::Devices { user, .. } = &command.act {
        keys.push(Key::Devices(user.clone()));
    }
    if let (None, Act::Initiate(offer)) = (call, &command.act) {
        for invite in &offer.invited {
            keys.push(Key::Presence(invite.who.user.clone()));
            keys.push(Key::Devices(invite.who.user.clone()));
        }
    }
    keys
}

/// Calls that may still ring for an invited user though the user's record says that he is in them; only if that matters to the limit.
/// Read after the users' records: who is in a call by then does not ring again.
fn answers_under_way(app: &App, record: Option<&CallRecord>, command: &Command, known: &Known) -> Vec<Key> {
    let (None, Act::Initiate(offer)) = (record, &command.act) else { return Vec::new() };
    let records = offer.invited.iter().filter_map(|invite| known.users.get(&invite.who.user)?.value.as_ref());
    let is_in = |entry: &&UserCall| entry.state == UserCallState::In;
    let near = records.filter(|calls| {
        let ringing = calls.ringing();
        let most = settings(app).ringing_per_user;
        ringing < most && ringing + calls.calls.iter().filter(is_in).count() >= most
    });
    near.flat_map(|calls| calls.calls.iter().filter(is_in))
        .map(|entry| Key::Call(entry.call.clone()))
        .collect()
}

/// How many of the calls that the user's record takes for answered still ring.
fn ringing_besides(user: &UserId, calls: &UserCalls, known: &Known) -> usize {
    let rings = |entry: &&UserCall| {
        let seat = own(known, &entry.call).and_then(|record| record.call.seat(user));
        entry.state == UserCallState::In && seat.is_some_and(|seat| seat.leg == Leg::Ringing)
    };
    calls.calls.iter().filter(rings).count()
}

fn world(record: Option<&CallRecord>, command: &Command, known: &Known) -> World {
    let concerned = call::concerned(record.map(|record| &record.call), command);
    // Of this call counts what it says itself, not what another try of the command has noted.
    let mut entries = record.map(|record| record.call.entries()).unwrap_or_default();
    let users = concerned.into_iter().filter_map(|user| {
        let mut calls = known.users.get(&user)?.value.clone().unwrap_or_default();
        calls.set(&command.call, entries.remove(&user));
        Some((user, calls))
    });
    let chose_busy = |entry: &Entry<PresenceRecord>| {
        let status = entry.value.as_ref().and_then(|record| record.presence.choice.status);
        status == Some(domain::presence::Status::Busy)
    };
    let devices =
        |records: &Vec<domain::presence::DeviceRecord>| records.iter().any(|r| !r.devices.is_empty());
    let users: BTreeMap<UserId, UserCalls> = users.collect();
    let besides = users.iter().map(|(user, calls)| (user.clone(), ringing_besides(user, calls, known)));
    World {
        call: record.map(|record| record.call.clone()),
        ringing_besides: besides.filter(|(_, calls)| *calls > 0).collect(),
        users,
        do_not_disturb: chosen(&known.presences, chose_busy),
        connected: chosen(&known.devices, devices),
    }
}

fn chosen<T>(of: &BTreeMap<UserId, T>, is: impl Fn(&T) -> bool) -> BTreeSet<UserId> {
    of.iter().filter(|(_, value)| is(value)).map(|(user, _)| user.clone()).collect()
}

/// Whether an event ends a ring, a leg or a call; for metrics.
pub fn outcome(events: &[Event]) -> Option<(call::Status, call::EndReason)> {
    events.iter().rev().find_map(|event| match event {
        Event::Ended { status, reason, .. } => Some((*status, *reason)),
        _ => None,
    })
}
