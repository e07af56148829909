//! Reads of stored messages: indexed batches (`multi_last`), scans (`next_by_subj`), single messages.
//!
//! Direct gets are answered by any replica, which may lag behind an ack: a caller that must see a message asks for it
//! and repeats. Reference: nats-architecture-and-design ADR-31.

use std::time::{Duration, Instant};

use async_nats::{HeaderMap, Message};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bus::Bus;
use crate::error::{BusError, ReadError};
use crate::time::parse_rfc3339_ms;
use crate::types::{ReadOptions, Stored};
use crate::wire;

/// Subjects that one `multi_last` may match; the server's limit.
pub(crate) const MAX_MATCHES: usize = 1024;
const NO_MESSAGE_FOUND: u32 = 10037;
/// Pause before a read is repeated that no replica answered.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// One answer of a batch read.
#[derive(Debug, Default)]
struct Page {
    messages: Vec<Stored>,
    /// Messages that match and were not sent.
    pending: u64,
}

impl Bus {
    /// The last message of each matching subject, ordered by sequence. Literal subjects and wildcards; at most 1024 matching
    /// subjects, or [`ReadError::TooMany`]. Nothing found is an empty answer.
    pub async fn read_last(
        &self,
        stream: &str,
        subjects: &[String],
        options: ReadOptions,
    ) -> Result<Vec<Stored>, ReadError> {
        if subjects.is_empty() {
            return Ok(Vec::new());
        }
        let mut request = json!({ "multi_last": subjects });
        let limit = options.batch.unwrap_or(usize::MAX);
        self.read_pages(stream, &mut request, options.start_seq, limit).await
    }

    /// Messages that match `filter`, from `start_seq` on, oldest first, at most `limit`. The server scans the stream: for
    /// what is not found by subject.
    pub async fn read_from(
        &self,
        stream: &str,
        filter: &str,
        start_seq: u64,
        limit: usize,
    ) -> Result<Vec<Stored>, ReadError> {
        let mut request = json!({ "next_by_subj": filter });
        self.read_pages(stream, &mut request, Some(start_seq.max(1)), limit).await
    }

    /// The last message of one literal subject, from any replica. A wildcard is [`ReadError::Subject`]: see
    /// [`Bus::get_last_matching`].
    pub async fn get_last(&self, stream: &str, subject: &str) -> Result<Option<Stored>, ReadError> {
        if !wire::is_publishable(subject) {
            return Err(ReadError::Subject { subject: subject.to_owned() });
        }
        self.get_one(&format!("$JS.API.DIRECT.GET.{stream}.{subject}"), Bytes::new()).await
    }

    /// The message with the highest sequence among all subjects that match `filter`, from any replica.
    pub async fn get_last_matching(&self, stream: &str, filter: &str) -> Result<Option<Stored>, ReadError> {
        if !wire::is_subscribable(filter) {
            return Err(ReadError::Subject { subject: filter.to_owned() });
        }
        let request = json!({ "last_by_subj": filter }).to_string();
        self.get_one(&format!("$JS.API.DIRECT.GET.{stream}"), request.into()).await
    }

    async fn get_one(&self, api: &str, request: Bytes) -> Result<Option<Stored>, ReadError> {
        let deadline = Instant::now() + self.inner.client.timeout;
        loop {
            let asked = self.inner.client.nats.request(api.to_owned(), request.clone());
            let answer =
                tokio::time::timeout_at(deadline.into(), asked).await.map_err(|_| ReadError::Unavailable)?;
            match answer {
                Ok(message) => match message.status.map(|status| status.as_u16()) {
                    None => return stored(message).map(Some),
                    Some(404) => return Ok(None),
                    Some(status) => return Err(refused(status, &message)),
                },
                Err(_) if Instant::now() + RETRY_PAUSE < deadline => tokio::time::sleep(RETRY_PAUSE).await,
                Err(_) => return Err(ReadError::Unavailable),
            }
        }
    }

    /// Like [`Bus::get_last`], but answered by the stream's leader: sees every acked message.
    pub async fn get_last_at_leader(&self, stream: &str, subject: &str) -> Result<Option<Stored>, ReadError> {
        let request = json!({ "last_by_subj": subject });
        let found =
            self.inner.client.api::<LeaderAnswer>(&format!("STREAM.MSG.GET.{stream}"), &request).await;
        match found.map_err(read_error)? {
            Ok(answer) => answer.message.stored().map(Some),
            Err(error) if error.err_code == NO_MESSAGE_FOUND => Ok(None),
            Err(error) => Err(read_error(error.refused("STREAM.MSG.GET"))),
        }
    }

