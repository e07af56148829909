//! The node that holds the candidate WebSocket.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use super::retry::Retry;
use super::{FREEZE_WITHIN_MS, HAND_OVER_MS, MAX_EXTENDS, MAX_MOVES, Millis, RESERVATION_MS};
use super::{TAILS_MS, TAKE_SLACK_MS, WINDOW};
use crate::forwarding::deadlines::Deadlines;
use crate::forwarding::parts::Assembly;
use crate::node_message::{MoveAsk, MoveReply, NodeId, NodeMessage, RefuseReason, Sid};

/// Upgrades under way at this node, of sessions that live elsewhere.
#[derive(Debug, Default)]
pub struct Taker {
    upgrades: BTreeMap<u64, Upgrade>,
    deadlines: Deadlines<u64>,
    outputs: VecDeque<TakerOutput>,
}

#[derive(Clone, Debug)]
pub enum TakerInput {
    /// A WebSocket sent `2probe` for a session of `owner`. `mv` is random and new.
    ProbeArrived {
        mv: u64,
        owner: NodeId,
        sid: Sid,
    },
    /// `Subscribe` number `seq` is done: subscribed, barrier passed, live messages are buffered.
    Subscribed {
        mv: u64,
        seq: u32,
    },
    /// The client sent its upgrade packet `5`.
    UpgradeArrived {
        mv: u64,
    },
    /// The WebSocket closed. Means nothing here after `Install`.
    ClientGone {
        mv: u64,
    },
    /// `Install` is done: the session lives here. Said even if the session ended at once.
    Installed {
        mv: u64,
    },
    /// `Install` cannot be done: the WebSocket is gone, there is no place, or the state is unreadable. No session lives
    /// here; the owner closes its frozen one.
    InstallFailed {
        mv: u64,
    },
    Message {
        from: NodeId,
        mv: u64,
        msg: MoveReply,
    },
    /// The owner's node does not exist: what was sent with this tag had no receiver.
    NoResponders {
        mv: u64,
    },
    Tick,
}

