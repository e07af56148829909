//! The room side against a real server: gaps are made by keeping copies from the node.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use bus::child::{ChildOptions, NatsChild};
use bus::{Append, BusConfig};
use cluster::Envelope;
use cluster::subject::{RoomSubjects, slot_of};
use tokio::sync::watch;

use super::*;
use crate::clock::unix_ms;
use crate::config::{AppConfig, ConformanceProfile, Dialect, GatewayConfig};

const PATIENCE: Duration = Duration::from_secs(20);

/// One node with one shard, turned by hand.
struct World {
    child: NatsChild,
    dir: PathBuf,
    bus: Bus,
    feed: Feed,
    task: Task,
    fed: mpsc::Receiver<Fed>,
    stored: u64,
}

impl World {
    async fn new(name: &str, max_bytes: u64) -> Self {
        let dir = std::env::temp_dir().join(format!("trunkline-node-{}-{name}", std::process::id()));
        let child = NatsChild::start(ChildOptions::new(&dir)).await.unwrap();
        let registry = prometheus::Registry::new();
        let bus = Bus::connect(BusConfig::for_server(child.url()), &registry).await.unwrap();
        let mut app = AppConfig {
            name: "t".to_owned(),
            dialect: Dialect::Conformance,
            profile: Some(ConformanceProfile::Rooms),
            ..AppConfig::default()
        };
        app.retention.events_max_bytes = max_bytes;
        let config = GatewayConfig { app: vec![app], ..GatewayConfig::default() };
        let apps: Arc<[App]> = App::build_all(&config).unwrap().into();
        bus.ensure_stream(&apps[0].event_stream(1)).await.unwrap();
        let (shard, fed) = mpsc::channel(FEED_DEPTH);
        let id = NodeId::from_random(rand::random());
        let mut task = Task::new(Parts {
            id,
            bus: bus.clone(),
            feed: bus.feed().unwrap(),
            apps,
            shards: vec![shard],
            clock: Clock::start(),
            metrics: Metrics::register(&registry).unwrap(),
            nodes: watch::channel(Arc::new(HashSet::from([id]))).1,
        })
        .unwrap();
        let feed = task.feed.take().unwrap();
        Self { child, dir, bus, feed, task, fed, stored: 0 }
    }

    async fn end(self) {
        self.child.stop().await;
        std::fs::remove_dir_all(self.dir).unwrap();
    }

    async fn join(&mut self, room: &str) -> RoomKey {
        let key = RoomKey::new(0, room);
        let (done, mut settled) = oneshot::channel();
        self.task.interest(key.clone(), 0, Holds::Marked, done).await;
        self.task.barriers.start();
        let passed = soon(self.task.barriers.passed()).await.unwrap();
        self.task.on_barrier(passed).await;
        assert_eq!(settled.try_recv(), Ok(Ok(())));
        key
    }

    /// Stores events; their ids count from 1.
    async fn store(&mut self, room: &str, count: u64) -> u64 {
        let mut appends = Vec::new();
        for _ in 0..count {
            self.stored += 1;
            let envelope = Envelope {
                id: u128::from(self.stored),
                rooms: vec![room],
                at: 0,
                namespace: "/",
                event: "e",
                tail: b"1",
                attachments: Vec::new(),
                except: Vec::new(),
                view: None,
                receipt: None,
                trace: None,
            };
            let subject =
                RoomSubjects::new("t", room).event(slot_of(unix_ms()), &format!("{:08}", self.stored));
            let message = Append::unique(subject, envelope.encode());
            appends.push(self.bus.append(message, std::time::Instant::now() + PATIENCE));
        }
        *futures_util::future::try_join_all(appends).await.unwrap().last().unwrap()
    }

    /// What the server has sent up to this sequence.
    async fn copies(&mut self, upto: u64) -> Vec<FeedEvent> {
        let mut all = Vec::new();
        let came = |events: &[FeedEvent]| {
            events
                .iter()
                .any(|event| matches!(event, FeedEvent::Message { seq: Some(seq), .. } if *seq >= upto))
        };
        while !came(&all) {
            soon(self.feed.next_batch(&mut all)).await;
        }
        all
    }

    async fn give(&mut self, mut events: Vec<FeedEvent>) {
        self.task.on_feed(&mut events).await;
    }

    async fn lose(&mut self) {
        self.give(vec![FeedEvent::Lost { messages: 1, at_ms: unix_ms() }]).await;
    }

    async fn until_live(&mut self) {
        while self.task.streams[0].is_resyncing() {
            let finished = soon(self.task.resynced.recv()).await.unwrap();
            self.task.on_resynced(finished).await;
        }
    }

