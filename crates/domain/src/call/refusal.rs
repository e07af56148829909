//! Why a command for a call was refused. Nothing changed then and nobody was told.

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Also said of calls one has no seat in: whether they exist is nobody else's business.
    #[error("Call not found")]
    UnknownCall,
    #[error("The call is over")]
    Over,
    #[error("The call is not active")]
    NotLive,
    /// Answered by this user already, or by somebody else in a call of two.
    #[error("The call was already answered")]
    AlreadyAnswered,
    /// Nothing rings for this user.
    #[error("The call is not ringing")]
    NotRinging,
    #[error("You cannot call yourself")]
    Oneself,
    #[error("Nobody was invited")]
    NobodyInvited,
    #[error("The user is busy")]
    Busy,
    #[error("The user does not want to be disturbed")]
    DoNotDisturb,
    /// The user takes part, but with another device.
    #[error("Another device of yours is in this call")]
    OtherDevice,
    /// The user has a seat and is not in the call.
    #[error("You are not in this call")]
    NotIn,
    #[error("{0} is not in this call")]
    NoSuchParticipant(Box<str>),
    #[error("Only for conferences")]
    NotConference,
    #[error("already_sharing")]
    AlreadySharing,
    #[error("Nobody shares a screen")]
    NotSharing,
    #[error("Remote control was not requested")]
    NotRequested,
    #[error("Remote control was not granted")]
    NotGranted,
    #[error("{} is over the limit of {max} ({})", .limit.what(), .limit.setting())]
    OverLimit { limit: Limit, max: u64 },
}

/// What may not be exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    CallsPerUser,
    Participants,
    SignalBytes,
    AnnotationBytes,
}

impl Limit {
    pub fn what(self) -> &'static str {
        match self {
            Self::CallsPerUser => "number of concurrent calls",
            Self::Participants => "number of participants",
            Self::SignalBytes => "signal size",
            Self::AnnotationBytes => "annotation size",
        }
    }

    /// The key that sets it, inside the application's section.
    pub fn setting(self) -> &'static str {
        match self {
            Self::CallsPerUser => "calls.per_user",
            Self::Participants => "calls.participants",
            Self::SignalBytes => "calls.signal_bytes",
            Self::AnnotationBytes => "calls.annotation_bytes",
        }
    }
}

impl Refusal {
    /// Stable machine name, for `code` in replies and as a metrics label.
    pub fn code(&self) -> &'static str {
        match self {
            Self::UnknownCall => "unknown_call",
            Self::Over => "call_over",
            Self::NotLive => "call_not_active",
            Self::AlreadyAnswered => "already_answered",
            Self::NotRinging => "not_ringing",
            Self::Oneself => "self_call",
            Self::NobodyInvited => "nobody_invited",
            Self::Busy => "busy",
            Self::DoNotDisturb => "do_not_disturb",
            Self::OtherDevice => "other_device",
            Self::NotIn => "not_in_call",
            Self::NoSuchParticipant(_) => "no_such_participant",
            Self::NotConference => "not_a_conference",
            Self::AlreadySharing => "already_sharing",
            Self::NotSharing => "not_sharing",
            Self::NotRequested => "not_requested",
            Self::NotGranted => "not_granted",
            Self::OverLimit { .. } => "over_limit",
        }
    }
}
