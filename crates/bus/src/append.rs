//! Durable publishes: one message or an atomic batch, retried inside the caller's deadline without storing twice.
//!
//! A retry is harmless because every message carries a condition: expected sequence 0 (`unique`) or a message id. Batches
//! are not deduplicated by the server; see [`crate::Bus::append_batch`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::RecvError;

use crate::error::AppendError;
use crate::lean::{Answer, Shared, Ticket};
use crate::outbox::Refused;
use crate::types::Append;
use crate::wire;

/// Messages of one atomic batch; the server's limit.
const MAX_BATCH: usize = 1000;

/// First pause after a refusal that is worth a retry, and the longest one.
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LONGEST: Duration = Duration::from_millis(250);

/// JetStream error codes (`server/errors.json` of nats-server).
mod code {
    pub(super) const WRONG_LAST_SEQUENCE: u32 = 10071;
    /// Another write with a condition on this subject is being replicated.
    pub(super) const WRONG_LAST_SEQUENCE_CONSTANT: u32 = 10164;
    /// The first copy of this message id is being replicated.
    pub(super) const DUPLICATE_IN_PROCESS: u32 = 10158;
    pub(super) const STORE_FAILED: u32 = 10077;
    pub(super) const INCOMPLETE_BATCH: u32 = 10176;
    pub(super) const TOO_MANY_BATCHES: u32 = 10210;
}

/// What goes out, checked and encoded except for the reply subject.
#[derive(Debug)]
pub(crate) struct Prepared {
    messages: Vec<Encoded>,
    /// All messages have subjects of their own, so that a conflict after a lost ack means stored.
    unique: bool,
    batch: bool,
}

#[derive(Debug)]
struct Encoded {
    subject: String,
    headers: Vec<(String, String)>,
    /// The header block of a single message, encoded once.
    block: Vec<u8>,
    payload: Bytes,
}

