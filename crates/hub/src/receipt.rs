//! A stored message whose sender waits to hear that somebody has it, as it crosses to the cores.

use bytes::Bytes;
use domain::{RoomId, UserId};

/// Which message, and what its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The conversation it is stored in, and its position there.
    pub room: RoomId,
    pub n: u64,
    pub sender: UserId,
    /// The one whose having it counts; `None`: anybody but the sender.
    pub recipient: Option<UserId>,
    /// The room where it is told, the event, and its arguments.
    pub to: RoomId,
    pub event: Box<str>,
    pub tail: Bytes,
}

impl Receipt {
    /// `None`: a name in it is none.
    pub fn of(wire: &cluster::envelope::Receipt<'_>) -> Option<Self> {
        Some(Self {
            room: RoomId::new(wire.room)?,
            n: wire.n,
            sender: UserId::new(wire.sender)?,
            recipient: wire.recipient.map(UserId::new).map_or(Some(None), |user| user.map(Some))?,
            to: RoomId::new(wire.to)?,
            event: wire.event.into(),
            tail: Bytes::copy_from_slice(wire.tail),
        })
    }

    /// Whether this user's having the message is what its sender waits for.
    pub fn counts(&self, user: &UserId) -> bool {
        *user != self.sender && self.recipient.as_ref().is_none_or(|recipient| recipient == user)
    }
}
