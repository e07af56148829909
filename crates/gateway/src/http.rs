//! HTTP towards clients: which application a request is for, Engine.IO's requests, CORS, and the switch to WebSocket.
//! Sessions are somebody else's: a request goes to its session's shard or node, and the answer comes back.

mod body;
mod cors;
mod doors;
mod endpoints;
mod extensions;
pub mod handshake;
mod issue;
mod login;
mod plain;
mod proxies;
mod refusals;
pub mod routes;
mod try_page;

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use cluster::forwarding::{Answer, Ask, FailReason};
use cluster::sid::SidAddress;
use engineio::{PollId, Refusal, Request as Ask4, Transport};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tower::ServiceExt;

use crate::config::GatewayConfig;
use crate::link::Habits;
use crate::shard::{Control, Shard, ShardHandle, Shared};
use body::Forwarded;
pub use body::{BodyError, read_body};
use doors::Doors;
pub use proxies::Network;
use proxies::Origin;
pub use refusals::REASONS as REFUSALS;
use refusals::{Asked, come_again, full, leaving, overloaded, refused, too_large, too_slow, wrong_origin};

type Request = http::Request<Body>;

/// Ids of requests to sessions of this node.
static NEXT_POLL: AtomicU64 = AtomicU64::new(1);

/// One core's HTTP server: routes for each listener.
#[derive(Debug)]
pub struct Server {
    doors: Vec<Doors>,
    header_timeout: Duration,
    trusted: Rc<[Network]>,
}

/// What a route's handler needs.
#[derive(Debug)]
struct Site {
    app: u16,
    body_timeout: Duration,
    shared: Arc<Shared>,
    /// This core's shard, and all of them.
    here: ShardHandle,
    all: Vec<ShardHandle>,
}

/// The client, as far as proxies in front of us can be believed.
#[derive(Clone, Copy, Debug)]
struct Peer(SocketAddr);

/// Whether the client speaks TLS.
#[derive(Clone, Copy, Debug)]
struct Secure(bool);

impl Server {
    /// `listeners`: for each address served, the applications on it. The server API, if it is served, follows them.
    pub fn build(config: &GatewayConfig, listeners: &[Vec<u16>], shard: &Shard) -> Rc<Self> {
        let body_timeout = Duration::from_millis(config.http.body_timeout_ms);
        let site = |app: &u16| {
            Arc::new(Site {
                app: *app,
                body_timeout,
                shared: shard.shared.clone(),
                here: shard.handle.clone(),
                all: shard.all.clone(),
            })
        };
        let doors = |apps: &Vec<u16>| Doors::build(&apps.iter().map(site).collect::<Vec<_>>());
        let api = config.api.is_served().then(|| crate::api::router(shard, body_timeout));
        Rc::new(Self {
            doors: listeners.iter().map(doors).chain(api.map(Doors::any)).collect(),
            header_timeout: Duration::from_millis(config.http.header_timeout_ms),
            trusted: config.http.trusted_proxies.clone().into(),
        })
    }

    /// Serves a connection on this core.
    pub fn serve(&self, shard: &Rc<Shard>, stream: std::net::TcpStream, peer: SocketAddr, listener: usize) {
        let Some(doors) = self.doors.get(listener).cloned() else { return };
        let (timeout, trusted) = (self.header_timeout, self.trusted.clone());
        let metrics = shard.shared.metrics.clone();
        tokio::task::spawn_local(async move {
            metrics.connections.inc();
            if let Err(error) = connection(doors, timeout, trusted, stream, peer).await {
                tracing::trace!(%peer, %error, "HTTP connection ended");
            }
            metrics.connections.dec();
        });
    }
}

async fn connection(
    doors: Doors,
    header_timeout: Duration,
    trusted: Rc<[Network]>,
    stream: std::net::TcpStream,
    peer: SocketAddr,
) -> Result<(), Box<dyn std::error::Error>> {
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let service = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        let origin = Origin::of(&trusted, peer, request.headers());
        request.extensions_mut().insert(Peer(SocketAddr::new(origin.client, peer.port())));
        request.extensions_mut().insert(Secure(origin.secure));
        // From here on the request is as its client sent it to the outermost proxy.
        if let Some(host) = origin.host {
            request.headers_mut().insert(header::HOST, host);
        }
        let router = doors.of(request.headers().get(header::HOST)).clone();
        router.oneshot(request.map(Body::new))
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(header_timeout).max_buf_size(64 * 1024);
    builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await?;
    Ok(())
}

