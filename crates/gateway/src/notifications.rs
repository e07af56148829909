//! Users' notifications as they are kept: one mailbox for each user, and one record for each unread notification, in the
//! application's bucket. What changes a mailbox changes both in one atomic batch by compare-and-set, so that a count is one read and
//! always true. The rules are `domain::notification`.
//!
//! Start at [`notify`] for back ends and [`asked`] for clients. Changes of one mailbox on one thread wait for each other; threads and
//! nodes compete.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bus::kv::{kv_append, kv_delete_append};
use bus::{Append, AppendError, KvEntry, ReadError};
use bytes::Bytes;
use cluster::sid::ulid;
use cluster::subject::escape_token;
use dialects::{Audience, Notice, NotificationAct, NotificationOutcome, NotificationPage, Out, with_member};
use domain::notification::{Added, Entry, Mailbox, Marked, NotificationSettings, name_of};
use domain::{Identity, Rejection, UserId};
use rand::RngExt;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::app::App;
use crate::clock::unix_ms;
use crate::shard::Shard;
use crate::shard::emit::{Stamp, Telling, append_rejection};

/// Pause before a change is decided again that somebody else was faster than: at random up to this, doubled each time.
const CONFLICT_PAUSE: Duration = Duration::from_millis(4);
const CONFLICT_PAUSE_LONGEST: Duration = Duration::from_millis(100);

/// Records removed with one change; a batch holds at most 1000. What is left goes by its age.
const REMOVED_AT_ONCE: usize = 500;

/// The mailboxes that this thread changes now.
#[derive(Debug, Default)]
pub struct Lanes(FxHashMap<(u16, UserId), Rc<Lane>>);

/// A mailbox as of this thread's last change: for the next change that waits, and gone with the last one.
type Lane = Mutex<Option<Known>>;

