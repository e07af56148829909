//! One token per user: read from a file, or minted with a shared HMAC secret.

use std::borrow::Cow;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;

/// Longer than any run.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Default)]
pub enum Tokens {
    #[default]
    None,
    /// Session `n` uses token `n` modulo the number of tokens.
    List(Vec<String>),
    /// HS256; session `n` is user `u<n>`.
    Mint { secret: Vec<u8> },
}

#[derive(Serialize)]
struct Claims {
    #[serde(rename = "userId")]
    user_id: String,
    role: &'static str,
    exp: u64,
}

impl Tokens {
    /// One token per line.
    pub fn read(path: &Path) -> io::Result<Tokens> {
        let text = std::fs::read_to_string(path)?;
        let tokens: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        match tokens.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::InvalidData, "no token in the file")),
            false => Ok(Tokens::List(tokens)),
        }
    }

    /// The file's content without surrounding white space is the secret.
    pub fn mint_with(path: &Path) -> io::Result<Tokens> {
        Ok(Tokens::Mint { secret: std::fs::read_to_string(path)?.trim().as_bytes().to_vec() })
    }

    pub fn of(&self, index: usize) -> Option<Cow<'_, str>> {
        match self {
            Tokens::None => None,
            Tokens::List(tokens) => Some(Cow::Borrowed(&tokens[index % tokens.len()])),
            Tokens::Mint { secret } => Some(Cow::Owned(mint(secret, index))),
        }
    }
}

/// The user that minted token `index` stands for.
pub fn minted_user(index: usize) -> String {
    format!("u{index}")
}

fn mint(secret: &[u8], index: usize) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let claims = Claims { user_id: minted_user(index), role: "patient", exp: (now + LIFETIME).as_secs() };
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret))
        .expect("plain claims serialise and HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minted_tokens_differ_by_user_and_listed_ones_repeat() {
        let minted = Tokens::Mint { secret: b"key".to_vec() };
        assert_ne!(minted.of(0), minted.of(1));
        assert_eq!(minted.of(3).unwrap().split('.').count(), 3);
        let listed = Tokens::List(vec!["a".into(), "b".into()]);
        assert_eq!(listed.of(3).as_deref(), Some("b"));
        assert_eq!(Tokens::None.of(0), None);
    }
}
