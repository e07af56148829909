//! The table of rooms with local members, and of rooms this node has stored into.

use std::collections::{BTreeMap, BTreeSet};

use bus::{Bus, BusError, SubId};
use cluster::subject::{RoomClass, RoomSubjects};
use domain::call::is_call_room;
use hub::RoomKey;
use rustc_hash::FxHashMap;

use crate::clock::Millis;

/// A room without members stays subscribed this long: a reload or a move comes back to a warm room.
const LINGER_MS: Millis = 3_000;

/// After this much quiet in a room a publisher tells how far it is; more than once, because what tells it may be lost too.
const QUIET_MS: [Millis; 3] = [1_000, 3_000, 9_000];

#[derive(Debug)]
pub struct Rooms {
    rooms: FxHashMap<RoomKey, Room>,
    subs: FxHashMap<SubId, RoomKey>,
    /// Rooms without members, by the time they are dropped.
    lingering: BTreeMap<(Millis, SubId), RoomKey>,
    told: Told,
}

#[derive(Debug)]
pub struct Room {
    pub sub: SubId,
    /// Further subscriptions, of a room that has one for each class.
    others: Vec<SubId>,
    /// One bit per shard with members.
    pub shards: u64,
    /// A barrier has passed since the subscription.
    pub established: bool,
    /// Highest sequence applied; what is not above it was applied before, or was stored before the room was subscribed.
    pub last_seq: u64,
    linger_until: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    Established,
    /// Subscribed just now; holds once a barrier has passed behind this subscription.
    New(SubId),
    /// The same, subscribed a moment ago.
    Pending(SubId),
}

impl Rooms {
    pub fn new() -> Self {
        Self {
            rooms: FxHashMap::default(),
            subs: FxHashMap::default(),
            lingering: BTreeMap::new(),
            told: Told::default(),
        }
    }

    pub fn len(&self) -> usize {
        self.rooms.len()
    }

    /// Adds a shard's interest; subscribes for the first one. A new room begins after `fed`, the stream's last sequence that
    /// was applied here.
    pub fn add(
        &mut self,
        bus: &Bus,
        app: &str,
        key: &RoomKey,
        shard: u8,
        fed: u64,
    ) -> Result<Interest, BusError> {
        if let Some(room) = self.rooms.get_mut(key) {
            if let Some(due) = room.linger_until.take() {
                self.lingering.remove(&(due, room.sub));
            }
            room.shards |= 1 << shard;
            return Ok(if room.established { Interest::Established } else { Interest::Pending(room.sub) });
        }
        let (sub, others) = subscribe(bus, app, &key.room)?;
        for sub in others.iter().chain([&sub]) {
            self.subs.insert(*sub, key.clone());
        }
        let (shards, last_seq) = (1 << shard, fed);
        let room = Room { sub, others, shards, established: false, last_seq, linger_until: None };
        self.rooms.insert(key.clone(), room);
        Ok(Interest::New(sub))
    }

