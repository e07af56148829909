//! Which users are connected to a thread of this node, and with which devices: one record per user in the application's bucket,
//! for the coordinators to fold. Who is connected, idle, gone for good, and in which rooms others hear of it, is decided here;
//! what that means to others is not.
//!
//! When the last device goes, the record says so at once and is removed after the application's grace. Start at [`Devices`].

use std::collections::BTreeSet;
use std::time::Duration;

use bus::Bus;
use bytes::Bytes;
use cluster::coordination;
use cluster::sid::NodeId;
use domain::UserId;
use domain::presence::{Device, DeviceRecord, PresenceSettings};
use rustc_hash::FxHashMap;
use serde_json::Value;
use tokio::sync::oneshot;

use crate::app::App;
use crate::clock::Millis;
use crate::node::Unavailable;
use crate::records::{self, Record, Settled};

/// A user of one application.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserKey {
    pub app: u16,
    pub user: UserId,
}

/// A user's record to write, or to remove.
pub type Change = records::Change<UserKey>;

/// The clocks of one moment: the node's own for deadlines, Unix milliseconds for what others read.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub ms: Millis,
    pub unix_ms: u64,
}

/// One thread's users and the records it keeps of them. Owned by its shard. Each change must be written with [`write`], and its
/// end told to [`Devices::written`].
#[derive(Debug, Default)]
pub struct Devices {
    users: FxHashMap<UserKey, User>,
    /// Users without a device here, by the time their records go.
    leaving: BTreeSet<(Millis, UserKey)>,
    /// By application; `None`: it has no presence.
    settings: Vec<Option<PresenceSettings>>,
}

#[derive(Debug, Default)]
struct User {
    wire_id: Value,
    devices: Vec<Device>,
    /// Where others see the user, with how many devices; newest last. Of the last ones there were, if there is no device.
    rooms: Vec<(Box<str>, usize)>,
    gone_ms: u64,
    /// Without a device: when the record goes. `None` then: it is gone, or going.
    leaves_at: Option<Millis>,
    record: Record<Option<DeviceRecord>>,
}

impl Devices {
    pub fn new(settings: Vec<Option<PresenceSettings>>) -> Self {
        Self { settings, ..Self::default() }
    }

    /// `None`: the application has no presence.
    pub fn settings(&self, app: u16) -> Option<&PresenceSettings> {
        self.settings.get(usize::from(app))?.as_ref()
    }

    /// A device is connected, and seen in `rooms`.
    pub fn add<'a>(
        &mut self,
        key: &UserKey,
        wire_id: Value,
        device: Device,
        rooms: impl Iterator<Item = &'a str>,
    ) -> Option<Change> {
        self.settings(key.app)?;
        let user = self.users.entry(key.clone()).or_default();
        user.wire_id = wire_id;
        if user.devices.is_empty() {
            user.rooms.clear();
        }
        if let Some(at) = user.leaves_at.take() {
            self.leaving.remove(&(at, key.clone()));
        }
        user.devices.push(device);
        rooms.for_each(|room| user.enter(room));
        self.change(key)
    }

    /// A device is gone, and with it from `rooms`.
    pub fn remove<'a>(
        &mut self,
        key: &UserKey,
        device: &str,
        rooms: impl Iterator<Item = &'a str>,
        now: Now,
    ) -> Option<Change> {
        let grace_ms = self.settings(key.app)?.grace_ms;
        let user = self.users.get_mut(key)?;
        let at = user.devices.iter().position(|known| *known.id == *device)?;
        user.devices.remove(at);
        user.gone_ms = now.unix_ms;
        if user.devices.is_empty() {
            let at = now.ms + grace_ms;
            user.leaves_at = Some(at);
            self.leaving.insert((at, key.clone()));
        } else {
            rooms.for_each(|room| user.leave(room));
        }
        self.change(key)
    }

    pub fn set_idle(&mut self, key: &UserKey, device: &str, idle: bool) -> Option<Change> {
        let known = self.users.get_mut(key)?.devices.iter_mut().find(|known| *known.id == *device)?;
        known.idle = idle;
        self.change(key)
    }

    /// A device of the user is seen in a further room.
    pub fn enter(&mut self, key: &UserKey, room: &str) -> Option<Change> {
        self.users.get_mut(key)?.enter(room);
        self.change(key)
    }

    pub fn leave(&mut self, key: &UserKey, room: &str) -> Option<Change> {
        self.users.get_mut(key)?.leave(room);
        self.change(key)
    }

    /// Settles once the user's record says what this thread knows now.
    pub fn recorded(&mut self, key: &UserKey) -> oneshot::Receiver<Settled> {
        match self.users.get_mut(key) {
            Some(user) => user.record.settled(),
            None => Record::<()>::default().settled(),
        }
    }

    /// One for each record that is not written yet.
    pub fn unsettled(&mut self) -> Vec<oneshot::Receiver<Settled>> {
        let users = self.users.values_mut().filter(|user| !user.record.is_clean());
        users.map(|user| user.record.settled()).collect()
    }

    /// A write has ended, with its revision. Returns the next one, if there is more to say or it was not written.
    pub fn written(&mut self, change: &Change, result: Result<u64, Unavailable>) -> Option<Change> {
        let key = &change.of;
        let rooms_told = self.settings(key.app)?.rooms_told;
        let user = self.users.get_mut(key)?;
        let content = user.content(&key.user, rooms_told);
        if let Some((next, pause)) = user.record.written(change.pause, result, content) {
            return Some(change_to(key, next.as_ref(), user.gone_ms, pause));
        }
        if user.devices.is_empty() && user.leaves_at.is_none() {
            self.users.remove(key);
        }
        None
    }

    /// When the next record goes.
    pub fn next_timeout(&self) -> Option<Millis> {
        self.leaving.first().map(|(at, _)| *at)
    }

    /// Removes the records of users who did not come back.
    pub fn expire(&mut self, now: Millis) -> Vec<Change> {
        let mut changes = Vec::new();
        while let Some((at, key)) = self.leaving.pop_first() {
            if at > now {
                self.leaving.insert((at, key));
                break;
            }
            if let Some(user) = self.users.get_mut(&key) {
                user.leaves_at = None;
            }
            changes.extend(self.change(&key));
        }
        changes
    }

    /// Every record anew: others may have removed them while this node had no lease.
    pub fn rewrite_all(&mut self) -> Vec<Change> {
        let keys: Vec<UserKey> = self.users.keys().cloned().collect();
        keys.iter().filter_map(|key| self.change(key)).collect()
    }

    fn change(&mut self, key: &UserKey) -> Option<Change> {
        let rooms_told = self.settings(key.app)?.rooms_told;
        let user = self.users.get_mut(key)?;
        let content = user.content(&key.user, rooms_told);
        let now = user.record.change(|| content)?;
        Some(change_to(key, now.as_ref(), user.gone_ms, Duration::ZERO))
    }
}

