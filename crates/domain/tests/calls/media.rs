//! Streams, screens, remote control, annotations.

use domain::call::{Act, Control, Event, Limit, MediaAct, MediaChange, Mute, Refusal, Share, Stream};

use crate::stage::{Stage, media, user};

fn share() -> Act {
    media(MediaChange::ShareStart { audio: true, quality: "high".into() })
}

fn request(sharer: Option<&str>) -> Act {
    media(MediaChange::ControlRequest { sharer: sharer.map(user) })
}

fn respond(requester: &str, granted: bool) -> Act {
    media(MediaChange::ControlRespond { requester: user(requester), granted })
}

fn revoke(requester: Option<&str>) -> Act {
    media(MediaChange::ControlRevoke { requester: requester.map(user) })
}

fn draw(payload: &str) -> Act {
    Act::Media(MediaAct { what: MediaChange::Annotate, payload: payload.into() })
}

fn control(sharer: &str, requester: &str, granted: bool) -> Control {
    Control { sharer: user(sharer), requester: user(requester), granted }
}

/// `a1` shares its screen and has given control to `b`.
fn controlled() -> Stage {
    let mut stage = Stage::live_conference();
    stage.events("a1", share());
    stage.events("b1", request(None));
    stage.events("a1", respond("b", true));
    stage
}

fn drawn(stage: &Stage) -> Vec<&str> {
    stage.call().media.annotations.iter().map(|it| &*it.payload).collect()
}

#[test]
fn a_late_joiner_finds_streams_as_they_are() {
    let mut stage = Stage::live_conference();
    stage.events("b1", media(MediaChange::Mute(Mute::MuteAudio)));
    stage.events("a1", media(MediaChange::StreamStart { video: true, audio: true }));
    stage.events("a1", media(MediaChange::Mute(Mute::MuteVideo)));
    stage.events("a1", media(MediaChange::StreamQuality { quality: "low".into() }));
    let of_b = Stream {
        user: user("b"),
        video: false,
        audio: false,
        video_muted: false,
        audio_muted: true,
        quality: None,
    };
    let of_a = Stream {
        user: user("a"),
        video: true,
        audio: true,
        video_muted: true,
        audio_muted: false,
        quality: Some("low".into()),
    };
    assert_eq!(stage.call().media.streams, [of_b, of_a]);
    stage.events("a1", media(MediaChange::Mute(Mute::UnmuteVideo)));
    assert!(!stage.call().media.streams[1].video_muted);
    stage.events("a1", media(MediaChange::StreamStop));
    stage.events("b1", Act::Leave);
    assert_eq!(stage.call().media.streams, []);
}

#[test]
fn a_lost_connection_says_nothing_about_the_media() {
    let mut stage = controlled();
    let before = stage.call().media.clone();
    stage.devices("a", &[]);
    stage.events("a2", Act::Rejoin);
    assert_eq!(stage.call().media, before);
}

#[test]
fn one_shares_at_a_time_unless_configured() {
    let mut stage = Stage::live_conference();
    stage.events("a1", share());
    assert_eq!(stage.refusal("b1", share()), Refusal::AlreadySharing);
    stage.events("a1", media(MediaChange::ShareStart { audio: false, quality: "low".into() }));
    stage.events("a1", media(MediaChange::ShareQuality { quality: "medium".into() }));
    let shared = Share { user: user("a"), audio: false, quality: "medium".into() };
    assert_eq!(stage.call().media.shares, [shared]);
    stage.settings.many_sharers = true;
    stage.events("b1", share());
    stage.events("a1", media(MediaChange::ShareStop));
    assert_eq!(stage.refusal("a1", media(MediaChange::ShareStop)), Refusal::NotSharing);
    assert_eq!(stage.call().media.shares.len(), 1);
}

#[test]
fn control_is_asked_for_granted_and_taken_back() {
    let mut stage = Stage::live_conference();
    assert_eq!(stage.refusal("b1", request(None)), Refusal::NotSharing);
    stage.events("a1", share());
    let told = stage.events("b1", request(None));
    let named = |event: &Event| matches!(event, Event::Media { act, .. } if act.what == MediaChange::ControlRequest { sharer: Some(user("a")) });
    assert!(told.iter().any(named), "{told:?}");
    assert_eq!(stage.call().media.controls, [control("a", "b", false)]);
    stage.events("a1", respond("b", true));
    stage.events("b1", request(Some("a")));
    assert_eq!(stage.call().media.controls, [control("a", "b", true)], "asking again takes nothing back");
    stage.events("a1", revoke(Some("b")));
    assert_eq!(stage.call().media.controls, []);
    assert_eq!(stage.refusal("a1", revoke(None)), Refusal::NotGranted);
}

