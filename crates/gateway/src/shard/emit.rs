//! Events on their way to rooms, from sockets and from back ends: encoded once per room, published or stored. Who may tell what
//! is decided before.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bus::{Append, AppendError};
use bytes::Bytes;
use cluster::sid::ulid;
use cluster::subject::{RoomClass, RoomSubjects, slot_of};
use cluster::{Envelope, Receipt, TraceParent};
use dialects::{Emission, Out};
use domain::{Rejection, RoomId};
use hub::RoomKey;

use super::Shard;
use super::commands::Actor;
use crate::app::App;
use crate::clock::unix_ms;

/// An event for rooms: one copy per socket however many of the rooms it is in.
#[derive(Clone, Debug)]
pub struct Telling<'a> {
    pub app: u16,
    /// Of the receiving sockets.
    pub namespace: &'a str,
    pub rooms: &'a [RoomId],
    pub event: &'a str,
    pub args: &'a Out,
    /// Ids of sockets that are left out.
    pub except: Vec<&'a str>,
    /// Set where the sender of a stored message waits to hear that somebody has it.
    pub receipt: Option<Receipt<'a>>,
    pub trace: Option<TraceParent>,
}

/// What makes an event one of a kind: who stores an event again under its stamp finds it stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub at_ms: u64,
    pub random: u128,
}

/// A recoverable event's copies, one per room, each under a subject of its own.
#[derive(Clone, Debug)]
pub struct Copies {
    rooms: Vec<RoomKey>,
    messages: Vec<Append>,
}

impl<'a> Telling<'a> {
    /// What a socket tells.
    pub fn of(actor: &'a Actor, emission: &'a Emission) -> Self {
        Self {
            app: actor.app,
            namespace: &actor.namespace,
            rooms: &emission.rooms,
            event: &emission.event,
            args: &emission.args,
            except: if emission.except_self { vec![&*actor.socket] } else { Vec::new() },
            receipt: None,
            trace: actor.trace(),
        }
    }

    /// Publishes it as ephemeral: in the sender's order, at most once.
    pub fn publish(&self, shard: &Shard) -> Result<(), Rejection> {
        let app = shard.shared.app(self.app);
        for (room, payload) in self.encode(rand::random()) {
            let subject = RoomSubjects::new(app.name(), room.as_str()).class(RoomClass::Ephemeral);
            if let Err(error) = shard.shared.bus.publish(&subject, payload) {
                shard.shared.metrics.publish_failures.with_label_values(&["ephemeral"]).inc();
                tracing::debug!(%error, app = app.name(), "an ephemeral event was not published");
                return Err(publish_rejection(&error));
            }
        }
        Ok(())
    }

    /// Settles once every copy is stored. A retry after a lost answer cannot store it twice.
    pub async fn store(&self, shard: &Shard, stamp: Stamp) -> Result<(), Rejection> {
        let app = shard.shared.app(self.app);
        let stored = self.prepare(app, stamp).store(shard, deadline(app)).await;
        stored.map_err(|error| append_rejection(shard, app, &error))
    }

    /// Stores what is owed to its readers: tried on in the background after the sender was told that it is late.
    pub async fn store_owed(&self, shard: &Rc<Shard>, stamp: Stamp) -> Result<(), Rejection> {
        const RETRIES: u32 = 6;
        let app = shard.shared.app(self.app);
        let copies = self.prepare(app, stamp);
        let Err(error) = copies.clone().store(shard, deadline(app)).await else { return Ok(()) };
        let (shard_again, app_ix) = (shard.clone(), self.app);
        tokio::task::spawn_local(async move {
            let app = shard_again.shared.app(app_ix);
            for _ in 0..RETRIES {
                if copies.clone().store(&shard_again, deadline(app)).await.is_ok() {
                    return;
                }
            }
            tracing::error!(app = app.name(), "a stored message was not announced");
        });
        Err(append_rejection(shard, app, &error))
    }

    fn prepare(&self, app: &App, stamp: Stamp) -> Copies {
        let (id, text) = ulid(stamp.at_ms, stamp.random);
        let message = |(room, payload): (&RoomId, Bytes)| {
            let subject = RoomSubjects::new(app.name(), room.as_str()).event(slot_of(stamp.at_ms), &text);
            Append::unique(subject, payload)
        };
        Copies {
            rooms: self.rooms.iter().map(|room| RoomKey::new(self.app, room.as_str())).collect(),
            messages: self.encode(id).map(message).collect(),
        }
    }

    /// One encoded copy per room. Every copy lists all rooms.
    fn encode(&self, id: u128) -> impl Iterator<Item = (&'a RoomId, Bytes)> {
        let mut envelope = Envelope {
            id,
            rooms: self.rooms.iter().map(RoomId::as_str).collect(),
            at: 0,
            namespace: self.namespace,
            event: self.event,
            tail: &self.args.tail,
            attachments: self.args.attachments.iter().map(|bytes| &bytes[..]).collect(),
            except: self.except.clone(),
            view: None,
            receipt: self.receipt,
            trace: self.trace,
        };
        self.rooms.iter().enumerate().map(move |(at, room)| {
            envelope.at = u16::try_from(at).unwrap_or(u16::MAX);
            (room, envelope.encode())
        })
    }
}

impl Stamp {
    pub fn now() -> Self {
        Self { at_ms: unix_ms(), random: rand::random() }
    }
}

impl Copies {
    async fn store(self, shard: &Shard, deadline: Instant) -> Result<(), AppendError> {
        let started = Instant::now();
        let Self { rooms, mut messages } = self;
        let stored = match messages.len() {
            1 => shard.shared.bus.append(messages.remove(0), deadline).await,
            _ => shard.shared.bus.append_batch(messages, deadline).await,
        };
        let last = match stored {
            Ok(last) => last,
            // Under this stamp it was told before.
            Err(AppendError::Conflict { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        shard.shared.metrics.store_seconds.observe(started.elapsed().as_secs_f64());
        // A batch's copies have consecutive sequences, in the order of the rooms.
        let first = last + 1 - rooms.len() as u64;
        for (room, seq) in rooms.into_iter().zip(first..) {
            shard.shared.node.stored(room, seq);
        }
        Ok(())
    }
}

fn deadline(app: &App) -> Instant {
    Instant::now() + Duration::from_millis(app.limits.publish_timeout_ms)
}

/// What who asked is told when something was not stored.
pub fn append_rejection(shard: &Shard, app: &App, error: &AppendError) -> Rejection {
    shard.shared.metrics.publish_failures.with_label_values(&["recoverable"]).inc();
    tracing::warn!(%error, app = app.name(), "an event was not stored");
    match error {
        AppendError::TooLarge { limit, .. } => too_large(*limit),
        _ => Rejection::Unavailable,
    }
}

fn publish_rejection(error: &bus::PublishError) -> Rejection {
    match error {
        bus::PublishError::TooLarge { limit, .. } => too_large(*limit),
        _ => Rejection::Unavailable,
    }
}

fn too_large(limit: usize) -> Rejection {
    Rejection::OverLimit { what: "event size", limit: limit as u64, setting: "max_payload of nats-server" }
}
