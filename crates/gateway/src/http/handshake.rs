//! What is kept of the request that opens a session.

use std::net::SocketAddr;

use bytes::Bytes;
use dialects::Handshake;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde_json::{Map, Value};

use super::Request;
use crate::app::App;
use crate::auth::Source;
use crate::clock::unix_ms;
use crate::shard::{Opening, Shared};

/// What an application adds to the handshake's response.
type ExtraHeaders = Vec<(HeaderName, HeaderValue)>;

/// The session to open and the response's extra headers, or why the application refuses the handshake.
pub fn opening(
    shared: &Shared,
    app: &App,
    peer: SocketAddr,
    request: &Request,
) -> Result<(Opening, ExtraHeaders), &'static str> {
    let keeps = app.dialect.keeps_handshake();
    let handshake = keeps.then(|| Box::new(handshake(peer, request)));
    let headers = match &handshake {
        Some(handshake) => app.dialect.handshake(handshake)?,
        None => Vec::new(),
    };
    let headers = headers.into_iter().filter_map(|(name, value)| {
        Some((HeaderName::from_static(name), HeaderValue::try_from(value).ok()?))
    });
    let kept = token_headers(app.site.iter().map(|ix| shared.app(*ix)), request.headers());
    let opening = Opening { app: app.ix, handshake, headers: kept, peer: peer.ip() };
    Ok((opening, headers.collect()))
}

/// Only the headers that a token of one of the applications may stand in; most clients send it in the CONNECT packet instead.
fn token_headers<'a>(site: impl Iterator<Item = &'a App>, headers: &HeaderMap) -> Option<Box<HeaderMap>> {
    let sources = site.filter_map(|app| app.config.token.as_ref()).flat_map(|token| &token.sources);
    let mut kept = HeaderMap::new();
    for source in sources {
        let name = match source {
            Source::ConnectAuth(_) => continue,
            Source::Bearer => header::AUTHORIZATION,
            Source::Header(name) => name.clone(),
            Source::Cookie(_) => header::COOKIE,
        };
        if !kept.contains_key(&name) {
            for value in headers.get_all(&name) {
                kept.append(name.clone(), value.clone());
            }
        }
    }
    (!kept.is_empty()).then(|| Box::new(kept))
}

fn header_map(headers: &HeaderMap) -> Map<String, Value> {
    let mut map = Map::new();
    for name in headers.keys() {
        let values: Vec<&str> =
            headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect();
        map.insert(name.to_string(), values.join(", ").into());
    }
    map
}

/// A POST's body with its headers in front, for applications that keep handshakes: it may be read at another node.
pub fn with_headers(headers: &HeaderMap, body: &[u8]) -> Bytes {
    let headers = serde_json::to_vec(&header_map(headers)).expect("text has a JSON form");
    let mut joined = Vec::with_capacity(4 + headers.len() + body.len());
    joined.extend_from_slice(&u32::try_from(headers.len()).unwrap_or(0).to_be_bytes());
    joined.extend_from_slice(&headers);
    joined.extend_from_slice(body);
    joined.into()
}

/// Takes [`with_headers`] apart.
pub fn split_headers(mut joined: Bytes) -> Option<(Map<String, Value>, Bytes)> {
    let length = u32::from_be_bytes(joined.get(..4)?.try_into().ok()?) as usize;
    let headers = serde_json::from_slice(joined.get(4..4 + length)?).ok()?;
    Some((headers, joined.split_off(4 + length)))
}

fn handshake(peer: SocketAddr, request: &Request) -> Handshake {
    let query = request.uri().query().unwrap_or_default();
    let pairs = url::form_urlencoded::parse(query.as_bytes());
    Handshake {
        headers: header_map(request.headers()),
        post_headers: None,
        query: pairs.map(|(key, value)| (key.into_owned(), Value::from(value.into_owned()))).collect(),
        url: request.uri().path_and_query().map_or_else(String::new, ToString::to_string),
        address: peer.ip().to_string(),
        secure: request.extensions().get::<super::Secure>().is_some_and(|secure| secure.0),
        xdomain: request.headers().contains_key(header::ORIGIN),
        issued_ms: unix_ms(),
    }
}