/// Each move ends with exactly one of `Abandon` and, after `Installed`, `Settled`; after it only `Send` comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakerOutput {
    Send {
        to: NodeId,
        msg: NodeMessage,
    },
    /// Subscribe to the rooms (`seq` 0: `info` of the reservation; later: rooms joined meanwhile), pass the barrier,
    /// buffer what arrives, then say `Subscribed`.
    Subscribe {
        mv: u64,
        seq: u32,
        rooms: Bytes,
    },
    /// Send `3probe`.
    AnswerProbe {
        mv: u64,
    },
    /// Build the session from the state, drop buffered messages it has seen, deliver the rest, then what the client
    /// sent after `5`; then say `Installed`. `tails` results will follow as `Tail`. This node's feed may be behind the
    /// owner's: what it still reads up to the owner's freeze barrier must be compared with the state too.
    Install {
        mv: u64,
        state: Bytes,
        tails: u32,
    },
    /// The result of a command that ran on at the old owner, in order.
    Tail {
        mv: u64,
        bytes: Bytes,
    },
    /// The move is complete. `tails_lost`: the old owner died before all tails came; close the session, so that recovery
    /// decides.
    Settled {
        mv: u64,
        tails_lost: bool,
    },
    /// The upgrade failed: close the WebSocket, drop subscriptions and buffers, and the session if its `Installed` was
    /// said too late.
    Abandon {
        mv: u64,
        reason: AbandonReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbandonReason {
    #[error("too many upgrades are under way")]
    Overloaded,
    #[error("the owner refused: {0}")]
    Refused(RefuseReason),
    #[error("the owner ended the reservation")]
    Aborted,
    #[error("the owner's node does not exist")]
    NoOwner,
    #[error("the owner, the client or the installation was not in time")]
    Timeout,
    #[error("the client upgraded before its probe was answered")]
    EarlyUpgrade,
    #[error("the client went away")]
    ClientGone,
    #[error("the session could not be built from its state")]
    InstallFailed,
}

#[derive(Debug)]
struct Upgrade {
    owner: NodeId,
    phase: Phase,
    /// End of the phase.
    deadline: Millis,
    /// Repeats what the phase asks of the owner.
    retry: Option<Retry>,
    /// Rooms joined meanwhile, by number; true once they are subscribed.
    extends: BTreeMap<u32, bool>,
}

#[derive(Debug)]
enum Phase {
    /// `Reserve` is not answered.
    Reserving { sid: Sid },
    /// Reserved; the rooms are being subscribed.
    Subscribing,
    /// The probe was answered; the client may upgrade.
    Ready,
    /// `Take` is not answered.
    Taking,
    /// Chunks of the state are missing.
    Receiving { state: Assembly },
    /// The upper layer builds the session.
    Installing { tails: u32 },
    /// `Installed` is not answered.
    Confirming { tails: u32 },
    /// Results of `left` commands will come.
    Tailing { left: u32, next: u32, result: BytesMut, early: BTreeMap<u32, (bool, Bytes)> },
    /// Abandoned; `Release` is not answered.
    Releasing,
}

impl Taker {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn handle(&mut self, now: Millis, input: TakerInput) {
        match input {
            TakerInput::ProbeArrived { mv, owner, sid } => self.probe(now, mv, owner, sid),
            TakerInput::Subscribed { mv, seq } => self.subscribed(mv, seq),
            TakerInput::UpgradeArrived { mv } => self.upgrade(now, mv),
            TakerInput::ClientGone { mv } => self.abandon(now, mv, AbandonReason::ClientGone),
            TakerInput::Installed { mv } => self.installed(now, mv),
            TakerInput::InstallFailed { mv } => self.install_failed(now, mv),
            TakerInput::Message { from, mv, msg } => self.message(now, from, mv, msg),
            TakerInput::NoResponders { mv } => self.owner_is_out(mv, AbandonReason::NoOwner),
            TakerInput::Tick => self.tick(now),
        }
    }

    /// The node that owns the session of `mv`.
    pub fn peer(&self, mv: u64) -> Option<&NodeId> {
        self.upgrades.get(&mv).map(|upgrade| &upgrade.owner)
    }

    pub fn poll_output(&mut self) -> Option<TakerOutput> {
        self.outputs.pop_front()
    }

    /// When `Tick` is due.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.deadlines.next()
    }

    fn probe(&mut self, now: Millis, mv: u64, owner: NodeId, sid: Sid) {
        if self.upgrades.len() >= MAX_MOVES {
            let reason = AbandonReason::Overloaded;
            return self.outputs.push_back(TakerOutput::Abandon { mv, reason });
        }
        let phase = Phase::Reserving { sid: sid.clone() };
        let (deadline, retry) = (now + RESERVATION_MS, Some(Retry::new(now)));
        self.send(&owner, mv, MoveAsk::Reserve { sid });
        self.upgrades.insert(mv, Upgrade { owner, phase, deadline, retry, extends: BTreeMap::new() });
        self.arm(mv);
    }

    fn subscribed(&mut self, mv: u64, seq: u32) {
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        if seq == 0 && matches!(upgrade.phase, Phase::Subscribing) {
            upgrade.phase = Phase::Ready;
            return self.outputs.push_back(TakerOutput::AnswerProbe { mv });
        }
        if let Some(done) = upgrade.extends.get_mut(&seq) {
            *done = true;
            let owner = upgrade.owner.clone();
            self.send(&owner, mv, MoveAsk::Extended { seq });
        }
    }

    fn upgrade(&mut self, now: Millis, mv: u64) {
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        match upgrade.phase {
            Phase::Ready => {
                upgrade.phase = Phase::Taking;
                upgrade.deadline = now + FREEZE_WITHIN_MS + TAKE_SLACK_MS;
                upgrade.retry = Some(Retry::new(now));
                let owner = upgrade.owner.clone();
                self.send(&owner, mv, MoveAsk::Take);
                self.arm(mv);
            }
            Phase::Reserving { .. } | Phase::Subscribing => {
                self.abandon(now, mv, AbandonReason::EarlyUpgrade);
            }
            _ => {}
        }
    }

    fn installed(&mut self, now: Millis, mv: u64) {
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        let Phase::Installing { tails } = upgrade.phase else { return };
        upgrade.phase = Phase::Confirming { tails };
        upgrade.deadline = now + HAND_OVER_MS;
        upgrade.retry = Some(Retry::new(now));
        let owner = upgrade.owner.clone();
        self.send(&owner, mv, MoveAsk::Installed);
        self.arm(mv);
    }

    fn install_failed(&mut self, now: Millis, mv: u64) {
        if self.upgrades.get(&mv).is_some_and(|upgrade| matches!(upgrade.phase, Phase::Installing { .. })) {
            self.release(now, mv, AbandonReason::InstallFailed);
        }
    }

    fn message(&mut self, now: Millis, from: NodeId, mv: u64, msg: MoveReply) {
        match self.upgrades.get(&mv) {
            None => return self.unknown(&from, mv, &msg),
            Some(upgrade) if upgrade.owner != from => return,
            Some(_) => {}
        }
        match msg {
            MoveReply::Reserved { info } => self.reserved(mv, info),
            MoveReply::Refused { reason } => self.owner_is_out(mv, AbandonReason::Refused(reason)),
            MoveReply::Extend { seq, rooms } => self.extend(mv, seq, rooms),
            MoveReply::Aborted => self.owner_is_out(mv, AbandonReason::Aborted),
            MoveReply::State { chunk, chunks, tails, bytes } => {
                self.state(now, mv, tails, (chunk, chunks, bytes));
            }
            MoveReply::Handed => self.handed(now, mv),
            MoveReply::Tail { seq, more, bytes } => self.tail(now, mv, seq, (more, bytes)),
        }
    }

    /// Of a move that is over: nobody must wait for it.
    fn unknown(&mut self, from: &NodeId, mv: u64, msg: &MoveReply) {
        match msg {
            MoveReply::Reserved { .. } | MoveReply::Extend { .. } | MoveReply::State { .. } => {
                self.send(from, mv, MoveAsk::Release);
            }
            MoveReply::Tail { seq, .. } => {
                self.send(from, mv, MoveAsk::GotTail { next: seq.saturating_add(1) });
            }
            MoveReply::Refused { .. } | MoveReply::Aborted | MoveReply::Handed => {}
        }
    }

    fn reserved(&mut self, mv: u64, info: Bytes) {
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        match upgrade.phase {
            Phase::Reserving { .. } => {
                upgrade.phase = Phase::Subscribing;
                upgrade.retry = None;
                self.arm(mv);
                self.outputs.push_back(TakerOutput::Subscribe { mv, seq: 0, rooms: info });
            }
            Phase::Releasing => self.repeat(mv),
            _ => {}
        }
    }

    fn extend(&mut self, mv: u64, seq: u32, rooms: Bytes) {
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        match upgrade.phase {
            // `Reserved` comes first; the owner repeats this.
            Phase::Reserving { .. } => return,
            Phase::Releasing => return self.repeat(mv),
            _ => {}
        }
        match upgrade.extends.get(&seq) {
            Some(true) => {
                let owner = upgrade.owner.clone();
                self.send(&owner, mv, MoveAsk::Extended { seq });
            }
            Some(false) => {}
            None if !matches!(upgrade.phase, Phase::Subscribing | Phase::Ready | Phase::Taking) => {}
            None if seq == 0 || upgrade.extends.len() >= MAX_EXTENDS => {}
            None => {
                upgrade.extends.insert(seq, false);
                self.outputs.push_back(TakerOutput::Subscribe { mv, seq, rooms });
            }
        }
    }

    fn state(&mut self, now: Millis, mv: u64, tails: u32, (chunk, chunks, bytes): (u32, u32, Bytes)) {
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        if matches!(upgrade.phase, Phase::Taking) {
            upgrade.phase = Phase::Receiving { state: Assembly::new(chunks) };
            upgrade.deadline = now + HAND_OVER_MS;
            upgrade.retry = None;
        }
        let whole = match &mut upgrade.phase {
            Phase::Receiving { state } => {
                state.put(chunk, chunks, bytes);
                state.whole()
            }
            Phase::Installing { .. } | Phase::Confirming { .. } | Phase::Tailing { .. } => None,
            Phase::Releasing => return self.repeat(mv),
            // Not asked for.
            Phase::Reserving { .. } | Phase::Subscribing | Phase::Ready | Phase::Taking => return,
        };
        let owner = upgrade.owner.clone();
        if let Some(state) = whole {
            upgrade.phase = Phase::Installing { tails };
            upgrade.deadline = now + HAND_OVER_MS;
            self.outputs.push_back(TakerOutput::Install { mv, state, tails });
        }
        self.send(&owner, mv, MoveAsk::Got { chunk });
        self.arm(mv);
    }

    fn handed(&mut self, now: Millis, mv: u64) {
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        let Phase::Confirming { tails } = upgrade.phase else { return };
        if tails == 0 {
            return self.settle(mv, false);
        }
        let (result, early) = (BytesMut::new(), BTreeMap::new());
        upgrade.phase = Phase::Tailing { left: tails, next: 0, result, early };
        // The owner stops after `TAILS_MS`; what it sent last may be under way.
        upgrade.deadline = now + TAILS_MS + HAND_OVER_MS;
        upgrade.retry = None;
        self.arm(mv);
    }

    fn tail(&mut self, now: Millis, mv: u64, seq: u32, piece: (bool, Bytes)) {
        // The owner sends tails only after the hand-over: `Handed` was lost or overtaken.
        self.handed(now, mv);
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        let Phase::Tailing { left, next, result, early } = &mut upgrade.phase else { return };
        if seq >= *next && seq - *next < WINDOW as u32 {
            early.insert(seq, piece);
        }
        while let Some((more, bytes)) = early.remove(next) {
            *next += 1;
            result.extend_from_slice(&bytes);
            if !more && *left > 0 {
                *left -= 1;
                let bytes = std::mem::take(result).freeze();
                self.outputs.push_back(TakerOutput::Tail { mv, bytes });
            }
        }
        let (owner, next, left) = (upgrade.owner.clone(), *next, *left);
        self.send(&owner, mv, MoveAsk::GotTail { next });
        if left == 0 {
            self.settle(mv, false);
        }
    }

    /// The owner will not go on: it refused, ended the move, or is gone.
    fn owner_is_out(&mut self, mv: u64, reason: AbandonReason) {
        let Some(upgrade) = self.upgrades.get(&mv) else { return };
        match upgrade.phase {
            Phase::Reserving { .. }
            | Phase::Subscribing
            | Phase::Ready
            | Phase::Taking
            | Phase::Receiving { .. } => {
                self.forget(mv);
                self.outputs.push_back(TakerOutput::Abandon { mv, reason });
            }
            // The session lives here from `Install` on, whatever the owner thinks.
            Phase::Installing { .. } => {}
            Phase::Confirming { tails } => self.settle(mv, tails > 0),
            Phase::Tailing { .. } => self.settle(mv, true),
            Phase::Releasing => self.forget(mv),
        }
    }

    fn abandon(&mut self, now: Millis, mv: u64, reason: AbandonReason) {
        let Some(upgrade) = self.upgrades.get(&mv) else { return };
        match upgrade.phase {
            Phase::Reserving { .. }
            | Phase::Subscribing
            | Phase::Ready
            | Phase::Taking
            | Phase::Receiving { .. } => self.release(now, mv, reason),
            // From `Install` on the client is the session's affair.
            Phase::Installing { .. }
            | Phase::Confirming { .. }
            | Phase::Tailing { .. }
            | Phase::Releasing => {}
        }
    }

    /// Tells the owner that the session will not live here.
    fn release(&mut self, now: Millis, mv: u64, reason: AbandonReason) {
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        upgrade.phase = Phase::Releasing;
        upgrade.deadline = now + HAND_OVER_MS;
        upgrade.retry = Some(Retry::new(now));
        self.outputs.push_back(TakerOutput::Abandon { mv, reason });
        self.repeat(mv);
        self.arm(mv);
    }

    fn tick(&mut self, now: Millis) {
        while let Some(mv) = self.deadlines.pop(now) {
            self.due(now, mv);
        }
    }

    fn due(&mut self, now: Millis, mv: u64) {
        let Some(upgrade) = self.upgrades.get_mut(&mv) else { return };
        if upgrade.deadline <= now {
            return self.late(now, mv);
        }
        if upgrade.retry.as_mut().is_some_and(|retry| retry.due(now)) {
            self.repeat(mv);
        }
        self.arm(mv);
    }

    fn late(&mut self, now: Millis, mv: u64) {
        let Some(upgrade) = self.upgrades.get(&mv) else { return };
        match upgrade.phase {
            // Building a session is local: who has not done it by now will not.
            Phase::Installing { .. } => self.release(now, mv, AbandonReason::Timeout),
            Phase::Confirming { tails } => self.settle(mv, tails > 0),
            Phase::Tailing { .. } => self.settle(mv, true),
            Phase::Releasing => self.forget(mv),
            _ => self.abandon(now, mv, AbandonReason::Timeout),
        }
    }

    /// Says again what the phase waits to hear answered.
    fn repeat(&mut self, mv: u64) {
        let Some(upgrade) = self.upgrades.get(&mv) else { return };
        let msg = match &upgrade.phase {
            Phase::Reserving { sid } => MoveAsk::Reserve { sid: sid.clone() },
            Phase::Taking => MoveAsk::Take,
            Phase::Confirming { .. } => MoveAsk::Installed,
            Phase::Releasing => MoveAsk::Release,
            Phase::Subscribing
            | Phase::Ready
            | Phase::Receiving { .. }
            | Phase::Installing { .. }
            | Phase::Tailing { .. } => return,
        };
        let owner = upgrade.owner.clone();
        self.send(&owner, mv, msg);
    }

    fn settle(&mut self, mv: u64, tails_lost: bool) {
        self.forget(mv);
        self.outputs.push_back(TakerOutput::Settled { mv, tails_lost });
    }

    fn forget(&mut self, mv: u64) {
        self.upgrades.remove(&mv);
        self.deadlines.clear(&mv);
    }

    fn arm(&mut self, mv: u64) {
        let Some(upgrade) = self.upgrades.get(&mv) else { return };
        let at = upgrade.retry.iter().map(Retry::at).fold(upgrade.deadline, Millis::min);
        self.deadlines.set(&mv, at);
    }

    fn send(&mut self, to: &NodeId, mv: u64, msg: MoveAsk) {
        let msg = NodeMessage::MoveAsk { mv, msg };
        self.outputs.push_back(TakerOutput::Send { to: to.clone(), msg });
    }
}
