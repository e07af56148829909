//! The errors of the bus, one type per boundary.

/// Why no connection was made at start.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{setting} cannot be used: {reason}")]
    Config { setting: &'static str, reason: String },
    #[error("NATS cannot be reached at {addresses}: {reason}")]
    Unreachable { addresses: String, reason: String },
    #[error("NATS at {addresses} refused the login: {reason}")]
    Login { addresses: String, reason: String },
    #[error(
        "nats-server {found} at {addresses} is too old: Trunkline needs 2.12 or newer, because it uses atomic batches, \
         message schedules and message TTL of JetStream"
    )]
    TooOld { addresses: String, found: String },
    #[error("the metrics of the bus could not be registered: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// Why a stream, bucket or node operation failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    #[error("NATS did not answer {operation} in time")]
    Unavailable { operation: String },
    #[error("JetStream is not enabled on the NATS servers (or this account has no access to it)")]
    NoJetStream,
    #[error("stream {stream} exists with {setting} {found}, but {wanted} is needed: {advice}")]
    StreamMismatch {
        stream: String,
        setting: &'static str,
        found: String,
        wanted: String,
        advice: &'static str,
    },
    #[error("NATS refused {operation}: {description} (code {code})")]
    Refused { operation: String, code: u32, description: String },
    #[error("{subject:?} is no subject that can be published or subscribed to")]
    Subject { subject: String },
    #[error("a message of {bytes} bytes is over the server's limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("this bus has no node inbox yet, so nobody could answer")]
    NoInbox,
}

/// Why a durable message is not known to be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The expected last sequence of the subject was wrong. `last` is the real one if the server said it (`None`: another
    /// write to the subject is under way).
    #[error("the subject was written by somebody else (last sequence {last:?})")]
    Conflict { last: Option<u64> },
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// No answer within the deadline. `stored` says what is known: `Some(false)`: surely not stored; `None`: it may have
    /// been stored.
    #[error("NATS did not confirm the message in time: {reason}")]
    Unavailable { stored: Option<bool>, reason: &'static str },
    #[error("too many bytes wait to be sent")]
    Overloaded,
    #[error("NATS refused the message: {description} (code {code})")]
    Refused { code: u32, description: String },
    #[error("{subject:?} is no subject that can be published to")]
    Subject { subject: String },
    #[error("a header has an illegal name or value: {name:?}")]
    Header { name: String },
    #[error("a batch holds between 1 and {limit} messages, not {found}")]
    BatchSize { found: usize, limit: usize },
}

/// Why an ephemeral message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error("too many bytes wait to be sent")]
    Overloaded,
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("{subject:?} is no subject that can be published to")]
    Subject { subject: String },
}

/// Why a request has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// Surely not executed.
    #[error("nobody serves the subject")]
    NoResponders,
    /// It may have been executed.
    #[error("no answer came in time")]
    TimedOut,
    /// It may have been executed.
    #[error("the connection to NATS is broken")]
    Lost,
    #[error("too many bytes wait to be sent")]
    Overloaded,
    #[error("a request of {bytes} bytes is over the limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    #[error("{subject:?} is no subject that can be asked")]
    Subject { subject: String },
}

/// Why stored messages could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Status 413: more than 1024 subjects match, counted before the sequence floor and the batch limit apply. Halve the
    /// range.
    #[error("more than 1024 subjects match")]
    TooMany,
    #[error("NATS did not answer the read in time")]
    Unavailable,
    #[error("NATS refused the read: {description} (status {status})")]
    Refused { status: u16, description: String },
    #[error("NATS answered a read with a message that lacks {0}")]
    Malformed(&'static str),
    /// A wildcard where a literal subject is needed, or no subject at all.
    #[error("{subject:?} is no subject that can be read")]
    Subject { subject: String },
}
