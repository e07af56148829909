//! Three servers: replicated streams, echoes, the loss of a leader.

mod support;

use std::time::{Duration, Instant};

use bus::child::{ChildOptions, NatsCluster};
use bus::{Append, Bus, FeedEvent, StreamSpec};
use futures_util::future::try_join_all;
use support::{TempDir, connect, kill9, read_until, soon};

fn events() -> StreamSpec {
    StreamSpec {
        replicas: 3,
        allow_atomic: true,
        republish: Some(("u.*.*".to_owned(), "room.{{wildcard(1)}}.d".to_owned())),
        ..StreamSpec::new("EV", ["u.>".to_owned()])
    }
}

async fn ensure(bus: &Bus) {
    bus.ensure_stream(&events()).await.expect("a stream, once a leader is elected");
}

#[tokio::test]
async fn nodes_that_start_at_once_make_one_stream_in_a_young_cluster() {
    let dir = TempDir::new("ensure");
    let cluster = NatsCluster::start(dir.path(), &ChildOptions::default()).await.unwrap();
    let buses = try_join_all(cluster.urls().iter().map(|url| async { Ok::<_, ()>(connect(url).await) }))
        .await
        .unwrap();
    let copies = async |replicas| {
        let spec = StreamSpec { replicas, ..StreamSpec::new("COPIES", ["copies.>".to_owned()]) };
        buses[0].ensure_stream(&spec).await.unwrap().replicas
    };
    assert_eq!(copies(1).await, 1);
    assert_eq!(copies(3).await, 3);
    assert_eq!(copies(1).await, 3, "copies are never taken away");
    for round in 0..6 {
        let spec =
            StreamSpec { replicas: 3, ..StreamSpec::new(format!("S{round}"), [format!("s{round}.>")]) };
        let states = try_join_all(buses.iter().map(|bus| bus.ensure_stream(&spec))).await.unwrap();
        assert!(states.iter().all(|state| state.replicas == 3));
        if round == 2 {
            kill9(cluster.server(0).pid());
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn every_node_appends_echoes_and_sees_one_order() {
    let dir = TempDir::new("cluster");
    let cluster = NatsCluster::start(dir.path(), &ChildOptions::default()).await.unwrap();
    let mut buses = Vec::new();
    for url in cluster.urls() {
        buses.push(connect(&url).await);
    }
    assert!(buses[0].server_info().clustered);
    ensure(&buses[0]).await;
    assert_eq!(buses[1].echo(3, soon()).await, 3);
    // One more than there are: the wait is over after 200 ms.
    assert_eq!(buses[1].echo(4, soon()).await, 3);
    let mut feeds: Vec<_> = buses.iter().map(|bus| bus.feed().unwrap()).collect();
    for round in 0..20 {
        for (index, bus) in buses.iter().enumerate() {
            bus.subscribe(&format!("room.{round}.*")).unwrap();
            bus.barrier(Append::unique(format!("u.marker.{round}-{index}"), ""), soon()).await.unwrap();
            assert_eq!(bus.echo(3, soon()).await, 3);
        }
        let publisher = &buses[round % 3];
        publisher.publish(&format!("room.{round}.e"), "now").unwrap();
        let seq = publisher.append(Append::unique(format!("u.{round}.1"), "x"), soon()).await.unwrap();
        for feed in &mut feeds {
            let (mut stored, mut ephemeral) = (false, false);
            read_until(feed, |event| {
                if let FeedEvent::Message { seq: got, .. } = event {
                    stored |= *got == Some(seq);
                    ephemeral |= got.is_none();
                }
                stored && ephemeral
            })
            .await;
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn appends_survive_the_loss_of_a_server() {
    let dir = TempDir::new("leader");
    let cluster = NatsCluster::start(dir.path(), &ChildOptions::default()).await.unwrap();
    let bus = connect(&cluster.urls()[0]).await;
    ensure(&bus).await;
    let mut feed = bus.feed().unwrap();
    for victim in [1, 2] {
        let deadline = Instant::now() + Duration::from_secs(40);
        let appends: Vec<_> = (0..200)
            .map(|id| bus.append(Append::unique(format!("u.v{victim}.{id}"), "x"), deadline))
            .collect();
        kill9(cluster.server(victim).pid());
        try_join_all(appends).await.unwrap();
        cluster.server(victim).wait_healthy(deadline).await.unwrap();
    }
    assert_eq!(bus.stream_state("EV").await.unwrap().messages, 400);
    read_until(&mut feed, |event| matches!(event, FeedEvent::LeaderChanged { stream, .. } if stream == "EV"))
        .await;
    cluster.stop().await;
}
