//! What arrives is applied in the order of the connection, which is stream order: decoded and encoded once, then handed to
//! each shard with members as one piece per turn.

use std::sync::Arc;

use bus::{FeedEvent, SubId};
use bytes::Bytes;
use cluster::subject::RoomClass;
use cluster::{Envelope, coordination};
use domain::call::View;
use hub::{Broadcast, Order, RoomKey, Traced};
use telemetry::trace::now_ns;

use super::barrier::Ticket;
use super::resync::Cause;
use super::{Fed, Task};

/// What waits for a resync.
#[derive(Debug)]
pub enum Pending {
    Event {
        sub: SubId,
        seq: u64,
        payload: Bytes,
    },
    Marker {
        seq: u64,
    },
    /// A publisher's word on how far the room is.
    Progress {
        sub: SubId,
        seq: u64,
    },
}

impl Pending {
    /// About what it costs in memory.
    pub fn bytes(&self) -> usize {
        const ITEM: usize = 64;
        match self {
            Self::Event { payload, .. } => ITEM + payload.len(),
            Self::Marker { .. } | Self::Progress { .. } => ITEM,
        }
    }
}

impl Task {
    pub(super) async fn on_feed(&mut self, events: &mut Vec<FeedEvent>) {
        for event in events.drain(..) {
            match event {
                FeedEvent::Message { sub, subject, seq, payload, .. } => {
                    match self.barriers.marker_sub(sub) {
                        Some(app) => self.on_marker(app, seq.unwrap_or(0)),
                        None => self.on_room_message(sub, &subject, seq, payload),
                    }
                }
                FeedEvent::Connected { first: true } => {}
                FeedEvent::Disconnected { at_ms } => {
                    self.streams.iter_mut().for_each(|stream| stream.gap(at_ms));
                }
                FeedEvent::Connected { first: false } => self.resync_all(Cause::Reconnected),
                FeedEvent::Lost { messages, at_ms } => {
                    tracing::warn!(messages, "the room feed was not read in time");
                    self.streams.iter_mut().for_each(|stream| stream.gap(at_ms));
                    self.resync_all(Cause::Lost);
                }
                FeedEvent::LeaderChanged { stream, at_ms } => {
                    if let Some(app) = self.apps.iter().find(|app| app.events == stream).map(|app| app.ix) {
                        self.streams[usize::from(app)].gap(at_ms);
                        self.resync(app, Cause::LeaderChanged);
                    }
                }
            }
        }
        self.end_turn().await;
        for app in 0..self.apps.len() {
            self.pass_barriers(u16::try_from(app).unwrap_or(u16::MAX)).await;
        }
    }

    fn on_room_message(&mut self, sub: SubId, subject: &[u8], seq: Option<u64>, payload: Bytes) {
        let Some((key, room)) = self.rooms.by_sub(sub) else { return };
        let stream = &mut self.streams[usize::from(key.app)];
        match class_of(subject) {
            Some(RoomClass::Durable) => {
                let Some(seq) = seq else { return };
                if stream.is_resyncing() {
                    stream.hold(Pending::Event { sub, seq, payload });
                } else {
                    self.apply_stored(sub, seq, &payload);
                }
            }
            Some(RoomClass::Ephemeral) => {
                let (key, shards) = (key.clone(), room.shards);
                self.apply(&key, shards, Order::Ephemeral, &payload);
            }
            Some(RoomClass::Progress) => {
                let told = std::str::from_utf8(&payload).ok().and_then(|text| text.parse::<u64>().ok());
                let Some(seq) = told else { return };
                if stream.is_resyncing() {
                    stream.hold(Pending::Progress { sub, seq });
                } else {
                    self.judge_progress(sub, seq);
                }
            }
            None => {}
        }
    }

    /// A publisher has stored up to `seq` in a room: a room that holds and is not there has missed something.
    pub(super) fn judge_progress(&mut self, sub: SubId, seq: u64) {
        let Some((key, room)) = self.rooms.by_sub(sub) else { return };
        if room.established && seq > room.last_seq {
            let app = key.app;
            self.resync(app, Cause::Behind);
        }
    }

