//! What is kept of a call and of a user's presence besides themselves: what the last revisions of a call tell the clients, which
//! choices of a status were made.

use std::collections::VecDeque;

use bytes::Bytes;
use dialects::Announcement;
use domain::UserId;
use domain::call::{Call, CommandId};
use domain::presence::Presence;
use serde::{Deserialize, Serialize};

/// How long a revision's announcement, and whom it touched, stays in the record: far longer than a replica takes to store it, or another to notice.
const KEPT_MS: u64 = 10_000;
/// How many stay at most.
const KEPT: usize = 32;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    pub call: Call,
    /// The newest last. Whoever stores the announcement of a revision stores the earlier ones first, so that clients hear in order
    /// whatever becomes of a replica.
    #[serde(default)]
    pub told: Vec<Told>,
    /// Whose records follow from the last revisions: a follower of this record sees that they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub touched: Vec<Touched>,
}

/// A user of whom a revision says something else than the one before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Touched {
    pub user: UserId,
    pub at_ms: u64,
    /// Came back with a device that may be gone already: whoever folded that saw another one in the call.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub back: bool,
}

/// What one revision tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub rev: u64,
    pub at_ms: u64,
    /// For the gateways of those in the call: `domain::call::View`, encoded. Empty: not about a call.
    #[serde(default)]
    pub view: Bytes,
    pub announcements: Vec<Announcement>,
}

impl CallRecord {
    /// The record after a revision that tells `news` and touches these users, and what it does not tell any longer.
    pub fn next(
        previous: Option<&Self>,
        call: Call,
        news: Told,
        mut touches: Vec<Touched>,
    ) -> (Self, Vec<Told>) {
        let kept_from_ms = news.at_ms.saturating_sub(KEPT_MS);
        let mut told: Vec<Told> = previous.map(|record| record.told.clone()).unwrap_or_default();
        let old = told.iter().take_while(|told| told.at_ms < kept_from_ms).count();
        let surplus = (told.len() + 1).saturating_sub(KEPT);
        let dropped = told.drain(..old.max(surplus)).collect();
        let mut touched: Vec<Touched> = previous.map(|record| record.touched.clone()).unwrap_or_default();
        for new in &mut touches {
            new.back |= touched.iter().any(|it| it.user == new.user && it.back);
        }
        touched.retain(|it| it.at_ms >= kept_from_ms && touches.iter().all(|new| new.user != it.user));
        touched.extend(touches);
        told.push(news);
        (Self { call, told, touched }, dropped)
    }

    /// Users whom the next revision, if it is made now, names no longer: it looks at their records itself.
    pub fn left_alone(&self, now_ms: u64) -> impl Iterator<Item = &UserId> {
        let old = move |touched: &&Touched| touched.at_ms < now_ms.saturating_sub(KEPT_MS);
        self.touched.iter().filter(old).map(|touched| &touched.user)
    }

    /// What stands under the id of a call that is not made, because another one is answered instead: a repeat of the command
    /// looks there, and makes none. Stored before the answer is: only a call that remembers the command was answered by it.
    pub fn instead(answered: &Call) -> Self {
        Self { call: answered.clone(), told: Vec::new(), touched: Vec::new() }
    }
}

/// A user's presence as it is stored: gateways read it as a [`Presence`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PresenceRecord {
    #[serde(flatten)]
    pub presence: Presence,
    /// The last choices that were made, newest last: a repeat does not undo a later one.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub done: VecDeque<CommandId>,
}

/// How many choices a record remembers: a device makes one at a time, and repeats it for seconds only.
const CHOICES: usize = 16;

impl PresenceRecord {
    /// Whether it was not made before.
    pub fn is_new(&self, choice: CommandId) -> bool {
        !self.done.contains(&choice)
    }

    pub fn remember(&mut self, choice: CommandId) {
        if self.done.len() >= CHOICES {
            self.done.pop_front();
        }
        self.done.push_back(choice);
    }
}
