//! Traces: spans of what is sampled, kept in memory until they are exported (`export`). A process without an endpoint has a tracer that
//! is off: asking it costs a branch. One that is on decides at the root; what is not sampled costs a random number.
//!
//! A few kinds of spans at known places need no span stack, no subscriber and no context of a thread: a span is a value that its owner
//! holds, and it ends when it is dropped. That, and JSON in the form of OTLP, is all there is of OpenTelemetry here: its crates would
//! bring fourteen others, a runtime of their own, and their next version every quarter.

mod export;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::mpsc;

pub use export::{Exporter, Resource};

/// Longest text of an attribute; the rest is cut off.
const MAX_TEXT_BYTES: usize = 128;

/// Makes spans. Clones share the queue to the exporter.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    /// A root is sampled if a random number is below.
    threshold: u64,
    finished: mpsc::Sender<Finished>,
    spans: IntCounterVec,
}

/// Where a span hangs in a trace. Neither is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace: u128,
    pub span: u64,
}

/// What a span is towards others, as OTLP numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Internal = 1,
    /// Somebody asked from outside.
    Server = 2,
    /// A message was taken from NATS.
    Consumer = 5,
}

/// Work under way; it ends when this is dropped.
#[derive(Debug)]
pub struct Span(Box<Open>);

#[derive(Debug)]
struct Open {
    on: Arc<On>,
    data: Finished,
}

/// A span as it is exported.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finished {
    context: Context,
    parent: Option<u64>,
    kind: Kind,
    name: &'static str,
    start_ns: u64,
    end_ns: u64,
    attributes: Vec<(&'static str, Value)>,
    /// Why it failed.
    failure: Option<&'static str>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Text(String),
    Number(i64),
}

impl Tracer {
    /// One that makes no spans.
    pub fn off() -> Self {
        Self(None)
    }

    /// The number of spans by what became of them; there whether or not any are made.
    ///
    /// # Errors
    /// The registry has it already.
    pub fn register(registry: &Registry) -> Result<IntCounterVec, prometheus::Error> {
        let help =
            "Spans by outcome (exported; failed: the collector did not take them; dropped: too many waited)";
        let spans = IntCounterVec::new(Opts::new("trunkline_trace_spans_total", help), &["outcome"])?;
        registry.register(Box::new(spans.clone()))?;
        ["exported", "failed", "dropped"]
            .iter()
            .for_each(|outcome| drop(spans.with_label_values(&[outcome])));
        Ok(spans)
    }

    /// Samples this share of the roots, 0 to 1, and keeps up to `queue` spans until they are exported.
    pub fn on(ratio: f64, queue: usize, resource: Resource, spans: IntCounterVec) -> (Self, Exporter) {
        let (finished, waiting) = mpsc::channel(queue);
        // Saturating: 1.0 samples all but one in 2^64.
        let threshold = (ratio * u64::MAX as f64) as u64;
        let exporter = Exporter::new(waiting, resource, spans.clone());
        (Self(Some(Arc::new(On { threshold, finished, spans }))), exporter)
    }

    /// A span without a parent, if it is sampled.
    pub fn root(&self, kind: Kind, name: &'static str) -> Option<Span> {
        let on = self.0.as_ref()?;
        if rand::random::<u64>() > on.threshold {
            return None;
        }
        let context = Context { trace: rand::random::<u128>().max(1), span: new_span() };
        Some(Span::begin(on, context, None, kind, name))
    }

    /// A span of a trace that somebody sampled. `None`: nothing is traced here.
    pub fn child(&self, parent: Option<Context>, kind: Kind, name: &'static str) -> Option<Span> {
        let (on, parent) = (self.0.as_ref()?, parent?);
        let context = Context { trace: parent.trace, span: new_span() };
        Some(Span::begin(on, context, Some(parent.span), kind, name))
    }
}

