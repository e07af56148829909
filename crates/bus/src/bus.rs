//! The handle: connects both connections, and offers room traffic. Streams, reads, KV and node messages are in their own
//! files.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use prometheus::Registry;
use tokio::task::JoinHandle;
use url::Url;

use crate::append::{self, Prepared};
use crate::client::{self, Client};
use crate::config::BusConfig;
use crate::error::{AppendError, BusError, ConnectError, PublishError};
use crate::feed::Feed;
use crate::lean::{self, Addresses, Shared};
use crate::link::{self, LinkError};
use crate::metrics::Metrics;
use crate::outbox::Refused;
use crate::types::{Append, ServerInfo, SubId};
use crate::version::{self, Version};
use crate::wire;

/// Longest wait for echo answers: a join goes on without a node that does not answer.
const ECHO_WAIT: Duration = Duration::from_millis(200);

/// A process's way to NATS. Clones share the two connections, which close with the last one.
#[derive(Debug, Clone)]
pub struct Bus {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub shared: Arc<Shared>,
    pub client: Client,
    /// Token of this node, once it has an inbox.
    pub node: OnceLock<String>,
    room_task: JoinHandle<()>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.room_task.abort();
    }
}

impl Bus {
    /// Connects to NATS. The tasks of the bus run on the calling runtime; handles work on every thread and runtime.
    pub async fn connect(config: BusConfig, registry: &Registry) -> Result<Bus, ConnectError> {
        let configured = addresses(&config)?;
        let shown = configured.iter().map(link::shown).collect::<Vec<_>>().join(", ");
        let tls = link::tls_config(&config.tls)?;
        let addresses = Addresses::new(configured, tls.clone());
        let link = addresses.open_any(&config).await.map_err(|error| connect_error(shown.clone(), error))?;
        check_version(&link.info.version, &shown)?;
        let metrics = Metrics::register(registry, &config.name)?;
        let slow_consumers = metrics.slow_consumers.clone();
        let client = client::connect(&config, tls, slow_consumers)
            .await
            .map_err(|error| ConnectError::Unreachable { addresses: shown, reason: error })?;
        let shared = Shared::new(config, metrics, &link.info);
        let room_task = lean::start(&shared, link, addresses);
        Ok(Bus { inner: Arc::new(Inner { shared, client, node: OnceLock::new(), room_task }) })
    }

    /// The server of the room connection, as of its last greeting.
    pub fn server_info(&self) -> ServerInfo {
        self.shared().server_info()
    }

    /// Whether both connections are up.
    pub fn is_connected(&self) -> bool {
        self.shared().is_connected() && self.inner.client.is_connected()
    }

