//! One read of what the rooms of an application missed: by subject where that is indexed, by sequence where a room has more
//! events than one answer holds. Any replica answers, so nothing counts as read before the answer shows a marker that was
//! stored first.

use std::time::{Duration, Instant};

use bus::{Append, AppendError, Bus, BusError, ReadError, ReadOptions, Stored, SubId};
use cluster::subject::{self, RoomSubjects, slot_of};
use hub::RoomKey;
use rustc_hash::FxHashMap;

use super::resync::Finished;
use super::rooms::Room;
use crate::clock::unix_ms;

/// Subjects of one read: well below the 1024 that one answer may match, and 50 cost 0.45 ms among a million messages.
const FILTERS_PER_READ: usize = 192;

/// A read over more slots than this asks for whole rooms first.
const MAX_SLOTS: usize = 12;

/// How far a read looks back beyond the last time the feed was known to be whole: a leader's election, a publisher's quiet
/// seconds, and clocks that differ between nodes.
const LOOK_BACK_MS: u64 = 30_000;

/// Pause before a replica that lags is asked again, and how often it is.
const LAGGING_REPLICA: Duration = Duration::from_millis(20);
const LAGGING_TRIES: usize = 100;

/// Pause before a failed read is repeated.
const RETRY: Duration = Duration::from_millis(250);

const MARKER_DEADLINE: Duration = Duration::from_secs(5);

/// Messages of one piece of a scan.
const PIECE: usize = 500;

pub type Found = Vec<(SubId, Stored)>;

#[derive(Debug)]
pub struct Read {
    pub bus: Bus,
    pub app: u16,
    /// The application's name, and that of its event stream.
    pub name: String,
    pub stream: String,
    pub max_age_ms: u64,
    /// This node, for the marker.
    pub node: String,
    /// Sorted by sequence: those asked for together have about the same floor.
    pub rooms: Vec<ReadRoom>,
    /// Highest sequence this node has applied before.
    pub fed: u64,
    /// Unix time since when copies may be missing.
    pub since_ms: u64,
}

#[derive(Debug)]
pub struct ReadRoom {
    sub: SubId,
    token: String,
    pub last_seq: u64,
}

impl ReadRoom {
    pub fn new(key: &RoomKey, room: &Room) -> Self {
        let token = subject::escape_token(&key.room).into_owned();
        Self { sub: room.sub, token, last_seq: room.last_seq }
    }
}

/// What one subject filter asks for: a room, in one slot or in all of them.
#[derive(Clone, Copy, Debug)]
struct Filter {
    room: usize,
    slot: Option<u64>,
}

