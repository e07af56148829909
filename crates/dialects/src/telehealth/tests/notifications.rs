//! Notifications: what clients ask, and what a back end's emission becomes.

use serde_json::{Value, json};

use super::{ack, body, refusal, say, settle};
use crate::{
    Action, Audience, BackendAction, BackendEmission, Command, Delivery, Dialect, NotificationAct,
    NotificationOutcome, NotificationPage, Out, Outcome,
};

fn asked(name: &str, payload: Value) -> NotificationAct {
    let actions = say(&[], name, payload, true);
    let Some(Action::Run(Command::Notifications(act), _)) = actions.into_iter().next() else { panic!() };
    act
}

fn answered(name: &str, payload: Value, outcome: NotificationOutcome) -> Vec<Action> {
    settle(say(&[], name, payload, true), Outcome::Notifications(outcome)).1
}

#[test]
fn the_count_is_asked_with_nothing_but_a_callback() {
    for ignored in [json!(null), json!({}), json!(7)] {
        assert_eq!(asked("notification:getUnreadCount", ignored), NotificationAct::Unread);
    }
    let then = answered("notification:getUnreadCount", json!(null), NotificationOutcome::Unread(4));
    assert_eq!(ack(&then[0]), json!({ "success": true, "unreadCount": 4 }));
    assert!(say(&[], "notification:getUnreadCount", json!(null), false).is_empty());
}

#[test]
fn reading_is_told_to_the_other_devices_once() {
    let payload = json!({ "notificationId": 42, "more": true });
    assert_eq!(asked("notification:read", payload.clone()), NotificationAct::Read { name: "42".into() });
    let then =
        answered("notification:read", payload.clone(), NotificationOutcome::Read { unread: 1, news: true });
    assert_eq!(ack(&then[0]), json!({ "success": true, "notificationId": 42, "unreadCount": 1 }));
    let Action::Run(Command::Emit(told), _) = &then[1] else { panic!() };
    assert_eq!(
        (told.rooms[0].as_str(), &*told.event, told.except_self),
        ("notifications:7", "notification:read", true)
    );
    assert_eq!(body(&told.args), json!({ "notificationId": 42, "unreadCount": 1 }));
    let again = answered("notification:read", payload, NotificationOutcome::Read { unread: 1, news: false });
    assert_eq!(again.len(), 1);
}

#[test]
fn pages_are_asked_with_limit_and_place() {
    let act = asked("notification:list", json!({ "limit": 5, "before": "01A" }));
    assert_eq!(act, NotificationAct::List { limit: Some(5), before: Some("01A".into()) });
    for whole in [json!(null), json!({}), json!({ "limit": null, "before": null })] {
        assert_eq!(asked("notification:list", whole), NotificationAct::List { limit: None, before: None });
    }
    let page =
        NotificationPage { list: vec![(r#"{"id":"01A","title":"t"}"#.into(), 0)], has_more: true, unread: 9 };
    let then = answered("notification:list", json!({}), NotificationOutcome::Page(page));
    let expected = json!({ "success": true, "hasMore": true, "unreadCount": 9,
        "notifications": [{ "id": "01A", "title": "t", "timestamp": "1970-01-01T00:00:00.000Z" }] });
    assert_eq!(ack(&then[0]), expected);
}

#[test]
fn what_is_no_question_is_refused() {
    for (event, payload) in [
        ("notification:read", json!({})),
        ("notification:read", json!("id")),
        ("notification:read", json!({ "notificationId": null })),
        ("notification:read", json!({ "notificationId": 1.5 })),
        ("notification:list", json!({ "limit": 0 })),
        ("notification:list", json!({ "before": [] })),
    ] {
        assert_eq!(refusal(&say(&[], event, payload, true)), "invalid_payload", "{event}");
    }
    assert_eq!(refusal(&say(&[], "notification:other", json!({}), true)), "unknown_event");
}

#[test]
fn the_back_ends_event_to_a_user_is_kept() {
    let dialect = Dialect::Telehealth(super::dialect());
    let told = |audience: Audience| {
        let emission = BackendEmission {
            rooms: vec![dialect.room_of(&audience).unwrap()],
            event: "notification:new".into(),
            args: Out::json(&json!({ "title": "t", "message": "m" })),
            except: Vec::new(),
            delivery: Delivery::Recoverable,
        };
        dialect.told(&[audience], emission)
    };
    let room = |name: &str| Audience::Room(domain::RoomId::new(name).unwrap());
    for kept in [Audience::User(domain::UserId::new("7").unwrap()), room("notifications:7")] {
        let [BackendAction::Notify(notice)] = &told(kept)[..] else { panic!() };
        assert_eq!((notice.user.as_str(), &*notice.event), ("7", "notification:new"));
    }
    for other in [Audience::Everyone, room("visit:1"), Audience::Role("doctor".into())] {
        assert!(matches!(told(other)[..], [BackendAction::Emit(_)]));
    }
}
