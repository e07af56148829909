//! A Socket.IO client that keeps what it hears in order.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use gateway::RunningGateway;
use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use super::stage::{SECRET, soon};

pub struct Client {
    stream: WebSocketStream<TcpStream>,
    /// Id of its socket.
    pub id: String,
    next_ack: u64,
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    Event(String, Value),
    Ack(u64, Value),
}

impl Heard {
    pub fn event(name: &str) -> Self {
        Self::Event(name.to_owned(), json!({}))
    }
}

impl Client {
    pub async fn connect(node: &RunningGateway, user: &str) -> Self {
        let stream = websocket(node.addrs[0].1, "").await;
        let mut client = Self { stream, id: String::new(), next_ack: 0 };
        assert!(client.packet().await.starts_with('0'));
        client.send(&hello(user)).await;
        assert!(client.packet().await.starts_with("40"));
        let Heard::Event(name, connected) = client.next().await else { panic!("no event") };
        assert_eq!(name, "connected");
        client.id = connected["socketId"].as_str().unwrap().to_owned();
        client
    }

    pub async fn send(&mut self, packet: &str) {
        self.stream.send(Message::text(packet)).await.unwrap();
    }

    /// Returns the number of the ack to come.
    pub async fn emit(&mut self, event: &str, payload: &Value) -> u64 {
        self.next_ack += 1;
        self.send(&format!("42{}{}", self.next_ack, json!([event, payload]))).await;
        self.next_ack
    }

    /// Emits and waits for the ack; nothing else may come before.
    pub async fn ask(&mut self, event: &str, payload: &Value) -> Value {
        let number = self.emit(event, payload).await;
        match self.next().await {
            Heard::Ack(ack, answer) if ack == number => answer,
            other => panic!("{other:?} came before the answer"),
        }
    }

    pub async fn next(&mut self) -> Heard {
        let packet = self.packet().await;
        let at = packet.find('[').unwrap_or_else(|| panic!("{packet}"));
        let (head, body) = packet.split_at(at);
        let mut args: Vec<Value> = serde_json::from_str(body).unwrap();
        match head.strip_prefix("43") {
            Some(number) => Heard::Ack(number.parse().unwrap(), args.remove(0)),
            None => {
                assert_eq!(head, "42");
                let payload = if args.len() > 1 { args.remove(1) } else { Value::Null };
                Heard::Event(args[0].as_str().unwrap().to_owned(), payload)
            }
        }
    }

    /// Everything up to this event.
    pub async fn until(&mut self, event: &str) -> Vec<Heard> {
        let mut heard = Vec::new();
        loop {
            heard.push(self.next().await);
            if matches!(heard.last(), Some(Heard::Event(name, _)) if name == event) {
                return heard;
            }
        }
    }

    async fn packet(&mut self) -> String {
        loop {
            let message = soon(self.stream.next()).await.expect("the connection ended").unwrap();
            match message {
                Message::Text(text) if text.as_str() == "2" => self.send("3").await,
                Message::Text(text) => return text.as_str().to_owned(),
                other => panic!("{other:?}"),
            }
        }
    }

    pub async fn leave(mut self) {
        self.send("41").await;
    }
}

/// The CONNECT of a user.
pub fn hello(user: &str) -> String {
    let claims = json!({ "userId": user, "exp": 4_000_000_000u64 });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
    format!("40{}", json!({ "token": token }))
}

async fn websocket(addr: SocketAddr, rest: &str) -> WebSocketStream<TcpStream> {
    let url = format!("ws://{addr}/t/?EIO=4&transport=websocket{rest}");
    let tcp = TcpStream::connect(addr).await.unwrap();
    tokio_tungstenite::client_async(url, tcp).await.unwrap().0
}

/// A client that polls at one node.
pub struct Polling {
    addr: SocketAddr,
    sid: String,
    /// Id of its socket.
    pub id: String,
}

impl Polling {
    pub async fn connect(node: &RunningGateway, user: &str) -> Self {
        let mut polling = Self { addr: node.addrs[0].1, sid: String::new(), id: String::new() };
        let opened: Value = serde_json::from_str(&polling.request("GET", "").await[1..]).unwrap();
        polling.sid = format!("&sid={}", opened["sid"].as_str().unwrap());
        polling.request("POST", &hello(user)).await;
        let connected = polling.until("connected").await;
        let at = connected.find("socketId\":\"").unwrap() + "socketId\":\"".len();
        polling.id = connected[at..].split('"').next().unwrap().to_owned();
        polling
    }

    pub async fn post(&self, packet: &str) {
        assert_eq!(self.request("POST", packet).await, "ok");
    }

    /// Polls until this text comes; returns the payload with it.
    pub async fn until(&self, text: &str) -> String {
        loop {
            let payload = self.request("GET", "").await;
            if payload.contains(text) {
                return payload;
            }
        }
    }

    /// Goes on over a WebSocket at another node.
    pub async fn upgrade(self, node: &RunningGateway) -> Client {
        let stream = websocket(node.addrs[0].1, &self.sid).await;
        let mut client = Client { stream, id: self.id, next_ack: 100 };
        client.send("2probe").await;
        assert_eq!(client.packet().await, "3probe");
        client.send("5").await;
        client
    }

    async fn request(&self, method: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.addr).await.unwrap();
        let request = format!(
            "{method} /t/?EIO=4&transport=polling{} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.sid,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        soon(stream.read_to_string(&mut response)).await.unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
        response.split_once("\r\n\r\n").unwrap().1.to_owned()
    }
}
