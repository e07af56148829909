//! Commands carried out on the bus: joins that hold, events stored and published, messages appended. Async, outside the state;
//! each enters it for a moment.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::TraceParent;
use cluster::moving::MoveOwnerInput;
use dialects::{Command, Delivery, Emission, Join, Membership, Outcome, Participant};
use domain::{Identity, Rejection, RoomId};
use futures_util::future::join_all;
use hub::{JoinOutcome, RoomKey, SocketIx};
use tokio::sync::oneshot;

use super::actions::Waiting;
use super::emit::{Stamp, Telling};
use super::moving::SocketRooms;
use super::presence::Gone;
use super::session::{Entry, Session, SessionKey, Socket};
use super::{Shard, State, admission, audience, calls, chat, feeds, identify, journal, placing, watch};
use crate::app::App;
use crate::node::Unavailable;
use crate::roster::Change;
use crate::{facts, notifications};

/// The node that a socket moved to lists it first; between two entries everybody sees one.
const OVERLAP: Duration = Duration::from_secs(2);

/// Async work that a turn started.
#[derive(Debug)]
pub enum Task {
    /// The session waits for its outcome.
    Command { actor: Actor, command: Command, waiting: Waiting },
    /// A CONNECT whose token takes a while.
    Knock { key: SessionKey, knock: admission::Knock, token: String },
    /// Senders are told what has been delivered.
    Receipts,
    /// What a socket that is gone leaves behind.
    Farewell { actor: Actor, command: Command },
    /// A room's list of participants changed.
    Roster { app: u16, change: Change },
    /// Rooms of an arriving session: subscribe, then tell the taker.
    Subscribe { apps: Vec<u16>, rooms: Vec<RoomKey>, mv: u64, seq: u32 },
    /// A session has arrived while the back end moved its user.
    Place { app: u16, order: std::sync::Arc<crate::members::Move> },
    /// The list of a socket that moved away changes once it is listed at its new node.
    RosterLater { app: u16, rooms: Vec<(Box<str>, Participant)> },
    /// The record of a user's devices changed.
    Devices(crate::presence::Change),
    /// The same for its user's devices.
    UnlistLater(Vec<Gone>),
}

/// Who acts.
#[derive(Clone, Debug)]
pub struct Actor {
    pub app: u16,
    pub session: SessionKey,
    pub serial: u32,
    pub socket: Box<str>,
    pub namespace: Box<str>,
    /// `None` only in applications without tokens.
    pub identity: Option<Arc<Identity>>,
    /// What it does belongs to this trace. Mostly to none: a place for it costs nothing then.
    pub traced: Option<Box<TraceParent>>,
    ix: SocketIx,
}

impl Actor {
    pub fn trace(&self) -> Option<TraceParent> {
        self.traced.as_deref().copied()
    }

    /// As who posts.
    pub(super) fn origin(&self) -> chat::Origin<'_> {
        let socket = Some(&*self.socket);
        chat::Origin { app: self.app, namespace: &self.namespace, socket, trace: self.trace() }
    }

    pub fn of(session: &Session, socket: &Socket) -> Self {
        Self {
            app: socket.app,
            session: session.key,
            serial: socket.serial,
            socket: socket.id.clone(),
            namespace: socket.nsp.as_str().into(),
            identity: socket.identity.clone(),
            traced: None,
            ix: socket.ix,
        }
    }
}

/// Carries a task out.
pub async fn run(shard: Rc<Shard>, task: Task) {
    match task {
        Task::Command { actor, command, waiting } => {
            let step = journal::step(&shard, actor.app, &command);
            let outcome = execute(&shard, &actor, command).await;
            if let Some(step) = step {
                journal::settled(&shard, &actor, step, &outcome);
            }
            shard.turn(|state, shard| state.settle_command(shard, waiting, outcome));
        }
        Task::Knock { key, knock, token } => admission::answer(shard, key, knock, &token).await,
        Task::Farewell { actor, command } => {
            if let Err(rejection) = execute(&shard, &actor, command).await {
                tracing::debug!(%rejection, "a socket's farewell was not published");
            }
        }
        Task::Receipts => chat::tell(shard).await,
        Task::Place { app, order } => {
            if let Err(rejection) = placing::move_user(&shard, app, &order).await {
                tracing::warn!(%rejection, "who moved to this node was not put where the back end wants it");
            }
        }
        Task::Roster { app, change } => write_roster(&shard, app, change).await,
        Task::Subscribe { apps, rooms, mv, seq } => {
            let held = interest(&shard, rooms.clone()).await;
            shard.turn(|state, shard| {
                // Abandoned before the interest was asked for: nobody else would take it back.
                for room in rooms.into_iter().filter(|room| !state.hub.has_members(room)) {
                    shard.shared.node.release(room, shard.ix);
                }
                match held {
                    Ok(()) => state.pass_subscription(shard, apps, mv, seq),
                    Err(Unavailable) => {
                        shard.shared.peers.taker(cluster::moving::TakerInput::ClientGone { mv });
                    }
                }
            });
        }
        Task::Devices(change) => super::presence::write(shard, change).await,
        Task::UnlistLater(gone) => super::presence::unlist_later(shard, gone, OVERLAP).await,
        Task::RosterLater { app, rooms } => {
            tokio::time::sleep(OVERLAP).await;
            shard.turn(|state, _| {
                for (room, participant) in rooms {
                    let change = state.roster.remove(&RoomKey::new(app, &room), &participant);
                    state.tasks.extend(change.map(|change| Task::Roster { app, change }));
                }
            });
        }
    }
}

