//! `trunkline token`: minting for tests and operators, looking into tokens that are refused, and having good ones refused.

pub mod inspect;
pub mod mint;
pub mod revoke;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::auth::TokenConfig;

use crate::failure::Failure;

/// An application's token rules with the HMAC key of `file` in place of its own keys.
fn with_secret_file(rules: &TokenConfig, file: &Path) -> TokenConfig {
    TokenConfig {
        secret: None,
        secret_env: None,
        secret_file: Some(file.to_owned()),
        keys: Vec::new(),
        ..rules.clone()
    }
}

fn unix_now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is set to after 1970").as_secs()
}

/// A number with its unit, in seconds; `None`: `never`. `flag` is whose value it is.
fn duration_s(flag: &str, text: &str) -> Result<Option<u64>, Failure> {
    if text == "never" {
        return Ok(None);
    }
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s = match &text[digits.len()..] {
        "" | "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3600),
        "d" => Some(86_400),
        _ => None,
    };
    let seconds = unit_s.and_then(|unit_s| digits.parse::<u64>().ok()?.checked_mul(unit_s));
    seconds
        .map(Some)
        .ok_or_else(|| Failure::Usage(format!("{flag} {text}: write a number with s, m, h or d, or `never`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let cases = [
            ("90", Some(90)),
            ("90s", Some(90)),
            ("15m", Some(900)),
            ("1h", Some(3600)),
            ("7d", Some(604_800)),
        ];
        for (text, seconds) in cases {
            assert_eq!(duration_s("--ttl", text).unwrap(), seconds, "{text}");
        }
        assert_eq!(duration_s("--ttl", "never").unwrap(), None);
        for wrong in ["", "h", "1w", "-1s", "1.5h", "99999999999999999999d"] {
            assert!(duration_s("--ttl", wrong).is_err(), "{wrong}");
        }
    }
}
