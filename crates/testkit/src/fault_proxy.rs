//! A TCP proxy whose faults are commands: delay, jitter, pause, cut, refuse. Owns the bytes between two sockets and never reorders
//! them; knows no protocol. `tc netem` does not work on the machines the tests run on, hence this.

use std::io;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, tcp};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Chunks in flight per direction while they are delayed; what comes on top waits in the sender's socket.
const CHUNKS_IN_FLIGHT: usize = 256;
/// Bytes of a chunk: one read.
const CHUNK_BYTES: usize = 16 * 1024;

/// What the proxy does to the bytes, from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Holds every chunk this long, and up to `jitter` longer.
    Delay { delay: Duration, jitter: Duration },
    /// Delivers nothing; the connections stay open.
    Pause,
    /// Delivers again, what was held first.
    Resume,
    /// Resets every connection; new ones are taken.
    Cut,
    /// Closes new connections at once.
    Refuse,
    /// Takes new connections again.
    Accept,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is none of: delay <ms> [<jitter ms>], pause, resume, cut, refuse, accept")]
pub struct UnknownCommand(String);

impl FromStr for Command {
    type Err = UnknownCommand;

    fn from_str(line: &str) -> Result<Self, UnknownCommand> {
        let unknown = || UnknownCommand(line.to_owned());
        let millis = |word: &str| word.parse().map(Duration::from_millis).map_err(|_| unknown());
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["delay", delay] => Ok(Self::Delay { delay: millis(delay)?, jitter: Duration::ZERO }),
            ["delay", delay, jitter] => Ok(Self::Delay { delay: millis(delay)?, jitter: millis(jitter)? }),
            ["pause"] => Ok(Self::Pause),
            ["resume"] => Ok(Self::Resume),
            ["cut"] => Ok(Self::Cut),
            ["refuse"] => Ok(Self::Refuse),
            ["accept"] => Ok(Self::Accept),
            _ => Err(unknown()),
        }
    }
}

/// A running proxy. Dropping it closes its listener and every connection.
#[derive(Debug)]
pub struct FaultProxy {
    addr: SocketAddr,
    weather: watch::Sender<Weather>,
    _listener: JoinSet<()>,
}

/// The conditions all connections see.
#[derive(Clone, Copy, Debug, Default)]
struct Weather {
    delay: Duration,
    jitter: Duration,
    paused: bool,
    refusing: bool,
    /// Counts the cuts: a connection older than the last one ends.
    cuts: u64,
}

impl FaultProxy {
    /// Listens on `listen` (port 0: a free one) and connects each client to `target`. Must be called inside a tokio runtime.
    pub async fn start(listen: SocketAddr, target: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let addr = listener.local_addr()?;
        let (weather, seen) = watch::channel(Weather::default());
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, seen));
        Ok(Self { addr, weather, _listener: tasks })
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the conditions at once, also for bytes already held.
    pub fn apply(&self, command: Command) {
        self.weather.send_modify(|weather| match command {
            Command::Delay { delay, jitter } => (weather.delay, weather.jitter) = (delay, jitter),
            Command::Pause => weather.paused = true,
            Command::Resume => weather.paused = false,
            Command::Cut => weather.cuts += 1,
            Command::Refuse => weather.refusing = true,
            Command::Accept => weather.refusing = false,
        });
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, weather: watch::Receiver<Weather>) {
    let mut links = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = links.join_next() => {}
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                if !weather.borrow().refusing {
                    links.spawn(link(client, target, weather.clone()));
                }
            }
        }
    }
}

/// One client and its connection to the target; ends with either, or with a cut.
async fn link(client: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let born = weather.borrow().cuts;
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let mut pumps = JoinSet::new();
    let (up, down) = (mpsc::channel(CHUNKS_IN_FLIGHT), mpsc::channel(CHUNKS_IN_FLIGHT));
    pumps.spawn(read(client_read, up.0));
    pumps.spawn(read(server_read, down.0));
    pumps.spawn(write(server_write, up.1, weather.clone()));
    pumps.spawn(write(client_write, down.1, weather.clone()));
    tokio::select! {
        biased;
        _ = weather.wait_for(|now| now.cuts != born) => pumps.abort_all(),
        () = async { while pumps.join_next().await.is_some() {} } => {}
    }
}

type Chunk = (Instant, BytesMut);

async fn read(mut from: tcp::OwnedReadHalf, to: mpsc::Sender<Chunk>) {
    loop {
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES);
        match from.read_buf(&mut chunk).await {
            Ok(0) | Err(_) => return,
            Ok(_) if to.send((Instant::now(), chunk)).await.is_err() => return,
            Ok(_) => {}
        }
    }
}

async fn write(
    mut to: tcp::OwnedWriteHalf,
    mut from: mpsc::Receiver<Chunk>,
    mut weather: watch::Receiver<Weather>,
) {
    let mut lot = 0;
    while let Some((arrived, chunk)) = from.recv().await {
        lot += 1;
        hold(arrived, lot, &mut weather).await;
        if to.write_all(&chunk).await.is_err() {
            return;
        }
    }
}

/// Waits until the chunk may go on. One chunk at a time, so nothing overtakes.
async fn hold(arrived: Instant, lot: u64, weather: &mut watch::Receiver<Weather>) {
    loop {
        let now = *weather.borrow_and_update();
        // A fixed sequence instead of randomness: a failing run can be repeated.
        let share = (lot.wrapping_mul(0x9E37_79B9) >> 16) % 1000;
        let due = arrived + now.delay + now.jitter * share as u32 / 1000;
        let held = async {
            tokio::time::sleep_until(due).await;
            if now.paused {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = held => return,
            changed = weather.changed() => if changed.is_err() { return },
        }
    }
}
