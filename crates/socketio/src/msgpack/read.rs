//! msgpack in, JSON text out. Nothing is allocated by what a length claims: elements are read one by one, each at least a byte.

use bytes::Bytes;

use crate::{
    decode::{DecodeError, Limits},
    json::{self, MAX_ATTACHMENTS, MAX_DEPTH},
};

/// Goes through one message.
pub(super) struct Reader<'a> {
    message: &'a Bytes,
    at: usize,
    max_depth: usize,
    max_attachments: usize,
    max_bytes: usize,
}

/// What a value begins with.
enum Head {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text(usize),
    Binary(usize),
    Array(usize),
    Map(usize),
    Undefined,
    /// Milliseconds since the Unix epoch.
    Date(i64),
}

/// JSON as it grows.
#[derive(Default)]
struct Made {
    text: Vec<u8>,
    attachments: Vec<Bytes>,
    attached: usize,
}

impl<'a> Reader<'a> {
    pub fn new(limits: &Limits, message: &'a Bytes) -> Self {
        Self {
            message,
            at: 0,
            max_depth: limits.max_depth.min(MAX_DEPTH),
            max_attachments: limits.max_attachments.min(MAX_ATTACHMENTS),
            max_bytes: limits.max_packet_bytes,
        }
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.message.len()
    }

    pub fn map_head(&mut self) -> Result<usize, DecodeError> {
        match self.head()? {
            Head::Map(count) => Ok(count),
            _ => Err(DecodeError::Msgpack),
        }
    }

