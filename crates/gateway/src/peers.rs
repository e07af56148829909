//! Talk with other nodes about single sessions: forwarded requests and session moves. One task on the bus thread drives the
//! four machines of `cluster`; HTTP handlers and shards send it what happened, and it sends shards what to do.

use std::sync::Arc;

use bus::{Bus, NodeBody, NodeDelivery, NodeInbox};
use bytes::Bytes;
use cluster::forwarding::{
    Answer, Ask, ForwardKey, ForwardLimits, ForwardOwner, ForwardOwnerInput, ForwardOwnerOutput, Forwarder,
    ForwarderInput, ForwarderOutput,
};
use cluster::moving::{MoveKey, MoveOwner, MoveOwnerInput, MoveOwnerOutput, Taker, TakerInput, TakerOutput};
use cluster::node_message::{NodeMessage, RefuseReason, Sid};
use cluster::sid::{NodeId, SidKey};
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};

use crate::clock::{Clock, Millis};
use crate::metrics::Metrics;
use crate::shard::{Control, ShardHandle};

/// How HTTP handlers and shards reach the task. What they send is bounded by requests and sessions under way, and the machines
/// refuse what is over their tables.
#[derive(Clone, Debug)]
pub struct Peers {
    inputs: mpsc::UnboundedSender<Input>,
}

#[derive(Debug)]
enum Input {
    Forward {
        req: u64,
        owner: NodeId,
        sid: Sid,
        ask: Ask,
        done: oneshot::Sender<Option<Answer>>,
    },
    Forwarder(ForwarderInput),
    ForwardOwner(ForwardOwnerInput),
    MoveOwner(MoveOwnerInput),
    /// A probe: remembers which shard holds the candidate.
    Probe {
        mv: u64,
        owner: NodeId,
        sid: Sid,
        shard: u8,
    },
    Taker(TakerInput),
}

impl Peers {
    /// Forwards a request to a session's owner. `None`: nobody answers (400, code 1). The caller says what came of the answer
    /// with [`Peers::written`] or [`Peers::client_gone`].
    pub fn forward(&self, req: u64, owner: NodeId, sid: &str, ask: Ask) -> oneshot::Receiver<Option<Answer>> {
        let (done, answer) = oneshot::channel();
        self.send(Input::Forward { req, owner, sid: sid.into(), ask, done });
        answer
    }

    pub fn written(&self, req: u64) {
        self.send(Input::Forwarder(ForwarderInput::Written { req }));
    }

    pub fn client_gone(&self, req: u64) {
        self.send(Input::Forwarder(ForwarderInput::ClientGone { req }));
    }

    /// The local session's answer to a forwarded request; `None`: there is no such session.
    pub fn answered(&self, key: ForwardKey, answer: Option<Answer>) {
        self.send(Input::ForwardOwner(match answer {
            Some(answer) => ForwardOwnerInput::Answered { key, answer },
            None => ForwardOwnerInput::SessionGone { key },
        }));
    }

    pub fn move_owner(&self, input: MoveOwnerInput) {
        self.send(Input::MoveOwner(input));
    }

    pub fn probe(&self, mv: u64, owner: NodeId, sid: &str, shard: u8) {
        self.send(Input::Probe { mv, owner, sid: sid.into(), shard });
    }

    pub fn taker(&self, input: TakerInput) {
        self.send(Input::Taker(input));
    }

    fn send(&self, input: Input) {
        // The task ends with the node only.
        let _ = self.inputs.send(input);
    }
}

/// What the task is built from.
#[derive(Debug)]
pub struct Parts {
    pub bus: Bus,
    pub inbox: NodeInbox,
    pub key: SidKey,
    pub shards: Vec<ShardHandle>,
    pub clock: Clock,
    pub metrics: Metrics,
}

/// The handle, for which the task is started with [`run`].
pub fn channel() -> (Peers, Inputs) {
    let (inputs, received) = mpsc::unbounded_channel();
    (Peers { inputs }, Inputs(received))
}

/// The task's end of [`channel`].
#[derive(Debug)]
pub struct Inputs(mpsc::UnboundedReceiver<Input>);

/// Drives the machines until the node ends.
pub async fn run(parts: Parts, mut inputs: Inputs) {
    let Parts { bus, mut inbox, key, shards, clock, metrics } = parts;
    let mut task = Task {
        bus,
        key,
        shards,
        clock,
        metrics,
        forwarder: Forwarder::new(ForwardLimits::default()),
        forward_owner: ForwardOwner::new(ForwardLimits::default()),
        move_owner: MoveOwner::new(),
        taker: Taker::new(),
        waiting: FxHashMap::default(),
        candidates: FxHashMap::default(),
    };
    loop {
        let wake = clock.instant(task.next_timeout().unwrap_or(Millis::MAX / 2));
        tokio::select! {
            biased;
            delivery = inbox.next() => task.on_delivery(delivery),
            input = inputs.0.recv() => match input {
                Some(input) => task.on_input(input),
                None => return,
            },
            () = tokio::time::sleep_until(wake) => task.tick(),
        }
        task.drain_outputs().await;
    }
}

