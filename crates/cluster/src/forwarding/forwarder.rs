//! The node that holds the HTTP request.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::deadlines::{Deadlines, Remembered};
use super::parts::{self, Assembly};
use super::{
    Answer, Ask, CONFIRM_EVERY_MS, CONFIRM_WITHIN_MS, FORGET_MS, ForwardLimits, MAX_MISSES, MAX_REMEMBERED,
    Millis,
};
use crate::node_message::{AskPart, ForwardAsk, ForwardReply, MAX_PART_BYTES, NodeId, NodeMessage, Sid};

/// Requests this node forwards, by their id.
#[derive(Debug)]
pub struct Forwarder {
    limits: ForwardLimits,
    forwards: BTreeMap<u64, Forward>,
    deadlines: Deadlines<u64>,
    /// Requests whose answer was written: a doubled answer is told so again.
    wrote: Remembered<u64, ()>,
    bytes: usize,
    outputs: VecDeque<ForwarderOutput>,
}

#[derive(Clone, Debug)]
pub enum ForwarderInput {
    /// A request for a session of `owner`. `req` is random and new.
    Start {
        req: u64,
        owner: NodeId,
        sid: Sid,
        ask: Ask,
    },
    /// The client hung up, before or while its answer was written.
    ClientGone {
        req: u64,
    },
    /// The answer was written to the client.
    Written {
        req: u64,
    },
    Message {
        from: NodeId,
        req: u64,
        msg: ForwardReply,
    },
    /// The owner's node does not exist: what was sent with this tag had no receiver. Not said of a node that only lost its
    /// connection; that is a miss.
    NoResponders {
        req: u64,
    },
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwarderOutput {
    Send {
        to: NodeId,
        msg: NodeMessage,
    },
    /// Write this to the client, once, then say `Written` or `ClientGone`.
    Answer {
        req: u64,
        answer: Answer,
    },
    /// Nobody will answer: HTTP 503 if overloaded, otherwise 400 code 1. The request is forgotten; say nothing more about
    /// it.
    Fail {
        req: u64,
        reason: FailReason,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailReason {
    #[error("too many requests are being forwarded")]
    Overloaded,
    #[error("the body is too large to forward")]
    TooLarge,
    #[error("the owner's node does not exist")]
    NoOwner,
    #[error("the owner did not confirm")]
    Unconfirmed,
}

#[derive(Debug)]
struct Forward {
    owner: NodeId,
    sid: Sid,
    phase: Phase,
    misses: u32,
    /// Counted against the table's limit.
    bytes: usize,
}

#[derive(Debug)]
enum Phase {
    /// The owner has not confirmed all parts.
    Sending { parts: Vec<AskPart>, have: u64 },
    /// The session will answer. `again` is repeated to ask whether the owner lives.
    Held { again: AskPart, all: u64, answer: Option<Assembly> },
    /// The answer is with the client's connection.
    Writing,
}

impl Forwarder {
    pub fn new(limits: ForwardLimits) -> Self {
        Self {
            limits,
            forwards: BTreeMap::new(),
            deadlines: Deadlines::default(),
            wrote: Remembered::new(FORGET_MS, MAX_REMEMBERED),
            bytes: 0,
            outputs: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, now: Millis, input: ForwarderInput) {
        match input {
            ForwarderInput::Start { req, owner, sid, ask } => self.start(now, req, owner, sid, ask),
            ForwarderInput::ClientGone { req } => self.client_gone(req),
            ForwarderInput::Written { req } => self.written(now, req),
            ForwarderInput::Message { from, req, msg } => self.message(now, from, req, msg),
            ForwarderInput::NoResponders { req } => self.no_responders(req),
            ForwarderInput::Tick => self.tick(now),
        }
    }

    /// The node that is asked `req`.
    pub fn peer(&self, req: u64) -> Option<&NodeId> {
        self.forwards.get(&req).map(|forward| &forward.owner)
    }

    pub fn poll_output(&mut self) -> Option<ForwarderOutput> {
        self.outputs.pop_front()
    }

    /// When `Tick` is due.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.deadlines.next()
    }

    fn start(&mut self, now: Millis, req: u64, owner: NodeId, sid: Sid, ask: Ask) {
        let (parts, bytes) = match ask {
            Ask::Get => (vec![AskPart::Get], 0),
            Ask::Check => (vec![AskPart::Check], 0),
            Ask::Post(body) => match post_parts(&body) {
                Some(parts) => (parts, body.len()),
                None => return self.fail(req, FailReason::TooLarge),
            },
        };
        if self.forwards.len() >= self.limits.max_forwards || self.bytes + bytes > self.limits.max_bytes {
            return self.fail(req, FailReason::Overloaded);
        }
        for part in &parts {
            self.ask(&owner, req, ForwardAsk::Request { sid: sid.clone(), part: part.clone() });
        }
        self.bytes += bytes;
        self.deadlines.set(&req, now + CONFIRM_WITHIN_MS);
        let phase = Phase::Sending { parts, have: 0 };
        self.forwards.insert(req, Forward { owner, sid, phase, misses: 0, bytes });
    }

    fn client_gone(&mut self, req: u64) {
        if let Some(forward) = self.remove(req) {
            self.ask(&forward.owner, req, ForwardAsk::Gone);
        }
    }

    fn written(&mut self, now: Millis, req: u64) {
        if let Some(forward) = self.remove(req) {
            self.wrote.expire(now);
            self.wrote.insert(now, req, ());
            self.ask(&forward.owner, req, ForwardAsk::Wrote);
        }
    }

    fn message(&mut self, now: Millis, from: NodeId, req: u64, msg: ForwardReply) {
        let Some(forward) = self.forwards.get_mut(&req) else {
            let known = if self.wrote.get(&req).is_some() { ForwardAsk::Wrote } else { ForwardAsk::Gone };
            return self.ask(&from, req, known);
        };
        if forward.owner != from {
            return;
        }
        match msg {
            _ if matches!(forward.phase, Phase::Writing) => self.ask(&from, req, ForwardAsk::Writing),
            ForwardReply::Confirm { have } => self.confirmed(now, req, have),
            ForwardReply::Answer { part, parts, status, content, bytes } => {
                self.answer_part(now, req, (part, parts, bytes), (status, content));
            }
        }
    }

    fn confirmed(&mut self, now: Millis, req: u64, confirmed: u64) {
        let Some(forward) = self.forwards.get_mut(&req) else { return };
        match &mut forward.phase {
            Phase::Sending { parts, have } => {
                let all = parts::all(parts.len() as u32);
                let grown = (*have | confirmed) & all;
                if grown != *have {
                    *have = grown;
                    forward.misses = 0;
                }
                if grown == all {
                    self.hold(now, req);
                }
            }
            // An owner that has less than it had is another process with an old name: it will not answer.
            Phase::Held { all, .. } if confirmed & *all == *all => self.heard(now, req),
            Phase::Held { .. } | Phase::Writing => {}
        }
    }

    /// The owner has the whole request: the body goes, one part stays to ask with.
    fn hold(&mut self, now: Millis, req: u64) {
        let Some(forward) = self.forwards.get_mut(&req) else { return };
        if let Phase::Sending { parts, .. } = &mut forward.phase {
            let all = parts::all(parts.len() as u32);
            let again = std::mem::take(parts).into_iter().next().unwrap_or(AskPart::Get);
            let kept = part_bytes(&again);
            self.bytes -= forward.bytes - kept;
            forward.bytes = kept;
            forward.phase = Phase::Held { again, all, answer: None };
        }
        self.heard(now, req);
    }

    fn heard(&mut self, now: Millis, req: u64) {
        if let Some(forward) = self.forwards.get_mut(&req) {
            forward.misses = 0;
            self.deadlines.set(&req, now + CONFIRM_EVERY_MS + CONFIRM_WITHIN_MS);
        }
    }

    fn answer_part(
        &mut self,
        now: Millis,
        req: u64,
        (part, parts, bytes): (u32, u32, Bytes),
        (status, content): (u16, Arc<str>),
    ) {
        self.hold(now, req);
        let Some(forward) = self.forwards.get_mut(&req) else { return };
        let Phase::Held { answer, .. } = &mut forward.phase else { return };
        let len = bytes.len();
        // No room: the owner repeats the part later, or gives up.
        if self.bytes + len > self.limits.max_bytes && parts > 1 {
            return;
        }
        let assembly = answer.get_or_insert_with(|| Assembly::new(parts));
        if !assembly.put(part, parts, bytes) {
            return;
        }
        let whole = assembly.whole();
        self.bytes += len;
        forward.bytes += len;
        if let Some(body) = whole {
            self.bytes -= std::mem::take(&mut forward.bytes);
            forward.phase = Phase::Writing;
            self.deadlines.clear(&req);
            let answer = Answer { status, content, body };
            self.outputs.push_back(ForwarderOutput::Answer { req, answer });
        }
    }

    fn no_responders(&mut self, req: u64) {
        // While the answer is written the owner is not needed any more.
        if self.forwards.get(&req).is_some_and(|forward| !matches!(forward.phase, Phase::Writing)) {
            self.remove(req);
            self.fail(req, FailReason::NoOwner);
        }
    }

    fn tick(&mut self, now: Millis) {
        self.wrote.expire(now);
        while let Some(req) = self.deadlines.pop(now) {
            self.missed(now, req);
        }
    }

    fn missed(&mut self, now: Millis, req: u64) {
        let Some(forward) = self.forwards.get_mut(&req) else { return };
        forward.misses += 1;
        let (owner, sid) = (forward.owner.clone(), forward.sid.clone());
        if forward.misses >= MAX_MISSES {
            self.remove(req);
            self.ask(&owner, req, ForwardAsk::Gone);
            return self.fail(req, FailReason::Unconfirmed);
        }
        let (again, wait): (Vec<AskPart>, _) = match &forward.phase {
            Phase::Sending { parts, have } => {
                let missing = parts.iter().enumerate().filter(|(n, _)| have & (1 << n) == 0);
                (missing.map(|(_, part)| part.clone()).collect(), CONFIRM_WITHIN_MS)
            }
            Phase::Held { again, .. } => (vec![again.clone()], CONFIRM_EVERY_MS),
            Phase::Writing => return,
        };
        self.deadlines.set(&req, now + wait);
        for part in again {
            self.ask(&owner, req, ForwardAsk::Request { sid: sid.clone(), part });
        }
    }

    fn remove(&mut self, req: u64) -> Option<Forward> {
        let forward = self.forwards.remove(&req)?;
        self.deadlines.clear(&req);
        self.bytes -= forward.bytes;
        Some(forward)
    }

    fn ask(&mut self, to: &NodeId, req: u64, msg: ForwardAsk) {
        let msg = NodeMessage::ForwardAsk { req, msg };
        self.outputs.push_back(ForwarderOutput::Send { to: to.clone(), msg });
    }

    fn fail(&mut self, req: u64, reason: FailReason) {
        self.outputs.push_back(ForwarderOutput::Fail { req, reason });
    }
}

fn post_parts(body: &Bytes) -> Option<Vec<AskPart>> {
    let cut = parts::cut(body, MAX_PART_BYTES)?;
    let parts = cut.len() as u32;
    Some(cut.into_iter().zip(0..).map(|(bytes, part)| AskPart::Post { part, parts, bytes }).collect())
}

fn part_bytes(part: &AskPart) -> usize {
    match part {
        AskPart::Post { bytes, .. } => bytes.len(),
        AskPart::Get | AskPart::Check => 0,
    }
}
