//! Feeds of applications: a stream each, whose sequence is the entries' number. An entry's event is told under a stamp that its number
//! alone gives, so that whoever tells a later entry first tells those before it whose writer may not have come to it: whoever hears
//! the event of an entry has heard, or is about to hear, all before it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bus::{Append, AppendError, Stored};
use dialects::{FeedEntry, FeedPage, Out, Outcome, Record, Span};
use domain::{Rejection, RoomId};
use rustc_hash::FxHashMap;
use serde_json::json;
use serde_json::value::RawValue;

use super::Shard;
use super::commands::Actor;
use super::emit::{Stamp, Telling, append_rejection};
use crate::app::App;

/// When the entry was added, in milliseconds since the Unix epoch.
const AT: &str = "Tl-At";

/// Entries before a new one that are told again. More have not been told only if as many writers stopped at the same time.
const TOLD_AGAIN: u64 = 16;

/// An entry this old was told, or its writer has given up.
const OWED_MS: u64 = 60_000;

/// A replica that has not yet what the leader has is asked again.
const LAGGING_TRIES: u32 = 50;
const LAGGING_PAUSE: Duration = Duration::from_millis(20);

/// The two events of an entry, kept apart.
const TOLD: u128 = 0x7f01 << 112;
const NUMBERED: u128 = 0x7f02 << 112;

/// Up to which entry this thread knows all to be told.
#[derive(Debug, Default)]
pub struct Told(FxHashMap<(u16, &'static str), u64>);

/// A page of a feed, up to the newest entry that anybody can have heard of.
pub async fn read(shard: &Shard, actor: &Actor, feed: &str, span: Span) -> Result<Outcome, Rejection> {
    let app = shard.shared.app(actor.app);
    let stream = app.feed_stream_name(feed);
    let newest = shard.shared.bus.get_last_at_leader(&stream, &app.feed_subject(feed)).await;
    let last = newest.map_err(|error| unreadable(app, &error))?.map_or(0, |stored| stored.seq);
    let Some((from, to)) = span.bounds(last) else {
        return Ok(Outcome::Feed(FeedPage { entries: Vec::new(), last, is_cut: false }));
    };
    let stored = entries(shard, app, feed, from, to).await?;
    let is_cut = stored.first().is_none_or(|first| first.seq > from);
    let entries = stored.into_iter().filter_map(|stored| {
        let json: Box<RawValue> = serde_json::from_slice(&stored.payload).ok()?;
        Some(FeedEntry { seq: stored.seq, json })
    });
    Ok(Outcome::Feed(FeedPage { entries: entries.collect(), last, is_cut }))
}

/// Adds an entry and tells it; settles when both are stored. Under the same stamp it is added once.
pub async fn record(shard: &Rc<Shard>, app_ix: u16, record: &Record, stamp: Stamp) -> Result<u64, Rejection> {
    let app = shard.shared.app(app_ix);
    let mut append = Append::to(app.feed_subject(record.feed), record.told.args.tail.clone())
        .header(AT, stamp.at_ms.to_string());
    append.msg_id = Some(format!("{:x}-{:x}", stamp.at_ms, stamp.random));
    let deadline = Instant::now() + Duration::from_millis(app.limits.publish_timeout_ms);
    let added: Result<u64, AppendError> = shard.shared.bus.append(append, deadline).await;
    let seq = added.map_err(|error| append_rejection(shard, app, &error))?;
    tell_earlier(shard, app, app_ix, record, stamp, seq).await;
    tell(shard, app_ix, record, &record.told.args, seq, stamp.at_ms).await?;
    shard.turn(|state, _| {
        let told = state.feeds_told.0.entry((app_ix, record.feed)).or_default();
        *told = seq.max(*told);
    });
    if let Some((room, event)) = &record.numbered {
        let args = Out::json(&json!({ "seq": seq }));
        let stamp = Stamp { at_ms: stamp.at_ms, random: NUMBERED | u128::from(seq) };
        telling(app, app_ix, std::slice::from_ref(room), event, &args).store_owed(shard, stamp).await?;
    }
    Ok(seq)
}

/// Tells the entries just before this one, unless this thread knows that they were told.
async fn tell_earlier(shard: &Rc<Shard>, app: &App, app_ix: u16, record: &Record, stamp: Stamp, seq: u64) {
    let told = shard.turn(|state, _| state.feeds_told.0.get(&(app_ix, record.feed)).copied().unwrap_or(0));
    let from = (told + 1).max(seq.saturating_sub(TOLD_AGAIN)).max(1);
    if from >= seq {
        return;
    }
    let Ok(earlier) = entries(shard, app, record.feed, from, seq - 1).await else {
        return tracing::warn!(
            app = app.name(),
            feed = record.feed,
            "entries before a new one could not be read"
        );
    };
    for stored in earlier {
        let Some(at_ms) = bus::header_value(&stored.headers, AT).and_then(|at| at.parse::<u64>().ok()) else {
            continue;
        };
        if at_ms + OWED_MS < stamp.at_ms {
            continue;
        }
        let args = Out::raw(stored.payload.to_vec(), Vec::new());
        if let Err(rejection) = tell(shard, app_ix, record, &args, stored.seq, at_ms).await {
            tracing::warn!(app = app.name(), feed = record.feed, %rejection, "an earlier entry was not told");
        }
    }
}

/// Stored once, whoever tells it.
async fn tell(
    shard: &Rc<Shard>,
    app_ix: u16,
    record: &Record,
    args: &Out,
    seq: u64,
    at_ms: u64,
) -> Result<(), Rejection> {
    let app = shard.shared.app(app_ix);
    // The feeds of an application tell different events, but in one stream.
    let feed = record.feed.bytes().fold(0_u128, |sum, byte| (sum << 8 | u128::from(byte)) % (1 << 40));
    let stamp = Stamp { at_ms, random: TOLD | feed << 64 | u128::from(seq) };
    let rooms: &[RoomId] = &record.told.rooms;
    telling(app, app_ix, rooms, &record.told.event, args).store_owed(shard, stamp).await
}

fn telling<'a>(app: &'a App, app_ix: u16, rooms: &'a [RoomId], event: &'a str, args: &'a Out) -> Telling<'a> {
    Telling {
        app: app_ix,
        namespace: &app.config.namespace,
        rooms,
        event,
        args,
        except: Vec::new(),
        receipt: None,
        trace: None,
    }
}

/// The entries from one number to another that are still kept; `to` exists.
async fn entries(shard: &Shard, app: &App, feed: &str, from: u64, to: u64) -> Result<Vec<Stored>, Rejection> {
    let (stream, subject) = (app.feed_stream_name(feed), app.feed_subject(feed));
    let limit = usize::try_from(to + 1 - from).unwrap_or(usize::MAX);
    for _ in 0..LAGGING_TRIES {
        let read = shard.shared.bus.read_from(&stream, &subject, from, limit).await;
        let mut found = read.map_err(|error| unreadable(app, &error))?;
        if found.last().is_some_and(|last| last.seq >= to) {
            found.retain(|stored| stored.seq <= to);
            return Ok(found);
        }
        tokio::time::sleep(LAGGING_PAUSE).await;
    }
    Err(Rejection::Unavailable)
}

fn unreadable(app: &App, error: &bus::ReadError) -> Rejection {
    tracing::warn!(app = app.name(), %error, "a feed could not be read");
    Rejection::Unavailable
}
