//! The floor: what a broadcast must cost at least. One thread, no Socket.IO stack: a message is framed once and its
//! bytes are written to every member's socket.
//!
//! Speaks just enough to serve `--app rooms` over WebSocket: handshake, CONNECT, `join`, `leave`, `send`, `store`,
//! `echo`. No heartbeats, no polling, no recovery: `store` is acked and broadcast like `send`.

mod fault;
mod request;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use rustc_hash::FxHashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

pub use self::fault::Fault;
use self::request::Request;
use crate::wire::pipe::{self, Writer};
use crate::wire::ws::{self, Frame};

const OPEN: &str =
    r#"0{"sid":"floor","upgrades":[],"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}"#;

const MAX_REQUEST_BYTES: usize = 8 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// One write(2) per delivery.
    PerDelivery,
    /// What one turn of the event loop owes a socket goes out in one write(2).
    PerTurn,
}

/// Serves until the process ends. `announce` learns the address once it is bound.
pub fn run(
    listen: SocketAddr,
    mode: Mode,
    fault: Fault,
    announce: impl FnOnce(SocketAddr),
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(listen).await?;
        announce(listener.local_addr()?);
        let hub = Rc::new(Hub::new(mode, fault));
        if mode == Mode::PerTurn {
            spawn_local(hub.clone().end_turns());
        }
        loop {
            let (stream, _) = listener.accept().await?;
            spawn_local(serve(hub.clone(), stream));
        }
    })
}

/// Errors end this connection and nothing else; the generator reports them from its side.
async fn serve(hub: Rc<Hub>, stream: TcpStream) {
    let Ok((stream, leftover)) = accept_websocket(stream).await else { return };
    let (mut reader, writer) = pipe::split(stream, leftover);
    let peer = Rc::new(Peer {
        writer,
        outbox: RefCell::default(),
        rooms: RefCell::default(),
        held: Cell::default(),
    });
    hub.reply(&peer, OPEN.as_bytes());
    let mut outcome = reader.reconsider(|bytes| hub.consume(&peer, bytes));
    while outcome.is_ok() {
        outcome = reader.read(|bytes| hub.consume(&peer, bytes)).await;
    }
    hub.forget(&peer);
}

async fn accept_websocket(mut stream: TcpStream) -> io::Result<(TcpStream, Vec<u8>)> {
    stream.set_nodelay(true)?;
    let mut request = Vec::new();
    let end = loop {
        if let Some(end) = memchr::memmem::find(&request, b"\r\n\r\n") {
            break end + 4;
        }
        if request.len() > MAX_REQUEST_BYTES || stream.read_buf(&mut request).await? == 0 {
            return Err(io::ErrorKind::InvalidData.into());
        }
    };
    let leftover = request.split_off(end);
    let head = String::from_utf8_lossy(&request);
    let key = head.lines().filter_map(|line| line.split_once(':'));
    let mut key = key.filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
    let Some((_, key)) = key.next() else { return Err(io::ErrorKind::InvalidData.into()) };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.trim().as_bytes())
    );
    stream.write_all(answer.as_bytes()).await?;
    Ok((stream, leftover))
}

type RoomName = Box<[u8]>;

/// All sockets and rooms.
struct Hub {
    mode: Mode,
    fault: Fault,
    deliveries: Cell<u64>,
    rooms: RefCell<FxHashMap<RoomName, Vec<Rc<Peer>>>>,
    /// Peers whose outbox waits for the end of the turn.
    owed: RefCell<Vec<Rc<Peer>>>,
    turn: Notify,
}

struct Peer {
    writer: Rc<Writer>,
    outbox: RefCell<Vec<u8>>,
    rooms: RefCell<Vec<RoomName>>,
    /// A frame that a fault keeps back until the next one.
    held: Cell<Option<Vec<u8>>>,
}

impl Hub {
    fn new(mode: Mode, fault: Fault) -> Self {
        Hub {
            mode,
            fault,
            deliveries: Cell::new(0),
            rooms: RefCell::default(),
            owed: RefCell::default(),
            turn: Notify::new(),
        }
    }

