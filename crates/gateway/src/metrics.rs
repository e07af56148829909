//! What a gateway counts. Labels are closed sets, never users or rooms. A new metric goes into the table of docs/observability.md; a test
//! compares it with a running cluster.

use engineio::CloseReason;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::http::REFUSALS;
use crate::shard::Transport;

macro_rules! metrics {
    ($($field:ident: $kind:ident($name:literal, $help:literal $(, $label:literal)*),)+) => {
        /// Every metric of the gateway.
        #[derive(Clone, Debug)]
        pub struct Metrics { $(pub $field: metrics!(@type $kind),)+ }

        impl Metrics {
            /// Creates and registers them.
            pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
                let metrics = Self { $($field: metrics!(@new $kind $name, $help $(, $label)*)?,)+ };
                $(registry.register(Box::new(metrics.$field.clone()))?;)+
                Ok(metrics)
            }
        }
    };
    (@type counter) => { IntCounter };
    (@type counters) => { IntCounterVec };
    (@type gauge) => { IntGauge };
    (@type gauges) => { IntGaugeVec };
    (@type seconds) => { Histogram };
    (@type seconds_by) => { HistogramVec };
    (@new counter $name:literal, $help:literal) => { IntCounter::new($name, $help) };
    (@new counters $name:literal, $help:literal $(, $label:literal)+) => { IntCounterVec::new(Opts::new($name, $help), &[$($label),+]) };
    (@new gauge $name:literal, $help:literal) => { IntGauge::new($name, $help) };
    (@new gauges $name:literal, $help:literal $(, $label:literal)+) => { IntGaugeVec::new(Opts::new($name, $help), &[$($label),+]) };
    (@new seconds $name:literal, $help:literal) => { Histogram::with_opts(latencies($name, $help)?) };
    (@new seconds_by $name:literal, $help:literal $(, $label:literal)+) => {
        HistogramVec::new(latencies($name, $help)?, &[$($label),+])
    };
}

/// From half a millisecond to four seconds.
fn latencies(name: &str, help: &str) -> Result<HistogramOpts, prometheus::Error> {
    Ok(HistogramOpts::new(name, help).buckets(prometheus::exponential_buckets(0.0005, 2.0, 14)?))
}

