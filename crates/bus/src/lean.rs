//! The lean connection: all room traffic of a process on one socket, in the server's order.
//!
//! Owns the task that connects, reads and writes, the acks of durable publishes, the echo rounds and the feed. Handles
//! from any thread put frames into the [`Outbox`]; nothing here waits for a caller. Start at [`start`].

use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rustc_hash::{FxHashMap, FxHashSet};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_rustls::rustls::ClientConfig;
use url::Url;

use crate::config::BusConfig;
use crate::feed::FeedQueue;
use crate::link::{self, Info, Io, Link, LinkError};
use crate::listen::{self, Listeners};
use crate::lock;
use crate::metrics::Metrics;
use crate::outbox::{Outbox, Pacer, Refused, Wake};
use crate::time::unix_ms;
use crate::types::{FeedEvent, ServerInfo, SubId};
use crate::wire::{self, Frame, Message, Parser, WireError};

/// Own subscriptions of the connection; the caller's start after them.
const INBOX_SID: u64 = 1;
const ECHO_SID: u64 = 2;
const ADVISORY_SID: u64 = 3;
const FIRST_ROOM_SID: u64 = 16;

/// Everybody's echo responder answers here.
const ECHO_SUBJECT: &str = "tl.echo";
/// JetStream tells here which stream elected a leader; the last token is the stream.
const LEADER_ADVISORY: &str = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.*";

/// Read buffer: large enough for many small messages per system call, small enough to be pinned by a slice of it.
const READ_CHUNK_BYTES: usize = 32 * 1024;
const READ_SPARE_BYTES: usize = 4 * 1024;

/// Reads before the writer gets its turn: a flood of messages must not hold up acks, pongs and publishes.
const READS_PER_TURN: u32 = 4;

/// A write buffer that grew beyond this in a burst is given back.
const KEEP_WRITE_BYTES: usize = 1024 * 1024;

/// Unanswered pings after which a connection is given up.
const MAX_PINGS_OUT: usize = 2;

/// What an awaited publish got.
#[derive(Debug)]
pub(crate) enum Answer {
    /// Body of the reply: a JetStream ack, or nothing for a flush.
    Reply(Bytes),
    /// Nobody listens on the subject: no stream takes it, or the stream has no leader.
    NoResponders,
    /// The connection broke before the answer.
    Lost,
}

/// State shared by the task and all handles.
#[derive(Debug)]
pub(crate) struct Shared {
    pub config: BusConfig,
    pub metrics: Metrics,
    pub feed: Arc<FeedQueue>,
    pub listeners: Listeners,
    /// Prefix of our reply subjects; its random part is also our name in echo answers.
    inbox: String,
    outbox: Mutex<Outbox>,
    writer: Notify,
    answers: Mutex<FxHashMap<u64, oneshot::Sender<Answer>>>,
    echoes: Mutex<FxHashMap<u64, EchoRound>>,
    next_id: AtomicU64,
    next_sid: AtomicU64,
    next_listener: AtomicU64,
    connected: watch::Sender<bool>,
    max_payload: AtomicUsize,
    server: Mutex<ServerInfo>,
    /// When the server last sent something, in Unix milliseconds: what it sent later was not received.
    heard_ms: AtomicU64,
}

#[derive(Debug)]
struct EchoRound {
    expected: usize,
    nodes: FxHashSet<Bytes>,
    done: Option<oneshot::Sender<()>>,
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("the server closed it")]
    Closed,
    #[error("the server does not answer pings")]
    Silent,
    #[error("the server said: {0}")]
    Server(String),
}

/// Keeps the connection for as long as the returned task lives. The first one is usable when this returns.
pub(crate) fn start(shared: &Arc<Shared>, link: Link, addresses: Addresses) -> JoinHandle<()> {
    shared.attach(&link.info, true);
    tokio::spawn(run(Arc::clone(shared), link, addresses))
}

async fn run(shared: Arc<Shared>, mut link: Link, mut addresses: Addresses) {
    loop {
        addresses.discover(&link.info);
        let ended = session(&shared, link).await;
        tracing::warn!(reason = %ended, "the room connection to NATS is lost");
        shared.detach();
        link = reconnect(&shared, &addresses).await;
        shared.attach(&link.info, false);
    }
}

