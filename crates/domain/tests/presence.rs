//! What others see of a user, for every combination of devices, choice and calls.

#![allow(clippy::unwrap_used)]

use domain::UserId;
use domain::presence::{
    Choice, ChoiceChange, Device, DeviceRecord, Presence, Sources, Status, fold, is_watchers_room,
    watchers_room,
};

fn user() -> UserId {
    UserId::new("u").unwrap()
}

/// One gateway thread's record: `a` an active device, `i` an idle one; empty: the last one is just gone.
fn record(devices: &str) -> DeviceRecord {
    let device = |(at, word): (usize, char)| Device { id: at.to_string().into(), idle: word == 'i' };
    DeviceRecord {
        user: user(),
        wire_id: "u".into(),
        devices: devices.chars().enumerate().map(device).collect(),
        rooms: Vec::new(),
        gone_ms: 0,
    }
}

/// Records by thread, separated by commas; `-`: none.
fn records(words: &str) -> Vec<DeviceRecord> {
    if words == "-" { Vec::new() } else { words.split(',').map(record).collect() }
}

const RULE: &str = "
devices | chosen:   none     online   away     busy     offline
-       |           offline  offline  offline  offline  offline
a       |           online   online   away     busy     offline
i       |           away     away     away     busy     offline
ai      |           online   online   away     busy     offline
i,i     |           away     away     away     busy     offline
i,ia    |           online   online   away     busy     offline
i,      |           away     away     away     busy     offline
,       |           online   online   away     busy     offline
";

#[test]
fn the_rule() {
    let lines: Vec<&str> = RULE.lines().skip(2).collect();
    assert_eq!(lines.len(), 8);
    for line in lines {
        let (devices, cells) = line.split_once('|').unwrap();
        let records = records(devices.trim());
        let chosen =
            [None, Some(Status::Online), Some(Status::Away), Some(Status::Busy), Some(Status::Offline)];
        let cells: Vec<Status> = cells.split_whitespace().map(|cell| Status::parse(cell).unwrap()).collect();
        assert_eq!(cells.len(), chosen.len(), "{line}");
        for (status, expected) in chosen.into_iter().zip(cells) {
            let choice = Choice { status, custom: None };
            let folded = |in_call| fold(&Sources { records: &records, choice: &choice, in_call });
            assert_eq!(folded(false), expected, "{line}: chosen {status:?}");
            let in_call = if expected == Status::Offline { Status::Offline } else { Status::InCall };
            assert_eq!(folded(true), in_call, "{line}: chosen {status:?}, in a call");
        }
    }
}

#[test]
fn names_of_statuses_are_read_as_they_are_written() {
    for status in [Status::Online, Status::Away, Status::Busy, Status::InCall, Status::Offline] {
        assert_eq!(Status::parse(status.name()), Some(status));
        assert_eq!(serde_json::to_value(status).unwrap(), status.name());
    }
    assert_eq!(Status::parse("Online"), None);
}

#[test]
fn records_come_back_as_they_went() {
    let there = DeviceRecord { rooms: vec!["r".into()], gone_ms: 7, ..record("ai") };
    let bytes = rmp_serde::to_vec_named(&there).unwrap();
    assert_eq!(rmp_serde::from_slice::<DeviceRecord>(&bytes).unwrap(), there);
    let presence = Presence {
        user: user(),
        wire_id: 5.into(),
        choice: Choice { status: Some(Status::Busy), custom: Some("lunch".into()) },
        status: Status::Busy,
        last_seen_ms: Some(1),
        rev: 3,
        changed_ms: 2,
        told: vec!["r".into()],
    };
    let bytes = rmp_serde::to_vec_named(&presence).unwrap();
    assert_eq!(rmp_serde::from_slice::<Presence>(&bytes).unwrap(), presence);
}

#[test]
fn watchers_have_a_room_of_their_own_for_the_longest_id() {
    let longest = UserId::new("x".repeat(UserId::MAX_BYTES)).unwrap();
    assert!(is_watchers_room(watchers_room(&longest).as_str()));
    assert!(!is_watchers_room("presence:x"));
}

/// Nothing said, and nothing in its place, are different words: MessagePack has one `nil` for both.
#[test]
fn a_removed_text_is_removed_on_the_wire_too() {
    for custom in [None, Some(None), Some(Some("lunch".into()))] {
        let change = ChoiceChange { status: Some(Status::Online), custom };
        let bytes = rmp_serde::to_vec_named(&change).unwrap();
        assert_eq!(rmp_serde::from_slice::<ChoiceChange>(&bytes).unwrap(), change);
    }
}
