//! A body cut into parts that fit a message, and put together again.

use bytes::{Bytes, BytesMut};

use crate::node_message::MAX_PARTS;

/// Parts of a body, each of `size` bytes but the last; an empty body is one empty part. `None`: more than `MAX_PARTS`.
pub(crate) fn cut(body: &Bytes, size: usize) -> Option<Vec<Bytes>> {
    let count = body.len().div_ceil(size).max(1);
    if count > MAX_PARTS as usize {
        return None;
    }
    let part = |n: usize| body.slice(n * size..body.len().min((n + 1) * size));
    Some((0..count).map(part).collect())
}

/// All parts that `parts` numbers, as bits.
pub(crate) fn all(parts: u32) -> u64 {
    u64::MAX >> (u64::BITS - parts.clamp(1, MAX_PARTS))
}

/// Parts that have arrived, in any order.
#[derive(Debug)]
pub(crate) struct Assembly {
    parts: Vec<Option<Bytes>>,
}

impl Assembly {
    pub(crate) fn new(parts: u32) -> Self {
        Self { parts: vec![None; parts.min(MAX_PARTS) as usize] }
    }

    /// Whether the part was new. A part of another count than the first's is ignored.
    pub(crate) fn put(&mut self, part: u32, parts: u32, bytes: Bytes) -> bool {
        if parts as usize != self.parts.len() {
            return false;
        }
        match self.parts.get_mut(part as usize) {
            Some(slot @ None) => {
                *slot = Some(bytes);
                true
            }
            _ => false,
        }
    }

    pub(crate) fn has(&self, part: u32) -> bool {
        self.parts.get(part as usize).is_some_and(Option::is_some)
    }

    /// What is here, as bits.
    pub(crate) fn have(&self) -> u64 {
        self.parts.iter().enumerate().filter(|(_, part)| part.is_some()).fold(0, |bits, (n, _)| bits | 1 << n)
    }

    /// The whole body, when all parts are here.
    pub(crate) fn whole(&self) -> Option<Bytes> {
        if let [Some(only)] = self.parts.as_slice() {
            return Some(only.clone());
        }
        let mut whole = BytesMut::new();
        for part in &self.parts {
            whole.extend_from_slice(part.as_ref()?);
        }
        Some(whole.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 1000;

    #[test]
    fn a_body_survives_being_cut_and_assembled_backwards() {
        for len in [0, 1, SIZE, SIZE + 1, 3 * SIZE] {
            let body: Bytes = (0..len).map(|n| n as u8).collect();
            let parts = cut(&body, SIZE).expect("few parts");
            let count = parts.len() as u32;
            let mut assembly = Assembly::new(count);
            for (n, part) in parts.into_iter().enumerate().rev() {
                assert!(assembly.put(n as u32, count, part.clone()));
                assert!(!assembly.put(n as u32, count, part));
            }
            assert_eq!(assembly.have(), all(count));
            assert_eq!(assembly.whole(), Some(body));
        }
    }

    #[test]
    fn what_needs_too_many_parts_is_refused() {
        let limit = SIZE * MAX_PARTS as usize;
        assert_eq!(cut(&Bytes::from(vec![0; limit]), SIZE).map(|parts| parts.len()), Some(64));
        assert_eq!(cut(&Bytes::from(vec![0; limit + 1]), SIZE), None);
        assert_eq!((all(1), all(64)), (1, u64::MAX));
    }
}
