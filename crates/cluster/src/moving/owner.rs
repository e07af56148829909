//! The node the session lives at.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::outgoing::{Chunks, Tails};
use super::retry::Retry;
use super::{CHUNK_BYTES, EXTEND_WITHIN_MS, FORGET_MS, FREEZE_WITHIN_MS, HAND_OVER_MS, MAX_EXTENDS};
use super::{MAX_MOVES, MAX_REMEMBERED, Millis, RESERVATION_MS, TAILS_MS};
use crate::forwarding::deadlines::{Deadlines, Remembered};
use crate::forwarding::parts;
use crate::node_message::{MAX_PART_BYTES, MoveAsk, MoveReply, NodeId, NodeMessage, RefuseReason, Sid};

/// Reservations of this node's sessions.
#[derive(Debug)]
pub struct MoveOwner {
    moves: BTreeMap<MoveKey, Move>,
    /// A session has one reservation at most.
    reserved: BTreeMap<Sid, MoveKey>,
    deadlines: Deadlines<MoveKey>,
    finished: Remembered<MoveKey, Finished>,
    outputs: VecDeque<MoveOwnerOutput>,
}

/// A move: the id the taking node chose, and that node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveKey {
    pub mv: u64,
    pub taker: NodeId,
}

#[derive(Clone, Debug)]
pub enum MoveOwnerInput {
    Message {
        from: NodeId,
        mv: u64,
        msg: MoveAsk,
    },
    /// The session is reserved (answer to `Reserve`). `info`: application and rooms at this moment, at most
    /// [`crate::node_message::MAX_PART_BYTES`]; from here on every join is announced by `RoomsJoined`.
    Reserved {
        key: MoveKey,
        info: Bytes,
    },
    /// The session is unknown or cannot be upgraded (answer to `Reserve`).
    Refused {
        key: MoveKey,
        reason: RefuseReason,
    },
    /// The reserved session joins rooms (opaque, at most `MAX_PART_BYTES`). Ack the join only after
    /// `ExtendDone` with this ticket.
    RoomsJoined {
        key: MoveKey,
        ticket: u64,
        rooms: Bytes,
    },
    /// The barrier is passed and the session is frozen (answer to `Freeze`); no `ExtendDone` is awaited. `tails`:
    /// commands still running, each of which sends one `Tail`.
    Frozen {
        key: MoveKey,
        state: Bytes,
        tails: u32,
    },
    /// The result of a command that ran on; in the order in which they are to reach the session. May come before
    /// `HandedOver`.
    Tail {
        key: MoveKey,
        bytes: Bytes,
    },
    /// The session ended, or took its reservation back (its own deadline).
    Withdrawn {
        key: MoveKey,
    },
    /// The taker's node does not exist: what was sent with this tag had no receiver.
    NoResponders {
        mv: u64,
    },
    Tick,
}

/// After `Reserve` exactly one of `Release`, `HandedOver` and `CloseSession` comes, unless it was answered by `Refused` or
/// ended by `Withdrawn` before the freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveOwnerOutput {
    Send {
        to: NodeId,
        msg: NodeMessage,
    },
    /// Reserve the session; answer with `Reserved` or `Refused`. `key.mv` serves as the session machine's token.
    Reserve {
        key: MoveKey,
        sid: Sid,
    },
    /// The upgrade did not happen: the session goes on untouched.
    Release {
        key: MoveKey,
        sid: Sid,
    },
    /// The join of this ticket may be acked. Comes also when the reservation ended instead.
    ExtendDone {
        key: MoveKey,
        ticket: u64,
    },
    /// Start no more joins; wait for `ExtendDone` of those announced (a message of their room between the barrier and the
    /// taker's subscription would be lost); pass the barrier, freeze, answer with `Frozen`. From here on polls get 400 and
    /// the session is never used again.
    Freeze {
        key: MoveKey,
        sid: Sid,
    },
    /// The session lives at the taker: drop it silently. Running commands give their results by `Tail`.
    HandedOver {
        key: MoveKey,
        sid: Sid,
    },
    /// The hand-over failed or is in doubt: drop the frozen session. Its recovery record stays: the session may live at
    /// the taker, and if not, recovery decides.
    CloseSession {
        key: MoveKey,
        sid: Sid,
        reason: CloseReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    #[error("the taker abandoned the upgrade after the freeze")]
    Abandoned,
    #[error("the taker's node does not exist")]
    NoTaker,
    #[error("the hand-over was not confirmed in time")]
    Unconfirmed,
    #[error("the session froze while joins waited for the taker")]
    JoinsUnderWay,
    #[error("the session ended during its hand-over")]
    SessionEnded,
    #[error("the state is too large to hand over")]
    TooLarge,
}