struct Task {
    bus: Bus,
    key: SidKey,
    shards: Vec<ShardHandle>,
    clock: Clock,
    metrics: Metrics,
    forwarder: Forwarder,
    forward_owner: ForwardOwner,
    move_owner: MoveOwner,
    taker: Taker,
    waiting: FxHashMap<u64, oneshot::Sender<Option<Answer>>>,
    /// Which shard holds the candidate WebSocket of a move.
    candidates: FxHashMap<u64, u8>,
}

impl Task {
    fn on_input(&mut self, input: Input) {
        let now = self.clock.now();
        match input {
            Input::Forward { req, owner, sid, ask, done } => {
                self.waiting.insert(req, done);
                self.forwarder
                    .handle(now, ForwarderInput::Start { req, owner: owner.as_str().into(), sid, ask });
            }
            Input::Forwarder(input) => self.forwarder.handle(now, input),
            Input::ForwardOwner(input) => self.forward_owner.handle(now, input),
            Input::MoveOwner(input) => self.move_owner.handle(now, input),
            Input::Probe { mv, owner, sid, shard } => {
                self.candidates.insert(mv, shard);
                self.taker.handle(now, TakerInput::ProbeArrived { mv, owner: owner.as_str().into(), sid });
            }
            Input::Taker(input) => self.taker.handle(now, input),
        }
    }

    fn on_delivery(&mut self, NodeDelivery { tag, body }: NodeDelivery) {
        match body {
            NodeBody::NoResponders => self.on_no_responders(tag),
            NodeBody::Payload { from_reply, bytes } => {
                // `tl.node.<from>.in.<tag>`
                let from = from_reply.split('.').nth(2).and_then(NodeId::parse);
                match (from, NodeMessage::decode(&bytes)) {
                    (Some(from), Ok(message)) => self.on_message(from.as_str().into(), message),
                    (_, Err(error)) => tracing::warn!(%error, "a message of another node could not be read"),
                    (None, _) => tracing::warn!("a node message without a sender"),
                }
            }
        }
    }

    fn on_message(&mut self, from: Arc<str>, message: NodeMessage) {
        let now = self.clock.now();
        tracing::trace!(%from, kind = message.kind_name(), tag = message.tag(), "node message in");
        match message {
            NodeMessage::ForwardAsk { req, msg } => {
                self.forward_owner.handle(now, ForwardOwnerInput::Message { from, req, msg });
            }
            NodeMessage::ForwardReply { req, msg } => {
                self.forwarder.handle(now, ForwarderInput::Message { from, req, msg });
            }
            NodeMessage::MoveAsk { mv, msg } => {
                self.move_owner.handle(now, MoveOwnerInput::Message { from, mv, msg })
            }
            NodeMessage::MoveReply { mv, msg } => {
                self.taker.handle(now, TakerInput::Message { from, mv, msg })
            }
        }
    }

    /// The tag is an id of one of the four tables; the others do not know it.
    fn on_no_responders(&mut self, tag: u64) {
        let now = self.clock.now();
        self.forwarder.handle(now, ForwarderInput::NoResponders { req: tag });
        self.forward_owner.handle(now, ForwardOwnerInput::NoResponders { req: tag });
        self.move_owner.handle(now, MoveOwnerInput::NoResponders { mv: tag });
        self.taker.handle(now, TakerInput::NoResponders { mv: tag });
    }

    fn tick(&mut self) {
        let now = self.clock.now();
        self.forwarder.handle(now, ForwarderInput::Tick);
        self.forward_owner.handle(now, ForwardOwnerInput::Tick);
        self.move_owner.handle(now, MoveOwnerInput::Tick);
        self.taker.handle(now, TakerInput::Tick);
    }

    fn next_timeout(&self) -> Option<Millis> {
        let timeouts = [
            self.forwarder.next_timeout(),
            self.forward_owner.next_timeout(),
            self.move_owner.next_timeout(),
            self.taker.next_timeout(),
        ];
        timeouts.into_iter().flatten().min()
    }

    async fn drain_outputs(&mut self) {
        while let Some(output) = self.forwarder.poll_output() {
            self.forwarder_output(output).await;
        }
        while let Some(output) = self.forward_owner.poll_output() {
            self.forward_owner_output(output).await;
        }
        while let Some(output) = self.move_owner.poll_output() {
            self.move_owner_output(output).await;
        }
        while let Some(output) = self.taker.poll_output() {
            self.taker_output(output).await;
        }
    }

