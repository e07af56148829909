//! The session move as a shard sees it: what leaves, what arrives. The protocol between the nodes is `cluster::moving`.
//!
//! Leaving: reserved, the session goes on as before; at the freeze it waits until no command is under way, passes a barrier in
//! its own feed, and is packed. Arriving: its sockets are members of their rooms here before the old node freezes, and what
//! comes for them waits; what the old node has delivered already is dropped by sequence and by id.
//!
//! `leaving` is the side that gives a session away, `arriving` the side that takes it.

mod arriving;
mod leaving;

use bytes::Bytes;
use dialects::{Handshake, Membership, Participant, Placed};
use domain::Identity;
use domain::call::View;
use serde::{Deserialize, Serialize};
use socketio::{FrozenConnections, Namespace};

use super::access::PackedAccess;
use super::session::SessionKey;
use super::unauthenticated::PackedGrace;
use super::{Shard, State};

/// The rooms of one socket, for the node that is about to have it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SocketRooms {
    pub id: String,
    /// Says which application's rooms they are; `None` from nodes whose sessions have one application only.
    #[serde(default)]
    pub namespace: Option<String>,
    pub rooms: Vec<String>,
    /// Rooms that it has left since.
    #[serde(default)]
    pub left: Vec<String>,
}

/// A session on its way. Times are milliseconds left, never a node's clock.
#[derive(Debug, Serialize, Deserialize)]
pub struct Packed {
    pub sid: String,
    pub app: String,
    pub engine: engineio::Frozen,
    pub io: Option<FrozenConnections>,
    pub sockets: Vec<PackedSocket>,
    pub handshake: Option<Handshake>,
    /// Name and value of the headers in which a token may stand.
    pub headers: Vec<(String, String)>,
    pub peer: std::net::IpAddr,
    /// For the log.
    #[serde(default)]
    pub access: PackedAccess,
    /// The old node has applied the application's stream up to here.
    pub applied: u64,
    /// The same of the other applications of its sockets, by name.
    #[serde(default)]
    pub applied_others: Vec<(String, u64)>,
    /// Ephemeral events the old node has delivered since the reservation.
    pub seen: Vec<u128>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PackedSocket {
    pub id: String,
    pub nsp: Namespace,
    pub identity: Option<Identity>,
    pub memberships: Vec<Membership>,
    /// Where the back end has put it.
    #[serde(default)]
    pub placed: Vec<Placed>,
    pub listed: Vec<(Box<str>, Participant)>,
    pub stage: u32,
    pub accepted: bool,
    /// The calls its device is in; it is in their rooms.
    #[serde(default)]
    pub calls: Vec<View>,
    /// Rooms of the users it watches, and of everybody.
    #[serde(default)]
    pub watched: Vec<String>,
    /// When it was accepted, in milliseconds since the Unix epoch; `None`: it was not.
    #[serde(default)]
    pub since_ms: Option<u64>,
    /// Since its client was heard last; `None`: it is no device of a user.
    #[serde(default)]
    pub quiet_ms: Option<u64>,
    /// It has no token that counts.
    #[serde(default)]
    pub grace: Option<PackedGrace>,
}

/// Who waits for a barrier in the shard's feed.
#[derive(Clone, Debug)]
pub enum Barrier {
    /// A session that freezes behind it.
    Freezing(SessionKey),
    /// A session that moved here: behind it the old node's deliveries of this application are past.
    Arrived { key: SessionKey, app: u16 },
    /// A session that is arriving: behind it, and behind those of the `rest` of its applications, nothing comes that was published
    /// before its reservation.
    Subscribed { mv: u64, seq: u32, rest: Vec<u16> },
}

/// With named fields: unknown ones are skipped and absent ones default at neighbouring versions.
pub fn encode(value: &impl Serialize) -> Bytes {
    rmp_serde::to_vec_named(value).expect("strings and bytes always encode into memory").into()
}

impl State {
    /// A barrier came down the feed, with everything up to `seq` before it; `None`: it could not be passed.
    pub(super) fn on_barrier(&mut self, shard: &Shard, token: u64, seq: Option<u64>) {
        match self.barriers.remove(&token) {
            Some(Barrier::Freezing(key)) => self.pass_freeze(shard, key, token, seq),
            Some(Barrier::Arrived { key, app }) => self.feed_passed(shard, key, app, seq.is_some()),
            Some(Barrier::Subscribed { mv, seq: number, rest }) => {
                self.subscribed(shard, mv, number, rest, seq.is_some());
            }
            None => {}
        }
    }
}
