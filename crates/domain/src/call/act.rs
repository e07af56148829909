//! What a call is asked to do.

use serde::{Deserialize, Serialize};

use super::{CallId, DeviceId, Kind, Medium, Mute, Person, Subject};
use crate::UserId;

/// Names one command of one socket: a repeat has the same id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CommandId(pub u128);

/// One command for one call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Command {
    pub id: CommandId,
    pub call: CallId,
    /// Who acts; `None`: time, or the coordinator itself ([`Act::Tick`], [`Act::Devices`]).
    pub actor: Option<Actor>,
    pub act: Act,
}

/// A verified user on one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Actor {
    pub who: Person,
    pub device: DeviceId,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Makes the call and rings. In a call of two, an unanswered call from the invited user to the actor is answered instead.
    Initiate(Offer),
    /// First answer wins. `glare`: the actor called the caller at the same time.
    Answer {
        #[serde(default)]
        glare: bool,
    },
    /// The actor's devices stop ringing; over if nobody is left to answer.
    Decline {
        said: Option<Box<str>>,
    },
    /// Before the answer the caller cancels. After it: a call of two, or the creator's conference, is over for everybody; another
    /// participant of a conference leaves.
    End {
        said: Option<Box<str>>,
    },
    /// Into a conference one is invited to, or has left; ringing or not.
    Join,
    /// Out of a conference (in a call of two: [`Act::End`]).
    Leave,
    /// Back into one's seat, with this device.
    Rejoin,
    /// The devices negotiate: [`super::Status::Accepted`] becomes [`super::Status::InProgress`].
    Progress,
    /// A device cannot go on for technical reasons.
    Fail {
        said: Option<Box<str>>,
    },
    Media(MediaAct),
    /// Somebody looks at it; changes nothing.
    Look,
    /// A deadline has passed. `due_ms`: the clock of whoever decides may be behind the one that fired.
    Tick {
        due_ms: u64,
    },
    /// Which devices of a participant are connected: legs without are lost since `since_ms`, lost ones that are back go on.
    /// An [`super::Status::Initiating`] call begins to ring if `user` is invited and has devices.
    Devices {
        user: UserId,
        present: Vec<DeviceId>,
        since_ms: u64,
    },
}

/// A new call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Offer {
    pub kind: Kind,
    pub medium: Medium,
    pub subject: Subject,
    /// The actor is not among them, nobody twice.
    pub invited: Vec<Invite>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invite {
    pub who: Person,
}

/// Streams, screens, remote control, annotations. `payload` is the client's JSON object, passed on to the others as it came.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MediaAct {
    pub what: MediaChange,
    pub payload: Box<str>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MediaChange {
    StreamStart {
        video: bool,
        audio: bool,
    },
    StreamStop,
    Mute(Mute),
    StreamQuality {
        quality: Box<str>,
    },
    ShareStart {
        audio: bool,
        quality: Box<str>,
    },
    ShareStop,
    ShareQuality {
        quality: Box<str>,
    },
    /// Asks the sharer to be given control. `sharer` may be left out while there is only one.
    ControlRequest {
        sharer: Option<UserId>,
    },
    /// The sharer answers a request.
    ControlRespond {
        requester: UserId,
        granted: bool,
    },
    /// The sharer takes control back (from `requester`, or from all), or the controller gives its own up.
    ControlRevoke {
        requester: Option<UserId>,
    },
    /// Kept for who joins later; oldest go first over the bounds.
    Annotate,
    /// Removes all annotations.
    ClearAnnotations,
}
