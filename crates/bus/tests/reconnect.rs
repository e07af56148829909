//! A server that dies and comes back.

mod support;

use std::time::{Duration, Instant};

use bus::child::{ChildOptions, NatsChild};
use bus::{Append, AppendError, Bus, BusConfig, ConnectError, FeedEvent, PublishError, StreamSpec};
use futures_util::future::try_join_all;
use support::{TempDir, batch, connect, kill9, read_until, server, signal, soon};
use tokio::io::AsyncWriteExt;

fn events() -> StreamSpec {
    StreamSpec {
        republish: Some(("u.*.*".to_owned(), "room.{{wildcard(1)}}".to_owned())),
        ..StreamSpec::new("EV", ["u.>".to_owned()])
    }
}

#[tokio::test]
async fn a_restarted_server_finds_subscriptions_and_appends_again() {
    let dir = TempDir::new("kill");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_stream(&events()).await.unwrap();
    let mut feed = bus.feed().unwrap();
    bus.subscribe("room.a").unwrap();
    bus.append(Append::unique("u.a.1", "1"), soon()).await.unwrap();
    read_until(&mut feed, |event| matches!(event, FeedEvent::Message { .. })).await;
    kill9(child.pid());
    // Queued while the server is dying: stored once, inside the deadline.
    let appends: Vec<_> =
        (2..200).map(|id| bus.append(Append::unique(format!("u.a.{id}"), "x"), soon())).collect();
    try_join_all(appends).await.unwrap();
    assert_eq!(bus.stream_state("EV").await.unwrap().messages, 199);
    let seen = read_until(&mut feed, |event| *event == FeedEvent::Connected { first: false }).await;
    assert!(seen.iter().any(|event| matches!(event, FeedEvent::Disconnected { .. })));
    let seq = bus.append(Append::unique("u.a.live", "2"), soon()).await.unwrap();
    read_until(&mut feed, |event| matches!(event, FeedEvent::Message { seq: Some(got), .. } if *got == seq))
        .await;
    assert!(bus.is_connected());
    child.stop().await;
}

#[tokio::test]
async fn retries_store_once_while_the_server_keeps_dying() {
    let dir = TempDir::new("once");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_stream(&events()).await.unwrap();
    for round in 0..4 {
        let deadline = Instant::now() + Duration::from_secs(20);
        let appends: Vec<_> = (0..300)
            .map(|id| match id % 2 {
                0 => bus.append(Append::unique(format!("u.{round}.{id}"), "x"), deadline),
                _ => bus.append(Append::to(format!("u.{round}.{id}"), "x"), deadline),
            })
            .collect();
        // Let some be on their way: the writer runs when this task yields.
        tokio::task::yield_now().await;
        let pid = child.pid();
        kill9(pid);
        try_join_all(appends).await.unwrap();
        while child.pid() == pid {
            tokio::task::yield_now().await;
        }
    }
    bus.append(Append::unique("u.last.1", "x"), soon()).await.unwrap();
    assert_eq!(bus.stream_state("EV").await.unwrap().messages, 1201);
    child.stop().await;
}

#[tokio::test]
async fn retried_batches_are_stored_once_and_answer_their_last_sequence() {
    const BATCHES: u64 = 50;
    let dir = TempDir::new("batches");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    bus.ensure_stream(&StreamSpec { allow_atomic: true, ..events() }).await.unwrap();
    for round in 0..3 {
        let message = |id: u64, part: u64| Append::unique(format!("u.{round}.{id}-{part}"), "x");
        let batches: Vec<_> = (0..BATCHES)
            .map(|id| bus.append_batch((0..3).map(|part| message(id, part)).collect(), soon()))
            .collect();
        tokio::task::yield_now().await;
        let pid = child.pid();
        kill9(pid);
        let last = try_join_all(batches).await.unwrap();
        for (id, seq) in last.into_iter().enumerate() {
            let stored = bus.get_last("EV", &format!("u.{round}.{id}-2")).await.unwrap().unwrap();
            assert_eq!(stored.seq, seq);
        }
        while child.pid() == pid {
            tokio::task::yield_now().await;
        }
        assert_eq!(bus.stream_state("EV").await.unwrap().messages, (round + 1) * BATCHES * 3);
    }
    child.stop().await;
}

#[tokio::test]
async fn a_paused_server_is_noticed_and_ephemeral_messages_are_bounded() {
    let dir = TempDir::new("pause");
    let child = server(&dir).await;
    let config = BusConfig {
        ping_interval_ms: 100,
        max_pending_bytes: 10_000,
        publish_timeout_ms: 100,
        ..BusConfig::for_server(child.url())
    };
    let bus = Bus::connect(config, &prometheus::Registry::new()).await.unwrap();
    bus.ensure_stream(&events()).await.unwrap();
    let mut feed = bus.feed().unwrap();
    signal("-STOP", child.pid());
    let append = bus.append(Append::unique("u.a.1", "x"), Instant::now() + Duration::from_millis(300)).await;
    assert!(matches!(append, Err(AppendError::Unavailable { .. })), "{append:?}");
    read_until(&mut feed, |event| matches!(event, FeedEvent::Disconnected { .. })).await;
    assert!(!bus.is_connected());
    let mut taken = 0;
    while bus.publish("room.x", [0; 100]).is_ok() {
        taken += 1;
        assert!(taken < 200);
    }
    assert_eq!(bus.publish("room.x", [0; 100]), Err(PublishError::Overloaded));
    signal("-CONT", child.pid());
    read_until(&mut feed, |event| *event == FeedEvent::Connected { first: false }).await;
    child.stop().await;
}

#[tokio::test]
async fn an_unreachable_or_old_server_is_named() {
    let registry = prometheus::Registry::new();
    let error = Bus::connect(BusConfig::for_server("nats://127.0.0.1:9"), &registry).await.unwrap_err();
    assert!(error.to_string().contains("127.0.0.1:9"), "{error}");
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let greeting = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let info = br#"INFO {"server_name":"old","version":"2.10.29","max_payload":1048576}"#;
        stream.write_all(&[&info[..], b"\r\nPONG\r\n"].concat()).await.unwrap();
        stream
    });
    let error = Bus::connect(BusConfig::for_server(url), &registry).await.unwrap_err();
    assert!(matches!(error, ConnectError::TooOld { .. }), "{error}");
    assert!(error.to_string().contains("2.12 or newer"), "{error}");
    greeting.await.unwrap();
}

#[tokio::test]
async fn a_login_is_needed_where_the_server_wants_one() {
    let dir = TempDir::new("password");
    let options = ChildOptions {
        extra_config: "authorization { user: u, password: p }\n".to_owned(),
        ..ChildOptions::new(dir.path())
    };
    let child = NatsChild::start(options).await.unwrap();
    let error =
        Bus::connect(BusConfig::for_server(child.url()), &prometheus::Registry::new()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Login { .. }), "{error}");
    let auth = bus::Auth::UserPassword { user: "u".to_owned(), password: bus::Secret::new("p") };
    let config = BusConfig { auth, ..BusConfig::for_server(child.url()) };
    let bus = Bus::connect(config, &prometheus::Registry::new()).await.unwrap();
    let mut feed = bus.feed().unwrap();
    assert_eq!(batch(&mut feed).await, [FeedEvent::Connected { first: true }]);
    child.stop().await;
}
