//! One gateway node with its operators' port: metrics, health, and the gateway itself.

use std::net::SocketAddr;

use gateway::{Deps, Gateway, RunningGateway};
use telemetry::{Metrics, Readiness};

use crate::admin::Admin;
use crate::config::Config;
use crate::failure::Failure;
use crate::traces::Traces;

/// A node that serves.
pub struct Node {
    gateway: RunningGateway,
    readiness: Readiness,
    admin: Option<Admin>,
    traces: Traces,
}

impl Node {
    /// The operators' port comes first: it tells why a node is not ready while it waits for NATS. `local`: see [`Deps::local`].
    pub async fn start(config: &Config, local: bool) -> Result<Self, Failure> {
        let metrics = Metrics::new().of("gateway", env!("CARGO_PKG_VERSION"));
        let readiness = Readiness::new(["gateway"]);
        let admin = Admin::start_if(config.http.admin, &metrics, &readiness).await?;
        let traces = Traces::start(&config.traces, "gateway", &metrics)?;
        let deps = Deps {
            bus: config.nats.bus(),
            replicas: config.nats.replicas,
            registry: metrics.registry().clone(),
            readiness: readiness.clone(),
            tracer: traces.tracer.clone(),
            local,
        };
        let gateway = Gateway::start(config.gateway(), deps).await?;
        readiness.ready("gateway");
        Ok(Self { gateway, readiness, admin, traces })
    }

    /// The application and address of each listener.
    pub fn listeners(&self) -> &[(String, SocketAddr)] {
        &self.gateway.addrs
    }

    /// Where back ends call.
    pub fn api_addrs(&self) -> &[SocketAddr] {
        &self.gateway.api_addrs
    }

    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::addr)
    }

    /// Unready first, so that balancers look elsewhere; the operators' port answers until the last client is gone.
    pub async fn drain(self) {
        self.readiness.not_ready("gateway", "draining");
        self.gateway.drain().await;
        self.traces.stop().await;
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
    }
}
