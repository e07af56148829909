//! Connecting, tokens, and what this application does not know.

use super::*;
use crate::{Refusal, TokenFailure};

/// Takes the join and then the question for one's calls, which ends so.
fn connected(user: &str, outcome: Result<Outcome, Rejection>) -> Vec<(String, Value)> {
    let identity = identity(user);
    let socket = socket("new", &identity, &[]);
    let mut actions = dialect().connecting(&socket);
    let Action::Run(Command::Join(joins), then) = actions.remove(0) else { panic!() };
    assert_eq!((actions.len(), joins[0].room.as_str()), (0, &*format!("user:{user}")));
    let mut actions = then(&socket, Ok(Outcome::Joined { participants: vec![] })).into_iter();
    assert!(matches!(actions.next(), Some(Action::Accept)));
    let Some(Action::Run(Command::OwnCalls, then)) = actions.next() else { panic!() };
    then(&socket, outcome)
        .into_iter()
        .map(|action| match action {
            Action::Emit { event, args } => (event.into_owned(), body(&args)),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_device_that_connects_rings_with_the_others() {
    let mut stage = Stage::new();
    stage.say("7-a", "call:initiate", json!({ "receiverId": "9", "callType": "audio", "chatId": "c1" }));
    let heard = connected("9", Ok(Outcome::Calls(vec![stage.call().clone()])));
    assert_eq!(
        heard[0],
        (
            "call:incoming".into(),
            json!({ "callId": "C1", "caller": { "id": 7, "username": "Name7" }, "callType": "audio", "chatId": "c1" })
        )
    );
    let (event, active) = &heard[1];
    assert_eq!(
        (&**event, &active["callId"], &active["status"]),
        ("call:active", &json!("C1"), &json!("ringing"))
    );
    // The caller's other device has nothing to ring for.
    let heard = connected("7", Ok(Outcome::Calls(vec![stage.call().clone()])));
    assert_eq!((heard.len(), &*heard[0].0), (1, "call:active"));
}

#[test]
fn who_was_in_a_call_hears_that_it_goes_on() {
    let stage = answered();
    let heard = connected("9", Ok(Outcome::Calls(vec![stage.call().clone()])));
    let expected = json!({
        "callId": "C1", "callType": "video", "status": "accepted", "acceptedAt": "1970-01-01T00:01:40.000Z",
        "caller": { "id": 7, "username": "Name7" },
        "participants": [
            { "id": 7, "userId": 7, "username": "Name7", "state": "joined" },
            { "id": "9", "userId": "9", "username": "Name9", "state": "joined" },
        ],
    });
    assert_eq!(heard, [("call:active".into(), expected)]);
    let heard = connected("9", Err(Rejection::Unavailable));
    assert_eq!((heard.len(), &*heard[0].0, &heard[0].1["code"]), (1, "call:error", &json!("unavailable")));
}

#[test]
fn a_failed_join_lets_nobody_in() {
    let identity = identity("9");
    let socket = socket("new", &identity, &[]);
    let Action::Run(_, then) = dialect().connecting(&socket).remove(0) else { panic!() };
    assert!(then(&socket, Err(Rejection::Unavailable)).is_empty());
}

#[test]
fn one_refusal_for_every_token() {
    for (failure, code) in [
        (TokenFailure::Missing, "missing_token"),
        (TokenFailure::Invalid, "invalid_token"),
        (TokenFailure::Expired, "expired_token"),
    ] {
        let expected =
            Refusal { message: "Authentication failed".into(), data: Some(json!({ "code": code })) };
        assert_eq!(dialect().refuse_token(failure), expected);
    }
    let someone = identity("9");
    let nobody = Socket { identity: None, ..socket("new", &someone, &[]) };
    assert!(matches!(&dialect().connecting(&nobody)[..], [Action::Refuse(_)]));
}

fn say(name: &str, payload: &str, wants_ack: bool) -> Actions {
    let (identity, raw) = (identity("7"), RawValue::from_string(payload.into()).unwrap());
    let inbound = Inbound { name, args: &[&raw], attachments: &[], wants_ack, now_ms: NOW_MS };
    dialect().event(&socket("7-a", &identity, &[]), &inbound)
}

#[test]
fn a_further_token_is_verified_and_confirmed() {
    let authenticate = || say("user:authenticate", r#"{"token":"t.t.t"}"#, true).remove(0);
    let (identity, views) = (identity("7"), []);
    let socket = socket("7-a", &identity, &views);
    let Action::Run(command, then) = authenticate() else { panic!() };
    assert!(!format!("{command:?}").contains("t.t.t"), "tokens stay out of logs");
    let Command::Verify { token } = command else { panic!() };
    assert_eq!(token.0, "t.t.t");
    let answer = then(&socket, Ok(Outcome::Verified(Box::new(identity.clone()))));
    let Action::Emit { event, args } = &answer[0] else { panic!() };
    assert_eq!((event.as_ref(), body(args)), ("user:authenticated", json!({ "userId": 7 })));
    let Action::Ack(out) = &answer[1] else { panic!() };
    assert_eq!(body(out), json!({ "success": true, "userId": 7 }));

    let Action::Run(_, then) = authenticate() else { panic!() };
    let answer = then(&socket, Err(Rejection::InvalidToken));
    let Action::Ack(out) = &answer[0] else { panic!() };
    assert_eq!(
        body(out),
        json!({ "success": false, "error": "Authentication failed", "code": "invalid_token" })
    );
}

#[test]
fn what_is_not_known_is_answered() {
    for name in ["message:sing", "typing:dance", "call:dance", "user:name", "ping", "error", ""] {
        let [Action::Ack(out)] = &say(name, "[]", true)[..] else { panic!("{name}") };
        assert_eq!(body(out)["code"], "unknown_event", "{name}");
        let [Action::Emit { event, args }] = &say(name, "{}", false)[..] else { panic!("{name}") };
        assert_eq!(
            (event.as_ref(), body(args)),
            ("error", json!({ "message": "Unknown event", "code": "unknown_event", "event": name }))
        );
    }
}

#[test]
fn errors_come_under_the_name_of_their_part() {
    for (name, error) in [
        ("call:end", "call:error"),
        ("webrtc:signal", "call:error"),
        ("conference:create", "call:error"),
        ("conference:video:join", "video:error"),
        ("conference:video:leave", "video:error"),
        ("video:stream:stop", "video:error"),
        ("screen:share:stop", "screen:error"),
    ] {
        let [Action::Emit { event, args }] = &say(name, r#"{"callId":"a b"}"#, false)[..] else {
            panic!("{name}")
        };
        let body = body(args);
        assert_eq!(event, error, "{name}");
        if name == "conference:create" {
            assert_eq!(body["code"], "invalid_payload");
        } else {
            let expected = json!({ "message": "Call not found", "code": "unknown_call", "callId": "a b" });
            assert_eq!(body, expected, "{name}");
        }
    }
    let [Action::Emit { event, args }] = &say("user:authenticate", "{}", false)[..] else { panic!() };
    assert_eq!((event.as_ref(), &body(args)["event"]), ("error", &json!("user:authenticate")));
}
