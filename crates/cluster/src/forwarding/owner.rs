//! The node that owns the session.

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

/// The first confirmation waits this long: most requests are answered before, and the answer confirms.
const CONFIRM_AFTER_MS: Millis = CONFIRM_WITHIN_MS / 2;
/// An answer is repeated after this time, then after twice as long, and so on up to the next constant.
const RESEND_MS: Millis = 250;
const RESEND_MAX_MS: Millis = 1_000;
/// Repetitions of an answer nobody reacts to; it is given up 5.75 s after the first.
const MAX_RESENDS: u32 = 6;
/// A POST of which no new part arrives for this long is dropped unexecuted: its forwarder has given up.
const INCOMPLETE_MS: Millis = 10_000;

/// Requests other nodes forwarded here.
#[derive(Debug)]
pub struct ForwardOwner {
    limits: ForwardLimits,
    held: BTreeMap<ForwardKey, Held>,
    deadlines: Deadlines<ForwardKey>,
    finished: Remembered<ForwardKey, Finished>,
    bytes: usize,
    outputs: VecDeque<ForwardOwnerOutput>,
}

/// A forwarded request: the id its node chose, and that node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardKey {
    pub req: u64,
    pub from: NodeId,
}

#[derive(Clone, Debug)]
pub enum ForwardOwnerInput {
    Message {
        from: NodeId,
        req: u64,
        msg: ForwardAsk,
    },
    /// The session's answer to `Deliver`.
    Answered {
        key: ForwardKey,
        answer: Answer,
    },
    /// There is no such session, or it ended without an answer: the client gets 400 code 1.
    SessionGone {
        key: ForwardKey,
    },
    /// The forwarding node does not exist: what was sent with this tag had no receiver.
    NoResponders {
        req: u64,
    },
    Tick,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardOwnerOutput {
    Send {
        to: NodeId,
        msg: NodeMessage,
    },
    /// Give this to the session; once per request. Answer with `Answered` or `SessionGone`.
    Deliver {
        key: ForwardKey,
        sid: Sid,
        ask: Ask,
    },
    /// The client of this poll went away, or its answer was perhaps never written: close the session.
    PollGone {
        key: ForwardKey,
        sid: Sid,
    },
}

#[derive(Debug)]
struct Held {
    sid: Sid,
    /// A poll that took data out of the session, or may: its answer must not get lost. A refused one took nothing.
    poll: bool,
    phase: Phase,
    /// Counted against the table's limit.
    bytes: usize,
}

#[derive(Debug)]
enum Phase {
    /// Parts of a POST are missing.
    Receiving { body: Assembly, parts: u32, give_up: Millis },
    /// The session has it.
    Delivered { all: u64 },
    /// The answer is under way.
    Answering { answer: Answer, parts: Vec<Bytes>, resends: u32 },
    /// The forwarder has the answer and is writing it.
    Writing { misses: u32 },
}

#[derive(Clone, Copy, Debug)]
enum Finished {
    Over,
    /// Refused for want of room; said again when asked again.
    Refused,
}

impl ForwardOwner {
    pub fn new(limits: ForwardLimits) -> Self {
        Self {
            limits,
            held: BTreeMap::new(),
            deadlines: Deadlines::default(),
            finished: Remembered::new(FORGET_MS, MAX_REMEMBERED),
            bytes: 0,
            outputs: VecDeque::new(),
        }
    }

    pub fn handle(&mut self, now: Millis, input: ForwardOwnerInput) {
        match input {
            ForwardOwnerInput::Message { from, req, msg } => {
                self.message(now, ForwardKey { req, from }, msg);
            }
            ForwardOwnerInput::Answered { key, answer } => self.answered(now, &key, answer),
            ForwardOwnerInput::SessionGone { key } => self.answered(now, &key, unknown_session()),
            ForwardOwnerInput::NoResponders { req } => self.no_responders(now, req),
            ForwardOwnerInput::Tick => self.tick(now),
        }
    }

    /// The node that asked `req`.
    pub fn peer(&self, req: u64) -> Option<&NodeId> {
        let (key, _) = self.held.range(ForwardKey { req, from: Arc::from("") }..).next()?;
        (key.req == req).then_some(&key.from)
    }

    pub fn poll_output(&mut self) -> Option<ForwardOwnerOutput> {
        self.outputs.pop_front()
    }

    /// When `Tick` is due.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.deadlines.next()
    }

