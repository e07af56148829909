//! After a gap: everything of the application's stream since each room's last sequence is read, merged in stream order,
//! and only then do live events go on. RePublish copies are at most once; this is what makes them a promise.

use std::ops::Range;
use std::time::{Duration, Instant};

use bus::{Append, Bus, ReadError, ReadOptions, Stored};
use cluster::subject::{self, RoomSubjects, slot_of};
use hub::RoomKey;

use super::Task;
use super::pipeline::Pending;
use crate::clock::unix_ms;

/// Why a resync started; a metrics label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Reconnected,
    LeaderChanged,
    /// A publisher told of events that did not come.
    Behind,
    /// The feed overflowed.
    Lost,
}

impl Cause {
    fn name(self) -> &'static str {
        match self {
            Self::Reconnected => "reconnected",
            Self::LeaderChanged => "leader_changed",
            Self::Behind => "behind",
            Self::Lost => "lost",
        }
    }
}

/// Subjects of one read: well below the 1024 that one answer may match, and 50 cost 0.45 ms among a million messages.
const SUBJECTS_PER_READ: usize = 192;

/// How far a resync looks back beyond the last time the feed was known to be whole: an undetected break of the connection
/// (two unanswered pings), a leader's election, a publisher's quiet second, and clocks that differ between nodes.
const LOOK_BACK_MS: u64 = 30_000;

/// Pause before a replica that lags is asked again.
const LAGGING_REPLICA: Duration = Duration::from_millis(20);

type Found = Vec<(RoomKey, Stored)>;

/// Live bytes held while a resync reads. Beyond it the resync starts over from what was applied.
const MAX_HELD_BYTES: usize = 64 << 20;

/// Pause before a failed read is repeated.
const RETRY: Duration = Duration::from_millis(250);

/// One application's event stream as this node follows it.
#[derive(Debug, Default)]
pub struct Stream {
    state: State,
    /// Highest sequence handed on to the shards, markers included.
    pub fed: u64,
    /// Unix time when the feed was interrupted; the next resync looks back to before it.
    interrupted_ms: Option<u64>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Live,
    Resyncing {
        held: Vec<Pending>,
        held_bytes: usize,
        /// Another gap opened meanwhile: start over when this read is done.
        again: bool,
    },
}

/// A read of missed events, done.
#[derive(Debug)]
pub struct Finished {
    app: u16,
    /// The marker's sequence: the read covers everything up to it.
    upto: u64,
    events: Found,
}

impl Stream {
    pub fn is_resyncing(&self) -> bool {
        matches!(self.state, State::Resyncing { .. })
    }

    /// The feed is interrupted from now on.
    pub fn interrupted(&mut self) {
        self.interrupted_ms.get_or_insert_with(unix_ms);
    }

    /// Keeps a live event until the resync is done.
    pub fn hold(&mut self, pending: Pending) {
        let State::Resyncing { held, held_bytes, again } = &mut self.state else { return };
        let size = match &pending {
            Pending::Event { payload, .. } | Pending::Marker { payload, .. } => payload.len() + 64,
        };
        if *held_bytes + size > MAX_HELD_BYTES {
            // What is dropped here is in the stream; the next read finds it.
            held.clear();
            *held_bytes = 0;
            *again = true;
            return;
        }
        *held_bytes += size;
        held.push(pending);
    }
}

impl Task {
    pub(super) fn resync_all(&mut self, cause: Cause) {
        for app in 0..self.apps.len() {
            self.resync(u16::try_from(app).unwrap_or(u16::MAX), cause);
        }
    }

    pub(super) fn resync(&mut self, app: u16, cause: Cause) {
        let stream = &mut self.streams[usize::from(app)];
        if let State::Resyncing { again, .. } = &mut stream.state {
            *again = true;
            return;
        }
        self.metrics.resyncs.with_label_values(&[cause.name()]).inc();
        tracing::info!(app = self.apps[usize::from(app)].name(), cause = cause.name(), "rooms resync");
        stream.state = State::Resyncing { held: Vec::new(), held_bytes: 0, again: false };
        self.start_read(app);
    }

    fn start_read(&mut self, app: u16) {
        let rooms: Vec<(RoomKey, u64)> =
            self.rooms.of_app(app).map(|(key, seq)| (key.clone(), seq)).collect();
        let name = self.apps[usize::from(app)].name().to_owned();
        let floor = rooms.iter().map(|(_, seq)| *seq).filter(|seq| *seq > 0).min().unwrap_or(0);
        let read = Read {
            bus: self.bus.clone(),
            stream: self.apps[usize::from(app)].events.clone(),
            marker_node: self.barriers.node().to_owned(),
            name,
            app,
            rooms,
            floor,
            since_ms: self.streams[usize::from(app)]
                .interrupted_ms
                .unwrap_or_else(unix_ms)
                .saturating_sub(LOOK_BACK_MS),
        };
        let done = self.resync_done.clone();
        tokio::spawn(async move {
            let finished = read.run().await;
            // The node's task is gone when this fails.
            let _ = done.send(finished);
        });
    }

