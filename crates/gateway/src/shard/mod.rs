//! One core: its sessions, its part of the hub, and everything they do, on one thread without locks.
//!
//! All state sits in [`State`], entered through [`Shard::turn`]: whatever a turn queues for a socket goes out in one write at
//! its end. `session` is the state of one session, `turns` what happens to it, `access` what the log tells of it, `connect` how sockets come and go, `actions` and
//! `commands` what dialects ask for (`calls` and `watch` what of it concerns calls and other users, `chat` the writers of
//! conversations), `emit` events on their way to rooms, `admission` tokens that take a while or are revoked, `audience` the rooms of everybody, `backend` what back ends' calls do, `census` how many there are, `entering` where sockets stand towards calls, `presence` which sockets are devices of their users, `deliver`
//! the hot path of a broadcast, `reader` the task behind a WebSocket, `plain` the frames of plain WebSockets, `moving` the session move, `timers` the deadlines, `trace` the spans.

mod access;
mod actions;
mod admission;
mod audience;
mod backend;
mod calls;
mod census;
mod chat;
mod commands;
mod connect;
mod deliver;
pub(crate) mod emit;
mod entering;
mod feeds;
mod identify;
mod journal;
mod moving;
mod placing;
mod plain;
mod presence;
mod reader;
mod session;
mod timers;
mod trace;
mod turns;
mod unauthenticated;
mod watch;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use bus::Bus;
use bytes::Bytes;
use cluster::forwarding::{Answer, Ask, ForwardKey};
use cluster::moving::{MoveKey, MoveOwnerOutput, TakerOutput};
use cluster::sid::{NodeId, SidKey};
use domain::Rejection;
use engineio::PollId;
use hub::Hub;
use rustc_hash::FxHashMap;
use telemetry::trace::Tracer;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::api::{self, Api};
use crate::app::App;
use crate::clock::{Clock, Millis};
use crate::coordination::Coordinator;
use crate::hook::Hook;
use crate::lease::Nodes;
use crate::link::{self, Link};
use crate::members::Move;
use crate::metrics::Metrics;
use crate::node::{Fed, Node};
use crate::peers::Peers;
use crate::presence::Devices;
use crate::revocation::{self, News};
use crate::roster::{Roster, RosterStore, Sweeps};
use crate::stats::{AppCount, Client};

pub(crate) use access::TARGET as ACCESS;
pub use access::Transport;
pub use backend::carry_out;
pub use emit::Stamp;
pub use session::{Opening, SessionKey};
pub use trace::{of_call, parent};

/// What all threads of a node share.
#[derive(Debug)]
pub struct Shared {
    pub id: NodeId,
    pub key: SidKey,
    pub apps: Arc<[App]>,
    /// Open sessions by application, for the limit.
    pub open: Box<[AtomicUsize]>,
    pub api: Api,
    /// Grows whenever a socket is counted or no longer is.
    pub census: AtomicU64,
    pub clock: Clock,
    pub metrics: Metrics,
    pub tracer: Tracer,
    pub bus: Bus,
    pub node: Node,
    pub peers: Peers,
    pub nodes: Nodes,
    pub coordinator: Coordinator,
    /// The node is leaving: no new sessions, no further requests on open connections.
    pub draining: AtomicBool,
}

impl Shared {
    pub fn app(&self, ix: u16) -> &App {
        &self.apps[usize::from(ix)]
    }

    /// The application that has this namespace at the door of another.
    pub fn app_with(&self, front: u16, namespace: &str) -> Option<u16> {
        let site = &self.app(front).site;
        site.iter().copied().find(|ix| self.app(*ix).dialect.has_namespace(namespace))
    }

    /// Takes a place for a session; `false`: the application's limit is reached.
    fn take_place(&self, app: u16) -> bool {
        let limit = self.app(app).limits.max_sessions;
        let open = &self.open[usize::from(app)];
        open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| (count < limit).then_some(count + 1))
            .is_ok()
    }

    fn give_place(&self, app: u16) {
        self.open[usize::from(app)].fetch_sub(1, Ordering::Relaxed);
    }
}

