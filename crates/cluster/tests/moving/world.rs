//! Three nodes, one room log, one session and its client. The log stands for NATS: every node reads it in order, each at
//! its own pace; a barrier is a marker in it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use cluster::moving::{MoveKey, MoveOwner, Taker};
use cluster::node_message::NodeId;
use serde::{Deserialize, Serialize};

/// Position in the log.
pub type At = usize;
pub type Room = u8;

pub enum Entry {
    Event { room: Room, recoverable: bool },
    Marker,
}

/// From the session to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Down {
    Event(At),
    Ack(u64),
}

/// What moves.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Session {
    /// Rooms, and since when.
    pub rooms: BTreeMap<Room, At>,
    pub queue: Vec<Down>,
    /// The last recoverable event that was queued.
    pub last_seq: Option<At>,
    /// Ephemeral events that were queued since the reservation.
    pub seen: BTreeSet<At>,
    /// The old node's barrier. The new node may read the log later than the old one did: the dedupe rule holds for its
    /// buffer and for what it still reads up to here.
    pub barrier: At,
    /// The next message of the client.
    pub next_up: u64,
    /// Makes some states need several chunks.
    pub padding: Bytes,
}

impl Session {
    /// Queues an entry unless it is not for this session, or was queued at the old node.
    pub fn see(&mut self, at: At, entry: &Entry) {
        let Entry::Event { room, recoverable } = entry else { return };
        let member = self.rooms.get(room).is_some_and(|since| *since <= at);
        let known = if *recoverable { Some(at) <= self.last_seq } else { self.seen.contains(&at) };
        if !member || (at < self.barrier && known) {
            return;
        }
        self.queue.push(Down::Event(at));
        if *recoverable {
            self.last_seq = Some(at);
        } else {
            self.seen.insert(at);
        }
    }

    pub fn up(&mut self, n: u64) {
        assert_eq!(n, self.next_up, "a message of the client was lost, doubled or reordered");
        self.next_up += 1;
    }

    pub fn encode(&self) -> Bytes {
        rmp_serde::to_vec(self).expect("plain values").into()
    }

    pub fn decode(bytes: &[u8]) -> Self {
        rmp_serde::from_slice(bytes).expect("what was encoded")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    Live,
    /// `Freeze` came; `true`: the state was exported.
    Frozen(bool),
}

pub struct Hosted {
    pub session: Session,
    pub life: Life,
    pub reserved: Option<MoveKey>,
    /// Joins that wait for the taker.
    pub joins: BTreeSet<u64>,
}

/// A WebSocket that wants the session.
pub struct Candidate {
    pub mv: u64,
    pub rooms: BTreeMap<Room, At>,
    pub buffer: Vec<At>,
    /// What the client sent after `5`.
    pub frames: Vec<u64>,
}

pub enum Barrier {
    Subscribed { mv: u64, seq: u32 },
    Frozen { key: MoveKey },
}

pub struct Node {
    pub id: NodeId,
    /// The next entry it reads.
    pub at: At,
    pub owner: MoveOwner,
    pub taker: Taker,
    pub hosted: Option<Hosted>,
    pub candidate: Option<Candidate>,
    pub barriers: Vec<(At, Barrier)>,
    /// Commands of the client that began here.
    pub running: BTreeSet<u64>,
    /// Where results of running commands go after the hand-over.
    pub tailing: Option<MoveKey>,
}

impl Node {
    pub fn new(id: NodeId) -> Self {
        Self {
            id,
            at: 0,
            owner: MoveOwner::new(),
            taker: Taker::new(),
            hosted: None,
            candidate: None,
            barriers: Vec::new(),
            running: BTreeSet::new(),
            tailing: None,
        }
    }

    /// Whether a client could use a session here.
    pub fn live(&self) -> bool {
        self.hosted.as_ref().is_some_and(|hosted| hosted.life == Life::Live)
    }

    /// Reads one entry and says which barriers it passes.
    pub fn read(&mut self, log: &[Entry]) -> Vec<Barrier> {
        let (at, entry) = (self.at, &log[self.at]);
        self.at += 1;
        if let Some(hosted) = &mut self.hosted
            && hosted.life != Life::Frozen(true)
        {
            hosted.session.see(at, entry);
        }
        if let (Some(candidate), Entry::Event { room, .. }) = (&mut self.candidate, entry)
            && candidate.rooms.get(room).is_some_and(|since| *since <= at)
        {
            candidate.buffer.push(at);
        }
        let passed = self.barriers.extract_if(.., |(marker, _)| *marker == at);
        passed.map(|(_, barrier)| barrier).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    Polling,
    /// The probe was answered: no polls, no posts, until `5` is sent or the WebSocket closes.
    Paused,
    WebSocket,
    Lost,
}
