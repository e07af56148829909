//! The one domain behind every application: ids, identities, rights, chat, rejections. Pure values; `now` is an argument.

pub mod chat;
mod identity;
mod rejection;
mod rights;
mod room;

pub use chat::ChatLimits;
pub use identity::{Identity, UserId};
pub use rejection::Rejection;
pub use rights::{Rights, RightsError, Rule};
pub use room::RoomId;
