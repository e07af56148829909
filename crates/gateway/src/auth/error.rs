//! Why a token is refused, and what clients and operators hear of it.

use dialects::TokenFailure;
use domain::Rejection;

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error("there is no token")]
    Missing,
    #[error("the token is longer than allowed")]
    TooLarge,
    #[error("the token is no JSON Web Token")]
    Malformed,
    #[error("the token's algorithm is not one of those configured")]
    Algorithm,
    #[error("the token's signature fits no configured key")]
    Signature,
    /// A newer set of keys may have it.
    #[error("the token names no known key, or was signed with another")]
    UnknownKey,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token was issued by somebody else")]
    Issuer,
    #[error("the token was issued for another audience")]
    Audience,
    #[error("the token names no user")]
    NoUser,
    #[error("the token was revoked")]
    Revoked,
    #[error("the application's hook does not let the user in")]
    UnknownUser,
    /// Nothing is known against the token: its key could not be fetched, or the hook gave no answer.
    #[error("the token cannot be checked now: {0}")]
    Unavailable(&'static str),
}

impl TokenError {
    /// As applications distinguish it; `None`: the client is to come again.
    pub fn failure(self) -> Option<TokenFailure> {
        Some(match self {
            Self::Missing => TokenFailure::Missing,
            Self::Expired => TokenFailure::Expired,
            Self::Revoked => TokenFailure::Revoked,
            Self::UnknownUser => TokenFailure::UnknownUser,
            Self::Unavailable(_) => return None,
            _ => TokenFailure::Invalid,
        })
    }

    /// Label of the metric of refused tokens.
    pub fn name(self) -> &'static str {
        match self.failure() {
            Some(TokenFailure::Missing) => "missing",
            Some(TokenFailure::Invalid) => "invalid",
            Some(TokenFailure::Expired) => "expired",
            Some(TokenFailure::Revoked) => "revoked",
            Some(TokenFailure::UnknownUser) => "unknown_user",
            None => "unavailable",
        }
    }

    /// What a further token of a live connection is answered with.
    pub fn rejection(self) -> Rejection {
        match self.failure() {
            Some(TokenFailure::Expired) => Rejection::ExpiredToken,
            Some(TokenFailure::Revoked | TokenFailure::UnknownUser) => Rejection::RevokedToken,
            Some(TokenFailure::Missing | TokenFailure::Invalid) => Rejection::InvalidToken,
            None => Rejection::Unavailable,
        }
    }
}
