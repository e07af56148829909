//! When each sender is due. Pure: offsets from the start, no clock.

use std::iter::Peekable;

/// Endless; every sender has the same rate and its own phase.
#[derive(Debug)]
pub struct Schedule {
    /// Sender and phase, by phase.
    phases: Vec<(usize, u64)>,
    interval_ns: u64,
    issued: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub sender: usize,
    pub offset_ns: u64,
}

impl Schedule {
    /// `rate`: messages per second of each sender. Phases are spread by the golden ratio: evenly, the same in every
    /// run, and without the coincidences of equal steps.
    pub fn new(senders: usize, rate: f64) -> Peekable<Schedule> {
        let interval_ns = (1e9 / rate) as u64;
        let phase = |sender: usize| {
            let turn = (sender as f64 * 0.618_033_988_749_894_9).fract();
            (sender, (turn * interval_ns as f64) as u64)
        };
        let mut phases: Vec<_> = (0..senders).map(phase).collect();
        phases.sort_by_key(|&(_, phase)| phase);
        Schedule { phases, interval_ns, issued: 0 }.peekable()
    }
}

impl Iterator for Schedule {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        let count = self.phases.len() as u64;
        let (sender, phase) = *self.phases.get((self.issued % count.max(1)) as usize)?;
        let round = self.issued / count;
        self.issued += 1;
        Some(Slot { sender, offset_ns: phase + round * self.interval_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_come_in_order_and_every_sender_keeps_its_interval() {
        let slots: Vec<Slot> = Schedule::new(7, 20.0).take(70).collect();
        assert!(slots.is_sorted_by_key(|slot| slot.offset_ns));
        for sender in 0..7 {
            let mine: Vec<u64> = slots.iter().filter(|s| s.sender == sender).map(|s| s.offset_ns).collect();
            assert_eq!(mine.len(), 10);
            assert!(mine.windows(2).all(|pair| pair[1] - pair[0] == 50_000_000));
        }
    }

    #[test]
    fn nobody_to_send_is_an_empty_schedule() {
        assert_eq!(Schedule::new(0, 1.0).next(), None);
    }
}