#[derive(Debug, thiserror::Error)]
enum ReadFailed {
    #[error("{0}")]
    Marker(#[from] AppendError),
    #[error("{0}")]
    Read(#[from] ReadError),
    #[error("{0}")]
    State(#[from] BusError),
    #[error("the replicas lag behind")]
    Lagging,
}

impl Read {
    /// Repeats until it is done: live events wait for it.
    pub async fn run(self) -> Finished {
        loop {
            match self.attempt().await {
                Ok(finished) => return finished,
                Err(error) => {
                    tracing::warn!(app = self.name, %error, "reading missed room events failed, trying again");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn attempt(&self) -> Result<Finished, ReadFailed> {
        let (_, id) = cluster::sid::ulid(unix_ms(), rand::random());
        let marker = subject::marker(&self.name, &self.node, unix_ms(), &id);
        let upto = self.bus.barrier(Append::unique(&marker, id), Instant::now() + MARKER_DEADLINE).await?;
        let beyond_retention = self.is_beyond_retention().await?;
        let mut events = Vec::new();
        let crowded = self.read_rooms(&marker, &mut events).await?;
        if !crowded.is_empty() {
            self.scan(&crowded, upto, &mut events).await?;
        }
        // What was stored after the marker comes live, in its place.
        events.retain(|(_, stored)| stored.seq <= upto);
        let rooms = self.rooms.iter().map(|room| room.sub).collect();
        Ok(Finished { app: self.app, upto, events, rooms, beyond_retention })
    }

    /// Whether the stream has dropped something that came after what was applied here, and after the gap began.
    async fn is_beyond_retention(&self) -> Result<bool, ReadFailed> {
        let state = self.bus.stream_state(&self.stream).await?;
        let oldest_ms = state.first_time_ms.unwrap_or_else(unix_ms);
        Ok(!self.rooms.is_empty() && state.first_seq > self.fed + 1 && oldest_ms > self.since_ms)
    }

    /// All stored events of the rooms since the gap, and the filters that match more than one answer holds.
    async fn read_rooms(&self, marker: &str, out: &mut Found) -> Result<Vec<Filter>, ReadFailed> {
        let by_token = self.by_token(0..self.rooms.len());
        let slots = self.slots(unix_ms());
        let mut work: Vec<Vec<Filter>> =
            self.filters(&slots).chunks(FILTERS_PER_READ).map(<[Filter]>::to_vec).collect();
        let mut crowded = Vec::new();
        while let Some(filters) = work.pop() {
            match self.read(&filters, marker).await {
                Ok(stored) => out.extend(keep(&by_token, stored)),
                Err(ReadFailed::Read(ReadError::TooMany)) => match filters[..] {
                    [Filter { slot: Some(_), .. }] => crowded.extend(filters),
                    [Filter { room, slot: None }] => {
                        let slots: Vec<Filter> =
                            slots.clone().map(|slot| Filter { room, slot: Some(slot) }).collect();
                        work.extend(slots.chunks(FILTERS_PER_READ).map(<[Filter]>::to_vec));
                    }
                    _ => {
                        let (left, right) = filters.split_at(filters.len() / 2);
                        work.extend([left.to_vec(), right.to_vec()]);
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Ok(crowded)
    }

    /// The slots that may hold what was missed; what is older than the retention is gone.
    fn slots(&self, now_ms: u64) -> std::ops::Range<u64> {
        let since_ms = self.since_ms.saturating_sub(LOOK_BACK_MS);
        let oldest_ms = now_ms.saturating_sub(self.max_age_ms).saturating_sub(LOOK_BACK_MS);
        slot_of(since_ms.max(oldest_ms))..slot_of(now_ms) + 2
    }

    fn filters(&self, slots: &std::ops::Range<u64>) -> Vec<Filter> {
        let rooms = 0..self.rooms.len();
        if usize::try_from(slots.end - slots.start).is_ok_and(|count| count <= MAX_SLOTS) {
            rooms.flat_map(|room| slots.clone().map(move |slot| Filter { room, slot: Some(slot) })).collect()
        } else {
            rooms.map(|room| Filter { room, slot: None }).collect()
        }
    }

    /// The marker is asked for too: an answer without it comes from a replica that lags, and is repeated.
    async fn read(&self, filters: &[Filter], marker: &str) -> Result<Vec<Stored>, ReadFailed> {
        let floor = filters.iter().map(|filter| self.rooms[filter.room].last_seq).min().unwrap_or(0);
        let mut subjects: Vec<String> = filters.iter().map(|filter| self.subject(*filter)).collect();
        subjects.push(marker.to_owned());
        let options = ReadOptions { start_seq: Some(floor + 1), batch: None };
        for _ in 0..LAGGING_TRIES {
            let stored = self.bus.read_last(&self.stream, &subjects, options).await?;
            if stored.iter().any(|stored| stored.subject == marker) {
                return Ok(stored);
            }
            tokio::time::sleep(LAGGING_REPLICA).await;
        }
        Err(ReadFailed::Lagging)
    }

    /// Rooms with slots of more events than one answer holds: one walk over the stream, up to the marker itself.
    async fn scan(&self, crowded: &[Filter], upto: u64, out: &mut Found) -> Result<(), ReadFailed> {
        let by_token = self.by_token(crowded.iter().map(|filter| filter.room));
        let all = subject::event_stream_filter(&self.name);
        let mut from = self.scan_start(crowded).await?;
        let mut tries = 0;
        while from <= upto {
            let piece = self.bus.read_from(&self.stream, &all, from, PIECE).await?;
            match piece.last() {
                Some(newest) => {
                    from = newest.seq + 1;
                    tries = 0;
                    out.extend(keep(&by_token, piece));
                }
                None if tries == LAGGING_TRIES => return Err(ReadFailed::Lagging),
                None => {
                    tries += 1;
                    tokio::time::sleep(LAGGING_REPLICA).await;
                }
            }
        }
        Ok(())
    }

    /// The first sequence that any of the crowded slots needs.
    async fn scan_start(&self, crowded: &[Filter]) -> Result<u64, ReadFailed> {
        let mut start = u64::MAX;
        for filter in crowded {
            let after = self.rooms[filter.room].last_seq + 1;
            let first = self.bus.read_from(&self.stream, &self.subject(*filter), after, 1).await?;
            start = start.min(first.first().map_or(after, |stored| stored.seq));
        }
        Ok(start)
    }

    fn subject(&self, filter: Filter) -> String {
        let subjects = RoomSubjects::of_token(&self.name, &self.rooms[filter.room].token);
        filter.slot.map_or_else(|| subjects.event_filter(), |slot| subjects.slot_filter(slot))
    }

    fn by_token(&self, rooms: impl Iterator<Item = usize>) -> FxHashMap<&str, &ReadRoom> {
        rooms.map(|room| (self.rooms[room].token.as_str(), &self.rooms[room])).collect()
    }
}

/// What these rooms have not applied yet, by the room's token in `tl.<app>.u.<room>.<slot>.<id>`.
fn keep(rooms: &FxHashMap<&str, &ReadRoom>, stored: Vec<Stored>) -> Found {
    let room = |stored: &Stored| rooms.get(stored.subject.split('.').nth(3)?).copied();
    let new = |stored: Stored| {
        let room = room(&stored).filter(|room| stored.seq > room.last_seq)?;
        Some((room.sub, stored))
    };
    stored.into_iter().filter_map(new).collect()
}
