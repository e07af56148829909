//! Messages after they were sent.

use domain::chat::{Draft, Head, Mark, Marks, Page, Standing, decide};

use super::*;
use crate::History;

fn command(actions: Vec<Action>) -> (Command, crate::Then) {
    let Some(Action::Run(command, then)) = Action::without_hook(actions).into_iter().next() else {
        panic!("no command")
    };
    (command, then)
}

fn message(n: u64, recipient: &str) -> domain::chat::Message {
    let draft = Draft {
        recipient: UserId::new(recipient),
        ..Draft::new(RoomId::new("chat:7:9").unwrap(), UserId::new("9").unwrap(), "9".into(), "hi")
    };
    decide(&Head { last: n - 1 }, &draft, &ChatLimits::default(), 0).unwrap()
}

#[test]
fn a_page_is_of_the_room_that_a_message_to_there_would_go() {
    for (payload, room, page) in [
        (json!({ "roomId": "chat:9:7" }), "chat:7:9", Page { before: None, after: None, limit: 50 }),
        (json!({ "recipientId": 9, "limit": 3 }), "chat:7:9", Page { before: None, after: None, limit: 3 }),
        (json!({ "visitId": 1, "after": 4 }), "visit:1", Page { before: None, after: Some(4), limit: 50 }),
        (
            json!({ "before": "5@chat:7:9", "limit": 999 }),
            "chat:7:9",
            Page { before: Some(5), after: None, limit: 200 },
        ),
    ] {
        let (Command::History { room: asked, page: part, .. }, _) =
            command(say(&[], "message:history", payload.clone(), true))
        else {
            panic!()
        };
        assert_eq!((asked.as_str(), part), (room, page), "{payload}");
    }
    for (payload, code) in [
        (json!({}), "invalid_payload"),
        (json!({ "roomId": "chat:7:9", "before": "1@chat:7:8" }), "invalid_payload"),
        (json!({ "roomId": "chat:8:9" }), "room_denied"),
        (json!({ "before": "1@chat:8:9" }), "room_denied"),
        (json!({ "visitId": 2 }), "room_denied"),
        (json!({ "roomId": "chat:7:9", "limit": "x" }), "invalid_payload"),
    ] {
        let actions = Action::without_hook(say(&[], "message:history", payload.clone(), true));
        assert_eq!(refusal(&actions), code, "{payload}");
    }
}

#[test]
fn a_message_fares_as_its_recipient_says() {
    let (_, next) = command(say(&[], "message:history", json!({ "roomId": "chat:7:9" }), true));
    let marks = Marks {
        any: Mark { read: 9, delivered: 9 },
        of: [(UserId::new("7").unwrap(), Mark { read: 1, delivered: 2 })].into(),
    };
    let messages = [1, 2, 3].map(|n| message(n, "7")).to_vec();
    let history = History { messages, marks, has_more: false };
    let identity = ann();
    let answer = ack(&next(&socket(&identity, &[]), Ok(Outcome::History(Box::new(history))))[0]);
    let list = answer["messages"].as_array().unwrap();
    let standings: Vec<&str> = list.iter().map(|message| message["status"].as_str().unwrap()).collect();
    assert_eq!((standings, &answer["hasMore"]), (vec!["read", "delivered", "sent"], &json!(false)));
}

#[test]
fn who_sent_it_is_told_that_it_was_read() {
    let (Command::MarkRead(read), next) =
        command(say(&[], "message:read", json!({ "messageId": "3@chat:9:7" }), true))
    else {
        panic!()
    };
    assert_eq!((read.room.as_str(), read.ns.as_slice()), ("chat:7:9", &[3][..]));
    let told = (read.tell)(&message(3, "7"), &read.reader).unwrap();
    assert_eq!((told.rooms[0].as_str(), &*told.event), ("notifications:9", "message:status"));
    assert_eq!(
        body(&told.args),
        json!({ "messageId": "3@chat:7:9", "roomId": "chat:7:9", "status": Standing::Read.name() })
    );
    let identity = ann();
    assert_eq!(ack(&next(&socket(&identity, &[]), Ok(Outcome::Marked))[0])["success"], true);
    for wrong in
        [json!({}), json!({ "messageId": 3 }), json!({ "messageId": "3" }), json!({ "messageId": "" })]
    {
        assert_eq!(refusal(&say(&[], "message:read", wrong, true)), "invalid_payload");
    }
}

#[test]
fn only_a_message_with_a_recipient_waits_for_a_receipt() {
    for (payload, recipient) in [
        (json!({ "message": "x", "roomId": "chat:7:9" }), Some("9")),
        (json!({ "message": "x", "recipientId": 9 }), Some("9")),
        (json!({ "message": "x", "visitId": 1, "recipientId": "9" }), Some("9")),
        (json!({ "message": "x", "visitId": 1 }), None),
        (json!({ "message": "x", "roomId": "topic:a" }), None),
        (json!({ "message": "x", "roomId": "chat:7:7" }), None),
    ] {
        let (Command::Post(post), _) = command(say(&[], "message:send", payload.clone(), true)) else {
            panic!()
        };
        assert_eq!(post.draft.recipient.as_ref().map(UserId::as_str), recipient, "{payload}");
        assert_eq!(post.receipt.is_some(), recipient.is_some(), "{payload}");
    }
}

#[test]
fn typing_is_shown_with_the_room_and_who_it_is() {
    for (event, typing) in [("typing:start", true), ("typing:stop", false)] {
        let (Command::Typing(signal), _) = command(say(&[], event, json!({ "roomId": "chat:9:7" }), false))
        else {
            panic!()
        };
        assert_eq!((signal.typing, signal.room.as_str()), (typing, "chat:7:9"));
        let shown = if typing { &signal.start } else { &signal.stop };
        assert_eq!((&*shown.event, shown.except_self, shown.delivery), (event, true, Delivery::Ephemeral));
        assert_eq!(body(&shown.args), json!({ "roomId": "chat:7:9", "userId": 7, "role": "patient" }));
    }
}
