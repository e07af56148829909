//! The client of the coordinators: one request, repeated until it is answered or its time is over. A command keeps its id, so
//! that a repeat has one effect. What the answers mean is the askers' business (`shard::calls`, `shard::watch`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bus::{Bus, RequestError};
use cluster::TraceParent;
use cluster::coordination::{self, Reply, Request};
use cluster::trace;
use domain::Rejection;
use domain::call::{Act, MediaChange};

use crate::app::App;
use crate::metrics::Metrics;

/// How long one replica may take; then the request is sent again, to any.
const TRY_TIMEOUT: Duration = Duration::from_millis(1_500);

/// Pause after an answer that says that nothing was done: a coordinator may be starting.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// How a node reaches the coordinators.
#[derive(Debug)]
pub struct Coordinator {
    bus: Bus,
    metrics: Metrics,
    /// The last request was not answered; said once in the log.
    missing: AtomicBool,
}

/// What came of one try.
enum Tried {
    Answered(Reply),
    /// It may have been executed, or not; `pause`: nothing is gained by asking at once.
    Again {
        pause: bool,
        why: &'static str,
    },
    Impossible(Rejection),
}

impl Coordinator {
    pub fn new(bus: Bus, metrics: Metrics) -> Self {
        Self { bus, metrics, missing: AtomicBool::new(false) }
    }

    /// Settles with the coordinator's decision, or with [`Rejection::Unavailable`] after the application's
    /// `limits.command_timeout_ms`.
    pub async fn ask(
        &self,
        app: &App,
        request: &Request,
        trace: Option<TraceParent>,
    ) -> Result<Reply, Rejection> {
        let started = Instant::now();
        let deadline = started + Duration::from_millis(app.limits.command_timeout_ms);
        let answer = self.ask_until(app, request, trace, deadline).await;
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.command_seconds.with_label_values(&[kind(request)]).observe(seconds);
        answer.and_then(Reply::into_result)
    }

