//! `trunkline token`: minting for tests and operators, and looking into tokens that are refused.

pub mod inspect;
pub mod mint;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use gateway::auth::TokenConfig;

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
