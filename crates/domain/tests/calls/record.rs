//! The call as it is stored.

use domain::call::{Act, Call, Event, MediaAct, MediaChange, View};

use crate::stage::{Stage, end, media, user};

fn through_the_store<T: serde::Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
    rmp_serde::from_slice(&rmp_serde::to_vec_named(value).unwrap()).unwrap()
}

#[test]
fn calls_events_and_views_come_back_as_they_went() {
    let mut stage = Stage::live_conference();
    let draw = Act::Media(MediaAct { what: MediaChange::Annotate, payload: r#"{"x":1.5}"#.into() });
    let acts = [
        ("a1", media(MediaChange::ShareStart { audio: false, quality: "high".into() })),
        ("b1", media(MediaChange::StreamStart { video: true, audio: false })),
        ("b1", media(MediaChange::ControlRequest { sharer: None })),
        ("a1", media(MediaChange::ControlRespond { requester: user("b"), granted: true })),
        ("c1", draw),
        ("c1", Act::Progress),
        ("c1", Act::Leave),
    ];
    for (device, act) in acts {
        let events = stage.events(device, act);
        assert_eq!(through_the_store::<Vec<Event>>(&events), events);
        assert_eq!(through_the_store(stage.call()), *stage.call());
    }
    stage.devices("b", &[]);
    assert_eq!(through_the_store(stage.call()), *stage.call());
    let view = View::of(stage.call());
    assert_eq!(through_the_store(&view), view);
    assert_eq!((view.seats.len(), view.controls.len(), view.sharers.len()), (2, 1, 1));
    stage.events("a1", end());
    let over: Call = through_the_store(stage.call());
    assert_eq!(over, *stage.call());
    assert!(View::of(&over).seats.is_empty() && View::of(&over).sharers.is_empty());
}

#[test]
fn users_records_come_back_as_they_went() {
    let stage = Stage::live_pair();
    for calls in stage.users.values() {
        assert_eq!(through_the_store(calls), *calls);
    }
}
