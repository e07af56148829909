//! What an application's chat does; the `[app.chat]` section of the configuration.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TypingTimes;

/// Bounds and times.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChatSettings {
    /// Typing is over when its client has not said so again for this long.
    pub typing_timeout_ms: u64,
    /// Others are told at most once in this time that somebody types.
    pub typing_interval_ms: u64,
    /// Rooms that one socket types in at a time.
    pub typing_rooms: usize,
    /// Messages of the largest page; who asks for more gets as many.
    pub history_page: usize,
    /// Messages looked at to count what is unread in one room: a count goes no further.
    pub unread_counted: usize,
    /// Rooms of one question for unread counts.
    pub unread_rooms: usize,
    /// How long a client's own id of a message protects against a second one, in seconds.
    pub client_id_s: u64,
    /// `messenger`: the chats of a token that its socket is put in at connect; further ones are entered when an event names them.
    pub chats_joined: usize,
    /// `messenger`, for development: everybody may enter every chat. Refused with `production = true`.
    pub open: bool,
}

impl Default for ChatSettings {
    fn default() -> Self {
        Self {
            typing_timeout_ms: 3_000,
            typing_interval_ms: 1_000,
            typing_rooms: 32,
            history_page: 200,
            unread_counted: 200,
            unread_rooms: 200,
            client_id_s: 86_400,
            chats_joined: 500,
            open: false,
        }
    }
}

impl ChatSettings {
    pub fn typing(&self) -> TypingTimes {
        TypingTimes { timeout_ms: self.typing_timeout_ms, interval_ms: self.typing_interval_ms }
    }

    /// Settings that would switch a part off, or ask the store for more than it answers at once: what they must be.
    pub fn mistakes(&self) -> Vec<(&'static str, String)> {
        /// Messages that one read may name.
        const AT_ONCE: usize = 500;
        let ranges = [
            ("typing_timeout_ms", self.typing_timeout_ms, 100, 600_000),
            ("typing_interval_ms", self.typing_interval_ms, 1, 600_000),
            ("typing_rooms", self.typing_rooms as u64, 1, 10_000),
            ("history_page", self.history_page as u64, 1, AT_ONCE as u64),
            ("unread_counted", self.unread_counted as u64, 1, AT_ONCE as u64),
            ("unread_rooms", self.unread_rooms as u64, 1, 10_000),
            ("client_id_s", self.client_id_s, 1, 30 * 86_400),
        ];
        let wrong = ranges.into_iter().filter(|(_, value, least, most)| !(least..=most).contains(&value));
        wrong.map(|(name, _, least, most)| (name, format!("must be {least} to {most}"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_cannot_be_are_named() {
        assert_eq!(ChatSettings::default().mistakes(), []);
        let wrong = ChatSettings { history_page: 501, typing_interval_ms: 0, ..ChatSettings::default() };
        let names: Vec<_> = wrong.mistakes().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["typing_interval_ms", "history_page"]);
    }
}
