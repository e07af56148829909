//! Replicas against a real nats-server: what a gateway asks, what is stored for clients, timers, device records, dead gateways.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::{Duration, Instant};

use bus::child::{ChildOptions, NatsChild};
use bus::{Bus, BusConfig, ChangeKind, Feed, FeedEvent, StreamSpec, WatchEvent};
use cluster::coordination::{self, Reply, Request, decode, encode};
use cluster::{Envelope, subject};
use coordinator::plan::App;
use coordinator::{Coordinator, Deps, RunningCoordinator};
use dialects::{Dialect, Realtime, Telehealth};
use domain::call::{
    Act, Actor, Call, CallId, CallSettings, Command, CommandId, Invite, Kind, Medium, Offer, Person, Refusal,
    Status, Subject, UserCall, UserCallState, UserCalls, View, call_room,
};
use domain::presence::{self, ChoiceChange, Device, DeviceRecord, Presence};
use domain::{ChatLimits, UserId};

const APP: &str = "visits";
/// Nothing that is waited for takes this long.
const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    nats: NatsChild,
    dir: std::path::PathBuf,
    bus: Bus,
    feed: Feed,
    replicas: Vec<RunningCoordinator>,
    seen: Vec<Seen>,
}

/// An event as a gateway gets it.
#[derive(Debug, PartialEq)]
struct Seen {
    room: String,
    event: String,
    args: String,
    view: Option<View>,
}

fn app(calls: &CallSettings) -> App {
    let realtime = Realtime { calls: calls.clone(), ..Realtime::default() };
    let dialect = Telehealth::new("/", vec![], ChatLimits::default(), realtime).unwrap();
    App { name: APP.into(), namespace: "/".into(), dialect: Dialect::Telehealth(dialect) }
}

impl World {
    async fn start(name: &str, replicas: usize, calls: CallSettings) -> Self {
        let dir = std::env::temp_dir().join(format!("trunkline-coordinator-{name}-{}", std::process::id()));
        let nats = NatsChild::start(ChildOptions::new(&dir)).await.unwrap();
        let config = BusConfig::for_server(nats.url());
        let bus = Bus::connect(config.clone(), &prometheus::Registry::new()).await.unwrap();
        let events = StreamSpec {
            republish: Some(subject::event_republish(APP)),
            allow_atomic: true,
            allow_msg_ttl: true,
            ..StreamSpec::new(subject::event_stream_name(APP), [subject::event_stream_filter(APP)])
        };
        bus.ensure_stream(&events).await.unwrap();
        let feed = bus.feed().unwrap();
        bus.subscribe(&format!("tl.{APP}.room.*.d")).unwrap();
        bus.flush(Instant::now() + DEADLINE).await;
        let mut world = Self { nats, dir, bus, feed, replicas: Vec::new(), seen: Vec::new() };
        for _ in 0..replicas {
            world.add_replica(&calls).await;
        }
        world
    }

    async fn add_replica(&mut self, calls: &CallSettings) {
        let deps = Deps {
            apps: vec![app(calls)],
            bus: BusConfig::for_server(self.nats.url()),
            replicas: 1,
            registry: prometheus::Registry::new(),
            readiness: telemetry::Readiness::new([]),
            tracer: telemetry::trace::Tracer::off(),
        };
        self.replicas.push(Coordinator::start(deps).await.unwrap());
    }

    async fn ask(&self, request: &Request) -> Reply {
        let deadline = Instant::now() + DEADLINE;
        let answer = self.bus.request(&coordination::subject(APP), &encode(request), deadline).await;
        decode(&answer.unwrap()).unwrap()
    }

    async fn call(&self, who: &str, device: &str, call: &str, act: Act) -> Result<Call, Refusal> {
        self.repeat(rand::random(), who, device, call, act).await
    }

