//! How often one user may speak: so many events a minute, counted over all of the user's sockets. All of them may come at once;
//! afterwards they come back one by one. What is said at other nodes counts as soon as they tell of it, see [`sharing`].
//!
//! No map of users and no lock: each user has one place in each of two tables, found by hash. Who shares a place with somebody busy in
//! one table is judged by the other.

pub mod sharing;

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Of one table: 512 KiB.
const PLACES: usize = 1 << 16;

/// Other nodes are told of a user's events in so many parts of the limit: each may be behind by one part of each of the others.
const PARTS: u32 = 20;

/// The users of one application.
#[derive(Debug)]
pub struct Rates {
    pub per_minute: u32,
    tables: [Table; 2],
    /// What one event costs, and what a user may owe, in nanoseconds.
    cost: u64,
    most: u64,
    /// Events that the other nodes have not been told of, by the place of the first table. Who shares it tells of the other's, too.
    untold: Box<[AtomicU32]>,
    part: u32,
}

#[derive(Debug)]
struct Table {
    /// When the user of a place owes nothing any more.
    until: Box<[AtomicU64]>,
    hash: RandomState,
}

impl Rates {
    pub fn new(per_minute: u32) -> Self {
        const MINUTE: u64 = 60_000_000_000;
        Self {
            per_minute,
            tables: [Table::new(), Table::new()],
            cost: MINUTE / u64::from(per_minute.max(1)),
            most: MINUTE,
            untold: (0..PLACES).map(|_| AtomicU32::new(0)).collect(),
            part: (per_minute / PARTS).max(1),
        }
    }

    /// Counts an event. `false`: the user has said too much. `now_ms`: of a clock that never goes back.
    pub fn take(&self, user: &str, now_ms: u64) -> bool {
        let now = now_ms.saturating_mul(1_000_000);
        let paid = self.tables.each_ref().map(|table| {
            let place = &table.until[table.place(user)];
            let pay = |until: u64| Some(until.max(now) + self.cost).filter(|until| until - now <= self.most);
            place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
        });
        paid.contains(&true)
    }

    /// Notes an event that was taken. `Some`: so many are to be told to the other nodes now.
    pub fn to_tell(&self, user: &str) -> Option<u32> {
        let place = &self.untold[self.tables[0].place(user)];
        let is_part = place.fetch_add(1, Ordering::Relaxed) + 1 >= self.part;
        is_part.then(|| place.swap(0, Ordering::Relaxed)).filter(|events| *events > 0)
    }

    /// Counts events at another node. Nobody comes to owe more than a minute by it.
    pub fn add(&self, user: &str, events: u32, now_ms: u64) {
        let now = now_ms.saturating_mul(1_000_000);
        let cost = self.cost.saturating_mul(u64::from(events));
        for table in &self.tables {
            let owe = |until: u64| Some(until.max(now).saturating_add(cost).min(now + self.most));
            let _ = table.until[table.place(user)].fetch_update(Ordering::Relaxed, Ordering::Relaxed, owe);
        }
    }
}

impl Table {
    fn new() -> Self {
        Self { until: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), hash: RandomState::new() }
    }

    fn place(&self, user: &str) -> usize {
        self.hash.hash_one(user) as usize % PLACES
    }
}

#[cfg(test)]
mod tests {
    use super::Rates;

    #[test]
    fn a_minute_s_events_at_once_and_then_one_by_one() {
        let rates = Rates::new(60);
        assert!((0..60).all(|_| rates.take("7", 1_000)));
        assert!(!rates.take("7", 1_000) && !rates.take("7", 1_999));
        assert!(rates.take("7", 2_000) && !rates.take("7", 2_000));
        assert!((0..60).all(|_| rates.take("8", 2_000)), "others are not held to account");
        assert!((0..60).all(|_| rates.take("7", 62_000)) && !rates.take("7", 62_000));
    }

    #[test]
    fn what_is_said_elsewhere_counts_and_is_told_in_parts() {
        let [here, there] = [Rates::new(40), Rates::new(40)];
        let mut told = 0;
        for _ in 0..40 {
            assert!(here.take("7", 1_000));
            if let Some(events) = here.to_tell("7") {
                assert_eq!(events, 2);
                there.add("7", events, 1_000);
                told += events;
            }
        }
        assert_eq!(told, 40);
        assert!(!there.take("7", 1_000) && there.take("8", 1_000));
        there.add("7", u32::MAX, 1_000);
        assert!(there.take("7", 1_000 + 1_500), "no more than a minute is owed");
    }

    #[test]
    fn who_shares_one_place_is_judged_by_the_other() {
        let rates = Rates::new(10);
        for user in 0..2_000 {
            for _ in 0..11 {
                rates.take(&format!("busy {user}"), 0);
            }
        }
        // Both places of a quiet user are taken for one in a thousand.
        let refused = (0..10_000).filter(|user| !rates.take(&format!("quiet {user}"), 0)).count();
        assert!(refused < 100, "{refused}");
    }
}
