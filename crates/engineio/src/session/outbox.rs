//! Frames that wait for the client, counted in bytes. The bound is the session's to keep.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::Frame;
use crate::payload::Encoder;

/// What a queued frame costs beside its bytes: its slot and its share of a buffer's header. Without it a queue of empty
/// frames would count as nothing.
const FRAME_COST: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Outbox {
    frames: VecDeque<Frame>,
    bytes: usize,
}

impl Outbox {
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn bytes_with(&self, frame: &Frame) -> usize {
        self.bytes + cost(frame)
    }

    pub fn push(&mut self, frame: Frame) {
        self.bytes += cost(&frame);
        self.frames.push_back(frame);
    }

    pub fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= cost(&frame);
        if self.frames.is_empty() {
            // An idle session keeps no buffer.
            self.frames = VecDeque::new();
        }
        Some(frame)
    }

    /// As many frames as fit one body, at least one when there is one.
    pub fn take_payload(&mut self, max_bytes: usize) -> Bytes {
        let mut encoder = Encoder::new(max_bytes);
        while self.frames.front().is_some_and(|frame| encoder.try_push(frame)) {
            self.pop();
        }
        encoder.finish()
    }

    pub fn into_frames(self) -> Vec<Frame> {
        self.frames.into()
    }
}

impl FromIterator<Frame> for Outbox {
    fn from_iter<I: IntoIterator<Item = Frame>>(frames: I) -> Self {
        let mut outbox = Self::default();
        for frame in frames {
            outbox.push(frame);
        }
        outbox
    }
}

fn cost(frame: &Frame) -> usize {
    FRAME_COST + frame.len()
}
