//! What goes in, what comes out: transcripts of single events and calls.

use domain::notification::{Templates, Texts};
use domain::{Identity, Rejection, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Access, Diet};
use crate::{
    Action, BackendAction, BackendCall, Command, Delivery, Inbound, NotificationAct, NotificationOutcome,
    Out, Outcome, Socket, TokenFailure,
};

const OPEN: Access = Access::Open { hook: false };

fn dialect(access: Access) -> Diet {
    Diet::new("/", vec![], access, Texts::default()).unwrap()
}

fn user(id: &str, claims: Value) -> Identity {
    Identity {
        user: UserId::new(id).unwrap(),
        numeric: true,
        role: claims["role"].as_str().map(Into::into),
        name: None,
        token_id: None,
        expires_at: None,
        claims: claims.as_object().unwrap().clone(),
    }
}

fn socket<'a>(identity: Option<&'a Identity>, granted: &'a [Box<str>]) -> Socket<'a> {
    Socket {
        id: "s1",
        namespace: "/",
        identity,
        memberships: &[],
        placed: &[],
        calls: &[],
        handshake: None,
        stage: 0,
        granted,
    }
}

fn put(access: Access, socket: &Socket<'_>, name: &str, arg: Value, wants_ack: bool) -> Vec<Action> {
    let raw = RawValue::from_string(arg.to_string()).unwrap();
    let args: &[&RawValue] = if arg == json!("(none)") { &[] } else { &[&raw] };
    let inbound = Inbound { name, args, attachments: &[], wants_ack, now_ms: 0 };
    dialect(access).event(socket, &inbound)
}

fn body(out: &Out) -> Value {
    serde_json::from_slice(&out.tail).unwrap()
}

/// `event {…}` and `ack {…}`, one after the other; commands by their names.
fn said(actions: &[Action]) -> Vec<(String, Value)> {
    let line = |action: &Action| match action {
        Action::Emit { event, args } => (event.to_string(), body(args)),
        Action::Ack(out) => ("ack".to_owned(), body(out)),
        Action::Accept => ("accept".to_owned(), Value::Null),
        Action::Refuse(refusal) => ("refuse".to_owned(), json!([refusal.message, refusal.data])),
        Action::AskHook { right, .. } => ("hook".to_owned(), json!(right)),
        Action::Run(Command::Join(joins), _) => {
            ("join".to_owned(), joins.iter().map(|join| json!(join.room)).collect())
        }
        Action::Run(Command::Leave(rooms), _) => ("leave".to_owned(), json!(rooms)),
        Action::Run(Command::Identify(identity), _) => ("identify".to_owned(), identity.wire_id()),
        Action::Run(Command::Recall { key }, _) => ("recall".to_owned(), json!(key)),
        other => panic!("{other:?}"),
    };
    actions.iter().map(line).collect()
}

fn line(name: &str, body: Value) -> (String, Value) {
    (name.to_owned(), body)
}

/// What follows when the only action, a command, came to this.
fn settle(actions: Vec<Action>, outcome: Result<Outcome, Rejection>) -> Vec<Action> {
    let mut actions = actions.into_iter();
    let Some(Action::Run(_, then)) = actions.next() else { panic!("no command") };
    assert!(actions.next().is_none());
    then(&socket(None, &[]), outcome)
}

fn joined() -> Result<Outcome, Rejection> {
    Ok(Outcome::Joined { participants: vec![] })
}

fn refused(event: &str, code: &str, actions: &[Action]) {
    let lines = said(actions);
    assert_eq!(lines[0].0, "error", "{lines:?}");
    assert_eq!((&lines[0].1["code"], &lines[0].1["event"]), (&json!(code), &json!(event)));
    assert!(lines[0].1["message"].is_string());
}

#[test]
fn without_tokens_the_first_join_says_who_one_is() {
    let nobody = socket(None, &[]);
    for (id, wire) in [(json!(7), json!(7)), (json!("7"), json!(7)), (json!("007"), json!("007"))] {
        let actions = put(OPEN, &nobody, "join", id, true);
        assert_eq!(said(&actions), [line("identify", wire.clone())]);
        let room = format!("user_{}", wire.as_str().unwrap_or("7"));
        let then = settle(actions, Ok(Outcome::Identified));
        assert_eq!(said(&then), [line("join", json!([room]))]);
        let answer = json!({ "userId": wire, "room": room });
        let acked = json!({ "userId": wire, "room": room, "success": true });
        assert_eq!(said(&settle(then, joined())), [line("joined", answer), line("ack", acked)]);
    }
    let seven = user("7", json!({}));
    let known = socket(Some(&seven), &[]);
    assert_eq!(said(&put(OPEN, &known, "join", json!("7"), false)), [line("join", json!(["user_7"]))]);
    refused("join", "room_denied", &put(OPEN, &known, "join", json!(8), false));
}

