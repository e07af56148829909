//! The balancer against backends that say their number: alternation on one connection, skipping, abandonment, the splice.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;

use testkit::balancer::{Balancer, Schedule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A backend that answers every request with `answer`, one request per connection.
async fn backend(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            read_head(&mut stream).await;
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len());
            stream.write_all(head.as_bytes()).await.unwrap();
        }
    });
    addr
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

async fn get(client: &mut TcpStream) -> String {
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let head = read_head(client).await;
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).await.unwrap();
    String::from_utf8(body).unwrap()
}

#[tokio::test]
async fn requests_of_one_connection_alternate() {
    let backends = vec![backend("a").await, backend("b").await, backend("c").await];
    let balancer = Balancer::start(&[ANY], backends, Schedule::RoundRobin).await.unwrap();
    let mut client = TcpStream::connect(balancer.addrs()[0]).await.unwrap();
    let mut seen = String::new();
    for _ in 0..6 {
        seen.push_str(&get(&mut client).await);
    }
    assert_eq!(seen, "abcabc");
}

#[tokio::test]
async fn a_backend_that_refuses_is_skipped() {
    let gone = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
    let balancer =
        Balancer::start(&[ANY], vec![gone, backend("b").await], Schedule::RoundRobin).await.unwrap();
    let mut client = TcpStream::connect(balancer.addrs()[0]).await.unwrap();
    assert_eq!(get(&mut client).await, "b");
    assert_eq!(get(&mut client).await, "b");
}

#[tokio::test]
async fn an_abandoned_request_is_abandoned_at_the_backend() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let balancer = Balancer::start(&[ANY], vec![addr], Schedule::RoundRobin).await.unwrap();
    let mut client = TcpStream::connect(balancer.addrs()[0]).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let (mut stream, _) = listener.accept().await.unwrap();
    read_head(&mut stream).await;
    drop(client);
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn an_upgraded_connection_is_spliced_and_closed_with_its_peer() {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (closed, saw_close) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream
            .write_all(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
            .await
            .unwrap();
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&word).await.unwrap();
        closed.send(stream.read(&mut word).await.unwrap_or(0)).unwrap();
    });
    let balancer = Balancer::start(&[ANY], vec![addr], Schedule::Seeded(1)).await.unwrap();
    let mut client = TcpStream::connect(balancer.addrs()[0]).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")
        .await
        .unwrap();
    assert!(read_head(&mut client).await.starts_with("HTTP/1.1 101"));
    client.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
    drop(client);
    assert_eq!(saw_close.await.unwrap(), 0);
}
