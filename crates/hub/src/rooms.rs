//! Sockets and rooms of one core. Joining, leaving and delivering cost no allocation per receiver.

use rustc_hash::FxHashMap;
use slab::Slab;

use crate::Order;

/// A room of one application. `app` is the application's index in the node's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomKey {
    pub app: u16,
    pub room: Box<str>,
}

impl RoomKey {
    pub fn new(app: u16, room: &str) -> Self {
        Self { app, room: room.into() }
    }
}

/// A socket's place in the hub; valid until [`Hub::remove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketIx(u32);

/// What a join changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinOutcome {
    /// The socket is the room's first member on this core: interest is needed.
    First,
    Added,
    AlreadyIn,
}

/// Whom one copy of an emission is for: members of `rooms[at]` that take none of the copies for `rooms[..at]` and are not in
/// `except`.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub app: u16,
    pub order: Order,
    pub rooms: &'a [Box<str>],
    pub at: usize,
    /// Socket ids.
    pub except: &'a [Box<str>],
}

/// Routing state of one core. `K` is what the caller needs to find the socket's connection.
#[derive(Debug)]
pub struct Hub<K> {
    sockets: Slab<Member<K>>,
    by_id: FxHashMap<Box<str>, SocketIx>,
    rooms: FxHashMap<RoomKey, u32>,
    room_slab: Slab<Room>,
    /// Number of the current delivery; marks excepted sockets without a set.
    stamp: u64,
    /// Highest sequence delivered, by application: who joins a held room takes what comes after it.
    delivered: FxHashMap<u16, u64>,
}

#[derive(Debug)]
struct Member<K> {
    key: K,
    id: Box<str>,
    rooms: Vec<Membership>,
    excepted_in: u64,
}

#[derive(Clone, Copy, Debug)]
struct Membership {
    /// Room index.
    room: u32,
    /// This socket's position in the room's member list.
    position: u32,
    /// The socket takes the room's events after this sequence; [`NOT_HELD`]: none yet.
    since: u64,
}

/// A membership whose room is not known to be fed to this core yet.
const NOT_HELD: u64 = u64::MAX;

impl Membership {
    /// Whether the socket takes this copy. A batch's copies have consecutive sequences in the order of its rooms, so that of an
    /// earlier room is known from any other.
    fn takes(&self, order: Order, copies_before: usize) -> bool {
        match order {
            Order::Ephemeral => self.since != NOT_HELD,
            Order::Recoverable(seq) => {
                self.since != NOT_HELD && seq.saturating_sub(copies_before as u64) > self.since
            }
        }
    }
}

#[derive(Debug)]
struct Room {
    key: RoomKey,
    members: Vec<SocketIx>,
    /// This core is fed the room's events.
    held: bool,
}

impl<K: Copy> Hub<K> {
    pub fn new() -> Self {
        Self {
            sockets: Slab::new(),
            by_id: FxHashMap::default(),
            rooms: FxHashMap::default(),
            room_slab: Slab::new(),
            stamp: 0,
            delivered: FxHashMap::default(),
        }
    }

    /// Adds a socket that is in no room yet. `id` must be new to this hub.
    pub fn insert(&mut self, id: &str, key: K) -> SocketIx {
        let ix = self.sockets.insert(Member { key, id: id.into(), rooms: Vec::new(), excepted_in: 0 });
        let ix = SocketIx(u32::try_from(ix).expect("a core holds far fewer than 2^32 sockets"));
        let previous = self.by_id.insert(id.into(), ix);
        debug_assert!(previous.is_none(), "socket ids are unique");
        ix
    }

    /// Removes a socket from its rooms and the hub; returns the rooms that are empty now.
    pub fn remove(&mut self, socket: SocketIx) -> Vec<RoomKey> {
        let rooms: Vec<u32> =
            self.sockets[socket.0 as usize].rooms.iter().map(|membership| membership.room).collect();
        let emptied = rooms.into_iter().filter_map(|room| self.leave_ix(socket, room)).collect();
        let member = self.sockets.remove(socket.0 as usize);
        self.by_id.remove(&member.id);
        emptied
    }

