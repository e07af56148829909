//! Times as the server writes them (RFC 3339 in UTC, with up to nine digits of a second's fraction), and now.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch; 0 for a clock before it.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since the Unix epoch; `None` if the text is something else or before 1970.
pub(crate) fn parse_rfc3339_ms(text: &str) -> Option<u64> {
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let rest = text.get(19..)?.strip_suffix('Z')?;
    let millis = match rest.strip_prefix('.') {
        Some(fraction) => format!("{fraction:0<3}").get(..3)?.parse().ok()?,
        None => 0,
    };
    let days = days_since_1970(year, month, day)?;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1000 + millis)
}

/// The year is counted from March, so that the leap day is its last one.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (153 * month + 2) / 5 + day - 1;
    // Days from the 1st of March of year 0 to 1970-01-01.
    days.checked_sub(719_468)
}

/// The text of a time in milliseconds since the Unix epoch.
pub(crate) fn rfc3339(unix_ms: u64) -> String {
    let (days, millis) = (unix_ms / DAY_MS, unix_ms % DAY_MS);
    let (year, month, day) = date_of(days);
    let (hour, minute, second) = (millis / 3_600_000, millis / 60_000 % 60, millis / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", millis % 1000)
}

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// The inverse of [`days_since_1970`], by the same years that begin in March, in cycles of 400.
fn date_of(days_since_1970: u64) -> (u64, u64, u64) {
    let days = days_since_1970 + 719_468;
    let (cycle, day_of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let year = cycle * 400 + year_of_cycle;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn times_come_back_as_they_were_written(unix_ms in 0..200_000_000_000_000_u64) {
            prop_assert_eq!(parse_rfc3339_ms(&rfc3339(unix_ms)), Some(unix_ms));
        }
    }

    #[test]
    fn times_are_written_as_the_server_reads_them() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_825_600_500, "2000-02-29T12:00:00.500Z"),
            (1_763_642_096_007, "2025-11-20T12:34:56.007Z"),
            (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
        ];
        for (unix_ms, text) in cases {
            assert_eq!(rfc3339(unix_ms), text);
        }
    }

    #[test]
    fn server_times_are_read() {
        let cases = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00.5Z", Some(951_825_600_500)),
            ("2025-11-20T12:34:56.123456789Z", Some(1_763_642_096_123)),
            ("0001-01-01T00:00:00Z", None),
            ("2025-11-20", None),
            ("yesterday", None),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_rfc3339_ms(text), expected, "{text}");
        }
    }
}
