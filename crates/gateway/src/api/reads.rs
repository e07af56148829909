//! Questions: how many are connected, who, and what is to be seen of users.

use std::collections::BTreeMap;
use std::rc::Rc;

use bus::ReadError;
use cluster::coordination;
use domain::UserId;
use domain::presence::{Presence, Status};
use serde_json::{Map, Value, json};

use super::plain::{self, Fields};
use super::{Answer, Fault};
use crate::app::App;
use crate::shard::Shard;
use crate::stats;

/// Clients of one page.
const MOST_CLIENTS: u64 = 1000;
/// Users of one question.
const MOST_USERS: usize = 500;

pub async fn answer(shard: &Rc<Shard>, app: u16, verb: &str, fields: &Fields<'_>) -> Answer {
    match verb {
        "stats" => totals(shard, app).await,
        "clients" => clients(shard, app, fields).await,
        "presence" => presence(shard, shard.shared.app(app), fields).await,
        other => Err(Fault::unknown_verb(other)),
    }
}

async fn totals(shard: &Shard, app: u16) -> Answer {
    let totals = stats::totals(&shard.shared, &shard.all, app).await.map_err(unavailable)?;
    Ok(json!({
        "ok": true,
        "totalConnections": totals.total,
        "onlineUsers": totals.users,
        "byRole": totals.by_role,
        "byNode": totals.by_node,
    }))
}

async fn clients(shard: &Shard, app: u16, fields: &Fields<'_>) -> Answer {
    let limit = plain::number(fields, "limit")?.unwrap_or(MOST_CLIENTS);
    if limit == 0 || limit > MOST_CLIENTS {
        return Err(Fault::invalid("limit", "must be between 1 and 1000"));
    }
    let after: Option<String> = plain::optional(fields, "after", "must be a socket id")?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = stats::clients(&shard.shared, &shard.all, app, after.as_deref(), limit).await;
    let page = page.map_err(unavailable)?;
    let clients: Vec<Value> = page.clients.iter().map(|client| client.to_json(false)).collect();
    let mut answer = json!({ "ok": true, "clients": clients });
    if let Some(next) = page.next {
        answer["next"] = next.into();
    }
    Ok(answer)
}

async fn presence(shard: &Shard, app: &App, fields: &Fields<'_>) -> Answer {
    if app.dialect.realtime().is_none() {
        return Err(Fault::new(404, "unsupported", "this application has no presence"));
    }
    let asked = plain::list(fields, "users")?;
    if asked.len() > MOST_USERS {
        return Err(Fault::invalid("users", "names more than 500 users"));
    }
    let users: Option<Vec<UserId>> = asked.iter().map(UserId::from_json).collect();
    let users = users.ok_or_else(|| Fault::invalid("users", "must be strings or integers"))?;
    let mut keys: Vec<String> = users.iter().map(coordination::presence_key).collect();
    keys.sort_unstable();
    keys.dedup();
    let entries = shard.shared.bus.kv_get_many(&app.presence, &keys).await.map_err(unavailable)?;
    let known =
        entries.iter().filter_map(|entry| coordination::decode::<Presence>(entry.value.as_ref()?).ok());
    let known: BTreeMap<UserId, Presence> = known.map(|presence| (presence.user.clone(), presence)).collect();
    let presences: Vec<Value> =
        users.iter().zip(&asked).map(|(user, wire_id)| presence_json(wire_id, known.get(user))).collect();
    Ok(json!({ "ok": true, "presences": presences }))
}

/// As clients of these applications see it.
fn presence_json(wire_id: &Value, presence: Option<&Presence>) -> Value {
    let status = presence.map_or(Status::Offline, |presence| presence.status);
    let mut object = Map::new();
    object.insert("userId".to_owned(), wire_id.clone());
    object.insert("status".to_owned(), status.name().into());
    let custom = presence.and_then(|presence| presence.choice.custom.as_deref());
    object.extend(custom.map(|text| ("customStatus".to_owned(), text.into())));
    let last_seen = presence.and_then(|presence| presence.last_seen_ms).filter(|_| status == Status::Offline);
    object.extend(last_seen.map(|ms| ("lastSeen".to_owned(), dialects::iso(ms).into())));
    object.into()
}

fn unavailable(error: ReadError) -> Fault {
    tracing::warn!(%error, "[Publish API] a question could not be answered");
    Fault::unavailable()
}
