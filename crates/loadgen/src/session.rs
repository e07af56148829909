//! One Socket.IO client: connects over any transport, answers heartbeats, hands out packets.
//!
//! Owns the Engine.IO and Socket.IO handshakes, polling and the upgrade. Refuses to interpret events: callers look
//! at packets through `Vocabulary`. Must run inside a `LocalSet`.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::tokens::Tokens;
use crate::vocabulary::{Vocabulary, is_refusal};
use crate::wire::http::{self, Endpoint, HttpClient, HttpError};
use crate::wire::pipe::{self, Reader, Writer};
use crate::wire::ws::{self, Frame};

const RECORD_SEPARATOR: u8 = 0x1e;

/// Keeps one POST below any server's usual payload limit (1 MB).
const MAX_POST_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    Websocket,
    Polling,
    /// Starts by polling, upgrades once connected, as stock clients do.
    Upgrade,
}

/// Everything that all sessions of a run have in common.
#[derive(Debug)]
pub struct Target {
    /// The nodes; a session belongs to one of them.
    pub endpoints: Vec<Endpoint>,
    /// Local addresses to bind, round robin; empty: the system chooses.
    pub sources: Vec<IpAddr>,
    /// Engine.IO path with its trailing slash, such as `/socket.io/`.
    pub path: String,
    pub transport: Transport,
    pub vocabulary: Vocabulary,
    pub tokens: Tokens,
    /// Session `n` uses token `first_user + n`.
    pub first_user: usize,
    pub timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Http(#[from] HttpError),
    #[error(transparent)]
    Frame(#[from] ws::Oversized),
    #[error("unexpected packet during the handshake: {0}")]
    Handshake(String),
    #[error("refused: {0}")]
    Refused(String),
    #[error("closed by the server")]
    Closed,
    #[error("timed out")]
    TimedOut,
}

pub struct Session {
    outbound: Outbound,
    inbound: Inbound,
}

/// The sending side; clones send to the same session.
#[derive(Clone)]
pub enum Outbound {
    Websocket(Rc<Writer>),
    Polling(Rc<PostQueue>),
}

enum Inbound {
    Websocket { reader: Reader, fragments: Vec<u8>, early: Vec<Vec<u8>> },
    Polling(Poller),
}

impl Target {
    /// Connects session number `index` to node number `node` and its namespace.
    pub async fn connect(&self, index: usize, node: usize) -> Result<Session, SessionError> {
        let endpoint = &self.endpoints[node % self.endpoints.len()];
        let source = (!self.sources.is_empty()).then(|| self.sources[index % self.sources.len()]);
        let attempt = async {
            match self.transport {
                Transport::Websocket => self.connect_websocket(endpoint, source, index).await,
                Transport::Polling => self.connect_polling(endpoint, source, index).await,
                Transport::Upgrade => {
                    let session = self.connect_polling(endpoint, source, index).await?;
                    self.upgrade(session, endpoint, source).await
                }
            }
        };
        timeout(self.timeout, attempt).await.map_err(|_| SessionError::TimedOut)?
    }

    async fn connect_websocket(
        &self,
        endpoint: &Endpoint,
        source: Option<IpAddr>,
        index: usize,
    ) -> Result<Session, SessionError> {
        let target = format!("{}?EIO=4&transport=websocket", self.path);
        let (stream, leftover) = http::upgrade(endpoint, source, &target).await?;
        let (reader, writer) = pipe::split(stream, leftover);
        let inbound = Inbound::Websocket { reader, fragments: Vec::new(), early: Vec::new() };
        let mut session = Session { outbound: Outbound::Websocket(writer), inbound };
        session.until(|packet| packet.starts_with(b"0").then_some(())).await?;
        session.enter_namespace(self, index).await?;
        Ok(session)
    }

    async fn connect_polling(
        &self,
        endpoint: &Endpoint,
        source: Option<IpAddr>,
        index: usize,
    ) -> Result<Session, SessionError> {
        let mut http = HttpClient::new(endpoint.clone(), source);
        let opened = http.get(&format!("{}?EIO=4&transport=polling", self.path)).await?;
        let unexpected = || SessionError::Handshake(String::from_utf8_lossy(&opened).into_owned());
        let open = opened.strip_prefix(b"0").ok_or_else(unexpected)?;
        let open: serde_json::Value = serde_json::from_slice(open).map_err(|_| unexpected())?;
        let sid = open["sid"].as_str().ok_or_else(unexpected)?;
        let address = format!("{}?EIO=4&transport=polling&sid={sid}", self.path);
        let queue = Rc::new(PostQueue::default());
        let posts = HttpClient::new(endpoint.clone(), source);
        let poster = tokio::task::spawn_local(queue.clone().run(posts, address.clone()));
        let inbound = Inbound::Polling(Poller { http, address, poster, packets: Vec::new() });
        let mut session = Session { outbound: Outbound::Polling(queue), inbound };
        session.enter_namespace(self, index).await?;
        Ok(session)
    }

    /// Moves a polling session to a WebSocket: probe, wait for the pending poll to be released, then switch.
    async fn upgrade(
        &self,
        session: Session,
        endpoint: &Endpoint,
        source: Option<IpAddr>,
    ) -> Result<Session, SessionError> {
        let Inbound::Polling(mut poller) = session.inbound else { return Ok(session) };
        let address = poller.address.replace("transport=polling", "transport=websocket");
        let probe = async {
            let (stream, leftover) = http::upgrade(endpoint, source, &address).await?;
            let (reader, writer) = pipe::split(stream, leftover);
            let mut probing = Session {
                outbound: Outbound::Websocket(writer),
                inbound: Inbound::Websocket { reader, fragments: Vec::new(), early: Vec::new() },
            };
            probing.outbound.send("2probe");
            probing.until(|packet| (packet == b"3probe").then_some(())).await?;
            Ok::<Session, SessionError>(probing)
        };
        let pending_poll = poller.http.get(&poller.address);
        let (mut upgraded, polled) = tokio::try_join!(probe, async { Ok(pending_poll.await?) })?;
        upgraded.outbound.send("5");
        if let Inbound::Websocket { early, .. } = &mut upgraded.inbound {
            early.append(&mut poller.packets);
            early.extend(split_payload(&polled).map(<[u8]>::to_vec).filter(|packet| packet != b"6"));
        }
        Ok(upgraded)
    }
}

impl Session {
    pub fn outbound(&self) -> Outbound {
        self.outbound.clone()
    }

    /// Sends an event that asks for ack `id`, waits for the ack; other packets are dropped meanwhile.
    pub async fn request(&mut self, words: &Vocabulary, id: u32, event: &str) -> Result<(), SessionError> {
        self.outbound.send(event);
        self.until(|packet| {
            let (_, arguments) = words.ack(packet).filter(|(acked, _)| *acked == id)?;
            Some(match is_refusal(arguments) {
                true => Err(SessionError::Refused(String::from_utf8_lossy(arguments).into_owned())),
                false => Ok(()),
            })
        })
        .await?
    }

    /// Hands every packet to `on_packet` until the session ends.
    pub async fn run(mut self, mut on_packet: impl FnMut(&[u8])) -> SessionError {
        let ended: Result<Infallible, SessionError> = self
            .until(|packet| {
                on_packet(packet);
                None
            })
            .await;
        match ended {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    /// Hands packets to `pick` until it returns a value; packets behind that one are kept for the next call.
    pub async fn until<T>(&mut self, mut pick: impl FnMut(&[u8]) -> Option<T>) -> Result<T, SessionError> {
        let Session { outbound, inbound } = self;
        match inbound {
            Inbound::Polling(poller) => poller.until(outbound, &mut pick).await,
            Inbound::Websocket { reader, fragments, early } => {
                while !early.is_empty() {
                    let packet = early.remove(0);
                    if let Some(picked) = dispatch(&packet, outbound, &mut pick)? {
                        return Ok(picked);
                    }
                }
                let mut picked = None;
                reader.reconsider(|bytes| take_frames(bytes, fragments, outbound, &mut pick, &mut picked))?;
                loop {
                    if let Some(picked) = picked {
                        return Ok(picked);
                    }
                    reader
                        .read(|bytes| take_frames(bytes, fragments, outbound, &mut pick, &mut picked))
                        .await?;
                }
            }
        }
    }

    async fn enter_namespace(&mut self, target: &Target, index: usize) -> Result<(), SessionError> {
        let token = target.tokens.of(target.first_user + index);
        self.outbound.send(&target.vocabulary.connect(token.as_deref()));
        self.until(|packet| match packet {
            [b'4', b'0', ..] => Some(Ok(())),
            [b'4', b'4', ..] => {
                Some(Err(SessionError::Refused(String::from_utf8_lossy(packet).into_owned())))
            }
            _ => None,
        })
        .await?
    }
}

impl Outbound {
    /// Sends one Engine.IO text packet. Failures surface where the session is read.
    pub fn send(&self, packet: &str) {
        match self {
            Outbound::Polling(queue) => queue.push(packet),
            Outbound::Websocket(writer) => send_frame(writer, ws::TEXT, packet.as_bytes()),
        }
    }
}

fn send_frame(writer: &Rc<Writer>, opcode: u8, payload: &[u8]) {
    thread_local! {
        static FRAME: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    FRAME.with_borrow_mut(|frame| {
        frame.clear();
        // A fixed key that is not zero: servers must do the work of unmasking.
        ws::encode_client(frame, opcode, payload, [0x5a, 0xc3, 0x17, 0x8e]);
        writer.send(frame);
    });
}

/// Consumes whole frames up to the one that `pick` wants; returns the bytes used.
fn take_frames<T>(
    bytes: &[u8],
    fragments: &mut Vec<u8>,
    outbound: &Outbound,
    pick: &mut impl FnMut(&[u8]) -> Option<T>,
    picked: &mut Option<T>,
) -> Result<usize, SessionError> {
    let mut at = 0;
    while picked.is_none()
        && let Some(frame) = Frame::parse(&bytes[at..])?
    {
        let payload = &bytes[at..][frame.payload.clone()];
        at += frame.payload.end;
        *picked = match frame.opcode {
            ws::TEXT if frame.fin => dispatch(payload, outbound, pick)?,
            ws::TEXT => {
                fragments.extend_from_slice(payload);
                None
            }
            ws::CONTINUATION => {
                fragments.extend_from_slice(payload);
                if !frame.fin {
                    continue;
                }
                dispatch(&std::mem::take(fragments), outbound, pick)?
            }
            ws::PING => {
                if let Outbound::Websocket(writer) = outbound {
                    send_frame(writer, ws::PONG, payload);
                }
                None
            }
            ws::CLOSE => return Err(SessionError::Closed),
            _ => None,
        };
    }
    Ok(at)
}

/// Answers what Engine.IO wants answered and offers the rest.
fn dispatch<T>(
    packet: &[u8],
    outbound: &Outbound,
    pick: &mut impl FnMut(&[u8]) -> Option<T>,
) -> Result<Option<T>, SessionError> {
    match packet {
        b"2" => {
            outbound.send("3");
            Ok(None)
        }
        b"1" => Err(SessionError::Closed),
        [b'4', b'1', ..] => Err(SessionError::Closed),
        _ => Ok(pick(packet)),
    }
}

struct Poller {
    http: HttpClient,
    address: String,
    poster: JoinHandle<()>,
    /// Packets of the last answer that nobody has asked for yet.
    packets: Vec<Vec<u8>>,
}

impl Poller {
    async fn until<T>(
        &mut self,
        outbound: &Outbound,
        pick: &mut impl FnMut(&[u8]) -> Option<T>,
    ) -> Result<T, SessionError> {
        loop {
            let mut packets = std::mem::take(&mut self.packets).into_iter();
            while let Some(packet) = packets.next() {
                if let Some(picked) = dispatch(&packet, outbound, pick)? {
                    self.packets = packets.collect();
                    return Ok(picked);
                }
            }
            let answer = self.http.get(&self.address).await?;
            self.packets = split_payload(&answer).map(<[u8]>::to_vec).collect();
        }
    }
}

impl Drop for Poller {
    fn drop(&mut self) {
        self.poster.abort();
    }
}

fn split_payload(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    payload.split(|&byte| byte == RECORD_SEPARATOR)
}

/// Packets that wait for the POST in flight.
#[derive(Default)]
pub struct PostQueue {
    waiting: RefCell<Vec<u8>>,
    wake: Notify,
    failed: Cell<bool>,
}

impl PostQueue {
    fn push(&self, packet: &str) {
        if self.failed.get() {
            return;
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.is_empty() {
            waiting.push(RECORD_SEPARATOR);
        }
        waiting.extend_from_slice(packet.as_bytes());
        self.wake.notify_one();
    }

    async fn run(self: Rc<Self>, mut http: HttpClient, address: String) {
        loop {
            self.wake.notified().await;
            while let Some(body) = self.next_body() {
                if http.post(&address, &body).await.is_err() {
                    // The poll in flight fails too: an unanswered session is closed by the server.
                    return self.failed.set(true);
                }
            }
        }
    }

    fn next_body(&self) -> Option<Vec<u8>> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() <= MAX_POST_BYTES {
            return (!waiting.is_empty()).then(|| std::mem::take(&mut *waiting));
        }
        let cut = waiting[MAX_POST_BYTES..].iter().position(|&byte| byte == RECORD_SEPARATOR);
        let Some(cut) = cut.map(|offset| MAX_POST_BYTES + offset) else {
            return Some(std::mem::take(&mut *waiting));
        };
        let mut body: Vec<u8> = waiting.drain(..=cut).collect();
        body.pop();
        Some(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn posts_are_cut_between_packets() {
        let queue = PostQueue::default();
        let packet = "4".repeat(40 * 1024);
        for _ in 0..3 {
            queue.push(&packet);
        }
        assert_eq!(queue.next_body().unwrap().len(), 2 * packet.len() + 1);
        assert_eq!(queue.next_body().unwrap(), packet.as_bytes());
        assert_eq!(queue.next_body(), None);
    }
}
