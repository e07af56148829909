//! Barriers: a marker in the application's stream, published after the subscriptions it covers. Once it is stored, every
//! later event of the stream reaches them; once the pipeline has passed its sequence, every earlier one was applied. One
//! marker for joins and one for shards is under way per application; each covers all that asked meanwhile.

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
use crate::clock::Millis;

/// A barrier that takes longer fails those that wait for it.
const DEADLINE: Duration = Duration::from_secs(5);

/// In a cluster of servers, publishers at other servers learn of a subscription a little later; they are asked at most this long.
const ECHO_DEADLINE: Duration = Duration::from_millis(200);

/// A stored marker whose copy takes longer was lost, and perhaps events with it.
const COPY_MS: Millis = 3_000;

/// A join that waits: its room, and the subscription that must hold.
#[derive(Debug)]
pub struct Join {
    pub room: RoomKey,
    pub sub: SubId,
    pub done: oneshot::Sender<Result<(), Unavailable>>,
}

/// A shard's barrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    pub shard: u8,
    pub token: u64,
}

#[derive(Debug)]
pub struct Barriers {
    bus: Bus,
    node: NodeId,
    apps: Arc<[App]>,
    nodes: watch::Receiver<Arc<std::collections::HashSet<NodeId>>>,
    lanes: Vec<Lanes>,
    stored: Vec<Stored>,
    /// The subscriptions to this node's own markers.
    marker_subs: FxHashMap<SubId, u16>,
    done: mpsc::UnboundedSender<Passed>,
    passed: mpsc::UnboundedReceiver<Passed>,
}

/// Of one application: who asks next, and whether a marker is under way for those who asked before.
#[derive(Debug, Default)]
struct Lanes {
    joins: Vec<Join>,
    joining: bool,
    shards: Vec<Ticket>,
    passing: bool,
}

/// Markers that are stored and not passed by the pipeline yet, with the shards' barriers behind them.
#[derive(Debug, Default)]
pub struct Stored {
    markers: Vec<(u64, Vec<Ticket>)>,
    /// When the pipeline is late.
    due: Option<Millis>,
}

/// A marker was stored, or was not.
#[derive(Debug)]
pub struct Passed {
    pub app: u16,
    pub result: Result<u64, Unavailable>,
    pub asked: Asked,
}

/// Who asked for a marker.
#[derive(Debug)]
pub enum Asked {
    Joins(Vec<Join>),
    Shards(Vec<Ticket>),
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
            lanes: parts.apps.iter().map(|_| Lanes::default()).collect(),
            stored: parts.apps.iter().map(|_| Stored::default()).collect(),
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

    /// Waits for [`Barriers::start`].
    pub fn ask_for_join(&mut self, join: Join) {
        self.lanes[usize::from(join.room.app)].joins.push(join);
    }

    /// Waits for [`Barriers::start`].
    pub fn ask_for_shard(&mut self, app: u16, ticket: Ticket) {
        self.lanes[usize::from(app)].shards.push(ticket);
    }

    /// Begins what was asked for: one marker for all who asked in the same turn.
    pub fn start(&mut self) {
        for app in 0..self.lanes.len() {
            self.start_lanes(u16::try_from(app).unwrap_or(u16::MAX));
        }
    }

    /// The next marker that was stored or failed, to be told to [`Barriers::ended`]. Never `None`: this holds a sender itself.
    pub async fn passed(&mut self) -> Option<Passed> {
        self.passed.recv().await
    }

    /// The same, if there is one.
    pub fn try_passed(&mut self) -> Option<Passed> {
        self.passed.try_recv().ok()
    }

    /// Its lane is free for those who asked meanwhile.
    pub fn ended(&mut self, passed: &Passed) {
        let lanes = &mut self.lanes[usize::from(passed.app)];
        match passed.asked {
            Asked::Joins(_) => lanes.joining = false,
            Asked::Shards(_) => lanes.passing = false,
        }
        self.start_lanes(passed.app);
    }

