//! WebSocket frames (RFC 6455, section 5.2). Pure: bytes in, bytes out. No extensions.

use std::ops::Range;

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xA;

/// Larger than any payload a benchmark sends; a length beyond it means that the stream is out of step.
const MAX_PAYLOAD_BYTES: u64 = 64 << 20;

/// Where one frame lies in a buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub mask: Option<[u8; 4]>,
    /// The payload's place, counted from the start of the buffer that was parsed.
    pub payload: Range<usize>,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a WebSocket frame of {0} bytes")]
pub struct Oversized(pub u64);

impl Frame {
    /// The first frame of `buf`, or `None` while it is incomplete.
    pub fn parse(buf: &[u8]) -> Result<Option<Frame>, Oversized> {
        let [first, second, ..] = *buf else { return Ok(None) };
        let (length, mut at) = match second & 0x7f {
            126 => match buf.get(2..4) {
                Some(raw) => (u64::from(u16::from_be_bytes([raw[0], raw[1]])), 4),
                None => return Ok(None),
            },
            127 => match buf.get(2..10).and_then(|raw| raw.try_into().ok()) {
                Some(raw) => (u64::from_be_bytes(raw), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        if length > MAX_PAYLOAD_BYTES {
            return Err(Oversized(length));
        }
        let mut mask = None;
        if second & 0x80 != 0 {
            let Some(key) = buf.get(at..at + 4) else { return Ok(None) };
            mask = Some([key[0], key[1], key[2], key[3]]);
            at += 4;
        }
        let end = at + length as usize;
        if buf.len() < end {
            return Ok(None);
        }
        Ok(Some(Frame { fin: first & 0x80 != 0, opcode: first & 0x0f, mask, payload: at..end }))
    }
}

/// Appends a final, unmasked frame: what a server sends.
pub fn encode_server(out: &mut Vec<u8>, opcode: u8, payload: &[u8]) {
    header(out, opcode, payload.len(), 0);
    out.extend_from_slice(payload);
}

/// Appends a final frame masked with `key`: what a client sends.
pub fn encode_client(out: &mut Vec<u8>, opcode: u8, payload: &[u8], key: [u8; 4]) {
    header(out, opcode, payload.len(), 0x80);
    out.extend_from_slice(&key);
    let start = out.len();
    out.extend_from_slice(payload);
    apply_mask(&mut out[start..], key);
}

/// Masks or unmasks in place.
pub fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    for (index, byte) in payload.iter_mut().enumerate() {
        *byte ^= key[index & 3];
    }
}

fn header(out: &mut Vec<u8>, opcode: u8, length: usize, mask_bit: u8) {
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(mask_bit | length as u8),
        126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_the_round_trip_at_every_length_form() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let mut wire = Vec::new();
            encode_client(&mut wire, TEXT, &payload, [1, 2, 3, 4]);
            let client = Frame::parse(&wire).unwrap().unwrap();
            assert_eq!((client.fin, client.opcode, client.mask), (true, TEXT, Some([1, 2, 3, 4])));
            assert_eq!(client.payload.end, wire.len());
            apply_mask(&mut wire[client.payload.clone()], [1, 2, 3, 4]);
            assert_eq!(wire[client.payload], payload);

            let mut wire = Vec::new();
            encode_server(&mut wire, BINARY, &payload);
            let server = Frame::parse(&wire).unwrap().unwrap();
            assert_eq!((server.opcode, server.mask, &wire[server.payload]), (BINARY, None, &payload[..]));
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_incomplete() {
        let mut wire = Vec::new();
        encode_client(&mut wire, TEXT, &[7; 300], [9; 4]);
        for cut in 0..wire.len() {
            assert_eq!(Frame::parse(&wire[..cut]), Ok(None), "cut at {cut}");
        }
    }

    #[test]
    fn an_absurd_length_is_an_error_before_anything_is_read() {
        let wire = [0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(Frame::parse(&wire), Err(Oversized(1 << 56)));
    }
}
