//! Messages that devices of this core have just been handed: gathered for a moment, then the marks are raised, and who raised one
//! tells the senders. A message that was told once is not told again by another node.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use domain::chat::Mark;
use domain::{RoomId, UserId};
use futures_util::StreamExt;
use hub::{Broadcast, Receipt};
use rustc_hash::FxHashMap;

use super::super::commands::Task;
use super::super::emit::Telling;
use super::super::session::Entry;
use super::super::{Shard, State};
use super::marks;
use dialects::Out;

/// How long receipts are gathered: messages of one moment are one write.
const GATHERED: Duration = Duration::from_millis(20);

/// Receipts of one core that wait; more are dropped, and their messages count as delivered with later ones.
const MAX_WAITING: usize = 16_384;

/// Rooms whose marks are raised at once.
const AT_ONCE: usize = 16;

/// What waits to be told.
#[derive(Debug, Default)]
pub struct Receipts {
    waiting: FxHashMap<Mine, Vec<Arc<Receipt>>>,
    count: usize,
}

/// Whose mark it is: the room's, or a recipient's in it.
type Mine = (u16, RoomId, Option<UserId>);

impl Receipts {
    /// `true`: somebody must come for them.
    fn add(&mut self, app: u16, receipt: Arc<Receipt>) -> Option<bool> {
        if self.count >= MAX_WAITING {
            return None;
        }
        self.count += 1;
        let mine = (app, receipt.room.clone(), receipt.recipient.clone());
        self.waiting.entry(mine).or_default().push(receipt);
        Some(self.count == 1)
    }
}

impl State {
    /// A stored message was handed to its room's sockets: if one of them is a device of whom it is for, its sender is told.
    pub(in super::super) fn note_receipt(&mut self, broadcast: &Broadcast, receipt: &Arc<Receipt>) {
        let mut counts = false;
        let Self { hub, sessions, .. } = self;
        hub.deliver(broadcast.delivery(), |target| {
            if !counts && let Some(Entry::Live(session)) = sessions.get_mut(target.session) {
                let socket = session.socket_by_serial(target.serial);
                let identity = socket.and_then(|socket| socket.identity.as_ref());
                counts = identity.is_some_and(|identity| receipt.counts(&identity.user));
            }
        });
        if counts {
            self.add_receipt(broadcast.app, receipt.clone());
        }
    }

    pub(super) fn add_receipt(&mut self, app: u16, receipt: Arc<Receipt>) {
        match self.receipts.add(app, receipt) {
            Some(true) => self.tasks.push(Task::Receipts),
            Some(false) => {}
            None => tracing::debug!("a receipt was dropped: too many wait"),
        }
    }
}

/// Tells of what was gathered.
pub async fn tell(shard: Rc<Shard>) {
    tokio::time::sleep(GATHERED).await;
    let gathered = shard.turn(|state, _| std::mem::take(&mut state.receipts)).waiting;
    let told = futures_util::stream::iter(gathered);
    told.for_each_concurrent(AT_ONCE, |(mine, receipts)| tell_in(&shard, mine, receipts)).await;
}

async fn tell_in(shard: &Shard, (app_ix, room, recipient): Mine, receipts: Vec<Arc<Receipt>>) {
    let app = shard.shared.app(app_ix);
    let newest = receipts.iter().map(|receipt| receipt.n).max().unwrap_or(0);
    let by = Mark { read: 0, delivered: newest };
    let Ok(before) = marks::raise(shard, app, &room, recipient.as_ref(), by).await else { return };
    let mut seen = std::collections::BTreeSet::new();
    for receipt in receipts.iter().filter(|receipt| receipt.n > before.delivered && seen.insert(receipt.n)) {
        let args = Out::raw(receipt.tail.clone(), Vec::new());
        let telling = Telling {
            app: app_ix,
            namespace: &app.config.namespace,
            rooms: std::slice::from_ref(&receipt.to),
            event: &receipt.event,
            args: &args,
            except: Vec::new(),
            receipt: None,
            trace: None,
        };
        // The history says it too.
        let _ = telling.publish(shard);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipt(n: u64) -> Arc<Receipt> {
        let (room, sender) = (RoomId::new("chat:1").unwrap(), UserId::new("ann").unwrap());
        let to = room.clone();
        Arc::new(Receipt {
            room,
            n,
            sender,
            recipient: None,
            to,
            event: "e".into(),
            tail: bytes::Bytes::new(),
        })
    }

    #[test]
    fn one_comes_for_all_that_wait_and_no_more_wait_than_may() {
        let mut receipts = Receipts::default();
        assert_eq!(receipts.add(0, receipt(1)), Some(true));
        for n in 2..=MAX_WAITING as u64 {
            assert_eq!(receipts.add(0, receipt(n)), Some(false));
        }
        assert_eq!(receipts.add(0, receipt(1)), None);
    }
}
