//! Starting and stopping a node: one function wires everything, one drains it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bus::{AppendError, BucketSpec, Bus, BusConfig, BusError, ConnectError};
use bytes::Bytes;
use cluster::forwarding::ForwardLimits;
use cluster::sid::{NodeId, SidKey};
use futures_util::future::LocalBoxFuture;
use rand::RngExt;
use telemetry::Readiness;
use telemetry::trace::Tracer;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use crate::api::{self, Api};
use crate::app::App;
use crate::clock::{Clock, unix_ms};
use crate::config::{Auth, ConfigError, GatewayConfig};
use crate::coordination::Coordinator;
use crate::issue::Issuer;
use crate::lease::{self, Lease};
use crate::members;
use crate::metrics::Metrics;
use crate::rate::sharing;
use crate::shard::{self, Control, Inbox, Shard, ShardHandle, Shared};
use crate::{http, node, peers};
use crate::{revocation, stats};

/// Sessions that a drain closes at once per shard, and the pause between two such batches (jittered).
const DRAIN_BATCH: usize = 50;
const DRAIN_PAUSE_MS: std::ops::Range<u64> = 20..60;

/// How long a drain waits for the last answers to back ends, and for NATS to take what it published.
const FLUSH_WAIT: Duration = Duration::from_secs(5);

/// How long a drain waits for the last records of its users' devices.
const RECORDS_WAIT: Duration = Duration::from_secs(3);

/// Every gateway that may have left records.
const GATEWAYS: &str = "TL_gateways";
const RENAME_PAUSE: Duration = Duration::from_millis(500);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the configuration has mistakes")]
    Config(Vec<ConfigError>),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("preparing NATS failed: {0}")]
    Bus(#[from] BusError),
    #[error("the cluster's session key could not be shared: {0}")]
    SidKey(String),
    #[error("the node could not be named in NATS: {0}")]
    Register(AppendError),
    #[error("{address} cannot be listened on: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("the revoked tokens of `{0}` could not be read")]
    Revocations(String),
    #[error("metrics could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
    #[error("a thread could not be started: {0}")]
    Thread(std::io::Error),
}

/// What a node is given by its process.
#[derive(Debug)]
pub struct Deps {
    pub bus: BusConfig,
    /// Replicas of the streams and buckets that are created.
    pub replicas: usize,
    pub registry: prometheus::Registry,
    pub readiness: Readiness,
    pub tracer: Tracer,
    /// The caller is in a `tokio::task::LocalSet` of its own: a node with one shard runs it there, beside the bus, and no message
    /// crosses threads.
    pub local: bool,
}

/// A gateway node, before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Gateway;

/// A running node.
#[derive(Debug)]
pub struct RunningGateway {
    id: NodeId,
    /// Application names and the addresses that serve them.
    pub addrs: Vec<(String, SocketAddr)>,
    /// Where back ends call.
    pub api_addrs: Vec<SocketAddr>,
    shards: Vec<ShardHandle>,
    shared: Arc<Shared>,
    stop_accepting: watch::Sender<bool>,
    readiness: Readiness,
    /// Answers back ends' NATS requests until it is told to stop.
    api: JoinSet<()>,
    lease: Lease,
    drain_s: u64,
}

