//! The one domain behind every application: ids, identities, rights, chat, calls, presence, rejections. Pure values; `now` is an
//! argument.

pub mod call;
pub mod chat;
pub mod ice;
mod identity;
pub mod notification;
pub mod presence;
mod rejection;
mod rights;
mod room;

pub use chat::ChatLimits;
pub use identity::{Identity, UserId};
pub use rejection::Rejection;
pub use rights::{Rights, RightsError, Rule};
pub use room::RoomId;
