//! What a late joiner must know about streams, screens, remote control and annotations.

use serde::{Deserialize, Serialize};

use super::{MediaAct, MediaChange};
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

impl MediaState {
    pub fn is_shared_by(&self, user: &UserId) -> bool {
        self.shares.iter().any(|share| share.user == *user)
    }

    /// Makes a change that was allowed so; what does not fit the state changes nothing.
    pub(super) fn change(&mut self, user: &UserId, act: &MediaAct) {
        match &act.what {
            MediaChange::StreamStart { video, audio } => {
                *self.stream_mut(user) = Stream { video: *video, audio: *audio, ..Stream::none(user) };
            }
            MediaChange::StreamStop => self.streams.retain(|stream| stream.user != *user),
            MediaChange::Mute(mute) => self.stream_mut(user).mute(*mute),
            MediaChange::StreamQuality { quality } => self.stream_mut(user).quality = Some(quality.clone()),
            MediaChange::ShareStart { audio, quality } => self.start_share(user, *audio, quality),
            MediaChange::ShareStop => self.end_share(user),
            MediaChange::ShareQuality { quality } => {
                let share = self.shares.iter_mut().find(|share| share.user == *user);
                share.into_iter().for_each(|share| share.quality = quality.clone());
            }
            MediaChange::ControlRequest { sharer } => {
                sharer.iter().for_each(|sharer| self.request_control(sharer, user));
            }
            MediaChange::ControlRespond { requester, granted: true } => self.grant_control(user, requester),
            MediaChange::ControlRespond { requester, granted: false } => self.end_control(user, requester),
            MediaChange::ControlRevoke { requester } => self.revoke_control(user, requester.as_ref()),
            MediaChange::Annotate => {
                self.annotations.push(Annotation { user: user.clone(), payload: act.payload.clone() });
            }
            MediaChange::ClearAnnotations => self.annotations.clear(),
        }
    }

    /// With the last screen go the annotations: there is nothing they would be drawn on.
    pub(super) fn end_share(&mut self, user: &UserId) {
        let shared = self.is_shared_by(user);
        self.shares.retain(|share| share.user != *user);
        self.controls.retain(|control| control.sharer != *user);
        if shared && self.shares.is_empty() {
            self.annotations.clear();
        }
    }

    pub(super) fn end_control(&mut self, sharer: &UserId, requester: &UserId) {
        self.controls.retain(|control| control.sharer != *sharer || control.requester != *requester);
    }

    /// The user is gone. What it has drawn stays.
    pub(super) fn forget(&mut self, user: &UserId) {
        self.streams.retain(|stream| stream.user != *user);
        self.end_share(user);
        self.controls.retain(|control| control.requester != *user);
    }

    pub(super) fn drop_oldest_annotations(&mut self, count: usize) {
        self.annotations.drain(..count.min(self.annotations.len()));
    }

    /// A mute or a quality may come before the stream it is about.
    fn stream_mut(&mut self, user: &UserId) -> &mut Stream {
        let at = self.streams.iter().position(|stream| stream.user == *user).unwrap_or_else(|| {
            self.streams.push(Stream::none(user));
            self.streams.len() - 1
        });
        &mut self.streams[at]
    }

    fn start_share(&mut self, user: &UserId, audio: bool, quality: &str) {
        let share = Share { user: user.clone(), audio, quality: quality.into() };
        match self.shares.iter_mut().find(|known| known.user == *user) {
            Some(known) => *known = share,
            None => self.shares.push(share),
        }
    }

    /// Asking again changes nothing, also where control was granted.
    fn request_control(&mut self, sharer: &UserId, requester: &UserId) {
        let known = |it: &Control| it.sharer == *sharer && it.requester == *requester;
        if !self.controls.iter().any(known) {
            let (sharer, requester) = (sharer.clone(), requester.clone());
            self.controls.push(Control { sharer, requester, granted: false });
        }
    }

    fn grant_control(&mut self, sharer: &UserId, requester: &UserId) {
        let mut controls = self.controls.iter_mut();
        let asked = controls.find(|it| it.sharer == *sharer && it.requester == *requester);
        asked.into_iter().for_each(|control| control.granted = true);
    }

    fn revoke_control(&mut self, user: &UserId, requester: Option<&UserId>) {
        match requester {
            None => self.controls.retain(|control| control.sharer != *user),
            Some(own) if own == user => self.controls.retain(|control| control.requester != *user),
            Some(requester) => self.end_control(user, requester),
        }
    }
}

impl Stream {
    fn none(user: &UserId) -> Self {
        Self {
            user: user.clone(),
            video: false,
            audio: false,
            video_muted: false,
            audio_muted: false,
            quality: None,
        }
    }

    fn mute(&mut self, mute: Mute) {
        match mute {
            Mute::MuteVideo => self.video_muted = true,
            Mute::UnmuteVideo => self.video_muted = false,
            Mute::MuteAudio => self.audio_muted = true,
            Mute::UnmuteAudio => self.audio_muted = false,
        }
    }
}
