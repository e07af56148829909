//! Chats: what goes in, what is asked of the gateway, what comes out.

use domain::chat::{Amendment, ChatLimits, Draft, Head, Mark, Marks, Message, Page, amend, decide};
use domain::presence::{Choice, Presence, Status};

use super::*;
use crate::{History, Membership, Reader};

const CHAT: &str = "chat:c1";

fn inside(chat: &str) -> Vec<Membership> {
    vec![Membership { room: chat.into(), note: None }]
}

/// What 7 says, being in these rooms.
fn says(rooms: &[Membership], name: &str, payload: Value) -> Actions {
    let identity = identity("7");
    let raw = RawValue::from_string(payload.to_string()).unwrap();
    let inbound = Inbound { name, args: &[&raw], attachments: &[], wants_ack: true, now_ms: NOW_MS };
    let socket = Socket { memberships: rooms, ..socket("7-a", &identity, &[]) };
    Action::without_hook(dialect().event(&socket, &inbound))
}

fn command(actions: Actions) -> (Command, crate::Then) {
    let mut actions = actions.into_iter();
    let Some(Action::Run(command, then)) = actions.next() else { panic!("no command") };
    (command, then)
}

fn ack(actions: &[Action]) -> Value {
    let Some(Action::Ack(out)) = actions.first() else { panic!("no ack: {actions:?}") };
    body(out)
}

fn then(then: crate::Then, outcome: Result<Outcome, Rejection>) -> Actions {
    let identity = identity("7");
    then(&socket("7-a", &identity, &[]), outcome)
}

fn stored(draft: &Draft, n: u64) -> Message {
    decide(&Head { last: n - 1 }, draft, &ChatLimits::default(), 0).unwrap()
}

fn message(n: u64) -> Message {
    let draft = Draft {
        addressing: json!({ "chatId": "c1" }).as_object().unwrap().clone(),
        ..Draft::new(RoomId::new(CHAT).unwrap(), UserId::new("7").unwrap(), 7.into(), "hi")
    };
    stored(&draft, n)
}

#[test]
fn a_message_is_stored_told_to_the_chat_with_its_sender_and_acked() {
    let payload = json!({
        "chatId": "c1", "content": "hi", "type": "file", "replyTo": "2@chat:c1", "clientId": "x",
        "attachments": [{ "type": "pdf", "url": "u", "name": "n", "size": 3, "own": true }], "unknown": {}
    });
    let (Command::Post(post), next) = command(says(&inside(CHAT), "message:send", payload)) else { panic!() };
    assert_eq!((post.rooms.len(), post.rooms[0].as_str(), &*post.event), (1, CHAT, "message:receive"));
    assert!(!post.except_self, "the sending socket hears it too");
    let message = stored(&post.draft, 3);
    let wire = json!({
        "id": "3@chat:c1", "chatId": "c1", "senderId": 7, "content": "hi", "type": "file", "replyTo": "2@chat:c1",
        "attachments": [{ "type": "pdf", "url": "u", "name": "n", "size": 3, "own": true }],
        "status": "sent", "createdAt": "1970-01-01T00:00:00.000Z", "clientId": "x"
    });
    assert_eq!(body(&(post.args)(&message)), json!({ "message": wire, "chatId": "c1" }));
    let receipt = (post.receipt.unwrap())(&message);
    assert_eq!(
        story(&[receipt]),
        [(
            "user:7".into(),
            "message:status".into(),
            json!({ "chatId": "c1", "messageId": "3@chat:c1", "status": "delivered" })
        )]
    );
    let answer = then(next, Ok(Outcome::Posted(Box::new(message))));
    assert_eq!(ack(&answer), json!({ "success": true, "message": wire }));
}

#[test]
fn who_may_be_in_a_chat_is_put_in_it_by_the_first_event_that_names_it() {
    let (Command::Join(joins), next) =
        command(says(&[], "message:send", json!({ "chatId": 2, "content": "hi" })))
    else {
        panic!()
    };
    assert_eq!(joins[0].room.as_str(), "chat:2");
    let steps = then(next, Ok(Outcome::Joined { participants: vec![] }));
    let (Command::Post(post), _) = command(steps) else { panic!() };
    assert_eq!(post.draft.addressing["chatId"], 2, "as it came");
    let (_, next) = command(says(&[], "typing:start", json!({ "chatId": "c1" })));
    assert_eq!(ack(&then(next, Err(Rejection::Unavailable)))["code"], "unavailable");
}

