//! How often one user may speak: so many events a minute, counted over all of the user's sockets on this node. All of them may come
//! at once; afterwards they come back one by one.
//!
//! No map of users and no lock: each user has one place in each of two tables, found by hash. Who shares a place with somebody busy in
//! one table is judged by the other.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// Of one table: 512 KiB.
const PLACES: usize = 1 << 16;

/// The users of one application.
#[derive(Debug)]
pub struct Rates {
    pub per_minute: u32,
    tables: [Table; 2],
    /// What one event costs, and what a user may owe, in nanoseconds.
    cost: u64,
    most: u64,
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
        }
    }

    /// Counts an event. `false`: the user has said too much. `now_ms`: of a clock that never goes back.
    pub fn take(&self, user: &str, now_ms: u64) -> bool {
        let now = now_ms.saturating_mul(1_000_000);
        let paid = self.tables.each_ref().map(|table| {
            let place = &table.until[table.hash.hash_one(user) as usize % PLACES];
            let pay = |until: u64| Some(until.max(now) + self.cost).filter(|until| until - now <= self.most);
            place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
        });
        paid.contains(&true)
    }
}

impl Table {
    fn new() -> Self {
        Self { until: (0..PLACES).map(|_| AtomicU64::new(0)).collect(), hash: RandomState::new() }
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
