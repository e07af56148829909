//! Who may enter: finds the token of a connection, verifies it, makes it an [`Identity`](domain::Identity). Starts at [`Verifier`].
//!
//! The algorithms are fixed by configuration and each key is tied to those of its own family at build time, so a token can choose
//! neither `none` nor a public key as an HMAC secret. Rights to rooms, expiry timers and error words are others' business.

mod config;
mod error;
mod jwks;
mod source;
mod verifier;

#[cfg(test)]
mod jwks_tests;
#[cfg(test)]
mod test_keys;
#[cfg(test)]
mod tests;

pub use config::{ClaimNames, PublicKeyConfig, TokenConfig};
pub use error::TokenError;
pub use jsonwebtoken::Algorithm;
pub use jwks::Jwks;
pub use source::{Source, SourceError, find_token};
pub use verifier::Verifier;
pub(crate) use verifier::secret_of;
