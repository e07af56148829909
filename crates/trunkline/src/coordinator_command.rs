//! `trunkline coordinator`: one replica, against a given NATS, until a signal.

use std::net::SocketAddr;
use std::process::ExitCode;

use crate::arguments::ConfigArguments;
use crate::config::{Config, Role};
use crate::failure::Failure;
use crate::replica::Replica;
use crate::signals::Signals;

/// Serves until SIGTERM or SIGINT, then drains. Prints `ready` on standard output, for scripts; all else is log.
pub fn run(arguments: &ConfigArguments) -> Result<ExitCode, Failure> {
    let config = arguments.load_valid(Role::Coordinator)?;
    telemetry::log::init(&config.log, config.log_format)?;
    // The flag means this process's own port, whatever role it has.
    let admin = if arguments.admin.is_some() { config.http.admin } else { config.coordinator.admin };
    // A replica waits for NATS most of the time, and threads that wake each other cost more than they carry: who has more to do runs
    // more replicas.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::Runtime)?;
    runtime.block_on(serve(&config, admin))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(config: &Config, admin: Option<SocketAddr>) -> Result<(), Failure> {
    let mut signals = Signals::listen().map_err(Failure::Runtime)?;
    let replica = tokio::select! {
        replica = Replica::start(config, admin) => replica?,
        // Nothing is served yet, so there is nothing to drain.
        name = signals.next() => {
            tracing::info!(signal = name, "stopped while starting");
            return Ok(());
        }
    };
    if let Some(addr) = replica.admin_addr() {
        tracing::info!(%addr, "metrics and health");
    }
    println!("ready");
    let name = signals.next().await;
    tracing::info!(signal = name, "draining");
    signals.or_exit(replica.drain()).await;
    Ok(())
}
