//! Calls: what a client says, which command comes of it, what its outcome makes.

use std::sync::Arc;

use bytes::Bytes;
use domain::call::{
    Act, Call, CallId, CallSettings, EndReason, Kind, Leg, Limit, Medium, Person, Refusal, Seat, Status,
    Subject, View,
};
use domain::ice::{IceServers, Turn};
use domain::{ChatLimits, Rejection};

use super::*;
use crate::Realtime;

pub(super) const NOW_MS: u64 = 100_000;

/// The user 7 of the other transcripts is in the call with the socket `s1`.
pub(super) fn ring(caller: Value, callee: Value) -> Call {
    let person =
        |id: Value| Person { user: UserId::from_json(&id).unwrap(), wire_id: id, name: None, role: None };
    Call {
        id: CallId::new("C1").unwrap(),
        kind: Kind::OneToOne,
        medium: Medium::Video,
        status: Status::Ringing,
        subject: Subject { visit: Some(json!(1)), ..Subject::default() },
        seats: vec![
            Seat { who: person(caller), leg: Leg::Joined { device: "s1".into(), since_ms: 0 } },
            Seat { who: person(callee), leg: Leg::Ringing },
        ],
        created_ms: 0,
        ring_until_ms: 30_000,
        accepted_ms: None,
        ended_ms: None,
        reason: None,
        ended_by: None,
        said: None,
        media: Default::default(),
        rev: 1,
        done: Default::default(),
    }
}

pub(super) fn live(status: Status) -> Call {
    let mut call = ring(json!(7), json!("9"));
    call.status = status;
    call.accepted_ms = Some(10_000);
    call.seats[1].leg = Leg::Joined { device: "s2".into(), since_ms: 10_000 };
    call
}

pub(super) fn over(mut call: Call, status: Status, reason: EndReason) -> Call {
    call.status = status;
    call.reason = Some(reason);
    call.ended_ms = Some(75_999);
    call.seats[1].leg = Leg::Left;
    call
}

pub(super) fn with_turn() -> Telehealth {
    let turn = Turn { urls: vec!["turn:t:3478".into()], secret: b"s"[..].into(), ttl_s: 600 };
    let ice = IceServers { stun: vec!["stun:t:3478".into()], turn: vec![turn] };
    let calls = CallSettings { signal_bytes: 200, ..CallSettings::default() };
    Telehealth::new("/", vec![], ChatLimits::default(), Realtime { ice, calls, ..Realtime::default() })
        .unwrap()
}

/// Says something on the socket `s1`, which has these views.
fn say_on(dialect: &Telehealth, views: &[Call], name: &str, raw: &str, binary: &[Bytes]) -> Vec<Action> {
    let views: Vec<_> = views.iter().map(|call| Arc::new(View::of(call))).collect();
    let (identity, raw) = (ann(), RawValue::from_string(raw.into()).unwrap());
    let socket = Socket { calls: &views, ..socket(&identity, &[]) };
    let inbound = Inbound { name, args: &[&raw], attachments: binary, wants_ack: true, now_ms: NOW_MS };
    Action::without_hook(dialect.event(&socket, &inbound))
}

fn ask(name: &str, payload: Value) -> Vec<Action> {
    say_on(&with_turn(), &[], name, &payload.to_string(), &[])
}

/// The command, and what its outcome makes.
fn asked(name: &str, payload: Value, outcome: Result<Call, Rejection>) -> (Option<CallId>, Act, Vec<Action>) {
    let mut actions = ask(name, payload);
    assert_eq!(actions.len(), 1);
    let Action::Run(Command::Call { call, act }, then) = actions.remove(0) else { panic!() };
    let identity = ann();
    let outcome = outcome.map(|call| Outcome::Call(Box::new(call)));
    (call, act, then(&socket(&identity, &[]), outcome))
}

pub(super) fn has_own_credentials(ice: &Value, user: &str) {
    assert_eq!(ice[0], json!({ "urls": ["stun:t:3478"] }));
    assert_eq!(ice[1]["username"], format!("700:{user}"));
    assert!(ice[1]["credential"].is_string());
}

#[test]
fn initiating_makes_an_offer_and_answers_with_the_call() {
    let payload = json!({ "recipientId": 9, "callType": "video", "visitId": 1, "whatever": {} });
    let (call, act, then) = asked("call:initiate", payload, Ok(ring(json!(7), json!(9))));
    let Act::Initiate(offer) = act else { panic!() };
    assert_eq!((call, offer.kind, offer.medium), (None, Kind::OneToOne, Medium::Video));
    assert_eq!(offer.subject.visit, Some(json!(1)));
    let who = &offer.invited[0].who;
    assert_eq!((offer.invited.len(), who.user.as_str(), &who.wire_id), (1, "9", &json!(9)));
    let answer = ack(&then[0]);
    assert_eq!(
        (then.len(), &answer["success"], &answer["callId"], &answer["status"]),
        (1, &json!(true), &json!("C1"), &json!("ringing"))
    );
    has_own_credentials(&answer["iceServers"], "7");
}

