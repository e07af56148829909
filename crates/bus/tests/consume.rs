//! Durable consumers: shared, and still there after everything that breaks.
// Clippy does not see that helpers outside `#[test]` are tests too.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bus::child::{ChildOptions, NatsCluster};
use bus::{Append, BucketSpec, Bus, BusError, Consumer, ConsumerSpec, Delivered, StreamSpec, header_value};
use bytes::Bytes;
use futures_util::StreamExt;
use support::{TempDir, connect, kill9, server, soon};

async fn next(consumer: &mut Consumer) -> Delivered {
    tokio::time::timeout(Duration::from_secs(60), consumer.next()).await.expect("nothing was delivered")
}

fn spec() -> ConsumerSpec {
    ConsumerSpec {
        stream: "S".to_owned(),
        durable: "worker".to_owned(),
        filters: vec!["s.a.>".to_owned(), "s.b.>".to_owned()],
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 1000,
        gather: Duration::ZERO,
    }
}

fn stream() -> StreamSpec {
    StreamSpec::new("S", ["s.>".to_owned()])
}

async fn store(bus: &Bus, ids: std::ops::Range<u32>) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let appends = ids.map(|id| bus.append(Append::unique(format!("s.a.{id}"), id.to_string()), deadline));
    futures_util::future::try_join_all(appends).await.unwrap();
}

/// Acknowledges until every one of `ids` came.
async fn take_all(consumer: &mut Consumer, ids: std::ops::Range<u32>) {
    let mut missing: BTreeSet<u32> = ids.collect();
    while !missing.is_empty() {
        let message = next(consumer).await;
        let id = std::str::from_utf8(&message.stored.payload).unwrap().parse().unwrap();
        missing.remove(&id);
        message.ack.ack();
    }
}

#[tokio::test]
async fn messages_are_shared_acknowledged_and_delivered_again() {
    let dir = TempDir::new("consume");
    let child = server(&dir).await;
    let (a, b) = (connect(&child.url()).await, connect(&child.url()).await);
    assert!(matches!(a.consume(spec()).await, Err(BusError::Refused { .. })));
    a.ensure_stream(&stream()).await.unwrap();
    let mut bad = spec();
    bad.durable = "a.b".to_owned();
    assert!(matches!(a.consume(bad).await, Err(BusError::Subject { .. })));
    a.append(Append::unique("s.c.1", "of no concern"), soon()).await.unwrap();
    let before = a.append(Append::unique("s.a.0", "0").header("X", "y"), soon()).await.unwrap();
    let mut at_a = a.consume(spec()).await.unwrap();
    let first = next(&mut at_a).await;
    assert_eq!((first.stored.seq, &first.stored.subject[..], first.deliveries), (before, "s.a.0", 1));
    assert_eq!(header_value(&first.stored.headers, "X"), Some("y"));
    assert_eq!(first.stored.time_ms, a.get_last("S", "s.a.0").await.unwrap().unwrap().time_ms);
    first.ack.nak(Duration::from_millis(1));
    let again = next(&mut at_a).await;
    assert_eq!((again.stored.seq, again.deliveries), (before, 2));
    again.ack.ack();
    let mut at_b = b.consume(spec()).await.unwrap();
    store(&a, 1..400).await;
    let (mut seen, mut from_b) = (BTreeSet::new(), 0);
    while seen.len() < 399 {
        let message = tokio::select! {
            message = next(&mut at_a) => message,
            message = next(&mut at_b) => { from_b += 1; message }
        };
        assert!(seen.insert(message.stored.seq), "{} came twice", message.stored.seq);
        message.ack.ack();
    }
    assert!((1..399).contains(&from_b), "{from_b} of 399");
    child.stop().await;
}