    fn message(&mut self, now: Millis, key: ForwardKey, msg: ForwardAsk) {
        match msg {
            ForwardAsk::Request { sid, part } if self.held.contains_key(&key) => {
                self.again(now, &key, &sid, part);
            }
            ForwardAsk::Request { sid, part } => self.request(now, key, sid, part),
            ForwardAsk::Writing => self.writing(now, &key),
            ForwardAsk::Wrote => self.wrote(now, &key),
            ForwardAsk::Gone => self.gone(now, key),
        }
    }

    fn request(&mut self, now: Millis, key: ForwardKey, sid: Sid, part: AskPart) {
        match self.finished.get(&key) {
            Some(Finished::Over) => return,
            Some(Finished::Refused) => return self.send_refusal(&key),
            None => {}
        }
        let poll = matches!(part, AskPart::Get);
        let bytes = if let AskPart::Post { bytes, .. } = &part { bytes.len() } else { 0 };
        if self.held.len() >= self.limits.max_forwards || self.bytes + bytes > self.limits.max_bytes {
            self.remember(now, key.clone(), Finished::Refused);
            return self.send_refusal(&key);
        }
        self.deadlines.set(&key, now + CONFIRM_AFTER_MS);
        let (phase, whole) = match &part {
            AskPart::Get => (Phase::Delivered { all: 1 }, Some(Ask::Get)),
            AskPart::Check => (Phase::Delivered { all: 1 }, Some(Ask::Check)),
            AskPart::Post { parts: 1, bytes, .. } => {
                (Phase::Delivered { all: 1 }, Some(Ask::Post(bytes.clone())))
            }
            AskPart::Post { parts, .. } => {
                let (body, parts) = (Assembly::new(*parts), *parts);
                (Phase::Receiving { body, parts, give_up: now + INCOMPLETE_MS }, None)
            }
        };
        self.held.insert(key.clone(), Held { sid: sid.clone(), poll, phase, bytes: 0 });
        match whole {
            Some(ask) => self.outputs.push_back(ForwardOwnerOutput::Deliver { key, sid, ask }),
            None => self.again(now, &key, &sid, part),
        }
    }

    /// A part of a request that is already here.
    fn again(&mut self, now: Millis, key: &ForwardKey, sid: &Sid, part: AskPart) {
        let Some(held) = self.held.get_mut(key) else { return };
        match (&mut held.phase, part) {
            (Phase::Receiving { body, parts, give_up }, AskPart::Post { part, parts: count, bytes }) => {
                let len = bytes.len();
                // No room: the forwarder repeats the part later, or gives up.
                if self.bytes + len > self.limits.max_bytes {
                    return;
                }
                if body.has(part) {
                    return self.confirm(now, key);
                }
                if body.put(part, count, bytes) {
                    *give_up = now + INCOMPLETE_MS;
                    held.bytes += len;
                    self.bytes += len;
                }
                let Some(whole) = body.whole() else { return };
                held.phase = Phase::Delivered { all: parts::all(*parts) };
                self.bytes -= std::mem::take(&mut held.bytes);
                let (key, sid, ask) = (key.clone(), sid.clone(), Ask::Post(whole));
                self.outputs.push_back(ForwardOwnerOutput::Deliver { key, sid, ask });
            }
            (Phase::Receiving { .. }, AskPart::Get | AskPart::Check) => {}
            (Phase::Delivered { .. } | Phase::Writing { .. }, _) => self.confirm(now, key),
            // The answer is repeated by its own timer.
            (Phase::Answering { .. }, _) => {}
        }
    }

    fn confirm(&mut self, now: Millis, key: &ForwardKey) {
        let Some(held) = self.held.get(key) else { return };
        let have = match &held.phase {
            Phase::Receiving { body, .. } => body.have(),
            Phase::Delivered { all } => *all,
            Phase::Answering { .. } | Phase::Writing { .. } => u64::MAX,
        };
        self.deadlines.set(key, now + CONFIRM_EVERY_MS);
        self.reply(key, ForwardReply::Confirm { have });
    }

    fn answered(&mut self, now: Millis, key: &ForwardKey, answer: Answer) {
        let Some(held) = self.held.get_mut(key) else { return };
        if !matches!(held.phase, Phase::Delivered { .. }) {
            return;
        }
        held.poll &= answer.status == 200;
        let len = answer.body.len();
        let cut =
            parts::cut(&answer.body, MAX_PART_BYTES).filter(|_| self.bytes + len <= self.limits.max_bytes);
        let Some(parts) = cut else {
            self.lose(now, key);
            return self.send_refusal(key);
        };
        self.bytes += len;
        held.bytes = len;
        held.phase = Phase::Answering { answer, parts, resends: 0 };
        self.deadlines.set(key, now + RESEND_MS);
        self.send_answer(key);
    }

