//! Conversations read: the newest position, pages, what is unread. How far a room goes is asked of the stream's leader; its messages
//! may come from a replica, which is asked again while it lacks some.

use std::rc::Rc;
use std::time::Duration;

use bus::{ReadError, ReadOptions};
use dialects::{Announcement, History, Outcome};
use domain::chat::{self, Head, Message, Page, Standing};
use domain::{Rejection, RoomId, UserId};
use futures_util::future::join_all;

use super::super::Shard;
use super::super::commands::Actor;
use super::marks;
use crate::app::App;

/// Pause before a replica that lags is asked again, and how often it is.
const LAGGING_REPLICA: Duration = Duration::from_millis(20);
const LAGGING_TRIES: usize = 25;

/// Positions asked for beyond one that may not be the newest.
const PROBED: u64 = 16;

/// Messages of one read: the server answers for more subjects, and slower.
const PER_READ: usize = 500;

/// Rooms whose unread messages are counted at once.
const ROOMS_AT_ONCE: usize = 16;

/// A page may take this part of what may wait for a client.
const PART_OF_OUTBOX: usize = 4;

/// A message as it is now, with the sequence of its last version; `None`: there is none at this position.
pub async fn at_leader(
    shard: &Shard,
    app: &App,
    room: &str,
    n: u64,
) -> Result<Option<(Message, u64)>, Rejection> {
    let found = shard.shared.bus.get_last_at_leader(&app.chat, &app.chat_subject(room, n)).await;
    let found = found.map_err(|error| unreadable(app, &error))?;
    Ok(found.and_then(|stored| Some((parse(app, &stored.payload)?, stored.seq))))
}

/// A room as its leader knows it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Known {
    pub head: Head,
    /// What was stored last: the message's position, and the sequence of this version.
    last: Option<(u64, u64)>,
}

/// The newest position.
pub async fn head(shard: &Shard, app: &App, room: &str) -> Result<Head, Rejection> {
    known(shard, app, room).await.map(|known| known.head)
}

/// What was stored last may be a change of an older message: then the positions beyond what it knew are asked for.
pub async fn known(shard: &Shard, app: &App, room: &str) -> Result<Known, Rejection> {
    let newest = shard.shared.bus.get_last_at_leader(&app.chat, &app.chat_filter(room)).await;
    let newest = newest.map_err(|error| unreadable(app, &error))?;
    let newest = newest.and_then(|stored| Some((parse(app, &stored.payload)?, stored.seq)));
    let Some((message, seq)) = newest else { return Ok(Known::default()) };
    let mut known = Known { head: Head { last: message.newest_known() }, last: Some((message.n, seq)) };
    if message.rev == 0 {
        return Ok(known);
    }
    loop {
        let next = known.head.last + 1;
        let beyond = messages(shard, app, room, &known, next..next + PROBED).await?;
        let Some(found) = beyond.last() else { return Ok(known) };
        chat::apply(&mut known.head, found.n);
    }
}

/// A page of a conversation, with how its messages fare. What the reader's device has now, its senders are told.
pub async fn history(
    shard: &Rc<Shard>,
    actor: &Actor,
    room: RoomId,
    page: Page,
    receipt: fn(&Message) -> Announcement,
) -> Result<Outcome, Rejection> {
    let app = shard.shared.app(actor.app);
    let known = known(shard, app, room.as_str()).await?;
    let part = page.positions(known.head.last);
    let messages = messages(shard, app, room.as_str(), &known, part.positions).await?;
    let (messages, cut) = fitting(messages, page.after.is_none(), app.limits.outbox_bytes / PART_OF_OUTBOX);
    let marks = marks::of(shard, app, &room, &messages).await?;
    if let Some(reader) = &actor.identity {
        let news = messages.iter().filter(|message| {
            chat::may_read(message, &reader.user) && marks.standing(message) == Standing::Sent
        });
        let news: Vec<(&Message, Announcement)> = news.map(|message| (message, receipt(message))).collect();
        shard.turn(|state, _| {
            let told = news.iter().filter_map(|(message, told)| super::post::receipt_of(message, told));
            let told = told.filter_map(|told| hub::Receipt::of(&told));
            told.for_each(|told| state.add_receipt(actor.app, told.into()));
        });
    }
    Ok(Outcome::History(Box::new(History { messages, marks, has_more: part.has_more || cut })))
}

/// For each room the messages of others that the user has not read, as far back as the application counts.
pub async fn unread(shard: &Rc<Shard>, actor: &Actor, rooms: Vec<RoomId>) -> Result<Outcome, Rejection> {
    let app = shard.shared.app(actor.app);
    let identity = actor.identity.as_ref().ok_or(Rejection::RoomDenied)?;
    let mut counts = Vec::with_capacity(rooms.len());
    for some in rooms.chunks(ROOMS_AT_ONCE) {
        let waits = some.iter().map(|room| unread_in(shard, app, room, &identity.user));
        for count in join_all(waits).await {
            counts.push(count?);
        }
    }
    Ok(Outcome::Unread(counts))
}

