//! Whether this process can serve: named conditions, each met or not with a reason.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use prometheus::IntGauge;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;

/// A shared set of conditions; the process is ready when all are met. Clones see the same set.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    /// The reason why a condition is not met; `None`: it is.
    conditions: Arc<Mutex<BTreeMap<String, Option<String>>>>,
}

/// A condition that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotReady {
    pub condition: String,
    pub reason: String,
}

impl Readiness {
    /// A set in which none of `conditions` is met yet.
    pub fn new<'a>(conditions: impl IntoIterator<Item = &'a str>) -> Self {
        let readiness = Self::default();
        conditions.into_iter().for_each(|condition| readiness.not_ready(condition, "starting"));
        readiness
    }

    pub fn ready(&self, condition: &str) {
        self.lock().insert(condition.to_owned(), None);
    }

    /// `reason` is shown to operators.
    pub fn not_ready(&self, condition: &str, reason: impl Into<String>) {
        self.lock().insert(condition.to_owned(), Some(reason.into()));
    }

    pub fn is_ready(&self) -> bool {
        self.lock().values().all(Option::is_none)
    }

    /// What is not met, by name of the condition.
    pub fn missing(&self) -> Vec<NotReady> {
        let unmet = |(condition, reason): (&String, &Option<String>)| {
            reason.clone().map(|reason| NotReady { condition: condition.clone(), reason })
        };
        self.lock().iter().filter_map(unmet).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<String>>> {
        // A panic elsewhere leaves the map whole: each change is one insertion.
        self.conditions.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The same as a metric, read at each scrape.
pub(crate) struct ReadyCollector {
    readiness: Readiness,
    ready: IntGauge,
}

impl ReadyCollector {
    pub fn new(readiness: Readiness) -> Self {
        let ready = IntGauge::new("trunkline_ready", "1 while this process can serve, as /readyz says")
            .expect("the name is legal");
        Self { readiness, ready }
    }
}

impl Collector for ReadyCollector {
    fn desc(&self) -> Vec<&Desc> {
        self.ready.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.ready.set(self.readiness.is_ready().into());
        self.ready.collect()
    }
}
