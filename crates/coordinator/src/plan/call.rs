//! Commands for calls.

use cluster::coordination::{Reply, encode};
use domain::UserId;
use domain::call::{
    self, Act, Call, CallId, CallSettings, Command, Decision, Event, Refusal, UserCalls, View, World,
};

use super::{App, CallRecord, Commit, Done, Entry, Key, Known, Of, PresenceRecord, Step, Tell, Told, Write};

/// The next step of a command.
pub fn plan(app: &App, command: &Command, known: &Known, now_ms: u64) -> Step {
    let Some(entry) = known.calls.get(&command.call) else {
        return Step::Load(vec![Key::Call(command.call.clone())]);
    };
    let record = entry.value.as_ref();
    if let Err(refusal) = checked(app, command) {
        return Step::Done(Box::new(Done::reply(Reply::Refused(refusal))));
    }
    if let Some(other) = record.map(|record| &record.call.id).filter(|id| **id != command.call) {
        return answered_instead(command, other, known);
    }
    let missing = known.missing(needed(record.map(|record| &record.call), command));
    if !missing.is_empty() {
        return Step::Load(missing);
    }
    let command = &with_devices(command, known);
    let world = world(record, command, known);
    if record.is_none()
        && let Some(other) = call::glare(&world, command)
    {
        let answer = Command { call: other, act: Act::Answer { glare: true }, ..command.clone() };
        if let Some(step) = plan_glare(app, command, &answer, known, now_ms) {
            return step;
        }
    }
    conclude(app, command, known, &world, now_ms)
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

/// The command has answered a call in the other direction before, and made none.
fn answered_instead(command: &Command, other: &CallId, known: &Known) -> Step {
    if !matches!(command.act, Act::Initiate(_)) {
        return Step::Done(Box::new(Done::reply(Reply::Refused(Refusal::UnknownCall))));
    }
    let Some(entry) = known.calls.get(other) else { return Step::Load(vec![Key::Call(other.clone())]) };
    if !known.fresh {
        return Step::Reload;
    }
    let record = entry.value.as_ref().or(known.calls[&command.call].value.as_ref());
    let call = record.expect("it names the other call").call.clone();
    let decision = Decision { call, users: Default::default(), events: Vec::new() };
    Step::Done(Box::new(repeated(known, decision)))
}

/// The call in the other direction is answered. `None`: its ring has run out, so the command goes on as what it is. Another refusal
/// means that one of the records was read before it changed.
fn plan_glare(app: &App, command: &Command, answer: &Command, known: &Known, now_ms: u64) -> Option<Step> {
    match plan(app, answer, known, now_ms) {
        Step::Commit(mut commit) => {
            commit.writes.extend(instead(app, command, known, &commit.done.reply));
            Some(Step::Commit(commit))
        }
        Step::Done(done) => match done.reply {
            Reply::Refused(Refusal::Over) => None,
            Reply::Refused(Refusal::OverLimit { .. }) | Reply::Call(_) => Some(Step::Done(done)),
            _ => Some(Step::Reload),
        },
        step => Some(step),
    }
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

fn conclude(app: &App, command: &Command, known: &Known, world: &World, now_ms: u64) -> Step {
    let done = match call::decide(world, command, settings(app), now_ms) {
        Ok(decision) if !decision.events.is_empty() => {
            return Step::Commit(Box::new(commit(app, command, known, decision, now_ms)));
        }
        Ok(decision) => repeated(known, decision),
        Err(refusal) => Done::reply(Reply::Refused(refusal)),
    };
    if known.fresh { Step::Done(Box::new(done)) } else { Step::Reload }
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

fn commit(app: &App, command: &Command, known: &Known, decision: Decision, now_ms: u64) -> Commit {
    let Decision { call, users, events } = decision;
    let before = known.calls.get(&call.id);
    let previous = before.and_then(|entry| entry.value.as_ref());
    let news = Told {
        rev: call.rev,
        at_ms: now_ms,
        view: encode(&View::of(&call)).into(),
        announcements: app.dialect.call_changed(&call, &events, now_ms),
    };
    let (record, dropped) = CallRecord::next(previous, call, news);
    let call = &record.call;
    let of = Of::Call(call.id.clone());
    let first = dropped.into_iter().map(|told| Tell { of: of.clone(), told }).collect();
    let deadline = call.next_deadline_ms();
    let moved = deadline != previous.and_then(|record| record.call.next_deadline_ms());
    // A fired timer is used up: what is still due needs a new one.
    let used = matches!(command.act, Act::Tick { .. });
    let timer = deadline.filter(|_| moved || used).map(|at_ms| (call.id.clone(), at_ms));
    let mut writes = vec![Write {
        key: Key::Call(call.id.clone()),
        value: Some(encode(&record).into()),
        expect: before.map_or(0, |entry| entry.rev),
        ttl_ms: call.status.is_over().then_some(settings(app).kept_ms),
    }];
    let again = came_back(command, &events).filter(|user| !users.contains_key(*user));
    writes.extend(again.map(|user| write_again(known, user)));
    writes.extend(users.into_iter().map(|(user, calls)| write_user(known, user, &calls)));
    let reply = Reply::Call(Box::new(call.clone()));
    let done = Done { reply, tell: tell(&record), events };
    Commit { first, writes, timer, done }
}

/// Who is back in a seat by a command of its own. The device may be gone already, and whoever folded that saw another one in the
/// call: so the user's record is written again though it says the same, and its follower looks at the devices after this.
fn came_back<'a>(command: &'a Command, events: &[Event]) -> Option<&'a UserId> {
    let user = &command.actor.as_ref()?.who.user;
    let back = events.iter().any(|event| matches!(event, Event::Rejoined { user: it, .. } if it == user));
    back.then_some(user)
}

fn write_again(known: &Known, user: &UserId) -> Write {
    let calls = known.users.get(user).and_then(|entry| entry.value.clone()).unwrap_or_default();
    write_user(known, user.clone(), &calls)
}

fn write_user(known: &Known, user: UserId, calls: &UserCalls) -> Write {
    Write {
        expect: known.users.get(&user).map_or(0, |entry| entry.rev),
        value: (!calls.is_empty()).then(|| encode(calls).into()),
        key: Key::UserCalls(user),
        ttl_ms: None,
    }
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

fn needed(call: Option<&Call>, command: &Command) -> Vec<Key> {
    let mut keys: Vec<Key> = call::concerned(call, command).into_iter().map(Key::UserCalls).collect();
    if let Act::Devices { user, .. } = &command.act {
        keys.push(Key::Devices(user.clone()));
    }
    if let (Some(_), Act::Rejoin, Some(actor)) = (call, &command.act, &command.actor) {
        keys.push(Key::UserCalls(actor.who.user.clone()));
    }
    if let (None, Act::Initiate(offer)) = (call, &command.act) {
        for invite in &offer.invited {
            keys.push(Key::Presence(invite.who.user.clone()));
            keys.push(Key::Devices(invite.who.user.clone()));
        }
    }
    keys
}

fn world(record: Option<&CallRecord>, command: &Command, known: &Known) -> World {
    let concerned = call::concerned(record.map(|record| &record.call), command);
    let users = concerned.into_iter().filter_map(|user| {
        let calls = known.users.get(&user)?.value.clone().unwrap_or_default();
        Some((user, calls))
    });
    let chose_busy = |entry: &Entry<PresenceRecord>| {
        let status = entry.value.as_ref().and_then(|record| record.presence.choice.status);
        status == Some(domain::presence::Status::Busy)
    };
    let devices =
        |records: &Vec<domain::presence::DeviceRecord>| records.iter().any(|r| !r.devices.is_empty());
    World {
        call: record.map(|record| record.call.clone()),
        users: users.collect(),
        do_not_disturb: chosen(&known.presences, chose_busy),
        connected: chosen(&known.devices, devices),
    }
}

fn chosen<T>(
    of: &std::collections::BTreeMap<UserId, T>,
    is: impl Fn(&T) -> bool,
) -> std::collections::BTreeSet<UserId> {
    of.iter().filter(|(_, value)| is(value)).map(|(user, _)| user.clone()).collect()
}

/// Whether an event ends a ring, a leg or a call; for metrics.
pub fn outcome(events: &[Event]) -> Option<(call::Status, call::EndReason)> {
    events.iter().rev().find_map(|event| match event {
        Event::Ended { status, reason, .. } => Some((*status, *reason)),
        _ => None,
    })
}
