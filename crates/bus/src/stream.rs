//! Streams: made if they are missing, brought up to the specification where that is safe, refused where it is not.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::bus::Bus;
use crate::error::BusError;
use crate::patience::patiently;
use crate::time::parse_rfc3339_ms;
use crate::types::{StreamSpec, StreamState};

const STREAM_NOT_FOUND: u32 = 10059;
/// Another node created the stream between our look and our attempt.
const STREAM_NAME_EXIST: u32 = 10058;

/// Fields that an update may change without losing data or a promise.
const UPDATABLE: [&str; 12] = [
    "max_age",
    "republish",
    "allow_direct",
    "allow_atomic",
    "allow_msg_ttl",
    "allow_msg_schedules",
    "allow_rollup_hdrs",
    "subject_delete_marker_ttl",
    "max_msgs_per_subject",
    "max_bytes",
    "discard",
    "duplicate_window",
];

/// The part of the server's stream description that matters here. Unknown fields stay in `config`, so that an update
/// does not reset what an operator set.
#[derive(Debug, Deserialize)]
struct StreamInfo {
    config: Map<String, Value>,
    state: State,
}

#[derive(Debug, Deserialize)]
struct State {
    first_seq: u64,
    last_seq: u64,
    messages: u64,
    bytes: u64,
    #[serde(default)]
    first_ts: String,
}

impl Bus {
    /// Makes the stream, or checks the one that exists. More replicas than asked for are kept; fewer are raised; other
    /// limits and options follow the specification; other subjects or storage are refused. Servers that cannot say yet are
    /// asked again for half a minute.
    pub async fn ensure_stream(&self, spec: &StreamSpec) -> Result<StreamState, BusError> {
        patiently(&spec.name, || self.try_ensure_stream(spec)).await
    }

    async fn try_ensure_stream(&self, spec: &StreamSpec) -> Result<StreamState, BusError> {
        let wanted = config_of(spec);
        let found = match self.stream_info(&spec.name).await? {
            Some(found) => found,
            None => match self.create_stream(&spec.name, &wanted).await? {
                Some(created) => return Ok(created.state()),
                None => self.stream_info(&spec.name).await?.ok_or_else(|| vanished(&spec.name))?,
            },
        };
        let kept = found.state().replicas;
        if kept > spec.replicas {
            tracing::info!(stream = %spec.name, kept, asked = spec.replicas, "the stream keeps its replicas: it is never shrunk");
        }
        match updated(spec, &wanted, &found.config)? {
            None => Ok(found.state()),
            Some(config) => {
                tracing::info!(stream = %spec.name, "the stream is brought up to its specification");
                let subject = format!("STREAM.UPDATE.{}", spec.name);
                let info: StreamInfo =
                    self.inner.client.api_or_refused(&subject, &Value::Object(config)).await?;
                Ok(info.state())
            }
        }
    }

    /// Where a stream stands, from its leader.
    pub async fn stream_state(&self, stream: &str) -> Result<StreamState, BusError> {
        let info = self.stream_info(stream).await?;
        info.map(|info| info.state()).ok_or_else(|| vanished(stream))
    }

    async fn stream_info(&self, stream: &str) -> Result<Option<StreamInfo>, BusError> {
        let subject = format!("STREAM.INFO.{stream}");
        match self.inner.client.api(&subject, &Value::Null).await? {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.err_code == STREAM_NOT_FOUND => Ok(None),
            Err(error) => Err(error.refused(&subject)),
        }
    }

    /// `None`: somebody else made it first, perhaps differently.
    async fn create_stream(
        &self,
        stream: &str,
        config: &Map<String, Value>,
    ) -> Result<Option<StreamInfo>, BusError> {
        let subject = format!("STREAM.CREATE.{stream}");
        match self.inner.client.api(&subject, &Value::Object(config.clone())).await? {
            Ok(info) => Ok(Some(info)),
            Err(error) if error.err_code == STREAM_NAME_EXIST => Ok(None),
            Err(error) => Err(error.refused(&subject)),
        }
    }
}

impl StreamInfo {
    fn state(&self) -> StreamState {
        StreamState {
            first_seq: self.state.first_seq,
            last_seq: self.state.last_seq,
            messages: self.state.messages,
            bytes: self.state.bytes,
            replicas: self
                .config
                .get("num_replicas")
                .and_then(Value::as_u64)
                .map_or(1, |count| count as usize),
            first_time_ms: parse_rfc3339_ms(&self.state.first_ts).filter(|_| self.state.messages > 0),
        }
    }
}

