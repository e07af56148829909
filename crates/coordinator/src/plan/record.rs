//! The record of a call in its bucket: the call, and what its last revisions tell the clients.

use bytes::Bytes;
use dialects::Announcement;
use domain::call::Call;
use serde::{Deserialize, Serialize};

/// How long a revision's announcement stays in the record: far longer than a replica takes to store it, or another to notice.
const KEPT_MS: u64 = 10_000;
/// How many stay at most.
const KEPT: usize = 32;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallRecord {
    pub call: Call,
    /// The newest last. Whoever stores the announcement of a revision stores the earlier ones first, so that clients hear in order
    /// whatever becomes of a replica.
    #[serde(default)]
    pub told: Vec<Told>,
}

/// What one revision tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    pub rev: u64,
    pub at_ms: u64,
    /// For the gateways of those in the call: `domain::call::View`, encoded. Empty: not about a call.
    #[serde(default)]
    pub view: Bytes,
    pub announcements: Vec<Announcement>,
}

impl CallRecord {
    /// The record after a revision that tells `news`.
    pub fn next(previous: Option<&Self>, call: Call, news: Told) -> Self {
        let kept_from_ms = news.at_ms.saturating_sub(KEPT_MS);
        let mut told: Vec<Told> = previous
            .iter()
            .flat_map(|record| &record.told)
            .filter(|told| told.at_ms >= kept_from_ms)
            .cloned()
            .collect();
        told.push(news);
        let surplus = told.len().saturating_sub(KEPT);
        told.drain(..surplus);
        Self { call, told }
    }
}