#[test]
fn a_chat_that_is_not_ones_own_is_refused_unless_all_are_open() {
    for (event, more) in [
        ("message:send", json!({ "content": "x" })),
        ("typing:start", json!({})),
        ("message:history", json!({})),
        ("chat:join", json!({})),
        ("message:edit", json!({ "messageId": "1@chat:no", "content": "x" })),
        ("message:delete", json!({ "messageId": "1@chat:no" })),
        ("message:read", json!({ "messageId": "1@chat:no" })),
        ("message:unread", json!({ "chatIds": ["c1", "no"] })),
    ] {
        let mut payload = more;
        payload["chatId"] = "no".into();
        assert_eq!(ack(&says(&[], event, payload.clone()))["code"], "room_denied", "{event}");
        let open = domain::chat::ChatSettings { open: true, ..Default::default() };
        let dialect = dialect().with_chat(ChatLimits::default(), open);
        let raw = RawValue::from_string(payload.to_string()).unwrap();
        let inbound =
            Inbound { name: event, args: &[&raw], attachments: &[], wants_ack: true, now_ms: NOW_MS };
        let identity = identity("7");
        let actions = dialect.event(&socket("7-a", &identity, &[]), &inbound);
        assert!(matches!(actions[0], Action::Run(..)), "{event}");
    }
}

#[test]
fn an_edit_is_asked_for_by_the_messages_id_and_told_to_its_chat() {
    let payload = json!({ "messageId": "4@chat:c1", "content": "ho" });
    let (Command::Amend(change), next) = command(says(&inside(CHAT), "message:edit", payload)) else {
        panic!()
    };
    assert_eq!((change.room.as_str(), change.n, change.editor.administers), (CHAT, 4, false));
    assert_eq!(change.amendment, Amendment::Edit { text: "ho".into() });
    let edited = amend(&message(4), &change.amendment, &change.editor, &ChatLimits::default(), 1000).unwrap();
    let [(rooms, event, told)] = &story(&[(change.tell)(&edited)])[..] else { panic!() };
    assert_eq!((&**rooms, &**event), (CHAT, "message:edit"));
    assert_eq!((&told["chatId"], &told["message"]["content"]), (&json!("c1"), &json!("ho")));
    assert_eq!(told["message"]["editedAt"], "1970-01-01T00:00:01.000Z");
    let answer = ack(&then(next, Ok(Outcome::Amended(Box::new(edited)))));
    assert_eq!((&answer["success"], &answer["message"]), (&json!(true), &told["message"]));
}

#[test]
fn a_deleted_message_is_told_with_who_deleted_it() {
    let payload = json!({ "messageId": "4@chat:c1" });
    let (Command::Amend(change), next) = command(says(&inside(CHAT), "message:delete", payload)) else {
        panic!()
    };
    let gone = amend(&message(4), &change.amendment, &change.editor, &ChatLimits::default(), 1000).unwrap();
    assert_eq!(
        story(&[(change.tell)(&gone)]),
        [(
            CHAT.into(),
            "message:delete".into(),
            json!({ "chatId": "c1", "messageId": "4@chat:c1", "deletedBy": 7 })
        )]
    );
    let refused = then(next, Err(domain::chat::Refusal::NotAdministrator.into()));
    assert_eq!(ack(&refused)["code"], "not_administrator");
}

#[test]
fn administrators_are_of_the_role_or_named_for_the_chat() {
    for (role, claims, administers) in [
        (None, json!({}), false),
        (Some("admin"), json!({}), true),
        (Some("user"), json!({ "chatAdmin": ["c1"] }), true),
        (None, json!({ "chatAdmin": ["c2"] }), false),
    ] {
        let mut identity = identity("7");
        identity.role = role.map(Into::into);
        identity.claims.extend(claims.as_object().unwrap().clone());
        let raw = RawValue::from_string(json!({ "messageId": "1@chat:c1" }).to_string()).unwrap();
        let inbound =
            Inbound { name: "message:delete", args: &[&raw], attachments: &[], wants_ack: true, now_ms: 0 };
        let rooms = inside(CHAT);
        let socket = Socket { memberships: &rooms, ..socket("7-a", &identity, &[]) };
        let (Command::Amend(change), _) = command(dialect().event(&socket, &inbound)) else { panic!() };
        assert_eq!(change.editor.administers, administers, "{role:?} {claims}");
    }
}

