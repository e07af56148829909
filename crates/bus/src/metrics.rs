//! What the bus counts. The struct registers itself; labels are closed sets. A new metric goes into the table of docs/observability.md; a
//! test compares it with a running cluster.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Buckets of the ack latency in seconds: a local R1 ack takes 0.1 ms, a leader election 5 s.
const ACK_BUCKETS: [f64; 12] = [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0];

#[derive(Debug)]
pub(crate) struct Metrics {
    pub connected: IntGauge,
    pub reconnects: IntCounter,
    pub appended: IntCounter,
    pub appended_bytes: IntCounter,
    pub published: IntCounter,
    pub published_bytes: IntCounter,
    pub received: IntCounter,
    pub received_bytes: IntCounter,
    pub flushes: IntCounter,
    pub ack_seconds: Histogram,
    pub append_errors: IntCounterVec,
    pub append_retries: IntCounter,
    pub dropped: IntCounterVec,
    /// async-nats dropped messages of a subscription that was not read in time.
    pub slow_consumers: IntCounter,
    pub echo_timeouts: IntCounter,
    pub server_errors: IntCounter,
    pub lease_failures: IntCounter,
    pub lease_lapses: IntCounter,
}

impl Metrics {
    /// Registers everything; `connection` keeps two buses of one process apart.
    pub(crate) fn register(registry: &Registry, connection: &str) -> Result<Self, prometheus::Error> {
        let opts = |name: &str, help: &str| {
            Opts::new(format!("trunkline_bus_{name}"), help).const_label("connection", connection)
        };
        let counter = |name: &str, help: &str| {
            let counter = IntCounter::with_opts(opts(name, help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        // Every series begins at 0: the first event of a kind is a change then, which alerts see.
        let family = |name: &str, help: &str, label: &str, values: &[&str]| {
            let family = IntCounterVec::new(opts(name, help), &[label])?;
            registry.register(Box::new(family.clone()))?;
            values.iter().for_each(|value| drop(family.with_label_values(&[value])));
            Ok::<_, prometheus::Error>(family)
        };
        let connected = IntGauge::with_opts(opts("connected", "1 while the room connection to NATS is up"))?;
        registry.register(Box::new(connected.clone()))?;
        let ack_seconds = Histogram::with_opts(
            HistogramOpts::new(
                "trunkline_bus_ack_seconds",
                "Time from publish to the stored acknowledgement",
            )
            .const_label("connection", connection)
            .buckets(ACK_BUCKETS.to_vec()),
        )?;
        registry.register(Box::new(ack_seconds.clone()))?;
        Ok(Self {
            connected,
            ack_seconds,
            reconnects: counter("reconnects_total", "Reconnects of the room connection")?,
            appended: counter("appended_total", "Durable messages acknowledged as stored")?,
            appended_bytes: counter("appended_bytes_total", "Payload bytes of durable messages sent")?,
            published: counter("published_total", "Ephemeral messages sent")?,
            published_bytes: counter("published_bytes_total", "Payload bytes of ephemeral messages sent")?,
            received: counter("received_total", "Messages received on the room connection")?,
            received_bytes: counter("received_bytes_total", "Bytes read on the room connection")?,
            flushes: counter("flushes_total", "Writes to the room connection")?,
            append_errors: family(
                "append_errors_total",
                "Durable messages that failed by kind (a conflict may be wanted: somebody else has stored it)",
                "kind",
                &["conflict", "unavailable", "refused", "overloaded", "invalid"],
            )?,
            append_retries: counter("append_retries_total", "Second and later attempts of durable messages")?,
            dropped: family(
                "dropped_total",
                "Messages dropped by the bus by reason",
                "reason",
                &["overloaded", "disconnected", "feed_full", "listener_full"],
            )?,
            slow_consumers: counter(
                "slow_consumers_total",
                "Subscriptions of the client connection that overflowed",
            )?,
            echo_timeouts: counter("echo_timeouts_total", "Echo rounds that missed an answer")?,
            server_errors: counter(
                "server_errors_total",
                "Errors reported by the server on the room connection",
            )?,
            lease_failures: counter("lease_failures_total", "Renewals of this process's lease that failed")?,
            lease_lapses: counter("lease_lapses_total", "Times this process's lease had run out")?,
        })
    }
}
