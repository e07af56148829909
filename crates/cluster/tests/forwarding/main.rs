//! Forwarded requests in a world of lost, doubled and reordered datagrams and dying nodes.

#[path = "../net/mod.rs"]
mod net;
mod scripted;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cluster::forwarding::*;
use cluster::node_message::{NodeId, NodeMessage, Sid};
use net::{Delivery, Event, Faults, Net, node};

const REQUESTS: u64 = 12;
/// Everything must be over by then: the longest held poll, its answer's repetitions and the memory of neither.
const OVER_MS: u64 = 60_000;

enum World {
    Start {
        req: u64,
    },
    /// The client is done reading the answer.
    Read {
        req: u64,
    },
    HangUp {
        req: u64,
    },
    /// The session answers.
    Reply {
        key: ForwardKey,
    },
    CrashForwarder,
    CrashOwner,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Get,
    Post,
    Check,
}

/// What happened to one request, as seen from both ends.
#[derive(Debug, Default)]
struct Fate {
    kind: Option<Kind>,
    started: bool,
    hung_up: bool,
    delivered: u32,
    replied: bool,
    /// The reply took data out of the session.
    took: bool,
    answers: u32,
    refused: bool,
    written: bool,
    failed: bool,
    poll_gone: bool,
}

struct Sim {
    net: Net<World>,
    front: NodeId,
    back: NodeId,
    forwarder: Forwarder,
    owner: ForwardOwner,
    fates: BTreeMap<u64, Fate>,
    hang_ups: u64,
}

/// Large enough for three parts; shared, so that a thousand worlds stay cheap.
fn body(req: u64) -> Bytes {
    let len = if req.is_multiple_of(5) { 1_200_000 } else { 10 + req as usize };
    Bytes::from(vec![req as u8; len])
}

fn sid() -> Sid {
    Arc::from("b-session")
}

impl Sim {
    fn new(seed: u64, faults: Faults, hang_ups: u64) -> Self {
        let mut net = Net::new(seed, faults);
        let mut fates = BTreeMap::new();
        for req in 0..REQUESTS {
            net.soon(3_000, World::Start { req });
            fates.insert(req, Fate::default());
        }
        Self {
            net,
            front: node("a"),
            back: node("b"),
            forwarder: Forwarder::new(ForwardLimits::default()),
            owner: ForwardOwner::new(ForwardLimits::default()),
            fates,
            hang_ups,
        }
    }

    fn run(mut self) -> Self {
        loop {
            let timeout = [self.front_timeout(), self.back_timeout()].into_iter().flatten().min();
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
            assert!(self.net.now < OVER_MS, "something hangs: {:#?}", self.fates);
        }
        self.check();
        self
    }

    fn front_timeout(&self) -> Option<u64> {
        self.forwarder.next_timeout().filter(|_| !self.net.crashed.contains(&self.front))
    }

    fn back_timeout(&self) -> Option<u64> {
        self.owner.next_timeout().filter(|_| !self.net.crashed.contains(&self.back))
    }

    fn tick(&mut self) {
        let now = self.net.now;
        if self.front_timeout().is_some() {
            self.forwarder.handle(now, ForwarderInput::Tick);
        }
        if self.back_timeout().is_some() {
            self.owner.handle(now, ForwardOwnerInput::Tick);
        }
    }

    fn world(&mut self, event: World) {
        let now = self.net.now;
        match event {
            World::CrashForwarder => drop(self.net.crashed.insert(self.front.clone())),
            World::CrashOwner => drop(self.net.crashed.insert(self.back.clone())),
            World::Reply { key } if !self.net.crashed.contains(&self.back) => self.reply(key),
            World::Reply { .. } => {}
            _ if self.net.crashed.contains(&self.front) => {}
            World::Start { req } => self.start(req),
            World::Read { req } => {
                let fate = self.fates.get_mut(&req).expect("a request of this world");
                if !fate.hung_up {
                    fate.written = true;
                    self.forwarder.handle(now, ForwarderInput::Written { req });
                }
            }
            World::HangUp { req } => {
                let fate = self.fates.get_mut(&req).expect("a request of this world");
                if !fate.written && !fate.failed {
                    fate.hung_up = true;
                    self.forwarder.handle(now, ForwarderInput::ClientGone { req });
                }
            }
        }
    }

    fn start(&mut self, req: u64) {
        let (kind, ask) = match self.net.rng.below(5) {
            0 | 1 => (Kind::Get, Ask::Get),
            2 | 3 => (Kind::Post, Ask::Post(body(req))),
            _ => (Kind::Check, Ask::Check),
        };
        let fate = self.fates.get_mut(&req).expect("a request of this world");
        (fate.kind, fate.started) = (Some(kind), true);
        if self.net.rng.percent(self.hang_ups) {
            self.net.soon(9_000, World::HangUp { req });
        }
        let input = ForwarderInput::Start { req, owner: self.back.clone(), sid: sid(), ask };
        self.forwarder.handle(self.net.now, input);
    }

