//! Which trace a message belongs to, as W3C Trace Context writes it (`traceparent`): only traces that are kept travel, so an absent one
//! costs nothing and means nothing.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The header between processes, and to back ends.
pub const HEADER: &str = "traceparent";

/// The sampled bit of the flags.
const SAMPLED: u8 = 1;

/// A trace, and the span that caused what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// Not 0.
    pub trace: u128,
    /// Not 0.
    pub span: u64,
}

/// A text that names no trace, or one that nobody keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no sampled traceparent")]
pub struct NotTraced;

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{SAMPLED:02x}", self.trace, self.span)
    }
}

impl FromStr for TraceParent {
    type Err = NotTraced;

    /// A later version may have more fields behind the flags.
    fn from_str(text: &str) -> Result<Self, NotTraced> {
        let mut fields = text.split('-');
        let mut field = |digits: usize| {
            let field = fields.next().filter(|field| field.len() == digits)?;
            let is_hex = field.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            u128::from_str_radix(field, 16).ok().filter(|_| is_hex)
        };
        let mut read = || Some((field(2)?, field(32)?, u64::try_from(field(16)?).ok()?, field(2)?));
        let (version, trace, span, flags) = read().ok_or(NotTraced)?;
        let is_kept = version != 0xff && flags & u128::from(SAMPLED) != 0;
        if is_kept && trace != 0 && span != 0 { Ok(Self { trace, span }) } else { Err(NotTraced) }
    }
}

impl Serialize for TraceParent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What cannot be read is no trace: no event is lost for it.
pub fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TraceParent>, D::Error> {
    let text: Option<Cow<'de, str>> = Option::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn is_written_and_read_as_w3c_says() {
        let parent: TraceParent = TEXT.parse().unwrap();
        assert_eq!(
            parent,
            TraceParent { trace: 0x0af7651916cd43dd8448eb211c80319c, span: 0xb7ad6b7169203331 }
        );
        assert_eq!(parent.to_string(), TEXT);
        assert_eq!(format!("{}-later", TEXT.replacen("00", "01", 1)).parse(), Ok(parent));
        let small = TraceParent { trace: 1, span: 2 };
        assert_eq!(small.to_string().parse(), Ok(small));
    }

    #[test]
    fn nothing_else_is_a_trace() {
        let zero_trace = TEXT.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32));
        let zero_span = TEXT.replace("b7ad6b7169203331", &"0".repeat(16));
        let (unsampled, newest) = (TEXT.replace("-01", "-00"), TEXT.replacen("00", "ff", 1));
        let (upper, signed) = (TEXT.replace('a', "A"), TEXT.replacen("-0a", "-+a", 1));
        for bad in ["", "00", "é", &zero_trace, &zero_span, &unsampled, &newest, &upper, &signed, &TEXT[..54]]
        {
            assert_eq!(bad.parse::<TraceParent>(), Err(NotTraced), "{bad}");
        }
    }
}
