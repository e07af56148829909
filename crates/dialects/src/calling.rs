//! What the dialects with calls have in common: who may relay what to whom, read from the views that the gateway keeps with the
//! socket ([`Socket::calls`]). Relayed events never reach the coordinator and are never stored.
//!
//! Start at [`relay`].

use domain::call::{CallId, Refusal, Status, View, ViewSeat, call_room, seat_room};
use domain::call::{CallSettings, Limit};
use domain::{Rejection, RoomId, UserId};
use serde_json::Value;

use crate::{Action, Command, Delivery, Emission, Out, Realtime, Socket};

/// Where an event from one device of a live call goes, the device itself left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relay {
    pub call: CallId,
    pub to: RoomId,
    /// The devices have not negotiated before: the call is to be told of its progress.
    pub first: bool,
}

/// Checks an event of the socket to the other participants of its call, or to `target` alone.
pub fn relay(socket: &Socket<'_>, call: &str, target: Option<&UserId>) -> Result<Relay, Rejection> {
    let (view, _) = seat_in(socket, call)?;
    if !view.status.is_live() {
        return Err(Refusal::NotLive.into());
    }
    let to = match target {
        Some(user) if view.has(user) => seat_room(&view.call, user),
        Some(user) => return Err(Refusal::NoSuchParticipant(user.as_str().into()).into()),
        None => call_room(&view.call),
    };
    Ok(Relay { call: view.call.clone(), to, first: view.status == Status::Accepted })
}

impl Relay {
    /// The step that sends it.
    pub fn send(&self, event: &'static str, args: Out) -> Action {
        Action::run(Command::Emit(Emission {
            rooms: vec![self.to.clone()],
            event: event.into(),
            args,
            delivery: Delivery::Ephemeral,
            except_self: true,
        }))
    }
}

/// The call and the seat in it that this socket's device has.
pub fn seat_in<'a>(socket: &Socket<'a>, call: &str) -> Result<(&'a View, &'a ViewSeat), Rejection> {
    let call = parse_call_id(call)?;
    let calls: &'a [_] = socket.calls;
    let found = calls.iter().filter(|view| view.call == call).find_map(|view| {
        let seat = view.seat_of(socket.id)?;
        Some((&**view, seat))
    });
    found.ok_or(Refusal::NotIn.into())
}

/// An id that cannot be one of a call names no call.
pub fn parse_call_id(text: &str) -> Result<CallId, Rejection> {
    CallId::new(text).ok_or(Refusal::UnknownCall.into())
}

/// Whether a signal of this size (the client's whole payload) may pass.
pub fn check_signal_size(settings: &CallSettings, bytes: usize) -> Result<(), Rejection> {
    if bytes <= settings.signal_bytes {
        return Ok(());
    }
    Err(Refusal::OverLimit { limit: Limit::SignalBytes, max: settings.signal_bytes as u64 }.into())
}

/// The `iceServers` of one participant; credentials are its own.
pub fn ice_json(realtime: &Realtime, user: &UserId, now_ms: u64) -> Value {
    serde_json::to_value(realtime.ice.for_user(user, now_ms)).expect("ICE servers are strings and lists")
}
