//! One gateway node with its operators' port: metrics, health, and the gateway itself.

use std::net::SocketAddr;

use gateway::{Deps, Gateway, RunningGateway};
use telemetry::{Metrics, Readiness, admin};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::Config;
use crate::failure::Failure;

/// A node that serves.
pub struct Node {
    gateway: RunningGateway,
    readiness: Readiness,
    admin: Option<Admin>,
}

struct Admin {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Node {
    /// The operators' port comes first: it tells why a node is not ready while it waits for NATS.
    pub async fn start(config: &Config) -> Result<Self, Failure> {
        let metrics = Metrics::new();
        let readiness = Readiness::new(["gateway"]);
        let admin = match config.http.admin {
            None => None,
            Some(addr) => Some(Admin::start(addr, metrics.clone(), readiness.clone()).await?),
        };
        let deps = Deps {
            bus: config.nats.bus(),
            replicas: config.nats.replicas,
            registry: metrics.registry().clone(),
            readiness: readiness.clone(),
        };
        let gateway = Gateway::start(config.gateway(), deps).await?;
        readiness.ready("gateway");
        Ok(Self { gateway, readiness, admin })
    }

    /// The application and address of each listener.
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.gateway.addrs
    }

    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(|admin| admin.addr)
    }

    /// Unready first, so that balancers look elsewhere; the operators' port answers until the last client is gone.
    pub async fn drain(self) {
        self.readiness.not_ready("gateway", "draining");
        self.gateway.drain().await;
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
    }
}

impl Admin {
    async fn start(addr: SocketAddr, metrics: Metrics, readiness: Readiness) -> Result<Self, Failure> {
        let listener = TcpListener::bind(addr).await.map_err(|source| Failure::Listen { addr, source })?;
        let addr = listener.local_addr().map_err(|source| Failure::Listen { addr, source })?;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async {
            // A dropped sender means the same: the node is gone.
            let _ = stopped.await;
        };
        let task = tokio::spawn(admin::serve(listener, admin::router(metrics, readiness), shutdown));
        Ok(Self { addr, stop, task })
    }

    async fn stop(self) {
        // An error means that the server has ended already.
        let _ = self.stop.send(());
        if let Ok(Err(error)) = self.task.await {
            tracing::warn!(%error, "the operators' port failed");
        }
    }
}
