//! Spans on their way to a collector: gathered for a moment, put into OTLP's JSON, and given to whoever posts them. What a collector
//! does not take is counted and forgotten: traces are no reason to keep anybody waiting.

use std::time::Duration;

use prometheus::IntCounterVec;
use serde_json::{Value as Json, json};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use super::{Finished, Value};

/// Most spans of one request, and how long the first of them waits for more.
const BATCH: usize = 512;
const LINGER: Duration = Duration::from_millis(500);

/// What sends the spans.
#[derive(Clone, Debug)]
pub struct Resource {
    pub service: String,
    pub version: &'static str,
    pub role: &'static str,
}

/// Exports what its tracer makes; see [`Exporter::run`].
#[derive(Debug)]
pub struct Exporter {
    waiting: mpsc::Receiver<Finished>,
    batch: Vec<Finished>,
    resource: Resource,
    spans: IntCounterVec,
    /// The last request failed; said once in the log.
    failing: bool,
}

impl Exporter {
    pub(super) fn new(waiting: mpsc::Receiver<Finished>, resource: Resource, spans: IntCounterVec) -> Self {
        Self { waiting, batch: Vec::new(), resource, spans, failing: false }
    }

    /// Posts batches until `stop` completes, then what is left. `post` takes a body for `/v1/traces` and fails with a sentence for the
    /// operator; it has a deadline of its own.
    pub async fn run<P: Future<Output = Result<(), String>>>(
        mut self,
        mut stop: oneshot::Receiver<()>,
        post: impl Fn(Vec<u8>) -> P,
    ) {
        loop {
            let stopped = tokio::select! {
                biased;
                _ = &mut stop => true,
                () = self.gather() => false,
            };
            if stopped {
                while let Ok(span) = self.waiting.try_recv() {
                    self.batch.push(span);
                }
            }
            let batch = std::mem::take(&mut self.batch);
            // At the end a collector that does not answer is not waited for again.
            let mut away: Option<String> = None;
            for piece in batch.chunks(BATCH) {
                let posted = match &away {
                    Some(error) => Err(error.clone()),
                    None => post(body(&self.resource, piece).to_string().into_bytes()).await,
                };
                away = posted.as_ref().err().filter(|_| stopped).cloned();
                self.count(posted, piece.len());
            }
            if stopped {
                return;
            }
        }
    }

    /// Fills the batch; cancelled, it loses nothing.
    async fn gather(&mut self) {
        if self.batch.is_empty() {
            match self.waiting.recv().await {
                Some(span) => self.batch.push(span),
                // Nobody makes spans any more: what remains is to be stopped.
                None => std::future::pending().await,
            }
        }
        let until = Instant::now() + LINGER;
        while self.batch.len() < BATCH {
            match timeout_at(until, self.waiting.recv()).await {
                Ok(Some(span)) => self.batch.push(span),
                Ok(None) | Err(_) => return,
            }
        }
    }

    fn count(&mut self, posted: Result<(), String>, spans: usize) {
        let outcome = match posted {
            Ok(()) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("the collector takes traces again");
                }
                "exported"
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(error, "the collector does not take traces: they are lost until it does");
                }
                "failed"
            }
        };
        self.spans.with_label_values(&[outcome]).inc_by(spans as u64);
    }

    #[cfg(test)]
    pub(super) fn take_waiting(&mut self) -> Vec<Finished> {
        std::iter::from_fn(|| self.waiting.try_recv().ok()).collect()
    }
}

/// An `ExportTraceServiceRequest` in the JSON of OTLP: ids in hexadecimal, 64-bit numbers as text.
fn body(resource: &Resource, spans: &[Finished]) -> Json {
    let own = [
        ("service.name", Value::from(&*resource.service)),
        ("service.version", Value::from(resource.version)),
        ("trunkline.role", Value::from(resource.role)),
    ];
    let spans: Vec<Json> = spans.iter().map(span).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": attributes(&own) },
        "scopeSpans": [{ "scope": { "name": "trunkline", "version": resource.version }, "spans": spans }],
    }] })
}

fn span(span: &Finished) -> Json {
    let mut json = json!({
        "traceId": format!("{:032x}", span.context.trace),
        "spanId": format!("{:016x}", span.context.span),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        json["parentSpanId"] = format!("{parent:016x}").into();
    }
    if let Some(why) = span.failure {
        /// `STATUS_CODE_ERROR`.
        const ERROR: u8 = 2;
        json["status"] = json!({ "code": ERROR, "message": why });
    }
    json
}

fn attributes(attributes: &[(&'static str, Value)]) -> Json {
    let value = |value: &Value| match value {
        Value::Text(text) => json!({ "stringValue": text }),
        Value::Number(number) => json!({ "intValue": number.to_string() }),
    };
    attributes.iter().map(|(key, it)| json!({ "key": key, "value": value(it) })).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use prometheus::Registry;

    use super::super::{Context, Kind, Tracer};
    use super::*;

    fn resource() -> Resource {
        Resource { service: "s".into(), version: "1", role: "gateway" }
    }

    #[test]
    fn a_request_is_as_otlp_writes_it() {
        let span = Finished {
            context: Context { trace: 0xabc, span: 0xd },
            parent: Some(0xe),
            kind: Kind::Consumer,
            name: "deliver",
            start_ns: 1_700_000_000_000_000_000,
            end_ns: 1_700_000_000_000_000_001,
            attributes: vec![("receivers", Value::Number(3)), ("app", Value::Text("a".into()))],
            failure: Some("unavailable"),
        };
        let body = body(&resource(), &[span]);
        let expected = json!({
            "traceId": "00000000000000000000000000000abc", "spanId": "000000000000000d", "parentSpanId": "000000000000000e",
            "name": "deliver", "kind": 5,
            "startTimeUnixNano": "1700000000000000000", "endTimeUnixNano": "1700000000000000001",
            "attributes": [
                { "key": "receivers", "value": { "intValue": "3" } },
                { "key": "app", "value": { "stringValue": "a" } },
            ],
            "status": { "code": 2, "message": "unavailable" },
        });
        assert_eq!(body["resourceSpans"][0]["scopeSpans"][0]["spans"], json!([expected]));
        let own = &body["resourceSpans"][0]["resource"]["attributes"];
        assert_eq!(own[0], json!({ "key": "service.name", "value": { "stringValue": "s" } }));
    }

    #[tokio::test]
    async fn what_is_left_is_exported_at_the_end_and_failures_are_counted() {
        let spans = Tracer::register(&Registry::new()).unwrap();
        let (tracer, exporter) = Tracer::on(1.0, 2 * BATCH, resource(), spans.clone());
        for _ in 0..BATCH + 1 {
            drop(tracer.root(Kind::Server, "a"));
        }
        let (stop, stopped) = oneshot::channel();
        stop.send(()).unwrap();
        let posted = Mutex::new(0);
        let post = |_: Vec<u8>| {
            let mut posted = posted.lock().unwrap();
            *posted += 1;
            let answer = if *posted == 1 { Err("it is away".to_owned()) } else { Ok(()) };
            std::future::ready(answer)
        };
        exporter.run(stopped, post).await;
        let count = |outcome: &str| spans.with_label_values(&[outcome]).get();
        // A collector that is away at the end is asked once.
        assert_eq!((count("failed"), count("exported"), count("dropped")), (BATCH as u64 + 1, 0, 0));
        assert_eq!(*posted.lock().unwrap(), 1);
    }
}
