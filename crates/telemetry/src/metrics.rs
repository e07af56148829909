//! The metrics of a process and the rule of their names.

use prometheus::proto::MetricFamily;
use prometheus::{IntGauge, Opts, Registry, TextEncoder};

use crate::Readiness;
use crate::process::ProcessCollector;
use crate::readiness::ReadyCollector;

/// Every metric starts with this, but for the `process_*` family, which dashboards know by these names.
const PREFIX: &str = "trunkline_";

/// The registry each feature's metric struct registers itself in, with the process's own figures in place.
#[derive(Clone, Debug)]
pub struct Metrics {
    registry: Registry,
}

/// A metric whose name does not follow the rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metric `{0}` does not start with `trunkline_` or has no help text")]
pub struct UnnamedMetric(String);

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let process = ProcessCollector::new();
        registry.register(Box::new(process)).expect("a new registry holds no metric of this name");
        Self { registry }
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Says what this process is: `trunkline_build_info{role, version}`, always 1.
    #[must_use]
    pub fn of(self, role: &str, version: &str) -> Self {
        let opts = Opts::new("trunkline_build_info", "Always 1: the role and version of this process");
        let info = IntGauge::with_opts(opts.const_label("role", role).const_label("version", version))
            .expect("the name and labels are legal");
        info.set(1);
        self.registry.register(Box::new(info)).expect("a process says once what it is");
        self
    }

    /// Keeps `trunkline_ready` at what `/readyz` says.
    pub(crate) fn watch(&self, readiness: &Readiness) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(ReadyCollector::new(readiness.clone())))
    }

    /// The Prometheus text format, version 0.0.4.
    pub fn render(&self) -> Result<String, prometheus::Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }

    /// For tests of whoever registers: every name follows the rule.
    pub fn check_names(&self) -> Result<(), UnnamedMetric> {
        let is_named = |family: &MetricFamily| {
            let name = family.name();
            (name.starts_with(PREFIX) || name.starts_with("process_")) && !family.help().is_empty()
        };
        match self.registry.gather().iter().find(|family| !is_named(family)) {
            Some(family) => Err(UnnamedMetric(family.name().to_owned())),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::IntCounter;

    use super::*;

    #[test]
    fn process_figures_are_there_and_names_are_checked() {
        let metrics = Metrics::new();
        let text = metrics.render().unwrap();
        for name in [
            "process_resident_memory_bytes",
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_threads",
            "process_start_time_seconds",
        ] {
            assert!(text.contains(&format!("\n{name} ")), "{name} is missing in\n{text}");
        }
        let good = IntCounter::new("trunkline_test_total", "A test").unwrap();
        metrics.registry().register(Box::new(good)).unwrap();
        assert_eq!(metrics.check_names(), Ok(()));
        let bad = IntCounter::new("sessions", "A test").unwrap();
        metrics.registry().register(Box::new(bad)).unwrap();
        assert_eq!(metrics.check_names(), Err(UnnamedMetric("sessions".to_owned())));
    }
}
