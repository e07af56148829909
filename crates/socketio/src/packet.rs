//! A decoded packet, and its encoding. Both directions: a server's CONNECT and a client's differ only in what the payload says.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{args::Args, encode, json::Json, namespace::Namespace};

/// One Socket.IO packet with all its attachments (protocol document, "Exchange protocol").
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Packet {
    /// `data` is a JSON object: from a client its auth payload, from a server `{"sid":…}`.
    Connect {
        nsp: Namespace,
        data: Option<Json>,
    },
    Disconnect {
        nsp: Namespace,
    },
    Event {
        nsp: Namespace,
        ack: Option<u64>,
        args: Args,
    },
    Ack {
        nsp: Namespace,
        id: u64,
        args: Args,
    },
    ConnectError {
        nsp: Namespace,
        message: String,
        data: Option<Json>,
    },
}

impl Packet {
    pub fn namespace(&self) -> &Namespace {
        match self {
            Self::Connect { nsp, .. }
            | Self::Disconnect { nsp }
            | Self::Event { nsp, .. }
            | Self::Ack { nsp, .. }
            | Self::ConnectError { nsp, .. } => nsp,
        }
    }

    /// The attachments that follow the text as binary messages, in order.
    pub fn attachments(&self) -> &[Bytes] {
        match self {
            Self::Event { args, .. } | Self::Ack { args, .. } => args.attachments(),
            Self::Connect { .. } | Self::Disconnect { .. } | Self::ConnectError { .. } => &[],
        }
    }

    /// Appends the packet's text, without an Engine.IO digit. The caller sends [`Self::attachments`] after it.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        match self {
            Self::Connect { nsp, data } => {
                encode::head(out, b'0', 0, nsp.as_str(), None);
                out.extend_from_slice(data.as_ref().map_or(b"", |json| json.as_bytes()));
            }
            Self::Disconnect { nsp } => encode::head(out, b'1', 0, nsp.as_str(), None),
            Self::Event { nsp, ack, args } => {
                let kind = if args.attachments().is_empty() { b'2' } else { b'5' };
                encode::head(out, kind, args.attachments().len(), nsp.as_str(), *ack);
                out.extend_from_slice(args.json().as_bytes());
            }
            Self::Ack { nsp, id, args } => {
                let kind = if args.attachments().is_empty() { b'3' } else { b'6' };
                encode::head(out, kind, args.attachments().len(), nsp.as_str(), Some(*id));
                out.extend_from_slice(args.json().as_bytes());
            }
            Self::ConnectError { nsp, message, data } => {
                encode::head(out, b'4', 0, nsp.as_str(), None);
                out.extend_from_slice(&encode::refused(message, data.as_ref()));
            }
        }
    }
}

/// Whether stock clients and servers refuse `name` as an event (the reference parser's list). A client that receives such an
/// event closes its connection, so never send one. `error` and `ping` are ordinary names.
pub fn is_reserved_event(name: &str) -> bool {
    const RESERVED: [&str; 6] =
        ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    RESERVED.contains(&name)
}
