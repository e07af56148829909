//! `message:send`.

use domain::chat;

use super::*;

fn stored(draft: &chat::Draft) -> Outcome {
    let message =
        chat::decide(&chat::Head { last: 4 }, draft, &domain::ChatLimits::default(), 951_782_400_000);
    Outcome::Posted(Box::new(message.unwrap()))
}

fn draft(actions: &Actions) -> chat::Draft {
    let [Action::Run(Command::Post(post), _)] = &actions[..] else { panic!("{actions:?}") };
    assert!(!post.except_self, "the sending socket is included");
    assert_eq!((&*post.event, &post.rooms), ("message:new", &vec![post.draft.room.clone()]));
    post.draft.clone()
}

#[test]
fn a_message_is_stored_told_and_acked() {
    let who = doctor();
    let inside = [member("patient:7", None)];
    let talk = Talk::of(&who).inside(&inside);
    let payload = json!({ "patientId": 7, "text": "Hello", "attachments": [{ "url": "x" }], "metadata": { "a": 1 }, "z": 0 });
    let actions = talk.say("message:send", payload);
    let draft = draft(&actions);
    assert_eq!(draft.room.as_str(), "patient:7");
    let (command, then) = talk.settle(actions, Ok(stored(&draft)));
    let message = json!({
        "id": "5@patient:7", "patientId": 7, "senderId": 3, "senderRole": "doctor", "text": "Hello",
        "attachments": [{ "url": "x" }], "metadata": { "a": 1 }, "createdAt": "2000-02-29T00:00:00.000Z",
    });
    assert_eq!(ack(&then), json!({ "ok": true, "message": message }));
    assert!(emitted(&then).is_empty(), "who is in the room hears it there");
    let (Command::Post(post), Outcome::Posted(posted)) = (command, stored(&draft)) else { panic!() };
    assert_eq!(body(&(post.args)(&posted)), json!({ "message": message, "patientId": 7 }));
}

#[test]
fn a_sender_outside_of_the_room_hears_its_message_too() {
    let who = doctor();
    let talk = Talk::of(&who);
    let actions = talk.say("message:send", json!({ "patientId": "7", "text": "x" }));
    let outcome = stored(&draft(&actions));
    let told = emitted(&talk.settle(actions, Ok(outcome)).1);
    assert_eq!((told.len(), &*told[0].0, &told[0].1["patientId"]), (1, "message:new", &json!("7")));
}

#[test]
fn the_text_has_three_names_and_patients_mean_themselves() {
    let who = identity(json!({ "userId": 70, "role": "patient", "patientId": "7" }));
    for name in ["text", "message", "content"] {
        let draft = draft(&Talk::of(&who).say("message:send", json!({ name: "Hi" })));
        assert_eq!((draft.text.as_str(), draft.room.as_str()), ("Hi", "patient:7"));
    }
    let only_files = json!({ "attachments": [{ "url": "x" }], "text": null });
    assert_eq!(draft(&Talk::of(&who).say("message:send", only_files)).text, "");
}

#[test]
fn wrong_payloads_and_other_patients_are_refused() {
    let (admin, who) = (identity(json!({ "userId": 1, "role": "admin" })), patient());
    let cases = [
        (&who, json!({ "patientId": "8", "text": "x" }), "room_denied"),
        (&admin, json!({ "text": "x" }), "invalid_payload"),
        (&who, json!({}), "invalid_payload"),
        (&who, json!("x"), "invalid_payload"),
        (&who, json!({ "text": 7 }), "invalid_payload"),
        (&who, json!({ "text": "x", "attachments": "y" }), "invalid_payload"),
        (&who, json!({ "text": "x", "metadata": [] }), "invalid_payload"),
        (&who, json!({ "patientId": { "$ne": 1 }, "text": "x" }), "invalid_payload"),
        (&who, json!({ "patientId": "", "text": "x" }), "invalid_payload"),
        (&admin, json!({ "patientId": null, "text": "x" }), "invalid_payload"),
        (&who, json!({ "patientId": null, "text": "x" }), "invalid_payload"),
        (&who, json!({ "senderId": "8", "text": "x" }), "invalid_payload"),
        (&who, json!({ "userId": 8, "text": "x" }), "invalid_payload"),
        (&admin, json!({ "patientId": 1.5, "text": "x" }), "invalid_payload"),
    ];
    for (who, payload, code) in cases {
        let answer = ack(&Talk::of(who).say("message:send", payload.clone()));
        assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!(code)), "{payload}");
        let told = emitted(&Talk::of(who).without_ack().say("message:send", payload));
        assert_eq!((&*told[0].0, &told[0].1["code"]), ("core:error", &json!(code)));
    }
}

#[test]
fn who_names_itself_as_the_sender_is_right() {
    let who = patient();
    let payload = json!({ "senderId": 7, "userId": "7", "id": "mine", "text": "x" });
    assert_eq!(draft(&Talk::of(&who).say("message:send", payload)).sender.as_str(), "7");
}

#[test]
fn bytes_cannot_be_kept_in_a_message() {
    let who = patient();
    let raw = serde_json::value::RawValue::from_string(
        json!({ "text": "x", "metadata": { "scan": { "_placeholder": true, "num": 0 } } }).to_string(),
    );
    let (raw, attachments) = (raw.unwrap(), [bytes::Bytes::from_static(b"scan")]);
    let inbound = Inbound {
        name: "message:send",
        args: &[&raw],
        attachments: &attachments,
        wants_ack: true,
        now_ms: 0,
    };
    let answer = ack(&dialect().event(&socket(Some(&who), &[]), &inbound));
    assert_eq!((&answer["ok"], &answer["code"]), (&json!(false), &json!("invalid_payload")));
}

#[test]
fn the_hook_may_allow_a_doctor_to_write() {
    let who = doctor();
    let actions = Talk::of(&who).say("message:send", json!({ "patientId": 20, "text": "x" }));
    let [Action::AskHook { right, .. }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(&**right, "patient:20");
    let raw = RawValue::from_string(json!({ "patientId": 20, "text": "x" }).to_string()).unwrap();
    let inbound =
        Inbound { name: "message:send", args: &[&raw], attachments: &[], wants_ack: true, now_ms: 0 };
    let granted = [Box::from("patient:20")];
    let again = dialect().event(&Socket { granted: &granted, ..socket(Some(&who), &[]) }, &inbound);
    assert_eq!(draft(&again).room.as_str(), "patient:20");
    assert_eq!(ack(&Action::without_hook(actions))["code"], "room_denied");
}
