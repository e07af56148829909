//! What the owner sends until it is confirmed: the chunks of the state, and the numbered pieces of the tails. Both keep
//! at most a window unconfirmed, so that a large state does not flood the connection all nodes share.

use std::collections::VecDeque;

use bytes::Bytes;

use super::retry::Retry;
use super::{CHUNK_BYTES, Millis, WINDOW};
use crate::forwarding::parts;
use crate::node_message::MoveReply;

/// Chunks of a state, confirmed one by one.
#[derive(Debug)]
pub(super) struct Chunks {
    /// `None`: confirmed.
    chunks: Vec<Option<Bytes>>,
    sent: usize,
    /// Runs while a sent chunk is not confirmed.
    retry: Option<Retry>,
}

impl Chunks {
    pub(super) fn new(chunks: Vec<Bytes>) -> Self {
        Self { chunks: chunks.into_iter().map(Some).collect(), sent: 0, retry: None }
    }

    pub(super) fn all_sent(&self) -> bool {
        self.sent == self.chunks.len()
    }

    /// Chunks that were not sent and fit the window.
    pub(super) fn fresh(&mut self, now: Millis, tails: u32) -> Vec<MoveReply> {
        let unconfirmed = self.chunks[..self.sent].iter().flatten().count();
        let from = self.sent;
        self.sent = self.chunks.len().min(from + WINDOW.saturating_sub(unconfirmed));
        if self.sent > from && self.retry.is_none() {
            self.retry = Some(Retry::new(now));
        }
        self.messages(from, tails)
    }

    pub(super) fn got(&mut self, now: Millis, chunk: u32) {
        if let Some(slot) = self.chunks.get_mut(chunk as usize)
            && slot.take().is_some()
        {
            let open = self.chunks[..self.sent].iter().any(Option::is_some);
            self.retry = open.then(|| Retry::new(now));
        }
    }

    /// Chunks to send again.
    pub(super) fn again(&mut self, now: Millis, tails: u32) -> Vec<MoveReply> {
        if due(&mut self.retry, now) { self.messages(0, tails) } else { Vec::new() }
    }

    pub(super) fn next_timeout(&self) -> Option<Millis> {
        self.retry.as_ref().map(Retry::at)
    }

    fn messages(&self, from: usize, tails: u32) -> Vec<MoveReply> {
        let chunks = self.chunks.len() as u32;
        let state = |(chunk, slot): (u32, &Option<Bytes>)| {
            slot.clone().map(|bytes| MoveReply::State { chunk, chunks, tails, bytes })
        };
        (0..).zip(&self.chunks[..self.sent]).skip(from).filter_map(state).collect()
    }
}

/// Results of commands, each cut into pieces; the pieces are numbered through and confirmed in order.
#[derive(Debug, Default)]
pub(super) struct Tails {
    expected: u32,
    given: u32,
    pieces: VecDeque<(bool, Bytes)>,
    /// Number of the first piece in `pieces`.
    first: u32,
    sent: usize,
    /// Runs while a sent piece is not confirmed.
    retry: Option<Retry>,
}

impl Tails {
    pub(super) fn new(expected: u32) -> Self {
        Self { expected, ..Self::default() }
    }

    pub(super) fn expected(&self) -> u32 {
        self.expected
    }

    /// One more result; more than were announced, or one no session could have sent (16 MiB), are dropped.
    pub(super) fn push(&mut self, bytes: &Bytes) {
        if self.given == self.expected {
            return;
        }
        self.given += 1;
        let pieces = parts::cut(bytes, CHUNK_BYTES).unwrap_or_else(|| vec![Bytes::new()]);
        let last = pieces.len() - 1;
        self.pieces.extend(pieces.into_iter().enumerate().map(|(n, piece)| (n < last, piece)));
    }

    pub(super) fn fresh(&mut self, now: Millis) -> Vec<MoveReply> {
        let from = self.sent;
        self.sent = self.pieces.len().min(WINDOW);
        if self.sent > from && self.retry.is_none() {
            self.retry = Some(Retry::new(now));
        }
        self.messages(from)
    }

    /// Everything below `next` has arrived.
    pub(super) fn got(&mut self, now: Millis, next: u32) {
        while self.first < next && self.sent > 0 {
            self.pieces.pop_front();
            self.first += 1;
            self.sent -= 1;
            self.retry = (self.sent > 0).then(|| Retry::new(now));
        }
    }

    pub(super) fn again(&mut self, now: Millis) -> Vec<MoveReply> {
        if due(&mut self.retry, now) { self.messages(0) } else { Vec::new() }
    }

    pub(super) fn done(&self) -> bool {
        self.given == self.expected && self.pieces.is_empty()
    }

    pub(super) fn next_timeout(&self) -> Option<Millis> {
        self.retry.as_ref().map(Retry::at)
    }

    fn messages(&self, from: usize) -> Vec<MoveReply> {
        let tail = |(seq, (more, bytes)): (u32, &(bool, Bytes))| {
            let (more, bytes) = (*more, bytes.clone());
            MoveReply::Tail { seq, more, bytes }
        };
        (self.first..).zip(self.pieces.iter().take(self.sent)).skip(from).map(tail).collect()
    }
}

fn due(retry: &mut Option<Retry>, now: Millis) -> bool {
    retry.as_mut().is_some_and(|retry| retry.due(now))
}
