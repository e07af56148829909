//! What a back end's calls become.

use domain::Rejection;
use domain::chat::{ChatLimits, Head, decide};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Messenger, dialect};
use crate::{BackendAction, BackendCall};

fn actions(name: &str, body: &str) -> Result<Vec<BackendAction>, Rejection> {
    let raw: &RawValue = serde_json::from_str(body).unwrap();
    dialect().backend(&BackendCall { name, body: raw, now_ms: 0 })
}

/// Each action in a line.
fn called(name: &str, body: &str) -> Result<Vec<String>, Rejection> {
    let line = |action: BackendAction| match action {
        BackendAction::Emit(emission) => {
            let args = String::from_utf8(emission.args.tail).unwrap();
            format!("emit {} {} {args}", emission.rooms[0], emission.event)
        }
        BackendAction::Move { user, join, leave } => {
            let names = |rooms: &[domain::RoomId]| {
                rooms.iter().map(ToString::to_string).collect::<Vec<_>>().join("+")
            };
            format!("move {user} in {} out {}", names(&join), names(&leave))
        }
        BackendAction::Post(post) => {
            format!("post {} {} {}", post.draft.room, post.draft.sender, post.draft.text)
        }
        other => panic!("{other:?}"),
    };
    Ok(actions(name, body)?.into_iter().map(line).collect())
}

#[test]
fn calls_are_translated() {
    let cases: [(&str, &str, &[&str]); 6] = [
        ("send-to-chat", r#"{"chatId":1,"event":"x","data":{"a":1}}"#, &[r#"emit chat:1 x {"a":1}"#]),
        ("emit-to-user", r#"{"userId":"7","event":"x"}"#, &["emit user:7 x "]),
        ("notify-all", r#"{"event":"x","data":"d"}"#, &[r#"emit .everyone x "d""#]),
        (
            "chat-add",
            r#"{"chatId":"1","userIds":[7,"8"]}"#,
            &["move 7 in chat:1 out ", "move 8 in chat:1 out "],
        ),
        ("chat-remove", r#"{"chatId":"1","userId":7}"#, &["move 7 in  out chat:1"]),
        (
            "send-chat-message",
            r#"{"chatId":"1","message":{"senderId":"bot","content":"hi"}}"#,
            &["post chat:1 bot hi"],
        ),
    ];
    for (name, body, expected) in cases {
        assert_eq!(called(name, body).unwrap(), expected, "{name} {body}");
    }
}

#[test]
fn a_message_of_the_back_end_looks_like_any_other() {
    let body = r#"{"chatId":1,"message":{"senderId":7,"content":"hi","type":"image","replyTo":"3@chat:1",
        "attachments":[{"type":"image","url":"u"}]}}"#;
    let [BackendAction::Post(post)] = &actions("send-chat-message", body).unwrap()[..] else { panic!() };
    let message = decide(&Head { last: 3 }, &post.draft, &ChatLimits::default(), 0).unwrap();
    let told: Value = serde_json::from_slice(&(post.args)(&message).tail).unwrap();
    let expected = json!({
        "chatId": 1,
        "message": {
            "id": "4@chat:1", "chatId": 1, "senderId": 7, "content": "hi", "type": "image", "replyTo": "3@chat:1",
            "attachments": [{ "type": "image", "url": "u" }], "status": "sent", "createdAt": "1970-01-01T00:00:00.000Z",
        },
    });
    assert_eq!((&*post.event, told), ("message:receive", expected));
}

#[test]
fn wrong_calls_are_refused() {
    let cases = [
        ("nothing", "{}", ""),
        ("send-to-chat", r#"{"event":"x"}"#, "chatId"),
        ("send-to-chat", r#"{"chatId":"1"}"#, "event"),
        ("emit-to-user", r#"{"userId":[],"event":"x"}"#, "userId"),
        ("chat-add", r#"{"chatId":"1"}"#, "userId"),
        ("chat-add", r#"{"chatId":"1","userIds":[]}"#, "userIds"),
        ("chat-add", r#"{"chatId":"1","userIds":[{}]}"#, "userIds"),
        ("send-chat-message", r#"{"chatId":"1"}"#, "message"),
        ("send-chat-message", r#"{"chatId":"1","message":"hi"}"#, "message"),
        ("send-chat-message", r#"{"chatId":"1","message":{"content":"hi"}}"#, "senderId"),
        ("send-chat-message", r#"{"chatId":"1","message":{"senderId":"b"}}"#, "content"),
        ("send-chat-message", r#"{"chatId":"1","message":{"senderId":"b","content":7}}"#, "content"),
        (
            "send-chat-message",
            r#"{"chatId":"1","message":{"senderId":"b","content":"x","type":"smell"}}"#,
            "type",
        ),
        (
            "send-chat-message",
            r#"{"chatId":"1","message":{"senderId":"b","content":"x","replyTo":"3@chat:2"}}"#,
            "replyTo",
        ),
        (
            "send-chat-message",
            r#"{"chatId":"1","message":{"senderId":"b","attachments":[{}]}}"#,
            "attachments",
        ),
    ];
    for (name, body, field) in cases {
        match actions(name, body).unwrap_err() {
            Rejection::InvalidPayload { field: found, .. } => assert_eq!(found, field, "{name} {body}"),
            other => assert_eq!((other, field), (Rejection::UnknownEvent, ""), "{name} {body}"),
        }
    }
}

#[test]
fn every_call_that_is_described_exists_and_its_example_is_right() {
    for verb in Messenger::VERBS {
        assert!(called(verb.name, verb.example).is_ok(), "{}", verb.name);
    }
}

#[test]
fn a_call_s_participants_are_reached_by_each_of_its_rooms_names() {
    let dialect = crate::Dialect::Messenger(dialect());
    let of =
        |name: &str| dialect.room_of(&crate::Audience::Room(domain::RoomId::new(name).unwrap())).unwrap();
    for name in ["call:C1", "video:C1", "screen:C1"] {
        assert_eq!(of(name).as_str(), ".call:C1");
    }
    assert_eq!(of("chat:call:C1").as_str(), "chat:call:C1");
}
