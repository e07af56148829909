//! Requests to others' servers: key sets, hooks, collectors of traces. HTTP/1.1, plain or TLS by rustls; every request has a deadline and
//! every answer a size. Redirects are not followed. Start at [`Outbound::send`].

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode, Uri, uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Connections kept open for one server, and for how long.
const IDLE_CONNECTIONS: usize = 16;
const IDLE: Duration = Duration::from_secs(30);

/// A client with its own connections; belongs to one runtime.
#[derive(Clone, Debug)]
pub struct Outbound {
    connector: Connector,
    client: Client<Connector, Full<Bytes>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    #[error("no answer in time")]
    TimedOut,
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Failed(String),
}

impl Outbound {
    /// `ca_file`: certificates to trust instead of the system's, in PEM form.
    ///
    /// # Errors
    /// A sentence for the operator.
    pub fn build(ca_file: Option<&Path>) -> Result<Self, String> {
        Ok(Self::new(Connector { tls: TlsConnector::from(Arc::new(tls(ca_file)?)) }))
    }

    /// The same client for another runtime.
    pub fn with_own_connections(&self) -> Self {
        Self::new(self.connector.clone())
    }

    fn new(connector: Connector) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new());
        Self { client: builder.build(connector.clone()), connector }
    }

    /// Posts a JSON body to a URL that [`check_url`] takes.
    pub async fn post_json(
        &self,
        url: &str,
        body: Bytes,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<(StatusCode, Bytes), OutboundError> {
        let request = Request::post(url).header(CONTENT_TYPE, "application/json").body(Full::new(body));
        let request = request.map_err(|error| OutboundError::Failed(error.to_string()))?;
        self.send(request, max_bytes, deadline).await
    }

    /// The answer's status and whole body.
    pub async fn send(
        &self,
        request: Request<Full<Bytes>>,
        max_bytes: usize,
        deadline: Instant,
    ) -> Result<(StatusCode, Bytes), OutboundError> {
        let answer = read(self.client.request(request), max_bytes);
        tokio::time::timeout_at(deadline.into(), answer).await.unwrap_or(Err(OutboundError::TimedOut))
    }
}

async fn read(response: ResponseFuture, max_bytes: usize) -> Result<(StatusCode, Bytes), OutboundError> {
    let response = response.await.map_err(|error| OutboundError::Failed(causes(&error)))?;
    let status = response.status();
    let body = Limited::new(response.into_body(), max_bytes).collect().await.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            OutboundError::TooLarge(max_bytes)
        } else {
            OutboundError::Failed(causes(&*error))
        }
    })?;
    Ok((status, body.to_bytes()))
}

/// Whether requests can be sent there: `http` or `https`, with a host.
///
/// # Errors
/// A sentence for the operator.
pub fn check_url(url: &str) -> Result<Uri, String> {
    let parsed: Uri = url.parse().map_err(|error| format!("no URL: {error}"))?;
    let known = matches!(parsed.scheme_str(), Some("http" | "https"));
    if known && parsed.host().is_some() {
        Ok(parsed)
    } else {
        Err("must be an http:// or https:// URL".to_owned())
    }
}

/// An error and what caused it: the outermost alone says nothing.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn tls(ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let unreadable = |error| format!("cannot read {}: {error}", path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
                let certificate = certificate.map_err(unreadable)?;
                roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            if roots.is_empty() {
                return Err(format!("{} holds no certificate", path.display()));
            }
        }
        // Without any, only plain HTTP works.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = versions.map_err(|error| error.to_string())?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Opens connections; how a URL's scheme asks for them.
#[derive(Clone)]
struct Connector {
    tls: TlsConnector,
}

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Wire>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let tls = self.tls.clone();
        Box::pin(async move { connect(tls, uri).await.map(TokioIo::new) })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

async fn connect(tls: TlsConnector, uri: Uri) -> std::io::Result<Wire> {
    let invalid = |message| std::io::Error::new(std::io::ErrorKind::InvalidInput, message);
    let host = uri.host().ok_or_else(|| invalid("no host"))?.trim_matches(['[', ']']).to_owned();
    let secure = uri.scheme() == Some(&uri::Scheme::HTTPS);
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let stream = TcpStream::connect((&*host, port)).await?;
    stream.set_nodelay(true)?;
    if !secure {
        return Ok(Wire(Box::new(stream)));
    }
    let name = ServerName::try_from(host).map_err(|_| invalid("no host name that TLS knows"))?;
    Ok(Wire(Box::new(tls.connect(name, stream).await?)))
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection, with or without TLS.
struct Wire(Box<dyn Io>);

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
