//! Parts of a conversation. Positions are dense, so that a page is known before anything is read.

use std::ops::RangeInclusive;

/// A part that a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only older ones: the newest of them.
    pub before: Option<u64>,
    /// Only newer ones: the oldest of them, also where `before` is given.
    pub after: Option<u64>,
    pub limit: usize,
}

/// The positions of a page, oldest first; empty if there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Positions {
    pub positions: RangeInclusive<u64>,
    /// There are more in the direction asked for: newer ones with `after`, older ones otherwise.
    pub has_more: bool,
}

impl Page {
    /// Which positions the page has in a room whose newest is `head`.
    pub fn positions(&self, head: u64) -> Positions {
        let limit = self.limit as u64;
        let first = self.after.map_or(1, |n| n.saturating_add(1));
        let last = self.before.map_or(head, |n| n.saturating_sub(1).min(head));
        let count = (last + 1).saturating_sub(first);
        if count <= limit {
            return Positions { positions: first..=last, has_more: false };
        }
        let positions = match self.after {
            Some(_) => first..=first + limit - 1,
            None => last + 1 - limit..=last,
        };
        Positions { positions, has_more: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(before: Option<u64>, after: Option<u64>, limit: usize, head: u64) -> (Vec<u64>, bool) {
        let found = Page { before, after, limit }.positions(head);
        (found.positions.collect(), found.has_more)
    }

    #[test]
    fn pages_go_both_ways() {
        assert_eq!(page(None, None, 3, 0), (vec![], false));
        assert_eq!(page(None, None, 3, 5), (vec![3, 4, 5], true));
        assert_eq!(page(Some(3), None, 3, 5), (vec![1, 2], false));
        assert_eq!(page(Some(1), None, 3, 5), (vec![], false));
        assert_eq!(page(Some(0), None, 3, 5), (vec![], false));
        assert_eq!(page(Some(99), None, 2, 5), (vec![4, 5], true));
        assert_eq!(page(None, Some(0), 3, 5), (vec![1, 2, 3], true));
        assert_eq!(page(None, Some(2), 3, 5), (vec![3, 4, 5], false));
        assert_eq!(page(None, Some(5), 3, 5), (vec![], false));
        assert_eq!(page(None, Some(u64::MAX), 3, 5), (vec![], false));
        assert_eq!(page(Some(5), Some(1), 2, 9), (vec![2, 3], true));
        assert_eq!(page(Some(4), Some(1), 2, 9), (vec![2, 3], false));
        assert_eq!(page(Some(2), Some(4), 2, 9), (vec![], false));
    }

    #[test]
    fn pages_put_together_are_the_conversation() {
        for limit in 1..8 {
            for head in 0..12 {
                let (mut back, mut before, mut more) = (Vec::new(), None, true);
                while more {
                    let (part, has_more) = page(before, None, limit, head);
                    before = part.first().copied();
                    back.splice(0..0, part);
                    more = has_more;
                }
                let (mut forth, mut more) = (Vec::new(), true);
                while more {
                    let (part, has_more) = page(None, Some(forth.last().copied().unwrap_or(0)), limit, head);
                    forth.extend(part);
                    more = has_more;
                }
                let all: Vec<u64> = (1..=head).collect();
                assert_eq!((&back, &forth), (&all, &all));
            }
        }
    }
}
