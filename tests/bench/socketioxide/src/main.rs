//! socketioxide with the `rooms` vocabulary of loadgen, for comparison: one process, its default multi-threaded
//! runtime, no adapter. Usage: `bench-socketioxide [port]`; prints `listening <address>`.

use std::convert::Infallible;

use socketioxide::SocketIo;
use socketioxide::extract::{AckSender, Data, SocketRef};
use socketioxide::handler::ConnectHandler;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    let (layer, io) = SocketIo::new_layer();
    io.ns("/", on_connect.with(register));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening {}", listener.local_addr()?);
    axum::serve(listener, axum::Router::new().layer(layer)).await
}

async fn on_connect(_: SocketRef) {}

/// As a middleware, which runs before the client is told that it is connected: the connect handler is a task of its
/// own, and of thousands of clients a few get their first event in before it has registered anything.
async fn register(socket: SocketRef) -> Result<(), Infallible> {
    socket.on("join", async |socket: SocketRef, Data::<String>(room), ack: AckSender| {
        socket.join(room);
        ack.send(&()).ok();
    });
    socket.on("leave", async |socket: SocketRef, Data::<String>(room), ack: AckSender| {
        socket.leave(room);
        ack.send(&()).ok();
    });
    socket.on("send", async |socket: SocketRef, Data::<(String, String)>((room, payload))| {
        broadcast(&socket, room, payload).await;
    });
    socket.on("store", async |socket: SocketRef, Data::<(String, String)>((room, payload)), ack: AckSender| {
        broadcast(&socket, room, payload).await;
        ack.send(&()).ok();
    });
    socket.on("echo", async |Data::<String>(payload), ack: AckSender| {
        ack.send(&payload).ok();
    });
    Ok(())
}

async fn broadcast(socket: &SocketRef, room: String, payload: String) {
    // `within` includes the sender, as the vocabulary wants.
    socket.within(room.clone()).emit("event", &(room, payload)).await.ok();
}
