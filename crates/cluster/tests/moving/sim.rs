//! The upper layers of three nodes and a client, as the design describes them, driven by the machines.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use cluster::moving::*;
use cluster::node_message::{NodeId, NodeMessage, RefuseReason, Sid};

use crate::net::{Delivery, Event, Faults, Net, node};
use crate::world::*;

/// The session begins at the first node; the client's WebSocket is at the second, a rival's at the third.
const HOME: usize = 0;
const NEW: usize = 1;
const RIVAL: usize = 2;
/// The session begins in rooms 0 and 1 and joins the others one by one.
const ROOMS: u64 = 40;
const MV: u64 = 100;
const RIVAL_MV: u64 = 200;
/// Events are published and messages sent until `QUIET_MS`; all deadlines are over at `END_MS`.
const QUIET_MS: u64 = 5_000;
const END_MS: u64 = 30_000;

/// Chances in percent, and the node that dies.
#[derive(Clone, Copy)]
pub struct Plan {
    pub leave: u64,
    pub rival: u64,
    /// The session cannot be built at the new node.
    pub fail: u64,
    pub crash: Option<usize>,
}

enum World {
    Publish,
    Read { node: usize },
    Poll,
    Up,
    CommandDone { node: usize, n: u64 },
    Probe { node: usize, mv: u64 },
    Upgrade,
    Leave { node: usize, mv: u64 },
    SayInstalled { node: usize, mv: u64 },
    Crash { node: usize },
}

pub struct Sim {
    net: Net<World>,
    nodes: Vec<Node>,
    log: Vec<Entry>,
    plan: Plan,
    pub client: Client,
    pub installs: u32,
    pub left_after_upgrade: bool,
    froze: bool,
    failed: bool,
    sent: u64,
    got: Vec<Down>,
    /// Rooms the client is in, and since when.
    joined: Vec<(Room, At)>,
}

fn sid() -> Sid {
    Arc::from("a-session")
}

impl Sim {
    pub fn new(seed: u64, faults: Faults, plan: Plan) -> Self {
        let mut net = Net::new(seed, faults);
        let mut nodes: Vec<_> = ["a", "b", "c"].map(|id| Node::new(node(id))).into();
        let padding = Bytes::from(vec![7; if net.rng.percent(20) { 700_000 } else { 0 }]);
        let session = Session { rooms: [(0, 0), (1, 0)].into(), padding, ..Session::default() };
        nodes[HOME].hosted =
            Some(Hosted { session, life: Life::Live, reserved: None, joins: BTreeSet::new() });
        for n in 0..nodes.len() {
            net.after(0, World::Read { node: n });
        }
        for event in [World::Publish, World::Poll, World::Up] {
            net.after(0, event);
        }
        let probe_at = 1_000 + net.rng.below(1_000);
        net.after(probe_at, World::Probe { node: NEW, mv: MV });
        if net.rng.percent(plan.rival) {
            let near = probe_at - 100 + net.rng.below(400);
            net.after(near, World::Probe { node: RIVAL, mv: RIVAL_MV });
        }
        if net.rng.percent(plan.leave) {
            let at = probe_at + net.rng.below(1_500);
            net.after(at, World::Leave { node: NEW, mv: MV });
        }
        if let Some(node) = plan.crash {
            let at = probe_at - 200 + net.rng.below(2_500);
            net.after(at, World::Crash { node });
        }
        Self {
            net,
            nodes,
            log: Vec::new(),
            plan,
            client: Client::Polling,
            installs: 0,
            left_after_upgrade: false,
            froze: false,
            failed: false,
            sent: 0,
            got: Vec::new(),
            joined: vec![(0, 0), (1, 0)],
        }
    }

    pub fn run(mut self) -> Self {
        loop {
            let timeout = (0..self.nodes.len()).filter_map(|n| self.timeout(n)).min();
            match (self.net.next(timeout), timeout) {
                (Some(Event::World(event)), _) => self.world(event),
                (Some(Event::Inbox { to, delivery }), _) => self.inbox(&to, delivery),
                (None, Some(at)) => {
                    self.net.now = self.net.now.max(at);
                    self.tick();
                }
                (None, None) => break,
            }
            self.drain();
            let live = self.nodes.iter().filter(|node| node.live()).count();
            assert!(live <= 1, "the session lives twice");
            assert!(self.net.now < END_MS + 20_000, "something hangs");
        }
        self.check();
        self
    }