    /// Reads on until nothing is pending: the server may cut an answer by its own limits.
    async fn read_pages(
        &self,
        stream: &str,
        request: &mut Value,
        start_seq: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Stored>, ReadError> {
        let mut all: Vec<Stored> = Vec::new();
        let mut start_seq = start_seq;
        loop {
            request["batch"] = json!((limit - all.len()).min(MAX_MATCHES));
            if let Some(seq) = start_seq {
                request["seq"] = json!(seq);
            }
            let page = self.read_page(stream, request).await?;
            let Some(last) = page.messages.iter().map(|message| message.seq).max() else { break };
            all.extend(page.messages);
            if page.pending == 0 || all.len() >= limit {
                break;
            }
            start_seq = Some(last + 1);
        }
        all.sort_unstable_by_key(|message| message.seq);
        Ok(all)
    }

    async fn read_page(&self, stream: &str, request: &Value) -> Result<Page, ReadError> {
        let deadline = Instant::now() + self.inner.client.timeout;
        loop {
            let reading = self.read_page_once(stream, request);
            match tokio::time::timeout_at(deadline.into(), reading).await {
                Ok(Ok(Some(page))) => return Ok(page),
                Ok(Ok(None)) if Instant::now() + RETRY_PAUSE < deadline => {
                    tokio::time::sleep(RETRY_PAUSE).await
                }
                Ok(Ok(None)) | Err(_) => return Err(ReadError::Unavailable),
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    /// `None`: no replica is there to answer, or not the whole of it.
    async fn read_page_once(&self, stream: &str, request: &Value) -> Result<Option<Page>, ReadError> {
        let body = Bytes::from(request.to_string());
        let asked = self.inner.client.inbox.ask(format!("$JS.API.DIRECT.GET.{stream}"), body).await;
        let mut answers = asked.ok_or(ReadError::Unavailable)?;
        let mut page = Page::default();
        while let Some(message) = answers.next().await {
            match message.status.map(|status| status.as_u16()) {
                None => page.messages.push(stored(message)?),
                Some(204) => {
                    page.pending =
                        header(&message, "Nats-Num-Pending").and_then(|text| text.parse().ok()).unwrap_or(0);
                    return Ok(Some(page));
                }
                // One of the messages expired between the server's two looks: what came is a part.
                Some(404) if is_part(request, &message) => return Ok(None),
                Some(404) => return Ok(Some(page)),
                Some(413) => return Err(ReadError::TooMany),
                Some(503) => return Ok(None),
                Some(status) => return Err(refused(status, &message)),
            }
        }
        Err(ReadError::Unavailable)
    }
}

/// Whether the answer to a `multi_last` broke off. One that matches nothing is told in other words.
fn is_part(request: &Value, message: &Message) -> bool {
    request.get("multi_last").is_some() && message.description.as_deref() == Some("Message Not Found")
}

/// A direct get's answer: the stored message with headers that say where it lies.
fn stored(message: Message) -> Result<Stored, ReadError> {
    let subject = header(&message, "Nats-Subject").ok_or(ReadError::Malformed("Nats-Subject"))?.to_owned();
    let seq = header(&message, "Nats-Sequence").and_then(|text| text.parse().ok());
    let time_ms = header(&message, "Nats-Time-Stamp").and_then(parse_rfc3339_ms);
    Ok(Stored {
        subject,
        seq: seq.ok_or(ReadError::Malformed("Nats-Sequence"))?,
        time_ms: time_ms.ok_or(ReadError::Malformed("Nats-Time-Stamp"))?,
        headers: message.headers.as_ref().map(raw_headers).unwrap_or_default(),
        payload: message.payload,
    })
}

pub(crate) fn header<'a>(message: &'a Message, name: &str) -> Option<&'a str> {
    message.headers.as_ref()?.get(name).map(async_nats::HeaderValue::as_str)
}

pub(crate) fn raw_headers(headers: &HeaderMap) -> Bytes {
    let pairs = headers.iter().flat_map(|(name, values)| {
        values.iter().map(move |value| (AsRef::<str>::as_ref(name), value.as_str()))
    });
    Bytes::from(wire::encode_headers(pairs))
}

fn refused(status: u16, message: &Message) -> ReadError {
    match status {
        413 => ReadError::TooMany,
        503 => ReadError::Unavailable,
        _ => ReadError::Refused { status, description: message.description.clone().unwrap_or_default() },
    }
}

fn read_error(error: BusError) -> ReadError {
    match error {
        BusError::Refused { code, description, .. } => {
            ReadError::Refused { status: u16::try_from(code).unwrap_or(0), description }
        }
        _ => ReadError::Unavailable,
    }
}

#[derive(Debug, Deserialize)]
struct LeaderAnswer {
    message: LeaderMessage,
}

/// A message in JSON, texts in base64.
#[derive(Debug, Deserialize)]
struct LeaderMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    data: String,
    #[serde(default)]
    hdrs: String,
    time: String,
}

impl LeaderMessage {
    fn stored(self) -> Result<Stored, ReadError> {
        let decode =
            |text: &str| STANDARD.decode(text).map(Bytes::from).map_err(|_| ReadError::Malformed("base64"));
        Ok(Stored {
            seq: self.seq,
            time_ms: parse_rfc3339_ms(&self.time).ok_or(ReadError::Malformed("time"))?,
            payload: decode(&self.data)?,
            headers: decode(&self.hdrs)?,
            subject: self.subject,
        })
    }
}
