//! What a back end asks of an application: typed calls in the application's own words, and the plain ones that every application has
//! (emit to a user, a room, a role, everyone). A dialect translates a call into [`BackendAction`]s; the gateway that took the call
//! carries them out.

use std::borrow::Cow;

use domain::{Rejection, RoomId, UserId};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::{Delivery, Notice, Out, Post};

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
    /// Keeps a notification until its user has read it, then tells it on all of the user's devices.
    Notify(Box<Notice>),
    /// Kept for [`Command::Recall`](crate::Command::Recall).
    Fact(Fact),
    /// Keeps an entry in one of [`Dialect::feeds`](crate::Dialect::feeds), then tells it.
    Record(Box<Record>),
    /// The user's sockets enter and leave rooms, on every node; those that connect later do not.
    Move {
        user: UserId,
        join: Vec<RoomId>,
        leave: Vec<RoomId>,
    },
    /// Closes the user's connections and refuses all tokens of the user from now on, until [`Self::Restore`].
    Revoke(UserId),
    /// The user's tokens are good again.
    Restore(UserId),
}

/// Something that only the back end knows and rights depend on. The last word counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Fact {
    /// Named by the dialect; any text.
    pub key: String,
    pub value: Value,
}

/// An entry of a feed, and the events that tell of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// [`FeedSpec::name`](crate::FeedSpec::name).
    pub feed: &'static str,
    /// Its arguments, one JSON value, are the entry.
    pub told: BackendEmission,
    /// Afterwards this event `{ seq }`, the entry's number, is told in this room.
    pub numbered: Option<(RoomId, &'static str)>,
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
