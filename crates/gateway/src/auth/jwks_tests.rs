//! Key sets that rotate, fail and come back, served by a small server of the test.

use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::test_keys::*;
use super::*;
use crate::metrics::Metrics;

const NOW: u64 = 1_800_000_000;

/// The public half of an EC key in PEM form as a JWK: the point stands at the end of the DER.
fn ec_jwk(kid: &str, pem: &str, curve: &str) -> Value {
    let text: String = pem.lines().filter(|line| !line.starts_with("---")).collect();
    let der = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    let size = if curve == "P-256" { 32 } else { 48 };
    let (x, y) = der[der.len() - 2 * size..].split_at(size);
    let part = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    json!({ "kty": "EC", "crv": curve, "kid": kid, "x": part(x), "y": part(y) })
}

fn ed_jwk(kid: &str) -> Value {
    let text: String = ED_PUBLIC.lines().filter(|line| !line.starts_with("---")).collect();
    let der = base64::prelude::BASE64_STANDARD.decode(text).unwrap();
    let x = BASE64_URL_SAFE_NO_PAD.encode(&der[der.len() - 32..]);
    json!({ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x })
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn by_p256(kid: &str) -> String {
    token(Algorithm::ES256, kid, &EncodingKey::from_ec_pem(P256_PRIVATE.as_bytes()).unwrap())
}

fn by_ed(kid: &str) -> String {
    token(Algorithm::EdDSA, kid, &EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap())
}

fn token(algorithm: Algorithm, kid: &str, key: &EncodingKey) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm) };
    encode(&header, &json!({ "sub": "7" }), key).unwrap()
}

/// A source of keys that says what the test tells it to.
#[derive(Clone, Default)]
struct Issuer {
    answer: Arc<Mutex<(u16, String)>>,
}

impl Issuer {
    async fn start(text: String) -> (Self, String) {
        let issuer = Self::default();
        issuer.says(200, text);
        let serve = |State(issuer): State<Issuer>| async move {
            let (status, text) = issuer.answer.lock().unwrap().clone();
            (StatusCode::from_u16(status).unwrap(), text)
        };
        let router = axum::Router::new().route("/keys", get(serve)).with_state(issuer.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (issuer, url)
    }

    fn says(&self, status: u16, text: String) {
        *self.answer.lock().unwrap() = (status, text);
    }
}

fn config(source: Value) -> TokenConfig {
    let mut config = json!({ "algorithms": ["ES256", "EdDSA"], "jwks_pause_ms": 1 });
    config.as_object_mut().unwrap().extend(source.as_object().unwrap().clone());
    serde_json::from_value(config).unwrap()
}

fn running(config: &TokenConfig) -> Verifier {
    let verifier = Verifier::build(config).unwrap();
    let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
    tokio::spawn(verifier.jwks().unwrap().clone().run("app".to_owned(), metrics));
    verifier
}

/// Looks again until the verdict is the expected one.
async fn until(verifier: &Verifier, token: &str, expected: Result<(), TokenError>) {
    let look = async {
        while verifier.verify_with_newer_keys(token, NOW).await.map(drop) != expected {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), look).await.expect("the verdict never came");
}

#[tokio::test]
async fn a_key_that_is_not_known_is_looked_for_and_the_last_good_set_stays() {
    let (issuer, url) = Issuer::start(set(&[ec_jwk("a", P256_PUBLIC, "P-256")])).await;
    let verifier = running(&config(json!({ "jwks_url": url })));
    assert!(verifier.jwks().unwrap().ready().await);
    assert!(verifier.verify(&by_p256("a"), NOW).is_ok());
    assert_eq!(verifier.verify(&by_ed("b"), NOW).map(drop), Err(TokenError::UnknownKey));
    until(&verifier, &by_ed("b"), Err(TokenError::UnknownKey)).await;

    issuer.says(200, set(&[ec_jwk("a", P256_PUBLIC, "P-256"), ed_jwk("b")]));
    until(&verifier, &by_ed("b"), Ok(())).await;
    issuer.says(200, set(&[ed_jwk("b")]));
    until(&verifier, &by_p256("c"), Err(TokenError::UnknownKey)).await;
    until(&verifier, &by_p256("a"), Err(TokenError::UnknownKey)).await;

    let unavailable = Err(TokenError::Unavailable("the public keys could not be read"));
    for (status, text) in
        [(500, set(&[])), (200, "nonsense".to_owned()), (200, set(&[])), (200, "x".repeat(300_000))]
    {
        issuer.says(status, text);
        until(&verifier, &by_p256("a"), unavailable).await;
        assert!(verifier.verify(&by_ed("b"), NOW).is_ok(), "the last good set stays");
    }
    issuer.says(200, set(&[ec_jwk("a", P256_PUBLIC, "P-256")]));
    until(&verifier, &by_p256("a"), Ok(())).await;
}

#[tokio::test]
async fn a_source_that_never_answered_leaves_it_open_whether_a_token_is_good() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let verifier = running(&config(json!({ "jwks_url": url, "jwks_timeout_ms": 50 })));
    assert!(!verifier.jwks().unwrap().ready().await);
    let verdict = verifier.verify_with_newer_keys(&by_ed("b"), NOW).await;
    assert!(matches!(verdict, Err(TokenError::Unavailable(_))), "{verdict:?}");
}

