//! Who is there: `user:status` asks, `user:online` and `user:offline` tell those who share a chat with the user, or asked.

use domain::presence::{Presence, PresenceSettings, Status, watchers_room};
use domain::{Rejection, RoomId, UserId};
use serde_json::{Map, Value, json};

use super::Ask;
use super::asked::done;
use crate::time::iso8601;
use crate::{Action, Actions, Announcement, Command, Out, Outcome, Watch};

/// Chats in which a user is seen to come and go, where the setting says nothing else; with the watchers they fit one emission.
const CHATS_TOLD: usize = 60;

/// Chats are where this application's users meet: more of them are told than of other rooms.
pub fn rooms_told(settings: &PresenceSettings) -> usize {
    let default = PresenceSettings::default().rooms_told;
    if settings.rooms_told == default { CHATS_TOLD } else { settings.rooms_told.min(CHATS_TOLD) }
}

/// `{ userIds }` → ack `{ success, users }`, in the order and form of the question; changes are told from then on.
pub fn status(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let asked_for = ask.payload.users("userIds")?;
    let limit = ask.dialect.realtime.presence.users_per_question;
    if asked_for.len() > limit {
        let limit = limit as u64;
        return Err(Rejection::OverLimit {
            what: "number of users",
            limit,
            setting: "presence.users_per_question",
        });
    }
    let users: Vec<(UserId, Value)> = asked_for.into_iter().map(|it| (it.user, it.wire_id)).collect();
    let asked = ask.asked.clone();
    Ok(vec![Action::Run(
        Command::Presences { users, watch: Watch::IfPossible },
        Box::new(move |_, outcome| match outcome {
            Ok(Outcome::Presences(presences)) => {
                let users: Vec<Value> = presences.iter().map(seen).collect();
                vec![done(&json!({ "users": users }))]
            }
            Ok(_) => asked.refuse(&Rejection::Unavailable),
            Err(rejection) => asked.refuse(&rejection),
        }),
    )])
}

/// What those are told who share a chat with the user or watch it.
pub fn changed(presence: &Presence) -> Vec<Announcement> {
    let event = if presence.status == Status::Offline { "user:offline" } else { "user:online" };
    let mut body = Map::new();
    body.insert("userId".into(), presence.wire_id.clone());
    body.extend(last_seen(presence));
    let chats = presence.told.iter().filter_map(|room| RoomId::new(room.clone()));
    vec![Announcement {
        rooms: [watchers_room(&presence.user)].into_iter().chain(chats).collect(),
        event: event.into(),
        args: Out::json(&body),
        except: Vec::new(),
    }]
}

fn seen(presence: &Presence) -> Value {
    let mut body = Map::new();
    body.insert("userId".into(), presence.wire_id.clone());
    body.insert("status".into(), presence.status.name().into());
    body.insert("online".into(), (presence.status != Status::Offline).into());
    body.extend(last_seen(presence));
    body.into()
}

/// Of those who are away for good.
fn last_seen(presence: &Presence) -> Option<(String, Value)> {
    let ms = presence.last_seen_ms.filter(|_| presence.status == Status::Offline)?;
    Some(("lastSeen".into(), iso8601(ms).into()))
}
