//! Tokens that are refused although they are good: those of a user up to a moment, and single ones by their `jti`.
//!
//! The list is a bucket of each application, `TL_<app>_revoked`. Every node follows it and tells its threads, which keep a list of
//! their own, refuse new sockets by it and cut off those that are there. Start at [`revoke`] and [`follow`].

use std::time::Duration;

use bus::{AppendError, BucketSpec, Bus, ChangeKind, KvWatch, WatchEvent};
use bytes::Bytes;
use cluster::subject::escape_token;
use domain::{Identity, UserId};
use futures_util::FutureExt;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::clock::unix_ms;
use crate::shard::{Control, ShardHandle};

/// How often the whole list is read again: a watch may miss changes while streams move.
const RELIST: Duration = Duration::from_secs(60);

/// A node that cannot read the list by then does not start.
const FIRST_LISTING: Duration = Duration::from_secs(20);

/// Changes told to the threads at once.
const BATCH: usize = 512;

/// Longer ids name no token: it could not be listed.
pub const TOKEN_ID_BYTES: usize = 512;

/// Whose tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revoked {
    /// Every token of a user, or those issued up to a moment.
    User(UserId),
    /// The token with this `jti`.
    Token(String),
}

/// Which of a user's tokens, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// Unix seconds: tokens whose `iat` is later stay good; `None`: none does. Says nothing about a single token.
    pub issued_until_s: Option<u64>,
    /// When the entry may go, Unix seconds: no such token is good any more then. `None`: never.
    pub until_s: Option<u64>,
}

/// Puts tokens on the list; settles when it is stored. Nodes hear of it at once, and cut off who is connected by them.
///
/// # Errors
/// What NATS says; [`AppendError::TooLarge`] for a token id that is too long.
pub async fn revoke(bus: &Bus, app: &App, whose: &Revoked, terms: &Terms) -> Result<u64, AppendError> {
    if let Revoked::Token(id) = whose
        && id.len() > TOKEN_ID_BYTES
    {
        return Err(AppendError::TooLarge { bytes: id.len(), limit: TOKEN_ID_BYTES });
    }
    let now_s = unix_ms() / 1000;
    let ttl = terms.until_s.map(|until| Duration::from_secs(until.saturating_sub(now_s).max(1)));
    let entry = Entry { issued_until_s: terms.issued_until_s, since_s: now_s };
    let value = Bytes::from(serde_json::to_vec(&entry).expect("numbers have a JSON form"));
    bus.kv_put(&bucket(app.name()), &whose.key(), value, ttl, None).await
}

/// Takes them off the list again; who was cut off may connect.
pub async fn restore(bus: &Bus, app: &App, whose: &Revoked) -> Result<u64, AppendError> {
    bus.kv_delete(&bucket(app.name()), &whose.key(), None).await
}

/// The bucket of an application. One that is full refuses further entries.
pub fn spec(app: &App, replicas: usize) -> BucketSpec {
    BucketSpec {
        max_bytes: app.config.revocations_max_bytes,
        ..BucketSpec::new(bucket(app.name()), replicas)
    }
}

fn bucket(app: &str) -> String {
    format!("TL_{}_revoked", escape_token(app))
}

