//! One coordinator with its operators' port.

use std::net::SocketAddr;

use bus::BusConfig;
use coordinator::plan::App;
use coordinator::{Coordinator, Deps, RunningCoordinator};
use telemetry::{Metrics, Readiness};

use crate::admin::Admin;
use crate::config::Config;
use crate::failure::Failure;
use crate::traces::Traces;

/// A replica that serves.
pub struct Replica {
    coordinator: RunningCoordinator,
    admin: Option<Admin>,
    traces: Traces,
}

impl Replica {
    /// The operators' port comes first: it tells why a replica is not ready while it waits for NATS.
    pub async fn start(config: &Config, admin: Option<SocketAddr>) -> Result<Self, Failure> {
        let metrics = Metrics::new().of("coordinator", env!("CARGO_PKG_VERSION"));
        let readiness = Readiness::new(["requests", "lease"]);
        let admin = Admin::start_if(admin, &metrics, &readiness).await?;
        let app = |(name, namespace, dialect)| App { name, namespace, dialect };
        let dialects = gateway::dialects(&config.gateway())
            .map_err(|errors| Failure::Gateway(gateway::StartError::Config(errors)))?;
        let traces = Traces::start(&config.traces, "coordinator", &metrics)?;
        let deps = Deps {
            apps: dialects.into_iter().map(app).collect(),
            // A command is a chain of messages that each wait for the one before: none waits for company.
            bus: BusConfig { flush_delay_ms: 0, ..config.nats.bus() },
            replicas: config.nats.replicas,
            registry: metrics.registry().clone(),
            readiness,
            tracer: traces.tracer.clone(),
        };
        let coordinator = Coordinator::start(deps).await?;
        Ok(Self { coordinator, admin, traces })
    }

    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.as_ref().map(Admin::addr)
    }

    /// Answers what it has, then leaves.
    pub async fn drain(self) {
        self.coordinator.drain().await;
        self.traces.stop().await;
        if let Some(admin) = self.admin {
            admin.stop().await;
        }
    }
}
