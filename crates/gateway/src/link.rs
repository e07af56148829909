//! One WebSocket's socket: prepared bytes go straight to it; what it does not take waits in a bounded outbox.
//!
//! Frames are complete before they get here, so that writers of one core interleave at frame boundaries only. Reading
//! (and answering pings and closes) is tungstenite's, through [`LinkIo`].

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, Bytes, BytesMut};
use engineio::Frame;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::inflating::Inflating;

/// Most pieces one write takes.
const MAX_SLICES: usize = 64;

/// How a client reads and writes, as its request said.
#[derive(Clone, Copy, Debug, Default)]
pub struct Habits {
    /// It reads binary messages as base64 text (`b64`).
    pub base64: bool,
    /// It takes compressed messages and may send some; those with so many bytes are compressed.
    pub compress_over: Option<usize>,
}

/// A WebSocket of this core.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    pub habits: Habits,
    /// The client speaks JSON frames, and answers the WebSocket's own pings instead of Engine.IO's.
    pub plain: bool,
    out: RefCell<Outbox>,
    /// Wakes the reader when this side ends the connection.
    pub closing: Notify,
    /// Wakes a reader that was told to wait.
    pub resume: Notify,
    /// Wakes a waiting writer when the connection is given up.
    dead: Notify,
}

#[derive(Debug, Default)]
struct Outbox {
    queue: VecDeque<Bytes>,
    bytes: usize,
    state: OutboxState,
    /// Nothing follows what is queued: the writing side ends behind it.
    finishing: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OutboxState {
    #[default]
    Idle,
    /// Listed for the flush at the end of this turn.
    Listed,
    /// The socket is full; a task waits for it.
    Blocked,
    /// Nothing is written any more.
    Broken,
}

/// What a push asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// List the link for [`Link::flush`].
    List,
    /// A flush or a waiting task is under way, or the connection is gone.
    Waits,
}

/// How a flush ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    Done,
    /// [`Link::drain`] is needed.
    Blocked,
    /// [`Link::drain`] is under way.
    Waits,
    Broken,
}

impl Link {
    pub fn new(stream: TcpStream, habits: Habits) -> Self {
        Self {
            stream,
            habits,
            plain: false,
            out: RefCell::default(),
            closing: Notify::new(),
            resume: Notify::new(),
            dead: Notify::new(),
        }
    }

    /// The same for a plain client.
    pub fn plain(stream: TcpStream, habits: Habits) -> Self {
        Self { plain: true, ..Self::new(stream, habits) }
    }

    /// The bytes of a frame of the session machine, as this client reads them.
    pub fn bytes_of(&self, frame: &Frame) -> Bytes {
        match self.habits {
            _ if self.plain && *frame == Frame::PING => ws_ping_bytes(),
            Habits { base64: false, compress_over: Some(over) } => hub::deflate::ws_bytes([frame], over),
            Habits { base64, .. } => ws_bytes(frame, base64),
        }
    }

    /// Bytes that wait for the socket.
    pub fn queued_bytes(&self) -> usize {
        self.out.borrow().bytes
    }

    /// Appends complete WebSocket frames.
    pub fn push(&self, bytes: Bytes) -> Pushed {
        let mut out = self.out.borrow_mut();
        if out.state == OutboxState::Broken || out.finishing {
            return Pushed::Waits;
        }
        out.bytes += bytes.len();
        out.queue.push_back(bytes);
        if out.state == OutboxState::Idle {
            out.state = OutboxState::Listed;
            return Pushed::List;
        }
        Pushed::Waits
    }

    /// Writes what it can without waiting: one call for all that a turn has queued.
    pub fn flush(&self) -> Flushed {
        if self.out.borrow().state == OutboxState::Blocked { Flushed::Waits } else { self.write_out() }
    }

    fn write_out(&self) -> Flushed {
        let mut out = self.out.borrow_mut();
        if out.state == OutboxState::Broken {
            return Flushed::Broken;
        }
        loop {
            if out.queue.is_empty() {
                out.state = OutboxState::Idle;
                if out.finishing {
                    self.shut_down();
                }
                // A burst's buffer is not kept by an idle connection.
                if out.queue.capacity() > 8 {
                    out.queue = VecDeque::new();
                }
                return Flushed::Done;
            }
            match self.write_once(&out.queue) {
                Ok(written) => out.advance(written),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    out.state = OutboxState::Blocked;
                    return Flushed::Blocked;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    *out = Outbox { state: OutboxState::Broken, ..Outbox::default() };
                    return Flushed::Broken;
                }
            }
        }
    }

    fn write_once(&self, queue: &VecDeque<Bytes>) -> io::Result<usize> {
        if queue.len() == 1 {
            return self.stream.try_write(&queue[0]);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = queue.len().min(MAX_SLICES);
        for (slice, bytes) in slices.iter_mut().zip(queue) {
            *slice = IoSlice::new(bytes);
        }
        self.stream.try_write_vectored(&slices[..count])
    }

    /// Waits for the socket and writes until the outbox is empty or the connection is gone.
    pub async fn drain(&self) {
        loop {
            let writable = tokio::select! {
                ready = self.stream.writable() => ready.is_ok(),
                () = self.dead.notified() => return,
            };
            match self.write_out() {
                Flushed::Blocked if writable => {}
                _ => return,
            }
        }
    }

    /// Ends the connection behind what is queued and these bytes. Later frames go nowhere.
    pub fn finish(self: &Rc<Self>, last: Bytes) {
        self.push(last);
        self.end();
        self.closing.notify_one();
    }

    /// Ends the writing side behind what is queued.
    pub fn end(self: &Rc<Self>) {
        self.out.borrow_mut().finishing = true;
        flush(self);
    }

    fn shut_down(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        // A connection that is gone already cannot be shut down; that is the aim.
        let _ = socket.shutdown(std::net::Shutdown::Write);
    }

    /// Gives the connection up: what waits is dropped, later frames go nowhere.
    pub fn abandon(&self) {
        *self.out.borrow_mut() = Outbox { state: OutboxState::Broken, ..Outbox::default() };
        // A connection that is gone already cannot be shut down; that is the aim.
        let _ = socket2::SockRef::from(&self.stream).shutdown(std::net::Shutdown::Both);
        self.dead.notify_one();
        self.closing.notify_one();
        self.resume.notify_one();
    }

    /// Reads on and forgets, until the client has closed its side: closing over unread data would reset the connection, and
    /// what was sent last might be lost.
    pub async fn discard(&self) {
        let mut scrap = [0; 4096];
        while self.stream.readable().await.is_ok() {
            match self.stream.try_read(&mut scrap) {
                Ok(0) => return,
                Err(e) if e.kind() != io::ErrorKind::WouldBlock => return,
                _ => {}
            }
        }
    }
}

