//! An event as a dialect reads it: name and raw arguments, typed where a handler asks.

use bytes::Bytes;
use domain::Rejection;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// One event of a client.
#[derive(Clone, Copy, Debug)]
pub struct Inbound<'a> {
    pub name: &'a str,
    /// The arguments after the name.
    pub args: &'a [&'a RawValue],
    /// Binary arguments; `args` hold placeholders for them.
    pub attachments: &'a [Bytes],
    pub wants_ack: bool,
    /// Milliseconds since the Unix epoch.
    pub now_ms: u64,
}

impl Inbound<'_> {
    /// The first argument as an object of this type; unknown keys are ignored.
    pub fn object<T: DeserializeOwned>(&self) -> Result<T, Rejection> {
        let first = self.args.first().map_or("", |raw| raw.get());
        if !first.trim_start().starts_with('{') {
            return Err(Rejection::InvalidPayload { field: "payload", problem: "must be an object" });
        }
        serde_json::from_str(first).map_err(|_| Rejection::InvalidPayload {
            field: "payload",
            problem: "a key is missing or has the wrong type",
        })
    }

    /// All arguments as they came, for passing on.
    pub fn raw_args(&self) -> Vec<u8> {
        let mut tail = Vec::with_capacity(self.args.iter().map(|a| a.get().len() + 1).sum());
        for (i, arg) in self.args.iter().enumerate() {
            if i > 0 {
                tail.push(b',');
            }
            tail.extend_from_slice(arg.get().as_bytes());
        }
        tail
    }

    /// Whether argument `i` is bytes.
    pub fn is_binary(&self, i: usize) -> bool {
        self.args.get(i).is_some_and(|raw| is_placeholder(raw))
    }
}

/// Whether a JSON value stands for an attachment.
pub fn is_placeholder(raw: &RawValue) -> bool {
    #[derive(serde::Deserialize)]
    struct Placeholder {
        #[serde(rename = "_placeholder")]
        is: bool,
        #[allow(dead_code, reason = "its presence is what counts")]
        num: u64,
    }
    raw.get().len() < 64 && serde_json::from_str::<Placeholder>(raw.get()).is_ok_and(|p| p.is)
}
