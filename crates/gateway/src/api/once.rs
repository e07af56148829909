//! Idempotency keys: the first call with a key is executed, its result is kept, and the same call gets that result again. A call
//! whose node died on the way is taken up by the next repeat, with the same event ids, so that nothing is stored twice.

use std::time::{Duration, Instant};

use bus::{AppendError, Bus};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Answer, Call, Fault};
use crate::app::App;
use crate::clock::unix_ms;
use crate::shard::Stamp;

/// How often a repeat looks whether the first call is done.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A call that is not done this much later than it may take is given up by its node.
const GRACE_MS: u64 = 5_000;

/// What is kept under a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    /// Of the body: the same key with another call is a mistake.
    fingerprint: String,
    at_ms: u64,
    /// Hexadecimal.
    random: String,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Until then somebody is at it.
    Running {
        until_ms: u64,
    },
    /// The last attempt was not confirmed: the next one may begin at once.
    Open,
    Done {
        result: Value,
    },
}

/// Where a key stands, for one more call with it.
#[derive(Debug)]
enum Claim {
    Mine { stamp: Stamp, rev: u64 },
    Done(Value),
    Busy,
}

/// A place where results are kept.
#[derive(Clone, Copy, Debug)]
pub struct Once<'a> {
    pub bus: &'a Bus,
    pub app: &'a App,
    pub timeout_ms: u64,
    pub kept: Duration,
}