#[tokio::test]
async fn a_file_is_read_again() {
    let path = std::env::temp_dir().join(format!("trunkline-jwks-{}.json", std::process::id()));
    std::fs::write(&path, set(&[ed_jwk("b")])).unwrap();
    let verifier = running(&config(json!({ "jwks_file": path })));
    assert!(verifier.verify(&by_ed("b"), NOW).is_ok(), "read before anything runs");
    std::fs::write(&path, set(&[ec_jwk("a", P256_PUBLIC, "P-256")])).unwrap();
    until(&verifier, &by_p256("a"), Ok(())).await;
    std::fs::remove_file(&path).unwrap();
    let errors = Verifier::build(&config(json!({ "jwks_file": path }))).unwrap_err();
    assert_eq!(errors[0].path, "jwks_file");
}

#[test]
fn only_keys_that_can_serve_are_taken() {
    let path = std::env::temp_dir().join(format!("trunkline-jwks-odd-{}.json", std::process::id()));
    let build = |keys: &[Value]| {
        std::fs::write(&path, set(keys)).unwrap();
        Verifier::build(&config(json!({ "jwks_file": path })))
    };
    let with = |mut key: Value, name: &str, value: &str| {
        key[name] = value.into();
        key
    };
    let odd = [
        json!({ "kty": "something new", "kid": "n" }),
        json!({ "kid": "without a kind" }),
        json!({ "kty": "oct", "kid": "secret", "k": "c2VjcmV0" }),
        with(ed_jwk("enc"), "use", "enc"),
        with(ed_jwk("short"), "x", "AAAA"),
        with(ec_jwk("other", P256_PUBLIC, "P-256"), "alg", "ES384"),
        ec_jwk("long", P384_PUBLIC, "P-384"),
    ];
    assert!(build(&odd).unwrap_err()[0].message.contains("none of its 7 keys"));
    let mut keys = odd.to_vec();
    keys.push(with(ed_jwk("b"), "use", "sig"));
    let verifier = build(&keys).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(verifier.verify(&by_ed("b"), NOW).is_ok());
    assert_eq!(verifier.verify(&by_ed("enc"), NOW).map(drop), Err(TokenError::UnknownKey));
    let hmac = token(Algorithm::HS256, "secret", &EncodingKey::from_secret(b"secret"));
    assert_eq!(verifier.verify(&hmac, NOW).map(drop), Err(TokenError::Algorithm));
}

#[test]
fn a_set_has_one_source() {
    let wrong = [
        (json!({ "jwks_url": "https://a/k", "jwks_file": "k" }), "jwks_url"),
        (json!({ "jwks_url": "ftp://a/k" }), "jwks_url"),
        (json!({ "jwks_url": "nonsense" }), "jwks_url"),
        (json!({ "jwks_url": "https://a/k", "jwks_ca_file": "/nowhere" }), "jwks_ca_file"),
        (json!({ "jwks_url": "https://a/k", "jwks_pause_ms": 0 }), "jwks_pause_ms"),
    ];
    for (source, path) in wrong {
        let errors = Verifier::build(&config(source.clone())).unwrap_err();
        assert_eq!(errors[0].path, path, "{source}");
    }
}
