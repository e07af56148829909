//! HTTP/1.1 as a polling client needs it: one request at a time on a kept-alive connection, and the upgrade to
//! WebSocket. No TLS, no redirects, no proxies.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use url::Url;

/// Any fixed nonce will do: the answer's `Sec-WebSocket-Accept` guards against caches, of which there are none here.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

const MAX_HEAD_BYTES: usize = 16 * 1024;

/// A server's address, as parsed from a URL given by the user.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub host: String,
    pub addr: SocketAddr,
}

#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not a plain http:// URL: {0}")]
    Url(String),
    #[error("malformed HTTP response: {0}")]
    Malformed(&'static str),
    #[error("status {status}: {body}")]
    Status { status: u16, body: String },
}

impl Endpoint {
    /// Resolves `http://host:port`; the first address wins.
    pub fn parse(text: &str) -> Result<Endpoint, HttpError> {
        let refused = || HttpError::Url(text.to_owned());
        let url = Url::parse(text).map_err(|_| refused())?;
        if !matches!(url.scheme(), "http" | "ws") {
            return Err(refused());
        }
        let port = url.port_or_known_default().ok_or_else(refused)?;
        let host = url.host_str().ok_or_else(refused)?;
        let addr = (host.trim_matches(['[', ']']), port).to_socket_addrs()?.next().ok_or_else(refused)?;
        Ok(Endpoint { host: format!("{host}:{port}"), addr })
    }