async fn reconnect(shared: &Shared, addresses: &Addresses) -> Link {
    loop {
        for address in addresses.shuffled() {
            tokio::time::sleep(shared.config.reconnect_delay()).await;
            match Link::open(&address, &shared.config, &addresses.tls).await {
                Ok(link) => {
                    shared.metrics.reconnects.inc();
                    tracing::info!(server = %link::shown(&address), "the room connection to NATS is back");
                    return link;
                }
                Err(error) => tracing::debug!(server = %link::shown(&address), %error, "no connection"),
            }
        }
    }
}

/// Reads, writes and pings until one of them ends.
async fn session(shared: &Shared, link: Link) -> Ended {
    let (reader, writer) = tokio::io::split(link.io);
    let heard = AtomicU64::new(0);
    let mut reading = Reading { shared, reader, parser: link.parser, buffer: link.buffer, heard: &heard };
    // Reading first, in bounded turns: acks and room messages before new work. Any of the three ends the session.
    tokio::select! {
        biased;
        ended = reading.run() => ended,
        ended = write_loop(shared, writer) => ended,
        ended = ping_loop(shared, &heard) => ended,
    }
}

/// Where to connect: the configured addresses, and those the cluster told about.
#[derive(Debug)]
pub(crate) struct Addresses {
    configured: Vec<Url>,
    discovered: Vec<Url>,
    tls: Arc<ClientConfig>,
}

impl Addresses {
    pub(crate) fn new(configured: Vec<Url>, tls: ClientConfig) -> Self {
        Self { configured, discovered: Vec::new(), tls: Arc::new(tls) }
    }