    /// A barrier with this sequence has passed after the subscription. `None`: it was given up meanwhile.
    pub fn established(&mut self, sub: SubId, seq: u64) -> Option<&Room> {
        let room = self.rooms.get_mut(self.subs.get(&sub)?)?;
        if !room.established {
            room.established = true;
            room.last_seq = room.last_seq.max(seq);
        }
        Some(room)
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

    pub fn of_app(&self, app: u16) -> impl Iterator<Item = (&RoomKey, &Room)> {
        self.rooms.iter().filter(move |(key, _)| key.app == app)
    }

    /// This node has stored an event of the room.
    pub fn stored(&mut self, room: RoomKey, seq: u64, now: Millis) {
        self.told.stored(room, seq, now);
    }

    pub fn next_timeout(&self) -> Option<Millis> {
        let linger = self.lingering.keys().next().map(|(due, _)| *due);
        linger.into_iter().chain(self.told.next_timeout()).min()
    }

    /// Drops rooms that lingered long enough.
    pub fn expire(&mut self, now: Millis) -> Vec<SubId> {
        let mut dropped = Vec::new();
        while let Some(entry) = self.lingering.first_entry().filter(|entry| entry.key().0 <= now) {
            let (_, sub) = *entry.key();
            let room = self.rooms.remove(&entry.remove());
            dropped.push(sub);
            dropped.extend(room.into_iter().flat_map(|room| room.others));
        }
        for sub in &dropped {
            self.subs.remove(sub);
        }
        dropped
    }

    /// Rooms this node has stored into and then been quiet, with the last sequence.
    pub fn quiet(&mut self, now: Millis) -> Vec<(RoomKey, u64)> {
        self.told.quiet(now)
    }
}

/// One subscription with a wildcard; but for rooms of calls, which come and go with each call, one for each class: whenever a wildcard
/// comes or goes nats-server looks through its cache of up to 1024 subjects, which costs more than three subscriptions do.
fn subscribe(bus: &Bus, app: &str, room: &str) -> Result<(SubId, Vec<SubId>), BusError> {
    let subjects = RoomSubjects::new(app, room);
    if !is_call_room(room) {
        return Ok((bus.subscribe(&subjects.filter())?, Vec::new()));
    }
    let [one, other] =
        [RoomClass::Durable, RoomClass::Progress].map(|class| bus.subscribe(&subjects.class(class)));
    Ok((bus.subscribe(&subjects.class(RoomClass::Ephemeral))?, vec![one?, other?]))
}

/// Rooms this node stored into a short while ago.
#[derive(Debug, Default)]
struct Told {
    rooms: FxHashMap<RoomKey, Quiet>,
    due: BTreeSet<(Millis, RoomKey)>,
}

#[derive(Debug)]
struct Quiet {
    /// Highest sequence stored: acks of several shards come in any order.
    seq: u64,
    since: Millis,
    /// How often it was told.
    times: usize,
}

impl Quiet {
    fn due(&self) -> Option<Millis> {
        QUIET_MS.get(self.times).map(|quiet| self.since + quiet)
    }
}

impl Told {
    fn stored(&mut self, room: RoomKey, seq: u64, now: Millis) {
        let before = self.rooms.get(&room);
        if let Some(due) = before.and_then(Quiet::due) {
            self.due.remove(&(due, room.clone()));
        }
        let seq = before.map_or(seq, |before| before.seq.max(seq));
        self.due.insert((now + QUIET_MS[0], room.clone()));
        self.rooms.insert(room, Quiet { seq, since: now, times: 0 });
    }

    fn next_timeout(&self) -> Option<Millis> {
        self.due.first().map(|(due, _)| *due)
    }

    fn quiet(&mut self, now: Millis) -> Vec<(RoomKey, u64)> {
        let mut told = Vec::new();
        while self.due.first().is_some_and(|(due, _)| *due <= now) {
            let Some((_, room)) = self.due.pop_first() else { break };
            let Some(quiet) = self.rooms.get_mut(&room) else { continue };
            quiet.times += 1;
            told.push((room.clone(), quiet.seq));
            match quiet.due() {
                Some(due) => {
                    self.due.insert((due, room));
                }
                None => {
                    self.rooms.remove(&room);
                }
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_publisher_tells_three_times_how_far_it_is() {
        let (a, b) = (RoomKey::new(0, "a"), RoomKey::new(1, "a"));
        let mut told = Told::default();
        told.stored(a.clone(), 8, 0);
        // An ack that was overtaken, and another room with the same sequence at the same time.
        told.stored(a.clone(), 7, 10);
        told.stored(b.clone(), 8, 10);
        assert_eq!(told.quiet(1_009), []);
        assert_eq!(told.quiet(1_010), [(a.clone(), 8), (b.clone(), 8)]);
        told.stored(b.clone(), 9, 2_000);
        assert_eq!(told.quiet(3_010), [(b.clone(), 9), (a.clone(), 8)]);
        assert_eq!(told.quiet(20_000).len(), 3);
        assert_eq!((told.next_timeout(), told.rooms.len()), (None, 0));
    }
}
