//! What callers of the bus hand in and get back: durable messages, feed events, streams, stored messages, KV.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;

/// What the connected server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    pub version: String,
    /// Largest message in bytes, headers and payload together.
    pub max_payload: usize,
    /// The server is part of a cluster: subscriptions need time to spread, so joins need [`crate::Bus::echo`].
    pub clustered: bool,
    /// Name of the server, and its own id.
    pub name: String,
}

/// Header names and values of a message to send.
pub type Headers = Vec<(Cow<'static, str>, String)>;

/// A durable message: stored by JetStream before it counts.
#[derive(Debug, Clone, Default)]
pub struct Append {
    pub subject: String,
    /// `Nats-Expected-Last-Subject-Sequence`: stored only if the subject's last message has this sequence (0: none).
    pub expect_last_subject_seq: Option<u64>,
    /// Nobody else ever writes this subject: the message is sent with expected sequence 0, and a retry that finds the
    /// subject written counts as success with that sequence.
    pub unique: bool,
    /// `Nats-Msg-Id`: the stream drops a second message with this id inside its duplicate window. If neither this nor
    /// `unique` is set, the bus sets a random one, so that its own retries store the message once.
    pub msg_id: Option<String>,
    pub headers: Headers,
    pub payload: Bytes,
}

impl Append {
    /// A message on a subject that only this message will ever use.
    pub fn unique(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), unique: true, payload: payload.into(), ..Self::default() }
    }

    /// A message without condition.
    pub fn to(subject: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self { subject: subject.into(), payload: payload.into(), ..Self::default() }
    }

    /// A compare-and-set: stored only if the subject's last sequence is `last` (0: never written).
    pub fn expecting(subject: impl Into<String>, last: u64, payload: impl Into<Bytes>) -> Self {
        Self { expect_last_subject_seq: Some(last), ..Self::to(subject, payload) }
    }

    #[must_use]
    pub fn header(mut self, name: impl Into<Cow<'static, str>>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// One subscription of the room feed; never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubId(pub(crate) u64);

impl SubId {
    /// The number in the protocol, for logs.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// What the room feed delivers, in the order of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedEvent {
    /// A copy for a subscription; `sub` may be one that was given up meanwhile. `seq` and `stream` are set on copies
    /// republished by JetStream. `headers` is the raw block, empty if there are none: see [`crate::header_value`].
    Message {
        sub: SubId,
        subject: Bytes,
        seq: Option<u64>,
        stream: Option<Bytes>,
        headers: Bytes,
        payload: Bytes,
    },
    /// The connection is up and all subscriptions were sent again. Unless `first`, everything may have been missed.
    Connected { first: bool },
    /// The connection is gone. `at_ms`: when the server was last heard (Unix time); what came later may be missed.
    Disconnected { at_ms: u64 },
    /// JetStream elected a leader for this stream: republished copies may have been lost. `at_ms`: when it told (Unix time).
    LeaderChanged { stream: String, at_ms: u64 },
    /// The feed was not read in time, and this many messages were dropped: everything may have been missed. `at_ms`: when the
    /// first of them was (Unix time).
    Lost { messages: u64, at_ms: u64 },
}

/// A stream that must exist. Storage is always file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamSpec {
    pub name: String,
    pub subjects: Vec<String>,
    pub replicas: usize,
    /// Zero: no limit.
    pub max_age: Duration,
    /// Source and destination, with `{{wildcard(n)}}`.
    pub republish: Option<(String, String)>,
    pub allow_direct: bool,
    pub allow_atomic: bool,
    pub allow_msg_ttl: bool,
    pub allow_msg_schedules: bool,
    /// Rollup headers and purge by message; KV needs it.
    pub allow_rollup: bool,
    /// How long the markers stay that the server leaves for expired messages; needs `allow_msg_ttl`.
    pub subject_delete_marker_ttl: Option<Duration>,
    /// -1: no limit.
    pub max_msgs_per_subject: i64,
    /// -1: no limit.
    pub max_bytes: i64,
    /// A full stream refuses new messages instead of dropping old ones.
    pub discard_new: bool,
    pub duplicate_window: Duration,
    /// Refuse explicit deletes of messages; KV sets it.
    pub deny_delete: bool,
}