#[tokio::test]
async fn a_consumer_that_is_dropped_leaves_what_it_holds_to_the_others() {
    let dir = TempDir::new("giveback");
    let child = server(&dir).await;
    let (a, b) = (connect(&child.url()).await, connect(&child.url()).await);
    a.ensure_stream(&stream()).await.unwrap();
    store(&a, 0..50).await;
    // The time for acknowledgements is no way out: only giving back is.
    let patient = ConsumerSpec { ack_wait: Duration::from_secs(3600), ..spec() };
    let mut at_a = a.consume(patient.clone()).await.unwrap();
    next(&mut at_a).await.ack.ack();
    drop(at_a);
    let mut at_b = b.consume(patient).await.unwrap();
    for _ in 1..50 {
        next(&mut at_b).await.ack.ack();
    }
    child.stop().await;
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again() {
    let dir = TempDir::new("ackwait");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_stream(&stream()).await.unwrap();
    let quick = ConsumerSpec { ack_wait: Duration::from_millis(200), ..spec() };
    // The second start brings the existing consumer up to its specification.
    drop(bus.consume(spec()).await.unwrap());
    let mut consumer = bus.consume(quick).await.unwrap();
    store(&bus, 0..1).await;
    drop(next(&mut consumer).await);
    let again = next(&mut consumer).await;
    assert_eq!((&again.stored.payload[..], again.deliveries), (&b"0"[..], 2));
    again.ack.ack();
    child.stop().await;
}

#[tokio::test]
async fn markers_of_keys_are_delivered() {
    let dir = TempDir::new("markers");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_bucket(&BucketSpec::new("b", 1)).await.unwrap();
    let spec = ConsumerSpec {
        stream: bus::kv::stream_of("b"),
        filters: vec![bus::kv::subject_of("b", "d.>")],
        ..spec()
    };
    let mut consumer = bus.consume(spec).await.unwrap();
    let value = Bytes::from_static(b"v");
    bus.kv_put("b", "d.1", value.clone(), Some(Duration::from_secs(1)), None).await.unwrap();
    assert_eq!(next(&mut consumer).await.stored.payload, value);
    let expired = next(&mut consumer).await.stored;
    assert_eq!((&expired.subject[..], &expired.payload[..]), ("$KV.b.d.1", &b""[..]));
    assert_eq!(header_value(&expired.headers, "Nats-Marker-Reason"), Some("MaxAge"));
    bus.kv_put("b", "d.2", value.clone(), None, None).await.unwrap();
    next(&mut consumer).await;
    let delete = bus::kv::kv_delete_append("b", "d.2", None).header("X-Why", "swept");
    bus.append(delete, soon()).await.unwrap();
    let deleted = next(&mut consumer).await.stored;
    assert_eq!(header_value(&deleted.headers, "KV-Operation"), Some("DEL"));
    assert_eq!(header_value(&deleted.headers, "X-Why"), Some("swept"));
    child.stop().await;
}

#[tokio::test]
async fn a_consumer_survives_restarts_and_its_own_deletion() {
    survives("survive", spec()).await;
}

#[tokio::test]
async fn so_does_one_whose_messages_gather() {
    survives("gathersurvive", ConsumerSpec { gather: Duration::from_millis(20), ..spec() }).await;
}

#[tokio::test]
async fn messages_that_gather_come_together_and_of_a_key_only_the_newest() {
    let dir = TempDir::new("gather");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_bucket(&BucketSpec::new("B", 1)).await.unwrap();
    let gathers = ConsumerSpec {
        stream: "KV_B".to_owned(),
        filters: vec!["$KV.B.>".to_owned()],
        // Longer than the writes below take on any machine.
        gather: Duration::from_secs(5),
        ..spec()
    };
    let mut consumer = bus.consume(gathers).await.unwrap();
    let put = async |key: &'static str, value: u8| {
        bus.kv_put("B", key, Bytes::from(vec![value]), None, None).await.unwrap()
    };
    put("first", 0).await;
    // What comes out of quiet comes at once.
    let first = next(&mut consumer).await;
    assert_eq!(first.stored.subject, "$KV.B.first");
    first.ack.ack();
    for value in 1..=20 {
        put("k", value).await;
    }
    let last = put("l", 1).await;
    let mut came = vec![next(&mut consumer).await];
    while came.last().unwrap().stored.seq < last {
        came.push(next(&mut consumer).await);
    }
    let shown: Vec<_> = came.iter().map(|it| (&*it.stored.subject, it.stored.payload[0])).collect();
    assert_eq!(shown, [("$KV.B.k", 20), ("$KV.B.l", 1)]);
    came.into_iter().for_each(|message| message.ack.ack());
    child.stop().await;
}

/// The server holds a pull back, without a word, while too many messages are not acknowledged.
#[tokio::test]
async fn what_gathers_waits_for_acknowledgements() {
    let dir = TempDir::new("heldback");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_stream(&stream()).await.unwrap();
    store(&bus, 0..10).await;
    let narrow = ConsumerSpec { gather: Duration::from_millis(10), max_ack_pending: 2, ..spec() };
    let mut consumer = bus.consume(narrow).await.unwrap();
    let held = [next(&mut consumer).await, next(&mut consumer).await];
    held.into_iter().for_each(|message| message.ack.ack());
    take_all(&mut consumer, 2..10).await;
    child.stop().await;
}

async fn survives(name: &str, spec: ConsumerSpec) {
    let dir = TempDir::new(name);
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_stream(&stream()).await.unwrap();
    let mut consumer = bus.consume(spec).await.unwrap();
    store(&bus, 0..10).await;
    take_all(&mut consumer, 0..10).await;
    for round in 1..4 {
        kill9(child.pid());
        store(&bus, round * 10..round * 10 + 10).await;
        take_all(&mut consumer, round * 10..round * 10 + 10).await;
    }
    let operator = async_nats::connect(child.url()).await.unwrap();
    let js = async_nats::jetstream::new(operator);
    let stream = js.get_stream("S").await.unwrap();
    stream.delete_consumer("worker").await.unwrap();
    store(&bus, 100..110).await;
    // All of it comes again: at least once.
    take_all(&mut consumer, 0..40).await;
    take_all(&mut consumer, 100..110).await;
    assert_eq!(stream.consumer_names().count().await, 1);
    child.stop().await;
}

#[tokio::test]
async fn a_consumer_survives_the_loss_of_every_server_in_turn() {
    let dir = TempDir::new("consumecluster");
    let cluster = NatsCluster::start(dir.path(), &ChildOptions::default()).await.unwrap();
    let bus = connect(&cluster.urls()[0]).await;
    let replicated = StreamSpec { replicas: 3, ..stream() };
    // A new cluster may need a moment to place a stream.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = bus.ensure_stream(&replicated).await {
        assert!(Instant::now() < deadline, "{error}");
    }
    let mut consumer = bus.consume(spec()).await.unwrap();
    store(&bus, 0..20).await;
    take_all(&mut consumer, 0..20).await;
    // One of them leads the consumer, one the stream, and one holds our connection.
    for victim in 0..3 {
        let ids = (victim as u32 + 1) * 100..(victim as u32 + 1) * 100 + 20;
        kill9(cluster.server(victim).pid());
        store(&bus, ids.clone()).await;
        take_all(&mut consumer, ids).await;
        cluster.server(victim).wait_healthy(Instant::now() + Duration::from_secs(40)).await.unwrap();
    }
    cluster.stop().await;
}