#[test]
fn whom_one_cannot_ask_answer_or_revoke() {
    let mut stage = controlled();
    assert_eq!(stage.refusal("a1", request(None)), Refusal::Oneself);
    assert_eq!(stage.refusal("a1", request(Some("a"))), Refusal::Oneself);
    assert_eq!(stage.refusal("b1", request(Some("c"))), Refusal::NotSharing);
    assert_eq!(stage.refusal("b1", request(Some("d"))), Refusal::NoSuchParticipant("d".into()));
    assert_eq!(stage.refusal("a1", respond("c", true)), Refusal::NotRequested);
    assert_eq!(stage.refusal("c1", respond("b", true)), Refusal::NotSharing);
    assert_eq!(stage.refusal("c1", revoke(Some("b"))), Refusal::NotGranted);
    assert_eq!(stage.refusal("c1", revoke(None)), Refusal::NotGranted);
    assert_eq!(stage.refusal("b1", revoke(Some("c"))), Refusal::NotGranted);
}

#[test]
fn a_refused_request_is_forgotten_and_control_can_be_given_up() {
    let mut stage = controlled();
    stage.events("c1", request(None));
    stage.events("a1", respond("c", false));
    assert_eq!(stage.call().media.controls, [control("a", "b", true)]);
    let told = stage.events("b1", revoke(None));
    let own = |event: &Event| matches!(event, Event::Media { act, .. } if act.what == MediaChange::ControlRevoke { requester: Some(user("b")) });
    assert!(told.iter().any(own), "{told:?}");
    assert_eq!(stage.call().media.controls, []);
}

#[test]
fn with_the_screen_goes_control_over_it_and_what_was_drawn() {
    let mut stage = controlled();
    stage.events("b1", draw("1"));
    stage.events("a1", media(MediaChange::ShareStop));
    assert_eq!(stage.call().media, Default::default());
}

#[test]
fn what_was_drawn_stays_while_somebody_shares_or_nobody_did() {
    let mut stage = Stage::live_conference();
    stage.settings.many_sharers = true;
    stage.events("b1", draw("1"));
    stage.events("b1", Act::Leave);
    assert_eq!(drawn(&stage), ["1"]);
    stage.events("a1", share());
    stage.events("c1", share());
    stage.events("c1", media(MediaChange::ShareStop));
    assert_eq!(drawn(&stage), ["1"]);
}

#[test]
fn who_leaves_takes_screen_and_control_along() {
    let told = controlled().events("a1", Act::Leave);
    assert_eq!(told, [Event::ShareEnded { user: user("a") }, Event::Left { user: user("a"), lost: false }]);
    let told = controlled().events("b1", Act::Leave);
    let ended = Event::ControlEnded { sharer: user("a"), controller: user("b") };
    assert_eq!(told, [ended, Event::Left { user: user("b"), lost: false }]);
    let mut stage = controlled();
    stage.events("c1", request(None));
    assert_eq!(stage.events("c1", Act::Leave).len(), 1, "a request was never granted");
    assert_eq!(stage.call().media.controls, [control("a", "b", true)]);
    let mut stage = controlled();
    assert_eq!(stage.events("a1", Act::End { said: None }).len(), 1, "an end is told alone");
    assert_eq!(stage.call().media, Default::default());
}

#[test]
fn annotations_are_kept_within_bounds_oldest_go_first() {
    let mut stage = Stage::live_conference();
    stage.settings.annotations = 3;
    stage.settings.annotations_bytes = 6;
    stage.settings.annotation_bytes = 4;
    for one in ["1", "2", "3", "4"] {
        stage.events("b1", draw(one));
    }
    assert_eq!(drawn(&stage), ["2", "3", "4"]);
    let told = stage.events("c1", draw("5555"));
    assert_eq!(told[1..], [Event::AnnotationsDropped { oldest: 1 }]);
    assert_eq!(drawn(&stage), ["3", "4", "5555"]);
    stage.events("c1", draw("666"));
    assert_eq!(drawn(&stage), ["666"]);
    let over = Refusal::OverLimit { limit: Limit::AnnotationBytes, max: 4 };
    assert_eq!(stage.refusal("c1", draw("77777")), over);
    stage.events("a1", media(MediaChange::ClearAnnotations));
    assert!(drawn(&stage).is_empty());
}

#[test]
fn only_a_device_in_a_live_call_speaks_of_media() {
    let mut stage = Stage::live_conference();
    assert_eq!(stage.refusal("b2", share()), Refusal::OtherDevice);
    assert_eq!(stage.refusal("d1", share()), Refusal::NotIn);
    assert_eq!(stage.refusal("z1", share()), Refusal::UnknownCall);
    let mut waiting = Stage::with(domain::call::Kind::OneToOne, "a1", &["b"]);
    assert_eq!(waiting.refusal("a1", share()), Refusal::NotLive);
}
