//! `authorization` on a live connection.

use super::*;

fn verified(identity: &Identity) -> Result<Outcome, Rejection> {
    Ok(Outcome::Verified(Box::new(identity.clone())))
}

#[test]
fn the_token_stands_in_an_object_or_alone() {
    let forms = [
        json!({ "socket_token": "t" }),
        json!({ "socketToken": "t" }),
        json!({ "token": "t", "more": 1 }),
        json!("t"),
        json!("Bearer t"),
    ];
    for payload in forms {
        let actions = Talk::nobody().say("authorization", payload);
        let [Action::Run(Command::Verify { token }, _)] = &actions[..] else { panic!("{actions:?}") };
        assert!(*token == Token("t".into()));
    }
    for payload in [json!(null), json!({}), json!({ "token": 7 }), json!(""), json!([]), json!(" ")] {
        let actions = Talk::nobody().say("authorization", payload);
        assert_eq!(emitted(&actions)[0].1["code"], "missing_token");
        assert_eq!(ack(&actions)["code"], "missing_token");
    }
}

#[test]
fn a_first_token_enters_the_users_room_and_ends_the_grace() {
    let who = identity(json!({ "userId": 7, "role": "patient", "exp": 951_782_400u64 }));
    let talk = Talk::nobody();
    let (_, then) = talk.settle(talk.say("authorization", json!("t")), verified(&who));
    let (command, then) = talk.settle(then, joined());
    assert_eq!(rooms_of(&command), ["u:7"]);
    let expected =
        json!({ "userId": 7, "role": "patient", "rooms": ["u:7"], "expiresAt": "2000-02-29T00:00:00.000Z" });
    assert_eq!(emitted(&then), [("core:auth:success".to_owned(), expected)]);
    assert_eq!(ack(&then), json!({ "ok": true, "rooms": ["u:7"] }));
    assert!(matches!(then.last(), Some(Action::Restore)), "{then:?}");
}

#[test]
fn rooms_stay_as_far_as_the_new_token_gives_a_right_to_them() {
    let who = doctor();
    let inside = [
        member("u:3", None),
        member("patient:7", Some("right")),
        member("patient:9", Some("right")),
        member("ward:4", None),
        member("patient:20", Some("hook")),
        member("patient:21", Some("hook")),
    ];
    let talk = Talk::nobody().inside(&inside);
    let (_, then) = talk.settle(talk.say("authorization", json!("t")), verified(&who));
    let (command, then) = talk.settle(then, Ok(Outcome::Authorized(false)));
    let Command::Authorize { right } = command else { panic!() };
    assert_eq!(right, "patient:21");
    let (_, then) = talk.settle(then, Ok(Outcome::Authorized(true)));
    let (command, then) = talk.settle(then, Ok(Outcome::Left));
    assert_eq!(rooms_of(&command), ["patient:9", "patient:21"]);
    let (_, then) = talk.settle(then, joined());
    // The back end has put the user in the ward.
    assert_eq!(emitted(&then)[0].1["rooms"], json!(["u:3", "patient:7", "ward:4", "patient:20"]));
    assert_eq!(emitted(&then)[0].1["expiresAt"], Value::Null);
}

#[test]
fn a_token_that_does_not_count_changes_nothing() {
    let cases = [
        (Rejection::InvalidToken, "invalid_token"),
        (Rejection::ExpiredToken, "expired_token"),
        (Rejection::RevokedToken, "revoked_token"),
        (Rejection::Unavailable, "unavailable"),
    ];
    let who = patient();
    for (rejection, code) in cases {
        let talk = Talk::of(&who).without_ack();
        let (_, then) = talk.settle(talk.say("authorization", json!("t")), Err(rejection));
        assert_eq!(then.len(), 1);
        let told = emitted(&then);
        assert_eq!((&*told[0].0, &told[0].1["code"]), ("core:auth:error", &json!(code)));
    }
    // The bus did not confirm the user's room: the grace goes on.
    let talk = Talk::nobody();
    let (_, then) = talk.settle(talk.say("authorization", json!("t")), verified(&who));
    let (_, then) = talk.settle(then, Err(Rejection::Unavailable));
    assert!(!then.iter().any(|action| matches!(action, Action::Restore)));
    assert_eq!(ack(&then)["code"], "unavailable");
}
