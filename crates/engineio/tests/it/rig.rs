//! A session with a clock, and the invariants that hold after every input. The fuzz target shares this file.

use std::collections::BTreeSet;

use bytes::Bytes;
use engineio::{
    Answer, CloseReason, Config, Frame, Frozen, Input, Message, Millis, Output, Packet, PollId, Session,
    WsId, payload,
};

pub struct Rig {
    pub session: Session,
    pub config: Config,
    pub now: Millis,
    /// Messages the client got, over any transport, in order.
    pub delivered: Vec<Message>,
    pub closed: Option<CloseReason>,
    pub unanswered: BTreeSet<PollId>,
    /// Their clients went away: an answer is not owed, and does no harm.
    forgiven: BTreeSet<PollId>,
    live: BTreeSet<WsId>,
    requests: u64,
    websockets: u32,
}

pub fn config() -> Config {
    Config {
        ping_interval_ms: 300,
        ping_timeout_ms: 200,
        max_payload: 1000,
        upgrade_timeout_ms: 10_000,
        max_queue_bytes: 4096,
        answer_max_bytes: 512,
    }
}

/// Pings too rarely to disturb a test about something else.
#[allow(dead_code, reason = "the fuzz target uses a part")]
pub fn calm() -> Config {
    Config { ping_interval_ms: 1_000_000, ..config() }
}

#[allow(dead_code, reason = "the fuzz target uses a part")]
impl Rig {
    pub fn polling(config: Config) -> Self {
        let session = Session::polling(1000, &config);
        Self::new(session, config)
    }

    pub fn websocket(config: Config) -> (Self, WsId) {
        let ws = WsId(0);
        let session = Session::websocket(1000, &config, ws);
        let mut rig = Self::new(session, config);
        rig.live.insert(ws);
        rig.websockets = 1;
        (rig, ws)
    }

    fn new(session: Session, config: Config) -> Self {
        Self {
            session,
            config,
            now: 1000,
            delivered: Vec::new(),
            closed: None,
            unanswered: BTreeSet::new(),
            forgiven: BTreeSet::new(),
            live: BTreeSet::new(),
            requests: 0,
            websockets: 0,
        }
    }

    /// Gives an input and draws everything.
    pub fn give(&mut self, input: Input) -> Vec<Output> {
        self.give_only(input);
        self.draw()
    }

    /// Gives an input and draws nothing.
    pub fn give_only(&mut self, input: Input) {
        match &input {
            Input::Poll(id) | Input::Post { id, .. } => assert!(self.unanswered.insert(*id)),
            Input::WsOpen(ws) => assert!(self.live.insert(*ws)),
            _ => {}
        }
        if let Input::PollGone(id) = input {
            self.forgiven.insert(id);
        }
        self.session.handle(&self.config, self.now, input);
    }

    pub fn draw(&mut self) -> Vec<Output> {
        let mut outputs = Vec::new();
        while let Some(output) = self.session.poll_output(&self.config, self.now) {
            self.check(&output);
            outputs.push(output);
        }
        self.check_rest();
        outputs
    }

    pub fn advance(&mut self, ms: Millis) -> Vec<Output> {
        self.now += ms;
        self.give(Input::Tick)
    }

    /// A GET, and what became of it and of anything else.
    pub fn poll(&mut self) -> (PollId, Vec<Output>) {
        let id = self.request();
        (id, self.give(Input::Poll(id)))
    }

    /// A GET that stays open.
    pub fn hold(&mut self) -> PollId {
        let (id, outputs) = self.poll();
        assert_eq!(outputs, [], "the poll is held");
        id
    }

    /// A GET that is answered at once.
    pub fn polled(&mut self) -> Answer {
        let (id, outputs) = self.poll();
        answer_of(&outputs, id).expect("the poll is answered at once")
    }

    pub fn post(&mut self, body: &[u8]) -> (PollId, Vec<Output>) {
        let id = self.request();
        let body = Bytes::copy_from_slice(body);
        (id, self.give(Input::Post { id, body }))
    }

    pub fn send(&mut self, text: &str) -> Vec<Output> {
        self.give(Input::Send(Frame::message(text)))
    }

    /// A WebSocket with the session's id.
    pub fn open(&mut self) -> (WsId, Vec<Output>) {
        let ws = self.next_ws();
        (ws, self.give(Input::WsOpen(ws)))
    }

