//! What this application's clients see of a call.

use domain::call::{Call, CallId, Control, Kind, Leg, Medium, Person, Seat, Share, Stream};
use domain::{RoomId, UserId};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::payload::Payload;
use crate::Out;
use crate::time::iso8601;

/// The room of all of a user's devices.
pub fn user_room(user: &UserId) -> RoomId {
    RoomId::new(format!("user:{user}")).expect("user ids are shorter than room names")
}

/// A user object: the name is never absent.
pub fn person(person: &Person) -> Value {
    let username = person.name.as_deref().unwrap_or(person.user.as_str());
    json!({ "id": person.wire_id, "username": username })
}

/// A user's id as it was first written in this call.
pub fn user_id(call: &Call, user: &UserId) -> Value {
    call.seat(user).map_or_else(|| user.as_str().into(), |seat| seat.who.wire_id.clone())
}

pub fn medium(medium: Medium) -> &'static str {
    match medium {
        Medium::Audio => "audio",
        Medium::Video => "video",
    }
}

/// `call:incoming`.
pub fn incoming(call: &Call) -> Value {
    let mut body = about(call);
    body.insert("caller".into(), person(call.caller()));
    if call.kind == Kind::Conference {
        body.insert("participants".into(), call.seats.iter().map(|seat| person(&seat.who)).collect());
    }
    body.into()
}

/// `call:active`: a call that goes on without this device, or rings.
pub fn active(call: &Call) -> Value {
    let mut body = about(call);
    body.insert("status".into(), call.status.name().into());
    body.insert("caller".into(), person(call.caller()));
    body.insert("participants".into(), call.seats.iter().map(participant).collect());
    if let Some(at) = call.accepted_ms {
        body.insert("acceptedAt".into(), iso8601(at).into());
    }
    body.into()
}

/// `conference:created`, without what is the creator's own.
pub fn created(call: &Call) -> Map<String, Value> {
    let mut body = about(call);
    body.insert("status".into(), call.status.name().into());
    body.insert("participants".into(), call.seats.iter().map(participant).collect());
    body
}

/// What a call is, whoever is told.
fn about(call: &Call) -> Map<String, Value> {
    let mut body = Map::new();
    body.insert("callId".into(), call.id.as_str().into());
    body.insert("callType".into(), medium(call.medium).into());
    if call.kind == Kind::Conference {
        body.insert("conference".into(), true.into());
    }
    for (key, value) in [("chatId", &call.subject.chat), ("title", &call.subject.title)] {
        if let Some(value) = value {
            body.insert(key.into(), value.clone());
        }
    }
    body
}

fn participant(seat: &Seat) -> Value {
    let mut body = person(&seat.who);
    body["userId"] = seat.who.wire_id.clone();
    body["state"] = leg(&seat.leg).into();
    body
}

fn leg(leg: &Leg) -> &'static str {
    match leg {
        Leg::Ringing => "ringing",
        Leg::Joined { .. } => "joined",
        Leg::Lost { .. } => "lost",
        Leg::Declined => "declined",
        Leg::Missed => "missed",
        Leg::Left => "left",
    }
}

/// `video:state`: everybody in the call, with or without a stream.
pub fn video_state(call: &Call) -> Value {
    let streams = &call.media.streams;
    let present = call.seats.iter().filter(|seat| seat.leg.is_in());
    let participants: Vec<Value> = present
        .map(|seat| stream(seat, streams.iter().find(|stream| stream.user == seat.who.user)))
        .collect();
    json!({ "callId": call.id, "participants": participants })
}

fn stream(seat: &Seat, stream: Option<&Stream>) -> Value {
    json!({
        "userId": seat.who.wire_id,
        "hasVideo": stream.is_some_and(|it| it.video),
        "hasAudio": stream.is_some_and(|it| it.audio),
        "videoMuted": stream.is_some_and(|it| it.video_muted),
        "audioMuted": stream.is_some_and(|it| it.audio_muted),
        "quality": stream.and_then(|it| it.quality.as_deref()),
    })
}

/// `screen:state`: who shares, who controls, what is drawn.
pub fn screen_state(call: &Call) -> Out {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ScreenState<'a> {
        call_id: &'a CallId,
        sharers: Vec<Value>,
        controls: Vec<Value>,
        annotations: Vec<Box<RawValue>>,
    }

    let media = &call.media;
    Out::json(&ScreenState {
        call_id: &call.id,
        sharers: media.shares.iter().map(|share| sharer(call, share)).collect(),
        controls: media.controls.iter().map(|it| control(call, it)).collect(),
        annotations: media.annotations.iter().map(|it| with_user(call, &it.user, &it.payload)).collect(),
    })
}

fn sharer(call: &Call, share: &Share) -> Value {
    json!({ "userId": user_id(call, &share.user), "hasAudio": share.audio, "quality": share.quality })
}

fn control(call: &Call, control: &Control) -> Value {
    json!({
        "sharerId": user_id(call, &control.sharer),
        "requesterId": user_id(call, &control.requester),
        "granted": control.granted,
    })
}

/// A client's payload as the others see it. Only objects get into a call; of anything else the ids are left.
pub fn with_user(call: &Call, user: &UserId, payload: &str) -> Box<RawValue> {
    let id = user_id(call, user);
    let text = match Payload::parse(payload) {
        Some(payload) => payload.with("userId", &id),
        None => json!({ "callId": call.id, "userId": id }).to_string(),
    };
    RawValue::from_string(text).expect("an object made of JSON values")
}