/// What other threads ask of a shard. Each is owed to one request, connection or move: their limits bound the channel.
#[derive(Debug)]
pub enum Control {
    /// A client's TCP connection.
    Accept {
        stream: std::net::TcpStream,
        peer: std::net::SocketAddr,
        listener: usize,
    },
    /// A handshake over polling: the session id, or the limit is reached.
    Open {
        opening: Box<Opening>,
        done: oneshot::Sender<Option<String>>,
    },
    /// A handshake over WebSocket, whose connection is about to switch protocols.
    OpenWebSocket {
        opening: Box<Opening>,
        upgrade: hyper::upgrade::OnUpgrade,
        habits: link::Habits,
    },
    /// A plain WebSocket, with the token its request showed.
    OpenPlain {
        opening: Box<Opening>,
        upgrade: hyper::upgrade::OnUpgrade,
        habits: link::Habits,
        token: Option<dialects::Token>,
    },
    /// A WebSocket for a session that polls, about to switch protocols.
    Upgrade {
        app: u16,
        sid: String,
        upgrade: hyper::upgrade::OnUpgrade,
        habits: link::Habits,
    },
    /// The same, switched, for a session of this shard.
    Attach {
        sid: String,
        stream: std::net::TcpStream,
        ahead: Bytes,
        habits: link::Habits,
    },
    /// A request for a session of this shard; `None`: there is no such session.
    Request {
        app: u16,
        sid: String,
        poll: PollId,
        ask: Ask,
        done: oneshot::Sender<Option<Answer>>,
    },
    /// The client of a request went away.
    Gone {
        sid: String,
        poll: PollId,
    },
    Forwarded {
        key: ForwardKey,
        sid: Arc<str>,
        ask: Ask,
    },
    ForwardedGone {
        key: ForwardKey,
        sid: Arc<str>,
    },
    Moving(MoveOwnerOutput),
    Taking(TakerOutput),
    /// Close about this many sessions; answers with how many are left.
    Drain {
        batch: usize,
        done: oneshot::Sender<usize>,
    },
    /// Whether a token that is good was revoked.
    AskRevoked {
        app: u16,
        identity: Box<domain::Identity>,
        done: oneshot::Sender<bool>,
    },
    /// An application's list of revoked tokens changed.
    Revoked {
        app: u16,
        news: Arc<[News]>,
    },
    /// The node's lease had lapsed: others may have removed its records.
    RewriteRecords,
    /// Settles once the records of the users' devices are written, or could not be.
    Recorded {
        done: oneshot::Sender<()>,
    },
    /// A back end's call.
    Api {
        call: Box<api::Call>,
        done: oneshot::Sender<api::Answer>,
    },
    /// A user's sockets enter and leave rooms.
    Move {
        app: u16,
        order: Arc<Move>,
        done: oneshot::Sender<Result<usize, Rejection>>,
    },
    /// How many sockets there are, by application.
    Count {
        done: oneshot::Sender<Vec<AppCount>>,
    },
    /// Sockets of an application, up to `limit`.
    Clients {
        app: u16,
        limit: usize,
        done: oneshot::Sender<Vec<Client>>,
    },
    /// Close what is left now.
    CutOff,
}

/// How other threads reach a shard.
#[derive(Clone, Debug)]
pub struct ShardHandle {
    pub ix: u8,
    control: mpsc::UnboundedSender<Control>,
}

/// The shard's ends of its channels.
#[derive(Debug)]
pub struct Inbox {
    control: mpsc::UnboundedReceiver<Control>,
    feed: mpsc::Receiver<Fed>,
}

/// A shard's channels, made before its thread.
pub fn channel(ix: u8) -> (ShardHandle, mpsc::Sender<Fed>, Inbox) {
    let (control, control_inbox) = mpsc::unbounded_channel();
    let (feed, feed_inbox) = mpsc::channel(crate::node::FEED_DEPTH);
    (ShardHandle { ix, control }, feed, Inbox { control: control_inbox, feed: feed_inbox })
}

impl ShardHandle {
    pub fn control(&self, control: Control) {
        // A shard ends with its node only.
        let _ = self.control.send(control);
    }
}

/// One core's thread-local world.
#[derive(Debug)]
pub struct Shard {
    pub ix: u8,
    pub shared: Arc<Shared>,
    pub store: RosterStore,
    /// By application.
    hooks: Box<[Option<Hook>]>,
    pub handle: ShardHandle,
    /// The other shards, for WebSockets that arrive at the wrong core.
    pub all: Vec<ShardHandle>,
    state: RefCell<State>,
    /// WebSocket tasks that run.
    readers: Cell<usize>,
    /// An earlier deadline than the one slept for was set.
    timer_changed: Notify,
}

