//! Cross-origin requests of browsers: only configured origins are allowed; credentials only for origins named one by one.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

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

#[cfg(test)]
mod tests {
    use super::*;

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
