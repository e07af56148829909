//! Sockets that are about to write. Their timers are one heap for the thread; what is shown when is `domain::chat::Typing`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use dialects::{Emission, Outcome, TypingSignal};
use domain::Rejection;
use domain::chat::{Shown, Typing, TypingTimes};

use super::super::commands::Actor;
use super::super::emit::Telling;
use super::super::session::SessionKey;
use super::super::{Shard, State};
use crate::clock::Millis;

/// A socket in a room.
type Key = (SessionKey, u32, Box<str>);

/// All of a thread.
#[derive(Debug, Default)]
pub struct Typists {
    all: BTreeMap<Key, Typist>,
    /// An entry that is not what its typist waits for means nothing.
    due: BinaryHeap<Reverse<(Millis, Key)>>,
}

#[derive(Debug)]
struct Typist {
    typing: Typing,
    times: TypingTimes,
    signal: TypingSignal,
    actor: Actor,
    /// Its entry among the deadlines.
    scheduled: Millis,
}

impl Typist {
    fn telling(&self, shown: Shown) -> Telling<'_> {
        let emission: &Emission = match shown {
            Shown::Start => &self.signal.start,
            Shown::Stop => &self.signal.stop,
        };
        Telling::of(&self.actor, emission)
    }

    fn show(&self, shard: &Shard, shown: Option<Shown>) {
        if let Some(shown) = shown {
            // Typing is a hint: what is lost shows with the next one.
            let _ = self.telling(shown).publish(shard);
        }
    }

    /// When it is to be looked at next.
    fn due(&self) -> Millis {
        self.typing.due().unwrap_or_else(|| self.typing.quiet_until())
    }
}

impl Typists {
    pub fn next_timeout(&self) -> Option<Millis> {
        self.due.peek().map(|Reverse((at, _))| *at)
    }

    fn of_socket(&self, session: SessionKey, serial: u32) -> impl Iterator<Item = &Key> {
        let first = (session, serial, Box::from(""));
        self.all.range(first..).map(|(key, _)| key).take_while(move |key| (key.0, key.1) == (session, serial))
    }

    /// Makes sure that it is looked at when it is due.
    fn schedule(&mut self, shard: &Shard, key: Key) {
        let Some(typist) = self.all.get_mut(&key) else { return };
        let due = typist.due();
        if due < typist.scheduled {
            typist.scheduled = due;
            self.due.push(Reverse((due, key)));
            shard.timer_changed.notify_one();
        }
    }

    /// The socket is gone, or left the room.
    fn forget(&mut self, shard: &Shard, key: &Key) {
        if let Some(mut typist) = self.all.remove(key) {
            let shown = typist.typing.stop();
            typist.show(shard, shown);
        }
    }
}

impl State {
    /// A client says that it types, or that it does not.
    pub(in super::super) fn hear_typing(
        &mut self,
        shard: &Shard,
        actor: &Actor,
        signal: TypingSignal,
    ) -> Result<Outcome, Rejection> {
        let now = shard.now();
        let settings = &shard.shared.app(actor.app).config.chat;
        let key = (actor.session, actor.serial, signal.room.as_str().into());
        let typists = &mut self.typists;
        let known = typists.all.contains_key(&key);
        if !known && !signal.typing {
            return Ok(Outcome::Emitted);
        }
        if !known && typists.of_socket(actor.session, actor.serial).count() >= settings.typing_rooms {
            return Err(Rejection::OverLimit {
                what: "number of rooms that one types in",
                limit: settings.typing_rooms as u64,
                setting: "chat.typing_rooms",
            });
        }
        let typing = signal.typing;
        let typist = typists.all.entry(key.clone()).or_insert_with(|| Typist {
            typing: Typing::new(now),
            times: settings.typing(),
            signal: signal.clone(),
            actor: actor.clone(),
            scheduled: Millis::MAX,
        });
        typist.signal = signal;
        let times = typist.times;
        let shown = if typing { typist.typing.start(&times, now) } else { typist.typing.stop() };
        typist.show(shard, shown);
        typists.schedule(shard, key);
        Ok(Outcome::Emitted)
    }

    /// The socket has sent something there: it does not type any more.
    pub(in super::super) fn has_written(&mut self, shard: &Shard, actor: &Actor, room: &str) {
        let key = (actor.session, actor.serial, room.into());
        if let Some(typist) = self.typists.all.get_mut(&key) {
            let shown = typist.typing.stop();
            typist.show(shard, shown);
            self.typists.schedule(shard, key);
        }
    }

    /// The socket has left the room.
    pub(in super::super) fn typing_left(&mut self, shard: &Shard, actor: &Actor, room: &str) {
        self.typists.forget(shard, &(actor.session, actor.serial, room.into()));
    }

    /// The socket is gone.
    pub(in super::super) fn typing_gone(&mut self, shard: &Shard, session: SessionKey, serial: u32) {
        let keys: Vec<Key> = self.typists.of_socket(session, serial).cloned().collect();
        keys.iter().for_each(|key| self.typists.forget(shard, key));
    }

    pub(in super::super) fn on_typing_timers(&mut self, shard: &Shard, now: Millis) {
        let Typists { all, due } = &mut self.typists;
        while due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, key))) = due.pop() else { return };
            let Some(typist) = all.get_mut(&key).filter(|typist| typist.scheduled == at) else { continue };
            let times = typist.times;
            let shown = typist.typing.tick(&times, now);
            typist.show(shard, shown);
            if typist.typing.is_over(now) {
                all.remove(&key);
            } else {
                typist.scheduled = typist.due().max(now + 1);
                due.push(Reverse((typist.scheduled, key)));
            }
        }
    }
}
