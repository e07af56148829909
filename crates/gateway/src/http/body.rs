//! Bodies: a bounded read of what comes, and an answer whose writing is told to the session's owner.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use crate::peers::Peers;

/// Reads a body up to one byte more than `max`, so that the session sees that it is too large. `None`: the client broke off.
pub async fn read_body(mut body: Body, max: usize) -> Option<Bytes> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.ok()?.into_data() else { continue };
        let room = (max + 1).saturating_sub(all.len());
        all.extend_from_slice(&data[..data.len().min(room)]);
        if all.len() > max {
            break;
        }
    }
    Some(all.freeze())
}

/// A forwarded request until its answer is written: dropped before, it tells the owner that the client is gone.
#[derive(Debug)]
pub struct Forwarded {
    peers: Peers,
    req: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    /// hyper has taken the bytes.
    Taken,
    Settled,
}

impl Forwarded {
    pub fn new(peers: Peers, req: u64) -> Self {
        Self { peers, req, state: State::Waiting }
    }

    /// The request failed: there is nothing to tell.
    pub fn disarm(mut self) {
        self.state = State::Settled;
    }

    pub fn into_body(self, bytes: Bytes) -> Body {
        Body::new(Answer { forwarded: self, bytes: Some(bytes) })
    }
}

impl Drop for Forwarded {
    fn drop(&mut self) {
        match self.state {
            State::Waiting => self.peers.client_gone(self.req),
            State::Taken => self.peers.written(self.req),
            State::Settled => {}
        }
    }
}

struct Answer {
    forwarded: Forwarded,
    bytes: Option<Bytes>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.forwarded.state = State::Taken;
        Poll::Ready(self.bytes.take().filter(|bytes| !bytes.is_empty()).map(|bytes| Ok(Frame::data(bytes))))
    }

    /// Never before the bytes are taken, or an empty body would not be polled and its writing not be told.
    fn is_end_stream(&self) -> bool {
        self.forwarded.state == State::Taken && self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
