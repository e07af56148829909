//! The arguments of an event or an ack: raw JSON array text with its attachments beside it.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};

use crate::json::{self, Json, JsonError, MAX_ATTACHMENTS, MAX_DEPTH};

/// Arguments as they stand on the wire: a JSON array, and one `Bytes` per placeholder `{"_placeholder":true,"num":n}` in it.
/// Every attachment has exactly one placeholder. An event's first element is its name; an ack has no name. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts")]
pub struct Args {
    json: Json,
    attachments: Vec<Bytes>,
}

/// Why arguments were refused.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    #[error(transparent)]
    Json(#[from] JsonError),
    #[error("arguments are no JSON array")]
    NotAnArray,
    #[error("more than {MAX_ATTACHMENTS} attachments")]
    TooManyAttachments,
    #[error("an argument has no JSON form: {0}")]
    Unserializable(#[from] serde_json::Error),
}

impl Args {
    /// From array text and its attachments; checks both.
    pub fn new(json: impl Into<Bytes>, attachments: Vec<Bytes>) -> Result<Self, ArgsError> {
        let text = json.into();
        if attachments.len() > MAX_ATTACHMENTS {
            return Err(ArgsError::TooManyAttachments);
        }
        std::str::from_utf8(&text).map_err(|_| JsonError::NotUtf8)?;
        json::scan(&text, MAX_DEPTH, attachments.len())?;
        let json = Json::checked(text);
        if json.is_array() { Ok(Self { json, attachments }) } else { Err(ArgsError::NotAnArray) }
    }

    /// The decoder has checked that `json` is an array and matches the attachments.
    pub(crate) fn checked(json: Json, attachments: Vec<Bytes>) -> Self {
        Self { json, attachments }
    }

    /// The whole array text, brackets included.
    pub fn json(&self) -> &Json {
        &self.json
    }

    pub fn attachments(&self) -> &[Bytes] {
        &self.attachments
    }

    /// Array text and attachments, by value.
    pub fn into_parts(self) -> (Json, Vec<Bytes>) {
        (self.json, self.attachments)
    }

    /// The name of an event: its first element, a string or (as the reference allows) a number as it is written.
    /// `None` when the first element is something else, or a string that no UTF-8 text can hold.
    pub fn event_name(&self) -> Option<Cow<'_, str>> {
        let (start, end) = self.first_scalar()?;
        let text = &self.json.as_str()[start..end];
        match text.strip_prefix('"') {
            None => Some(Cow::Borrowed(text)),
            Some(_) if text.contains('\\') => serde_json::from_str(text).ok().map(Cow::Owned),
            Some(quoted) => Some(Cow::Borrowed(&quoted[..quoted.len() - 1])),
        }
    }

    /// What follows the event's name: comma-separated elements without brackets, maybe empty. Shares memory.
    pub fn tail(&self) -> Bytes {
        let text = self.json.as_bytes();
        let Some((_, end)) = self.first_scalar() else { return Bytes::new() };
        let comma = json::skip_space(text, end);
        if text[comma] == b',' { self.inside(comma + 1) } else { Bytes::new() }
    }

    /// All elements, comma-separated, without brackets: what an ack's arguments are as another event's tail. Shares memory.
    pub fn body(&self) -> Bytes {
        self.inside(json::skip_space(self.json.as_bytes(), 0) + 1)
    }

    /// Every element as raw JSON, the event's name included.
    pub fn elements(&self) -> Vec<&RawValue> {
        serde_json::from_str(self.json.as_str()).expect("checked to be a JSON array at construction")
    }

    /// The number of elements, the event's name included.
    pub fn len(&self) -> usize {
        self.elements().len()
    }

    pub fn is_empty(&self) -> bool {
        self.body().is_empty()
    }

    /// Whether element `index` (0 is the event's name) is itself a binary attachment.
    pub fn is_binary_at(&self, index: usize) -> bool {
        self.binary_at(index).is_some()
    }

    /// The bytes of element `index` (0 is the event's name), when it is itself a binary attachment.
    pub fn binary_at(&self, index: usize) -> Option<&Bytes> {
        if self.attachments.is_empty() {
            return None;
        }
        let element: Value = serde_json::from_str(self.elements().get(index)?.get()).ok()?;
        self.binary_in(&element)
    }

    /// The bytes that `value`, a part of these arguments, stands for; `None` when it is no placeholder.
    pub fn binary_in(&self, value: &Value) -> Option<&Bytes> {
        if value.get("_placeholder") != Some(&Value::Bool(true)) {
            return None;
        }
        let num = usize::try_from(value.get("num")?.as_u64()?).ok()?;
        self.attachments.get(num)
    }

    /// Array text and attachments together, in bytes.
    pub fn size(&self) -> usize {
        self.json.as_bytes().len() + self.attachments.iter().map(Bytes::len).sum::<usize>()
    }

    /// Where the first element stands, when it is a string or a number.
    fn first_scalar(&self) -> Option<(usize, usize)> {
        let text = self.json.as_bytes();
        let start = json::skip_space(text, json::skip_space(text, 0) + 1);
        match text[start] {
            b'"' => Some((start, json::string_end(text, start))),
            b'-' | b'0'..=b'9' => {
                let ends = |byte: &u8| matches!(byte, b',' | b']') || json::is_space(*byte);
                let length = text[start..].iter().position(ends)?;
                Some((start, start + length))
            }
            _ => None,
        }
    }

    fn inside(&self, start: usize) -> Bytes {
        let text = self.json.as_bytes();
        let end = text.iter().rposition(|byte| *byte == b']').expect("an array ends with a bracket");
        let start = json::skip_space(text, start);
        let space = text[start..end].iter().rev().take_while(|byte| json::is_space(**byte)).count();
        text.slice(start..end - space)
    }
}