#[test]
fn who_calls_a_caller_answers_and_is_told_like_a_caller() {
    let mut theirs = live(Status::Accepted);
    theirs.seats.swap(0, 1);
    let payload = json!({ "recipientId": "9", "callType": "audio", "visitId": null });
    let (_, act, then) = asked("call:initiate", payload, Ok(theirs));
    let Act::Initiate(offer) = act else { panic!() };
    assert_eq!((offer.medium, offer.subject), (Medium::Audio, Subject::default()));
    assert_eq!((&ack(&then[0])["callId"], &ack(&then[0])["status"]), (&json!("C1"), &json!("accepted")));
    let (event, body) = emitted(&then[1]);
    assert_eq!((event, &body["callId"]), ("call:accepted", &json!("C1")));
    has_own_credentials(&body["iceServers"], "7");
}

#[test]
fn a_visit_in_a_call_needs_the_right_to_it() {
    for (visit, code) in [(json!(2), "room_denied"), (json!([]), "invalid_payload")] {
        let payload = json!({ "recipientId": "9", "callType": "audio", "visitId": visit });
        assert_eq!(refusal(&ask("call:initiate", payload)), code);
    }
}

#[test]
fn wrong_calls_are_answered_clearly() {
    let long = "x".repeat(ChatLimits::default().max_message_chars + 1);
    for (event, payload, code) in [
        ("call:initiate", json!({ "callType": "audio" }), "invalid_payload"),
        ("call:initiate", json!({ "recipientId": null, "callType": "audio" }), "invalid_payload"),
        ("call:initiate", json!({ "recipientId": 1.5, "callType": "audio" }), "invalid_payload"),
        ("call:initiate", json!({ "recipientId": "9" }), "invalid_payload"),
        ("call:initiate", json!({ "recipientId": "9", "callType": "smell" }), "invalid_payload"),
        ("call:initiate", json!("9"), "invalid_payload"),
        ("call:accept", json!({}), "invalid_payload"),
        ("call:accept", json!({ "callId": 5 }), "invalid_payload"),
        ("call:accept", json!({ "callId": "no such id" }), "unknown_call"),
        ("call:reject", json!({ "callId": "C1", "reason": 5 }), "invalid_payload"),
        ("call:reject", json!({ "callId": "C1", "reason": long }), "over_limit"),
        ("call:end", json!({ "callId": "" }), "unknown_call"),
        ("call:rejoin", json!(null), "invalid_payload"),
        ("call:hang", json!({ "callId": "C1" }), "unknown_event"),
    ] {
        assert_eq!(refusal(&ask(event, payload.clone())), code, "{event} {payload}");
    }
}

#[test]
fn what_is_asked_of_a_call_becomes_its_act() {
    let said = || Some("late".into());
    for (event, payload, expected) in [
        ("call:accept", json!({ "callId": "C1", "sdp": 1 }), Act::Answer { glare: false }),
        ("call:rejoin", json!({ "callId": "C1" }), Act::Rejoin),
        ("call:reject", json!({ "callId": "C1", "reason": "late" }), Act::Decline { said: said() }),
        ("call:reject", json!({ "callId": "C1", "reason": null }), Act::Decline { said: None }),
        ("call:end", json!({ "callId": "C1" }), Act::End { said: None }),
        ("call:fail", json!({ "callId": "C1", "reason": "late" }), Act::Fail { said: said() }),
    ] {
        let (call, act, then) = asked(event, payload, Ok(live(Status::Accepted)));
        assert_eq!((call.unwrap().as_str(), act), ("C1", expected), "{event}");
        assert_eq!((then.len(), &ack(&then[0])["success"]), (1, &json!(true)), "{event}");
    }
}

#[test]
fn who_enters_gets_ice_servers_and_who_quits_the_duration() {
    for event in ["call:accept", "call:rejoin"] {
        let (_, _, then) = asked(event, json!({ "callId": "C1" }), Ok(live(Status::Accepted)));
        assert_eq!(ack(&then[0])["status"], "accepted");
        has_own_credentials(&ack(&then[0])["iceServers"], "7");
    }
    let call = over(live(Status::InProgress), Status::Ended, EndReason::HungUp);
    let (_, _, then) = asked("call:end", json!({ "callId": "C1" }), Ok(call));
    assert_eq!(ack(&then[0]), json!({ "success": true, "callId": "C1", "duration": 65 }));
}

