//! Video and screens: what one participant says reaches the others as it came, and is there for who comes later.

use super::*;

/// Says it in a conference of 7, 8 and 9; what the others hear.
fn heard(stage: &mut Stage, device: &str, name: &str, payload: Value) -> (String, Value) {
    let said = stage.say(device, name, payload);
    assert_eq!(said.ack(), &json!({ "success": true, "callId": "C1" }), "{name}");
    let mut story = said.story();
    assert_eq!((story.len(), &*story[0].1), (1, name));
    let (rooms, _, body) = story.remove(0);
    (rooms, body)
}

#[test]
fn every_word_reaches_the_others_under_its_name_and_as_it_came() {
    let mut stage = conference();
    for (name, payload) in [
        ("video:stream:start", json!({ "callId": "C1", "hasVideo": true, "hasAudio": false, "codec": [1] })),
        ("video:control:toggle", json!({ "callId": "C1", "action": "mute_video", "enabled": "what?" })),
        ("video:quality:change", json!({ "callId": "C1", "quality": "720p" })),
        ("video:stream:stop", json!({ "callId": "C1" })),
        ("screen:share:start", json!({ "callId": "C1", "hasAudio": true, "quality": "high" })),
        ("screen:quality:change", json!({ "callId": "C1", "quality": "low" })),
        ("screen:annotation:add", json!({ "callId": "C1", "type": "draw", "data": { "path": [[1, 2.50]] } })),
        ("screen:annotation:add", json!({ "callId": "C1", "type": "clear", "data": null })),
        ("screen:share:stop", json!({ "callId": "C1", "userId": "9" })),
    ] {
        let (rooms, body) = heard(&mut stage, "8-a", name, payload.clone());
        let mut expected = payload;
        expected["userId"] = "8".into();
        assert_eq!((&*rooms, body), (".call:C1 -8-a", expected), "{name}");
    }
}

#[test]
fn a_late_joiner_sees_and_hears_what_is_there() {
    let mut stage = Stage::new();
    stage.say("7-a", "conference:create", json!({ "participants": ["8", "9", "6"], "callType": "video" }));
    stage.say("8-a", "call:response", json!({ "callId": "C1", "action": "accept" }));
    for (device, name, payload) in [
        ("8-a", "video:stream:start", json!({ "callId": "C1", "hasVideo": true, "hasAudio": true })),
        ("8-a", "video:quality:change", json!({ "callId": "C1", "quality": "low" })),
        ("8-a", "video:control:toggle", json!({ "callId": "C1", "action": "mute_audio", "enabled": true })),
        ("7-a", "screen:share:start", json!({ "callId": "C1", "hasAudio": false, "quality": "medium" })),
        ("8-a", "screen:remote:request", json!({ "callId": "C1" })),
        ("8-a", "screen:annotation:add", json!({ "callId": "C1", "type": "text", "data": { "at": 1 } })),
    ] {
        assert_eq!(stage.say(device, name, payload).ack()["success"], true, "{name}");
    }
    let late = stage.say("9-a", "call:response", json!({ "callId": "C1", "action": "accept" }));
    // 6 has not answered.
    let silent = |user: Value| {
        json!({
            "userId": user, "hasVideo": false, "hasAudio": false,
            "videoMuted": false, "audioMuted": false, "quality": null,
        })
    };
    let speaks = json!({
        "userId": "8", "hasVideo": true, "hasAudio": true,
        "videoMuted": false, "audioMuted": true, "quality": "low",
    });
    assert_eq!(
        *late.own("video:state"),
        json!({ "callId": "C1", "participants": [silent(json!(7)), speaks, silent(json!("9"))] })
    );
    assert_eq!(
        *late.own("screen:state"),
        json!({
            "callId": "C1",
            "sharers": [{ "userId": 7, "hasAudio": false, "quality": "medium" }],
            "controls": [{ "sharerId": 7, "requesterId": "8", "granted": false }],
            "annotations": [{ "callId": "C1", "type": "text", "data": { "at": 1 }, "userId": "8" }],
        })
    );
}

