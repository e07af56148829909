//! Durable consumers that several processes share: each stored message goes to one of them, until it is acknowledged.
//!
//! Owns a task that makes the consumer, pulls, and starts over whatever breaks: the connection, the consumer's leader, the
//! server, the consumer itself. At least once: what a message asks for must be harmless when done twice. Start at
//! [`Bus::consume`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::{mpsc, watch};

use crate::bus::Bus;
use crate::client::Client;
use crate::error::BusError;
use crate::lean::Shared;
use crate::listen::Listener;
use crate::patience::patiently;
use crate::stream::nanos;
use crate::types::Stored;
use crate::wire::{self, Message};

/// Messages of one pull; what a process may hold without having looked at it.
const PULL_BATCH: usize = 128;
/// How long one pull waits for messages; then the next one follows at once.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// The server says this often that it still has our pull.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Silence after which the pull counts as lost: two heartbeats, and some delay.
const SILENCE: Duration = Duration::from_secs(5);
/// The same of a pull that brings what is there: the server holds it back, without a word, while too many are not acknowledged.
const HELD_BACK: Duration = Duration::from_secs(1);
/// Pause after something broke.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// How long a consumer that is given up waits for what is on its way to it.
const STOP_WAIT: Duration = Duration::from_secs(1);
/// Everything of one pull, and what late pulls of a broken time may bring besides.
const QUEUE: usize = 4 * PULL_BATCH;

const CONSUMER_NOT_FOUND: u32 = 10014;

/// A consumer that must exist. Every message of the stream that matches is delivered, those stored before it was made first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerSpec {
    pub stream: String,
    /// Name that the processes share; one subject token.
    pub durable: String,
    /// Subjects with wildcards, which must not overlap.
    pub filters: Vec<String>,
    /// A message that is not acknowledged in this time is delivered again.
    pub ack_wait: Duration,
    /// Messages without acknowledgement in all processes together; beyond it the server waits.
    pub max_ack_pending: usize,
    /// How long messages gather at the server after one that came out of quiet: they come together then, which costs both sides much
    /// less than one by one, and of a key that keeps only its newest value the others do not come at all. Zero: each comes at once.
    pub gather: Duration,
}

/// This process's share of a consumer. Dropping it gives what was not looked at back to the others.
#[derive(Debug)]
pub struct Consumer {
    messages: mpsc::Receiver<Delivered>,
}

/// A message to work on.
#[derive(Debug)]
pub struct Delivered {
    /// Markers of deleted and expired keys come too: see the headers `KV-Operation` and `Nats-Marker-Reason`.
    pub stored: Stored,
    /// 1: for the first time.
    pub deliveries: u64,
    pub ack: AckHandle,
}

/// Says what became of a message. Dropped without a word, the message comes again after the consumer's `ack_wait`.
#[must_use = "a message that is not acknowledged comes again"]
#[derive(Debug)]
pub struct AckHandle {
    shared: Arc<Shared>,
    reply: String,
}

impl AckHandle {
    /// Done. An acknowledgement that is lost brings the message again.
    pub fn ack(self) {
        self.say(b"+ACK");
    }

    /// Not done: deliver it again after `delay`, to any process.
    pub fn nak(self, delay: Duration) {
        self.say(format!("-NAK {{\"delay\": {}}}", nanos(delay)).as_bytes());
    }

    fn say(&self, what: &[u8]) {
        if self.shared.publish(&self.reply, what).is_err() {
            self.shared.metrics.dropped.with_label_values(&["overloaded"]).inc();
        }
    }
}

impl Bus {
    /// Makes or updates the consumer and pulls from it until the returned handle is dropped.
    pub async fn consume(&self, spec: ConsumerSpec) -> Result<Consumer, BusError> {
        if !wire::is_publishable(&spec.durable) || spec.durable.contains('.') {
            return Err(BusError::Subject { subject: spec.durable });
        }
        if let Some(subject) = spec.filters.iter().find(|filter| !wire::is_subscribable(filter)) {
            return Err(BusError::Subject { subject: subject.clone() });
        }
        let client = self.inner.client.clone();
        patiently(&spec.durable, || ensure(&client, &spec)).await?;
        // What is worked off together; what waits longer is better off with the server.
        let (sender, messages) = mpsc::channel(2 * PULL_BATCH);
        tokio::spawn(Puller::new(self.shared(), client, spec, sender).run());
        Ok(Consumer { messages })
    }
}

