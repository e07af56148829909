//! Announcements that no single event of a client makes, and those that old and new clients tell apart.

use domain::call::Status;

use super::*;

#[test]
fn a_receiver_who_comes_late_makes_it_ring_for_the_caller_too() {
    let mut stage = Stage::new();
    stage.say("7-a", "call:initiate", json!({ "receiverId": "9", "callType": "audio" }));
    let call = stage.call.as_mut().unwrap();
    call.status = Status::Initiating;
    let user = UserId::new("9").unwrap();
    let told = stage.at(NOW_MS + 1, Act::Devices { user, present: vec!["9-a".into()], since_ms: NOW_MS });
    assert_eq!(told, [("user:7".into(), "call:ringing".into(), json!({ "callId": "C1" }))]);
}

#[test]
fn a_call_of_two_ends_with_a_connection_that_does_not_come_back() {
    let mut stage = answered();
    let user = UserId::new("9").unwrap();
    let told = stage.at(NOW_MS + 1, Act::Devices { user, present: vec![], since_ms: NOW_MS + 1 });
    assert_eq!(outline(&told), [(".call:C1", "call:participant:lost")]);
    assert_eq!(told[0].2, json!({ "callId": "C1", "userId": "9" }));
    let due_ms = stage.call().next_deadline_ms().unwrap();
    let told = stage.at(due_ms, Act::Tick { due_ms });
    let both = "user:7 user:9";
    assert_eq!(outline(&told), [(both, "call:end"), (both, "call:ended")]);
    assert_eq!(
        told[1].2,
        json!({ "callId": "C1", "endedBy": null, "reason": "connection_lost", "duration": 15 })
    );
}

#[test]
fn a_conference_goes_on_without_those_who_do_not_answer() {
    let mut stage = Stage::new();
    stage.say("7-a", "conference:create", json!({ "participants": ["8", "9"], "callType": "video" }));
    stage.say("8-a", "call:response", json!({ "callId": "C1", "action": "accept" }));
    let due_ms = NOW_MS + 60_000;
    let told = stage.at(due_ms, Act::Tick { due_ms });
    let body = json!({ "callId": "C1", "userId": "9" });
    assert_eq!(told, [("user:9".into(), "call:timeout".into(), body)]);
    // Who has missed it may still come.
    let said = stage.say("9-a", "conference:video:join", json!({ "callId": "C1" }));
    assert_eq!(outline(&said.story()), [(".call:C1 -9-a", "conference:participant:joined")]);
}

#[test]
fn nothing_changed_nothing_told() {
    let stage = answered();
    assert!(dialect().call_changed(stage.call(), &[], NOW_MS).is_empty());
}
