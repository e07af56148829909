//! `join` and `leave`.

use super::*;

#[test]
fn rooms_are_named_alone_in_a_list_or_in_an_object() {
    let who = doctor();
    let talk = Talk::of(&who);
    let forms = [
        (json!("patient:7"), vec!["patient:7"]),
        (json!(["patient:7", "doctor:3", "patient:7"]), vec!["patient:7", "doctor:3"]),
        (json!({ "room": "patient:8", "extra": 1 }), vec!["patient:8"]),
        (json!({ "rooms": ["patient:8", "u:3"] }), vec!["patient:8", "u:3"]),
        (json!({ "room": null, "rooms": ["patient:8"] }), vec!["patient:8"]),
    ];
    for (payload, expected) in forms {
        let (command, then) = talk.settle(talk.say("join", payload), joined());
        assert_eq!(rooms_of(&command), expected);
        assert_eq!(ack(&then), json!({ "ok": true, "joined": expected, "denied": [] }));
        assert!(emitted(&then).is_empty());
    }
    assert_eq!(ack(&talk.say("join", json!([]))), json!({ "ok": true, "joined": [], "denied": [] }));
}

#[test]
fn what_is_not_allowed_is_listed_and_the_rest_joined() {
    let who = patient();
    let talk = Talk::of(&who);
    let asked = json!(["patient:8", "patient:7", "doctor:7", "u:8"]);
    let (command, then) = talk.settle(talk.say("join", asked.clone()), joined());
    assert_eq!(rooms_of(&command), ["patient:7"]);
    let denied = json!(["patient:8", "doctor:7", "u:8"]);
    assert_eq!(ack(&then), json!({ "ok": false, "joined": ["patient:7"], "denied": denied }));

    let quiet = Talk::of(&who).without_ack();
    let (_, then) = quiet.settle(quiet.say("join", asked), joined());
    let expected =
        json!({ "message": "Room access denied", "code": "room_denied", "event": "join", "denied": denied });
    assert_eq!(emitted(&then), [("core:error".to_owned(), expected)]);
    for room in ["patient:", "patient", "patient:7:8", ":", "admin:1", ".everyone", "PATIENT:7", "u:"] {
        let answer = ack(&talk.say("join", json!(room)));
        assert_eq!(answer, json!({ "ok": false, "joined": [], "denied": [room] }));
    }
}

#[test]
fn what_names_no_rooms_is_refused_with_its_lists() {
    let who = patient();
    let huge = "x".repeat(100_000);
    let cases = [
        (json!(null), "invalid_payload"),
        (json!(7), "invalid_payload"),
        (json!({}), "invalid_payload"),
        (json!({ "room": 7 }), "invalid_payload"),
        (json!(["patient:7", 8]), "invalid_payload"),
        (json!([["patient:7"]]), "invalid_payload"),
        (json!(""), "invalid_room"),
        (json!(huge), "invalid_room"),
        (json!(["patient:1", "patient:2", "patient:3", "patient:4", "patient:5", "patient:6"]), "over_limit"),
    ];
    for (payload, code) in cases {
        for (event, lists) in [("join", vec!["joined", "denied"]), ("leave", vec!["left"])] {
            let answer = ack(&Talk::of(&who).say(event, payload.clone()));
            assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!(code)), "{payload}");
            assert!(lists.iter().all(|list| answer[*list] == json!([])), "{answer}");
            let told = emitted(&Talk::of(&who).without_ack().say(event, payload.clone()));
            assert_eq!((&*told[0].0, &told[0].1["code"]), ("core:error", &json!(code)));
        }
    }
    let no_argument = Inbound { name: "join", args: &[], attachments: &[], wants_ack: true, now_ms: 0 };
    assert_eq!(ack(&dialect().event(&socket(Some(&who), &[]), &no_argument))["code"], "invalid_payload");
}

#[test]
fn a_join_that_cannot_be_is_answered() {
    let who = patient();
    let talk = Talk::of(&who);
    let (_, then) = talk.settle(talk.say("join", json!("patient:7")), Err(Rejection::Unavailable));
    let answer = ack(&then);
    assert_eq!(
        (&answer["ok"], &answer["code"], &answer["joined"]),
        (&json!(false), &json!("unavailable"), &json!([]))
    );
}

#[test]
fn leaving_lists_what_the_socket_was_in() {
    let who = patient();
    let inside = [member("u:7", None), member("patient:7", None)];
    let talk = Talk::of(&who).inside(&inside);
    let mut actions = talk.say("leave", json!(["patient:7", "patient:8"]));
    assert_eq!(ack(&actions[1..]), json!({ "ok": true, "left": ["patient:7"] }));
    let Action::Run(command, _) = actions.remove(0) else { panic!() };
    assert_eq!(rooms_of(&command), ["patient:7"]);
    assert_eq!(ack(&talk.say("leave", json!({ "room": "patient:8" }))), json!({ "ok": true, "left": [] }));
}

#[test]
fn the_hook_is_asked_for_each_patient_that_the_token_does_not_list() {
    let who = doctor();
    let talk = Talk::of(&who);
    let asked = json!(["patient:7", "patient:20", "patient:21", "doctor:4"]);
    let (command, then) = talk.settle(talk.say("join", asked.clone()), Ok(Outcome::Authorized(true)));
    let Command::Authorize { right } = command else { panic!() };
    assert_eq!(right, "patient:20");
    let (command, then) = talk.settle(then, Ok(Outcome::Authorized(false)));
    let Command::Authorize { right } = command else { panic!() };
    assert_eq!(right, "patient:21");
    let (command, then) = talk.settle(then, joined());
    assert_eq!(rooms_of(&command), ["patient:7", "patient:20"]);
    let Command::Join(joins) = command else { panic!() };
    assert_eq!((joins[0].note.as_deref(), joins[1].note.as_deref()), (Some("right"), Some("hook")));
    let denied = json!(["patient:21", "doctor:4"]);
    assert_eq!(ack(&then), json!({ "ok": false, "joined": ["patient:7", "patient:20"], "denied": denied }));

    // A hook in trouble is asked once, and lets nobody in.
    let (_, then) = talk.settle(talk.say("join", asked), Err(Rejection::HookUnavailable));
    let (command, then) = talk.settle(then, joined());
    assert_eq!(rooms_of(&command), ["patient:7"]);
    let answer = ack(&then);
    assert_eq!(answer["denied"], json!(["patient:20", "patient:21", "doctor:4"]));
    assert_eq!(answer["code"], "hook_unavailable");
}