#[derive(Debug)]
struct Move {
    sid: Sid,
    phase: Phase,
    /// End of the phase.
    deadline: Millis,
    extends: BTreeMap<u32, Extend>,
    next_extend: u32,
}

#[derive(Debug)]
enum Phase {
    /// The session was asked.
    Asking,
    Reserved {
        info: Bytes,
    },
    /// The session was told to freeze.
    Freezing,
    /// The session is frozen and its state is under way.
    Frozen {
        chunks: Chunks,
        tails: Tails,
    },
    /// The session lives at the taker.
    Handed {
        tails: Tails,
    },
}

#[derive(Debug)]
struct Extend {
    ticket: u64,
    rooms: Bytes,
    retry: Retry,
    until: Millis,
}

#[derive(Clone, Copy, Debug)]
enum Finished {
    Over,
    Handed,
}

impl Default for MoveOwner {
    fn default() -> Self {
        Self::new()
    }
}

impl MoveOwner {
    pub fn new() -> Self {
        Self {
            moves: BTreeMap::new(),
            reserved: BTreeMap::new(),
            deadlines: Deadlines::default(),
            finished: Remembered::new(FORGET_MS, MAX_REMEMBERED),
            outputs: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, now: Millis, input: MoveOwnerInput) {
        match input {
            MoveOwnerInput::Message { from, mv, msg } => self.message(now, MoveKey { mv, taker: from }, msg),
            MoveOwnerInput::Reserved { key, info } => self.session_reserved(now, &key, info),
            MoveOwnerInput::Refused { key, reason } => self.session_refused(now, &key, reason),
            MoveOwnerInput::RoomsJoined { key, ticket, rooms } => self.rooms_joined(now, key, ticket, rooms),
            MoveOwnerInput::Frozen { key, state, tails } => self.frozen(now, &key, &state, tails),
            MoveOwnerInput::Tail { key, bytes } => self.tail(now, &key, &bytes),
            MoveOwnerInput::Withdrawn { key } => self.withdrawn(now, &key),
            MoveOwnerInput::NoResponders { mv } => self.no_responders(now, mv),
            MoveOwnerInput::Tick => self.tick(now),
        }
    }

    /// The node that takes `mv`.
    pub fn peer(&self, mv: u64) -> Option<&NodeId> {
        let (key, _) = self.moves.range(MoveKey { mv, taker: Arc::from("") }..).next()?;
        (key.mv == mv).then_some(&key.taker)
    }

    pub fn poll_output(&mut self) -> Option<MoveOwnerOutput> {
        self.outputs.pop_front()
    }

    /// When `Tick` is due.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.deadlines.next()
    }

    fn message(&mut self, now: Millis, key: MoveKey, msg: MoveAsk) {
        if !self.moves.contains_key(&key) {
            return self.unknown(now, key, msg);
        }
        match msg {
            MoveAsk::Reserve { .. } => self.reserve_again(&key),
            MoveAsk::Extended { seq } => self.extended(&key, seq),
            MoveAsk::Release => self.end(now, &key, CloseReason::Abandoned),
            MoveAsk::Take => self.take(now, &key),
            MoveAsk::Got { chunk } => self.got(now, &key, chunk),
            MoveAsk::Installed => self.installed(now, &key),
            MoveAsk::GotTail { next } => self.got_tail(now, &key, next),
        }
    }

