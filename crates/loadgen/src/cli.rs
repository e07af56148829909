//! Parameters, and their way to a scenario.

mod realtime;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;
use serde_json::{Value, json};

use self::realtime::{CallsArgs, CrashArgs, PresenceArgs};
use crate::RunError;
use crate::crew::Muster;
use crate::floor::{self, Fault, Mode};
use crate::measure::Window;
use crate::report::as_text;
use crate::scenario::churn::Churn;
use crate::scenario::connections::Connections;
use crate::scenario::echo::Echo;
use crate::scenario::fanout::{Fanout, Load};
use crate::session::{Target, Transport};
use crate::stamp::STAMP_BYTES;
use crate::tokens::Tokens;
use crate::vocabulary::{App, Class, Vocabulary};
use crate::wire::http::Endpoint;

/// Load on any Socket.IO v5 server. Exit status 1: something was lost, duplicated, reordered or refused.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Open many connections and hold them.
    Connections(ConnectionsArgs),
    /// Events that the server acks with their own payload.
    Echo(EchoArgs),
    /// Messages to rooms, every delivery accounted for.
    Fanout(FanoutArgs),
    /// Joins and leaves.
    Churn(ChurnArgs),
    /// Calls of two from the first ring to the end, every event accounted for.
    Calls(CallsArgs),
    /// Changes of presence, told to watchers.
    Presence(PresenceArgs),
    /// Kills a gateway and watches until its users are offline, and nobody else.
    Crash(CrashArgs),
    /// The bare server that figures are compared with.
    Floor(FloorArgs),
}

#[derive(Debug, Args)]
struct Common {
    /// A node, as http://host:port; repeat for several, clients are spread over them.
    #[arg(long = "url", required = true, value_delimiter = ',')]
    urls: Vec<String>,
    #[arg(long, default_value = "/socket.io/")]
    path: String,
    #[arg(long, default_value = "/")]
    namespace: String,
    #[arg(long, value_enum, default_value = "websocket")]
    transport: Transport,
    #[arg(long, value_enum, default_value = "rooms")]
    app: App,
    /// One token per line, for the CONNECT payload's `token`.
    #[arg(long, conflicts_with = "hs_secret_file")]
    token_file: Option<PathBuf>,
    /// Mint an HS256 token per user with this file's content.
    #[arg(long)]
    hs_secret_file: Option<PathBuf>,
    /// The first client is this user, the next one the next: for several generators at once.
    #[arg(long, default_value_t = 0)]
    first_user: usize,
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// New connections per second.
    #[arg(long, default_value_t = 2000.0)]
    connect_rate: f64,
    /// Local addresses to connect from, such as 127.0.0.2,127.0.0.3: about 28000 connections each.
    #[arg(long = "source", value_delimiter = ',')]
    sources: Vec<IpAddr>,
    /// Give up on a connection or a join after this many seconds.
    #[arg(long, default_value_t = 10.0)]
    timeout: f64,
    /// Server processes whose CPU and memory are reported.
    #[arg(long, value_delimiter = ',')]
    pids: Vec<u32>,
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Timing {
    /// Load before the measured window, seconds.
    #[arg(long, default_value_t = 2.0)]
    warmup: f64,
    /// The measured window.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
}

#[derive(Debug, Args)]
struct ConnectionsArgs {
    #[command(flatten)]
    common: Common,
    #[arg(long, default_value_t = 1000)]
    clients: usize,
    /// Seconds to hold them.
    #[arg(long, default_value_t = 5.0)]
    hold: f64,
}

#[derive(Debug, Args)]
struct EchoArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    timing: Timing,
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// Echoes per second over all clients; without it a closed loop.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

#[derive(Debug, Args)]
struct FanoutArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    timing: Timing,
    #[arg(long, default_value_t = 1)]
    rooms: usize,
    #[arg(long, default_value_t = 1000)]
    members: usize,
    /// Members of each room that send.
    #[arg(long, default_value_t = 1)]
    senders: usize,
    /// Messages per second and room, on schedule whatever the server does.
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Closed loop instead: messages in flight per sender.
    #[arg(long, value_name = "WINDOW")]
    closed: Option<usize>,
    #[arg(long, value_enum, default_value = "ephemeral")]
    class: Class,
    #[arg(long, default_value_t = 128)]
    payload: usize,
}

#[derive(Debug, Args)]
struct ChurnArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    timing: Timing,
    #[arg(long, default_value_t = 100)]
    clients: usize,
    #[arg(long, default_value_t = 10)]
    rooms: usize,
    /// Joins and leaves per second over all clients.
    #[arg(long, default_value_t = 100.0)]
    rate: f64,
}

#[derive(Debug, Args)]
struct FloorArgs {
    #[arg(long, value_enum, default_value = "per-delivery")]
    mode: Mode,
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Prove that the accounting sees a fault: `drop=N`, `duplicate=N` or `reorder=N`, on every N-th delivery.
    #[arg(long, default_value = "none")]
    fault: Fault,
}

impl Cli {
    /// Runs and prints; true if nothing went wrong on the server's side.
    pub fn run(self) -> Result<bool, RunError> {
        match self.command {
            Command::Connections(args) => args.run(),
            Command::Echo(args) => args.run(),
            Command::Fanout(args) => args.run(),
            Command::Churn(args) => args.run(),
            Command::Calls(args) => args.run(),
            Command::Presence(args) => args.run(),
            Command::Crash(args) => args.run(),
            Command::Floor(args) => args.run(),
        }
    }
}

