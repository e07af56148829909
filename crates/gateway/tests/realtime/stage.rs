//! A cluster of gateways on a real nats-server, and the coordinator's part.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bus::child::{ChildOptions, NatsChild};
use bus::{Append, Bus, BusConfig, Requests};
use cluster::Envelope;
use cluster::coordination::{self, Reply, Request};
use cluster::subject::{RoomClass, RoomSubjects, slot_of};
use domain::UserId;
use domain::call::{Call, CallId, Kind, Leg, Medium, Person, Seat, Status, Subject, View, call_room};
use gateway::{Deps, Gateway, RunningGateway};
use serde_json::{Value, json};
use telemetry::Readiness;

pub const APP: &str = "t";
pub const SECRET: &str = "s";
const PATIENCE: Duration = Duration::from_secs(20);

pub async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.expect("nothing came")
}

pub struct Stage {
    directory: PathBuf,
    nats: NatsChild,
    pub bus: Bus,
    pub nodes: Vec<RunningGateway>,
    requests: Requests,
    told: u64,
}

impl Stage {
    pub async fn start(name: &str, nodes: usize, presence: Value) -> Self {
        let directory = std::env::temp_dir().join(format!("gateway-realtime-{}-{name}", std::process::id()));
        let nats = NatsChild::start(ChildOptions::new(directory.join("nats"))).await.unwrap();
        let mut running = Vec::new();
        for _ in 0..nodes {
            let deps = Deps {
                bus: BusConfig::for_server(nats.url()),
                replicas: 1,
                registry: prometheus::Registry::new(),
                readiness: Readiness::new(["listeners", "bus", "lease"]),
                tracer: telemetry::trace::Tracer::off(),
                local: false,
            };
            let config = serde_json::from_value(json!({
                "node": { "shards": 1, "drain_s": 5 },
                "http": { "listen": ["127.0.0.1:0"] },
                "app": [{ "name": APP, "path": "/t/", "token": { "secret": SECRET }, "presence": presence }],
            }));
            running.push(Gateway::start(config.unwrap(), deps).await.unwrap());
        }
        let registry = prometheus::Registry::new();
        let bus = Bus::connect(BusConfig::for_server(nats.url()), &registry).await.unwrap();
        let requests = bus.serve(&coordination::subject(APP), coordination::QUEUE).unwrap();
        assert!(bus.flush(Instant::now() + PATIENCE).await);
        Self { directory, nats, bus, nodes: running, requests, told: 0 }
    }

    pub async fn stop(self) {
        for node in self.nodes {
            node.drain().await;
        }
        self.nats.stop().await;
        std::fs::remove_dir_all(self.directory).unwrap();
    }

    /// The next command, and whom to answer.
    pub async fn asked(&mut self) -> (Request, String) {
        let request = soon(self.requests.next()).await;
        (coordination::decode(&request.payload).unwrap(), request.reply)
    }

    pub fn answer(&self, reply: &str, answer: &Reply) {
        self.bus.reply(reply, coordination::encode(answer)).unwrap();
    }

    /// Stores an event for these rooms, one copy each.
    pub async fn tell(&mut self, rooms: &[&str], event: &str) {
        self.store(rooms, event, None).await;
    }

    /// Stores a call's state for those in its room.
    pub async fn show(&mut self, call: &Call) {
        let room = call_room(&call.id);
        let view = coordination::encode(&View::of(call));
        self.store(&[room.as_str()], "", Some(&view)).await;
    }

    async fn store(&mut self, rooms: &[&str], event: &str, view: Option<&[u8]>) {
        self.told += 1;
        let id = format!("{:026}", self.told);
        let copies = rooms.iter().enumerate().map(|(at, room)| {
            let subject = RoomSubjects::new(APP, room).event(slot_of(clock_ms()), &id);
            Append::unique(subject, envelope(rooms, at, event, view).encode())
        });
        let deadline = Instant::now() + PATIENCE;
        match copies.collect::<Vec<_>>() {
            mut one if one.len() == 1 => self.bus.append(one.remove(0), deadline).await.unwrap(),
            several => self.bus.append_batch(several, deadline).await.unwrap(),
        };
    }

    /// Publishes an event to a room, as gateways relay signals.
    pub fn signal(&self, room: &str, event: &str) {
        let subject = RoomSubjects::new(APP, room).class(RoomClass::Ephemeral);
        self.bus.publish(&subject, envelope(&[room], 0, event, None).encode()).unwrap();
    }
}

fn envelope<'a>(rooms: &[&'a str], at: usize, event: &'a str, view: Option<&'a [u8]>) -> Envelope<'a> {
    Envelope {
        id: rand::random(),
        rooms: rooms.to_vec(),
        at: u16::try_from(at).unwrap(),
        namespace: "/",
        event,
        tail: b"{}",
        attachments: Vec::new(),
        except: Vec::new(),
        view,
        receipt: None,
        trace: None,
    }
}

fn clock_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

pub fn user(id: &str) -> UserId {
    UserId::new(id).unwrap()
}

/// A live call of two with these users and devices.
pub fn call_of(id: &CallId, rev: u64, seats: &[(&str, Option<&str>)]) -> Call {
    let seat = |(who, device): &(&str, Option<&str>)| Seat {
        who: Person { user: user(who), wire_id: (*who).into(), name: None, role: None },
        leg: device.map_or(Leg::Left, |device| Leg::Joined { device: device.into(), since_ms: 1 }),
    };
    Call {
        id: id.clone(),
        kind: Kind::OneToOne,
        medium: Medium::Video,
        status: Status::Accepted,
        subject: Subject::default(),
        seats: seats.iter().map(seat).collect(),
        created_ms: 1,
        ring_until_ms: 1,
        accepted_ms: Some(1),
        ended_ms: None,
        reason: None,
        ended_by: None,
        said: None,
        media: Default::default(),
        rev,
        done: Default::default(),
    }
}