impl Gateway {
    /// Connects to NATS, creates what is missing there, listens and serves. Runs its bus tasks on the calling runtime, which
    /// must stay alive, and its sessions on threads of their own, or on this one too: [`Deps::local`].
    ///
    /// # Errors
    /// Everything that keeps the node from serving; nothing is left running then.
    pub async fn start(config: GatewayConfig, deps: Deps) -> Result<RunningGateway, StartError> {
        let Deps { bus: bus_config, replicas, registry, readiness, tracer, local } = deps;
        let apps: Arc<[App]> = App::build_all(&config).map_err(StartError::Config)?.into();
        let api = Api::build(&config.api).map_err(StartError::Config)?;
        warn_of_open(&apps);
        let listeners = listen(&config).await?;
        let api_listeners = listen_api(&config).await?;
        let bus = Bus::connect(bus_config, &registry).await?;
        let key = prepare(&bus, &apps, replicas).await?;
        let id = NodeId::from_random(rand::random());
        register(&bus, id, replicas).await?;
        let (lease, nodes) = lease::start(&bus, id, replicas, readiness.clone()).await?;
        let clock = Clock::start();
        let metrics = Metrics::register(&registry)?;
        metrics.begin(apps.iter().map(App::name));
        let threads = threads(&config);
        let (handles, feeds, inboxes) = channels(threads);
        let feed = bus.feed().expect("this bus was connected above and its feed not taken");
        let node = node::spawn(node::Parts {
            id,
            bus: bus.clone(),
            feed,
            apps: apps.clone(),
            shards: feeds,
            clock,
            metrics: metrics.clone(),
            nodes: nodes.clone(),
        })?;
        let (peers, inputs) = peers::channel();
        let inbox = bus.node_inbox(id.as_str()).await?;
        let shared = Arc::new(Shared {
            id,
            key,
            open: apps.iter().map(|_| AtomicUsize::new(0)).collect(),
            apps,
            census: AtomicU64::new(0),
            api,
            clock,
            metrics: metrics.clone(),
            tracer,
            bus: bus.clone(),
            node,
            peers,
            nodes: nodes.clone(),
            coordinator: Coordinator::new(bus.clone(), metrics.clone()),
            draining: AtomicBool::new(false),
        });
        let limits = forward_limits(&shared.apps);
        let parts = peers::Parts { bus, inbox, nodes, limits, shards: handles.clone(), clock, metrics };
        tokio::spawn(peers::run(parts, inputs));
        let served: Vec<Vec<u16>> = listeners.iter().map(|listener| listener.apps.clone()).collect();
        let on_this_thread = local && threads == 1;
        for (handle, inbox) in handles.iter().zip(inboxes) {
            let (name, shard) = (handle.ix, shard(&config, &served, handle, &handles, &shared, inbox));
            if on_this_thread {
                tokio::task::spawn_local(shard());
            } else {
                spawn_thread(name, shard).map_err(StartError::Thread)?;
            }
        }
        revocation::follow(&shared.bus, &shared.apps, &handles).await.map_err(StartError::Revocations)?;
        read_key_sets(&shared).await;
        stats::start(shared.clone(), handles.clone());
        members::listen(&shared, &handles)?;
        sharing::listen(&shared)?;
        let relisted = (shared.bus.clone(), handles.clone());
        lease.on_return(move || drop(tokio::spawn(rewrite(relisted.0.clone(), id, relisted.1.clone()))));
        let (stop_accepting, stopped) = watch::channel(false);
        let api = api::listen(&shared, &handles, &stopped)?;
        let mut addresses = Vec::new();
        let mut api_addresses = Vec::new();
        for socket in api_listeners {
            api_addresses.extend(socket.local_addr());
            tokio::spawn(accept(socket, listeners.len(), handles.clone(), stopped.clone()));
        }
        for (index, listener) in listeners.into_iter().enumerate() {
            let names = listener.apps.iter().map(|app| shared.app(*app).name().to_owned());
            addresses.extend(names.map(|name| (name, listener.address)));
            tokio::spawn(accept(listener.socket, index, handles.clone(), stopped.clone()));
        }
        readiness.ready("listeners");
        tokio::spawn(watch_bus(shared.bus.clone(), readiness.clone()));
        Ok(RunningGateway {
            id,
            addrs: addresses,
            api_addrs: api_addresses,
            shards: handles,
            shared,
            stop_accepting,
            readiness,
            api,
            lease,
            drain_s: config.node.drain_s,
        })
    }
}

