//! Starting and stopping a replica: one function wires everything, one drains it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bus::lease::{Lease, LeaseState};
use bus::{BucketSpec, Bus, BusConfig, BusError, ConnectError, Requests};
use bytes::Bytes;
use cluster::coordination::{QUEUE, calls_bucket, presence_bucket, subject};
use telemetry::Readiness;
use telemetry::trace::Tracer;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::carer::Carer;
use crate::desk::Desk;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::plan::App;
use crate::store::Store;
use crate::sweep::{COORDINATORS, GATEWAYS, Sweep};
use crate::teller::Teller;
use crate::{carer, followers, timers};

/// Requests of one application that are served at once; the next wait, and are dropped by the bus beyond its bound.
const AT_ONCE: usize = 512;
/// Longest wait for the requests under way when the replica stops.
const DRAIN: Duration = Duration::from_secs(5);

/// The condition of [`Readiness`] that stands for the lease.
const LEASE: &str = "lease";

/// Why a replica did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("preparing NATS failed: {0}")]
    Bus(#[from] BusError),
    #[error("metrics could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// What a replica is given by its process.
#[derive(Debug)]
pub struct Deps {
    /// Applications without calls and presence are left out.
    pub apps: Vec<App>,
    pub bus: BusConfig,
    /// Replicas of the streams and buckets that are created.
    pub replicas: usize,
    pub registry: prometheus::Registry,
    pub readiness: Readiness,
    pub tracer: Tracer,
}

/// A replica, before it runs.
#[derive(Clone, Copy, Debug)]
pub struct Coordinator;

/// A running replica.
pub struct RunningCoordinator {
    stop: watch::Sender<bool>,
    services: JoinSet<()>,
    /// `None`: there is nothing to coordinate.
    lease: Option<Lease>,
    readiness: Readiness,
}

impl Coordinator {
    /// Connects, creates what is missing, serves. Its tasks run on the calling runtime.
    pub async fn start(deps: Deps) -> Result<RunningCoordinator, StartError> {
        let Deps { apps, bus: bus_config, replicas, registry, readiness, tracer } = deps;
        let apps: Vec<App> = apps.into_iter().filter(|app| app.dialect.realtime().is_some()).collect();
        if apps.is_empty() {
            return Ok(idle(readiness));
        }
        let bus = Bus::connect(bus_config, &registry).await?;
        let kept = prepare(&bus, &apps, replicas).await?;
        let metrics = Metrics::register(&registry)?;
        metrics.begin(apps.iter().map(|app| &*app.name));
        let me = format!("{:032x}", rand::random::<u128>());
        let lease = take_lease(&bus, &me, replicas, readiness.clone()).await?;
        let (stop, stopped) = watch::channel(false);
        let mut desks = Vec::new();
        let mut services = JoinSet::new();
        for (app, kept) in apps.into_iter().zip(kept) {
            let store = Store::new(bus.clone(), &app.name, kept == 1);
            let requests = bus.serve(&subject(&app.name), QUEUE)?;
            let peers = Peers::start(&bus, &app.name)?;
            let (carer, left) = Carer::new();
            let desk = Arc::new(Desk {
                app,
                bus: bus.clone(),
                store,
                // What it remembers is one application's: users of two may have the same id.
                teller: Teller::new(bus.clone()),
                peers,
                carer,
                metrics: metrics.clone(),
                tracer: tracer.clone(),
            });
            followers::start(&desk, &bus, &stopped).await?;
            tokio::spawn(carer::run(desk.clone(), left));
            services.spawn(serve(desk.clone(), requests, stopped.clone()));
            desks.push(desk);
        }
        let feed = bus.feed().expect("this bus was connected above and its feed not taken");
        let sweep = Sweep { bus: bus.clone(), desks, me, metrics };
        tokio::spawn(sweep.run(feed, stopped));
        bus.flush(Instant::now() + DRAIN).await;
        readiness.ready("requests");
        tracing::info!("coordinator serves");
        Ok(RunningCoordinator { stop, services, lease: Some(lease), readiness })
    }
}

impl RunningCoordinator {
    /// Takes no more requests, answers those it has, gives its lease up.
    pub async fn drain(mut self) {
        self.readiness.not_ready("requests", "draining");
        // Nobody listens any more when this fails.
        let _ = self.stop.send(true);
        let rest = async { while self.services.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, rest).await.is_err() {
            tracing::warn!("requests under way are left to be repeated");
        }
        if let Some(lease) = self.lease {
            lease.give_up().await;
        }
    }
}

/// A replica that has nothing to do, and says so once. It does not end: what started it would start it again and again. Nor does it
/// sweep: a gateway that died may have records of applications that only other replicas know.
fn idle(readiness: Readiness) -> RunningCoordinator {
    tracing::warn!(
        "no application has calls or presence: there is nothing to coordinate, this replica is idle"
    );
    readiness.ready(LEASE);
    readiness.ready("requests");
    RunningCoordinator { stop: watch::Sender::new(false), services: JoinSet::new(), lease: None, readiness }
}

/// Returns how many copies there are of what each application has: what was made with more keeps them.
async fn prepare(bus: &Bus, apps: &[App], replicas: usize) -> Result<Vec<usize>, BusError> {
    for bucket in [GATEWAYS, COORDINATORS, "TL_nodes"] {
        bus.ensure_bucket(&BucketSpec::new(bucket, replicas)).await?;
    }
    let mut kept = Vec::new();
    for app in apps {
        let calls = BucketSpec {
            extra_subjects: timers::subjects(&app.name).to_vec(),
            allow_msg_schedules: true,
            ..BucketSpec::new(calls_bucket(&app.name), replicas)
        };
        let calls = bus.ensure_bucket(&calls).await?;
        let presence = bus.ensure_bucket(&BucketSpec::new(presence_bucket(&app.name), replicas)).await?;
        kept.push(calls.replicas.max(presence.replicas));
    }
    Ok(kept)
}

async fn take_lease(bus: &Bus, me: &str, replicas: usize, readiness: Readiness) -> Result<Lease, BusError> {
    let told = move |state: LeaseState| match state {
        LeaseState::Held => readiness.ready(LEASE),
        LeaseState::NotRenewed => readiness.not_ready(LEASE, "the lease cannot be renewed"),
    };
    Lease::start(bus, COORDINATORS, me, Bytes::from_static(b"1"), replicas, told).await
}

/// One task per request, so that a slow one holds up no other.
async fn serve(desk: Arc<Desk>, mut requests: Requests, mut stop: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut under_way = JoinSet::new();
    loop {
        while under_way.try_join_next().is_some() {}
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let request = tokio::select! {
            biased;
            _ = stop.changed() => break,
            request = requests.next() => request,
        };
        let desk = desk.clone();
        under_way.spawn(async move {
            desk.serve(request).await;
            drop(place);
        });
    }
    for request in requests.stop(Instant::now() + DRAIN).await {
        desk.serve(request).await;
    }
    while under_way.join_next().await.is_some() {}
}
