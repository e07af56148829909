//! Prints how fast one bus appends and publishes on a private nats-server: `cargo run --release -p bus --example bus_rate`.

use std::time::{Duration, Instant};

use bus::child::{ChildOptions, NatsChild};
use bus::{Append, Bus, BusConfig, FeedEvent, StreamSpec};
use futures_util::StreamExt;
use futures_util::stream;

const APPENDS: usize = 200_000;
const PUBLISHES: usize = 500_000;
/// Appends on their way at once.
const WINDOW: usize = 2_000;
const PAYLOAD: [u8; 128] = [b'x'; 128];

type AnyError = Box<dyn std::error::Error>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), AnyError> {
    let dir = std::env::temp_dir().join(format!("trunkline-bus-rate-{}", std::process::id()));
    let child = NatsChild::start(ChildOptions::new(&dir)).await?;
    let bus = Bus::connect(BusConfig::for_server(child.url()), &prometheus::Registry::new()).await?;
    bus.ensure_stream(&StreamSpec::new("RATE", ["rate.s.>".to_owned()])).await?;
    lone_appends(&bus).await?;
    pipelined_appends(&bus).await?;
    publishes(&bus).await?;
    child.stop().await;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

async fn lone_appends(bus: &Bus) -> Result<(), AnyError> {
    const COUNT: u32 = 8;
    let start = Instant::now();
    for id in 0..COUNT {
        bus.append(Append::unique(format!("rate.s.lone.{id}"), &PAYLOAD[..]), deadline()).await?;
    }
    println!("one append after the other: {:?} each", start.elapsed() / COUNT);
    Ok(())
}

async fn pipelined_appends(bus: &Bus) -> Result<(), AnyError> {
    let start = Instant::now();
    let mut acks = stream::iter(0..APPENDS)
        .map(|id| bus.append(Append::unique(format!("rate.s.many.{id}"), &PAYLOAD[..]), deadline()))
        .buffer_unordered(WINDOW);
    while let Some(ack) = acks.next().await {
        ack?;
    }
    println!("pipelined appends: {:.0}/s", APPENDS as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

async fn publishes(bus: &Bus) -> Result<(), AnyError> {
    let mut feed = bus.feed().ok_or("the feed is taken")?;
    bus.subscribe("rate.e.>")?;
    bus.flush(deadline()).await;
    let start = Instant::now();
    let publisher = bus.clone();
    let publishing = std::thread::spawn(move || {
        for id in 0..PUBLISHES {
            while publisher.publish(&format!("rate.e.{}", id % 100), PAYLOAD).is_err() {
                std::thread::yield_now();
            }
        }
    });
    let (mut received, mut events) = (0, Vec::new());
    while received < PUBLISHES {
        feed.next_batch(&mut events).await;
        for event in events.drain(..) {
            match event {
                FeedEvent::Message { .. } => received += 1,
                FeedEvent::Lost { messages, .. } => received += messages as usize,
                _ => {}
            }
        }
    }
    println!("publish and receive back: {:.0}/s", PUBLISHES as f64 / start.elapsed().as_secs_f64());
    publishing.join().map_err(|_| "the publisher panicked")?;
    Ok(())
}
