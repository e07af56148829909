//! The NATS client protocol, without I/O: the parser of what the server sends and the encoders of what we send.
//!
//! The parser never panics, never allocates for a size it has not checked, and hands out slices of the read buffer.
//! Refuses control lines over [`MAX_LINE_BYTES`] and messages over the limit it was given. Reference:
//! docs.nats.io/reference/reference-protocols/nats-protocol.

use bytes::{Bytes, BytesMut};

/// Longest control line accepted. INFO is the longest: it lists the addresses of a whole cluster.
pub const MAX_LINE_BYTES: usize = 64 * 1024;

/// One thing the server said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    Message(Message),
    Ping,
    Pong,
    Ok,
    /// JSON text of INFO.
    Info(Bytes),
    /// Text of `-ERR`, without quotes.
    Error(String),
}

/// MSG or HMSG. `headers` is the whole block, `NATS/1.0` line included, and empty for MSG.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub sid: u64,
    pub subject: Bytes,
    pub reply: Option<Bytes>,
    pub headers: Bytes,
    pub payload: Bytes,
}

/// The server sent something that is not the protocol; the connection is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("a control line is over 64 KiB")]
    LineTooLong,
    #[error("a message of {bytes} bytes is over the limit")]
    MessageTooLarge { bytes: usize },
    #[error("a control line is malformed")]
    MalformedLine,
    #[error("a message does not end where it said")]
    MalformedMessage,
    #[error("an unknown operation")]
    UnknownOperation,
}

/// Cuts a stream of bytes into frames.
#[derive(Debug)]
pub struct Parser {
    max_message_bytes: usize,
    /// Bytes the buffer must hold before another look is worth it.
    needed: usize,
    /// Bytes at the buffer's start that are known to hold no line end.
    scanned: usize,
}

/// Where a message's parts lie in the buffer, counted from its start.
struct Layout {
    sid: u64,
    subject: (usize, usize),
    reply: Option<(usize, usize)>,
    header_bytes: usize,
    total_bytes: usize,
}

impl Parser {
    /// `max_message_bytes` bounds headers and payload together.
    pub fn new(max_message_bytes: usize) -> Self {
        Self { max_message_bytes, needed: 0, scanned: 0 }
    }

    /// Follows the server's limit once INFO told it.
    pub fn set_max_message_bytes(&mut self, max_message_bytes: usize) {
        self.max_message_bytes = max_message_bytes;
    }

    /// Bytes that the buffer should be able to hold for the frame under way; never more than a checked message.
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// Takes the next whole frame off the buffer; `None`: read more.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, WireError> {
        if buffer.len() < self.needed {
            return Ok(None);
        }
        let from = self.scanned.min(buffer.len());
        let Some(end) = memchr::memchr(b'\n', &buffer[from..]).map(|at| from + at) else {
            self.scanned = buffer.len();
            return if buffer.len() > MAX_LINE_BYTES { Err(WireError::LineTooLong) } else { Ok(None) };
        };
        if end > MAX_LINE_BYTES {
            return Err(WireError::LineTooLong);
        }
        let line = buffer[..end].strip_suffix(b"\r").unwrap_or(&buffer[..end]);
        let has_headers = match line.first() {
            Some(b'M') if line.starts_with(b"MSG ") => false,
            Some(b'H') if line.starts_with(b"HMSG ") => true,
            _ => return self.take_line(buffer, end).map(Some),
        };
        let layout = message_layout(line, has_headers)?;
        if layout.total_bytes > self.max_message_bytes {
            return Err(WireError::MessageTooLarge { bytes: layout.total_bytes });
        }
        let body = end + 1;
        let whole = body + layout.total_bytes + 2;
        if buffer.len() < whole {
            self.needed = whole;
            self.scanned = end;
            return Ok(None);
        }
        self.restart();
        if &buffer[whole - 2..whole] != b"\r\n" {
            return Err(WireError::MalformedMessage);
        }
        Ok(Some(Frame::Message(cut_message(buffer.split_to(whole).freeze(), body, &layout))))
    }

    fn take_line(&mut self, buffer: &mut BytesMut, end: usize) -> Result<Frame, WireError> {
        self.restart();
        let line = buffer.split_to(end + 1).freeze();
        let line = line.slice(..line.trim_ascii_end().len());
        let (operation, rest) = match memchr::memchr2(b' ', b'\t', &line) {
            Some(at) => (&line[..at], line.slice(at + 1..)),
            None => (&line[..], Bytes::new()),
        };
        match operation {
            b"PING" => Ok(Frame::Ping),
            b"PONG" => Ok(Frame::Pong),
            b"+OK" => Ok(Frame::Ok),
            b"INFO" => Ok(Frame::Info(rest)),
            b"-ERR" => {
                let text = String::from_utf8_lossy(&rest);
                Ok(Frame::Error(text.trim().trim_matches('\'').to_owned()))
            }
            _ => Err(WireError::UnknownOperation),
        }
    }

    fn restart(&mut self) {
        self.needed = 0;
        self.scanned = 0;
    }
}

