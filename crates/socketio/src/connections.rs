//! One session's machine above Engine.IO: which namespaces it is in, the connect timeout, the acks it owes.
//!
//! The caller decides on CONNECT ([`Connections::accept`], [`Connections::refuse`]) and runs the events. Conduct follows the
//! reference server: whatever it closes the connection for is a [`Violation`] here. One difference: packets for a namespace
//! whose CONNECT is undecided are held (bounded) and handed over by `accept`, where the reference closes.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    args::Args,
    decode::{DecodeError, Decoder, Incoming, Limits},
    encode,
    json::Json,
    msgpack::{self, Control},
    namespace::Namespace,
    packet::Packet,
};

/// Milliseconds of a monotonic clock, from any epoch, given by the caller.
pub type Millis = u64;

/// The Engine.IO type digit of a message; frames returned here begin with it.
const ENGINE_MESSAGE: u8 = b'4';

/// What packets look like on the wire; client and server must agree beforehand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Parser {
    /// The protocol's own: text, and attachments as binary messages behind it.
    #[default]
    Json,
    /// See [`crate::msgpack`].
    Msgpack,
}

/// One Engine.IO message, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Encoded {
    /// With its type digit.
    Text(String),
    Binary(Bytes),
}

/// The Socket.IO state of one session. Small when idle: one entry per namespace.
#[derive(Debug)]
pub struct Connections {
    parser: Parser,
    decoder: Decoder,
    sockets: Vec<Socket>,
    acks: BTreeMap<u64, PendingAck>,
    /// Ids count through the session, not per namespace: a late answer never meets a new socket's ack.
    next_ack: u64,
    /// `None` once a namespace was connected; as in the reference it never returns.
    connect_deadline: Option<Millis>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Socket {
    nsp: Namespace,
    state: SocketState,
}

#[derive(Debug, Serialize, Deserialize)]
enum SocketState {
    /// CONNECT was received; the server has not decided.
    Pending {
        held: Vec<Held>,
        held_bytes: usize,
    },
    Connected {
        sid: Box<str>,
    },
}

#[derive(Debug, Serialize, Deserialize)]
enum Held {
    Event { ack: Option<u64>, args: Args },
    Disconnect,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct PendingAck {
    nsp: Namespace,
    tag: u64,
    deadline: Millis,
}

/// The id with which a client asked for an answer. Not cloneable: passing it to [`Self::into_u64`] for the one answer uses it up.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckId(u64);

impl AckId {
    /// The id of a front with frames of its own.
    pub fn new(id: u64) -> Self {
        Self(id)
    }

    /// The number for [`crate::encode_ack_into`].
    pub fn into_u64(self) -> u64 {
        self.0
    }
}

/// What a client did, in the order it did it.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// Answer with [`Connections::accept`] or [`Connections::refuse`]. `auth` is a JSON object.
    ConnectRequested { nsp: Namespace, auth: Option<Json> },
    /// An event on a connected namespace; with `ack`, the client waits for one answer.
    Received { nsp: Namespace, ack: Option<AckId>, args: Args },
    /// The answer to [`Connections::register_ack`], at most once per registration.
    Acked { nsp: Namespace, tag: u64, args: Args },
    /// An answer nobody waits for (unknown, repeated or too late): ignored, worth a counter.
    StrayAck { nsp: Namespace, id: u64 },
    /// The client left the namespace; `unanswered` are the tags of acks that will never come.
    Left { nsp: Namespace, unanswered: Vec<u64> },
    /// No answer by the deadline.
    AckExpired { nsp: Namespace, tag: u64 },
}

/// Why the session must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    #[error("bad packet: {0}")]
    Decode(#[from] DecodeError),
    #[error("no namespace was connected in time")]
    ConnectTimeout,
    #[error("packet for a namespace that is not connected")]
    NotConnected,
    #[error("CONNECT to a namespace that is connected or being decided")]
    AlreadyConnected,
    #[error("too many namespaces")]
    TooManyNamespaces,
    #[error("too many packets before the namespace was connected")]
    HeldTooMuch,
    #[error("CONNECT_ERROR from a client")]
    ConnectErrorFromClient,
}

/// Why an ack cannot be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    #[error("the namespace is not connected")]
    NotConnected,
    #[error("too many acks outstanding")]
    TooMany,
}

/// An accepted CONNECT: send `frame`, then treat `held` as if it had just been received, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Accepted {
    /// `40…` in the text encoding.
    pub frame: Encoded,
    pub held: Vec<Event>,
}

