//! Calls: `table` is every state × every command, `random` is what holds after any commands, `stories` and `media` are what users
//! see. All of them drive a [`stage::Stage`].

#![allow(clippy::unwrap_used)]

mod media;
mod promises;
mod random;
mod record;
mod stage;
mod stories;
mod table;