    /// Stores a message and returns its stream sequence.
    ///
    /// The message is queued during the call, so calls keep their order; the future waits for the ack, and retries inside
    /// `deadline` without storing the message twice. Retries need the future to be polled: await pipelined appends together,
    /// not one after the other. Dropping the future does not unsend.
    pub fn append(
        &self,
        message: Append,
        deadline: Instant,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + use<> {
        let prepared = Prepared::one(message, self.shared().max_payload());
        append::start(self.shared(), prepared, deadline)
    }

    /// Stores all messages or none, at consecutive sequences of one stream, and returns the last one's.
    ///
    /// At most 1000 messages; the stream needs `allow_atomic`. Message ids are passed on only if given. If an ack is lost,
    /// the retry of a batch that is not `unique` throughout may answer [`AppendError::Conflict`] for its own first attempt:
    /// read before deciding.
    pub fn append_batch(
        &self,
        messages: Vec<Append>,
        deadline: Instant,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + use<> {
        let prepared = Prepared::batch(messages, self.shared().max_payload());
        append::start(self.shared(), prepared, deadline)
    }

    /// Publishes once, without ack: for what may be lost. Never waits; messages of one bus keep their order. While
    /// disconnected messages wait for the next connection, up to `max_pending_bytes`.
    pub fn publish(&self, subject: &str, payload: impl AsRef<[u8]>) -> Result<(), PublishError> {
        let (shared, payload) = (self.shared(), payload.as_ref());
        if !wire::is_publishable(subject) {
            return Err(PublishError::Subject { subject: subject.to_owned() });
        }
        let limit = shared.max_payload();
        if payload.len() > limit {
            return Err(PublishError::TooLarge { bytes: payload.len(), limit });
        }
        match shared.publish(subject, payload) {
            Ok(()) => {
                shared.metrics.published.inc();
                shared.metrics.published_bytes.inc_by(payload.len() as u64);
                Ok(())
            }
            Err(Refused::Full | Refused::Disconnected) => {
                shared.metrics.dropped.with_label_values(&["overloaded"]).inc();
                Err(PublishError::Overloaded)
            }
        }
    }

    /// The room feed; `None` if it was taken before. Without a subscription it still tells how the connection and the streams'
    /// leaders fare ([`crate::FeedEvent::Connected`], [`crate::FeedEvent::LeaderChanged`]): reason enough to take it.
    pub fn feed(&self) -> Option<Feed> {
        self.shared().feed.take()
    }

    /// Adds a subscription to the feed; it survives reconnects. It is queued here and takes effect in the server later: see
    /// [`Bus::barrier`].
    pub fn subscribe(&self, subject: &str) -> Result<SubId, BusError> {
        if !wire::is_subscribable(subject) {
            return Err(BusError::Subject { subject: subject.to_owned() });
        }
        Ok(self.shared().subscribe(subject))
    }

    /// Ends a subscription. Messages under way may still appear in the feed.
    pub fn unsubscribe(&self, sub: SubId) {
        self.shared().unsubscribe(sub);
    }

    /// Stores a marker behind all subscriptions made before the call. Once acked, every message that the marker's stream
    /// stores after it (and republishes) reaches those subscriptions.
    pub fn barrier(
        &self,
        marker: Append,
        deadline: Instant,
    ) -> impl Future<Output = Result<u64, AppendError>> + Send + use<> {
        let passed = self.append(marker, deadline);
        self.shared().urge();
        passed
    }

    /// The barrier for ephemeral publishers: asks every bus of the cluster, and returns when `expected` distinct ones
    /// (this one included) answered, after 200 ms, or at the deadline. What a bus that answered publishes from then on
    /// reaches all subscriptions made before the call. Returns how many answered; fewer are counted in a metric. A server
    /// that stands alone needs no question: then it is `expected` at once.
    pub async fn echo(&self, expected: usize, deadline: Instant) -> usize {
        if !self.shared().server_info().clustered {
            return expected;
        }
        let wait = ECHO_WAIT.min(deadline.saturating_duration_since(Instant::now()));
        self.shared().echo(expected, wait).await
    }

    /// Waits until the server has taken everything published before the call; false at the deadline or when the
    /// connection breaks.
    pub async fn flush(&self, deadline: Instant) -> bool {
        self.shared().flush(deadline).await
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }
}

fn addresses(config: &BusConfig) -> Result<Vec<Url>, ConnectError> {
    let failed = |reason| ConnectError::Config { setting: "servers", reason };
    if config.servers.is_empty() {
        return Err(failed("it is empty".to_owned()));
    }
    config.servers.iter().map(|text| link::parse_address(text).map_err(failed)).collect()
}

fn connect_error(addresses: String, error: LinkError) -> ConnectError {
    match error {
        LinkError::Login(reason) => ConnectError::Login { addresses, reason },
        other => ConnectError::Unreachable { addresses, reason: other.to_string() },
    }
}

fn check_version(found: &str, addresses: &str) -> Result<(), ConnectError> {
    match Version::parse(found) {
        Some(found) if found >= version::NEEDED => Ok(()),
        _ => Err(ConnectError::TooOld { addresses: addresses.to_owned(), found: found.to_owned() }),
    }
}
