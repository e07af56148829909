//! What a decision changed. Dialects tell clients of it; `apply` makes it so.

use serde::{Deserialize, Serialize};

use super::{Act, DeviceId, EndReason, MediaAct, Person, Status};
use crate::UserId;

/// One change of a call, in the order of the decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The call came to be; its seats are those of the offer.
    Initiated {
        by: super::Actor,
        offer: Box<super::Offer>,
        at_ms: u64,
        ring_until_ms: u64,
    },
    /// A device of an invited user is connected: `Initiating` became `Ringing`.
    Rang,
    /// The user's devices ring (told once for every invited user, at the start).
    Rings {
        user: UserId,
    },
    /// The invited user is not to be disturbed, or has too many calls: its devices do not ring.
    Busy {
        user: UserId,
        do_not_disturb: bool,
    },
    /// First answer: the call is live from `at_ms`. `glare`: the answer was a call of its own in the other direction.
    Accepted {
        who: Person,
        device: DeviceId,
        at_ms: u64,
        glare: bool,
    },
    /// Further participants of a conference.
    Joined {
        who: Person,
        device: DeviceId,
        at_ms: u64,
    },
    Declined {
        user: UserId,
        device: DeviceId,
        said: Option<Box<str>>,
    },
    /// The ring of this user ran out.
    Missed {
        user: UserId,
    },
    Progressed,
    /// The connection is lost, the seat is kept until `until_ms`.
    Lost {
        user: UserId,
        until_ms: u64,
    },
    /// Back in the seat; on the same device, or on another (which then is the one in the call).
    Rejoined {
        user: UserId,
        device: DeviceId,
        at_ms: u64,
    },
    /// A conference's participant is gone. `lost`: its connection did not come back in time.
    Left {
        user: UserId,
        lost: bool,
    },
    /// The seat's own devices besides `device` stop ringing: one of them has answered, declined, or the user has joined.
    StopsRinging {
        user: UserId,
        device: Option<DeviceId>,
    },
    Media {
        user: UserId,
        device: DeviceId,
        act: MediaAct,
    },
    /// So many of the oldest annotations are not kept any more; nobody is told.
    AnnotationsDropped {
        oldest: usize,
    },
    /// A share, or a control, ended because its owner left; `payload` of what the others are told is empty.
    ShareEnded {
        user: UserId,
    },
    ControlEnded {
        sharer: UserId,
        controller: UserId,
    },
    /// Over. Everything above that follows from it (legs left, shares ended) is not told one by one.
    Ended {
        status: Status,
        reason: EndReason,
        by: Option<UserId>,
        said: Option<Box<str>>,
        at_ms: u64,
    },
}

impl Event {
    /// Whether the act can have this event at all; for tests of the whole table.
    pub fn fits(&self, act: &Act) -> bool {
        match (self, act) {
            (Self::Media { .. }, act) => matches!(act, Act::Media(_)),
            (Self::Initiated { .. } | Self::Busy { .. }, act) => matches!(act, Act::Initiate(_)),
            (Self::Lost { .. }, act) => matches!(act, Act::Devices { .. }),
            (Self::AnnotationsDropped { .. }, act) => matches!(act, Act::Media(_)),
            _ => true,
        }
    }
}