/// A namespace closed by the server: send `frame`.
#[derive(Debug, PartialEq, Eq)]
pub struct Departed {
    /// `41…` in the text encoding.
    pub frame: Encoded,
    /// Tags of acks that will never come.
    pub unanswered: Vec<u64>,
}

impl Connections {
    /// A new session: some namespace must be accepted within `connect_timeout_ms`.
    pub fn new(now: Millis, connect_timeout_ms: u64) -> Self {
        Self {
            parser: Parser::Json,
            decoder: Decoder::default(),
            sockets: Vec::new(),
            acks: BTreeMap::new(),
            next_ack: 0,
            connect_deadline: Some(now.saturating_add(connect_timeout_ms)),
        }
    }

    /// The same with another parser, before anything was said.
    #[must_use]
    pub fn with_parser(self, parser: Parser) -> Self {
        Self { parser, ..self }
    }

    pub fn parser(&self) -> Parser {
        self.parser
    }

    /// Takes one message of the client. `None`: nothing to do yet (attachments outstanding, packet held).
    /// After a violation the session must be closed.
    pub fn handle(
        &mut self,
        limits: &Limits,
        now: Millis,
        incoming: Incoming,
    ) -> Result<Option<Event>, Violation> {
        self.check_connect_deadline(now)?;
        let Some(packet) = self.decode(limits, incoming)? else { return Ok(None) };
        match packet {
            Packet::Connect { nsp, data } => self.on_connect(limits, nsp, data).map(Some),
            Packet::Event { nsp, ack, args } => self.on_event(limits, nsp, ack, args),
            Packet::Ack { nsp, id, args } => self.on_ack(now, nsp, id, args).map(Some),
            Packet::Disconnect { nsp } => self.on_disconnect(limits, nsp),
            Packet::ConnectError { .. } => Err(Violation::ConnectErrorFromClient),
        }
    }

    fn decode(&mut self, limits: &Limits, incoming: Incoming) -> Result<Option<Packet>, DecodeError> {
        match (self.parser, incoming) {
            (Parser::Json, incoming) => self.decoder.feed(limits, incoming),
            (Parser::Msgpack, Incoming::Binary(message)) => msgpack::decode(limits, &message).map(Some),
            (Parser::Msgpack, Incoming::Text(_)) => Err(DecodeError::Msgpack),
        }
    }

    /// Accepts a requested CONNECT. `sid` is the socket's id; `pid` goes into the reply when recovery is on.
    /// `None` when no CONNECT to `nsp` is undecided.
    pub fn accept(&mut self, nsp: &Namespace, sid: &str, pid: Option<&str>) -> Option<Accepted> {
        let index = self.pending(nsp)?;
        let connected = SocketState::Connected { sid: sid.into() };
        let before = std::mem::replace(&mut self.sockets[index].state, connected);
        self.connect_deadline = None;
        let held = match before {
            SocketState::Pending { held, .. } => held,
            SocketState::Connected { .. } => Vec::new(),
        };
        let held = held.into_iter().map(|held| self.replay(nsp, held)).collect();
        let data = encode::connected(sid, pid);
        Some(Accepted { frame: self.control(nsp, Control::Accepted(&data)), held })
    }

    /// Refuses a requested CONNECT and drops what was held; the frame is `44…{"message":…}` in the text encoding, with `"data"` only
    /// when given. `None` when no CONNECT to `nsp` is undecided. The client may try again.
    pub fn refuse(&mut self, nsp: &Namespace, message: &str, data: Option<&Json>) -> Option<Encoded> {
        let index = self.pending(nsp)?;
        self.sockets.remove(index);
        Some(self.control(nsp, Control::Refused(&encode::refused(message, data))))
    }

    /// From now on as for a new session: some namespace must be accepted within `connect_timeout_ms`.
    pub fn expect_connect(&mut self, now: Millis, connect_timeout_ms: u64) {
        self.connect_deadline = Some(now.saturating_add(connect_timeout_ms));
    }

    /// Ends a connected namespace from the server's side. `None` when it is not connected.
    /// As in the reference, a packet of the client for it that is already under way is then a violation.
    pub fn disconnect(&mut self, nsp: &Namespace) -> Option<Departed> {
        self.sid(nsp)?;
        let unanswered = self.remove(nsp);
        Some(Departed { frame: self.control(nsp, Control::Disconnect), unanswered })
    }

