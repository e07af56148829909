//! Barriers: a marker in the application's stream, published after the subscriptions it covers. Once it is stored, every
//! later event of the stream reaches them; once its copy comes back, every earlier one was applied. One marker at a time
//! per application covers all that asked meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::{Append, Bus, BusError, SubId};
use cluster::sid::NodeId;
use cluster::subject;
use hub::RoomKey;
use rustc_hash::FxHashMap;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Parts, Unavailable};
use crate::app::App;

/// A barrier that takes longer fails the joins that wait for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// In a cluster of servers, publishers at other servers learn of a subscription a little later; they are asked at most this long.
const ECHO_DEADLINE: Duration = Duration::from_millis(200);

/// Copies remembered for acks that come later.
const EARLY_COPIES: usize = 4;

type Join = (RoomKey, oneshot::Sender<Result<(), Unavailable>>);

#[derive(Debug)]
pub struct Barriers {
    bus: Bus,
    node: NodeId,
    apps: Arc<[App]>,
    nodes: watch::Receiver<Arc<std::collections::HashSet<NodeId>>>,
    state: Vec<State>,
    /// The subscriptions to this node's own markers.
    marker_subs: FxHashMap<SubId, u16>,
    done: mpsc::UnboundedSender<Passed>,
    passed: mpsc::UnboundedReceiver<Passed>,
}

#[derive(Debug, Default)]
struct State {
    running: bool,
    joins: Vec<Join>,
    shards: Vec<(u8, u64)>,
    /// Stored markers whose copies have not come yet, and the shards' barriers behind them.
    copies: Vec<(u128, Vec<(u8, u64)>)>,
    /// Markers whose copies came before their acks.
    early: Vec<(u128, u64)>,
}

/// A marker was stored, or was not.
#[derive(Debug)]
pub struct Passed {
    pub app: u16,
    pub marker: u128,
    pub result: Result<u64, Unavailable>,
    pub joins: Vec<Join>,
    pub shards: Vec<(u8, u64)>,
}

impl Barriers {
    pub fn new(parts: &Parts) -> Result<Self, BusError> {
        let (done, passed) = mpsc::unbounded_channel();
        let mut marker_subs = FxHashMap::default();
        for app in parts.apps.iter() {
            let copies = subject::marker_copy(app.name(), parts.id.as_str());
            marker_subs.insert(parts.bus.subscribe(&copies)?, app.ix);
        }
        Ok(Self {
            bus: parts.bus.clone(),
            node: parts.id,
            apps: parts.apps.clone(),
            nodes: parts.nodes.clone(),
            state: parts.apps.iter().map(|_| State::default()).collect(),
            marker_subs,
            done,
            passed,
        })
    }

    /// This node's id.
    pub fn node(&self) -> &str {
        self.node.as_str()
    }

    /// The application whose markers this subscription brings.
    pub fn marker_sub(&self, sub: SubId) -> Option<u16> {
        self.marker_subs.get(&sub).copied()
    }

    pub fn start_for_join(&mut self, room: RoomKey, done: oneshot::Sender<Result<(), Unavailable>>) {
        let app = room.app;
        self.state[usize::from(app)].joins.push((room, done));
        self.start(app);
    }

    pub fn start_for_shard(&mut self, app: u16, shard: u8, token: u64) {
        self.state[usize::from(app)].shards.push((shard, token));
        self.start(app);
    }

    /// The next marker that was stored or failed. Never `None`: this holds a sender itself.
    pub async fn passed(&mut self) -> Option<Passed> {
        let passed = self.passed.recv().await?;
        self.state[usize::from(passed.app)].running = false;
        self.start(passed.app);
        Some(passed)
    }

    /// Shards wait for this marker's copy. Returns them with its sequence if it has come already.
    pub fn await_copy(&mut self, app: u16, marker: u128, shards: Vec<(u8, u64)>) -> Vec<((u8, u64), u64)> {
        if shards.is_empty() {
            return Vec::new();
        }
        let state = &mut self.state[usize::from(app)];
        if let Some((_, seq)) = state.early.iter().find(|(id, _)| *id == marker) {
            return shards.into_iter().map(|shard| (shard, *seq)).collect();
        }
        state.copies.push((marker, shards));
        Vec::new()
    }

    /// A marker's copy came down the pipeline: the shards' barriers to feed now.
    pub fn on_copy(&mut self, app: u16, marker: u128, seq: u64) -> Vec<(u8, u64)> {
        let state = &mut self.state[usize::from(app)];
        match state.copies.iter().position(|(id, _)| *id == marker) {
            Some(at) => state.copies.swap_remove(at).1,
            None => {
                // Its ack is still on the way to us, or it is a resync's own. One marker is under way at a time.
                state.early.truncate(EARLY_COPIES - 1);
                state.early.insert(0, (marker, seq));
                Vec::new()
            }
        }
    }

    /// After a resync up to `seq`: barriers whose marker's copy was lost with what the resync made up for.
    pub fn take_settled(&mut self, app: u16, seq: u64) -> Vec<((u8, u64), u64)> {
        let state = &mut self.state[usize::from(app)];
        state.copies.drain(..).flat_map(|(_, shards)| shards).map(|shard| (shard, seq)).collect()
    }

    fn start(&mut self, app: u16) {
        let state = &mut self.state[usize::from(app)];
        if state.running || (state.joins.is_empty() && state.shards.is_empty()) {
            return;
        }
        state.running = true;
        let (joins, shards) = (std::mem::take(&mut state.joins), std::mem::take(&mut state.shards));
        let name = self.apps[usize::from(app)].name();
        let (marker, text) = cluster::sid::ulid(crate::clock::unix_ms(), rand::random());
        let message = Append::unique(
            subject::marker(name, self.node.as_str(), crate::clock::unix_ms(), &text),
            text.clone(),
        );
        let (bus, done) = (self.bus.clone(), self.done.clone());
        let others = self.nodes.borrow().len();
        // Queued here, synchronously: after the subscriptions it covers.
        let stored = bus.barrier(message, Instant::now() + DEADLINE);
        tokio::spawn(async move {
            let echo = async {
                if bus.server_info().clustered {
                    bus.echo(others, Instant::now() + ECHO_DEADLINE).await;
                }
            };
            let (stored, ()) = tokio::join!(stored, echo);
            let result = stored.map_err(|error| {
                tracing::warn!(%error, "a room barrier was not confirmed");
                Unavailable
            });
            // The node's task is gone when this fails.
            let _ = done.send(Passed { app, marker, result, joins, shards });
        });
    }
}
