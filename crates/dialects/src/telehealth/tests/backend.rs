//! What a back end's calls become.

use domain::Rejection;
use serde_json::value::RawValue;

use super::dialect;
use crate::{Audience, BackendAction, BackendCall, Dialect};

/// Each action in a line: kind, room or user, event, arguments.
fn called(name: &str, body: &str) -> Result<Vec<String>, Rejection> {
    let raw: &RawValue = serde_json::from_str(body).unwrap();
    let actions = dialect().backend(&BackendCall { name, body: raw, now_ms: 0 })?;
    let line = |action: BackendAction| match action {
        BackendAction::Emit(emission) => {
            let rooms: Vec<&str> = emission.rooms.iter().map(domain::RoomId::as_str).collect();
            let args = String::from_utf8(emission.args.tail).unwrap();
            format!("emit {} {} {args}", rooms.join("+"), emission.event)
        }
        BackendAction::Notify(notice) => format!("notify {} {} {}", notice.user, notice.event, notice.object),
        other => panic!("{other:?}"),
    };
    Ok(actions.into_iter().map(line).collect())
}

#[test]
fn calls_are_translated() {
    let cases = [
        (
            "emit-to-user",
            r#"{"userId":7,"event":"x","data":{"a":1.0}}"#,
            r#"emit notifications:7 x {"a":1.0}"#,
        ),
        ("emit-to-user", r#"{"userId":"7","event":"x","more":1}"#, "emit notifications:7 x "),
        (
            "emit-to-user",
            r#"{"userId":7,"event":"notification:new","data":{"title":"t"}}"#,
            r#"notify 7 notification:new {"title":"t"}"#,
        ),
        ("emit-to-room", r#"{"roomId":"chat:b:a","event":"x","data":null}"#, "emit chat:a:b x null"),
        ("broadcast", r#"{"event":"x","data":[1]}"#, "emit .everyone x [1]"),
        (
            "maintenance",
            r#"{"message":"m","at":1}"#,
            r#"emit .everyone system:maintenance {"message":"m","at":1}"#,
        ),
        (
            "notify",
            r#"{"userId":7,"notification":{"title":"t"}}"#,
            r#"notify 7 notification:new {"title":"t"}"#,
        ),
    ];
    for (name, body, expected) in cases {
        assert_eq!(called(name, body).unwrap(), [expected], "{name} {body}");
    }
}

#[test]
fn wrong_calls_are_refused() {
    let cases = [
        ("nothing", "{}", "unknown_event"),
        ("emit-to-user", "[]", "invalid_payload"),
        ("emit-to-user", r#"{"event":"x"}"#, "invalid_payload"),
        ("emit-to-user", r#"{"userId":{},"event":"x"}"#, "invalid_payload"),
        ("emit-to-user", r#"{"userId":7,"event":"disconnect"}"#, "invalid_payload"),
        ("emit-to-room", r#"{"roomId":".everyone","event":"x"}"#, "invalid_room"),
        ("emit-to-room", r#"{"roomId":"chat:a","event":"x"}"#, "invalid_room"),
        ("maintenance", r#"{"message":7}"#, "invalid_payload"),
        ("notify", r#"{"userId":7,"notification":"t"}"#, "invalid_payload"),
    ];
    for (name, body, code) in cases {
        assert_eq!(called(name, body).unwrap_err().code(), code, "{name} {body}");
    }
}

#[test]
fn every_call_that_is_described_exists_and_its_example_is_right() {
    for verb in super::Telehealth::VERBS {
        assert!(called(verb.name, verb.example).is_ok(), "{}", verb.name);
    }
}

#[test]
fn audiences_are_rooms() {
    let dialect = Dialect::Telehealth(dialect());
    let room = |name: &str| Audience::Room(domain::RoomId::new(name).unwrap());
    let cases = [
        (Audience::User(domain::UserId::new("7").unwrap()), "notifications:7"),
        (room("chat:b:a"), "chat:a:b"),
        (room("anything"), "anything"),
        (Audience::Role("doctor".into()), ".role:doctor"),
        (Audience::Everyone, ".everyone"),
    ];
    for (audience, expected) in cases {
        assert_eq!(dialect.room_of(&audience).unwrap().as_str(), expected);
    }
}
