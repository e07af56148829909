//! The operators' port: `/metrics`, `/healthz` (the process answers), `/readyz` (it can serve). Never exposed to clients.

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use crate::{Metrics, Readiness};

#[derive(Clone)]
struct Admin {
    metrics: Metrics,
    readiness: Readiness,
}

pub fn router(metrics: Metrics, readiness: Readiness) -> Router {
    metrics.watch(&readiness).expect("a process has one readiness");
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(Admin { metrics, readiness })
}

/// Answers until `shutdown` completes; requests under way are finished.
///
/// # Errors
/// Those of accepting connections.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn scrape(State(admin): State<Admin>) -> Response {
    match admin.metrics.render() {
        Ok(text) => {
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// 200 `{"ready":true}`, or 503 with `missing`: the reason of each condition that is not met.
async fn ready(State(admin): State<Admin>) -> Response {
    let missing = admin.readiness.missing();
    if missing.is_empty() {
        return Json(json!({ "ready": true })).into_response();
    }
    let reasons: Map<String, Value> =
        missing.into_iter().map(|unmet| (unmet.condition, unmet.reason.into())).collect();
    (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "missing": reasons }))).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    async fn body(response: Response) -> String {
        String::from_utf8(to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn readiness_lists_what_is_missing() {
        let admin = Admin { metrics: Metrics::new(), readiness: Readiness::new(["nats", "listeners"]) };
        admin.readiness.ready("listeners");
        admin.readiness.not_ready("nats", "connecting to nats://10.0.0.1:4222");
        let response = ready(State(admin.clone())).await;
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        let expected = r#"{"ready":false,"missing":{"nats":"connecting to nats://10.0.0.1:4222"}}"#;
        assert_eq!(body(response).await, expected);

        admin.readiness.ready("nats");
        let response = ready(State(admin)).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(body(response).await, r#"{"ready":true}"#);
    }

    #[tokio::test]
    async fn metrics_are_served_as_text() {
        let response =
            scrape(State(Admin { metrics: Metrics::new(), readiness: Readiness::default() })).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        assert!(body(response).await.contains("process_open_fds"));
    }
}
