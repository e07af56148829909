//! A user's notifications: kept until they are read, the oldest dropped over a limit, all forgotten after a time. Owns the order,
//! the counting and what a client may name; the notifications' bodies and where they are kept are the edge's business.
//!
//! Start at [`Mailbox`]: one for each user, changed as a whole by compare-and-set, so that its count is exact.

mod texts;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Rejection, UserId};
pub use texts::{Templates, Texts};

/// Read ones that are remembered, so that reading twice is no error.
const REMEMBERED: usize = 100;

/// Longest id that a back end may give a notification, in bytes.
const ID_BYTES: usize = 128;

/// How an application's notifications are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotificationSettings {
    /// Unread ones of one user; over it the oldest is dropped. At most 900.
    pub per_user: usize,
    /// An unread one is forgotten after so many seconds.
    pub max_age_s: u64,
    /// JSON of one notification, the whole object; a larger one is refused.
    pub bytes: usize,
    /// Notifications of one page where the client does not say how many.
    pub page: usize,
    /// Notifications of one page that a client may ask for.
    pub page_most: usize,
    /// Of texts, where the back end names no language, or one that has no templates.
    pub language: String,
    /// The texts that the application itself writes, by language tag; Turkish needs none.
    pub templates: BTreeMap<String, Templates>,
}

impl NotificationSettings {
    /// A mailbox changes in one atomic batch, which holds at most 1000 messages.
    pub const MOST_PER_USER: usize = 900;

    pub fn texts(&self) -> Texts {
        Texts { language: self.language.clone(), templates: self.templates.clone() }
    }
}

impl Default for NotificationSettings {
    fn default() -> Self {
        Self {
            per_user: 500,
            max_age_s: 30 * 24 * 3600,
            bytes: 16_384,
            page: 50,
            page_most: 200,
            language: "tr".to_owned(),
            templates: BTreeMap::new(),
        }
    }
}

/// One unread notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// A ULID: the place in the order, and the name where it is kept.
    pub key: Box<str>,
    /// As clients name it, where the back end has named it: a number as its digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Box<str>>,
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
}

/// A user's unread notifications and the last ones that were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// Whose: the name of the record may be a hash.
    pub user: UserId,
    /// Oldest first.
    unread: Vec<Entry>,
    #[serde(default)]
    read: Vec<Entry>,
}

/// What became of a new notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Added {
    /// It is unread now; these were dropped for it.
    Stored { dropped: Vec<Entry> },
    /// One of this id is unread already.
    Known(Entry),
    /// One of this id was read already.
    WasRead,
}

/// What became of a wish to have read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Marked {
    Read(Entry),
    Before,
}

/// One page, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub entries: Vec<Entry>,
    pub has_more: bool,
}

impl Entry {
    /// What clients call it.
    pub fn name(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.key)
    }
}

impl Mailbox {
    pub fn new(user: UserId) -> Self {
        Self { user, unread: Vec::new(), read: Vec::new() }
    }

    /// Forgets what is too old.
    pub fn expire(&mut self, settings: &NotificationSettings, now_ms: u64) {
        let max_age_ms = settings.max_age_s.saturating_mul(1000);
        self.unread.retain(|entry| entry.at_ms.saturating_add(max_age_ms) > now_ms);
    }

    /// A second one of the same id changes nothing.
    pub fn add(&mut self, entry: Entry, settings: &NotificationSettings) -> Added {
        if let Some(known) = find(&self.unread, entry.name()) {
            return Added::Known(self.unread[known].clone());
        }
        if find(&self.read, entry.name()).is_some() {
            return Added::WasRead;
        }
        // Nodes' clocks differ: the key decides.
        let at = self.unread.partition_point(|other| other.key < entry.key);
        let over = (self.unread.len() + 1).saturating_sub(settings.per_user.max(1));
        let dropped: Vec<Entry> = self.unread.drain(..over).collect();
        self.unread.insert(at.saturating_sub(over), entry);
        Added::Stored { dropped }
    }

    /// A client has read one, by the name it knows.
    pub fn mark_read(&mut self, name: &str) -> Result<Marked, Rejection> {
        if let Some(at) = find(&self.unread, name) {
            let entry = self.unread.remove(at);
            let over = (self.read.len() + 1).saturating_sub(REMEMBERED);
            self.read.drain(..over);
            self.read.push(entry.clone());
            return Ok(Marked::Read(entry));
        }
        find(&self.read, name).map(|_| Marked::Before).ok_or(Rejection::UnknownNotification)
    }

    pub fn unread(&self) -> usize {
        self.unread.len()
    }

    /// The newest `limit`, or those that came before the one named: unread, just read, or by its place in time.
    pub fn page(&self, before: Option<&str>, limit: usize) -> Result<Page, Rejection> {
        let end = match before {
            None => self.unread.len(),
            Some(name) => {
                let key = self.place_of(name).ok_or(Rejection::UnknownNotification)?;
                self.unread.partition_point(|entry| *entry.key < *key)
            }
        };
        let start = end.saturating_sub(limit);
        let entries = self.unread[start..end].iter().rev().cloned().collect();
        Ok(Page { entries, has_more: start > 0 })
    }