    /// A recoverable event: applied unless it was applied before.
    pub(super) fn apply_stored(&mut self, sub: SubId, seq: u64, payload: &[u8]) -> bool {
        let Some((key, room)) = self.rooms.by_sub(sub) else { return false };
        if seq <= room.last_seq {
            return false;
        }
        room.last_seq = seq;
        let (key, shards) = (key.clone(), room.shards);
        let stream = &mut self.streams[usize::from(key.app)];
        stream.fed = stream.fed.max(seq);
        self.apply(&key, shards, Order::Recoverable(seq), payload);
        true
    }

    fn apply(&mut self, key: &RoomKey, shards: u64, order: Order, payload: &[u8]) {
        if shards == 0 {
            return;
        }
        let envelope = match Envelope::decode(payload) {
            Ok(envelope) => envelope,
            Err(error) => {
                self.metrics.malformed_envelopes.inc();
                tracing::warn!(%error, "a room message could not be read");
                return;
            }
        };
        // Two long ids may share a hash in the subject; the full id decides.
        if envelope.room() != &*key.room {
            return;
        }
        let class = if order == Order::Ephemeral { "ephemeral" } else { "recoverable" };
        self.metrics.broadcasts.with_label_values(&[class]).inc();
        let config = &self.apps[usize::from(key.app)].config;
        let view = self.view(&envelope);
        let mut broadcast = Broadcast::new(key.app, &envelope, order, view, config.parser);
        if broadcast.frames.is_empty() && !envelope.event.is_empty() {
            self.metrics.malformed_envelopes.inc();
            tracing::warn!(event = envelope.event, "the arguments of a room's event are no JSON");
        }
        if config.plain_path.is_some() {
            broadcast = broadcast.with_plain(&envelope);
        }
        broadcast.trace = envelope.trace.map(|parent| Traced { parent, since_ns: now_ns() });
        let broadcast = Arc::new(broadcast);
        for (shard, pieces) in self.turn.iter_mut().enumerate() {
            if shards & (1 << shard) != 0 {
                pieces.push(broadcast.clone());
            }
        }
    }

    /// The call that the envelope speaks of, read once for all receivers.
    fn view(&self, envelope: &Envelope<'_>) -> Option<Arc<View>> {
        match coordination::decode(envelope.view?) {
            Ok(view) => Some(Arc::new(view)),
            Err(error) => {
                self.metrics.malformed_envelopes.inc();
                tracing::warn!(%error, "a call's state could not be read");
                None
            }
        }
    }

    fn on_marker(&mut self, app: u16, seq: u64) {
        let stream = &mut self.streams[usize::from(app)];
        if stream.is_resyncing() {
            stream.hold(Pending::Marker { seq });
        } else {
            self.pass_marker(app, seq);
        }
    }

    /// Everything before the marker has been applied.
    pub(super) fn pass_marker(&mut self, app: u16, seq: u64) {
        let stream = &mut self.streams[usize::from(app)];
        stream.fed = stream.fed.max(seq);
    }

    /// Feeds the shards' barriers that the pipeline has passed, with what was fed before them. During a resync none has:
    /// what came before their markers may still be missing.
    pub(super) async fn pass_barriers(&mut self, app: u16) {
        let stream = &self.streams[usize::from(app)];
        if stream.is_resyncing() {
            return;
        }
        let seq = stream.fed;
        let passed = self.barriers.stored(app).take(seq);
        if passed.is_empty() {
            return;
        }
        self.end_turn().await;
        for Ticket { shard, token } in passed {
            self.send(shard, Fed::Barrier { token, seq }).await;
        }
    }

    /// Hands each shard what this turn has for it.
    pub(super) async fn end_turn(&mut self) {
        for shard in 0..self.turn.len() {
            let pieces = std::mem::take(&mut self.turn[shard]);
            if !pieces.is_empty() {
                self.send(u8::try_from(shard).unwrap_or(u8::MAX), Fed::Broadcasts(pieces)).await;
            }
        }
    }
}

/// The class is the subject's last token, one letter.
fn class_of(subject: &[u8]) -> Option<RoomClass> {
    match subject {
        [.., b'.', b'd'] => Some(RoomClass::Durable),
        [.., b'.', b'e'] => Some(RoomClass::Ephemeral),
        [.., b'.', b'p'] => Some(RoomClass::Progress),
        _ => None,
    }
}
