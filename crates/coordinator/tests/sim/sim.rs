//! The world: time, replicas that stall and die, followers' messages, timers. What gateways and clients do stands in `gateway`, what
//! a replica does for one command in `task`, what must hold in `witness`.

use std::collections::{BTreeMap, HashMap};

use cluster::coordination::Reply;
use coordinator::plan::{App, Care, Claim, Claims, Known, Of};
use dialects::{Dialect, Realtime, Telehealth};
use domain::ChatLimits;
use domain::UserId;
use domain::call::{CallId, CallSettings};
use domain::presence::{DeviceRecord, PresenceSettings};

use crate::Millis;
use crate::chance::Rng;
use crate::faults::{Broken, Faults};
use crate::gateway::{Ask, Gateway};
use crate::store::{At, Store, Stored, Value};
use crate::task::Task;
use crate::witness::Witness;

/// Clients act until then.
const QUIET_MS: Millis = 12_000;
/// Everything is settled long before: rings, graces, leases, and the difference of clocks.
const HANGS_MS: Millis = 200_000;
const ACK_WAIT: Millis = 5_000;
/// Few, so that some are forgotten.
const CLAIMS: usize = 64;
const EPOCH_MS: u64 = 1_700_000_000_000;

pub enum Event {
    Act,
    Step {
        task: u64,
    },
    Arrive {
        ask: u64,
    },
    Retry {
        ask: u64,
        attempt: u32,
    },
    Answer {
        ask: u64,
        reply: Reply,
    },
    /// A replica sees to what it has left for later.
    Care {
        replica: usize,
    },
    /// A replica hears what another has seen to.
    Hear {
        replica: usize,
        claims: Vec<Claim>,
    },
    Deliver {
        message: u64,
    },
    Fire {
        call: CallId,
        at_ms: u64,
    },
    Write {
        gateway: usize,
        life: u32,
        user: UserId,
        content: Option<DeviceRecord>,
    },
    Written {
        gateway: usize,
        life: u32,
        user: UserId,
        content: Option<DeviceRecord>,
    },
    Leave {
        gateway: usize,
        life: u32,
        user: UserId,
    },
    /// A device comes to a gateway.
    Connect {
        user: usize,
        device: Box<str>,
    },
    Gone {
        gateway: usize,
        life: u32,
        device: Box<str>,
    },
    Depart {
        gateway: usize,
        life: u32,
        device: Box<str>,
    },
    KillReplica,
    StartReplica {
        replica: usize,
    },
    KillGateway,
    Sweep {
        node: String,
        gone_ms: u64,
    },
}

pub struct Replica {
    pub dead: bool,
    skew_ms: i64,
    /// What its teller remembers.
    pub stored: HashMap<Of, u64>,
    /// What it is to see to.
    pub left: Vec<Care>,
    /// For which messages nothing is left to do.
    pub claims: Claims,
}

impl Replica {
    fn new(skew_ms: i64) -> Self {
        Self { dead: false, skew_ms, stored: HashMap::new(), left: Vec::new(), claims: Claims::new(CLAIMS) }
    }
}

struct Message {
    at: At,
    rev: u64,
}

pub struct Sim {
    pub now: Millis,
    pub chance: Rng,
    pub faults: Faults,
    pub broken: Option<Broken>,
    pub app: App,
    pub store: Store,
    pub replicas: Vec<Replica>,
    pub gateways: Vec<Gateway>,
    pub tasks: BTreeMap<u64, Task>,
    pub asks: BTreeMap<u64, Ask>,
    pub witness: Witness,
    pub conflicts: u32,
    pub users: Vec<UserId>,
    /// One replica of the streams: no read lags.
    single: bool,
    messages: BTreeMap<u64, Message>,
    events: BTreeMap<(Millis, u64), Event>,
    pub count: u64,
}

/// The true time as clocks without a fault show it.
pub fn unix(now: Millis) -> u64 {
    EPOCH_MS + now
}

pub fn app() -> App {
    let realtime = Realtime {
        calls: CallSettings {
            ring_ms: Some(8_000),
            grace_ms: 6_000,
            per_user: 2,
            ringing_per_user: 3,
            participants: 4,
            ..CallSettings::default()
        },
        presence: PresenceSettings { grace_ms: 2_000, ..PresenceSettings::default() },
        ..Realtime::default()
    };
    let telehealth = Telehealth::new("/", Vec::new(), ChatLimits::default(), realtime);
    App { name: "t".into(), namespace: "/".into(), dialect: Dialect::Telehealth(telehealth.expect("rules")) }
}

