//! Clearing up after gateways that died: when a node's lease has run out, its records are removed, and each removal makes a
//! follower fold the user anew.
//!
//! Every gateway notes itself in [`GATEWAYS`] before it takes its lease, and stays there until it was swept: so a node is found however
//! long nobody looked. A NATS outage must not turn everybody offline: after an own reconnect or an election of a leader nothing is swept
//! for one lease time, in which the living renew. Replicas begin one after the other, in the order of their names, so that mostly one
//! does the work; doing it twice is harmless.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::kv::kv_delete_append;
use bus::{AppendError, Bus, ChangeKind, Feed, FeedEvent, KvEntry, KvWatch, WatchEvent, lease};
use cluster::coordination::{GONE_HEADER, calls_bucket, node_devices_filter, presence_bucket};
use domain::call::{CallId, UserCallState, UserCalls};
use domain::presence::DeviceRecord;
use futures_util::StreamExt;
use futures_util::stream;
use tokio::sync::watch;

use crate::clock::unix_ms;
use crate::desk::Desk;
use crate::metrics::Metrics;
use crate::store;

/// Gateways that have records, perhaps.
pub const GATEWAYS: &str = "TL_gateways";
/// Gateways that are alive.
const NODES: &str = "TL_nodes";
/// Coordinators that are alive.
pub const COORDINATORS: &str = "TL_coordinators";

const LOOK_EVERY: Duration = Duration::from_secs(1);
const RELIST_EVERY: Duration = Duration::from_secs(10);
/// Each replica waits so much longer than the one before it.
const RANK_DELAY: Duration = Duration::from_millis(1_500);
/// Removals under way at once.
const AT_ONCE: usize = 128;
const REMOVAL_DEADLINE: Duration = Duration::from_secs(5);
const COUNT_EVERY: Duration = Duration::from_secs(15);

/// Everything a sweep needs.
pub struct Sweep {
    pub bus: Bus,
    pub desks: Vec<Arc<Desk>>,
    /// Name of this replica among [`COORDINATORS`].
    pub me: String,
    pub metrics: Metrics,
}

/// A node that has no lease.
#[derive(Clone, Copy, Debug)]
struct Dead {
    since: Instant,
    since_ms: u64,
    /// It gave its lease up: it has said itself who was gone.
    in_order: bool,
}

struct State {
    nodes: BTreeMap<String, ()>,
    coordinators: BTreeMap<String, ()>,
    given_up: HashMap<String, Instant>,
    dead: HashMap<String, Dead>,
    listed: bool,
    /// Nothing is swept before.
    hold_until: Instant,
    counted: Option<Instant>,
}

impl Sweep {
    /// Looks and sweeps until `stop`.
    pub async fn run(self, mut feed: Feed, mut stop: watch::Receiver<bool>) {
        let mut nodes = self.bus.kv_watch(NODES, ">", RELIST_EVERY);
        let mut coordinators = self.bus.kv_watch(COORDINATORS, ">", RELIST_EVERY);
        let mut look = tokio::time::interval(LOOK_EVERY);
        let mut events = Vec::new();
        let mut state = State {
            nodes: BTreeMap::new(),
            coordinators: BTreeMap::new(),
            given_up: HashMap::new(),
            dead: HashMap::new(),
            listed: false,
            hold_until: Instant::now(),
            counted: None,
        };
        loop {
            // Bad news first: what forbids sweeping must be known before the lease that has run out.
            tokio::select! {
                biased;
                _ = stop.changed() => return,
                () = feed.next_batch(&mut events) => {
                    if events.iter().any(|event| matches!(event, FeedEvent::Connected { first: false })) {
                        self.desks.iter().for_each(|desk| desk.peers.forget());
                    }
                    state.on_feed(&mut events);
                }
                event = next_of(&mut nodes) => self.on_node(&mut state, event),
                event = next_of(&mut coordinators) => state.on_coordinator(event),
                _ = look.tick() => self.look(&mut state).await,
            }
        }
    }

    fn on_node(&self, state: &mut State, event: WatchEvent) {
        let change = match event {
            WatchEvent::Synced => {
                state.listed = true;
                return;
            }
            WatchEvent::Change(change) => change,
        };
        match change.kind {
            ChangeKind::Put(_) => {
                state.nodes.insert(change.key.clone(), ());
                state.dead.remove(&change.key);
                state.given_up.remove(&change.key);
            }
            ChangeKind::Deleted { expired } => {
                if state.nodes.remove(&change.key).is_some() && expired {
                    tracing::warn!(node = change.key, "a gateway's lease ran out");
                    self.metrics.lease_expiries.inc();
                }
                if !expired {
                    state.given_up.insert(change.key, Instant::now());
                }
            }
        }
    }

    async fn look(&self, state: &mut State) {
        let now = Instant::now();
        if !state.listed || now < state.hold_until || !self.bus.is_connected() {
            return;
        }
        let Some(rank) = state.coordinators.keys().position(|name| *name == self.me) else { return };
        if rank == 0 && state.counted.is_none_or(|at| now - at >= COUNT_EVERY) {
            state.counted = Some(now);
            self.count().await;
        } else if rank != 0 && state.counted.take().is_some() {
            // Another replica tells them from here on; two numbers would be added up.
            self.metrics.calls_now.reset();
        }
        let Ok(gateways) = self.bus.kv_list(GATEWAYS, ">").await else { return };
        state.dead.retain(|node, _| gateways.iter().any(|entry| entry.key == *node));
        for KvEntry { key: node, rev, .. } in gateways {
            if state.nodes.contains_key(&node) {
                continue;
            }
            let dead = *state.dead.entry(node.clone()).or_insert_with(|| Dead {
                since: now,
                since_ms: unix_ms().saturating_sub(lease::TTL.as_millis() as u64),
                in_order: state.given_up.contains_key(&node),
            });
            if now - dead.since >= self.patience(dead, rank) && self.sweep(&node, rev, dead).await {
                state.dead.remove(&node);
                state.given_up.remove(&node);
            }
        }
    }

