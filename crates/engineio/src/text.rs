//! Text that is shared instead of copied: UTF-8, checked when made, cut without allocating.

use std::fmt;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};

/// Reference-counted UTF-8. Clones and slices share one buffer.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Text(Bytes);

/// The bytes are not UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the text is not UTF-8")]
pub struct NotUtf8;

impl Text {
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Costs a pass over the text (the price of having no `unsafe` here): on hot paths take [`Text::as_bytes`].
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("UTF-8 was checked when the text was made")
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A part that shares the buffer.
    ///
    /// # Panics
    /// When the range is out of bounds or cuts a character, as slicing a `str` does.
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&at) => at + 1,
            Bound::Excluded(&at) => at,
            Bound::Unbounded => self.len(),
        };
        assert!(
            self.is_boundary(start) && self.is_boundary(end),
            "the range {start}..{end} cuts a character"
        );
        Self(self.0.slice(start..end))
    }

    fn is_boundary(&self, at: usize) -> bool {
        self.0.get(at).is_none_or(|byte| byte & 0xC0 != 0x80)
    }
}

impl TryFrom<Bytes> for Text {
    type Error = NotUtf8;

    fn try_from(bytes: Bytes) -> Result<Self, NotUtf8> {
        std::str::from_utf8(&bytes).map_err(|_| NotUtf8)?;
        Ok(Self(bytes))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl Visitor<'_> for TextVisitor {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Text, E> {
                Ok(text.into())
            }

            fn visit_string<E: serde::de::Error>(self, text: String) -> Result<Text, E> {
                Ok(text.into())
            }

            fn visit_byte_buf<E: serde::de::Error>(self, bytes: Vec<u8>) -> Result<Text, E> {
                Text::try_from(Bytes::from(bytes)).map_err(E::custom)
            }
        }

        deserializer.deserialize_string(TextVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_share_the_buffer_and_keep_to_characters() {
        let text = Text::from("4пойду".to_owned());
        let tail = text.slice(1..);
        assert_eq!(tail, "пойду");
        assert_eq!(tail.as_bytes().as_ptr(), text.as_bytes()[1..].as_ptr());
        assert!(std::panic::catch_unwind(|| text.slice(2..)).is_err());
        assert_eq!(text.slice(11..), "");
    }

    #[test]
    fn refuses_what_is_not_utf8() {
        assert_eq!(Text::try_from(Bytes::from_static(&[0x34, 0xFF])), Err(NotUtf8));
    }

    #[test]
    fn travels_as_a_string() {
        let text = Text::from("a\"ж");
        let json = serde_json::to_string(&text).unwrap();
        assert_eq!(json, "\"a\\\"ж\"");
        assert_eq!(serde_json::from_str::<Text>(&json).unwrap(), text);
    }
}
