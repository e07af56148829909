//! Requests for sessions that are refused: what the client is told, and the line in the access log and the count that tell
//! operators why it was not let in.

use std::net::SocketAddr;

use axum::body::Body;
use axum::response::Response;
use engineio::Refusal;
use http::{HeaderValue, Method, StatusCode, Uri, header};

use super::{Site, text};
use crate::shard::ACCESS;

/// Seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Most bytes of an `Origin` that are written down.
const MAX_ORIGIN_BYTES: usize = 200;

/// Goes with a response that refuses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refused {
    /// One of [`REASONS`].
    reason: &'static str,
    message: &'static str,
}

/// Labels of the metric of refused requests.
pub const REASONS: [&str; 13] = [
    "transport_unknown",
    "unknown_session",
    "bad_method",
    "bad_request",
    "unsupported_version",
    "origin",
    "application",
    "not_websocket",
    "full",
    "draining",
    "overloaded",
    "payload_too_large",
    "too_slow",
];

/// As much of a request as is told when it is refused. Its query may hold a token: it is not.
pub(super) struct Asked {
    method: Method,
    websocket: bool,
    uri: Uri,
    origin: Option<HeaderValue>,
}

impl Asked {
    pub(super) fn of(method: &Method, uri: &Uri, origin: Option<&HeaderValue>, websocket: bool) -> Self {
        Self { method: method.clone(), uri: uri.clone(), websocket, origin: origin.cloned() }
    }
}

impl Site {
    /// Writes a refusal down, if the response is one.
    pub(super) fn note_refusal(&self, peer: SocketAddr, asked: &Asked, response: &Response) {
        let Some(Refused { reason, message }) = response.extensions().get().copied() else { return };
        let app = self.shared.app(self.app).name();
        self.shared.metrics.handshakes_refused.with_label_values(&[app, reason]).inc();
        let origin = asked.origin.as_ref().and_then(|origin| origin.to_str().ok());
        tracing::info!(
            target: ACCESS,
            app,
            peer = %peer.ip(),
            method = %asked.method,
            path = asked.uri.path(),
            transport = if asked.websocket { "websocket" } else { "polling" },
            origin = origin.filter(|origin| origin.len() <= MAX_ORIGIN_BYTES),
            status = response.status().as_u16(),
            reason,
            known = message,
            node = %self.shared.id,
            "request refused"
        );
    }
}

pub(super) fn refused(refusal: Refusal) -> Response {
    let reason = match refusal {
        Refusal::UNKNOWN_TRANSPORT => "transport_unknown",
        Refusal::UNKNOWN_SID => "unknown_session",
        Refusal::BAD_HANDSHAKE_METHOD => "bad_method",
        Refusal::UNSUPPORTED_VERSION => "unsupported_version",
        Refusal { code, .. } if code == Refusal::FORBIDDEN.code => "application",
        _ => "bad_request",
    };
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let response = text(status, "application/json", Body::from(refusal.body()));
    marked(response, reason, refusal.message)
}

pub(super) fn wrong_origin() -> Response {
    let message = "Origin not allowed";
    marked(refused(Refusal { message, ..Refusal::FORBIDDEN }), "origin", message)
}

pub(super) fn full() -> Response {
    unavailable("full", "Too many sessions (limits.max_sessions)")
}

pub(super) fn leaving() -> Response {
    unavailable("draining", "This node is leaving")
}

pub(super) fn overloaded() -> Response {
    unavailable("overloaded", "Too many requests for other nodes")
}

/// 503: another node, or this one a little later, may serve the client.
fn unavailable(reason: &'static str, message: &'static str) -> Response {
    let refusal = Refusal { message, ..Refusal::BAD_REQUEST };
    let mut response = text(StatusCode::SERVICE_UNAVAILABLE, "application/json", Body::from(refusal.body()));
    come_again(&mut response);
    marked(response, reason, message)
}

pub(super) fn come_again(response: &mut Response) {
    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
}

pub(super) fn too_large() -> Response {
    let response = text(StatusCode::PAYLOAD_TOO_LARGE, "", Body::empty());
    marked(response, "payload_too_large", "The body is larger than nodes hand on")
}

/// What is left of the body would be taken for the next request.
pub(super) fn too_slow() -> Response {
    let mut response = text(StatusCode::REQUEST_TIMEOUT, "", Body::empty());
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    marked(response, "too_slow", "The body did not come in time (http.body_timeout_ms)")
}

/// The path takes WebSockets only.
pub(super) fn upgrade_required() -> Response {
    let refusal = Refusal { message: "This path takes WebSockets only", ..Refusal::BAD_REQUEST };
    let mut response = text(StatusCode::UPGRADE_REQUIRED, "application/json", Body::from(refusal.body()));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    marked(response, "not_websocket", refusal.message)
}

fn marked(mut response: Response, reason: &'static str, message: &'static str) -> Response {
    response.extensions_mut().insert(Refused { reason, message });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_reason_of_the_list() {
        let responses = [
            refused(Refusal::UNKNOWN_TRANSPORT),
            refused(Refusal::UNKNOWN_SID),
            refused(Refusal::BAD_HANDSHAKE_METHOD),
            refused(Refusal::BAD_REQUEST),
            refused(Refusal::FORBIDDEN),
            refused(Refusal::UNSUPPORTED_VERSION),
            wrong_origin(),
            full(),
            leaving(),
            overloaded(),
            too_large(),
            too_slow(),
            upgrade_required(),
        ];
        let reason = |response: &Response| response.extensions().get::<Refused>().unwrap().reason;
        let mut told: Vec<&str> = responses.iter().map(reason).collect();
        told.sort_unstable();
        let mut listed = REASONS.to_vec();
        listed.sort_unstable();
        assert_eq!(told, listed);
    }
}
