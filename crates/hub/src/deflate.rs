//! permessage-deflate (RFC 7692) without context takeover: every message is compressed by itself, so that all receivers of a broadcast
//! share the same bytes, and an idle connection keeps no window.

use bytes::{Bytes, BytesMut};
use engineio::Frame;
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::ws_frame_into;

/// What a flushed deflate stream ends with; not sent (section 7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// The bit of a frame's first byte that says that its message is compressed.
const RSV1: u8 = 0x40;

/// Why a compressed message cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    #[error("the message is no deflate stream")]
    Broken,
    #[error("the message is too large")]
    TooLarge,
}

/// Complete WebSocket frames for packets, those compressed that have `over` bytes and become smaller by it.
pub fn ws_bytes<'a>(packets: impl IntoIterator<Item = &'a Frame>, over: usize) -> Bytes {
    let mut out = BytesMut::new();
    for packet in packets {
        let (opcode, payload): (u8, &[u8]) = match packet {
            Frame::Text(text) => (1, text.as_bytes()),
            Frame::Binary(bytes) => (2, bytes),
        };
        let small = if payload.len() >= over { deflate(payload) } else { None };
        match small {
            Some(small) => ws_frame_into(&mut out, RSV1 | opcode, &small),
            None => ws_frame_into(&mut out, opcode, payload),
        }
    }
    out.freeze()
}

/// The message compressed; `None`: it would not be smaller.
fn deflate(payload: &[u8]) -> Option<Vec<u8>> {
    let mut stream = Compress::new(Compression::fast(), false);
    // What becomes no smaller is not worth more room.
    let mut out = Vec::with_capacity(payload.len());
    let status = stream.compress_vec(payload, &mut out, FlushCompress::Sync).ok()?;
    let is_whole = status == Status::Ok && stream.total_in() == payload.len() as u64;
    if !is_whole || !out.ends_with(&TAIL) {
        return None;
    }
    out.truncate(out.len() - TAIL.len());
    Some(out)
}

/// A compressed message as it was, at most `max` bytes.
pub fn inflate(payload: &[u8], max: usize) -> Result<Vec<u8>, InflateError> {
    const STEP: usize = 4096;
    let mut stream = Decompress::new(false);
    let mut out = Vec::with_capacity((payload.len() * 4).clamp(64, max.max(64)));
    for part in [payload, &TAIL] {
        let mut rest = part;
        loop {
            if out.len() == out.capacity() {
                out.reserve(STEP);
            }
            let before = (stream.total_in(), stream.total_out());
            let status = stream
                .decompress_vec(rest, &mut out, FlushDecompress::Sync)
                .map_err(|_| InflateError::Broken)?;
            if out.len() > max {
                return Err(InflateError::TooLarge);
            }
            let taken = usize::try_from(stream.total_in() - before.0).unwrap_or(usize::MAX);
            rest = &rest[taken.min(rest.len())..];
            let is_full = out.len() == out.capacity();
            match status {
                // A final block: what follows it belongs to nothing.
                Status::StreamEnd => return Ok(out),
                _ if rest.is_empty() && !is_full => break,
                _ if taken == 0 && stream.total_out() == before.1 && !is_full => {
                    return Err(InflateError::Broken);
                }
                _ => {}
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use engineio::Text;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_what_is_large_and_becomes_smaller_is_compressed() {
        let long = Frame::Text(Text::from("a".repeat(2000)));
        let bytes = ws_bytes([&long], 1000);
        assert_eq!(bytes[0], 0x80 | 0x40 | 1);
        assert!(bytes.len() < 100);
        assert_eq!(inflate(&bytes[2..], 2000).unwrap(), "a".repeat(2000).as_bytes());
        assert_eq!(inflate(&bytes[2..], 1999), Err(InflateError::TooLarge));
        assert_eq!(ws_bytes([&long], 2001)[0], 0x81);
        let short = Frame::Binary(Bytes::from_static(b"\x01\x02\x03"));
        assert_eq!(ws_bytes([&short], 0), &b"\x82\x03\x01\x02\x03"[..]);
    }

    /// The examples of RFC 7692, 7.2.3.
    #[test]
    fn the_examples_of_the_specification() {
        let hello: [&[u8]; 4] = [
            b"\xf2\x48\xcd\xc9\xc9\x07\x00",
            b"\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00",
            b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00",
            b"\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00",
        ];
        for message in hello {
            assert_eq!(inflate(message, 10).unwrap(), b"Hello", "{message:02x?}");
        }
        assert_eq!(inflate(b"\x00", 10).unwrap(), b"");
        assert_eq!(inflate(b"\xff\xff\xff", 10), Err(InflateError::Broken));
    }

    proptest! {
        #[test]
        fn what_was_deflated_is_inflated(payload in prop::collection::vec(0u8..4, 0..20_000)) {
            if let Some(small) = deflate(&payload) {
                prop_assert!(small.len() < payload.len());
                prop_assert_eq!(inflate(&small, payload.len()).unwrap(), payload);
            }
        }

        #[test]
        fn anything_is_read_or_refused(payload in prop::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(out) = inflate(&payload, 10_000) {
                prop_assert!(out.len() <= 10_000);
            }
        }
    }
}