#[test]
fn who_ends_a_call_that_rings_declines_it_and_hears_of_the_end() {
    let call = over(ring(json!("9"), json!(7)), Status::Rejected, EndReason::Rejected);
    let (_, _, then) = asked("call:end", json!({ "callId": "C1" }), Ok(call.clone()));
    assert_eq!(ack(&then[0]), json!({ "success": true, "callId": "C1", "duration": 0 }));
    let expected = json!({ "callId": "C1", "duration": 0, "reason": "rejected" });
    assert_eq!(emitted(&then[1]), ("call:ended", expected));
    let (_, _, then) = asked("call:reject", json!({ "callId": "C1" }), Ok(call));
    assert_eq!(then.len(), 1);
}

#[test]
fn what_the_coordinator_refuses_is_said_in_the_ack() {
    for refused in [Refusal::Busy, Refusal::DoNotDisturb, Refusal::AlreadyAnswered, Refusal::UnknownCall] {
        let code = refused.code();
        let (_, _, then) = asked("call:accept", json!({ "callId": "C1" }), Err(refused.into()));
        assert_eq!(refusal(&then), code);
    }
    let (_, _, then) = asked("call:end", json!({ "callId": "C1" }), Err(Rejection::Unavailable));
    assert_eq!(refusal(&then), "unavailable");
}

