//! Users' notifications as they are kept: one mailbox for each user, and one record for each unread notification, in the
//! application's bucket. What changes a mailbox changes both in one atomic batch by compare-and-set, so that a count is one read and
//! always true. The rules are `domain::notification`.
//!
//! Start at [`notify`] for back ends and [`asked`] for clients. `lane` is how mailboxes change.

mod lane;

use std::rc::Rc;

use bus::{KvEntry, ReadError};
use cluster::sid::ulid;
use dialects::{Audience, Notice, NotificationAct, NotificationOutcome, NotificationPage, Out, with_member};
use domain::notification::{Added, Entry, Marked, NotificationSettings, name_of};
use domain::{Identity, Rejection, UserId};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::app::App;
use crate::shard::Shard;
use crate::shard::emit::{Stamp, Telling};
pub use lane::Lanes;
use lane::{Granted, Wish, change, load, record_key};

/// Keeps a notification and tells it; settles when both are stored. Under the same stamp, or with the same id of the back end's, it
/// is kept once. Answers with its id and how many are unread.
pub async fn notify(
    shard: &Rc<Shard>,
    app_ix: u16,
    notice: Notice,
    stamp: Stamp,
) -> Result<Value, Rejection> {
    let app = shard.shared.app(app_ix);
    let key: Box<str> = ulid(stamp.at_ms, stamp.random).1.into();
    let (entry, id, object) = prepare(&app.config.notifications, &notice, key, stamp.at_ms)?;
    let wish = Wish::Add { entry: entry.clone(), object: object.clone() };
    let Granted::Added(added, unread) = change(shard, app_ix, &notice.user, wish).await? else {
        return Err(Rejection::Unavailable);
    };
    // An attempt whose answer was lost finds its own; what another call keeps under this id it has told.
    let is_ours = match &added {
        Added::Stored { .. } => true,
        Added::Known(known) => known.key == entry.key,
        Added::WasRead => false,
    };
    if is_ours {
        tell(shard, app_ix, &notice, &object, stamp).await?;
    }
    Ok(json!({ "id": id, "unreadCount": unread }))
}

/// What a user asks of the own notifications.
pub async fn asked(
    shard: &Rc<Shard>,
    app_ix: u16,
    identity: Option<&Identity>,
    act: NotificationAct,
) -> Result<NotificationOutcome, Rejection> {
    let app = shard.shared.app(app_ix);
    let user = &identity.ok_or(Rejection::Unidentified)?.user;
    match act {
        NotificationAct::Unread => {
            load(shard, app, user).await.map(|known| NotificationOutcome::Unread(known.mailbox.unread()))
        }
        NotificationAct::Read { name } => mark_read(shard, app_ix, user, &name).await,
        NotificationAct::List { limit, before } => page(shard, app, user, limit, before.as_deref()).await,
    }
}

async fn mark_read(
    shard: &Rc<Shard>,
    app_ix: u16,
    user: &UserId,
    name: &str,
) -> Result<NotificationOutcome, Rejection> {
    let wish = Wish::Read { name: name.into() };
    let Granted::Marked(marked, unread) = change(shard, app_ix, user, wish).await? else {
        return Err(Rejection::Unavailable);
    };
    Ok(NotificationOutcome::Read { unread, news: marked != Marked::Before })
}

async fn page(
    shard: &Shard,
    app: &App,
    user: &UserId,
    limit: Option<usize>,
    before: Option<&str>,
) -> Result<NotificationOutcome, Rejection> {
    let settings = &app.config.notifications;
    let limit = limit.unwrap_or(settings.page);
    if limit > settings.page_most {
        let (limit, setting) = (settings.page_most as u64, "notifications.page_most");
        return Err(Rejection::OverLimit { what: "page of notifications", limit, setting });
    }
    let known = load(shard, app, user).await?;
    let page = known.mailbox.page(before, limit)?;
    let list = objects(shard, app, user, &page.entries).await?;
    let unread = known.mailbox.unread();
    Ok(NotificationOutcome::Page(NotificationPage { list, has_more: page.has_more, unread }))
}

