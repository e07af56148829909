//! Sockets and rooms of one core. Joining, leaving and delivering cost no allocation per receiver.

use rustc_hash::FxHashMap;
use slab::Slab;

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

/// Whom one copy of an emission is for: members of `rooms[at]` that are in none of `rooms[..at]` and not in `except`.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    pub app: u16,
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
}

#[derive(Debug)]
struct Member<K> {
    key: K,
    id: Box<str>,
    /// Room index and this socket's position in its member list.
    rooms: Vec<(u32, u32)>,
    excepted_in: u64,
}

#[derive(Debug)]
struct Room {
    key: RoomKey,
    members: Vec<SocketIx>,
}

impl<K: Copy> Hub<K> {
    pub fn new() -> Self {
        Self {
            sockets: Slab::new(),
            by_id: FxHashMap::default(),
            rooms: FxHashMap::default(),
            room_slab: Slab::new(),
            stamp: 0,
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
        let rooms: Vec<u32> = self.sockets[socket.0 as usize].rooms.iter().map(|(room, _)| *room).collect();
        let emptied = rooms.into_iter().filter_map(|room| self.leave_ix(socket, room)).collect();
        let member = self.sockets.remove(socket.0 as usize);
        self.by_id.remove(&member.id);
        emptied
    }

    pub fn join(&mut self, socket: SocketIx, room: &RoomKey) -> JoinOutcome {
        let room_ix = match self.rooms.get(room) {
            Some(ix) => *ix,
            None => {
                let ix = self.room_slab.insert(Room { key: room.clone(), members: Vec::new() });
                let ix = u32::try_from(ix).expect("a core holds far fewer than 2^32 rooms");
                self.rooms.insert(room.clone(), ix);
                ix
            }
        };
        let member = &mut self.sockets[socket.0 as usize];
        if member.rooms.iter().any(|(ix, _)| *ix == room_ix) {
            return JoinOutcome::AlreadyIn;
        }
        let members = &mut self.room_slab[room_ix as usize].members;
        member.rooms.push((room_ix, members.len() as u32));
        members.push(socket);
        if members.len() == 1 { JoinOutcome::First } else { JoinOutcome::Added }
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
        self.sockets[socket.0 as usize].rooms.iter().map(|(ix, _)| &self.room_slab[*ix as usize].key)
    }

    pub fn has_members(&self, room: &RoomKey) -> bool {
        self.rooms.contains_key(room)
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
        let earlier: Vec<u32> = delivery.rooms[..delivery.at]
            .iter()
            .filter_map(|room| self.rooms.get(&RoomRef { app: delivery.app, room } as &dyn RoomLike).copied())
            .collect();
        let mut receivers = 0;
        for socket in &self.room_slab[room as usize].members {
            let member = &self.sockets[socket.0 as usize];
            let took_earlier = !earlier.is_empty() && member.rooms.iter().any(|(ix, _)| earlier.contains(ix));
            if member.excepted_in == self.stamp || took_earlier {
                continue;
            }
            receivers += 1;
            write(member.key);
        }
        receivers
    }

    fn is_in(&self, socket: SocketIx, room: u32) -> bool {
        self.sockets[socket.0 as usize].rooms.iter().any(|(ix, _)| *ix == room)
    }

    /// Removes the membership; returns the room's key if it is empty now.
    fn leave_ix(&mut self, socket: SocketIx, room_ix: u32) -> Option<RoomKey> {
        let rooms = &mut self.sockets[socket.0 as usize].rooms;
        let at = rooms.iter().position(|(ix, _)| *ix == room_ix)?;
        let (_, position) = rooms.swap_remove(at);
        let members = &mut self.room_slab[room_ix as usize].members;
        members.swap_remove(position as usize);
        if let Some(moved) = members.get(position as usize).copied() {
            let entry = self.sockets[moved.0 as usize].rooms.iter_mut().find(|(ix, _)| *ix == room_ix);
            entry.expect("a member lists its room").1 = position;
        }
        if !self.room_slab[room_ix as usize].members.is_empty() {
            return None;
        }
        let room = self.room_slab.remove(room_ix as usize);
        self.rooms.remove(&room.key);
        Some(room.key)
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
        hub.deliver(Delivery { app: 0, rooms: &rooms, at, except: &except }, |key| got.push(key));
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
            }
        }
        assert_eq!(receivers(&mut hub, &["x", "y"], 0, &[]), [1, 3]);
        assert_eq!(receivers(&mut hub, &["x", "y"], 1, &[]), [2]);
        assert_eq!(receivers(&mut hub, &["x", "y"], 0, &["a", "nobody"]), [3]);
        assert_eq!(receivers(&mut hub, &["nowhere", "y"], 1, &[]), [1, 2]);
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