    /// Of a move that is over, or that this process never knew.
    fn unknown(&mut self, now: Millis, key: MoveKey, msg: MoveAsk) {
        match (msg, self.finished.get(&key)) {
            (MoveAsk::Reserve { sid }, None) => self.reserve(now, key, sid),
            (MoveAsk::Installed, Some(Finished::Handed)) => self.send(&key, MoveReply::Handed),
            (MoveAsk::GotTail { .. }, _) => {}
            (MoveAsk::Release, None) => {
                // It may have overtaken its own `Reserve`.
                self.remember(now, key.clone(), Finished::Over);
                self.send(&key, MoveReply::Aborted);
            }
            _ => self.send(&key, MoveReply::Aborted),
        }
    }

    fn reserve(&mut self, now: Millis, key: MoveKey, sid: Sid) {
        let refusal = if self.moves.len() >= MAX_MOVES {
            Some(RefuseReason::Overloaded)
        } else if self.reserved.contains_key(&sid) {
            Some(RefuseReason::AlreadyReserved)
        } else {
            None
        };
        if let Some(reason) = refusal {
            self.send(&key, MoveReply::Refused { reason });
            return self.remember(now, key, Finished::Over);
        }
        self.reserved.insert(sid.clone(), key.clone());
        let deadline = now + RESERVATION_MS;
        let (phase, extends) = (Phase::Asking, BTreeMap::new());
        self.moves.insert(key.clone(), Move { sid: sid.clone(), phase, deadline, extends, next_extend: 1 });
        self.deadlines.set(&key, deadline);
        self.outputs.push_back(MoveOwnerOutput::Reserve { key, sid });
    }

    fn reserve_again(&mut self, key: &MoveKey) {
        if let Some(Move { phase: Phase::Reserved { info }, .. }) = self.moves.get(key) {
            let info = info.clone();
            self.send(key, MoveReply::Reserved { info });
        }
    }

    fn session_reserved(&mut self, now: Millis, key: &MoveKey, info: Bytes) {
        let Some(Move { phase: phase @ Phase::Asking, .. }) = self.moves.get_mut(key) else { return };
        if info.len() > MAX_PART_BYTES {
            self.send(key, MoveReply::Refused { reason: RefuseReason::NotUpgradable });
            return self.end(now, key, CloseReason::TooLarge);
        }
        *phase = Phase::Reserved { info: info.clone() };
        self.send(key, MoveReply::Reserved { info });
    }

    fn session_refused(&mut self, now: Millis, key: &MoveKey, reason: RefuseReason) {
        if self.moves.get(key).is_some_and(|mv| matches!(mv.phase, Phase::Asking)) {
            self.send(key, MoveReply::Refused { reason });
            self.finish(now, key, Finished::Over);
        }
    }

    fn rooms_joined(&mut self, now: Millis, key: MoveKey, ticket: u64, rooms: Bytes) {
        let moving = self.moves.get_mut(&key);
        let Some(mv) = moving.filter(|mv| matches!(mv.phase, Phase::Reserved { .. } | Phase::Freezing))
        else {
            // Not reserved, or not yet: `info` will list these rooms.
            return self.outputs.push_back(MoveOwnerOutput::ExtendDone { key, ticket });
        };
        let fits = rooms.len() <= MAX_PART_BYTES && mv.extends.len() < MAX_EXTENDS;
        let seq = mv.next_extend;
        mv.next_extend += 1;
        let until = now + EXTEND_WITHIN_MS;
        mv.extends.insert(seq, Extend { ticket, rooms: rooms.clone(), retry: Retry::new(now), until });
        if !fits {
            return self.end(now, &key, CloseReason::TooLarge);
        }
        self.send(&key, MoveReply::Extend { seq, rooms });
        self.arm(&key);
    }

    fn extended(&mut self, key: &MoveKey, seq: u32) {
        let Some(mv) = self.moves.get_mut(key) else { return };
        let Some(extend) = mv.extends.remove(&seq) else { return };
        let (key, ticket) = (key.clone(), extend.ticket);
        self.arm(&key);
        self.outputs.push_back(MoveOwnerOutput::ExtendDone { key, ticket });
    }

