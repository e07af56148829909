//! What the coordinator announces of calls: to whom, in which order, in which words.

use std::collections::BTreeMap;

use domain::call::{
    Act, Actor, Call, CallId, CallSettings, CommandId, EndReason, Event, Invite, Kind, Leg, Medium, Offer,
    Person, Status, Subject, World, decide,
};

use super::calls::{NOW_MS, has_own_credentials, live, over, ring, with_turn};
use super::*;
use crate::Announcement;

fn ended(call: &Call, said: Option<&str>) -> Event {
    Event::Ended {
        status: call.status,
        reason: call.reason.unwrap(),
        by: None,
        said: said.map(Into::into),
        at_ms: call.ended_ms.unwrap(),
    }
}

/// Rooms, event, payload, who is left out: as a line.
fn told(call: &Call, events: &[Event]) -> Vec<String> {
    dialect().call_changed(call, events, NOW_MS).iter().map(line).collect()
}

fn line(it: &Announcement) -> String {
    let rooms: Vec<&str> = it.rooms.iter().map(RoomId::as_str).collect();
    let except: String = it.except.iter().map(|id| format!(" but {id}")).collect();
    let keys: BTreeMap<_, _> = body(&it.args).as_object().unwrap().clone().into_iter().collect();
    format!("{}{except}: {} {}", rooms.join("+"), it.event, json!(keys))
}

