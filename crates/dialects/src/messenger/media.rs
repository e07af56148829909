//! Cameras and microphones: what a participant says of its own stream reaches the others as it came, and is kept for late
//! joiners.

use domain::Rejection;
use domain::call::{Act, MediaAct, MediaChange, Mute};
use serde_json::json;

use super::Ask;
use super::asked::done;
use super::payload::invalid;
use crate::Actions;
use crate::calling::check_signal_size;

/// Longest name of a quality.
const QUALITY_BYTES: usize = 64;

pub fn stream_start(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let (video, audio) = (ask.payload.flag("hasVideo")?, ask.payload.flag("hasAudio")?);
    change(ask, MediaChange::StreamStart { video, audio })
}

pub fn stream_stop(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    change(ask, MediaChange::StreamStop)
}

/// The kept state follows `action`, whatever `enabled` says.
pub fn toggle(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let mute = match &*ask.payload.text("action")? {
        "mute_video" => Mute::MuteVideo,
        "unmute_video" => Mute::UnmuteVideo,
        "mute_audio" => Mute::MuteAudio,
        "unmute_audio" => Mute::UnmuteAudio,
        _ => return Err(invalid("action", "must be mute_video, unmute_video, mute_audio or unmute_audio")),
    };
    change(ask, MediaChange::Mute(mute))
}

pub fn quality(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let quality = ask.payload.text("quality")?;
    if quality.is_empty() || quality.len() > QUALITY_BYTES {
        return Err(invalid("quality", "must have 1 to 64 bytes"));
    }
    change(ask, MediaChange::StreamQuality { quality: quality.into() })
}

/// Tells the call; the others hear of it from the coordinator, under the name that `announce` gives the change.
pub fn change(ask: &Ask<'_>, what: MediaChange) -> Result<Actions, Rejection> {
    let call = ask.payload.call_id()?;
    if !ask.inbound.attachments.is_empty() {
        return Err(invalid("payload", "must hold no binary data"));
    }
    check_signal_size(&ask.dialect.realtime.calls, ask.size())?;
    let act = MediaAct { what, payload: ask.text().into() };
    Ok(ask.run(Some(call), Act::Media(act), |_, call| vec![done(&json!({ "callId": call.id }))]))
}
