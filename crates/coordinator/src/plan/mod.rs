//! What a command needs to know, and what it makes of it: pure, so that a simulation can run it under every order of events.
//!
//! [`call`] and [`presence`] are called with what is known so far and answer with one [`Step`]; the caller loads, commits or
//! replies, and asks again after a load or a conflict. Nothing is remembered between two questions.

pub mod call;
mod known;
pub mod presence;
mod record;

use bytes::Bytes;
use cluster::coordination::Reply;
use domain::UserId;
use domain::call::{CallId, Event};

pub use known::{Entry, Key, Known};
pub use record::{CallRecord, PresenceRecord, Told};

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// These are needed, and were not loaded.
    Load(Vec<Key>),
    /// What was read does not fit together, or may be old: forget it and load at the leader.
    Reload,
    /// Write all or nothing; on a conflict, load anew at the leader.
    Commit(Box<Commit>),
    Done(Box<Done>),
}

/// An atomic batch on one bucket, and what follows it.
#[derive(Debug)]
pub struct Commit {
    /// To be told before it is stored, oldest first: earlier revisions that the record names no longer afterwards. So nothing is
    /// told after what came later, however long whoever committed it pauses.
    pub first: Vec<Tell>,
    pub writes: Vec<Write>,
    /// When the call is to be looked at again.
    pub timer: Option<(CallId, u64)>,
    pub done: Done,
}

/// One key's compare-and-set.
#[derive(Debug, PartialEq, Eq)]
pub struct Write {
    pub key: Key,
    /// `None` deletes.
    pub value: Option<Bytes>,
    /// Revision that was read; 0: there was nothing.
    pub expect: u64,
    pub ttl_ms: Option<u64>,
}

/// The end of a command, once its commit (if there is one) is stored.
#[derive(Debug)]
pub struct Done {
    pub reply: Reply,
    /// To be stored among the application's events before the reply goes out, oldest first; stored already is as good.
    pub tell: Vec<Tell>,
    /// What happened, for metrics; empty for a repeat.
    pub events: Vec<Event>,
}

/// One revision's announcement. `of` and `told.rev` name it: it is stored once.
#[derive(Clone, Debug, PartialEq)]
pub struct Tell {
    pub of: Of,
    pub told: Told,
}

/// Whose revisions are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Of {
    Call(CallId),
    Presence(UserId),
}

impl Done {
    pub fn reply(reply: Reply) -> Self {
        Self { reply, tell: Vec::new(), events: Vec::new() }
    }
}

/// What the planner must know of an application.
#[derive(Debug)]
pub struct App {
    /// As in subjects.
    pub name: String,
    /// Of the sockets that are told.
    pub namespace: String,
    pub dialect: dialects::Dialect,
}