/// Everything a shard owns.
#[derive(Debug, Default)]
pub(crate) struct State {
    sessions: session::Table,
    hub: Hub<session::Target>,
    /// Links with something to write at the end of the turn.
    dirty: Vec<Rc<Link>>,
    /// Sessions with outputs to draw at the end of the turn.
    touched: Vec<SessionKey>,
    /// Async work that this turn started.
    tasks: Vec<commands::Task>,
    timers: timers::Timers,
    roster: Roster,
    devices: Devices,
    census: census::Census,
    /// Tokens that are refused although they are good, by application.
    revoked: Vec<revocation::List>,
    feeds_told: feeds::Told,
    /// Mailboxes that this thread changes.
    pub(crate) notifications: crate::notifications::Lanes,
    /// Rooms whose messages this thread stores.
    chats: chat::Rooms,
    /// Messages whose senders are to hear that they were delivered.
    receipts: chat::Receipts,
    /// Sockets that are about to write.
    typists: chat::Typists,
    /// Joins of reserved sessions that wait for the taker.
    tickets: FxHashMap<u64, oneshot::Sender<()>>,
    /// Sessions that wait for a barrier in the feed.
    barriers: FxHashMap<u64, moving::Barrier>,
    /// Sessions that are arriving, by move.
    arriving: FxHashMap<u64, SessionKey>,
    /// What sockets that were packed leave behind if their hand-over fails.
    farewells: FxHashMap<MoveKey, Vec<commands::Task>>,
    next_token: u64,
}

impl Shard {
    pub fn new(handle: ShardHandle, all: Vec<ShardHandle>, shared: Arc<Shared>) -> Rc<Self> {
        let store = RosterStore {
            bus: shared.bus.clone(),
            node: shared.id,
            shard: handle.ix,
            nodes: shared.nodes.clone(),
            sweeps: Sweeps::default(),
        };
        let listed = shared.apps.iter().map(|app| app.limits.participants_listed).collect();
        let presence =
            shared.apps.iter().map(|app| app.dialect.realtime().map(|realtime| realtime.presence.clone()));
        let devices = Devices::new(presence.collect());
        let idle_pass_ms = presence::idle_pass_ms(&devices, shared.apps.len());
        let timers = timers::Timers::new(shared.clock.now(), idle_pass_ms);
        let revoked = shared.apps.iter().map(|_| revocation::List::default()).collect();
        let state = State { roster: Roster::new(listed), devices, timers, revoked, ..State::default() };
        let hook = |app: &App| {
            let (config, way) = (app.config.hook.as_ref()?, app.hook.as_ref()?);
            let (bus, metrics) = (shared.bus.clone(), shared.metrics.clone());
            Some(Hook::new(app.name(), config, way, bus, shared.clock, metrics))
        };
        let hooks = shared.apps.iter().map(hook).collect();
        Rc::new(Self {
            ix: handle.ix,
            shared,
            store,
            hooks,
            handle,
            all,
            state: RefCell::new(state),
            readers: Cell::new(0),
            timer_changed: Notify::new(),
        })
    }

    /// Enters the state. At the end of the turn outputs are drawn, sockets written, tasks started.
    pub(crate) fn turn<R>(self: &Rc<Self>, work: impl FnOnce(&mut State, &Self) -> R) -> R {
        let mut state = self.state.borrow_mut();
        let result = work(&mut state, self);
        state.settle(self);
        let (mut dirty, tasks) = (std::mem::take(&mut state.dirty), std::mem::take(&mut state.tasks));
        drop(state);
        for link in dirty.drain(..) {
            link::flush(&link);
        }
        // Its buffer serves the next turn.
        self.state.borrow_mut().dirty = dirty;
        for task in tasks {
            tokio::task::spawn_local(commands::run(self.clone(), task));
        }
        result
    }

    /// Whom the application asks about users and rights.
    pub(crate) fn hook(&self, app: u16) -> Option<&Hook> {
        self.hooks.get(usize::from(app))?.as_ref()
    }

    pub(crate) fn now(&self) -> Millis {
        self.shared.clock.now()
    }

    /// Serves until the node drops its handles. Feed before control: what was published before a request is heard before it.
    pub async fn run(self: Rc<Self>, mut inbox: Inbox, http: Rc<crate::http::Server>) {
        /// Pieces handled in one turn, so that writes join without starving requests.
        const PER_TURN: usize = 64;
        loop {
            let wake =
                self.shared.clock.instant(self.state.borrow().next_timeout().unwrap_or(Millis::MAX / 2));
            tokio::select! {
                biased;
                fed = inbox.feed.recv() => {
                    let Some(fed) = fed else { return };
                    self.turn(|state, shard| {
                        state.on_fed(shard, fed);
                        for _ in 0..PER_TURN {
                            let Ok(fed) = inbox.feed.try_recv() else { break };
                            state.on_fed(shard, fed);
                        }
                    });
                    // A feed that never ends must not starve requests and deadlines.
                    for _ in 0..PER_TURN {
                        let Ok(control) = inbox.control.try_recv() else { break };
                        self.on_control(control, &http);
                    }
                    if self.state.borrow().next_timeout().is_some_and(|at| at <= self.now()) {
                        self.turn(State::on_timers);
                    }
                }
                control = inbox.control.recv() => {
                    let Some(control) = control else { return };
                    self.on_control(control, &http);
                }
                () = tokio::time::sleep_until(wake) => self.turn(State::on_timers),
                () = self.timer_changed.notified() => {}
            }
            // A long run of ready work must not starve the readers of this core.
            tokio::task::yield_now().await;
        }
    }

