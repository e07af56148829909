//! Schedules beside keys in one batch, as calls use them.
// Clippy does not see that helpers outside `#[test]` are tests too.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bus::child::{ChildOptions, NatsCluster};
use bus::kv::{kv_append, kv_delete_append, stream_of, subject_of};
use bus::{
    Append, AppendError, BucketSpec, Bus, Consumer, ConsumerSpec, Stored, header_value, schedule_append,
    schedule_cancel_append,
};
use bytes::Bytes;
use support::{TempDir, connect, kill9, server, soon};

const BUCKET: &str = "TL_x_calls";
const TIMER: &str = "tl.x.timer.c1";
const DUE: &str = "tl.x.due.c1";

fn in_ms(millis: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64 + millis
}

fn timer(at_ms: u64, payload: &'static str) -> Append {
    schedule_append(TIMER, DUE, at_ms, Bytes::from(payload), Some(Duration::from_secs(60)))
}

fn key(name: &str, value: &'static str, expect: u64) -> Append {
    kv_append(BUCKET, name, Bytes::from(value), None, Some(expect))
}

async fn prepare(bus: &Bus, replicas: usize) -> Consumer {
    let bucket = BucketSpec {
        allow_msg_schedules: true,
        extra_subjects: vec!["tl.x.timer.>".to_owned(), "tl.x.due.>".to_owned()],
        ..BucketSpec::new(BUCKET, replicas)
    };
    // A new cluster may need a moment to place a stream.
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = bus.ensure_bucket(&bucket).await {
        assert!(Instant::now() < deadline, "{error}");
    }
    bus.ensure_bucket(&bucket).await.unwrap();
    let spec = ConsumerSpec {
        stream: stream_of(BUCKET),
        durable: "timers".to_owned(),
        filters: vec!["tl.x.due.>".to_owned()],
        ack_wait: Duration::from_secs(30),
        max_ack_pending: 100,
        gather: Duration::ZERO,
    };
    bus.consume(spec).await.unwrap()
}

async fn fired(consumer: &mut Consumer) -> Stored {
    let message =
        tokio::time::timeout(Duration::from_secs(30), consumer.next()).await.expect("nothing fired");
    message.ack.ack();
    message.stored
}

async fn stored(bus: &Bus, subject: &str) -> Option<Stored> {
    bus.get_last_at_leader(&stream_of(BUCKET), subject).await.unwrap()
}

#[tokio::test]
async fn keys_and_schedule_are_stored_together_or_not_at_all() {
    let dir = TempDir::new("batch");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    let mut consumer = prepare(&bus, 1).await;
    let batch = vec![key("c.1", "1", 0), key("u.a", "1", 0), key("u.b", "1", 0), timer(in_ms(60_000), "old")];
    let last = bus.append_batch(batch, soon()).await.unwrap();
    let revs = [last - 3, last - 2, last - 1];
    assert_eq!(stored(&bus, TIMER).await.unwrap().seq, last);
    // One key was written by somebody else: nothing of the batch is there, the schedule included.
    let other = bus.kv_put(BUCKET, "u.b", Bytes::from_static(b"2"), None, Some(revs[2])).await.unwrap();
    let late = vec![timer(in_ms(0), "never"), key("c.1", "2", revs[0]), key("u.b", "3", revs[2])];
    let refused = bus.append_batch(late, soon()).await;
    assert_eq!(refused, Err(AppendError::Conflict { last: Some(other) }));
    assert_eq!(stored(&bus, &subject_of(BUCKET, "c.1")).await.unwrap().seq, revs[0]);
    assert_eq!(stored(&bus, TIMER).await.unwrap().seq, last);
    // A later schedule takes the place of the earlier one, and a key is deleted under its condition.
    let next = vec![
        key("c.1", "2", revs[0]),
        kv_delete_append(BUCKET, "u.a", Some(revs[1])),
        timer(in_ms(500), "new"),
    ];
    bus.append_batch(next, soon()).await.unwrap();
    let keys = ["c.1", "u.a", "u.b", "u.none"].map(str::to_owned);
    let entries = bus.kv_get_many(BUCKET, &keys).await.unwrap();
    let shown: Vec<_> = entries.iter().map(|entry| (&entry.key[..], entry.value.as_deref())).collect();
    assert_eq!(shown, [("u.b", Some(&b"2"[..])), ("c.1", Some(b"2")), ("u.a", None)]);
    let message = fired(&mut consumer).await;
    assert_eq!((&message.subject[..], &message.payload[..]), (DUE, &b"new"[..]));
    assert!(header_value(&message.headers, "Nats-TTL").is_some());
    assert_eq!(stored(&bus, TIMER).await, None);
    // A marker has a revision to build on.
    let again = vec![key("u.a", "2", entries[2].rev), timer(in_ms(0), "at once")];
    bus.append_batch(again, soon()).await.unwrap();
    assert_eq!(fired(&mut consumer).await.payload, "at once");
    child.stop().await;
}

#[tokio::test]
async fn a_schedule_that_was_taken_back_does_not_fire() {
    let dir = TempDir::new("cancel");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    let mut consumer = prepare(&bus, 1).await;
    let at_ms = in_ms(500);
    let later = schedule_append("tl.x.timer.c2", "tl.x.due.c2", at_ms + 500, Bytes::from("later"), None);
    bus.append_batch(vec![timer(at_ms, "never"), later], soon()).await.unwrap();
    bus.append_batch(vec![key("c.1", "1", 0), schedule_cancel_append(TIMER)], soon()).await.unwrap();
    assert_eq!(fired(&mut consumer).await.payload, "later");
    child.stop().await;
}

#[tokio::test]
async fn a_schedule_survives_a_restart() {
    let dir = TempDir::new("restart");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    let mut consumer = prepare(&bus, 1).await;
    bus.append_batch(vec![key("c.1", "1", 0), timer(in_ms(1500), "later")], soon()).await.unwrap();
    kill9(child.pid());
    assert_eq!(fired(&mut consumer).await.payload, "later");
    child.stop().await;
}

#[tokio::test]
async fn a_schedule_fires_though_a_server_is_lost() {
    let dir = TempDir::new("cluster");
    let cluster = NatsCluster::start(dir.path(), &ChildOptions::default()).await.unwrap();
    let bus = connect(&cluster.urls()[0]).await;
    let mut consumer = prepare(&bus, 3).await;
    for (victim, payload) in ["first", "second", "third"].into_iter().enumerate() {
        let deadline = Instant::now() + Duration::from_secs(40);
        let batch = vec![kv_append(BUCKET, "c.1", Bytes::from("1"), None, None), timer(in_ms(1000), payload)];
        bus.append_batch(batch, deadline).await.unwrap();
        kill9(cluster.server(victim).pid());
        assert_eq!(fired(&mut consumer).await.payload, payload);
        cluster.server(victim).wait_healthy(deadline).await.unwrap();
    }
    cluster.stop().await;
}