async fn serve(
    State(site): State<Arc<Site>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = if request.method() == Method::OPTIONS {
        cors::preflight(request.headers())
    } else {
        let websocket = wants_websocket(request.headers());
        let asked = Asked::of(request.method(), request.uri(), origin.as_ref(), websocket);
        let response = site.respond(peer, request).await;
        site.note_refusal(peer, &asked, &response);
        response
    };
    let origins = &site.shared.app(site.app).config.cors_origins;
    cors::allow(origins, origin.as_ref(), response.headers_mut());
    // The next request of this client goes to another node. A connection that switches protocols is past that.
    if site.is_draining() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

impl Site {
    async fn respond(&self, peer: SocketAddr, mut request: Request) -> Response {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let websocket = wants_websocket(request.headers());
        match engineio::request::parse(request.method().as_str(), &query, websocket) {
            Err(refusal) => refused(refusal),
            // Neither a new session nor one of another node comes to a node that leaves.
            Ok(Ask4::Handshake(_) | Ask4::Upgrade { .. }) if self.is_draining() => leaving(),
            Ok(Ask4::Handshake(_) | Ask4::Upgrade { .. })
                if websocket && !self.may_switch(request.headers()) =>
            {
                wrong_origin()
            }
            Ok(Ask4::Handshake(Transport::Polling)) => self.open(peer, &mut request).await,
            Ok(Ask4::Handshake(Transport::WebSocket)) => self.open_websocket(peer, &mut request),
            Ok(Ask4::Upgrade { sid }) => self.upgrade(sid, &mut request).await,
            Ok(Ask4::Poll { sid }) => self.ask(sid, Ask::Get).await,
            Ok(Ask4::Post { sid }) => self.post(sid, request).await,
        }
    }

    /// A page's cookie may be a token of any of the applications here.
    fn may_switch(&self, headers: &HeaderMap) -> bool {
        let site = &self.shared.app(self.app).site;
        site.iter().all(|ix| cors::may_switch(&self.shared.app(*ix).config, headers))
    }

    fn is_draining(&self) -> bool {
        self.shared.draining.load(Ordering::Relaxed)
    }

    /// Where a session of this application lives; `None`: the id is not genuine.
    fn address(&self, sid: &str) -> Option<SidAddress> {
        self.shared.key.open(sid, self.shared.app(self.app).name())
    }

    /// The body of an invented session id is not read.
    async fn post(&self, sid: &str, request: Request) -> Response {
        if self.address(sid).is_none() {
            return refused(Refusal::UNKNOWN_SID);
        }
        let app = self.shared.app(self.app);
        let (head, body) = request.into_parts();
        match read_body(body, app.limits.max_payload_bytes, self.body_timeout).await {
            Ok(body) if app.dialect.keeps_handshake() => {
                self.ask(sid, Ask::Post(handshake::with_headers(&head.headers, &body))).await
            }
            Ok(body) => self.ask(sid, Ask::Post(body)).await,
            Err(BodyError::BrokenOff) => refused(Refusal::BAD_REQUEST),
            Err(BodyError::TooSlow) => too_slow(),
        }
    }

    async fn open(&self, peer: SocketAddr, request: &mut Request) -> Response {
        let app = self.shared.app(self.app);
        let (opening, headers) = match handshake::opening(&self.shared, app, peer, request) {
            Ok(opened) => opened,
            Err(message) => return refused(Refusal { message, ..Refusal::FORBIDDEN }),
        };
        let (done, sid) = oneshot::channel();
        self.here.control(Control::Open { opening: Box::new(opening), done });
        let Ok(Some(sid)) = sid.await else { return full() };
        let body = engineio::handshake_json(&sid, &app.engine, true).into_bytes();
        let mut response = text(StatusCode::OK, "text/plain; charset=UTF-8", Body::from(body));
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        response
    }

    fn open_websocket(&self, peer: SocketAddr, request: &mut Request) -> Response {
        let app = self.shared.app(self.app);
        let (opening, headers) = match handshake::opening(&self.shared, app, peer, request) {
            Ok(opened) => opened,
            Err(message) => return refused(Refusal { message, ..Refusal::FORBIDDEN }),
        };
        let Some((mut response, upgrade)) = switch(request) else { return refused(Refusal::BAD_REQUEST) };
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        let habits = self.habits(request, &mut response);
        self.here.control(Control::OpenWebSocket { opening: Box::new(opening), upgrade, habits });
        response
    }

    /// The session must exist before the protocol is switched: an unknown one is refused by HTTP.
    async fn upgrade(&self, sid: &str, request: &mut Request) -> Response {
        let sid = sid.to_owned();
        if let Err(refusal) = self.check(&sid).await {
            return refusal;
        }
        let Some((mut response, upgrade)) = switch(request) else { return refused(Refusal::BAD_REQUEST) };
        let habits = self.habits(request, &mut response);
        self.here.control(Control::Upgrade { app: self.app, sid, upgrade, habits });
        response
    }

    /// What the client can do, agreed on in the response.
    fn habits(&self, request: &Request, response: &mut Response) -> Habits {
        let over = self.shared.app(self.app).config.compress_over_bytes;
        let agreed = over.and_then(|_| extensions::agree(request.headers()));
        let compress_over = over.filter(|_| agreed.is_some());
        if let Some(agreed) = agreed {
            response.headers_mut().insert(header::SEC_WEBSOCKET_EXTENSIONS, agreed);
        }
        Habits { base64: wants_base64(request), compress_over }
    }

    /// Puts a request to the session's owner, wherever it is. A session id that is not ours goes nowhere.
    async fn ask(&self, sid: &str, ask: Ask) -> Response {
        let Some(address) = self.address(sid) else { return refused(Refusal::UNKNOWN_SID) };
        if address.node == self.shared.id {
            return match self.all.get(usize::from(address.shard)) {
                Some(shard) => self.ask_here(shard, sid, ask).await,
                None => refused(Refusal::UNKNOWN_SID),
            };
        }
        let req = rand::random();
        let forwarded = Forwarded::new(self.shared.peers.clone(), req);
        match self.shared.peers.forward(req, address.node, sid, ask).await {
            Ok(Ok(answer)) => answered(answer, |body| forwarded.into_body(body)),
            Ok(Err(reason)) => {
                forwarded.disarm();
                unanswered(reason)
            }
            // The node ends.
            Err(_) => refused(Refusal::UNKNOWN_SID),
        }
    }

    /// Whether there is such a session, or the response that says that there is not.
    async fn check(&self, sid: &str) -> Result<(), Response> {
        let response = self.ask(sid, Ask::Check).await;
        if response.status() == StatusCode::OK { Ok(()) } else { Err(response) }
    }

    async fn ask_here(&self, shard: &ShardHandle, sid: &str, ask: Ask) -> Response {
        let poll = PollId(NEXT_POLL.fetch_add(1, Ordering::Relaxed));
        let gone = Gone { shard, sid, poll, armed: matches!(ask, Ask::Get) };
        let (done, answer) = oneshot::channel();
        shard.control(Control::Request { app: self.app, sid: sid.to_owned(), poll, ask, done });
        let answer = answer.await;
        gone.disarm();
        match answer {
            Ok(Some(answer)) => answered(answer, Body::from),
            _ => refused(Refusal::UNKNOWN_SID),
        }
    }
}

/// A held poll whose client goes away tells the session.
struct Gone<'a> {
    shard: &'a ShardHandle,
    sid: &'a str,
    poll: PollId,
    armed: bool,
}

