//! A hook's answers, good, bad and missing, over HTTP, TLS and NATS.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bus::BusConfig;
use bus::child::{ChildOptions, NatsChild};
use domain::UserId;
use serde_json::{Value, json};

use super::*;

/// A hook that says what the test tells it to, and notes what it is asked.
#[derive(Clone)]
struct Server {
    answer: Arc<Mutex<(u16, Value)>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// The `Authorization` header and the question.
type Asked = (Option<String>, Value);

impl Server {
    async fn start() -> (Self, String) {
        let server =
            Self { answer: Arc::new(Mutex::new((200, json!({ "allow": true })))), asked: Arc::default() };
        let serve = |State(server): State<Self>, headers: HeaderMap, body: String| async move {
            let secret = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
            server.asked.lock().unwrap().push((secret, serde_json::from_str(&body).unwrap()));
            let (status, answer) = server.answer.lock().unwrap().clone();
            (StatusCode::from_u16(status).unwrap(), answer.to_string())
        };
        let router = axum::Router::new().route("/ask", post(serve)).with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/ask", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        (server, url)
    }

    fn says(&self, status: u16, answer: Value) {
        *self.answer.lock().unwrap() = (status, answer);
    }

    fn questions(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

struct Nats {
    child: NatsChild,
    bus: Bus,
    dir: std::path::PathBuf,
}

impl Nats {
    async fn start(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("trunkline-hook-{name}-{}", std::process::id()));
        let child = NatsChild::start(ChildOptions::new(&dir)).await.unwrap();
        let config = BusConfig::for_server(child.url());
        let bus = Bus::connect(config, &prometheus::Registry::new()).await.unwrap();
        Self { child, bus, dir }
    }

    fn hook(&self, config: Value) -> Hook {
        let config: HookConfig = serde_json::from_value(config).unwrap();
        let way = config.build().unwrap();
        let metrics = Metrics::register(&prometheus::Registry::new()).unwrap();
        Hook::new("app", &config, &way, self.bus.clone(), Clock::start(), metrics)
    }

    async fn stop(self) {
        self.child.stop().await;
        std::fs::remove_dir_all(self.dir).unwrap();
    }
}

fn ann() -> Identity {
    Identity {
        user: UserId::new("7").unwrap(),
        numeric: true,
        role: Some("patient".into()),
        name: None,
        token_id: None,
        expires_at: None,
        claims: json!({ "userId": 7, "exp": 9 }).as_object().unwrap().clone(),
    }
}

#[tokio::test]
async fn what_it_says_counts_and_is_remembered_and_in_doubt_nothing_is_granted() {
    let nats = Nats::start("http").await;
    let (server, url) = Server::start().await;
    let hook = nats.hook(json!({ "url": url, "secret": "s3", "send_claims": true, "cache_denied_s": 0 }));
    assert_eq!(hook.may(Some(&ann()), "visit:1").await, Ok(true));
    assert_eq!(hook.may(Some(&ann()), "visit:1").await, Ok(true));
    assert_eq!(server.questions(), 1, "remembered");
    let (secret, question) = server.asked.lock().unwrap()[0].clone();
    assert_eq!(secret.as_deref(), Some("Bearer s3"));
    let expected = json!({
        "kind": "right", "app": "app", "userId": 7, "role": "patient", "right": "visit:1", "claims": { "userId": 7, "exp": 9 },
    });
    assert_eq!(question, expected);

    server.says(200, json!({ "allow": false, "reason": "no such visit" }));
    assert_eq!(hook.may(Some(&ann()), "visit:1").await, Ok(true), "still believed");
    hook.forget(&ann().user);
    assert_eq!(hook.may(Some(&ann()), "visit:1").await, Ok(false));
    server.says(403, json!("no JSON answer is needed"));
    assert_eq!(hook.may(Some(&ann()), "visit:2").await, Ok(false));
    for (status, answer) in
        [(500, json!({ "allow": true })), (200, json!({})), (200, json!(true)), (302, json!({}))]
    {
        server.says(status, answer);
        assert_eq!(hook.may(Some(&ann()), "visit:3").await, Err(Rejection::HookUnavailable));
    }
    server.says(200, json!({ "allow": true, "reason": "x".repeat(70_000) }));
    assert_eq!(hook.may(Some(&ann()), "visit:3").await, Err(Rejection::HookUnavailable), "too large");
    server.says(200, json!({ "allow": true }));
    assert_eq!(hook.may(Some(&ann()), "visit:3").await, Ok(true), "failures are not remembered");
    let asked = server.questions();
    assert_eq!(hook.may(Some(&ann()), &"x".repeat(2000)).await, Ok(false));
    assert_eq!(server.questions(), asked, "no room has such a name");
    nats.stop().await;
}

#[tokio::test]
async fn users_are_let_in_with_what_it_knows_of_them() {
    let nats = Nats::start("users").await;
    let (server, url) = Server::start().await;
    let hook =
        nats.hook(json!({ "url": url, "users": true, "rights": false, "cache_s": 0, "cache_denied_s": 0 }));
    assert_eq!(hook.may(Some(&ann()), "visit:1").await, Ok(false));
    assert_eq!(server.questions(), 0, "rights are not its business");
    let user = json!({ "name": "Ann", "role": "doctor", "claims": { "chats": [1, 2], "exp": 99 } });
    server.says(200, json!({ "allow": true, "user": user }));
    let mut identity = ann();
    hook.admit(&mut identity).await.unwrap();
    assert_eq!((identity.name.as_deref(), identity.role.as_deref()), (Some("Ann"), Some("doctor")));
    assert_eq!((&identity.claims["chats"], &identity.claims["exp"]), (&json!([1, 2]), &json!(9)));
    server.says(200, json!({ "allow": false }));
    assert_eq!(hook.admit(&mut ann()).await, Err(TokenError::UnknownUser));
    server.says(500, json!({}));
    assert!(matches!(hook.admit(&mut ann()).await, Err(TokenError::Unavailable(_))));
    nats.stop().await;
}

#[tokio::test]
async fn it_is_asked_over_nats_and_waited_for_no_longer_than_told() {
    let nats = Nats::start("nats").await;
    let config = json!({ "nats_subject": "clinic.authorize", "timeout_ms": 10_000 });
    let hook = nats.hook(config);
    assert_eq!(
        hook.may(Some(&ann()), "visit:1").await,
        Err(Rejection::HookUnavailable),
        "nobody answers there"
    );
    let mut requests = nats.bus.serve("clinic.authorize", "hooks").unwrap();
    let bus = nats.bus.clone();
    let (seen, mut asked) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let request = requests.next().await;
            let question: Value = serde_json::from_slice(&request.payload).unwrap();
            let right = question["right"].as_str().unwrap().to_owned();
            if right != "silence" {
                bus.reply(&request.reply, json!({ "allow": right == "visit:1" }).to_string()).unwrap();
            }
            seen.send(right).unwrap();
        }
    });
    assert_eq!(hook.may(Some(&ann()), "visit:1").await, Ok(true));
    assert_eq!(hook.may(Some(&ann()), "visit:2").await, Ok(false));

    let hurried =
        nats.hook(json!({ "nats_subject": "clinic.authorize", "timeout_ms": 50, "concurrency": 1 }));
    let may = |right| {
        let (hook, ann) = (&hurried, ann());
        async move { hook.may(Some(&ann), right).await }
    };
    let both = futures_util::future::join(may("silence"), may("visit:1"));
    let (silent, crowded) = tokio::time::timeout(Duration::from_secs(20), both).await.unwrap();
    assert_eq!((silent, crowded), (Err(Rejection::HookUnavailable), Err(Rejection::HookUnavailable)));
    let mut rights = Vec::new();
    for _ in 0..3 {
        rights.push(asked.recv().await.unwrap());
    }
    assert_eq!(rights, ["visit:1", "visit:2", "silence"], "the crowded one was never asked");
    nats.stop().await;
}

#[tokio::test]
async fn tls_is_believed_by_the_authority_that_is_configured() {
    let nats = Nats::start("tls").await;
    let tls = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../bus/tests/tls");
    let port = serve_tls(&tls).await;
    let url = format!("https://localhost:{port}/ask");
    let believed = nats.hook(json!({ "url": url, "ca_file": tls.join("ca.pem") }));
    assert_eq!(believed.may(Some(&ann()), "visit:1").await, Ok(true));
    let stranger = nats.hook(json!({ "url": url }));
    assert_eq!(stranger.may(Some(&ann()), "visit:1").await, Err(Rejection::HookUnavailable));
    nats.stop().await;
}

/// One answer for everybody who shakes hands.
async fn serve_tls(tls: &std::path::Path) -> u16 {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_rustls::rustls::{ServerConfig, crypto};

    let certificates = CertificateDer::pem_file_iter(tls.join("server.pem")).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            certificates.collect::<Result<_, _>>().unwrap(),
            PrivateKeyDer::from_pem_file(tls.join("server.key")).unwrap(),
        )
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let body = json!({ "allow": true }).to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    port
}
