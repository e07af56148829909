//! Sockets in their grace: let in without a token that counts, or connected by one that has expired since.
//!
//! For its dialect such a socket has no identity. Nothing from its rooms reaches the client: recoverable events wait here, ephemeral
//! ones are dropped; events of the client that the dialect puts off wait too. A token in time restores the socket, and what waits
//! follows; otherwise the transport is closed, and so it is when more waits than may (`limits.outbox_bytes`): the client comes back
//! and asks anew.

use std::sync::Arc;

use dialects::{Actions, Otherwise};
use domain::Rejection;
use engineio::CloseReason;
use hub::{Broadcast, Order, RoomKey};
use serde::{Deserialize, Serialize};
use socketio::{AckId, Args, Event};

use super::actions::Run;
use super::entering::send_frames;
use super::session::{Session, Socket};
use super::{Shard, State};
use crate::clock::Millis;

/// One socket's grace.
#[derive(Debug)]
pub struct Grace {
    until: Millis,
    why: CloseReason,
    /// Its end has waited for a command under way once: the token may be about to be accepted.
    was_extended: bool,
    muted: Vec<Arc<Broadcast>>,
    put_off: Vec<PutOff>,
    /// Of both.
    bytes: usize,
}

/// An event of the client that waits for a token.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutOff {
    ack: Option<AckId>,
    args: Args,
}

/// A grace on its way to another node. One that mutes rooms does not move.
#[derive(Debug, Serialize, Deserialize)]
pub struct PackedGrace {
    left_ms: Millis,
    put_off: Vec<PutOff>,
}

/// What becomes of an event for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Muted {
    No,
    Waits,
    /// More waits than may.
    TooMuch,
}

impl Grace {
    fn new(until: Millis, why: CloseReason) -> Self {
        Self { until, why, was_extended: false, muted: Vec::new(), put_off: Vec::new(), bytes: 0 }
    }

    pub fn until(&self) -> Millis {
        self.until
    }

    fn mute(&mut self, broadcast: &Arc<Broadcast>, limit: usize) -> Muted {
        if broadcast.order == Order::Ephemeral {
            return Muted::Waits;
        }
        self.bytes += broadcast.size();
        self.muted.push(broadcast.clone());
        if self.bytes > limit { Muted::TooMuch } else { Muted::Waits }
    }

    /// Whether one more event may wait.
    fn check_room(&self, args: &Args, events: usize, bytes: usize) -> Result<(), Rejection> {
        let over = |what, limit: usize, setting| Rejection::OverLimit { what, limit: limit as u64, setting };
        if self.put_off.len() >= events {
            return Err(over("number of waiting events", events, "limits.pending_commands"));
        }
        if self.bytes + size(args) > bytes {
            return Err(over("size of waiting events", bytes, "limits.outbox_bytes"));
        }
        Ok(())
    }

    fn put_off(&mut self, ack: Option<AckId>, args: Args) {
        self.bytes += size(&args);
        self.put_off.push(PutOff { ack, args });
    }

    pub fn pack(self, now: Millis) -> PackedGrace {
        PackedGrace { left_ms: self.until.saturating_sub(now), put_off: self.put_off }
    }

    pub fn unpack(packed: PackedGrace, now: Millis) -> Self {
        Self { put_off: packed.put_off, ..Self::new(now + packed.left_ms, CloseReason::Unauthorized) }
    }
}

fn size(args: &Args) -> usize {
    args.json().as_bytes().len() + args.attachments().iter().map(bytes::Bytes::len).sum::<usize>()
}

impl Session {
    /// Keeps an event back from a socket in its grace.
    pub fn mute(&mut self, serial: u32, broadcast: &Arc<Broadcast>, limit: usize) -> Muted {
        let socket = self.socket_by_serial(serial);
        let grace = socket.and_then(|socket| socket.grace.as_mut());
        grace.map_or(Muted::No, |grace| grace.mute(broadcast, limit))
    }

    /// Whether events for one of its sockets may wait here.
    pub fn is_muted(&self) -> bool {
        let of_identity = |socket: &Socket| socket.grace.is_some() && !socket.memberships.is_empty();
        self.has_grace && self.sockets.iter().any(of_identity)
    }
}