impl Common {
    fn target(&self) -> Result<Arc<Target>, RunError> {
        let endpoints: Result<Vec<Endpoint>, _> = self.urls.iter().map(|url| Endpoint::parse(url)).collect();
        Ok(Arc::new(Target {
            endpoints: endpoints?,
            sources: self.sources.clone(),
            path: self.path.clone(),
            transport: self.transport,
            vocabulary: Vocabulary::new(self.app, &self.namespace),
            tokens: self.tokens()?,
            first_user: self.first_user,
            timeout: seconds("timeout", self.timeout)?,
        }))
    }

    fn tokens(&self) -> Result<Tokens, RunError> {
        let in_file = |path: &Path| {
            let path = path.display().to_string();
            move |source| RunError::File { path, source }
        };
        match (&self.token_file, &self.hs_secret_file) {
            (Some(path), _) => Tokens::read(path).map_err(in_file(path)),
            (None, Some(path)) => Tokens::mint_with(path).map_err(in_file(path)),
            (None, None) => Ok(Tokens::None),
        }
    }

    fn muster(&self, clients: usize) -> Result<Muster, RunError> {
        at_least_one("clients", clients)?;
        at_least_one("threads", self.threads)?;
        Ok(Muster {
            clients,
            threads: self.threads,
            connect_rate: positive("connect-rate", self.connect_rate)?,
        })
    }

    fn window(&self, timing: &Timing) -> Result<Window, RunError> {
        let warmup = seconds("warmup", timing.warmup)?;
        Ok(Window { warmup, length: seconds("seconds", timing.seconds)?, pids: self.pids.clone() })
    }

    fn print(&self, scenario: &str, report: &impl Serialize) {
        let mut whole = json!({
            "scenario": scenario,
            "app": format!("{:?}", self.app).to_lowercase(),
            "transport": format!("{:?}", self.transport).to_lowercase(),
            "nodes": self.urls.len(),
        });
        let report = serde_json::to_value(report).expect("reports have string keys only");
        if let (Value::Object(whole), Value::Object(report)) = (&mut whole, report) {
            whole.extend(report);
        }
        match self.json {
            true => println!("{whole}"),
            false => print!("{}", as_text(&whole)),
        }
    }
}

impl ConnectionsArgs {
    fn run(self) -> Result<bool, RunError> {
        let muster = self.common.muster(self.clients)?;
        let plan = Connections { muster, hold: seconds("hold", self.hold)?, pids: self.common.pids.clone() };
        let report = plan.run(&self.common.target()?)?;
        self.common.print("connections", &report);
        Ok(report.is_clean())
    }
}

impl EchoArgs {
    fn run(self) -> Result<bool, RunError> {
        let plan = Echo {
            muster: self.common.muster(self.clients)?,
            rate: self.rate.map(|rate| positive("rate", rate)).transpose()?,
            payload_bytes: payload(self.payload)?,
            window: self.common.window(&self.timing)?,
        };
        let report = plan.run(&self.common.target()?)?;
        self.common.print("echo", &report);
        Ok(report.is_clean())
    }
}

impl FanoutArgs {
    fn run(self) -> Result<bool, RunError> {
        let report = self.plan()?.run(&self.common.target()?)?;
        self.common.print("fanout", &report);
        Ok(report.is_clean())
    }

    fn plan(&self) -> Result<Fanout, RunError> {
        at_least_one("rooms", self.rooms)?;
        at_least_one("senders", self.senders)?;
        let refuse = |name, reason| Err(RunError::Option { name, reason });
        if self.rooms > usize::from(u16::MAX) || self.senders > usize::from(u16::MAX) {
            return refuse("rooms", "rooms and senders are numbered with 16 bits");
        }
        if self.senders > self.members {
            return refuse("senders", "senders are members: not more than --members");
        }
        let load = match self.closed {
            None => Load::Open { rate: positive("rate", self.rate)? },
            Some(0 | 1025..) => return refuse("closed", "a window of 1 to 1024"),
            Some(in_flight) => Load::Closed { in_flight },
        };
        let Muster { threads, connect_rate, .. } = self.common.muster(self.rooms * self.members)?;
        Ok(Fanout {
            threads,
            connect_rate,
            rooms: self.rooms,
            members: self.members,
            senders: self.senders,
            class: self.class,
            payload_bytes: payload(self.payload)?,
            load,
            window: self.common.window(&self.timing)?,
        })
    }
}

impl ChurnArgs {
    fn run(self) -> Result<bool, RunError> {
        at_least_one("rooms", self.rooms)?;
        let plan = Churn {
            muster: self.common.muster(self.clients)?,
            rooms: self.rooms,
            rate: positive("rate", self.rate)?,
            window: self.common.window(&self.timing)?,
        };
        let report = plan.run(&self.common.target()?)?;
        self.common.print("churn", &report);
        Ok(report.is_clean())
    }
}

impl FloorArgs {
    fn run(self) -> Result<bool, RunError> {
        floor::run(self.listen, self.mode, self.fault, |addr| println!("listening {addr}"))?;
        Ok(true)
    }
}

fn payload(bytes: usize) -> Result<usize, RunError> {
    match bytes {
        STAMP_BYTES..=1_000_000 => Ok(bytes),
        _ => Err(RunError::Option { name: "payload", reason: "32 to 1000000 bytes" }),
    }
}

fn seconds(name: &'static str, value: f64) -> Result<Duration, RunError> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| RunError::Option { name, reason: "not a number of seconds" })
}

fn positive(name: &'static str, value: f64) -> Result<f64, RunError> {
    match value.is_finite() && value > 0.0 {
        true => Ok(value),
        false => Err(RunError::Option { name, reason: "must be above zero" }),
    }
}

fn at_least_one(name: &'static str, value: usize) -> Result<(), RunError> {
    match value {
        0 => Err(RunError::Option { name, reason: "must be at least one" }),
        _ => Ok(()),
    }
}