impl Once<'_> {
    /// Executes `work` unless an earlier call with this key was; its stamp is the same in every attempt.
    pub async fn run(&self, call: &Call, key: &str, work: impl AsyncFnOnce(Stamp) -> Answer) -> Answer {
        let name = name(call, key);
        let fingerprint = hex(&Sha256::digest(&call.body));
        let (stamp, rev) = match self.claim(&name, &fingerprint).await? {
            Ok(mine) => mine,
            Err(result) => return Ok(result),
        };
        let answer = work(stamp).await;
        let state = match &answer {
            Ok(result) => State::Done { result: result.clone() },
            Err(_) => State::Open,
        };
        let record = Record { state, ..Record::new(&fingerprint, stamp) };
        if let Err(error) = self.put(&name, &record, rev).await {
            // The claim runs out, and the next call with the key finds out what was stored.
            tracing::warn!(%error, app = self.app.name(), "the result of a call was not kept");
        }
        answer
    }

    /// The right to execute, or the result; waits for whoever is at it.
    async fn claim(&self, name: &str, fingerprint: &str) -> Result<Result<(Stamp, u64), Value>, Fault> {
        let until = Instant::now() + Duration::from_millis(self.timeout_ms / 2);
        loop {
            match self.try_claim(name, fingerprint).await? {
                Claim::Mine { stamp, rev } => return Ok(Ok((stamp, rev))),
                Claim::Done(result) => return Ok(Err(result)),
                Claim::Busy if Instant::now() >= until => return Err(in_progress()),
                Claim::Busy => tokio::time::sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn try_claim(&self, name: &str, fingerprint: &str) -> Result<Claim, Fault> {
        let known = self.bus.kv_get_at_leader(&self.app.idempotency, name).await;
        let known = known.map_err(|_| Fault::unavailable())?;
        let until_ms = unix_ms() + 2 * self.timeout_ms + GRACE_MS;
        let mine = |stamp| Record { state: State::Running { until_ms }, ..Record::new(fingerprint, stamp) };
        let Some((rev, value)) = known.and_then(|entry| Some((entry.rev, entry.value?))) else {
            let stamp = Stamp::now();
            let bucket = &self.app.idempotency;
            let created = self.bus.kv_create(bucket, name, encode(&mine(stamp)), Some(self.kept)).await;
            return claimed(stamp, created);
        };
        let record: Record = serde_json::from_slice(&value).map_err(|error| {
            tracing::error!(%error, app = self.app.name(), "a kept result could not be read");
            Fault::unavailable()
        })?;
        if record.fingerprint != fingerprint {
            return Err(reused());
        }
        match record.state {
            State::Done { result } => Ok(Claim::Done(result)),
            State::Running { until_ms } if until_ms > unix_ms() => Ok(Claim::Busy),
            State::Running { .. } | State::Open => {
                let stamp = record.stamp();
                claimed(stamp, self.put(name, &mine(stamp), rev).await)
            }
        }
    }

    async fn put(&self, name: &str, record: &Record, rev: u64) -> Result<u64, AppendError> {
        self.bus.kv_put(&self.app.idempotency, name, encode(record), Some(self.kept), Some(rev)).await
    }
}

impl Record {
    fn new(fingerprint: &str, stamp: Stamp) -> Self {
        Self {
            fingerprint: fingerprint.to_owned(),
            at_ms: stamp.at_ms,
            random: format!("{:032x}", stamp.random),
            state: State::Open,
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp { at_ms: self.at_ms, random: u128::from_str_radix(&self.random, 16).unwrap_or_default() }
    }
}

/// Keys belong to who calls and to what is called.
fn name(call: &Call, key: &str) -> String {
    let mut hash = Sha256::new();
    for part in [call.caller.name.as_str(), call.verb.as_str(), key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn claimed(stamp: Stamp, written: Result<u64, AppendError>) -> Result<Claim, Fault> {
    match written {
        Ok(rev) => Ok(Claim::Mine { stamp, rev }),
        Err(AppendError::Conflict { .. }) => Ok(Claim::Busy),
        Err(_) => Err(Fault::unavailable()),
    }
}

fn encode(record: &Record) -> Bytes {
    serde_json::to_vec(record).expect("a record has string keys").into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn in_progress() -> Fault {
    let message = "a call with this idempotency key is under way";
    Fault { retry_after_ms: Some(1000), ..Fault::new(409, "in_progress", message) }
}

fn reused() -> Fault {
    Fault::new(422, "idempotency_mismatch", "this idempotency key was used for a call with another body")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use bus::child::{ChildOptions, NatsChild};
    use bus::{BucketSpec, BusConfig};
    use serde_json::json;

    use super::*;
    use crate::api::Caller;

    struct Stage {
        bus: Bus,
        app: App,
        stamps: RefCell<Vec<Stamp>>,
    }

    impl Stage {
        async fn new(url: String) -> Self {
            let bus = Bus::connect(BusConfig::for_server(url), &prometheus::Registry::new()).await.unwrap();
            let config = json!({ "app": [{ "name": "a", "token": { "secret": "s" } }] });
            let app = App::build_all(&serde_json::from_value(config).unwrap()).unwrap().remove(0);
            bus.ensure_bucket(&BucketSpec::new(&app.idempotency, 1)).await.unwrap();
            Self { bus, app, stamps: RefCell::default() }
        }

        /// Calls with this key and body; an attempt ends as `result` says.
        async fn call(&self, key: &str, body: &'static str, result: Answer) -> Answer {
            let once =
                Once { bus: &self.bus, app: &self.app, timeout_ms: 200, kept: Duration::from_secs(60) };
            let work = async |stamp| {
                self.stamps.borrow_mut().push(stamp);
                result
            };
            once.run(&call(body), key, work).await
        }

        /// Leaves a record as somebody else would have.
        async fn leave(&self, key: &str, body: &'static str, until_ms: u64) -> Stamp {
            let stamp = Stamp { at_ms: 7, random: u128::MAX - 1 };
            let fingerprint = hex(&Sha256::digest(body));
            let record = Record { state: State::Running { until_ms }, ..Record::new(&fingerprint, stamp) };
            let name = name(&call(body), key);
            self.bus.kv_create(&self.app.idempotency, &name, encode(&record), None).await.unwrap();
            stamp
        }
    }

    fn call(body: &'static str) -> Call {
        Call {
            app: 0,
            verb: "emit".to_owned(),
            body: Bytes::from_static(body.as_bytes()),
            caller: Caller::of_nats(),
            idempotency_key: None,
            trace: None,
        }
    }

    #[tokio::test]
    async fn a_call_is_executed_once_by_whoever_lives() {
        let dir = std::env::temp_dir().join(format!("trunkline-once-{}", std::process::id()));
        let child = NatsChild::start(ChildOptions::new(&dir)).await.unwrap();
        let stage = Stage::new(child.url()).await;

        let done = || Ok(json!({ "ok": true, "n": 1 }));
        assert_eq!(stage.call("k", "{}", done()).await, done());
        assert_eq!(stage.call("k", "{}", Ok(json!("another result"))).await, done());
        assert_eq!(stage.call("k", "[]", done()).await.unwrap_err().status, 422);
        assert_eq!(stage.stamps.take().len(), 1);

        assert_eq!(stage.call("failed", "{}", Err(Fault::unavailable())).await, Err(Fault::unavailable()));
        assert_eq!(stage.call("failed", "{}", done()).await, done());
        let stamps = stage.stamps.take();
        assert_eq!((stamps.len(), stamps[0]), (2, stamps[1]), "the same event both times");

        let left = stage.leave("dead", "{}", unix_ms() - 1).await;
        assert_eq!(stage.call("dead", "{}", done()).await, done());
        assert_eq!(stage.stamps.take(), [left]);

        stage.leave("busy", "{}", u64::MAX).await;
        let busy = stage.call("busy", "{}", done()).await.unwrap_err();
        assert_eq!((busy.status, busy.code.as_str()), (409, "in_progress"));
        assert_eq!(stage.stamps.take(), []);

        child.stop().await;
        std::fs::remove_dir_all(dir).unwrap();
    }
}
