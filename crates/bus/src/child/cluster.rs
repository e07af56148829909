//! Three private nats-servers in one cluster, for replicated streams in tests.

use std::net::TcpListener;
use std::path::Path;
use std::time::Instant;

use super::{ChildError, ChildOptions, NatsChild, START_TIMEOUT};

/// Servers of a [`NatsCluster`]: the least that survives the loss of one.
const SERVERS: usize = 3;

/// Tries to start with ports that stay free.
const START_TRIES: usize = 3;

/// Three servers on loopback that replicate among each other.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<NatsChild>,
}

impl NatsCluster {
    /// Starts three servers under `dir` and waits until all are healthy, the metadata leader elected included.
    /// `options` gives everything but the data directory and the port.
    pub async fn start(dir: &Path, options: &ChildOptions) -> Result<Self, ChildError> {
        for _ in 1..START_TRIES {
            match Self::try_start(dir, options).await {
                // Somebody took a route port between our look and the server's: others are free.
                Err(ChildError::Exited { log, .. }) if log.contains("address already in use") => {}
                started => return started,
            }
        }
        Self::try_start(dir, options).await
    }

    async fn try_start(dir: &Path, options: &ChildOptions) -> Result<Self, ChildError> {
        let route_ports = free_ports(dir)?;
        let routes: Vec<String> =
            route_ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let mut servers = Vec::with_capacity(SERVERS);
        for (index, port) in route_ports.iter().enumerate() {
            let cluster = format!(
                "server_name: n{index}\ncluster {{ name: trunkline, listen: \"127.0.0.1:{port}\", routes: [{}] }}\n",
                routes.join(", ")
            );
            let options = ChildOptions {
                data_dir: dir.join(format!("n{index}")),
                port: None,
                extra_config: format!("{}{cluster}", options.extra_config),
                ..options.clone()
            };
            servers.push(NatsChild::launch(options).await?);
        }
        let deadline = Instant::now() + START_TIMEOUT;
        for server in &servers {
            server.wait_healthy(deadline).await?;
        }
        Ok(Self { servers })
    }

    /// Client addresses, one per server; server `i` is named `n<i>`.
    pub fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsChild::url).collect()
    }

    pub fn server(&self, index: usize) -> &NatsChild {
        &self.servers[index]
    }

    pub async fn stop(self) {
        for server in self.servers {
            server.stop().await;
        }
    }
}

/// Routes must be known before the servers start, so these ports cannot be left to the servers.
fn free_ports(dir: &Path) -> Result<Vec<u16>, ChildError> {
    let failed =
        |error: std::io::Error| ChildError::DataDir { dir: dir.to_owned(), reason: error.to_string() };
    let listeners: Vec<TcpListener> =
        (0..SERVERS).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().map_err(failed)?;
    listeners.iter().map(|listener| Ok(listener.local_addr().map_err(failed)?.port())).collect()
}