#[test]
fn one_shares_at_a_time() {
    let mut stage = conference();
    let start = || json!({ "callId": "C1", "hasAudio": false, "quality": "high" });
    stage.say("7-a", "screen:share:start", start());
    let (identity, raw) = (identity("8"), RawValue::from_string(start().to_string()).unwrap());
    let views = [Arc::new(View::of(stage.call()))];
    let socket = socket("8-a", &identity, &views);
    let inbound =
        Inbound { name: "screen:share:start", args: &[&raw], attachments: &[], wants_ack: false, now_ms: 0 };
    let Action::Run(Command::Call { call, act }, then) = dialect().event(&socket, &inbound).remove(0) else {
        panic!()
    };
    let actor = Actor { who: Person::of(&identity), device: "8-a".into() };
    let refused = stage.decide(call.unwrap(), Some(actor), act).unwrap_err();
    let [Action::Emit { event, args }] = &then(&socket, Err(refused))[..] else { panic!() };
    assert_eq!(
        (event.as_ref(), body(args)),
        ("screen:error", json!({ "message": "already_sharing", "code": "already_sharing", "callId": "C1" }))
    );
}

#[test]
fn control_is_asked_of_the_sharer_granted_used_and_taken_back() {
    let mut stage = conference();
    let input = || json!({ "callId": "C1", "x": 1, "userId": "7" });
    stage.say("7-a", "screen:share:start", json!({ "callId": "C1", "hasAudio": false, "quality": "high" }));
    let (rooms, _) = heard(&mut stage, "8-a", "screen:remote:request", json!({ "callId": "C1" }));
    assert_eq!(rooms, ".seat:C1:7 -8-a", "nobody else can grant it");
    assert_eq!(stage.say("8-a", "screen:remote:input", input()).code(), "not_granted");

    let grant = json!({ "callId": "C1", "requesterId": "8", "granted": true });
    assert_eq!(stage.say("9-a", "screen:remote:response", grant.clone()).code(), "not_sharing");
    let (rooms, body_told) = heard(&mut stage, "7-a", "screen:remote:response", grant);
    assert_eq!(
        (&*rooms, &body_told["requesterId"], &body_told["userId"]),
        (".call:C1 -7-a", &json!("8"), &json!(7))
    );

    let said = stage.say("8-a", "screen:remote:input", input());
    assert_eq!((said.ack(), said.told.len()), (&json!({ "success": true }), 0));
    let (room, event, args) = &said.relayed[0];
    assert_eq!((&**room, &**event), (".seat:C1:7", "screen:remote:input"));
    assert_eq!(body(args), json!({ "callId": "C1", "x": 1, "userId": "8" }));
    assert_eq!(stage.say("9-a", "screen:remote:input", input()).code(), "not_granted");
    assert_eq!(stage.say("8-b", "screen:remote:input", input()).code(), "not_in_call");
    let other = json!({ "callId": "C1", "sharerId": "9" });
    assert_eq!(stage.say("8-a", "screen:remote:input", other).code(), "not_granted");

    heard(&mut stage, "7-a", "screen:remote:revoke", json!({ "callId": "C1", "requesterId": "8" }));
    assert_eq!(stage.say("8-a", "screen:remote:input", input()).code(), "not_granted");
}

