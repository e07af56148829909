//! What arrives is applied in the order of the connection, which is stream order: decoded and encoded once, then handed to
//! each shard with members as one piece per turn.

use std::sync::Arc;

use bus::FeedEvent;
use bytes::Bytes;
use cluster::Envelope;
use cluster::subject::RoomClass;
use hub::{Broadcast, Order, RoomKey};

use super::resync::Cause;
use super::{Fed, Task};

/// A recoverable event that waits for a resync.
#[derive(Debug)]
pub enum Pending {
    Event { room: RoomKey, seq: u64, payload: Bytes },
    Marker { payload: Bytes, seq: u64 },
}

impl Task {
    pub(super) async fn on_feed(&mut self, events: &mut Vec<FeedEvent>) {
        for event in events.drain(..) {
            match event {
                FeedEvent::Message { sub, subject, seq, payload, .. } => {
                    match self.barriers.marker_sub(sub) {
                        Some(app) => self.on_marker(app, seq.unwrap_or(0), payload).await,
                        None => self.on_room_message(sub, &subject, seq, payload),
                    }
                }
                FeedEvent::Connected { first: true } => {}
                FeedEvent::Disconnected { .. } => {
                    self.streams.iter_mut().for_each(super::resync::Stream::interrupted)
                }
                FeedEvent::Connected { first: false } => self.resync_all(Cause::Reconnected),
                FeedEvent::Lost { messages, .. } => {
                    tracing::warn!(messages, "the room feed was not read in time");
                    self.resync_all(Cause::Lost);
                }
                FeedEvent::LeaderChanged { stream, .. } => {
                    if let Some(app) = self.apps.iter().find(|app| app.events == stream).map(|app| app.ix) {
                        self.resync(app, Cause::LeaderChanged);
                    }
                }
            }
        }
        self.end_turn().await;
    }

    fn on_room_message(&mut self, sub: bus::SubId, subject: &[u8], seq: Option<u64>, payload: Bytes) {
        let Some((key, room)) = self.rooms.by_sub(sub) else { return };
        match class_of(subject) {
            Some(RoomClass::Durable) => {
                let Some(seq) = seq else { return };
                if self.streams[usize::from(key.app)].is_resyncing() {
                    let event = Pending::Event { room: key.clone(), seq, payload };
                    let app = key.app;
                    self.streams[usize::from(app)].hold(event);
                } else {
                    let key = key.clone();
                    self.apply_stored(&key, seq, &payload);
                }
            }
            Some(RoomClass::Ephemeral) => {
                let (key, shards) = (key.clone(), room.shards);
                self.apply(&key, shards, Order::Ephemeral, &payload);
            }
            Some(RoomClass::Progress) => {
                let told = std::str::from_utf8(&payload).ok().and_then(|text| text.parse::<u64>().ok());
                let (app, behind) = (key.app, told.is_some_and(|seq| seq > room.last_seq));
                if behind {
                    self.resync(app, Cause::Behind);
                }
            }
            None => {}
        }
    }

    /// A recoverable event: applied unless it was applied before.
    pub(super) fn apply_stored(&mut self, key: &RoomKey, seq: u64, payload: &[u8]) -> bool {
        let Some(room) = self.rooms.get_mut(key) else { return false };
        if seq <= room.last_seq {
            return false;
        }
        room.last_seq = seq;
        let shards = room.shards;
        let stream = &mut self.streams[usize::from(key.app)];
        stream.fed = stream.fed.max(seq);
        self.apply(key, shards, Order::Recoverable(seq), payload);
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
        let broadcast = Arc::new(Broadcast::new(key.app, &envelope, order));
        for (shard, pieces) in self.turn.iter_mut().enumerate() {
            if shards & (1 << shard) != 0 {
                pieces.push(broadcast.clone());
            }
        }
    }

    async fn on_marker(&mut self, app: u16, seq: u64, payload: Bytes) {
        if self.streams[usize::from(app)].is_resyncing() {
            self.streams[usize::from(app)].hold(Pending::Marker { payload, seq });
        } else {
            self.pass_marker(app, seq, &payload).await;
        }
    }

    /// Everything before the marker has been applied: it is handed on behind it.
    pub(super) async fn pass_marker(&mut self, app: u16, seq: u64, payload: &[u8]) {
        let Some(marker) = parse_ulid(payload) else { return };
        let stream = &mut self.streams[usize::from(app)];
        stream.fed = stream.fed.max(seq);
        let shards = self.barriers.on_copy(app, marker, seq);
        self.feed_barriers(shards.into_iter().map(|s| (s, seq)).collect()).await;
    }

    pub(super) async fn feed_barriers(&mut self, barriers: Vec<((u8, u64), u64)>) {
        if barriers.is_empty() {
            return;
        }
        self.end_turn().await;
        for ((shard, token), seq) in barriers {
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

fn parse_ulid(text: &[u8]) -> Option<u128> {
    const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    if text.len() != 26 {
        return None;
    }
    text.iter().try_fold(0_u128, |value, c| {
        let digit = CROCKFORD.iter().position(|known| known == c)?;
        Some(value << 5 | digit as u128)
    })
}