    fn on_control(self: &Rc<Self>, control: Control, http: &Rc<crate::http::Server>) {
        match control {
            Control::Accept { stream, peer, listener } => http.serve(self, stream, peer, listener),
            Control::Open { opening, done } => {
                let sid = self.turn(|state, shard| state.open_polling(shard, *opening));
                // The client left during its handshake: the session ends by its heartbeat.
                let _ = done.send(sid);
            }
            Control::OpenWebSocket { opening, upgrade, habits } => {
                tokio::task::spawn_local(reader::open(self.clone(), *opening, upgrade, habits));
            }
            Control::OpenPlain { opening, upgrade, habits, token } => {
                tokio::task::spawn_local(reader::open_plain(self.clone(), *opening, upgrade, habits, token));
            }
            Control::Upgrade { app, sid, upgrade, habits } => {
                tokio::task::spawn_local(reader::upgrade(self.clone(), app, sid, upgrade, habits));
            }
            Control::Attach { sid, stream, ahead, habits } => {
                reader::attach(self, &sid, stream, ahead, habits)
            }
            Control::Request { app, sid, poll, ask, done } => {
                self.turn(|state, shard| {
                    state.request(shard, Some(app), &sid, poll, ask, session::Responder::Local(done));
                });
            }
            Control::Gone { sid, poll } => self.turn(|state, shard| state.poll_gone(shard, &sid, poll)),
            Control::Forwarded { key, sid, ask } => self.turn(|state, shard| {
                let poll = state.new_poll();
                state.request(shard, None, &sid, poll, ask, session::Responder::Forwarded(key));
            }),
            Control::ForwardedGone { key, sid } => {
                self.turn(|state, shard| state.forwarded_gone(shard, &sid, &key))
            }
            Control::Moving(output) => self.turn(|state, shard| state.on_move_owner(shard, output)),
            Control::Taking(output) => self.turn(|state, shard| state.on_taker(shard, output)),
            Control::Drain { batch, done } => {
                let left = self.turn(|state, shard| state.close_some(shard, batch));
                let _ = done.send(left);
            }
            Control::AskRevoked { app, identity, done } => {
                // Who asked may be gone.
                let _ = done.send(self.turn(|state, _| state.is_revoked(app, &identity)));
            }
            Control::Revoked { app, news } => {
                self.turn(|state, shard| state.on_revoked(shard, app, &news));
            }
            Control::RewriteRecords => self.turn(|state, _| {
                let changes = state.roster.rewrite_all();
                let tasks =
                    changes.into_iter().map(|change| commands::Task::Roster { app: change.of.app, change });
                state.tasks.extend(tasks);
                let changes = state.devices.rewrite_all();
                state.write_devices(changes);
            }),
            Control::Recorded { done } => {
                let unsettled = self.turn(|state, _| state.devices.unsettled());
                tokio::task::spawn_local(async move {
                    futures_util::future::join_all(unsettled).await;
                    // The drain did not wait for it.
                    let _ = done.send(());
                });
            }
            Control::Api { call, done } => {
                let shard = self.clone();
                tokio::task::spawn_local(async move {
                    // Who called may not wait any more; what it asked for is done.
                    let _ = done.send(api::serve(shard, *call).await);
                });
            }
            Control::Move { app, order, done } => {
                let shard = self.clone();
                tokio::task::spawn_local(async move {
                    // The same.
                    let _ = done.send(placing::move_user(&shard, app, &order).await);
                });
            }
            // Who asked may have stopped waiting for either.
            Control::Count { done } => {
                let _ = done.send(self.state.borrow().counts(self.shared.apps.len()));
            }
            Control::Clients { app, limit, done } => {
                let _ = done.send(self.turn(|state, _| state.clients(app, self.shared.id, limit)));
            }
            Control::CutOff => {
                self.turn(|state, shard| state.cut_off(shard));
            }
        }
    }
}
