//! Which messages followers need not work off, because somebody has seen to what they ask for.

use std::collections::{HashMap, VecDeque};

/// Says of a message of the calls' bucket, by its sequence, that a follower would find nothing to do for it. True for ever: what
/// changes later is a message of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    pub seq: u64,
    /// Only if this earlier message of the same key is finished, too: what it asks for was not looked at. 0: whatever came before.
    pub after: u64,
}

/// What is claimed, the newest only. What is forgotten costs work, nothing else.
#[derive(Debug)]
pub struct Claims {
    after: HashMap<u64, u64, rustc_hash::FxBuildHasher>,
    order: VecDeque<u64>,
    most: usize,
}

impl Claims {
    /// `most` are kept, at least one.
    pub fn new(most: usize) -> Self {
        Self { after: HashMap::default(), order: VecDeque::new(), most: most.max(1) }
    }

    /// A claim that depends on nothing replaces one that does.
    pub fn add(&mut self, Claim { seq, after }: Claim) {
        let Some(known) = self.after.get_mut(&seq) else {
            if self.order.len() >= self.most
                && let Some(oldest) = self.order.pop_front()
            {
                self.after.remove(&oldest);
            }
            self.order.push_back(seq);
            self.after.insert(seq, after);
            return;
        };
        *known = (*known).min(after);
    }

    /// Whether the message and all that its claim depends on are claimed.
    pub fn is_finished(&self, seq: u64) -> bool {
        let mut seq = seq;
        loop {
            match self.after.get(&seq) {
                None => return false,
                Some(0) => return true,
                // Earlier ones only: so it ends.
                Some(&after) if after < seq => seq = after,
                Some(_) => return false,
            }
        }
    }

    pub fn forget_all(&mut self) {
        self.after.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(of: &[(u64, u64)]) -> Claims {
        let mut claims = Claims::new(3);
        of.iter().for_each(|&(seq, after)| claims.add(Claim { seq, after }));
        claims
    }

    #[test]
    fn a_message_is_finished_when_all_that_its_claim_depends_on_is() {
        assert!(!claims(&[]).is_finished(5));
        assert!(claims(&[(5, 0)]).is_finished(5));
        assert!(!claims(&[(5, 4)]).is_finished(5));
        assert!(claims(&[(5, 4), (4, 2), (2, 0)]).is_finished(5), "in any order");
        assert!(!claims(&[(5, 4), (4, 2)]).is_finished(5));
        assert!(!claims(&[(5, 5)]).is_finished(5), "garbage");
    }

    #[test]
    fn who_has_done_all_of_it_says_more() {
        assert!(claims(&[(5, 4), (5, 0)]).is_finished(5));
        assert!(claims(&[(5, 0), (5, 4)]).is_finished(5));
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let claims = claims(&[(1, 0), (2, 0), (3, 0), (4, 0)]);
        assert_eq!([1, 2, 3, 4].map(|seq| claims.is_finished(seq)), [false, true, true, true]);
    }
}
