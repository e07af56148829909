//! Compressed messages of clients (RFC 7692) on their way to tungstenite, which knows of no extensions: they are collected, inflated and
//! passed on as if the client had sent them plain and in one frame. All else passes as it came, wrong frames too: tungstenite judges.

use bytes::{Buf, BytesMut};
use hub::deflate::{InflateError, inflate};

const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV: u8 = 0x70;
const MASKED: u8 = 0x80;

/// The longest frame header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;

/// One connection's frames.
#[derive(Debug)]
pub struct Inflating {
    /// Largest message, compressed and not.
    max: usize,
    state: State,
    /// A compressed message that is not whole.
    message: Option<Message>,
    /// For tungstenite.
    out: BytesMut,
}

#[derive(Debug)]
enum State {
    Header {
        bytes: [u8; MAX_HEADER],
        len: usize,
    },
    /// The payload of a frame that is none of ours.
    Pass {
        left: u64,
    },
    /// The payload of a frame of a compressed message.
    Collect {
        left: u64,
        mask: [u8; 4],
        at: usize,
        is_last: bool,
    },
}

#[derive(Debug)]
struct Message {
    opcode: u8,
    payload: Vec<u8>,
}

/// A whole header, read.
struct Header {
    first: u8,
    length: u64,
    /// `None`: not masked.
    mask: Option<[u8; 4]>,
}

impl Inflating {
    pub fn new(max: usize) -> Self {
        Self { max, state: State::START, message: None, out: BytesMut::new() }
    }

    /// Bytes as the client sent them.
    pub fn feed(&mut self, mut input: &[u8]) {
        while !input.is_empty() {
            match &mut self.state {
                State::Header { bytes, len } => {
                    bytes[*len] = input[0];
                    *len += 1;
                    input.advance(1);
                    let (bytes, len) = (*bytes, *len);
                    if let Some(header) = Header::read(&bytes[..len]) {
                        self.begin(&header, &bytes[..len]);
                    }
                }
                State::Pass { left } => {
                    let count = portion(*left, input);
                    self.out.extend_from_slice(&input[..count]);
                    input.advance(count);
                    *left -= count as u64;
                    if *left == 0 {
                        self.state = State::START;
                    }
                }
                State::Collect { left, mask, at, is_last } => {
                    let count = portion(*left, input);
                    let message = self.message.as_mut().expect("a frame is collected for its message");
                    let clear = input[..count].iter().zip(*at..).map(|(byte, at)| byte ^ mask[at % 4]);
                    message.payload.extend(clear);
                    input.advance(count);
                    *left -= count as u64;
                    *at += count;
                    if *left == 0 {
                        let is_last = *is_last;
                        self.end_frame(is_last);
                    }
                }
            }
        }
    }

    /// What tungstenite is to read, taken from its front.
    pub fn ready(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    fn begin(&mut self, header: &Header, raw: &[u8]) {
        let opcode = header.first & 0x0f;
        let is_control = opcode >= 8;
        let starts = matches!(opcode, 1 | 2) && header.first & RSV == RSV1;
        let goes_on = opcode == 0 && header.first & RSV == 0 && self.message.is_some();
        let Some(mask) = header.mask.filter(|_| !is_control && (starts || goes_on || self.message.is_some()))
        else {
            self.out.extend_from_slice(raw);
            return self.state = State::after(header.length);
        };
        let collected = self.message.as_ref().map_or(0, |message| message.payload.len() as u64);
        if starts == self.message.is_some() || !(starts || goes_on) {
            // A new message within a compressed one, of which tungstenite knows nothing.
            self.fail(InflateError::Broken, opcode);
        } else if collected.saturating_add(header.length) > self.max as u64 {
            self.fail(InflateError::TooLarge, opcode);
        } else {
            if starts {
                self.message = Some(Message { opcode, payload: Vec::new() });
            }
            let is_last = header.first & FIN != 0;
            self.state = State::Collect { left: header.length, mask, at: 0, is_last };
            if header.length == 0 {
                self.end_frame(is_last);
            }
        }
    }

    fn end_frame(&mut self, is_last: bool) {
        self.state = State::START;
        if !is_last {
            return;
        }
        let Some(message) = self.message.take() else { return };
        match inflate(&message.payload, self.max) {
            Ok(payload) => {
                self.header(FIN | message.opcode, payload.len() as u64);
                self.out.extend_from_slice(&payload);
            }
            Err(error) => self.fail(error, message.opcode),
        }
    }

    /// The header of a client's frame whose mask changes nothing.
    fn header(&mut self, first: u8, length: u64) {
        self.out.extend_from_slice(&[first, MASKED | 127]);
        self.out.extend_from_slice(&length.to_be_bytes());
        self.out.extend_from_slice(&[0; 4]);
    }

    /// Lets tungstenite refuse the connection with the right code: a frame that is too large, or one with bits that nobody agreed on.
    fn fail(&mut self, error: InflateError, opcode: u8) {
        self.message = None;
        match error {
            InflateError::TooLarge => self.header(FIN | opcode.max(1), self.max as u64 + 1),
            InflateError::Broken => self.header(FIN | RSV | opcode.max(1), 0),
        }
        // Nothing after it is read.
        self.state = State::Pass { left: u64::MAX };
    }
}

impl State {
    const START: Self = Self::Header { bytes: [0; MAX_HEADER], len: 0 };

