//! The requests that an application's clients and operators make besides the handshake: [`dialects::HttpRoute`] says which there are.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use dialects::{Endpoint, HttpRoute};
use domain::Identity;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::login::Logins;
use super::{Peer, Request, Site, cors, try_page};
use crate::auth::find_token;
use crate::clock::unix_ms;
use crate::stats;

/// Clients of one page where the question does not say.
const CLIENTS_PER_PAGE: usize = 1000;

/// One path of one application.
#[derive(Debug)]
struct Place {
    site: Arc<Site>,
    route: HttpRoute,
    started: Instant,
    logins: Logins,
}

/// The paths of an application, and what answers there.
pub fn of(site: &Arc<Site>) -> impl Iterator<Item = (&'static str, MethodRouter)> {
    site.shared.app(site.app).dialect.http_routes().iter().map(|route| {
        let (started, logins) = (Instant::now(), Logins::default());
        let place = Place { site: site.clone(), route: *route, started, logins };
        (route.path, any(serve).with_state(Arc::new(place)))
    })
}

async fn serve(
    State(place): State<Arc<Place>>,
    Extension(Peer(peer)): Extension<Peer>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let (site, route) = (&place.site, &place.route);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let method = match *request.method() {
        Method::HEAD => Method::GET,
        ref other => other.clone(),
    };
    let mut response = if method == Method::OPTIONS {
        cors::preflight(request.headers())
    } else if route.methods.iter().any(|known| *known == method.as_str()) {
        match route.endpoint {
            Endpoint::Health => site.health(place.started),
            Endpoint::Docs => site.docs(request.headers()),
            Endpoint::TryPage => try_page::serve(&site.shared.app(site.app).config),
            Endpoint::DevLogin => site.login(&place.logins, peer.ip(), request).await,
            Endpoint::SocketStatus => site.socket_status().await,
            Endpoint::IssueToken => site.issue_token(request.headers()).await,
            Endpoint::ClientStats => site.client_stats(&query, request.headers()).await,
            Endpoint::HealthStats => site.health_stats(&query, request.headers()).await,
        }
    } else {
        json_response(StatusCode::METHOD_NOT_ALLOWED, &json!({ "error": "Method not allowed" }))
    };
    cors::allow(&site.shared.app(site.app).config.cors_origins, origin.as_ref(), response.headers_mut());
    response
}

impl Site {
    /// Without a word to NATS: a health check must not load it.
    fn health(&self, started: Instant) -> Response {
        let (status, word) = if self.is_draining() {
            (StatusCode::SERVICE_UNAVAILABLE, "draining")
        } else if !self.shared.bus.is_connected() {
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        } else {
            (StatusCode::OK, "ok")
        };
        let body = json!({
            "status": word,
            "timestamp": dialects::iso(unix_ms()),
            "uptime": started.elapsed().as_secs(),
        });
        json_response(status, &body)
    }

    /// For people a page, for programs the text.
    fn docs(&self, headers: &HeaderMap) -> Response {
        let text = include_str!("../../../../docs/telehealth.md");
        let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        let (content, body) = if accept.contains("text/html") {
            ("text/html; charset=utf-8", page(self.shared.app(self.app).name(), text))
        } else {
            ("text/markdown; charset=utf-8", text.to_owned())
        };
        respond(StatusCode::OK, content, body)
    }

    async fn socket_status(&self) -> Response {
        match stats::totals(&self.shared, &self.all, self.app).await {
            Ok(totals) => json_response(
                StatusCode::OK,
                &json!({
                    "success": true,
                    "socketInitialized": true,
                    "connectedSockets": totals.total,
                    "message": "Socket.IO server is running",
                }),
            ),
            Err(error) => uncounted(&error),
        }
    }

    async fn client_stats(&self, query: &HashMap<String, String>, headers: &HeaderMap) -> Response {
        match self.identity(headers).await {
            None => json_response(StatusCode::UNAUTHORIZED, &json!({ "error": "Unauthorized" })),
            Some(identity) if !self.shared.app(self.app).dialect.is_administrator(&identity) => {
                json_response(StatusCode::FORBIDDEN, &json!({ "error": "Forbidden" }))
            }
            Some(_) => self.stats(Some(query)).await,
        }
    }

    async fn health_stats(&self, query: &HashMap<String, String>, headers: &HeaderMap) -> Response {
        let dialect = &self.shared.app(self.app).dialect;
        let sees_all =
            self.identity(headers).await.is_some_and(|identity| dialect.is_administrator(&identity));
        self.stats(sees_all.then_some(query)).await
    }

    /// `query`: which clients are listed; `None`: none.
    async fn stats(&self, query: Option<&HashMap<String, String>>) -> Response {
        let totals = match stats::totals(&self.shared, &self.all, self.app).await {
            Ok(totals) => totals,
            Err(error) => return uncounted(&error),
        };
        let mut body = json!({ "total": totals.total, "byRole": totals.by_role, "clients": [] });
        if let Some(query) = query {
            let limit = query.get("limit").map_or(Ok(CLIENTS_PER_PAGE), |limit| limit.parse());
            let Some(limit) = limit.ok().filter(|limit| (1..=CLIENTS_PER_PAGE).contains(limit)) else {
                let message = format!("limit must be between 1 and {CLIENTS_PER_PAGE}");
                return json_response(StatusCode::BAD_REQUEST, &json!({ "error": message }));
            };
            let after = query.get("after").map(String::as_str);
            let page = match stats::clients(&self.shared, &self.all, self.app, after, limit).await {
                Ok(page) => page,
                Err(error) => return uncounted(&error),
            };
            let numeric = self.shared.app(self.app).dialect.has_numeric_ids();
            body["clients"] = page.clients.iter().map(|client| client.to_json(numeric)).collect();
            if let Some(next) = page.next {
                body["next"] = next.into();
            }
        }
        json_response(StatusCode::OK, &body)
    }

    /// Who asks, by the application's own token in a header or cookie.
    async fn identity(&self, headers: &HeaderMap) -> Option<Identity> {
        let app = self.shared.app(self.app);
        let config = app.config.token.as_ref()?;
        let (token, _) = find_token(&config.sources, None, headers)?;
        let verified = app.verifier.as_ref()?.verify_with_newer_keys(&token, unix_ms() / 1000).await;
        let identity = verified.ok()?;
        self.is_welcome(&identity).await.then_some(identity)
    }
}

fn uncounted(error: &bus::ReadError) -> Response {
    tracing::warn!(%error, "connections could not be counted");
    json_response(StatusCode::SERVICE_UNAVAILABLE, &json!({ "error": "Service unavailable, try again" }))
}

fn page(title: &str, text: &str) -> String {
    let (title, text) = (escaped(title), escaped(text));
    format!(
        "<!doctype html><meta charset=utf-8><meta name=viewport content=\"width=device-width\"><title>{title}</title>\
         <style>body{{max-width:70rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui}}pre{{white-space:pre-wrap}}</style>\
         <p><a href=\"/api/docs/try\">Try it in this browser</a></p><pre>{text}</pre>"
    )
}

/// As text or a quoted attribute of a page.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

pub(super) fn json_response(status: StatusCode, body: &Value) -> Response {
    respond(status, "application/json", body.to_string())
}

pub(super) fn respond(status: StatusCode, content: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
