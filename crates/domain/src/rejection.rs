//! Why a command was not carried out. One list for all applications; a dialect may word a rejection differently.

/// A refused command: nothing was stored and nobody was told.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("Room access denied")]
    RoomDenied,
    /// No rule grants this right; the application's hook, if there is one, has not been asked yet.
    #[error("Room access denied")]
    NotGranted { right: Box<str> },
    /// The application's hook gave no answer that could be used: nobody is let in on a doubt.
    #[error("Room access denied: the right could not be checked, try again")]
    HookUnavailable,
    #[error("Invalid room: {0}")]
    InvalidRoom(&'static str),
    #[error("Not a member of this room")]
    NotMember,
    #[error("{field}: {problem}")]
    InvalidPayload { field: &'static str, problem: &'static str },
    #[error("{what} is over the limit of {limit} ({setting})")]
    OverLimit { what: &'static str, limit: u64, setting: &'static str },
    #[error("Unknown event")]
    UnknownEvent,
    /// In applications without tokens: the connection has not said yet who it is.
    #[error("Say who you are first: send `join`")]
    Unidentified,
    /// The user has no such notification: never had, or read it long ago, or it was dropped.
    #[error("Notification not found")]
    UnknownNotification,
    /// A token of a live connection that proves nothing, or proves to be somebody else's.
    #[error("Authentication failed")]
    InvalidToken,
    #[error("Authentication failed: the token has expired")]
    ExpiredToken,
    /// The token, or every token of its user, was revoked.
    #[error("Authentication failed: the token was revoked")]
    RevokedToken,
    #[error(transparent)]
    Call(#[from] crate::call::Refusal),
    #[error(transparent)]
    Chat(#[from] crate::chat::Refusal),
    /// The bus did not confirm in time. The command may be repeated.
    #[error("Service unavailable, try again")]
    Unavailable,
}

impl Rejection {
    /// Stable machine name, for `code` in replies and as a metrics label.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RoomDenied | Self::NotGranted { .. } => "room_denied",
            Self::HookUnavailable => "hook_unavailable",
            Self::InvalidRoom(_) => "invalid_room",
            Self::NotMember => "not_member",
            Self::InvalidPayload { .. } => "invalid_payload",
            Self::OverLimit { .. } => "over_limit",
            Self::UnknownEvent => "unknown_event",
            Self::Unidentified => "unidentified",
            Self::UnknownNotification => "unknown_notification",
            Self::InvalidToken => "invalid_token",
            Self::ExpiredToken => "expired_token",
            Self::RevokedToken => "revoked_token",
            Self::Call(refusal) => refusal.code(),
            Self::Chat(refusal) => refusal.code(),
            Self::Unavailable => "unavailable",
        }
    }
}
