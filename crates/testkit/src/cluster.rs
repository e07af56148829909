//! `testkit cluster`: a whole cluster on this machine, for people who want to see it fail. Three nats-servers, three gateways, two
//! coordinators and a balancer, each a process to kill; what died is told, and started again on a word. Owns the processes and
//! nothing else: what they do is their own affair. Start at [`run`].

mod directory;
mod order;
mod plan;
mod ports;
mod process;
mod served;
mod supervisor;
mod welcome;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use directory::Directory;
use order::Order;
use plan::Plan;
use served::Served;
use supervisor::{Supervisor, Wish};

#[derive(Clone, Debug, Args)]
pub struct Options {
    /// The configuration of all; its addresses are the balancer's, each gateway gets free ones
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The trunkline to run
    #[arg(long, value_name = "FILE")]
    pub trunkline: PathBuf,
    /// The nats-server to run, 2.12 or newer
    #[arg(long, value_name = "FILE", default_value = "nats-server")]
    pub nats_server: PathBuf,
    /// Stores, logs and keys, kept from one run to the next
    #[arg(long, value_name = "DIRECTORY", default_value = ".trunkline/cluster")]
    pub data_dir: PathBuf,
    /// What stands in front of the gateways
    #[arg(long, value_enum, default_value_t = BalancerKind::Installed)]
    pub balancer: BalancerKind,
    /// Clients connect to free ports instead of those of the configuration
    #[arg(long)]
    pub free_ports: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum BalancerKind {
    /// haproxy if there is one, else the testkit's
    Installed,
    Haproxy,
    Testkit,
}

impl BalancerKind {
    fn is_haproxy(self) -> bool {
        let installed = || {
            let path = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&path).any(|dir| dir.join("haproxy").is_file())
        };
        self == Self::Haproxy || (self == Self::Installed && installed())
    }
}

/// Why there is no cluster. The texts are for users.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    #[error("cannot run {}: {source}", binary.display())]
    Spawn { binary: PathBuf, source: io::Error },
    #[error("cannot use {}: {source}", path.display())]
    Directory { path: PathBuf, source: io::Error },
    #[error("the directory {} is in use by process {owner}: stop it, or take another with --data-dir", path.display())]
    InUse { path: PathBuf, owner: String },
    #[error("{0}")]
    Configuration(String),
    #[error(
        "clients cannot connect to {addr}: {source}; stop what listens there, or take free ports with --free-ports"
    )]
    Taken { addr: SocketAddr, source: io::Error },
    #[error(transparent)]
    NoPort(#[from] ports::NoPort),
    #[error("{name} {what} while it was starting; its log ends with:\n{log}")]
    Start { name: String, what: String, log: String },
    #[error("the operating system refused a signal handler: {0}")]
    Signals(io::Error),
}

/// Starts everything, obeys standard input, and stops everything at a signal, `quit`, or the end of standard input: whoever started this
/// and died leaves nothing behind.
///
/// # Errors
/// A cluster that does not come up; what was started is stopped.
pub async fn run(options: Options) -> Result<(), ClusterError> {
    let directory = Directory::open(&options.data_dir).await?;
    let key = key(&directory)?;
    let served = Served::load(&options.trunkline, &options.config, &key).await?;
    let plan = Plan::make(&options, &served, &directory, &key)?;
    let mut supervisor = Supervisor::new(plan.stages, directory)?;
    let started = supervisor.start_all().await;
    let outcome = match started {
        Ok(Wish::Stop) => Ok(()),
        Err(error) => Err(error),
        Ok(Wish::GoOn) => {
            let welcome = welcome::welcome(&options, &served, &plan.frontends, &supervisor, &key).await;
            match welcome {
                Ok(text) => {
                    println!("{text}\nready");
                    obey(&mut supervisor, &options, &key).await;
                    Ok(())
                }
                Err(error) => Err(error),
            }
        }
    };
    supervisor.stop_all().await;
    outcome
}

/// The key of the tokens: the environment's, as everywhere, or one that is made at the first start.
fn key(directory: &Directory) -> Result<String, ClusterError> {
    if let Some(key) = std::env::var("JWT_SECRET").ok().filter(|key| !key.is_empty()) {
        return Ok(key);
    }
    let path = directory.key_file("jwt-key")?;
    match std::fs::read_to_string(&path) {
        Ok(key) => Ok(key.trim().to_owned()),
        Err(source) => Err(ClusterError::Directory { path, source }),
    }
}

/// Until somebody wants the end.
async fn obey(supervisor: &mut Supervisor, options: &Options, key: &str) {
    while let Some(line) = supervisor.next_line().await {
        match Order::parse(&line) {
            Some(Order::Quit) => return,
            Some(Order::Start(member)) => supervisor.start_again(&member),
            Some(Order::Signal { signal, member }) => supervisor.signal(&member, signal).await,
            Some(Order::List) => print!("{}", welcome::table(supervisor)),
            Some(Order::Help) => println!("{}", order::HELP),
            Some(Order::Token { app, user, role }) => {
                match plan::token(options, key, &app, &user, role.as_deref()).await {
                    Ok(token) => println!("{token}"),
                    Err(error) => println!("{error}"),
                }
            }
            None if line.trim().is_empty() => {}
            None => println!("`{}` is nothing we know:\n{}", line.trim(), order::HELP),
        }
    }
}
