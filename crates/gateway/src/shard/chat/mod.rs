//! Conversations as they are stored: one message per position, positions dense. Each room has one writer per thread at a time,
//! which stores all that waits in one atomic batch; writers of other threads and nodes compete for positions by
//! compare-and-set, and who loses tries the next.
//!
//! Start at [`append`]. What a message claims besides its position is in `claims`; `post` tells of messages, `read` reads them, `marks`
//! and `receipts` are who has what, `typing` who is about to write.

mod claims;
mod marks;
mod post;
mod read;
mod receipts;
mod typing;

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bus::{Append, AppendError};
use domain::Rejection;
use domain::chat::{self, Draft, Head, Message};
use hub::RoomKey;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use super::Shard;
use super::emit::append_rejection;
use crate::app::App;
use crate::clock::unix_ms;
use claims::{Claim, Evidence, Slots};

pub use marks::mark_read;
pub use post::{Origin, amend, post};
pub use read::{history, unread};
pub use receipts::{Receipts, tell};
pub use typing::Typists;

/// Messages stored at once.
const MAX_BATCH: usize = 64;

/// Characters of text stored at once; a batch stays far below what one NATS message may hold.
const MAX_BATCH_CHARS: usize = 64 * 1024;

/// Positions lost in a row before the room's newest one is read.
const CONFLICTS_PER_READ: u32 = 4;

/// Rooms whose newest message position a thread remembers.
const MAX_ROOMS: usize = 16_384;

/// Marks a batch, so that a writer knows its own again after a lost answer.
const BATCH_HEADER: &str = "Tl-Batch";

/// The rooms a thread writes to.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: FxHashMap<RoomKey, Room>,
    slots: Slots,
}

#[derive(Debug, Default)]
struct Room {
    /// A hint; the store decides.
    head: Option<Head>,
    waiting: VecDeque<Waiting>,
    writing: bool,
}

#[derive(Debug)]
struct Waiting {
    draft: Draft,
    /// What the message takes besides its position.
    claim: Claim,
    done: oneshot::Sender<Result<Stored, Rejection>>,
}

/// A message in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub message: Message,
    /// It was stored before, under the same id of its client.
    pub again: bool,
}

impl Rooms {
    /// `true`: a writer must be started.
    fn enqueue(&mut self, key: &RoomKey, waiting: Waiting) -> bool {
        if self.rooms.len() >= MAX_ROOMS && !self.rooms.contains_key(key) {
            self.rooms.retain(|_, room| room.writing);
        }
        let room = self.rooms.entry(key.clone()).or_default();
        room.waiting.push_back(waiting);
        !std::mem::replace(&mut room.writing, true)
    }

    /// What the writer stores next; `None`: nothing waits, and the writer ends. A client's id stands once in it.
    fn next(&mut self, key: &RoomKey) -> Option<(Option<Head>, Vec<Waiting>)> {
        let room = self.rooms.get_mut(key)?;
        let (mut chars, mut ids) = (0, Vec::new());
        let mut count = 0;
        for Waiting { draft, .. } in room.waiting.iter().take(MAX_BATCH) {
            chars += draft.text.len();
            let id = draft.client_id.as_ref().map(|id| (&draft.sender, id));
            if count > 0 && (chars > MAX_BATCH_CHARS || id.is_some_and(|id| ids.contains(&id))) {
                break;
            }
            ids.extend(id);
            count += 1;
        }
        let batch: Vec<Waiting> = room.waiting.drain(..count.min(room.waiting.len())).collect();
        room.writing = !batch.is_empty();
        room.writing.then_some((room.head, batch))
    }

    fn advance(&mut self, key: &RoomKey, head: Option<Head>) {
        if let Some(room) = self.rooms.get_mut(key) {
            room.head = head;
        }
    }
}

