//! Screens: shared by one at a time, drawn upon by all, controlled by whom the sharer lets.

use domain::Rejection;
use domain::call::{Limit, MediaChange, Refusal, seat_room};
use serde_json::json;

use super::Ask;
use super::asked::done;
use super::media::change;
use super::payload::invalid;
use crate::Actions;
use crate::calling::{Relay, check_signal_size, relay, seat_in};

pub fn start(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let (audio, quality) = (ask.payload.flag("hasAudio")?, level(ask)?);
    change(ask, MediaChange::ShareStart { audio, quality })
}

pub fn stop(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    change(ask, MediaChange::ShareStop)
}

pub fn quality(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    change(ask, MediaChange::ShareQuality { quality: level(ask)? })
}

/// `sharerId` may be left out while one shares.
pub fn request(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let sharer = ask.payload.user_if_any("sharerId")?.map(|named| named.user);
    change(ask, MediaChange::ControlRequest { sharer })
}

pub fn respond(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let requester = ask.payload.user("requesterId")?.user;
    change(ask, MediaChange::ControlRespond { requester, granted: ask.payload.flag("granted")? })
}

/// The sharer takes control back from `requesterId` or from all; who has control gives it up.
pub fn revoke(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let requester = ask.payload.user_if_any("requesterId")?.map(|named| named.user);
    change(ask, MediaChange::ControlRevoke { requester })
}

/// Straight to the sharer's device, while control is granted; never stored.
pub fn input(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let call = ask.payload.text("callId")?;
    check_signal_size(&ask.dialect.realtime.calls, ask.size())?;
    let wanted = ask.payload.user_if_any("sharerId")?.map(|named| named.user);
    let (view, seat) = seat_in(ask.socket, &call)?;
    let mut granted = view.controls.iter().filter(|(_, controller)| *controller == seat.user);
    let control = granted.find(|(sharer, _)| wanted.as_ref().is_none_or(|wanted| wanted == sharer));
    let (sharer, _) = control.ok_or(Refusal::NotGranted)?;
    let relay = Relay { call: view.call.clone(), to: seat_room(&view.call, sharer), first: false };
    Ok(vec![relay.send("screen:remote:input", ask.passed_on("userId")), done(&json!({}))])
}

/// Kept until cleared, but for the pointer.
pub fn annotate(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    match &*ask.payload.text("type")? {
        "draw" | "text" => change(ask, MediaChange::Annotate),
        "clear" => change(ask, MediaChange::ClearAnnotations),
        "pointer" => pointer(ask),
        _ => Err(invalid("type", "must be draw, pointer, text or clear")),
    }
}

fn pointer(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let max = ask.dialect.realtime.calls.annotation_bytes;
    if ask.size() > max {
        return Err(Refusal::OverLimit { limit: Limit::AnnotationBytes, max: max as u64 }.into());
    }
    let relay = relay(ask.socket, &ask.payload.text("callId")?, None)?;
    Ok(vec![relay.send("screen:annotation:add", ask.passed_on("userId")), done(&json!({}))])
}

fn level(ask: &Ask<'_>) -> Result<Box<str>, Rejection> {
    let quality = ask.payload.text("quality")?;
    match &*quality {
        "low" | "medium" | "high" => Ok(quality.into()),
        _ => Err(invalid("quality", "must be low, medium or high")),
    }
}
