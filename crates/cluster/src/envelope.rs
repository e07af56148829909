//! The envelope: one event on its way to rooms, as nodes exchange it over NATS.
//!
//! Version byte, then a msgpack map with one-letter keys: unknown keys are skipped and absent ones default, so that
//! gateways of neighbouring versions understand each other. The arguments stay the raw JSON the sender produced; a
//! receiving node splices them into frames without parsing them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::trace::{self, TraceParent};

/// First byte of an encoded envelope. A change that an older node would misread takes a new number.
pub const VERSION: u8 = 1;

/// Most rooms one emission may name. One atomic batch entry each; larger audiences are rooms of their own.
pub const MAX_ROOMS: usize = 64;

/// Most sockets one emission may leave out by id.
pub const MAX_EXCEPT: usize = 256;

/// An event addressed to one or more rooms.
///
/// A multi-room emission is published as one copy per room; every copy lists all rooms in the same order, and a
/// socket takes the copy of the first listed room it is in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// Unique per emission (a ULID's 128 bits): the same in all copies.
    #[serde(rename = "i", with = "id_bytes")]
    pub id: u128,
    /// Full room ids; the subject may hold only a hash.
    #[serde(rename = "r", borrow)]
    pub rooms: Vec<&'a str>,
    /// Which of `rooms` this copy was published to.
    #[serde(rename = "a", default)]
    pub at: u16,
    /// Namespace of the receiving sockets.
    #[serde(rename = "n")]
    pub namespace: &'a str,
    /// Event name.
    #[serde(rename = "e")]
    pub event: &'a str,
    /// The arguments after the name: JSON values joined by commas, without brackets. May be empty.
    #[serde(rename = "t", serialize_with = "byte_string::one")]
    pub tail: &'a [u8],
    /// Binary attachments in placeholder order.
    #[serde(
        rename = "b",
        default,
        borrow,
        serialize_with = "byte_string::list",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub attachments: Vec<&'a [u8]>,
    /// Socket ids that are to be left out.
    #[serde(rename = "x", default, borrow, skip_serializing_if = "Vec::is_empty")]
    pub except: Vec<&'a str>,
    /// The call whose room this is, as it is now (`domain::call::View`, encoded by `coordination`): for the node itself. With an
    /// empty event name nothing goes to clients.
    #[serde(
        rename = "c",
        default,
        borrow,
        serialize_with = "byte_string::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub view: Option<&'a [u8]>,
    /// Set where the sender of a stored message waits to hear that somebody has it: for the node of who receives it.
    #[serde(rename = "m", default, borrow, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt<'a>>,
    /// The trace it belongs to, if anybody keeps that.
    #[serde(
        rename = "w",
        default,
        deserialize_with = "trace::lenient",
        skip_serializing_if = "Option::is_none"
    )]
    pub trace: Option<TraceParent>,
}

/// Which message this is, and what its sender is told once it was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt<'a> {
    /// The conversation it is stored in, and its position there.
    #[serde(rename = "r")]
    pub room: &'a str,
    #[serde(rename = "n")]
    pub n: u64,
    #[serde(rename = "s")]
    pub sender: &'a str,
    /// The one whose having it counts; `None`: anybody but the sender.
    #[serde(rename = "f", default)]
    pub recipient: Option<&'a str>,
    /// The room where it is told, and the event.
    #[serde(rename = "o")]
    pub to: &'a str,
    #[serde(rename = "e")]
    pub event: &'a str,
    #[serde(rename = "t", serialize_with = "byte_string::one")]
    pub tail: &'a [u8],
}

/// Why bytes are no envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    #[error("empty envelope")]
    Empty,
    #[error("envelope version {0} is newer than this node's {VERSION}")]
    Version(u8),
    #[error("malformed envelope: {0}")]
    Malformed(#[from] rmp_serde::decode::Error),
    #[error("envelope for room index {at} of {rooms}")]
    Index { at: u16, rooms: usize },
}

impl<'a> Envelope<'a> {
    /// Version byte and msgpack map.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(
            96 + self.tail.len() + self.attachments.iter().map(|a| a.len() + 5).sum::<usize>(),
        );
        out.push(VERSION);
        let mut serializer = rmp_serde::Serializer::new(&mut out).with_struct_map();
        self.serialize(&mut serializer).expect("strings and bytes always encode into memory");
        out.into()
    }

    /// Borrows from `bytes`. Never panics.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (version, body) = bytes.split_first().ok_or(EnvelopeError::Empty)?;
        if *version != VERSION {
            return Err(EnvelopeError::Version(*version));
        }
        let envelope: Self = rmp_serde::from_slice(body)?;
        if usize::from(envelope.at) >= envelope.rooms.len() {
            return Err(EnvelopeError::Index { at: envelope.at, rooms: envelope.rooms.len() });
        }
        Ok(envelope)
    }

    /// The room this copy is for.
    pub fn room(&self) -> &'a str {
        self.rooms[usize::from(self.at)]
    }
}

