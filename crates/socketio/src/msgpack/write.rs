//! JSON text in, msgpack out, without a tree between them. Placeholders become the bytes they stand for.

use crate::json::{self, MAX_DEPTH};

/// Deeper than what any decoder lets in, since dialects put arguments into objects of their own.
const DEPTH: usize = MAX_DEPTH + 28;

/// Appends the value that is the whole of `text`. `None`: it is no JSON; what was appended then is of no use.
pub(super) fn json<A: AsRef<[u8]>>(out: &mut Vec<u8>, text: &[u8], attachments: &[A]) -> Option<()> {
    let mut writer = Writer { text, at: 0, attachments, out };
    writer.value(0)?;
    writer.space();
    (writer.at == text.len()).then_some(())
}

pub(super) fn map_head(out: &mut Vec<u8>, count: usize) {
    let at = out.len();
    out.push(0);
    set_head(out, at, count, MAP);
}

pub(super) fn text(out: &mut Vec<u8>, value: &str) {
    let length = value.len();
    match length {
        0..32 => out.push(0xa0 | length as u8),
        _ => sized(out, length, [0xd9, 0xda, 0xdb]),
    }
    out.extend_from_slice(value.as_bytes());
}

pub(super) fn unsigned(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x80 => out.push(value as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..=0xffff => tagged(out, 0xcd, &(value as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => tagged(out, 0xce, &(value as u32).to_be_bytes()),
        _ => tagged(out, 0xcf, &value.to_be_bytes()),
    }
}

fn negative(out: &mut Vec<u8>, value: i64) {
    match value {
        -0x20..0 => out.push(value as u8),
        -0x80..-0x20 => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000..-0x80 => tagged(out, 0xd1, &(value as i16).to_be_bytes()),
        -0x8000_0000..-0x8000 => tagged(out, 0xd2, &(value as i32).to_be_bytes()),
        _ => tagged(out, 0xd3, &value.to_be_bytes()),
    }
}

fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    sized(out, bytes.len(), [0xc4, 0xc5, 0xc6]);
    out.extend_from_slice(bytes);
}

/// A length in the fewest of 1, 2 or 4 bytes. Larger ones than 4 bytes tell do not get past the limits.
fn sized(out: &mut Vec<u8>, length: usize, tags: [u8; 3]) {
    match length {
        0..=0xff => out.extend_from_slice(&[tags[0], length as u8]),
        0x100..=0xffff => tagged(out, tags[1], &(length as u16).to_be_bytes()),
        _ => tagged(out, tags[2], &(length as u32).to_be_bytes()),
    }
}

fn tagged(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(bytes);
}

/// The first bytes of a container's forms: up to 15 elements, up to 65535, and more.
type Tags = (u8, u8, u8);
const MAP: Tags = (0x80, 0xde, 0xdf);
const ARRAY: Tags = (0x90, 0xdc, 0xdd);

/// Puts a container's head at `at`, where a byte was left for it: JSON does not say beforehand how many elements there are.
fn set_head(out: &mut Vec<u8>, at: usize, count: usize, (small, medium, large): Tags) {
    let mut head = Vec::with_capacity(5);
    match count {
        0..16 => head.push(small | count as u8),
        16..=0xffff => tagged(&mut head, medium, &(count as u16).to_be_bytes()),
        _ => tagged(&mut head, large, &(count as u32).to_be_bytes()),
    }
    out.splice(at..=at, head);
}

struct Writer<'a, A> {
    text: &'a [u8],
    at: usize,
    attachments: &'a [A],
    out: &'a mut Vec<u8>,
}