#[test]
fn a_diet_may_be_joined_first_and_its_id_is_a_number() {
    for id in [json!(100), json!("100")] {
        let actions = put(OPEN, &socket(None, &[]), "join_diet", id.clone(), false);
        assert_eq!(said(&actions), [line("join", json!(["diet_100"]))]);
        let told = said(&settle(actions, joined()));
        assert_eq!(told[0], line("joined_diet", json!({ "dietId": 100, "room": "diet_100" })));
        let actions = put(OPEN, &socket(None, &[]), "leave_diet", id, false);
        assert_eq!(said(&actions), [line("leave", json!(["diet_100"]))]);
        let told = said(&settle(actions, Ok(Outcome::Left)));
        assert_eq!(told[0], line("left_diet", json!({ "dietId": 100, "room": "diet_100" })));
    }
}

#[test]
fn with_tokens_one_joins_ones_own_room_and_granted_diets() {
    let ann = user("7", json!({ "diets": [100, "101"] }));
    let ann = socket(Some(&ann), &[]);
    let access = Access::Token;
    assert_eq!(said(&put(access, &ann, "join", json!("7"), false)), [line("join", json!(["user_7"]))]);
    refused("join", "room_denied", &put(access, &ann, "join", json!(8), false));
    for diet in [json!(100), json!(101), json!("100")] {
        let actions = put(access, &ann, "join_diet", diet.clone(), false);
        assert_eq!(said(&actions)[0].0, "join", "{diet}");
    }
    let asked = put(access, &ann, "join_diet", json!(102), true);
    assert_eq!(said(&asked), [line("hook", json!("diet_102"))]);
    let otherwise = Action::without_hook(asked);
    refused("join_diet", "room_denied", &otherwise);
    let ack = json!({ "success": false, "error": "Room access denied", "code": "room_denied" });
    assert_eq!(said(&otherwise)[1], line("ack", ack));
    let granted = ["diet_102".into()];
    let ann = Socket { granted: &granted, ..ann };
    assert_eq!(said(&put(access, &ann, "join_diet", json!(102), true))[0].0, "join");
}

#[test]
fn dietitians_enter_the_diets_of_their_clients() {
    let claims = json!({ "role": "dietitian", "clients": [5, { "id": 6, "diets": [200] }] });
    let doc = user("3", claims.clone());
    let doc = socket(Some(&doc), &[]);
    let ask = |socket: &Socket<'_>, diet: u32| put(Access::Token, socket, "join_diet", json!(diet), false);
    assert_eq!(said(&ask(&doc, 200))[0].0, "join");
    let recall = ask(&doc, 100);
    assert_eq!(said(&recall), [line("recall", json!("client-of:100"))]);
    let theirs = settle(recall, Ok(Outcome::Recalled(Some(json!(5)))));
    assert_eq!(said(&theirs), [line("join", json!(["diet_100"]))]);
    for outcome in
        [Ok(Outcome::Recalled(Some(json!(9)))), Ok(Outcome::Recalled(None)), Err(Rejection::Unavailable)]
    {
        assert_eq!(said(&settle(ask(&doc, 100), outcome)), [line("hook", json!("diet_100"))]);
    }
    // Diet 5 is not client 5's by its number, and clients have no clients.
    assert_eq!(said(&ask(&doc, 5)), [line("recall", json!("client-of:5"))]);
    let mut claims = claims;
    claims["role"] = json!("client");
    let other = user("4", claims);
    assert_eq!(said(&ask(&socket(Some(&other), &[]), 200)), [line("hook", json!("diet_200"))]);
}

#[test]
fn without_tokens_a_hook_still_decides() {
    let access = Access::Open { hook: true };
    let nobody = socket(None, &[]);
    assert_eq!(said(&put(access, &nobody, "join", json!(7), false)), [line("hook", json!("user_7"))]);
    assert_eq!(said(&put(access, &nobody, "join_diet", json!(1), false)), [line("hook", json!("diet_1"))]);
    let granted = ["user_7".into()];
    let granted = socket(None, &granted);
    assert_eq!(said(&put(access, &granted, "join", json!(7), false)), [line("identify", json!(7))]);
    refused(
        "join_diet",
        "room_denied",
        &Action::without_hook(put(access, &nobody, "join_diet", json!(1), false)),
    );
}