impl Sim {
    pub fn new(seed: u64, faults: Faults, broken: Option<Broken>) -> Self {
        let mut chance = Rng::new(seed);
        let users = 2 + chance.below(3);
        let skew = |chance: &mut Rng| chance.below(2 * faults.skew_ms + 1) as i64 - faults.skew_ms as i64;
        let replicas = (0..2 + chance.below(2)).map(|_| Replica::new(skew(&mut chance))).collect();
        let gateways = (0..2 + chance.below(3)).map(|n| Gateway::new(n, skew(&mut chance))).collect();
        let mut sim = Self {
            now: 0,
            single: chance.percent(25),
            chance,
            faults,
            broken,
            app: app(),
            store: Store::default(),
            replicas,
            gateways,
            tasks: BTreeMap::new(),
            asks: BTreeMap::new(),
            witness: Witness::default(),
            conflicts: 0,
            users: (0..users).map(|n| UserId::new(format!("u{n}")).expect("short")).collect(),
            messages: BTreeMap::new(),
            events: BTreeMap::new(),
            count: 0,
        };
        sim.begin();
        sim
    }

    fn begin(&mut self) {
        for user in 0..self.users.len() {
            for device in 0..1 + self.chance.below(2) {
                self.soon(500, Event::Connect { user, device: format!("d{user}-{device}").into() });
            }
        }
        self.after(600, Event::Act);
        for _ in 0..3 {
            let at = 1_000 + self.chance.below(QUIET_MS);
            if self.faults.dying_replicas {
                self.after(at, Event::KillReplica);
            }
        }
        if self.faults.dying_gateways {
            self.after(1_000, Event::KillGateway);
            self.soon(QUIET_MS, Event::KillGateway);
        }
    }

