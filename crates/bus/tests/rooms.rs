//! Room traffic on one server: durable publishes, batches, the feed and its order, barriers.
// Clippy does not see that helpers outside `#[test]` are tests too.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use bus::{Append, AppendError, Bus, BusConfig, FeedEvent, PublishError, StreamSpec, SubId};
use bytes::Bytes;
use futures_util::future::join_all;
use support::{TempDir, batch, connect, read_until, server, soon};

fn events() -> StreamSpec {
    StreamSpec {
        republish: Some(("tl.a.u.*.*".to_owned(), "tl.a.room.{{wildcard(1)}}.d".to_owned())),
        allow_atomic: true,
        ..StreamSpec::new("EV", ["tl.a.u.>".to_owned()])
    }
}

fn payload_of(event: &FeedEvent) -> Option<&Bytes> {
    match event {
        FeedEvent::Message { payload, .. } => Some(payload),
        _ => None,
    }
}

fn seqs_of(events: &[FeedEvent]) -> Vec<u64> {
    events
        .iter()
        .filter_map(|event| match event {
            FeedEvent::Message { seq, .. } => *seq,
            _ => None,
        })
        .collect()
}

async fn barrier(bus: &Bus, name: &str) -> u64 {
    bus.barrier(Append::unique(format!("tl.a.u.marker.{name}"), ""), soon()).await.unwrap()
}

#[tokio::test]
async fn appends_are_conditional() {
    let dir = TempDir::new("append");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_stream(&events()).await.unwrap();
    let first = bus.append(Append::unique("tl.a.u.r.1", "x"), soon()).await.unwrap();
    let again = bus.append(Append::unique("tl.a.u.r.1", "x"), soon()).await;
    assert_eq!(again, Err(AppendError::Conflict { last: Some(first) }));
    let second = bus.append(Append::expecting("tl.a.u.r.1", first, "y"), soon()).await.unwrap();
    assert_eq!(second, first + 1);
    let with_id = || Append { msg_id: Some("m".to_owned()), ..Append::to("tl.a.u.r.2", "z") };
    let stored = bus.append(with_id(), soon()).await.unwrap();
    assert_eq!(bus.append(with_id(), soon()).await, Ok(stored));
    child.stop().await;
}

#[tokio::test]
async fn what_nobody_stores_is_unavailable_at_the_deadline() {
    let dir = TempDir::new("nowhere");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    let start = Instant::now();
    let result = bus.append(Append::unique("no.stream", "x"), start + Duration::from_millis(300)).await;
    assert!(matches!(result, Err(AppendError::Unavailable { stored: Some(false), .. })), "{result:?}");
    assert!(start.elapsed() >= Duration::from_millis(100));
    let limit = bus.server_info().max_payload;
    let large = vec![0; limit + 1];
    assert_eq!(bus.publish("a", &large), Err(PublishError::TooLarge { bytes: limit + 1, limit }));
    let refused = bus.append(Append::unique("a", large), soon()).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    assert!(matches!(bus.publish("a b", ""), Err(PublishError::Subject { .. })));
    child.stop().await;
}

#[tokio::test]
async fn a_batch_is_stored_whole_and_in_order_or_not_at_all() {
    let dir = TempDir::new("batch");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_stream(&events()).await.unwrap();
    let mut feed = bus.feed().unwrap();
    bus.subscribe("tl.a.room.*.d").unwrap();
    let marker = barrier(&bus, "1").await;
    let message = |id: u32| Append::unique(format!("tl.a.u.r{id}.x"), id.to_string());
    let last = bus.append_batch((0..5).map(message).collect(), soon()).await.unwrap();
    assert_eq!(last, marker + 5);
    let seen = read_until(&mut feed, |event| payload_of(event).is_some_and(|payload| payload == "4")).await;
    let copies: Vec<_> = seen.iter().filter_map(payload_of).filter(|payload| !payload.is_empty()).collect();
    assert_eq!(copies, ["0", "1", "2", "3", "4"]);
    // One conflict in the middle, and nothing is stored.
    let torn = [message(10), message(3), message(11)];
    let result = bus.append_batch(torn.into(), soon()).await;
    assert!(matches!(result, Err(AppendError::Conflict { .. })), "{result:?}");
    assert_eq!(bus.stream_state("EV").await.unwrap().last_seq, last);
    child.stop().await;
}

