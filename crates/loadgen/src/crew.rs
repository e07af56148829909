//! Thousands of clients on a few threads: each thread runs its own current-thread runtime, and a client never
//! leaves its thread. The main thread stays free for the schedule.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinSet, LocalSet};

use crate::report::{Errors, Latencies, Quantiles};
use crate::session::{Outbound, Session, SessionError, Target};
use crate::stamp::now_ns;

/// Orders that a worker may be behind before the pacing thread waits for it (the schedule keeps the due time).
const ORDER_QUEUE: usize = 65_536;

/// Handshakes in flight per thread: enough for any rate, few enough for a listen backlog.
const CONNECTING_AT_ONCE: usize = 64;

/// What the clients of one scenario do.
pub(crate) trait Script: Send + Sync + 'static {
    /// One client's state.
    type Role: Default + Send + 'static;
    /// What the clients of one thread note down together.
    type Notes: Default + Send + 'static;

    /// The node to which client `index` connects.
    fn node(&self, index: usize) -> usize;

    /// What a client does after it has connected, before the load begins.
    fn enter(
        &self,
        index: usize,
        session: &mut Session,
    ) -> impl Future<Output = Result<Self::Role, SessionError>>;

    fn on_packet(&self, client: &mut Client<'_, Self>, packet: &[u8]);

    /// The schedule says that this client is due, since `due_ns`.
    fn on_order(&self, client: &mut Client<'_, Self>, due_ns: u64);

    /// What the client asked to be reminded of is due.
    fn on_reminder(&self, _client: &mut Client<'_, Self>, _about: String) {}
}

/// A client while it handles something.
pub(crate) struct Client<'c, S: Script + ?Sized> {
    pub role: &'c mut S::Role,
    pub notes: &'c mut S::Notes,
    pub outbound: &'c Outbound,
    pub orders: &'c Orders,
    reminder: Option<(Duration, String)>,
}

impl<S: Script + ?Sized> Client<'_, S> {
    /// One reminder for each thing the client handles.
    pub fn remind(&mut self, after: Duration, about: String) {
        self.reminder = Some((after, about));
    }
}

/// Sends orders to clients from any thread.
#[derive(Clone)]
pub(crate) struct Orders(Vec<mpsc::Sender<Order>>);

enum Order {
    Act { seat: usize, due_ns: u64 },
    Stop,
}

/// How the clients came in.
#[derive(Debug, Clone, Serialize)]
pub struct Connects {
    pub opened: u64,
    pub failed: u64,
    pub seconds: f64,
    pub latency: Quantiles,
    pub errors: Errors,
}

pub(crate) struct Crew<S: Script> {
    workers: Vec<JoinHandle<Findings<S>>>,
    orders: Orders,
    arrivals: std_mpsc::Receiver<Result<u64, String>>,
    clients: usize,
}

/// What one thread brings home. `roles` are by client index.
pub(crate) struct Findings<S: Script> {
    pub roles: Vec<(usize, S::Role)>,
    pub notes: S::Notes,
    /// Sessions that ended before the run did.
    pub disconnects: Errors,
}

/// How many clients, how many threads, how fast.
#[derive(Debug, Clone, Copy)]
pub struct Muster {
    pub clients: usize,
    pub threads: usize,
    /// New connections per second over all threads.
    pub connect_rate: f64,
}

impl<S: Script> Crew<S> {
    /// Starts connecting; returns at once.
    pub fn assemble(script: Arc<S>, target: Arc<Target>, muster: Muster) -> Crew<S> {
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..muster.threads).map(|_| mpsc::channel(ORDER_QUEUE)).unzip();
        let all_orders = Orders(senders);
        let (arrived, arrivals) = std_mpsc::channel();
        let start = Instant::now();
        let spawn = |(thread, orders): (usize, mpsc::Receiver<Order>)| {
            let worker = Worker {
                script: script.clone(),
                target: target.clone(),
                orders: all_orders.clone(),
                muster,
                thread,
                start,
                arrived: arrived.clone(),
            };
            std::thread::spawn(move || worker.run(orders))
        };
        let workers = receivers.into_iter().enumerate().map(spawn).collect();
        Crew { workers, orders: all_orders, arrivals, clients: muster.clients }
    }

    /// Waits until every client has come in or failed.
    pub fn wait(&self) -> Connects {
        let start = Instant::now();
        let (mut latency, mut errors, mut opened) = (Latencies::default(), Errors::default(), 0);
        for arrival in self.arrivals.iter().take(self.clients) {
            match arrival {
                Ok(nanos) => {
                    opened += 1;
                    latency.record_ns(nanos);
                }
                Err(error) => errors.count(&error),
            }
        }
        let failed = errors.total();
        Connects {
            opened,
            failed,
            seconds: start.elapsed().as_secs_f64(),
            latency: latency.quantiles(),
            errors,
        }
    }

    pub fn orders(&self) -> &Orders {
        &self.orders
    }

    /// Disconnects everybody and collects what they found, one entry per thread.
    pub fn dismiss(self) -> Vec<Findings<S>> {
        for worker in &self.orders.0 {
            // A worker that is gone has panicked; `join` says so.
            let _ = worker.blocking_send(Order::Stop);
        }
        self.workers.into_iter().map(|worker| worker.join().expect("a worker thread panicked")).collect()
    }
}

impl Orders {
    /// Waits while the worker is `ORDER_QUEUE` orders behind. Not for use on a worker thread.
    pub fn give(&self, client: usize, due_ns: u64) {
        let threads = self.0.len();
        let order = Order::Act { seat: client / threads, due_ns };
        let _ = self.0[client % threads].blocking_send(order);
    }

