//! The six calls of the back end.

use domain::{Rejection, RoomId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::clinic::{Clinic, ClinicSettings};
use crate::{BackendAction, BackendCall, BackendEmission};

fn call(name: &str, body: &str) -> Result<Vec<BackendAction>, Rejection> {
    let settings = ClinicSettings { pdf_bytes: 8, text_chars: 20, ..ClinicSettings::default() };
    let clinic = Clinic::new("/events", vec![], settings).unwrap();
    let raw = RawValue::from_string(body.to_owned()).unwrap();
    clinic.backend(&BackendCall { name, body: &raw, now_ms: 0 })
}

fn emission(action: &BackendAction) -> &BackendEmission {
    match action {
        BackendAction::Emit(emission) => emission,
        BackendAction::Record(record) => &record.told,
        other => panic!("tells nothing: {other:?}"),
    }
}

fn told(action: &BackendAction) -> (&str, Vec<&str>, String) {
    let it = emission(action);
    let rooms = it.rooms.iter().map(RoomId::as_str).collect();
    (&it.event, rooms, String::from_utf8(it.args.tail.clone()).unwrap())
}

const NOW: &str = "1970-01-01T00:00:00.000Z";

#[test]
fn each_call_tells_exactly_its_keys_to_whom_it_is_for() {
    let patient_s = |entity: &'static str| {
        let own = ["user:7".to_owned(), "role:Administrador".to_owned()];
        let entity = [format!("entity:{entity}:3"), format!("entity:{entity}")];
        let patient = ["entity:patient:7".to_owned(), "entity:patient".to_owned()];
        own.into_iter().chain(entity).chain(patient).collect::<Vec<_>>()
    };
    let one = |room: &str| vec![room.to_owned()];
    let cases = [
        (
            "catalog-update",
            r#"{"type":"exam","action":"updated","entityId":"12","entityName":"H","x":1}"#,
            "catalog:update",
            one(".everyone"),
            format!(
                r#"{{"type":"exam","action":"updated","entityId":12,"entityName":"H","timestamp":"{NOW}"}}"#
            ),
        ),
        (
            "catalog-update",
            r#"{"type":"price","action":"deleted","entityId":"a7","timestamp":"2026-01-02T03:04:05.678Z"}"#,
            "catalog:update",
            one(".everyone"),
            r#"{"type":"price","action":"deleted","entityId":"a7","timestamp":"2026-01-02T03:04:05.678Z"}"#
                .to_owned(),
        ),
        (
            "user-update",
            r#"{"userId":7,"type":"profile","action":"updated","changes":{"n": 1.0,"_":[]}}"#,
            "user:update",
            ["user:7", "entity:user:7", "entity:user"].map(str::to_owned).to_vec(),
            format!(
                r#"{{"type":"profile","action":"updated","changes":{{"n": 1.0,"_":[]}},"timestamp":"{NOW}"}}"#
            ),
        ),
        (
            "admin-event",
            r#"{"eventType":"e","entityType":"exam","entityId":"5","action":"created","userId":"1","data":null}"#,
            "admin:event",
            one("role:Administrador"),
            format!(
                r#"{{"eventType":"e","entityType":"exam","entityId":5,"action":"created","userId":1,"timestamp":"{NOW}"}}"#
            ),
        ),
        (
            "appointment-update",
            r#"{"appointmentId":3,"patientId":"7","action":"confirmed","appointment":{"a":null}}"#,
            "appointment:update",
            patient_s("appointment"),
            format!(
                r#"{{"appointmentId":3,"patientId":7,"action":"confirmed","appointment":{{"a":null}},"timestamp":"{NOW}"}}"#
            ),
        ),
        (
            "result-update",
            r#"{"resultId":3,"patientId":7,"examName":"H","status":"ready","timestamp":0}"#,
            "result:update",
            patient_s("result"),
            format!(r#"{{"resultId":3,"patientId":7,"examName":"H","status":"ready","timestamp":"{NOW}"}}"#),
        ),
        (
            "system-message",
            r#"{"type":"info","message":"x"}"#,
            "system:message",
            one(".everyone"),
            format!(r#"{{"type":"info","message":"x","timestamp":"{NOW}"}}"#),
        ),
        (
            "system-message",
            r#"{"type":"error","message":"x","targetRole":"Medico"}"#,
            "system:message",
            one("role:Medico"),
            format!(r#"{{"type":"error","message":"x","targetRole":"Medico","timestamp":"{NOW}"}}"#),
        ),
    ];
    for (name, body, event, rooms, payload) in cases {
        let actions = call(name, body).unwrap();
        assert_eq!(actions.len(), 1, "{name}");
        let rooms: Vec<&str> = rooms.iter().map(String::as_str).collect();
        assert_eq!(told(&actions[0]), (event, rooms, payload), "{name}");
    }
}

#[test]
fn the_publishers_time_goes_out_in_the_form_of_all_times() {
    for (given, told) in [
        (r#""2026-01-02T03:04:05Z""#, "2026-01-02T03:04:05.000Z"),
        (r#""2026-01-02T03:04:05.1+02:00""#, "2026-01-02T01:04:05.100Z"),
        ("951782400000", "2000-02-29T00:00:00.000Z"),
    ] {
        let body = format!(r#"{{"type":"info","message":"x","timestamp":{given}}}"#);
        let actions = call("system-message", &body).unwrap();
        let payload: Value = serde_json::from_slice(&emission(&actions[0]).args.tail).unwrap();
        assert_eq!(payload["timestamp"], told);
    }
}

#[test]
fn the_catalogue_and_what_administrators_do_is_kept() {
    let actions = call("catalog-update", r#"{"type":"exam","action":"created","entityId":1}"#).unwrap();
    let BackendAction::Record(record) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!(record.feed, "catalog");
    assert_eq!(record.numbered, Some((RoomId::new(".catalog").unwrap(), "catalog:seq")));
    let body = r#"{"eventType":"e","entityType":"t","entityId":null,"action":"a","userId":1}"#;
    let actions = call("admin-event", body).unwrap();
    let BackendAction::Record(record) = &actions[0] else { panic!("{actions:?}") };
    assert_eq!((record.feed, &record.numbered), ("audit", &None));
}

#[test]
fn one_call_may_raise_the_administrators_event_too() {
    let body =
        r#"{"type":"exam","action":"created","entityId":1,"audit":{"userId":"9","data":{"ip":"::1"}}}"#;
    let actions = call("catalog-update", body).unwrap();
    let (event, rooms, payload) = told(&actions[1]);
    assert_eq!((event, rooms), ("admin:event", vec!["role:Administrador"]));
    let payload: Value = serde_json::from_str(&payload).unwrap();
    let expected = json!({
        "eventType": "catalog:update", "entityType": "exam", "entityId": 1, "action": "created", "userId": 9,
        "data": { "ip": "::1" }, "timestamp": NOW,
    });
    assert_eq!(payload, expected);
    for wrong in [r#""audit":7"#, r#""audit":{}"#, r#""audit":{"userId":[]}"#] {
        let body = format!(r#"{{"type":"exam","action":"created","entityId":1,{wrong}}}"#);
        assert!(call("catalog-update", &body).is_err(), "{wrong}");
    }
}

#[test]
fn who_is_deactivated_hears_of_it_and_then_no_more() {
    let revokes = |body: &str| {
        let actions = call("user-update", body).unwrap();
        matches!(actions.last(), Some(BackendAction::Revoke(user)) if user.as_str() == "7")
    };
    assert!(revokes(r#"{"userId":7,"type":"account","action":"deactivated","audit":{"userId":1}}"#));
    assert!(revokes(r#"{"userId":7,"type":"account","action":"updated","deactivate":true}"#));
    assert!(!revokes(r#"{"userId":7,"type":"account","action":"deleted","deactivate":false}"#));
    assert!(!revokes(r#"{"userId":7,"type":"account","action":"updated"}"#));
    let restores = |body: &str| {
        let actions = call("user-update", body).unwrap();
        matches!(actions.last(), Some(BackendAction::Restore(user)) if user.as_str() == "7")
    };
    assert!(restores(r#"{"userId":7,"type":"account","action":"activated"}"#));
    assert!(!restores(r#"{"userId":7,"type":"account","action":"deleted","deactivate":false}"#));
    assert!(revokes(r#"{"userId":7,"type":"account","action":"enabled","deactivate":true}"#));
}

#[test]
fn a_pdf_arrives_as_bytes() {
    let body =
        |pdf: &str| format!(r#"{{"resultId":1,"patientId":7,"examName":"H","status":"ready","pdf":{pdf}}}"#);
    let actions = call("result-update", &body(r#""JVBERg==""#)).unwrap();
    let it = emission(&actions[0]);
    assert_eq!(it.args.attachments, [&b"%PDF"[..]]);
    let payload: Value = serde_json::from_slice(&it.args.tail).unwrap();
    assert_eq!(payload["pdf"], json!({ "_placeholder": true, "num": 0 }));
    assert!(call("result-update", &body("null")).is_ok());
    assert!(call("result-update", &body(r#""JVBERjEyMzQ=""#)).is_ok(), "8 bytes");
    for wrong in [r#""?""#, "7", "{}", r#""JVBERjEyMzQ1""#, r#""JVBERjEyMzQ1Njc4OTA=""#] {
        assert!(call("result-update", &body(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn wrong_bodies_are_refused_with_the_field_s_name() {
    let cases = [
        ("catalog-update", "[]", "body"),
        ("catalog-update", r#"{"type":"car","action":"created","entityId":1}"#, "type"),
        ("catalog-update", r#"{"type":"exam","action":"confirmed","entityId":1}"#, "action"),
        ("catalog-update", r#"{"type":"exam","action":"created"}"#, "entityId"),
        ("catalog-update", r#"{"type":"exam","action":"created","entityId":null}"#, "entityId"),
        ("catalog-update", r#"{"type":"exam","action":"created","entityId":1,"entityName":7}"#, "entityName"),
        (
            "catalog-update",
            r#"{"type":"exam","action":"created","entityId":1,"timestamp":"now"}"#,
            "timestamp",
        ),
        ("catalog-update", r#"{"type":"exam","action":"created","entityId":1,"timestamp":-1}"#, "timestamp"),
        ("user-update", r#"{"type":"a","action":"b"}"#, "userId"),
        ("user-update", r#"{"userId":7,"type":"a","action":"b","deactivate":1}"#, "deactivate"),
        ("appointment-update", r#"{"appointmentId":1,"action":"created"}"#, "patientId"),
        ("result-update", r#"{"resultId":1,"patientId":1,"examName":"","status":"ready"}"#, "examName"),
        ("result-update", r#"{"resultId":1,"patientId":1,"examName":"x","status":"lost"}"#, "status"),
        ("system-message", r#"{"type":"info"}"#, "message"),
        ("system-message", r#"{"type":"info","message":"123456789012345678901"}"#, "message"),
        (
            "admin-event",
            r#"{"eventType":"e","entityType":"t","entityId":1,"action":"a","userId":{}}"#,
            "userId",
        ),
        ("admin-event", r#"{"eventType":"e","entityType":"t","action":"a","userId":1}"#, "entityId"),
        (
            "catalog-update",
            r#"{"type":"exam","action":"created","entityId":1,"timestamp":"2026-02-30"}"#,
            "timestamp",
        ),
        (
            "catalog-update",
            r#"{"type":"exam","action":"created","entityId":1,"timestamp":1e30}"#,
            "timestamp",
        ),
    ];
    for (name, body, field) in cases {
        let refused = call(name, body).unwrap_err().to_string();
        assert!(refused.starts_with(field), "{name} {body}: {refused}");
    }
    assert_eq!(call("nonsense", "{}").unwrap_err(), Rejection::UnknownEvent);
}
