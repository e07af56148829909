//! A seeded world: random numbers, events in time, and datagrams that are delayed, doubled, reordered and dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use cluster::node_message::{NodeId, NodeMessage};

pub type Millis = u64;

/// SplitMix64: small, and the same on every machine.
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What the network does to datagrams; chances in percent.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    pub drop: u64,
    pub double: u64,
    pub max_delay_ms: Millis,
}

impl Faults {
    pub const NONE: Self = Self { drop: 0, double: 0, max_delay_ms: 1 };
    pub const REORDER: Self = Self { drop: 0, double: 30, max_delay_ms: 120 };
    pub const LOSS: Self = Self { drop: 25, double: 20, max_delay_ms: 200 };
}

/// What a node's inbox yields.
pub enum Delivery {
    Message { from: NodeId, message: NodeMessage },
    NoResponders { tag: u64 },
}

/// Datagrams and the world's own events, in the order of time.
pub struct Net<E> {
    pub now: Millis,
    pub rng: Rng,
    pub faults: Faults,
    pub crashed: BTreeSet<NodeId>,
    events: BTreeMap<(Millis, u64), Event<E>>,
    count: u64,
}

pub enum Event<E> {
    Inbox { to: NodeId, delivery: Delivery },
    World(E),
}

enum Datagram {
    Message { from: NodeId, to: NodeId, bytes: Bytes },
    NoResponders { to: NodeId, tag: u64 },
}

impl<E> Net<E> {
    pub fn new(seed: u64, faults: Faults) -> Self {
        Self {
            now: 0,
            rng: Rng::new(seed),
            faults,
            crashed: BTreeSet::new(),
            events: BTreeMap::new(),
            count: 0,
        }
    }

    pub fn after(&mut self, delay: Millis, event: E) {
        self.put(delay, Event::World(event));
    }

    /// Within `below` ms from now.
    pub fn soon(&mut self, below: Millis, event: E) {
        let delay = self.rng.below(below);
        self.after(delay, event);
    }

    pub fn send(&mut self, from: &NodeId, to: &NodeId, message: &NodeMessage) {
        let bytes = message.encode();
        if self.crashed.contains(to) {
            // The server usually says so; a partition says nothing.
            if self.rng.percent(50) {
                self.datagram(&Datagram::NoResponders { to: from.clone(), tag: message.tag() });
            }
            return;
        }
        let copies = 1 + u64::from(self.rng.percent(self.faults.double));
        for _ in 0..copies {
            if !self.rng.percent(self.faults.drop) {
                self.datagram(&Datagram::Message {
                    from: from.clone(),
                    to: to.clone(),
                    bytes: bytes.clone(),
                });
            }
        }
    }

    /// The next event before or at `timeout`, the machines' earliest; `None`: the timeout is due. Time moves there.
    pub fn next(&mut self, timeout: Option<Millis>) -> Option<Event<E>> {
        let (at, _) = *self.events.first_key_value()?.0;
        if timeout.is_some_and(|timeout| timeout < at) {
            return None;
        }
        self.now = self.now.max(at);
        self.events.pop_first().map(|(_, event)| event)
    }

    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    fn datagram(&mut self, datagram: &Datagram) {
        let delay = self.rng.below(self.faults.max_delay_ms);
        let (to, delivery) = match datagram {
            Datagram::Message { from, to, bytes } => {
                let message = NodeMessage::decode(bytes).expect("what a node encodes a node decodes");
                (to.clone(), Delivery::Message { from: from.clone(), message })
            }
            Datagram::NoResponders { to, tag } => (to.clone(), Delivery::NoResponders { tag: *tag }),
        };
        self.put(delay, Event::Inbox { to, delivery });
    }

    fn put(&mut self, delay: Millis, event: Event<E>) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }
}

pub fn node(name: &str) -> NodeId {
    Arc::from(name)
}

/// Runs `world` for seeds 0 to `count` (`SEED=n`: that one; `SEEDS=n`: n times as many) and names the seed that fails.
pub fn seeds(count: u64, world: impl Fn(u64)) {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SEED") {
        return world(seed);
    }
    for seed in 0..count * number("SEEDS").unwrap_or(1) {
        let run = std::panic::AssertUnwindSafe(|| world(seed));
        if let Err(panic) = std::panic::catch_unwind(run) {
            eprintln!("failed with SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}
