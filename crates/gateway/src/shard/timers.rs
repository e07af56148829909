//! Deadlines of sessions: one heap per shard. Entries are lazy: a session that was rescheduled ignores its older ones.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::session::{Entry, Session, SessionKey};
use super::{Shard, State};
use crate::clock::Millis;

#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Millis, SessionKey)>>,
}

impl Timers {
    pub fn next(&self) -> Option<Millis> {
        self.heap.peek().map(|Reverse((at, _))| *at)
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
    io.into_iter().chain(tokens).min()
}

impl State {
    pub(super) fn on_timers(&mut self, shard: &Shard) {
        let now = shard.now();
        while let Some((at, key)) = self.timers.pop(now) {
            let Some(Entry::Live(session)) = self.sessions.get_mut(key) else { continue };
            if session.scheduled == at {
                session.scheduled = Millis::MAX;
                self.with_session(shard, key, |state, session| state.on_deadline(shard, session));
            }
        }
    }
}