impl User {
    fn enter(&mut self, room: &str) {
        match self.rooms.iter_mut().find(|(known, _)| **known == *room) {
            Some((_, devices)) => *devices += 1,
            None => self.rooms.push((room.into(), 1)),
        }
    }

    fn leave(&mut self, room: &str) {
        let Some(at) = self.rooms.iter().position(|(known, _)| **known == *room) else { return };
        self.rooms[at].1 -= 1;
        if self.rooms[at].1 == 0 {
            self.rooms.remove(at);
        }
    }

    /// `None`: there is to be no record.
    fn content(&self, user: &UserId, rooms_told: usize) -> Option<DeviceRecord> {
        if self.devices.is_empty() && self.leaves_at.is_none() {
            return None;
        }
        let newest = self.rooms.len().saturating_sub(rooms_told);
        Some(DeviceRecord {
            user: user.clone(),
            wire_id: self.wire_id.clone(),
            devices: self.devices.clone(),
            rooms: self.rooms[newest..].iter().map(|(room, _)| room.clone()).collect(),
            gone_ms: self.gone_ms,
        })
    }
}

/// A removal says since when the user has been gone: that is when it was last seen.
fn change_to(key: &UserKey, content: Option<&DeviceRecord>, gone_ms: u64, pause: Duration) -> Change {
    let value = content.map(|record| Bytes::from(coordination::encode(record)));
    let farewell = vec![(coordination::GONE_HEADER.into(), gone_ms.to_string())];
    Change { farewell, ..Change::new(key.clone(), value, pause) }
}