impl State {
    /// From here on the socket has no say but to show a token; `words` tell it so.
    pub(super) fn begin_grace(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        serial: u32,
        why: CloseReason,
        words: Actions,
    ) {
        let Some(socket) = session.socket_by_serial(serial) else { return };
        let grace_ms = shard.shared.app(socket.app).limits.authenticate_timeout_ms;
        socket.grace = Some(Box::new(Grace::new(shard.now() + grace_ms, why)));
        let nsp = socket.nsp.clone();
        session.has_grace = true;
        self.carry_out(shard, session, Run::event(nsp, serial, None, words));
    }

    /// Closes the transport of a session whose grace is over. A token that is being checked gets its time.
    pub(super) fn end_grace(&mut self, shard: &Shard, session: &mut Session) {
        let now = shard.now();
        let busy = session.busy;
        let mut graces =
            session.sockets.iter_mut().filter_map(|socket| Some((socket.app, socket.grace.as_mut()?)));
        let Some((app, grace)) = graces.find(|(_, grace)| grace.until <= now) else { return };
        let app = shard.shared.app(app);
        if busy && !grace.was_extended {
            grace.was_extended = true;
            grace.until = now + app.limits.publish_timeout_ms;
            return;
        }
        let why = grace.why;
        let known = "no token that counts was shown in time (limits.authenticate_timeout_ms)";
        session.close(shard, why, known);
    }

    /// Keeps the event at hand until the socket is restored.
    pub(super) fn put_off(
        &mut self,
        shard: &Shard,
        session: &mut Session,
        run: &mut Run,
        otherwise: Otherwise,
    ) {
        let socket = session.socket_by_serial(run.serial);
        let Some((app, grace)) = socket.and_then(|socket| Some((socket.app, socket.grace.as_mut()?))) else {
            return run.first(otherwise(&Rejection::Unavailable));
        };
        let limits = &shard.shared.app(app).limits;
        let room = |args: &Args| grace.check_room(args, limits.pending_commands, limits.outbox_bytes);
        match run.args().map_or(Err(Rejection::Unavailable), room) {
            Err(rejection) => run.first(otherwise(&rejection)),
            Ok(()) => {
                if let Some((ack, args)) = run.take_event() {
                    grace.put_off(ack, args);
                }
            }
        }
    }

    /// The socket's token counts: what waited follows. An event was this socket's by whichever of the rooms it named: one that it is
    /// still in suffices.
    pub(super) fn restore(&mut self, shard: &Shard, session: &mut Session, serial: u32) {
        let Some(socket) = session.socket_by_serial(serial) else { return };
        let Some(grace) = socket.grace.take() else { return };
        let (app, ix, nsp) = (socket.app, socket.ix, socket.nsp.clone());
        session.has_grace = session.sockets.iter().any(|socket| socket.grace.is_some());
        for broadcast in grace.muted {
            if broadcast.rooms.iter().any(|room| self.hub.contains(ix, &RoomKey::new(app, room))) {
                send_frames(shard, session, &broadcast);
            }
        }
        let waiting = grace.put_off.into_iter();
        let events = waiting.map(|PutOff { ack, args }| Event::Received { nsp: nsp.clone(), ack, args });
        session.released.extend(events);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Args {
        Args::new(format!("[\"join\",\"{text}\"]"), vec![]).unwrap()
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_size() {
        let mut grace = Grace::new(10, CloseReason::Unauthorized);
        let setting = |grace: &Grace, args: &Args| match grace.check_room(args, 2, 100) {
            Err(Rejection::OverLimit { setting, .. }) => setting,
            other => panic!("{other:?}"),
        };
        for room in ["patient:1", "patient:2"] {
            assert_eq!(setting(&grace, &args(&"x".repeat(100))), "limits.outbox_bytes");
            assert_eq!(grace.check_room(&args(room), 2, 100), Ok(()));
            grace.put_off(Some(AckId::new(1)), args(room));
        }
        assert_eq!(setting(&grace, &args("patient:3")), "limits.pending_commands");
    }

    #[test]
    fn a_grace_moves_with_its_time_and_what_was_put_off() {
        let mut grace = Grace::new(10_000, CloseReason::Unauthorized);
        grace.put_off(Some(AckId::new(1)), args("patient:1"));
        let bytes = rmp_serde::to_vec_named(&grace.pack(4_000)).unwrap();
        let there = Grace::unpack(rmp_serde::from_slice(&bytes).unwrap(), 100);
        assert_eq!((there.until(), there.put_off.len()), (6_100, 1));
        assert_eq!(there.put_off[0], PutOff { ack: Some(AckId::new(1)), args: args("patient:1") });
    }
}