impl<A: AsRef<[u8]>> Writer<'_, A> {
    fn value(&mut self, depth: usize) -> Option<()> {
        self.space();
        match self.peek()? {
            b'{' | b'[' if depth >= DEPTH => return None,
            b'{' => return self.object(depth),
            b'[' => return self.array(depth),
            b'"' => {
                let value = self.string()?;
                text(self.out, &value);
            }
            b't' => self.literal(b"true", 0xc3)?,
            b'f' => self.literal(b"false", 0xc2)?,
            b'n' => self.literal(b"null", 0xc0)?,
            _ => self.number()?,
        }
        Some(())
    }

    fn array(&mut self, depth: usize) -> Option<()> {
        let head = self.open();
        let mut count = 0;
        while !self.closes(b']', count)? {
            self.value(depth + 1)?;
            count += 1;
        }
        set_head(self.out, head, count, ARRAY);
        Some(())
    }

    fn object(&mut self, depth: usize) -> Option<()> {
        let head = self.open();
        let (mut count, mut marked, mut num) = (0, false, None);
        while !self.closes(b'}', count)? {
            self.space();
            let key = self.string()?;
            text(self.out, &key);
            self.space();
            self.take(b':')?;
            self.space();
            let start = self.at;
            self.value(depth + 1)?;
            match &*key {
                "_placeholder" => marked = &self.text[start..self.at] == b"true",
                "num" => num = std::str::from_utf8(&self.text[start..self.at]).ok()?.parse::<usize>().ok(),
                _ => {}
            }
            count += 1;
        }
        match num.and_then(|num| self.attachments.get(num)) {
            Some(bytes) if marked => {
                self.out.truncate(head);
                binary(self.out, bytes.as_ref());
            }
            _ => set_head(self.out, head, count, MAP),
        }
        Some(())
    }

    /// Past the bracket; a byte is left for the head.
    fn open(&mut self) -> usize {
        self.at += 1;
        self.out.push(0);
        self.out.len() - 1
    }

    /// Whether the container ends here; else the comma before its next element is taken.
    fn closes(&mut self, bracket: u8, count: usize) -> Option<bool> {
        self.space();
        if self.peek()? == bracket {
            self.at += 1;
            return Some(true);
        }
        if count > 0 {
            self.take(b',')?;
        }
        Some(false)
    }

    fn string(&mut self) -> Option<String> {
        self.take(b'"')?;
        let end = json::string_end(self.text, self.at - 1);
        let inside = self.text.get(self.at..end - 1)?;
        if self.text[end - 1] != b'"' {
            return None;
        }
        self.at = end;
        let inside = std::str::from_utf8(inside).ok()?;
        if inside.contains('\\') { unescape(inside) } else { Some(inside.to_owned()) }
    }

    fn number(&mut self) -> Option<()> {
        let rest = &self.text[self.at..];
        let length =
            rest.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E'));
        let length = length.count();
        let digits = std::str::from_utf8(&rest[..length]).ok()?;
        self.at += length;
        match (digits.parse::<u64>(), digits.parse::<i64>()) {
            (Ok(value), _) => unsigned(self.out, value),
            (_, Ok(value)) if value < 0 => negative(self.out, value),
            _ => tagged(self.out, 0xcb, &digits.parse::<f64>().ok()?.to_be_bytes()),
        }
        Some(())
    }

    fn literal(&mut self, word: &[u8], code: u8) -> Option<()> {
        self.text[self.at..].starts_with(word).then(|| {
            self.at += word.len();
            self.out.push(code);
        })
    }

    fn take(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        self.at = json::skip_space(self.text, self.at);
    }
}

/// A surrogate without its other half has no UTF-8 form and becomes U+FFFD, as in a browser's encoder.
fn unescape(inside: &str) -> Option<String> {
    let mut out = String::with_capacity(inside.len());
    let mut rest = inside;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (taken, escaped) = match rest.as_bytes().first()? {
            b'u' => code_point(rest)?,
            b'b' => (1, '\u{8}'),
            b'f' => (1, '\u{c}'),
            b'n' => (1, '\n'),
            b'r' => (1, '\r'),
            b't' => (1, '\t'),
            plain @ (b'"' | b'\\' | b'/') => (1, char::from(*plain)),
            _ => return None,
        };
        out.push(escaped);
        rest = &rest[taken..];
    }
    out.push_str(rest);
    Some(out)
}

/// `u` and four digits, or two such halves of one character.
fn code_point(rest: &str) -> Option<(usize, char)> {
    let unit = |rest: &str| u16::from_str_radix(rest.strip_prefix('u')?.get(..4)?, 16).ok();
    let first = unit(rest)?;
    let second = rest.get(5..).and_then(|rest| unit(rest.strip_prefix('\\')?));
    let mut decoded = char::decode_utf16([first].into_iter().chain(second));
    match decoded.next()? {
        Ok(character) => Some((if character.len_utf16() == 2 { 11 } else { 5 }, character)),
        Err(_) => Some((5, char::REPLACEMENT_CHARACTER)),
    }
}
