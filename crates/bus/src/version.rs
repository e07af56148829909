//! Versions of nats-server.

/// Major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32, u32);

/// The first server with atomic batches and message schedules; message TTL came with 2.11.
pub(crate) const NEEDED: Version = Version(2, 12, 0);

impl Version {
    /// `2.12.0`, with or without a leading `v` and a suffix such as `-beta.1`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let numbers = text.split(['-', '+']).next()?;
        let mut parts = numbers.split('.').map(str::parse);
        Some(Self(parts.next()?.ok()?, parts.next()?.ok()?, parts.next().unwrap_or(Ok(0)).ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare() {
        let is_new = |text: &str| Version::parse(text).map(|version| version >= NEEDED);
        assert_eq!(is_new("2.12.0"), Some(true));
        assert_eq!(is_new("v2.15.1-beta.2"), Some(true));
        assert_eq!(is_new("2.9.25"), Some(false));
        assert_eq!(is_new("3.0"), Some(true));
        assert_eq!(is_new("latest"), None);
    }
}
