//! Raw JSON text: one iterative pass that checks grammar, nesting and binary placeholders, and a string writer. Nothing is
//! built from the text here; the pass allocates only for a key that is written with escapes.

use bytes::Bytes;
use memchr::memchr2;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The deepest nesting of arrays and objects any limit can allow; below the 128 at which `serde_json` refuses a value.
pub const MAX_DEPTH: usize = 100;
/// The most attachments any limit can allow: which ones were seen is kept in one word.
pub const MAX_ATTACHMENTS: usize = 64;

/// Text of one JSON value (RFC 8259, UTF-8), checked when it was made. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Json(Bytes);

/// Why a text is no acceptable JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    #[error("not JSON (at byte {0})")]
    Syntax(usize),
    #[error("not UTF-8")]
    NotUtf8,
    #[error("nested too deep")]
    TooDeep,
    #[error("placeholders do not match the attachments")]
    Placeholders,
}

impl Json {
    /// Checks `text`: grammar, UTF-8, at most [`MAX_DEPTH`] levels.
    pub fn new(text: impl Into<Bytes>) -> Result<Self, JsonError> {
        let text = text.into();
        std::str::from_utf8(&text).map_err(|_| JsonError::NotUtf8)?;
        scan(&text, MAX_DEPTH, 0)?;
        Ok(Self(text))
    }

    /// The JSON of a value; fails only as its `Serialize` fails, or when it is nested too deep.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        let text = serde_json::to_vec(value)?;
        Self::new(text).map_err(serde::ser::Error::custom)
    }

    /// `text` was checked by the caller with [`scan`], UTF-8 included.
    pub(crate) fn checked(text: Bytes) -> Self {
        Self(text)
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("UTF-8 is checked at construction")
    }

    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn is_object(&self) -> bool {
        self.first_byte() == Some(b'{')
    }

    pub fn is_array(&self) -> bool {
        self.first_byte() == Some(b'[')
    }

    /// Reads the text as `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.0)
    }

    fn first_byte(&self) -> Option<u8> {
        self.0.get(skip_space(&self.0, 0)).copied()
    }
}

impl TryFrom<String> for Json {
    type Error = JsonError;

    fn try_from(text: String) -> Result<Self, JsonError> {
        Self::new(text)
    }
}

impl From<Json> for String {
    fn from(json: Json) -> Self {
        json.as_str().to_owned()
    }
}

/// Checks that `text` is one JSON value, nested at most `max_depth`. With `attachments` above zero, every number below it must
/// be named by exactly one placeholder (an object with `"_placeholder":true` and `"num"`), and no other placeholder may exist.
pub(crate) fn scan(text: &[u8], max_depth: usize, attachments: usize) -> Result<(), JsonError> {
    let mut scanner = Scanner {
        text,
        at: 0,
        open: [Container::Array; MAX_DEPTH],
        depth: 0,
        max_depth: max_depth.min(MAX_DEPTH),
        key: Key::Other,
        attachments,
        seen: 0,
    };
    scanner.document()?;
    let all = if attachments >= MAX_ATTACHMENTS { u64::MAX } else { (1 << attachments) - 1 };
    if scanner.seen == all { Ok(()) } else { Err(JsonError::Placeholders) }
}

struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
    open: [Container; MAX_DEPTH],
    depth: usize,
    max_depth: usize,
    /// The key whose value comes next, when that value matters for a placeholder.
    key: Key,
    attachments: usize,
    seen: u64,
}

#[derive(Clone, Copy)]
enum Container {
    Array,
    /// The last `_placeholder` and `num` win, as in `JSON.parse`: a receiver must not see a placeholder that was not seen here.
    Object {
        marked: bool,
        num: Option<u8>,
    },
}

