//! What goes in, what comes out: transcripts of single events.

use domain::{ChatLimits, Identity, RoomId, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Telehealth;
use crate::{Action, Command, Delivery, Inbound, Membership, Out, Outcome, Socket, TokenFailure};

mod announce;
mod backend;
mod calls;
mod history;
mod notifications;
mod presence;

fn dialect() -> Telehealth {
    Telehealth::new("/", vec![], ChatLimits::default(), crate::Realtime::default()).unwrap()
}

fn ann() -> Identity {
    Identity {
        user: UserId::new("7").unwrap(),
        numeric: true,
        role: Some("patient".into()),
        name: None,
        token_id: None,
        expires_at: None,
        claims: json!({ "userId": 7, "visits": [1] }).as_object().unwrap().clone(),
    }
}

fn socket<'a>(identity: &'a Identity, memberships: &'a [Membership]) -> Socket<'a> {
    Socket {
        id: "s1",
        namespace: "/",
        identity: Some(identity),
        memberships,
        placed: &[],
        calls: &[],
        handshake: None,
        stage: 0,
        granted: &[],
    }
}

fn say(memberships: &[Membership], name: &str, payload: Value, wants_ack: bool) -> Vec<Action> {
    let raw = RawValue::from_string(payload.to_string()).unwrap();
    let identity = ann();
    let inbound = Inbound { name, args: &[&raw], attachments: &[], wants_ack, now_ms: 0 };
    Action::without_hook(dialect().event(&socket(&identity, memberships), &inbound))
}

fn ack(action: &Action) -> Value {
    let Action::Ack(out) = action else { panic!("no ack: {action:?}") };
    serde_json::from_slice(&out.tail).unwrap()
}

fn body(out: &Out) -> Value {
    serde_json::from_slice(&out.tail).unwrap()
}

fn emitted(action: &Action) -> (&str, Value) {
    let Action::Emit { event, args } = action else { panic!("no event: {action:?}") };
    (event, body(args))
}

fn refusal(actions: &[Action]) -> Value {
    assert_eq!(actions.len(), 1, "a refusal does nothing else: {actions:?}");
    let answer = ack(&actions[0]);
    assert_eq!(answer["success"], false);
    assert!(answer["error"].is_string());
    answer["code"].clone()
}

fn settle(actions: Vec<Action>, outcome: Outcome) -> (Command, Vec<Action>) {
    let Some(Action::Run(command, then)) = actions.into_iter().next() else { panic!("no command") };
    let identity = ann();
    (command, then(&socket(&identity, &[]), Ok(outcome)))
}

#[test]
fn joining_answers_with_participants_and_tells_the_others() {
    let actions =
        say(&[], "room:join", json!({ "roomId": "chat:9:7", "roomType": "chat", "extra": 1 }), true);
    let me = crate::Participant { user: "7".into(), role: Some("patient".into()) };
    let (command, then) = settle(actions, Outcome::Joined { participants: vec![me] });
    let Command::Join(joins) = command else { panic!() };
    assert_eq!(joins[0].room.as_str(), "chat:7:9");
    let answer = ack(&then[0]);
    assert_eq!(
        answer,
        json!({ "success": true, "roomId": "chat:9:7", "participants": [{ "userId": 7, "role": "patient" }] })
    );
    let Action::Run(Command::Emit(news), _) = &then[1] else { panic!() };
    assert_eq!(
        (news.event.as_ref(), news.delivery, news.except_self),
        ("room:userJoined", Delivery::Recoverable, true)
    );
}

#[test]
fn rooms_without_a_right_are_refused_with_the_known_words() {
    for room in ["chat:1:2", "visit:2", "notifications:8", "call:2"] {
        let answer = ack(&say(&[], "room:join", json!({ "roomId": room }), true)[0]);
        assert_eq!(
            answer,
            json!({ "success": false, "error": "Room access denied", "code": "room_denied" }),
            "{room}"
        );
    }
    for room in ["nonsense", "chat:7", "chat:7:8:9", "secret:1", "topic:"] {
        let answer = ack(&say(&[], "room:join", json!({ "roomId": room }), true)[0]);
        assert_eq!(answer["code"], "invalid_room", "{room}");
    }
    let denied = say(&[], "room:join", json!({ "roomId": "topic:x", "metadata": { "visitId": 2 } }), true);
    assert_eq!(ack(&denied[0])["code"], "room_denied");
}

#[test]
fn without_an_ack_errors_come_as_an_event() {
    let actions = say(&[], "typing:start", json!({ "roomId": 4 }), false);
    let Action::Emit { event, args } = &actions[0] else { panic!() };
    let body: Value = serde_json::from_slice(&args.tail).unwrap();
    assert_eq!(
        (event.as_ref(), &body["event"], &body["code"]),
        ("error", &json!("typing:start"), &json!("invalid_payload"))
    );
}

#[test]
fn a_message_is_stored_delivered_and_then_acked() {
    let payload = json!({ "message": "hi", "visitId": 1, "recipientId": "9", "metadata": { "a": 1 } });
    let Some(Action::Run(Command::Post(post), then)) =
        say(&[], "message:send", payload, true).into_iter().next()
    else {
        panic!()
    };
    let (emission, draft) = (&post, post.draft.clone());
    assert_eq!(draft.room.as_str(), "visit:1");
    let limits = ChatLimits::default();
    let message = domain::chat::decide(&domain::chat::Head { last: 3 }, &draft, &limits, 0).unwrap();
    let identity = ann();
    let rooms: Vec<&str> = emission.rooms.iter().map(RoomId::as_str).collect();
    assert_eq!(rooms, ["visit:1", ".visit-members:1", "notifications:9", "notifications:7"]);
    assert!(emission.except_self);
    let event = (emission.args)(&message);
    let then = then(&socket(&identity, &[]), Ok(Outcome::Posted(Box::new(message))));
    let answer = ack(&then[0]);
    let expected = json!({
        "id": "4@visit:1", "senderId": 7, "recipientId": "9", "visitId": 1, "roomId": "visit:1", "message": "hi",
        "attachments": [], "timestamp": "1970-01-01T00:00:00.000Z", "status": "sent", "metadata": { "a": 1 }
    });
    assert_eq!(serde_json::from_slice::<Value>(&event.tail).unwrap(), expected);
    assert_eq!(answer, json!({ "success": true, "message": expected }));
    assert!(matches!(&then[1], Action::Emit { event, .. } if event == "message:sent"));
}

#[test]
fn wrong_payloads_are_answered_clearly() {
    for (payload, code) in [
        (json!({ "message": "x" }), "invalid_payload"),
        (json!({ "message": 1, "roomId": "topic:a" }), "invalid_payload"),
        (json!({ "roomId": "topic:a" }), "invalid_payload"),
        (json!({ "message": "x", "roomId": "topic:a", "attachments": {} }), "invalid_payload"),
        (json!({ "message": "x", "recipientId": null }), "invalid_payload"),
        (json!({ "message": "x", "visitId": [] }), "invalid_payload"),
        (json!(["x"]), "invalid_payload"),
        (json!(null), "invalid_payload"),
    ] {
        assert_eq!(ack(&say(&[], "message:send", payload.clone(), true)[0])["code"], code, "{payload}");
    }
}

#[test]
fn unknown_events_are_answered_only_where_asked() {
    assert_eq!(ack(&say(&[], "call:dance", json!({}), true)[0])["code"], "unknown_event");
    assert!(say(&[], "call:dance", json!({}), false).is_empty());
}

#[test]
fn leaving_tells_the_others_and_the_hidden_room_goes_with_the_last_note() {
    let member =
        |room: &str, note: Option<&str>| Membership { room: room.into(), note: note.map(Into::into) };
    let both = [member("topic:a", Some("1")), member("topic:b", Some("1"))];
    let Action::Run(Command::Leave(rooms), _) =
        &say(&both, "room:leave", json!({ "roomId": "topic:a" }), true)[0]
    else {
        panic!()
    };
    assert_eq!(rooms.len(), 1);
    let Action::Run(Command::Leave(rooms), _) =
        &say(&both[..1], "room:leave", json!({ "roomId": "topic:a" }), true)[0]
    else {
        panic!()
    };
    assert_eq!(rooms[1].as_str(), ".visit-members:1");
    assert_eq!(ack(&say(&[], "room:leave", json!({ "roomId": "topic:a" }), true)[0])["code"], "not_member");
}

#[test]
fn refusals_are_word_for_word() {
    let cases = [
        (TokenFailure::Missing, "Authentication error: Invalid token", "missing_token"),
        (TokenFailure::Invalid, "Authentication error: Invalid token", "invalid_token"),
        (TokenFailure::Expired, "Authentication error: Token expired", "expired_token"),
    ];
    for (failure, message, code) in cases {
        let refusal = dialect().refuse_token(failure);
        assert_eq!((refusal.message.as_ref(), &refusal.data.unwrap()["code"]), (message, &json!(code)));
    }
}

#[test]
fn the_back_end_s_word_about_a_room_counts_more_than_rights_but_opens_nobody_s_own() {
    let identity = ann();
    let join = |room: &str, placed: &[crate::Placed]| {
        let raw = RawValue::from_string(json!({ "roomId": room }).to_string()).unwrap();
        let inbound =
            Inbound { name: "room:join", args: &[&raw], attachments: &[], wants_ack: true, now_ms: 0 };
        let socket = Socket { placed, ..socket(&identity, &[]) };
        Action::without_hook(dialect().event(&socket, &inbound))
    };
    let put = |room: &str, inside: bool| crate::Placed { room: room.into(), inside };
    assert!(matches!(join("visit:2", &[put("visit:2", true)])[0], Action::Run(..)));
    for (room, inside) in
        [("visit:1", false), ("chat:7:9", false), ("chat:8:9", true), ("notifications:8", true)]
    {
        assert_eq!(refusal(&join(room, &[put(room, inside)])), "room_denied", "{room}");
    }
}

#[test]
fn who_says_to_be_somebody_else_is_refused() {
    for (event, payload) in [
        ("room:join", json!({ "roomId": "topic:a", "userId": "8" })),
        ("message:send", json!({ "roomId": "topic:a", "message": "x", "userId": 8 })),
        ("message:send", json!({ "roomId": "topic:a", "message": "x", "senderId": 8 })),
        ("call:initiate", json!({ "recipientId": "8", "callType": "audio", "callerId": "9" })),
        ("typing:start", json!({ "roomId": "topic:a", "userId": "8" })),
        ("presence:setStatus", json!({ "status": "away", "userId": "8" })),
        ("notification:getUnreadCount", json!({ "userId": "8" })),
    ] {
        assert_eq!(refusal(&say(&[], event, payload, true)), "invalid_payload", "{event}");
    }
    let own = json!({ "roomId": "topic:a", "message": "I am \"userId\" 8", "senderId": 7, "userId": "7" });
    assert!(matches!(say(&[], "message:send", own, true)[0], Action::Run(Command::Post(_), _)));
}

#[test]
fn metadata_of_a_join_is_an_object_or_nothing() {
    let join =
        |metadata: Value| say(&[], "room:join", json!({ "roomId": "topic:a", "metadata": metadata }), true);
    assert!(matches!(join(Value::Null)[0], Action::Run(..)));
    for metadata in [json!(5), json!([]), json!("v"), json!({ "visitId": {} })] {
        assert_eq!(refusal(&join(metadata)), "invalid_payload");
    }
}
