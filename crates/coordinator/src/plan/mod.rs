//! What a command needs to know, and what it makes of it: pure, so that a simulation can run it under every order of events.
//!
//! [`call`] and [`presence`] are called with what is known so far and answer with one [`Step`]; the caller loads, commits or
//! replies, and asks again after a load or a conflict. Nothing is remembered between two questions.

pub mod call;
mod care;
mod claims;
mod known;
mod mirror;
pub mod presence;
mod record;

use bytes::Bytes;
use cluster::coordination::Reply;
use domain::UserId;
use domain::call::{CallId, Event};

pub use care::{Care, Cares, Leaves, Written};
pub use claims::{Claim, Claims};
pub use known::{Begun, Entry, Key, Known};
pub use record::{CallRecord, PresenceRecord, Told, Touched};

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// These are needed, and were not loaded.
    Load(Vec<Key>),
    /// These are needed; meanwhile write those, which is what a call takes if nothing speaks against it. If one conflicts, load at the
    /// leader and plan anew; else plan on with [`Known::begun`].
    Begin(Box<Begin>),
    /// What was read does not fit together, or may be old: forget it and load at the leader.
    Reload,
    /// Somebody else is in the middle of it: the same after a short pause.
    Wait,
    /// Write these, the first before the others; then, as on a conflict, load at the leader and plan anew.
    Repair(Vec<Write>),
    /// Carry this out; on a conflict, load anew at the leader.
    Commit(Box<Commit>),
    Done(Box<Done>),
}

/// The reservations of a call that begins, made while it is still looked at whom it may ring for.
#[derive(Clone, Debug)]
pub struct Begin {
    pub keys: Vec<Key>,
    /// As [`Commit::before`].
    pub before: Vec<Write>,
    pub timer: Option<(CallId, u64)>,
    /// The moment that the call begins with.
    pub at_ms: u64,
}

/// A decision, and what follows it. No atomic batch: the decision is made with the one write `point`. What is stored before it
/// harms nobody if it never comes; what is stored after it follows from it, and followers see to it.
#[derive(Debug)]
pub struct Commit {
    /// To be told before it is stored, oldest first: earlier revisions that the record names no longer afterwards. So nothing is
    /// told after what came later, however long whoever committed it pauses.
    pub first: Vec<Tell>,
    /// Reservations, stored at once and in any order: of two who want the same two places each may have one (`call::plan` knows who
    /// gives his back).
    pub before: Vec<Write>,
    /// Reservations that were made already, with their revisions.
    pub made: Vec<(Write, u64)>,
    /// When the call is to be looked at again; set before the point, too.
    pub timer: Option<(CallId, u64)>,
    pub point: Write,
    pub after: Vec<Write>,
    /// For [`Care::of`]: what a command for a call leaves behind.
    pub leaves: Option<Box<Leaves>>,
    pub done: Done,
}

/// One key's compare-and-set.
#[derive(Clone, Debug, PartialEq, Eq)]
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