#[test]
fn what_was_read_is_told_to_the_chat() {
    let payload = json!({ "messageIds": ["4@chat:c1", "2@chat:c1", "4@chat:c1"] });
    let (Command::MarkRead(read), next) = command(says(&inside(CHAT), "message:read", payload)) else {
        panic!()
    };
    assert_eq!((read.ns.as_slice(), read.room.as_str()), (&[2, 4][..], CHAT));
    let reader = Reader { at_ms: 1000, ..read.reader.clone() };
    assert_eq!(
        story(&[(read.tell)(&message(4), &reader).unwrap()]),
        [(
            CHAT.into(),
            "message:read".into(),
            json!({ "chatId": "c1", "messageId": "4@chat:c1", "userId": 7, "readAt": "1970-01-01T00:00:01.000Z" })
        )]
    );
    assert_eq!(ack(&then(next, Ok(Outcome::Marked)))["success"], true);
    for wrong in [json!([]), json!([1]), json!("4@chat:c1"), json!(["4@chat:c1", "1@chat:2"])] {
        let refused = says(&inside(CHAT), "message:read", json!({ "messageIds": wrong }));
        assert_eq!(ack(&refused)["code"], "invalid_payload", "{wrong}");
    }
}

#[test]
fn a_page_shows_how_its_messages_fare() {
    let payload = json!({ "before": "9@chat:c1", "limit": 2 });
    let (Command::History { room, page, .. }, next) =
        command(says(&inside(CHAT), "message:history", payload))
    else {
        panic!()
    };
    assert_eq!((room.as_str(), page), (CHAT, Page { before: Some(9), after: None, limit: 2 }));
    let marks = Marks { any: Mark { read: 7, delivered: 8 }, ..Marks::default() };
    let history = History { messages: vec![message(7), message(8)], marks, has_more: true };
    let answer = ack(&then(next, Ok(Outcome::History(Box::new(history)))));
    let standings: Vec<&Value> =
        answer["messages"].as_array().unwrap().iter().map(|message| &message["status"]).collect();
    assert_eq!((standings, &answer["hasMore"]), (vec![&json!("read"), &json!("delivered")], &json!(true)));
}

#[test]
fn unread_is_asked_of_named_chats_or_of_ones_own() {
    let (Command::Unread(rooms), next) =
        command(says(&[], "message:unread", json!({ "chatIds": ["c1", 2] })))
    else {
        panic!()
    };
    assert_eq!(rooms.iter().map(RoomId::as_str).collect::<Vec<_>>(), [CHAT, "chat:2"]);
    let answer = ack(&then(next, Ok(Outcome::Unread(vec![3, 0]))));
    assert_eq!(answer, json!({ "success": true, "unread": { "c1": 3, "2": 0 } }));
    let (Command::Unread(rooms), _) = command(says(&inside(CHAT), "message:unread", json!({}))) else {
        panic!()
    };
    assert_eq!(rooms.iter().map(RoomId::as_str).collect::<Vec<_>>(), [CHAT]);
}

#[test]
fn typing_says_what_is_shown_and_a_start_that_says_no_is_a_stop() {
    for (event, says_so, typing) in [
        ("typing:start", json!(true), true),
        ("typing:start", json!(null), true),
        ("typing:start", json!(false), false),
        ("typing:stop", json!(true), false),
    ] {
        let payload = json!({ "chatId": "c1", "isTyping": says_so });
        let (Command::Typing(signal), _) = command(says(&inside(CHAT), event, payload)) else { panic!() };
        assert_eq!(signal.typing, typing, "{event} {says_so}");
        for (shown, name, is_typing) in
            [(&signal.start, "typing:start", true), (&signal.stop, "typing:stop", false)]
        {
            assert_eq!((&*shown.event, shown.except_self), (name, true));
            assert_eq!(body(&shown.args), json!({ "chatId": "c1", "userId": 7, "isTyping": is_typing }));
        }
    }
}

