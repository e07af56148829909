//! The fault proxy in front of an echo: what each command does to bytes in flight.

#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use testkit::fault_proxy::{Command, FaultProxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

async fn proxied_echo() -> FaultProxy {
    let listener = TcpListener::bind(ANY).await.unwrap();
    let target = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    FaultProxy::start(ANY, target).await.unwrap()
}

async fn echo(client: &mut TcpStream, word: &[u8]) -> std::io::Result<Vec<u8>> {
    client.write_all(word).await?;
    let mut back = vec![0; word.len()];
    client.read_exact(&mut back).await?;
    Ok(back)
}

#[tokio::test]
async fn delay_holds_both_ways_and_keeps_order() {
    let proxy = proxied_echo().await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    proxy.apply("delay 30 10".parse().unwrap());
    let start = Instant::now();
    assert_eq!(echo(&mut client, b"one two three").await.unwrap(), b"one two three");
    assert!(start.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn pause_holds_what_resume_delivers() {
    let proxy = proxied_echo().await;
    let mut client = TcpStream::connect(proxy.addr()).await.unwrap();
    echo(&mut client, b"warm").await.unwrap();
    proxy.apply(Command::Pause);
    client.write_all(b"held").await.unwrap();
    let mut back = [0; 4];
    let early = tokio::time::timeout(Duration::from_millis(50), client.read_exact(&mut back)).await;
    assert!(early.is_err(), "delivered while paused");
    proxy.apply(Command::Resume);
    client.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"held");
}

#[tokio::test]
async fn cut_ends_old_connections_and_takes_new_ones() {
    let proxy = proxied_echo().await;
    let mut old = TcpStream::connect(proxy.addr()).await.unwrap();
    echo(&mut old, b"warm").await.unwrap();
    proxy.apply(Command::Cut);
    assert_eq!(old.read(&mut [0; 1]).await.unwrap_or(0), 0);
    let mut new = TcpStream::connect(proxy.addr()).await.unwrap();
    assert_eq!(echo(&mut new, b"new").await.unwrap(), b"new");
    proxy.apply(Command::Refuse);
    let mut refused = TcpStream::connect(proxy.addr()).await.unwrap();
    assert!(echo(&mut refused, b"no").await.is_err());
}

#[test]
fn a_wrong_command_names_the_right_ones() {
    let error = "slow down".parse::<Command>().unwrap_err().to_string();
    assert!(error.contains("slow down") && error.contains("delay <ms>"), "{error}");
}