    fn alive(&self, n: usize) -> bool {
        !self.net.crashed.contains(&self.nodes[n].id)
    }

    fn timeout(&self, n: usize) -> Option<u64> {
        let node = &self.nodes[n];
        let timeouts = [node.owner.next_timeout(), node.taker.next_timeout()];
        timeouts.into_iter().flatten().min().filter(|_| self.alive(n))
    }

    fn tick(&mut self) {
        let now = self.net.now;
        for n in 0..self.nodes.len() {
            if self.timeout(n).is_some_and(|at| at <= now) {
                self.nodes[n].owner.handle(now, MoveOwnerInput::Tick);
                self.nodes[n].taker.handle(now, TakerInput::Tick);
            }
        }
    }

    fn inbox(&mut self, to: &NodeId, delivery: Delivery) {
        let now = self.net.now;
        let n = self.nodes.iter().position(|node| node.id == *to).expect("a node of this world");
        if !self.alive(n) {
            return;
        }
        let Node { owner, taker, .. } = &mut self.nodes[n];
        match delivery {
            Delivery::NoResponders { tag } => {
                owner.handle(now, MoveOwnerInput::NoResponders { mv: tag });
                taker.handle(now, TakerInput::NoResponders { mv: tag });
            }
            Delivery::Message { from, message: NodeMessage::MoveAsk { mv, msg } } => {
                owner.handle(now, MoveOwnerInput::Message { from, mv, msg });
            }
            Delivery::Message { from, message: NodeMessage::MoveReply { mv, msg } } => {
                taker.handle(now, TakerInput::Message { from, mv, msg });
            }
            Delivery::Message { message, .. } => panic!("not of moving: {message:?}"),
        }
    }

    fn world(&mut self, event: World) {
        let (now, quiet) = (self.net.now, self.net.now >= QUIET_MS);
        match event {
            World::Publish if quiet => {}
            World::Publish => {
                let rooms = if self.net.rng.percent(40) { 2 } else { ROOMS };
                let (room, recoverable) = (self.net.rng.below(rooms) as Room, self.net.rng.percent(50));
                self.log.push(Entry::Event { room, recoverable });
                self.net.soon(30, World::Publish);
            }
            World::Read { node } if self.alive(node) && now < END_MS => {
                self.read(node);
                let slower = if quiet { 400 } else { 0 };
                self.net.soon(40 + slower, World::Read { node });
            }
            World::Poll if now < END_MS => {
                self.poll();
                self.net.soon(120, World::Poll);
            }
            World::Up if !quiet => {
                self.up();
                self.net.soon(60, World::Up);
            }
            World::Read { .. } | World::Poll | World::Up => {}
            World::CommandDone { node, n } if self.alive(node) => self.command_done(node, n),
            World::CommandDone { .. } => {}
            World::Probe { node, mv } => self.probe(node, mv),
            World::Upgrade => self.upgrade(),
            World::Leave { node, mv } => self.leave(node, mv),
            World::SayInstalled { node, mv } if self.alive(node) => {
                self.nodes[node].taker.handle(now, TakerInput::Installed { mv });
            }
            World::SayInstalled { .. } => {}
            World::Crash { node } => self.crash(node),
        }
    }

    fn read(&mut self, n: usize) {
        let now = self.net.now;
        for _ in 0..self.net.rng.below(if now < QUIET_MS { 8 } else { 100 }) {
            if self.nodes[n].at == self.log.len() {
                return;
            }
            for barrier in self.nodes[n].read(&self.log) {
                let node = &mut self.nodes[n];
                match barrier {
                    Barrier::Subscribed { mv, seq } => {
                        node.taker.handle(now, TakerInput::Subscribed { mv, seq });
                    }
                    Barrier::Frozen { key } => {
                        let Some(hosted) = &mut node.hosted else { continue };
                        hosted.life = Life::Frozen(true);
                        hosted.session.barrier = node.at;
                        let (state, tails) = (hosted.session.encode(), node.running.len() as u32);
                        node.owner.handle(now, MoveOwnerInput::Frozen { key, state, tails });
                    }
                }
            }
        }
    }

