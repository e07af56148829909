//! What a message takes besides its position, in the same atomic batch: its client's own id, so that it is stored once; and one of its
//! sender's slots of a minute, so that the rate holds over all nodes. Each is a subject that is written once and goes by itself.
//!
//! A batch that conflicts does not say over what. [`judge`] reads until something that is taken shows: a replica may be behind, so only
//! what is found counts, never what is not.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bus::{Append, ReadOptions};
use cluster::subject::escape_token;
use domain::chat::{Draft, Message};
use domain::{Rejection, UserId};
use hub::RoomKey;
use rustc_hash::FxHashMap;

use super::{Shard, Stored, Waiting};
use crate::app::App;

/// The time in which a sender's slots are free again.
const RATE_S: u64 = 60;

/// Senders whose slots a thread remembers.
const MAX_SENDERS: usize = 16_384;

/// Pause before a replica that shows nothing yet is asked again.
const LAGGING_REPLICA: Duration = Duration::from_millis(5);

/// What one message takes.
#[derive(Debug, Default)]
pub struct Claim {
    /// Subject of the client's id, and how long it stays.
    client_id: Option<(String, u64)>,
    slot: Option<Slot>,
}

#[derive(Debug)]
struct Slot {
    /// All of the sender's slots: the subject without its last token.
    prefix: String,
    limit: u64,
    /// The one that is tried; `None`: not chosen yet.
    at: Option<u64>,
}

/// Which slot a thread tries next for its senders.
#[derive(Debug, Default)]
pub struct Slots {
    next: FxHashMap<(u16, UserId), u64>,
}

/// What a conflict was about. Duplicates and senders over their rate are answered and left out of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    pub position_taken: bool,
}

impl Claim {
    pub fn of(app: &App, draft: &Draft) -> Self {
        let limit = app.limits.messages_per_minute as u64;
        let subject = |id: &str| {
            let token = escape_token(&format!("{}\0{id}", draft.sender)).into_owned();
            (app.chat_client_id_subject(draft.room.as_str(), &token), app.config.chat.client_id_s)
        };
        Self {
            client_id: draft.client_id.as_deref().map(subject),
            slot: (limit > 0).then(|| Slot {
                prefix: app.chat_rate_prefix(draft.sender.as_str()),
                limit,
                at: None,
            }),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.client_id.is_none() && self.slot.is_none()
    }

    /// The messages that take it for the message at `n`.
    pub fn appends(&self, n: u64) -> impl Iterator<Item = Append> + use<'_> {
        let append = |subject: String, ttl_s: u64| {
            Append::expecting(subject, 0, n.to_string()).header("Nats-TTL", format!("{ttl_s}s"))
        };
        let id = self.client_id.as_ref().map(|(subject, ttl_s)| append(subject.clone(), *ttl_s));
        let slot = self.slot.as_ref().and_then(Slot::subject).map(|subject| append(subject, RATE_S));
        id.into_iter().chain(slot)
    }
}

impl Slot {
    fn subject(&self) -> Option<String> {
        self.at.map(|at| format!("{}{at}", self.prefix))
    }

    fn over(&self) -> Rejection {
        let what = "number of messages in a minute";
        Rejection::OverLimit { what, limit: self.limit, setting: "limits.messages_per_minute" }
    }
}

/// Chooses a slot for each message that needs one and has none. No two of a batch are alike: more than the limit are refused.
pub fn take_slots(slots: &mut Slots, app: &App, batch: &mut Vec<Waiting>) {
    if app.limits.messages_per_minute == 0 {
        return;
    }
    if slots.next.len() > MAX_SENDERS {
        slots.next.clear();
    }
    let mut taken: BTreeSet<String> =
        batch.iter().filter_map(|waiting| waiting.claim.slot.as_ref()?.subject()).collect();
    for mut waiting in std::mem::take(batch) {
        let Some(slot) = waiting.claim.slot.as_mut().filter(|slot| slot.at.is_none()) else {
            batch.push(waiting);
            continue;
        };
        let next = slots.next.entry((app.ix, waiting.draft.sender.clone())).or_default();
        for _ in 0..slot.limit {
            slot.at = Some(*next % slot.limit);
            *next = (*next + 1) % slot.limit;
            if slot.subject().is_some_and(|subject| taken.insert(subject)) {
                break;
            }
            slot.at = None;
        }
        if slot.at.is_some() {
            batch.push(waiting);
        } else {
            let over = slot.over();
            let _ = waiting.done.send(Err(over));
        }
    }
}

