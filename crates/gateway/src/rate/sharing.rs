//! What a user says at one node counts at the others: told in parts of the limit, once and without confirmation. A part that is lost, or
//! late, lets a user with sockets on several nodes say a little more for a minute.

use std::borrow::Cow;
use std::sync::Arc;

use bus::{BusError, Heard};
use domain::UserId;
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::shard::Shared;

/// Heard by every node.
const SUBJECT: &str = "tl.node.said";

#[derive(Serialize, Deserialize)]
struct Said<'a> {
    /// Who tells of it, and hears it as well.
    #[serde(borrow)]
    node: Cow<'a, str>,
    #[serde(borrow)]
    app: Cow<'a, str>,
    #[serde(borrow)]
    user: Cow<'a, str>,
    events: u32,
}

/// Notes an event that was taken, and tells the other nodes when a part is full.
pub fn note(shared: &Shared, app: &App, user: &UserId) {
    let Some(events) = app.rates.as_ref().and_then(|rates| rates.to_tell(user.as_str())) else { return };
    let node = shared.id.to_string().into();
    let said = Said { node, app: app.name().into(), user: user.as_str().into(), events };
    let body = serde_json::to_vec(&said).expect("texts and a number have a JSON form");
    if let Err(error) = shared.bus.publish(SUBJECT, body) {
        tracing::debug!(app = app.name(), %error, "other nodes do not hear how much a user said");
    }
}

/// Hears the other nodes until the runtime ends, where an application limits its users.
pub fn listen(shared: &Arc<Shared>) -> Result<(), BusError> {
    if shared.apps.iter().all(|app| app.rates.is_none()) {
        return Ok(());
    }
    let heard = shared.bus.hear(SUBJECT)?;
    tokio::spawn(count(shared.clone(), heard));
    Ok(())
}

async fn count(shared: Arc<Shared>, mut heard: Heard) {
    let me = shared.id.to_string();
    loop {
        let payload = heard.next().await;
        let Ok(said) = serde_json::from_slice::<Said<'_>>(&payload) else {
            tracing::warn!("what another node tells of its users could not be read");
            continue;
        };
        let app = shared.apps.iter().find(|app| app.name() == said.app && said.node != me);
        if let Some(rates) = app.and_then(|app| app.rates.as_ref()) {
            rates.add(&said.user, said.events, shared.clock.now());
        }
    }
}
