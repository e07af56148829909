//! One TCP connection as two halves: a reader that lends every read to a parser, and a writer that writes at once
//! and keeps only what the kernel would not take.
//!
//! All readers of a thread share one scratch buffer, so an idle connection holds no buffer at all.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

const SCRATCH_BYTES: usize = 64 * 1024;

/// A peer that is this far behind is not coming back within a benchmark.
const MAX_UNSENT_BYTES: usize = 32 << 20;

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; SCRATCH_BYTES]);
}

/// Splits a connected stream. `leftover`: bytes that were already read behind a handshake.
pub fn split(stream: TcpStream, leftover: Vec<u8>) -> (Reader, Rc<Writer>) {
    let (read, write) = stream.into_split();
    let writer = Writer {
        half: write,
        unsent: RefCell::default(),
        flushing: Cell::new(false),
        broken: Cell::new(false),
    };
    (Reader { half: read, partial: leftover }, Rc::new(writer))
}

pub struct Reader {
    half: OwnedReadHalf,
    partial: Vec<u8>,
}

impl Reader {
    /// One read. `consume` sees everything unconsumed so far and says how many bytes it used.
    /// A closed connection is `UnexpectedEof`.
    pub async fn read<E: From<io::Error>>(
        &mut self,
        mut consume: impl FnMut(&mut [u8]) -> Result<usize, E>,
    ) -> Result<(), E> {
        let Reader { half, partial } = self;
        poll_fn(|cx| {
            SCRATCH.with_borrow_mut(|scratch| {
                let mut buf = ReadBuf::new(scratch);
                ready!(Pin::new(&mut *half).poll_read(cx, &mut buf))?;
                let fresh = buf.filled_mut();
                if fresh.is_empty() {
                    return Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()));
                }
                if partial.is_empty() {
                    let used = consume(fresh)?;
                    partial.extend_from_slice(&fresh[used..]);
                } else {
                    partial.extend_from_slice(fresh);
                    let used = consume(partial)?;
                    partial.drain(..used);
                }
                Poll::Ready(Ok(()))
            })
        })
        .await
    }

    /// Offers what an earlier `consume` left unread.
    pub fn reconsider<E>(&mut self, consume: impl FnOnce(&mut [u8]) -> Result<usize, E>) -> Result<(), E> {
        if self.partial.is_empty() {
            return Ok(());
        }
        let used = consume(&mut self.partial)?;
        self.partial.drain(..used);
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        Ok(())
    }
}

pub struct Writer {
    half: OwnedWriteHalf,
    unsent: RefCell<Vec<u8>>,
    flushing: Cell<bool>,
    broken: Cell<bool>,
}

impl Writer {
    /// One write(2), unless earlier bytes still wait; what the kernel does not take is written in the background.
    /// Must be called inside a `LocalSet`. Failures are silent here: the reader sees the connection end.
    pub fn send(self: &Rc<Self>, bytes: &[u8]) {
        let mut unsent = self.unsent.borrow_mut();
        if self.broken.get() || unsent.len() > MAX_UNSENT_BYTES {
            return self.broken.set(true);
        }
        let mut written = 0;
        if unsent.is_empty() {
            match self.half.try_write(bytes) {
                Ok(count) => written = count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return self.broken.set(true),
            }
        }
        if written == bytes.len() {
            return;
        }
        unsent.extend_from_slice(&bytes[written..]);
        if !self.flushing.replace(true) {
            tokio::task::spawn_local(flush(self.clone()));
        }
    }

    /// True after a write failed or the peer fell too far behind.
    pub fn is_broken(&self) -> bool {
        self.broken.get()
    }
}

async fn flush(writer: Rc<Writer>) {
    while !writer.unsent.borrow().is_empty() && !writer.is_broken() {
        if writer.half.writable().await.is_err() {
            writer.broken.set(true);
            break;
        }
        let mut unsent = writer.unsent.borrow_mut();
        match writer.half.try_write(&unsent) {
            Ok(count) => drop(unsent.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => writer.broken.set(true),
        }
    }
    writer.flushing.set(false);
}