/// Carries a change out; returns the record's revision.
pub async fn write(
    bus: &Bus,
    app: &App,
    node: NodeId,
    thread: u8,
    change: &Change,
) -> Result<u64, Unavailable> {
    let key = coordination::device_key(&change.of.user, node.as_str(), thread);
    change.write(bus, &app.presence, &key).await.map_err(|error| {
        tracing::warn!(%error, app = app.name(), "a user's devices were not written");
        Unavailable
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> UserKey {
        UserKey { app: 0, user: UserId::new("7").unwrap() }
    }

    fn devices() -> Devices {
        let settings = PresenceSettings { grace_ms: 4_000, rooms_told: 2, ..PresenceSettings::default() };
        Devices::new(vec![Some(settings), None])
    }

    fn device(id: &str) -> Device {
        Device { id: id.into(), idle: false }
    }

    fn at(ms: Millis) -> Now {
        Now { ms, unix_ms: 1_000_000 + ms }
    }

    fn record(change: &Change) -> Option<DeviceRecord> {
        change.value.as_ref().map(|value| coordination::decode(value).unwrap())
    }

    fn ids(record: &DeviceRecord) -> Vec<&str> {
        record.devices.iter().map(|device| &*device.id).collect()
    }

    fn add(devices: &mut Devices, id: &str, rooms: &[&str]) -> Option<Change> {
        devices.add(&key(), 7.into(), device(id), rooms.iter().copied())
    }

    fn remove(devices: &mut Devices, id: &str, rooms: &[&str], now: Now) -> Option<Change> {
        devices.remove(&key(), id, rooms.iter().copied(), now)
    }

    /// Writes until the record is as the thread knows it; returns what was written last.
    fn settle(devices: &mut Devices, change: Option<Change>) -> Option<DeviceRecord> {
        let mut change = change.expect("there is something to write");
        while let Some(next) = devices.written(&change, Ok(1)) {
            change = next;
        }
        record(&change)
    }

    #[test]
    fn the_last_device_leaves_a_record_without_devices_for_the_grace() {
        let mut devices = devices();
        let change = add(&mut devices, "a", &["r"]);
        assert_eq!(ids(&settle(&mut devices, change).unwrap()), ["a"]);
        let change = remove(&mut devices, "a", &["r"], at(10));
        let written = settle(&mut devices, change).unwrap();
        assert_eq!((ids(&written).len(), written.gone_ms), (0, 1_000_010));
        assert_eq!(*written.rooms[0], *"r", "who was there last is told that the user is offline");
        assert_eq!(devices.next_timeout(), Some(4_010));
        assert!(devices.expire(4_009).is_empty());
        let change = devices.expire(4_010).pop();
        assert_eq!(settle(&mut devices, change), None);
        assert!(devices.users.is_empty() && devices.leaving.is_empty());
    }

    #[test]
    fn who_comes_back_within_the_grace_never_lost_the_record() {
        let mut devices = devices();
        let change = add(&mut devices, "a", &["old"]);
        settle(&mut devices, change);
        let change = remove(&mut devices, "a", &["old"], at(0));
        settle(&mut devices, change);
        let change = add(&mut devices, "b", &[]);
        let written = settle(&mut devices, change).unwrap();
        assert_eq!((ids(&written), written.rooms.len(), written.gone_ms), (vec!["b"], 0, 1_000_000));
        assert_eq!((devices.next_timeout(), devices.expire(Millis::MAX).len()), (None, 0));
        // Gone again while the record is being removed: it is written again, and not forgotten.
        let change = remove(&mut devices, "b", &[], at(1));
        settle(&mut devices, change);
        let removal = devices.expire(Millis::MAX).pop().unwrap();
        assert_eq!(record(&removal), None);
        assert!(add(&mut devices, "c", &[]).is_none());
        let next = devices.written(&removal, Ok(1));
        assert_eq!(ids(&settle(&mut devices, next).unwrap()), ["c"]);
    }

    #[test]
    fn what_changes_during_a_write_goes_into_the_next_one() {
        let mut devices = devices();
        let first = add(&mut devices, "a", &[]).unwrap();
        assert!(add(&mut devices, "b", &["x"]).is_none());
        assert!(devices.set_idle(&key(), "a", true).is_none());
        let mut settled = devices.recorded(&key());
        assert_eq!(devices.unsettled().len(), 1);
        let second = devices.written(&first, Ok(1)).unwrap();
        assert!(settled.try_recv().is_err());
        assert!(devices.written(&second, Ok(2)).is_none());
        assert_eq!(settled.try_recv(), Ok(Ok(())));
        let written = record(&second).unwrap();
        let idle: Vec<bool> = written.devices.iter().map(|device| device.idle).collect();
        assert_eq!((ids(&written), idle), (vec!["a", "b"], vec![true, false]));
        assert!(devices.unsettled().is_empty());
        assert_eq!(devices.rewrite_all().len(), 1);
        assert!(devices.rewrite_all().is_empty(), "it is being written");
    }

    #[test]
    fn the_newest_rooms_are_told_and_counted_by_device() {
        let mut devices = devices();
        let change = add(&mut devices, "a", &["1", "2"]);
        settle(&mut devices, change);
        let change = add(&mut devices, "b", &["2", "3"]);
        let written = settle(&mut devices, change).unwrap();
        assert_eq!(written.rooms, [Box::from("2"), Box::from("3")]);
        let change = devices.leave(&key(), "3");
        assert_eq!(settle(&mut devices, change).unwrap().rooms, [Box::from("1"), Box::from("2")]);
        let change = remove(&mut devices, "b", &["2"], at(0));
        assert_eq!(settle(&mut devices, change).unwrap().rooms, [Box::from("1"), Box::from("2")]);
        let change = devices.leave(&key(), "2");
        assert_eq!(settle(&mut devices, change).unwrap().rooms, [Box::from("1")]);
    }

    #[test]
    fn an_application_without_presence_keeps_nothing() {
        let mut devices = devices();
        let other = UserKey { app: 1, ..key() };
        assert!(devices.add(&other, 7.into(), device("a"), std::iter::empty()).is_none());
        assert!(devices.users.is_empty());
        assert_eq!(devices.recorded(&other).try_recv(), Ok(Ok(())));
    }

    #[test]
    fn an_unknown_device_changes_nothing() {
        let mut devices = devices();
        assert!(remove(&mut devices, "a", &[], at(0)).is_none());
        let change = add(&mut devices, "a", &[]);
        settle(&mut devices, change);
        assert!(remove(&mut devices, "x", &[], at(0)).is_none());
        assert!(devices.set_idle(&key(), "x", true).is_none());
    }
}