#[test]
fn the_chats_of_the_token_are_entered_at_connect() {
    let identity = identity("7");
    let (Command::Join(joins), _) = command(dialect().connecting(&socket("7-a", &identity, &[]))) else {
        panic!()
    };
    let rooms: Vec<&str> = joins.iter().map(|join| join.room.as_str()).collect();
    assert_eq!(rooms, ["user:7", CHAT, "chat:2"]);
    let few = domain::chat::ChatSettings { chats_joined: 1, ..Default::default() };
    let few = dialect().with_chat(ChatLimits::default(), few);
    let (Command::Join(joins), _) = command(few.connecting(&socket("7-a", &identity, &[]))) else { panic!() };
    assert_eq!(joins.len(), 2);
}

#[test]
fn coming_and_going_is_told_to_chats_and_watchers() {
    let mut presence = Presence {
        user: UserId::new("7").unwrap(),
        wire_id: 7.into(),
        choice: Choice::default(),
        status: Status::Away,
        last_seen_ms: None,
        rev: 1,
        changed_ms: 0,
        told: vec![CHAT.into()],
    };
    let told = |presence: &Presence| story(&dialect().presence_changed(presence));
    let rooms = ".presence:7 chat:c1";
    assert_eq!(told(&presence), [(rooms.into(), "user:online".into(), json!({ "userId": 7 }))]);
    presence.status = Status::Offline;
    presence.last_seen_ms = Some(1000);
    assert_eq!(
        told(&presence),
        [(
            rooms.into(),
            "user:offline".into(),
            json!({ "userId": 7, "lastSeen": "1970-01-01T00:00:01.000Z" })
        )]
    );
    let (Command::Presences { users, .. }, next) =
        command(says(&[], "user:status", json!({ "userIds": [7, "x"] })))
    else {
        panic!()
    };
    assert_eq!(users.len(), 2);
    let answer = ack(&then(next, Ok(Outcome::Presences(vec![presence]))));
    assert_eq!(
        answer["users"],
        json!([{ "userId": 7, "status": "offline", "online": false, "lastSeen": "1970-01-01T00:00:01.000Z" }])
    );
}

#[test]
fn the_back_end_s_word_about_a_chat_counts_more_than_rights() {
    let said = |chat: &str, is_in: bool| {
        let identity = identity("7");
        let raw = RawValue::from_string(json!({ "chatId": chat }).to_string()).unwrap();
        let inbound =
            Inbound { name: "chat:join", args: &[&raw], attachments: &[], wants_ack: true, now_ms: NOW_MS };
        let placed = [crate::Placed { room: format!("chat:{chat}").into(), inside: is_in }];
        let socket = Socket { placed: &placed, ..socket("7-a", &identity, &[]) };
        Action::without_hook(dialect().event(&socket, &inbound))
    };
    assert!(matches!(command(said("of others", true)).0, Command::Join(_)));
    assert_eq!(ack(&said("c1", false))["code"], "room_denied");
}

#[test]
fn who_says_to_be_somebody_else_is_refused_and_what_is_said_of_others_is_not() {
    for (event, payload) in [
        ("message:send", json!({ "chatId": "c1", "content": "x", "senderId": "8" })),
        ("message:send", json!({ "chatId": "c1", "content": "x", "userId": 8 })),
        ("call:initiate", json!({ "receiverId": "8", "callType": "audio", "callerId": "9" })),
        ("conference:create", json!({ "participants": ["8"], "callType": "audio", "callerId": "9" })),
    ] {
        assert_eq!(ack(&says(&inside(CHAT), event, payload))["code"], "invalid_payload", "{event}");
    }
    let own = json!({ "chatId": "c1", "content": "x", "senderId": "7", "userId": 7 });
    assert!(matches!(command(says(&inside(CHAT), "message:send", own)).0, Command::Post(_)));
    // A client that hands a whole message back.
    let edit = json!({ "messageId": "1@chat:c1", "content": "x", "senderId": "8" });
    assert!(matches!(command(says(&inside(CHAT), "message:edit", edit)).0, Command::Amend { .. }));
}