    /// A key of the packet's own map.
    pub fn key(&mut self) -> Result<&'a [u8], DecodeError> {
        self.string().map(str::as_bytes)
    }

    pub fn string(&mut self) -> Result<&'a str, DecodeError> {
        match self.head()? {
            Head::Text(length) => self.text(length),
            _ => Err(DecodeError::Msgpack),
        }
    }

    /// An integer above or at zero, or nothing.
    pub fn integer(&mut self) -> Result<Option<u64>, DecodeError> {
        match self.head()? {
            Head::Unsigned(value) => Ok(Some(value)),
            Head::Nil | Head::Undefined => Ok(None),
            _ => Err(DecodeError::Msgpack),
        }
    }

    /// The next value as JSON, and its attachments.
    pub fn json(&mut self) -> Result<(Vec<u8>, Vec<Bytes>), DecodeError> {
        let mut made = Made::default();
        let head = self.head()?;
        self.value(head, 0, &mut made)?;
        Ok((made.text, made.attachments))
    }

    fn value(&mut self, head: Head, depth: usize, made: &mut Made) -> Result<(), DecodeError> {
        match head {
            Head::Nil | Head::Undefined => made.text.extend_from_slice(b"null"),
            Head::Bool(value) => made.text.extend_from_slice(if value { b"true" } else { b"false" }),
            Head::Unsigned(value) => made.text.extend_from_slice(value.to_string().as_bytes()),
            Head::Signed(value) => made.text.extend_from_slice(value.to_string().as_bytes()),
            Head::Float(value) => {
                serde_json::to_writer(&mut made.text, &value).expect("a number or null has a JSON form");
            }
            Head::Text(length) => json::write_string(&mut made.text, self.text(length)?),
            Head::Binary(length) => self.attachment(length, made)?,
            Head::Date(ms) => match iso8601(ms) {
                Some(text) => json::write_string(&mut made.text, &text),
                None => made.text.extend_from_slice(b"null"),
            },
            Head::Array(_) | Head::Map(_) if depth >= self.max_depth => {
                return Err(json::JsonError::TooDeep.into());
            }
            Head::Array(count) => self.array(count, depth, made)?,
            Head::Map(count) => self.map(count, depth, made)?,
        }
        if made.text.len() + made.attached > self.max_bytes {
            return Err(DecodeError::TooLarge);
        }
        Ok(())
    }

    fn array(&mut self, count: usize, depth: usize, made: &mut Made) -> Result<(), DecodeError> {
        made.text.push(b'[');
        for index in 0..count {
            if index > 0 {
                made.text.push(b',');
            }
            let head = self.head()?;
            self.value(head, depth + 1, made)?;
        }
        made.text.push(b']');
        Ok(())
    }

    fn map(&mut self, count: usize, depth: usize, made: &mut Made) -> Result<(), DecodeError> {
        made.text.push(b'{');
        let mut first = true;
        for _ in 0..count {
            let key = self.map_key()?;
            let head = self.head()?;
            if matches!(head, Head::Undefined) {
                continue;
            }
            if !std::mem::take(&mut first) {
                made.text.push(b',');
            }
            json::write_string(&mut made.text, &key);
            made.text.push(b':');
            self.value(head, depth + 1, made)?;
        }
        made.text.push(b'}');
        Ok(())
    }

    /// Numbers are keys in Python.
    fn map_key(&mut self) -> Result<std::borrow::Cow<'a, str>, DecodeError> {
        match self.head()? {
            Head::Text(length) => self.text(length).map(Into::into),
            Head::Unsigned(value) => Ok(value.to_string().into()),
            Head::Signed(value) => Ok(value.to_string().into()),
            _ => Err(DecodeError::Msgpack),
        }
    }

    fn attachment(&mut self, length: usize, made: &mut Made) -> Result<(), DecodeError> {
        if made.attachments.len() >= self.max_attachments {
            return Err(DecodeError::TooManyAttachments);
        }
        let start = self.at;
        self.bytes(length)?;
        made.attached += length;
        let num = made.attachments.len();
        made.text.extend_from_slice(format!("{{\"_placeholder\":true,\"num\":{num}}}").as_bytes());
        made.attachments.push(self.message.slice(start..self.at));
        Ok(())
    }

    fn head(&mut self) -> Result<Head, DecodeError> {
        let first = self.byte()?;
        Ok(match first {
            0x00..=0x7f => Head::Unsigned(first.into()),
            0x80..=0x8f => Head::Map(usize::from(first & 0x0f)),
            0x90..=0x9f => Head::Array(usize::from(first & 0x0f)),
            0xa0..=0xbf => Head::Text(usize::from(first & 0x1f)),
            0xc0 => Head::Nil,
            0xc2 => Head::Bool(false),
            0xc3 => Head::Bool(true),
            0xc4..=0xc6 => Head::Binary(self.length(first - 0xc4)?),
            0xc7..=0xc9 => {
                let length = self.length(first - 0xc7)?;
                self.extension(length, false)?
            }
            0xca => Head::Float(f32::from_be_bytes(self.fixed()?).into()),
            0xcb => Head::Float(f64::from_be_bytes(self.fixed()?)),
            0xcc => Head::Unsigned(self.byte()?.into()),
            0xcd => Head::Unsigned(u16::from_be_bytes(self.fixed()?).into()),
            0xce => Head::Unsigned(u32::from_be_bytes(self.fixed()?).into()),
            0xcf => Head::Unsigned(u64::from_be_bytes(self.fixed()?)),
            0xd0 => signed(i8::from_be_bytes(self.fixed()?).into()),
            0xd1 => signed(i16::from_be_bytes(self.fixed()?).into()),
            0xd2 => signed(i32::from_be_bytes(self.fixed()?).into()),
            0xd3 => signed(i64::from_be_bytes(self.fixed()?)),
            0xd4..=0xd8 => self.extension(1 << (first - 0xd4), true)?,
            0xd9..=0xdb => Head::Text(self.length(first - 0xd9)?),
            0xdc | 0xdd => Head::Array(self.length(first - 0xdc + 1)?),
            0xde | 0xdf => Head::Map(self.length(first - 0xde + 1)?),
            0xe0..=0xff => Head::Signed(i8::from_be_bytes([first]).into()),
            0xc1 => return Err(DecodeError::Msgpack),
        })
    }

    /// notepack's type 0 is `undefined` in one byte, a date in a fixed eight, else an `ArrayBuffer`; type -1 is msgpack's own timestamp.
    fn extension(&mut self, length: usize, fixed: bool) -> Result<Head, DecodeError> {
        let kind = i8::from_be_bytes(self.fixed()?);
        match (kind, length, fixed) {
            (0, 1, true) => self.byte().map(|_| Head::Undefined),
            (0, 8, true) => Ok(Head::Date(i64::from_be_bytes(self.fixed()?))),
            (0, _, false) => Ok(Head::Binary(length)),
            (-1, 4, true) => Ok(Head::Date(i64::from(u32::from_be_bytes(self.fixed()?)) * 1000)),
            (-1, 8, true) => {
                let packed = u64::from_be_bytes(self.fixed()?);
                let (nanos, seconds) = (packed >> 34, packed & ((1 << 34) - 1));
                Ok(Head::Date((seconds * 1000 + nanos / 1_000_000).cast_signed()))
            }
            (-1, 12, false) => {
                let nanos = u32::from_be_bytes(self.fixed()?);
                let seconds = i64::from_be_bytes(self.fixed()?);
                Ok(Head::Date(seconds.saturating_mul(1000).saturating_add((nanos / 1_000_000).into())))
            }
            _ => Err(DecodeError::Msgpack),
        }
    }

    /// A length of 1, 2 or 4 bytes.
    fn length(&mut self, size: u8) -> Result<usize, DecodeError> {
        let length = match size {
            0 => self.byte()?.into(),
            1 => u16::from_be_bytes(self.fixed()?).into(),
            _ => u32::from_be_bytes(self.fixed()?),
        };
        usize::try_from(length).map_err(|_| DecodeError::TooLarge)
    }

    fn text(&mut self, length: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(length)?).map_err(|_| DecodeError::NotUtf8)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.fixed().map(|[byte]| byte)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.bytes(N)?;
        Ok(bytes.try_into().expect("as many bytes as were asked for"))
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let message: &'a [u8] = self.message;
        let end = self.at.checked_add(length).ok_or(DecodeError::Msgpack)?;
        let bytes = message.get(self.at..end).ok_or(DecodeError::Msgpack)?;
        self.at = end;
        Ok(bytes)
    }
}

/// Whatever is not below zero is unsigned, however it was written.
fn signed(value: i64) -> Head {
    u64::try_from(value).map_or(Head::Signed(value), Head::Unsigned)
}

/// `2024-01-31T08:05:09.007Z`; `None` outside the years 0 to 9999.
fn iso8601(ms: i64) -> Option<String> {
    const DAY_MS: i64 = 86_400_000;
    let (days, of_day) = (ms.div_euclid(DAY_MS), ms.rem_euclid(DAY_MS));
    // Howard Hinnant's `civil_from_days`: eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{millis:03}Z"))
}
