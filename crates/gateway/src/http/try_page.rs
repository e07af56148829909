//! The page on which an application is tried in a browser: a client in one file, without anything from elsewhere. It has no rights of
//! its own: who wants in needs a token, or the log-in for development.

use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use sha2::{Digest, Sha256};
use socketio::Parser;

use super::endpoints::{escaped, respond};
use crate::config::AppConfig;

const PAGE: &str = include_str!("try_page/page.html");
const SCRIPT: &str = include_str!("try_page/script.js");

pub(super) fn serve(app: &AppConfig) -> Response {
    let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", page(app));
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy());
    response
}

/// Whatever comes from the configuration is text or an attribute; the script is the same for all.
fn page(app: &AppConfig) -> String {
    let no_login = if app.dev_users.is_empty() { " hidden" } else { "" };
    PAGE.replace("{{name}}", &escaped(&app.name))
        .replace("{{path}}", &escaped(app.base_path()))
        .replace("{{namespace}}", &escaped(&app.namespace))
        .replace("{{no_login}}", no_login)
        .replace("{{parser}}", if app.parser == Parser::Json { "json" } else { "msgpack" })
        .replace("{{script}}", SCRIPT)
}

/// Only the page's own script runs, and it reaches this host alone.
fn policy() -> HeaderValue {
    let digest = STANDARD.encode(Sha256::digest(SCRIPT));
    let policy = format!(
        "default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    policy.try_into().expect("base64 and fixed words are header text")
}
