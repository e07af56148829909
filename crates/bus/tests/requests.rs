//! Requests and responders.
// Clippy does not see that helpers outside `#[test]` are tests too.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, Instant};

use bus::{Bus, Request, RequestError, Requests};
use futures_util::future::join_all;
use support::{TempDir, connect, kill9, server, soon};

async fn next(requests: &mut Requests) -> Request {
    tokio::time::timeout(Duration::from_secs(15), requests.next()).await.expect("no request came")
}

/// Answers `count` requests with their own text and the responder's name.
async fn answer(bus: &Bus, requests: &mut Requests, name: &str, count: usize) {
    for _ in 0..count {
        let request = next(requests).await;
        let text = format!("{name}:{}", String::from_utf8_lossy(&request.payload));
        bus.reply(&request.reply, text).unwrap();
    }
}

#[tokio::test]
async fn each_request_is_answered_by_one_of_the_group() {
    let dir = TempDir::new("requests");
    let child = server(&dir).await;
    let (asker, a, b) =
        (connect(&child.url()).await, connect(&child.url()).await, connect(&child.url()).await);
    assert_eq!(asker.request("work", b"", soon()).await, Err(RequestError::NoResponders));
    let (mut at_a, mut at_b) = (a.serve("work", "group").unwrap(), b.serve("work", "group").unwrap());
    assert!(a.flush(soon()).await && b.flush(soon()).await);
    let asked: Vec<String> = (0..200).map(|id| id.to_string()).collect();
    let answers = join_all(asked.iter().map(|text| asker.request("work", text.as_bytes(), soon())));
    let (answers, counts) = tokio::join!(answers, async {
        let (mut from_a, mut from_b) = (0, 0);
        while from_a + from_b < 200 {
            tokio::select! {
                request = at_a.next() => { from_a += 1; a.reply(&request.reply, request.payload).unwrap(); }
                request = at_b.next() => { from_b += 1; b.reply(&request.reply, request.payload).unwrap(); }
            }
        }
        (from_a, from_b)
    });
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers, asked);
    assert!(counts.0 > 0 && counts.1 > 0, "{counts:?}");
    child.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_or_is_not_answered_is_told() {
    let dir = TempDir::new("unanswered");
    let child = server(&dir).await;
    let bus = connect(&child.url()).await;
    let mut requests = bus.serve("work", "group").unwrap();
    let bad = bus.request("a b", b"", soon()).await;
    assert_eq!(bad, Err(RequestError::Subject { subject: "a b".to_owned() }));
    let limit = bus.server_info().max_payload;
    let large = bus.request("work", &vec![0; limit + 1], soon()).await;
    assert_eq!(large, Err(RequestError::TooLarge { bytes: limit + 1, limit }));
    assert!(bus.serve("work", "a group").is_err());
    let over = bus.request("work", b"late", Instant::now() + Duration::from_millis(1)).await;
    assert_eq!(over, Err(RequestError::TimedOut));
    let late = next(&mut requests).await;
    // Nobody waits for it any more, and nobody is disturbed.
    bus.reply(&late.reply, "late").unwrap();
    let (answered, ()) =
        tokio::join!(bus.request("work", b"1", soon()), answer(&bus, &mut requests, "me", 1));
    assert_eq!(answered.unwrap(), "me:1");
    // A message that asks for no answer is no request.
    bus.publish("work", "x").unwrap();
    let asking = bus.request("work", b"lost", soon());
    assert_eq!(next(&mut requests).await.payload, "lost");
    kill9(child.pid());
    assert_eq!(asking.await, Err(RequestError::Lost));
    child.stop().await;
}

#[tokio::test]
async fn responders_survive_a_restart() {
    let dir = TempDir::new("restart");
    let child = server(&dir).await;
    let (asker, bus) = (connect(&child.url()).await, connect(&child.url()).await);
    let mut requests = bus.serve("work", "group").unwrap();
    assert!(bus.flush(soon()).await);
    kill9(child.pid());
    let asking = async {
        loop {
            match asker.request("work", b"again", soon()).await {
                Err(RequestError::Lost | RequestError::NoResponders) => {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                done => break done,
            }
        }
    };
    let (answered, ()) = tokio::join!(asking, answer(&bus, &mut requests, "me", 1));
    assert_eq!(answered.unwrap(), "me:again");
    child.stop().await;
}

#[tokio::test]
async fn a_stopped_responder_has_every_request_it_was_given() {
    let dir = TempDir::new("stop");
    let child = server(&dir).await;
    let (asker, bus) = (connect(&child.url()).await, connect(&child.url()).await);
    let requests = bus.serve("work", "group").unwrap();
    assert!(bus.flush(soon()).await);
    let asked: Vec<_> = (0..500).map(|_| asker.request("work", b"x", soon())).collect();
    assert!(asker.flush(soon()).await);
    let rest = requests.stop(soon()).await;
    assert_eq!(rest.len(), 500);
    for request in rest {
        bus.reply(&request.reply, request.payload).unwrap();
    }
    assert!(join_all(asked).await.into_iter().all(|answer| answer.is_ok()));
    assert_eq!(asker.request("work", b"", soon()).await, Err(RequestError::NoResponders));
    child.stop().await;
}

#[tokio::test]
async fn a_responder_that_does_not_read_holds_a_bounded_number() {
    let dir = TempDir::new("slow");
    let child = server(&dir).await;
    let (asker, bus) = (connect(&child.url()).await, connect(&child.url()).await);
    let requests = bus.serve("work", "group").unwrap();
    assert!(bus.flush(soon()).await);
    for _ in 0..5000 {
        drop(asker.request("work", b"x", soon()));
    }
    assert!(asker.flush(soon()).await);
    assert_eq!(requests.stop(soon()).await.len(), 4096);
    child.stop().await;
}
