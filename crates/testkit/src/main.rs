//! The testkit as programs, for tests that are not written in Rust, and for people. Balancer and fault proxy print `listening <addr>` per
//! address on stdout; each program runs until its stdin closes: a test that dies leaves nothing behind.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use testkit::balancer::{Balancer, Schedule};
use testkit::cluster;
use testkit::fault_proxy::{Command, FaultProxy};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

#[derive(Parser)]
#[command(about = "What is put around Trunkline's processes to try them; each runs until stdin closes")]
struct Cli {
    #[command(subcommand)]
    program: Program,
}

#[derive(Subcommand)]
enum Program {
    /// An HTTP/1.1 balancer that sends every request to the next backend
    Balancer {
        /// Address to listen on, repeatable; port 0 takes a free one
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: Vec<SocketAddr>,
        /// Address of a gateway node, repeatable
        #[arg(long, required_unless_present = "route")]
        backend: Vec<SocketAddr>,
        /// Addresses with backends of their own, repeatable: LISTEN=BACKEND,BACKEND,…
        #[arg(long, value_parser = route, conflicts_with_all = ["listen", "backend"])]
        route: Vec<Route>,
        /// Choose by a fixed random sequence instead of in turn
        #[arg(long)]
        seed: Option<u64>,
    },
    /// A TCP proxy with faults; commands on stdin: delay <ms> [<jitter ms>], pause, resume, cut, refuse, accept
    Faultproxy {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
        /// Where the bytes go
        #[arg(long)]
        to: SocketAddr,
    },
    /// Three nats-servers, three gateways, two coordinators and a balancer on loopback, to kill by hand
    Cluster(cluster::Options),
}

/// One address of the balancer and what stands behind it.
#[derive(Clone, Debug)]
struct Route {
    listen: SocketAddr,
    backends: Vec<SocketAddr>,
}

fn route(text: &str) -> Result<Route, String> {
    let (listen, backends) = text.split_once('=').ok_or("write LISTEN=BACKEND,BACKEND")?;
    let addr = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
    Ok(Route { listen: addr(listen)?, backends: backends.split(',').map(addr).collect::<Result<_, _>>()? })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stdin = || BufReader::new(tokio::io::stdin()).lines();
    match Cli::parse().program {
        Program::Balancer { listen, backend, route, seed } => {
            let schedule = seed.map_or(Schedule::RoundRobin, Schedule::Seeded);
            let mut balancers = Vec::new();
            if route.is_empty() {
                balancers.push(Balancer::start(&listen, backend, schedule).await?);
            }
            for Route { listen, backends } in route {
                balancers.push(Balancer::start(&[listen], backends, schedule).await?);
            }
            for addr in balancers.iter().flat_map(Balancer::addrs) {
                println!("listening {addr}");
            }
            until_closed(stdin()).await
        }
        Program::Faultproxy { listen, to } => {
            let proxy = FaultProxy::start(listen, to).await?;
            println!("listening {}", proxy.addr());
            obey(stdin(), &proxy).await
        }
        // Its error is for people, who are told it as it is.
        Program::Cluster(options) => match cluster::run(options).await {
            Ok(()) => Ok(()),
            Err(error) => {
                eprintln!("cluster: {error}");
                std::process::exit(1)
            }
        },
    }
}

async fn until_closed(mut stdin: Lines<BufReader<Stdin>>) -> Result<(), Box<dyn std::error::Error>> {
    while stdin.next_line().await?.is_some() {}
    Ok(())
}

async fn obey(
    mut stdin: Lines<BufReader<Stdin>>,
    proxy: &FaultProxy,
) -> Result<(), Box<dyn std::error::Error>> {
    while let Some(line) = stdin.next_line().await? {
        match line.parse::<Command>() {
            Ok(command) => {
                proxy.apply(command);
                println!("ok {line}");
            }
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
