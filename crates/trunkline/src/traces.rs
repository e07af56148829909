//! Traces of a process: the settings, and the task that posts spans to a collector.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::config::ConfigError;
use gateway::outbound::{Outbound, check_url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use telemetry::Metrics;
use telemetry::trace::{Resource, Tracer};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// Where OTLP over HTTP has its traces, unless the endpoint names a path.
const PATH: &str = "/v1/traces";

/// Most bytes of a collector's answer, which nobody reads.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Traces over OTLP/HTTP (JSON).
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TracesConfig {
    /// The collector, such as `http://collector:4318`; `/v1/traces` is added where there is no path. Unset: nothing is traced.
    pub endpoint: Option<String>,
    /// The share of clients' events and back ends' calls that are traced, 0 to 1.
    pub sample_ratio: f64,
    /// `service.name` of the spans.
    pub service_name: String,
    /// Spans that wait for the collector; more are dropped, and counted.
    pub queue_spans: usize,
    /// A collector that takes longer has not taken the spans.
    pub timeout_ms: u64,
    /// Certificates trusted for an `https` endpoint, in PEM form; unset: the system's.
    pub ca_file: Option<PathBuf>,
}

impl Default for TracesConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample_ratio: 0.01,
            service_name: "trunkline".to_owned(),
            queue_spans: 8192,
            timeout_ms: 5_000,
            ca_file: None,
        }
    }
}

impl TracesConfig {
    pub fn check(&self, errors: &mut Vec<ConfigError>) {
        let mut wrong =
            |key: &str, message: String| errors.push(ConfigError::new(format!("traces.{key}"), message));
        if let Some(Err(message)) = self.endpoint.as_deref().map(check_url) {
            wrong("endpoint", message);
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            wrong("sample_ratio", "must be between 0 and 1".to_owned());
        }
        if self.queue_spans == 0 || self.timeout_ms == 0 {
            let key = if self.queue_spans == 0 { "queue_spans" } else { "timeout_ms" };
            wrong(key, "must not be 0".to_owned());
        }
        if self.endpoint.is_some()
            && let Err(message) = Outbound::build(self.ca_file.as_deref())
        {
            wrong("ca_file", message);
        }
    }

    fn url(&self) -> Option<String> {
        let endpoint = self.endpoint.as_ref()?;
        let path = check_url(endpoint).ok()?.path().len();
        Some(if path > 1 { endpoint.clone() } else { format!("{}{PATH}", endpoint.trim_end_matches('/')) })
    }
}

/// The process's tracer, and what exports its spans.
pub struct Traces {
    pub tracer: Tracer,
    export: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Traces {
    /// Exports on the calling runtime. Without an endpoint the tracer is off.
    pub fn start(config: &TracesConfig, role: &'static str, metrics: &Metrics) -> Result<Self, Failure> {
        let spans = Tracer::register(metrics.registry()).expect("a process registers its tracer once");
        let Some(url) = config.url() else { return Ok(Self { tracer: Tracer::off(), export: None }) };
        let client = Outbound::build(config.ca_file.as_deref()).map_err(Failure::Usage)?;
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource { service: config.service_name.clone(), version, role };
        let (tracer, exporter) = Tracer::on(config.sample_ratio, config.queue_spans, resource, spans);
        let (stop, stopped) = oneshot::channel();
        let (url, timeout): (Arc<str>, _) = (url.into(), Duration::from_millis(config.timeout_ms));
        let post = move |body| post(client.clone(), url.clone(), body, Instant::now() + timeout);
        Ok(Self { tracer, export: Some((stop, tokio::spawn(exporter.run(stopped, post)))) })
    }

    /// Exports what is left: the last step of a drain.
    pub async fn stop(self) {
        let Some((stop, task)) = self.export else { return };
        // Both fail only where the task has ended already.
        let _ = stop.send(());
        let _ = task.await;
    }
}

async fn post(client: Outbound, url: Arc<str>, body: Vec<u8>, deadline: Instant) -> Result<(), String> {
    let sent = client.post_json(&url, Bytes::from(body), MAX_ANSWER_BYTES, deadline).await;
    let (status, _) = sent.map_err(|error| error.to_string())?;
    if status.is_success() { Ok(()) } else { Err(format!("it answered {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_is_added_where_there_is_none() {
        let url = |endpoint: &str| {
            TracesConfig { endpoint: Some(endpoint.into()), ..TracesConfig::default() }.url()
        };
        assert_eq!(url("http://c:4318").as_deref(), Some("http://c:4318/v1/traces"));
        assert_eq!(url("http://c:4318/").as_deref(), Some("http://c:4318/v1/traces"));
        assert_eq!(url("https://c/otlp/v1/traces").as_deref(), Some("https://c/otlp/v1/traces"));
    }

    #[test]
    fn mistakes_name_their_keys() {
        let endpoint = Some("collector:4317".to_owned());
        let config = TracesConfig { endpoint, sample_ratio: 2.0, queue_spans: 0, ..TracesConfig::default() };
        let mut errors = Vec::new();
        config.check(&mut errors);
        let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
        assert_eq!(paths, ["traces.endpoint", "traces.sample_ratio", "traces.queue_spans"]);
    }
}