    /// `source`: the local address to bind, which widens the choice of local ports.
    pub async fn dial(&self, source: Option<IpAddr>) -> io::Result<TcpStream> {
        let socket = if self.addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(self.addr).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// A kept-alive connection, opened when first needed and again when the server closed it.
pub struct HttpClient {
    endpoint: Endpoint,
    source: Option<IpAddr>,
    stream: Option<TcpStream>,
    buf: Vec<u8>,
}

impl HttpClient {
    pub fn new(endpoint: Endpoint, source: Option<IpAddr>) -> Self {
        HttpClient { endpoint, source, stream: None, buf: Vec::new() }
    }

    pub async fn get(&mut self, target: &str) -> Result<Vec<u8>, HttpError> {
        let head = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", self.endpoint.host);
        self.exchange(head.as_bytes()).await
    }

    pub async fn post(&mut self, target: &str, body: &[u8]) -> Result<Vec<u8>, HttpError> {
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: {}\r\n\r\n",
            self.endpoint.host,
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.exchange(&request).await
    }

    /// A server may close a kept-alive connection just as a request leaves: such a request is sent once more.
    async fn exchange(&mut self, request: &[u8]) -> Result<Vec<u8>, HttpError> {
        let (mut stream, head) = match self.stream.take() {
            Some(stream) => match self.attempt(stream, request).await {
                Err(HttpError::Io(_)) if self.buf.is_empty() => self.attempt_anew(request).await?,
                outcome => outcome?,
            },
            None => self.attempt_anew(request).await?,
        };
        let body = read_body(&mut stream, &mut self.buf, &head).await?;
        if !head.close {
            self.stream = Some(stream);
        }
        if head.status == 200 {
            return Ok(body);
        }
        Err(HttpError::Status { status: head.status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    async fn attempt_anew(&mut self, request: &[u8]) -> Result<(TcpStream, Head), HttpError> {
        let stream = self.endpoint.dial(self.source).await?;
        self.attempt(stream, request).await
    }

    async fn attempt(
        &mut self,
        mut stream: TcpStream,
        request: &[u8],
    ) -> Result<(TcpStream, Head), HttpError> {
        self.buf.clear();
        stream.write_all(request).await?;
        let head = read_head(&mut stream, &mut self.buf).await?;
        Ok((stream, head))
    }
}

/// Upgrades a new connection to WebSocket. Returns it with the bytes that came right behind the 101.
pub async fn upgrade(
    endpoint: &Endpoint,
    source: Option<IpAddr>,
    target: &str,
) -> Result<(TcpStream, Vec<u8>), HttpError> {
    let mut stream = endpoint.dial(source).await?;
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {WEBSOCKET_KEY}\r\n\r\n",
        endpoint.host
    );
    stream.write_all(request.as_bytes()).await?;
    let mut buf = Vec::new();
    let head = read_head(&mut stream, &mut buf).await?;
    if head.status == 101 {
        return Ok((stream, buf));
    }
    let body = read_body(&mut stream, &mut buf, &head).await?;
    Err(HttpError::Status { status: head.status, body: String::from_utf8_lossy(&body).into_owned() })
}

struct Head {
    status: u16,
    length: usize,
    chunked: bool,
    close: bool,
}

/// Reads to the end of the head; `buf` keeps what follows it.
async fn read_head(stream: &mut TcpStream, buf: &mut Vec<u8>) -> Result<Head, HttpError> {
    loop {
        if let Some(end) = memchr::memmem::find(buf, b"\r\n\r\n") {
            let head = parse_head(&buf[..end])?;
            buf.drain(..end + 4);
            return Ok(head);
        }
        if buf.len() > MAX_HEAD_BYTES {
            return Err(HttpError::Malformed("endless head"));
        }
        more(stream, buf).await?;
    }
}

fn parse_head(head: &[u8]) -> Result<Head, HttpError> {
    let text = std::str::from_utf8(head).map_err(|_| HttpError::Malformed("head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let status = status.ok_or(HttpError::Malformed("no status"))?;
    let mut parsed = Head { status, length: 0, chunked: false, close: false };
    for line in lines {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                parsed.length = value.parse().map_err(|_| HttpError::Malformed("content length"))?;
            }
            "transfer-encoding" => parsed.chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => parsed.close = value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    Ok(parsed)
}

async fn read_body(stream: &mut TcpStream, buf: &mut Vec<u8>, head: &Head) -> Result<Vec<u8>, HttpError> {
    if !head.chunked {
        while buf.len() < head.length {
            more(stream, buf).await?;
        }
        return Ok(buf.drain(..head.length).collect());
    }
    let mut body = Vec::new();
    loop {
        let line_end = loop {
            match memchr::memmem::find(buf, b"\r\n") {
                Some(end) => break end,
                None => more(stream, buf).await?,
            }
        };
        let size =
            std::str::from_utf8(&buf[..line_end]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let size = size.ok_or(HttpError::Malformed("chunk size"))?;
        let (start, end) = (line_end + 2, line_end + 2 + size);
        while buf.len() < end + 2 {
            more(stream, buf).await?;
        }
        body.extend_from_slice(&buf[start..end]);
        buf.drain(..end + 2);
        if size == 0 {
            return Ok(body);
        }
    }
}

async fn more(stream: &mut TcpStream, buf: &mut Vec<u8>) -> Result<(), HttpError> {
    match stream.read_buf(buf).await? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_read_whatever_the_case_of_their_names() {
        let head = b"HTTP/1.1 400 Bad Request\r\ncontent-LENGTH: 17\r\nConnection: Close";
        let parsed = parse_head(head).unwrap();
        assert_eq!((parsed.status, parsed.length, parsed.chunked, parsed.close), (400, 17, false, true));
        assert!(parse_head(b"nonsense").is_err());
    }

    #[test]
    fn only_plain_http_urls_are_endpoints() {
        assert_eq!(Endpoint::parse("http://127.0.0.1:3000").unwrap().addr, "127.0.0.1:3000".parse().unwrap());
        assert_eq!(Endpoint::parse("http://[::1]:3000/x").unwrap().addr, "[::1]:3000".parse().unwrap());
        assert!(matches!(Endpoint::parse("https://127.0.0.1"), Err(HttpError::Url(_))));
        assert!(matches!(Endpoint::parse("127.0.0.1:3000"), Err(HttpError::Url(_))));
    }
}