    async fn repeat(&self, id: u128, who: &str, device: &str, call: &str, act: Act) -> Result<Call, Refusal> {
        let actor = Actor { who: person(who), device: device.into() };
        let call = CallId::new(call).unwrap();
        let command = Command { id: CommandId(id), call, actor: Some(actor), act };
        match self.ask(&Request::Call(Box::new(command))).await {
            Reply::Call(call) => Ok(*call),
            Reply::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// The first event that fits, waited for.
    async fn until(&mut self, what: &str, fits: impl Fn(&Seen) -> bool) -> &Seen {
        let mut from = 0;
        loop {
            if let Some(at) = self.seen[from..].iter().position(&fits) {
                return &self.seen[from + at];
            }
            from = self.seen.len();
            let mut events = Vec::new();
            let waited = tokio::time::timeout(DEADLINE, self.feed.next_batch(&mut events)).await;
            assert!(waited.is_ok(), "{what} did not come; there were {:#?}", self.seen);
            self.seen.extend(events.iter().filter_map(seen));
        }
    }

    async fn event(&mut self, room: &str, event: &str) -> &Seen {
        self.until(event, |seen| seen.room == room && seen.event == event).await
    }

    async fn put_devices(&self, user: &str, node: &str, devices: &[&str]) {
        let devices = devices.iter().map(|id| Device { id: (*id).into(), idle: false });
        let record = DeviceRecord {
            user: UserId::new(user).unwrap(),
            wire_id: user.into(),
            devices: devices.collect(),
            rooms: vec![],
            gone_ms: 0,
        };
        let key = coordination::device_key(&record.user, node, 0);
        let bucket = coordination::presence_bucket(APP);
        self.bus.kv_put(&bucket, &key, encode(&record).into(), None, None).await.unwrap();
    }

    async fn presence(&self, user: &str) -> Presence {
        let key = coordination::presence_key(&UserId::new(user).unwrap());
        let entry = self.bus.kv_get(&coordination::presence_bucket(APP), &key).await.unwrap().unwrap();
        decode(&entry.value.unwrap()).unwrap()
    }

    async fn stop(self) {
        for replica in self.replicas {
            replica.drain().await;
        }
        drop((self.bus, self.feed));
        self.nats.stop().await;
        std::fs::remove_dir_all(self.dir).unwrap();
    }
}

fn seen(event: &FeedEvent) -> Option<Seen> {
    let FeedEvent::Message { payload, .. } = event else { return None };
    let envelope = Envelope::decode(payload).ok()?;
    Some(Seen {
        room: envelope.room().to_owned(),
        event: envelope.event.to_owned(),
        args: String::from_utf8_lossy(envelope.tail).into_owned(),
        view: envelope.view.map(|view| decode(view).unwrap()),
    })
}

fn person(user: &str) -> Person {
    Person { user: UserId::new(user).unwrap(), wire_id: user.into(), name: None, role: None }
}

fn offer(to: &str) -> Act {
    Act::Initiate(Offer {
        kind: Kind::OneToOne,
        medium: Medium::Video,
        subject: Subject::default(),
        invited: vec![Invite { who: person(to) }],
    })
}

const ANSWER: Act = Act::Answer { glare: false };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_from_ring_to_end_is_told_once_and_in_order() {
    let mut world = World::start("call", 2, CallSettings::default()).await;
    world.put_devices("a", "n1", &["a1"]).await;
    world.put_devices("b", "n1", &["b1"]).await;
    world.event(".presence:a", "presence:changed").await;
    world.event(".presence:b", "presence:changed").await;
    let id = rand::random();
    let call = world.repeat(id, "a", "a1", "c1", offer("b")).await.unwrap();
    assert_eq!(call.status, Status::Ringing);
    // A gateway that heard no answer asks again, and another replica serves.
    for _ in 0..4 {
        assert_eq!(world.repeat(id, "a", "a1", "c1", offer("b")).await.unwrap().rev, call.rev);
    }
    world.event("notifications:b", "call:incoming").await;
    let call = world.call("b", "b1", "c1", ANSWER).await.unwrap();
    assert_eq!(call.status, Status::Accepted);
    assert_eq!(world.call("b", "b2", "c1", ANSWER).await.unwrap_err(), Refusal::AlreadyAnswered);
    world.event("notifications:a", "call:accepted").await;
    let room = call_room(&call.id).as_str().to_owned();
    let two = |seen: &Seen| seen.room == room && seen.view.as_ref().is_some_and(|v| v.seats.len() == 2);
    world.until("a view of both", two).await;
    world.until("in_call", |seen| seen.room == ".presence:b" && seen.args.contains("in_call")).await;
    world.call("a", "a1", "c1", Act::End { said: None }).await.unwrap();
    world.event("notifications:b", "call:ended").await;
    world.until("over", |seen| seen.view.as_ref().is_some_and(|view| view.status == Status::Ended)).await;
    let end = Act::End { said: None };
    assert_eq!(world.call("a", "a1", "c1", end.clone()).await.unwrap_err(), Refusal::Over);
    assert_eq!(world.call("a", "a1", "c9", end).await.unwrap_err(), Refusal::UnknownCall);
    for (room, event) in [("notifications:b", "call:incoming"), ("notifications:a", "call:accepted")] {
        let times = world.seen.iter().filter(|seen| seen.room == room && seen.event == event).count();
        assert_eq!(times, 1, "{event}: {:#?}", world.seen);
    }
    world.stop().await;
}

/// It must not end: an orchestrator would start it again for ever.
#[tokio::test]
async fn a_replica_without_anything_to_coordinate_is_ready_and_idle() {
    let readiness = telemetry::Readiness::new(["requests", "lease"]);
    let deps = Deps {
        apps: vec![],
        bus: BusConfig::for_server("nats://127.0.0.1:1"),
        replicas: 1,
        registry: prometheus::Registry::new(),
        readiness: readiness.clone(),
        tracer: telemetry::trace::Tracer::off(),
    };
    let replica = Coordinator::start(deps).await.unwrap();
    assert!(readiness.is_ready(), "{:?}", readiness.missing());
    replica.drain().await;
    assert!(!readiness.is_ready());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_runs_out_also_when_the_replica_that_began_it_is_gone() {
    let calls = CallSettings { ring_ms: Some(1_000), ..CallSettings::default() };
    let mut world = World::start("ring", 1, calls.clone()).await;
    world.call("a", "a1", "c1", offer("b")).await.unwrap();
    world.replicas.remove(0).drain().await;
    world.add_replica(&calls).await;
    world.event("notifications:a", "call:missed").await;
    assert_eq!(world.call("b", "b1", "c1", ANSWER).await.unwrap_err(), Refusal::Over);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_calling_each_other_make_one_call() {
    let world = World::start("glare", 2, CallSettings::default()).await;
    for round in 0..30 {
        let (a, b) = (format!("a{round}"), format!("b{round}"));
        let (ours, theirs) = (format!("x{round}"), format!("y{round}"));
        let (one, other) =
            tokio::join!(world.call(&a, "a1", &ours, offer(&b)), world.call(&b, "b1", &theirs, offer(&a)),);
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.id, other.id);
        assert!([one.status, other.status].contains(&Status::Accepted));
    }
    world.stop().await;
}

/// A replica that died before it could make the call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_that_was_taken_for_a_call_that_never_came_is_free_again() {
    let calls = CallSettings { per_user: 1, ..CallSettings::default() };
    let world = World::start("left", 2, calls).await;
    let (bucket, user) = (coordination::calls_bucket(APP), UserId::new("a").unwrap());
    let key = coordination::user_calls_key(&user);
    let call = CallId::new("c0").unwrap();
    let left = UserCall { call, state: UserCallState::Calling, peer: UserId::new("b") };
    let left = encode(&UserCalls { calls: vec![left] });
    world.bus.kv_put(&bucket, &key, left.into(), None, None).await.unwrap();
    let refused = world.call("a", "a1", "c1", offer("b")).await.unwrap_err();
    assert!(matches!(refused, Refusal::OverLimit { .. }), "{refused:?}");
    let mut watch = world.bus.kv_watch(&bucket, &key, DEADLINE);
    let removed = async {
        while !matches!(watch.next().await, WatchEvent::Change(it) if matches!(it.kind, ChangeKind::Deleted { .. }))
        {
        }
    };
    tokio::time::timeout(DEADLINE, removed).await.expect("it is taken away");
    assert_eq!(world.call("a", "a1", "c1", offer("b")).await.unwrap().status, Status::Initiating);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_whose_device_is_gone_is_lost_and_its_call_ends() {
    let calls = CallSettings { grace_ms: 500, ..CallSettings::default() };
    let mut world = World::start("lost", 2, calls).await;
    world.put_devices("a", "n1", &["a1"]).await;
    world.put_devices("b", "n2", &["b1", "b2"]).await;
    world.call("a", "a1", "c1", offer("b")).await.unwrap();
    world.call("b", "b1", "c1", ANSWER).await.unwrap();
    world.put_devices("b", "n2", &["b2"]).await;
    let room = "notifications:a";
    world.until("the end", |seen| seen.room == room && seen.event == "call:ended").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_users_of_a_dead_gateway_go_offline_and_others_stay() {
    let mut world = World::start("dead", 2, CallSettings::default()).await;
    let one = bytes::Bytes::from_static(b"1");
    let _alive =
        bus::lease::Lease::start(&world.bus, "TL_nodes", "alive", one.clone(), 1, |_| {}).await.unwrap();
    world.put_devices("both", "dead", &["x1"]).await;
    world.put_devices("both", "alive", &["x2"]).await;
    world.put_devices("here", "alive", &["y1"]).await;
    world.put_devices("gone", "dead", &["z1"]).await;
    for user in ["both", "here", "gone"] {
        world.event(&format!(".presence:{user}"), "presence:changed").await;
    }
    for node in ["alive", "dead"] {
        world.bus.kv_put("TL_gateways", node, one.clone(), None, None).await.unwrap();
    }
    let offline = |seen: &Seen| seen.room == ".presence:gone" && seen.args.contains("offline");
    let told = world.until("offline", offline).await;
    assert!(told.args.contains("lastSeen"), "{told:?}");
    assert_eq!(world.presence("gone").await.status, presence::Status::Offline);
    for user in ["both", "here"] {
        assert_eq!(world.presence(user).await.status, presence::Status::Online, "{user}");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_chooses_and_a_flapping_connection_is_not_told() {
    let mut world = World::start("choice", 2, CallSettings::default()).await;
    world.put_devices("a", "n1", &["a1"]).await;
    world.event(".presence:a", "presence:changed").await;
    // A record without devices is a connection that may be back.
    world.put_devices("a", "n1", &[]).await;
    world.put_devices("a", "n1", &["a2"]).await;
    let change =
        ChoiceChange { status: Some(presence::Status::Busy), custom: Some(Some("in surgery".into())) };
    let (id, user) = (CommandId(rand::random()), UserId::new("a").unwrap());
    let request = Request::Choose { id, user, wire_id: "a".into(), change };
    let Reply::Presence(presence) = world.ask(&request).await else { panic!() };
    assert_eq!((presence.status, presence.rev), (presence::Status::Busy, 2));
    let told = world.until("busy", |seen| seen.args.contains("busy")).await;
    assert!(told.args.contains("in surgery"));
    let to_watchers = world.seen.iter().filter(|seen| seen.room == ".presence:a").count();
    assert_eq!(to_watchers, 2, "{:#?}", world.seen);
    assert_eq!(world.call("b", "b1", "c1", offer("a")).await.unwrap_err(), Refusal::DoNotDisturb);
    world.stop().await;
}
