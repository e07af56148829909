//! The node's side of rooms, on the bus thread: one subscription per room with local members, the in-order pipeline that
//! applies an application's events in stream order, joins that settle only when they hold, and resync after gaps.
//!
//! Shards talk to it through [`Node`]; it talks to them through their feed channels. `rooms` keeps the table, `pipeline`
//! applies messages, `barrier` makes joins hold, `resync` decides when something was missed, `read` reads it.

mod barrier;
mod pipeline;
mod read;
mod resync;
mod rooms;

use std::sync::Arc;

use bus::{Bus, Feed, FeedEvent};
use cluster::sid::NodeId;
use hub::{Broadcast, RoomKey};
use tokio::sync::{mpsc, oneshot};

use crate::app::App;
use crate::clock::{Clock, Millis};
use crate::metrics::Metrics;
use barrier::{Asked, Barriers, Join, Passed, Ticket};
use resync::Cause;
use rooms::Rooms;

/// What a shard is fed, in the pipeline's order.
#[derive(Debug)]
pub enum Fed {
    Broadcasts(Vec<Arc<Broadcast>>),
    /// The room's interest holds: this shard is fed every event of it after `since`. Comes before the interest settles.
    Held {
        room: RoomKey,
        since: u64,
    },
    /// Everything of this application's stream up to `seq` was fed before.
    Barrier {
        token: u64,
        seq: u64,
    },
    /// The barrier could not be passed.
    BarrierFailed {
        token: u64,
    },
}

/// Pieces that wait for one shard. The pipeline waits beyond it: the connection's own bound, a resync, comes before memory does.
pub const FEED_DEPTH: usize = 1024;

/// Commands taken behind one batch of the feed.
const COMMANDS_PER_TURN: usize = 256;

/// The bus did not confirm in time; the caller may try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bus did not confirm in time")]
pub struct Unavailable;

/// A shard's handle to the node. Commands are small and as many as sockets have memberships: the channel needs no bound of its own.
#[derive(Clone, Debug)]
pub struct Node {
    commands: mpsc::UnboundedSender<Command>,
}

#[derive(Debug)]
enum Command {
    Interest { room: RoomKey, shard: u8, holds: Holds, done: oneshot::Sender<Result<(), Unavailable>> },
    Release { room: RoomKey, shard: u8 },
    Stored { room: RoomKey, seq: u64 },
    Barrier { app: u16, shard: u8, token: u64 },
}

/// When a room's interest holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// A marker is stored behind the subscription.
    Marked,
    /// The subscription is on its way.
    Sent,
}

impl Node {
    /// Settles when a recoverable event from any node will reach this shard. The shard's members must be in its hub before.
    pub async fn interest(&self, room: RoomKey, shard: u8) -> Result<(), Unavailable> {
        self.ask(room, shard, Holds::Marked).await
    }

    /// Settles when the subscription is on its way before all that this node sends from now on: enough for a room into which others
    /// publish for this shard only because of a request that follows. In a cluster of servers, where a request may overtake a
    /// subscription, the same as [`Node::interest`].
    pub async fn interest_ahead(&self, room: RoomKey, shard: u8) -> Result<(), Unavailable> {
        self.ask(room, shard, Holds::Sent).await
    }

    async fn ask(&self, room: RoomKey, shard: u8, holds: Holds) -> Result<(), Unavailable> {
        let (done, settled) = oneshot::channel();
        self.commands.send(Command::Interest { room, shard, holds, done }).map_err(|_| Unavailable)?;
        settled.await.map_err(|_| Unavailable)?
    }

    /// The shard has no members in the room any more.
    pub fn release(&self, room: RoomKey, shard: u8) {
        // A node that is gone has no rooms.
        let _ = self.commands.send(Command::Release { room, shard });
    }

    /// A recoverable event of this node was stored: after a quiet second the room is told how far it is.
    pub fn stored(&self, room: RoomKey, seq: u64) {
        let _ = self.commands.send(Command::Stored { room, seq });
    }

    /// Puts a barrier of the application into the shard's feed; it comes back as [`Fed::Barrier`] with this token.
    pub fn barrier(&self, app: u16, shard: u8, token: u64) {
        let _ = self.commands.send(Command::Barrier { app, shard, token });
    }
}

