//! Rights to diets: by the configured rules (claim `diets`), as the dietitian of the diet's client (role `dietitian`, claim
//! `clients`), or by the application's hook.
//!
//! A claim `clients` of objects `{ id, diets }` says which diets are whose. One of plain ids does not: whose a diet is then
//! comes from the back end, which names diet and client with every message and with `diet-client`.

use domain::{Identity, RoomId, UserId};
use serde_json::Value;

use super::{Access, Diet, ask_hook};
use crate::{Action, Command, Inbound, Outcome, Socket};

/// Where a socket stands towards a diet.
pub enum Standing {
    Granted,
    /// Granted if the diet is one of these clients'.
    IfClientOf(Vec<UserId>),
    AskHook,
}

impl Diet {
    pub(super) fn standing(&self, socket: &Socket<'_>, room: &RoomId, diet: &UserId) -> Standing {
        if socket.is_granted(room.as_str()) {
            return Standing::Granted;
        }
        let identity = match (self.access, socket.identity) {
            (Access::Open { hook: false }, _) => return Standing::Granted,
            (Access::Open { hook: true }, _) | (Access::Token, None) => return Standing::AskHook,
            (Access::Token, Some(identity)) => identity,
        };
        if self.rights.grants(identity, room.as_str()) {
            return Standing::Granted;
        }
        let clients = clients(identity);
        if clients.iter().any(|client| has_diet(client, diet)) {
            return Standing::Granted;
        }
        let ids: Vec<UserId> = clients.iter().filter_map(client_id).collect();
        if ids.is_empty() { Standing::AskHook } else { Standing::IfClientOf(ids) }
    }
}

/// Enters if the back end has said that the diet is one of the clients', and asks the hook otherwise.
pub fn of_clients(
    inbound: &Inbound<'_>,
    room: RoomId,
    diet: &UserId,
    clients: Vec<UserId>,
    join: Action,
) -> Action {
    let hook = ask_hook(inbound, room.as_str().into());
    Action::Run(
        Command::Recall { key: fact_key(diet) },
        Box::new(move |_, outcome| {
            let client = match outcome {
                Ok(Outcome::Recalled(Some(value))) => UserId::from_json(&value),
                _ => None,
            };
            let is_theirs = client.is_some_and(|client| clients.contains(&client));
            vec![if is_theirs { join } else { hook }]
        }),
    )
}

/// Under which name the back end's word about a diet's client is kept.
pub fn fact_key(diet: &UserId) -> String {
    format!("client-of:{diet}")
}

/// A dietitian's clients, as the token names them.
fn clients(identity: &Identity) -> &[Value] {
    let is_dietitian = identity.role.as_deref() == Some("dietitian");
    let claim = identity.claims.get("clients").filter(|_| is_dietitian);
    claim.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn client_id(client: &Value) -> Option<UserId> {
    UserId::from_json(client.get("id").unwrap_or(client))
}

fn has_diet(client: &Value, diet: &UserId) -> bool {
    let diets = client.get("diets").and_then(Value::as_array);
    diets.is_some_and(|diets| diets.iter().any(|it| UserId::from_json(it).as_ref() == Some(diet)))
}