    pub(super) async fn on_resynced(&mut self, mut finished: Finished) {
        let app = finished.app;
        finished.events.sort_by_key(|(_, stored)| stored.seq);
        for (room, stored) in &finished.events {
            if self.apply_stored(room, stored.seq, &stored.payload) {
                self.metrics.resynced_events.inc();
            }
        }
        let stream = &mut self.streams[usize::from(app)];
        let State::Resyncing { held, again, .. } = std::mem::take(&mut stream.state) else { return };
        stream.interrupted_ms = None;
        for pending in held {
            match pending {
                Pending::Event { room, seq, payload } => {
                    self.apply_stored(&room, seq, &payload);
                }
                Pending::Marker { payload, seq } => self.pass_marker(app, seq, &payload).await,
            }
        }
        let settled = self.barriers.take_settled(app, finished.upto);
        self.feed_barriers(settled).await;
        self.end_turn().await;
        if again {
            self.resync(app, Cause::Lost);
        }
    }
}

/// Reads what the rooms of one application missed.
struct Read {
    bus: Bus,
    stream: String,
    name: String,
    marker_node: String,
    app: u16,
    rooms: Vec<(RoomKey, u64)>,
    /// Lowest sequence any room has reached.
    floor: u64,
    since_ms: u64,
}

impl Read {
    /// Repeats until it is done: live events wait for it.
    async fn run(self) -> Finished {
        loop {
            match self.attempt().await {
                Ok((upto, events)) => return Finished { app: self.app, upto, events },
                Err(error) => {
                    tracing::warn!(app = self.name, error, "reading missed room events failed, trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn attempt(&self) -> Result<(u64, Found), String> {
        let (_, id) = cluster::sid::ulid(unix_ms(), rand::random());
        let marker = subject::marker(&self.name, &self.marker_node, unix_ms(), &id);
        let message = Append::unique(marker.clone(), id);
        let upto = self
            .bus
            .barrier(message, Instant::now() + Duration::from_secs(5))
            .await
            .map_err(|e| e.to_string())?;
        let slots = slot_of(self.since_ms).saturating_sub(1)..slot_of(unix_ms()) + 2;
        let rooms_per_read = (SUBJECTS_PER_READ / (slots.end - slots.start) as usize).max(1);
        let mut events = Vec::new();
        for rooms in self.rooms.chunks(rooms_per_read) {
            self.read(rooms, slots.clone(), &marker, &mut events).await.map_err(|e| e.to_string())?;
        }
        Ok((upto, events))
    }

    /// All stored events of some rooms and slots after the floor. The marker is asked for too: an answer without it comes
    /// from a replica that lags, and is repeated. Too many answers: the range is halved.
    async fn read(
        &self,
        rooms: &[(RoomKey, u64)],
        slots: Range<u64>,
        marker: &str,
        out: &mut Found,
    ) -> Result<(), ReadError> {
        let mut subjects: Vec<String> =
            rooms.iter().flat_map(|(room, _)| self.filters(room, slots.clone())).collect();
        subjects.push(marker.to_owned());
        let options = ReadOptions { start_seq: Some(self.floor + 1), batch: None };
        let stored = loop {
            match self.bus.read_last(&self.stream, &subjects, options).await {
                Ok(stored) if stored.iter().any(|s| s.subject == marker) => break stored,
                Ok(_) => tokio::time::sleep(LAGGING_REPLICA).await,
                Err(ReadError::TooMany) if rooms.len() > 1 => {
                    let (left, right) = rooms.split_at(rooms.len() / 2);
                    Box::pin(self.read(left, slots.clone(), marker, out)).await?;
                    return Box::pin(self.read(right, slots, marker, out)).await;
                }
                Err(ReadError::TooMany) if slots.end - slots.start > 1 => {
                    let middle = slots.start + (slots.end - slots.start) / 2;
                    Box::pin(self.read(rooms, slots.start..middle, marker, out)).await?;
                    return Box::pin(self.read(rooms, middle..slots.end, marker, out)).await;
                }
                Err(ReadError::TooMany) => return self.scan_slot(&rooms[0], slots.start, out).await,
                Err(error) => return Err(error),
            }
        };
        for stored in stored {
            let token = stored.subject.split('.').nth(3).unwrap_or_default();
            if let Some((room, _)) = rooms.iter().find(|(room, _)| subject::escape_token(&room.room) == token)
            {
                out.push((room.clone(), stored));
            }
        }
        Ok(())
    }

    fn filters(&self, room: &RoomKey, slots: Range<u64>) -> Vec<String> {
        let subjects = RoomSubjects::new(&self.name, &room.room);
        slots.map(|slot| subjects.slot_filter(slot)).collect()
    }

    /// A slot with more stored events than one read answers: by sequence, in pieces.
    async fn scan_slot(
        &self,
        (room, last): &(RoomKey, u64),
        slot: u64,
        out: &mut Found,
    ) -> Result<(), ReadError> {
        const PIECE: usize = 500;
        let filter = RoomSubjects::new(&self.name, &room.room).slot_filter(slot);
        let mut from = last.max(&self.floor) + 1;
        loop {
            let piece = self.bus.read_from(&self.stream, &filter, from, PIECE).await?;
            let Some(newest) = piece.last().map(|stored| stored.seq) else { return Ok(()) };
            let complete = piece.len() < PIECE;
            out.extend(piece.into_iter().map(|stored| (room.clone(), stored)));
            if complete {
                return Ok(());
            }
            from = newest + 1;
        }
    }
}
