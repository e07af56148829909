//! The typed calls of the back end.

use super::*;
use crate::{BackendAction, BackendCall, BackendEmission, Delivery};

fn call(name: &str, body: &str) -> Result<BackendEmission, Rejection> {
    let body = RawValue::from_string(body.to_owned()).unwrap();
    let actions = dialect().backend(&BackendCall { name, body: &body, now_ms: 0 })?;
    let [BackendAction::Emit(told)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((told.delivery, told.except.len()), (Delivery::Recoverable, 0));
    Ok(told.clone())
}

/// Event, rooms, and the arguments as they go out.
fn told(name: &str, body: &str) -> (String, Vec<String>, String) {
    let told = call(name, body).unwrap();
    let rooms = names(told.rooms.iter().map(RoomId::as_str));
    (told.event.to_string(), rooms, String::from_utf8(told.args.tail).unwrap())
}

#[test]
fn each_call_has_its_event_and_its_rooms() {
    let (event, rooms, args) = told("new-message", r#"{"patientId":7,"message":{"b":1,"a":[1.50]}}"#);
    assert_eq!((&*event, rooms), ("message:new", vec!["patient:7".to_owned()]));
    // Untouched: the order of keys and the writing of numbers too.
    assert_eq!(args, r#"{"message":{"b":1,"a":[1.50]},"patientId":7}"#);
    for (name, event) in [
        ("appointment-new", "appointment:new"),
        ("appointment-update", "appointment:update"),
        ("appointment-cancelled", "appointment:cancelled"),
    ] {
        let with_doctor = told(name, r#"{"patientId":"7","appointment":{"id":1,"doctorId":3},"x":0}"#);
        assert_eq!((&*with_doctor.0, with_doctor.1), (event, names(["patient:7", "doctor:3"])));
        assert_eq!(with_doctor.2, r#"{"appointment":{"id":1,"doctorId":3},"patientId":"7","doctorId":3}"#);
        let without = told(name, r#"{"patientId":"7","appointment":{"doctorId":null}}"#);
        assert_eq!(
            (without.1, &*without.2),
            (names(["patient:7"]), r#"{"appointment":{"doctorId":null},"patientId":"7"}"#)
        );
    }
    let (event, rooms, args) = told("treatment-update", r#"{"patientId":"7","treatment":{"id":2}}"#);
    assert_eq!((&*event, rooms), ("treatment:update", names(["patient:7"])));
    assert_eq!(args, r#"{"treatment":{"id":2},"patientId":"7"}"#);
}

#[test]
fn wrong_bodies_are_refused_with_the_field() {
    let cases = [
        ("new-message", "[]", "body"),
        ("new-message", r#"{"message":{}}"#, "patientId"),
        ("new-message", r#"{"patientId":null,"message":{}}"#, "patientId"),
        ("new-message", r#"{"patientId":{},"message":{}}"#, "patientId"),
        ("new-message", r#"{"patientId":7}"#, "message"),
        ("new-message", r#"{"patientId":7,"message":"hello"}"#, "message"),
        ("appointment-new", r#"{"patientId":7,"message":{}}"#, "appointment"),
        ("appointment-new", r#"{"patientId":7,"appointment":{"doctorId":{}}}"#, "appointment.doctorId"),
        ("treatment-update", r#"{"patientId":7,"treatment":[]}"#, "treatment"),
    ];
    for (name, body, expected) in cases {
        match call(name, body) {
            Err(Rejection::InvalidPayload { field, .. }) => assert_eq!(field, expected, "{name} {body}"),
            other => panic!("{name} {body}: {other:?}"),
        }
    }
    assert_eq!(call("nonsense", "{}"), Err(Rejection::UnknownEvent));
}

#[test]
fn every_verb_has_an_example_that_works() {
    for verb in Portal::VERBS {
        call(verb.name, verb.example).unwrap();
    }
}
