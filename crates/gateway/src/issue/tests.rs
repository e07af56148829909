//! Tokens that are issued are accepted, and nothing else is.

use http::header::{AUTHORIZATION, COOKIE};
use serde_json::json;
use telemetry::Secret;

use super::*;

const NOW: u64 = 1_700_000_000;

fn rules(secret: &str) -> TokenConfig {
    TokenConfig { secret: Some(Secret::new(secret.to_owned())), ..TokenConfig::default() }
}

fn config() -> IssueConfig {
    IssueConfig { session: rules("the key of sessions"), ..IssueConfig::default() }
}

fn sign(claims: &Value, secret: &str) -> String {
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(secret.as_bytes()))
        .unwrap()
}

fn headers(pairs: &[(http::HeaderName, String)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

fn session(claims: Value) -> HeaderMap {
    headers(&[(AUTHORIZATION, format!("Bearer {}", sign(&claims, "the key of sessions")))])
}

#[tokio::test]
async fn a_session_becomes_a_socket_token_of_the_same_user() {
    let token =
        TokenConfig { issuer: vec!["clinic".into()], audience: vec!["rt".into()], ..rules("of sockets") };
    let issuer = Issuer::build(&config(), &token).unwrap();
    let claims = json!({ "userId": 7, "role": "doctor", "name": "Ann", "patients": [1], "secret": "x", "exp": NOW + 9 });
    let (who, _) = issuer.caller(&session(claims), NOW).await.unwrap();
    let issued = issuer.issue(&who, 5, NOW).unwrap();
    let identity = Verifier::build(&token).unwrap().verify(&issued, NOW + 1799).unwrap();
    assert_eq!(
        (identity.wire_id(), identity.role.as_deref(), identity.name.as_deref()),
        (json!(7), Some("doctor"), Some("Ann"))
    );
    assert_eq!((identity.claims.get("patients"), identity.claims.get("secret")), (Some(&json!([1])), None));
    assert_eq!(identity.token_id.as_deref(), Some("00000000000000000000000000000005"));
    let late = Verifier::build(&token).unwrap().verify(&issued, NOW + 1800);
    assert_eq!(late.unwrap_err(), TokenError::Expired);
}

#[tokio::test]
async fn who_shows_no_session_gets_none() {
    let issuer = Issuer::build(&config(), &rules("of sockets")).unwrap();
    let cookie = format!("a=b; session={}", sign(&json!({ "userId": "7" }), "the key of sessions"));
    let (_, source) = issuer.caller(&headers(&[(COOKIE, cookie)]), NOW).await.unwrap();
    assert_eq!(source.to_string(), "cookie:session");
    let cases = [
        (HeaderMap::new(), TokenError::Missing),
        (headers(&[(AUTHORIZATION, "Bearer nonsense".to_owned())]), TokenError::Malformed),
        (session(json!({ "userId": 7, "exp": NOW })), TokenError::Expired),
        (session(json!({ "role": "admin" })), TokenError::NoUser),
        (
            headers(&[(AUTHORIZATION, format!("Bearer {}", sign(&json!({ "userId": 7 }), "of sockets")))]),
            TokenError::Signature,
        ),
    ];
    for (headers, expected) in cases {
        assert_eq!(issuer.caller(&headers, NOW).await.unwrap_err(), expected);
    }
}

#[tokio::test]
async fn with_one_key_for_both_a_socket_token_is_no_session() {
    let issuer = Issuer::build(&IssueConfig::default(), &rules("one key")).unwrap();
    let bearer = |token: String| headers(&[(AUTHORIZATION, format!("Bearer {token}"))]);
    let asked = bearer(sign(&json!({ "userId": 7 }), "one key"));
    let (who, _) = issuer.caller(&asked, NOW).await.unwrap();
    let issued = bearer(issuer.issue(&who, 1, NOW).unwrap());
    assert_eq!(issuer.caller(&issued, NOW).await.unwrap_err(), TokenError::Audience);
}

#[test]
fn the_cookie_is_for_servers_eyes_and_secure_unless_told_otherwise() {
    let issuer = Issuer::build(&config(), &rules("of sockets")).unwrap();
    let expected = "socket_token=t; HttpOnly; Path=/; SameSite=Lax; Max-Age=1800; Secure";
    assert_eq!(issuer.cookie("t"), expected);
    let cookie = CookieConfig {
        domain: Some("clinic.example".into()),
        same_site: SameSite::Strict,
        secure: false,
        ..CookieConfig::default()
    };
    let issuer = Issuer::build(&IssueConfig { cookie, ..config() }, &rules("of sockets")).unwrap();
    let expected = "socket_token=t; HttpOnly; Path=/; SameSite=Strict; Max-Age=1800; Domain=clinic.example";
    assert_eq!(issuer.cookie("t"), expected);
}

#[test]
fn mistakes_are_all_named() {
    let cookie = CookieConfig {
        name: "a;b".into(),
        domain: Some("x;y".into()),
        path: "no".into(),
        same_site: SameSite::None,
        secure: false,
    };
    let session = TokenConfig { algorithms: vec![], ..config().session };
    let wrong = IssueConfig { ttl_s: 0, per_minute: 1001, cookie, session, ..config() };
    let errors = Issuer::build(&wrong, &TokenConfig::default()).unwrap_err();
    let paths: Vec<&str> = errors.iter().map(|error| error.path.as_str()).collect();
    let expected = [
        "ttl_s",
        "per_minute",
        "cookie.name",
        "cookie.path",
        "cookie.domain",
        "cookie.same_site",
        "session.algorithms",
        "",
    ];
    assert!(expected.iter().all(|path| paths.contains(path)), "{paths:?}");
}
