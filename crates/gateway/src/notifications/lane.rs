//! One change of a mailbox at a time: what this thread wants of a mailbox at once goes into one atomic batch, decided again when
//! another thread or node was faster. Start at [`change`].

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bus::kv::{kv_append, kv_delete_append};
use bus::{Append, AppendError};
use cluster::subject::escape_token;
use domain::notification::{Added, Entry, Mailbox, Marked, NotificationSettings};
use domain::{Rejection, UserId};
use rand::RngExt;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{Mutex, oneshot};

use super::unreadable;
use crate::app::App;
use crate::clock::unix_ms;
use crate::shard::Shard;
use crate::shard::emit::append_rejection;

/// Pause before a change is decided again that somebody else was faster than: at random up to this, doubled each time.
const CONFLICT_PAUSE: Duration = Duration::from_millis(2);
const CONFLICT_PAUSE_LONGEST: Duration = Duration::from_millis(20);

/// Records removed with one change; a batch holds at most 1000. What is left goes by its age.
const REMOVED_AT_ONCE: usize = 500;

/// Wishes that one change carries out.
const WISHES_AT_ONCE: usize = 64;

/// The mailboxes that this thread changes now.
#[derive(Debug, Default)]
pub struct Lanes(FxHashMap<(u16, UserId), Rc<Lane>>);

/// One mailbox that changes: whoever holds it carries out what waits.
#[derive(Debug, Default)]
struct Lane {
    /// As of this thread's last change; gone with the last one who waits.
    known: Mutex<Option<Known>>,
    waiting: RefCell<VecDeque<Waiting>>,
}

/// A mailbox and its revision.
#[derive(Clone, Debug)]
pub struct Known {
    pub mailbox: Mailbox,
    rev: u64,
}

#[derive(Debug)]
struct Waiting {
    wish: Wish,
    done: oneshot::Sender<Result<Granted, Rejection>>,
}

/// A change that is asked for.
#[derive(Debug)]
pub enum Wish {
    Add { entry: Entry, object: Box<str> },
    Read { name: Box<str> },
}

/// What became of a wish, and how many are unread after it.
#[derive(Debug)]
pub enum Granted {
    Added(Added, usize),
    Marked(Marked, usize),
}

/// Records that one change writes (`Some`) and removes; one word for each.
type Records = BTreeMap<String, Option<Box<str>>>;

/// Settles when the wish is carried out, by whoever holds the lane.
pub async fn change(shard: &Rc<Shard>, app_ix: u16, user: &UserId, wish: Wish) -> Result<Granted, Rejection> {
    let app = shard.shared.app(app_ix);
    let deadline = Instant::now() + Duration::from_millis(app.limits.publish_timeout_ms);
    let (done, mut granted) = oneshot::channel();
    let lane = shard.turn(|state, _| state.notifications.enter(app_ix, user));
    lane.waiting.borrow_mut().push_back(Waiting { wish, done });
    let result = match tokio::time::timeout_at(deadline.into(), lane.known.lock()).await {
        Err(_) => Err(Rejection::Unavailable),
        Ok(mut known) => loop {
            match granted.try_recv() {
                Ok(result) => break result,
                Err(TryRecvError::Closed) => break Err(Rejection::Unavailable),
                Err(TryRecvError::Empty) => {}
            }
            let count = lane.waiting.borrow().len().min(WISHES_AT_ONCE);
            let some: Vec<Waiting> = lane.waiting.borrow_mut().drain(..count).collect();
            carry_out(shard, app, user, some, &mut known, deadline).await;
        },
    };
    shard.turn(|state, _| state.notifications.leave(app_ix, user, lane));
    result
}

/// Carries wishes out in one change and answers them.
async fn carry_out(
    shard: &Shard,
    app: &App,
    user: &UserId,
    waiting: Vec<Waiting>,
    known: &mut Option<Known>,
    deadline: Instant,
) {
    let (wishes, done): (Vec<Wish>, Vec<_>) = waiting.into_iter().map(|it| (it.wish, it.done)).unzip();
    let results = match commit(shard, app, user, &wishes, known, deadline).await {
        Ok(results) => results,
        Err(rejection) => wishes.iter().map(|_| Err(rejection.clone())).collect(),
    };
    for (done, result) in done.into_iter().zip(results) {
        // Who gave up waiting has been told that it is late.
        let _ = done.send(result);
    }
}