    async fn ask_until(
        &self,
        app: &App,
        request: &Request,
        trace: Option<TraceParent>,
        deadline: Instant,
    ) -> Result<Reply, Rejection> {
        let (subject, payload) = (coordination::subject(app.name()), coordination::encode(request));
        let trace = trace.map(|trace| trace.to_string());
        let header = trace.as_deref().map(|trace| (trace::HEADER, trace));
        loop {
            let until = deadline.min(Instant::now() + TRY_TIMEOUT);
            match tried(self.bus.request_with(&subject, header, &payload, until).await) {
                Tried::Answered(reply) => {
                    self.found(app);
                    return Ok(reply);
                }
                Tried::Impossible(rejection) => return Err(rejection),
                Tried::Again { pause, why } => {
                    self.missed(app, why);
                    let pause = if pause { RETRY_PAUSE } else { Duration::ZERO };
                    if Instant::now() + pause >= deadline {
                        self.metrics.commands_unavailable.inc();
                        return Err(Rejection::Unavailable);
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    fn missed(&self, app: &App, why: &str) {
        if !self.missing.swap(true, Ordering::Relaxed) {
            tracing::warn!(app = app.name(), why, "no coordinator decides, it is asked again");
        }
    }

    fn found(&self, app: &App) {
        if self.missing.swap(false, Ordering::Relaxed) {
            tracing::info!(app = app.name(), "a coordinator decides again");
        }
    }
}

fn tried(answer: Result<bytes::Bytes, RequestError>) -> Tried {
    let error = match answer {
        Ok(body) => return decoded(&body),
        Err(error) => error,
    };
    match error {
        RequestError::NoResponders => Tried::Again { pause: true, why: "none is running" },
        RequestError::TimedOut => Tried::Again { pause: false, why: "it does not answer" },
        RequestError::Lost => Tried::Again { pause: true, why: "NATS is not connected" },
        RequestError::Overloaded => Tried::Again { pause: true, why: "too much waits to be sent" },
        RequestError::TooLarge { limit, .. } => Tried::Impossible(Rejection::OverLimit {
            what: "command size",
            limit: limit as u64,
            setting: "max_payload of nats-server",
        }),
        error @ RequestError::Subject { .. } => {
            tracing::error!(%error, "the coordinator's subject is refused");
            Tried::Impossible(Rejection::Unavailable)
        }
    }
}

fn decoded(body: &[u8]) -> Tried {
    match coordination::decode::<Reply>(body) {
        Ok(Reply::Unavailable) => Tried::Again { pause: true, why: "it cannot decide now" },
        Ok(reply) => {
            if reply == Reply::Malformed {
                tracing::error!("a coordinator could not read a command: is it of another version?");
            }
            Tried::Answered(reply)
        }
        Err(error) => {
            tracing::error!(%error, "a coordinator's answer could not be read");
            Tried::Impossible(Rejection::Unavailable)
        }
    }
}

/// A metrics label.
fn kind(request: &Request) -> &'static str {
    match request {
        Request::Choose { .. } => "choose",
        Request::Call(command) => act_kind(&command.act),
    }
}

fn act_kind(act: &Act) -> &'static str {
    match act {
        Act::Initiate(_) => "initiate",
        Act::Answer { .. } => "answer",
        Act::Decline { .. } => "decline",
        Act::End { .. } => "end",
        Act::Join => "join",
        Act::Leave => "leave",
        Act::Rejoin => "rejoin",
        Act::Progress => "progress",
        Act::Fail { .. } => "fail",
        Act::Look => "look",
        Act::Media(media) => match media.what {
            MediaChange::Annotate | MediaChange::ClearAnnotations => "annotate",
            _ => "media",
        },
        Act::Tick { .. } | Act::Devices { .. } => "internal",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bus::BusConfig;
    use bus::child::{ChildOptions, NatsChild};
    use domain::UserId;
    use domain::call::{CommandId, Refusal};
    use domain::presence::ChoiceChange;

    use super::*;
    use crate::config::{AppConfig, GatewayConfig};

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn soon<T>(wait: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, wait).await.expect("nothing came")
    }

    fn request(id: u128) -> Request {
        Request::Choose {
            id: CommandId(id),
            user: UserId::new("7").unwrap(),
            wire_id: 7.into(),
            change: ChoiceChange::default(),
        }
    }

    fn apps(command_timeout_ms: u64) -> Vec<App> {
        let mut app = AppConfig { name: "t".to_owned(), ..AppConfig::default() };
        app.limits.command_timeout_ms = Some(command_timeout_ms);
        app.token = Some(serde_json::from_value(serde_json::json!({ "secret": "s" })).unwrap());
        App::build_all(&GatewayConfig { app: vec![app], ..GatewayConfig::default() }).unwrap()
    }

    #[tokio::test]
    async fn a_command_is_asked_with_one_id_until_somebody_decides() {
        let dir = std::env::temp_dir().join(format!("trunkline-ask-{}", std::process::id()));
        let child = NatsChild::start(ChildOptions::new(&dir)).await.unwrap();
        let registry = prometheus::Registry::new();
        let bus = Bus::connect(BusConfig::for_server(child.url()), &registry).await.unwrap();
        let metrics = Metrics::register(&registry).unwrap();
        let coordinator = Arc::new(Coordinator::new(bus.clone(), metrics.clone()));

        // Nobody is there until the deadline.
        let refused = soon(coordinator.ask(&apps(300)[0], &request(1), None)).await;
        assert_eq!((refused, metrics.commands_unavailable.get()), (Err(Rejection::Unavailable), 1));

        let parent = TraceParent { trace: 3, span: 4 };
        // Somebody comes while it is asked, cannot decide at first, then does.
        let asking = tokio::spawn({
            let coordinator = coordinator.clone();
            async move { coordinator.ask(&apps(20_000)[0], &request(2), Some(parent)).await }
        });
        let mut requests = bus.serve(&coordination::subject("t"), coordination::QUEUE).unwrap();
        let replies = [Reply::Unavailable, Reply::Refused(Refusal::Busy)];
        for reply in replies {
            let asked = soon(requests.next()).await;
            assert_eq!(coordination::decode::<Request>(&asked.payload).unwrap(), request(2));
            assert_eq!(asked.header(trace::HEADER), Some(&*parent.to_string()));
            bus.reply(&asked.reply, coordination::encode(&reply)).unwrap();
        }
        assert_eq!(soon(asking).await.unwrap(), Err(Rejection::Call(Refusal::Busy)));
        assert_eq!(metrics.command_seconds.with_label_values(&["choose"]).get_sample_count(), 2);
        drop(requests);
        child.stop().await;
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn an_answer_of_another_version_is_no_decision() {
        assert!(matches!(decoded(&[9, 1]), Tried::Impossible(Rejection::Unavailable)));
        let malformed = coordination::encode(&Reply::Malformed);
        assert!(matches!(decoded(&malformed), Tried::Answered(Reply::Malformed)));
    }
}
