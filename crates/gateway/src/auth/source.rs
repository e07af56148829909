//! Where the token of a connection is: the CONNECT payload, a header, a cookie.

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A place to look for a token; written `auth.<field>`, `bearer`, `header:<name>` or `cookie:<name>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Source {
    /// A field of the CONNECT payload; `a.b` is the field `b` of the object `a`.
    ConnectAuth(String),
    /// `Authorization: Bearer <token>`.
    Bearer,
    Header(HeaderName),
    Cookie(String),
}

/// The first token among `sources`, in their order, and where it was. A `Bearer` before the token is dropped wherever it
/// stands, since some clients send it in the payload; values that are no text, or empty, are passed over.
pub fn find_token<'a>(
    sources: &'a [Source],
    connect_auth: Option<&Value>,
    headers: &HeaderMap,
) -> Option<(String, &'a Source)> {
    sources.iter().find_map(|source| {
        let found = match source {
            Source::ConnectAuth(field) => in_payload(connect_auth?, field).map(without_scheme),
            Source::Bearer => in_header(headers, &AUTHORIZATION).and_then(bearer),
            Source::Header(name) => in_header(headers, name).map(without_scheme),
            Source::Cookie(name) => in_cookies(headers, name),
        };
        let token = found.filter(|token| !token.is_empty())?;
        Some((token.to_owned(), source))
    })
}

fn in_payload<'a>(payload: &'a Value, field: &str) -> Option<&'a str> {
    field.split('.').try_fold(payload, |value, name| value.get(name))?.as_str()
}

fn in_header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn in_cookies<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let pairs =
        headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(';'));
    let mut values = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name);
    values.next().map(|(_, value)| value.trim_matches('"'))
}

fn without_scheme(text: &str) -> &str {
    bearer(text).unwrap_or(text.trim())
}

fn bearer(text: &str) -> Option<&str> {
    let (scheme, token) = text.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A source written in none of the four ways.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no token source: write `auth.<field>`, `bearer`, `header:<name>` or `cookie:<name>`")]
pub struct SourceError(String);

impl TryFrom<String> for Source {
    type Error = SourceError;

    fn try_from(text: String) -> Result<Self, SourceError> {
        let parsed = match (text.strip_prefix("auth."), text.split_once(':')) {
            (Some(field), _) if !field.is_empty() => Some(Self::ConnectAuth(field.to_owned())),
            (None, None) if text == "bearer" => Some(Self::Bearer),
            (None, Some(("header", name))) => name.parse().ok().map(Self::Header),
            (None, Some(("cookie", name))) if !name.is_empty() => Some(Self::Cookie(name.to_owned())),
            _ => None,
        };
        parsed.ok_or(SourceError(text))
    }
}

impl From<Source> for String {
    fn from(source: Source) -> Self {
        source.to_string()
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConnectAuth(field) => write!(f, "auth.{field}"),
            Self::Bearer => f.write_str("bearer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
        }
    }
}
