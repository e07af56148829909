//! Gateways: device records, commands that are asked until they are answered, devices that come, go and move, nodes that die and
//! are swept. What their clients do stands in `client`.

use std::collections::BTreeMap;

use cluster::coordination::{Reply, Request};
use domain::UserId;
use domain::presence::{Device, DeviceRecord};

use crate::Millis;
use crate::sim::{Event, Sim, unix};
use crate::store::{At, Value};

const TRY_TIMEOUT: Millis = 1_500;
const COMMAND_TIMEOUT: Millis = 10_000;
const LEASE_MS: Millis = 15_000;

/// A node; with each life it is another one.
pub struct Gateway {
    n: u64,
    pub life: u32,
    skew_ms: i64,
    users: BTreeMap<UserId, Local>,
}

#[derive(Default)]
struct Local {
    devices: Vec<Device>,
    gone_ms: u64,
    /// Without a device: when the record goes.
    leaves_at: Option<Millis>,
    writing: bool,
}

/// A command that a device waits for.
pub struct Ask {
    pub request: Request,
    gateway: usize,
    life: u32,
    device: Box<str>,
    sent_ms: Millis,
    attempt: u32,
}

impl Gateway {
    pub fn new(n: u64, skew_ms: i64) -> Self {
        Self { n, life: 0, skew_ms, users: BTreeMap::new() }
    }

    fn node(&self) -> String {
        format!("g{}-{}", self.n, self.life)
    }

    fn unix(&self, now: Millis) -> u64 {
        unix(now).saturating_add_signed(self.skew_ms)
    }

    /// The users' devices that are connected here.
    pub fn devices(&self) -> impl Iterator<Item = (&UserId, &Device)> {
        self.users.iter().flat_map(|(user, local)| local.devices.iter().map(move |device| (user, device)))
    }
}

impl Local {
    fn content(&self, user: &UserId) -> Option<DeviceRecord> {
        if self.devices.is_empty() && self.leaves_at.is_none() {
            return None;
        }
        Some(DeviceRecord {
            user: user.clone(),
            wire_id: user.as_str().into(),
            devices: self.devices.clone(),
            rooms: Vec::new(),
            gone_ms: self.gone_ms,
        })
    }
}

impl Sim {
    pub fn is_connected(&self, user: &UserId, device: &str) -> bool {
        self.gateways.iter().flat_map(Gateway::devices).any(|(of, it)| of == user && *it.id == *device)
    }

    pub fn connect(&mut self, user: usize, device: Box<str>) {
        let gateway = self.chance.below(self.gateways.len() as u64) as usize;
        let user = self.users[user].clone();
        if self.is_connected(&user, &device) {
            return;
        }
        self.add(gateway, &user, device);
    }

    pub fn add(&mut self, gateway: usize, user: &UserId, device: Box<str>) {
        self.witness.connected(&device, self.now);
        let local = self.gateways[gateway].users.entry(user.clone()).or_default();
        local.leaves_at = None;
        local.devices.push(Device { id: device, idle: false });
        self.record_changed(gateway, user);
    }

    pub fn gone(&mut self, gateway: usize, life: u32, device: &str) {
        let unix_ms = self.gateways[gateway].unix(self.now);
        let grace_ms = self.app.dialect.realtime().expect("it has presence").presence.grace_ms;
        if self.gateways[gateway].life != life {
            return;
        }
        let mut users = self.gateways[gateway].users.iter_mut();
        let Some((user, local)) = users.find(|(_, local)| local.devices.iter().any(|it| *it.id == *device))
        else {
            return;
        };
        let user = user.clone();
        local.devices.retain(|it| *it.id != *device);
        local.gone_ms = unix_ms;
        if local.devices.is_empty() {
            local.leaves_at = Some(self.now + grace_ms);
            self.after(grace_ms, Event::Leave { gateway, life, user: user.clone() });
        }
        self.record_changed(gateway, &user);
    }

    pub fn leave(&mut self, gateway: usize, life: u32, user: &UserId) {
        let here = &mut self.gateways[gateway];
        if here.life != life {
            return;
        }
        let Some(local) = here.users.get_mut(user) else { return };
        if local.leaves_at.is_some_and(|at| at <= self.now) {
            local.leaves_at = None;
            self.record_changed(gateway, user);
        }
    }

    /// One write of a record at a time, the next with what it is then.
    pub fn record_changed(&mut self, gateway: usize, user: &UserId) {
        let life = self.gateways[gateway].life;
        let Some(local) = self.gateways[gateway].users.get_mut(user) else { return };
        if std::mem::replace(&mut local.writing, true) {
            return;
        }
        let content = local.content(user);
        let slow = if self.chance.percent(self.faults.stall) { 2_000 } else { 15 };
        self.soon(slow, Event::Write { gateway, life, user: user.clone(), content });
    }

    /// What was sent is stored though its node may be dead.
    pub fn write(&mut self, gateway: usize, life: u32, user: UserId, content: Option<DeviceRecord>) {
        let node = Gateway { life, ..Gateway::new(self.gateways[gateway].n, 0) }.node();
        self.put_record(At::Device(user.clone(), node), content.clone().map(Value::Device), None);
        self.soon(15, Event::Written { gateway, life, user, content });
    }

    fn put_record(&mut self, at: At, value: Option<Value>, gone_ms: Option<u64>) {
        let rev = self.store.put(at.clone(), value, self.now, gone_ms);
        self.stored(at, rev);
    }

