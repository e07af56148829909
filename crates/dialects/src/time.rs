//! Times as clients read them, and as back ends write them.

/// Beyond the year 9999 ISO 8601 has no common form.
const LAST_MS: u64 = 253_402_300_799_999;

/// ISO 8601 in UTC with milliseconds, `2026-01-31T12:00:00.000Z`, from milliseconds since the Unix epoch.
pub fn iso8601(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second, ms) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// Gregorian date of a day counted from 1970-01-01. Years begin in March here, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_ERA: u64 = 146_097;
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / DAYS_PER_ERA, shifted % DAYS_PER_ERA);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// Milliseconds since the Unix epoch of an ISO 8601 time from 1970 on: a date, or date and time with `Z`, with an offset, or with
/// neither, which is UTC too. What is finer than milliseconds is dropped.
pub fn parse_iso8601(text: &str) -> Option<u64> {
    let (date, time) = text.split_at_checked(10)?;
    let ms = match time.strip_prefix(['T', ' ']) {
        Some(time) => time_ms(time)?,
        None if time.is_empty() => 0,
        None => return None,
    };
    in_reach(day_of(date)?.checked_mul(86_400_000)?.checked_add_signed(ms)?)
}

/// A moment that [`iso8601`] can write.
pub fn in_reach(unix_ms: u64) -> Option<u64> {
    (unix_ms <= LAST_MS).then_some(unix_ms)
}

/// `2026-01-31` as a day counted from 1970-01-01. Years begin in March here, as in [`civil`].
fn day_of(date: &str) -> Option<u64> {
    let (year, rest) = date.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (march_year, march_month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = march_year / 4 - march_year / 100 + march_year / 400;
    let days = march_year * 365 + leap_days + (153 * march_month + 2) / 5 + day - 1 - 719_468;
    // 30 February would be a day in March.
    (civil(days) == (year, month, day)).then_some(days)
}

/// `12:00`, `12:00:00` or `12:00:00.123`, and where on Earth: milliseconds after midnight in UTC, less than none in the east.
fn time_ms(time: &str) -> Option<i64> {
    let zone = time.find(['Z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = time.split_at(zone);
    let offset_min = match zone.as_bytes().first() {
        None => 0,
        Some(b'Z') if zone.len() == 1 => 0,
        Some(b'+') => hours_and_minutes(&zone[1..])?,
        Some(b'-') => -hours_and_minutes(&zone[1..])?,
        Some(_) => return None,
    };
    let (minutes, seconds) = match clock.split_at_checked(5)? {
        (minutes, "") => (minutes, "00"),
        (minutes, seconds) => (minutes, seconds.strip_prefix(':')?),
    };
    let (seconds, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let seconds = digits(seconds, 2).filter(|seconds| *seconds < 60)?;
    let fraction = fraction.bytes().all(|byte| byte.is_ascii_digit()).then_some(fraction)?;
    let ms = digits(&format!("{fraction:0<3}")[..3], 3).filter(|_| !fraction.is_empty())?;
    let ms = i64::try_from(seconds * 1000 + ms).ok()?;
    Some((hours_and_minutes(minutes)? - offset_min) * 60_000 + ms)
}

/// `12:00`, or `1200` as some write offsets: minutes.
fn hours_and_minutes(text: &str) -> Option<i64> {
    let (hours, minutes) = text.split_at_checked(2)?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes.strip_prefix(':').unwrap_or(minutes), 2)?);
    (hours < 24 && minutes < 60).then(|| i64::try_from(hours * 60 + minutes).ok())?
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<u64> {
    let is_number = text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::{iso8601, parse_iso8601};

    #[test]
    fn times_of_back_ends_are_read_in_their_common_forms() {
        let same = [
            ("2026-01-31", "2026-01-31T00:00:00.000Z"),
            ("2026-01-31T12:34", "2026-01-31T12:34:00.000Z"),
            ("2026-01-31 12:34:56.789123", "2026-01-31T12:34:56.789Z"),
            ("2026-01-31T12:34:56.7Z", "2026-01-31T12:34:56.700Z"),
            ("2026-01-01T00:30:00+01:00", "2025-12-31T23:30:00.000Z"),
            ("2024-02-29T23:30:00-0130", "2024-03-01T01:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ];
        for (text, utc) in same {
            assert_eq!(parse_iso8601(text).map(iso8601).as_deref(), Some(utc), "{text}");
        }
        let none = [
            "",
            "yesterday",
            "2026-13-01",
            "2026-02-30",
            "2025-02-29",
            "2026-1-1",
            "2026-01-00",
            "2026-01-31T",
            "2026-01-31T24:00",
            "2026-01-31T12:60",
            "2026-01-31T12:34:60",
            "2026-01-31T12:34:56.",
            "2026-01-31T12:34:56.x",
            "2026-01-31T12:34Zx",
            "2026-01-31T12:34+1",
            "1969-12-31",
            "1970-01-01T00:00+01:00",
            "+026-01-31",
            "2026-01-31X12:34",
            "2026-01-3é",
            "9999-12-31T23:59-01:00",
        ];
        for text in none {
            assert_eq!(parse_iso8601(text), None, "{text}");
        }
    }

    #[test]
    fn known_moments() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199_999, "2024-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ];
        for (ms, text) in cases {
            assert_eq!(iso8601(ms), text);
        }
    }
}
