//! Session ids: `<node><shard><random><mac>`, all printable, 42 characters.
//!
//! An id names the node that opened the session, so that any node can find its owner without a directory, and carries a
//! short MAC, so that an invented id is refused without a word on the bus. After a session has moved its id is no address
//! any more; the owner it names answers that it does not know it. The MAC covers the application's name too: an id opened
//! at one application is nothing at another's path.

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// Characters of a node id.
pub const NODE_CHARS: usize = 10;
const SHARD_CHARS: usize = 2;
const RANDOM_CHARS: usize = 20;
const MAC_CHARS: usize = 10;
/// Characters of a session id.
pub const SID_CHARS: usize = NODE_CHARS + SHARD_CHARS + RANDOM_CHARS + MAC_CHARS;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// One gateway process, from start to exit: 50 random bits as ten characters of `a-z2-7`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId([u8; NODE_CHARS]);

impl NodeId {
    /// From random bits; 50 of them count.
    pub fn from_random(bits: u64) -> Self {
        Self(encode32(u128::from(bits)))
    }

    /// `None` unless `text` is ten characters of the alphabet.
    pub fn parse(text: &str) -> Option<Self> {
        let chars: [u8; NODE_CHARS] = text.as_bytes().try_into().ok()?;
        chars.iter().all(|c| ALPHABET.contains(c)).then_some(Self(chars))
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("the alphabet is ASCII")
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::fmt::Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for NodeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for NodeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a node id"))
    }
}

/// The cluster's key for session ids; every node holds the same one.
#[derive(Clone)]
pub struct SidKey([u8; 32]);

/// Where a genuine session id leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SidAddress {
    pub node: NodeId,
    pub shard: u8,
}

impl std::fmt::Debug for SidKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SidKey(<redacted>)")
    }
}

impl SidKey {
    pub fn new(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The id of a session of `app`. `random` must be fresh; 100 bits of it count.
    pub fn mint(&self, node: NodeId, shard: u8, app: &str, random: u128) -> String {
        let mut sid = String::with_capacity(SID_CHARS);
        sid.push_str(node.as_str());
        push32::<SHARD_CHARS>(&mut sid, u128::from(shard));
        push32::<RANDOM_CHARS>(&mut sid, random);
        let mac = self.mac(&sid, app);
        push32::<MAC_CHARS>(&mut sid, mac);
        sid
    }

    /// `None` for anything this cluster did not mint for `app`. The comparison takes the same time for every wrong MAC.
    pub fn open(&self, sid: &str, app: &str) -> Option<SidAddress> {
        let address = address_of(sid)?;
        let (body, mac) = sid.split_at(SID_CHARS - MAC_CHARS);
        let expected = encode32::<MAC_CHARS>(self.mac(body, app));
        let difference = expected.iter().zip(mac.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        (difference == 0).then_some(address)
    }

    /// The body has a fixed length, so that what follows it cannot be taken for a part of it.
    fn mac(&self, body: &str, app: &str) -> u128 {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(body.as_bytes());
        mac.update(app.as_bytes());
        let digest = mac.finalize().into_bytes();
        digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u128::from(*byte))
    }
}

/// Where a session id says it leads, unverified: for ids that another node has opened already.
pub fn address_of(sid: &str) -> Option<SidAddress> {
    if sid.len() != SID_CHARS || !sid.bytes().all(|c| ALPHABET.contains(&c)) {
        return None;
    }
    let node = NodeId::parse(&sid[..NODE_CHARS])?;
    let shard = decode32(&sid.as_bytes()[NODE_CHARS..NODE_CHARS + SHARD_CHARS])?;
    Some(SidAddress { node, shard: u8::try_from(shard).ok()? })
}

/// What logs call a session: a part of its id. Whoever holds the whole id may speak for the session.
pub fn log_name(sid: &str) -> &str {
    const START: usize = NODE_CHARS + SHARD_CHARS;
    sid.get(START..START + 8).unwrap_or("?")
}

/// A socket id (Socket.IO's `sid`): 120 random bits as 24 characters. Not an address.
pub fn socket_id(random: u128) -> String {
    let mut id = String::with_capacity(24);
    push32::<24>(&mut id, random);
    id
}

/// A ULID in its canonical 26 characters: 48 bits of Unix milliseconds, 80 random bits. Used for event subjects.
pub fn ulid(unix_ms: u64, random: u128) -> (u128, String) {
    const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let value = u128::from(unix_ms) << 80 | random & ((1 << 80) - 1);
    let text = (0..26).rev().map(|i| char::from(CROCKFORD[(value >> (5 * i) & 31) as usize])).collect();
    (value, text)
}

fn encode32<const N: usize>(mut value: u128) -> [u8; N] {
    let mut chars = [0; N];
    for slot in &mut chars {
        *slot = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    chars
}

fn push32<const N: usize>(out: &mut String, value: u128) {
    out.extend(encode32::<N>(value).map(char::from));
}

fn decode32(chars: &[u8]) -> Option<u128> {
    let digit = |c: &u8| ALPHABET.iter().position(|a| a == c).map(|p| p as u128);
    chars.iter().rev().try_fold(0, |value, c| Some(value << 5 | digit(c)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_leads_to_its_node_and_shard() {
        let key = SidKey::new([7; 32]);
        let node = NodeId::from_random(0x1234_5678_9abc);
        for shard in [0, 1, 31, 32, 255] {
            let sid = key.mint(node, shard, "chat", 99);
            assert_eq!(sid.len(), SID_CHARS);
            assert_eq!(key.open(&sid, "chat"), Some(SidAddress { node, shard }));
            assert_eq!(address_of(&sid), Some(SidAddress { node, shard }));
        }
    }

    #[test]
    fn any_changed_character_is_refused() {
        let key = SidKey::new([7; 32]);
        let sid = key.mint(NodeId::from_random(5), 1, "chat", 77);
        for at in 0..sid.len() {
            let mut forged = sid.clone().into_bytes();
            forged[at] = if forged[at] == b'a' { b'b' } else { b'a' };
            assert_eq!(key.open(std::str::from_utf8(&forged).unwrap(), "chat"), None);
        }
        assert_eq!(SidKey::new([8; 32]).open(&sid, "chat"), None);
        assert_eq!(key.open(&sid, "chat2"), None);
        for odd in ["", "abc", "äöüäöüäöüäöüäöüäöüäöü", &sid[1..]] {
            assert_eq!((key.open(odd, "chat"), address_of(odd)), (None, None));
        }
    }

    #[test]
    fn ulids_sort_by_time() {
        let (_, a) = ulid(1_000, u128::MAX);
        let (_, b) = ulid(1_001, 0);
        assert!(a < b && a.len() == 26);
    }
}
