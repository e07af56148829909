//! Presence: `presence:get`, `presence:subscribe`, `presence:unsubscribe`, `presence:setStatus`, and `presence:changed` for those
//! who may see it. Rights stand in rules for `presence:<userId>`; one's own is always visible.

use std::collections::HashMap;

use domain::presence::{ChoiceChange, Presence, Status, watchers_room};
use domain::{Identity, Rejection, RoomId, UserId};
use serde_json::{Map, Value, json};

use super::{Telehealth, refuse, required, rooms, text};
use crate::{Action, Actions, Announcement, Command, Inbound, Out, Outcome, Watch};

impl Telehealth {
    /// Events whose names begin with `presence:`.
    pub(super) fn presence_event(
        &self,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        match inbound.name {
            "presence:get" => self.presences(identity, inbound, Watch::IfPossible),
            "presence:subscribe" => self.presences(identity, inbound, Watch::Required),
            "presence:unsubscribe" => self.unwatch(inbound),
            "presence:setStatus" => self.choose(inbound),
            _ => Err(Rejection::UnknownEvent),
        }
    }

    /// To the user's own devices, to who asked for it, to the rooms the user is seen in; one copy per socket.
    pub(crate) fn presence_changed(&self, presence: &Presence) -> Vec<Announcement> {
        let told = presence.told.iter().filter_map(|room| RoomId::new(room.clone()));
        let rooms = rooms::personal(&presence.user).into_iter().chain([watchers_room(&presence.user)]);
        vec![Announcement {
            rooms: rooms.chain(told).collect(),
            event: "presence:changed".into(),
            args: Out::json(&seen(presence, &presence.wire_id)),
            except: Vec::new(),
        }]
    }

    /// Answered in the order and the form of the question, also where it names a user twice.
    fn presences(
        &self,
        identity: &Identity,
        inbound: &Inbound<'_>,
        watch: Watch,
    ) -> Result<Actions, Rejection> {
        let asked = self.asked(inbound)?;
        if asked.iter().any(|(user, _)| !self.may_see(identity, user)) {
            return Err(Rejection::RoomDenied);
        }
        let users = unique(&asked);
        let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
        Ok(vec![Action::Run(
            Command::Presences { users, watch },
            Box::new(move |_, outcome| match outcome {
                Ok(Outcome::Presences(presences)) => vec![Action::Ack(answer(&asked, &presences))],
                Err(rejection) => refuse(&event, wants_ack, &rejection),
                _ => Actions::new(),
            }),
        )])
    }

    fn unwatch(&self, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
        let users = unique(&self.asked(inbound)?).into_iter().map(|(user, _)| user).collect();
        let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
        Ok(vec![Action::Run(
            Command::Unwatch(users),
            Box::new(move |_, outcome| match outcome {
                Ok(_) => vec![Action::Ack(Out::json(&json!({ "success": true })))],
                Err(rejection) => refuse(&event, wants_ack, &rejection),
            }),
        )])
    }

    fn choose(&self, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
        let payload: Map<String, Value> = inbound.object()?;
        let change = ChoiceChange { status: Some(status(&payload)?), custom: self.custom_status(&payload)? };
        let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
        Ok(vec![Action::Run(
            Command::Choose(change),
            Box::new(move |_, outcome| match outcome {
                Ok(Outcome::Chosen(presence)) => {
                    let presence = seen(&presence, &presence.wire_id);
                    vec![Action::Ack(Out::json(&json!({ "success": true, "presence": presence })))]
                }
                Err(rejection) => refuse(&event, wants_ack, &rejection),
                _ => Actions::new(),
            }),
        )])
    }

    /// `None`: not spoken of. `Some(None)`: to be removed, by `null` or an empty text.
    fn custom_status(&self, payload: &Map<String, Value>) -> Result<Option<Option<Box<str>>>, Rejection> {
        let limit = self.realtime.presence.custom_chars;
        match payload.get("customStatus") {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::String(text)) if text.is_empty() => Ok(Some(None)),
            Some(Value::String(text)) if text.chars().count() <= limit => {
                Ok(Some(Some(text.as_str().into())))
            }
            Some(Value::String(_)) => Err(Rejection::OverLimit {
                what: "custom status",
                limit: limit as u64,
                setting: "presence.custom_chars",
            }),
            Some(_) => {
                Err(Rejection::InvalidPayload { field: "customStatus", problem: "must be a string or null" })
            }
        }
    }

    /// The users that the payload names, each with its id as the client wrote it.
    fn asked(&self, inbound: &Inbound<'_>) -> Result<Vec<(UserId, Value)>, Rejection> {
        let mut payload: Map<String, Value> = inbound.object()?;
        required(&payload, "userIds")?;
        let Some(Value::Array(ids)) = payload.remove("userIds") else {
            return Err(Rejection::InvalidPayload { field: "userIds", problem: "must be an array" });
        };
        let limit = self.realtime.presence.users_per_question;
        if ids.len() > limit {
            return Err(Rejection::OverLimit {
                what: "number of users",
                limit: limit as u64,
                setting: "presence.users_per_question",
            });
        }
        ids.into_iter().map(|id| Ok((user(&id)?, id))).collect()
    }

    fn may_see(&self, identity: &Identity, user: &UserId) -> bool {
        identity.user == *user || self.rights.grants(identity, &format!("presence:{user}"))
    }
}

fn user(id: &Value) -> Result<UserId, Rejection> {
    UserId::from_json(id).ok_or(Rejection::InvalidPayload {
        field: "userIds",
        problem: "must hold non-empty strings or integers",
    })
}

/// Each user once, in the order of the question.
fn unique(asked: &[(UserId, Value)]) -> Vec<(UserId, Value)> {
    let mut seen = std::collections::HashSet::new();
    asked.iter().filter(|(user, _)| seen.insert(user)).cloned().collect()
}

fn answer(asked: &[(UserId, Value)], presences: &[Presence]) -> Out {
    let by_user: HashMap<&UserId, &Presence> = presences.iter().map(|it| (&it.user, it)).collect();
    let list: Vec<Value> =
        asked.iter().filter_map(|(user, wire)| Some(seen(by_user.get(user)?, wire))).collect();
    Out::json(&json!({ "success": true, "presences": list }))
}

/// A status that one can choose: being in a call is not said, it is seen.
fn status(payload: &Map<String, Value>) -> Result<Status, Rejection> {
    let chosen = Status::parse(text(payload, "status")?).filter(|status| *status != Status::InCall);
    chosen.ok_or(Rejection::InvalidPayload {
        field: "status",
        problem: "must be one of online, away, busy, offline",
    })
}

/// What others see. Last seen is said of those who are away for good: for all others it is now.
fn seen(presence: &Presence, wire_id: &Value) -> Value {
    let mut object = Map::new();
    object.insert("userId".into(), wire_id.clone());
    object.insert("status".into(), presence.status.name().into());
    let custom = presence.choice.custom.as_deref();
    object.extend(custom.map(|text| ("customStatus".to_owned(), text.into())));
    let last_seen = presence.last_seen_ms.filter(|_| presence.status == Status::Offline);
    object.extend(last_seen.map(|ms| ("lastSeen".to_owned(), crate::time::iso8601(ms).into())));
    object.into()
}
