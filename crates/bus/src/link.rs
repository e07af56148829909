//! One connection to a NATS server: address, TCP, TLS, greeting, login.
//!
//! Owns everything before the first room message. The result is a stream whose next bytes are ordinary protocol.

use std::io;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::{Bytes, BytesMut};
use nkeys::KeyPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};
use url::Url;

use crate::config::{Auth, BusConfig, TlsConfig};
use crate::error::ConnectError;
use crate::wire::{Frame, Parser};

/// Room for headers that JetStream adds to a republished copy of a message of the largest size.
const HEADER_ROOM_BYTES: usize = 64 * 1024;

/// Largest message before INFO told the server's limit.
const GREETING_BYTES: usize = 64 * 1024;

/// A byte stream to a server, plain or TLS.
pub(crate) trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// A connection that is logged in.
pub(crate) struct Link {
    pub io: Box<dyn Io>,
    pub parser: Parser,
    /// Bytes already read after the login.
    pub buffer: BytesMut,
    pub info: Info,
}

/// The part of INFO that matters here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Info {
    pub server_name: String,
    pub version: String,
    pub max_payload: usize,
    pub tls_required: bool,
    pub nonce: Option<String>,
    pub cluster: Option<String>,
    pub connect_urls: Vec<String>,
}

/// Why one attempt at one address failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("timed out")]
    TimedOut,
    #[error("the server does not speak NATS: {0}")]
    Protocol(String),
    /// The server said no; another server of the cluster would say the same.
    #[error("{0}")]
    Login(String),
}

/// CONNECT, as the protocol reference names the fields.
#[derive(Debug, Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    name: &'a str,
    lang: &'static str,
    version: &'static str,
    protocol: u8,
    echo: bool,
    headers: bool,
    no_responders: bool,
    #[serde(flatten)]
    login: Login,
}

#[derive(Debug, Default, Serialize)]
struct Login {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
}

impl Link {
    /// Connects to one address and logs in, within the configured time.
    pub(crate) async fn open(
        address: &Url,
        config: &BusConfig,
        tls: &Arc<ClientConfig>,
    ) -> Result<Link, LinkError> {
        tokio::time::timeout(config.connect_timeout(), greet(address, config, tls))
            .await
            .map_err(|_| LinkError::TimedOut)?
    }
}

async fn greet(address: &Url, config: &BusConfig, tls: &Arc<ClientConfig>) -> Result<Link, LinkError> {
    let host = address.host_str().unwrap_or("127.0.0.1").trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, address.port().unwrap_or(DEFAULT_PORT))).await?;
    stream.set_nodelay(true)?;
    let mut io: Box<dyn Io> = Box::new(stream);
    if config.tls.first {
        io = secure(io, host, tls).await?;
    }
    let mut parser = Parser::new(GREETING_BYTES);
    let mut buffer = BytesMut::with_capacity(4096);
    let info = match read_frame(&mut io, &mut parser, &mut buffer).await? {
        Frame::Info(json) => parse_info(&json)?,
        other => return Err(LinkError::Protocol(format!("it greets with {other:?}"))),
    };
    let wants_tls = info.tls_required || config.tls.required || address.scheme() == "tls";
    if wants_tls && !config.tls.first {
        if !buffer.is_empty() {
            return Err(LinkError::Protocol("data before TLS".to_owned()));
        }
        io = secure(io, host, tls).await?;
    }
    let connect = connect_line(address, config, &info, wants_tls).await?;
    io.write_all(&connect).await?;
    io.flush().await?;
    await_login(&mut io, &mut parser, &mut buffer).await?;
    parser.set_max_message_bytes(info.max_payload + HEADER_ROOM_BYTES);
    Ok(Link { io, parser, buffer, info })
}

/// Port of an address without one.
pub(crate) const DEFAULT_PORT: u16 = 4222;

/// The server answers PING after it accepted CONNECT, and `-ERR` if it did not.
async fn await_login(
    io: &mut Box<dyn Io>,
    parser: &mut Parser,
    buffer: &mut BytesMut,
) -> Result<(), LinkError> {
    loop {
        match read_frame(io, parser, buffer).await? {
            Frame::Pong => return Ok(()),
            Frame::Error(text) => return Err(LinkError::Login(text)),
            _ => {}
        }
    }
}

async fn read_frame(
    io: &mut Box<dyn Io>,
    parser: &mut Parser,
    buffer: &mut BytesMut,
) -> Result<Frame, LinkError> {
    loop {
        let parsed = parser.next(buffer).map_err(|error| LinkError::Protocol(error.to_string()))?;
        if let Some(frame) = parsed {
            return Ok(frame);
        }
        if io.read_buf(buffer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

pub(crate) fn parse_info(json: &Bytes) -> Result<Info, LinkError> {
    serde_json::from_slice(json).map_err(|error| LinkError::Protocol(format!("INFO: {error}")))
}

async fn secure(io: Box<dyn Io>, host: &str, tls: &Arc<ClientConfig>) -> Result<Box<dyn Io>, LinkError> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| LinkError::Protocol(format!("{host:?} is no name for TLS")))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, io).await?;
    Ok(Box::new(stream))
}

async fn connect_line(
    address: &Url,
    config: &BusConfig,
    info: &Info,
    tls_required: bool,
) -> Result<Vec<u8>, LinkError> {
    let connect = Connect {
        verbose: false,
        pedantic: false,
        tls_required,
        name: &config.name,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        echo: true,
        headers: true,
        no_responders: true,
        login: login(address, &config.auth, info).await?,
    };
    let mut line = b"CONNECT ".to_vec();
    serde_json::to_writer(&mut line, &connect).expect("plain structs become JSON");
    line.extend_from_slice(b"\r\nPING\r\n");
    Ok(line)
}

