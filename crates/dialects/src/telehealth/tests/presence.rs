//! Presence: what a client asks, what it is answered, who hears of changes.

use domain::presence::{Choice, Presence, PresenceSettings, Status};
use domain::{Rejection, Rule};

use super::*;
use crate::{Realtime, Watch};

fn presence(user: Value, status: Status) -> Presence {
    Presence {
        user: UserId::from_json(&user).unwrap(),
        wire_id: user,
        choice: Choice::default(),
        status,
        last_seen_ms: Some(951_782_400_000),
        rev: 3,
        changed_ms: 0,
        told: vec!["topic:a".into(), "chat:7:9".into()],
    }
}

fn small() -> Telehealth {
    let presence = PresenceSettings { users_per_question: 3, custom_chars: 4, ..PresenceSettings::default() };
    Telehealth::new("/", vec![], ChatLimits::default(), Realtime { presence, ..Realtime::default() }).unwrap()
}

fn ask(dialect: &Telehealth, name: &str, payload: Value) -> Vec<Action> {
    let (identity, raw) = (ann(), RawValue::from_string(payload.to_string()).unwrap());
    let inbound = Inbound { name, args: &[&raw], attachments: &[], wants_ack: true, now_ms: 0 };
    dialect.event(&socket(&identity, &[]), &inbound)
}

#[test]
fn presences_come_in_the_order_and_form_of_the_question() {
    for (event, expected) in [("presence:get", Watch::IfPossible), ("presence:subscribe", Watch::Required)] {
        let actions = ask(&small(), event, json!({ "userIds": [9, "8", "9"], "x": 1 }));
        let known = vec![presence(json!("8"), Status::Offline), presence(json!("9"), Status::InCall)];
        let (command, then) = settle(actions, Outcome::Presences(known));
        let Command::Presences { users, watch } = command else { panic!() };
        let users: Vec<_> = users.iter().map(|(user, wire)| (user.as_str(), wire.clone())).collect();
        assert_eq!((users, watch), (vec![("9", json!(9)), ("8", json!("8"))], expected));
        let answer = json!({ "success": true, "presences": [
            { "userId": 9, "status": "in_call" },
            { "userId": "8", "status": "offline", "lastSeen": "2000-02-29T00:00:00.000Z" },
            { "userId": "9", "status": "in_call" },
        ] });
        assert_eq!(ack(&then[0]), answer);
    }
}

#[test]
fn watching_ends_when_asked() {
    let actions = ask(&small(), "presence:unsubscribe", json!({ "userIds": ["9", 9] }));
    let (command, then) = settle(actions, Outcome::Unwatched);
    let Command::Unwatch(users) = command else { panic!() };
    assert_eq!((users.len(), users[0].as_str()), (1, "9"));
    assert_eq!(ack(&then[0]), json!({ "success": true }));
}

#[test]
fn wrong_questions_are_answered_clearly() {
    for event in ["presence:get", "presence:subscribe", "presence:unsubscribe"] {
        for (payload, code) in [
            (json!({}), "invalid_payload"),
            (json!({ "userIds": "9" }), "invalid_payload"),
            (json!({ "userIds": [null] }), "invalid_payload"),
            (json!({ "userIds": [[]] }), "invalid_payload"),
            (json!({ "userIds": [""] }), "invalid_payload"),
            (json!([9]), "invalid_payload"),
            (json!({ "userIds": [1, 2, 3, 4] }), "over_limit"),
        ] {
            assert_eq!(refusal(&ask(&small(), event, payload.clone())), code, "{event} {payload}");
        }
    }
    let answer = ack(&ask(&small(), "presence:get", json!({ "userIds": [1, 2, 3, 4] }))[0]);
    assert_eq!(answer["error"], "number of users is over the limit of 3 (presence.users_per_question)");
    assert_eq!(refusal(&ask(&small(), "presence:dance", json!({}))), "unknown_event");
}