    fn poll(&mut self) {
        if self.client != Client::Polling {
            return;
        }
        let home = &mut self.nodes[HOME];
        match &mut home.hosted {
            Some(hosted) if hosted.life == Life::Live => self.got.append(&mut hosted.session.queue),
            _ => self.client = Client::Lost,
        }
    }

    fn up(&mut self) {
        let n = self.sent;
        match self.client {
            Client::Paused | Client::Lost => return,
            Client::Polling if self.nodes[HOME].live() => self.command(HOME, n),
            Client::Polling => self.client = Client::Lost,
            Client::WebSocket => match &mut self.nodes[NEW].candidate {
                Some(candidate) => candidate.frames.push(n),
                None => self.command(NEW, n),
            },
        }
        self.sent += 1;
    }

    fn command(&mut self, node: usize, n: u64) {
        let hosted = self.nodes[node].hosted.as_mut().expect("the client is connected to a session");
        hosted.session.up(n);
        self.nodes[node].running.insert(n);
        self.net.soon(500, World::CommandDone { node, n });
    }

    /// Every fourth command is a join.
    fn command_done(&mut self, at: usize, n: u64) {
        let (now, since) = (self.net.now, self.log.len());
        let node = &mut self.nodes[at];
        if !node.running.contains(&n) {
            return;
        }
        let Some(hosted) = &mut node.hosted else { return self.tail(at, n) };
        let room = 2 + (n / 4 % (ROOMS - 2)) as Room;
        let joins = n % 4 == 3 && hosted.life == Life::Live && !hosted.session.rooms.contains_key(&room);
        if joins {
            hosted.session.rooms.insert(room, since);
            self.joined.push((room, since));
        }
        match (&hosted.reserved, hosted.life) {
            (_, Life::Frozen(true)) => return self.tail(at, n),
            (Some(key), Life::Live) if joins => {
                hosted.joins.insert(n);
                let (key, rooms) = (key.clone(), Bytes::from(vec![room]));
                return node.owner.handle(now, MoveOwnerInput::RoomsJoined { key, ticket: n, rooms });
            }
            _ => {}
        }
        hosted.session.queue.push(Down::Ack(n));
        node.running.remove(&n);
    }

    fn tail(&mut self, at: usize, n: u64) {
        let node = &mut self.nodes[at];
        let key = node.tailing.clone().or_else(|| node.hosted.as_ref()?.reserved.clone());
        if let Some(key) = key {
            node.running.remove(&n);
            let size = if n.is_multiple_of(3) { 300_000 } else { 8 };
            let mut bytes = n.to_be_bytes().to_vec();
            bytes.resize(size, 0);
            node.owner.handle(self.net.now, MoveOwnerInput::Tail { key, bytes: bytes.into() });
        }
    }

    fn probe(&mut self, n: usize, mv: u64) {
        if !self.alive(n) || (n == NEW && self.client != Client::Polling) {
            return;
        }
        let (rooms, buffer, frames) = Default::default();
        self.nodes[n].candidate = Some(Candidate { mv, rooms, buffer, frames });
        let owner = self.nodes[HOME].id.clone();
        let probe = TakerInput::ProbeArrived { mv, owner, sid: sid() };
        self.nodes[n].taker.handle(self.net.now, probe);
        if n == RIVAL {
            self.net.soon(2_500, World::Leave { node: RIVAL, mv });
        }
    }

    fn upgrade(&mut self) {
        if self.client == Client::Paused && self.alive(NEW) {
            self.client = Client::WebSocket;
            self.nodes[NEW].taker.handle(self.net.now, TakerInput::UpgradeArrived { mv: MV });
        }
    }

    fn leave(&mut self, n: usize, mv: u64) {
        if !self.alive(n)
            || (n == NEW && self.nodes[n].candidate.is_none() && self.client != Client::WebSocket)
        {
            return;
        }
        self.nodes[n].taker.handle(self.net.now, TakerInput::ClientGone { mv });
        if n == NEW {
            self.left_after_upgrade |= self.client == Client::WebSocket;
            self.web_socket_closed();
        }
    }

