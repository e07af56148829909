//! TLS and logins, each over both connections.

mod support;

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bus::child::{ChildOptions, NatsChild};
use bus::{Append, Auth, Bus, BusConfig, ConnectError, Secret, StreamSpec, TlsConfig};
use nkeys::KeyPair;
use serde_json::{Value, json};
use support::{TempDir, soon};

fn pem(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls").join(name)
}

fn tls() -> TlsConfig {
    TlsConfig { required: true, ca_file: Some(pem("ca.pem")), ..TlsConfig::default() }
}

async fn start(dir: &TempDir, extra_config: String) -> NatsChild {
    let options = ChildOptions { extra_config, ..ChildOptions::new(dir.path()) };
    NatsChild::start(options).await.expect("the server starts")
}

async fn connect(config: BusConfig) -> Result<Bus, ConnectError> {
    Bus::connect(config, &prometheus::Registry::new()).await
}

/// Uses the client connection for the stream and the room connection for the append.
async fn assert_works(config: BusConfig) {
    let bus = connect(config).await.expect("the login is good");
    bus.ensure_stream(&StreamSpec::new("S", ["s.>".to_owned()])).await.expect("a stream");
    bus.append(Append::to("s.1", "x"), soon()).await.expect("an append");
}

fn server_tls(more: &str) -> String {
    format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, {more} }}\n",
        pem("server.pem"),
        pem("server.key"),
        pem("ca.pem")
    )
}

#[tokio::test]
async fn tls_is_used_and_checked() {
    let dir = TempDir::new("tls");
    let child = start(&dir, server_tls("verify: true")).await;
    let client = TlsConfig { cert_file: Some(pem("client.pem")), key_file: Some(pem("client.key")), ..tls() };
    let config = BusConfig { tls: client, ..BusConfig::for_server(child.url()) };
    assert_works(config.clone()).await;
    // By name, and with the scheme instead of the setting.
    let named = TlsConfig { required: false, ..config.tls.clone() };
    let by_name =
        BusConfig { tls: named, ..BusConfig::for_server(format!("tls://localhost:{}", child.port())) };
    assert_works(by_name).await;
    let unknown_authority = BusConfig {
        tls: TlsConfig { ca_file: None, ..config.tls.clone() },
        ..BusConfig::for_server(child.url())
    };
    assert!(matches!(connect(unknown_authority).await, Err(ConnectError::Unreachable { .. })));
    let no_certificate = BusConfig { tls: tls(), ..BusConfig::for_server(child.url()) };
    assert!(connect(no_certificate).await.is_err());
    let half = TlsConfig { key_file: None, ..config.tls };
    let half = BusConfig { tls: half, ..BusConfig::for_server(child.url()) };
    assert!(matches!(connect(half).await, Err(ConnectError::Config { .. })));
    child.stop().await;
}

#[tokio::test]
async fn tls_may_come_before_the_greeting() {
    let dir = TempDir::new("tlsfirst");
    let child = start(&dir, server_tls("handshake_first: true")).await;
    let config = BusConfig { tls: TlsConfig { first: true, ..tls() }, ..BusConfig::for_server(child.url()) };
    assert_works(config).await;
    child.stop().await;
}

#[tokio::test]
async fn tls_is_not_given_up_for_a_plain_server() {
    let dir = TempDir::new("plain");
    let child = start(&dir, String::new()).await;
    let config = BusConfig { tls: tls(), ..BusConfig::for_server(child.url()) };
    assert!(matches!(connect(config).await, Err(ConnectError::Unreachable { .. })));
    child.stop().await;
}

#[tokio::test]
async fn tokens_and_nkeys_log_in() {
    let dir = TempDir::new("token");
    let child = start(&dir, "authorization { token: sesame }\n".to_owned()).await;
    let with = |auth| BusConfig { auth, ..BusConfig::for_server(child.url()) };
    assert_works(with(Auth::Token { token: Secret::new("sesame") })).await;
    let wrong = connect(with(Auth::Token { token: Secret::new("open") })).await;
    assert!(matches!(wrong, Err(ConnectError::Login { .. })));
    child.stop().await;

    let user = KeyPair::new_user();
    let dir = TempDir::new("nkey");
    let users = format!("authorization {{ users: [ {{ nkey: {} }} ] }}\n", user.public_key());
    let child = start(&dir, users).await;
    let with = |seed: String| BusConfig {
        auth: Auth::NkeySeed { seed: Secret::new(seed) },
        ..BusConfig::for_server(child.url())
    };
    assert_works(with(user.seed().expect("a seed"))).await;
    let stranger = connect(with(KeyPair::new_user().seed().expect("a seed"))).await;
    assert!(matches!(stranger, Err(ConnectError::Login { .. })));
    child.stop().await;
}

/// A NATS JWT: header, claims, and a signature of the issuer's nkey.
fn jwt(issuer: &KeyPair, subject: &KeyPair, name: &str, nats: Value) -> String {
    let claims = json!({ "jti": name, "iat": 1_700_000_000, "iss": issuer.public_key(), "name": name, "sub": subject.public_key(), "nats": nats });
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(json!({ "typ": "JWT", "alg": "ed25519-nkey" })), part(claims));
    let signature = issuer.sign(text.as_bytes()).expect("a key pair signs");
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test]
async fn credentials_files_log_in() {
    let (operator, account, system, user) =
        (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_account(), KeyPair::new_user());
    let limits = json!({ "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1, "subs": -1, "data": -1,
        "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "wildcards": true });
    let operator_jwt = jwt(
        &operator,
        &operator,
        "O",
        json!({ "type": "operator", "version": 2, "system_account": system.public_key() }),
    );
    let account_jwt =
        jwt(&operator, &account, "A", json!({ "type": "account", "version": 2, "limits": limits }));
    let system_jwt = jwt(
        &operator,
        &system,
        "SYS",
        json!({ "type": "account", "version": 2, "limits": { "subs": -1, "data": -1, "payload": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "wildcards": true } }),
    );
    let user_jwt = jwt(
        &account,
        &user,
        "U",
        json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 }),
    );
    let dir = TempDir::new("creds");
    let config = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nsystem_account: {}\nresolver_preload: {{ {}: {account_jwt}, {}: {system_jwt} }}\n",
        system.public_key(),
        account.public_key(),
        system.public_key()
    );
    let child = start(&dir, config).await;
    let path = dir.path().join("user.creds");
    let seed = user.seed().expect("a seed");
    let text = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    std::fs::write(&path, text).expect("a temporary file");
    let with = |path| BusConfig { auth: Auth::CredsFile { path }, ..BusConfig::for_server(child.url()) };
    assert_works(with(path)).await;
    let missing = connect(with(dir.path().join("none"))).await;
    assert!(matches!(missing, Err(ConnectError::Login { .. })));
    child.stop().await;
}