    /// First connection: every address once.
    pub(crate) async fn open_any(&self, config: &BusConfig) -> Result<Link, LinkError> {
        let mut last = LinkError::TimedOut;
        for address in self.shuffled() {
            match Link::open(&address, config, &self.tls).await {
                Ok(link) => return Ok(link),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn discover(&mut self, info: &Info) {
        self.discovered = info
            .connect_urls
            .iter()
            .filter_map(|text| link::parse_address(text).ok())
            .map(|mut address| {
                // The login of a configured address counts for the whole cluster.
                if let Some(known) = self.configured.first() {
                    let _ = address.set_username(known.username());
                    let _ = address.set_password(known.password());
                }
                address
            })
            .filter(|address| self.configured.iter().all(|known| link::shown(known) != link::shown(address)))
            .collect();
    }

    fn shuffled(&self) -> Vec<Url> {
        let shuffle = |urls: &[Url]| {
            let mut urls = urls.to_vec();
            for last in (1..urls.len()).rev() {
                urls.swap(last, rand::random_range(0..=last));
            }
            urls
        };
        let mut all = shuffle(&self.configured);
        all.extend(shuffle(&self.discovered));
        all
    }
}

impl Shared {
    pub(crate) fn new(config: BusConfig, metrics: Metrics, info: &Info) -> Arc<Self> {
        let name: u128 = rand::random();
        let inbox = format!("_INBOX.tl{name:032x}");
        let mut outbox = Outbox::new(config.max_pending_bytes);
        let _ = outbox.subscribe(INBOX_SID, &format!("{inbox}.>"));
        let _ = outbox.subscribe(ECHO_SID, ECHO_SUBJECT);
        let _ = outbox.subscribe(ADVISORY_SID, LEADER_ADVISORY);
        Arc::new(Self {
            feed: Arc::new(FeedQueue::new(config.max_feed_bytes)),
            listeners: Listeners::default(),
            config,
            metrics,
            inbox,
            outbox: Mutex::new(outbox),
            writer: Notify::new(),
            answers: Mutex::default(),
            echoes: Mutex::default(),
            next_id: AtomicU64::new(1),
            next_sid: AtomicU64::new(FIRST_ROOM_SID),
            next_listener: AtomicU64::new(listen::FIRST_SID),
            connected: watch::Sender::new(false),
            max_payload: AtomicUsize::new(info.max_payload),
            server: Mutex::new(server_info(info)),
            heard_ms: AtomicU64::new(unix_ms()),
        })
    }

    pub(crate) fn server_info(&self) -> ServerInfo {
        lock(&self.server).clone()
    }

    pub(crate) fn max_payload(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed)
    }

    pub(crate) fn connection(&self) -> watch::Receiver<bool> {
        self.connected.subscribe()
    }

    pub(crate) fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    pub(crate) fn publish(&self, subject: &str, payload: &[u8]) -> Result<(), Refused> {
        let wake = lock(&self.outbox).publish(subject, payload)?;
        self.wake(wake);
        Ok(())
    }

    pub(crate) fn subscribe(&self, subject: &str) -> SubId {
        let sid = self.next_sid.fetch_add(1, Ordering::Relaxed);
        let wake = lock(&self.outbox).subscribe(sid, subject);
        self.wake(wake);
        SubId(sid)
    }

    pub(crate) fn unsubscribe(&self, sub: SubId) {
        let wake = lock(&self.outbox).unsubscribe(sub.0);
        self.wake(wake);
    }

    /// A subscription beside the feed; see [`listen`]. `interest` may name a queue group behind the subject.
    pub(crate) fn listen(&self, interest: &str, capacity: usize) -> (u64, mpsc::Receiver<Message>) {
        let sid = self.next_listener.fetch_add(1, Ordering::Relaxed);
        // Known before it is sent: its first message may come at once.
        let messages = self.listeners.add(sid, capacity);
        let wake = lock(&self.outbox).subscribe(sid, interest);
        self.wake(wake);
        (sid, messages)
    }

    /// Frames that are of no use on a later connection.
    pub(crate) fn send(&self, put: impl FnOnce(&mut Vec<u8>)) -> Result<(), Refused> {
        let wake = lock(&self.outbox).send(put)?;
        self.wake(wake);
        Ok(())
    }

    /// Waits until the server has taken everything queued before the call; false at the deadline or when the connection
    /// breaks.
    pub(crate) async fn flush(self: &Arc<Self>, deadline: Instant) -> bool {
        let sent = self.request(|out, reply| wire::put_pub(out, reply, None, b""));
        let Ok((_ticket, answer)) = sent else { return false };
        self.urge();
        matches!(tokio::time::timeout_at(deadline.into(), answer).await, Ok(Ok(Answer::Reply(_))))
    }

    /// Sends frames that ask for one answer: `put` gets the reply subject. The answer comes on the receiver; give the
    /// ticket up to forget it.
    pub(crate) fn request(
        self: &Arc<Self>,
        put: impl FnOnce(&mut Vec<u8>, &str),
    ) -> Result<(Ticket, oneshot::Receiver<Answer>), Refused> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let reply = format!("{}.a.{id}", self.inbox);
        let (sender, receiver) = oneshot::channel();
        // Known before it is sent: a connection that breaks in between must find it.
        lock(&self.answers).insert(id, sender);
        let ticket = Ticket { shared: Arc::clone(self), id };
        let wake = lock(&self.outbox).send(|out| put(out, &reply))?;
        self.wake(wake);
        Ok((ticket, receiver))
    }

    /// Asks all echo responders; returns how many distinct nodes answered (this one included) until `expected` did or
    /// the time was over.
    pub(crate) async fn echo(&self, expected: usize, wait: Duration) -> usize {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let reply = format!("{}.e.{id}", self.inbox);
        let (done, finished) = oneshot::channel();
        lock(&self.echoes).insert(id, EchoRound { expected, nodes: FxHashSet::default(), done: Some(done) });
        let _forget = Forget { shared: self, id };
        let sent = lock(&self.outbox).send(|out| wire::put_pub(out, ECHO_SUBJECT, Some(&reply), b""));
        if let Ok(wake) = sent {
            self.wake(wake);
            let _ = tokio::time::timeout(wait, finished).await;
        }
        let answered = lock(&self.echoes).get(&id).map_or(0, |round| round.nodes.len());
        if answered < expected {
            self.metrics.echo_timeouts.inc();
        }
        answered
    }

    /// What waits to be written waits no longer.
    pub(crate) fn urge(&self) {
        let wake = lock(&self.outbox).urge();
        self.wake(wake);
    }

    fn wake(&self, wake: Wake) {
        if wake == Wake::Yes {
            self.writer.notify_one();
        }
    }

    /// Waits until `bytes` wait to be written.
    async fn output(&self, bytes: usize) {
        while !lock(&self.outbox).holds(bytes) {
            self.writer.notified().await;
        }
    }

    fn attach(&self, info: &Info, first: bool) {
        *lock(&self.server) = server_info(info);
        self.max_payload.store(info.max_payload, Ordering::Relaxed);
        lock(&self.outbox).connect();
        self.heard_ms.store(unix_ms(), Ordering::Relaxed);
        self.feed.push(&mut vec![FeedEvent::Connected { first }]);
        self.metrics.connected.set(1);
        self.connected.send_replace(true);
    }

    /// Order matters: once the outbox refuses, no answer can be registered as sent any more, so draining gets all.
    fn detach(&self) {
        let dropped = lock(&self.outbox).disconnect();
        self.metrics.dropped.with_label_values(&["disconnected"]).inc_by(dropped);
        self.metrics.connected.set(0);
        self.connected.send_replace(false);
        for (_, answer) in lock(&self.answers).drain() {
            let _ = answer.send(Answer::Lost);
        }
        let at_ms = self.heard_ms.load(Ordering::Relaxed);
        self.feed.push(&mut vec![FeedEvent::Disconnected { at_ms }]);
    }
}

fn server_info(info: &Info) -> ServerInfo {
    ServerInfo {
        version: info.version.clone(),
        max_payload: info.max_payload,
        clustered: info.cluster.is_some(),
        name: info.server_name.clone(),
    }
}

/// An answer that is waited for; dropping it forgets the answer.
#[derive(Debug)]
pub(crate) struct Ticket {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        lock(&self.shared.answers).remove(&self.id);
    }
}