    pub fn written(&mut self, gateway: usize, life: u32, user: &UserId, content: &Option<DeviceRecord>) {
        let here = &mut self.gateways[gateway];
        if here.life != life {
            return;
        }
        let Some(local) = here.users.get_mut(user) else { return };
        local.writing = false;
        if local.content(user) != *content {
            self.record_changed(gateway, user);
        } else if content.is_none() {
            here.users.remove(user);
        }
    }

    /// Another node starts in its place; its clients come back somewhere, some with the socket they had.
    pub fn kill_gateway(&mut self) {
        let gateway = self.chance.below(self.gateways.len() as u64) as usize;
        let dead = &mut self.gateways[gateway];
        let node = dead.node();
        let lost: Vec<(UserId, Box<str>)> =
            dead.devices().map(|(user, device)| (user.clone(), device.id.clone())).collect();
        dead.life += 1;
        dead.users.clear();
        let life = dead.life;
        self.asks.retain(|_, ask| ask.gateway != gateway || ask.life >= life);
        for (user, device) in lost {
            self.witness.disconnected(&device, self.now);
            self.come_back(&user, device);
        }
        let since_renewal = self.chance.below(4_000);
        let noticed = LEASE_MS - since_renewal + self.chance.below(2_000);
        // Said by a replica's clock, counted back from its notice.
        let replica = self.chance.below(self.replicas.len() as u64) as usize;
        let gone_ms = self.replica_unix(replica) + noticed - LEASE_MS;
        self.after(noticed, Event::Sweep { node, gone_ms });
    }

    fn come_back(&mut self, user: &UserId, device: Box<str>) {
        let at = self.users.iter().position(|known| known == user).expect("a user of this world");
        match self.chance.below(10) {
            0..5 => self.soon(2_000, Event::Connect { user: at, device }),
            5..8 => {
                let device = format!("{device}'").into();
                self.soon(8_000, Event::Connect { user: at, device });
            }
            _ => {}
        }
    }

    /// By one replica after another, each of which may die over it.
    pub fn sweep(&mut self, node: &str, gone_ms: u64) {
        let records = self.store.records_of(node);
        if records.is_empty() {
            return;
        }
        let most = 1 + self.chance.below(records.len() as u64) as usize;
        for (at, _) in records.into_iter().take(most) {
            self.put_record(at, None, Some(gone_ms));
        }
        self.soon(1_500, Event::Sweep { node: node.to_owned(), gone_ms });
    }

    /// A device falls idle, or is used again.
    pub fn toggle_idle(&mut self, gateway: usize, user: &UserId, device: &str) {
        let local = self.gateways[gateway].users.get_mut(user).expect("it is connected");
        for it in local.devices.iter_mut().filter(|it| *it.id == *device) {
            it.idle = !it.idle;
        }
        self.record_changed(gateway, user);
    }

    /// It disconnects, and comes back perhaps.
    pub fn depart(&mut self, gateway: usize, life: u32, device: Box<str>) {
        let here = &self.gateways[gateway];
        let Some(user) = here.devices().find(|(_, it)| it.id == device).map(|(user, _)| user.clone()) else {
            return;
        };
        if here.life == life {
            self.witness.disconnected(&device, self.now);
            self.gone(gateway, life, &device);
            self.come_back(&user, device);
        }
    }

    /// One command of a device at a time.
    pub fn ask(&mut self, gateway: usize, device: Box<str>, request: Request) {
        if self.asks.values().any(|ask| ask.device == device) {
            return;
        }
        self.count += 1;
        let (ask, life) = (self.count, self.gateways[gateway].life);
        self.witness.asked += 1;
        if self.chance.percent(self.faults.hasty) {
            self.soon(200, Event::Depart { gateway, life, device: device.clone() });
        }
        self.asks.insert(ask, Ask { request, gateway, life, device, sent_ms: self.now, attempt: 0 });
        self.send(ask);
    }

    fn send(&mut self, ask: u64) {
        let Some(it) = self.asks.get_mut(&ask) else { return };
        it.attempt += 1;
        let attempt = it.attempt;
        self.after(TRY_TIMEOUT, Event::Retry { ask, attempt });
        let copies = 1 + u64::from(self.chance.percent(self.faults.double));
        for _ in 0..copies {
            if !self.chance.percent(self.faults.lost) {
                let late = if self.chance.percent(5 * self.faults.stall) { 1_000 } else { 15 };
                self.soon(late, Event::Arrive { ask });
            }
        }
    }

    pub fn retry(&mut self, ask: u64, attempt: u32) {
        let Some(it) = self.asks.get(&ask).filter(|it| it.attempt == attempt) else { return };
        if self.now >= it.sent_ms + COMMAND_TIMEOUT {
            self.witness.unavailable += 1;
            self.asks.remove(&ask);
            return;
        }
        self.send(ask);
    }

    pub fn reply(&mut self, ask: u64, reply: Reply) {
        if !self.chance.percent(self.faults.lost) {
            self.soon(15, Event::Answer { ask, reply });
        }
    }

    pub fn answered(&mut self, ask: u64, reply: &Reply) {
        let Some(it) = self.asks.get(&ask) else { return };
        if *reply == Reply::Unavailable {
            let attempt = it.attempt;
            return self.after(100, Event::Retry { ask, attempt });
        }
        let it = self.asks.remove(&ask).expect("it is there");
        self.check_answer(&it.request, reply);
    }
}