    /// Before `5` the client polls on; after it the session ends with its transport.
    fn web_socket_closed(&mut self) {
        self.nodes[NEW].candidate = None;
        match self.client {
            Client::Paused => self.client = Client::Polling,
            Client::WebSocket => {
                self.client = Client::Lost;
                self.nodes[NEW].hosted = None;
            }
            Client::Polling | Client::Lost => {}
        }
    }

    fn crash(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        self.net.crashed.insert(node.id.clone());
        (node.hosted, node.candidate) = (None, None);
        node.running.clear();
        if n == NEW {
            self.web_socket_closed();
        }
    }

    fn drain(&mut self) {
        for n in 0..self.nodes.len() {
            while let Some(output) = self.nodes[n].owner.poll_output() {
                self.owner_says(n, output);
            }
            while let Some(output) = self.nodes[n].taker.poll_output() {
                self.taker_says(n, output);
            }
        }
        if self.client == Client::WebSocket
            && let Some(hosted) = &mut self.nodes[NEW].hosted
        {
            self.got.append(&mut hosted.session.queue);
        }
    }

    fn owner_says(&mut self, n: usize, output: MoveOwnerOutput) {
        let now = self.net.now;
        let node = &mut self.nodes[n];
        match output {
            MoveOwnerOutput::Send { to, msg } => self.net.send(&node.id.clone(), &to, &msg),
            MoveOwnerOutput::Reserve { key, .. } => {
                let input = match &mut node.hosted {
                    Some(hosted) => {
                        assert!(hosted.reserved.is_none(), "reserved twice");
                        hosted.reserved = Some(key.clone());
                        hosted.session.seen.clear();
                        let info = hosted.session.rooms.keys().copied().collect();
                        MoveOwnerInput::Reserved { key, info }
                    }
                    None => MoveOwnerInput::Refused { key, reason: RefuseReason::UnknownSession },
                };
                node.owner.handle(now, input);
            }
            MoveOwnerOutput::Release { key, .. } => {
                let hosted = node.hosted.as_mut().expect("a reserved session is here");
                assert_eq!((hosted.reserved.take(), hosted.life), (Some(key), Life::Live));
            }
            MoveOwnerOutput::ExtendDone { key, ticket } => self.extend_done(n, &key, ticket),
            MoveOwnerOutput::Freeze { key, .. } => {
                self.froze = true;
                let hosted = node.hosted.as_mut().expect("a reserved session is here");
                assert_eq!(hosted.life, Life::Live);
                hosted.life = Life::Frozen(false);
                self.freeze_barrier(n, key);
            }
            MoveOwnerOutput::HandedOver { key, .. } => {
                let hosted = node.hosted.take().expect("a frozen session is here");
                assert_eq!(hosted.life, Life::Frozen(true));
                node.tailing = Some(key);
            }
            MoveOwnerOutput::CloseSession { .. } => {
                let hosted = node.hosted.take().expect("a frozen session is here");
                assert_ne!(hosted.life, Life::Live);
                node.running.clear();
            }
        }
    }

    fn extend_done(&mut self, n: usize, key: &MoveKey, ticket: u64) {
        let node = &mut self.nodes[n];
        let hosted = node.hosted.as_mut().expect("its reservation ends later");
        assert!(hosted.joins.remove(&ticket), "a join was acked twice");
        assert_ne!(hosted.life, Life::Frozen(true));
        node.running.remove(&ticket);
        hosted.session.queue.push(Down::Ack(ticket));
        if hosted.life == Life::Frozen(false) {
            self.freeze_barrier(n, key.clone());
        }
    }

    fn freeze_barrier(&mut self, n: usize, key: MoveKey) {
        let node = &mut self.nodes[n];
        if node.hosted.as_ref().is_some_and(|hosted| hosted.joins.is_empty()) {
            node.barriers.push((self.log.len(), Barrier::Frozen { key }));
            self.log.push(Entry::Marker);
        }
    }

