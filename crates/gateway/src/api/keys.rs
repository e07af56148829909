//! Who calls: the keys of back ends, compared without a hint how near a guess came, and how often each may call.

use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};

use super::config::{ApiConfig, Scope};
use crate::config::ConfigError;

/// All keys of the configuration.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
}

/// A back end's key.
pub struct Key {
    pub name: String,
    /// Of the secret: digests have one length, and the secret is not kept.
    digest: [u8; 32],
    apps: Vec<String>,
    scopes: Vec<Scope>,
    rate: Rate,
}

/// So many calls in a second, by the time at which the calls so far are worked off (GCRA): one number for each key.
#[derive(Debug)]
struct Rate {
    /// Microseconds between two calls; 0: no limit.
    interval_us: u64,
    paid_until_us: AtomicU64,
}

/// How much of a second's worth may come at once.
const BURST_US: u64 = 1_000_000;

impl Keys {
    /// # Errors
    /// Every key that cannot be read.
    pub fn build(config: &ApiConfig) -> Result<Self, Vec<ConfigError>> {
        let mut errors = Vec::new();
        let mut keys: Vec<Key> = Vec::new();
        for (index, key) in config.keys.iter().enumerate() {
            let at = |path: &str| format!("api.keys[{index}].{path}");
            match key.secret() {
                Ok(secret) => {
                    let digest = Sha256::digest(secret.expose().as_bytes()).into();
                    if keys.iter().any(|known| known.digest == digest) {
                        errors.push(ConfigError::new(at("secret"), "another key has the same secret"));
                    }
                    keys.push(Key {
                        name: key.name.clone(),
                        digest,
                        apps: key.apps.clone(),
                        scopes: key.scopes.clone(),
                        rate: Rate::new(config.requests_per_second),
                    });
                }
                Err(error) => errors.push(ConfigError::new(at(&error.path), error.message)),
            }
        }
        if errors.is_empty() { Ok(Self { keys }) } else { Err(errors) }
    }

    /// The key with this secret. Every key is looked at, to its last byte.
    pub fn find(&self, secret: &str) -> Option<&Key> {
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        self.keys.iter().fold(None, |found, key| if same(&key.digest, &digest) { Some(key) } else { found })
    }
}

impl Key {
    pub fn may_call(&self, app: &str) -> bool {
        self.apps.is_empty() || self.apps.iter().any(|name| name == app)
    }

    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// Takes one call's worth; otherwise the milliseconds after which there is one.
    pub fn take(&self, now_us: u64) -> Result<(), u64> {
        self.rate.take(now_us)
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("name", &self.name).field("scopes", &self.scopes).finish_non_exhaustive()
    }
}

impl Rate {
    fn new(per_second: u32) -> Self {
        let interval_us = BURST_US.checked_div(u64::from(per_second)).map_or(0, |us| us.max(1));
        Self { interval_us, paid_until_us: AtomicU64::new(0) }
    }

    fn take(&self, now_us: u64) -> Result<(), u64> {
        if self.interval_us == 0 {
            return Ok(());
        }
        let next = |paid_until: u64| {
            let next = paid_until.max(now_us) + self.interval_us;
            (next <= now_us + BURST_US).then_some(next)
        };
        let taken = self.paid_until_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        taken
            .map(drop)
            .map_err(|paid| (paid + self.interval_us).saturating_sub(now_us + BURST_US).div_ceil(1000))
    }
}

/// In a time that depends on nothing but the length.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::config::ApiKeyConfig;

    fn keys(secrets: &[&str]) -> Result<Keys, Vec<ConfigError>> {
        let key = |(index, secret): (usize, &&str)| ApiKeyConfig {
            name: format!("k{index}"),
            secret: Some(telemetry::Secret::new((*secret).to_owned())),
            scopes: vec![Scope::Emit],
            apps: vec!["visits".to_owned()],
            ..ApiKeyConfig::default()
        };
        Keys::build(&ApiConfig {
            keys: secrets.iter().enumerate().map(key).collect(),
            ..ApiConfig::default()
        })
    }

    #[test]
    fn a_key_is_found_by_its_whole_secret_only() {
        let keys = keys(&["0123456789abcdef", "fedcba9876543210"]).unwrap();
        assert_eq!(keys.find("fedcba9876543210").unwrap().name, "k1");
        for wrong in ["", "0123456789abcde", "0123456789abcdef0", "fedcba987654321"] {
            assert!(keys.find(wrong).is_none(), "{wrong}");
        }
        let key = keys.find("0123456789abcdef").unwrap();
        assert!(key.may_call("visits") && !key.may_call("other"));
        assert!(!format!("{key:?}").contains("0123456789"));
    }

    #[test]
    fn weak_and_repeated_secrets_are_mistakes() {
        assert_eq!(keys(&["short"]).unwrap_err()[0].path, "api.keys[0].secret");
        assert_eq!(
            keys(&["0123456789abcdef", "0123456789abcdef"]).unwrap_err()[0].path,
            "api.keys[1].secret"
        );
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_no_more() {
        let rate = Rate::new(10);
        let now = 5_000_000;
        assert_eq!((0..20).filter(|_| rate.take(now).is_ok()).count(), 10);
        assert_eq!(rate.take(now), Err(100));
        assert_eq!(rate.take(now + 100_000), Ok(()));
        assert!(rate.take(now + 100_000).is_err());
        assert_eq!((0..2000).filter(|_| Rate::new(0).take(now).is_ok()).count(), 2000);
    }
}