#[test]
fn a_signal_goes_on_as_it_came() {
    // A second parse would change the number, the escapes and the order of keys.
    let signal =
        r#"{ "z":1.0e2,"a":"\u00e9","big":12345678901234567890123,"b":{"_placeholder":true,"num":0}}"#;
    let raw = format!(r#"{{"callId":"C1","junk":[],"fromId":"9","signal":{signal}}}"#);
    let binary = [Bytes::from_static(b"\x00")];
    let actions = say_on(&with_turn(), &[live(Status::InProgress)], "call:signal", &raw, &binary);
    let [Action::Run(Command::Emit(emission), _), answer] = &actions[..] else { panic!("{actions:?}") };
    let tail = String::from_utf8(emission.args.tail.clone()).unwrap();
    assert_eq!(tail, format!(r#"{{"callId":"C1","signal":{signal},"fromId":7}}"#));
    assert_eq!(emission.args.attachments, binary);
    assert_eq!((emission.event.as_ref(), emission.rooms[0].as_str()), ("call:signal", ".call:C1"));
    assert_eq!((emission.delivery, emission.except_self), (Delivery::Ephemeral, true));
    assert_eq!(ack(answer), json!({ "success": true }));
}

#[test]
fn the_first_signals_say_that_the_call_makes_progress() {
    let raw = r#"{"callId":"C1","signal":null,"targetId":9}"#;
    let actions = say_on(&with_turn(), &[live(Status::Accepted)], "call:signal", raw, &[]);
    let [Action::Run(Command::Emit(emission), _), Action::Ack(_), Action::Run(progress, _)] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!(emission.rooms[0].as_str(), ".seat:C1:9");
    let Command::Call { call: Some(call), act: Act::Progress } = progress else { panic!() };
    assert_eq!(call.as_str(), "C1");
}

#[test]
fn signals_pass_only_between_those_in_a_live_call() {
    let mut elsewhere = live(Status::InProgress);
    elsewhere.seats[0].leg = Leg::Joined { device: "s3".into(), since_ms: 0 };
    let big = format!(r#"{{"callId":"C1","signal":"{}"}}"#, "x".repeat(200));
    let live = || vec![live(Status::InProgress)];
    let cases = [
        (vec![], r#"{"callId":"C1","signal":1}"#, "not_in_call"),
        (live(), r#"{"callId":"C2","signal":1}"#, "not_in_call"),
        (vec![elsewhere], r#"{"callId":"C1","signal":1}"#, "not_in_call"),
        (live(), r#"{"callId":"C 1","signal":1}"#, "unknown_call"),
        (vec![ring(json!(7), json!(9))], r#"{"callId":"C1","signal":1}"#, "call_not_active"),
        (live(), r#"{"callId":"C1","signal":1,"targetId":"8"}"#, "no_such_participant"),
        (live(), r#"{"callId":"C1","signal":1,"targetId":{}}"#, "invalid_payload"),
        (live(), r#"{"callId":"C1"}"#, "invalid_payload"),
        (live(), r#"{"callId":1,"signal":1}"#, "invalid_payload"),
        (live(), r#"{"signal":1}"#, "invalid_payload"),
        (live(), "[]", "invalid_payload"),
        (live(), &big, "over_limit"),
    ];
    for (views, raw, code) in cases {
        assert_eq!(refusal(&say_on(&with_turn(), &views, "call:signal", raw, &[])), code, "{raw}");
    }
}

#[test]
fn attachments_count_for_the_size_of_a_signal() {
    let raw = r#"{"callId":"C1","signal":{"_placeholder":true,"num":0}}"#;
    let fits = Bytes::from(vec![0; 200 - raw.len()]);
    let over = Bytes::from(vec![0; 201 - raw.len()]);
    let say = |bytes| say_on(&with_turn(), &[live(Status::InProgress)], "call:signal", raw, &[bytes]);
    assert_eq!(say(fits).len(), 2);
    let answer = ack(&say(over)[0]);
    let words = Refusal::OverLimit { limit: Limit::SignalBytes, max: 200 }.to_string();
    assert_eq!(answer["error"], words);
    assert!(words.contains("200 (calls.signal_bytes)"));
}

#[test]
fn a_calls_room_is_open_to_the_devices_in_it() {
    let join = |views: &[Call]| {
        say_on(&with_turn(), views, "room:join", r#"{"roomId":"call:C1","roomType":"call"}"#, &[])
    };
    assert!(matches!(join(&[live(Status::InProgress)])[0], Action::Run(Command::Join(_), _)));
    assert_eq!(refusal(&join(&[])), "room_denied");
    let mut elsewhere = live(Status::InProgress);
    elsewhere.seats[0].leg = Leg::Left;
    assert_eq!(refusal(&join(&[elsewhere])), "room_denied");
}

#[test]
fn a_calls_room_can_be_left_when_the_call_is_over() {
    let member = [Membership { room: "call:C1".into(), note: None }];
    let leave =
        |memberships: &[Membership]| say(memberships, "room:leave", json!({ "roomId": "call:C1" }), true);
    assert!(matches!(leave(&member)[0], Action::Run(Command::Leave(_), _)));
    assert_eq!(refusal(&leave(&[])), "room_denied");
}

/// What a connecting socket of user 7 hears after `connected`.
fn reminded(outcome: Result<Vec<Call>, Rejection>) -> Vec<Action> {
    let identity = ann();
    let socket = socket(&identity, &[]);
    let Some(Action::Run(Command::Join(_), then)) = dialect().connecting(&socket).into_iter().next() else {
        panic!()
    };
    let mut actions = then(&socket, Ok(Outcome::Joined { participants: vec![] }));
    assert!(matches!(actions[0], Action::Accept));
    assert_eq!(emitted(&actions[1]), ("connected", json!({ "socketId": "s1", "userId": 7 })));
    let Some(Action::Run(Command::OwnCalls, then)) = actions.pop() else { panic!() };
    then(&socket, outcome.map(Outcome::Calls))
}

#[test]
fn a_device_that_connects_while_it_rings_rings() {
    let actions = reminded(Ok(vec![ring(json!("9"), json!(7))]));
    let expected = json!({ "callId": "C1", "callerId": "9", "callType": "video", "visitId": 1 });
    assert_eq!((actions.len(), emitted(&actions[0])), (1, ("call:incoming", expected)));
}

#[test]
fn a_device_that_connects_is_told_of_calls_to_rejoin() {
    let mut call = live(Status::InProgress);
    let leg = |device: &str| Leg::Joined { device: device.into(), since_ms: 0 };
    call.seats[0].leg = Leg::Lost { device: "old".into(), since_ms: 5, until_ms: 9 };
    let expected = json!({
        "callId": "C1", "callerId": 7, "callType": "video", "visitId": 1, "recipientId": "9",
        "status": "in_progress", "lost": true
    });
    assert_eq!(emitted(&reminded(Ok(vec![call.clone()]))[0]), ("call:active", expected));
    // The old connection is still believed to be there: a network that changed.
    call.seats[0].leg = leg("old");
    assert_eq!(emitted(&reminded(Ok(vec![call.clone()]))[0]).1["lost"], false);
    for quiet in [leg("s1"), Leg::Left, Leg::Declined, Leg::Missed] {
        call.seats[0].leg = quiet;
        assert!(reminded(Ok(vec![call.clone()])).is_empty(), "{:?}", call.seats[0].leg);
    }
    let mut over = ring(json!("9"), json!(7));
    over.status = Status::Missed;
    assert!(reminded(Ok(vec![over])).is_empty());
    let failed = reminded(Err(Rejection::Unavailable));
    assert_eq!(emitted(&failed[0]).1["code"], "unavailable");
}
