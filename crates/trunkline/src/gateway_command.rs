//! `trunkline gateway`: one node of a cluster, against a given NATS, until a signal.

use std::process::ExitCode;

use crate::arguments::ConfigArguments;
use crate::config::{Config, Role};
use crate::failure::Failure;
use crate::node::Node;
use crate::signals::Signals;

/// Serves until SIGTERM or SIGINT, then drains. Prints `listening <application> <address>` for each listener, `api <address>` for
/// each of the server API, and `ready` on standard output, for scripts; all else is log.
pub fn run(arguments: &ConfigArguments) -> Result<ExitCode, Failure> {
    let config = arguments.load_valid(Role::Gateway)?;
    telemetry::log::init(&config.log, config.log_format)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    tokio::task::LocalSet::new().block_on(&runtime, serve(&config))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: &Config) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(Failure::Runtime)?;
    let node = tokio::select! {
        node = Node::start(config, true) => node?,
        // Nothing is served yet, so there is nothing to drain.
        name = signals.next() => {
            tracing::info!(signal = name, "stopped while starting");
            return Ok(());
        }
    };
    for (app, addr) in node.listeners() {
        println!("listening {app} {addr}");
    }
    for addr in node.api_addrs() {
        println!("api {addr}");
    }
    if let Some(addr) = node.admin_addr() {
        tracing::info!(%addr, "metrics and health");
    }
    println!("ready");
    let name = signals.next().await;
    tracing::info!(signal = name, drain_s = config.node.drain_s, "draining");
    signals.or_exit(node.drain()).await;
    Ok(())
}
