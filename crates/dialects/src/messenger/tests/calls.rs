//! Calls and conferences: what a client says, what it and the others hear.

use domain::call::{CallSettings, Kind, Leg};
use domain::{Rights, Rule};

use super::*;

#[test]
fn a_call_rings_on_every_device_and_its_caller_knows_it() {
    let mut stage = Stage::new();
    let payload = json!({ "receiverId": 9, "callType": "video", "chatId": 2, "whatever": [1] });
    let said = stage.say("7-a", "call:initiate", payload);
    let ack = said.ack();
    assert_eq!(
        (&ack["success"], &ack["callId"], &ack["status"]),
        (&json!(true), &json!("C1"), &json!("ringing"))
    );
    is_ice_of(&ack["iceServers"], "7");
    let mut initiated = said.own("call:initiated").clone();
    initiated["success"] = true.into();
    assert_eq!(initiated, *ack);
    let incoming = json!({ "callId": "C1", "caller": { "id": 7, "username": "Name7" }, "callType": "video", "chatId": 2 });
    assert_eq!(said.story(), [("user:9".into(), "call:incoming".into(), incoming)]);
    assert_eq!(stage.call().seats[1].who.wire_id, json!(9), "an id keeps its form");
}

#[test]
fn an_answer_is_told_to_both_sides_and_stops_the_other_devices() {
    let mut stage = Stage::new();
    stage.say("7-a", "call:initiate", json!({ "receiverId": "9", "callType": "video" }));
    let said = stage.say("9-a", "call:response", json!({ "callId": "C1", "action": "accept" }));
    assert_eq!(
        (&said.ack()["success"], &said.ack()["status"], &said.ack()["action"]),
        (&json!(true), &json!("accepted"), &json!("accept"))
    );
    is_ice_of(&said.ack()["iceServers"], "9");
    is_ice_of(&said.own("call:accepted")["iceServers"], "9");
    assert_eq!(said.own("call:accepted")["userId"], "9");
    assert_eq!(said.own("video:state")["participants"].as_array().unwrap().len(), 2);
    assert_eq!(said.own("screen:state")["sharers"], json!([]));
    let story = said.story();
    assert_eq!(
        outline(&story),
        [
            ("user:7", "call:response"),
            ("user:7", "call:accepted"),
            ("user:9 -9-a", "call:answered_elsewhere"),
        ]
    );
    assert_eq!(story[0].2, json!({ "callId": "C1", "action": "accept", "userId": "9" }));
    assert_eq!(story[1].2["userId"], "9");
    is_ice_of(&story[1].2["iceServers"], "7");
    assert_eq!(
        stage.say("9-b", "call:response", json!({ "callId": "C1", "action": "accept" })).code(),
        "already_answered"
    );
}