    /// What the shard was fed: ids of events, and barriers by token and sequence.
    fn fed(&mut self) -> (Vec<u128>, Vec<(u64, u64)>) {
        let (mut ids, mut barriers) = (Vec::new(), Vec::new());
        while let Ok(fed) = self.fed.try_recv() {
            match fed {
                Fed::Broadcasts(broadcasts) => ids.extend(broadcasts.iter().map(|broadcast| broadcast.id)),
                Fed::Barrier { token, seq } => barriers.push((token, seq)),
                Fed::BarrierFailed { token } => panic!("barrier {token} failed"),
                Fed::Held { .. } => {}
            }
        }
        (ids, barriers)
    }
}

async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.expect("nothing came")
}

/// The request that others act on follows on the same connection: here the event itself.
#[tokio::test]
async fn a_room_holds_when_its_subscription_is_on_its_way_and_nothing_is_left_of_it() {
    let mut world = World::new("ahead", 1 << 30).await;
    for room in [".call:01J", "plain"] {
        let key = RoomKey::new(0, room);
        let (done, mut settled) = oneshot::channel();
        world.task.interest(key.clone(), 0, Holds::Sent, done).await;
        assert_eq!(settled.try_recv(), Ok(Ok(())), "no marker is waited for");
        let seq = world.store(room, 1).await;
        let copies = world.copies(seq).await;
        world.give(copies).await;
        world.task.rooms.release(&key, 0, 0);
    }
    assert_eq!(world.fed().0, [1, 2]);
    // Of a call's room there is one for each class.
    assert_eq!(world.task.rooms.expire(1 << 40).len(), 3 + 1);
    assert_eq!(world.task.rooms.len(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_second_gap_during_a_resync_loses_and_repeats_nothing() {
    let mut world = World::new("gaps", 1 << 30).await;
    world.join("r").await;
    let first = world.store("r", 1).await;
    let copies = world.copies(first).await;
    world.give(copies).await;
    // The copies of 2 do not come; 3 comes while the read is under way.
    let lost = world.store("r", 1).await;
    world.copies(lost).await;
    let third = world.store("r", 1).await;
    world.lose().await;
    let finished = soon(world.task.resynced.recv()).await.unwrap();
    let copies = world.copies(third).await;
    world.give(copies).await;
    // Another gap: the copy of 4 does not come, that of 5 comes behind it.
    let lost = world.store("r", 1).await;
    world.copies(lost).await;
    world.lose().await;
    let fifth = world.store("r", 1).await;
    let copies = world.copies(fifth).await;
    world.give(copies).await;
    world.task.barriers.stored(0).add(third, vec![Ticket { shard: 0, token: 9 }], 0);
    world.task.on_resynced(finished).await;
    assert!(world.task.streams[0].is_resyncing());
    assert_eq!(world.fed(), (vec![1, 2, 3], vec![]));
    world.until_live().await;
    let (ids, barriers) = world.fed();
    assert_eq!(ids, [4, 5]);
    assert!(matches!(barriers[..], [(9, seq)] if seq >= fifth), "{barriers:?}");
    assert_eq!(world.task.metrics.resyncs.with_label_values(&["lost"]).get(), 2);
    assert_eq!(world.task.metrics.room_gaps.get(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_slot_with_more_events_than_one_answer_is_read_whole_and_in_order() {
    let mut world = World::new("crowd", 1 << 30).await;
    for room in ["a", "b", "quiet"] {
        world.join(room).await;
    }
    for _ in 0..30 {
        world.store("a", 50).await;
        world.store("b", 3).await;
    }
    let last = world.store("a", 1).await;
    world.lose().await;
    world.until_live().await;
    assert_eq!(world.fed().0, (1..=u128::from(world.stored)).collect::<Vec<_>>());
    // The copies come after all: nothing twice.
    let copies = world.copies(last).await;
    world.give(copies).await;
    assert_eq!(world.fed().0, []);
    world.end().await;
}

#[tokio::test]
async fn a_long_gap_is_read_by_whole_rooms() {
    let mut world = World::new("long", 1 << 30).await;
    world.join("a").await;
    world.join("b").await;
    world.store("a", 1500).await;
    world.store("b", 20).await;
    let long_ago = unix_ms() - 500_000;
    world
        .give(vec![FeedEvent::Disconnected { at_ms: long_ago }, FeedEvent::Connected { first: false }])
        .await;
    world.until_live().await;
    assert_eq!(world.fed().0, (1..=1520).collect::<Vec<_>>());
    assert_eq!(world.task.metrics.room_gaps.get(), 0);
    world.end().await;
}

#[tokio::test]
async fn what_the_stream_has_dropped_is_counted() {
    let mut world = World::new("retention", 20_000).await;
    world.join("r").await;
    let before = unix_ms();
    world.store("r", 300).await;
    world.give(vec![FeedEvent::Disconnected { at_ms: before }, FeedEvent::Connected { first: false }]).await;
    world.until_live().await;
    let (ids, _) = world.fed();
    assert!(ids.len() < 300 && ids.last() == Some(&300), "{}", ids.len());
    assert_eq!(world.task.metrics.room_gaps.get(), 1);
    // The gap was told once.
    world.lose().await;
    world.until_live().await;
    assert_eq!(world.task.metrics.room_gaps.get(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_publishers_word_counts_for_rooms_that_hold() {
    let mut world = World::new("progress", 1 << 30).await;
    let key = RoomKey::new(0, "r");
    let (done, settled) = oneshot::channel();
    world.task.interest(key.clone(), 0, Holds::Marked, done).await;
    world.task.barriers.start();
    let sub = world.task.rooms.of_app(0).next().unwrap().1.sub;
    let seq = world.store("r", 1).await;
    world.task.judge_progress(sub, seq);
    assert!(!world.task.streams[0].is_resyncing(), "the room does not hold yet");
    let passed = soon(world.task.barriers.passed()).await.unwrap();
    world.task.on_barrier(passed).await;
    assert_eq!(settled.await, Ok(Ok(())));
    let seq = world.store("r", 1).await;
    world.task.judge_progress(sub, seq);
    assert!(world.task.streams[0].is_resyncing());
    // Told again meanwhile: judged when the read is merged, and known then.
    world.task.streams[0].hold(pipeline::Pending::Progress { sub, seq });
    world.until_live().await;
    assert!(world.fed().0.contains(&2));
    assert_eq!(world.task.metrics.resyncs.with_label_values(&["behind"]).get(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_room_given_up_and_taken_again_is_not_confused_with_its_past() {
    let mut world = World::new("again", 1 << 30).await;
    let key = RoomKey::new(0, "r");
    let (done, old) = oneshot::channel();
    world.task.interest(key.clone(), 0, Holds::Marked, done).await;
    world.task.barriers.start();
    let passed = soon(world.task.barriers.passed()).await.unwrap();
    world.task.rooms.release(&key, 0, 0);
    world.task.rooms.expire(Millis::MAX);
    let (done, mut new) = oneshot::channel();
    world.task.interest(key.clone(), 0, Holds::Marked, done).await;
    world.task.barriers.start();
    world.task.on_barrier(passed).await;
    assert_eq!(old.await, Ok(Err(Unavailable)));
    assert!(new.try_recv().is_err(), "its own barrier has not passed");
    let passed = soon(world.task.barriers.passed()).await.unwrap();
    world.task.on_barrier(passed).await;
    assert_eq!(new.await, Ok(Ok(())));
    world.end().await;
}

#[tokio::test]
async fn a_shards_barrier_comes_behind_everything_before_it() {
    let mut world = World::new("barrier", 1 << 30).await;
    world.join("r").await;
    let event = world.store("r", 1).await;
    world.task.on_command(Command::Barrier { app: 0, shard: 0, token: 5 }).await;
    world.task.barriers.start();
    let passed = soon(world.task.barriers.passed()).await.unwrap();
    let marker = passed.result.unwrap();
    world.task.on_barrier(passed).await;
    assert!(marker > event);
    assert_eq!(world.fed(), (vec![], vec![]));
    let later = world.store("r", 1).await;
    let copies = world.copies(later).await;
    world.give(copies).await;
    // The second event was fed before the barrier: its sequence says so.
    assert_eq!(world.fed(), (vec![1, 2], vec![(5, later)]));
    world.end().await;
}

#[tokio::test]
async fn an_overflow_of_what_is_held_keeps_what_came_first() {
    let mut world = World::new("overflow", 1 << 30).await;
    world.join("r").await;
    let sub = world.task.rooms.of_app(0).next().unwrap().1.sub;
    let payload = vec![0; 40 << 20];
    world.lose().await;
    let first = world.store("r", 1).await;
    let copies = world.copies(first).await;
    world.give(copies).await;
    for seq in [first + 1, first + 2, first + 3] {
        world.task.streams[0].hold(pipeline::Pending::Event { sub, seq, payload: payload.clone().into() });
    }
    world.until_live().await;
    assert_eq!(world.fed().0, [1]);
    assert_eq!(world.task.metrics.resyncs.with_label_values(&["lost"]).get(), 2);
    world.end().await;
}