impl Gone<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shard.control(Control::Gone { sid: self.sid.to_owned(), poll: self.poll });
        }
    }
}

fn wants_base64(request: &Request) -> bool {
    engineio::request::wants_base64(request.uri().query().unwrap_or_default())
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The 101 response (RFC 6455 section 4.2.2) and the connection to come.
fn switch(request: &mut Request) -> Option<(Response, OnUpgrade)> {
    let headers = request.headers();
    let key = headers.get(header::SEC_WEBSOCKET_KEY)?;
    if headers.get(header::SEC_WEBSOCKET_VERSION)? != "13" {
        return None;
    }
    let accept = tokio_tungstenite::tungstenite::handshake::derive_accept_key(key.as_bytes());
    let upgrade = request.extensions_mut().remove::<OnUpgrade>()?;
    let response = http::Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, accept)
        .body(Body::empty());
    Some((response.expect("these headers are well formed"), upgrade))
}

fn answered(answer: Answer, body: impl FnOnce(bytes::Bytes) -> Body) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = text(status, &answer.content, body(answer.body));
    if status == StatusCode::SERVICE_UNAVAILABLE {
        come_again(&mut response);
    }
    response
}

/// The session's owner gave no answer.
fn unanswered(reason: FailReason) -> Response {
    match reason {
        FailReason::Overloaded => overloaded(),
        FailReason::TooLarge => too_large(),
        FailReason::NoOwner | FailReason::Unconfirmed => refused(Refusal::UNKNOWN_SID),
    }
}

fn text(status: StatusCode, content: &str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(content) = HeaderValue::from_str(content)
        && !content.is_empty()
    {
        headers.insert(header::CONTENT_TYPE, content);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overload_is_no_unknown_session() {
        let cases = [
            (FailReason::Overloaded, 503, true),
            (FailReason::TooLarge, 413, false),
            (FailReason::NoOwner, 400, false),
            (FailReason::Unconfirmed, 400, false),
        ];
        for (reason, status, retry) in cases {
            let response = unanswered(reason);
            assert_eq!(response.status(), status);
            assert_eq!(response.headers().contains_key(header::RETRY_AFTER), retry);
        }
        let refusal = Answer { status: 503, content: "".into(), body: bytes::Bytes::new() };
        assert!(answered(refusal, Body::from).headers().contains_key(header::RETRY_AFTER));
    }
}
