//! The session machine: one Engine.IO session from its opening to its close, over whichever transport it has.
//!
//! It owns the transport state, the heartbeat and the queue of outgoing frames. It does not own sockets, requests or
//! clocks: polls and WebSockets are numbers of the caller's, time is an argument, and the open packet is sent by the
//! caller (see [`handshake_json`](crate::handshake_json)) before the machine starts.
//!
//! `polling` holds what requests do, `websocket` what WebSockets and upgrades do, `timers` the deadlines, `moving` how a
//! session leaves for another node, `outbox` the queue.

mod moving;
mod outbox;
mod polling;
mod timers;
mod websocket;

use std::collections::VecDeque;

use bytes::Bytes;

use crate::{CloseReason, Config, Frame, Message, Millis, Refusal};
pub use moving::{Frozen, HeartbeatLeft};
use outbox::Outbox;
use polling::{Held, Polling};
use timers::Heartbeat;

/// A WebSocket, numbered by the caller; distinct within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WsId(pub u32);

/// A request (GET or POST), numbered by the caller; distinct within a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PollId(pub u64);

/// What happens to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A GET. It is answered now or held.
    Poll(PollId),
    /// The client of a held GET went away, or the node that forwarded it did. Ignored once the GET is answered.
    PollGone(PollId),
    /// A POST with its body.
    Post { id: PollId, body: Bytes },
    /// A WebSocket with this session's id arrived at this node: the candidate of an upgrade.
    WsOpen(WsId),
    /// A WebSocket delivered a frame.
    WsFrame { ws: WsId, frame: Frame },
    /// A WebSocket ended without this machine's doing.
    WsGone(WsId),
    /// The layer above sends.
    Send(Frame),
    /// A client is about to open a WebSocket with this session's id, here or at another node. Polls that arrive from now
    /// on are not given back at once by [`Input::Reserve`], and refused if the session leaves: they may have been sent
    /// after the upgrade and have overtaken it on their way through another node.
    Expect,
    /// Another node holds the candidate WebSocket and has seen its probe; the token is that attempt's. The token that
    /// holds the reservation already restarts its deadline; another one supersedes it, as it does a local candidate.
    Reserve(u64),
    /// That node gave up: the session polls on. Another token than the reservation's is ignored.
    Release(u64),
    /// Time passed. Every other input checks the deadlines too.
    Tick,
    /// This server ends the session. Over polling some reasons wait up to [`Session::LINGER_MS`] for a poll that takes
    /// what is queued and the close packet; a second `Close` ends that wait.
    Close(CloseReason),
}

/// What the caller has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Answer this request.
    Answer { id: PollId, answer: Answer },
    /// Write this frame.
    Ws { ws: WsId, frame: Frame },
    /// Close this WebSocket with this code (RFC 6455, 7.4.1), after the frames before it. Its `WsGone` is not needed.
    WsClose { ws: WsId, code: u16 },
    /// The client sent a message.
    Received(Message),
    /// The session's transport is this WebSocket from here on.
    Upgraded(WsId),
    /// The reservation with this token expired, was superseded or came too late.
    ReservationLost(u64),
    /// The session is over: exactly once, and after all other outputs of its turn. What still arrives later is refused.
    Closed(CloseReason),
}

/// What a request is answered with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200, packets for the client.
    Payload(Bytes),
    /// 200, `ok`: this machine has the POST's messages.
    Ok,
    /// 400 (403 for code 4), JSON.
    Refused { code: u8, message: &'static str },
    /// 413, no body.
    TooLarge,
}

/// One session. About 150 bytes beside its queue; a closed one answers stray requests with refusals.
#[derive(Debug)]
pub struct Session {
    state: State,
    heartbeat: Heartbeat,
    outbox: Outbox,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum State {
    Polling(Polling),
    WebSocket(WsId),
    /// Over polling, with no poll at hand: what the outbox holds is for the next one, and then the session is over.
    Closing {
        reason: CloseReason,
        until: Millis,
    },
    /// Frozen: another node has the session.
    Moved,
    /// Over; `Closed` is drawn after whatever else this turn still puts out.
    Ending(CloseReason),
    Closed,
}

impl Session {
    /// Longest wait for the poll that takes a goodbye.
    pub const LINGER_MS: Millis = 10_000;
    /// The same after the client's own close packet. Client libraries close with a poll open, and behind a balancer the
    /// POST may overtake that GET.
    pub const CLIENT_CLOSE_LINGER_MS: Millis = 100;
    /// How long a poll is held while a WebSocket is being probed (as often as the reference server looks).
    pub const NOOP_DELAY_MS: Millis = 100;

    /// A session opened by a polling handshake, which the caller answers.
    pub fn polling(now: Millis, config: &Config) -> Self {
        Self::new(State::Polling(Polling::default()), Heartbeat::start(config, now), Outbox::default())
    }

    /// A session opened over this WebSocket; the caller has written the open packet to it.
    pub fn websocket(now: Millis, config: &Config, ws: WsId) -> Self {
        Self::new(State::WebSocket(ws), Heartbeat::start(config, now), Outbox::default())
    }

    fn new(state: State, heartbeat: Heartbeat, outbox: Outbox) -> Self {
        Self { state, heartbeat, outbox, outputs: VecDeque::new() }
    }