    pub fn frame(&mut self, ws: WsId, text: &str) -> Vec<Output> {
        self.give(Input::WsFrame { ws, frame: Frame::Text(text.into()) })
    }

    pub fn gone(&mut self, ws: WsId) -> Vec<Output> {
        let outputs = self.give(Input::WsGone(ws));
        self.live.remove(&ws);
        outputs
    }

    /// The session at its next node, with a WebSocket there.
    pub fn arrive(&mut self, frozen: Frozen) -> WsId {
        assert_eq!(self.unanswered.len(), 0, "a frozen session owes nothing");
        let ws = self.next_ws();
        self.session = Session::thaw(frozen, self.now, &self.config, ws);
        self.live = BTreeSet::from([ws]);
        ws
    }

    pub fn request(&mut self) -> PollId {
        self.requests += 1;
        PollId(self.requests)
    }

    pub fn next_ws(&mut self) -> WsId {
        self.websockets += 1;
        WsId(self.websockets)
    }

    pub fn websockets_seen(&self) -> u32 {
        self.websockets
    }

    pub fn requests_seen(&self) -> u64 {
        self.requests
    }

    fn check(&mut self, output: &Output) {
        if self.closed.is_some() {
            let refusal = match output {
                Output::Answer { answer, .. } => matches!(answer, Answer::Refused { .. }),
                Output::WsClose { .. } | Output::ReservationLost(_) => true,
                _ => false,
            };
            assert!(refusal, "after Closed: {output:?}");
        }
        match output {
            Output::Answer { id, answer } => {
                assert!(self.unanswered.remove(id), "{id:?} is answered twice");
                if let Answer::Payload(body) = answer {
                    self.check_payload(body);
                }
            }
            Output::Ws { ws, frame } => {
                assert!(self.live.contains(ws), "a frame to a WebSocket that is gone");
                self.deliver(Packet::decode_frame(frame).expect("frames are packets"));
            }
            Output::WsClose { ws, .. } => assert!(self.live.remove(ws), "{ws:?} is closed twice"),
            Output::Upgraded(ws) => assert!(self.live.contains(ws)),
            Output::Closed(reason) => {
                self.closed = Some(*reason);
                assert!(self.unanswered.is_subset(&self.forgiven), "a request is left behind");
                self.unanswered.clear();
            }
            Output::Received(_) | Output::ReservationLost(_) => {}
        }
    }

    fn check_payload(&mut self, body: &Bytes) {
        let packets =
            payload::decode(body, payload::Limits::bytes(usize::MAX)).expect("answers are payloads");
        assert!(packets.len() == 1 || body.len() <= self.config.answer_max_bytes, "the answer is too large");
        for packet in packets {
            self.deliver(packet);
        }
    }

    fn deliver(&mut self, packet: Packet) {
        if let Packet::Message(message) = packet {
            self.delivered.push(message);
        }
    }

    // With everything drawn.
    fn check_rest(&self) {
        assert!(
            self.session.next_timeout().is_none_or(|at| at > self.now),
            "a deadline passed without effect"
        );
        assert!(self.unanswered.len() <= 1, "one request at most is held");
        assert_eq!(self.session.is_closed(), self.closed.is_some());
        let goodbye = 2 * 128;
        assert!(self.session.queued_bytes() <= self.config.max_queue_bytes + goodbye);
        if let Some(ws) = self.session.direct() {
            assert!(self.live.contains(&ws));
            assert!(self.unanswered.is_subset(&self.forgiven), "no request outlives polling");
            assert_eq!(self.session.queued_bytes(), 0);
        }
    }
}

#[allow(dead_code, reason = "the fuzz target uses a part")]
pub fn answer_of(outputs: &[Output], wanted: PollId) -> Option<Answer> {
    outputs.iter().find_map(|output| match output {
        Output::Answer { id, answer } if *id == wanted => Some(answer.clone()),
        _ => None,
    })
}

#[allow(dead_code, reason = "the fuzz target uses a part")]
pub fn payload(body: &'static str) -> Answer {
    Answer::Payload(Bytes::from_static(body.as_bytes()))
}

#[allow(dead_code, reason = "the fuzz target uses a part")]
pub fn answer(id: PollId, answer: impl Into<Answer>) -> Output {
    Output::Answer { id, answer: answer.into() }
}
