//! Feeds: what an application keeps of its own events beyond their delivery, numbered without gaps from 1, the oldest dropped over a
//! limit. A back end's call adds an entry ([`BackendAction::Record`](crate::BackendAction::Record)), clients read pages
//! ([`Command::Feed`](crate::Command::Feed)).

use serde_json::value::RawValue;

/// A feed that the gateway keeps for an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedSpec {
    /// `[a-z]`, unique within the application.
    pub name: &'static str,
    /// Entries kept.
    pub kept: u64,
}

/// Which entries are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Last(u64),
    /// Those after this number, at most `limit`.
    After {
        seq: u64,
        limit: u64,
    },
    /// The `limit` ones before this number.
    Before {
        seq: u64,
        limit: u64,
    },
}

/// Entries in their order.
#[derive(Clone, Debug, Default)]
pub struct FeedPage {
    pub entries: Vec<FeedEntry>,
    /// Number of the newest entry, read or not; 0: there was none yet.
    pub last: u64,
    /// Entries that were asked for are not kept any more.
    pub is_cut: bool,
}

#[derive(Clone, Debug)]
pub struct FeedEntry {
    pub seq: u64,
    /// As it was added.
    pub json: Box<RawValue>,
}

impl PartialEq for FeedPage {
    fn eq(&self, other: &Self) -> bool {
        self.last == other.last && self.is_cut == other.is_cut && self.entries == other.entries
    }
}

impl PartialEq for FeedEntry {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq && self.json.get() == other.json.get()
    }
}

impl Span {
    /// The first and last number of the entries to read, when `last` is the newest; `None`: there are none.
    pub fn bounds(self, last: u64) -> Option<(u64, u64)> {
        let (from, to) = match self {
            Self::Last(count) => ((last + 1).saturating_sub(count).max(1), last),
            Self::After { seq, limit } => (seq.saturating_add(1), last.min(seq.saturating_add(limit))),
            Self::Before { seq, limit } => {
                let to = last.min(seq.saturating_sub(1));
                (seq.saturating_sub(limit).max(1), to)
            }
        };
        (from <= to && from > 0).then_some((from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::Span;

    #[test]
    fn a_span_is_bounded_by_what_there_is() {
        let cases = [
            (Span::Last(3), 10, Some((8, 10))),
            (Span::Last(3), 2, Some((1, 2))),
            (Span::Last(3), 0, None),
            (Span::Last(0), 5, None),
            (Span::After { seq: 4, limit: 100 }, 10, Some((5, 10))),
            (Span::After { seq: 4, limit: 2 }, 10, Some((5, 6))),
            (Span::After { seq: 10, limit: 2 }, 10, None),
            (Span::After { seq: u64::MAX, limit: 2 }, 10, None),
            (Span::Before { seq: 8, limit: 3 }, 10, Some((5, 7))),
            (Span::Before { seq: 2, limit: 3 }, 10, Some((1, 1))),
            (Span::Before { seq: 1, limit: 3 }, 10, None),
            (Span::Before { seq: 0, limit: 3 }, 10, None),
            (Span::Before { seq: 99, limit: 3 }, 10, None),
        ];
        for (span, last, expected) in cases {
            assert_eq!(span.bounds(last), expected, "{span:?} of {last}");
        }
    }
}
