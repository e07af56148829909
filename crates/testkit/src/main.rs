//! The testkit as programs, for tests that are not written in Rust. Each prints `listening <addr>` per address on stdout and runs
//! until its stdin closes: a test that dies leaves nothing behind.

use std::net::SocketAddr;

use clap::{Parser, Subcommand};
use testkit::balancer::{Balancer, Schedule};
use testkit::fault_proxy::{Command, FaultProxy};
use tokio::io::{AsyncBufReadExt, BufReader, Lines, Stdin};

#[derive(Parser)]
#[command(about = "Balancer and fault proxy for Trunkline's tests; both run until stdin closes")]
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
        #[arg(long, required = true)]
        backend: Vec<SocketAddr>,
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
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stdin = BufReader::new(tokio::io::stdin()).lines();
    match Cli::parse().program {
        Program::Balancer { listen, backend, seed } => {
            let schedule = seed.map_or(Schedule::RoundRobin, Schedule::Seeded);
            let balancer = Balancer::start(&listen, backend, schedule).await?;
            for addr in balancer.addrs() {
                println!("listening {addr}");
            }
            until_closed(stdin).await
        }
        Program::Faultproxy { listen, to } => {
            let proxy = FaultProxy::start(listen, to).await?;
            println!("listening {}", proxy.addr());
            obey(stdin, &proxy).await
        }
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
