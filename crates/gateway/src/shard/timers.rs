//! Deadlines of sessions: one heap per shard. Entries are lazy: a session that was rescheduled ignores its older ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::session::{Entry, Session, SessionKey};
use super::{Shard, State};
use crate::clock::Millis;

#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Millis, SessionKey)>>,
    /// When all sockets are looked at next, and the pause between two such passes.
    idle_pass: Option<(Millis, Millis)>,
}

impl Timers {
    /// `idle_pass_ms`: the pause between two looks at all sockets.
    pub fn new(now: Millis, idle_pass_ms: Option<Millis>) -> Self {
        Self { heap: BinaryHeap::new(), idle_pass: idle_pass_ms.map(|pause| (now + pause, pause)) }
    }

    fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether all sockets are to be looked at now. The next time is a pause later.
    pub fn is_idle_pass_due(&mut self, now: Millis) -> bool {
        let Some((due, pause)) = &mut self.idle_pass else { return false };
        let is_due = *due <= now;
        if is_due {
            *due = now + *pause;
        }
        is_due
    }

    /// Makes sure that the session is looked at when its next deadline is due. `true`: the heap's earliest deadline changed.
    pub fn schedule(&mut self, session: &mut Session) -> bool {
        let engine = session.engine.next_timeout();
        // A session that only says goodbye has no other deadlines: they would be due for ever.
        let upper = if session.engine.is_open() { upper_timeout(session) } else { None };
        let Some(due) = engine.into_iter().chain(upper).min() else { return false };
        if due >= session.scheduled {
            return false;
        }
        session.scheduled = due;
        let earliest = self.next().is_none_or(|next| due < next);
        self.heap.push(Reverse((due, session.key)));
        earliest
    }

    fn pop(&mut self, now: Millis) -> Option<(Millis, SessionKey)> {
        let Reverse((at, _)) = self.heap.peek()?;
        if *at > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

/// The earliest deadline above Engine.IO: packets and tokens.
fn upper_timeout(session: &Session) -> Option<Millis> {
    let io = session.io.as_ref().and_then(socketio::Connections::next_timeout);
    let tokens = session.sockets.iter().filter_map(|socket| socket.expires);
    let graces = session.sockets.iter().filter_map(|socket| socket.grace.as_ref());
    let plain = session.plain.as_ref().and_then(|front| front.deadline());
    io.into_iter().chain(tokens).chain(plain).chain(graces.map(|grace| grace.until())).min()
}

impl State {
    /// When there is something to do next.
    pub(super) fn next_timeout(&self) -> Option<Millis> {
        let idle_pass = self.timers.idle_pass.map(|(due, _)| due);
        self.timers
            .next()
            .into_iter()
            .chain(self.devices.next_timeout())
            .chain(self.typists.next_timeout())
            .chain(idle_pass)
            .min()
    }

    pub(super) fn on_timers(&mut self, shard: &Shard) {
        let now = shard.now();
        self.on_presence_timers(now);
        self.on_typing_timers(shard, now);
        while let Some((at, key)) = self.timers.pop(now) {
            let Some(Entry::Live(session)) = self.sessions.get_mut(key) else { continue };
            if session.scheduled == at {
                session.scheduled = Millis::MAX;
                self.with_session(shard, key, |state, session| state.on_deadline(shard, session));
            }
        }
    }
}