    pub fn join(&mut self, socket: SocketIx, room: &RoomKey) -> JoinOutcome {
        let room_ix = match self.rooms.get(room) {
            Some(ix) => *ix,
            None => {
                let ix = self.room_slab.insert(Room { key: room.clone(), members: Vec::new(), held: false });
                let ix = u32::try_from(ix).expect("a core holds far fewer than 2^32 rooms");
                self.rooms.insert(room.clone(), ix);
                ix
            }
        };
        let member = &mut self.sockets[socket.0 as usize];
        if member.rooms.iter().any(|membership| membership.room == room_ix) {
            return JoinOutcome::AlreadyIn;
        }
        let Room { members, held, .. } = &mut self.room_slab[room_ix as usize];
        let since = if *held { self.delivered.get(&room.app).copied().unwrap_or(0) } else { NOT_HELD };
        member.rooms.push(Membership { room: room_ix, position: members.len() as u32, since });
        members.push(socket);
        if members.len() == 1 { JoinOutcome::First } else { JoinOutcome::Added }
    }

    /// This core is fed every event of the room after `since`: its members take them from now on.
    pub fn hold(&mut self, room: &RoomKey, since: u64) {
        let Some(&room_ix) = self.rooms.get(room) else { return };
        let Room { members, held, .. } = &mut self.room_slab[room_ix as usize];
        *held = true;
        for socket in members {
            let memberships = &mut self.sockets[socket.0 as usize].rooms;
            if let Some(membership) =
                memberships.iter_mut().find(|m| m.room == room_ix && m.since == NOT_HELD)
            {
                membership.since = since;
            }
        }
    }

    /// `Some(true)`: left and the room is empty now; `Some(false)`: left; `None`: was not in it.
    pub fn leave(&mut self, socket: SocketIx, room: &RoomKey) -> Option<bool> {
        let room_ix = *self.rooms.get(room)?;
        if !self.is_in(socket, room_ix) {
            return None;
        }
        Some(self.leave_ix(socket, room_ix).is_some())
    }

    pub fn contains(&self, socket: SocketIx, room: &RoomKey) -> bool {
        self.rooms.get(room).is_some_and(|ix| self.is_in(socket, *ix))
    }

    /// The socket's rooms, in no particular order.
    pub fn rooms_of(&self, socket: SocketIx) -> impl Iterator<Item = &RoomKey> {
        self.sockets[socket.0 as usize]
            .rooms
            .iter()
            .map(|membership| &self.room_slab[membership.room as usize].key)
    }

    /// Highest sequence of the application's stream that was delivered on this core.
    pub fn delivered(&self, app: u16) -> u64 {
        self.delivered.get(&app).copied().unwrap_or(0)
    }

    pub fn has_members(&self, room: &RoomKey) -> bool {
        self.rooms.contains_key(room)
    }

    /// The keys of a room's members.
    pub fn members(&self, room: &RoomKey) -> impl Iterator<Item = K> {
        let room = self.rooms.get(room).map(|ix| &self.room_slab[*ix as usize]);
        let members = room.into_iter().flat_map(|room| &room.members);
        members.map(|socket| self.sockets[socket.0 as usize].key)
    }

    pub fn socket(&self, id: &str) -> Option<SocketIx> {
        self.by_id.get(id).copied()
    }

    pub fn sockets(&self) -> usize {
        self.sockets.len()
    }

    pub fn rooms(&self) -> usize {
        self.room_slab.len()
    }

    /// Calls `write` with the key of every receiver, once each. Returns how many there were.
    pub fn deliver(&mut self, delivery: Delivery<'_>, mut write: impl FnMut(K)) -> usize {
        let Some(&room) = self
            .rooms
            .get(&RoomRef { app: delivery.app, room: &delivery.rooms[delivery.at] } as &dyn RoomLike)
        else {
            return 0;
        };
        self.stamp += 1;
        for id in delivery.except {
            if let Some(ix) = self.by_id.get(id) {
                self.sockets[ix.0 as usize].excepted_in = self.stamp;
            }
        }
        if let Order::Recoverable(seq) = delivery.order {
            let delivered = self.delivered.entry(delivery.app).or_default();
            *delivered = seq.max(*delivered);
        }
        let earlier: Vec<(u32, usize)> = delivery.rooms[..delivery.at]
            .iter()
            .enumerate()
            .filter_map(|(at, room)| {
                let key = RoomRef { app: delivery.app, room };
                Some((*self.rooms.get(&key as &dyn RoomLike)?, delivery.at - at))
            })
            .collect();
        let mut receivers = 0;
        for socket in &self.room_slab[room as usize].members {
            let member = &self.sockets[socket.0 as usize];
            if member.excepted_in == self.stamp || !member.takes_copy(room, &earlier, delivery.order) {
                continue;
            }
            receivers += 1;
            write(member.key);
        }
        receivers
    }