/// What [`Args`] are on the wire between nodes; checked again on arrival.
#[derive(Deserialize)]
struct Parts {
    json: String,
    attachments: Vec<Bytes>,
}

impl TryFrom<Parts> for Args {
    type Error = ArgsError;

    fn try_from(parts: Parts) -> Result<Self, ArgsError> {
        Self::new(parts.json, parts.attachments)
    }
}

/// Builds [`Args`] from values and bytes, in order.
#[derive(Debug)]
pub struct ArgsBuilder {
    text: Vec<u8>,
    attachments: Vec<Bytes>,
}

impl ArgsBuilder {
    /// Arguments of the event `name`.
    pub fn event(name: &str) -> Self {
        let mut builder = Self::ack();
        json::write_string(&mut builder.text, name);
        builder
    }

    /// Arguments without a name.
    pub fn ack() -> Self {
        Self { text: vec![b'['], attachments: Vec::new() }
    }

    /// Appends a value; fails only as its `Serialize` fails.
    pub fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), ArgsError> {
        self.comma();
        serde_json::to_writer(&mut self.text, value)?;
        Ok(())
    }

    /// Appends checked JSON as it is.
    pub fn push_json(&mut self, value: &Json) {
        self.comma();
        self.text.extend_from_slice(value.as_bytes());
    }

    /// Appends a binary argument.
    pub fn push_binary(&mut self, bytes: Bytes) {
        let placeholder = self.attach(bytes);
        self.comma();
        self.text.extend_from_slice(placeholder.to_string().as_bytes());
    }

    /// Takes an attachment and gives the placeholder to put into a value that is pushed later, exactly once.
    pub fn attach(&mut self, bytes: Bytes) -> Value {
        self.attachments.push(bytes);
        json!({"_placeholder": true, "num": self.attachments.len() - 1})
    }

    /// Checks that placeholders and attachments match: a pushed value that only looks like a placeholder is refused when
    /// there are attachments, since it would break the receiver.
    pub fn build(mut self) -> Result<Args, ArgsError> {
        self.text.push(b']');
        Args::new(self.text, self.attachments)
    }

    fn comma(&mut self) {
        if self.text.len() > 1 {
            self.text.push(b',');
        }
    }
}