/// What the node's task is built from.
#[derive(Debug)]
pub struct Parts {
    pub id: NodeId,
    pub bus: Bus,
    pub feed: Feed,
    pub apps: Arc<[App]>,
    pub shards: Vec<mpsc::Sender<Fed>>,
    pub clock: Clock,
    pub metrics: Metrics,
    /// How many gateways hold a lease, this one included.
    pub nodes: tokio::sync::watch::Receiver<Arc<std::collections::HashSet<NodeId>>>,
}

/// Starts the node's task on this runtime. It ends when every [`Node`] is gone.
pub fn spawn(parts: Parts) -> Result<Node, bus::BusError> {
    let (commands, inbox) = mpsc::unbounded_channel();
    let task = Task::new(parts)?;
    tokio::spawn(task.run(inbox));
    Ok(Node { commands })
}

struct Task {
    bus: Bus,
    feed: Option<Feed>,
    apps: Arc<[App]>,
    shards: Vec<mpsc::Sender<Fed>>,
    clock: Clock,
    metrics: Metrics,
    rooms: Rooms,
    barriers: Barriers,
    streams: Vec<resync::Stream>,
    resynced: mpsc::UnboundedReceiver<resync::Finished>,
    resync_done: mpsc::UnboundedSender<resync::Finished>,
    /// Per shard, what the current turn applies.
    turn: Vec<Vec<Arc<Broadcast>>>,
}

impl Task {
    fn new(parts: Parts) -> Result<Self, bus::BusError> {
        let (resync_done, resynced) = mpsc::unbounded_channel();
        let barriers = Barriers::new(&parts)?;
        Ok(Self {
            turn: parts.shards.iter().map(|_| Vec::new()).collect(),
            streams: parts.apps.iter().map(|_| resync::Stream::default()).collect(),
            rooms: Rooms::new(),
            barriers,
            bus: parts.bus,
            feed: Some(parts.feed),
            apps: parts.apps,
            shards: parts.shards,
            clock: parts.clock,
            metrics: parts.metrics,
            resynced,
            resync_done,
        })
    }

