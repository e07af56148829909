//! Announcements: what a committed revision tells is stored among the application's recoverable events, once.
//!
//! Each copy goes under a subject that the revision alone names, with expected sequence 0. A conflict means that somebody has stored
//! it; so the replica that committed, a follower and a repeated command may all try, and whoever comes after one that died in
//! between stores the rest. One revision is stored before the next is sent; the copies of one go out together, in their order, which
//! only a connection that breaks between them can change.
//!
//! Not an atomic batch: on a stream of one replica the server stages each batch in a directory of its own, with five flushes to the
//! disk, while the stream waits. Copies one by one cost a hundredth of that (docs/benchmarks.md).

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use bus::{Append, AppendError, Bus, ReadOptions};
use cluster::sid::ulid;
use cluster::subject::{RoomSubjects, event_stream_name, slot_of};
use cluster::{Envelope, TraceParent};
use dialects::Announcement;
use domain::RoomId;
use domain::call::call_room;
use futures_util::future::join_all;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::clock::unix_ms;
use crate::plan::{App, Of, Tell};
use crate::store::Unavailable;

/// Revisions known to be stored; forgotten all at once, it saves work only.
const REMEMBERED: usize = 50_000;

/// Older revisions were told long ago, and their copies may have left the stream: only their own follower tells them still.
const SURELY_TOLD_MS: u64 = 120_000;

/// Stores the announcements of one application.
#[derive(Debug)]
pub struct Teller {
    bus: Bus,
    stored: Mutex<FxHashMap<Of, u64>>,
}

/// Copies of one look: far below the 1024 that the server finds at a time.
const SUBJECTS_PER_READ: usize = 500;

/// Who wants it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A decision, new or repeated, and the trace it belongs to.
    Desk(Option<TraceParent>),
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
            let trace = match who {
                Who::Desk(_) if old => continue,
                Who::Desk(trace) => trace,
                Who::Follower => None,
            };
            if self.is_stored(tell) {
                continue;
            }
            self.store(app, tell, trace, deadline).await?;
            self.remember(tell);
        }
        Ok(())
    }

    /// Notes which of these are stored: mostly whoever committed them has told them, and one read for many says so. `tells`: those of
    /// one call or user in the order of their revisions.
    pub async fn look(&self, app: &App, tells: &[Tell]) -> Result<(), Unavailable> {
        let asked: Vec<(&Tell, Vec<String>)> = tells
            .iter()
            .filter(|tell| !self.is_stored(tell))
            .map(|tell| (tell, subjects(app, tell)))
            .collect();
        let all: Vec<String> = asked.iter().flat_map(|(_, subjects)| subjects).cloned().collect();
        let mut found = FxHashSet::default();
        for some in all.chunks(SUBJECTS_PER_READ) {
            let stored =
                self.bus.read_last(&event_stream_name(&app.name), some, ReadOptions::default()).await;
            found.extend(stored.map_err(|_| Unavailable)?.into_iter().map(|stored| stored.subject));
        }
        let mut missed = FxHashSet::default();
        for (tell, subjects) in asked {
            let is_whole = subjects.iter().all(|subject| found.contains(subject));
            if is_whole && !missed.contains(&tell.of) {
                self.remember(tell);
            } else {
                missed.insert(&tell.of);
            }
        }
        Ok(())
    }

    /// These are known to be stored.
    pub fn note<'a>(&self, tells: impl IntoIterator<Item = &'a Tell>) {
        tells.into_iter().for_each(|tell| self.remember(tell));
    }

    async fn store(
        &self,
        app: &App,
        tell: &Tell,
        trace: Option<TraceParent>,
        deadline: Instant,
    ) -> Result<(), Unavailable> {
        let copies = emissions(app, tell, trace).into_iter().flatten();
        let stored = copies.map(|copy| self.bus.append(copy, deadline));
        for stored in join_all(stored).await {
            match stored {
                Ok(_) | Err(AppendError::Conflict { .. }) => {}
                Err(error) => {
                    tracing::warn!(%error, app = app.name, "an announcement was not stored yet");
                    return Err(Unavailable);
                }
            }
        }
        Ok(())
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

/// The call's view for the gateways, before the events that clients hear; the events. Each is one copy for each of its rooms.
fn emissions(app: &App, tell: &Tell, trace: Option<TraceParent>) -> Vec<Vec<Append>> {
    let mut emissions = Vec::new();
    if let (Of::Call(call), false) = (&tell.of, tell.told.view.is_empty()) {
        let view = Announcement {
            rooms: vec![call_room(call)],
            event: "".into(),
            args: dialects::Out::none(),
            except: Vec::new(),
        };
        emissions.push(copies(app, tell, 0, &view, Some(&tell.told.view), None));
    }
    let news = tell.told.announcements.iter().enumerate();
    emissions.extend(news.map(|(at, news)| copies(app, tell, at + 1, news, None, trace)));
    emissions
}

fn subjects(app: &App, tell: &Tell) -> Vec<String> {
    emissions(app, tell, None).into_iter().flatten().map(|copy| copy.subject).collect()
}

/// Emission `number` of a revision: the same messages whoever makes them, and whenever, but for the trace.
fn copies(
    app: &App,
    tell: &Tell,
    number: usize,
    news: &Announcement,
    view: Option<&[u8]>,
    trace: Option<TraceParent>,
) -> Vec<Append> {
    let at_ms = tell.told.at_ms;
    let (id, text) = ulid(at_ms, name(tell, number));
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
        receipt: None,
        trace,
    };
    let copy = |(at, room): (usize, &RoomId)| {
        envelope.at = u16::try_from(at).unwrap_or(u16::MAX);
        let subject = RoomSubjects::new(&app.name, room.as_str()).event(slot_of(at_ms), &text);
        Append::unique(subject, envelope.encode())
    };
    news.rooms.iter().enumerate().map(copy).collect()
}

