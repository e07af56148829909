//! Talk with other nodes about single sessions: forwarded requests and session moves. One task on the bus thread drives the
//! four machines of `cluster`; HTTP handlers and shards send it what happened, and it sends shards what to do.

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, NodeBody, NodeDelivery, NodeInbox};
use bytes::Bytes;
use cluster::forwarding::{
    Answer, Ask, FailReason, ForwardKey, ForwardLimits, ForwardOwner, ForwardOwnerInput, ForwardOwnerOutput,
    Forwarder, ForwarderInput, ForwarderOutput,
};
use cluster::moving::{MoveKey, MoveOwner, MoveOwnerInput, MoveOwnerOutput, Taker, TakerInput, TakerOutput};
use cluster::node_message::{NodeMessage, RefuseReason, Sid};
use cluster::sid::{NodeId, address_of};
use futures_util::FutureExt;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot};

use crate::clock::{Clock, Millis};
use crate::lease::Nodes;
use crate::metrics::Metrics;
use crate::shard::{Control, ShardHandle};

/// How HTTP handlers and shards reach the task. What they send is bounded by requests and sessions under way, and the machines
/// refuse what is over their tables.
#[derive(Clone, Debug)]
pub struct Peers {
    inputs: mpsc::UnboundedSender<Input>,
}

/// The owner's answer, or why there is none.
pub type Forwarded = Result<Answer, FailReason>;

#[derive(Debug)]
enum Input {
    Forward {
        req: u64,
        owner: NodeId,
        sid: Sid,
        ask: Ask,
        done: oneshot::Sender<Forwarded>,
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
    /// Forwards a request to a session's owner. The caller says what came of the answer with [`Peers::written`] or
    /// [`Peers::client_gone`].
    pub fn forward(&self, req: u64, owner: NodeId, sid: &str, ask: Ask) -> oneshot::Receiver<Forwarded> {
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
    pub nodes: Nodes,
    /// Of requests forwarded from here, and of those forwarded to here.
    pub limits: ForwardLimits,
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
    /// Deliveries, and inputs, handled in one turn.
    const PER_TURN: usize = 64;
    let Parts { bus, mut inbox, nodes, limits, shards, clock, metrics } = parts;
    let mut task = Task {
        bus,
        nodes,
        shards,
        clock,
        metrics,
        forwarder: Forwarder::new(limits),
        forward_owner: ForwardOwner::new(limits),
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
            () = tokio::time::sleep_until(wake) => {}
        }
        // Whatever woke the task: each kind of work has its share of every turn, so that none starves another.
        for _ in 0..PER_TURN {
            let Some(delivery) = inbox.next().now_or_never() else { break };
            task.on_delivery(delivery);
        }
        for _ in 0..PER_TURN {
            let Ok(input) = inputs.0.try_recv() else { break };
            task.on_input(input);
        }
        task.tick_if_due();
        task.drain_outputs().await;
    }
}

struct Task {
    bus: Bus,
    nodes: Nodes,
    shards: Vec<ShardHandle>,
    clock: Clock,
    metrics: Metrics,
    forwarder: Forwarder,
    forward_owner: ForwardOwner,
    move_owner: MoveOwner,
    taker: Taker,
    /// Clients that wait for the owner's answer.
    waiting: FxHashMap<u64, oneshot::Sender<Forwarded>>,
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
            Input::Forwarder(input) => {
                if let ForwarderInput::ClientGone { req } = &input {
                    self.waiting.remove(req);
                }
                self.forwarder.handle(now, input);
            }
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

    /// The tag is an id of one of the four tables; the others do not know it. A node that holds a lease has only lost its
    /// connection for a moment: the machines send again.
    fn on_no_responders(&mut self, tag: u64) {
        let peer = self.forwarder.peer(tag).or_else(|| self.forward_owner.peer(tag));
        let peer = peer.or_else(|| self.move_owner.peer(tag)).or_else(|| self.taker.peer(tag));
        if peer.is_none_or(|peer| holds_lease(&self.nodes, peer)) {
            return;
        }
        let now = self.clock.now();
        self.forwarder.handle(now, ForwarderInput::NoResponders { req: tag });
        self.forward_owner.handle(now, ForwardOwnerInput::NoResponders { req: tag });
        self.move_owner.handle(now, MoveOwnerInput::NoResponders { mv: tag });
        self.taker.handle(now, TakerInput::NoResponders { mv: tag });
    }