    fn is_in(&self, socket: SocketIx, room: u32) -> bool {
        self.sockets[socket.0 as usize].rooms.iter().any(|membership| membership.room == room)
    }

    /// Removes the membership; returns the room's key if it is empty now.
    fn leave_ix(&mut self, socket: SocketIx, room_ix: u32) -> Option<RoomKey> {
        let rooms = &mut self.sockets[socket.0 as usize].rooms;
        let at = rooms.iter().position(|membership| membership.room == room_ix)?;
        let position = rooms.swap_remove(at).position;
        let members = &mut self.room_slab[room_ix as usize].members;
        members.swap_remove(position as usize);
        if let Some(moved) = members.get(position as usize).copied() {
            let entry = self.sockets[moved.0 as usize].rooms.iter_mut().find(|m| m.room == room_ix);
            entry.expect("a member lists its room").position = position;
        }
        if !self.room_slab[room_ix as usize].members.is_empty() {
            return None;
        }
        let room = self.room_slab.remove(room_ix as usize);
        self.rooms.remove(&room.key);
        Some(room.key)
    }
}

impl<K> Member<K> {
    /// Whether the socket takes the copy for `room`, and none of those for the `earlier` rooms (with their distance).
    fn takes_copy(&self, room: u32, earlier: &[(u32, usize)], order: Order) -> bool {
        let here = self.rooms.iter().find(|membership| membership.room == room);
        if !here.is_some_and(|membership| membership.takes(order, 0)) {
            return false;
        }
        let took = |(room, before): &(u32, usize)| {
            self.rooms.iter().any(|membership| membership.room == *room && membership.takes(order, *before))
        };
        earlier.is_empty() || !earlier.iter().any(took)
    }
}

impl<K: Copy> Default for Hub<K> {
    fn default() -> Self {
        Self::new()
    }
}

/// Lets a delivery look a room up by borrowed text: one hash, no allocation.
trait RoomLike {
    fn parts(&self) -> (u16, &str);
}

struct RoomRef<'a> {
    app: u16,
    room: &'a str,
}

impl RoomLike for RoomRef<'_> {
    fn parts(&self) -> (u16, &str) {
        (self.app, self.room)
    }
}

impl RoomLike for RoomKey {
    fn parts(&self) -> (u16, &str) {
        (self.app, &self.room)
    }
}

impl<'a> std::borrow::Borrow<dyn RoomLike + 'a> for RoomKey {
    fn borrow(&self) -> &(dyn RoomLike + 'a) {
        self
    }
}

impl std::hash::Hash for dyn RoomLike + '_ {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        let (app, room) = self.parts();
        app.hash(state);
        room.hash(state);
    }
}