    fn place_of<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let known = [&self.unread, &self.read].into_iter().find_map(|list| Some(&list[find(list, name)?]));
        known.map(|entry| &*entry.key).or_else(|| is_ulid(name).then_some(name))
    }
}

/// A name that a back end gives: a string or an integer.
pub fn name_of(id: &serde_json::Value) -> Result<Box<str>, Rejection> {
    let name = UserId::from_json(id).filter(|name| name.as_str().len() <= ID_BYTES);
    let problem = "must be a non-empty string of at most 128 bytes, or an integer";
    name.map(|name| name.as_str().into()).ok_or(Rejection::InvalidPayload { field: "id", problem })
}

fn find(entries: &[Entry], name: &str) -> Option<usize> {
    entries.iter().rposition(|entry| entry.name() == name)
}

fn is_ulid(text: &str) -> bool {
    text.len() == 26 && text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> Mailbox {
        Mailbox::new(UserId::new("7").unwrap())
    }

    fn entry(n: u64) -> Entry {
        Entry { key: format!("{n:026}").into(), id: None, at_ms: n }
    }

    fn named(n: u64, id: &str) -> Entry {
        Entry { id: Some(id.into()), ..entry(n) }
    }

    fn settings(per_user: usize) -> NotificationSettings {
        NotificationSettings { per_user, ..NotificationSettings::default() }
    }

    fn names(page: &Page) -> Vec<u64> {
        page.entries.iter().map(|entry| entry.at_ms).collect()
    }

    #[test]
    fn unread_until_read_and_reading_twice_is_no_error() {
        let mut mailbox = mailbox();
        for n in 1..=3 {
            assert_eq!(mailbox.add(entry(n), &settings(9)), Added::Stored { dropped: vec![] });
        }
        let name = entry(2).key;
        assert_eq!(mailbox.mark_read(&name), Ok(Marked::Read(entry(2))));
        assert_eq!(mailbox.mark_read(&name), Ok(Marked::Before));
        assert_eq!(mailbox.unread(), 2);
        assert_eq!(mailbox.mark_read("x"), Err(Rejection::UnknownNotification));
        assert_eq!(mailbox.add(entry(2), &settings(9)), Added::WasRead);
        assert_eq!(mailbox.add(entry(3), &settings(9)), Added::Known(entry(3)));
        assert_eq!(mailbox.unread(), 2);
    }

    #[test]
    fn the_oldest_go_over_the_limit_and_after_their_time() {
        let mut mailbox = mailbox();
        for n in 1..=3 {
            mailbox.add(entry(n * 1000), &settings(3));
        }
        assert_eq!(mailbox.add(entry(4000), &settings(3)), Added::Stored { dropped: vec![entry(1000)] });
        // The limit was lowered, and this node's clock is behind.
        let Added::Stored { dropped } = mailbox.add(entry(1), &settings(2)) else { panic!() };
        assert_eq!(dropped, [entry(2000), entry(3000)]);
        assert_eq!(names(&mailbox.page(None, 9).unwrap()), [4000, 1]);
        mailbox.expire(&NotificationSettings { max_age_s: 4, ..settings(9) }, 4001);
        assert_eq!(names(&mailbox.page(None, 9).unwrap()), [4000]);
    }

    #[test]
    fn pages_go_back_from_the_newest() {
        let mut mailbox = mailbox();
        for n in [1, 2, 3, 5, 4] {
            mailbox.add(entry(n), &settings(9));
        }
        let first = mailbox.page(None, 2).unwrap();
        assert_eq!((names(&first), first.has_more), (vec![5, 4], true));
        // The last one of the page is read before the next page is asked for.
        mailbox.mark_read(&entry(4).key).unwrap();
        let second = mailbox.page(Some(&entry(4).key), 3).unwrap();
        assert_eq!((names(&second), second.has_more), (vec![3, 2, 1], false));
        // One that nobody remembers still has its place in time.
        assert_eq!(names(&mailbox.page(Some(&format!("{:026}", 2)), 3).unwrap()), [1]);
        assert_eq!(mailbox.page(Some("nonsense"), 3), Err(Rejection::UnknownNotification));
    }

    #[test]
    fn a_back_ends_own_names_count() {
        let mut mailbox = mailbox();
        mailbox.add(named(1, "41"), &settings(9));
        mailbox.add(named(2, "42"), &settings(9));
        assert_eq!(mailbox.add(named(3, "42"), &settings(9)), Added::Known(named(2, "42")));
        assert_eq!(names(&mailbox.page(Some("42"), 9).unwrap()), [1]);
        assert_eq!(mailbox.mark_read("42"), Ok(Marked::Read(named(2, "42"))));
        assert_eq!(mailbox.unread(), 1);
        let value = |json: &str| name_of(&serde_json::from_str(json).unwrap()).ok();
        assert_eq!([value("7"), value("\"a\"")], [Some("7".into()), Some("a".into())]);
        for bad in ["null", "\"\"", "1.5", "{}", &format!("\"{}\"", "x".repeat(129))] {
            assert_eq!(value(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_remembered_of_read_ones_is_bounded() {
        let mut mailbox = mailbox();
        for n in 0..500 {
            mailbox.add(entry(n), &settings(9));
            mailbox.mark_read(&entry(n).key).unwrap();
        }
        assert_eq!((mailbox.read.len(), mailbox.unread()), (REMEMBERED, 0));
    }
}
