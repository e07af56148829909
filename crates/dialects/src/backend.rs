//! What a back end asks of an application: typed calls in the application's own words, and the plain ones that every application has
//! (emit to a user, a room, a role, everyone). A dialect translates a call into [`BackendAction`]s; the gateway that took the call
//! carries them out.

use std::borrow::Cow;

use domain::{Rejection, RoomId, UserId};
use serde_json::value::RawValue;

use crate::{Delivery, Out, Post};

/// One call of a back end, its key already checked.
#[derive(Clone, Copy, Debug)]
pub struct BackendCall<'a> {
    /// As in the path and the subject: `new-message`.
    pub name: &'a str,
    /// A JSON object.
    pub body: &'a RawValue,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// What follows from a call, in this order.
#[derive(Debug)]
pub enum BackendAction {
    Emit(BackendEmission),
    /// Stores a message in its room's conversation, then tells it.
    Post(Box<Post>),
}

/// An event for rooms, from no socket.
#[derive(Clone, Debug, PartialEq)]
pub struct BackendEmission {
    /// One copy per socket, however many of the rooms it is in.
    pub rooms: Vec<RoomId>,
    pub event: Cow<'static, str>,
    pub args: Out,
    /// Ids of sockets that are left out.
    pub except: Vec<Box<str>>,
    pub delivery: Delivery,
}

/// Whom a plain emission is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    User(UserId),
    Room(RoomId),
    Role(Box<str>),
    Everyone,
}

/// A typed call, for the description of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendVerb {
    pub name: &'static str,
    /// What it does, in a sentence.
    pub summary: &'static str,
    /// An example body, JSON.
    pub example: &'static str,
}

/// The room of everybody who is connected; no client can name it. Dialects that serve [`Audience::Everyone`] join it for each socket.
pub fn everyone() -> RoomId {
    RoomId::new(".everyone").expect("the name is short")
}

/// The room of everybody with a role; no client can name it.
pub fn everyone_with(role: &str) -> Result<RoomId, Rejection> {
    RoomId::new(format!(".role:{role}")).ok_or(Rejection::InvalidRoom("the role's name is too long"))
}