pub(super) async fn execute(
    shard: &Rc<Shard>,
    actor: &Actor,
    command: Command,
) -> Result<Outcome, Rejection> {
    match command {
        Command::Join(joins) => join(shard, actor, joins).await,
        Command::Leave(rooms) => Ok(leave(shard, actor, &rooms).await),
        Command::Emit(emission) => match emission.delivery {
            Delivery::Ephemeral => publish(shard, actor, &emission),
            Delivery::Recoverable => store(shard, actor, &emission).await,
        },
        Command::Post(post) => {
            shard.turn(|state, shard| state.has_written(shard, actor, post.draft.room.as_str()));
            chat::post(shard, actor.origin(), *post).await.map(|message| Outcome::Posted(Box::new(message)))
        }
        Command::Amend(change) => chat::amend(shard, actor.origin(), *change)
            .await
            .map(|message| Outcome::Amended(Box::new(message))),
        Command::MarkRead(read) => chat::mark_read(shard, actor.origin(), *read).await,
        Command::History { room, page, receipt } => chat::history(shard, actor, room, page, receipt).await,
        Command::Unread(rooms) => chat::unread(shard, actor, rooms).await,
        Command::Typing(signal) => shard.turn(|state, shard| state.hear_typing(shard, actor, *signal)),
        Command::Wait(ms) => {
            tokio::time::sleep(Duration::from_millis(ms)).await;
            Ok(Outcome::Waited)
        }
        Command::Feed { feed, span } => feeds::read(shard, actor, feed, span).await,
        Command::Notifications(act) => {
            let outcome = notifications::asked(shard, actor.app, actor.identity.as_deref(), act).await;
            outcome.map(Outcome::Notifications)
        }
        Command::Identify(identity) => identify::identify(shard, actor, *identity),
        Command::Recall { key } => {
            facts::recall(&shard.shared.bus, shard.shared.app(actor.app), &key).await.map(Outcome::Recalled)
        }
        Command::Authorize { right } => admission::authorize(shard, actor, &right).await,
        Command::Verify { token } => {
            audience::after_token(shard, actor, admission::verify(shard, actor, &token.0).await).await
        }
        Command::Call { call, act } => calls::call(shard, actor, call, act).await,
        Command::OwnCalls => calls::own_calls(shard, actor).await,
        Command::Choose(change) => calls::choose(shard, actor, change).await,
        Command::Presences { users, watch } => watch::presences(shard, actor, users, watch).await,
        Command::Unwatch(users) => Ok(watch::unwatch(shard, actor, &users).await),
    }
}

/// Members first, then interest: nothing that is published from here on can pass the socket by.
async fn join(shard: &Rc<Shard>, actor: &Actor, joins: Vec<Join>) -> Result<Outcome, Rejection> {
    let started = Instant::now();
    let app = shard.shared.app(actor.app);
    let asked = joins.iter().map(|join| RoomKey::new(actor.app, join.room.as_str()));
    let keys: Vec<RoomKey> = asked.chain(shard.turn(|state, _| state.audiences_to_enter(actor))).collect();
    let added = shard.turn(|state, _| state.add_members(app, actor, &keys))?;
    let joined = settle_join(shard, actor, &joins, &keys).await;
    match joined {
        Ok(participants) => {
            shard.turn(|state, shard| state.remember_memberships(shard, actor, joins));
            shard.shared.metrics.join_seconds.observe(started.elapsed().as_secs_f64());
            Ok(Outcome::Joined { participants })
        }
        Err(Unavailable) => {
            shard.turn(|state, shard| {
                state.remove_members(shard, actor, &added);
                state.unlist(actor, &added);
            });
            Err(Rejection::Unavailable)
        }
    }
}

