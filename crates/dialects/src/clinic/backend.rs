//! The six typed calls of the back end: each becomes one event with exactly its keys, for whom it is for. Any of them may carry
//! `audit`, and then administrators hear of it as `admin:event` too.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use domain::{Rejection, RoomId, UserId};
use serde_json::json;

use super::{ClinicSettings, feeds, rooms};
use crate::number::id_json;
use crate::{BackendAction, BackendCall, BackendEmission, BackendVerb, Delivery, Out, Record, everyone};
use fields::{Body, Payload};

mod fields;

pub const VERBS: &[BackendVerb] = &[
    BackendVerb {
        name: "catalog-update",
        summary: "The catalogue changed: `catalog:update` to everyone, kept for clients that were away.",
        example: r#"{"type":"exam","action":"updated","entityId":12,"entityName":"Hemograma","audit":{"userId":1}}"#,
    },
    BackendVerb {
        name: "user-update",
        summary: "A user changed: `user:update` to that user. `deactivate` (or an action like `deactivated`) also closes the user's connections and refuses the user's tokens, until an action like `activated`.",
        example: r#"{"userId":7,"type":"profile","action":"updated","changes":{"email":"a@example.org"}}"#,
    },
    BackendVerb {
        name: "admin-event",
        summary: "An administrator did something: `admin:event` to administrators, kept in the audit feed.",
        example: r#"{"eventType":"catalog","entityType":"exam","entityId":12,"action":"updated","userId":1}"#,
    },
    BackendVerb {
        name: "appointment-update",
        summary: "An appointment changed: `appointment:update` to its patient and to administrators.",
        example: r#"{"appointmentId":3,"patientId":7,"action":"confirmed","appointment":{"room":"B2"}}"#,
    },
    BackendVerb {
        name: "result-update",
        summary: "A result changed: `result:update` to its patient and to administrators. `pdf` (base64) arrives as bytes.",
        example: r#"{"resultId":7,"patientId":7,"examName":"Hemograma","status":"ready"}"#,
    },
    BackendVerb {
        name: "system-message",
        summary: "A word to everyone, or to one role: `system:message`.",
        example: r#"{"type":"info","message":"Mantenimiento a las 22:00","targetRole":"Medico"}"#,
    },
];

/// What follows from a call.
pub fn translate(settings: &ClinicSettings, call: &BackendCall<'_>) -> Result<Vec<BackendAction>, Rejection> {
    let body = Body::read(call.body.get(), settings.text_chars, call.now_ms)?;
    match call.name {
        "catalog-update" => catalog(settings, &body),
        "user-update" => user(settings, &body),
        "admin-event" => admin(settings, &body),
        "appointment-update" => appointment(settings, &body),
        "result-update" => result(settings, &body),
        "system-message" => system(settings, &body),
        _ => Err(Rejection::UnknownEvent),
    }
}

fn catalog(settings: &ClinicSettings, body: &Body<'_>) -> Result<Vec<BackendAction>, Rejection> {
    let kind = body.one_of("type", &["exam", "price", "category", "package", "location"])?;
    let action = body.one_of("action", &["created", "updated", "deleted"])?;
    let entity = body.id("entityId")?;
    let payload = Payload::new()
        .with("type", &kind)
        .with("action", &action)
        .with("entityId", &id_json(entity.as_str()))
        .with_some("entityName", body.optional_text("entityName")?)
        .with("timestamp", &body.timestamp()?);
    let event = event("catalog:update", vec![everyone()], payload.text());
    let record =
        Record { feed: feeds::CATALOG, told: event, numbered: Some((rooms::catalog(), feeds::CATALOG_SEQ)) };
    let audit = audited(settings, body, "catalog:update", kind, Some(&entity), action)?;
    Ok([BackendAction::Record(Box::new(record))].into_iter().chain(audit).collect())
}

fn user(settings: &ClinicSettings, body: &Body<'_>) -> Result<Vec<BackendAction>, Rejection> {
    let user = body.id("userId")?;
    let (kind, action) = (body.text("type")?, body.text("action")?);
    let payload = Payload::new()
        .with("type", &kind)
        .with("action", &action)
        .with_some("changes", body.raw("changes"))
        .with("timestamp", &body.timestamp()?);
    let mut told = vec![rooms::of_user(&user)];
    told.extend(rooms::of_entity("user", &user));
    let deactivates = body.flag("deactivate")?.unwrap_or(settings.deactivating.contains(&action));
    let reactivates = !deactivates && settings.reactivating.contains(&action);
    let audit = audited(settings, body, "user:update", "user", Some(&user), &action)?;
    let emit = BackendAction::Emit(event("user:update", told, payload.text()));
    // The user hears of it, and then no more.
    let follows = match (deactivates, reactivates) {
        (true, _) => Some(BackendAction::Revoke(user)),
        (_, true) => Some(BackendAction::Restore(user)),
        _ => None,
    };
    Ok([emit].into_iter().chain(audit).chain(follows).collect())
}

fn admin(settings: &ClinicSettings, body: &Body<'_>) -> Result<Vec<BackendAction>, Rejection> {
    let payload = Payload::new()
        .with("eventType", &body.text("eventType")?)
        .with("entityType", &body.text("entityType")?)
        .with("entityId", &body.id_or_null("entityId")?)
        .with("action", &body.text("action")?)
        .with("userId", &id_json(body.id("userId")?.as_str()))
        .with_some("data", body.raw("data"))
        .with("timestamp", &body.timestamp()?);
    Ok(vec![recorded(settings, payload)?])
}

