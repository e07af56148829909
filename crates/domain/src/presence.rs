//! Presence: what others see of a user. Folded from three things by one rule ([`fold`]): the user's connected devices, the
//! user's own choice, the user's calls.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{RoomId, UserId};

/// As clients see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Online,
    Away,
    /// Not to be disturbed.
    Busy,
    InCall,
    #[default]
    Offline,
}

impl Status {
    pub const ALL: [Self; 5] = [Self::Online, Self::Away, Self::Busy, Self::InCall, Self::Offline];

    pub fn name(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::InCall => "in_call",
            Self::Offline => "offline",
        }
    }

    /// From a client's word.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// What the user said last; stays over disconnections. `status` is never `InCall`; `Offline`: appears offline though connected.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub custom: Option<Box<str>>,
}

/// What a user says anew; `None` leaves a part as it was.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceChange {
    /// `Online` takes an earlier choice back.
    pub status: Option<Status>,
    /// `Some(None)` removes the text.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
    pub custom: Option<Option<Box<str>>>,
}

/// A field that is there is spoken of, also where it holds nothing.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<Box<str>>>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// One gateway thread's word about a user: the record `d.<user>.<node>.<thread>` in the application's presence bucket. It counts
/// until its node removes it, or the coordinator does after the node's lease ran out. A node's id is made anew by each process, so
/// that a record never speaks for a later one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// The user; the key may hold only a hash.
    #[serde(rename = "u")]
    pub user: UserId,
    /// The user's id as clients see it.
    #[serde(rename = "w")]
    pub wire_id: Value,
    /// Connected sockets, by id. May be empty for a moment: the last one is gone, and may be back soon.
    #[serde(rename = "d", default)]
    pub devices: Vec<Device>,
    /// Rooms whose members hear of changes: bounded, the newest.
    #[serde(rename = "r", default, skip_serializing_if = "Vec::is_empty")]
    pub rooms: Vec<Box<str>>,
    /// When the list of devices last became shorter, in milliseconds since the Unix epoch; 0: never.
    #[serde(rename = "g", default)]
    pub gone_ms: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    #[serde(rename = "i")]
    pub id: Box<str>,
    /// Nothing came from its user for a while.
    #[serde(rename = "z", default, skip_serializing_if = "std::ops::Not::not")]
    pub idle: bool,
}

/// A user's presence, committed as one record and read by whoever asks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Presence {
    pub user: UserId,
    /// The user's id as clients see it.
    pub wire_id: Value,
    #[serde(default)]
    pub choice: Choice,
    /// What the fold gave last.
    pub status: Status,
    /// When the last device was gone, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen_ms: Option<u64>,
    /// Counts visible changes from 1.
    pub rev: u64,
    /// When it last changed visibly, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub changed_ms: u64,
    /// Rooms where changes are told, besides those who watch: of the records, or of the last ones there were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<Box<str>>,
}

/// What is folded.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    pub records: &'a [DeviceRecord],
    pub choice: &'a Choice,
    pub in_call: bool,
}

/// The rule, first match wins: no device record: offline · chosen offline: offline · in a call: in_call · chosen busy or away:
/// that · every device idle: away · online. A record without devices is a connection that may be back at once: it counts as
/// online, so that a flapping connection changes nothing.
pub fn fold(sources: &Sources<'_>) -> Status {
    let chosen = sources.choice.status;
    if sources.records.is_empty() || chosen == Some(Status::Offline) {
        return Status::Offline;
    }
    if sources.in_call {
        return Status::InCall;
    }
    if let Some(chosen @ (Status::Busy | Status::Away)) = chosen {
        return chosen;
    }
    let mut devices = sources.records.iter().flat_map(|record| &record.devices).peekable();
    let all_idle = devices.peek().is_some() && devices.all(|device| device.idle);
    if all_idle { Status::Away } else { Status::Online }
}

/// The room of those who watch a user; no client can name it.
pub fn watchers_room(user: &UserId) -> RoomId {
    RoomId::new(format!("{WATCHERS_ROOM}{user}")).expect("user ids are shorter than room names")
}

pub fn is_watchers_room(room: &str) -> bool {
    room.starts_with(WATCHERS_ROOM)
}

const WATCHERS_ROOM: &str = ".presence:";

/// What an application's presence does; the `[app.presence]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PresenceSettings {
    /// A user whose last connection is gone counts as there for so long: a flapping connection announces nothing.
    pub grace_ms: u64,
    /// Without an event from its user for so long a device is idle; 0: never.
    pub idle_ms: u64,
    /// Users one socket may watch; beyond, `presence:get` answers without watching.
    pub watched_per_socket: usize,
    /// Users in one question.
    pub users_per_question: usize,
    /// Rooms whose members hear of one user's changes; the newest.
    pub rooms_told: usize,
    /// Characters of a custom status.
    pub custom_chars: usize,
}

impl Default for PresenceSettings {
    fn default() -> Self {
        Self {
            grace_ms: 4_000,
            idle_ms: 300_000,
            watched_per_socket: 1_000,
            users_per_question: 1_000,
            rooms_told: 16,
            custom_chars: 128,
        }
    }
}
