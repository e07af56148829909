//! The coordinator's metrics. Labels are closed sets: applications, kinds, states; never users or calls. A new metric goes into the table
//! of docs/observability.md; a test compares it with a running cluster.

use std::time::Duration;

use cluster::coordination::Reply;
use domain::call::{Event, Status as CallStatus};
use domain::presence::Status;
use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use crate::plan::{Done, Of};

/// What a follower did for a changed record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Followed {
    /// Nothing: whoever changed it had seen to what follows.
    Finished,
    /// Looked whether something was left to do.
    Looked,
}

impl Followed {
    fn name(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Looked => "looked",
        }
    }
}

#[derive(Clone, Debug)]
pub struct Metrics {
    pub requests: HistogramVec,
    pub conflicts: IntCounterVec,
    followed: IntCounterVec,
    pub calls: IntCounterVec,
    pub calls_ended: IntCounterVec,
    pub ring_seconds: HistogramVec,
    pub presence_changes: IntCounterVec,
    pub lease_expiries: IntCounter,
    pub swept_records: IntCounter,
    /// Set by the replica of rank 0 only.
    pub calls_now: IntGaugeVec,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let counter = |name: &str, help: &str, labels: &[&str]| {
            let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let histogram = |name: &str, help: &str, labels: &[&str], buckets: Vec<f64>| {
            let histogram = HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)?;
            registry.register(Box::new(histogram.clone()))?;
            Ok::<_, prometheus::Error>(histogram)
        };
        let plain = |name: &str, help: &str| {
            let counter = IntCounter::new(name, help)?;
            registry.register(Box::new(counter.clone()))?;
            Ok::<_, prometheus::Error>(counter)
        };
        let latency = vec![0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 4.0];
        let ring = vec![1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0];
        let calls_now = IntGaugeVec::new(
            Opts::new("trunkline_calls", "Calls that are not over, by state (told by one replica)"),
            &["app", "state"],
        )?;
        registry.register(Box::new(calls_now.clone()))?;
        Ok(Self {
            requests: histogram(
                "trunkline_coordinator_request_seconds",
                "From a command's arrival to its reply, by command and result",
                &["app", "command", "result"],
                latency,
            )?,
            conflicts: counter(
                "trunkline_coordinator_conflicts_total",
                "Decisions made anew because a record had changed meanwhile",
                &["app"],
            )?,
            followed: counter(
                "trunkline_coordinator_followed_total",
                "Changed records of calls and of their users that followers took up: finished by whoever changed them, or looked at",
                &["app", "how"],
            )?,
            calls: counter(
                "trunkline_call_changes_total",
                "Calls that came into a state",
                &["app", "state"],
            )?,
            calls_ended: counter(
                "trunkline_calls_ended_total",
                "Calls that ended, by outcome",
                &["app", "state", "reason"],
            )?,
            ring_seconds: histogram(
                "trunkline_call_ring_seconds",
                "From a call's beginning to its answer or end without one",
                &["app"],
                ring,
            )?,
            presence_changes: counter(
                "trunkline_presence_changes_total",
                "Visible changes of users' presence",
                &["app", "status"],
            )?,
            lease_expiries: plain(
                "trunkline_lease_expiries_total",
                "Leases of gateways that ran out, as seen by this replica",
            )?,
            swept_records: plain(
                "trunkline_swept_records_total",
                "Records of dead gateways that this replica removed",
            )?,
            calls_now,
        })
    }

    pub fn followed(&self, app: &str, how: Followed) {
        self.followed.with_label_values(&[app, how.name()]).inc();
    }

    /// Begins every series whose labels are known at 0: the first event of a kind is a change then, which alerts see.
    pub fn begin<'a>(&self, apps: impl Iterator<Item = &'a str>) {
        for app in apps {
            self.conflicts.with_label_values(&[app]);
            for how in [Followed::Finished, Followed::Looked] {
                self.followed.with_label_values(&[app, how.name()]);
            }
            self.ring_seconds.with_label_values(&[app]);
            for state in ["ringing", "live"] {
                self.calls_now.with_label_values(&[app, state]);
            }
            for state in CallStatus::ALL {
                self.calls.with_label_values(&[app, state.name()]);
            }
            for status in Status::ALL {
                self.presence_changes.with_label_values(&[app, status.name()]);
            }
        }
    }

    pub fn answered(&self, app: &str, command: &str, reply: &Reply, took: Duration) {
        self.requests.with_label_values(&[app, command, result_of(reply)]).observe(took.as_secs_f64());
    }

    /// A commit was stored by this replica.
    pub fn committed(&self, app: &str, done: &Done) {
        for event in &done.events {
            self.happened(app, event, done);
        }
        let presence = done.tell.last().filter(|tell| matches!(tell.of, Of::Presence(_)));
        if let (Some(_), Reply::Presence(presence)) = (presence, &done.reply) {
            self.presence_changes.with_label_values(&[app, presence.status.name()]).inc();
        }
    }

    fn happened(&self, app: &str, event: &Event, done: &Done) {
        let Reply::Call(call) = &done.reply else { return };
        let ring = |until_ms: u64| {
            let seconds = until_ms.saturating_sub(call.created_ms) as f64 / 1000.0;
            self.ring_seconds.with_label_values(&[app]).observe(seconds);
        };
        match event {
            Event::Initiated { .. } => self.calls.with_label_values(&[app, "initiating"]).inc(),
            Event::Rang | Event::Progressed => {
                self.calls.with_label_values(&[app, call.status.name()]).inc();
            }
            Event::Accepted { at_ms, .. } => {
                self.calls.with_label_values(&[app, "accepted"]).inc();
                ring(*at_ms);
            }
            Event::Ended { status, reason, at_ms, .. } => {
                self.calls.with_label_values(&[app, status.name()]).inc();
                self.calls_ended.with_label_values(&[app, status.name(), reason.name()]).inc();
                if call.accepted_ms.is_none() {
                    ring(*at_ms);
                }
            }
            _ => {}
        }
    }
}

/// A closed set.
pub fn result_of(reply: &Reply) -> &'static str {
    match reply {
        Reply::Call(_) | Reply::Presence(_) => "ok",
        Reply::Refused(refusal) => refusal.code(),
        Reply::Unavailable => "unavailable",
        Reply::Malformed => "malformed",
    }
}