/// The bodies, with the times. One that was read or dropped meanwhile is left out.
async fn objects(
    shard: &Shard,
    app: &App,
    user: &UserId,
    entries: &[Entry],
) -> Result<Vec<(Box<str>, u64)>, Rejection> {
    let (bus, bucket) = (&shard.shared.bus, &app.notifications);
    let keys: Vec<String> = entries.iter().map(|entry| record_key(user, entry)).collect();
    let found = bus.kv_get_many(bucket, &keys).await.map_err(|error| unreadable(app, &error))?;
    let mut found: FxHashMap<String, KvEntry> =
        found.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    let mut list = Vec::with_capacity(entries.len());
    for (entry, key) in entries.iter().zip(&keys) {
        let record = match found.remove(key) {
            Some(record) => Some(record),
            // A replica that lags does not have the newest yet.
            None => bus.kv_get_at_leader(bucket, key).await.map_err(|error| unreadable(app, &error))?,
        };
        let text = record.and_then(|record| String::from_utf8(record.value?.to_vec()).ok());
        list.extend(text.map(|text| (text.into(), entry.at_ms)));
    }
    Ok(list)
}

/// The entry, its id as clients see it, and the object with that id.
fn prepare(
    settings: &NotificationSettings,
    notice: &Notice,
    key: Box<str>,
    at_ms: u64,
) -> Result<(Entry, Value, Box<str>), Rejection> {
    #[derive(serde::Deserialize)]
    struct Given {
        id: Option<Value>,
    }
    let unreadable = Rejection::InvalidPayload { field: "notification", problem: "must be an object" };
    let given: Given = serde_json::from_str(&notice.object).map_err(|_| unreadable)?;
    let name = given.id.as_ref().map(name_of).transpose()?;
    let id = given.id.unwrap_or_else(|| Value::from(&*key));
    // `null` as an id is as good as none, and stays what the back end said.
    let object: Box<str> = with_member(&notice.object, "id", &id).into();
    if object.len() > settings.bytes {
        let (limit, setting) = (settings.bytes as u64, "notifications.bytes");
        return Err(Rejection::OverLimit { what: "notification", limit, setting });
    }
    Ok((Entry { key, id: name, at_ms }, id, object))
}

fn unreadable(app: &App, error: &ReadError) -> Rejection {
    tracing::warn!(%error, app = app.name(), "notifications could not be read");
    Rejection::Unavailable
}

async fn tell(
    shard: &Rc<Shard>,
    app_ix: u16,
    notice: &Notice,
    object: &str,
    stamp: Stamp,
) -> Result<(), Rejection> {
    let app = shard.shared.app(app_ix);
    let room = app.dialect.room_of(&Audience::User(notice.user.clone()));
    let room = room.ok_or(Rejection::InvalidRoom("the user's id is too long"))?;
    let args = Out::raw(object, Vec::new());
    let telling = Telling {
        app: app_ix,
        namespace: &app.config.namespace,
        rooms: std::slice::from_ref(&room),
        event: &notice.event,
        args: &args,
        except: notice.except.iter().map(|id| &**id).collect(),
        receipt: None,
        trace: None,
    };
    telling.store_owed(shard, stamp).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(object: &str) -> Notice {
        let user = UserId::new("7").unwrap();
        Notice { user, event: "notification:new".into(), object: object.into(), except: Vec::new() }
    }

    fn prepared(object: &str) -> Result<(Entry, Value, Box<str>), Rejection> {
        let settings = NotificationSettings { bytes: 60, ..NotificationSettings::default() };
        prepare(&settings, &notice(object), "01KEY".into(), 5)
    }

    #[test]
    fn an_object_gets_an_id_or_keeps_its_own() {
        let (entry, id, object) = prepared(r#"{"title":"t"}"#).unwrap();
        assert_eq!((entry.id, id, &*object), (None, json!("01KEY"), r#"{"id":"01KEY","title":"t"}"#));
        let (entry, id, object) = prepared(r#"{"id":42,"title":"t"}"#).unwrap();
        assert_eq!((entry.id.as_deref(), id, &*object), (Some("42"), json!(42), r#"{"id":42,"title":"t"}"#));
        for (object, code) in [
            (r#"{"id":{}}"#, "invalid_payload"),
            (r#"{"id":""}"#, "invalid_payload"),
            ("{", "invalid_payload"),
            (&format!(r#"{{"t":"{}"}}"#, "x".repeat(60)), "over_limit"),
        ] {
            assert_eq!(prepared(object).unwrap_err().code(), code, "{object}");
        }
    }
}