impl Span {
    fn begin(on: &Arc<On>, context: Context, parent: Option<u64>, kind: Kind, name: &'static str) -> Self {
        let start_ns = now_ns();
        let data = Finished {
            context,
            parent,
            kind,
            name,
            start_ns,
            end_ns: start_ns,
            attributes: Vec::new(),
            failure: None,
        };
        Self(Box::new(Open { on: on.clone(), data }))
    }

    /// For what this span causes.
    pub fn context(&self) -> Context {
        self.0.data.context
    }

    /// It began earlier, at this [`now_ns`].
    #[must_use]
    pub fn since(mut self, start_ns: u64) -> Self {
        self.0.data.start_ns = start_ns;
        self
    }

    #[must_use]
    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.data.attributes.push((key, value.into()));
    }

    /// `why` is one of a closed set, never a client's words.
    pub fn fail(&mut self, why: &'static str) {
        self.0.data.failure = Some(why);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.data.end_ns = now_ns().max(self.data.start_ns);
        let attributes = std::mem::take(&mut self.data.attributes);
        let finished = Finished { attributes, ..self.data.clone() };
        if self.on.finished.try_send(finished).is_err() {
            self.on.spans.with_label_values(&["dropped"]).inc();
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        let end = (0..=text.len().min(MAX_TEXT_BYTES)).rev().find(|at| text.is_char_boundary(*at));
        Self::Text(text[..end.unwrap_or(0)].to_owned())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// Nanoseconds since the Unix epoch, as spans count.
pub fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

fn new_span() -> u64 {
    rand::random::<u64>().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracer(ratio: f64, queue: usize) -> (Tracer, Exporter, IntCounterVec) {
        let spans = Tracer::register(&Registry::new()).unwrap();
        let resource = Resource { service: "s".into(), version: "1", role: "gateway" };
        let (tracer, exporter) = Tracer::on(ratio, queue, resource, spans.clone());
        (tracer, exporter, spans)
    }

    #[test]
    fn what_is_off_or_not_sampled_makes_no_spans() {
        let parent = Some(Context { trace: 1, span: 2 });
        assert!(Tracer::off().root(Kind::Server, "a").is_none());
        assert!(Tracer::off().child(parent, Kind::Server, "a").is_none());
        let (none, ..) = tracer(0.0, 8);
        assert!(none.root(Kind::Server, "a").is_none());
        assert!(none.child(None, Kind::Server, "a").is_none());
        assert!(none.child(parent, Kind::Server, "a").is_some(), "its root decided");
    }

    #[test]
    fn a_full_queue_drops_and_counts() {
        let (tracer, mut exporter, spans) = tracer(1.0, 1);
        for _ in 0..3 {
            drop(tracer.root(Kind::Server, "a"));
        }
        assert_eq!(spans.with_label_values(&["dropped"]).get(), 2);
        assert_eq!(exporter.take_waiting().len(), 1);
    }

    #[test]
    fn children_hang_under_their_parents() {
        let (tracer, mut exporter, _) = tracer(1.0, 8);
        let root = tracer.root(Kind::Server, "event").unwrap().with("n", 3_usize);
        let child = tracer.child(Some(root.context()), Kind::Consumer, "deliver").unwrap().since(7);
        let (context, inner) = (root.context(), child.context());
        drop(child);
        drop(root);
        let spans = exporter.take_waiting();
        assert_eq!((spans[0].context, spans[0].parent, spans[0].start_ns), (inner, Some(context.span), 7));
        assert_eq!((spans[1].context, spans[1].parent), (context, None));
        assert_eq!(inner.trace, context.trace);
        assert_eq!(spans[1].attributes, [("n", Value::Number(3))]);
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let Value::Text(text) = Value::from("é".repeat(100).as_str()) else { panic!("a text") };
        assert_eq!(text.len(), MAX_TEXT_BYTES);
        assert_eq!(Value::from("aé"), Value::Text("aé".into()));
    }
}