/// Stores a message under the next position of its room, or finds it stored under its client's id.
pub async fn append(shard: &Rc<Shard>, app: u16, draft: Draft) -> Result<Stored, Rejection> {
    let key = RoomKey::new(app, draft.room.as_str());
    let (done, stored) = oneshot::channel();
    let claim = Claim::of(shard.shared.app(app), &draft);
    if shard.turn(|state, _| state.chats.enqueue(&key, Waiting { draft, claim, done })) {
        tokio::task::spawn_local(write(shard.clone(), key));
    }
    stored.await.map_err(|_| Rejection::Unavailable)?
}

/// A room's writer: stores what waits until nothing does.
async fn write(shard: Rc<Shard>, key: RoomKey) {
    while let Some((head, batch)) = shard.turn(|state, _| state.chats.next(&key)) {
        let head = store(&shard, &key, head, batch).await;
        shard.turn(|state, _| state.chats.advance(&key, head));
    }
}

/// Stores a batch and answers everybody in it. Returns the head as it is known then.
async fn store(
    shard: &Rc<Shard>,
    key: &RoomKey,
    head: Option<Head>,
    mut batch: Vec<Waiting>,
) -> Option<Head> {
    let app = shard.shared.app(key.app);
    let deadline = Instant::now() + Duration::from_millis(app.limits.publish_timeout_ms);
    let answers_beyond = |head: Head| batch.iter().any(|it| it.draft.reply_to.is_some_and(|n| n > head.last));
    let mut head = match head.filter(|head| !answers_beyond(*head)) {
        Some(head) => head,
        None => match read::head(shard, app, &key.room).await {
            Ok(head) => head,
            Err(rejection) => return refuse(batch, head, &rejection),
        },
    };
    let mut conflicts = 0;
    loop {
        shard.turn(|state, _| claims::take_slots(&mut state.chats.slots, app, &mut batch));
        let messages = decide(app, head, &mut batch);
        let Some(first) = messages.first().map(|message| message.n) else { return Some(head) };
        match store_once(shard, app, &messages, &batch, deadline).await {
            Ok(()) => {
                chat::apply(&mut head, first + messages.len() as u64 - 1);
                for (waiting, message) in batch.into_iter().zip(messages) {
                    // A sender that is gone has its message stored all the same.
                    let _ = waiting.done.send(Ok(Stored { message, again: false }));
                }
                return Some(head);
            }
            Err(AppendError::Conflict { .. }) => {
                conflicts += 1;
                let judged = if batch.iter().any(|waiting| !waiting.claim.is_empty()) {
                    claims::judge(shard, app, key, first, &mut batch, deadline).await
                } else {
                    Ok(Evidence { position_taken: true })
                };
                match judged {
                    // Mostly somebody took just this position; only who is far behind has to ask how far.
                    Ok(Evidence { position_taken: true }) => chat::apply(&mut head, first),
                    Ok(Evidence { position_taken: false }) => {}
                    Err(rejection) => return refuse(batch, Some(head), &rejection),
                }
                if conflicts % CONFLICTS_PER_READ == 0 {
                    match read::head(shard, app, &key.room).await {
                        Ok(newest) => chat::apply(&mut head, newest.last),
                        Err(rejection) => return refuse(batch, Some(head), &rejection),
                    }
                }
            }
            Err(error) => {
                let rejection = append_rejection(shard, app, &error);
                return refuse(batch, Some(head), &rejection);
            }
        }
    }
}

/// Gives every draft its position. What the domain refuses is answered and left out.
fn decide(app: &App, head: Head, batch: &mut Vec<Waiting>) -> Vec<Message> {
    let (limits, now_ms) = (app.dialect.chat_limits(), unix_ms());
    let mut next = head;
    let mut messages = Vec::with_capacity(batch.len());
    for waiting in std::mem::take(batch) {
        match chat::decide(&next, &waiting.draft, &limits, now_ms) {
            Ok(message) => {
                chat::apply(&mut next, message.n);
                messages.push(message);
                batch.push(waiting);
            }
            Err(rejection) => {
                let _ = waiting.done.send(Err(rejection));
            }
        }
    }
    messages
}

