//! Cross-origin requests of browsers: only configured origins are allowed; credentials only for origins named one by one.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use crate::auth::Source;
use crate::config::AppConfig;

/// The answer to a preflight; [`allow`] adds whom it is for.
pub fn preflight(request: &HeaderMap) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, OPTIONS"));
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    if let Some(asked) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    response
}

/// Adds the headers that let a page of `origin` read the response, if it may.
pub fn allow(origins: &[String], origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
    let Some(origin) = origin else { return };
    if origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    } else if origins.iter().any(|allowed| allowed == "*") {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
}

/// Whether a page may open a WebSocket. Browsers send cookies along with anybody's WebSocket and ask nobody before; so where
/// a cookie is a token, the page must be of this host or of a named origin. Ports do not count: cookies do not know them.
pub fn may_switch(config: &AppConfig, request: &HeaderMap) -> bool {
    let Some(origin) = request.get(header::ORIGIN) else { return true };
    let sources = config.token.iter().flat_map(|token| &token.sources);
    if !sources.into_iter().any(|source| matches!(source, Source::Cookie(_))) {
        return true;
    }
    let named = config.cors_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes());
    named || host_of(origin).is_some_and(|host| request.get(header::HOST).and_then(host_of) == Some(host))
}

/// The lower-case host of an origin or a `Host` header.
fn host_of(value: &HeaderValue) -> Option<String> {
    let uri = Uri::try_from(value.as_bytes()).ok()?;
    Some(uri.host()?.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::TokenConfig;

    fn switches(source: Source, origin: Option<&'static str>) -> bool {
        let config = AppConfig {
            token: Some(TokenConfig { sources: vec![Source::Bearer, source], ..TokenConfig::default() }),
            cors_origins: vec!["*".to_owned(), "https://named.example".to_owned()],
            ..AppConfig::default()
        };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("Chat.example:8443"));
        headers.extend(origin.map(|origin| (header::ORIGIN, HeaderValue::from_static(origin))));
        may_switch(&config, &headers)
    }

    #[test]
    fn where_cookies_are_tokens_only_known_pages_open_websockets() {
        let cookie = || Source::Cookie("token".to_owned());
        for known in [None, Some("https://chat.example"), Some("https://named.example")] {
            assert!(switches(cookie(), known), "{known:?}");
        }
        let foreign =
            ["https://evil.example", "https://chat.example.evil.example", "http://named.example", "null", ""];
        for foreign in foreign {
            assert!(!switches(cookie(), Some(foreign)), "{foreign:?}");
            assert!(switches(Source::ConnectAuth("token".to_owned()), Some(foreign)), "{foreign:?}");
        }
    }

    fn allowed(origins: &[&str], origin: &'static str) -> Option<String> {
        let origins: Vec<String> = origins.iter().map(|o| (*o).to_owned()).collect();
        let mut headers = HeaderMap::new();
        allow(&origins, Some(&HeaderValue::from_static(origin)), &mut headers);
        let value = |name| headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap().to_owned());
        let credentials = value(header::ACCESS_CONTROL_ALLOW_CREDENTIALS).is_some();
        value(header::ACCESS_CONTROL_ALLOW_ORIGIN).map(|origin| format!("{origin} {credentials}"))
    }

    #[test]
    fn only_named_origins_get_credentials() {
        let cases = [
            (&["https://a.example"][..], Some("https://a.example true")),
            (&["*"][..], Some("* false")),
            (&["*", "https://a.example"][..], Some("https://a.example true")),
            (&["https://b.example"][..], None),
            (&[][..], None),
        ];
        for (origins, expected) in cases {
            assert_eq!(allowed(origins, "https://a.example").as_deref(), expected);
        }
    }
}
