//! The table of rooms with local members, and of rooms this node has stored into.

use std::collections::BTreeMap;

use bus::{Bus, BusError, SubId};
use cluster::subject::RoomSubjects;
use hub::RoomKey;
use rustc_hash::FxHashMap;

use crate::clock::Millis;

/// A room without members stays subscribed this long: a reload or a move comes back to a warm room.
const LINGER_MS: Millis = 3_000;

/// A publisher that was quiet this long in a room tells how far it is.
const QUIET_MS: Millis = 1_000;

#[derive(Debug)]
pub struct Rooms {
    rooms: FxHashMap<RoomKey, Room>,
    subs: FxHashMap<SubId, RoomKey>,
    /// Rooms without members, by the time they are dropped.
    lingering: BTreeMap<(Millis, SubId), RoomKey>,
    /// Last sequence this node stored, by room.
    stored: FxHashMap<RoomKey, (u64, Millis)>,
    stored_due: BTreeMap<(Millis, u64), RoomKey>,
}

#[derive(Debug)]
pub struct Room {
    sub: SubId,
    /// One bit per shard with members.
    pub shards: u64,
    /// A barrier has passed since the subscription.
    established: bool,
    /// Highest sequence applied; what is not above it was applied before.
    pub last_seq: u64,
    linger_until: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Established,
    Pending,
}

impl Rooms {
    pub fn new() -> Self {
        Self {
            rooms: FxHashMap::default(),
            subs: FxHashMap::default(),
            lingering: BTreeMap::new(),
            stored: FxHashMap::default(),
            stored_due: BTreeMap::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Adds a shard's interest; subscribes for the first one.
    pub fn add(&mut self, bus: &Bus, app: &str, key: &RoomKey, shard: u8) -> Result<Interest, BusError> {
        if let Some(room) = self.rooms.get_mut(key) {
            if let Some(due) = room.linger_until.take() {
                self.lingering.remove(&(due, room.sub));
            }
            room.shards |= 1 << shard;
            return Ok(if room.established { Interest::Established } else { Interest::Pending });
        }
        let sub = bus.subscribe(&RoomSubjects::new(app, &key.room).filter())?;
        self.subs.insert(sub, key.clone());
        let room = Room { sub, shards: 1 << shard, established: false, last_seq: 0, linger_until: None };
        self.rooms.insert(key.clone(), room);
        Ok(Interest::Pending)
    }

    /// A barrier with this sequence has passed after the room's subscription.
    pub fn established(&mut self, key: &RoomKey, seq: u64) {
        if let Some(room) = self.rooms.get_mut(key).filter(|room| !room.established) {
            room.established = true;
            room.last_seq = room.last_seq.max(seq);
        }
    }

    /// The shards with members in a room.
    pub fn shards_of(&self, key: &RoomKey) -> Vec<u8> {
        let mask = self.rooms.get(key).map_or(0, |room| room.shards);
        (0..64).filter(|shard| mask & (1 << shard) != 0).collect()
    }

    pub fn release(&mut self, key: &RoomKey, shard: u8, now: Millis) {
        let Some(room) = self.rooms.get_mut(key) else { return };
        room.shards &= !(1 << shard);
        if room.shards == 0 && room.linger_until.is_none() {
            let due = now + LINGER_MS;
            room.linger_until = Some(due);
            self.lingering.insert((due, room.sub), key.clone());
        }
    }

    pub fn by_sub(&mut self, sub: SubId) -> Option<(&RoomKey, &mut Room)> {
        let key = self.subs.get(&sub)?;
        Some((key, self.rooms.get_mut(key)?))
    }

    pub fn get_mut(&mut self, key: &RoomKey) -> Option<&mut Room> {
        self.rooms.get_mut(key)
    }

    /// The application's rooms with the sequence each has reached.
    pub fn of_app(&self, app: u16) -> impl Iterator<Item = (&RoomKey, u64)> {
        self.rooms.iter().filter(move |(key, _)| key.app == app).map(|(key, room)| (key, room.last_seq))
    }

    pub fn stored(&mut self, room: RoomKey, seq: u64, now: Millis) {
        let due = now + QUIET_MS;
        let before = self.stored.insert(room.clone(), (seq, due));
        if let Some((seq, due)) = before {
            self.stored_due.remove(&(due, seq));
        }
        self.stored_due.insert((due, seq), room);
    }

    pub fn next_timeout(&self) -> Option<Millis> {
        let linger = self.lingering.keys().next().map(|(due, _)| *due);
        let quiet = self.stored_due.keys().next().map(|(due, _)| *due);
        linger.into_iter().chain(quiet).min()
    }

    /// Drops rooms that lingered long enough.
    pub fn expire(&mut self, now: Millis) -> Vec<SubId> {
        let mut dropped = Vec::new();
        while let Some(entry) = self.lingering.first_entry().filter(|entry| entry.key().0 <= now) {
            let (_, sub) = *entry.key();
            let key = entry.remove();
            self.rooms.remove(&key);
            self.subs.remove(&sub);
            dropped.push(sub);
        }
        dropped
    }

    /// Rooms this node has stored into and then been quiet, with the last sequence.
    pub fn quiet(&mut self, now: Millis) -> Vec<(RoomKey, u64)> {
        let mut due = Vec::new();
        while let Some(entry) = self.stored_due.first_entry().filter(|entry| entry.key().0 <= now) {
            let (_, seq) = *entry.key();
            let room = entry.remove();
            self.stored.remove(&room);
            due.push((room, seq));
        }
        due
    }
}
