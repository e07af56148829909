//! The one domain behind every application: ids, identities, rights, commands, events, rejections. Pure values; `now` is an argument.

mod identity;

pub use identity::{Identity, UserId};