    /// Takes one input. Deadlines that have passed act first, so that a dead session refuses what comes too late.
    pub fn handle(&mut self, config: &Config, now: Millis, input: Input) {
        self.run_timers(config, now);
        match input {
            Input::Poll(id) => self.on_poll(config, now, id),
            Input::PollGone(id) => self.on_poll_gone(config, now, id),
            Input::Post { id, body } => self.on_post(config, now, id, &body),
            Input::WsOpen(ws) => self.on_ws_open(config, now, ws),
            Input::WsFrame { ws, frame } => self.on_ws_frame(config, now, ws, &frame),
            Input::WsGone(ws) => self.on_ws_gone(ws),
            Input::Send(frame) => self.send(config, now, frame),
            Input::Expect => self.on_expect(),
            Input::Reserve(token) => self.on_reserve(config, now, token),
            Input::Release(token) => self.on_release(token),
            Input::Tick => {}
            Input::Close(reason) => self.close(config, now, reason),
        }
    }

    /// The next thing to do; call until `None`. Frames are joined to a poll's answer only here, so that all that was sent
    /// in one turn shares it.
    pub fn poll_output(&mut self, config: &Config, now: Millis) -> Option<Output> {
        self.run_timers(config, now);
        if self.outputs.is_empty() {
            self.draw_more(config);
        }
        let output = self.outputs.pop_front();
        if self.outputs.is_empty() {
            // An idle session keeps no buffer.
            self.outputs = VecDeque::new();
        }
        output
    }

    fn draw_more(&mut self, config: &Config) {
        match &self.state {
            State::WebSocket(ws) => {
                let ws = *ws;
                self.outputs.extend(self.outbox.pop().map(|frame| Output::Ws { ws, frame }));
            }
            State::Polling(_) => self.answer_from_outbox(config),
            State::Ending(reason) => {
                self.outputs.push_back(Output::Closed(*reason));
                self.state = State::Closed;
            }
            State::Closing { .. } | State::Moved | State::Closed => {}
        }
    }

    /// When to come back with [`Input::Tick`] at the latest; `None` when there is nothing to wait for.
    pub fn next_timeout(&self) -> Option<Millis> {
        match &self.state {
            State::Polling(polling) => Some(self.heartbeat.next().min(polling.next_timeout())),
            State::WebSocket(_) => Some(self.heartbeat.next()),
            State::Closing { until, .. } => Some(*until),
            State::Moved | State::Ending(_) | State::Closed => None,
        }
    }

    /// The WebSocket to write prepared frames to without passing them through [`Input::Send`]: it is the transport, and
    /// nothing waits in here that such a frame could overtake.
    pub fn direct(&self) -> Option<WsId> {
        match self.state {
            State::WebSocket(ws) if self.outbox.is_empty() && self.outputs.is_empty() => Some(ws),
            _ => None,
        }
    }

    /// What waits for the client, in bytes of memory: the frames and a fixed cost for each.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// The WebSocket that is the transport.
    pub fn transport(&self) -> Option<WsId> {
        match self.state {
            State::WebSocket(ws) => Some(ws),
            _ => None,
        }
    }

    /// Whether the session takes part in anything still: neither over nor only waiting to say goodbye.
    pub fn is_open(&self) -> bool {
        matches!(self.state, State::Polling(_) | State::WebSocket(_))
    }

    /// Starts the heartbeat anew, for a caller that has not read what the client sent.
    pub fn excuse(&mut self, config: &Config, now: Millis) {
        self.heartbeat = Heartbeat::start(config, now);
    }

    /// Whether `Closed` has been drawn.
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    fn send(&mut self, config: &Config, now: Millis, frame: Frame) {
        if !matches!(self.state, State::Polling(_) | State::WebSocket(_)) {
            return;
        }
        if self.outbox.bytes_with(&frame) > config.max_queue_bytes {
            return self.close(config, now, CloseReason::SlowClient);
        }
        self.outbox.push(frame);
    }

    fn close(&mut self, config: &Config, now: Millis, reason: CloseReason) {
        match &self.state {
            State::Ending(_) | State::Closed => {}
            State::Moved => self.finish(reason),
            // The first reason is the true one.
            State::Closing { reason: first, .. } => self.finish(*first),
            State::WebSocket(ws) => {
                let ws = *ws;
                if reason.lingers() {
                    self.flush_to_websocket(ws);
                }
                self.outputs.push_back(Output::WsClose { ws, code: reason.ws_code() });
                self.finish(reason);
            }
            State::Polling(_) => self.close_polling(config, now, reason),
        }
    }

    fn finish(&mut self, reason: CloseReason) {
        self.state = State::Ending(reason);
        self.outbox = Outbox::default();
    }

    fn answer(&mut self, id: PollId, answer: Answer) {
        self.outputs.push_back(Output::Answer { id, answer });
    }

    fn take_held(&mut self) -> Option<Held> {
        match &mut self.state {
            State::Polling(polling) => polling.held.take(),
            _ => None,
        }
    }
}

impl Answer {
    /// The HTTP response: status, content type, body.
    pub fn into_http(self) -> (u16, &'static str, Bytes) {
        const TEXT: &str = "text/plain; charset=UTF-8";
        match self {
            Self::Payload(body) => (200, TEXT, body),
            Self::Ok => (200, TEXT, Bytes::from_static(b"ok")),
            Self::TooLarge => (413, TEXT, Bytes::new()),
            Self::Refused { code, message } => {
                let refusal = Refusal { code, message };
                (refusal.status(), "application/json", refusal.body().into())
            }
        }
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refused { code: refusal.code, message: refusal.message }
    }
}