/// Slices as byte strings, empty ones too: by itself the encoder takes an empty slice for an empty list.
mod byte_string {
    use serde::{Serialize, Serializer};

    pub fn one<S: Serializer>(slice: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(slice)
    }

    pub fn optional<S: Serializer>(slice: &Option<&[u8]>, serializer: S) -> Result<S::Ok, S::Error> {
        slice.map(Slice).serialize(serializer)
    }

    pub fn list<S: Serializer>(slices: &[&[u8]], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(slices.iter().map(|slice| Slice(slice)))
    }

    struct Slice<'a>(&'a [u8]);

    impl Serialize for Slice<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self.0)
        }
    }
}

mod id_bytes {
    use serde::{Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(id: &u128, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&id.to_be_bytes())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
        let bytes: &[u8] = serde::Deserialize::deserialize(deserializer)?;
        Ok(u128::from_be_bytes(bytes.try_into().map_err(|_| D::Error::custom("an id has 16 bytes"))?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample<'a>() -> Envelope<'a> {
        Envelope {
            id: 7,
            rooms: vec!["chat:1:2", "notifications:2"],
            at: 1,
            namespace: "/",
            event: "message:new",
            tail: br#"{"id":"a"}"#,
            attachments: vec![b"\x00\xff"],
            except: vec!["s1"],
            view: Some(b"v"),
            receipt: Some(Receipt {
                room: "chat:1:2",
                n: 7,
                sender: "1",
                recipient: Some("2"),
                to: "notifications:1",
                event: "message:status",
                tail: b"",
            }),
            trace: Some(TraceParent { trace: 5, span: 6 }),
        }
    }

    #[test]
    fn comes_back_as_it_went() {
        let bytes = sample().encode();
        assert_eq!(Envelope::decode(&bytes).unwrap(), sample());
        assert_eq!(Envelope::decode(&bytes).unwrap().room(), "notifications:2");
    }

    #[test]
    fn nothing_is_something_too() {
        let empty = Envelope { tail: b"", attachments: vec![b""], view: Some(b""), event: "", ..sample() };
        assert_eq!(Envelope::decode(&empty.encode()).unwrap(), empty);
    }

    #[test]
    fn an_older_node_skips_keys_it_does_not_know() {
        #[derive(Serialize)]
        struct Newer<'a> {
            i: serde_bytes_like::B<'a>,
            r: Vec<&'a str>,
            n: &'a str,
            e: &'a str,
            t: serde_bytes_like::B<'a>,
            zz: u32,
        }
        mod serde_bytes_like {
            pub struct B<'a>(pub &'a [u8]);
            impl serde::Serialize for B<'_> {
                fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                    s.serialize_bytes(self.0)
                }
            }
        }
        let id = 9u128.to_be_bytes();
        let newer = Newer {
            i: serde_bytes_like::B(&id),
            r: vec!["a"],
            n: "/",
            e: "x",
            t: serde_bytes_like::B(b""),
            zz: 4,
        };
        let mut bytes = vec![VERSION];
        bytes.extend(rmp_serde::to_vec_named(&newer).unwrap());
        let decoded = Envelope::decode(&bytes).unwrap();
        assert_eq!((decoded.id, decoded.at, decoded.except.len()), (9, 0, 0));
        assert_eq!((decoded.trace, decoded.receipt), (None, None));
    }

    #[test]
    fn a_trace_that_cannot_be_read_loses_no_event() {
        let sent = sample().encode();
        let at = sent.windows(3).position(|window| window == b"00-").unwrap();
        let mut garbled = sent.to_vec();
        garbled[at] = b'x';
        assert_eq!(Envelope::decode(&garbled).unwrap(), Envelope { trace: None, ..sample() });
    }

    #[test]
    fn perturbed_bytes_never_panic() {
        let good = sample().encode();
        for cut in 0..good.len() {
            let _ = Envelope::decode(&good[..cut]);
            for bit in 0..8 {
                let mut bad = good.to_vec();
                bad[cut] ^= 1 << bit;
                let _ = Envelope::decode(&bad);
            }
        }
    }
}