    /// Handles all whole frames; returns the bytes used.
    fn consume(&self, peer: &Rc<Peer>, bytes: &mut [u8]) -> io::Result<usize> {
        let mut at = 0;
        while let Some(frame) = Frame::parse(&bytes[at..]).map_err(io::Error::other)? {
            let payload = &mut bytes[at..][frame.payload.clone()];
            at += frame.payload.end;
            if let Some(key) = frame.mask {
                ws::apply_mask(payload, key);
            }
            match frame.opcode {
                ws::TEXT => self.handle(peer, payload)?,
                ws::CLOSE => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ => {}
            }
        }
        Ok(at)
    }

    fn handle(&self, peer: &Rc<Peer>, packet: &[u8]) -> io::Result<()> {
        match Request::parse(packet) {
            Request::Connect => self.reply(peer, br#"40{"sid":"floor"}"#),
            Request::Join { ack, room } => {
                self.join(peer, room);
                self.ack(peer, ack, b"");
            }
            Request::Leave { ack, room } => {
                self.leave(peer, room);
                self.ack(peer, ack, b"");
            }
            Request::Send { ack, room, arguments } => {
                self.broadcast(room, arguments);
                self.ack(peer, ack, b"");
            }
            Request::Echo { ack, arguments } => self.ack(peer, ack, arguments),
            Request::Disconnect => return Err(io::ErrorKind::ConnectionAborted.into()),
            Request::Other => {}
        }
        Ok(())
    }

    fn broadcast(&self, room: &[u8], arguments: &[u8]) {
        let packet = [br#"42["event","#, arguments, b"]"].concat();
        let mut frame = Vec::with_capacity(packet.len() + 10);
        ws::encode_server(&mut frame, ws::TEXT, &packet);
        if let Some(members) = self.rooms.borrow().get(room) {
            for member in members {
                match self.fault {
                    Fault::None => self.write(member, &frame),
                    fault => self.write_wrongly(fault, member, &frame),
                }
            }
        }
    }

    fn write_wrongly(&self, fault: Fault, peer: &Rc<Peer>, frame: &[u8]) {
        self.deliveries.set(self.deliveries.get() + 1);
        let held = peer.held.take();
        match fault.strikes(self.deliveries.get()) {
            Fault::None => self.write(peer, frame),
            Fault::Drop(_) => {}
            Fault::Duplicate(_) => self.write(peer, &[frame, frame].concat()),
            Fault::Reorder(_) => peer.held.set(Some(frame.to_vec())),
        }
        if let Some(held) = held {
            self.write(peer, &held);
        }
    }

    fn write(&self, peer: &Rc<Peer>, frame: &[u8]) {
        if self.mode == Mode::PerDelivery {
            return peer.writer.send(frame);
        }
        let mut outbox = peer.outbox.borrow_mut();
        if outbox.is_empty() {
            self.owed.borrow_mut().push(peer.clone());
            self.turn.notify_one();
        }
        outbox.extend_from_slice(frame);
    }

    /// Runs behind all tasks that the same poll of the kernel woke, because the run queue is first in, first out.
    async fn end_turns(self: Rc<Self>) {
        loop {
            self.turn.notified().await;
            for peer in self.owed.take() {
                let mut outbox = peer.outbox.borrow_mut();
                peer.writer.send(&outbox);
                outbox.clear();
            }
        }
    }

    fn ack(&self, peer: &Rc<Peer>, ack: Option<&[u8]>, arguments: &[u8]) {
        if let Some(id) = ack {
            self.reply(peer, &[b"43", id, b"[", arguments, b"]"].concat());
        }
    }

    fn reply(&self, peer: &Rc<Peer>, packet: &[u8]) {
        let mut frame = Vec::with_capacity(packet.len() + 10);
        ws::encode_server(&mut frame, ws::TEXT, packet);
        self.write(peer, &frame);
    }

    fn join(&self, peer: &Rc<Peer>, room: &[u8]) {
        self.leave(peer, room);
        self.rooms.borrow_mut().entry(room.into()).or_default().push(peer.clone());
        peer.rooms.borrow_mut().push(room.into());
    }

    fn leave(&self, peer: &Rc<Peer>, room: &[u8]) {
        if let Some(members) = self.rooms.borrow_mut().get_mut(room) {
            members.retain(|member| !Rc::ptr_eq(member, peer));
        }
        peer.rooms.borrow_mut().retain(|joined| **joined != *room);
    }

    fn forget(&self, peer: &Rc<Peer>) {
        for room in peer.rooms.take() {
            self.leave(peer, &room);
        }
    }
}