impl Consumer {
    /// The next message. Cancelling the call loses nothing; it ends only with the runtime, and then waits for ever.
    pub async fn next(&mut self) -> Delivered {
        match self.messages.recv().await {
            Some(message) => message,
            None => std::future::pending().await,
        }
    }

    /// Moves what is here to the end of `out`, which then has `most` messages at most. Never waits.
    pub fn take(&mut self, out: &mut Vec<Delivered>, most: usize) {
        while out.len() < most {
            let Ok(message) = self.messages.try_recv() else { return };
            out.push(message);
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.messages.close();
        while let Ok(message) = self.messages.try_recv() {
            message.ack.nak(Duration::ZERO);
        }
    }
}

struct Puller {
    shared: Arc<Shared>,
    client: Client,
    spec: ConsumerSpec,
    /// Pull `n` is answered at `<inbox>.<n>`.
    inbox: String,
    listener: Listener,
    connection: watch::Receiver<bool>,
    pulls: u64,
    sender: mpsc::Sender<Delivered>,
}

/// What a pull asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pull {
    /// So many messages, as they come.
    Waiting(usize),
    /// What is there, so many at most.
    Now(usize),
}

/// Why a pull ended.
enum PullEnd {
    /// It has brought so many messages.
    Served(usize),
    Reconnected,
    Broken(String),
    CallerGone,
}

impl Puller {
    fn new(
        shared: &Arc<Shared>,
        client: Client,
        spec: ConsumerSpec,
        sender: mpsc::Sender<Delivered>,
    ) -> Self {
        let inbox = format!("_INBOX.tl{:032x}", rand::random::<u128>());
        let listener = Listener::open(shared, &format!("{inbox}.*"), QUEUE);
        let connection = shared.connection();
        Self { shared: Arc::clone(shared), client, spec, inbox, listener, connection, pulls: 0, sender }
    }

    async fn run(mut self) {
        let most = PULL_BATCH.min(self.spec.max_ack_pending.max(1));
        let gathers = !self.spec.gather.is_zero();
        let mut pull = Pull::Waiting(if gathers { 1 } else { most });
        loop {
            let end = self.pull(pull).await;
            pull = match end {
                _ if !gathers => Pull::Waiting(most),
                PullEnd::Served(1..) => Pull::Now(most),
                _ => Pull::Waiting(1),
            };
            match end {
                // There may be more.
                PullEnd::Served(some) if some == most => {}
                PullEnd::Served(1..) if gathers => self.gather().await,
                PullEnd::Served(_) | PullEnd::Reconnected => {}
                PullEnd::CallerGone => return self.give_back().await,
                PullEnd::Broken(reason) => self.repair(&reason).await,
            }
        }
    }

    async fn gather(&self) {
        tokio::select! {
            biased;
            () = self.sender.closed() => {}
            () = tokio::time::sleep(self.spec.gather) => {}
        }
    }