impl RunningGateway {
    /// The node's id on the bus.
    pub fn id(&self) -> String {
        self.id.to_string()
    }

    /// Leaves in order: not ready, no new connections, transports closed in jittered batches so that clients come back
    /// elsewhere one by one, the rest cut at the deadline, the lease given up.
    pub async fn drain(mut self) {
        self.readiness.not_ready("listeners", "draining");
        self.shared.draining.store(true, Ordering::Relaxed);
        // The accept loops end with their runtime when this fails.
        let _ = self.stop_accepting.send(true);
        let deadline = Instant::now() + Duration::from_secs(self.drain_s);
        let mut left = self.close_batch(DRAIN_BATCH).await;
        tracing::info!(sessions = left, "draining");
        while left > 0 && Instant::now() < deadline {
            let pause_ms = rand::rng().random_range(DRAIN_PAUSE_MS);
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
            left = self.close_batch(DRAIN_BATCH).await;
        }
        if left > 0 {
            tracing::warn!(sessions = left, "the drain's deadline has passed, cutting off");
        }
        for shard in &self.shards {
            shard.control(Control::CutOff);
        }
        self.finish_calls().await;
        self.write_records().await;
        self.lease.give_up().await;
    }

    /// Back ends hear what became of the calls that this node was given.
    async fn finish_calls(&mut self) {
        self.shared.api.finish().await;
        let ended = async { while self.api.join_next().await.is_some() {} };
        if tokio::time::timeout(FLUSH_WAIT, ended).await.is_err() {
            tracing::warn!("some calls of back ends were not answered in time");
        }
        self.shared.bus.flush(Instant::now() + FLUSH_WAIT).await;
    }

    /// Everybody hears that the devices of this node are gone, before its lease is.
    async fn write_records(&self) {
        let waits = self.shards.iter().map(|shard| {
            let (done, recorded) = oneshot::channel();
            shard.control(Control::Recorded { done });
            recorded
        });
        let all = futures_util::future::join_all(waits);
        if tokio::time::timeout(RECORDS_WAIT, all).await.is_err() {
            tracing::warn!("not all devices of this node were unlisted, the coordinators do the rest");
        }
    }

    async fn close_batch(&self, batch: usize) -> usize {
        let mut left = 0;
        for shard in &self.shards {
            let (done, count) = oneshot::channel();
            shard.control(Control::Drain { batch, done });
            left += count.await.unwrap_or(0);
        }
        left
    }
}

/// An application that believes everybody must be meant.
fn warn_of_open(apps: &[App]) {
    for app in apps.iter().filter(|app| app.config.auth == Auth::None) {
        tracing::warn!(
            app = app.name(),
            "auth = \"none\": nobody shows a token, and whoever connects may say to be any user"
        );
    }
}

/// Names the node in the bucket of gateways, before it has a lease and whenever it has one again: the coordinators remove the
/// records of those that are named and have none.
async fn register(bus: &Bus, id: NodeId, replicas: usize) -> Result<(), StartError> {
    bus.ensure_bucket(&BucketSpec::new(GATEWAYS, replicas)).await?;
    name(bus, id).await.map_err(StartError::Register)
}

async fn name(bus: &Bus, id: NodeId) -> Result<(), AppendError> {
    let started = serde_json::json!({ "started_ms": unix_ms() });
    bus.kv_put(GATEWAYS, id.as_str(), Bytes::from(started.to_string()), None, None).await.map(drop)
}

/// The lease had lapsed: the coordinators may have forgotten the node, and its records.
async fn rewrite(bus: Bus, id: NodeId, shards: Vec<ShardHandle>) {
    while let Err(error) = name(&bus, id).await {
        tracing::warn!(%error, "the node could not be named again");
        tokio::time::sleep(RENAME_PAUSE).await;
    }
    shards.iter().for_each(|shard| shard.control(Control::RewriteRecords));
}

struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    apps: Vec<u16>,
}