    /// Starts to wait for an answer: the returned id goes into the event, `tag` comes back with the answer or its expiry.
    pub fn register_ack(
        &mut self,
        limits: &Limits,
        nsp: &Namespace,
        tag: u64,
        deadline: Millis,
    ) -> Result<u64, AckError> {
        if self.sid(nsp).is_none() {
            return Err(AckError::NotConnected);
        }
        if self.acks.len() >= limits.max_pending_acks {
            return Err(AckError::TooMany);
        }
        let id = self.next_ack;
        self.next_ack += 1;
        self.acks.insert(id, PendingAck { nsp: nsp.clone(), tag, deadline });
        Ok(id)
    }

    /// When [`Self::expire`] has something to do.
    pub fn next_timeout(&self) -> Option<Millis> {
        let acks = self.acks.values().map(|ack| ack.deadline).min();
        acks.into_iter().chain(self.connect_deadline).min()
    }

    /// Fires what is due: expired acks in the order of their ids, or the connect timeout.
    pub fn expire(&mut self, now: Millis) -> Result<Vec<Event>, Violation> {
        self.check_connect_deadline(now)?;
        let due = self.take_acks(|ack| ack.deadline <= now);
        Ok(due.into_iter().map(|ack| Event::AckExpired { nsp: ack.nsp, tag: ack.tag }).collect())
    }

    /// The socket id in a connected namespace.
    pub fn sid(&self, nsp: &Namespace) -> Option<&str> {
        self.connected().find_map(|(name, sid)| (name == nsp).then_some(sid))
    }

    /// Connected namespaces and the socket ids in them.
    pub fn connected(&self) -> impl Iterator<Item = (&Namespace, &str)> {
        self.sockets.iter().filter_map(|socket| match &socket.state {
            SocketState::Connected { sid } => Some((&socket.nsp, &**sid)),
            SocketState::Pending { .. } => None,
        })
    }

    /// Ends the machine with its session: the tags of acks that will never come.
    pub fn into_unanswered(self) -> Vec<u64> {
        self.acks.into_values().map(|ack| ack.tag).collect()
    }

    /// Takes the machine out of this node's clock, to be thawed on another node.
    pub fn freeze(mut self, now: Millis) -> FrozenConnections {
        self.rebase(|deadline| deadline.saturating_sub(now));
        FrozenConnections {
            parser: self.parser,
            decoder: self.decoder,
            sockets: self.sockets,
            acks: self.acks,
            next_ack: self.next_ack,
            connect_ms: self.connect_deadline,
        }
    }

    /// Continues a frozen machine at `now` of this node's clock.
    pub fn thaw(frozen: FrozenConnections, now: Millis) -> Self {
        let mut thawed = Self {
            parser: frozen.parser,
            decoder: frozen.decoder,
            sockets: frozen.sockets,
            acks: frozen.acks,
            next_ack: frozen.next_ack,
            connect_deadline: frozen.connect_ms,
        };
        thawed.rebase(|left| left.saturating_add(now));
        thawed
    }

    fn control(&self, nsp: &Namespace, control: Control<'_>) -> Encoded {
        match self.parser {
            Parser::Json => Encoded::Text(text_frame(nsp, &control)),
            Parser::Msgpack => Encoded::Binary(msgpack::control(control, nsp.as_str()).into()),
        }
    }

    fn rebase(&mut self, time: impl Fn(Millis) -> Millis) {
        self.connect_deadline = self.connect_deadline.map(&time);
        for ack in self.acks.values_mut() {
            ack.deadline = time(ack.deadline);
        }
    }

    fn on_connect(
        &mut self,
        limits: &Limits,
        nsp: Namespace,
        auth: Option<Json>,
    ) -> Result<Event, Violation> {
        if self.position(&nsp).is_some() {
            return Err(Violation::AlreadyConnected);
        }
        if self.sockets.len() >= limits.max_sockets_per_session {
            return Err(Violation::TooManyNamespaces);
        }
        let state = SocketState::Pending { held: Vec::new(), held_bytes: 0 };
        self.sockets.push(Socket { nsp: nsp.clone(), state });
        Ok(Event::ConnectRequested { nsp, auth })
    }

    fn on_event(
        &mut self,
        limits: &Limits,
        nsp: Namespace,
        ack: Option<u64>,
        args: Args,
    ) -> Result<Option<Event>, Violation> {
        let socket = self.socket_mut(&nsp)?;
        if let SocketState::Pending { held, held_bytes } = &mut socket.state {
            hold(limits, held, held_bytes, Held::Event { ack, args })?;
            return Ok(None);
        }
        Ok(Some(Event::Received { nsp, ack: ack.map(AckId), args }))
    }