    /// The consumer may be gone: makes it again if need be.
    async fn repair(&self, reason: &str) {
        tracing::debug!(consumer = %self.spec.durable, reason, "a pull broke");
        if self.sender.is_closed() {
            return;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
        if let Err(error) = ensure(&self.client, &self.spec).await {
            tracing::warn!(consumer = %self.spec.durable, stream = %self.spec.stream, %error, "the consumer is not there");
        }
    }

    /// One pull, from the request to its end.
    async fn pull(&mut self, pull: Pull) -> PullEnd {
        if let Err(end) = self.ask(pull).await {
            return end;
        }
        let (Pull::Waiting(most) | Pull::Now(most)) = pull;
        let mut came = 0;
        while came < most {
            let message = match self.hear(pull).await {
                Ok(Some(message)) => message,
                Ok(None) => return PullEnd::Served(came),
                Err(end) => return end,
            };
            match wire::status(&message.headers) {
                Some((code, text)) if message.reply.is_none() => {
                    if let Some(broken) = self.status_end(&message, code, text) {
                        return broken.map_or(PullEnd::Served(came), PullEnd::Broken);
                    }
                }
                _ => {
                    came += 1;
                    if !self.deliver(message).await {
                        return PullEnd::CallerGone;
                    }
                }
            }
        }
        PullEnd::Served(came)
    }

    /// Waits for a connection and sends a pull.
    async fn ask(&mut self, pull: Pull) -> Result<(), PullEnd> {
        tokio::select! {
            biased;
            () = self.sender.closed() => return Err(PullEnd::CallerGone),
            // An error means that the bus is gone.
            connected = self.connection.wait_for(|connected| *connected) => {
                connected.map_err(|_| PullEnd::CallerGone)?;
            }
        }
        self.pulls += 1;
        let request = match pull {
            Pull::Waiting(batch) => json!({
                "batch": batch,
                "expires": nanos(PULL_EXPIRES),
                "idle_heartbeat": nanos(HEARTBEAT),
            }),
            Pull::Now(batch) => json!({ "batch": batch, "no_wait": true }),
        };
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{}.{}", self.spec.stream, self.spec.durable);
        let (body, reply) = (request.to_string(), format!("{}.{}", self.inbox, self.pulls));
        let put = |out: &mut Vec<u8>| wire::put_pub(out, &subject, Some(&reply), body.as_bytes());
        self.shared.send(put).map_err(|_| PullEnd::Broken("it cannot be sent now".to_owned()))
    }

    /// The next message or status; `None`: the server holds the rest back. Messages first: what is here is delivered before a break is
    /// looked at.
    async fn hear(&mut self, pull: Pull) -> Result<Option<Message>, PullEnd> {
        let silence = if matches!(pull, Pull::Now(_)) { HELD_BACK } else { SILENCE };
        tokio::select! {
            biased;
            message = self.listener.next() => message.map(Some).ok_or(PullEnd::CallerGone),
            () = self.sender.closed() => Err(PullEnd::CallerGone),
            _ = self.connection.changed() => Err(PullEnd::Reconnected),
            () = tokio::time::sleep(silence) => match pull {
                Pull::Now(_) => Ok(None),
                Pull::Waiting(_) => Err(PullEnd::Broken("the server is silent".to_owned())),
            },
        }
    }

    /// `None`: the pull goes on; else its end, and what is wrong.
    fn status_end(&self, message: &Message, code: u16, text: &str) -> Option<Option<String>> {
        let number = self.pulls.to_string();
        let own = message.subject.rsplit(|byte| *byte == b'.').next() == Some(number.as_bytes());
        match code {
            100 => None,
            _ if !own => None,
            404 | 408 => Some(None),
            _ => Some(Some(format!("{code} {text}"))),
        }
    }

    /// False: the caller is gone, and the message goes back.
    async fn deliver(&self, message: Message) -> bool {
        let Some(delivered) = delivered(&self.shared, message) else { return true };
        let sent = self.sender.send(delivered).await;
        sent.map_err(|refused| refused.0.ack.nak(Duration::ZERO)).is_ok()
    }

    /// What came and was not looked at is for the others.
    async fn give_back(&mut self) {
        self.listener.stop(Instant::now() + STOP_WAIT).await;
        while let Some(message) = self.listener.next().await {
            if let Some(delivered) = delivered(&self.shared, message) {
                delivered.ack.nak(Duration::ZERO);
            }
        }
    }
}

/// `None`: no delivery of a stream, so that nobody waits for its acknowledgement.
fn delivered(shared: &Arc<Shared>, message: Message) -> Option<Delivered> {
    let reply = std::str::from_utf8(message.reply.as_ref()?).ok()?.to_owned();
    let Origin { deliveries, seq, time_ms } = Origin::parse(&reply)?;
    let stored = Stored {
        subject: std::str::from_utf8(&message.subject).ok()?.to_owned(),
        seq,
        time_ms,
        payload: message.payload,
        headers: message.headers,
    };
    Some(Delivered { stored, deliveries, ack: AckHandle { shared: Arc::clone(shared), reply } })
}

/// What the reply subject of a delivery says; nats-architecture-and-design ADR-15.
#[derive(Debug, PartialEq, Eq)]
struct Origin {
    deliveries: u64,
    seq: u64,
    time_ms: u64,
}

impl Origin {
    /// `$JS.ACK.<stream>.<consumer>.<deliveries>.<seq>.<consumer seq>.<nanoseconds>.<pending>`, or the same with
    /// `<domain>.<account>` before the stream and possibly more behind.
    fn parse(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        let numbers = match tokens.len() {
            7 => &tokens[2..],
            9.. => &tokens[4..],
            _ => return None,
        };
        let number = |index: usize| numbers.get(index)?.parse::<u64>().ok();
        Some(Self { deliveries: number(0)?, seq: number(1)?, time_ms: number(3)? / 1_000_000 })
    }
}

#[derive(Debug, Deserialize)]
struct ConsumerInfo {
    config: Map<String, Value>,
}

/// Makes the consumer, or brings the one that exists up to the specification.
async fn ensure(client: &Client, spec: &ConsumerSpec) -> Result<(), BusError> {
    let name = format!("{}.{}", spec.stream, spec.durable);
    let found = match client.api::<ConsumerInfo>(&format!("CONSUMER.INFO.{name}"), &Value::Null).await? {
        Ok(info) => info.config,
        Err(error) if error.err_code == CONSUMER_NOT_FOUND => Map::new(),
        Err(error) => return Err(error.refused(&format!("CONSUMER.INFO.{name}"))),
    };
    let Some(config) = updated(spec, found) else { return Ok(()) };
    tracing::info!(consumer = %spec.durable, stream = %spec.stream, "the consumer is made or brought up to its specification");
    let request = json!({ "stream_name": spec.stream, "config": config });
    client.api_or_refused::<ConsumerInfo>(&format!("CONSUMER.CREATE.{name}"), &request).await.map(drop)
}

/// The configuration to write, or `None` if `found` is as it must be. What an operator set besides is kept.
fn updated(spec: &ConsumerSpec, found: Map<String, Value>) -> Option<Map<String, Value>> {
    let mut config = found.clone();
    let mut set = |name: &str, value: Value| config.insert(name.to_owned(), value);
    set("filter_subjects", json!(spec.filters));
    set("ack_wait", json!(nanos(spec.ack_wait)));
    set("max_ack_pending", json!(spec.max_ack_pending));
    if found.is_empty() {
        set("durable_name", json!(spec.durable));
        set("name", json!(spec.durable));
        set("ack_policy", json!("explicit"));
        set("deliver_policy", json!("all"));
    }
    // The server keeps a single filter in a field of its own if an older client made the consumer.
    config.remove("filter_subject");
    (config != found).then_some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reply_subjects_of_both_formats_say_where_a_message_comes_from() {
        let origin = Origin { deliveries: 2, seq: 7, time_ms: 1_763_642_096_123 };
        for reply in [
            "$JS.ACK.S.c.2.7.9.1763642096123456789.4",
            "$JS.ACK._.hash.S.c.2.7.9.1763642096123456789.4",
            "$JS.ACK.hub.hash.S.c.2.7.9.1763642096123456789.4.token",
        ] {
            assert_eq!(Origin::parse(reply).as_ref(), Some(&origin), "{reply}");
        }
        for reply in ["", "$JS.ACK.S.c.2.7.9", "$JS.ACK.S.c.2.x.9.1.4", "_INBOX.1"] {
            assert_eq!(Origin::parse(reply), None, "{reply}");
        }
    }

    #[test]
    fn an_equal_consumer_is_left_alone_and_an_operators_fields_are_kept() {
        let spec = ConsumerSpec {
            stream: "S".into(),
            durable: "c".into(),
            filters: vec!["s.>".into()],
            ack_wait: Duration::from_secs(30),
            max_ack_pending: 100,
            gather: Duration::ZERO,
        };
        let mut made = updated(&spec, Map::new()).unwrap();
        made.insert("description".to_owned(), json!("ours"));
        assert_eq!(updated(&spec, made.clone()), None);
        let slower = ConsumerSpec { ack_wait: Duration::from_secs(60), ..spec };
        let config = updated(&slower, made).unwrap();
        assert_eq!(
            (&config["ack_wait"], &config["description"]),
            (&json!(60_000_000_000_u64), &json!("ours"))
        );
    }
}