metrics! {
    connections: gauge("trunkline_http_connections", "Open client TCP connections that speak HTTP"),
    sessions: gauges("trunkline_sessions", "Open sessions by application and transport (polling, websocket, plain)", "app", "transport"),
    sessions_opened: counters("trunkline_sessions_opened_total", "Sessions that began on this node by application and first transport", "app", "transport"),
    sockets: gauges("trunkline_sockets", "Connected sockets (sessions in a namespace) by application", "app"),
    rooms: gauge("trunkline_rooms", "Rooms with members on this node"),
    sessions_closed: counters("trunkline_sessions_closed_total", "Ended sessions by application and reason of the table of close reasons", "app", "reason"),
    upgrades: counters("trunkline_upgrades_total", "Upgrades to WebSocket by outcome (local, moved_in, moved_out, abandoned)", "outcome"),
    forwarded: counters("trunkline_forwarded_requests_total", "HTTP requests forwarded to the session's owner by outcome", "outcome"),
    handshakes_refused: counters("trunkline_handshakes_refused_total", "Requests for a session that were refused, by application and reason", "app", "reason"),
    events_in: counters("trunkline_client_events_total", "Events from clients by application", "app"),
    events_unknown: counters("trunkline_client_events_unknown_total", "Events from clients that the application does not have", "app"),
    rejections: counters("trunkline_rejections_total", "Refused commands by code", "code"),
    auth_failures: counters("trunkline_auth_failures_total", "Refused tokens by kind", "kind"),
    hook_questions: counters("trunkline_hook_questions_total", "Questions to the applications' hooks by outcome (allowed, denied, failed, remembered)", "outcome"),
    hook_seconds: seconds("trunkline_hook_seconds", "From a question to the hook to its answer"),
    key_sets: counters("trunkline_key_set_reads_total", "Reads of sets of public keys by outcome (read, failed)", "outcome"),
    broadcasts: counters("trunkline_broadcasts_total", "Room events applied on this node by class", "class"),
    deliveries: counter("trunkline_deliveries_total", "Room events handed to client sockets"),
    dropped_ephemeral: counter("trunkline_dropped_ephemeral_total", "Ephemeral events dropped for slow clients"),
    publish_failures: counters("trunkline_publish_failures_total", "Events that were not published by class", "class"),
    resyncs: counters("trunkline_room_resyncs_total", "Reads of missed room events by cause", "cause"),
    room_gaps: counter("trunkline_room_gaps_total", "Gaps longer than the stream's retention: room events were lost"),
    resynced_events: counter("trunkline_resynced_events_total", "Room events that a resync delivered"),
    malformed_envelopes: counter("trunkline_malformed_envelopes_total", "Room messages that could not be read"),
    store_seconds: seconds("trunkline_store_seconds", "From the command to the acknowledgement of a recoverable event"),
    join_seconds: seconds("trunkline_join_seconds", "From the command to the settled join"),
    command_seconds: seconds_by("trunkline_command_seconds", "From a command for the coordinator to its answer, by kind", "kind"),
    commands_unavailable: counter("trunkline_commands_unavailable_total", "Commands that no coordinator decided in time"),
    api_calls: counters("trunkline_api_calls_total", "Calls of back ends by application and outcome (ok, or the refusal's code)", "app", "outcome"),
    api_seconds: seconds("trunkline_api_call_seconds", "From a back end's call to its answer"),
    devices: gauges("trunkline_devices", "Sockets of known users, listed for presence, by application", "app"),
    device_writes: counters("trunkline_device_record_writes_total", "Writes of users' device records by outcome (written, failed)", "outcome"),
    in_calls: gauges("trunkline_sockets_in_calls", "Sockets whose device is in a call, once for each call, by application", "app"),
    stray_acks: counter("trunkline_stray_acks_total", "Acks of clients that nobody waited for"),
}

impl Metrics {
    /// Begins every series whose labels are known at 0: the first event of a kind is a change then, which alerts see.
    pub fn begin<'a>(&self, apps: impl Iterator<Item = &'a str>) {
        for (counters, labels) in [
            (&self.upgrades, &["local", "moved_in", "moved_out", "abandoned"][..]),
            (&self.forwarded, &["answered", "failed"]),
            (&self.auth_failures, &AUTH_FAILURES),
            (&self.hook_questions, &["allowed", "denied", "failed", "remembered"]),
            (&self.key_sets, &["read", "failed"]),
            (&self.broadcasts, &["ephemeral", "recoverable"]),
            (&self.publish_failures, &["ephemeral", "recoverable"]),
            (&self.resyncs, &["reconnected", "leader_changed", "behind", "lost"]),
            (&self.device_writes, &["written", "failed"]),
            (&self.rejections, &["unavailable", "over_limit"]),
        ] {
            labels.iter().for_each(|label| drop(counters.with_label_values(&[label])));
        }
        for app in apps {
            self.begin_app(app);
        }
    }

    fn begin_app(&self, app: &str) {
        for gauges in [&self.sockets, &self.devices, &self.in_calls] {
            gauges.with_label_values(&[app]);
        }
        self.events_in.with_label_values(&[app]);
        self.events_unknown.with_label_values(&[app]);
        self.api_calls.with_label_values(&[app, "ok"]);
        for transport in Transport::ALL {
            self.sessions.with_label_values(&[app, transport.name()]);
            self.sessions_opened.with_label_values(&[app, transport.name()]);
        }
        for reason in CloseReason::ALL {
            self.sessions_closed.with_label_values(&[app, reason.name()]);
        }
        for reason in REFUSALS {
            self.handshakes_refused.with_label_values(&[app, reason]);
        }
    }
}

/// Kinds of refused tokens: those of `TokenError::name`, and of live connections.
const AUTH_FAILURES: [&str; 8] = [
    "missing",
    "invalid",
    "expired",
    "revoked",
    "unknown_user",
    "unavailable",
    "expired_live",
    "revoked_live",
];
