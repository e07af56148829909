//! Tokens of every family, good and bad, against one verifier each.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::HeaderMap;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use telemetry::Secret;

use super::test_keys::*;
use super::*;

const NOW: u64 = 1_800_000_000;
const SECRET: &str = "a secret of at least thirty-two bytes";

fn config(toml_like: Value) -> TokenConfig {
    serde_json::from_value(toml_like).unwrap()
}

fn hs_config() -> TokenConfig {
    TokenConfig { secret: Some(Secret::new(SECRET.to_owned())), ..TokenConfig::default() }
}

fn verifier(config: &TokenConfig) -> Verifier {
    Verifier::build(config).unwrap()
}

fn mint(algorithm: Algorithm, key: &EncodingKey, kid: Option<&str>, claims: &Value) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, key).unwrap()
}

fn mint_hs(claims: &Value) -> String {
    mint(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), None, claims)
}

fn raw(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

#[test]
fn every_algorithm_verifies_with_its_key_and_refuses_another() {
    let rsa = EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).unwrap();
    let p256 = EncodingKey::from_ec_pem(P256_PRIVATE.as_bytes()).unwrap();
    let p384 = EncodingKey::from_ec_pem(P384_PRIVATE.as_bytes()).unwrap();
    let ed = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).unwrap();
    let cases = [
        (Algorithm::RS256, RSA_PUBLIC, &rsa),
        (Algorithm::RS384, RSA_PUBLIC, &rsa),
        (Algorithm::RS512, RSA_PUBLIC, &rsa),
        (Algorithm::PS256, RSA_PUBLIC, &rsa),
        (Algorithm::PS384, RSA_PUBLIC, &rsa),
        (Algorithm::PS512, RSA_PUBLIC, &rsa),
        (Algorithm::ES256, P256_PUBLIC, &p256),
        (Algorithm::ES384, P384_PUBLIC, &p384),
        (Algorithm::EdDSA, ED_PUBLIC, &ed),
    ];
    for (algorithm, public, private) in cases {
        let verifier = verifier(&config(json!({ "algorithms": [algorithm], "keys": [{ "pem": public }] })));
        let token = mint(algorithm, private, None, &json!({ "sub": "7" }));
        assert_eq!(verifier.verify(&token, NOW).unwrap().user.as_str(), "7", "{algorithm:?}");
        let forged = format!("{}AAAA", &token[..token.len() - 4]);
        assert_eq!(verifier.verify(&forged, NOW), Err(TokenError::Signature), "{algorithm:?}");
    }
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let verifier = verifier(&config(json!({ "algorithms": [algorithm], "secret": SECRET })));
        let right =
            mint(algorithm, &EncodingKey::from_secret(SECRET.as_bytes()), None, &json!({ "sub": "7" }));
        let wrong = mint(algorithm, &EncodingKey::from_secret(b"another"), None, &json!({ "sub": "7" }));
        assert!(verifier.verify(&right, NOW).is_ok(), "{algorithm:?}");
        assert_eq!(verifier.verify(&wrong, NOW), Err(TokenError::Signature), "{algorithm:?}");
    }
}

#[test]
fn the_header_cannot_choose_the_algorithm() {
    let claims = json!({ "sub": "7" });
    let hs = verifier(&hs_config());
    for alg in ["none", "None", "NONE", "", "HS257", "hs256"] {
        let token = raw(&json!({ "alg": alg }), &claims, "");
        assert_eq!(hs.verify(&token, NOW), Err(TokenError::Algorithm), "{alg}");
    }
    let hs512 = mint(Algorithm::HS512, &EncodingKey::from_secret(SECRET.as_bytes()), None, &claims);
    assert_eq!(hs.verify(&hs512, NOW), Err(TokenError::Algorithm));
    assert_eq!(hs.verify(&raw(&json!({ "alg": "HS256" }), &claims, ""), NOW), Err(TokenError::Signature));

    // The public key is no secret: signing with it as an HMAC key must not pass, even where HS256 is configured too.
    let confused = mint(Algorithm::HS256, &EncodingKey::from_secret(RSA_PUBLIC.as_bytes()), None, &claims);
    let both = config(
        json!({ "algorithms": ["HS256", "RS256"], "secret": SECRET, "keys": [{ "pem": RSA_PUBLIC }] }),
    );
    let rs_only = config(json!({ "algorithms": ["RS256"], "keys": [{ "pem": RSA_PUBLIC }] }));
    assert_eq!(verifier(&both).verify(&confused, NOW), Err(TokenError::Signature));
    assert_eq!(verifier(&rs_only).verify(&confused, NOW), Err(TokenError::Algorithm));
}