#[derive(Clone, Copy, PartialEq)]
enum Key {
    Other,
    Marker,
    Num,
}

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), JsonError> {
        loop {
            if self.value()? {
                continue;
            }
            if self.close_and_continue()? {
                continue;
            }
            return if self.at == self.text.len() { Ok(()) } else { Err(self.syntax()) };
        }
    }

    /// Takes a scalar, an empty container or the head of a container; true when another value must follow at once.
    fn value(&mut self) -> Result<bool, JsonError> {
        self.space();
        let key = std::mem::replace(&mut self.key, Key::Other);
        let start = self.at;
        match self.peek() {
            Some(b'{') => {
                self.note(key, b"{");
                self.push(Container::Object { marked: false, num: None })?;
                if self.closes(b'}') {
                    return Ok(false);
                }
                self.object_key()?;
                return Ok(true);
            }
            Some(b'[') => {
                self.note(key, b"[");
                self.push(Container::Array)?;
                return Ok(!self.closes(b']'));
            }
            Some(b'"') => self.string()?,
            Some(b't') => self.literal(b"true")?,
            Some(b'f') => self.literal(b"false")?,
            Some(b'n') => self.literal(b"null")?,
            _ => self.number()?,
        }
        let text = self.text;
        self.note(key, &text[start..self.at]);
        Ok(false)
    }

    /// After a value: closes containers up to the next comma; true when a value must follow, false at the end of the document.
    fn close_and_continue(&mut self) -> Result<bool, JsonError> {
        loop {
            self.space();
            let Some(top) = self.depth.checked_sub(1) else { return Ok(false) };
            match (self.open[top], self.peek()) {
                (Container::Array, Some(b',')) => {
                    self.at += 1;
                    return Ok(true);
                }
                (Container::Object { .. }, Some(b',')) => {
                    self.at += 1;
                    self.object_key()?;
                    return Ok(true);
                }
                (Container::Array, Some(b']')) => self.depth = top,
                (Container::Object { marked, num }, Some(b'}')) => {
                    self.depth = top;
                    self.placeholder(marked, num)?;
                }
                _ => return Err(self.syntax()),
            }
            self.at += 1;
        }
    }

    fn push(&mut self, container: Container) -> Result<(), JsonError> {
        if self.depth >= self.max_depth {
            return Err(JsonError::TooDeep);
        }
        self.open[self.depth] = container;
        self.depth += 1;
        self.at += 1;
        Ok(())
    }

    fn closes(&mut self, bracket: u8) -> bool {
        self.space();
        let closed = self.peek() == Some(bracket);
        if closed {
            self.at += 1;
            self.depth -= 1;
        }
        closed
    }

    fn object_key(&mut self) -> Result<(), JsonError> {
        self.space();
        let start = self.at;
        if self.peek() != Some(b'"') {
            return Err(self.syntax());
        }
        self.string()?;
        if self.attachments > 0 {
            self.key = classify_key(&self.text[start..self.at]);
        }
        self.space();
        if self.peek() != Some(b':') {
            return Err(self.syntax());
        }
        self.at += 1;
        Ok(())
    }

    /// Remembers the value of a key that can make its object a placeholder; called before the value's own container is pushed.
    fn note(&mut self, key: Key, value: &[u8]) {
        if key == Key::Other {
            return;
        }
        let Some(Container::Object { marked, num }) =
            self.depth.checked_sub(1).map(|top| &mut self.open[top])
        else {
            return;
        };
        match key {
            Key::Marker => *marked = value == b"true",
            Key::Num => *num = small_number(value),
            Key::Other => {}
        }
    }

    fn placeholder(&mut self, marked: bool, num: Option<u8>) -> Result<(), JsonError> {
        if !marked {
            return Ok(());
        }
        let num = num.filter(|num| usize::from(*num) < self.attachments).ok_or(JsonError::Placeholders)?;
        let bit = 1 << num;
        if self.seen & bit != 0 {
            return Err(JsonError::Placeholders);
        }
        self.seen |= bit;
        Ok(())
    }

    fn string(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        loop {
            let rest = &self.text[self.at..];
            let run = memchr2(b'"', b'\\', rest).ok_or(JsonError::Syntax(self.text.len()))?;
            if rest[..run].iter().any(|byte| *byte < 0x20) {
                return Err(self.syntax());
            }
            self.at += run + 1;
            if rest[run] == b'"' {
                return Ok(());
            }
            self.escape()?;
        }
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let hex = self.text.get(self.at + 1..self.at + 5).ok_or(self.syntax())?;
                if !hex.iter().all(u8::is_ascii_hexdigit) {
                    return Err(self.syntax());
                }
                self.at += 5;
            }
            _ => return Err(self.syntax()),
        }
        Ok(())
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if !self.text[self.at..].starts_with(word) {
            return Err(self.syntax());
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), JsonError> {
        let count = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        if count == 0 { Err(self.syntax()) } else { Ok(()) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        self.at = skip_space(self.text, self.at);
    }

    fn syntax(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }
}

/// `quoted` is a checked JSON string. A key written with escapes is still that key to the receiver's parser.
fn classify_key(quoted: &[u8]) -> Key {
    match quoted {
        b"\"_placeholder\"" => Key::Marker,
        b"\"num\"" => Key::Num,
        _ if quoted.contains(&b'\\') => match serde_json::from_slice::<String>(quoted).as_deref() {
            Ok("_placeholder") => Key::Marker,
            Ok("num") => Key::Num,
            _ => Key::Other,
        },
        _ => Key::Other,
    }
}

/// One or two plain digits; every other spelling of a number is no attachment number.
fn small_number(text: &[u8]) -> Option<u8> {
    match *text {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [tens @ b'1'..=b'9', ones @ b'0'..=b'9'] => Some((tens - b'0') * 10 + (ones - b'0')),
        _ => None,
    }
}

pub(crate) fn skip_space(text: &[u8], at: usize) -> usize {
    at + text[at..].iter().take_while(|byte| is_space(**byte)).count()
}

pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r')
}

/// The end of the JSON string that begins at `start` (after its closing quote). The text was checked.
pub(crate) fn string_end(text: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(run) = text.get(at..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        at += run;
        if text[at] == b'"' {
            return at + 1;
        }
        at += 2;
    }
    text.len()
}

/// Appends `text` as a JSON string.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(run) = rest.iter().position(|byte| *byte < 0x20 || *byte == b'"' || *byte == b'\\') {
        out.extend_from_slice(&rest[..run]);
        write_escape(out, rest[run]);
        rest = &rest[run + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn write_escape(out: &mut Vec<u8>, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        b'\t' => out.extend_from_slice(b"\\t"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}
