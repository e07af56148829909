//! What goes in, what comes out: transcripts of single events.

use domain::{Identity, Rejection, Rule, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Clinic, ClinicSettings};
use crate::{
    Action, Actions, Command, FeedEntry, FeedPage, Inbound, Membership, Out, Outcome, Socket, Span,
    TokenFailure,
};

mod backend;

fn clinic() -> Clinic {
    Clinic::new("/events", vec![], ClinicSettings::default()).unwrap()
}

fn user(id: &str, role: Option<&str>, claims: Value) -> Identity {
    Identity {
        user: UserId::new(id).unwrap(),
        numeric: false,
        role: role.map(Into::into),
        name: None,
        token_id: None,
        expires_at: Some(1_700_000_000),
        claims: claims.as_object().unwrap().clone(),
    }
}

fn patient() -> Identity {
    user("7", Some("Paciente"), json!({ "results": [70, "71"] }))
}

fn doctor() -> Identity {
    user("2", Some("Medico"), json!({}))
}

fn administrator() -> Identity {
    user("1", Some("Administrador"), json!({}))
}

fn socket<'a>(identity: &'a Identity, memberships: &'a [Membership]) -> Socket<'a> {
    Socket {
        id: "s1",
        namespace: "/events",
        identity: Some(identity),
        memberships,
        placed: &[],
        calls: &[],
        handshake: None,
        stage: 0,
        granted: &[],
    }
}

fn say(identity: &Identity, name: &str, payload: &str, wants_ack: bool) -> Actions {
    let raw = RawValue::from_string(payload.to_owned()).unwrap();
    let args: &[&RawValue] = if payload == "null" { &[] } else { &[&raw] };
    let inbound = Inbound { name, args, attachments: &[], wants_ack, now_ms: 1 };
    Action::without_hook(clinic().event(&socket(identity, &[]), &inbound))
}

fn json_of(out: &Out) -> Value {
    serde_json::from_slice(&out.tail).unwrap()
}

/// What the client is told: `(event, body)`, an ack without a name.
fn told(actions: &[Action]) -> Vec<(String, Value)> {
    let told = actions.iter().filter_map(|action| match action {
        Action::Emit { event, args } => Some((event.to_string(), json_of(args))),
        Action::Ack(args) => Some((String::new(), json_of(args))),
        _ => None,
    });
    told.collect()
}

fn command(actions: Actions) -> (Command, crate::Then) {
    let mut runs = actions.into_iter().filter_map(|action| match action {
        Action::Run(command, then) => Some((command, then)),
        _ => None,
    });
    runs.next().expect("a command")
}

fn rooms(command: &Command) -> Vec<String> {
    match command {
        Command::Join(joins) => joins.iter().map(|join| join.room.to_string()).collect(),
        Command::Leave(rooms) => rooms.iter().map(ToString::to_string).collect(),
        other => panic!("neither join nor leave: {other:?}"),
    }
}

fn joined() -> Result<Outcome, Rejection> {
    Ok(Outcome::Joined { participants: Vec::new() })
}

fn page(entries: &[(u64, Value)], last: u64, is_cut: bool) -> Result<Outcome, Rejection> {
    let entry = |(seq, json): &(u64, Value)| FeedEntry {
        seq: *seq,
        json: RawValue::from_string(json.to_string()).unwrap(),
    };
    Ok(Outcome::Feed(FeedPage { entries: entries.iter().map(entry).collect(), last, is_cut }))
}

#[test]
fn who_connects_is_in_its_rooms_before_it_is_told_so() {
    let identity = patient();
    let (command, then) = command(clinic().connecting(&socket(&identity, &[])));
    assert_eq!(rooms(&command), ["user:7", ".everyone", "role:Paciente"]);
    let actions = then(&socket(&identity, &[]), joined());
    assert!(matches!(actions[0], Action::Accept));
    let connected = json!({ "message": "Connected to the event server", "userId": 7, "role": "Paciente" });
    assert_eq!(told(&actions), [("connected".to_owned(), connected)]);
    assert_eq!(actions.len(), 2, "the audit feed is not for patients");
}