#[test]
fn who_calls_a_caller_has_answered() {
    let mut stage = Stage::new();
    stage.say("9-a", "call:initiate", json!({ "receiverId": 7, "callType": "audio" }));
    let actor = Actor { who: Person::of(&identity("7")), device: "7-a".into() };
    let id = CallId::new("C1").unwrap();
    let told = story(&stage.decide(id, Some(actor), Act::Answer { glare: true }).unwrap());
    assert_eq!(outline(&told)[..2], [("user:9", "call:response"), ("user:9", "call:accepted")]);
    // The gateway is given that call as the outcome of the initiating command.
    let (identity, raw) =
        (identity("7"), RawValue::from_string(r#"{"receiverId":"9","callType":"audio"}"#.into()).unwrap());
    let inbound =
        Inbound { name: "call:initiate", args: &[&raw], attachments: &[], wants_ack: true, now_ms: NOW_MS };
    let socket = socket("7-a", &identity, &[]);
    let Action::Run(_, then) = dialect().event(&socket, &inbound).remove(0) else { panic!() };
    let mut said = Said::default();
    let actions = then(&socket, Ok(Outcome::Call(Box::new(stage.call().clone()))));
    stage.carry_out("7-a", actions, &mut said);
    assert_eq!((&said.ack()["callId"], &said.ack()["status"]), (&json!("C1"), &json!("accepted")));
    assert_eq!(said.own[0].0, "call:initiated");
    assert_eq!(said.own[1].0, "call:accepted");
    is_ice_of(&said.own("call:accepted")["iceServers"], "7");
}

#[test]
fn a_declined_call_is_over() {
    let mut stage = Stage::new();
    stage.say("7-a", "call:initiate", json!({ "receiverId": "9", "callType": "audio" }));
    let payload = json!({ "callId": "C1", "action": "decline", "reason": "asleep" });
    let said = stage.say("9-a", "call:response", payload);
    assert_eq!(
        said.ack(),
        &json!({ "success": true, "callId": "C1", "action": "decline", "status": "rejected" })
    );
    let story = said.story();
    assert_eq!(
        outline(&story),
        [
            ("user:7", "call:response"),
            ("user:7", "call:declined"),
            ("user:9 -9-a", "call:answered_elsewhere"),
            ("user:7", "call:ended"),
        ]
    );
    assert_eq!(story[0].2, json!({ "callId": "C1", "action": "decline", "userId": "9" }));
    assert_eq!(story[1].2, json!({ "callId": "C1", "userId": "9", "reason": "asleep" }));
    assert_eq!(story[2].2, json!({ "callId": "C1", "action": "decline" }));
    assert_eq!(story[3].2, json!({ "callId": "C1", "endedBy": "9", "reason": "asleep", "duration": 0 }));
}

#[test]
fn an_end_reaches_everybody_under_both_names() {
    let mut stage = answered();
    stage.now_ms += 65_999;
    let said = stage.say("9-a", "call:end", json!({ "callId": "C1" }));
    let ack = json!({ "success": true, "callId": "C1", "status": "ended", "duration": 65 });
    assert_eq!(said.ack(), &ack);
    let body = json!({ "callId": "C1", "endedBy": "9", "reason": "hung_up", "duration": 65 });
    let rooms = "user:7 user:9".to_owned();
    assert_eq!(
        said.story(),
        [(rooms.clone(), "call:end".into(), body.clone()), (rooms, "call:ended".into(), body)]
    );
    assert_eq!(stage.say("7-a", "call:end", json!({ "callId": "C1" })).code(), "call_over");
}

#[test]
fn a_caller_cancels_and_time_runs_out() {
    let ringing = || {
        let mut stage = Stage::new();
        stage.say("7-a", "call:initiate", json!({ "receiverId": "9", "callType": "audio" }));
        stage
    };
    let said = ringing().say("7-a", "call:end", json!({ "callId": "C1", "reason": "mistake" }));
    let body = json!({ "callId": "C1", "endedBy": 7, "reason": "mistake", "duration": 0 });
    assert_eq!(said.story()[1], ("user:7 user:9".into(), "call:ended".into(), body));
    let said = ringing().say("7-a", "call:end", json!({ "callId": "C1" }));
    assert_eq!(said.story()[0].2["reason"], "cancelled");

    let mut stage = ringing();
    assert_eq!(stage.call().ring_until_ms, NOW_MS + 60_000, "this application rings for a minute");
    let told = stage.at(NOW_MS + 60_000, Act::Tick { due_ms: NOW_MS + 60_000 });
    assert_eq!(
        outline(&told),
        [
            ("user:9", "call:timeout"),
            ("user:7", "call:timeout"),
            ("user:7 user:9", "call:end"),
            ("user:7 user:9", "call:ended"),
        ]
    );
    assert_eq!(told[3].2, json!({ "callId": "C1", "endedBy": null, "reason": "timeout", "duration": 0 }));
    let late = stage.say("9-a", "call:response", json!({ "callId": "C1", "action": "accept" }));
    assert_eq!(late.code(), "call_over");
}

#[test]
fn the_ring_time_of_the_configuration_counts() {
    let mut realtime = Realtime::default();
    realtime.calls.ring_ms = Some(5_000);
    assert_eq!(Messenger::new("/", vec![], realtime).unwrap().realtime().calls.ring_ms(), 5_000);
    assert_eq!(CallSettings::default().ring_ms(), 30_000, "the general default is another");
}

#[test]
fn busy_is_an_event_of_its_own() {
    let said = Stage::new().say("7-a", "call:initiate", json!({ "receiverId": "busy", "callType": "audio" }));
    assert_eq!(said.code(), "do_not_disturb");
    assert_eq!(
        (&said.own("call:busy")["receiverId"], &said.own("call:busy")["code"]),
        (&json!("busy"), &json!("do_not_disturb"))
    );
    let payload = json!({ "participants": ["busy", "9"], "callType": "audio" });
    let story = Stage::new().say("7-a", "conference:create", payload).story();
    let busy = ("user:7", "call:busy");
    assert!(outline(&story).contains(&busy), "{story:?}");
    assert!(!outline(&story).contains(&("user:busy", "call:incoming")), "{story:?}");
}

#[test]
fn a_conference_rings_everybody_once_but_its_creator() {
    let mut stage = Stage::new();
    let payload =
        json!({ "participants": [9, "9", "8", 7], "callType": "video", "title": "Monday", "chatId": "c1" });
    let said = stage.say("7-a", "conference:create", payload);
    let created = said.own("conference:created");
    assert_eq!(
        (&created["callId"], &created["title"], &created["chatId"], &created["status"]),
        (&json!("C1"), &json!("Monday"), &json!("c1"), &json!("ringing"))
    );
    is_ice_of(&created["iceServers"], "7");
    let users: Vec<&Value> =
        created["participants"].as_array().unwrap().iter().map(|it| &it["userId"]).collect();
    assert_eq!(users, [&json!(7), &json!(9), &json!("8")]);
    assert_eq!((said.ack()["success"].clone(), &said.ack()["callId"]), (json!(true), &json!("C1")));
    let story = said.story();
    assert_eq!(outline(&story), [("user:9", "call:incoming"), ("user:8", "call:incoming")]);
    assert_eq!((&story[0].2["conference"], &story[0].2["title"]), (&json!(true), &json!("Monday")));
    assert_eq!(stage.call().kind, Kind::Conference);
}

#[test]
fn participants_come_and_go() {
    let mut stage = Stage::new();
    stage.say("7-a", "conference:create", json!({ "participants": ["8", "9"], "callType": "video" }));
    let first = stage.say("8-a", "call:response", json!({ "callId": "C1", "action": "accept" })).story();
    assert_eq!(
        outline(&first),
        [
            ("user:7", "call:response"),
            ("user:7", "call:accepted"),
            (".call:C1 -8-a", "conference:participant:joined"),
            ("user:8 -8-a", "call:answered_elsewhere"),
        ]
    );
    let second = stage.say("9-a", "conference:video:join", json!({ "callId": "C1", "hint": 1 }));
    let story = second.story();
    assert_eq!(
        outline(&story),
        [
            ("user:7", "call:response"),
            (".call:C1 -9-a", "conference:participant:joined"),
            ("user:9 -9-a", "call:answered_elsewhere"),
        ]
    );
    let joined = json!({ "callId": "C1", "userId": "9", "user": { "id": "9", "username": "Name9" } });
    assert_eq!(story[1].2, joined);
    assert_eq!((&second.ack()["success"], &second.ack()["callId"]), (&json!(true), &json!("C1")));
    is_ice_of(&second.ack()["iceServers"], "9");
    assert_eq!(second.own("video:state")["participants"].as_array().unwrap().len(), 3);
    let (room, event, args) = &second.relayed[0];
    assert_eq!((&**room, &**event), (".call:C1", "conference:video:join"));
    assert_eq!(body(args), json!({ "callId": "C1", "hint": 1, "userId": "9" }));

    // Who has answered says later that its video is ready: told once, and nobody joins twice.
    let again = stage.say("8-a", "conference:video:join", json!({ "callId": "C1" }));
    assert!(again.told.is_empty());
    assert_eq!(again.relayed.len(), 1);

    let left = stage.say("8-a", "conference:video:leave", json!({ "callId": "C1" })).story();
    let gone = json!({ "callId": "C1", "userId": "8" });
    assert_eq!(
        left,
        [
            (".call:C1".into(), "conference:participant:left".into(), gone.clone()),
            (".call:C1".into(), "conference:video:leave".into(), gone),
        ]
    );
    let over = stage.say("7-a", "call:end", json!({ "callId": "C1" })).story();
    assert_eq!(outline(&over)[1], ("user:7 user:8 user:9", "call:ended"));
}

#[test]
fn a_lost_connection_is_told_and_a_seat_is_taken_back() {
    let mut stage = conference();
    let lost = Act::Devices { user: UserId::new("9").unwrap(), present: vec![], since_ms: NOW_MS + 1 };
    assert_eq!(outline(&stage.at(NOW_MS + 1, lost.clone())), [(".call:C1", "call:participant:lost")]);
    let back = stage.say("9-b", "call:rejoin", json!({ "callId": "C1" }));
    assert_eq!((&back.ack()["callId"], &back.ack()["status"]), (&json!("C1"), &json!("accepted")));
    is_ice_of(&back.ack()["iceServers"], "9");
    back.own("video:state");
    back.own("screen:state");
    assert_eq!(
        outline(&back.story()),
        [("user:9 -9-b", "call:answered_elsewhere"), (".call:C1", "call:participant:back")]
    );
    stage.at(NOW_MS + 2, lost);
    let due_ms = stage.call().next_deadline_ms().unwrap();
    let told = stage.at(due_ms, Act::Tick { due_ms });
    assert_eq!(
        outline(&told)[..2],
        [(".call:C1 user:9", "conference:participant:left"), (".call:C1 user:9", "conference:video:leave"),]
    );
    assert_eq!(stage.call().seats[2].leg, Leg::Left);
}

#[test]
fn signals_pass_unchanged_with_the_senders_id() {
    let mut stage = answered();
    let payload = r#"{ "callId":"C1","fromId":"9","sdp":"v=0\r\n","n":1.50,"big":12345678901234567890123, "bin":{"_placeholder":true,"num":0} }"#;
    let said = stage.say_raw("7-a", "webrtc:signal", payload, &[Bytes::from_static(b"ice")]);
    assert_eq!(said.ack(), &json!({ "success": true }));
    let (room, event, args) = &said.relayed[0];
    assert_eq!((&**room, &**event), (".call:C1", "webrtc:signal"));
    assert_eq!(
        String::from_utf8_lossy(&args.tail),
        r#"{"callId":"C1","sdp":"v=0\r\n","n":1.50,"big":12345678901234567890123,"bin":{"_placeholder":true,"num":0},"fromId":7}"#
    );
    assert_eq!(args.attachments, [Bytes::from_static(b"ice")]);
    // The first one shows that the devices negotiate.
    assert_eq!(stage.call().status.name(), "in_progress");
    let said = stage.say("9-a", "webrtc:signal", json!({ "callId": "C1", "targetId": 7 }));
    assert_eq!(said.relayed[0].0, ".seat:C1:7");
}

#[test]
fn signals_pass_between_participants_of_a_live_call_only() {
    let mut ringing = Stage::new();
    ringing.say("7-a", "call:initiate", json!({ "receiverId": "9", "callType": "video" }));
    let mut live = answered();
    let deep = format!(r#"{{"callId":"C1","x":"{}"}}"#, "x".repeat(400));
    for (rings, device, payload, code) in [
        (true, "7-a", r#"{"callId":"C1"}"#, "call_not_active"),
        (true, "9-a", r#"{"callId":"C1"}"#, "not_in_call"),
        (false, "8-a", r#"{"callId":"C1"}"#, "not_in_call"),
        (false, "9-b", r#"{"callId":"C1"}"#, "not_in_call"),
        (false, "9-a", r#"{"callId":"C2"}"#, "not_in_call"),
        (false, "9-a", r#"{"callId":"C 2"}"#, "unknown_call"),
        (false, "9-a", r#"{"callId":"C1","targetId":"8"}"#, "no_such_participant"),
        (false, "9-a", r#"{"callId":"C1","targetId":{}}"#, "invalid_payload"),
        (false, "9-a", r#"{"callId":1}"#, "invalid_payload"),
        (false, "9-a", r#"{}"#, "invalid_payload"),
        (false, "9-a", r#""C1""#, "invalid_payload"),
        (false, "9-a", &deep, "over_limit"),
    ] {
        let stage = if rings { &mut ringing } else { &mut live };
        let said = stage.say_raw(device, "webrtc:signal", payload, &[]);
        assert_eq!((said.code(), said.relayed.len()), (code, 0), "{device} {payload}");
    }
}

#[test]
fn wrong_calls_are_answered_clearly() {
    let call = |payload: Value| ("call:initiate", payload);
    let conference = |payload: Value| ("conference:create", payload);
    let response = |payload: Value| ("call:response", payload);
    for ((event, payload), code) in [
        (call(json!({ "receiverId": "9" })), "invalid_payload"),
        (call(json!({ "receiverId": "9", "callType": "smell" })), "invalid_payload"),
        (call(json!({ "receiverId": "", "callType": "audio" })), "invalid_payload"),
        (call(json!({ "receiverId": null, "callType": "audio" })), "invalid_payload"),
        (call(json!({ "receiverId": 1.5, "callType": "audio" })), "invalid_payload"),
        (call(json!({ "receiverId": "7", "callType": "audio" })), "self_call"),
        (call(json!({ "receiverId": "9", "callType": "audio", "chatId": "c9" })), "room_denied"),
        (call(json!({ "receiverId": "9", "callType": "audio", "chatId": [] })), "invalid_payload"),
        (call(json!({ "receiverId": "9", "callType": "audio", "userId": "8" })), "invalid_payload"),
        (call(json!([])), "invalid_payload"),
        (conference(json!({ "participants": [], "callType": "audio" })), "nobody_invited"),
        (conference(json!({ "participants": [7], "callType": "audio" })), "nobody_invited"),
        (conference(json!({ "participants": [[]], "callType": "audio" })), "invalid_payload"),
        (conference(json!({ "participants": "9", "callType": "audio" })), "invalid_payload"),
        (conference(json!({ "participants": ["9"], "callType": "audio", "title": 4 })), "invalid_payload"),
        (response(json!({ "callId": "C1", "action": "ponder" })), "invalid_payload"),
        (response(json!({ "callId": "C1" })), "invalid_payload"),
        (response(json!({ "callId": "C7", "action": "accept" })), "unknown_call"),
        (("call:end", json!({ "callId": "C7" })), "unknown_call"),
        (("call:rejoin", json!({ "callId": "C7" })), "unknown_call"),
        (("conference:video:join", json!({ "callId": "C7" })), "unknown_call"),
    ] {
        let said = Stage::new().say("7-a", event, payload.clone());
        assert_eq!((said.code(), said.told.len()), (code, 0), "{event} {payload}");
    }
    let own = json!({ "receiverId": "9", "callType": "audio", "userId": "7" });
    assert_eq!(Stage::new().say("7-a", "call:initiate", own).ack()["success"], true);
    let many: Vec<u32> = (100..150).collect();
    let said =
        Stage::new().say("7-a", "conference:create", json!({ "participants": many, "callType": "audio" }));
    assert_eq!(said.code(), "over_limit");
    let two = answered().say("9-a", "conference:video:join", json!({ "callId": "C1" }));
    assert_eq!(two.code(), "not_a_conference");
}

#[test]
fn whom_one_may_call_is_a_matter_of_rights() {
    let mut dialect = dialect();
    let friends =
        Rule { room: "user:*".into(), roles: vec![], claim: Some("chats".into()), own: false, any: false };
    dialect.rights = Rights::new(vec![friends]).unwrap();
    let (identity, views) = (identity("7"), []);
    for (receiver, granted) in [("2", true), ("9", false)] {
        let payload = json!({ "receiverId": receiver, "callType": "audio" }).to_string();
        let raw = RawValue::from_string(payload).unwrap();
        let inbound =
            Inbound { name: "call:initiate", args: &[&raw], attachments: &[], wants_ack: true, now_ms: 0 };
        let actions = dialect.event(&socket("7-a", &identity, &views), &inbound);
        assert_eq!(matches!(&actions[..], [Action::Run(..)]), granted, "{receiver}");
    }
}
