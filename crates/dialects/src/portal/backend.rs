//! The typed calls of this application's back end. What it publishes passes through untouched; the ids beside it say to whom.

use domain::{Rejection, RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Portal, rooms};
use crate::{BackendAction, BackendCall, BackendEmission, BackendVerb, Delivery, Out};

/// The calls there are.
const VERBS: &[BackendVerb] = &[
    BackendVerb {
        name: "new-message",
        summary: "A new message about a patient: `message:new` to the patient's room.",
        example: r#"{"patientId":"7","message":{"id":"m1","text":"Your results are here"}}"#,
    },
    BackendVerb {
        name: "appointment-new",
        summary: "A new appointment: `appointment:new` to the rooms of the patient and of the doctor.",
        example: r#"{"patientId":"7","appointment":{"id":"a1","doctorId":"3","startsAt":"2026-01-31T12:00:00.000Z"}}"#,
    },
    BackendVerb {
        name: "appointment-update",
        summary: "A changed appointment: `appointment:update` to the rooms of the patient and of the doctor.",
        example: r#"{"patientId":"7","appointment":{"id":"a1","doctorId":"3","status":"confirmed"}}"#,
    },
    BackendVerb {
        name: "appointment-cancelled",
        summary: "A cancelled appointment: `appointment:cancelled` to the rooms of the patient and of the doctor.",
        example: r#"{"patientId":"7","appointment":{"id":"a1","doctorId":"3","status":"cancelled"}}"#,
    },
    BackendVerb {
        name: "treatment-update",
        summary: "A changed treatment: `treatment:update` to the patient's room.",
        example: r#"{"patientId":"7","treatment":{"id":"t1","status":"completed"}}"#,
    },
];

impl Portal {
    pub(crate) const VERBS: &'static [BackendVerb] = VERBS;

    pub(crate) fn backend(&self, call: &BackendCall<'_>) -> Result<Vec<BackendAction>, Rejection> {
        let told = match call.name {
            "new-message" => message(call)?,
            "appointment-new" => appointment(call, "appointment:new")?,
            "appointment-update" => appointment(call, "appointment:update")?,
            "appointment-cancelled" => appointment(call, "appointment:cancelled")?,
            "treatment-update" => treatment(call)?,
            _ => return Err(Rejection::UnknownEvent),
        };
        Ok(vec![BackendAction::Emit(told)])
    }
}

/// Bodies of all calls; each has its own object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    #[serde(default)]
    patient_id: Value,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    appointment: Option<&'a RawValue>,
    #[serde(borrow)]
    treatment: Option<&'a RawValue>,
}

/// What clients are told: the object and the ids.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    appointment: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    treatment: Option<&'a RawValue>,
    patient_id: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    doctor_id: Option<Value>,
}

fn message(call: &BackendCall<'_>) -> Result<BackendEmission, Rejection> {
    let body = read(call)?;
    let room = rooms::of_patient(&id(&body.patient_id, "patientId")?);
    let message = Some(object(body.message, "message")?);
    let told =
        Told { message, appointment: None, treatment: None, patient_id: body.patient_id, doctor_id: None };
    Ok(emission("message:new", vec![room], &told))
}

/// The doctor is the one whom the appointment names.
fn appointment(call: &BackendCall<'_>, event: &'static str) -> Result<BackendEmission, Rejection> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Appointment {
        #[serde(default)]
        doctor_id: Value,
    }

    let body = read(call)?;
    let mut rooms = vec![rooms::of_patient(&id(&body.patient_id, "patientId")?)];
    let appointment = object(body.appointment, "appointment")?;
    let named: Appointment = serde_json::from_str(appointment.get())
        .map_err(|_| Rejection::InvalidPayload { field: "appointment", problem: "cannot be read" })?;
    let doctor_id = Some(named.doctor_id).filter(|doctor| !doctor.is_null());
    if let Some(doctor) = &doctor_id {
        rooms.push(rooms::of_doctor(&id(doctor, "appointment.doctorId")?));
    }
    let told = Told {
        message: None,
        appointment: Some(appointment),
        treatment: None,
        patient_id: body.patient_id,
        doctor_id,
    };
    Ok(emission(event, rooms, &told))
}

fn treatment(call: &BackendCall<'_>) -> Result<BackendEmission, Rejection> {
    let body = read(call)?;
    let room = rooms::of_patient(&id(&body.patient_id, "patientId")?);
    let treatment = Some(object(body.treatment, "treatment")?);
    let told =
        Told { message: None, appointment: None, treatment, patient_id: body.patient_id, doctor_id: None };
    Ok(emission("treatment:update", vec![room], &told))
}

fn emission(event: &'static str, rooms: Vec<RoomId>, told: &Told<'_>) -> BackendEmission {
    BackendEmission {
        rooms,
        event: event.into(),
        args: Out::json(told),
        except: Vec::new(),
        delivery: Delivery::Recoverable,
    }
}

fn read<'a>(call: &BackendCall<'a>) -> Result<Body<'a>, Rejection> {
    let invalid = Rejection::InvalidPayload { field: "body", problem: "must be a JSON object" };
    if !call.body.get().trim_start().starts_with('{') {
        return Err(invalid);
    }
    serde_json::from_str(call.body.get()).map_err(|_| invalid)
}

fn id(value: &Value, field: &'static str) -> Result<UserId, Rejection> {
    let problem = if value.is_null() { "is missing" } else { "must be a non-empty string or an integer" };
    UserId::from_json(value).ok_or(Rejection::InvalidPayload { field, problem })
}

fn object<'a>(raw: Option<&'a RawValue>, field: &'static str) -> Result<&'a RawValue, Rejection> {
    let raw = raw.ok_or(Rejection::InvalidPayload { field, problem: "is missing" })?;
    let is_object = raw.get().trim_start().starts_with('{');
    is_object.then_some(raw).ok_or(Rejection::InvalidPayload { field, problem: "must be an object" })
}