    fn send_answer(&mut self, key: &ForwardKey) {
        let Some(Held { phase: Phase::Answering { answer, parts, .. }, .. }) = self.held.get(key) else {
            return;
        };
        let count = parts.len() as u32;
        for (bytes, part) in parts.iter().zip(0..) {
            let (status, content, bytes) = (answer.status, answer.content.clone(), bytes.clone());
            let msg = ForwardReply::Answer { part, parts: count, status, content, bytes };
            let msg = NodeMessage::ForwardReply { req: key.req, msg };
            self.outputs.push_back(ForwardOwnerOutput::Send { to: key.from.clone(), msg });
        }
    }

    fn writing(&mut self, now: Millis, key: &ForwardKey) {
        let Some(held) = self.held.get_mut(key) else { return };
        match &mut held.phase {
            Phase::Answering { .. } => {
                self.bytes -= std::mem::take(&mut held.bytes);
                held.phase = Phase::Writing { misses: 0 };
                self.deadlines.set(key, now + CONFIRM_EVERY_MS);
            }
            Phase::Writing { misses } => *misses = 0,
            Phase::Receiving { .. } | Phase::Delivered { .. } => {}
        }
    }

    fn wrote(&mut self, now: Millis, key: &ForwardKey) {
        let answered = |held: &Held| matches!(held.phase, Phase::Answering { .. } | Phase::Writing { .. });
        if self.held.get(key).is_some_and(answered) {
            self.finish(now, key);
        }
    }

    fn gone(&mut self, now: Millis, key: ForwardKey) {
        if self.held.contains_key(&key) {
            return self.lose(now, &key);
        }
        // It may have overtaken the request, which then must not be executed.
        self.remember(now, key, Finished::Over);
    }

    fn no_responders(&mut self, now: Millis, req: u64) {
        let first = ForwardKey { req, from: Arc::from("") };
        let keys: Vec<_> =
            self.held.range(first..).map(|(key, _)| key).take_while(|key| key.req == req).cloned().collect();
        for key in keys {
            self.lose(now, &key);
        }
    }

    /// The answer has, or will have, no reader.
    fn lose(&mut self, now: Millis, key: &ForwardKey) {
        if let Some(held) = self.finish(now, key)
            && held.poll
        {
            self.outputs.push_back(ForwardOwnerOutput::PollGone { key: key.clone(), sid: held.sid });
        }
    }

    fn tick(&mut self, now: Millis) {
        self.finished.expire(now);
        while let Some(key) = self.deadlines.pop(now) {
            self.due(now, &key);
        }
    }

    fn due(&mut self, now: Millis, key: &ForwardKey) {
        let Some(held) = self.held.get_mut(key) else { return };
        match &mut held.phase {
            Phase::Receiving { give_up, .. } if *give_up <= now => self.lose(now, key),
            Phase::Receiving { .. } | Phase::Delivered { .. } => self.confirm(now, key),
            Phase::Answering { resends, .. } if *resends >= MAX_RESENDS => self.lose(now, key),
            Phase::Answering { resends, .. } => {
                *resends += 1;
                let wait = (RESEND_MS << *resends).min(RESEND_MAX_MS);
                self.deadlines.set(key, now + wait);
                self.send_answer(key);
            }
            Phase::Writing { misses } if *misses >= MAX_MISSES => self.lose(now, key),
            Phase::Writing { misses } => {
                *misses += 1;
                self.confirm(now, key);
            }
        }
    }

    fn finish(&mut self, now: Millis, key: &ForwardKey) -> Option<Held> {
        let held = self.held.remove(key)?;
        self.deadlines.clear(key);
        self.bytes -= held.bytes;
        self.remember(now, key.clone(), Finished::Over);
        Some(held)
    }

    fn remember(&mut self, now: Millis, key: ForwardKey, how: Finished) {
        self.finished.expire(now);
        self.finished.insert(now, key, how);
    }

    fn send_refusal(&mut self, key: &ForwardKey) {
        let (status, content, bytes) = (503, Arc::from(""), Bytes::new());
        self.reply(key, ForwardReply::Answer { part: 0, parts: 1, status, content, bytes });
    }

    fn reply(&mut self, key: &ForwardKey, msg: ForwardReply) {
        let msg = NodeMessage::ForwardReply { req: key.req, msg };
        self.outputs.push_back(ForwardOwnerOutput::Send { to: key.from.clone(), msg });
    }
}

fn unknown_session() -> Answer {
    Answer {
        status: 400,
        content: Arc::from("application/json"),
        body: Bytes::from_static(br#"{"code":1,"message":"Session ID unknown"}"#),
    }
}