impl Revoked {
    fn key(&self) -> String {
        match self {
            Self::User(user) => format!("u.{}", escape_token(user.as_str())),
            Self::Token(id) => format!("t.{}", escape_token(id)),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    #[serde(rename = "issuedUntil")]
    issued_until_s: Option<u64>,
    #[serde(rename = "since")]
    since_s: u64,
}

/// A change of an application's list.
#[derive(Clone, Debug)]
pub struct News {
    key: Box<str>,
    /// `None`: it is off the list.
    entry: Option<Entry>,
}

/// The list of one application, as a thread knows it.
#[derive(Debug, Default)]
pub struct List {
    users: FxHashMap<Box<str>, Entry>,
    tokens: FxHashMap<Box<str>, Entry>,
}

impl List {
    /// `true`: something more is refused now.
    pub fn apply(&mut self, news: &[News]) -> bool {
        let mut grew = false;
        for News { key, entry } in news {
            let (list, name) = match key.split_once('.') {
                Some(("u", name)) => (&mut self.users, name),
                Some(("t", name)) => (&mut self.tokens, name),
                _ => continue,
            };
            match entry {
                Some(entry) => grew |= list.insert(name.into(), *entry) != Some(*entry),
                None => drop(list.remove(name)),
            }
        }
        grew
    }

    /// Whether the token that proved this identity is on the list. One that does not say when it was issued counts as old.
    pub fn has(&self, identity: &Identity) -> bool {
        if self.users.is_empty() && self.tokens.is_empty() {
            return false;
        }
        let by_user = self.users.get(&*escape_token(identity.user.as_str()));
        let by_user = by_user.is_some_and(|entry| match (entry.issued_until_s, issued_s(identity)) {
            (Some(until), Some(issued)) => issued <= until,
            _ => true,
        });
        by_user || identity.token_id.as_deref().is_some_and(|id| self.tokens.contains_key(&*escape_token(id)))
    }
}

fn issued_s(identity: &Identity) -> Option<u64> {
    let value = identity.claims.get("iat")?;
    value.as_u64().or_else(|| value.as_f64().map(|seconds| seconds as u64))
}

/// Follows the lists of all applications that ask for tokens, on the calling runtime. Returns when the threads know them as they
/// are now.
///
/// # Errors
/// The application whose list could not be read in time.
pub async fn follow(bus: &Bus, apps: &[App], shards: &[ShardHandle]) -> Result<(), String> {
    for app in apps.iter().filter(|app| app.verifier.is_some()) {
        let mut watch = bus.kv_watch(&bucket(app.name()), ">", RELIST);
        let listing = tokio::time::timeout(FIRST_LISTING, until_synced(&mut watch, app.ix, shards));
        listing.await.map_err(|_| app.name().to_owned())?;
        let (ix, shards) = (app.ix, shards.to_vec());
        tokio::spawn(async move {
            loop {
                until_synced(&mut watch, ix, &shards).await;
            }
        });
    }
    Ok(())
}

/// Tells the threads of every change, those that came together at once, until the watch has read the whole list.
async fn until_synced(watch: &mut KvWatch, app: u16, shards: &[ShardHandle]) {
    loop {
        let mut news = Vec::new();
        let mut event = Some(watch.next().await);
        let mut synced = false;
        while let Some(now) = event.take() {
            match now {
                WatchEvent::Change(change) => news.extend(read(change)),
                WatchEvent::Synced => synced = true,
            }
            if !synced && news.len() < BATCH {
                event = watch.next().now_or_never();
            }
        }
        if !news.is_empty() {
            let news: std::sync::Arc<[News]> = news.into();
            shards.iter().for_each(|shard| shard.control(Control::Revoked { app, news: news.clone() }));
        }
        if synced {
            return;
        }
    }
}

/// An entry that cannot be read counts for every token: in doubt nobody is let in.
fn read(change: bus::Change) -> Option<News> {
    let entry = match change.kind {
        ChangeKind::Deleted { .. } => None,
        ChangeKind::Put(value) => Some(serde_json::from_slice(&value).unwrap_or_else(|error| {
            tracing::warn!(%error, "a revocation could not be read: it counts for every token of its user");
            Entry { issued_until_s: None, since_s: 0 }
        })),
    };
    Some(News { key: change.key.into(), entry })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn identity(user: &str, id: Option<&str>, iat: Option<u64>) -> Identity {
        Identity {
            user: UserId::new(user).unwrap(),
            numeric: false,
            role: None,
            name: None,
            token_id: id.map(Into::into),
            expires_at: None,
            claims: json!({ "iat": iat }).as_object().unwrap().clone(),
        }
    }

    fn news(whose: &Revoked, entry: Option<Option<u64>>) -> News {
        let entry = entry.map(|issued_until_s| Entry { issued_until_s, since_s: 1 });
        News { key: whose.key().into(), entry }
    }

    #[test]
    fn users_are_refused_by_the_time_of_issue_and_tokens_by_their_id() {
        let mut list = List::default();
        let odd = "a.b c*";
        let user = Revoked::User(UserId::new(odd).unwrap());
        assert!(!list.has(&identity(odd, None, None)));
        assert!(list.apply(&[news(&user, Some(Some(100)))]));
        assert!(!list.apply(&[news(&user, Some(Some(100)))]), "known already");
        let cases = [(Some(99), true), (Some(100), true), (Some(101), false), (None, true)];
        for (iat, refused) in cases {
            assert_eq!(list.has(&identity(odd, None, iat)), refused, "{iat:?}");
        }
        assert!(!list.has(&identity("somebody else", None, None)));
        assert!(list.apply(&[news(&user, Some(None)), news(&Revoked::Token("t 1".into()), Some(None))]));
        assert!(list.has(&identity(odd, None, Some(u64::MAX))), "every token");
        assert!(list.has(&identity("b", Some("t 1"), Some(200))));
        assert!(!list.has(&identity("b", Some("t 2"), Some(200))));
        assert!(!list.apply(&[news(&user, None), news(&Revoked::Token("t 1".into()), None)]));
        assert!(!list.has(&identity(odd, Some("t 1"), None)));
    }
}