    fn reply(&mut self, key: ForwardKey) {
        let fate = self.fates.get_mut(&key.req).expect("a request of this world");
        fate.replied = true;
        let input = if self.net.rng.percent(5) {
            ForwardOwnerInput::SessionGone { key }
        } else {
            let body = if fate.kind == Some(Kind::Get) { body(key.req) } else { Bytes::from_static(b"ok") };
            fate.took = fate.kind == Some(Kind::Get);
            let answer = Answer { status: 200, content: Arc::from("text/plain"), body };
            ForwardOwnerInput::Answered { key, answer }
        };
        self.owner.handle(self.net.now, input);
    }

    fn inbox(&mut self, to: &NodeId, delivery: Delivery) {
        let now = self.net.now;
        if self.net.crashed.contains(to) {
            return;
        }
        match delivery {
            Delivery::NoResponders { tag } if *to == self.front => {
                self.forwarder.handle(now, ForwarderInput::NoResponders { req: tag });
            }
            Delivery::NoResponders { tag } => {
                self.owner.handle(now, ForwardOwnerInput::NoResponders { req: tag });
            }
            Delivery::Message { from, message: NodeMessage::ForwardAsk { req, msg } } => {
                self.owner.handle(now, ForwardOwnerInput::Message { from, req, msg });
            }
            Delivery::Message { from, message: NodeMessage::ForwardReply { req, msg } } => {
                self.forwarder.handle(now, ForwarderInput::Message { from, req, msg });
            }
            Delivery::Message { message, .. } => panic!("not of forwarding: {message:?}"),
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.forwarder.poll_output() {
            self.forwarder_says(output);
        }
        while let Some(output) = self.owner.poll_output() {
            self.owner_says(output);
        }
    }

    fn forwarder_says(&mut self, output: ForwarderOutput) {
        match output {
            ForwarderOutput::Send { to, msg } => self.net.send(&self.front.clone(), &to, &msg),
            ForwarderOutput::Answer { req, answer } => {
                let fate = self.fates.get_mut(&req).expect("a request of this world");
                fate.answers += 1;
                assert!(fate.answers == 1 && !fate.failed && !fate.hung_up, "{fate:?}");
                fate.refused = answer.status != 200;
                if answer.status == 200 && fate.kind == Some(Kind::Get) {
                    assert!(answer.body == body(req), "another body");
                }
                self.net.soon(4_000, World::Read { req });
            }
            ForwarderOutput::Fail { req, .. } => {
                let fate = self.fates.get_mut(&req).expect("a request of this world");
                assert!(fate.answers == 0 && !fate.failed && !fate.hung_up, "{fate:?}");
                fate.failed = true;
            }
        }
    }

    fn owner_says(&mut self, output: ForwardOwnerOutput) {
        match output {
            ForwardOwnerOutput::Send { to, msg } => self.net.send(&self.back.clone(), &to, &msg),
            ForwardOwnerOutput::Deliver { key, ask, .. } => {
                let fate = self.fates.get_mut(&key.req).expect("a request of this world");
                fate.delivered += 1;
                assert_eq!(fate.delivered, 1, "{key:?}");
                if let Ask::Post(posted) = ask {
                    assert!(posted == body(key.req), "another body");
                }
                let within = if fate.kind == Some(Kind::Get) { 9_000 } else { 50 };
                self.net.soon(within, World::Reply { key });
            }
            ForwardOwnerOutput::PollGone { key, .. } => {
                let fate = self.fates.get_mut(&key.req).expect("a request of this world");
                assert!(fate.kind == Some(Kind::Get) && !fate.poll_gone, "{fate:?}");
                fate.poll_gone = true;
            }
        }
    }

    fn check(&self) {
        let (front, back) = (self.net.crashed.contains(&self.front), self.net.crashed.contains(&self.back));
        for (req, fate) in self.fates.iter().filter(|(_, fate)| fate.started) {
            let over = fate.written || fate.failed || fate.hung_up;
            assert!(over || front, "request {req} hangs: {fate:?}");
            if fate.written && !fate.refused {
                assert!(fate.delivered == 1 && fate.replied, "request {req} answered from nowhere: {fate:?}");
            }
            if fate.took && !back {
                assert!(fate.written || fate.poll_gone, "request {req} silently lost: {fate:?}");
            }
        }
        assert!(self.net.is_empty());
    }
}

#[test]
fn without_faults_everything_is_answered() {
    net::seeds(200, |seed| {
        let sim = Sim::new(seed, Faults::NONE, 0).run();
        assert!(sim.fates.values().all(|fate| fate.written && !fate.failed && !fate.poll_gone));
    });
}

#[test]
fn reordered_and_doubled_datagrams_change_nothing() {
    net::seeds(300, |seed| {
        let sim = Sim::new(seed, Faults::REORDER, 0).run();
        assert!(sim.fates.values().all(|fate| fate.written && !fate.failed && !fate.poll_gone));
    });
}

#[test]
fn lost_datagrams_lose_nothing_silently() {
    net::seeds(600, |seed| drop(Sim::new(seed, Faults::LOSS, 20).run()));
}

#[test]
fn a_dying_node_hangs_nobody() {
    net::seeds(600, |seed| {
        let faults = [Faults::NONE, Faults::REORDER, Faults::LOSS][(seed % 3) as usize];
        let mut sim = Sim::new(seed, faults, 10);
        if seed % 2 == 0 {
            sim.net.soon(8_000, World::CrashForwarder);
        } else {
            sim.net.soon(8_000, World::CrashOwner);
        }
        sim.run();
    });
}