    fn take(&mut self, now: Millis, key: &MoveKey) {
        let Some(mv) = self.moves.get_mut(key) else { return };
        if !matches!(mv.phase, Phase::Reserved { .. }) {
            return;
        }
        mv.phase = Phase::Freezing;
        mv.deadline = now + FREEZE_WITHIN_MS;
        let (key, sid) = (key.clone(), mv.sid.clone());
        self.arm(&key);
        self.outputs.push_back(MoveOwnerOutput::Freeze { key, sid });
    }

    fn frozen(&mut self, now: Millis, key: &MoveKey, state: &Bytes, tails: u32) {
        let Some(Move { phase: phase @ Phase::Freezing, deadline, extends, .. }) = self.moves.get_mut(key)
        else {
            return;
        };
        if !extends.is_empty() {
            return self.end(now, key, CloseReason::JoinsUnderWay);
        }
        let Some(chunks) = parts::cut(state, CHUNK_BYTES) else {
            return self.end(now, key, CloseReason::TooLarge);
        };
        *deadline = now + HAND_OVER_MS;
        *phase = Phase::Frozen { chunks: Chunks::new(chunks), tails: Tails::new(tails) };
        self.send_state(now, key);
    }

    fn send_state(&mut self, now: Millis, key: &MoveKey) {
        if let Some(Move { phase: Phase::Frozen { chunks, tails }, .. }) = self.moves.get_mut(key) {
            let fresh = chunks.fresh(now, tails.expected());
            self.send_all(key, fresh);
        }
        self.arm(key);
    }

    fn got(&mut self, now: Millis, key: &MoveKey, chunk: u32) {
        if let Some(Move { phase: Phase::Frozen { chunks, .. }, .. }) = self.moves.get_mut(key) {
            chunks.got(now, chunk);
            self.send_state(now, key);
        }
    }

    fn installed(&mut self, now: Millis, key: &MoveKey) {
        let Some(mv) = self.moves.get_mut(key) else { return };
        match &mut mv.phase {
            Phase::Frozen { chunks, tails } if chunks.all_sent() => {
                mv.phase = Phase::Handed { tails: std::mem::take(tails) };
                mv.deadline = now + TAILS_MS;
                let (key, sid) = (key.clone(), mv.sid.clone());
                self.reserved.remove(&sid);
                self.outputs.push_back(MoveOwnerOutput::HandedOver { key, sid });
            }
            Phase::Handed { .. } => {}
            _ => return,
        }
        self.send(key, MoveReply::Handed);
        self.send_tails(now, key);
    }

    fn tail(&mut self, now: Millis, key: &MoveKey, bytes: &Bytes) {
        let Some(mv) = self.moves.get_mut(key) else { return };
        match &mut mv.phase {
            Phase::Frozen { tails, .. } => tails.push(bytes),
            Phase::Handed { tails } => {
                tails.push(bytes);
                self.send_tails(now, key);
            }
            Phase::Asking | Phase::Reserved { .. } | Phase::Freezing => {}
        }
    }

    fn got_tail(&mut self, now: Millis, key: &MoveKey, next: u32) {
        if let Some(Move { phase: Phase::Handed { tails }, .. }) = self.moves.get_mut(key) {
            tails.got(now, next);
            self.send_tails(now, key);
        }
    }

    fn send_tails(&mut self, now: Millis, key: &MoveKey) {
        let Some(Move { phase: Phase::Handed { tails }, .. }) = self.moves.get_mut(key) else { return };
        let (fresh, done) = (tails.fresh(now), tails.done());
        self.send_all(key, fresh);
        if done {
            self.finish(now, key, Finished::Handed);
        } else {
            self.arm(key);
        }
    }

    fn withdrawn(&mut self, now: Millis, key: &MoveKey) {
        match self.moves.get(key).map(|mv| &mv.phase) {
            Some(Phase::Asking | Phase::Reserved { .. }) => {
                self.send(key, MoveReply::Aborted);
                self.finish(now, key, Finished::Over);
            }
            Some(Phase::Freezing | Phase::Frozen { .. }) => {
                self.end(now, key, CloseReason::SessionEnded);
            }
            Some(Phase::Handed { .. }) | None => {}
        }
    }

