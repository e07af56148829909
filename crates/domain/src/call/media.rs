//! What a late joiner must know about streams, screens, remote control and annotations.

use serde::{Deserialize, Serialize};

use crate::UserId;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MediaState {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<Stream>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
    /// Requests that were not answered and controls that were granted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controls: Vec<Control>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Annotation>,
}

/// A participant's camera and microphone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stream {
    pub user: UserId,
    pub video: bool,
    pub audio: bool,
    #[serde(default)]
    pub video_muted: bool,
    #[serde(default)]
    pub audio_muted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quality: Option<Box<str>>,
}

/// A shared screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    pub user: UserId,
    pub audio: bool,
    pub quality: Box<str>,
}

/// Control over a shared screen, asked for or granted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    pub sharer: UserId,
    pub requester: UserId,
    pub granted: bool,
}

/// A drawing or text on a shared screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Annotation {
    pub user: UserId,
    /// The client's JSON object.
    pub payload: Box<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mute {
    MuteVideo,
    UnmuteVideo,
    MuteAudio,
    UnmuteAudio,
}