struct Forget<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        lock(&self.shared.echoes).remove(&self.id);
    }
}

struct Reading<'a> {
    shared: &'a Shared,
    reader: ReadHalf<Box<dyn Io>>,
    parser: Parser,
    buffer: BytesMut,
    /// Reads so far; the ping loop looks whether it moves.
    heard: &'a AtomicU64,
}

impl Reading<'_> {
    async fn run(&mut self) -> Ended {
        let mut events = Vec::new();
        let mut reads: u32 = 0;
        loop {
            let parsed = self.parse(&mut events);
            if !events.is_empty() {
                let dropped = self.shared.feed.push(&mut events);
                self.shared.metrics.dropped.with_label_values(&["feed_full"]).inc_by(dropped);
            }
            if let Err(ended) = parsed {
                return ended;
            }
            match read_some(&mut self.reader, &self.parser, &mut self.buffer).await {
                Ok(0) => return Ended::Closed,
                Ok(bytes) => self.shared.metrics.received_bytes.inc_by(bytes as u64),
                Err(error) => return error.into(),
            }
            self.heard.fetch_add(1, Ordering::Relaxed);
            self.shared.heard_ms.store(unix_ms(), Ordering::Relaxed);
            reads = reads.wrapping_add(1);
            if reads.is_multiple_of(READS_PER_TURN) {
                tokio::task::yield_now().await;
            }
        }
    }

    fn parse(&mut self, events: &mut Vec<FeedEvent>) -> Result<(), Ended> {
        while let Some(frame) = self.parser.next(&mut self.buffer)? {
            match frame {
                Frame::Message(message) => self.shared.receive(message, events),
                Frame::Ping => self.shared.send_line(b"PONG\r\n"),
                Frame::Pong | Frame::Ok => {}
                Frame::Info(json) => self.shared.note_info(&json),
                Frame::Error(text) => self.shared.note_error(text)?,
            }
        }
        Ok(())
    }
}

async fn read_some(
    reader: &mut (impl AsyncRead + Unpin),
    parser: &Parser,
    buffer: &mut BytesMut,
) -> std::io::Result<usize> {
    let missing = parser.needed().saturating_sub(buffer.len());
    if buffer.capacity() - buffer.len() < missing.max(READ_SPARE_BYTES) {
        buffer.reserve(missing.max(READ_CHUNK_BYTES));
    }
    reader.read_buf(buffer).await
}

impl Shared {
    fn receive(&self, message: Message, events: &mut Vec<FeedEvent>) {
        match message.sid {
            INBOX_SID => self.receive_answer(message),
            ECHO_SID => self.answer_echo(&message),
            ADVISORY_SID => events.extend(leader_changed(&message)),
            listen::FIRST_SID.. => {
                if !self.listeners.deliver(message) {
                    self.metrics.dropped.with_label_values(&["listener_full"]).inc();
                }
            }
            _ => {
                self.metrics.received.inc();
                events.push(room_message(message));
            }
        }
    }

    /// `<inbox>.a.<id>`: the answer of a request; `<inbox>.e.<id>`: an echo.
    fn receive_answer(&self, message: Message) {
        let Some((kind, id)) = answer_id(&message.subject, self.inbox.len()) else { return };
        if kind == b'e' {
            return self.receive_echo(id, message.payload);
        }
        if let Some(waiting) = lock(&self.answers).remove(&id) {
            let no_responders = matches!(wire::status(&message.headers), Some((503, _)));
            let answer = if no_responders { Answer::NoResponders } else { Answer::Reply(message.payload) };
            let _ = waiting.send(answer);
        }
    }

    fn receive_echo(&self, id: u64, node: Bytes) {
        if let Entry::Occupied(mut entry) = lock(&self.echoes).entry(id) {
            let round = entry.get_mut();
            round.nodes.insert(node);
            if round.nodes.len() >= round.expected
                && let Some(done) = round.done.take()
            {
                let _ = done.send(());
            }
        }
    }

