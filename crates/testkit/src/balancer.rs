//! A plain HTTP/1.1 balancer without stickiness: every request goes to the next backend, also requests on one kept-alive client
//! connection. Owns the choice and the splice after `101`; refuses nothing, rewrites nothing. The worst case a session can meet.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

type Body = BoxBody<Bytes, hyper::Error>;

/// Which backend a request goes to.
#[derive(Clone, Copy, Debug)]
pub enum Schedule {
    /// One after the other.
    RoundRobin,
    /// A sequence fixed by the seed: the same requests in the same order meet the same backends.
    Seeded(u64),
}

/// A running balancer. Dropping it closes its listeners and every connection.
#[derive(Debug)]
pub struct Balancer {
    addrs: Vec<SocketAddr>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("a balancer needs at least one backend")]
    NoBackend,
    #[error("cannot listen on {addr}: {source}")]
    Listen { addr: SocketAddr, source: io::Error },
}

impl Balancer {
    /// Listens on every address of `listen` (port 0: a free one) and spreads requests over `backends`.
    /// Must be called inside a tokio runtime.
    pub async fn start(
        listen: &[SocketAddr],
        backends: Vec<SocketAddr>,
        schedule: Schedule,
    ) -> Result<Self, StartError> {
        if backends.is_empty() {
            return Err(StartError::NoBackend);
        }
        let pool = Arc::new(Pool { backends, schedule, turn: AtomicU64::new(0) });
        let mut addrs = Vec::new();
        let mut tasks = JoinSet::new();
        for &addr in listen {
            let failed = |source| StartError::Listen { addr, source };
            let listener = TcpListener::bind(addr).await.map_err(failed)?;
            addrs.push(listener.local_addr().map_err(failed)?);
            tasks.spawn(accept(listener, Arc::clone(&pool)));
        }
        Ok(Self { addrs, _tasks: tasks })
    }

    /// The addresses that are listened on, in the order they were asked for.
    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }
}

#[derive(Debug)]
struct Pool {
    backends: Vec<SocketAddr>,
    schedule: Schedule,
    turn: AtomicU64,
}

impl Pool {
    /// The next backend that takes a connection; one that refuses is skipped.
    async fn connect(&self) -> io::Result<TcpStream> {
        let first = self.first(self.turn.fetch_add(1, Ordering::Relaxed));
        let mut refused = io::Error::from(io::ErrorKind::NotConnected);
        for step in 0..self.backends.len() {
            match TcpStream::connect(self.backends[(first + step) % self.backends.len()]).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    fn first(&self, turn: u64) -> usize {
        let choice = match self.schedule {
            Schedule::RoundRobin => turn,
            Schedule::Seeded(seed) => mix(seed.wrapping_add(turn.wrapping_mul(0x9E37_79B9_7F4A_7C15))),
        };
        (choice % self.backends.len() as u64) as usize
    }
}

/// The finalizer of SplitMix64: well spread, and the same on every machine.
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

async fn accept(listener: TcpListener, pool: Arc<Pool>) {
    let mut clients = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = clients.join_next() => {}
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    clients.spawn(serve(stream, Arc::clone(&pool)));
                }
            }
        }
    }
}

/// One client connection. When the client goes away hyper drops the request in flight, and with it the connection to the backend:
/// the backend sees an abandoned poll as it would without a balancer.
async fn serve(stream: TcpStream, pool: Arc<Pool>) {
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let service = service_fn(move |request| {
        let pool = Arc::clone(&pool);
        async move { Ok::<_, Infallible>(forward(request, &pool).await.unwrap_or_else(bad_gateway)) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // An error here is a client that went away: nobody is left to be told.
    let _ = connection.await;
}

#[derive(Debug, thiserror::Error)]
enum ForwardError {
    #[error("no backend takes connections: {0}")]
    Connect(#[from] io::Error),
    #[error("the backend broke off: {0}")]
    Backend(#[from] hyper::Error),
}

async fn forward(mut request: Request<Incoming>, pool: &Pool) -> Result<Response<Body>, ForwardError> {
    let stream = pool.connect().await?;
    let (mut backend, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let client_side = hyper::upgrade::on(&mut request);
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let mut response = backend.send_request(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let backend_side = hyper::upgrade::on(&mut response);
        tokio::spawn(splice(client_side, backend_side, driver));
        return Ok(response.map(|body| body.boxed()));
    }
    // The answer is read to its end here: the connection to the backend lives exactly as long as this request.
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    Ok(Response::from_parts(head, Full::new(body).map_err(|never| match never {}).boxed()))
}

async fn splice(
    client: hyper::upgrade::OnUpgrade,
    backend: hyper::upgrade::OnUpgrade,
    mut driver: JoinSet<()>,
) {
    let (Ok(client), Ok(backend)) = (client.await, backend.await) else { return };
    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
    // Either end may break off: the other is closed by the drop of both.
    let _ = tokio::io::copy_bidirectional(&mut client, &mut backend).await;
    driver.shutdown().await;
}

fn bad_gateway(error: ForwardError) -> Response<Body> {
    let text = Full::new(Bytes::from(format!("{error}\n"))).map_err(|never| match never {}).boxed();
    let mut response = Response::new(text);
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(schedule: Schedule) -> Pool {
        Pool { backends: vec![SocketAddr::from(([127, 0, 0, 1], 1)); 3], schedule, turn: AtomicU64::new(0) }
    }

    #[test]
    fn round_robin_visits_every_backend_in_turn() {
        let pool = pool(Schedule::RoundRobin);
        assert_eq!((0..6).map(|turn| pool.first(turn)).collect::<Vec<_>>(), [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn a_seed_fixes_the_sequence_and_visits_every_backend() {
        let sequence =
            |seed| (0..64).map(|turn| pool(Schedule::Seeded(seed)).first(turn)).collect::<Vec<_>>();
        assert_eq!(sequence(7), sequence(7));
        assert_ne!(sequence(7), sequence(8));
        for backend in 0..3 {
            assert!(sequence(7).contains(&backend));
        }
    }
}