impl StreamSpec {
    /// One replica, direct gets and no limits: change the fields that matter.
    pub fn new(name: impl Into<String>, subjects: impl IntoIterator<Item = String>) -> Self {
        Self {
            name: name.into(),
            subjects: subjects.into_iter().collect(),
            replicas: 1,
            max_age: Duration::ZERO,
            republish: None,
            allow_direct: true,
            allow_atomic: false,
            allow_msg_ttl: false,
            allow_msg_schedules: false,
            allow_rollup: false,
            subject_delete_marker_ttl: None,
            max_msgs_per_subject: -1,
            max_bytes: -1,
            discard_new: false,
            duplicate_window: Duration::from_secs(120),
            deny_delete: false,
        }
    }
}

/// Where a stream stands, as its leader says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamState {
    pub first_seq: u64,
    pub last_seq: u64,
    pub messages: u64,
    pub bytes: u64,
    pub replicas: usize,
    /// Time of the oldest message in milliseconds since the Unix epoch; `None`: empty.
    pub first_time_ms: Option<u64>,
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    pub subject: String,
    pub seq: u64,
    /// When the server stored it, in milliseconds since the Unix epoch.
    pub time_ms: u64,
    pub payload: Bytes,
    /// The raw block, empty if there are none: see [`crate::header_value`].
    pub headers: Bytes,
}

/// Options of [`crate::Bus::read_last`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// Only messages from this sequence on.
    pub start_seq: Option<u64>,
    /// At most this many messages; `None`: all.
    pub batch: Option<usize>,
}

/// A KV bucket (stream `KV_<name>`) with a history of one value per key, message TTL and atomic batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketSpec {
    pub name: String,
    pub replicas: usize,
    /// How long the marker of an expired key stays, so that watchers see the expiry.
    pub limit_markers: Duration,
    /// -1: no limit. A full bucket refuses writes; one with schedules drops its oldest messages instead.
    pub max_bytes: i64,
    /// Source and destination, with `{{wildcard(n)}}`, to announce changes to subscribers.
    pub republish: Option<(String, String)>,
    /// See [`crate::schedule_append`].
    pub allow_msg_schedules: bool,
    /// Subjects besides `$KV.<name>.>`, such as those of schedules.
    pub extra_subjects: Vec<String>,
}

impl BucketSpec {
    pub fn new(name: impl Into<String>, replicas: usize) -> Self {
        Self {
            name: name.into(),
            replicas,
            limit_markers: Duration::from_secs(60),
            max_bytes: -1,
            republish: None,
            allow_msg_schedules: false,
            extra_subjects: Vec::new(),
        }
    }
}

/// The last thing written to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvEntry {
    pub key: String,
    pub rev: u64,
    /// `None`: deleted or expired; `rev` is the marker's.
    pub value: Option<Bytes>,
    pub time_ms: u64,
}

/// A change of a key, as a watch tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub key: String,
    pub rev: u64,
    pub kind: ChangeKind,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangeKind {
    Put(Bytes),
    /// `expired`: its TTL ran out; otherwise somebody deleted it.
    Deleted {
        expired: bool,
    },
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    Change(Change),
    /// A whole listing was delivered: once after the start and after every re-listing.
    Synced,
}

/// Something for this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeDelivery {
    pub tag: u64,
    pub body: NodeBody,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeBody {
    /// `from_reply` is the sender's inbox subject for the same tag; empty if it wants no answer.
    Payload { from_reply: String, bytes: Bytes },
    /// The message sent with this tag found no such node.
    NoResponders,
}