/// Reads until it shows what was taken, and takes those out of the batch who are answered by it.
pub async fn judge(
    shard: &Rc<Shard>,
    app: &App,
    key: &RoomKey,
    first: u64,
    batch: &mut Vec<Waiting>,
    deadline: Instant,
) -> Result<Evidence, Rejection> {
    let position = app.chat_subject(&key.room, first);
    let claims = batch.iter().flat_map(|waiting| waiting.claim.appends(0)).map(|append| append.subject);
    let subjects: Vec<String> = claims.chain([position.clone()]).collect();
    loop {
        let found = read(shard, app, &subjects).await?;
        if !found.is_empty() {
            let position_taken = found.contains_key(&position);
            answer_duplicates(shard, app, key, batch, &found, deadline).await?;
            change_slots(shard, app, batch, &found).await?;
            return Ok(Evidence { position_taken });
        }
        if Instant::now() + LAGGING_REPLICA > deadline {
            return Err(Rejection::Unavailable);
        }
        tokio::time::sleep(LAGGING_REPLICA).await;
    }
}

/// What stands under these subjects: positions, for claims.
async fn read(shard: &Shard, app: &App, subjects: &[String]) -> Result<FxHashMap<String, u64>, Rejection> {
    let found = shard.shared.bus.read_last(&app.chat, subjects, ReadOptions::default()).await;
    let found = found.map_err(|error| super::read::unreadable(app, &error))?;
    let n = |payload: &[u8]| std::str::from_utf8(payload).ok().and_then(|text| text.parse().ok());
    Ok(found.into_iter().map(|stored| (stored.subject, n(&stored.payload).unwrap_or(0))).collect())
}

/// Messages whose clients' ids are taken: their senders are given the message that is stored.
async fn answer_duplicates(
    shard: &Shard,
    app: &App,
    key: &RoomKey,
    batch: &mut Vec<Waiting>,
    found: &FxHashMap<String, u64>,
    deadline: Instant,
) -> Result<(), Rejection> {
    for waiting in std::mem::take(batch) {
        let taken = waiting.claim.client_id.as_ref().and_then(|(subject, _)| found.get(subject));
        match taken {
            None => batch.push(waiting),
            Some(n) => {
                let message = first_one(shard, app, key, *n, deadline).await;
                let _ = waiting.done.send(message.map(|message| Stored { message, again: true }));
            }
        }
    }
    Ok(())
}

/// The message at a position that is known to be taken.
async fn first_one(
    shard: &Shard,
    app: &App,
    key: &RoomKey,
    n: u64,
    deadline: Instant,
) -> Result<Message, Rejection> {
    loop {
        if let Some((message, _)) = super::read::at_leader(shard, app, &key.room, n).await? {
            return Ok(message);
        }
        if Instant::now() + LAGGING_REPLICA > deadline {
            return Err(Rejection::Unavailable);
        }
        tokio::time::sleep(LAGGING_REPLICA).await;
    }
}

/// Messages whose slots are taken get others; where none is left their senders are over their rate.
async fn change_slots(
    shard: &Shard,
    app: &App,
    batch: &mut Vec<Waiting>,
    found: &FxHashMap<String, u64>,
) -> Result<(), Rejection> {
    let is_taken = |slot: &Slot| slot.subject().is_some_and(|subject| found.contains_key(&subject));
    let crowded: BTreeSet<String> = batch
        .iter()
        .filter_map(|waiting| waiting.claim.slot.as_ref().filter(|slot| is_taken(slot)))
        .map(|slot| format!("{}*", slot.prefix))
        .collect();
    if crowded.is_empty() {
        return Ok(());
    }
    let mut taken: BTreeSet<String> = BTreeSet::new();
    for filter in crowded {
        taken.extend(read(shard, app, &[filter]).await?.into_keys());
    }
    for mut waiting in std::mem::take(batch) {
        if let Some(slot) = waiting.claim.slot.as_mut().filter(|slot| is_taken(slot)) {
            let free = (0..slot.limit).find(|at| taken.insert(format!("{}{at}", slot.prefix)));
            slot.at = free;
            if free.is_none() {
                let over = slot.over();
                let _ = waiting.done.send(Err(over));
                continue;
            }
        }
        batch.push(waiting);
    }
    Ok(())
}
