//! After a gap: everything of the application's stream since each room's last sequence is read (`read`), merged in stream
//! order, and only then do live events go on. RePublish copies are at most once; this is what makes them a promise.

use bus::SubId;

use super::Task;
use super::pipeline::Pending;
use super::read::{Found, Read, ReadRoom};
use crate::clock::unix_ms;

/// Why a resync started; a metrics label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    Reconnected,
    LeaderChanged,
    /// A publisher told of events that did not come, or a marker did not come.
    Behind,
    /// The feed overflowed, or what was held during another resync.
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

/// Live bytes held while a resync reads. Beyond it the rest is left to the next read.
const MAX_HELD_BYTES: usize = 64 << 20;

/// One application's event stream as this node follows it.
#[derive(Debug, Default)]
pub struct Stream {
    state: State,
    /// Highest sequence handed on to the shards, markers included.
    pub fed: u64,
    /// Unix time of the first gap that no read covers yet.
    gap_since_ms: Option<u64>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Live,
    Resyncing(Held),
}

/// What came while a resync reads, without a gap.
#[derive(Debug, Default)]
struct Held {
    pending: Vec<Pending>,
    bytes: usize,
    /// A gap followed: what came after it is read again, and not held.
    again: bool,
}

/// A read of missed events, done.
#[derive(Debug)]
pub struct Finished {
    pub app: u16,
    /// The marker's sequence: the read covers everything up to it, and nothing beyond.
    pub upto: u64,
    pub events: Found,
    /// The rooms it covers.
    pub rooms: Vec<SubId>,
    /// The stream has dropped events that nobody here has seen.
    pub beyond_retention: bool,
}

impl Stream {
    pub fn is_resyncing(&self) -> bool {
        matches!(self.state, State::Resyncing(_))
    }

    /// Copies may be missing since this Unix time.
    pub fn gap(&mut self, since_ms: u64) {
        self.gap_since_ms = Some(self.gap_since_ms.map_or(since_ms, |earlier| earlier.min(since_ms)));
        if let State::Resyncing(held) = &mut self.state {
            held.again = true;
        }
    }

    /// Keeps what came live until the resync is done.
    pub fn hold(&mut self, pending: Pending) {
        let State::Resyncing(held) = &mut self.state else { return };
        if held.again {
            return;
        }
        held.bytes += pending.bytes();
        if held.bytes > MAX_HELD_BYTES {
            // What is dropped here is in the stream; the next read finds it.
            held.again = true;
            return;
        }
        held.pending.push(pending);
    }

    /// Begins a resync; `false`: one is under way, and another follows it.
    fn begin(&mut self) -> bool {
        match &mut self.state {
            State::Resyncing(held) => {
                held.again = true;
                false
            }
            State::Live => {
                self.state = State::Resyncing(Held::default());
                true
            }
        }
    }
}

impl Task {
    pub(super) fn resync_all(&mut self, cause: Cause) {
        for app in 0..self.apps.len() {
            self.resync(u16::try_from(app).unwrap_or(u16::MAX), cause);
        }
    }

    pub(super) fn resync(&mut self, app: u16, cause: Cause) {
        if self.streams[usize::from(app)].begin() {
            self.start_read(app, cause);
        }
    }

    fn start_read(&mut self, app: u16, cause: Cause) {
        self.metrics.resyncs.with_label_values(&[cause.name()]).inc();
        let (app, stream) = (&self.apps[usize::from(app)], &mut self.streams[usize::from(app)]);
        tracing::info!(app = app.name(), cause = cause.name(), "rooms resync");
        let mut rooms: Vec<ReadRoom> =
            self.rooms.of_app(app.ix).map(|(key, room)| ReadRoom::new(key, room)).collect();
        rooms.sort_unstable_by_key(|room| room.last_seq);
        let read = Read {
            bus: self.bus.clone(),
            app: app.ix,
            name: app.name().to_owned(),
            stream: app.events.clone(),
            max_age_ms: app.config.retention.events_max_age_s.saturating_mul(1000),
            node: self.barriers.node().to_owned(),
            rooms,
            fed: stream.fed,
            since_ms: stream.gap_since_ms.take().unwrap_or_else(unix_ms),
        };
        let done = self.resync_done.clone();
        tokio::spawn(async move {
            let finished = read.run().await;
            // The node's task is gone when this fails.
            let _ = done.send(finished);
        });
    }

    /// Merges what was read with what was held in stream order.
    pub(super) async fn on_resynced(&mut self, finished: Finished) {
        let Finished { app, upto, events, rooms, beyond_retention } = finished;
        if beyond_retention {
            self.metrics.room_gaps.inc();
            let app = self.apps[usize::from(app)].name();
            tracing::warn!(app, "room events were lost: the gap is longer than the stream's retention");
        }
        let stream = &mut self.streams[usize::from(app)];
        let State::Resyncing(held) = std::mem::take(&mut stream.state) else { return };
        if held.again {
            stream.state = State::Resyncing(Held::default());
        }
        let behind = self.merge(app, events, held.pending);
        for sub in rooms {
            if let Some((_, room)) = self.rooms.by_sub(sub) {
                room.last_seq = room.last_seq.max(upto);
            }
        }
        let stream = &mut self.streams[usize::from(app)];
        stream.fed = stream.fed.max(upto);
        self.end_turn().await;
        if held.again {
            return self.start_read(app, Cause::Lost);
        }
        for (sub, seq) in behind {
            self.judge_progress(sub, seq);
        }
        self.pass_barriers(app).await;
    }

    /// Applies both in the order of their sequences; what was held comes first of two copies. Returns what publishers told.
    fn merge(&mut self, app: u16, events: Found, held: Vec<Pending>) -> Vec<(SubId, u64)> {
        let mut progress = Vec::new();
        let mut all = Vec::with_capacity(held.len() + events.len());
        for pending in held {
            match pending {
                Pending::Event { sub, seq, payload } => all.push((seq, Some((sub, payload)), false)),
                Pending::Marker { seq } => all.push((seq, None, false)),
                Pending::Progress { sub, seq } => progress.push((sub, seq)),
            }
        }
        all.extend(events.into_iter().map(|(sub, stored)| (stored.seq, Some((sub, stored.payload)), true)));
        all.sort_by_key(|(seq, _, _)| *seq);
        for (seq, event, read) in all {
            match event {
                Some((sub, payload)) => {
                    let applied = self.apply_stored(sub, seq, &payload);
                    self.metrics.resynced_events.inc_by(u64::from(applied && read));
                }
                None => self.pass_marker(app, seq),
            }
        }
        progress
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_held_after_a_second_gap() {
        let mut stream = Stream::default();
        assert!(stream.begin());
        stream.hold(Pending::Marker { seq: 1 });
        stream.gap(50);
        stream.gap(70);
        stream.hold(Pending::Marker { seq: 3 });
        assert!(!stream.begin());
        let State::Resyncing(held) = &stream.state else { panic!("live") };
        assert_eq!((held.pending.len(), held.again, stream.gap_since_ms), (1, true, Some(50)));
    }
}
