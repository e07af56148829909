//! The API's own HTTP port: `/v1/apps/{app}/{call}` with a key, and the description of the API.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use axum::routing::{any, get};
use cluster::trace;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use super::keys::Key;
use super::{Answer, Call, Caller, Fault, body_of, check_key, openapi, plain};
use crate::http::{BodyError, read_body};
use crate::shard::{Control, Shard, ShardHandle, Shared};

type Request = http::Request<Body>;

/// What the port's handlers need.
#[derive(Debug)]
struct Port {
    shared: Arc<Shared>,
    here: ShardHandle,
    body_timeout: Duration,
}

/// The port's routes, for one core.
pub fn router(shard: &Shard, body_timeout: Duration) -> axum::Router {
    let port = Arc::new(Port { shared: shard.shared.clone(), here: shard.handle.clone(), body_timeout });
    axum::Router::new()
        .route("/v1/apps/{app}/{call}", any(call))
        .route("/v1/openapi.json", get(describe))
        .fallback(nowhere)
        .with_state(port)
}

async fn describe(State(port): State<Arc<Port>>) -> Response {
    let body = openapi::document(&port.shared.apps).to_string();
    respond(StatusCode::OK, body.into_bytes())
}

async fn nowhere() -> Response {
    answered(&Err(Fault::new(404, "not_found", "calls go to /v1/apps/{app}/{call}")))
}

async fn call(
    State(port): State<Arc<Port>>,
    Path((app, verb)): Path<(String, String)>,
    query: Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let answer = port.call(&app, verb, query.0, request).await;
    if let Err(fault) = &answer {
        tracing::info!(app, code = fault.code, status = fault.status, "[Publish API] call refused");
    }
    let mut response = answered(&answer);
    // The next call of this back end goes to another node.
    if port.shared.draining.load(Ordering::Relaxed) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Port {
    async fn call(
        &self,
        app: &str,
        verb: String,
        query: HashMap<String, String>,
        request: Request,
    ) -> Answer {
        let api = &self.shared.api;
        let key = self.authenticate(request.headers())?;
        key.take(self.shared.clock.now_us()).map_err(too_often)?;
        let apps = &self.shared.apps;
        let found = apps.iter().find(|known| known.name() == app).ok_or_else(|| Fault::unknown_app(app))?;
        if !key.may_call(app) {
            return Err(Fault::new(403, "forbidden", "this key is not for this application"));
        }
        let idempotency_key = header_text(request.headers(), "idempotency-key")?;
        idempotency_key.as_deref().map_or(Ok(()), check_key)?;
        let trace = request.headers().get(trace::HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        let caller = Caller { name: key.name.clone(), scopes: key.scopes().to_vec() };
        let body = match *request.method() {
            Method::GET if plain::is_read(&verb) => as_body(query).into(),
            Method::POST => self.body(request).await?,
            _ => return Err(Fault::new(405, "method_not_allowed", "calls are POST, questions GET or POST")),
        };
        let _place = api.begin()?;
        let (done, answer) = oneshot::channel();
        let call = Call { app: found.ix, verb, body, caller, idempotency_key, trace };
        self.here.control(Control::Api { call: Box::new(call), done });
        let within = Duration::from_millis(api.config.timeout_ms);
        match tokio::time::timeout(within, answer).await {
            Ok(Ok(answer)) => answer,
            // The node ends, or the call goes on without anybody to hear of it.
            Ok(Err(_)) | Err(_) => Err(Fault::unavailable()),
        }
    }

    fn authenticate(&self, headers: &HeaderMap) -> Result<&Key, Fault> {
        let refused = || Fault::new(401, "unauthorized", "give a key: `Authorization: Bearer <key>`");
        let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let (scheme, secret) = value.and_then(|value| value.split_once(' ')).ok_or_else(refused)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(refused());
        }
        let unknown = || Fault::new(401, "unauthorized", "no such key");
        self.shared.api.keys.find(secret.trim()).ok_or_else(unknown)
    }

    async fn body(&self, request: Request) -> Result<bytes::Bytes, Fault> {
        let limit = self.shared.api.config.max_body_bytes;
        match read_body(request.into_body(), limit, self.body_timeout).await {
            Ok(body) if body.len() > limit => Err(Fault::new(
                413,
                "too_large",
                format!("a body may have {limit} bytes (api.max_body_bytes)"),
            )),
            Ok(body) => Ok(body),
            Err(BodyError::BrokenOff) => Err(Fault::new(400, "invalid_payload", "the body broke off")),
            Err(BodyError::TooSlow) => Err(Fault::new(408, "timeout", "the body did not come in time")),
        }
    }
}

fn too_often(retry_after_ms: u64) -> Fault {
    let fault = Fault::new(429, "rate_limited", "too many calls with this key (api.requests_per_second)");
    Fault { retry_after_ms: Some(retry_after_ms), ..fault }
}

fn header_text(headers: &HeaderMap, name: &str) -> Result<Option<String>, Fault> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let text = value.to_str().map_err(|_| Fault::invalid("idempotencyKey", "must be printable ASCII"))?;
    Ok(Some(text.to_owned()))
}

/// The parameters of a question, as its body would have them.
fn as_body(query: HashMap<String, String>) -> Vec<u8> {
    let object: Map<String, Value> = query.into_iter().map(|(key, value)| (key, value.into())).collect();
    serde_json::to_vec(&object).expect("a map of strings is JSON")
}

fn answered(answer: &Answer) -> Response {
    let status = answer.as_ref().map_or_else(|fault| fault.status, |_| 200);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = respond(status, body_of(answer));
    let headers = response.headers_mut();
    if status == StatusCode::UNAUTHORIZED {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    // What is left of such a body would be taken for the next request.
    if [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE].contains(&status) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(retry_after_ms) = answer.as_ref().err().and_then(|fault| fault.retry_after_ms) {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_ms.div_ceil(1000)));
    }
    response
}

fn respond(status: StatusCode, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
