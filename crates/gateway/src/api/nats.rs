//! The same calls as NATS requests: subject `tl.api.<application>.<call>`, the body as over HTTP, an idempotency key in the body's
//! `idempotencyKey`. Every node answers; NATS gives each request to one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bus::{BusError, Request, Requests};
use cluster::subject::escape_token;
use cluster::trace;
use serde::Deserialize;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;

use super::{Call, Caller, Fault, body_of, check_key};
use crate::shard::{Control, ShardHandle, Shared};

/// One node answers.
const QUEUE: &str = "api";

/// The first token after `tl.`; no application may have this name.
pub const PREFIX: &str = "tl.api";

/// How long the end of a subscription may take.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// Answers calls until the node is `stopped`. Each task ends when its last answer is queued.
pub fn listen(
    shared: &Arc<Shared>,
    shards: &[ShardHandle],
    stopped: &watch::Receiver<bool>,
) -> Result<JoinSet<()>, BusError> {
    let mut tasks = JoinSet::new();
    for app in shared.apps.iter().filter(|_| shared.api.config.nats) {
        let subject = format!("{PREFIX}.{}.*", escape_token(app.name()));
        let requests = shared.bus.serve(&subject, QUEUE)?;
        tasks.spawn(answer_all(shared.clone(), shards.to_vec(), app.ix, requests, stopped.clone()));
    }
    Ok(tasks)
}

/// A node that leaves gets no new requests; those that it was given are answered.
async fn answer_all(
    shared: Arc<Shared>,
    shards: Vec<ShardHandle>,
    app: u16,
    mut requests: Requests,
    mut stopped: watch::Receiver<bool>,
) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let mut answers = JoinSet::new();
    let begin = |answers: &mut JoinSet<()>, request| {
        let shard = shards[NEXT.fetch_add(1, Ordering::Relaxed) % shards.len()].clone();
        answers.spawn(answer(shared.clone(), shard, app, request));
    };
    loop {
        tokio::select! {
            biased;
            _ = stopped.changed() => break,
            Some(_) = answers.join_next() => {}
            request = requests.next() => begin(&mut answers, request),
        }
    }
    for request in requests.stop(Instant::now() + STOP_WAIT).await {
        begin(&mut answers, request);
    }
    while answers.join_next().await.is_some() {}
}

async fn answer(shared: Arc<Shared>, shard: ShardHandle, app: u16, request: Request) {
    let answer = ask(&shared, &shard, app, &request).await;
    if let Err(error) = shared.bus.reply(&request.reply, body_of(&answer)) {
        tracing::warn!(%error, app = shared.app(app).name(), "[Publish API] an answer was not sent");
    }
}

async fn ask(shared: &Shared, shard: &ShardHandle, app: u16, request: &Request) -> super::Answer {
    #[derive(Deserialize)]
    struct Keyed {
        #[serde(rename = "idempotencyKey")]
        key: Option<String>,
    }
    let limit = shared.api.config.max_body_bytes;
    if request.payload.len() > limit {
        return Err(Fault::new(
            413,
            "too_large",
            format!("a body may have {limit} bytes (api.max_body_bytes)"),
        ));
    }
    let verb = request.subject.rsplit('.').next().unwrap_or_default().to_owned();
    // What is no object is refused where it is read.
    let idempotency_key = serde_json::from_slice::<Keyed>(&request.payload).ok().and_then(|keyed| keyed.key);
    idempotency_key.as_deref().map_or(Ok(()), check_key)?;
    let _place = shared.api.begin()?;
    let (done, answer) = oneshot::channel();
    let body = request.payload.clone();
    let trace = request.header(trace::HEADER).and_then(|value| value.parse().ok());
    let call = Call { app, verb, body, caller: Caller::of_nats(), idempotency_key, trace };
    shard.control(Control::Api { call: Box::new(call), done });
    let within = Duration::from_millis(shared.api.config.timeout_ms);
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(Fault::unavailable()),
    }
}