/// What stands for the random part of an id: a digest (FNV-1a) of what makes the emission the one it is.
fn name(tell: &Tell, number: usize) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let (kind, id) = match &tell.of {
        Of::Call(call) => ('c', call.as_str()),
        Of::Presence(user) => ('p', user.as_str()),
    };
    let whole = format!("{kind}.{}.{number}.{id}", tell.told.rev);
    whole.bytes().fold(BASIS, |digest, byte| (digest ^ u128::from(byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use dialects::{Dialect, Out, Realtime, Telehealth};
    use domain::UserId;
    use domain::call::CallId;
    use domain::chat::ChatLimits;

    use super::*;
    use crate::plan::Told;

    fn app() -> App {
        let dialect = Telehealth::new("/", vec![], ChatLimits::default(), Realtime::default()).unwrap();
        App { name: "a".into(), namespace: "/".into(), dialect: Dialect::Telehealth(dialect) }
    }

    fn tell(of: Of, rev: u64) -> Tell {
        let room = |name: &str| RoomId::new(name).unwrap();
        let told = |rooms: &[&str]| Announcement {
            rooms: rooms.iter().map(|name| room(name)).collect(),
            event: "call:ended".into(),
            args: Out::none(),
            except: Vec::new(),
        };
        let announcements = vec![told(&["x", "y"]), told(&["x"])];
        Tell { of, told: Told { rev, at_ms: 1_700_000_000_000, view: b"v".as_slice().into(), announcements } }
    }

    fn by_emission(tell: &Tell) -> Vec<Vec<String>> {
        let subjects = |copies: Vec<Append>| copies.into_iter().map(|copy| copy.subject).collect();
        emissions(&app(), tell, None).into_iter().map(subjects).collect()
    }

    #[test]
    fn whoever_tells_a_revision_tells_it_in_the_same_messages() {
        let tell = tell(Of::Call(CallId::new("C1").unwrap()), 3);
        let (once, again) = (emissions(&app(), &tell, None), emissions(&app(), &tell, None));
        assert_eq!(once.iter().map(Vec::len).collect::<Vec<_>>(), [1, 2, 1]);
        for (once, again) in once.iter().flatten().zip(again.iter().flatten()) {
            assert_eq!((&once.subject, &once.payload), (&again.subject, &again.payload));
            assert!(once.unique);
        }
    }

    #[test]
    fn nothing_else_has_its_subjects() {
        let call = |id: &str| Of::Call(CallId::new(id).unwrap());
        let user = |id: &str| Of::Presence(UserId::new(id).unwrap());
        let of = [(call("C1"), 3), (call("C1"), 4), (call("C2"), 3), (user("C1"), 3)];
        let all: Vec<String> =
            of.into_iter().flat_map(|(of, rev)| by_emission(&tell(of, rev))).flatten().collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
        assert_eq!(all.len(), 4 * 3 + 3);
    }
}