    /// In the order of everything this node publishes: what was queued before the question goes out before the answer.
    fn answer_echo(&self, message: &Message) {
        let Some(reply) = message.reply.as_ref().and_then(|reply| std::str::from_utf8(reply).ok()) else {
            return;
        };
        let name = self.inbox.as_bytes();
        if let Ok(wake) = lock(&self.outbox).send(|out| wire::put_pub(out, reply, None, name)) {
            self.wake(wake);
        }
    }

    fn send_line(&self, line: &[u8]) {
        if let Ok(wake) = lock(&self.outbox).send(|out| out.extend_from_slice(line)) {
            self.wake(wake);
        }
    }

    /// The server's limits and neighbours may change while connected.
    fn note_info(&self, json: &Bytes) {
        if let Ok(info) = link::parse_info(json) {
            self.max_payload.store(info.max_payload, Ordering::Relaxed);
            *lock(&self.server) = server_info(&info);
        }
    }

    /// A refused permission concerns one subject; every other error ends the connection.
    fn note_error(&self, text: String) -> Result<(), Ended> {
        self.metrics.server_errors.inc();
        if text.to_ascii_lowercase().starts_with("permissions violation") {
            tracing::error!(error = %text, "NATS refused a subject");
            return Ok(());
        }
        Err(Ended::Server(text))
    }
}

fn room_message(message: Message) -> FeedEvent {
    let mut seq = None;
    let mut stream = None;
    for (name, value) in wire::header_lines(&message.headers) {
        if name.eq_ignore_ascii_case("Nats-Sequence") {
            seq = value.parse().ok();
        } else if name.eq_ignore_ascii_case("Nats-Stream") {
            stream = Some(message.headers.slice_ref(value.as_bytes()));
        }
    }
    FeedEvent::Message {
        sub: SubId(message.sid),
        subject: message.subject,
        seq,
        stream,
        headers: message.headers,
        payload: message.payload,
    }
}

fn leader_changed(message: &Message) -> Option<FeedEvent> {
    let stream = std::str::from_utf8(&message.subject).ok()?.rsplit('.').next()?.to_owned();
    Some(FeedEvent::LeaderChanged { stream, at_ms: unix_ms() })
}

/// Kind and number of `<inbox>.<kind>.<number>`.
fn answer_id(subject: &[u8], inbox_bytes: usize) -> Option<(u8, u64)> {
    let rest = std::str::from_utf8(subject.get(inbox_bytes..)?).ok()?;
    let (kind, id) = rest.strip_prefix('.')?.split_once('.')?;
    Some((*kind.as_bytes().first()?, id.parse().ok()?))
}

/// Writes what waits: at once while flushes are rare or if it is urgent, else after the flush delay or `flush_bytes`.
async fn write_loop(shared: &Shared, mut writer: WriteHalf<Box<dyn Io>>) -> Ended {
    let mut out = Vec::new();
    let mut pacer = Pacer::new(shared.config.flush_delay(), Instant::now());
    loop {
        shared.output(1).await;
        if let Some(due) = pacer.hold_until(Instant::now()) {
            let _ =
                tokio::time::timeout_at(due.into(), shared.output(shared.config.flush_bytes.max(1))).await;
        }
        lock(&shared.outbox).take(&mut out);
        pacer.flushed(Instant::now());
        if let Err(error) = write_all(&mut writer, &out).await {
            return error.into();
        }
        shared.metrics.flushes.inc();
        out.clear();
        out.shrink_to(KEEP_WRITE_BYTES);
    }
}

async fn write_all(writer: &mut (impl AsyncWrite + Unpin), out: &[u8]) -> std::io::Result<()> {
    writer.write_all(out).await?;
    writer.flush().await
}

/// Pings a silent server, and ends when it stays silent.
async fn ping_loop(shared: &Shared, heard: &AtomicU64) -> Ended {
    let mut pings_out = 0;
    let mut heard_before = heard.load(Ordering::Relaxed);
    loop {
        tokio::time::sleep(shared.config.ping_interval()).await;
        let heard_now = heard.load(Ordering::Relaxed);
        pings_out = if heard_now == heard_before { pings_out + 1 } else { 1 };
        heard_before = heard_now;
        if pings_out > MAX_PINGS_OUT {
            return Ended::Silent;
        }
        shared.send_line(b"PING\r\n");
    }
}
