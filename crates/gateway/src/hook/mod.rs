//! An application's own server decides what tokens and rules leave open: who is a user, and rights that no rule grants.
//!
//! Fails closed: no answer, or one that cannot be read, grants nothing, and is not remembered. Each thread asks, waits and
//! remembers for itself, within bounds. Start at [`Hook::may`] and [`Hook::admit`].

mod cache;
mod config;
mod way;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::time::Instant;

use bus::Bus;
use domain::{Identity, Rejection};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::sync::Semaphore;

pub use config::HookConfig;
pub use way::Way;

use crate::auth::TokenError;
use crate::clock::Clock;
use crate::metrics::Metrics;
use cache::Cache;

/// Longer rights are not asked about: no room has such a name.
const RIGHT_BYTES: usize = 1024;

/// Claims that stay the token's own, whatever the hook says.
const TOKENS_OWN: [&str; 4] = ["exp", "nbf", "iat", "jti"];

/// One thread's side of an application's hook.
#[derive(Debug)]
pub struct Hook {
    app: Box<str>,
    config: HookConfig,
    way: Way,
    bus: Bus,
    clock: Clock,
    metrics: Metrics,
    open: Semaphore,
    cache: RefCell<Cache<Answer>>,
}

/// What the hook says.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct Answer {
    allow: bool,
    /// For the log.
    #[serde(default)]
    reason: Option<String>,
    /// What it knows of the user.
    #[serde(default)]
    user: Option<User>,
}

/// Completes an identity: what is given here counts more than the token.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
struct User {
    #[serde(default)]
    name: Option<Box<str>>,
    #[serde(default)]
    role: Option<Box<str>>,
    /// Further claims, such as the chats that a user is a member of.
    #[serde(default)]
    claims: Map<String, Value>,
}

/// The hook gave no answer that can be used; it is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct NoAnswer;

impl Hook {
    pub fn new(app: &str, config: &HookConfig, way: &Way, bus: Bus, clock: Clock, metrics: Metrics) -> Self {
        Self {
            app: app.into(),
            config: config.clone(),
            way: way.for_thread(),
            bus,
            clock,
            metrics,
            open: Semaphore::new(config.concurrency),
            cache: RefCell::new(Cache::new(config.cache_entries)),
        }
    }

    /// Whether the user has a right that no rule grants. `None`: an application without tokens, whose client has not said yet who
    /// it is.
    pub async fn may(&self, identity: Option<&Identity>, right: &str) -> Result<bool, Rejection> {
        if !self.config.rights || right.len() > RIGHT_BYTES {
            return Ok(false);
        }
        let answer =
            self.answer(identity, Some(right)).await.map_err(|NoAnswer| Rejection::HookUnavailable)?;
        Ok(answer.allow)
    }

    /// Lets a user in whose token is good, with what the hook knows besides.
    pub async fn admit(&self, identity: &mut Identity) -> Result<(), TokenError> {
        if !self.config.users {
            return Ok(());
        }
        let unavailable = |NoAnswer| TokenError::Unavailable("the application's hook gave no answer");
        let answer = self.answer(Some(identity), None).await.map_err(unavailable)?;
        if !answer.allow {
            return Err(TokenError::UnknownUser);
        }
        if let Some(user) = answer.user {
            complete(identity, user);
        }
        Ok(())
    }

    /// Whether connecting users are asked about.
    pub fn asks_about_users(&self) -> bool {
        self.config.users
    }

    /// What was answered about a user is asked again from now on.
    pub fn forget(&self, user: &domain::UserId) {
        self.cache.borrow_mut().forget(&key_of_user(user.as_str()));
    }

    async fn answer(&self, identity: Option<&Identity>, right: Option<&str>) -> Result<Answer, NoAnswer> {
        let key = key(identity, right);
        if let Some(answer) = self.cache.borrow().get(&key, self.clock.now()) {
            self.metrics.hook_questions.with_label_values(&["remembered"]).inc();
            return Ok(answer.clone());
        }
        let started = Instant::now();
        let asked = self.ask(identity, right).await;
        self.metrics.hook_seconds.observe(started.elapsed().as_secs_f64());
        let outcome = match &asked {
            Ok(answer) if answer.allow => "allowed",
            Ok(_) => "denied",
            Err(_) => "failed",
        };
        self.metrics.hook_questions.with_label_values(&[outcome]).inc();
        match asked {
            Ok(answer) => {
                if !answer.allow {
                    tracing::info!(app = %self.app, right, reason = answer.reason, "the hook said no");
                }
                self.remember(&key, &answer);
                Ok(answer)
            }
            Err(error) => {
                tracing::warn!(app = %self.app, error, "the hook gave no answer: nothing is granted");
                Err(NoAnswer)
            }
        }
    }

    fn remember(&self, key: &str, answer: &Answer) {
        let seconds = if answer.allow { self.config.cache_s } else { self.config.cache_denied_s };
        if seconds > 0 {
            let until = self.clock.now().saturating_add(seconds.saturating_mul(1000));
            self.cache.borrow_mut().put(key, answer.clone(), until);
        }
    }

    async fn ask(&self, identity: Option<&Identity>, right: Option<&str>) -> Result<Answer, String> {
        let deadline = Instant::now() + self.config.timeout();
        let place = tokio::time::timeout_at(deadline.into(), self.open.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err("too many questions are open (hook.concurrency)".to_owned());
        };
        let question = self.question(identity, right).to_string().into_bytes();
        let body = self.way.ask(&self.bus, question, self.config.max_answer_bytes, deadline).await?;
        match body {
            None => Ok(Answer::default()),
            Some(body) => {
                serde_json::from_slice(&body).map_err(|error| format!("the answer cannot be read: {error}"))
            }
        }
    }

    fn question(&self, identity: Option<&Identity>, right: Option<&str>) -> Value {
        let mut question = json!({
            "kind": if right.is_some() { "right" } else { "user" },
            "app": self.app,
            "userId": identity.map(Identity::wire_id),
            "role": identity.and_then(|identity| identity.role.as_deref()),
        });
        if let Some(right) = right {
            question["right"] = right.into();
        }
        if let Some(identity) = identity.filter(|_| self.config.send_claims) {
            question["claims"] = identity.claims.clone().into();
        }
        question
    }
}

fn complete(identity: &mut Identity, user: User) {
    identity.name = user.name.or(identity.name.take());
    identity.role = user.role.or(identity.role.take());
    let claims = user.claims.into_iter().filter(|(name, _)| !TOKENS_OWN.contains(&name.as_str()));
    identity.claims.extend(claims);
}

/// NUL stands in no id and no role: JSON text that holds one is escaped here. No user's id is empty.
fn key(identity: Option<&Identity>, right: Option<&str>) -> String {
    let user = identity.map_or("", |identity| identity.user.as_str());
    let role =
        identity.and_then(|identity| identity.role.as_deref()).unwrap_or_default().replace('\0', "\u{1}");
    format!("{}{role}\0{}", key_of_user(user), right.map_or_else(String::new, |r| format!("r{r}")))
}

fn key_of_user(user: &str) -> String {
    format!("{}\0", user.replace('\0', "\u{1}"))
}