    async fn forwarder_output(&mut self, output: ForwarderOutput) {
        match output {
            ForwarderOutput::Send { to, msg } => self.send(&to, &msg).await,
            ForwarderOutput::Answer { req, answer } => {
                self.metrics.forwarded.with_label_values(&["answered"]).inc();
                let client = self.waiting.remove(&req);
                if client.is_none_or(|client| client.send(Some(answer)).is_err()) {
                    self.forwarder.handle(self.clock.now(), ForwarderInput::ClientGone { req });
                }
            }
            ForwarderOutput::Fail { req, reason } => {
                self.metrics.forwarded.with_label_values(&["failed"]).inc();
                tracing::debug!(%reason, "a forwarded request failed");
                if let Some(client) = self.waiting.remove(&req) {
                    // The client is gone too.
                    let _ = client.send(None);
                }
            }
        }
        if self.waiting.len() > 64 {
            self.waiting.retain(|_, client| !client.is_closed());
        }
    }

    async fn forward_owner_output(&mut self, output: ForwardOwnerOutput) {
        match output {
            ForwardOwnerOutput::Send { to, msg } => self.send(&to, &msg).await,
            ForwardOwnerOutput::Deliver { key, sid, ask } => match self.shard_of(&sid) {
                Some(shard) => shard.control(Control::Forwarded { key, sid, ask }),
                None => self.forward_owner.handle(self.clock.now(), ForwardOwnerInput::SessionGone { key }),
            },
            ForwardOwnerOutput::PollGone { key, sid } => {
                if let Some(shard) = self.shard_of(&sid) {
                    shard.control(Control::ForwardedGone { key, sid });
                }
            }
        }
    }

    async fn move_owner_output(&mut self, output: MoveOwnerOutput) {
        let sid = match &output {
            MoveOwnerOutput::Send { to, msg } => return self.send(to, msg).await,
            MoveOwnerOutput::ExtendDone { ticket, .. } => {
                // A ticket names the shard that waits for it in its top byte.
                let shard = usize::from((*ticket >> 56) as u8);
                if let Some(shard) = self.shards.get(shard) {
                    shard.control(Control::Moving(output));
                }
                return;
            }
            MoveOwnerOutput::Reserve { sid, .. }
            | MoveOwnerOutput::Release { sid, .. }
            | MoveOwnerOutput::Freeze { sid, .. }
            | MoveOwnerOutput::HandedOver { sid, .. }
            | MoveOwnerOutput::CloseSession { sid, .. } => sid,
        };
        match (self.shard_of(sid), &output) {
            (Some(shard), _) => shard.control(Control::Moving(output)),
            (None, MoveOwnerOutput::Reserve { key, .. }) => {
                let refused =
                    MoveOwnerInput::Refused { key: key.clone(), reason: RefuseReason::UnknownSession };
                self.move_owner.handle(self.clock.now(), refused);
            }
            (None, _) => {}
        }
    }

    async fn taker_output(&mut self, output: TakerOutput) {
        let (mv, last) = match &output {
            TakerOutput::Send { to, msg } => return self.send(to, msg).await,
            TakerOutput::Subscribe { mv, .. }
            | TakerOutput::AnswerProbe { mv }
            | TakerOutput::Install { mv, .. } => (*mv, false),
            TakerOutput::Tail { mv, .. } => (*mv, false),
            TakerOutput::Settled { mv, .. } | TakerOutput::Abandon { mv, .. } => (*mv, true),
        };
        let shard = if last { self.candidates.remove(&mv) } else { self.candidates.get(&mv).copied() };
        if let Some(shard) = shard.and_then(|shard| self.shards.get(usize::from(shard))) {
            shard.control(Control::Taking(output));
        }
    }

    /// The shard that a session id of this node names.
    fn shard_of(&self, sid: &str) -> Option<&ShardHandle> {
        self.shards.get(usize::from(self.key.open(sid)?.shard))
    }

    /// Lost datagrams are the machines' business.
    async fn send(&self, to: &str, message: &NodeMessage) {
        tracing::trace!(to, kind = message.kind_name(), tag = message.tag(), "node message out");
        let bytes: Bytes = message.encode();
        if let Err(error) = self.bus.send_node(to, message.tag(), bytes).await {
            tracing::debug!(%error, "a node message was not sent");
        }
    }
}

/// The key of a move at its owner, as the session machine's reservation token.
pub fn token(key: &MoveKey) -> u64 {
    key.mv
}