#[tokio::test]
async fn the_feed_keeps_stream_order_over_many_subscriptions() {
    const ROOMS: u64 = 50;
    const MESSAGES: u64 = 5000;
    let dir = TempDir::new("order");
    let child = server(&dir).await;
    let (bus, publisher) = (connect(&child.url()).await, connect(&child.url()).await);
    bus.ensure_stream(&events()).await.unwrap();
    let mut feed = bus.feed().unwrap();
    let subs: Vec<SubId> =
        (0..ROOMS).map(|room| bus.subscribe(&format!("tl.a.room.r{room}.*")).unwrap()).collect();
    assert_eq!(batch(&mut feed).await[0], FeedEvent::Connected { first: true });
    let marker = barrier(&bus, "1").await;
    let acks = (0..MESSAGES).map(|number| {
        publisher
            .append(Append::unique(format!("tl.a.u.r{}.{number}", number % ROOMS), vec![b'x'; 100]), soon())
    });
    let acks: Vec<u64> = join_all(acks).await.into_iter().map(Result::unwrap).collect();
    // Calls are sent in their order.
    assert!(acks.is_sorted() && acks[0] == marker + 1);
    let mut seqs = Vec::new();
    while seqs.len() < MESSAGES as usize {
        let events = batch(&mut feed).await;
        for event in &events {
            let FeedEvent::Message { sub, subject, stream, .. } = event else { panic!("{event:?}") };
            let room = subs.iter().position(|known| known == sub).unwrap();
            assert_eq!(subject, &format!("tl.a.room.r{room}.d"));
            assert_eq!(stream.as_deref(), Some(&b"EV"[..]));
        }
        seqs.extend(seqs_of(&events));
    }
    assert_eq!(seqs, acks);
    child.stop().await;
}

#[tokio::test]
async fn a_barrier_makes_subscriptions_effective() {
    let dir = TempDir::new("barrier");
    let child = server(&dir).await;
    let (bus, publisher) = (connect(&child.url()).await, connect(&child.url()).await);
    bus.ensure_stream(&events()).await.unwrap();
    let mut feed = bus.feed().unwrap();
    for round in 0..50 {
        let sub = bus.subscribe(&format!("tl.a.room.b{round}.d")).unwrap();
        barrier(&bus, &round.to_string()).await;
        publisher.append(Append::unique(format!("tl.a.u.b{round}.1"), "x"), soon()).await.unwrap();
        read_until(&mut feed, |event| matches!(event, FeedEvent::Message { sub: got, .. } if *got == sub))
            .await;
        bus.unsubscribe(sub);
    }
    child.stop().await;
}

#[tokio::test]
async fn ephemeral_messages_arrive_in_order_and_from_any_thread() {
    const MESSAGES: u32 = 10_000;
    let dir = TempDir::new("ephemeral");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    let mut feed = bus.feed().unwrap();
    let sub = bus.subscribe("tl.a.room.r.e").unwrap();
    assert!(bus.flush(soon()).await);
    let publisher = bus.clone();
    let publishing = std::thread::spawn(move || {
        for number in 0..MESSAGES {
            publisher.publish("tl.a.room.r.e", number.to_be_bytes()).unwrap();
        }
    });
    let mut next = 0;
    while next < MESSAGES {
        for event in batch(&mut feed).await {
            if let FeedEvent::Message { sub: got, payload, seq, .. } = event {
                assert_eq!((got, &payload[..], seq), (sub, &next.to_be_bytes()[..], None));
                next += 1;
            }
        }
    }
    publishing.join().unwrap();
    bus.unsubscribe(sub);
    child.stop().await;
}

#[tokio::test]
async fn work_is_counted() {
    let dir = TempDir::new("metrics");
    let child = server(&dir).await;
    let registry = prometheus::Registry::new();
    let bus = Bus::connect(BusConfig::for_server(child.url()), &registry).await.unwrap();
    // A second bus of the process needs a name of its own.
    assert!(Bus::connect(BusConfig::for_server(child.url()), &registry).await.is_err());
    let other = BusConfig { name: "other".to_owned(), ..BusConfig::for_server(child.url()) };
    let _other = Bus::connect(other, &registry).await.unwrap();
    bus.ensure_stream(&events()).await.unwrap();
    bus.append(Append::unique("tl.a.u.r.1", "x"), soon()).await.unwrap();
    bus.append(Append::unique("tl.a.u.r.1", "x"), soon()).await.unwrap_err();
    bus.publish("tl.a.room.r.e", "xy").unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    for line in [
        "trunkline_bus_connected{connection=\"trunkline\"} 1",
        "trunkline_bus_appended_total{connection=\"trunkline\"} 1",
        "trunkline_bus_append_errors_total{connection=\"trunkline\",kind=\"conflict\"} 1",
        "trunkline_bus_published_bytes_total{connection=\"trunkline\"} 2",
        "trunkline_bus_ack_seconds_count{connection=\"trunkline\"} 1",
    ] {
        assert!(text.contains(line), "{line} is missing in {text}");
    }
    child.stop().await;
}