/// A publish on its way.
type Waiting = (Ticket, oneshot::Receiver<Answer>);

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Stored(u64),
    Conflict {
        last: Option<u64>,
    },
    /// An earlier attempt is being replicated: ask again.
    InProcess,
    /// Surely not stored, and worth another attempt.
    NotStored(&'static str),
    /// Nobody knows.
    Unknown(&'static str),
    Refused {
        code: u32,
        description: String,
    },
}

#[derive(Debug, Deserialize)]
struct PubAck {
    #[serde(default)]
    seq: u64,
    error: Option<ApiError>,
}

#[derive(Debug, Deserialize)]
struct ApiError {
    code: u32,
    #[serde(default)]
    err_code: u32,
    #[serde(default)]
    description: String,
}

impl Prepared {
    pub(crate) fn one(message: Append, max_payload: usize) -> Result<Self, AppendError> {
        let unique = message.unique;
        let mut encoded = encode(message, true, max_payload)?;
        encoded.block = wire::encode_headers(pairs(&encoded.headers));
        Ok(Self { messages: vec![encoded], unique, batch: false })
    }

    pub(crate) fn batch(messages: Vec<Append>, max_payload: usize) -> Result<Self, AppendError> {
        let found = messages.len();
        if found == 0 || found > MAX_BATCH {
            return Err(AppendError::BatchSize { found, limit: MAX_BATCH });
        }
        let unique = messages.iter().all(|message| message.unique);
        let messages = messages
            .into_iter()
            .map(|message| encode(message, false, max_payload))
            .collect::<Result<_, _>>()?;
        Ok(Self { messages, unique, batch: true })
    }

    fn put(&self, out: &mut Vec<u8>, reply: &str) {
        if !self.batch {
            let message = &self.messages[0];
            return wire::put_hpub(out, &message.subject, Some(reply), &message.block, &message.payload);
        }
        // A new id for every attempt: the server may still hold the rest of a broken one.
        let id = format!("{:032x}", rand::random::<u128>());
        let last = self.messages.len() - 1;
        for (index, message) in self.messages.iter().enumerate() {
            let sequence = (index + 1).to_string();
            let commit = (index == last).then_some(("Nats-Batch-Commit", "1"));
            let batch = [("Nats-Batch-Id", id.as_str()), ("Nats-Batch-Sequence", sequence.as_str())];
            let block = wire::encode_headers(pairs(&message.headers).chain(batch).chain(commit));
            // Only the commit is answered; the server answers every message that asks.
            let reply = (index == last).then_some(reply);
            wire::put_hpub(out, &message.subject, reply, &block, &message.payload);
        }
    }

    fn bytes(&self) -> u64 {
        self.messages.iter().map(|message| message.payload.len() as u64).sum()
    }

    /// Sequence of the last message when the first one is known to be stored at `first`: a batch is stored in one piece.
    fn last_from_first(&self, first: u64) -> u64 {
        first + self.messages.len() as u64 - 1
    }
}

fn pairs(headers: &[(String, String)]) -> impl Iterator<Item = (&str, &str)> {
    headers.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

fn encode(message: Append, alone: bool, max_payload: usize) -> Result<Encoded, AppendError> {
    if !wire::is_publishable(&message.subject) {
        return Err(AppendError::Subject { subject: message.subject });
    }
    let mut headers: Vec<(String, String)> =
        message.headers.into_iter().map(|(name, value)| (name.into_owned(), value)).collect();
    let expected = if message.unique { Some(0) } else { message.expect_last_subject_seq };
    headers.extend(expected.map(|seq| ("Nats-Expected-Last-Subject-Sequence".to_owned(), seq.to_string())));
    let own_id = (alone && !message.unique).then(|| format!("{:032x}", rand::random::<u128>()));
    headers.extend(message.msg_id.or(own_id).map(|id| ("Nats-Msg-Id".to_owned(), id)));
    if let Some((name, _)) = headers.iter().find(|(name, value)| !wire::is_header(name, value)) {
        return Err(AppendError::Header { name: name.clone() });
    }
    let bytes = message.payload.len()
        + headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>();
    if bytes > max_payload {
        return Err(AppendError::TooLarge { bytes, limit: max_payload });
    }
    Ok(Encoded { subject: message.subject, headers, block: Vec::new(), payload: message.payload })
}

/// Sends the first attempt now, so that calls keep their order, and returns the future of the ack.
pub(crate) fn start(
    shared: &Arc<Shared>,
    prepared: Result<Prepared, AppendError>,
    deadline: Instant,
) -> impl Future<Output = Result<u64, AppendError>> + Send + use<> {
    let shared = Arc::clone(shared);
    let first = prepared.map(|prepared| {
        let sent = send(&shared, &prepared);
        (prepared, sent)
    });
    async move {
        let result = match first {
            Ok((prepared, sent)) => drive(&shared, &prepared, sent, deadline).await,
            Err(error) => Err(error),
        };
        count(&shared, &result);
        result
    }
}

fn send(shared: &Arc<Shared>, prepared: &Prepared) -> Result<Waiting, Refused> {
    shared.request(|out, reply| prepared.put(out, reply))
}

/// Attempts until the message is stored, refused, or the deadline passed.
async fn drive(
    shared: &Arc<Shared>,
    prepared: &Prepared,
    mut attempt: Result<Waiting, Refused>,
    deadline: Instant,
) -> Result<u64, AppendError> {
    let mut uncertain = false;
    let mut pause = RETRY_FIRST;
    let sent_at = Instant::now();
    loop {
        let outcome = match attempt {
            Err(Refused::Full) => return Err(AppendError::Overloaded),
            Err(Refused::Disconnected) => Outcome::NotStored("the connection to NATS is down"),
            Ok(waiting) => classify(wait(shared, waiting, deadline).await),
        };
        let reason = match outcome {
            Outcome::Stored(seq) => {
                shared.metrics.appended_bytes.inc_by(prepared.bytes());
                shared.metrics.ack_seconds.observe(sent_at.elapsed().as_secs_f64());
                return Ok(seq);
            }
            Outcome::Conflict { last: Some(first) } if uncertain && prepared.unique => {
                return Ok(prepared.last_from_first(first));
            }
            Outcome::Conflict { last: None } if uncertain => "an earlier attempt is being replicated",
            Outcome::Conflict { last } => return Err(AppendError::Conflict { last }),
            Outcome::Refused { code, description } => return Err(AppendError::Refused { code, description }),
            Outcome::InProcess => "an earlier attempt is being replicated",
            Outcome::NotStored(reason) => reason,
            Outcome::Unknown(reason) => {
                uncertain = true;
                reason
            }
        };
        if !wait_for_retry(shared, &mut pause, deadline).await {
            return Err(AppendError::Unavailable { stored: (!uncertain).then_some(false), reason });
        }
        shared.metrics.append_retries.inc();
        attempt = send(shared, prepared);
    }
}

/// The answer of one attempt, or `None` when its time is over.
async fn wait(
    shared: &Shared,
    (ticket, receiver): Waiting,
    deadline: Instant,
) -> Option<Result<Answer, RecvError>> {
    let until = deadline.min(Instant::now() + shared.config.publish_timeout());
    let answer = tokio::time::timeout_at(until.into(), receiver).await.ok();
    drop(ticket);
    answer
}

/// Pauses, and waits for a connection; false when the deadline comes first.
async fn wait_for_retry(shared: &Shared, pause: &mut Duration, deadline: Instant) -> bool {
    let ready = async {
        tokio::time::sleep(*pause).await;
        let mut connected = shared.connection();
        // An error means the bus is gone; the deadline ends the wait.
        if connected.wait_for(|connected| *connected).await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let in_time = tokio::time::timeout_at(deadline.into(), ready).await.is_ok();
    *pause = (*pause * 2).min(RETRY_LONGEST);
    in_time && Instant::now() < deadline
}

fn classify(answer: Option<Result<Answer, RecvError>>) -> Outcome {
    match answer {
        None => Outcome::Unknown("no acknowledgement came"),
        Some(Err(_) | Ok(Answer::Lost)) => Outcome::Unknown("the connection to NATS broke"),
        Some(Ok(Answer::NoResponders)) => {
            Outcome::NotStored("no stream takes the subject, or it has no leader")
        }
        Some(Ok(Answer::Reply(body))) => classify_ack(&body),
    }
}

fn classify_ack(body: &[u8]) -> Outcome {
    let ack: PubAck = match serde_json::from_slice(body) {
        Ok(ack) => ack,
        Err(_) => {
            return Outcome::Refused { code: 0, description: "the answer is no acknowledgement".to_owned() };
        }
    };
    let Some(error) = ack.error else { return Outcome::Stored(ack.seq) };
    match error.err_code {
        code::WRONG_LAST_SEQUENCE => Outcome::Conflict { last: number_at_end(&error.description) },
        code::WRONG_LAST_SEQUENCE_CONSTANT => Outcome::Conflict { last: None },
        code::DUPLICATE_IN_PROCESS => Outcome::InProcess,
        code::INCOMPLETE_BATCH | code::TOO_MANY_BATCHES => Outcome::NotStored("the batch was not taken"),
        code::STORE_FAILED => Outcome::Refused { code: error.err_code, description: error.description },
        _ if error.code == 503 => Outcome::NotStored("JetStream is not available"),
        _ => Outcome::Refused { code: error.err_code, description: error.description },
    }
}

/// `wrong last sequence: 17`
fn number_at_end(text: &str) -> Option<u64> {
    text.rsplit(' ').next()?.parse().ok()
}

fn count(shared: &Shared, result: &Result<u64, AppendError>) {
    let kind = match result {
        Ok(_) => return shared.metrics.appended.inc(),
        Err(AppendError::Conflict { .. }) => "conflict",
        Err(AppendError::Unavailable { .. }) => "unavailable",
        Err(AppendError::Overloaded) => "overloaded",
        Err(AppendError::Refused { .. }) => "refused",
        Err(_) => "invalid",
    };
    shared.metrics.append_errors.with_label_values(&[kind]).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_are_understood() {
        let cases: [(&str, Outcome); 7] = [
            (r#"{"stream":"S","seq":7}"#, Outcome::Stored(7)),
            (r#"{"stream":"S","seq":7,"duplicate":true}"#, Outcome::Stored(7)),
            (
                r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 5"},"stream":"S","seq":0}"#,
                Outcome::Conflict { last: Some(5) },
            ),
            (
                r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}"#,
                Outcome::Conflict { last: None },
            ),
            (
                r#"{"error":{"code":503,"err_code":10008,"description":"x"}}"#,
                Outcome::NotStored("JetStream is not available"),
            ),
            (
                r#"{"error":{"code":400,"err_code":10201,"description":"d"}}"#,
                Outcome::Refused { code: 10201, description: "d".to_owned() },
            ),
            (
                "+ACK",
                Outcome::Refused { code: 0, description: "the answer is no acknowledgement".to_owned() },
            ),
        ];
        for (body, outcome) in cases {
            assert_eq!(classify_ack(body.as_bytes()), outcome, "{body}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_refused_before_the_wire() {
        let one = |message| Prepared::one(message, 100).map(|_| ()).unwrap_err();
        assert!(matches!(one(Append::to("a b", "")), AppendError::Subject { .. }));
        assert!(matches!(one(Append::to("a", "").header("X", "a\r\nb")), AppendError::Header { .. }));
        assert!(matches!(one(Append::to("a", vec![0; 101])), AppendError::TooLarge { limit: 100, .. }));
        assert!(matches!(Prepared::batch(Vec::new(), 100), Err(AppendError::BatchSize { .. })));
    }
}