async fn unread_in(shard: &Shard, app: &App, room: &RoomId, user: &UserId) -> Result<usize, Rejection> {
    let mark = marks::read(shard, app, room, Some(user)).await?;
    let known = known(shard, app, room.as_str()).await?;
    let counted = app.config.chat.unread_counted as u64;
    let first = (mark.read + 1).max((known.head.last + 1).saturating_sub(counted));
    let newest = messages(shard, app, room.as_str(), &known, first..=known.head.last).await?;
    Ok(chat::unread(&newest, user, mark))
}

/// Messages at some positions, in order, at least as new as the leader knew them. Those that are missing there are not: positions that
/// are free, or that somebody has taken out of the stream.
pub async fn messages(
    shard: &Shard,
    app: &App,
    room: &str,
    known: &Known,
    positions: impl IntoIterator<Item = u64>,
) -> Result<Vec<Message>, Rejection> {
    let positions: Vec<u64> = positions.into_iter().collect();
    let mut messages = Vec::with_capacity(positions.len());
    for positions in positions.chunks(PER_READ) {
        messages.extend(part(shard, app, room, known, positions).await?);
    }
    messages.sort_unstable_by_key(|message| message.n);
    Ok(messages)
}

/// One read, with what was stored last in it: a replica that lacks it is asked again.
async fn part(
    shard: &Shard,
    app: &App,
    room: &str,
    known: &Known,
    positions: &[u64],
) -> Result<Vec<Message>, Rejection> {
    let Some((last, seq)) = known.last else { return Ok(Vec::new()) };
    let witness = (!positions.contains(&last)).then_some(last);
    let asked = positions.iter().copied().chain(witness);
    let subjects: Vec<String> = asked.map(|n| app.chat_subject(room, n)).collect();
    let mark = app.chat_subject(room, last);
    for _ in 0..LAGGING_TRIES {
        let found = shard.shared.bus.read_last(&app.chat, &subjects, ReadOptions::default()).await;
        let found = found.map_err(|error| unreadable(app, &error))?;
        if found.iter().any(|stored| stored.subject == mark && stored.seq >= seq) {
            let parsed = found.iter().filter_map(|stored| parse(app, &stored.payload));
            return Ok(parsed.filter(|message| Some(message.n) != witness).collect());
        }
        tokio::time::sleep(LAGGING_REPLICA).await;
    }
    tracing::warn!(app = app.name(), "the replicas of the conversations lag behind");
    Err(Rejection::Unavailable)
}

/// As many messages as fit, at least one, and whether some did not: the newest of them, or the oldest.
fn fitting(mut messages: Vec<Message>, newest: bool, max_bytes: usize) -> (Vec<Message>, bool) {
    let mut left = max_bytes;
    let mut fits = |message: &Message| {
        let bytes = serde_json::to_vec(message).map_or(0, |json| json.len());
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    };
    let count = if newest {
        messages.iter().rev().take_while(|message| fits(message)).count()
    } else {
        messages.iter().take_while(|message| fits(message)).count()
    };
    let count = count.max(1).min(messages.len());
    let cut = count < messages.len();
    if newest {
        messages.drain(..messages.len() - count);
    } else {
        messages.truncate(count);
    }
    (messages, cut)
}

fn parse(app: &App, payload: &[u8]) -> Option<Message> {
    let message = serde_json::from_slice(payload);
    message.inspect_err(|error| tracing::warn!(%error, app = app.name(), "a message could not be read")).ok()
}

pub fn unreadable(app: &App, error: &ReadError) -> Rejection {
    tracing::warn!(%error, app = app.name(), "a conversation could not be read");
    Rejection::Unavailable
}

#[cfg(test)]
mod tests {
    use domain::ChatLimits;
    use domain::chat::{Draft, decide};

    use super::*;

    fn message(n: u64) -> Message {
        let draft =
            Draft::new(RoomId::new("r").unwrap(), UserId::new("1").unwrap(), "1".into(), "x".repeat(100));
        decide(&Head { last: n - 1 }, &draft, &ChatLimits::default(), 0).unwrap()
    }

    #[test]
    fn a_page_that_is_too_large_is_cut_where_it_began() {
        let page = |newest, bytes| {
            let (kept, cut) = fitting((1..=5).map(message).collect(), newest, bytes);
            (kept.iter().map(|message| message.n).collect::<Vec<_>>(), cut)
        };
        assert_eq!(page(true, 1 << 20), (vec![1, 2, 3, 4, 5], false));
        assert_eq!(page(true, 400), (vec![4, 5], true));
        assert_eq!(page(false, 400), (vec![1, 2], true));
        assert_eq!(page(true, 0), (vec![5], true));
        assert_eq!(fitting(vec![], true, 0), (vec![], false));
    }
}