#[test]
fn watching_too_many_is_refused_as_the_gateway_says() {
    let actions = ask(&small(), "presence:subscribe", json!({ "userIds": [9] }));
    let Some(Action::Run(_, then)) = actions.into_iter().next() else { panic!() };
    let rejection = Rejection::OverLimit {
        what: "number of watched users",
        limit: 1,
        setting: "presence.watched_per_socket",
    };
    let identity = ann();
    assert_eq!(refusal(&then(&socket(&identity, &[]), Err(rejection))), "over_limit");
}

#[test]
fn who_may_see_whom_stands_in_the_rules() {
    let rule: Rule = serde_json::from_value(json!({ "room": "presence:*", "claim": "visits" })).unwrap();
    let strict = Telehealth::new("/", vec![rule], ChatLimits::default(), Realtime::default()).unwrap();
    for (ids, granted) in [(json!([1, 7]), true), (json!([7]), true), (json!([1, 2]), false)] {
        let actions = ask(&strict, "presence:get", json!({ "userIds": ids }));
        assert_eq!(matches!(actions[0], Action::Run(..)), granted, "{ids}");
    }
    assert_eq!(refusal(&ask(&strict, "presence:subscribe", json!({ "userIds": [2] }))), "room_denied");
}

#[test]
fn a_status_is_chosen_and_a_text_set_kept_or_removed() {
    for (payload, status, custom) in [
        (json!({ "status": "busy" }), Status::Busy, None),
        (json!({ "status": "away", "customStatus": "äöüß" }), Status::Away, Some(Some("äöüß".into()))),
        (json!({ "status": "online", "customStatus": null }), Status::Online, Some(None)),
        (json!({ "status": "offline", "customStatus": "" }), Status::Offline, Some(None)),
    ] {
        let actions = ask(&small(), "presence:setStatus", payload);
        let mut chosen = presence(json!(7), status);
        chosen.choice.custom = Some("hi".into());
        let (command, then) = settle(actions, Outcome::Chosen(Box::new(chosen)));
        let Command::Choose(change) = command else { panic!() };
        assert_eq!((change.status, change.custom), (Some(status), custom));
        let answer = ack(&then[0]);
        assert_eq!((&answer["success"], &answer["presence"]["userId"]), (&json!(true), &json!(7)));
        assert_eq!(answer["presence"]["status"], status.name());
        assert_eq!(answer["presence"]["customStatus"], "hi");
    }
}

#[test]
fn statuses_that_cannot_be_chosen_are_refused() {
    for (payload, code) in [
        (json!({}), "invalid_payload"),
        (json!({ "status": "in_call" }), "invalid_payload"),
        (json!({ "status": "Online" }), "invalid_payload"),
        (json!({ "status": 1 }), "invalid_payload"),
        (json!({ "status": null }), "invalid_payload"),
        (json!({ "status": "busy", "customStatus": 1 }), "invalid_payload"),
        (json!({ "status": "busy", "customStatus": "abcde" }), "over_limit"),
    ] {
        assert_eq!(refusal(&ask(&small(), "presence:setStatus", payload.clone())), code, "{payload}");
    }
}

#[test]
fn changes_reach_watchers_the_users_devices_and_room_mates() {
    let mut changed = presence(json!(7), Status::Busy);
    changed.choice.custom = Some("in theatre".into());
    let told = dialect().presence_changed(&changed);
    let rooms: Vec<&str> = told[0].rooms.iter().map(RoomId::as_str).collect();
    assert_eq!(rooms, ["notifications:7", ".presence:7", "topic:a", "chat:7:9"]);
    assert_eq!((told.len(), told[0].event.as_ref(), told[0].except.len()), (1, "presence:changed", 0));
    let expected = json!({ "userId": 7, "status": "busy", "customStatus": "in theatre" });
    assert_eq!(body(&told[0].args), expected);
    let gone = dialect().presence_changed(&presence(json!("a"), Status::Offline));
    let expected = json!({ "userId": "a", "status": "offline", "lastSeen": "2000-02-29T00:00:00.000Z" });
    assert_eq!(body(&gone[0].args), expected);
}
