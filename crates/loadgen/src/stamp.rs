//! What every payload carries: room, sender, the sender's sequence number and the scheduled send time, as 32 bytes
//! of text that no server has a reason to escape; padded to the payload size asked for.

use std::sync::LazyLock;
use std::time::Instant;

use memchr::memmem::Finder;

/// The smallest payload, bytes.
pub const STAMP_BYTES: usize = 32;

const MARK: &str = "~L";

static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(MARK));

/// Nanoseconds since this process first asked.
pub fn now_ns() -> u64 {
    ORIGIN.elapsed().as_nanos() as u64
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub room: u16,
    pub sender: u16,
    pub seq: u32,
    /// When the schedule asked for this message, not when it was written: a stall counts against the server.
    pub due_ns: u64,
}

impl Stamp {
    /// The payload: the stamp, padded to `payload_bytes`.
    pub fn payload(self, payload_bytes: usize) -> String {
        let Stamp { room, sender, seq, due_ns } = self;
        let text = format!("{MARK}{room:04x}{sender:04x}{seq:08x}{due_ns:014x}");
        format!("{text:.<payload_bytes$}")
    }

    /// The first stamp in a packet.
    pub fn find(packet: &[u8]) -> Option<Stamp> {
        let start = FINDER.find(packet)? + MARK.len();
        let digits = packet.get(start..start + STAMP_BYTES - MARK.len())?;
        Some(Stamp {
            room: hex(&digits[..4])? as u16,
            sender: hex(&digits[4..8])? as u16,
            seq: hex(&digits[8..16])? as u32,
            due_ns: hex(&digits[16..30])?,
        })
    }
}

fn hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |value, &digit| {
        let nibble = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(nibble))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_inside_any_packet() {
        let stamp = Stamp { room: 0xffff, sender: 7, seq: u32::MAX, due_ns: 123_456_789_012 };
        let payload = stamp.payload(128);
        assert_eq!(payload.len(), 128);
        assert_eq!(stamp.payload(0).len(), STAMP_BYTES);
        let packet = format!(r#"42["event","room","{payload}","0-1"]"#);
        assert_eq!(Stamp::find(packet.as_bytes()), Some(stamp));
        assert_eq!(Stamp::find(br#"42["event","room","~L12"]"#), None);
        assert_eq!(Stamp::find(br#"42["event"]"#), None);
    }
}
