//! Calls: one machine for calls of two and for conferences. [`decide`] says what a command makes of a call, [`apply`] makes it
//! so; both are pure and are told the time. A call is one value, committed as a whole; who reads it may trust every field.
//!
//! Start at [`Call`] and [`Act`]. What a user may have at once is kept in [`UserCalls`], committed with the call.

mod act;
mod apply;
mod decide;
mod event;
mod media;
mod refusal;
mod settings;
mod user;
mod view;

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use act::{Act, Actor, Command, CommandId, Invite, MediaAct, MediaChange, Offer};
pub use apply::apply;
pub use decide::{Decision, World, concerned, decide, glare};
pub use event::Event;
pub use media::{Annotation, Control, MediaState, Mute, Share, Stream};
pub use refusal::{Limit, Refusal};
pub use settings::CallSettings;
pub use user::{UserCall, UserCallState, UserCalls};
pub use view::{View, ViewSeat, call_room, is_call_room, seat_room};

use crate::{Identity, UserId};

/// A call's id, minted by the gateway that takes the first command: a repeated command makes no second call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(Box<str>);

impl CallId {
    pub const MAX_BYTES: usize = 64;

    /// `None` unless it is 1 to [`CallId::MAX_BYTES`] letters, digits, `-` or `_`: ids stand in subjects as they are.
    pub fn new(id: impl Into<Box<str>>) -> Option<Self> {
        let id = id.into();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (!id.is_empty() && id.len() <= Self::MAX_BYTES && id.bytes().all(plain)).then_some(Self(id))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for CallId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The device in a call: the id of its socket, which stays the same when its session changes transport or node.
pub type DeviceId = Box<str>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Two seats; ends when either leaves.
    OneToOne,
    /// Many seats; ends with the last one in it.
    Conference,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Medium {
    Audio,
    Video,
}

/// Where a call stands. Only the last four are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Made, and no device of an invited user is connected yet. Rings as soon as one is.
    Initiating,
    Ringing,
    /// Answered; its duration counts from here.
    Accepted,
    /// The devices have begun to negotiate media.
    InProgress,
    /// After an answer, or cancelled by the caller before it.
    Ended,
    /// Declined by everybody who was invited.
    Rejected,
    /// Not answered in time.
    Missed,
    /// Technical trouble, reported by a device.
    Failed,
}

impl Status {
    pub const ALL: [Self; 8] = [
        Self::Initiating,
        Self::Ringing,
        Self::Accepted,
        Self::InProgress,
        Self::Ended,
        Self::Rejected,
        Self::Missed,
        Self::Failed,
    ];

    /// Answered and not over: signals pass.
    pub fn is_live(self) -> bool {
        matches!(self, Self::Accepted | Self::InProgress)
    }

    pub fn is_waiting(self) -> bool {
        matches!(self, Self::Initiating | Self::Ringing)
    }

    pub fn is_over(self) -> bool {
        !self.is_live() && !self.is_waiting()
    }

    /// As clients see it, and as a metrics label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Initiating => "initiating",
            Self::Ringing => "ringing",
            Self::Accepted => "accepted",
            Self::InProgress => "in_progress",
            Self::Ended => "ended",
            Self::Rejected => "rejected",
            Self::Missed => "missed",
            Self::Failed => "failed",
        }
    }
}

/// Why a call is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// Somebody hung up after the answer.
    HungUp,
    /// The caller gave up before the answer.
    Cancelled,
    Rejected,
    /// Nobody answered in time.
    Missed,
    /// A participant's connection was lost and did not come back in time.
    ConnectionLost,
    Failed,
}

impl EndReason {
    /// As clients see it, and as a metrics label.
    pub fn name(self) -> &'static str {
        match self {
            Self::HungUp => "hung_up",
            Self::Cancelled => "cancelled",
            Self::Rejected => "rejected",
            Self::Missed => "missed",
            Self::ConnectionLost => "connection_lost",
            Self::Failed => "failed",
        }
    }
}

/// A user in a call, as the others see it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Person {
    pub user: UserId,
    /// As clients see the id: string or number.
    pub wire_id: Value,
    pub name: Option<Box<str>>,
    pub role: Option<Box<str>>,
}

impl Person {
    pub fn of(identity: &Identity) -> Self {
        Self {
            user: identity.user.clone(),
            wire_id: identity.wire_id(),
            name: identity.name.clone(),
            role: identity.role.clone(),
        }
    }
}

/// What the caller said about the call; passed on as it came.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visit: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<Value>,
}

/// One user's place in a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Seat {
    pub who: Person,
    pub leg: Leg,
}

/// A seat's connection to the call. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Leg {
    /// Invited: the user's devices ring.
    Ringing,
    /// In the call with one device, since then. The caller is joined from the start.
    Joined {
        device: DeviceId,
        since_ms: u64,
    },
    /// The device's connection is lost; the seat is kept until then. `since_ms`: when it had joined.
    Lost {
        device: DeviceId,
        since_ms: u64,
        until_ms: u64,
    },
    Declined,
    Missed,
    Left,
}

impl Leg {
    /// The device that is in the call, lost or not.
    pub fn device(&self) -> Option<&DeviceId> {
        match self {
            Self::Joined { device, .. } | Self::Lost { device, .. } => Some(device),
            _ => None,
        }
    }

    /// In the call, perhaps without connection for a moment.
    pub fn is_in(&self) -> bool {
        self.device().is_some()
    }
}

/// A call as a whole: the record that is committed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    pub id: CallId,
    pub kind: Kind,
    pub medium: Medium,
    pub status: Status,
    #[serde(default)]
    pub subject: Subject,
    /// The caller's (creator's) seat is the first. A user has one seat at most.
    pub seats: Vec<Seat>,
    pub created_ms: u64,
    /// Nobody rings after this.
    pub ring_until_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// Who ended it; `None`: time did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<UserId>,
    /// The reason that the ending or rejecting client gave, as it gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<Box<str>>,
    #[serde(default)]
    pub media: MediaState,
    /// Counts committed decisions from 1: gateways and clients tell old news from new by it.
    pub rev: u64,
    /// The last commands that changed it, newest last: a repeat changes nothing.
    #[serde(default)]
    pub done: VecDeque<CommandId>,
}

/// How many command ids a call remembers: far more than can be repeated inside one command's deadline.
pub const REMEMBERED_COMMANDS: usize = 64;

impl Call {
    pub fn caller(&self) -> &Person {
        &self.seats[0].who
    }

    pub fn seat(&self, user: &UserId) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.who.user == *user)
    }

    pub fn seat_mut(&mut self, user: &UserId) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.who.user == *user)
    }

    /// Seconds from the answer to the end (to `now_ms` while it lasts), rounded down; 0 without an answer.
    pub fn duration_s(&self, now_ms: u64) -> u64 {
        let until = self.ended_ms.unwrap_or(now_ms);
        self.accepted_ms.map_or(0, |from| until.saturating_sub(from) / 1000)
    }

    /// When time alone changes the call next: the ring runs out, or a lost leg's grace. `None`: never.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        if self.status.is_over() {
            return None;
        }
        let rings = self.seats.iter().any(|seat| seat.leg == Leg::Ringing).then_some(self.ring_until_ms);
        let lost = self.seats.iter().filter_map(|seat| match seat.leg {
            Leg::Lost { until_ms, .. } => Some(until_ms),
            _ => None,
        });
        lost.chain(rings).min()
    }
}
