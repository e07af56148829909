//! Public keys that come as a set (RFC 7517), from a file or a URL, and change while the node runs. The last good set stays whatever
//! happens to its source. Start at [`Jwks::run`]; [`Jwks::newer`] is for a token whose key is not in the set.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::TokenConfig;
use super::verifier::Key;
use crate::config::ConfigError;
use crate::metrics::Metrics;
use crate::outbound::{Outbound, check_url};

/// A set of keys and where newer ones are found.
#[derive(Debug)]
pub struct Jwks {
    source: Source,
    algorithms: Vec<Algorithm>,
    refresh: Duration,
    /// The shortest pause between two looks, whoever asks for them.
    pause: Duration,
    timeout: Duration,
    max_bytes: usize,
    known: watch::Sender<Known>,
    asked: Notify,
}

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url { url: Uri, client: Outbound },
}

/// What came of the looks so far.
#[derive(Clone, Debug)]
struct Known {
    /// `None`: no look has succeeded yet.
    keys: Option<Arc<[Key]>>,
    /// Looks so far, and when the last one ended.
    looks: u64,
    last: Instant,
    failed: bool,
}

impl Jwks {
    /// `None`: the configuration names no set. A file is read now, a URL when the set runs.
    pub(super) fn build(config: &TokenConfig) -> Result<Option<Arc<Self>>, ConfigError> {
        let wrong = |key: &str| {
            let key = key.to_owned();
            move |message: String| ConfigError::new(key, message)
        };
        let source = match (&config.jwks_file, &config.jwks_url) {
            (None, None) => return Ok(None),
            (Some(path), None) => Source::File(path.clone()),
            (None, Some(url)) => Source::Url {
                url: check_url(url).map_err(wrong("jwks_url"))?,
                client: Outbound::build(config.jwks_ca_file.as_deref()).map_err(wrong("jwks_ca_file"))?,
            },
            _ => return Err(ConfigError::new("jwks_url", "give only one of jwks_file and jwks_url")),
        };
        let keys = match &source {
            Source::File(path) => {
                let bytes = read_file(path, config.jwks_max_bytes).map_err(wrong("jwks_file"))?;
                Some(parse(&bytes, &config.algorithms).map_err(wrong("jwks_file"))?)
            }
            Source::Url { .. } => None,
        };
        Ok(Some(Arc::new(Self {
            source,
            algorithms: config.algorithms.clone(),
            refresh: Duration::from_millis(config.jwks_refresh_ms),
            pause: Duration::from_millis(config.jwks_pause_ms),
            timeout: Duration::from_millis(config.jwks_timeout_ms),
            max_bytes: config.jwks_max_bytes,
            known: watch::Sender::new(Known { keys, looks: 0, last: Instant::now(), failed: false }),
            asked: Notify::new(),
        })))
    }

    pub(super) fn keys(&self) -> Option<Arc<[Key]>> {
        self.known.borrow().keys.clone()
    }

    /// Whether the set may lack keys because its source could not be read.
    pub(super) fn is_doubtful(&self) -> bool {
        let known = self.known.borrow();
        known.failed || known.keys.is_none()
    }

    /// Waits for one more look at the source, unless the last one was a moment ago.
    pub(super) async fn newer(&self) {
        let mut known = self.known.subscribe();
        let (looks, last) = {
            let now = known.borrow_and_update();
            (now.looks, now.last)
        };
        if looks > 0 && last.elapsed() < self.pause {
            return;
        }
        self.asked.notify_one();
        // A source that hangs is given up by the look itself; its margin is for a busy node.
        let wait = self.timeout + Duration::from_secs(1);
        let _ = tokio::time::timeout(wait, known.wait_for(|now| now.looks > looks)).await;
    }

    /// Waits for the first look that succeeded; `false`: not within the timeout of one.
    pub async fn ready(&self) -> bool {
        let mut known = self.known.subscribe();
        let wait = known.wait_for(|now| now.keys.is_some());
        tokio::time::timeout(self.timeout, wait).await.is_ok()
    }

    /// Looks at the source again and again, until its runtime ends.
    pub async fn run(self: Arc<Self>, app: String, metrics: Metrics) {
        loop {
            let look = self.look().await;
            let outcome = if look.is_ok() { "read" } else { "failed" };
            metrics.key_sets.with_label_values(&[outcome]).inc();
            if let Err(error) = &look {
                tracing::warn!(app, error, "the set of public keys could not be read, the last one stays");
            }
            self.known.send_modify(|known| {
                known.looks += 1;
                known.last = Instant::now();
                known.failed = look.is_err();
                known.keys = look.ok().or(known.keys.take());
            });
            let failed = self.known.borrow().failed;
            tokio::time::sleep(self.pause).await;
            let rest = if failed { Duration::ZERO } else { self.refresh.saturating_sub(self.pause) };
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.asked.notified() => {}
            }
        }
    }

    async fn look(&self) -> Result<Arc<[Key]>, String> {
        match &self.source {
            Source::File(path) => parse(&read_file(path, self.max_bytes)?, &self.algorithms),
            Source::Url { url, client } => parse(&self.fetch(url, client).await?, &self.algorithms),
        }
    }

    async fn fetch(&self, url: &Uri, client: &Outbound) -> Result<Bytes, String> {
        let request = Request::get(url.clone()).header(header::ACCEPT, "application/json");
        let request = request.body(Full::default()).map_err(|error| error.to_string())?;
        let deadline = std::time::Instant::now() + self.timeout;
        match client.send(request, self.max_bytes, deadline).await {
            Ok((StatusCode::OK, body)) => Ok(body),
            Ok((status, _)) => Err(format!("the answer's status is {status}")),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn read_file(path: &Path, max_bytes: usize) -> Result<Bytes, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    if bytes.len() > max_bytes {
        return Err(format!("{} is larger than {max_bytes} bytes (jwks_max_bytes)", path.display()));
    }
    Ok(bytes.into())
}

/// The usable keys of a set. What is unknown, for encryption or for other algorithms is passed over; a set without any usable key
/// is no set, so that a source gone wrong takes nobody's key away.
fn parse(text: &[u8], algorithms: &[Algorithm]) -> Result<Arc<[Key]>, String> {
    #[derive(Deserialize)]
    struct Set<'a> {
        #[serde(borrow)]
        keys: Vec<&'a RawValue>,
    }
    let set: Set<'_> = serde_json::from_slice(text).map_err(|error| format!("no key set: {error}"))?;
    let keys: Arc<[Key]> = set.keys.iter().filter_map(|raw| key(raw.get(), algorithms)).collect();
    if keys.is_empty() {
        return Err(format!("none of its {} keys works with the configured algorithms", set.keys.len()));
    }
    Ok(keys)
}

/// Only public keys: a secret that is published is none.
fn key(text: &str, algorithms: &[Algorithm]) -> Option<Key> {
    let jwk: Jwk = serde_json::from_str(text).ok()?;
    let for_signatures = jwk.common.public_key_use.as_ref().is_none_or(|it| *it == PublicKeyUse::Signature);
    if !for_signatures || matches!(jwk.algorithm, AlgorithmParameters::OctetKey(_)) {
        return None;
    }
    let own = jwk.common.key_algorithm.map(|algorithm| algorithm.to_string());
    let fits = |algorithm: &&Algorithm| own.as_ref().is_none_or(|own| *own == format!("{algorithm:?}"));
    let algorithms: Vec<Algorithm> = algorithms.iter().filter(fits).copied().collect();
    Key::serving(jwk.common.key_id.clone(), DecodingKey::from_jwk(&jwk).ok()?, &algorithms)
}
