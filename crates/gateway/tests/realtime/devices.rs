//! The records of users' devices.

use bus::{ChangeKind, KvWatch, WatchEvent};
use cluster::coordination;
use domain::presence::DeviceRecord;
use serde_json::json;

use super::client::{Client, Polling};
use super::stage::{APP, Stage, soon};

/// Waits until a user's records are as wanted: each with its devices and whether they are idle, by node.
struct Records {
    watch: KvWatch,
    now: std::collections::BTreeMap<String, DeviceRecord>,
}

impl Records {
    fn watch(stage: &Stage) -> Self {
        let every = std::time::Duration::from_secs(5);
        let watch = stage.bus.kv_watch(&coordination::presence_bucket(APP), "d.>", every);
        Self { watch, now: Default::default() }
    }

    async fn until(&mut self, wanted: impl Fn(&[&DeviceRecord]) -> bool) -> Vec<DeviceRecord> {
        soon(self.follow(wanted)).await
    }

    async fn follow(&mut self, wanted: impl Fn(&[&DeviceRecord]) -> bool) -> Vec<DeviceRecord> {
        loop {
            let now: Vec<&DeviceRecord> = self.now.values().collect();
            if wanted(&now) {
                return self.now.values().cloned().collect();
            }
            let WatchEvent::Change(change) = self.watch.next().await else { continue };
            match change.kind {
                ChangeKind::Put(value) => {
                    self.now.insert(change.key, coordination::decode(&value).unwrap());
                }
                ChangeKind::Deleted { .. } => {
                    self.now.remove(&change.key);
                }
            }
        }
    }

    async fn until_devices(&mut self, wanted: &[(&str, bool)]) -> DeviceRecord {
        let fits = |records: &[&DeviceRecord]| {
            let [record] = records else { return false };
            let devices = record.devices.iter().map(|device| (&*device.id, device.idle));
            devices.eq(wanted.iter().copied())
        };
        self.until(fits).await.remove(0)
    }
}

#[tokio::test]
async fn a_record_follows_its_devices_and_outlives_them_for_the_grace() {
    let mut stage = Stage::start("devices", 1, json!({ "grace_ms": 300, "idle_ms": 0 })).await;
    let mut records = Records::watch(&stage);
    let mut first = Client::connect(&stage.nodes[0], "b").await;
    let record = records.until_devices(&[(&first.id, false)]).await;
    assert_eq!((record.user.as_str(), &record.wire_id, record.gone_ms), ("b", &json!("b"), 0));
    let joined = first.ask("room:join", &json!({ "roomId": "topic:x" })).await;
    assert_eq!(joined["success"], json!(true), "{joined}");
    let second = Client::connect(&stage.nodes[0], "b").await;
    let record = records.until_devices(&[(&first.id, false), (&second.id, false)]).await;
    assert_eq!(record.rooms, [Box::from("topic:x")]);
    let second_id = second.id.clone();
    first.leave().await;
    let record = records.until_devices(&[(&second_id, false)]).await;
    assert!(record.gone_ms > 0 && record.rooms.is_empty());
    second.leave().await;
    let record = records.until_devices(&[]).await;
    assert!(record.gone_ms > 0);
    records.until(|records| records.is_empty()).await;
    // Back, and gone with the node.
    let third = Client::connect(&stage.nodes[0], "b").await;
    records.until_devices(&[(&third.id, false)]).await;
    let node = stage.nodes.remove(0);
    let id = node.id();
    node.drain().await;
    let key = coordination::device_key(&super::stage::user("b"), &id, 0);
    let bucket = coordination::presence_bucket(APP);
    let last = stage.bus.kv_get(&bucket, &key).await.unwrap().unwrap();
    let last: Option<DeviceRecord> = last.value.map(|value| coordination::decode(&value).unwrap());
    assert!(last.is_none_or(|last| last.devices.is_empty() && last.gone_ms > 0));
    let named = stage.bus.kv_get("TL_gateways", &id).await.unwrap();
    assert!(named.is_some_and(|entry| entry.value.is_some()), "the coordinators sweep it");
    drop(third);
    stage.stop().await;
}

/// The lease is renewed every few seconds: that is how long the node takes to notice.
#[tokio::test]
async fn what_others_removed_while_the_lease_had_lapsed_is_written_again() {
    let stage = Stage::start("lapsed", 1, json!({})).await;
    let mut records = Records::watch(&stage);
    let client = Client::connect(&stage.nodes[0], "b").await;
    records.until_devices(&[(&client.id, false)]).await;
    let node = stage.nodes[0].id();
    let key = coordination::device_key(&super::stage::user("b"), &node, 0);
    for (bucket, key) in
        [("TL_nodes", &node), (&*coordination::presence_bucket(APP), &key), ("TL_gateways", &node)]
    {
        stage.bus.kv_delete(bucket, key, None).await.unwrap();
    }
    records.until(|records| records.is_empty()).await;
    records.until_devices(&[(&client.id, false)]).await;
    let named = stage.bus.kv_get("TL_gateways", &node).await.unwrap();
    assert!(named.is_some_and(|entry| entry.value.is_some()));
    stage.stop().await;
}

#[tokio::test]
async fn silent_devices_are_idle_until_their_clients_speak() {
    let stage = Stage::start("idle", 1, json!({ "idle_ms": 400 })).await;
    let mut records = Records::watch(&stage);
    let mut client = Client::connect(&stage.nodes[0], "b").await;
    let id = client.id.clone();
    records.until_devices(&[(&id, false)]).await;
    records.until_devices(&[(&id, true)]).await;
    client.ask("presence:get", &json!({ "userIds": ["b"] })).await;
    records.until_devices(&[(&id, false)]).await;
    records.until_devices(&[(&id, true)]).await;
    stage.stop().await;
}

#[tokio::test]
async fn a_device_that_moves_is_listed_by_its_new_node_first() {
    let stage = Stage::start("moved-device", 2, json!({ "grace_ms": 100 })).await;
    let mut records = Records::watch(&stage);
    let polling = Polling::connect(&stage.nodes[0], "b").await;
    let id = polling.id.clone();
    records.until_devices(&[(&id, false)]).await;
    let client = polling.upgrade(&stage.nodes[1]).await;
    let both = |records: &[&DeviceRecord]| {
        records.len() == 2 && records.iter().all(|record| *record.devices[0].id == *id)
    };
    records.until(both).await;
    let record = records.until_devices(&[(&id, false)]).await;
    assert_eq!(record.gone_ms, 0, "the new node's");
    drop(client);
    stage.stop().await;
}