/// `MSG <subject> <sid> [reply] <total>` or `HMSG <subject> <sid> [reply] <headers> <total>`.
fn message_layout(line: &[u8], has_headers: bool) -> Result<Layout, WireError> {
    let mut words = [(0, 0); 6];
    let mut count = 0;
    let mut at = 0;
    for word in line.split(|byte| *byte == b' ' || *byte == b'\t') {
        if !word.is_empty() {
            *words.get_mut(count).ok_or(WireError::MalformedLine)? = (at, at + word.len());
            count += 1;
        }
        at += word.len() + 1;
    }
    // Operation, subject, sid and the sizes; one more word is the reply subject.
    let least = if has_headers { 5 } else { 4 };
    if count != least && count != least + 1 {
        return Err(WireError::MalformedLine);
    }
    let reply = (count > least).then(|| words[3]);
    let number = |(from, to): (usize, usize)| decimal(&line[from..to]).ok_or(WireError::MalformedLine);
    let total = usize::try_from(number(words[count - 1])?).map_err(|_| WireError::MalformedLine)?;
    let header_bytes = if has_headers {
        usize::try_from(number(words[count - 2])?).map_err(|_| WireError::MalformedLine)?
    } else {
        0
    };
    if header_bytes > total {
        return Err(WireError::MalformedLine);
    }
    Ok(Layout { sid: number(words[2])?, subject: words[1], reply, header_bytes, total_bytes: total })
}

fn cut_message(whole: Bytes, body: usize, layout: &Layout) -> Message {
    let part = |(from, to): (usize, usize)| whole.slice(from..to);
    let payload = body + layout.header_bytes;
    Message {
        sid: layout.sid,
        subject: part(layout.subject),
        reply: layout.reply.map(part),
        headers: part((body, payload)),
        payload: part((payload, body + layout.total_bytes)),
    }
}

/// A decimal number of at most 18 digits, so that sums of two never overflow.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    digits
        .iter()
        .try_fold(0u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

/// Value of a header in a raw block, without surrounding spaces; names compare without case.
pub fn header_value<'a>(block: &'a [u8], name: &str) -> Option<&'a str> {
    header_lines(block).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Name and value of each header of a raw block; lines that are not UTF-8 are passed over.
pub fn header_lines(block: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    block.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        Some((name, value.trim()))
    })
}

/// Status code and text of the block's first line, `NATS/1.0 503 No Responders`.
pub fn status(block: &[u8]) -> Option<(u16, &str)> {
    let line = block.split(|byte| *byte == b'\n').next()?;
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("NATS/1.0")?.trim();
    let (code, text) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((code.parse().ok()?, text.trim()))
}

/// Appends a SUB line.
pub fn put_sub(out: &mut Vec<u8>, subject: &str, sid: u64) {
    out.extend_from_slice(b"SUB ");
    out.extend_from_slice(subject.as_bytes());
    out.push(b' ');
    put_number(out, sid);
    out.extend_from_slice(b"\r\n");
}

/// Appends an UNSUB line.
pub fn put_unsub(out: &mut Vec<u8>, sid: u64) {
    out.extend_from_slice(b"UNSUB ");
    put_number(out, sid);
    out.extend_from_slice(b"\r\n");
}

/// Appends a PUB. Subject and reply must have passed [`is_publishable`].
pub fn put_pub(out: &mut Vec<u8>, subject: &str, reply: Option<&str>, payload: &[u8]) {
    out.reserve(subject.len() + payload.len() + 32 + reply.map_or(0, str::len));
    out.extend_from_slice(b"PUB ");
    put_address(out, subject, reply);
    put_number(out, payload.len() as u64);
    put_body(out, &[], payload);
}

/// Appends an HPUB. `headers` is a block made by [`encode_headers`].
pub fn put_hpub(out: &mut Vec<u8>, subject: &str, reply: Option<&str>, headers: &[u8], payload: &[u8]) {
    out.reserve(subject.len() + headers.len() + payload.len() + 48 + reply.map_or(0, str::len));
    out.extend_from_slice(b"HPUB ");
    put_address(out, subject, reply);
    put_number(out, headers.len() as u64);
    out.push(b' ');
    put_number(out, (headers.len() + payload.len()) as u64);
    put_body(out, headers, payload);
}

/// A header block of name and value pairs that passed [`is_header`].
pub fn encode_headers<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<u8> {
    let mut block = b"NATS/1.0\r\n".to_vec();
    for (name, value) in pairs {
        block.extend_from_slice(name.as_bytes());
        block.extend_from_slice(b": ");
        block.extend_from_slice(value.as_bytes());
        block.extend_from_slice(b"\r\n");
    }
    block.extend_from_slice(b"\r\n");
    block
}

/// Whether a header can be sent without breaking the block.
pub fn is_header(name: &str, value: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')
        && !value.bytes().any(|byte| byte == b'\r' || byte == b'\n')
}

/// Longest subject that is sent; nats-server closes the connection over 4 KiB.
pub const MAX_SUBJECT_BYTES: usize = 1024;

/// Whether a subject can be published to: tokens without spaces, control characters or wildcards, at most 1 KiB.
pub fn is_publishable(subject: &str) -> bool {
    is_subscribable(subject) && !subject.split('.').any(|token| token == "*" || token == ">")
}

/// Whether a subject can be subscribed to: like [`is_publishable`], with `*` for a token and `>` for the rest.
pub fn is_subscribable(subject: &str) -> bool {
    let mut rest_wildcard = false;
    subject.len() <= MAX_SUBJECT_BYTES
        && subject.split('.').all(|token| {
            let ended = std::mem::replace(&mut rest_wildcard, token == ">");
            !ended && !token.is_empty() && token.bytes().all(|byte| byte > b' ' && byte != 0x7f)
        })
}

fn put_address(out: &mut Vec<u8>, subject: &str, reply: Option<&str>) {
    out.extend_from_slice(subject.as_bytes());
    out.push(b' ');
    if let Some(reply) = reply {
        out.extend_from_slice(reply.as_bytes());
        out.push(b' ');
    }
}

fn put_body(out: &mut Vec<u8>, headers: &[u8], payload: &[u8]) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(headers);
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
mod tests;