#[test]
fn a_call_rings_on_all_devices_of_its_recipient() {
    let mut call = ring(json!(7), json!("9"));
    call.seats[0].who.name = Some("Ann".into());
    let user = call.seats[1].who.user.clone();
    assert_eq!(
        told(&call, &[Event::Rings { user }, Event::Rang]),
        [
            r#"notifications:9: call:incoming {"callId":"C1","callType":"video","callerId":7,"callerName":"Ann","visitId":1}"#,
            r#"notifications:7: call:ringing {"callId":"C1"}"#,
        ]
    );
    call.subject.visit = None;
    call.seats[0].who.name = None;
    let user = call.seats[1].who.user.clone();
    assert_eq!(
        told(&call, &[Event::Rings { user }]),
        [r#"notifications:9: call:incoming {"callId":"C1","callType":"video","callerId":7}"#]
    );
}

#[test]
fn the_first_answer_tells_the_caller_and_stops_the_other_devices() {
    let call = live(Status::Accepted);
    let who = call.seats[1].who.clone();
    let user = who.user.clone();
    let events = [
        Event::Accepted { who, device: "s2".into(), at_ms: 10_000, glare: false },
        Event::StopsRinging { user, device: Some("s2".into()) },
    ];
    assert_eq!(
        told(&call, &events),
        [
            r#"notifications:7: call:accepted {"callId":"C1","iceServers":[]}"#,
            r#"notifications:9 but s2: call:ended {"callId":"C1","duration":0,"reason":"answered_elsewhere"}"#,
        ]
    );
    let accepted = &with_turn().call_changed(&call, &events, NOW_MS)[0];
    has_own_credentials(&body(&accepted.args)["iceServers"], "7");
}

#[test]
fn a_declined_call_is_rejected_and_then_ended_for_all_who_wait() {
    let mut call = over(ring(json!(7), json!("9")), Status::Rejected, EndReason::Rejected);
    call.seats[1].leg = Leg::Declined;
    let user = call.seats[1].who.user.clone();
    let events = |said: Option<&str>| {
        [
            Event::Declined { user: user.clone(), device: "s2".into(), said: said.map(Into::into) },
            Event::StopsRinging { user: user.clone(), device: Some("s2".into()) },
            ended(&call, said),
        ]
    };
    let ended = r#"notifications:7+notifications:9 but s2: call:ended {"callId":"C1","duration":0,"reason":"rejected"}"#;
    let rejected = "notifications:7+notifications:9 but s2: call:rejected";
    let with_reason = format!(r#"{rejected} {{"callId":"C1","reason":"not now"}}"#);
    assert_eq!(told(&call, &events(Some("not now"))), [&with_reason, ended]);
    assert_eq!(told(&call, &events(None)), [&format!(r#"{rejected} {{"callId":"C1"}}"#), ended]);
}

#[test]
fn a_call_that_nobody_answered_ends_for_both_with_its_reason() {
    let both = "notifications:7+notifications:9";
    let ended_for =
        |reason| format!(r#"{both}: call:ended {{"callId":"C1","duration":0,"reason":"{reason}"}}"#);
    let end = |status, reason| over(ring(json!(7), json!("9")), status, reason);

    let missed = end(Status::Missed, EndReason::Missed);
    let user = missed.seats[1].who.user.clone();
    assert_eq!(
        told(&missed, &[Event::Missed { user }, ended(&missed, None)]),
        [format!(r#"{both}: call:missed {{"callId":"C1"}}"#), ended_for("missed")]
    );
    let cancelled = end(Status::Ended, EndReason::Cancelled);
    assert_eq!(told(&cancelled, &[ended(&cancelled, Some("oops"))]), [ended_for("cancelled")]);
    let lost = end(Status::Ended, EndReason::ConnectionLost);
    assert_eq!(told(&lost, &[ended(&lost, None)]), [ended_for("connection_lost")]);
    let failed = end(Status::Failed, EndReason::Failed);
    assert_eq!(
        told(&failed, &[ended(&failed, Some("no camera"))]),
        [format!(r#"{both}: call:failed {{"callId":"C1","reason":"no camera"}}"#), ended_for("failed")]
    );
}

#[test]
fn an_answered_call_ends_with_its_duration_for_both() {
    let both = "notifications:7+notifications:9: call:ended";
    let end = |status, reason| over(live(Status::InProgress), status, reason);
    let hung_up = end(Status::Ended, EndReason::HungUp);
    assert_eq!(
        told(&hung_up, &[ended(&hung_up, None)]),
        [format!(r#"{both} {{"callId":"C1","duration":65}}"#)]
    );
    assert_eq!(
        told(&hung_up, &[ended(&hung_up, Some("bye"))]),
        [format!(r#"{both} {{"callId":"C1","duration":65,"reason":"bye"}}"#)]
    );
    let lost = end(Status::Ended, EndReason::ConnectionLost);
    assert_eq!(
        told(&lost, &[ended(&lost, None)]),
        [format!(r#"{both} {{"callId":"C1","duration":65,"reason":"connection_lost"}}"#)]
    );
    let failed = end(Status::Failed, EndReason::Failed);
    assert_eq!(
        told(&failed, &[ended(&failed, None)]),
        [
            r#"notifications:7+notifications:9: call:failed {"callId":"C1"}"#.to_owned(),
            format!(r#"{both} {{"callId":"C1","duration":65,"reason":"failed"}}"#)
        ]
    );
}

/// What is announced while users 7 (socket `s1`) and 9 do these things at these times.
fn story(acts: Vec<(&str, Act, u64)>) -> Vec<Vec<String>> {
    let person =
        |id: &str| Person { user: UserId::new(id).unwrap(), wire_id: id.into(), name: None, role: None };
    let offer = Offer {
        kind: Kind::OneToOne,
        medium: Medium::Audio,
        subject: Subject::default(),
        invited: vec![Invite { who: person("9") }],
    };
    let mut world = World::default();
    world.connected.insert(UserId::new("9").unwrap());
    let acts = [("7", Act::Initiate(offer), 0)].into_iter().chain(acts);
    let tell = |(number, (user, act, now_ms)): (usize, (&str, Act, u64))| {
        let device = if user == "7" { "s1".into() } else { "s9".into() };
        let actor = (user != "time").then(|| Actor { who: person(user), device });
        let command = domain::call::Command {
            id: CommandId(number as u128),
            call: CallId::new("C1").unwrap(),
            actor,
            act,
        };
        let decision = decide(&world, &command, &CallSettings::default(), now_ms).unwrap();
        world.call = Some(decision.call.clone());
        world.users.extend(decision.users);
        told(&decision.call, &decision.events)
    };
    acts.enumerate().map(tell).collect()
}

#[test]
fn stories_of_the_machine_are_told_in_the_clients_words() {
    let rings = r#"notifications:9: call:incoming {"callId":"C1","callType":"audio","callerId":"7"}"#;
    let both = "notifications:7+notifications:9";
    let answered = story(vec![
        ("9", Act::Answer { glare: false }, 10_000),
        ("9", Act::Progress, 10_001),
        ("7", Act::End { said: None }, 12_000),
    ]);
    assert_eq!(
        answered,
        [
            vec![rings.to_owned()],
            vec![
                r#"notifications:7: call:accepted {"callId":"C1","iceServers":[]}"#.to_owned(),
                r#"notifications:9 but s9: call:ended {"callId":"C1","duration":0,"reason":"answered_elsewhere"}"#
                    .to_owned()
            ],
            vec![],
            vec![format!(r#"{both}: call:ended {{"callId":"C1","duration":2}}"#)],
        ]
    );
    let declined = story(vec![("9", Act::Decline { said: None }, 10_000)]);
    assert_eq!(
        declined[1],
        [
            format!(r#"{both} but s9: call:rejected {{"callId":"C1"}}"#),
            format!(r#"{both} but s9: call:ended {{"callId":"C1","duration":0,"reason":"rejected"}}"#),
        ]
    );
    let missed = story(vec![("time", Act::Tick { due_ms: 30_000 }, 30_000)]);
    assert_eq!(
        missed[1],
        [
            format!(r#"{both}: call:missed {{"callId":"C1"}}"#),
            format!(r#"{both}: call:ended {{"callId":"C1","duration":0,"reason":"missed"}}"#),
        ]
    );
    let cancelled = story(vec![("7", Act::End { said: None }, 10_000)]);
    let ended = format!(r#"{both}: call:ended {{"callId":"C1","duration":0,"reason":"cancelled"}}"#);
    assert_eq!(cancelled[1], [ended]);
}

#[test]
fn a_lost_connection_is_told_to_the_devices_in_the_call() {
    let call = live(Status::InProgress);
    let user = || call.seats[1].who.user.clone();
    assert_eq!(
        told(&call, &[Event::Lost { user: user(), until_ms: 1 }]),
        [r#".call:C1: call:participantLost {"callId":"C1","userId":"9"}"#]
    );
    assert_eq!(
        told(&call, &[Event::Rejoined { user: user(), device: "s4".into(), at_ms: 0 }]),
        [
            r#"notifications:9 but s4: call:ended {"callId":"C1","duration":0,"reason":"rejoined_elsewhere"}"#,
            r#".call:C1 but s4: call:participantBack {"callId":"C1","userId":"9"}"#,
        ]
    );
}

#[test]
fn what_concerns_nobody_is_not_told() {
    let call = live(Status::InProgress);
    let user = call.caller().user.clone();
    assert!(told(&call, &[Event::Progressed, Event::ShareEnded { user }]).is_empty());
}
