//! Single decisions: what the simulation seldom needs.

use coordinator::plan::{self, Commit, Key, Known, Step};
use domain::UserId;
use domain::call::{
    Act, Actor, CallId, Command, CommandId, Invite, Kind, MediaAct, MediaChange, Medium, Offer, Subject,
};

use crate::Millis;
use crate::client::person;
use crate::sim::{app, unix};
use crate::store::{At, Store, Value};

fn user(name: &str) -> UserId {
    UserId::new(name).expect("short")
}

fn command(id: u128, call: &str, who: &str, device: &str, act: Act) -> Command {
    let actor = Some(Actor { who: person(&user(who)), device: device.into() });
    Command { id: CommandId(id), call: CallId::new(call).expect("short"), actor, act }
}

fn offer(to: &str) -> Act {
    let invited = vec![Invite { who: person(&user(to)) }];
    Act::Initiate(Offer { kind: Kind::OneToOne, medium: Medium::Audio, subject: Subject::default(), invited })
}

/// Loads, plans and commits; `None`: there was nothing to commit.
fn carry_out(store: &mut Store, command: &Command) -> Option<Commit> {
    let commit = decided(store, command, 0)?;
    let writes = commit.before.iter().chain([&commit.point]).chain(&commit.after);
    writes.for_each(|write| assert!(store.write(write, 0, true)));
    Some(commit)
}

/// Loads and plans at this time, until there is something to commit.
fn decided(store: &mut Store, command: &Command, now: Millis) -> Option<Commit> {
    let mut known = Known { fresh: true, ..Known::default() };
    loop {
        match plan::call::plan(&app(), command, &known, unix(now)) {
            Step::Load(keys) => keys.iter().for_each(|key| load(store, &mut known, key)),
            Step::Commit(commit) => return Some(*commit),
            Step::Repair(writes) => {
                writes.iter().for_each(|write| assert!(store.write(write, 0, true)));
                known = Known { fresh: true, ..Known::default() };
            }
            Step::Done(_) => return None,
            Step::Begin(_) | Step::Reload | Step::Wait => {
                panic!("all of it is fresh, and nobody else is there")
            }
        }
    }
}

fn load(store: &Store, known: &mut Known, key: &Key) {
    match key {
        Key::Call(call) => drop(known.calls.insert(call.clone(), store.call(call, 0))),
        Key::UserCalls(user) => drop(known.users.insert(user.clone(), store.user(user, 0))),
        Key::Presence(user) => drop(known.presences.insert(user.clone(), store.presence(user, 0))),
        Key::Devices(user) => drop(known.devices.insert(user.clone(), store.devices(user))),
    }
}

fn answered(store: &mut Store) {
    carry_out(store, &command(1, "c1", "a", "a1", offer("b"))).expect("it rings");
    carry_out(store, &command(2, "c1", "b", "b1", Act::Answer { glare: false })).expect("it is answered");
}

/// The device may be gone before the command is carried out: whoever folded that saw another one in the call.
#[test]
fn who_comes_back_is_looked_at_again() {
    let mut store = Store::default();
    answered(&mut store);
    carry_out(&mut store, &command(3, "c1", "a", "a2", Act::Rejoin)).expect("it changes the device");
    let record = store.call(&CallId::new("c1").expect("short"), 0).value.expect("it is there");
    assert!(record.touched.iter().any(|touched| touched.user == user("a") && touched.back));
}

/// Whoever made a reservation and paused for too long finds the call's key changed, whether or not the call was made before.
#[test]
fn who_has_lost_a_reservation_cannot_confirm_it() {
    let mut store = Store::default();
    let offers = command(1, "c1", "a", "a1", offer("b"));
    let paused = decided(&mut store, &offers, 0).expect("it would ring");
    paused.before.iter().for_each(|write| assert!(store.write(write, 0, true)));
    for who in ["a", "b"] {
        let act = Act::Devices { user: user(who), present: Vec::new(), since_ms: 0 };
        let looks = Command { actor: None, ..command(2, "c1", who, "", act) };
        assert!(decided(&mut store, &looks, 60_000).is_none());
        assert_eq!(store.user(&user(who), 0).value, None, "the place is free again");
    }
    assert!(!store.write(&paused.point, 0, true), "without a reservation there is no call");
    carry_out(&mut store, &offers).expect("planned anew it rings");
}

#[test]
fn a_repeat_of_a_call_that_answered_another_makes_none_after_that_one() {
    let mut store = Store::default();
    carry_out(&mut store, &command(1, "c1", "a", "a1", offer("b"))).expect("it rings");
    carry_out(&mut store, &command(2, "c2", "b", "b1", offer("a"))).expect("it answers");
    carry_out(&mut store, &command(3, "c1", "a", "a1", Act::End { said: None })).expect("it ends");
    assert!(carry_out(&mut store, &command(2, "c2", "b", "b1", offer("a"))).is_none());
    let elsewhere = command(4, "c2", "b", "b1", Act::Answer { glare: false });
    assert!(carry_out(&mut store, &elsewhere).is_none(), "there is no such call");
    assert_eq!(store.calls().count(), 1);
}

#[test]
fn what_a_record_keeps_no_longer_is_told_before_the_next_revision() {
    let mut store = Store::default();
    answered(&mut store);
    let act = MediaAct { what: MediaChange::StreamStart { video: true, audio: true }, payload: "{}".into() };
    for n in 0..100 {
        let stream = command(10 + n, "c1", "a", "a1", Act::Media(act.clone()));
        let commit = carry_out(&mut store, &stream).expect("it is told");
        let at = At::Call(CallId::new("c1").expect("short"));
        let Some(Value::Call(record)) = &store.newest(&at).expect("it is there").value else { panic!() };
        let oldest = record.told[0].rev;
        let first: Vec<u64> = commit.first.iter().map(|tell| tell.told.rev).collect();
        let dropped = if oldest > 1 { vec![oldest - 1] } else { vec![] };
        assert_eq!(first, dropped);
    }
}