impl PartialEq for dyn RoomLike + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for dyn RoomLike + '_ {}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;

    fn names(rooms: &[&str]) -> Vec<Box<str>> {
        rooms.iter().map(|r| (*r).into()).collect()
    }

    fn receivers(hub: &mut Hub<u32>, rooms: &[&str], at: usize, except: &[&str]) -> Vec<u32> {
        let (rooms, except) = (names(rooms), names(except));
        let mut got = Vec::new();
        hub.deliver(
            Delivery { app: 0, order: Order::Ephemeral, rooms: &rooms, at, except: &except },
            |key| got.push(key),
        );
        got.sort_unstable();
        got
    }

    #[test]
    fn a_socket_takes_the_copy_of_its_first_listed_room() {
        let mut hub = Hub::new();
        let (a, b, c) = (hub.insert("a", 1), hub.insert("b", 2), hub.insert("c", 3));
        for (socket, rooms) in [(a, vec!["x", "y"]), (b, vec!["y"]), (c, vec!["x"])] {
            for room in rooms {
                hub.join(socket, &RoomKey::new(0, room));
                hub.hold(&RoomKey::new(0, room), 0);
            }
        }
        assert_eq!(receivers(&mut hub, &["x", "y"], 0, &[]), [1, 3]);
        assert_eq!(receivers(&mut hub, &["x", "y"], 1, &[]), [2]);
        assert_eq!(receivers(&mut hub, &["x", "y"], 0, &["a", "nobody"]), [3]);
        assert_eq!(receivers(&mut hub, &["nowhere", "y"], 1, &[]), [1, 2]);
    }

    /// The socket is joining `x`: what it cannot have from there it takes from `y`.
    #[test]
    fn a_room_that_is_not_held_yet_keeps_no_copy_back() {
        let mut hub = Hub::new();
        let a = hub.insert("a", 1);
        let (x, y) = (RoomKey::new(0, "x"), RoomKey::new(0, "y"));
        let rooms = names(&["x", "y"]);
        let takes = |hub: &mut Hub<u32>, order, at| {
            hub.deliver(Delivery { app: 0, order, rooms: &rooms, at, except: &[] }, |_| {}) == 1
        };
        hub.join(a, &y);
        hub.hold(&y, 0);
        hub.join(a, &x);
        assert!(!takes(&mut hub, Order::Recoverable(10), 0) && takes(&mut hub, Order::Recoverable(11), 1));
        // The marker was stored between the two copies of a later batch.
        hub.hold(&x, 20);
        assert!(!takes(&mut hub, Order::Recoverable(20), 0) && takes(&mut hub, Order::Recoverable(21), 1));
        assert!(takes(&mut hub, Order::Recoverable(22), 0) && !takes(&mut hub, Order::Recoverable(23), 1));
        // Who joins a held room takes what comes after what was delivered.
        let b = hub.insert("b", 2);
        hub.join(b, &x);
        let mut got = Vec::new();
        hub.deliver(
            Delivery { app: 0, order: Order::Recoverable(23), rooms: &rooms, at: 0, except: &[] },
            |k| got.push(k),
        );
        hub.deliver(
            Delivery { app: 0, order: Order::Recoverable(24), rooms: &rooms, at: 0, except: &[] },
            |k| got.push(k),
        );
        assert_eq!(got, [1, 1, 2]);
    }

    #[test]
    fn applications_do_not_share_rooms() {
        let mut hub = Hub::new();
        let a = hub.insert("a", 1);
        hub.join(a, &RoomKey::new(1, "x"));
        assert_eq!(receivers(&mut hub, &["x"], 0, &[]), [] as [u32; 0]);
    }

    proptest! {
        /// Random joins, leaves, removals and deliveries agree with a plain model.
        #[test]
        fn agrees_with_a_model(steps in prop::collection::vec((0u8..4, 0usize..8, 0usize..5), 1..200)) {
            let mut hub = Hub::new();
            let mut live: Vec<Option<SocketIx>> = vec![None; 8];
            let mut model: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
            for (what, socket, room) in steps {
                let key = RoomKey::new(0, &room.to_string());
                match (what, live[socket]) {
                    (0, None) => live[socket] = Some(hub.insert(&socket.to_string(), socket as u32)),
                    (0 | 1, Some(ix)) => {
                        let members = model.entry(room).or_default();
                        let expected = match (members.is_empty(), members.insert(socket)) {
                            (_, false) => JoinOutcome::AlreadyIn,
                            (true, true) => JoinOutcome::First,
                            (false, true) => JoinOutcome::Added,
                        };
                        prop_assert_eq!(hub.join(ix, &key), expected);
                        hub.hold(&key, 0);
                    }
                    (2, Some(ix)) => {
                        let members = model.entry(room).or_default();
                        let expected = members.remove(&socket).then_some(members.is_empty());
                        prop_assert_eq!(hub.leave(ix, &key), expected);
                    }
                    (3, Some(ix)) => {
                        live[socket] = None;
                        let mut emptied = Vec::new();
                        for (room, members) in &mut model {
                            if members.remove(&socket) && members.is_empty() {
                                emptied.push(RoomKey::new(0, &room.to_string()));
                            }
                        }
                        let mut got = hub.remove(ix);
                        got.sort();
                        prop_assert_eq!(got, emptied);
                    }
                    _ => {}
                }
                for (room, members) in &model {
                    let expected: Vec<u32> = members.iter().map(|s| *s as u32).collect();
                    prop_assert_eq!(receivers(&mut hub, &[&room.to_string()], 0, &[]), expected);
                }
                prop_assert_eq!(hub.rooms(), model.values().filter(|m| !m.is_empty()).count());
            }
        }
    }
}