    /// Feed first: what has arrived is applied before new interest is taken. A feed that never ends must not starve the rest:
    /// behind each of its batches everything else gets a bounded turn.
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Command>) {
        let mut feed = self.feed.take().expect("run is called once");
        let mut events: Vec<FeedEvent> = Vec::new();
        loop {
            let wake = self.clock.instant(self.next_timeout().unwrap_or(Millis::MAX / 2));
            tokio::select! {
                biased;
                () = feed.next_batch(&mut events) => {
                    self.on_feed(&mut events).await;
                    self.catch_up(&mut inbox).await;
                }
                Some(finished) = self.resynced.recv() => self.on_resynced(finished).await,
                Some(passed) = self.barriers.passed() => self.on_barrier(passed).await,
                command = inbox.recv() => match command {
                    Some(command) => {
                        self.on_command(command).await;
                        self.on_commands(&mut inbox).await;
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(wake) => self.on_timer(),
            }
        }
    }

    /// What waits besides the feed.
    async fn catch_up(&mut self, inbox: &mut mpsc::UnboundedReceiver<Command>) {
        if let Ok(finished) = self.resynced.try_recv() {
            self.on_resynced(finished).await;
        }
        // At most two per application are under way.
        for _ in 0..2 * self.apps.len() {
            let Some(passed) = self.barriers.try_passed() else { break };
            self.on_barrier(passed).await;
        }
        self.on_commands(inbox).await;
        if self.next_timeout().is_some_and(|at| at <= self.clock.now()) {
            self.on_timer();
        }
    }

    /// What has come by now; rooms that are wanted together hold behind one barrier.
    async fn on_commands(&mut self, inbox: &mut mpsc::UnboundedReceiver<Command>) {
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = inbox.try_recv() else { break };
            self.on_command(command).await;
        }
        self.barriers.start();
    }

    fn next_timeout(&self) -> Option<Millis> {
        self.rooms.next_timeout().into_iter().chain(self.barriers.next_timeout()).min()
    }

    async fn on_command(&mut self, command: Command) {
        match command {
            Command::Interest { room, shard, holds, done } => self.interest(room, shard, holds, done).await,
            Command::Release { room, shard } => self.rooms.release(&room, shard, self.clock.now()),
            Command::Stored { room, seq } => self.rooms.stored(room, seq, self.clock.now()),
            Command::Barrier { app, shard, token } => {
                self.barriers.ask_for_shard(app, Ticket { shard, token });
            }
        }
        self.metrics.rooms.set(i64::try_from(self.rooms.len()).unwrap_or(i64::MAX));
    }

    async fn interest(
        &mut self,
        room: RoomKey,
        shard: u8,
        holds: Holds,
        done: oneshot::Sender<Result<(), Unavailable>>,
    ) {
        let app = &self.apps[usize::from(room.app)];
        let fed = self.streams[usize::from(room.app)].fed;
        let added = self.rooms.add(&self.bus, app.name(), &room, shard, fed);
        match added {
            Ok(rooms::Interest::Established) => {
                self.send(shard, Fed::Held { room, since: fed }).await;
                // Nobody waits any more if this fails; the release follows.
                let _ = done.send(Ok(()));
            }
            Ok(rooms::Interest::New(sub)) if holds == Holds::Sent && !self.bus.server_info().clustered => {
                self.settle_join(Join { room, sub, done }, Ok(fed)).await;
            }
            Ok(rooms::Interest::New(sub) | rooms::Interest::Pending(sub)) => {
                self.barriers.ask_for_join(Join { room, sub, done });
            }
            Err(error) => {
                tracing::warn!(%error, app = app.name(), "room subscription refused");
                let _ = done.send(Err(Unavailable));
            }
        }
    }

    async fn on_barrier(&mut self, passed: Passed) {
        self.barriers.ended(&passed);
        let Passed { app, result, asked } = passed;
        match (asked, result) {
            (Asked::Joins(joins), result) => {
                for join in joins {
                    self.settle_join(join, result).await;
                }
            }
            (Asked::Shards(shards), Ok(seq)) => {
                self.barriers.stored(app).add(seq, shards, self.clock.now());
                self.pass_barriers(app).await;
            }
            (Asked::Shards(shards), Err(Unavailable)) => {
                for Ticket { shard, token } in shards {
                    self.send(shard, Fed::BarrierFailed { token }).await;
                }
            }
        }
    }

    /// A room whose subscription was given up meanwhile does not hold: whoever asked has left it.
    async fn settle_join(&mut self, Join { room, sub, done }: Join, result: Result<u64, Unavailable>) {
        let held = result.and_then(|seq| {
            let shards = self.rooms.established(sub, seq).ok_or(Unavailable)?.shards;
            // Members take nothing that was fed before they were known to be fed.
            Ok((shards, seq.max(self.streams[usize::from(room.app)].fed)))
        });
        if let Ok((shards, since)) = held {
            for shard in (0..64).filter(|shard| shards & (1 << shard) != 0) {
                self.send(shard, Fed::Held { room: room.clone(), since }).await;
            }
        }
        // Nobody waits any more if this fails.
        let _ = done.send(held.map(drop));
    }

    fn on_timer(&mut self) {
        let now = self.clock.now();
        for sub in self.rooms.expire(now) {
            self.bus.unsubscribe(sub);
        }
        for (room, seq) in self.rooms.quiet(now) {
            let subjects =
                cluster::subject::RoomSubjects::new(self.apps[usize::from(room.app)].name(), &room.room);
            let subject = subjects.class(cluster::subject::RoomClass::Progress);
            // Lost progress is made up by the next one.
            let _ = self.bus.publish(&subject, seq.to_string());
        }
        for app in self.barriers.late(now) {
            if !self.streams[usize::from(app)].is_resyncing() {
                self.resync(app, Cause::Behind);
            }
        }
    }

    async fn send(&self, shard: u8, fed: Fed) {
        // A shard that is gone needs nothing.
        let _ = self.shards[usize::from(shard)].send(fed).await;
    }
}

#[cfg(test)]
mod tests;
