//! `POST /api/v1/auth/login` for development: a token for a user of the configuration, so that an application can be tried without a
//! back end. Refused with `production = true`; without such users it does not exist.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use jsonwebtoken::{AlgorithmFamily, EncodingKey, Header};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::endpoints::json_response;
use super::{BodyError, Request, Site, read_body, too_slow};
use crate::app::App;
use crate::clock::unix_ms;
use crate::config::DevUser;

/// Tries of one address in a minute, on one thread of a node.
const TRIES_PER_MINUTE: u32 = 20;

/// Addresses whose tries are remembered; over it all are forgotten.
const MOST_ADDRESSES: usize = 4096;

const MOST_BODY_BYTES: usize = 4096;
const LIFETIME_S: u64 = 3600;

/// Who tried how often in this minute.
#[derive(Debug, Default)]
pub struct Logins {
    tries: Mutex<Tries>,
}

#[derive(Debug, Default)]
struct Tries {
    minute: u64,
    by_address: HashMap<IpAddr, u32>,
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

impl Logins {
    /// `false`: too often.
    fn may_try(&self, address: IpAddr, now_ms: u64) -> bool {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now_ms / 60_000;
        if tries.minute != minute || tries.by_address.len() >= MOST_ADDRESSES {
            *tries = Tries { minute, ..Tries::default() };
        }
        let count = tries.by_address.entry(address).or_default();
        *count = count.saturating_add(1);
        *count <= TRIES_PER_MINUTE
    }
}

impl Site {
    pub(super) async fn login(&self, logins: &Logins, address: IpAddr, request: Request) -> Response {
        let app = self.shared.app(self.app);
        if app.config.dev_users.is_empty() {
            return failed(StatusCode::NOT_FOUND, "No users for development are configured (app.dev_users)");
        }
        if !logins.may_try(address, unix_ms()) {
            let mut response = failed(StatusCode::TOO_MANY_REQUESTS, "Too many tries, wait a minute");
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("60"));
            return response;
        }
        let body = match read_body(request.into_body(), MOST_BODY_BYTES, self.body_timeout).await {
            Ok(body) if body.len() <= MOST_BODY_BYTES => body,
            Ok(_) | Err(BodyError::BrokenOff) => {
                return failed(StatusCode::BAD_REQUEST, "The body is too large");
            }
            Err(BodyError::TooSlow) => return too_slow(),
        };
        let Ok(given) = serde_json::from_slice::<Credentials>(&body) else {
            return failed(StatusCode::BAD_REQUEST, "Give { email, password }");
        };
        let fits = |user: &&DevUser| {
            user.email.eq_ignore_ascii_case(&given.email)
                && Sha256::digest(user.password.expose()) == Sha256::digest(&given.password)
        };
        let Some(user) = app.config.dev_users.iter().find(fits) else {
            return failed(StatusCode::UNAUTHORIZED, "Invalid credentials");
        };
        match token(app, user, unix_ms() / 1000) {
            Some(token) => {
                let shown =
                    json!({ "id": user.user, "email": user.email, "role": user.role, "name": user.name });
                json_response(StatusCode::OK, &json!({ "success": true, "token": token, "user": shown }))
            }
            None => failed(StatusCode::NOT_FOUND, "This application's tokens are not signed with a secret"),
        }
    }
}

fn failed(status: StatusCode, error: &str) -> Response {
    json_response(status, &json!({ "success": false, "error": error }))
}

/// A token that this application's verifier accepts; `None`: it has no secret to sign with.
fn token(app: &App, user: &DevUser, now_s: u64) -> Option<String> {
    let rules = app.config.token.as_ref()?;
    let is_hmac = |algorithm: &&jsonwebtoken::Algorithm| algorithm.family() == AlgorithmFamily::Hmac;
    let algorithm = *rules.algorithms.iter().find(is_hmac)?;
    let secret = rules.hmac_secret().ok().flatten()?;
    let mut claims: Map<String, Value> = user.claims.clone();
    let mut put = |names: &[String], value: Option<Value>| {
        if let (Some(name), Some(value)) = (names.first(), value) {
            claims.entry(name).or_insert(value);
        }
    };
    put(&rules.claims.user, Some(user.user.clone()));
    put(&rules.claims.role, user.role.clone().map(Value::from));
    put(&rules.claims.name, user.name.clone().map(Value::from));
    put(&["email".to_owned()], Some(user.email.as_str().into()));
    put(&["iss".to_owned()], rules.issuer.first().map(|issuer| issuer.as_str().into()));
    put(&["aud".to_owned()], rules.audience.first().map(|audience| audience.as_str().into()));
    put(&["jti".to_owned()], Some(format!("{:032x}", rand::random::<u128>()).into()));
    put(&["iat".to_owned()], Some(now_s.into()));
    put(&["exp".to_owned()], Some((now_s + LIFETIME_S).into()));
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_are_counted_by_address_and_minute() {
        let logins = Logins::default();
        let [a, b] = [[127, 0, 0, 1], [127, 0, 0, 2]].map(IpAddr::from);
        assert_eq!((0..30).filter(|_| logins.may_try(a, 1)).count(), TRIES_PER_MINUTE as usize);
        assert!(logins.may_try(b, 1));
        assert!(logins.may_try(a, 60_000));
    }
}