#[test]
fn a_pointer_is_passed_on_and_never_kept() {
    let mut stage = conference();
    let before = stage.call().clone();
    let pointer = json!({ "callId": "C1", "type": "pointer", "data": { "x": 1 } });
    let said = stage.say("8-a", "screen:annotation:add", pointer);
    let (room, event, args) = &said.relayed[0];
    assert_eq!((&**room, &**event), (".call:C1", "screen:annotation:add"));
    assert_eq!(body(args)["userId"], "8");
    assert_eq!(*stage.call(), before);
    let large = json!({ "callId": "C1", "type": "pointer", "data": "x".repeat(200) });
    assert_eq!(stage.say("8-a", "screen:annotation:add", large.clone()).code(), "over_limit");
    let mut large = large;
    large["type"] = "draw".into();
    assert_eq!(stage.say("8-a", "screen:annotation:add", large).code(), "over_limit");
    let elsewhere = json!({ "callId": "C1", "type": "pointer" });
    assert_eq!(stage.say("6-a", "screen:annotation:add", elsewhere).code(), "not_in_call");
}

#[test]
fn who_leaves_takes_its_screen_and_its_control_along() {
    let mut stage = conference();
    stage.say("7-a", "screen:share:start", json!({ "callId": "C1", "hasAudio": false, "quality": "high" }));
    stage.say("8-a", "screen:remote:request", json!({ "callId": "C1" }));
    stage.say(
        "7-a",
        "screen:remote:response",
        json!({ "callId": "C1", "requesterId": "8", "granted": true }),
    );
    let story = stage.say("8-a", "conference:video:leave", json!({ "callId": "C1" })).story();
    let revoked = json!({ "callId": "C1", "userId": 7, "requesterId": "8" });
    assert_eq!(story[0], (".call:C1".into(), "screen:remote:revoke".into(), revoked));
    let story = stage.say("7-a", "conference:video:leave", json!({ "callId": "C1" })).story();
    assert_eq!(
        story[0],
        (".call:C1".into(), "screen:share:stop".into(), json!({ "callId": "C1", "userId": 7 }))
    );
}

#[test]
fn wrong_words_are_answered_clearly_and_told_to_nobody() {
    let mut stage = conference();
    for (name, payload) in [
        ("video:stream:start", json!({ "callId": "C1", "hasVideo": 1, "hasAudio": true })),
        ("video:stream:start", json!({ "callId": "C1", "hasVideo": true })),
        ("video:control:toggle", json!({ "callId": "C1", "action": "mute_all" })),
        ("video:quality:change", json!({ "callId": "C1", "quality": "" })),
        ("video:quality:change", json!({ "callId": "C1", "quality": "x".repeat(65) })),
        ("screen:share:start", json!({ "callId": "C1", "hasAudio": true, "quality": "ultra" })),
        ("screen:quality:change", json!({ "callId": "C1", "quality": 3 })),
        ("screen:remote:response", json!({ "callId": "C1", "requesterId": "8", "granted": "yes" })),
        ("screen:remote:response", json!({ "callId": "C1", "granted": true })),
        ("screen:annotation:add", json!({ "callId": "C1", "type": "erase" })),
        ("screen:annotation:add", json!({ "callId": "C1" })),
        ("video:stream:stop", json!({})),
        ("screen:share:stop", json!([])),
    ] {
        let said = stage.say("8-a", name, payload.clone());
        assert_eq!((said.code(), said.told.len()), ("invalid_payload", 0), "{name} {payload}");
    }
    let payload = r#"{"callId":"C1","x":{"_placeholder":true,"num":0}}"#;
    let binary = stage.say_raw("8-a", "video:stream:stop", payload, &[Bytes::from_static(b"x")]);
    assert_eq!(binary.code(), "invalid_payload");
    let large = json!({ "callId": "C1", "x": "x".repeat(400) });
    assert_eq!(stage.say("8-a", "video:stream:stop", large).code(), "over_limit");
    for name in ["video:stream:stop", "screen:annotation:add"] {
        let payload = json!({ "callId": "C1", "type": "clear" });
        assert_eq!(stage.say("6-a", name, payload).code(), "unknown_call", "{name}");
    }
    let mut ringing = Stage::new();
    ringing.say("7-a", "call:initiate", json!({ "receiverId": "9", "callType": "video" }));
    assert_eq!(ringing.say("7-a", "video:stream:stop", json!({ "callId": "C1" })).code(), "call_not_active");
}