#[test]
fn ids_that_are_none_are_refused() {
    let long = json!("x".repeat(600));
    for event in ["join", "join_diet", "leave_diet"] {
        for bad in
            [Value::Null, json!(1.5), json!(""), json!({ "id": 1 }), json!([1]), json!(true), long.clone()]
        {
            refused(event, "invalid_payload", &put(OPEN, &socket(None, &[]), event, bad, false));
        }
        refused(event, "invalid_payload", &put(OPEN, &socket(None, &[]), event, json!("(none)"), false));
    }
}

#[test]
fn pings_are_answered_and_unknown_events_only_where_asked() {
    let nobody = socket(None, &[]);
    let pong = json!({ "timestamp": "1970-01-01T00:00:00.000Z" });
    let actions = put(OPEN, &nobody, "ping", json!("(none)"), false);
    assert_eq!(said(&actions), [line("pong", pong.clone()), line("ack", pong)]);
    assert!(put(OPEN, &nobody, "new_message", json!({}), false).is_empty());
    assert_eq!(said(&put(OPEN, &nobody, "new_message", json!({}), true))[1].1["code"], "unknown_event");
}

#[test]
fn coming_going_and_pings_never_count() {
    let counted =
        ["join", "join_diet", "leave_diet", "ping", "notification:list", "nope"].map(Diet::is_counted);
    assert_eq!(counted, [false, false, false, false, true, true]);
}

#[test]
fn who_shows_no_token_is_refused_with_the_known_words() {
    let refusal = json!(["Authentication error", { "code": "missing_token" }]);
    let actions = dialect(Access::Token).connecting(&socket(None, &[]));
    assert_eq!(said(&actions), [line("refuse", refusal)]);
    assert_eq!(dialect(OPEN).refuse_token(TokenFailure::Expired).data.unwrap()["code"], "expired_token");
    let actions = dialect(OPEN).connecting(&socket(None, &[]));
    assert_eq!(said(&actions), [line("join", json!([".everyone"]))]);
    assert_eq!(said(&settle(actions, joined())), [line("accept", Value::Null)]);
}

#[test]
fn notifications_are_of_who_has_joined() {
    refused(
        "notification:list",
        "unidentified",
        &put(OPEN, &socket(None, &[]), "notification:list", json!({}), true),
    );
    let ann = user("7", json!({}));
    let ann = socket(Some(&ann), &[]);
    let actions = put(OPEN, &ann, "notification:getUnreadCount", json!("(none)"), true);
    let count = settle(actions, Ok(Outcome::Notifications(NotificationOutcome::Unread(3))));
    assert_eq!(said(&count), [line("ack", json!({ "success": true, "unreadCount": 3 }))]);
    let actions = put(OPEN, &ann, "notification:read", json!({ "notificationId": 42 }), true);
    let Action::Run(Command::Notifications(act), _) = &actions[0] else { panic!() };
    assert_eq!(*act, NotificationAct::Read { name: "42".into() });
    let read = NotificationOutcome::Read { unread: 2, news: true };
    let then = settle(actions, Ok(Outcome::Notifications(read)));
    let Action::Ack(out) = &then[0] else { panic!() };
    assert_eq!(body(out), json!({ "success": true, "notificationId": 42, "unreadCount": 2 }));
    let Action::Run(Command::Emit(emission), _) = &then[1] else { panic!() };
    assert_eq!(
        (emission.rooms[0].as_str(), &*emission.event, emission.except_self),
        ("user_7", "notification:read", true)
    );
    for bad in
        [json!({}), json!({ "notificationId": null }), json!(7), json!({ "notificationId": "x".repeat(200) })]
    {
        refused("notification:read", "invalid_payload", &put(OPEN, &ann, "notification:read", bad, true));
    }
    for bad in [json!({ "limit": 0 }), json!({ "limit": "5" }), json!({ "before": {} }), json!([1])] {
        refused("notification:list", "invalid_payload", &put(OPEN, &ann, "notification:list", bad, true));
    }
}

fn created(change: impl FnOnce(&mut Value)) -> Result<Vec<BackendAction>, Rejection> {
    let mut body = json!({
        "message": { "id": 77, "text": "Merhaba", "nested": { "a": [1, 2.50] } }, "dietId": "100", "clientId": 5,
        "from": "client", "client": { "userId": 12, "name": "Ayşe" }, "dietitianId": "3", "more": true,
    });
    change(&mut body);
    let body = RawValue::from_string(body.to_string()).unwrap();
    dialect(OPEN).backend(&BackendCall { name: "message-created", body: &body, now_ms: 0 })
}