/// Interest, the word to a node that is about to take the session, the rooms' lists of participants.
async fn settle_join(
    shard: &Rc<Shard>,
    actor: &Actor,
    joins: &[Join],
    keys: &[RoomKey],
) -> Result<Vec<Participant>, Unavailable> {
    let app = shard.shared.app(actor.app);
    interest(shard, keys.to_vec()).await?;
    announce_to_taker(shard, actor, keys, &[]).await;
    let mut participants = Vec::new();
    for (join, key) in joins.iter().zip(keys) {
        let Some(participant) = &join.participant else { continue };
        list_in_room(shard, actor, key, participant).await?;
        if participants.is_empty() {
            let own_rev = shard.turn(|state, _| state.roster.revision(key));
            let limit = app.limits.participants_listed;
            participants = shard.store.list(app, &key.room, limit, own_rev).await?;
        }
    }
    Ok(participants)
}

pub(super) async fn interest(shard: &Shard, rooms: Vec<RoomKey>) -> Result<(), Unavailable> {
    let waits = rooms.into_iter().map(|room| shard.shared.node.interest(room, shard.ix));
    join_all(waits).await.into_iter().collect()
}

/// A session that is about to move: its new node must be subscribed before a join is acked, and have left before a leave is.
pub(super) async fn announce_to_taker(
    shard: &Rc<Shard>,
    actor: &Actor,
    joined: &[RoomKey],
    left: &[RoomKey],
) {
    let waits = shard.turn(|state, shard| {
        let Some(Entry::Live(session)) = state.sessions.get_mut(actor.session) else { return None };
        let key = session.move_key()?.clone();
        let rooms = vec![SocketRooms {
            id: actor.socket.to_string(),
            namespace: Some(actor.namespace.to_string()),
            rooms: joined.iter().map(|key| key.room.to_string()).collect(),
            left: left.iter().map(|key| key.room.to_string()).collect(),
        }];
        state.next_token += 1;
        let ticket = u64::from(shard.ix) << 56 | state.next_token;
        let (done, waits) = oneshot::channel();
        state.tickets.insert(ticket, done);
        let rooms = super::moving::encode(&rooms);
        shard.shared.peers.move_owner(MoveOwnerInput::RoomsJoined { key, ticket, rooms });
        Some(waits)
    });
    if let Some(waits) = waits {
        // Dropped with the reservation: then nobody else has to be subscribed.
        let _ = waits.await;
    }
}

async fn list_in_room(
    shard: &Rc<Shard>,
    actor: &Actor,
    key: &RoomKey,
    participant: &Participant,
) -> Result<(), Unavailable> {
    let settled = shard.turn(|state, _| {
        let Some(Entry::Live(session)) = state.sessions.get_mut(actor.session) else { return None };
        let socket = session.socket_by_serial(actor.serial)?;
        if socket.listed.iter().any(|(room, _)| *room == key.room) {
            return Some(state.roster.recorded(key));
        }
        socket.listed.push((key.room.clone(), participant.clone()));
        let (change, settled) = state.roster.add(key, participant);
        state.tasks.extend(change.map(|change| Task::Roster { app: actor.app, change }));
        state.device_room(actor, &key.room, true);
        Some(settled)
    });
    match settled {
        Some(settled) => settled.await.map_err(|_| Unavailable)?,
        None => Ok(()),
    }
}

async fn write_roster(shard: &Rc<Shard>, app: u16, change: Change) {
    let mut next = Some(change);
    while let Some(change) = next {
        let result = shard.store.write(shard.shared.app(app), &change).await;
        next = shard.turn(|state, _| state.roster.written(&change, result));
    }
}

async fn leave(shard: &Rc<Shard>, actor: &Actor, rooms: &[RoomId]) -> Outcome {
    let keys: Vec<RoomKey> = rooms.iter().map(|room| RoomKey::new(actor.app, room.as_str())).collect();
    shard.turn(|state, shard| {
        keys.iter().for_each(|key| state.typing_left(shard, actor, &key.room));
        state.remove_members(shard, actor, &keys);
        state.forget_memberships(shard, actor, &keys);
    });
    announce_to_taker(shard, actor, &[], &keys).await;
    Outcome::Left
}

