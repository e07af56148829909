//! The hot path: a broadcast to the sockets of this core. Nothing is allocated or encoded per receiver.

use std::sync::Arc;

use domain::call::{View, is_call_room};
use engineio::{CloseReason, Input};
use hub::{Broadcast, Order};

use super::session::{Entry, Moving, SessionKey};
use super::turns::too_slow;
use super::unauthenticated::Muted;
use super::{Shard, State, trace};
use crate::link::{self, Pushed};
use crate::node::Fed;

impl State {
    pub(super) fn on_fed(&mut self, shard: &Shard, fed: Fed) {
        match fed {
            Fed::Broadcasts(broadcasts) => {
                for broadcast in broadcasts {
                    self.deliver(shard, &broadcast);
                }
            }
            Fed::Held { room, since } => self.hub.hold(&room, since),
            Fed::Barrier { token, seq } => self.on_barrier(shard, token, Some(seq)),
            Fed::BarrierFailed { token } => self.on_barrier(shard, token, None),
        }
    }

    fn deliver(&mut self, shard: &Shard, broadcast: &Arc<Broadcast>) {
        if !broadcast.frames.is_empty() {
            self.deliver_frames(shard, broadcast);
        }
        if let Some(receipt) = &broadcast.receipt {
            self.note_receipt(broadcast, receipt);
        }
        if let Some(view) = &broadcast.view {
            self.deliver_view(shard, broadcast, view);
        }
    }

    fn deliver_frames(&mut self, shard: &Shard, broadcast: &Arc<Broadcast>) {
        let limit = shard.shared.app(broadcast.app).limits.outbox_bytes;
        let engine_config = &shard.shared.app(broadcast.app).engine;
        let ephemeral = broadcast.order == Order::Ephemeral;
        let of_call = is_call_room(broadcast.room());
        let (size, now) = (broadcast.size(), shard.now());
        let mut slow: Vec<SessionKey> = Vec::new();
        let mut dropped = 0;
        let Self { hub, sessions, dirty, touched, .. } = self;
        let receivers = hub.deliver(broadcast.delivery(), |target| match sessions.get_mut(target.session) {
            Some(Entry::Live(session)) => {
                if session.delivered_before.as_ref().is_some_and(|before| before.has(broadcast)) {
                    return;
                }
                if let Moving::Reserved { seen, .. } | Moving::Freezing { seen, .. } = &mut session.moving
                    && ephemeral
                {
                    seen.push(broadcast.id);
                }
                if of_call
                    && let Some(entering) = &mut session.entering
                    && entering.holds(target.serial, broadcast.room())
                {
                    if !entering.hold(broadcast, limit) {
                        slow.push(target.session);
                    }
                    return;
                }
                if session.has_grace {
                    match session.mute(target.serial, broadcast, limit) {
                        Muted::No => {}
                        Muted::Waits => return,
                        Muted::TooMuch => return slow.push(target.session),
                    }
                }
                let direct = session
                    .engine
                    .direct()
                    .and_then(|ws| session.link(ws))
                    .filter(|link| !link.habits.base64);
                let mut queued =
                    direct.map_or_else(|| session.engine.queued_bytes(), |link| link.queued_bytes());
                if let Some(link) = direct
                    && queued + size > limit / 2
                {
                    // Much in one turn is no slow client: what the socket takes now does not count.
                    link::flush(link);
                    queued = link.queued_bytes();
                }
                // A slow client loses ephemeral events first.
                if ephemeral && queued + size > limit / 2 {
                    dropped += 1;
                    return;
                }
                match direct {
                    Some(_) if queued + size > limit => slow.push(target.session),
                    Some(link) => {
                        let bytes = broadcast.ws_for(link.plain, link.habits.compress_over).clone();
                        let count = bytes.len() as u64;
                        if link.push(bytes) == Pushed::List {
                            dirty.push(link.clone());
                        }
                        session.access.traffic.messages_out += 1;
                        session.access.traffic.bytes_out += count;
                    }
                    None => {
                        if session.paused || !session.held_answers.is_empty() {
                            session.engine.excuse(engine_config, now);
                        }
                        session.access.traffic.messages_out += 1;
                        for frame in broadcast.frames_for(session.plain.is_some()).packets() {
                            session.engine.handle(engine_config, now, Input::Send(frame.clone()));
                        }
                        touched.push(target.session);
                    }
                }
            }
            Some(Entry::Arriving(arriving)) => {
                if ephemeral && !arriving.open {
                    return;
                }
                arriving.buffered_bytes += size;
                arriving.buffer.push((target.serial, broadcast.clone()));
                if arriving.buffered_bytes > limit {
                    slow.push(target.session);
                }
            }
            Some(Entry::Out) | None => {}
        });
        if receivers > 0 {
            trace::delivered(shard, broadcast, receivers);
        }
        shard.shared.metrics.deliveries.inc_by(receivers as u64);
        shard.shared.metrics.dropped_ephemeral.inc_by(dropped);
        self.cut_slow(shard, slow, limit);
    }

    /// A call as it is now: its sockets take note, and those whose device is not in it leave its rooms. Where an event came with
    /// it, who waits has it already.
    fn deliver_view(&mut self, shard: &Shard, broadcast: &Arc<Broadcast>, view: &Arc<View>) {
        let limit = shard.shared.app(broadcast.app).limits.outbox_bytes;
        let alone = broadcast.frames.is_empty();
        let (mut told, mut slow) = (Vec::new(), Vec::new());
        let Self { hub, sessions, .. } = self;
        hub.deliver(broadcast.delivery(), |target| match sessions.get_mut(target.session) {
            Some(Entry::Live(session)) => match &mut session.entering {
                Some(entering) if entering.holds(target.serial, broadcast.room()) => {
                    if alone && !entering.hold(broadcast, limit) {
                        slow.push(target.session);
                    }
                }
                _ => told.push(target),
            },
            Some(Entry::Arriving(arriving)) if alone => {
                arriving.buffered_bytes += broadcast.size();
                arriving.buffer.push((target.serial, broadcast.clone()));
                if arriving.buffered_bytes > limit {
                    slow.push(target.session);
                }
            }
            Some(Entry::Arriving(_) | Entry::Out) | None => {}
        });
        for target in told {
            self.see_live(shard, target.session, target.serial, view);
        }
        self.cut_slow(shard, slow, limit);
    }

    fn cut_slow(&mut self, shard: &Shard, slow: Vec<SessionKey>, limit: usize) {
        for key in slow {
            self.close(shard, key, CloseReason::SlowClient, too_slow(limit));
            self.abandon_arriving(shard, key);
        }
    }
}
