//! Encoders that splice raw JSON: no payload is parsed. All append to `out`, without the Engine.IO type digit.

use std::io::Write;

use crate::json::{self, Json};

/// Appends an EVENT (BINARY_EVENT when `attachments` is above zero).
///
/// `nsp`: `/` or `/name`. `tail_json`: comma-separated JSON elements without brackets, maybe empty; its placeholders must
/// match `attachments`, which follow as binary messages. `offset`: one more string argument at the end. `name` must not be
/// reserved ([`crate::is_reserved_event`]).
pub fn encode_event_into(
    out: &mut Vec<u8>,
    nsp: &str,
    ack: Option<u64>,
    name: &str,
    tail_json: &[u8],
    attachments: usize,
    offset: Option<&str>,
) {
    out.reserve(nsp.len() + name.len() + tail_json.len() + offset.map_or(0, str::len) + 64);
    head(out, if attachments == 0 { b'2' } else { b'5' }, attachments, nsp, ack);
    out.push(b'[');
    json::write_string(out, name);
    if !tail_json.is_empty() {
        out.push(b',');
        out.extend_from_slice(tail_json);
    }
    if let Some(offset) = offset {
        out.push(b',');
        json::write_string(out, offset);
    }
    out.push(b']');
}

/// Appends an ACK (BINARY_ACK when `attachments` is above zero) for the event that asked with `id`.
/// `body_json`: comma-separated JSON elements without brackets, maybe empty.
pub fn encode_ack_into(out: &mut Vec<u8>, nsp: &str, id: u64, body_json: &[u8], attachments: usize) {
    head(out, if attachments == 0 { b'3' } else { b'6' }, attachments, nsp, Some(id));
    out.push(b'[');
    out.extend_from_slice(body_json);
    out.push(b']');
}

/// `<type>[<attachments>-][<namespace>,][<id>]` (protocol document, "Packet encoding").
pub(crate) fn head(out: &mut Vec<u8>, kind: u8, attachments: usize, nsp: &str, id: Option<u64>) {
    out.push(kind);
    if attachments > 0 {
        write!(out, "{attachments}-").expect("a Vec takes every write");
    }
    if nsp != "/" {
        out.extend_from_slice(nsp.as_bytes());
        out.push(b',');
    }
    if let Some(id) = id {
        write!(out, "{id}").expect("a Vec takes every write");
    }
}

/// What a server's CONNECT says, as JSON.
pub(crate) fn connected(sid: &str, pid: Option<&str>) -> Vec<u8> {
    let mut out = b"{\"sid\":".to_vec();
    json::write_string(&mut out, sid);
    if let Some(pid) = pid {
        out.extend_from_slice(b",\"pid\":");
        json::write_string(&mut out, pid);
    }
    out.push(b'}');
    out
}

/// What a CONNECT_ERROR says, as JSON.
pub(crate) fn refused(message: &str, data: Option<&Json>) -> Vec<u8> {
    let mut out = b"{\"message\":".to_vec();
    json::write_string(&mut out, message);
    if let Some(data) = data {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data.as_bytes());
    }
    out.push(b'}');
    out
}
