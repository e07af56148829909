//! Answers that are believed for a while. Two generations bound it: when the younger is full, the older is forgotten.

use rustc_hash::FxHashMap;

use crate::clock::Millis;

/// Answers of type `V`, at most `limit` of them.
#[derive(Debug)]
pub struct Cache<V> {
    young: FxHashMap<Box<str>, (Millis, V)>,
    old: FxHashMap<Box<str>, (Millis, V)>,
    limit: usize,
}

impl<V> Cache<V> {
    pub fn new(limit: usize) -> Self {
        Self { young: FxHashMap::default(), old: FxHashMap::default(), limit }
    }

    pub fn get(&self, key: &str, now: Millis) -> Option<&V> {
        let (until, answer) = self.young.get(key).or_else(|| self.old.get(key))?;
        (now < *until).then_some(answer)
    }

    pub fn put(&mut self, key: &str, answer: V, until: Millis) {
        if self.young.len() >= self.limit.div_ceil(2) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key.into(), (until, answer));
    }

    /// Forgets the answers whose key begins so.
    pub fn forget(&mut self, prefix: &str) {
        self.young.retain(|key, _| !key.starts_with(prefix));
        self.old.retain(|key, _| !key.starts_with(prefix));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_believed_until_they_are_old_and_never_more_than_the_limit() {
        let mut cache = Cache::new(4);
        cache.put("a", 1, 10);
        assert_eq!((cache.get("a", 9), cache.get("a", 10), cache.get("b", 0)), (Some(&1), None, None));
        cache.put("a", 2, 20);
        assert_eq!(cache.get("a", 10), Some(&2));
        for n in 0..100 {
            cache.put(&n.to_string(), n, 100);
            assert!(cache.young.len() + cache.old.len() <= 4);
            assert_eq!(cache.get(&n.to_string(), 50), Some(&n));
        }
        assert_eq!(cache.get("98", 50), Some(&98), "what was asked a moment ago is still there");
        assert_eq!(cache.get("a", 0), None);
        cache.forget("9");
        assert_eq!((cache.get("98", 50), cache.get("99", 50)), (None, None));
    }
}