/// One socket per address; applications that share an address share it. Port 0 is one free port for each application list.
async fn listen(config: &GatewayConfig) -> Result<Vec<Listener>, StartError> {
    let mut by_address: BTreeMap<SocketAddr, Vec<u16>> = BTreeMap::new();
    for (ix, app) in config.app.iter().enumerate() {
        for address in config.listen_of(app) {
            by_address.entry(*address).or_default().push(u16::try_from(ix).unwrap_or(u16::MAX));
        }
    }
    let mut listeners = Vec::new();
    for (address, apps) in by_address {
        let failed = |error| StartError::Listen { address, error };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        listeners.push(Listener { socket, address, apps });
    }
    Ok(listeners)
}

/// The server API's own addresses.
async fn listen_api(config: &GatewayConfig) -> Result<Vec<TcpListener>, StartError> {
    let mut sockets = Vec::new();
    for address in config.api.listen.iter().filter(|_| config.api.is_served()) {
        let bound = TcpListener::bind(address).await;
        sockets.push(bound.map_err(|error| StartError::Listen { address: *address, error })?);
    }
    Ok(sockets)
}

/// Each session may hold a poll that came to another node.
fn forward_limits(apps: &[App]) -> ForwardLimits {
    let least = ForwardLimits::default();
    let sessions = apps.iter().fold(0, |sum: usize, app| sum.saturating_add(app.limits.max_sessions));
    ForwardLimits { max_forwards: sessions.max(least.max_forwards), ..least }
}

/// Streams and buckets, and the key of the cluster's session ids: whoever is first makes it.
async fn prepare(bus: &Bus, apps: &[App], replicas: usize) -> Result<SidKey, StartError> {
    for app in apps {
        bus.ensure_stream(&app.event_stream(replicas)).await?;
        bus.ensure_stream(&app.chat_stream(replicas)).await?;
        for feed in app.feed_streams(replicas) {
            bus.ensure_stream(&feed).await?;
        }
        bus.ensure_bucket(&BucketSpec::new(&app.roster, replicas)).await?;
        bus.ensure_bucket(&BucketSpec::new(&app.marks, replicas)).await?;
        bus.ensure_bucket(&BucketSpec::new(&app.idempotency, replicas)).await?;
        if app.verifier.is_some() {
            bus.ensure_bucket(&revocation::spec(app, replicas)).await?;
        }
        for bucket in app.notification_buckets(replicas) {
            bus.ensure_bucket(&bucket).await?;
        }
        for bucket in app.realtime_buckets(replicas) {
            bus.ensure_bucket(&bucket).await?;
        }
    }
    bus.ensure_bucket(&BucketSpec::new(stats::BUCKET, replicas)).await?;
    const BUCKET: &str = "TL_cluster";
    const KEY: &str = "sid_key";
    bus.ensure_bucket(&BucketSpec::new(BUCKET, replicas)).await?;
    let fresh: [u8; 32] = rand::random();
    match bus.kv_create(BUCKET, KEY, Bytes::copy_from_slice(&fresh), None).await {
        Ok(_) => return Ok(SidKey::new(fresh)),
        Err(AppendError::Conflict { .. }) => {}
        Err(error) => return Err(StartError::SidKey(error.to_string())),
    }
    // A lagging replica may not have it yet.
    for _ in 0..50 {
        let entry = bus.kv_get(BUCKET, KEY).await.map_err(|error| StartError::SidKey(error.to_string()))?;
        if let Some(value) = entry.and_then(|entry| entry.value) {
            let key: [u8; 32] =
                value[..].try_into().map_err(|_| StartError::SidKey("it has a wrong length".into()))?;
            return Ok(SidKey::new(key));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(StartError::SidKey("it exists but cannot be read".into()))
}

/// Sets of public keys are read before clients come, if their sources answer; a node without them serves none who needs them.
async fn read_key_sets(shared: &Shared) {
    for app in shared.apps.iter() {
        let sessions = app.issuer.as_ref().map(Issuer::session);
        for jwks in app.verifier.iter().chain(sessions).filter_map(|verifier| verifier.jwks()) {
            tokio::spawn(jwks.clone().run(app.name().to_owned(), shared.metrics.clone()));
            if !jwks.ready().await {
                tracing::warn!(
                    app = app.name(),
                    "the public keys are not known yet: tokens cannot be checked"
                );
            }
        }
    }
}

fn threads(config: &GatewayConfig) -> u8 {
    /// One bit per shard in a room's mask.
    const MOST: usize = 64;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = if config.node.shards == 0 { cores } else { config.node.shards };
    u8::try_from(wanted.clamp(1, MOST)).unwrap_or(1)
}

fn channels(threads: u8) -> (Vec<ShardHandle>, Vec<tokio::sync::mpsc::Sender<node::Fed>>, Vec<Inbox>) {
    let mut all = (Vec::new(), Vec::new(), Vec::new());
    for ix in 0..threads {
        let (handle, feed, inbox) = shard::channel(ix);
        all.0.push(handle);
        all.1.push(feed);
        all.2.push(inbox);
    }
    all
}

/// A shard, to be made and run on its thread.
fn shard(
    config: &GatewayConfig,
    listeners: &[Vec<u16>],
    handle: &ShardHandle,
    all: &[ShardHandle],
    shared: &Arc<Shared>,
    inbox: Inbox,
) -> impl FnOnce() -> LocalBoxFuture<'static, ()> + Send + use<> {
    let (config, listeners) = (config.clone(), listeners.to_vec());
    let (handle, all, shared) = (handle.clone(), all.to_vec(), shared.clone());
    move || {
        let shard = Shard::new(handle, all, shared);
        let server = http::Server::build(&config, &listeners, &shard);
        Box::pin(async move { shard.run(inbox, server).await })
    }
}

/// A core's thread: a current-thread runtime and its shard.
fn spawn_thread(
    ix: u8,
    shard: impl FnOnce() -> LocalBoxFuture<'static, ()> + Send + 'static,
) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("shard-{ix}")).spawn(move || {
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move { shard().await });
    })?;
    Ok(())
}

