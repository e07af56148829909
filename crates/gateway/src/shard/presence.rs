//! Which sockets count as devices of their users: from their acceptance to their end, idle while their clients say nothing. What
//! follows from it for the records is [`crate::presence`].

use std::rc::Rc;
use std::time::Duration;

use domain::Rejection;
use domain::presence::Device;

use super::commands::{Actor, Task};
use super::session::{Entry, Socket};
use super::{Shard, State};
use crate::clock::{Millis, unix_ms};
use crate::presence::{self, Change, Devices, Now, UserKey};

/// A listed device's client was heard last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    pub at: Millis,
    pub idle: bool,
}

/// A device that its user is no longer at here.
#[derive(Clone, Debug)]
pub struct Gone {
    pub user: UserKey,
    pub device: Box<str>,
    pub rooms: Vec<Box<str>>,
}

/// How often sockets are looked at for idleness: a part of the shortest `presence.idle_ms`; `None`: never.
pub fn idle_pass_ms(devices: &Devices, apps: usize) -> Option<Millis> {
    /// Parts of an idle time, and bounds of the pause between two passes.
    const PARTS: u64 = 8;
    const PAUSE_MS: std::ops::RangeInclusive<u64> = 100..=10_000;
    let apps = 0..u16::try_from(apps).unwrap_or(u16::MAX);
    let times = apps.filter_map(|app| devices.settings(app)).map(|settings| settings.idle_ms);
    let shortest = times.filter(|idle_ms| *idle_ms > 0).min()?;
    Some((shortest / PARTS).clamp(*PAUSE_MS.start(), *PAUSE_MS.end()))
}

/// Settles once the record of the acting user's devices is written: the coordinators know this socket.
pub async fn recorded(shard: &Rc<Shard>, actor: &Actor) -> Result<(), Rejection> {
    let Some(identity) = &actor.identity else { return Ok(()) };
    let key = UserKey { app: actor.app, user: identity.user.clone() };
    let settled = shard.turn(|state, _| state.devices.recorded(&key));
    settled.await.map_err(|_| Rejection::Unavailable)?.map_err(|_| Rejection::Unavailable)
}

/// Writes a record until it says what the thread knows.
pub async fn write(shard: Rc<Shard>, change: Change) {
    let shared = &shard.shared;
    let mut next = Some(change);
    while let Some(change) = next {
        let app = shared.app(change.of.app);
        let result = presence::write(&shared.bus, app, shared.id, shard.ix, &change).await;
        let outcome = if result.is_ok() { "written" } else { "failed" };
        shared.metrics.device_writes.with_label_values(&[outcome]).inc();
        next = shard.turn(|state, _| state.devices.written(&change, result));
    }
}

/// A device that moved away is listed at its new node first: between two records everybody sees one.
pub async fn unlist_later(shard: Rc<Shard>, gone: Vec<Gone>, after: Duration) {
    tokio::time::sleep(after).await;
    shard.turn(|state, shard| gone.iter().for_each(|gone| state.unlist_device(shard, gone)));
}

fn key_of(socket: &Socket) -> Option<UserKey> {
    Some(UserKey { app: socket.app, user: socket.identity.as_ref()?.user.clone() })
}

/// Rooms in which others see the socket's user come and go: where it is listed, and those that its application names.
fn seen_in(shard: &Shard, socket: &Socket) -> Vec<Box<str>> {
    let dialect = &shard.shared.app(socket.app).dialect;
    let named = socket.memberships.iter().map(|membership| &membership.room);
    let listed = socket.listed.iter().map(|(room, _)| room);
    listed.chain(named.filter(|room| dialect.tells_presence_in(room))).cloned().collect()
}

