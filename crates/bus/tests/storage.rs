//! Streams, reads and KV on one server.
// Clippy does not see that helpers outside `#[test]` are tests too.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use bus::{
    Append, AppendError, BucketSpec, Bus, BusError, ChangeKind, KvWatch, ReadError, ReadOptions, StreamSpec,
    WatchEvent,
};
use bytes::Bytes;
use futures_util::future::try_join_all;
use support::{TempDir, connect, server, soon};

async fn next(watch: &mut KvWatch) -> WatchEvent {
    tokio::time::timeout(Duration::from_secs(15), watch.next()).await.expect("the watch is silent")
}

fn change(event: &WatchEvent) -> (&str, &ChangeKind) {
    match event {
        WatchEvent::Change(change) => (&change.key, &change.kind),
        WatchEvent::Synced => panic!("synced"),
    }
}

async fn fill(bus: &Bus, room: &str, count: u32) -> Vec<u64> {
    let appends =
        (0..count).map(|id| bus.append(Append::unique(format!("s.{room}.{id}"), id.to_string()), soon()));
    try_join_all(appends).await.unwrap()
}

#[tokio::test]
async fn streams_are_made_once_and_raised_where_safe() {
    let dir = TempDir::new("stream");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    let spec = StreamSpec::new("S", ["s.>".to_owned()]);
    bus.ensure_stream(&spec).await.unwrap();
    let seq = bus.append(Append::unique("s.a.1", "x"), soon()).await.unwrap();
    let state = bus.ensure_stream(&spec).await.unwrap();
    assert_eq!((state.last_seq, state.messages, state.replicas), (seq, 1, 1));
    assert!(state.first_time_ms.is_some());
    let raised = StreamSpec {
        allow_atomic: true,
        allow_msg_ttl: true,
        allow_msg_schedules: true,
        max_age: Duration::from_secs(3600),
        republish: Some(("s.*.*".to_owned(), "r.{{wildcard(1)}}".to_owned())),
        subjects: vec!["s.>".to_owned(), "t.>".to_owned()],
        ..spec.clone()
    };
    bus.ensure_stream(&raised).await.unwrap();
    bus.ensure_stream(&raised).await.unwrap();
    bus.append_batch(vec![Append::unique("t.1", "x")], soon()).await.unwrap();
    let foreign = StreamSpec { subjects: vec!["other.>".to_owned()], ..spec.clone() };
    assert!(matches!(bus.ensure_stream(&foreign).await, Err(BusError::StreamMismatch { .. })));
    let replicated = StreamSpec { replicas: 3, ..spec };
    assert!(bus.ensure_stream(&replicated).await.is_err());
    child.stop().await;
}

#[tokio::test]
async fn reads_are_indexed_bounded_and_ordered() {
    let dir = TempDir::new("read");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_stream(&StreamSpec::new("S", ["s.>".to_owned()])).await.unwrap();
    let small = fill(&bus, "a", 40).await;
    fill(&bus, "b", 1500).await;
    let all = |subjects: &[&str]| subjects.iter().map(ToString::to_string).collect::<Vec<_>>();
    let read = bus.read_last("S", &all(&["s.a.*"]), ReadOptions::default()).await.unwrap();
    assert_eq!(read.iter().map(|stored| stored.seq).collect::<Vec<_>>(), small);
    assert!(read.iter().enumerate().all(|(index, stored)| stored.payload == index.to_string()));
    assert!(read[0].time_ms > 1_700_000_000_000);
    let floor = ReadOptions { start_seq: Some(small[30]), batch: Some(5) };
    let read = bus.read_last("S", &all(&["s.a.*"]), floor).await.unwrap();
    assert_eq!(read.iter().map(|stored| stored.seq).collect::<Vec<_>>(), small[30..35]);
    let literal =
        bus.read_last("S", &all(&["s.a.3", "s.a.1", "s.none"]), ReadOptions::default()).await.unwrap();
    assert_eq!(literal.iter().map(|stored| &stored.subject[..]).collect::<Vec<_>>(), ["s.a.1", "s.a.3"]);
    let none = bus.read_last("S", &all(&["s.none.*"]), ReadOptions::default()).await.unwrap();
    assert!(none.is_empty());
    let too_many = bus.read_last("S", &all(&["s.b.*"]), ReadOptions::default()).await;
    assert_eq!(too_many, Err(ReadError::TooMany));
    let scanned = bus.read_from("S", "s.b.*", 1, usize::MAX).await.unwrap();
    assert_eq!(scanned.len(), 1500);
    assert!(scanned.is_sorted_by_key(|stored| stored.seq));
    assert_eq!(bus.read_from("S", "s.b.*", 1, 10).await.unwrap().len(), 10);
    assert_eq!(bus.get_last("S", "s.a.7").await.unwrap().unwrap().payload, "7");
    assert_eq!(bus.get_last("S", "s.a.none").await.unwrap(), None);
    assert!(matches!(bus.get_last("S", "s.a.*").await, Err(ReadError::Subject { .. })));
    assert_eq!(bus.get_last_matching("S", "s.a.*").await.unwrap().unwrap().payload, "39");
    assert_eq!(bus.get_last_matching("S", "s.b.>").await.unwrap().unwrap().payload, "1499");
    assert_eq!(bus.get_last_matching("S", "s.none.*").await.unwrap(), None);
    assert!(matches!(bus.get_last_matching("S", "s.>.a").await, Err(ReadError::Subject { .. })));
    let leader = bus.get_last_at_leader("S", "s.a.7").await.unwrap();
    assert_eq!(
        leader,
        bus.get_last("S", "s.a.7")
            .await
            .unwrap()
            .map(|stored| bus::Stored { headers: leader.clone().unwrap().headers, ..stored })
    );
    assert_eq!(bus.get_last_at_leader("S", "s.a.none").await.unwrap(), None);
    child.stop().await;
}

