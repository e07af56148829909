//! Where the token of a connection is: the CONNECT payload, a header, a cookie.

use http::header::{AUTHORIZATION, COOKIE, HeaderMap, HeaderName};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A place to look for a token; written `auth.<field>`, `bearer`, `header:<name>` or `cookie:<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
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

impl std::str::FromStr for Source {
    type Err = SourceError;

    fn from_str(text: &str) -> Result<Self, SourceError> {
        let parsed = match (text.strip_prefix("auth."), text.split_once(':')) {
            (Some(field), _) if !field.is_empty() => Some(Self::ConnectAuth(field.to_owned())),
            (None, None) if text == "bearer" => Some(Self::Bearer),
            (None, Some(("header", name))) => name.parse().ok().map(Self::Header),
            (None, Some(("cookie", name))) if !name.is_empty() => Some(Self::Cookie(name.to_owned())),
            _ => None,
        };
        parsed.ok_or_else(|| SourceError(text.to_owned()))
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

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Written out, unlike serde's `try_from`, to fail while the text is read: only then does a TOML error know its place.
impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = Source;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a token source")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Source, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}
