//! `/api/rt/issue-socket-token`: a socket token for the caller's session, in the body and as a cookie.

use axum::response::Response;
use dialects::TokenFailure;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use tokio::sync::oneshot;

use super::Site;
use super::endpoints::json_response;
use crate::auth::TokenError;
use crate::clock::unix_ms;
use crate::shard::Control;

impl Site {
    pub(super) async fn issue_token(&self, headers: &HeaderMap) -> Response {
        let app = self.shared.app(self.app);
        let Some(issuer) = &app.issuer else {
            return failed(StatusCode::NOT_FOUND, "not_configured", "No tokens are issued here (app.issue)");
        };
        let now_ms = unix_ms();
        let caller = match issuer.caller(headers, now_ms / 1000).await {
            Ok((identity, source)) if self.is_welcome(&identity).await => Ok((identity, source)),
            Ok(_) => Err(TokenError::Revoked),
            Err(error) => Err(error),
        };
        let (identity, source) = match caller {
            Ok(caller) => caller,
            Err(error) => return self.no_session(error),
        };
        let user = identity.user.as_str();
        if !issuer.may_ask(&self.shared.bus, app, &identity, self.shared.clock.now()).await {
            tracing::info!(app = app.name(), user, "[Socket Utils] a user asks for socket tokens too often");
            let mut response = failed(
                StatusCode::TOO_MANY_REQUESTS,
                "over_limit",
                "Too many requests for a token (issue.per_minute)",
            );
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            return response;
        }
        let Ok(token) = issuer.issue(&identity, rand::random(), now_ms / 1000) else {
            tracing::error!(app = app.name(), "[Socket Utils] a socket token could not be signed");
            return failed(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The token could not be signed");
        };
        tracing::info!(app = app.name(), user, session_in = %source, ttl_s = issuer.ttl_s(), "[Socket Utils] socket token issued");
        let body = json!({
            "socket_token": token, "socketToken": token, "token": token, "expiresIn": issuer.ttl_s(),
        });
        let mut response = json_response(StatusCode::OK, &body);
        response.headers_mut().insert(header::SET_COOKIE, issuer.cookie(&token));
        response
    }

    /// Whether the session's user, or the session itself, was not revoked: the shard knows the list.
    pub(super) async fn is_welcome(&self, identity: &domain::Identity) -> bool {
        let (done, answer) = oneshot::channel();
        self.here.control(Control::AskRevoked { app: self.app, identity: Box::new(identity.clone()), done });
        // The node ends.
        !answer.await.unwrap_or(true)
    }

    fn no_session(&self, error: TokenError) -> Response {
        tracing::info!(app = self.shared.app(self.app).name(), %error, "[Socket Utils] no socket token issued");
        match error.failure() {
            Some(TokenFailure::Missing) => failed(StatusCode::UNAUTHORIZED, "missing_token", "No session"),
            Some(failure) => failed(StatusCode::UNAUTHORIZED, failure.code(), "The session is not valid"),
            None => failed(
                StatusCode::SERVICE_UNAVAILABLE,
                "unavailable",
                "The session could not be checked, try again",
            ),
        }
    }
}

fn failed(status: StatusCode, code: &str, error: &str) -> Response {
    json_response(status, &json!({ "error": error, "code": code }))
}