/// Decides until the mailbox is as it was decided on, or the time is over. What is refused, is refused as the leader knows it.
async fn commit(
    shard: &Shard,
    app: &App,
    user: &UserId,
    wishes: &[Wish],
    lane: &mut Option<Known>,
    deadline: Instant,
) -> Result<Vec<Result<Granted, Rejection>>, Rejection> {
    let mut pause = CONFLICT_PAUSE;
    loop {
        let (mut known, is_fresh) = match lane.take() {
            Some(known) => (known, false),
            None => (load(shard, app, user).await?, true),
        };
        known.mailbox.expire(&app.config.notifications, unix_ms());
        let (results, records) = decide(&mut known.mailbox, wishes, &app.config.notifications);
        if !is_fresh && results.iter().any(Result::is_err) {
            continue;
        }
        if records.is_empty() {
            return Ok(results);
        }
        match shard.shared.bus.append_batch(batch(app, &known, records), deadline).await {
            Ok(rev) => {
                *lane = Some(Known { rev, ..known });
                return Ok(results);
            }
            Err(AppendError::Conflict { .. }) if Instant::now() + pause < deadline => {
                tokio::time::sleep(pause.mul_f64(rand::rng().random_range(0.0..1.0))).await;
                pause = (pause * 2).min(CONFLICT_PAUSE_LONGEST);
            }
            Err(error) => return Err(append_rejection(shard, app, &error)),
        }
    }
}

/// All wishes, one after the other, and the records that follow from them.
fn decide(
    mailbox: &mut Mailbox,
    wishes: &[Wish],
    settings: &NotificationSettings,
) -> (Vec<Result<Granted, Rejection>>, Records) {
    let mut records = Records::new();
    let user = mailbox.user.clone();
    let grant = |wish: &Wish| match wish {
        Wish::Add { entry, object } => {
            let added = mailbox.add(entry.clone(), settings);
            if let Added::Stored { dropped } = &added {
                records.insert(record_key(&user, entry), Some(object.clone()));
                records.extend(dropped.iter().map(|entry| (record_key(&user, entry), None)));
            }
            Ok(Granted::Added(added, mailbox.unread()))
        }
        Wish::Read { name } => {
            let marked = mailbox.mark_read(name)?;
            if let Marked::Read(entry) = &marked {
                records.insert(record_key(&user, entry), None);
            }
            Ok(Granted::Marked(marked, mailbox.unread()))
        }
    };
    let results = wishes.iter().map(grant).collect();
    (results, records)
}

/// The records, and last the mailbox: the batch's sequence is its revision. Untouched for the longest time, all is forgotten.
fn batch(app: &App, known: &Known, records: Records) -> Vec<Append> {
    let (bucket, ttl) = (&app.notifications, Some(Duration::from_secs(app.config.notifications.max_age_s)));
    let mut removed = 0;
    let mut appends: Vec<Append> = Vec::with_capacity(records.len() + 1);
    for (key, object) in records {
        match object {
            Some(object) => {
                appends.push(kv_append(bucket, &key, object.into_string().into(), ttl, None));
            }
            None if removed < REMOVED_AT_ONCE => {
                removed += 1;
                appends.push(kv_delete_append(bucket, &key, None));
            }
            None => {}
        }
    }
    let value = serde_json::to_vec(&known.mailbox).expect("a mailbox holds strings and numbers");
    let key = mailbox_key(&known.mailbox.user);
    appends.push(kv_append(bucket, &key, value.into(), ttl, Some(known.rev)));
    appends
}

/// The mailbox as the leader knows it.
pub async fn load(shard: &Shard, app: &App, user: &UserId) -> Result<Known, Rejection> {
    let key = mailbox_key(user);
    let found = shard.shared.bus.kv_get_at_leader(&app.notifications, &key).await;
    let found = found.map_err(|error| unreadable(app, &error))?;
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

fn mailbox_key(user: &UserId) -> String {
    format!("box.{}", escape_token(user.as_str()))
}

pub fn record_key(user: &UserId, entry: &Entry) -> String {
    format!("one.{}.{}", escape_token(user.as_str()), entry.key)
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

    #[test]
    fn one_change_writes_each_record_once() {
        let settings = NotificationSettings { per_user: 2, ..NotificationSettings::default() };
        let entry = |n: u64| Entry { key: format!("{n:026}").into(), id: None, at_ms: n };
        let add = |n| Wish::Add { entry: entry(n), object: "{}".into() };
        let read = |n: u64| Wish::Read { name: entry(n).key };
        let mut mailbox = Mailbox::new(UserId::new("7").unwrap());
        let wishes = [add(1), add(2), read(2), read(2), add(3), add(4), read(9)];
        let (results, records) = decide(&mut mailbox, &wishes, &settings);
        let unread: Vec<_> = results
            .iter()
            .map(|result| match result {
                Ok(Granted::Added(_, unread) | Granted::Marked(_, unread)) => Some(*unread),
                Err(_) => None,
            })
            .collect();
        assert_eq!(unread, [Some(1), Some(2), Some(1), Some(1), Some(2), Some(2), None]);
        let kept: Vec<bool> = records.values().map(Option::is_some).collect();
        assert_eq!(kept, [false, false, true, true], "the first was dropped, the second read");
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
