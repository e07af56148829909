//! What gateways keep of a call for the sockets in it: enough to relay signals without asking anybody.

use serde::{Deserialize, Serialize};

use super::{Call, CallId, DeviceId, Status};
use crate::{RoomId, UserId};

/// The room of all devices in a call; no client can name it.
const CALL_ROOM: &str = ".call:";
/// The room of one seat's device.
const SEAT_ROOM: &str = ".seat:";

pub fn call_room(call: &CallId) -> RoomId {
    RoomId::new(format!("{CALL_ROOM}{call}")).expect("call ids are short")
}

pub fn seat_room(call: &CallId, user: &UserId) -> RoomId {
    RoomId::new(format!("{SEAT_ROOM}{call}:{user}")).expect("call and user ids are short")
}

/// Whether a room is one of [`call_room`] or [`seat_room`].
pub fn is_call_room(room: &str) -> bool {
    room.starts_with(CALL_ROOM) || room.starts_with(SEAT_ROOM)
}

/// A call at one revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    pub call: CallId,
    pub rev: u64,
    pub status: Status,
    /// Those who are in it. Empty once it is over.
    pub seats: Vec<ViewSeat>,
    /// Sharer and controller, where control was granted.
    pub controls: Vec<(UserId, UserId)>,
    /// Who shares a screen.
    pub sharers: Vec<UserId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewSeat {
    pub user: UserId,
    pub device: DeviceId,
}

impl View {
    pub fn of(call: &Call) -> Self {
        let over = call.status.is_over();
        let seats = call.seats.iter().filter(|_| !over).filter_map(|seat| {
            Some(ViewSeat { user: seat.who.user.clone(), device: seat.leg.device()?.clone() })
        });
        Self {
            call: call.id.clone(),
            rev: call.rev,
            status: call.status,
            seats: seats.collect(),
            controls: call
                .media
                .controls
                .iter()
                .filter(|control| control.granted)
                .map(|control| (control.sharer.clone(), control.requester.clone()))
                .collect(),
            sharers: call.media.shares.iter().map(|share| share.user.clone()).collect(),
        }
    }

    /// The seat that this device is in.
    pub fn seat_of(&self, device: &str) -> Option<&ViewSeat> {
        self.seats.iter().find(|seat| *seat.device == *device)
    }

    pub fn has(&self, user: &UserId) -> bool {
        self.seats.iter().any(|seat| seat.user == *user)
    }
}