    fn no_responders(&mut self, now: Millis, mv: u64) {
        let first = MoveKey { mv, taker: Arc::from("") };
        let keys: Vec<_> =
            self.moves.range(first..).map(|(key, _)| key).take_while(|key| key.mv == mv).cloned().collect();
        for key in keys {
            self.end(now, &key, CloseReason::NoTaker);
        }
    }

    fn tick(&mut self, now: Millis) {
        self.finished.expire(now);
        while let Some(key) = self.deadlines.pop(now) {
            self.due(now, &key);
        }
    }

    fn due(&mut self, now: Millis, key: &MoveKey) {
        let Some(mv) = self.moves.get_mut(key) else { return };
        if mv.deadline <= now || mv.extends.values().any(|extend| extend.until <= now) {
            return self.end(now, key, CloseReason::Unconfirmed);
        }
        let mut again: Vec<_> = mv
            .extends
            .iter_mut()
            .filter_map(|(seq, extend)| extend.retry.due(now).then_some((*seq, extend.rooms.clone())))
            .map(|(seq, rooms)| MoveReply::Extend { seq, rooms })
            .collect();
        match &mut mv.phase {
            Phase::Frozen { chunks, tails } => again.extend(chunks.again(now, tails.expected())),
            Phase::Handed { tails } => again.extend(tails.again(now)),
            Phase::Asking | Phase::Reserved { .. } | Phase::Freezing => {}
        }
        self.send_all(key, again);
        self.arm(key);
    }

    /// The move will not happen, or nobody will say that it did.
    fn end(&mut self, now: Millis, key: &MoveKey, reason: CloseReason) {
        self.send(key, MoveReply::Aborted);
        let Some(mv) = self.finish(now, key, Finished::Over) else { return };
        let (key, sid) = (key.clone(), mv.sid);
        match mv.phase {
            Phase::Asking | Phase::Reserved { .. } => {
                self.outputs.push_back(MoveOwnerOutput::Release { key, sid });
            }
            Phase::Freezing | Phase::Frozen { .. } => {
                self.outputs.push_back(MoveOwnerOutput::CloseSession { key, sid, reason });
            }
            Phase::Handed { .. } => {}
        }
    }

    /// Forgets the move, and lets the joins go on that waited for it.
    fn finish(&mut self, now: Millis, key: &MoveKey, how: Finished) -> Option<Move> {
        let mut mv = self.moves.remove(key)?;
        self.deadlines.clear(key);
        if self.reserved.get(&mv.sid) == Some(key) {
            self.reserved.remove(&mv.sid);
        }
        for extend in std::mem::take(&mut mv.extends).into_values() {
            let (key, ticket) = (key.clone(), extend.ticket);
            self.outputs.push_back(MoveOwnerOutput::ExtendDone { key, ticket });
        }
        self.remember(now, key.clone(), how);
        Some(mv)
    }

    fn remember(&mut self, now: Millis, key: MoveKey, how: Finished) {
        self.finished.expire(now);
        self.finished.insert(now, key, how);
    }

    fn arm(&mut self, key: &MoveKey) {
        let Some(mv) = self.moves.get(key) else { return };
        let sending = match &mv.phase {
            Phase::Frozen { chunks, .. } => chunks.next_timeout(),
            Phase::Handed { tails } => tails.next_timeout(),
            Phase::Asking | Phase::Reserved { .. } | Phase::Freezing => None,
        };
        let extends = mv.extends.values().map(|extend| extend.retry.at().min(extend.until));
        let at = extends.chain(sending).fold(mv.deadline, Millis::min);
        self.deadlines.set(key, at);
    }

    fn send_all(&mut self, key: &MoveKey, messages: Vec<MoveReply>) {
        for msg in messages {
            self.send(key, msg);
        }
    }

    fn send(&mut self, key: &MoveKey, msg: MoveReply) {
        let msg = NodeMessage::MoveReply { mv: key.mv, msg };
        self.outputs.push_back(MoveOwnerOutput::Send { to: key.taker.clone(), msg });
    }
}