    /// For use on worker threads: windows are far smaller than the queue, so it has room.
    pub fn give_now(&self, client: usize) {
        let threads = self.0.len();
        let order = Order::Act { seat: client / threads, due_ns: now_ns() };
        let _ = self.0[client % threads].try_send(order);
    }
}

struct Worker<S> {
    script: Arc<S>,
    target: Arc<Target>,
    orders: Orders,
    muster: Muster,
    thread: usize,
    start: Instant,
    arrived: std_mpsc::Sender<Result<u64, String>>,
}

/// One client of this thread, once it has come in.
struct Seat<S: Script> {
    outbound: Outbound,
    role: RefCell<S::Role>,
}

/// What the tasks of one thread share.
struct Shop<S: Script> {
    script: Arc<S>,
    orders: Orders,
    seats: RefCell<Vec<Option<Rc<Seat<S>>>>>,
    notes: RefCell<S::Notes>,
    disconnects: RefCell<Errors>,
    connecting: Semaphore,
}

impl<S: Script> Worker<S> {
    fn run(self, orders: mpsc::Receiver<Order>) -> Findings<S> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime needs two file descriptors, taken before any connection");
        LocalSet::new().block_on(&runtime, self.serve(orders))
    }

    async fn serve(self, mut orders: mpsc::Receiver<Order>) -> Findings<S> {
        let worker = Rc::new(self);
        let mine: Vec<usize> =
            (worker.thread..worker.muster.clients).step_by(worker.muster.threads).collect();
        let shop = Rc::new(Shop::<S> {
            script: worker.script.clone(),
            orders: worker.orders.clone(),
            seats: RefCell::new(mine.iter().map(|_| None).collect()),
            notes: RefCell::default(),
            disconnects: RefCell::default(),
            connecting: Semaphore::new(CONNECTING_AT_ONCE),
        });
        let mut clients = JoinSet::new();
        for (seat, &index) in mine.iter().enumerate() {
            clients.spawn_local(live(worker.clone(), shop.clone(), seat, index));
        }
        while let Some(Order::Act { seat, due_ns }) = orders.recv().await {
            shop.act(seat, due_ns);
        }
        shop.close(&mine)
    }

    async fn come_in(&self, index: usize) -> Result<(Session, S::Role, Duration), SessionError> {
        let started = Instant::now();
        let mut session = self.target.connect(index, self.script.node(index)).await?;
        let latency = started.elapsed();
        let entering = self.script.enter(index, &mut session);
        let role = tokio::time::timeout(self.target.timeout, entering)
            .await
            .map_err(|_| SessionError::TimedOut)??;
        Ok((session, role, latency))
    }
}

/// A client from its turn to connect until its session ends.
async fn live<S: Script>(worker: Rc<Worker<S>>, shop: Rc<Shop<S>>, seat: usize, index: usize) {
    let turn = worker.start + Duration::from_secs_f64(index as f64 / worker.muster.connect_rate);
    tokio::time::sleep_until(turn.into()).await;
    let permit = shop.connecting.acquire().await.expect("this semaphore is never closed");
    let entered = worker.come_in(index).await;
    drop(permit);
    let (session, taken) = match entered {
        Err(error) => return drop(worker.arrived.send(Err(error.to_string()))),
        Ok((session, role, latency)) => {
            let taken = Rc::new(Seat { outbound: session.outbound(), role: RefCell::new(role) });
            shop.seats.borrow_mut()[seat] = Some(taken.clone());
            // The main thread may have stopped listening after an earlier failure.
            let _ = worker.arrived.send(Ok(latency.as_nanos() as u64));
            (session, taken)
        }
    };
    let ended =
        session.run(|packet| shop.with(&taken, |script, client| script.on_packet(client, packet))).await;
    shop.disconnects.borrow_mut().count(&ended);
}

impl<S: Script> Shop<S> {
    fn act(self: &Rc<Self>, seat: usize, due_ns: u64) {
        let taken = self.seats.borrow()[seat].clone();
        if let Some(taken) = taken {
            self.with(&taken, |script, client| script.on_order(client, due_ns));
        }
    }

    fn with(self: &Rc<Self>, seat: &Rc<Seat<S>>, act: impl FnOnce(&S, &mut Client<'_, S>)) {
        let (role, notes) = (&mut *seat.role.borrow_mut(), &mut *self.notes.borrow_mut());
        let (outbound, orders) = (&seat.outbound, &self.orders);
        let mut client = Client { role, notes, outbound, orders, reminder: None };
        act(&self.script, &mut client);
        if let Some((after, about)) = client.reminder {
            self.remind(seat.clone(), after, about);
        }
    }

    fn remind(self: &Rc<Self>, seat: Rc<Seat<S>>, after: Duration, about: String) {
        let shop = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(after).await;
            shop.with(&seat, |script, client| script.on_reminder(client, about));
        });
    }

    fn close(&self, indexes: &[usize]) -> Findings<S> {
        let seats = std::mem::take(&mut *self.seats.borrow_mut());
        let taken = indexes.iter().zip(seats).filter_map(|(&index, seat)| Some((index, seat?)));
        let roles = taken.map(|(index, seat)| {
            // A clean goodbye: the server need not keep the session for a recovery.
            seat.outbound.send("41");
            (index, seat.role.take())
        });
        Findings { roles: roles.collect(), notes: self.notes.take(), disconnects: self.disconnects.take() }
    }
}