#[test]
fn a_message_is_told_to_the_diet_and_notified_to_its_reader() {
    let actions = created(|_| {}).unwrap();
    let [BackendAction::Fact(fact), BackendAction::Emit(told), BackendAction::Notify(notice)] = &actions[..]
    else {
        panic!("{actions:?}")
    };
    assert_eq!((&*fact.key, &fact.value), ("client-of:100", &json!(5)));
    assert_eq!(
        (told.rooms[0].as_str(), &*told.event, told.delivery),
        ("diet_100", "new_message", Delivery::Recoverable)
    );
    let message = json!({ "id": 77, "text": "Merhaba", "nested": { "a": [1, 2.50] } });
    assert_eq!(body(&told.args), json!({ "message": message, "dietId": 100, "clientId": 5 }));
    assert_eq!((notice.user.as_str(), &*notice.event), ("3", "new_notification"));
    assert_eq!(
        serde_json::from_str::<Value>(&notice.object).unwrap(),
        json!({ "type": "new_message", "message": "Yeni mesaj: Ayşe",
            "data": { "messageId": 77, "dietId": 100, "clientId": 5, "from": "client" } })
    );
    let actions = created(|body| {
        body["from"] = json!("dietitian");
        body.as_object_mut().unwrap().remove("dietitianId");
    });
    let Ok([_, _, BackendAction::Notify(notice)]) = actions.as_deref() else { panic!() };
    assert_eq!(notice.user.as_str(), "12");
    let object: Value = serde_json::from_str(&notice.object).unwrap();
    assert_eq!(
        (&object["message"], &object["data"]["from"]),
        (&json!("Diyetisyeninizden yeni mesaj"), &json!("dietitian"))
    );
}

#[test]
fn what_is_missing_is_named() {
    type Spoil = fn(&mut Value);
    let cases: [(&str, Spoil); 12] = [
        ("body", |body| body["from"] = json!("admin")),
        ("body", |body| body["from"] = json!({ "client": null })),
        ("body", |body| body["client"] = json!([12, "Ayşe"])),
        ("body", |body| body["client"]["name"] = json!(5)),
        ("message", |body| body["message"] = json!([77])),
        ("body", |body| drop(body.as_object_mut().unwrap().remove("message"))),
        ("message", |body| body["message"] = json!("text")),
        ("message.id", |body| body["message"]["id"] = json!(null)),
        ("dietId", |body| body["dietId"] = json!(1.5)),
        ("clientId", |body| body["clientId"] = json!("")),
        ("dietitianId", |body| body["dietitianId"] = json!(null)),
        ("client.name", |body| body["client"] = json!({ "userId": 12 })),
    ];
    for (expected, change) in cases {
        let Err(Rejection::InvalidPayload { field, .. }) = created(change) else { panic!("{expected}") };
        assert_eq!(field, expected);
    }
    let without_user = |body: &mut Value| {
        body["from"] = json!("dietitian");
        body["client"] = json!({ "name": "Ayşe" });
    };
    assert!(matches!(created(without_user), Err(Rejection::InvalidPayload { field: "client.userId", .. })));
}

#[test]
fn the_receivers_language_counts() {
    let english = Templates { to_dietitian: "New message: {name}".into(), to_client: "Hello".into() };
    let texts = Texts { language: "tr".into(), templates: [("en".into(), english)].into() };
    let diet = Diet::new("/", vec![], OPEN, texts).unwrap();
    let body = json!({ "message": { "id": "m-1" }, "dietId": 1, "clientId": 5, "from": "client", "language": "en-GB",
        "client": { "name": "{name}" }, "dietitianId": 3 });
    let body = RawValue::from_string(body.to_string()).unwrap();
    let actions = diet.backend(&BackendCall { name: "message-created", body: &body, now_ms: 0 }).unwrap();
    let BackendAction::Notify(notice) = &actions[2] else { panic!() };
    let object: Value = serde_json::from_str(&notice.object).unwrap();
    assert_eq!(
        (&object["message"], &object["data"]["messageId"]),
        (&json!("New message: {name}"), &json!("m-1"))
    );
}

#[test]
fn every_verbs_example_is_a_call() {
    for verb in Diet::VERBS {
        let body = RawValue::from_string(verb.example.to_owned()).unwrap();
        let call = BackendCall { name: verb.name, body: &body, now_ms: 0 };
        assert!(!dialect(OPEN).backend(&call).unwrap().is_empty(), "{}", verb.name);
    }
}