    pub fn run(mut self) -> Self {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.happen(event);
            assert!(self.now < HANGS_MS, "something hangs");
        }
        self.check_end();
        self
    }

    pub fn breaks(&self, rule: Broken) -> bool {
        self.broken == Some(rule)
    }

    pub fn is_quiet(&self) -> bool {
        self.now >= QUIET_MS
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Act if self.is_quiet() => {}
            Event::Act => {
                self.client_acts();
                self.soon(600, Event::Act);
            }
            Event::Step { task } => self.step(task),
            Event::Arrive { ask } => self.arrive(ask),
            Event::Retry { ask, attempt } => self.retry(ask, attempt),
            Event::Answer { ask, reply } => self.answered(ask, &reply),
            Event::Care { replica } => self.begin_care(replica),
            Event::Hear { replica, claims } => self.hear(replica, claims),
            Event::Deliver { message } => self.deliver(message),
            Event::Fire { call, at_ms } => self.fire(call, at_ms),
            Event::Write { gateway, life, user, content } => self.write(gateway, life, user, content),
            Event::Written { gateway, life, user, content } => self.written(gateway, life, &user, &content),
            Event::Leave { gateway, life, user } => self.leave(gateway, life, &user),
            Event::Connect { user, device } => self.connect(user, device),
            Event::Gone { gateway, life, device } => self.gone(gateway, life, &device),
            Event::Depart { gateway, life, device } => self.depart(gateway, life, device),
            Event::KillReplica => self.kill_replica(),
            Event::StartReplica { replica } => self.replicas[replica].dead = false,
            Event::KillGateway => self.kill_gateway(),
            Event::Sweep { node, gone_ms } => self.sweep(&node, gone_ms),
        }
    }

    pub fn after(&mut self, delay: Millis, event: Event) {
        self.count += 1;
        self.events.insert((self.now + delay, self.count), event);
    }

    pub fn soon(&mut self, below: Millis, event: Event) {
        let delay = self.chance.below(below);
        self.after(delay, event);
    }

    pub fn any_id(&mut self) -> u128 {
        self.count += 1;
        u128::from(self.count)
    }

    pub fn replica_unix(&self, replica: usize) -> u64 {
        unix(self.now).saturating_add_signed(self.replicas[replica].skew_ms)
    }

    /// What a read shows: everything up to then.
    pub fn moment(&mut self, fresh: bool) -> Millis {
        let fresh = fresh && !self.breaks(Broken::ReadFresh);
        if fresh || self.single || !self.chance.percent(self.faults.stale) {
            return self.now;
        }
        let lag = self.chance.below(self.faults.lag_ms);
        self.now.saturating_sub(lag)
    }

    pub fn nothing_known(&self) -> Known {
        Known { fresh: self.single, ..Known::default() }
    }

    pub fn step_soon(&mut self, task: u64) {
        let stalls = self.chance.percent(self.faults.stall);
        self.soon(if stalls { 3_000 } else { 8 }, Event::Step { task });
    }

    pub fn spawn(&mut self, task: Task) {
        self.count += 1;
        let id = self.count;
        self.tasks.insert(id, task);
        self.step_soon(id);
    }

    fn living(&mut self) -> Option<usize> {
        let living: Vec<usize> = (0..self.replicas.len()).filter(|n| !self.replicas[*n].dead).collect();
        self.chance.pick(&living).copied()
    }

    fn arrive(&mut self, ask: u64) {
        let Some(replica) = self.living() else { return };
        let Some(Ask { request, .. }) = self.asks.get(&ask) else { return };
        let request = request.clone();
        let mut task = Task::of_request(replica, ask, &request, self.now, self.replica_unix(replica));
        if let Some(known) = self.recalled(&request) {
            task.known = known;
        }
        self.spawn(task);
    }

    fn hear(&mut self, replica: usize, claims: Vec<Claim>) {
        if !self.replicas[replica].dead {
            claims.into_iter().for_each(|claim| self.replicas[replica].claims.add(claim));
        }
    }

    /// Something was stored that followers may follow.
    pub fn stored(&mut self, at: At, rev: u64) {
        if self.breaks(Broken::LookAgain) && matches!(at, At::Presence(_)) {
            return;
        }
        self.count += 1;
        let message = self.count;
        self.messages.insert(message, Message { at, rev });
        let late = if self.chance.percent(self.faults.stall) { 2_000 } else { 150 };
        self.soon(late, Event::Deliver { message });
        if self.chance.percent(self.faults.double) {
            self.soon(1_000, Event::Deliver { message });
        }
    }

    pub fn ack(&mut self, message: u64) {
        self.messages.remove(&message);
    }

    /// Only a key's newest revision is in the stream.
    fn deliver(&mut self, message: u64) {
        let Some(Message { at, rev }) = self.messages.get(&message) else { return };
        let Some(stored) = self.store.newest(at).filter(|stored| stored.rev == *rev).cloned() else {
            return self.ack(message);
        };
        let at = at.clone();
        let wait = if self.living().is_some() { ACK_WAIT } else { 500 };
        self.after(wait, Event::Deliver { message });
        let Some(replica) = self.living() else { return };
        let of_calls = matches!(at, At::Call(_) | At::User(_));
        if of_calls && self.replicas[replica].claims.is_finished(stored.rev) {
            return self.finished(message, &stored);
        }
        let id = self.any_id();
        match Task::of_message(replica, message, &at, &stored, self.now, id) {
            Some(task) => self.spawn(task),
            None => self.ack(message),
        }
    }

    /// Only whoever knows when it was stored can say whether a timer was set too late.
    fn finished(&mut self, message: u64, stored: &Stored) {
        if let Some(Value::Call(record)) = &stored.value
            && let Some(at_ms) = coordinator::set_again(&record.call, unix(stored.at_ms))
        {
            self.set_timer(record.call.id.clone(), at_ms);
        }
        self.ack(message);
    }

    pub fn set_timer(&mut self, call: CallId, at_ms: u64) {
        if !self.breaks(Broken::SetTimers) {
            let due = at_ms.saturating_sub(unix(self.now));
            let late = self.chance.below(300);
            self.after(due + late, Event::Fire { call, at_ms });
        }
    }

    fn fire(&mut self, call: CallId, at_ms: u64) {
        let at = At::Due(call, at_ms);
        let rev = self.store.put(at.clone(), Some(Value::Due(at_ms)), self.now, None);
        self.stored(at, rev);
    }

    fn kill_replica(&mut self) {
        let Some(replica) = self.living() else { return };
        self.tasks.retain(|_, task| task.replica != replica);
        self.replicas[replica].dead = true;
        self.replicas[replica].stored.clear();
        self.replicas[replica].left.clear();
        self.replicas[replica].claims.forget_all();
        self.soon(3_000, Event::StartReplica { replica });
    }
}