fn appointment(settings: &ClinicSettings, body: &Body<'_>) -> Result<Vec<BackendAction>, Rejection> {
    let (appointment, patient) = (body.id("appointmentId")?, body.id("patientId")?);
    let action = body.one_of("action", &["created", "updated", "cancelled", "confirmed"])?;
    let payload = Payload::new()
        .with("appointmentId", &id_json(appointment.as_str()))
        .with("patientId", &id_json(patient.as_str()))
        .with("action", &action)
        .with_some("appointment", body.raw("appointment"))
        .with("timestamp", &body.timestamp()?);
    let told = concerned(settings, "appointment", &appointment, &patient)?;
    let audit = audited(settings, body, "appointment:update", "appointment", Some(&appointment), action)?;
    let emit = BackendAction::Emit(event("appointment:update", told, payload.text()));
    Ok([emit].into_iter().chain(audit).collect())
}

fn result(settings: &ClinicSettings, body: &Body<'_>) -> Result<Vec<BackendAction>, Rejection> {
    let (result, patient) = (body.id("resultId")?, body.id("patientId")?);
    let status = body.one_of("status", &["pending", "ready", "delivered"])?;
    let pdf = pdf(settings, body)?;
    let payload = Payload::new()
        .with("resultId", &id_json(result.as_str()))
        .with("patientId", &id_json(patient.as_str()))
        .with("examName", &body.text("examName")?)
        .with("status", &status)
        .with_some("pdf", pdf.as_ref().map(|_| json!({ "_placeholder": true, "num": 0 })))
        .with("timestamp", &body.timestamp()?);
    let told = concerned(settings, "result", &result, &patient)?;
    let audit = audited(settings, body, "result:update", "result", Some(&result), status)?;
    let mut emission = event("result:update", told, payload.text());
    emission.args.attachments.extend(pdf);
    Ok([BackendAction::Emit(emission)].into_iter().chain(audit).collect())
}

fn system(settings: &ClinicSettings, body: &Body<'_>) -> Result<Vec<BackendAction>, Rejection> {
    let kind = body.one_of("type", &["info", "warning", "error", "success"])?;
    let role = body.optional_text("targetRole")?;
    let payload = Payload::new()
        .with("type", &kind)
        .with("message", &body.text("message")?)
        .with_some("targetRole", role.as_deref())
        .with("timestamp", &body.timestamp()?);
    let room = role.as_deref().map_or_else(|| Ok(everyone()), rooms::of_role)?;
    let audit = audited(settings, body, "system:message", "system", None, kind)?;
    let emit = BackendAction::Emit(event("system:message", vec![room], payload.text()));
    Ok([emit].into_iter().chain(audit).collect())
}

/// A patient, the administrators, and who subscribed to the entity or to the patient.
fn concerned(
    settings: &ClinicSettings,
    entity: &str,
    id: &UserId,
    patient: &UserId,
) -> Result<Vec<RoomId>, Rejection> {
    let own = [rooms::of_user(patient), rooms::of_role(&settings.administrator)?];
    let subscribed = rooms::of_entity(entity, id).into_iter().chain(rooms::of_entity("patient", patient));
    Ok(own.into_iter().chain(subscribed).collect())
}

/// The `admin:event` of a call that says who did it: `audit` `{ userId, eventType?, data? }`.
fn audited(
    settings: &ClinicSettings,
    body: &Body<'_>,
    event_type: &str,
    entity_type: &str,
    entity: Option<&UserId>,
    action: &str,
) -> Result<Option<BackendAction>, Rejection> {
    let Some(audit) = body.object("audit")? else { return Ok(None) };
    let payload = Payload::new()
        .with("eventType", &audit.optional_text("eventType")?.as_deref().unwrap_or(event_type))
        .with("entityType", &entity_type)
        .with("entityId", &entity.map(|id| id_json(id.as_str())))
        .with("action", &action)
        .with("userId", &id_json(audit.id("userId")?.as_str()))
        .with_some("data", audit.raw("data"))
        .with("timestamp", &body.timestamp()?);
    recorded(settings, payload).map(Some)
}

fn recorded(settings: &ClinicSettings, payload: Payload) -> Result<BackendAction, Rejection> {
    let told = event("admin:event", vec![rooms::of_role(&settings.administrator)?], payload.text());
    let record = Record { feed: feeds::AUDIT, told, numbered: None };
    Ok(BackendAction::Record(Box::new(record)))
}

fn pdf(settings: &ClinicSettings, body: &Body<'_>) -> Result<Option<Bytes>, Rejection> {
    let Some(encoded) = body.base64("pdf")? else { return Ok(None) };
    let over = Rejection::OverLimit {
        what: "size of the PDF",
        limit: settings.pdf_bytes as u64,
        setting: "clinic.pdf_bytes",
    };
    if encoded.len() / 4 * 3 > settings.pdf_bytes + 2 {
        return Err(over);
    }
    let bytes = BASE64_STANDARD
        .decode(encoded.as_bytes())
        .map_err(|_| Rejection::InvalidPayload { field: "pdf", problem: "must be base64" })?;
    if bytes.len() > settings.pdf_bytes { Err(over) } else { Ok(Some(bytes.into())) }
}

fn event(name: &'static str, rooms: Vec<RoomId>, payload: String) -> BackendEmission {
    BackendEmission {
        rooms,
        event: name.into(),
        args: Out::raw(payload, Vec::new()),
        except: Vec::new(),
        delivery: Delivery::Recoverable,
    }
}