impl Outbox {
    fn advance(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(head) = self.queue.front_mut() {
            if written < head.len() {
                head.advance(written);
                return;
            }
            written -= head.len();
            self.queue.pop_front();
        }
    }
}

/// Writes what waits; what the socket does not take now, a task of this core writes later.
pub fn flush(link: &Rc<Link>) {
    if link.flush() == Flushed::Blocked {
        let link = link.clone();
        tokio::task::spawn_local(async move { link.drain().await });
    }
}

/// The bytes of a frame of the session machine, for a link with this encoding of binary messages.
pub fn ws_bytes(frame: &Frame, base64: bool) -> Bytes {
    let encoded: String;
    let (opcode, payload): (u8, &[u8]) = match frame {
        Frame::Text(text) => (1, text.as_bytes()),
        Frame::Binary(bytes) if base64 => {
            encoded = format!("b{}", STANDARD.encode(bytes));
            (1, encoded.as_bytes())
        }
        Frame::Binary(bytes) => (2, bytes),
    };
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    hub::ws_frame_into(&mut out, opcode, payload);
    out.freeze()
}

/// A frame of a client that sends binary messages as base64 text; other text is what it is.
pub fn from_base64(frame: Frame) -> Frame {
    let Frame::Text(text) = &frame else { return frame };
    let bytes = text.as_bytes().strip_prefix(b"b").and_then(|encoded| STANDARD.decode(encoded).ok());
    bytes.map_or(frame, |bytes| Frame::Binary(bytes.into()))
}

/// A ping (RFC 6455 section 5.5.2).
fn ws_ping_bytes() -> Bytes {
    let mut out = BytesMut::with_capacity(2);
    hub::ws_frame_into(&mut out, 9, &[]);
    out.freeze()
}

/// A close frame (RFC 6455 section 5.5.1).
pub fn ws_close_bytes(code: u16) -> Bytes {
    let mut out = BytesMut::with_capacity(4);
    hub::ws_frame_into(&mut out, 8, &code.to_be_bytes());
    out.freeze()
}

/// The link as tungstenite sees it: reads come from the socket, its control frames go through the outbox.
#[derive(Debug)]
pub struct LinkIo {
    pub link: Rc<Link>,
    /// Read with the HTTP request.
    pub ahead: Bytes,
    /// Set where the client may send compressed messages.
    pub inflating: Option<Box<Inflating>>,
}

impl AsyncRead for LinkIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.inflating.is_some() {
            return self.poll_inflated(cx, buf);
        }
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(count));
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(self.link.stream.poll_read_ready(cx))?;
            match self.link.stream.try_read(buf.initialize_unfilled()) {
                Ok(count) => {
                    buf.advance(count);
                    return Poll::Ready(Ok(()));
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl LinkIo {
    fn poll_inflated(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        const PIECE: usize = 2048;
        let Self { link, ahead, inflating } = self;
        let inflating = inflating.as_mut().expect("asked of clients that compress only");
        inflating.feed(&std::mem::take(ahead));
        loop {
            let ready = inflating.ready();
            if !ready.is_empty() {
                let count = ready.len().min(buf.remaining());
                buf.put_slice(&ready.split_to(count));
                if ready.is_empty() {
                    // A large message's buffer is not kept by an idle connection.
                    *ready = BytesMut::new();
                }
                return Poll::Ready(Ok(()));
            }
            ready!(link.stream.poll_read_ready(cx))?;
            let mut piece = [0; PIECE];
            match link.stream.try_read(&mut piece) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) => inflating.feed(&piece[..count]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }
}

impl AsyncWrite for LinkIo {
    /// tungstenite writes whole control frames; they are taken whole, so none is torn by a broadcast. A client that does not
    /// read gets no pongs: its pings must not fill our memory.
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let blocked = self.link.out.borrow().state == OutboxState::Blocked;
        if !blocked && self.link.push(Bytes::copy_from_slice(bytes)) == Pushed::List {
            flush(&self.link);
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.link.shut_down();
        Poll::Ready(Ok(()))
    }
}