#[tokio::test]
async fn keys_are_compared_set_listed_and_deleted() {
    let dir = TempDir::new("kv");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_bucket(&BucketSpec::new("b", 1)).await.unwrap();
    bus.ensure_bucket(&BucketSpec::new("b", 1)).await.unwrap();
    let value = |text: &'static str| Bytes::from_static(text.as_bytes());
    let first = bus.kv_create("b", "u.1", value("x"), None).await.unwrap();
    let conflict = bus.kv_create("b", "u.1", value("y"), None).await;
    assert_eq!(conflict, Err(AppendError::Conflict { last: Some(first) }));
    let second = bus.kv_put("b", "u.1", value("y"), None, Some(first)).await.unwrap();
    assert!(bus.kv_put("b", "u.1", value("z"), None, Some(first)).await.is_err());
    assert!(bus.kv_delete("b", "u.1", Some(first)).await.is_err());
    bus.kv_put("b", "u.2", value("other"), None, None).await.unwrap();
    let listed = bus.kv_list("b", "u.*").await.unwrap();
    assert_eq!(
        listed.iter().map(|entry| (&entry.key[..], entry.rev)).collect::<Vec<_>>()[0],
        ("u.1", second)
    );
    assert_eq!(listed.len(), 2);
    let marker = bus.kv_delete("b", "u.1", Some(second)).await.unwrap();
    let gone = bus.kv_get("b", "u.1").await.unwrap().unwrap();
    assert_eq!((gone.rev, gone.value), (marker, None));
    assert_eq!(bus.kv_list("b", "u.*").await.unwrap().len(), 1);
    let created = bus.kv_create("b", "u.1", value("again"), None).await.unwrap();
    let entry = bus.kv_get_at_leader("b", "u.1").await.unwrap().unwrap();
    assert_eq!((entry.rev, entry.value), (created, Some(value("again"))));
    assert_eq!(bus.kv_get("b", "none").await.unwrap(), None);
    child.stop().await;
}

#[tokio::test]
async fn many_keys_are_listed_by_a_scan() {
    let dir = TempDir::new("kvlist");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_bucket(&BucketSpec::new("b", 1)).await.unwrap();
    let puts = (0..1300).map(|id| {
        let bus = bus.clone();
        async move { bus.kv_put("b", &format!("k.{id}"), Bytes::from_static(b"v"), None, None).await }
    });
    try_join_all(puts).await.unwrap();
    assert_eq!(bus.kv_list("b", ">").await.unwrap().len(), 1300);
    child.stop().await;
}

#[tokio::test]
async fn a_watch_lists_follows_and_sees_expiry() {
    let dir = TempDir::new("watch");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_bucket(&BucketSpec::new("b", 1)).await.unwrap();
    bus.kv_put("b", "u.1", Bytes::from_static(b"x"), None, None).await.unwrap();
    let mut watch = bus.kv_watch("b", "u.*", Duration::from_secs(60));
    assert_eq!(change(&next(&mut watch).await), ("u.1", &ChangeKind::Put(Bytes::from_static(b"x"))));
    assert_eq!(next(&mut watch).await, WatchEvent::Synced);
    let ttl = Some(Duration::from_secs(1));
    bus.kv_put("b", "u.lease", Bytes::from_static(b"l"), ttl, None).await.unwrap();
    bus.kv_delete("b", "u.1", None).await.unwrap();
    assert_eq!(change(&next(&mut watch).await), ("u.lease", &ChangeKind::Put(Bytes::from_static(b"l"))));
    assert_eq!(change(&next(&mut watch).await), ("u.1", &ChangeKind::Deleted { expired: false }));
    assert_eq!(change(&next(&mut watch).await), ("u.lease", &ChangeKind::Deleted { expired: true }));
    // The marker of an expired lease does not hinder a new one, and the new one expires too.
    bus.kv_create("b", "u.lease", Bytes::from_static(b"m"), ttl).await.unwrap();
    assert_eq!(change(&next(&mut watch).await), ("u.lease", &ChangeKind::Put(Bytes::from_static(b"m"))));
    assert_eq!(change(&next(&mut watch).await), ("u.lease", &ChangeKind::Deleted { expired: true }));
    child.stop().await;
}

#[tokio::test]
async fn a_watch_survives_a_restart_and_lists_again_without_repeats() {
    let dir = TempDir::new("rewatch");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_bucket(&BucketSpec::new("b", 1)).await.unwrap();
    let mut watch = bus.kv_watch("b", ">", Duration::from_millis(200));
    bus.kv_put("b", "k", Bytes::from_static(b"1"), None, None).await.unwrap();
    let mut changes = 0;
    for _ in 0..5 {
        if next(&mut watch).await != WatchEvent::Synced {
            changes += 1;
        }
    }
    assert_eq!(changes, 1);
    support::kill9(child.pid());
    bus.kv_put("b", "k", Bytes::from_static(b"2"), None, None).await.unwrap();
    loop {
        match next(&mut watch).await {
            WatchEvent::Synced => {}
            event => break assert_eq!(change(&event), ("k", &ChangeKind::Put(Bytes::from_static(b"2")))),
        }
    }
    child.stop().await;
}