    fn on_ack(&mut self, now: Millis, nsp: Namespace, id: u64, args: Args) -> Result<Event, Violation> {
        self.socket_mut(&nsp)?;
        match self.acks.get(&id) {
            Some(ack) if ack.nsp == nsp && now < ack.deadline => {
                let tag = ack.tag;
                self.acks.remove(&id);
                Ok(Event::Acked { nsp, tag, args })
            }
            // A late one is left to `expire`, which tells the caller.
            _ => Ok(Event::StrayAck { nsp, id }),
        }
    }

    fn on_disconnect(&mut self, limits: &Limits, nsp: Namespace) -> Result<Option<Event>, Violation> {
        let socket = self.socket_mut(&nsp)?;
        if let SocketState::Pending { held, held_bytes } = &mut socket.state {
            hold(limits, held, held_bytes, Held::Disconnect)?;
            return Ok(None);
        }
        let unanswered = self.remove(&nsp);
        Ok(Some(Event::Left { nsp, unanswered }))
    }

    fn replay(&mut self, nsp: &Namespace, held: Held) -> Event {
        let nsp = nsp.clone();
        match held {
            Held::Event { ack, args } => Event::Received { nsp, ack: ack.map(AckId), args },
            Held::Disconnect => {
                let unanswered = self.remove(&nsp);
                Event::Left { nsp, unanswered }
            }
        }
    }

    fn remove(&mut self, nsp: &Namespace) -> Vec<u64> {
        self.sockets.retain(|socket| socket.nsp != *nsp);
        self.take_acks(|ack| ack.nsp == *nsp).into_iter().map(|ack| ack.tag).collect()
    }

    fn take_acks(&mut self, taken: impl Fn(&PendingAck) -> bool) -> Vec<PendingAck> {
        let mut out = Vec::new();
        self.acks.retain(|_, ack| {
            let take = taken(ack);
            if take {
                out.push(ack.clone());
            }
            !take
        });
        out
    }

    fn check_connect_deadline(&self, now: Millis) -> Result<(), Violation> {
        match self.connect_deadline {
            Some(deadline) if deadline <= now => Err(Violation::ConnectTimeout),
            _ => Ok(()),
        }
    }

    fn pending(&self, nsp: &Namespace) -> Option<usize> {
        let index = self.position(nsp)?;
        matches!(self.sockets[index].state, SocketState::Pending { .. }).then_some(index)
    }

    fn socket_mut(&mut self, nsp: &Namespace) -> Result<&mut Socket, Violation> {
        let index = self.position(nsp).ok_or(Violation::NotConnected)?;
        Ok(&mut self.sockets[index])
    }

    fn position(&self, nsp: &Namespace) -> Option<usize> {
        self.sockets.iter().position(|socket| socket.nsp == *nsp)
    }
}

/// A session's Socket.IO state on its way to another node: deadlines are milliseconds left, half-received packets included.
#[derive(Debug, Serialize, Deserialize)]
pub struct FrozenConnections {
    #[serde(default)]
    parser: Parser,
    decoder: Decoder,
    sockets: Vec<Socket>,
    acks: BTreeMap<u64, PendingAck>,
    next_ack: u64,
    connect_ms: Option<u64>,
}

fn hold(
    limits: &Limits,
    held: &mut Vec<Held>,
    held_bytes: &mut usize,
    packet: Held,
) -> Result<(), Violation> {
    if matches!(held.last(), Some(Held::Disconnect)) {
        return Err(Violation::NotConnected);
    }
    if let Held::Event { args, .. } = &packet {
        *held_bytes += args.size();
    }
    if held.len() >= limits.max_held_packets || *held_bytes > limits.max_held_bytes {
        return Err(Violation::HeldTooMuch);
    }
    held.push(packet);
    Ok(())
}

fn text_frame(nsp: &Namespace, control: &Control<'_>) -> String {
    let mut out = vec![ENGINE_MESSAGE];
    let (kind, data) = match *control {
        Control::Accepted(data) => (b'0', data),
        Control::Refused(data) => (b'4', data),
        Control::Disconnect => (b'1', [].as_slice()),
    };
    encode::head(&mut out, kind, 0, nsp.as_str(), None);
    out.extend_from_slice(data);
    String::from_utf8(out).expect("encoders splice UTF-8 parts")
}
