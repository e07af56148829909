//! Any bytes as a polling body: refused, or read to packets that encode and read back the same.
#![no_main]

use bytes::Bytes;
use engineio::payload::{Limits, decode, encode};
use engineio::{Frame, Packet};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(packets) = decode(&Bytes::copy_from_slice(body), Limits::bytes(1 << 20)) else { return };
    assert!(packets.len() <= body.len());
    let frames: Vec<Frame> = packets.iter().map(Packet::encode).collect();
    let again = decode(&encode(&frames), Limits::bytes(usize::MAX)).expect("what was read can be written");
    assert_eq!(again, packets);
});
