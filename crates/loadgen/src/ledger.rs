//! The accounting of room messages: what every receiver saw, compared after the run with what was sent. Pure.
//!
//! A log entry takes 8 bytes per delivery and is checked only at the end, so that recording costs the hot path one push.

use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

/// Message number `seq` of the room's sender number `sender`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MessageId {
    pub sender: u16,
    pub seq: u32,
}

/// What one receiver saw, in the order of arrival.
pub type Log = Vec<MessageId>;

/// One room after the run.
#[derive(Debug, Default)]
pub struct Room {
    /// Messages sent, per sender: sequence numbers `0..sent`.
    pub sent: Vec<u32>,
    /// Messages whose fate is open, because the server refused or never acked them: they may be missing.
    pub excused: Vec<MessageId>,
    /// One log per member.
    pub logs: Vec<Log>,
    /// Sender `s` is member `s`; false: its own socket is not sent its messages.
    pub senders_hear_themselves: bool,
}

/// Counts over all receivers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Messages times receivers, without what was excused and did not come.
    pub expected: u64,
    pub delivered: u64,
    pub lost: u64,
    pub duplicated: u64,
    /// Deliveries behind a later message of the same sender.
    pub out_of_order: u64,
    /// Deliveries that contradict the order in which the reference receiver of the room saw the same messages.
    /// Zero is promised for the recoverable class alone.
    pub room_order_breaks: u64,
}

impl Verdict {
    /// Nothing lost, duplicated or out of order per sender.
    pub fn is_clean(&self) -> bool {
        self.lost + self.duplicated + self.out_of_order == 0
    }

    pub fn add(&mut self, other: &Verdict) {
        self.expected += other.expected;
        self.delivered += other.delivered;
        self.lost += other.lost;
        self.duplicated += other.duplicated;
        self.out_of_order += other.out_of_order;
        self.room_order_breaks += other.room_order_breaks;
    }
}

pub fn audit(room: &Room) -> Verdict {
    let excused = room.excused.iter().copied().collect();
    let mut verdict = Verdict::default();
    for (member, log) in room.logs.iter().enumerate() {
        verdict.add(&audit_receiver(room, &excused, member, log));
    }
    verdict.room_order_breaks = room_order_breaks(&room.logs);
    verdict
}

fn audit_receiver(room: &Room, excused: &FxHashSet<MessageId>, member: usize, log: &Log) -> Verdict {
    let mut verdict = Verdict { delivered: log.len() as u64, ..Verdict::default() };
    let mut seen: Vec<Vec<bool>> = room.sent.iter().map(|&sent| vec![false; sent as usize]).collect();
    let mut latest: Vec<Option<u32>> = vec![None; room.sent.len()];
    for &MessageId { sender, seq } in log {
        let Some(mark) = seen.get_mut(usize::from(sender)).and_then(|marks| marks.get_mut(seq as usize))
        else {
            // Never sent: as wrong as a second copy.
            verdict.duplicated += 1;
            continue;
        };
        let latest = &mut latest[usize::from(sender)];
        if std::mem::replace(mark, true) {
            verdict.duplicated += 1;
        } else if latest.is_some_and(|latest| seq < latest) {
            verdict.out_of_order += 1;
        }
        *latest = (*latest).max(Some(seq));
    }
    for (sender, marks) in seen.iter().enumerate() {
        if sender == member && !room.senders_hear_themselves {
            continue;
        }
        let missing = marks.iter().enumerate().filter(|&(_, mark)| !mark);
        let ids = missing.map(|(seq, _)| MessageId { sender: sender as u16, seq: seq as u32 });
        let lost = ids.filter(|id| !excused.contains(id)).count() as u64;
        verdict.lost += lost;
        verdict.expected += lost + marks.iter().filter(|&&mark| mark).count() as u64;
    }
    verdict
}

/// The fullest log is the reference; messages it does not have are not compared.
fn room_order_breaks(logs: &[Log]) -> u64 {
    let Some(reference) = logs.iter().max_by_key(|log| log.len()) else { return 0 };
    if logs.iter().all(|log| log == reference) {
        return 0;
    }
    let mut ranks = FxHashMap::default();
    for (rank, &message) in reference.iter().enumerate() {
        ranks.entry(message).or_insert(rank);
    }
    logs.iter().map(|log| descents(log.iter().filter_map(|message| ranks.get(message).copied()))).sum()
}

fn descents(ranks: impl Iterator<Item = usize>) -> u64 {
    let mut highest = 0;
    let mut count = 0;
    for rank in ranks {
        count += u64::from(rank < highest);
        highest = highest.max(rank);
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(entries: &[(u16, u32)]) -> Log {
        entries.iter().map(|&(sender, seq)| MessageId { sender, seq }).collect()
    }

    fn room(sent: &[u32], logs: &[&[(u16, u32)]]) -> Room {
        let logs = logs.iter().map(|entries| log(entries)).collect();
        Room { sent: sent.to_vec(), logs, senders_hear_themselves: true, ..Room::default() }
    }

    #[test]
    fn a_faithful_room_is_clean() {
        let verdict = audit(&room(&[2, 1], &[&[(0, 0), (1, 0), (0, 1)], &[(0, 0), (1, 0), (0, 1)]]));
        assert_eq!(verdict, Verdict { expected: 6, delivered: 6, ..Verdict::default() });
        assert!(verdict.is_clean());
    }

    #[test]
    fn each_fault_has_its_own_count() {
        let lost = audit(&room(&[3], &[&[(0, 0), (0, 2)]]));
        assert_eq!((lost.lost, lost.duplicated, lost.out_of_order), (1, 0, 0));
        let doubled = audit(&room(&[2], &[&[(0, 0), (0, 0), (0, 1)]]));
        assert_eq!((doubled.lost, doubled.duplicated, doubled.out_of_order), (0, 1, 0));
        let swapped = audit(&room(&[2], &[&[(0, 1), (0, 0)]]));
        assert_eq!((swapped.lost, swapped.duplicated, swapped.out_of_order), (0, 0, 1));
        let invented = audit(&room(&[1], &[&[(0, 0), (0, 9), (5, 0)]]));
        assert_eq!((invented.lost, invented.duplicated), (0, 2));
    }

    #[test]
    fn receivers_that_disagree_break_the_room_order_but_not_the_senders() {
        let verdict = audit(&room(&[1, 1], &[&[(0, 0), (1, 0)], &[(1, 0), (0, 0)]]));
        assert!(verdict.is_clean());
        assert_eq!(verdict.room_order_breaks, 1);
    }

    #[test]
    fn a_loss_is_not_a_break_of_order() {
        let verdict = audit(&room(&[3], &[&[(0, 0), (0, 1), (0, 2)], &[(0, 0), (0, 2)]]));
        assert_eq!((verdict.lost, verdict.room_order_breaks), (1, 0));
    }

    #[test]
    fn refused_messages_may_be_missing_and_senders_may_be_deaf_to_themselves() {
        let mut deaf = room(&[2], &[&[], &[(0, 0)]]);
        deaf.senders_hear_themselves = false;
        deaf.excused = log(&[(0, 1)]);
        let verdict = audit(&deaf);
        assert_eq!((verdict.expected, verdict.lost), (1, 0));
    }
}