impl State {
    fn add_members(&mut self, app: &App, actor: &Actor, keys: &[RoomKey]) -> Result<Vec<RoomKey>, Rejection> {
        let Some(Entry::Live(session)) = self.sessions.get_mut(actor.session) else {
            return Err(Rejection::Unavailable);
        };
        if session.socket_by_serial(actor.serial).is_none() {
            return Err(Rejection::Unavailable);
        }
        let limit = app.limits.rooms_per_socket;
        let asked = keys.iter().filter(|key| !watch::is_internal(&key.room));
        let new = asked.filter(|key| !self.hub.contains(actor.ix, key)).count();
        let own = self.hub.rooms_of(actor.ix).filter(|key| !watch::is_internal(&key.room)).count();
        if own + new > limit {
            return Err(Rejection::OverLimit {
                what: "number of rooms",
                limit: limit as u64,
                setting: "limits.rooms_per_socket",
            });
        }
        let joined = keys.iter().filter(|key| self.hub.join(actor.ix, key) != JoinOutcome::AlreadyIn);
        Ok(joined.cloned().collect())
    }

    pub(super) fn remove_members(&mut self, shard: &Shard, actor: &Actor, keys: &[RoomKey]) {
        if !self.is_here(actor) {
            return;
        }
        for key in keys {
            if self.hub.leave(actor.ix, key) == Some(true) {
                shard.shared.node.release(key.clone(), shard.ix);
            }
        }
    }

    fn is_here(&mut self, actor: &Actor) -> bool {
        match self.sessions.get_mut(actor.session) {
            Some(Entry::Live(session)) => session.socket_by_serial(actor.serial).is_some(),
            _ => false,
        }
    }

    /// The acting socket's place in the hub; `None`: it is gone.
    pub(super) fn socket_ix(&mut self, actor: &Actor) -> Option<SocketIx> {
        self.is_here(actor).then_some(actor.ix)
    }

    fn remember_memberships(&mut self, shard: &Shard, actor: &Actor, joins: Vec<Join>) {
        let dialect = &shard.shared.app(actor.app).dialect;
        let Some(Entry::Live(session)) = self.sessions.get_mut(actor.session) else { return };
        let Some(socket) = session.socket_by_serial(actor.serial) else { return };
        let mut seen_in = Vec::new();
        for join in joins {
            let room: Box<str> = join.room.as_str().into();
            match socket.memberships.iter_mut().find(|membership| membership.room == room) {
                Some(membership) => membership.note = join.note,
                None => {
                    seen_in.extend(Some(room.clone()).filter(|room| dialect.tells_presence_in(room)));
                    socket.memberships.push(Membership { room, note: join.note });
                }
            }
        }
        seen_in.iter().for_each(|room| self.device_room(actor, room, true));
    }

    fn forget_memberships(&mut self, shard: &Shard, actor: &Actor, keys: &[RoomKey]) {
        let dialect = &shard.shared.app(actor.app).dialect;
        let Some(Entry::Live(session)) = self.sessions.get_mut(actor.session) else { return };
        let Some(socket) = session.socket_by_serial(actor.serial) else { return };
        let (left, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut socket.memberships)
            .into_iter()
            .partition(|membership| keys.iter().any(|key| key.room == membership.room));
        socket.memberships = kept;
        let unseen = left.iter().filter(|membership| dialect.tells_presence_in(&membership.room));
        unseen.for_each(|membership| self.device_room(actor, &membership.room, false));
        self.unlist(actor, keys);
    }

    /// Takes the socket from the rooms' lists of participants.
    fn unlist(&mut self, actor: &Actor, keys: &[RoomKey]) {
        let Some(Entry::Live(session)) = self.sessions.get_mut(actor.session) else { return };
        let Some(socket) = session.socket_by_serial(actor.serial) else { return };
        let listed = keys.iter().filter_map(|key| {
            let at = socket.listed.iter().position(|(room, _)| *room == key.room)?;
            Some((key, socket.listed.swap_remove(at).1))
        });
        for (key, participant) in listed.collect::<Vec<_>>() {
            let change = self.roster.remove(key, &participant);
            self.tasks.extend(change.map(|change| Task::Roster { app: actor.app, change }));
            self.device_room(actor, &key.room, false);
        }
    }
}

/// Publishes an ephemeral event: in the sender's order, at most once.
pub fn publish(shard: &Shard, actor: &Actor, emission: &Emission) -> Result<Outcome, Rejection> {
    Telling::of(actor, emission).publish(shard).map(|()| Outcome::Emitted)
}

/// Publishes a recoverable event: settles once every copy is stored.
async fn store(shard: &Shard, actor: &Actor, emission: &Emission) -> Result<Outcome, Rejection> {
    Telling::of(actor, emission).store(shard, Stamp::now()).await.map(|()| Outcome::Emitted)
}