impl State {
    /// An accepted socket is a device of its user from now on. `quiet_ms`: since its client was heard last.
    pub(super) fn list_device(&mut self, shard: &Shard, socket: &mut Socket, quiet_ms: Millis) {
        let app = socket.app;
        let Some(idle_ms) = self.devices.settings(app).map(|settings| settings.idle_ms) else { return };
        let (Some(key), Some(identity)) = (key_of(socket), &socket.identity) else { return };
        let heard =
            Heard { at: shard.now().saturating_sub(quiet_ms), idle: idle_ms > 0 && quiet_ms >= idle_ms };
        let device = Device { id: socket.id.clone(), idle: heard.idle };
        let rooms = seen_in(shard, socket);
        let change = self.devices.add(&key, identity.wire_id(), device, rooms.iter().map(|room| &**room));
        socket.heard = Some(heard);
        self.write_devices(change);
        shard.shared.metrics.devices.with_label_values(&[shard.shared.app(app).name()]).inc();
    }

    /// What is to be unlisted for a socket that is gone; `None`: it never was listed.
    pub(super) fn gone(shard: &Shard, socket: &Socket) -> Option<Gone> {
        socket.heard?;
        let rooms = seen_in(shard, socket);
        Some(Gone { user: key_of(socket)?, device: socket.id.clone(), rooms })
    }

    pub(super) fn unlist_device(&mut self, shard: &Shard, gone: &Gone) {
        let now = Now { ms: shard.now(), unix_ms: unix_ms() };
        let rooms = gone.rooms.iter().map(|room| &**room);
        let change = self.devices.remove(&gone.user, &gone.device, rooms, now);
        self.write_devices(change);
        shard.shared.metrics.devices.with_label_values(&[shard.shared.app(gone.user.app).name()]).dec();
        // The end of its grace may be the earliest deadline.
        shard.timer_changed.notify_one();
    }

    /// The socket's user is seen in a room, or no longer.
    pub(super) fn device_room(&mut self, actor: &Actor, room: &str, is_in: bool) {
        let Some(Entry::Live(session)) = self.sessions.get_mut(actor.session) else { return };
        let Some(socket) = session.socket_by_serial(actor.serial) else { return };
        if let Some(key) = socket.heard.and_then(|_| key_of(socket)) {
            let change = if is_in { self.devices.enter(&key, room) } else { self.devices.leave(&key, room) };
            self.write_devices(change);
        }
    }

    /// The client says something.
    pub(super) fn heard(&mut self, shard: &Shard, socket: &mut Socket) {
        let Some(heard) = &mut socket.heard else { return };
        heard.at = shard.now();
        if std::mem::take(&mut heard.idle)
            && let Some(key) = key_of(socket)
        {
            let change = self.devices.set_idle(&key, &socket.id, false);
            self.write_devices(change);
        }
    }

    pub(super) fn write_devices(&mut self, changes: impl IntoIterator<Item = Change>) {
        self.tasks.extend(changes.into_iter().map(Task::Devices));
    }

    /// Marks the devices whose clients have been silent for their application's time.
    fn mark_idle(&mut self, now: Millis) {
        let Self { sessions, devices, tasks, .. } = self;
        let live = sessions.entries_mut().filter_map(|entry| match entry {
            Entry::Live(session) => Some(session),
            _ => None,
        });
        for session in live {
            for socket in &mut session.sockets {
                let idle_ms = devices.settings(socket.app).map_or(0, |settings| settings.idle_ms);
                let Some(heard) = &mut socket.heard else { continue };
                if idle_ms == 0 || heard.idle || now.saturating_sub(heard.at) < idle_ms {
                    continue;
                }
                heard.idle = true;
                let change = key_of(socket).and_then(|key| devices.set_idle(&key, &socket.id, true));
                tasks.extend(change.map(Task::Devices));
            }
        }
    }

    /// What time alone changes.
    pub(super) fn on_presence_timers(&mut self, now: Millis) {
        let gone = self.devices.expire(now);
        self.write_devices(gone);
        if self.timers.is_idle_pass_due(now) {
            self.mark_idle(now);
        }
    }
}
