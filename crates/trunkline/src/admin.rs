//! The operators' port of a process: metrics and health.

use std::net::SocketAddr;

use telemetry::{Metrics, Readiness, admin};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// The port, served until [`Admin::stop`].
pub struct Admin {
    addr: SocketAddr,
    stop: oneshot::Sender<()>,
    task: JoinHandle<std::io::Result<()>>,
}

impl Admin {
    /// At no address, nothing.
    pub async fn start_if(
        addr: Option<SocketAddr>,
        metrics: &Metrics,
        readiness: &Readiness,
    ) -> Result<Option<Self>, Failure> {
        match addr {
            None => Ok(None),
            Some(addr) => Ok(Some(Self::start(addr, metrics.clone(), readiness.clone()).await?)),
        }
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

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

    pub async fn stop(self) {
        // An error means that the server has ended already.
        let _ = self.stop.send(());
        if let Ok(Err(error)) = self.task.await {
            tracing::warn!(%error, "the operators' port failed");
        }
    }
}
