//! Who has what of a room: records `<room>.<user>` and one `<room>.=any` in the application's bucket of marks. They only grow, by
//! compare-and-set, so that whoever raises one knows what it has changed.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bus::AppendError;
use cluster::subject::escape_token;
use dialects::{Announcement, MarkRead, Outcome};
use domain::chat::{self, Mark, Marks, Message};
use domain::{Rejection, RoomId, UserId};
use futures_util::future::join_all;

use super::super::Shard;
use super::super::emit::{Stamp, Telling, append_rejection};
use super::post::Origin;
use super::read;
use crate::app::App;

/// Stands for somebody other than the sender. `=a` begins no escaped id.
const ANYBODY: &str = "=any";

/// So many marks are asked of the leader; more of a replica, which may be a moment behind.
const ASKED_ONE_BY_ONE: usize = 4;

/// Marks messages as read, and all before the newest of them. Those of them that were not read before are told.
pub async fn mark_read(shard: &Rc<Shard>, origin: Origin<'_>, read: MarkRead) -> Result<Outcome, Rejection> {
    let MarkRead { room, ns, reader, tell } = read;
    let app = shard.shared.app(origin.app);
    let messages = named(shard, app, &room, &ns).await?;
    let Some(newest) = messages.last() else { return Ok(Outcome::Marked) };
    let before = raise(shard, app, &room, Some(&reader.user), Mark { read: newest.n, delivered: 0 }).await?;
    let waited_for = messages.iter().filter(|message| chat::may_read(message, &reader.user));
    let anybodys = waited_for.clone().rfind(|message| message.recipient.is_none());
    if let Some(message) = anybodys {
        raise(shard, app, &room, None, Mark { read: message.n, delivered: 0 }).await?;
    }
    for message in waited_for.filter(|message| message.n > before.read) {
        if let Some(told) = tell(message, &reader) {
            told_by(origin, &told).store_owed(shard, Stamp::now()).await?;
        }
    }
    Ok(Outcome::Marked)
}

pub fn told_by<'a>(origin: Origin<'a>, told: &'a Announcement) -> Telling<'a> {
    Telling {
        app: origin.app,
        namespace: origin.namespace,
        rooms: &told.rooms,
        event: &told.event,
        args: &told.args,
        except: told.except.iter().map(|id| &**id).collect(),
        receipt: None,
        trace: None,
    }
}

/// The messages at these positions, in order; there must be one at each.
async fn named(shard: &Shard, app: &App, room: &RoomId, ns: &[u64]) -> Result<Vec<Message>, Rejection> {
    let wanted: BTreeSet<u64> = ns.iter().copied().collect();
    let known = read::known(shard, app, room.as_str()).await?;
    if wanted.last().is_some_and(|n| *n > known.head.last) {
        return Err(chat::Refusal::UnknownMessage.into());
    }
    let found = read::messages(shard, app, room.as_str(), &known, wanted.iter().copied()).await?;
    if found.len() == wanted.len() { Ok(found) } else { Err(chat::Refusal::UnknownMessage.into()) }
}

/// The marks by which these messages fare.
pub async fn of(shard: &Shard, app: &App, room: &RoomId, messages: &[Message]) -> Result<Marks, Rejection> {
    let recipients: BTreeSet<&UserId> =
        messages.iter().filter_map(|message| message.recipient.as_ref()).collect();
    let users: Vec<Option<&UserId>> = [None].into_iter().chain(recipients.into_iter().map(Some)).collect();
    if users.len() <= ASKED_ONE_BY_ONE {
        let waits = users.iter().map(|user| read(shard, app, room, *user));
        let found = join_all(waits).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        return Ok(collected(users.into_iter().zip(found)));
    }
    let keys: Vec<String> = users.iter().map(|user| key(room, *user)).collect();
    let entries = shard.shared.bus.kv_get_many(&app.marks, &keys).await;
    let entries = entries.map_err(|error| read::unreadable(app, &error))?;
    let mark = |key: &String| {
        let entry = entries.iter().find(|entry| entry.key == *key);
        entry.and_then(|entry| parse(entry.value.as_ref()?)).unwrap_or_default()
    };
    Ok(collected(users.into_iter().zip(keys.iter().map(mark))))
}

fn collected<'a>(found: impl Iterator<Item = (Option<&'a UserId>, Mark)>) -> Marks {
    let mut marks = Marks::default();
    for (user, mark) in found {
        match user {
            None => marks.any = mark,
            Some(user) => drop(marks.of.insert(user.clone(), mark)),
        }
    }
    marks
}

/// One mark; `None`: that of anybody but the sender.
pub async fn read(shard: &Shard, app: &App, room: &RoomId, who: Option<&UserId>) -> Result<Mark, Rejection> {
    let entry = shard.shared.bus.kv_get_at_leader(&app.marks, &key(room, who)).await;
    let entry = entry.map_err(|error| read::unreadable(app, &error))?;
    Ok(entry.and_then(|entry| parse(&entry.value?)).unwrap_or_default())
}

/// Raises a mark; returns what it was.
pub async fn raise(
    shard: &Shard,
    app: &App,
    room: &RoomId,
    who: Option<&UserId>,
    by: Mark,
) -> Result<Mark, Rejection> {
    let bus = &shard.shared.bus;
    let (key, deadline) =
        (key(room, who), Instant::now() + Duration::from_millis(app.limits.publish_timeout_ms));
    let mut entry = bus.kv_get(&app.marks, &key).await.map_err(|error| read::unreadable(app, &error))?;
    loop {
        let rev = entry.as_ref().map_or(0, |entry| entry.rev);
        let before = entry.and_then(|entry| parse(&entry.value?)).unwrap_or_default();
        let after = before.raised(by);
        if after == before {
            return Ok(before);
        }
        let value = serde_json::to_vec(&after).expect("a mark is two numbers");
        match bus.kv_put(&app.marks, &key, value.into(), None, Some(rev)).await {
            Ok(_) => return Ok(before),
            Err(AppendError::Conflict { .. }) if Instant::now() < deadline => {}
            Err(error) => return Err(append_rejection(shard, app, &error)),
        }
        entry =
            bus.kv_get_at_leader(&app.marks, &key).await.map_err(|error| read::unreadable(app, &error))?;
    }
}

fn key(room: &RoomId, who: Option<&UserId>) -> String {
    let room = escape_token(room.as_str());
    match who {
        Some(user) => format!("{room}.{}", escape_token(user.as_str())),
        None => format!("{room}.{ANYBODY}"),
    }
}

fn parse(value: &[u8]) -> Option<Mark> {
    serde_json::from_slice(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_called_anybody() {
        let room = RoomId::new("chat:1").unwrap();
        let user = UserId::new("=any").unwrap();
        assert_ne!(key(&room, Some(&user)), key(&room, None));
    }
}