async fn login(address: &Url, auth: &Auth, info: &Info) -> Result<Login, LinkError> {
    let nonce = info.nonce.as_deref().unwrap_or_default();
    Ok(match auth {
        Auth::None => login_of_address(address),
        Auth::UserPassword { user, password } => {
            Login { user: Some(user.clone()), pass: Some(password.expose().to_owned()), ..Login::default() }
        }
        Auth::Token { token } => Login { auth_token: Some(token.expose().to_owned()), ..Login::default() },
        Auth::NkeySeed { seed } => {
            let key = key_pair(seed.expose())?;
            Login { nkey: Some(key.public_key()), sig: Some(sign(&key, nonce)?), ..Login::default() }
        }
        Auth::CredsFile { path } => {
            let (jwt, seed) = read_creds(path).await?;
            Login { jwt: Some(jwt), sig: Some(sign(&key_pair(&seed)?, nonce)?), ..Login::default() }
        }
    })
}

/// `nats://user:password@host`, or a token in the place of the user.
fn login_of_address(address: &Url) -> Login {
    match (address.username(), address.password()) {
        ("", _) => Login::default(),
        (user, Some(password)) => {
            Login { user: Some(user.to_owned()), pass: Some(password.to_owned()), ..Login::default() }
        }
        (token, None) => Login { auth_token: Some(token.to_owned()), ..Login::default() },
    }
}

fn key_pair(seed: &str) -> Result<KeyPair, LinkError> {
    KeyPair::from_seed(seed.trim())
        .map_err(|error| LinkError::Login(format!("the nkey seed is no seed: {error}")))
}

fn sign(key: &KeyPair, nonce: &str) -> Result<String, LinkError> {
    let signature = key.sign(nonce.as_bytes()).map_err(|error| LinkError::Login(error.to_string()))?;
    Ok(URL_SAFE_NO_PAD.encode(signature))
}

async fn read_creds(path: &Path) -> Result<(String, String), LinkError> {
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| LinkError::Login(format!("{} cannot be read: {error}", path.display())))?;
    creds_parts(&text).ok_or_else(|| LinkError::Login(format!("{} is no credentials file", path.display())))
}

/// JWT and seed: the first lines after the two `-----BEGIN …-----` lines.
fn creds_parts(text: &str) -> Option<(String, String)> {
    let mut lines = text.lines().map(str::trim);
    let mut section = || {
        lines.find(|line| line.starts_with("---") && line.contains("BEGIN"))?;
        lines.find(|line| !line.is_empty()).map(str::to_owned)
    };
    Some((section()?, section()?))
}

/// The TLS side of all connections: the system's authorities, or those of a file.
pub(crate) fn tls_config(config: &TlsConfig) -> Result<ClientConfig, ConnectError> {
    let failed = |setting, reason: String| ConnectError::Config { setting, reason };
    let mut roots = RootCertStore::empty();
    match &config.ca_file {
        Some(path) => {
            for cert in read_certs(path).map_err(|reason| failed("tls.ca_file", reason))? {
                roots.add(cert).map_err(|error| failed("tls.ca_file", error.to_string()))?;
            }
        }
        // A system without authorities is no error here: a server without TLS needs none.
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| failed("tls", error.to_string()))?
        .with_root_certificates(roots);
    match (&config.cert_file, &config.key_file) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let certs = read_certs(cert).map_err(|reason| failed("tls.cert_file", reason))?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| failed("tls.key_file", error.to_string()))?;
            builder
                .with_client_auth_cert(certs, key)
                .map_err(|error| failed("tls.key_file", error.to_string()))
        }
        _ => Err(failed("tls", "cert_file and key_file belong together".to_owned())),
    }
}

fn read_certs(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certs: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(|error| error.to_string())?
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if certs.is_empty() { Err(format!("{} holds no certificate", path.display())) } else { Ok(certs) }
}

/// An address as configured, or as INFO tells it (`host:port`).
pub(crate) fn parse_address(text: &str) -> Result<Url, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let url = Url::parse(&text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "nats" | "tls" if url.host_str().is_some_and(|host| !host.is_empty()) => Ok(url),
        "nats" | "tls" => Err("the host is missing".to_owned()),
        scheme => Err(format!("{scheme}:// is not supported, only nats:// and tls://")),
    }
}

/// An address without its login, for messages.
pub(crate) fn shown(address: &Url) -> String {
    format!("{}:{}", address.host_str().unwrap_or_default(), address.port().unwrap_or(DEFAULT_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_shown_without_login() {
        let address = parse_address("nats://u:secret@h:1").unwrap();
        assert_eq!(shown(&address), "h:1");
        assert_eq!(shown(&parse_address("h").unwrap()), "h:4222");
        assert!(parse_address("http://h").is_err() && parse_address("nats://").is_err());
    }

    #[test]
    fn a_credentials_file_has_two_parts() {
        let text = "-----BEGIN NATS USER JWT-----\nabc.def\n------END NATS USER JWT------\n\n***\n\n\
                    -----BEGIN USER NKEY SEED-----\nSUXX\n------END USER NKEY SEED------\n";
        assert_eq!(creds_parts(text), Some(("abc.def".to_owned(), "SUXX".to_owned())));
        assert_eq!(creds_parts("nothing"), None);
    }
}