    fn after(length: u64) -> Self {
        if length == 0 { Self::START } else { Self::Pass { left: length } }
    }
}

impl Header {
    /// `None`: not whole yet.
    fn read(bytes: &[u8]) -> Option<Self> {
        let (&[first, second], rest) = bytes.split_first_chunk()?;
        let (length, rest) = match second & !MASKED {
            126 => rest.split_first_chunk().map(|(it, rest)| (u64::from(u16::from_be_bytes(*it)), rest))?,
            127 => rest.split_first_chunk().map(|(it, rest)| (u64::from_be_bytes(*it), rest))?,
            short => (u64::from(short), rest),
        };
        let mask = match second & MASKED {
            0 => None,
            _ => Some(*rest.first_chunk()?),
        };
        Some(Self { first, length, mask })
    }
}

fn portion(left: u64, input: &[u8]) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(input.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A masked frame of a client.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut out = vec![first];
        match payload.len() {
            short @ 0..126 => out.push(MASKED | short as u8),
            long => {
                out.push(MASKED | 126);
                out.extend_from_slice(&(long as u16).to_be_bytes());
            }
        }
        out.extend_from_slice(&mask);
        out.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        out
    }

    fn passed(max: usize, frames: &[Vec<u8>]) -> Vec<u8> {
        let mut inflating = Inflating::new(max);
        // Byte by byte: nothing depends on where the network cuts.
        for byte in frames.concat() {
            inflating.feed(&[byte]);
        }
        inflating.ready().to_vec()
    }

    fn plain(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first, MASKED | 127];
        out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(payload);
        out
    }

    const HELLO: &[u8] = b"\xf2\x48\xcd\xc9\xc9\x07\x00";

    #[test]
    fn compressed_messages_come_out_plain_and_whole() {
        assert_eq!(passed(10, &[frame(0xc1, HELLO)]), plain(0x81, b"Hello"));
        let ping = frame(0x89, b"x");
        let parts = [frame(0x42, &HELLO[..3]), ping.clone(), frame(0x00, &HELLO[3..]), frame(0x80, b"")];
        assert_eq!(passed(10, &parts), [ping, plain(0x82, b"Hello")].concat());
    }

    #[test]
    fn all_else_passes_as_it_came() {
        let frames = [
            frame(0x81, &[7; 200]),
            frame(0x01, b"a"),
            frame(0x80, b""),
            frame(0xc9, b"x"),
            frame(0xc0, b"x"),
        ];
        assert_eq!(passed(300, &frames), frames.concat());
        assert_eq!(passed(300, &[vec![0xc1, 1, 0]]), [0xc1, 1, 0]);
    }

    #[test]
    fn what_cannot_be_read_ends_in_a_frame_that_is_refused() {
        let too_large = |out: &[u8]| out[0] & RSV == 0 && out[2..10] == 5_u64.to_be_bytes();
        assert!(too_large(&passed(4, &[frame(0xc1, b"\x4a\x44\x04\x00")])), "inflated");
        assert!(too_large(&passed(4, &[frame(0xc1, HELLO)])), "compressed");
        let broken = |out: &[u8]| out[0] & RSV == RSV;
        assert!(broken(&passed(10, &[frame(0xc1, b"\xff\xff\xff")])));
        assert!(broken(&passed(10, &[frame(0x41, b""), frame(0x81, b"new")])));
        assert!(broken(&passed(10, &[frame(0x41, b""), frame(0xc1, b"new")])));
    }

    proptest! {
        /// However much comes, not more than a message and what passes is held.
        #[test]
        fn anything_is_taken(input in prop::collection::vec(any::<u8>(), 0..2000)) {
            let mut inflating = Inflating::new(100);
            inflating.feed(&input);
            prop_assert!(inflating.ready().len() <= input.len() + 200 * 16);
        }
    }
}