#[test]
fn times_are_checked_with_leeway() {
    let exact = verifier(&hs_config());
    let lenient = verifier(&TokenConfig { leeway_s: 10, ..hs_config() });
    let cases = [
        (json!({ "sub": "7", "exp": NOW + 1 }), Ok(()), Ok(())),
        (json!({ "sub": "7", "exp": NOW as f64 + 0.5 }), Err(TokenError::Expired), Ok(())),
        (json!({ "sub": "7", "exp": NOW }), Err(TokenError::Expired), Ok(())),
        (json!({ "sub": "7", "exp": NOW - 10 }), Err(TokenError::Expired), Err(TokenError::Expired)),
        (json!({ "sub": "7", "exp": -5 }), Err(TokenError::Expired), Err(TokenError::Expired)),
        (json!({ "sub": "7", "exp": "soon" }), Err(TokenError::Malformed), Err(TokenError::Malformed)),
        (json!({ "sub": "7", "exp": null }), Ok(()), Ok(())),
        (json!({ "sub": "7", "nbf": NOW }), Ok(()), Ok(())),
        (json!({ "sub": "7", "nbf": NOW + 5 }), Err(TokenError::NotYet), Ok(())),
        (json!({ "sub": "7", "nbf": NOW + 11 }), Err(TokenError::NotYet), Err(TokenError::NotYet)),
    ];
    for (claims, with_none, with_ten) in cases {
        let token = mint_hs(&claims);
        assert_eq!(exact.verify(&token, NOW).map(drop), with_none, "{claims}");
        assert_eq!(lenient.verify(&token, NOW).map(drop), with_ten, "{claims}");
    }
}

#[test]
fn issuer_and_audience_count_only_where_configured() {
    let open = verifier(&hs_config());
    assert!(open.verify(&mint_hs(&json!({ "sub": "7", "aud": "others", "iss": "others" })), NOW).is_ok());

    let strict = verifier(&TokenConfig {
        audience: vec!["visits".to_owned(), "chat".to_owned()],
        issuer: vec!["clinic".to_owned()],
        ..hs_config()
    });
    let cases = [
        (json!({ "sub": "7", "iss": "clinic", "aud": "chat" }), Ok(())),
        (json!({ "sub": "7", "iss": "clinic", "aud": ["x", "visits"] }), Ok(())),
        (json!({ "sub": "7", "iss": "clinic", "aud": "shop" }), Err(TokenError::Audience)),
        (json!({ "sub": "7", "iss": "clinic", "aud": [] }), Err(TokenError::Audience)),
        (json!({ "sub": "7", "iss": "clinic" }), Err(TokenError::Audience)),
        (json!({ "sub": "7", "iss": "other", "aud": "chat" }), Err(TokenError::Issuer)),
        (json!({ "sub": "7", "aud": "chat" }), Err(TokenError::Issuer)),
    ];
    for (claims, expected) in cases {
        assert_eq!(strict.verify(&mint_hs(&claims), NOW).map(drop), expected, "{claims}");
    }
}

#[test]
fn kid_selects_the_key() {
    let config = config(json!({
        "algorithms": ["RS256"],
        "keys": [{ "kid": "a", "pem": RSA_PUBLIC }, { "kid": "b", "pem": RSA_OTHER_PUBLIC }],
    }));
    let verifier = verifier(&config);
    let first = EncodingKey::from_rsa_pem(RSA_PRIVATE.as_bytes()).unwrap();
    let second = EncodingKey::from_rsa_pem(RSA_OTHER_PRIVATE.as_bytes()).unwrap();
    let cases = [
        (&first, Some("a"), Ok(())),
        (&second, Some("b"), Ok(())),
        (&second, None, Ok(())),
        (&first, Some("b"), Err(TokenError::Signature)),
        (&first, Some("c"), Err(TokenError::Signature)),
    ];
    for (key, kid, expected) in cases {
        let token = mint(Algorithm::RS256, key, kid, &json!({ "sub": "7" }));
        assert_eq!(verifier.verify(&token, NOW).map(drop), expected, "{kid:?}");
    }
    let hs = self::verifier(&hs_config());
    let named = mint(
        Algorithm::HS256,
        &EncodingKey::from_secret(SECRET.as_bytes()),
        Some("any"),
        &json!({ "sub": "7" }),
    );
    assert!(hs.verify(&named, NOW).is_ok(), "a key without a name serves names that no key has");
}

#[test]
fn claims_become_the_identity() {
    let verifier = verifier(&hs_config());
    let full = json!({ "userId": 7, "sub": "x", "role": "doctor", "username": "ann", "name": "Ann", "jti": "t1",
        "exp": NOW + 60, "visits": [1, 2] });
    let identity = verifier.verify(&mint_hs(&full), NOW).unwrap();
    assert_eq!(identity.user.as_str(), "7");
    assert_eq!(identity.role.as_deref(), Some("doctor"));
    assert_eq!(identity.name.as_deref(), Some("ann"));
    assert_eq!(identity.token_id.as_deref(), Some("t1"));
    assert_eq!(identity.expires_at, Some(NOW + 60));
    assert_eq!(identity.claims["visits"], json!([1, 2]));

    let text = verifier.verify(&mint_hs(&json!({ "userId": "7" })), NOW).unwrap();
    assert_eq!(text.user, identity.user, "1 and \"1\" are the same user");
    assert_eq!(
        verifier.verify(&mint_hs(&json!({ "userId": null, "id": "9" })), NOW).unwrap().user.as_str(),
        "9"
    );
    for nobody in [json!({}), json!({ "sub": "" }), json!({ "sub": {} }), json!({ "sub": 1.5 })] {
        assert_eq!(verifier.verify(&mint_hs(&nobody), NOW), Err(TokenError::NoUser), "{nobody}");
    }
}