    /// A node that left in order has told that its devices are gone: its users have their grace.
    fn patience(&self, dead: Dead, rank: usize) -> Duration {
        let graces = self.desks.iter().filter_map(|desk| desk.app.dialect.realtime());
        let grace_ms = graces.map(|realtime| realtime.presence.grace_ms).max().unwrap_or(0);
        let grace = if dead.in_order { Duration::from_millis(grace_ms) } else { Duration::ZERO };
        grace + RANK_DELAY * u32::try_from(rank).unwrap_or(u32::MAX)
    }

    /// Removes every record of the node; whether it is done. `noted`: revision of its note, which a node that is back has written
    /// anew.
    async fn sweep(&self, node: &str, noted: u64, dead: Dead) -> bool {
        match self.bus.kv_get_at_leader(NODES, node).await {
            Ok(entry) if entry.as_ref().is_some_and(|entry| entry.value.is_some()) => return false,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, node, "whether a gateway is alive cannot be read");
                return false;
            }
        }
        let mut removed = 0;
        for desk in &self.desks {
            match self.sweep_app(desk, node, dead).await {
                Some(count) => removed += count,
                None => return false,
            }
        }
        self.metrics.swept_records.inc_by(removed);
        tracing::info!(node, removed, "the records of a gateway that is gone were removed");
        self.bus.kv_delete(GATEWAYS, node, Some(noted)).await.is_ok()
    }

    async fn sweep_app(&self, desk: &Desk, node: &str, dead: Dead) -> Option<u64> {
        let bucket = presence_bucket(&desk.app.name);
        let listed = self.bus.kv_list(&bucket, &node_devices_filter(node)).await;
        let entries = listed
            .map_err(|error| tracing::warn!(%error, node, "a gateway's records were not listed"))
            .ok()?;
        let removals = entries.into_iter().map(|entry| {
            let gone_ms = gone_ms(&entry).unwrap_or(dead.since_ms);
            let removal = kv_delete_append(&bucket, &entry.key, Some(entry.rev))
                .header(GONE_HEADER, gone_ms.to_string());
            self.bus.append(removal, Instant::now() + REMOVAL_DEADLINE)
        });
        let results: Vec<_> = stream::iter(removals).buffer_unordered(AT_ONCE).collect().await;
        // A conflict: somebody else has removed it, or the node lives and has written.
        let failed = |result: &&Result<u64, AppendError>| matches!(result, Err(error) if !matches!(error, AppendError::Conflict { .. }));
        if let Some(Err(error)) = results.iter().find(failed) {
            tracing::warn!(%error, node, "a gateway's records were not all removed");
            return None;
        }
        Some(results.iter().filter(|result| result.is_ok()).count() as u64)
    }

    /// Calls that are not over, from the users' records: there are as many as there are users in calls.
    async fn count(&self) {
        for desk in &self.desks {
            let Ok(entries) = self.bus.kv_list(&calls_bucket(&desk.app.name), "u.*").await else { continue };
            let mut states: BTreeMap<CallId, UserCallState> = BTreeMap::new();
            for value in entries.iter().filter_map(|entry| entry.value.as_ref()) {
                let Some(calls) = store::read::<UserCalls>(value) else { continue };
                for call in calls.calls {
                    let state = states.entry(call.call).or_insert(call.state);
                    if call.state == UserCallState::In {
                        *state = UserCallState::In;
                    }
                }
            }
            let live = states.values().filter(|state| **state == UserCallState::In).count();
            let gauge = |state: &str| self.metrics.calls_now.with_label_values(&[&desk.app.name, state]);
            gauge("live").set(live as i64);
            gauge("ringing").set((states.len() - live) as i64);
        }
    }
}

impl State {
    fn on_feed(&mut self, events: &mut Vec<FeedEvent>) {
        for event in events.drain(..) {
            match event {
                FeedEvent::Connected { first: false } => self.hold("NATS is connected again"),
                FeedEvent::LeaderChanged { stream, .. } if stream == bus::kv::stream_of(NODES) => {
                    self.hold("the leases have a new leader");
                }
                _ => {}
            }
        }
    }

    fn hold(&mut self, why: &str) {
        tracing::info!(why, "nothing is swept for one lease time");
        self.hold_until = Instant::now() + lease::TTL;
        self.dead.clear();
    }

    fn on_coordinator(&mut self, event: WatchEvent) {
        if let WatchEvent::Change(change) = event {
            match change.kind {
                ChangeKind::Put(_) => self.coordinators.insert(change.key, ()),
                ChangeKind::Deleted { .. } => self.coordinators.remove(&change.key),
            };
        }
    }
}

/// When the node itself said that the user's last device was gone.
fn gone_ms(entry: &KvEntry) -> Option<u64> {
    let record = store::read::<DeviceRecord>(entry.value.as_ref()?)?;
    (record.devices.is_empty() && record.gone_ms > 0).then_some(record.gone_ms)
}

async fn next_of(watch: &mut KvWatch) -> WatchEvent {
    watch.next().await
}