#[test]
fn an_administrator_is_given_the_newest_audit_entries() {
    let identity = administrator();
    let (_, then) = command(clinic().connecting(&socket(&identity, &[])));
    let actions = then(&socket(&identity, &[]), joined());
    let (feed, then) = command(actions);
    assert!(matches!(feed, Command::Feed { feed: "audit", span: Span::Last(50) }));
    let entries = [(8, json!({ "action": "updated" })), (9, json!({ "action": "deleted" }))];
    let given = then(&socket(&identity, &[]), page(&entries, 9, false));
    let events = json!([{ "action": "updated", "seq": 8 }, { "action": "deleted", "seq": 9 }]);
    let body = json!({ "events": events, "hasMore": true });
    assert_eq!(told(&given), [("admin:events".to_owned(), body.clone())]);

    let (feed, then) = command(say(&identity, "admin:events", r#"{"limit":9999,"before":8}"#, true));
    assert!(matches!(feed, Command::Feed { feed: "audit", span: Span::Before { seq: 8, limit: 500 } }));
    let given = told(&then(&socket(&identity, &[]), page(&entries, 9, false)));
    assert_eq!(given[0], ("admin:events".to_owned(), body));
    assert_eq!(given[1].1["success"], true);
    for stranger in [patient(), doctor(), user("3", None, json!({}))] {
        let refused = told(&say(&stranger, "admin:events", "null", true));
        assert_eq!(refused[0].1["code"], "room_denied");
    }
}

#[test]
fn a_token_is_refused_in_one_word() {
    for (failure, code) in
        [(TokenFailure::Missing, "missing_token"), (TokenFailure::Expired, "expired_token")]
    {
        let refusal = clinic().refuse_token(failure);
        assert_eq!((&*refusal.message, refusal.data), ("Unauthorized", Some(json!({ "code": code }))));
    }
}

#[test]
fn a_ping_is_answered_by_event_and_ack() {
    let pong = json!({ "timestamp": "1970-01-01T00:00:00.001Z", "userId": 7 });
    let answers = told(&say(&patient(), "ping", "null", true));
    assert_eq!(answers, [("pong".to_owned(), pong.clone()), (String::new(), pong)]);
}

#[test]
fn subscriptions_take_a_right_where_entities_are_private() {
    let (patient, doctor, nobody) = (patient(), doctor(), user("9", None, json!({})));
    let cases = [
        (&patient, r#"{"entity":"exam"}"#, Some("entity:exam")),
        (&patient, r#"{"entity":"exam","entityId":"5"}"#, Some("entity:exam:5")),
        (&patient, r#"{"entity":"patient","entityId":7}"#, Some("entity:patient:7")),
        (&patient, r#"{"entity":"patient","entityId":8}"#, None),
        (&patient, r#"{"entity":"user","entityId":8}"#, None),
        (&patient, r#"{"entity":"result"}"#, None),
        (&patient, r#"{"entity":"result","entityId":70}"#, Some("entity:result:70")),
        (&patient, r#"{"entity":"result","entityId":71}"#, Some("entity:result:71")),
        (&patient, r#"{"entity":"result","entityId":72}"#, None),
        (&patient, r#"{"entity":"appointment","entityId":1,"role":"Administrador"}"#, None),
        // The name of a kind is never an instance's.
        (&patient, r#"{"entity":"result:72"}"#, Some("entity:result%3A72")),
        (&doctor, r#"{"entity":"result","entityId":72}"#, Some("entity:result:72")),
        (&doctor, r#"{"entity":"appointment"}"#, Some("entity:appointment")),
        (&nobody, r#"{"entity":"price"}"#, Some("entity:price")),
        (&nobody, r#"{"entity":"patient"}"#, None),
    ];
    for (identity, payload, room) in cases {
        let actions = say(identity, "subscribe", payload, true);
        match room {
            None => assert_eq!(told(&actions)[0].1["code"], "room_denied", "{payload}"),
            Some(room) => assert_eq!(rooms(&command(actions).0), [room], "{payload}"),
        }
    }
}

#[test]
fn subscribing_and_unsubscribing_are_answered_alike() {
    let identity = doctor();
    for (event, answer) in [("subscribe", "subscribed"), ("unsubscribe", "unsubscribed")] {
        let (_, then) = command(say(&identity, event, r#"{"entity":"result","entityId":"7"}"#, true));
        let outcome = if event == "subscribe" { joined() } else { Ok(Outcome::Left) };
        let body = json!({ "entity": "result", "entityId": 7 });
        let ack = json!({ "success": true, "entity": "result", "entityId": 7 });
        assert_eq!(
            told(&then(&socket(&identity, &[]), outcome)),
            [(answer.to_owned(), body), (String::new(), ack)]
        );
        let (_, then) = command(say(&identity, event, r#"{"entity":"result"}"#, false));
        let failed = told(&then(&socket(&identity, &[]), Err(Rejection::Unavailable)));
        assert_eq!((&*failed[0].0, &failed[0].1["code"]), ("error", &json!("unavailable")));
    }
}

#[test]
fn wrong_payloads_are_named() {
    let long = format!(r#"{{"entity":"{}"}}"#, "x".repeat(65));
    let cases = [
        ("subscribe", "null"),
        ("subscribe", "[]"),
        ("subscribe", "7"),
        ("subscribe", "{}"),
        ("subscribe", r#"{"entity":7}"#),
        ("subscribe", r#"{"entity":" "}"#),
        ("subscribe", &long),
        ("subscribe", r#"{"entity":"exam","entityId":{}}"#),
        ("subscribe", r#"{"entity":"exam","entityId":1.5}"#),
        ("unsubscribe", r#"{"entityId":1}"#),
        ("authenticate", r#"{"token":7}"#),
        ("authenticate", "null"),
        ("catalog:sync", r#"{"since":-1}"#),
        ("catalog:sync", r#"{"since":"7"}"#),
    ];
    for (event, payload) in cases {
        let acked = told(&say(&doctor(), event, payload, true));
        assert_eq!((acked.len(), &acked[0].1["code"]), (1, &json!("invalid_payload")), "{event} {payload}");
        let told = told(&say(&doctor(), event, payload, false));
        assert_eq!((&*told[0].0, &told[0].1["event"]), ("error", &json!(event)), "{event} {payload}");
    }
    assert_eq!(told(&say(&doctor(), "nonsense", "{}", true))[0].1["code"], "unknown_event");
}

#[test]
fn rules_of_the_configuration_replace_the_defaults() {
    let rule: Rule =
        serde_json::from_value(json!({ "room": "entity:result:*", "roles": ["Paciente"] })).unwrap();
    let clinic = Clinic::new("/events", vec![rule], ClinicSettings::default()).unwrap();
    let raw = RawValue::from_string(r#"{"entity":"result","entityId":72}"#.to_owned()).unwrap();
    let ask = |identity: &Identity| {
        let inbound =
            Inbound { name: "subscribe", args: &[&raw], attachments: &[], wants_ack: true, now_ms: 1 };
        clinic.event(&socket(identity, &[]), &inbound)
    };
    assert!(matches!(ask(&patient())[0], Action::Run(..)));
    // Nobody else's rule: the hook is asked.
    assert!(matches!(&ask(&doctor())[0], Action::AskHook { right, .. } if **right == *"entity:result:72"));
}

#[test]
fn a_further_token_moves_the_socket_to_where_it_belongs() {
    let before = administrator();
    let (verify, then) = command(say(&before, "authenticate", r#"{"token":"t"}"#, true));
    assert!(matches!(verify, Command::Verify { .. }));
    let after = user("1", Some("Medico2"), json!({}));
    let membership = |room: &str| Membership { room: room.into(), note: None };
    let memberships = [membership("user:1"), membership("entity:result:7"), membership("entity:exam")];
    let actions = then(&socket(&after, &memberships), Ok(Outcome::Verified(Box::new(after.clone()))));
    assert_eq!(told(&actions), [("unsubscribed".to_owned(), json!({ "entity": "result", "entityId": 7 }))]);
    let mut runs = actions.into_iter().filter_map(|action| match action {
        Action::Run(command, then) => Some((command, then)),
        _ => None,
    });
    assert_eq!(rooms(&runs.next().unwrap().0), ["entity:result:7", "role:Administrador"]);
    let (join, then) = runs.next().unwrap();
    assert_eq!(rooms(&join), ["role:Medico2"]);
    let answers = told(&then(&socket(&after, &[]), joined()));
    let body = json!({ "userId": 1, "role": "Medico2", "expiresAt": "2023-11-14T22:13:20.000Z" });
    assert_eq!(answers[0], ("authenticated".to_owned(), body));

    let (_, then) = command(say(&before, "authenticate", r#"{"token":"t"}"#, true));
    let same = then(&socket(&before, &memberships), Ok(Outcome::Verified(Box::new(before.clone()))));
    assert_eq!(told(&same).len(), 2, "nothing is left or entered: {same:?}");
    let (_, then) = command(say(&before, "authenticate", r#"{"token":"t"}"#, true));
    assert_eq!(
        told(&then(&socket(&before, &[]), Err(Rejection::InvalidToken)))[0].1["code"],
        "invalid_token"
    );
}

#[test]
fn the_catalogue_goes_on_after_a_gap() {
    let identity = patient();
    let sync = |payload: &str, outcome: Result<Outcome, Rejection>| {
        let (join, then) = command(say(&identity, "catalog:sync", payload, true));
        assert_eq!(rooms(&join), [".catalog"]);
        let (read, then) = command(then(&socket(&identity, &[]), joined()));
        let Command::Feed { feed: "catalog", span } = read else { panic!("{read:?}") };
        let answers = told(&then(&socket(&identity, &[]), outcome));
        (span, answers[1].1.clone())
    };
    let update = json!({ "type": "exam", "entityId": 1 });
    let numbered = json!([{ "type": "exam", "entityId": 1, "seq": 5 }]);

    let (span, answer) = sync("null", page(&[], 4, false));
    assert_eq!(span, Span::Last(0));
    assert_eq!(
        answer,
        json!({ "success": true, "seq": 4, "complete": true, "updates": [], "hasMore": false })
    );
    let (span, answer) = sync(r#"{"since":4}"#, page(&[(5, update.clone())], 5, false));
    assert_eq!(span, Span::After { seq: 4, limit: 500 });
    assert_eq!(
        answer,
        json!({ "success": true, "seq": 5, "complete": true, "updates": numbered, "hasMore": false })
    );
    let (_, answer) = sync(r#"{"since":4}"#, page(&[(5, update.clone())], 9, false));
    assert_eq!((&answer["seq"], &answer["hasMore"]), (&json!(5), &json!(true)));
    // Too long away, or a number that never was: load anew, and go on from here.
    for (payload, outcome) in
        [(r#"{"since":0}"#, page(&[(5, update)], 9, true)), (r#"{"since":99}"#, page(&[], 9, false))]
    {
        let (_, answer) = sync(payload, outcome);
        assert_eq!(
            answer,
            json!({ "success": true, "seq": 9, "complete": false, "updates": [], "hasMore": false })
        );
    }
}
