//! Bodies: a bounded read of what comes, and an answer whose writing is told to the session's owner.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Frame, SizeHint};

use crate::peers::Peers;

/// Why a body was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    BrokenOff,
    TooSlow,
}

/// Reads a body up to one byte more than `max`, so that the session sees that it is too large.
pub async fn read_body(body: Body, max: usize, within: Duration) -> Result<Bytes, BodyError> {
    let read = tokio::time::timeout(within, read(body, max)).await;
    read.map_err(|_| BodyError::TooSlow)?.ok_or(BodyError::BrokenOff)
}

async fn read(mut body: Body, max: usize) -> Option<Bytes> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 4;

    async fn read_chunks(chunks: Vec<Result<&'static str, std::io::Error>>) -> Result<Bytes, BodyError> {
        let stream = futures_util::stream::iter(chunks);
        read_body(Body::from_stream(stream), MAX, Duration::from_secs(60)).await
    }

    #[tokio::test]
    async fn a_body_is_read_whole_or_one_byte_over_the_limit() {
        assert_eq!(read_chunks(vec![]).await.unwrap(), "");
        assert_eq!(read_chunks(vec![Ok("ab"), Ok("cd")]).await.unwrap(), "abcd");
        assert_eq!(read_chunks(vec![Ok("abc"), Ok("defg"), Ok("h")]).await.unwrap(), "abcde");
        let broken = vec![Ok("a"), Err(std::io::Error::other("reset"))];
        assert_eq!(read_chunks(broken).await, Err(BodyError::BrokenOff));
    }

    #[tokio::test]
    async fn a_body_that_never_ends_is_given_up() {
        let silent = futures_util::stream::pending::<Result<Bytes, std::io::Error>>();
        let read = read_body(Body::from_stream(silent), MAX, Duration::from_millis(1)).await;
        assert_eq!(read, Err(BodyError::TooSlow));
    }
}