/// One attempt at these positions, and at all they claim: all or nothing.
async fn store_once(
    shard: &Shard,
    app: &App,
    messages: &[Message],
    batch: &[Waiting],
    deadline: Instant,
) -> Result<(), AppendError> {
    let mark = format!("{:032x}", rand::random::<u128>());
    let mut appends: Vec<Append> = Vec::with_capacity(messages.len());
    for (message, waiting) in messages.iter().zip(batch) {
        let payload = serde_json::to_vec(message).expect("a message has string keys");
        let subject = app.chat_subject(message.room.as_str(), message.n);
        appends.push(Append::expecting(subject, 0, payload).header(BATCH_HEADER, mark.clone()));
        appends.extend(waiting.claim.appends(message.n));
    }
    if appends.len() == 1 {
        return shard.shared.bus.append(appends.remove(0), deadline).await.map(drop);
    }
    let first = appends[0].subject.clone();
    match shard.shared.bus.append_batch(appends, deadline).await {
        // A retry after a lost answer finds its own batch.
        Err(AppendError::Conflict { last }) if is_ours(shard, app, &first, &mark).await != Some(true) => {
            Err(AppendError::Conflict { last })
        }
        Err(AppendError::Conflict { .. }) | Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

async fn is_ours(shard: &Shard, app: &App, subject: &str, mark: &str) -> Option<bool> {
    let stored = shard.shared.bus.get_last_at_leader(&app.chat, subject).await.ok()??;
    Some(bus::header_value(&stored.headers, BATCH_HEADER).is_some_and(|value| value == mark))
}

fn refuse(batch: Vec<Waiting>, head: Option<Head>, rejection: &Rejection) -> Option<Head> {
    for waiting in batch {
        let _ = waiting.done.send(Err(rejection.clone()));
    }
    head
}

#[cfg(test)]
mod tests {
    use domain::{RoomId, UserId};

    use super::*;

    fn waiting(text: &str) -> Waiting {
        let room = RoomId::new("topic:x").unwrap();
        let draft = Draft::new(room, UserId::new("1").unwrap(), "1".into(), text);
        Waiting { draft, claim: Claim::default(), done: oneshot::channel().0 }
    }

    #[test]
    fn one_writer_takes_all_that_waits_in_order_and_bounded() {
        let key = RoomKey::new(0, "topic:x");
        let mut rooms = Rooms::default();
        assert!(rooms.enqueue(&key, waiting("0")));
        for n in 1..100 {
            assert!(!rooms.enqueue(&key, waiting(&n.to_string())));
        }
        let (_, batch) = rooms.next(&key).unwrap();
        let texts: Vec<&str> = batch.iter().map(|waiting| waiting.draft.text.as_str()).collect();
        assert_eq!((texts.len(), texts[0], texts[63]), (MAX_BATCH, "0", "63"));
        assert_eq!(rooms.next(&key).unwrap().1.len(), 36);
        assert!(rooms.next(&key).is_none());
        assert!(rooms.enqueue(&key, waiting("again")));
    }

    #[test]
    fn a_long_message_goes_alone() {
        let key = RoomKey::new(0, "topic:x");
        let mut rooms = Rooms::default();
        rooms.enqueue(&key, waiting(&"x".repeat(2 * MAX_BATCH_CHARS)));
        rooms.enqueue(&key, waiting("short"));
        assert_eq!(rooms.next(&key).unwrap().1.len(), 1);
        assert_eq!(rooms.next(&key).unwrap().1.len(), 1);
    }

    #[test]
    fn a_clients_id_stands_once_in_a_batch() {
        let key = RoomKey::new(0, "topic:x");
        let mut rooms = Rooms::default();
        for (text, id) in
            [("a", Some("1")), ("b", None), ("c", Some("2")), ("a again", Some("1")), ("d", None)]
        {
            let mut waiting = waiting(text);
            waiting.draft.client_id = id.map(Into::into);
            rooms.enqueue(&key, waiting);
        }
        assert_eq!(rooms.next(&key).unwrap().1.len(), 3);
        assert_eq!(rooms.next(&key).unwrap().1.len(), 2);
    }
}