    /// The markers of an application that the pipeline has to pass.
    pub fn stored(&mut self, app: u16) -> &mut Stored {
        &mut self.stored[usize::from(app)]
    }

    /// When the first application is late.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.stored.iter().filter_map(|stored| stored.due).min()
    }

    /// Applications whose pipeline is late; each is told once per [`COPY_MS`].
    pub fn late(&mut self, now: Millis) -> Vec<u16> {
        let stored = self.stored.iter_mut().zip(0_u16..);
        stored.filter_map(|(stored, app)| stored.is_late(now).then_some(app)).collect()
    }

    fn start_lanes(&mut self, app: u16) {
        let lanes = &mut self.lanes[usize::from(app)];
        if !lanes.joining && !lanes.joins.is_empty() {
            lanes.joining = true;
            let joins = std::mem::take(&mut lanes.joins);
            self.store(app, Asked::Joins(joins));
        }
        let lanes = &mut self.lanes[usize::from(app)];
        if !lanes.passing && !lanes.shards.is_empty() {
            lanes.passing = true;
            let shards = std::mem::take(&mut lanes.shards);
            self.store(app, Asked::Shards(shards));
        }
    }

    fn store(&self, app: u16, asked: Asked) {
        let name = self.apps[usize::from(app)].name();
        let now_ms = crate::clock::unix_ms();
        let (_, id) = cluster::sid::ulid(now_ms, rand::random());
        let message = Append::unique(subject::marker(name, self.node.as_str(), now_ms, &id), id);
        let (bus, done) = (self.bus.clone(), self.done.clone());
        // Only joins need the ephemeral publishers of other nodes.
        let ask = matches!(asked, Asked::Joins(_)) && bus.server_info().clustered;
        let others = self.nodes.borrow().len();
        // Queued here, synchronously: after the subscriptions it covers.
        let stored = bus.barrier(message, Instant::now() + DEADLINE);
        tokio::spawn(async move {
            let echo = async {
                if ask {
                    bus.echo(others, Instant::now() + ECHO_DEADLINE).await;
                }
            };
            let (stored, ()) = tokio::join!(stored, echo);
            let result = stored.map_err(|error| {
                tracing::warn!(%error, "a room barrier was not confirmed");
                Unavailable
            });
            // The node's task is gone when this fails.
            let _ = done.send(Passed { app, result, asked });
        });
    }
}

impl Stored {
    /// A marker was stored at `seq`.
    pub fn add(&mut self, seq: u64, shards: Vec<Ticket>, now: Millis) {
        self.markers.push((seq, shards));
        self.due.get_or_insert(now + COPY_MS);
    }

    /// The pipeline has applied everything up to `fed`: the barriers that have passed.
    pub fn take(&mut self, fed: u64) -> Vec<Ticket> {
        let passed: Vec<Ticket> =
            self.markers.extract_if(.., |(seq, _)| *seq <= fed).flat_map(|(_, shards)| shards).collect();
        if self.markers.is_empty() {
            self.due = None;
        }
        passed
    }

    fn is_late(&mut self, now: Millis) -> bool {
        let late = self.due.is_some_and(|due| due <= now);
        if late {
            self.due = Some(now + COPY_MS);
        }
        late
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barriers_pass_with_the_pipeline_and_are_late_once_per_wait() {
        let ticket = |token| Ticket { shard: 0, token };
        let mut stored = Stored::default();
        stored.add(7, vec![ticket(1)], 100);
        stored.add(9, vec![ticket(2), ticket(3)], 200);
        assert_eq!(stored.take(6), []);
        assert_eq!(stored.take(8), [ticket(1)]);
        assert!(!stored.is_late(100 + COPY_MS - 1) && stored.is_late(100 + COPY_MS));
        assert!(!stored.is_late(100 + COPY_MS));
        assert_eq!(stored.take(9), [ticket(2), ticket(3)]);
        assert_eq!(stored.due, None);
    }
}