/// Hands connections to the shards in turn: they are spread evenly whatever their addresses.
async fn accept(
    socket: TcpListener,
    listener: usize,
    shards: Vec<ShardHandle>,
    mut stopped: watch::Receiver<bool>,
) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.changed() => return,
            accepted = socket.accept() => accepted,
        };
        let handed = accepted.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
        match handed {
            Ok((stream, peer)) => {
                let shard = &shards[NEXT.fetch_add(1, Ordering::Relaxed) % shards.len()];
                shard.control(Control::Accept { stream, peer, listener });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                // Out of file descriptors: wait for some to come back.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn watch_bus(bus: Bus, readiness: Readiness) {
    loop {
        if bus.is_connected() {
            readiness.ready("bus");
        } else {
            readiness.not_ready("bus", "NATS is not connected");
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_are_bounded_by_the_sessions_of_all_applications() {
        let app = |name: &str, max_sessions: usize| {
            serde_json::json!({
                "name": name, "path": format!("/{name}/"), "token": { "secret": "s" },
                "limits": { "max_sessions": max_sessions },
            })
        };
        let limits = |apps: &[serde_json::Value]| {
            let config = serde_json::from_value(serde_json::json!({ "app": apps })).unwrap();
            forward_limits(&App::build_all(&config).unwrap()).max_forwards
        };
        assert_eq!(limits(&[app("a", 5_000), app("b", 6_000)]), 11_000);
        assert_eq!(limits(&[app("a", 10)]), 4_096);
        assert_eq!(limits(&[app("a", usize::MAX >> 1), app("b", usize::MAX >> 1)]), usize::MAX - 1);
    }
}
