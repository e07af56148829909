//! Time kept for the tables of this crate: one deadline per key, and keys remembered for a while. Both are bounded by
//! their callers' limits and ask no clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Millis;

/// One deadline per key, the earliest first.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    by_key: BTreeMap<K, Millis>,
    by_time: BTreeSet<(Millis, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Clone + Ord> Deadlines<K> {
    /// Replaces the key's deadline.
    pub(crate) fn set(&mut self, key: &K, at: Millis) {
        self.clear(key);
        self.by_key.insert(key.clone(), at);
        self.by_time.insert((at, key.clone()));
    }

    pub(crate) fn clear(&mut self, key: &K) {
        if let Some(at) = self.by_key.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }

    /// Takes out the earliest key whose deadline has come.
    pub(crate) fn pop(&mut self, now: Millis) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    pub(crate) fn next(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, _)| *at)
    }
}

/// Keys and what is known of them, kept for a fixed time and at most so many; the oldest goes first.
#[derive(Debug)]
pub(crate) struct Remembered<K, V> {
    keep_ms: Millis,
    max: usize,
    known: BTreeMap<K, V>,
    order: VecDeque<(Millis, K)>,
}

impl<K: Clone + Ord, V> Remembered<K, V> {
    pub(crate) fn new(keep_ms: Millis, max: usize) -> Self {
        Self { keep_ms, max, known: BTreeMap::new(), order: VecDeque::new() }
    }

    /// The first thing remembered of a key stays.
    pub(crate) fn insert(&mut self, now: Millis, key: K, value: V) {
        if self.known.contains_key(&key) {
            return;
        }
        if self.order.len() >= self.max {
            self.forget_oldest();
        }
        self.order.push_back((now.saturating_add(self.keep_ms), key.clone()));
        self.known.insert(key, value);
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.known.get(key)
    }

    pub(crate) fn expire(&mut self, now: Millis) {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.known.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_comes_first_and_a_new_one_replaces_the_old() {
        let mut deadlines = Deadlines::default();
        deadlines.set(&'a', 10);
        deadlines.set(&'b', 20);
        deadlines.set(&'a', 30);
        assert_eq!(deadlines.next(), Some(20));
        assert_eq!(deadlines.pop(19), None);
        assert_eq!(deadlines.pop(20), Some('b'));
        deadlines.clear(&'a');
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn memory_is_bounded_in_time_and_number() {
        let mut memory = Remembered::new(100, 2);
        memory.insert(0, 'a', 1);
        memory.insert(1, 'b', 2);
        memory.insert(2, 'c', 3);
        assert_eq!((memory.get(&'a'), memory.get(&'b')), (None, Some(&2)));
        memory.expire(101);
        assert_eq!((memory.get(&'b'), memory.get(&'c')), (None, Some(&3)));
    }
}