#[test]
fn garbage_is_refused_by_kind() {
    let verifier = verifier(&hs_config());
    assert_eq!(verifier.verify("", NOW), Err(TokenError::Missing));
    assert_eq!(verifier.verify(&"x".repeat(9000), NOW), Err(TokenError::TooLarge));
    let good = mint_hs(&json!({ "sub": "7" }));
    for text in ["x", ".", "..", "...", "a.b.c", "💥.💥.💥", "e30.e30.", &format!("{good}.x")] {
        assert_eq!(verifier.verify(text, NOW), Err(TokenError::Malformed), "{text}");
    }
    let critical = raw(&json!({ "alg": "HS256", "crit": ["b64"], "b64": false }), &json!({ "sub": "7" }), "");
    assert_eq!(verifier.verify(&critical, NOW), Err(TokenError::Malformed));
    for cut in 0..good.len() {
        assert!(verifier.verify(&good[..cut], NOW).is_err(), "cut at {cut}");
    }
    let no_object = mint(Algorithm::HS256, &EncodingKey::from_secret(SECRET.as_bytes()), None, &json!([1]));
    assert_eq!(verifier.verify(&no_object, NOW), Err(TokenError::Malformed));
}

#[test]
fn every_mistake_of_the_keys_is_reported() {
    let paths = |value: Value| -> Vec<String> {
        Verifier::build(&config(value)).unwrap_err().into_iter().map(|error| error.path).collect()
    };
    assert_eq!(paths(json!({})), ["algorithms"]);
    assert_eq!(paths(json!({ "secret": "" })), ["secret"]);
    assert_eq!(paths(json!({ "secret": "a", "secret_env": "B" })), ["secret"]);
    assert_eq!(paths(json!({ "secret_file": "/nonexistent" })), ["secret_file"]);
    assert_eq!(
        paths(json!({ "algorithms": ["RS256"], "secret": "a", "keys": [{ "pem": RSA_PUBLIC }] })),
        ["secret"]
    );
    assert_eq!(
        paths(json!({ "algorithms": ["RS256", "ES256"], "keys": [{ "pem": RSA_PUBLIC }] })),
        ["algorithms"]
    );
    let keys = json!([{ "pem": "junk" }, {}, { "pem": RSA_PRIVATE }, { "pem": P384_PUBLIC }, { "file": "/nonexistent" }]);
    assert_eq!(
        paths(json!({ "algorithms": ["ES256"], "keys": keys, "claims": { "user": [] } })),
        ["keys[0].pem", "keys[1]", "keys[2].pem", "keys[3].pem", "keys[4].file", "claims.user"]
    );
}

#[test]
fn tokens_are_found_in_the_order_of_the_sources() {
    let sources: Vec<Source> = serde_json::from_value(json!([
        "auth.token",
        "auth.user.jwt",
        "bearer",
        "header:X-Token",
        "cookie:session"
    ]))
    .unwrap();
    let headers = |list: &[(&'static str, &str)]| -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    };
    let nothing = headers(&[]);
    let found = |auth: Value, headers: &HeaderMap| {
        find_token(&sources, Some(&auth), headers).map(|(token, source)| format!("{token} {source}"))
    };
    assert_eq!(found(json!({ "token": "t" }), &nothing).unwrap(), "t auth.token");
    assert_eq!(found(json!({ "token": "Bearer t" }), &nothing).unwrap(), "t auth.token");
    assert_eq!(found(json!({ "token": 5, "user": { "jwt": "u" } }), &nothing).unwrap(), "u auth.user.jwt");
    assert_eq!(found(json!({}), &headers(&[("authorization", "bearer t")])).unwrap(), "t bearer");
    assert_eq!(found(json!({}), &headers(&[("authorization", "Basic t")])), None);
    assert_eq!(found(json!(null), &headers(&[("x-token", "t")])).unwrap(), "t header:x-token");
    assert_eq!(
        found(json!([]), &headers(&[("cookie", "a=1; session=\"t\"; b=2")])).unwrap(),
        "t cookie:session"
    );
    assert_eq!(found(json!({ "token": "" }), &headers(&[("cookie", "xsession=t")])), None);
    assert!(find_token(&sources, None, &headers(&[("cookie", "session=t")])).is_some());
    for wrong in ["auth.", "token", "header:", "header:a b", "cookie:", "bearer:x"] {
        assert!(serde_json::from_value::<Source>(json!(wrong)).is_err(), "{wrong}");
    }
}
