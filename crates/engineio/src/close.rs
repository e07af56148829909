//! The table of close reasons: what a session can end with, how that is named, and what the client may do next.

use serde::{Deserialize, Serialize};

/// Why a session ended. The name is a metrics label and stays stable; [`CloseReason::text`] is for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseReason {
    /// The client sent the close packet.
    ClientClose,
    /// The WebSocket ended, or the client of a held poll went away.
    TransportClosed,
    /// The client answered no ping in time.
    PingTimeout,
    /// The client sent something that is no Engine.IO packet, or none a client may send.
    BadPacket,
    /// The client sent a body or a message larger than `max_payload`.
    PayloadTooLarge,
    /// The client sent a poll while one was open.
    OverlappingPoll,
    /// More than `max_queue_bytes` waited for the client.
    SlowClient,
    /// The layer above could not read a message.
    BadMessage,
    /// The client asked for no namespace within the connect timeout.
    ConnectTimeout,
    /// The application ended the connection.
    ServerDisconnect,
    /// The node drains.
    ServerShutdown,
    /// The client showed no token that counts, or none in time.
    Unauthorized,
    /// The client's token ran out.
    TokenExpired,
    /// The client's token was revoked.
    TokenRevoked,
    /// The same session was resumed elsewhere.
    Superseded,
    /// The node lost its lease and may not serve.
    LeaseLost,
    /// The session's move to another node did not end well.
    MoveFailed,
    /// A fault of this server.
    Internal,
}

struct Row {
    name: &'static str,
    text: &'static str,
    may_reconnect: bool,
    lingers: bool,
    ws_code: u16,
}

const fn row(
    name: &'static str,
    may_reconnect: bool,
    lingers: bool,
    ws_code: u16,
    text: &'static str,
) -> Row {
    Row { name, text, may_reconnect, lingers, ws_code }
}

impl CloseReason {
    /// Every reason, in the order of the table.
    pub const ALL: [Self; 18] = [
        Self::ClientClose,
        Self::TransportClosed,
        Self::PingTimeout,
        Self::BadPacket,
        Self::PayloadTooLarge,
        Self::OverlappingPoll,
        Self::SlowClient,
        Self::BadMessage,
        Self::ConnectTimeout,
        Self::ServerDisconnect,
        Self::ServerShutdown,
        Self::Unauthorized,
        Self::TokenExpired,
        Self::TokenRevoked,
        Self::Superseded,
        Self::LeaseLost,
        Self::MoveFailed,
        Self::Internal,
    ];

    // Columns: name, may reconnect, lingers, WebSocket close code (RFC 6455, 7.4.1), text.
    const fn row(self) -> Row {
        match self {
            Self::ClientClose => row("client_close", true, true, 1000, "the client closed the session"),
            Self::TransportClosed => {
                row("transport_closed", true, false, 1001, "the client's connection ended")
            }
            Self::PingTimeout => {
                row("ping_timeout", true, false, 1001, "the client answered no ping in time")
            }
            Self::BadPacket => row("bad_packet", true, false, 1002, "the client sent an invalid packet"),
            Self::PayloadTooLarge => {
                row("payload_too_large", true, false, 1009, "the client sent too large a payload")
            }
            Self::OverlappingPoll => {
                row("overlapping_poll", true, false, 1002, "the client sent two polls at once")
            }
            Self::SlowClient => row("slow_client", true, false, 1013, "the client read too slowly"),
            Self::BadMessage => row("bad_message", true, true, 1002, "the client sent an invalid message"),
            Self::ConnectTimeout => {
                row("connect_timeout", true, true, 1008, "the client connected to no namespace")
            }
            Self::ServerDisconnect => {
                row("server_disconnect", false, true, 1000, "the application disconnected it")
            }
            Self::ServerShutdown => row("server_shutdown", true, true, 1001, "the node is shutting down"),
            // Of the range for applications: plain WebSocket clients tell it from all others.
            Self::Unauthorized => row("unauthorized", false, true, 4401, "the client is not authenticated"),
            Self::TokenExpired => row("token_expired", true, true, 1008, "the token expired"),
            Self::TokenRevoked => row("token_revoked", false, true, 1008, "the token was revoked"),
            Self::Superseded => row("superseded", false, false, 1000, "the session was resumed elsewhere"),
            Self::LeaseLost => row("lease_lost", true, false, 1001, "the node lost its lease"),
            Self::MoveFailed => {
                row("move_failed", true, false, 1011, "the session could not move to its new node")
            }
            Self::Internal => row("internal", true, false, 1011, "internal error"),
        }
    }

    /// Stable name in snake case, one of a closed set: fit for a metrics label.
    pub const fn name(self) -> &'static str {
        self.row().name
    }

    /// One clause for people.
    pub const fn text(self) -> &'static str {
        self.row().text
    }

    /// Whether a client that ended so is welcome to come back with what it has.
    pub const fn may_reconnect(self) -> bool {
        self.row().may_reconnect
    }

    /// The code of the WebSocket's close frame.
    pub const fn ws_code(self) -> u16 {
        self.row().ws_code
    }

    /// Whether a polling session waits for one more poll, to hand over what is queued and the close packet.
    pub(crate) const fn lingers(self) -> bool {
        self.row().lingers
    }
}

impl std::fmt::Display for CloseReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinct_and_match_serde() {
        let mut names: Vec<_> = CloseReason::ALL.iter().map(|reason| reason.name()).collect();
        for reason in CloseReason::ALL {
            assert_eq!(serde_json::to_string(&reason).unwrap(), format!("\"{}\"", reason.name()));
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), CloseReason::ALL.len());
    }
}