    fn taker_says(&mut self, n: usize, output: TakerOutput) {
        let node = &mut self.nodes[n];
        match output {
            TakerOutput::Send { to, msg } => self.net.send(&node.id.clone(), &to, &msg),
            TakerOutput::Subscribe { mv, seq, rooms } => {
                let Some(candidate) = &mut node.candidate else { return };
                assert_eq!(candidate.mv, mv);
                for room in rooms {
                    candidate.rooms.entry(room).or_insert(self.log.len());
                }
                node.barriers.push((self.log.len(), Barrier::Subscribed { mv, seq }));
                self.log.push(Entry::Marker);
            }
            TakerOutput::AnswerProbe { .. } if n == NEW && self.client == Client::Polling => {
                self.client = Client::Paused;
                self.net.soon(300, World::Upgrade);
            }
            TakerOutput::AnswerProbe { .. } => {}
            TakerOutput::Install { mv, state, .. } => self.install(n, mv, &state),
            TakerOutput::Tail { bytes, .. } => {
                let number = bytes.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
                let ack = Down::Ack(number.expect("a tail of this world"));
                if let Some(hosted) = &mut node.hosted {
                    hosted.session.queue.push(ack);
                }
            }
            TakerOutput::Settled { tails_lost: true, .. } => self.web_socket_closed(),
            TakerOutput::Settled { .. } => {}
            TakerOutput::Abandon { .. } if n == NEW => self.web_socket_closed(),
            TakerOutput::Abandon { .. } => node.candidate = None,
        }
    }

    fn install(&mut self, n: usize, mv: u64, state: &Bytes) {
        let now = self.net.now;
        let fails = self.net.rng.percent(self.plan.fail);
        let Some(candidate) = self.nodes[n].candidate.take_if(|_| !fails) else {
            self.failed = true;
            return self.nodes[n].taker.handle(now, TakerInput::InstallFailed { mv });
        };
        self.installs += 1;
        assert_eq!((self.installs, n), (1, NEW));
        self.net.soon(50, World::SayInstalled { node: n, mv });
        let mut session = Session::decode(state);
        for at in candidate.buffer {
            session.see(at, &self.log[at]);
        }
        self.nodes[n].hosted =
            Some(Hosted { session, life: Life::Live, reserved: None, joins: BTreeSet::new() });
        for frame in candidate.frames {
            self.command(n, frame);
        }
    }

    fn check(&self) {
        let place = match self.client {
            Client::Polling => HOME,
            Client::WebSocket => NEW,
            Client::Paused => panic!("the upgrade hangs"),
            Client::Lost => return self.check_lost(),
        };
        assert!(self.nodes[place].live(), "the client hangs without a session");
        let hosted = self.nodes[place].hosted.as_ref().expect("it lives here");
        assert!(self.net.is_empty());
        assert!(hosted.reserved.is_none() && hosted.joins.is_empty(), "the session hangs in its reservation");
        let events: Vec<At> = self
            .got
            .iter()
            .filter_map(|down| match down {
                Down::Event(at) => Some(*at),
                Down::Ack(_) => None,
            })
            .collect();
        let due: Vec<At> = (0..self.log.len()).filter(|at| self.is_due(*at)).collect();
        assert_eq!(events, due, "events were lost, doubled or reordered");
        let mut acks: Vec<u64> = self
            .got
            .iter()
            .filter_map(|down| match down {
                Down::Ack(n) => Some(*n),
                Down::Event(_) => None,
            })
            .collect();
        acks.sort_unstable();
        assert_eq!(acks, (0..self.sent).collect::<Vec<_>>(), "acks were lost or doubled");
    }

    fn is_due(&self, at: At) -> bool {
        let Entry::Event { room, .. } = self.log[at] else { return false };
        self.joined.iter().any(|(joined, since)| *joined == room && *since <= at)
    }

    /// The client was told by a closed connection. A session may remain only where it never froze: its heartbeat ends it.
    fn check_lost(&self) {
        let lossless = self.net.faults.drop == 0;
        let blameless = self.plan.crash.is_none() && !self.left_after_upgrade && !self.failed && lossless;
        assert!(!blameless, "the session was lost without a reason");
        assert!(!self.nodes[NEW].live(), "a ghost session at the new node");
        assert!(!self.froze || !self.nodes[HOME].live(), "a ghost session at the old node");
    }
}