#[derive(Clone, Debug)]
struct Known {
    mailbox: Mailbox,
    rev: u64,
}

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
    let (added, unread) = change(shard, app_ix, &notice.user, |mailbox, settings| {
        let added = mailbox.add(entry.clone(), settings);
        let records = match &added {
            Added::Stored { dropped } => stored(app, &notice.user, &entry, &object, dropped),
            Added::Known(_) | Added::WasRead => Vec::new(),
        };
        Ok((records, (added, mailbox.unread())))
    })
    .await?;
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
    let app = shard.shared.app(app_ix);
    let (marked, unread) = change(shard, app_ix, user, |mailbox, _| {
        let marked = mailbox.mark_read(name)?;
        let records = match &marked {
            Marked::Read(entry) => vec![removal(app, user, entry)],
            Marked::Before => Vec::new(),
        };
        Ok((records, (marked, mailbox.unread())))
    })
    .await?;
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
    let found = bus.kv_get_many(bucket, &keys).await.map_err(|error| unread(app, &error))?;
    let mut found: FxHashMap<String, KvEntry> =
        found.into_iter().map(|entry| (entry.key.clone(), entry)).collect();
    let mut list = Vec::with_capacity(entries.len());
    for (entry, key) in entries.iter().zip(&keys) {
        let record = match found.remove(key) {
            Some(record) => Some(record),
            // A replica that lags does not have the newest yet.
            None => bus.kv_get_at_leader(bucket, key).await.map_err(|error| unread(app, &error))?,
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

/// Decides until the mailbox is as it was decided on, or the time is over. What is refused, is refused as the leader knows it.
async fn change<R>(
    shard: &Rc<Shard>,
    app_ix: u16,
    user: &UserId,
    decide: impl Fn(&mut Mailbox, &NotificationSettings) -> Result<(Vec<Append>, R), Rejection>,
) -> Result<R, Rejection> {
    let app = shard.shared.app(app_ix);
    let deadline = Instant::now() + Duration::from_millis(app.limits.publish_timeout_ms);
    let lane = shard.turn(|state, _| state.notifications.enter(app_ix, user));
    let result = match tokio::time::timeout_at(deadline.into(), lane.lock()).await {
        Ok(mut known) => change_in(shard, app, user, &decide, &mut known, deadline).await,
        Err(_) => Err(Rejection::Unavailable),
    };
    shard.turn(|state, _| state.notifications.leave(app_ix, user, lane));
    result
}

async fn change_in<R>(
    shard: &Shard,
    app: &App,
    user: &UserId,
    decide: impl Fn(&mut Mailbox, &NotificationSettings) -> Result<(Vec<Append>, R), Rejection>,
    lane: &mut Option<Known>,
    deadline: Instant,
) -> Result<R, Rejection> {
    let mut pause = CONFLICT_PAUSE;
    loop {
        let (mut known, is_fresh) = match lane.take() {
            Some(known) => (known, false),
            None => (load(shard, app, user).await?, true),
        };
        known.mailbox.expire(&app.config.notifications, unix_ms());
        let (mut appends, result) = match decide(&mut known.mailbox, &app.config.notifications) {
            Err(_) if !is_fresh => continue,
            decided => decided?,
        };
        if appends.is_empty() {
            return Ok(result);
        }
        appends.push(mailbox(app, &known));
        match shard.shared.bus.append_batch(appends, deadline).await {
            Ok(rev) => {
                *lane = Some(Known { rev, ..known });
                return Ok(result);
            }
            Err(AppendError::Conflict { .. }) if Instant::now() + pause < deadline => {
                tokio::time::sleep(pause.mul_f64(rand::rng().random_range(0.0..1.0))).await;
                pause = (pause * 2).min(CONFLICT_PAUSE_LONGEST);
            }
            Err(error) => return Err(append_rejection(shard, app, &error)),
        }
    }
}

/// The mailbox as the leader knows it.
async fn load(shard: &Shard, app: &App, user: &UserId) -> Result<Known, Rejection> {
    let key = mailbox_key(user);
    let found = shard.shared.bus.kv_get_at_leader(&app.notifications, &key).await;
    let found = found.map_err(|error| unread(app, &error))?;
    let rev = found.as_ref().map_or(0, |entry| entry.rev);
    let mut mailbox = match found.and_then(|entry| entry.value) {
        None => Mailbox::new(user.clone()),
        Some(value) => decode(app, user, &value)?,
    };
    mailbox.expire(&app.config.notifications, unix_ms());
    Ok(Known { mailbox, rev })
}

/// The names of long users are hashed in keys.
fn decode(app: &App, user: &UserId, value: &[u8]) -> Result<Mailbox, Rejection> {
    let mailbox = serde_json::from_slice::<Mailbox>(value).ok().filter(|mailbox| mailbox.user == *user);
    mailbox.ok_or_else(|| {
        tracing::error!(app = app.name(), "a mailbox cannot be read: is it of a newer version?");
        Rejection::Unavailable
    })
}

fn unread(app: &App, error: &ReadError) -> Rejection {
    tracing::warn!(%error, app = app.name(), "notifications could not be read");
    Rejection::Unavailable
}

/// The record of a new one, and the end of those dropped for it.
fn stored(app: &App, user: &UserId, entry: &Entry, object: &str, dropped: &[Entry]) -> Vec<Append> {
    let ttl = Some(max_age(app));
    let value = Bytes::copy_from_slice(object.as_bytes());
    let new = kv_append(&app.notifications, &record_key(user, entry), value, ttl, None);
    let removed = dropped.iter().take(REMOVED_AT_ONCE).map(|entry| removal(app, user, entry));
    std::iter::once(new).chain(removed).collect()
}

fn removal(app: &App, user: &UserId, entry: &Entry) -> Append {
    kv_delete_append(&app.notifications, &record_key(user, entry), None)
}

/// Last in its batch: the batch's sequence is its revision. Untouched for the longest time, all that is in it is forgotten.
fn mailbox(app: &App, known: &Known) -> Append {
    let value = serde_json::to_vec(&known.mailbox).expect("a mailbox holds strings and numbers");
    let key = mailbox_key(&known.mailbox.user);
    kv_append(&app.notifications, &key, value.into(), Some(max_age(app)), Some(known.rev))
}

fn max_age(app: &App) -> Duration {
    Duration::from_secs(app.config.notifications.max_age_s)
}

fn mailbox_key(user: &UserId) -> String {
    format!("box.{}", escape_token(user.as_str()))
}

fn record_key(user: &UserId, entry: &Entry) -> String {
    format!("one.{}.{}", escape_token(user.as_str()), entry.key)
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
    };
    telling.store_owed(shard, stamp).await
}

impl Lanes {
    fn enter(&mut self, app: u16, user: &UserId) -> Rc<Lane> {
        self.0.entry((app, user.clone())).or_default().clone()
    }

    /// The last one out takes the lane with it.
    fn leave(&mut self, app: u16, user: &UserId, lane: Rc<Lane>) {
        const OURS_AND_THE_TABLES: usize = 2;
        if Rc::strong_count(&lane) == OURS_AND_THE_TABLES {
            self.0.remove(&(app, user.clone()));
        }
    }
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

    #[test]
    fn a_lane_is_there_while_somebody_is_in_it() {
        let (mut lanes, user) = (Lanes::default(), UserId::new("7").unwrap());
        let (one, two) = (lanes.enter(0, &user), lanes.enter(0, &user));
        assert!(Rc::ptr_eq(&one, &two));
        lanes.leave(0, &user, one);
        assert_eq!(lanes.0.len(), 1);
        lanes.leave(0, &user, two);
        assert!(lanes.0.is_empty());
    }
}
