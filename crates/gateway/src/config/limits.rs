//! What one node allows an application: every limit with its meaning and default, and what an application sets for itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// Declares each limit once: its meaning, type and default, for [`Limits`] and [`LimitOverrides`].
macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident: $type:ty = $default:expr,)+) => {
        /// Bounds of one application on one node.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct Limits { $($(#[$doc])* pub $field: $type,)+ }

        impl Default for Limits {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        /// The limits an application sets for itself; `None` leaves the general one.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct LimitOverrides { $(pub $field: Option<$type>,)+ }

        impl Limits {
            /// These limits with an application's own ones in place.
            #[must_use]
            pub fn with(&self, overrides: &LimitOverrides) -> Self {
                Self { $($field: overrides.$field.unwrap_or(self.$field),)+ }
            }
        }

        impl Limits {
            /// Hardly a limit may be 0: it would refuse everything.
            pub(super) fn check(&self, path: &str, errors: &mut Vec<ConfigError>) {
                LimitOverrides { $($field: Some(self.$field),)+ }.check(path, errors);
            }
        }

        impl LimitOverrides {
            pub(super) fn check(&self, path: &str, errors: &mut Vec<ConfigError>) {
                $(if self.$field == Some(0) && !MAY_BE_ZERO.contains(&stringify!($field)) {
                    errors.push(ConfigError::new(format!("{path}.{}", stringify!($field)), "must be at least 1"));
                })+
            }
        }
    };
}

/// Limits that 0 switches off.
const MAY_BE_ZERO: [&str; 1] = ["messages_per_minute"];

limits! {
    /// Largest Engine.IO request body or frame, announced to clients as `maxPayload`.
    max_payload_bytes: usize = 1_000_000,
    /// What waits for one slow client; over it, ephemeral events are dropped first, then the transport is closed.
    outbox_bytes: usize = 1 << 20,
    /// Open sessions of the application on this node; more are refused with 503.
    max_sessions: usize = 100_000,
    /// Rooms of one socket.
    rooms_per_socket: usize = 1024,
    /// Commands of one session that wait for their result; more stop the reading of its transport.
    pending_commands: usize = 256,
    /// Binary attachments of one packet.
    attachments: usize = 64,
    /// From handshake to the first Socket.IO CONNECT.
    connect_timeout_ms: u64 = 45_000,
    /// How often a session is pinged.
    ping_interval_ms: u64 = 25_000,
    /// A session that has not answered a ping by then is closed.
    ping_timeout_ms: u64 = 20_000,
    /// How long a connection without a token that counts may wait for one: a plain WebSocket for its first frame, the grace of `portal`.
    authenticate_timeout_ms: u64 = 10_000,
    /// From the WebSocket's opening to the packet `5`.
    upgrade_timeout_ms: u64 = 10_000,
    /// Characters of a chat message.
    message_chars: usize = 4096,
    /// Attachments of a chat message (their metadata).
    message_attachments: usize = 32,
    /// Bytes of JSON that describe one attachment of a chat message.
    attachment_bytes: usize = 16_384,
    /// Bytes of JSON in a chat message's metadata.
    metadata_bytes: usize = 65_536,
    /// Chat messages of one user in a minute, on all nodes together; 0: any number.
    messages_per_minute: usize = 0,
    /// Participants listed for one room and node thread; further ones are members but not listed.
    participants_listed: usize = 500,
    /// Sockets of one node that lists of clients show.
    clients_listed: usize = 1000,
    /// How long a recoverable event may wait for its acknowledgement before the sender hears `unavailable`.
    publish_timeout_ms: u64 = 5_000,
    /// How long a command may wait for a coordinator's decision before the sender hears `unavailable`.
    command_timeout_ms: u64 = 5_000,
}
