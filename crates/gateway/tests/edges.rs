//! What a node refuses at its HTTP edge, spoken in raw requests to nodes of one small cluster.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::net::SocketAddr;
use std::path::PathBuf;

use bus::BusConfig;
use bus::child::{ChildOptions, NatsChild};
use gateway::config::GatewayConfig;
use gateway::{Deps, Gateway, RunningGateway};
use telemetry::Readiness;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const ID_LENGTH: usize = 42;

struct Cluster {
    directory: PathBuf,
    nats: NatsChild,
    nodes: Vec<RunningGateway>,
}

impl Cluster {
    async fn start(name: &str, nodes: usize) -> Self {
        let directory = std::env::temp_dir().join(format!("gateway-edges-{}-{name}", std::process::id()));
        let nats = NatsChild::start(ChildOptions::new(directory.join("nats"))).await.unwrap();
        let mut running = Vec::new();
        for _ in 0..nodes {
            let deps = Deps {
                bus: BusConfig::for_server(nats.url()),
                replicas: 1,
                registry: prometheus::Registry::new(),
                readiness: Readiness::new(["listeners", "bus", "lease"]),
                tracer: telemetry::trace::Tracer::off(),
                local: false,
            };
            running.push(Gateway::start(config(), deps).await.unwrap());
        }
        Self { directory, nats, nodes: running }
    }

    async fn stop(self) {
        for node in self.nodes {
            node.drain().await;
        }
        self.nats.stop().await;
        std::fs::remove_dir_all(self.directory).unwrap();
    }
}

fn config() -> GatewayConfig {
    serde_json::from_value(serde_json::json!({
        "node": { "shards": 1, "drain_s": 1 },
        "http": { "listen": ["127.0.0.1:0"], "body_timeout_ms": 200 },
        "app": [
            { "name": "one", "path": "/one/", "token": { "secret": "s", "sources": ["cookie:token"] } },
            { "name": "two", "path": "/two/", "token": { "secret": "s" } },
        ],
    }))
    .unwrap()
}

/// A kept-alive connection to a node.
struct Client {
    addr: SocketAddr,
    stream: TcpStream,
}

impl Client {
    async fn connect(node: &RunningGateway) -> Self {
        let addr = node.addrs[0].1;
        Self { addr, stream: TcpStream::connect(addr).await.unwrap() }
    }

    /// The whole response to a request that is sent with these headers and this body.
    async fn ask(&mut self, line: &str, headers: &str, body: &str) -> String {
        let request = format!("{line} HTTP/1.1\r\nhost: {}\r\n{headers}\r\n{body}", self.addr);
        self.stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        while !is_whole(&response) {
            let mut more = [0; 4096];
            match self.stream.read(&mut more).await.unwrap() {
                0 => break,
                n => response.extend_from_slice(&more[..n]),
            }
        }
        // Frames may follow a switch of protocols.
        String::from_utf8_lossy(&response).to_ascii_lowercase()
    }

    async fn open(&mut self, path: &str) -> String {
        let opened = self.ask(&format!("GET /{path}/?EIO=4&transport=polling"), "", "").await;
        let (_, sid) = opened.split_once(r#""sid":""#).unwrap();
        sid[..ID_LENGTH].to_owned()
    }

    async fn post(&mut self, path: &str, sid: &str, headers: &str, body: &str) -> String {
        self.ask(&format!("POST /{path}/?EIO=4&transport=polling&sid={sid}"), headers, body).await
    }
}

fn is_whole(response: &[u8]) -> bool {
    let text = String::from_utf8_lossy(response).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() >= length.map_or(0, |length| length.parse().unwrap())
}

#[tokio::test]
async fn a_session_id_is_good_for_its_application_at_every_node() {
    let cluster = Cluster::start("ids", 2).await;
    let mut home = Client::connect(&cluster.nodes[0]).await;
    let mut away = Client::connect(&cluster.nodes[1]).await;
    let sid = home.open("one").await;
    for client in [&mut home, &mut away] {
        let posted = client.post("one", &sid, "content-length: 2\r\n", "40").await;
        assert!(posted.starts_with("http/1.1 200"), "{posted}");
        let elsewhere = client.post("two", &sid, "content-length: 2\r\n", "40").await;
        assert!(elsewhere.contains(r#"{"code":1"#), "{elsewhere}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_body_is_awaited_for_genuine_ids_and_not_for_ever() {
    let cluster = Cluster::start("bodies", 1).await;
    let mut client = Client::connect(&cluster.nodes[0]).await;
    let sid = client.open("one").await;
    let slow = client.post("one", &sid, "content-length: 100\r\n", "4").await;
    assert!(slow.starts_with("http/1.1 408") && slow.contains("connection: close"), "{slow}");

    let mut client = Client::connect(&cluster.nodes[0]).await;
    let invented = client.post("one", &"a".repeat(ID_LENGTH), "content-length: 100\r\n", "4").await;
    assert!(invented.starts_with("http/1.1 400") && invented.contains(r#""code":1"#), "{invented}");
    cluster.stop().await;
}

#[tokio::test]
async fn foreign_pages_open_no_websocket_where_cookies_are_tokens() {
    let cluster = Cluster::start("origins", 1).await;
    let headers = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
        sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (path, origin, status) in [
        ("one", "https://evil.example", "403"),
        ("one", "http://127.0.0.1", "101"),
        ("two", "https://evil.example", "101"),
    ] {
        let mut client = Client::connect(&cluster.nodes[0]).await;
        let line = format!("GET /{path}/?EIO=4&transport=websocket");
        let switched = client.ask(&line, &format!("{headers}origin: {origin}\r\n"), "").await;
        assert!(switched.starts_with(&format!("http/1.1 {status}")), "{path} {origin}: {switched}");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn a_draining_node_sends_clients_elsewhere() {
    let mut cluster = Cluster::start("drain", 1).await;
    let node = cluster.nodes.remove(0);
    let mut client = Client::connect(&node).await;
    client.open("one").await;
    node.drain().await;
    let refused = client.ask("GET /one/?EIO=4&transport=polling", "", "").await;
    for part in ["http/1.1 503", "retry-after: ", "connection: close"] {
        assert!(refused.contains(part), "{part}: {refused}");
    }
    cluster.stop().await;
}
