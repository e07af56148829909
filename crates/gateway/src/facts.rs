//! What back ends have said once and for all, for rights that depend on it: one record per key in the application's bucket.

use bus::Bus;
use cluster::subject::escape_token;
use dialects::Fact;
use domain::Rejection;
use serde_json::{Value, json};

use crate::app::App;

/// Keeps it; the last word counts.
pub async fn learn(bus: &Bus, app: &App, fact: &Fact) -> Result<(), Rejection> {
    // Long keys are hashed in the bucket's.
    let value = json!({ "key": fact.key, "value": fact.value }).to_string();
    let written = bus.kv_put(&app.facts, &escape_token(&fact.key), value.into(), None, None).await;
    written.map(drop).map_err(|error| {
        tracing::warn!(%error, app = app.name(), "a fact was not stored");
        Rejection::Unavailable
    })
}

/// As the leader knows it: rights follow from it.
pub async fn recall(bus: &Bus, app: &App, key: &str) -> Result<Option<Value>, Rejection> {
    let found = bus.kv_get_at_leader(&app.facts, &escape_token(key)).await.map_err(|error| {
        tracing::warn!(%error, app = app.name(), "a fact could not be read");
        Rejection::Unavailable
    })?;
    let fact = found.and_then(|entry| serde_json::from_slice::<Value>(&entry.value?).ok());
    Ok(fact.filter(|fact| fact["key"] == key).map(|mut fact| fact["value"].take()))
}
