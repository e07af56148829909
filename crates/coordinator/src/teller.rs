//! Announcements: what a committed revision tells is stored among the application's recoverable events, once.
//!
//! One atomic batch: a guard under a subject that the revision alone names, with expected sequence 0, then one copy for each room. A
//! conflict means that somebody has stored it; so the replica that committed, a follower and a repeated command may all try.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bus::{Append, AppendError, Bus};
use bytes::Bytes;
use cluster::Envelope;
use cluster::sid::ulid;
use cluster::subject::{RoomSubjects, escape_token, slot_of};
use dialects::Announcement;
use domain::RoomId;
use domain::call::call_room;
use rustc_hash::FxHashMap;

use crate::clock::unix_ms;
use crate::plan::{App, Of, Tell};
use crate::store::Unavailable;

/// Revisions known to be stored; forgotten all at once, it saves work only.
const REMEMBERED: usize = 50_000;

/// Older revisions were told long ago, and their guard may have left the stream: only their own follower tells them still.
const SURELY_TOLD_MS: u64 = 120_000;

/// Stores announcements.
#[derive(Debug)]
pub struct Teller {
    bus: Bus,
    stored: Mutex<FxHashMap<Of, u64>>,
}

/// Who wants it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A decision, new or repeated.
    Desk,
    /// The follower of this very revision: nobody else may have come to it.
    Follower,
}

impl Teller {
    pub fn new(bus: Bus) -> Self {
        Self { bus, stored: Mutex::default() }
    }

    /// Stores all, oldest first. What is stored already is passed over.
    pub async fn tell(
        &self,
        app: &App,
        who: Who,
        tells: &[Tell],
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        for tell in tells {
            let old = tell.told.at_ms + SURELY_TOLD_MS < unix_ms();
            if self.is_stored(tell) || (old && who == Who::Desk) {
                continue;
            }
            self.store(app, tell, deadline).await?;
            self.remember(tell);
        }
        Ok(())
    }

    async fn store(&self, app: &App, tell: &Tell, deadline: Instant) -> Result<(), Unavailable> {
        let messages = messages(app, tell);
        match self.bus.append_batch(messages, deadline).await {
            Ok(_) | Err(AppendError::Conflict { .. }) => Ok(()),
            Err(error) => {
                tracing::warn!(%error, app = app.name, "an announcement was not stored yet");
                Err(Unavailable)
            }
        }
    }

    fn is_stored(&self, tell: &Tell) -> bool {
        let stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        stored.get(&tell.of).is_some_and(|rev| *rev >= tell.told.rev)
    }

    fn remember(&self, tell: &Tell) {
        let mut stored = self.stored.lock().unwrap_or_else(PoisonError::into_inner);
        if stored.len() >= REMEMBERED {
            stored.clear();
        }
        let rev = stored.entry(tell.of.clone()).or_default();
        *rev = (*rev).max(tell.told.rev);
    }
}

/// The guard; the call's view for the gateways, before the events that clients hear; the events.
fn messages(app: &App, tell: &Tell) -> Vec<Append> {
    let mut messages = vec![Append::expecting(guard(&app.name, tell), 0, Bytes::new())];
    if let (Of::Call(call), false) = (&tell.of, tell.told.view.is_empty()) {
        let view = Announcement {
            rooms: vec![call_room(call)],
            event: "".into(),
            args: dialects::Out::none(),
            except: Vec::new(),
        };
        messages.extend(copies(app, &view, Some(&tell.told.view)));
    }
    messages.extend(tell.told.announcements.iter().flat_map(|news| copies(app, news, None)));
    messages
}

/// `=g` begins no escaped id, so a guard is no room's event.
fn guard(app: &str, tell: &Tell) -> String {
    let (kind, id) = match &tell.of {
        Of::Call(call) => ('c', call.as_str()),
        Of::Presence(user) => ('p', user.as_str()),
    };
    format!("tl.{}.u.=g{kind}{}.{}.g", escape_token(app), escape_token(id), tell.told.rev)
}

/// One copy for each room, all of one emission.
fn copies(app: &App, news: &Announcement, view: Option<&[u8]>) -> Vec<Append> {
    let now_ms = unix_ms();
    let (id, text) = ulid(now_ms, rand::random());
    let mut envelope = Envelope {
        id,
        rooms: news.rooms.iter().map(RoomId::as_str).collect(),
        at: 0,
        namespace: &app.namespace,
        event: &news.event,
        tail: &news.args.tail,
        attachments: news.args.attachments.iter().map(|bytes| &bytes[..]).collect(),
        except: news.except.iter().map(|id| &**id).collect(),
        view,
    };
    let copy = |(at, room): (usize, &RoomId)| {
        envelope.at = u16::try_from(at).unwrap_or(u16::MAX);
        let subject = RoomSubjects::new(&app.name, room.as_str()).event(slot_of(now_ms), &text);
        Append::unique(subject, envelope.encode())
    };
    news.rooms.iter().enumerate().map(copy).collect()
}