/// The specification in the server's words.
fn config_of(spec: &StreamSpec) -> Map<String, Value> {
    let republish = spec.republish.as_ref().map(|(src, dest)| json!({ "src": src, "dest": dest }));
    let value = json!({
        "name": spec.name,
        "subjects": spec.subjects,
        "num_replicas": spec.replicas,
        "storage": "file",
        "retention": "limits",
        "discard": if spec.discard_new { "new" } else { "old" },
        "max_age": nanos(spec.max_age),
        "max_bytes": spec.max_bytes,
        "max_msgs_per_subject": spec.max_msgs_per_subject,
        "duplicate_window": nanos(spec.duplicate_window),
        "republish": republish,
        "allow_direct": spec.allow_direct,
        "allow_atomic": spec.allow_atomic,
        "allow_msg_ttl": spec.allow_msg_ttl,
        "allow_msg_schedules": spec.allow_msg_schedules,
        "allow_rollup_hdrs": spec.allow_rollup,
        "deny_delete": spec.deny_delete,
        "subject_delete_marker_ttl": spec.subject_delete_marker_ttl.map(nanos),
    });
    match value {
        Value::Object(config) => config.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => unreachable!("the literal above is an object"),
    }
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The configuration to update to, or `None` if the stream is as it must be.
fn updated(
    spec: &StreamSpec,
    wanted: &Map<String, Value>,
    found: &Map<String, Value>,
) -> Result<Option<Map<String, Value>>, BusError> {
    let mismatch = |setting: &'static str, found: String, wanted: String, advice: &'static str| {
        BusError::StreamMismatch { stream: spec.name.clone(), setting, found, wanted, advice }
    };
    let text = |value: Option<&Value>| value.map_or_else(|| "nothing".to_owned(), Value::to_string);
    if found.get("storage") != wanted.get("storage") {
        let advice = "move the data away and delete the stream";
        return Err(mismatch("storage", text(found.get("storage")), text(wanted.get("storage")), advice));
    }
    let mut config = found.clone();
    let found_subjects = subjects(found);
    if found_subjects.iter().any(|subject| !spec.subjects.contains(subject)) {
        let advice = "it seems to belong to somebody else; choose another name or correct it";
        return Err(mismatch("subjects", found_subjects.join(" "), spec.subjects.join(" "), advice));
    }
    if found_subjects.len() < spec.subjects.len() {
        config.insert("subjects".to_owned(), json!(spec.subjects));
    }
    if found.get("num_replicas").and_then(Value::as_u64).unwrap_or(1) < spec.replicas as u64 {
        config.insert("num_replicas".to_owned(), json!(spec.replicas));
    }
    for key in UPDATABLE {
        match wanted.get(key) {
            Some(value) if !same(found.get(key), value) => {
                config.insert(key.to_owned(), value.clone());
            }
            Some(_) => {}
            None => {
                config.remove(key);
            }
        }
    }
    Ok((config != *found).then_some(config))
}

fn subjects(config: &Map<String, Value>) -> Vec<String> {
    let list = config.get("subjects").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The server leaves out what is false or zero.
fn same(found: Option<&Value>, wanted: &Value) -> bool {
    match found {
        Some(found) => found == wanted,
        None => *wanted == json!(false) || *wanted == json!(0),
    }
}

fn vanished(stream: &str) -> BusError {
    BusError::Refused {
        operation: format!("STREAM.INFO.{stream}"),
        code: STREAM_NOT_FOUND,
        description: "stream not found".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> StreamSpec {
        StreamSpec { replicas: 3, allow_atomic: true, ..StreamSpec::new("S", ["s.>".to_owned()]) }
    }

    #[test]
    fn an_equal_stream_is_left_alone_and_more_replicas_are_kept() {
        let wanted = config_of(&spec());
        let mut found = wanted.clone();
        found.insert("num_replicas".to_owned(), json!(5));
        found.remove("allow_msg_ttl");
        assert_eq!(updated(&spec(), &wanted, &found), Ok(None));
    }

    #[test]
    fn weaker_streams_are_raised_and_an_operators_fields_are_kept() {
        let wanted = config_of(&spec());
        let mut found = wanted.clone();
        found.insert("num_replicas".to_owned(), json!(1));
        found.insert("allow_atomic".to_owned(), json!(false));
        found.insert("placement".to_owned(), json!({ "cluster": "c" }));
        let config = updated(&spec(), &wanted, &found).unwrap().unwrap();
        assert_eq!((&config["num_replicas"], &config["allow_atomic"]), (&json!(3), &json!(true)));
        assert_eq!(config["placement"], json!({ "cluster": "c" }));
    }

    #[test]
    fn foreign_streams_are_refused() {
        let wanted = config_of(&spec());
        let mut found = wanted.clone();
        found.insert("subjects".to_owned(), json!(["other.>"]));
        let error = updated(&spec(), &wanted, &found).unwrap_err();
        assert!(matches!(error, BusError::StreamMismatch { setting: "subjects", .. }), "{error}");
    }
}