    fn tick_if_due(&mut self) {
        let now = self.clock.now();
        if self.next_timeout().is_none_or(|at| at > now) {
            return;
        }
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
        let mut wire = Wire { bus: self.bus.clone(), patience: SEND_WITHIN };
        while let Some(output) = self.forwarder.poll_output() {
            self.forwarder_output(&mut wire, output).await;
        }
        while let Some(output) = self.forward_owner.poll_output() {
            self.forward_owner_output(&mut wire, output).await;
        }
        while let Some(output) = self.move_owner.poll_output() {
            self.move_owner_output(&mut wire, output).await;
        }
        while let Some(output) = self.taker.poll_output() {
            self.taker_output(&mut wire, output).await;
        }
    }

    async fn forwarder_output(&mut self, wire: &mut Wire, output: ForwarderOutput) {
        match output {
            ForwarderOutput::Send { to, msg } => wire.send(&to, &msg).await,
            ForwarderOutput::Answer { req, answer } => {
                self.metrics.forwarded.with_label_values(&["answered"]).inc();
                let client = self.waiting.remove(&req);
                if client.is_none_or(|client| client.send(Ok(answer)).is_err()) {
                    self.forwarder.handle(self.clock.now(), ForwarderInput::ClientGone { req });
                }
            }
            ForwarderOutput::Fail { req, reason } => {
                self.metrics.forwarded.with_label_values(&["failed"]).inc();
                tracing::debug!(%reason, "a forwarded request failed");
                if let Some(client) = self.waiting.remove(&req) {
                    // The client is gone too.
                    let _ = client.send(Err(reason));
                }
            }
        }
    }

    async fn forward_owner_output(&mut self, wire: &mut Wire, output: ForwardOwnerOutput) {
        match output {
            ForwardOwnerOutput::Send { to, msg } => wire.send(&to, &msg).await,
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

    async fn move_owner_output(&mut self, wire: &mut Wire, output: MoveOwnerOutput) {
        let sid = match &output {
            MoveOwnerOutput::Send { to, msg } => return wire.send(to, msg).await,
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

    async fn taker_output(&mut self, wire: &mut Wire, output: TakerOutput) {
        let (mv, last) = match &output {
            TakerOutput::Send { to, msg } => return wire.send(to, msg).await,
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

    /// The shard that a session id of this node names; the node that asks has verified it.
    fn shard_of(&self, sid: &str) -> Option<&ShardHandle> {
        self.shards.get(usize::from(address_of(sid)?.shard))
    }
}

/// Longest wait for a place in the bus client's queue, once per turn.
const SEND_WITHIN: Duration = Duration::from_millis(50);

/// The way out during one turn. What cannot be sent at once is lost: the machines send again, and this task must go on.
struct Wire {
    bus: Bus,
    patience: Duration,
}

impl Wire {
    async fn send(&mut self, to: &str, message: &NodeMessage) {
        tracing::trace!(to, kind = message.kind_name(), tag = message.tag(), "node message out");
        if !self.bus.is_connected() {
            return tracing::debug!(to, "a node message was dropped: NATS is not connected");
        }
        let bytes: Bytes = message.encode();
        let sending = self.bus.send_node(to, message.tag(), bytes);
        match tokio::time::timeout(self.patience, sending).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(to, %error, "a node message was not sent"),
            Err(_) => {
                self.patience = Duration::ZERO;
                tracing::debug!(to, "a node message was dropped: the queue to NATS is full");
            }
        }
    }
}

fn holds_lease(nodes: &Nodes, node: &str) -> bool {
    NodeId::parse(node).is_some_and(|node| nodes.borrow().contains(&node))
}

/// The key of a move at its owner, as the session machine's reservation token.
pub fn token(key: &MoveKey) -> u64 {
    key.mv
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_nodes_in_the_set_hold_a_lease() {
        let (here, gone) = (NodeId::from_random(1), NodeId::from_random(2));
        let (_set, nodes) = tokio::sync::watch::channel(Arc::new([here].into()));
        assert!(holds_lease(&nodes, here.as_str()));
        assert!(!holds_lease(&nodes, gone.as_str()));
        assert!(!holds_lease(&nodes, "not a node"));
    }
}
