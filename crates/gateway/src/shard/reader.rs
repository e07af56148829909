//! The task behind a WebSocket: tungstenite reads frames, the session takes them. Writing is the link's.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use cluster::forwarding::Ask;
use cluster::sid::NodeId;
use engineio::{Frame, Input, Text, WsId};
use futures_util::{FutureExt, SinkExt, StreamExt};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::session::{Opening, SessionKey};
use super::{Control, Shard};
use crate::inflating::Inflating;
use crate::link::{Habits, Link, LinkIo};

/// Per connection, zero-filled by tungstenite: its default of 128 KiB would be most of an idle connection.
const READ_BUFFER_BYTES: usize = 2 * 1024;

/// Frames taken in one turn, so that their answers share a write without starving other sockets.
const FRAMES_PER_TURN: usize = 32;

/// How long the client may take to close after us.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// A handshake over WebSocket: the session begins when the connection has switched protocols.
pub async fn open(shard: Rc<Shard>, opening: Opening, upgrade: OnUpgrade, habits: Habits) {
    let Some((stream, ahead)) = switched(upgrade).await else { return };
    let (app, peer) = (opening.app, opening.peer);
    let link = Rc::new(Link::new(stream, habits));
    let opened = shard.turn(|state, shard| state.open_websocket(shard, opening, link.clone()));
    match opened {
        Some((key, ws)) => read(shard, app, key, ws, link, ahead).await,
        None => turn_away(&shard, app, peer, &link),
    }
}

/// A plain WebSocket.
pub async fn open_plain(
    shard: Rc<Shard>,
    opening: Opening,
    upgrade: OnUpgrade,
    habits: Habits,
    token: Option<dialects::Token>,
) {
    let Some((stream, ahead)) = switched(upgrade).await else { return };
    let (app, peer) = (opening.app, opening.peer);
    let link = Rc::new(Link::plain(stream, habits));
    let opened = shard.turn(|state, shard| state.open_plain(shard, opening, link.clone(), token));
    match opened {
        Some((key, ws)) => read(shard, app, key, ws, link, ahead).await,
        None => turn_away(&shard, app, peer, &link),
    }
}

/// The application has as many sessions as it may; the protocol is switched already.
fn turn_away(shard: &Shard, app: u16, peer: std::net::IpAddr, link: &Rc<Link>) {
    let app = shard.shared.app(app).name();
    shard.shared.metrics.handshakes_refused.with_label_values(&[app, "full"]).inc();
    let known = "Too many sessions (limits.max_sessions)";
    tracing::info!(target: super::ACCESS, app, %peer, transport = "websocket", reason = "full", known, node = %shard.shared.id, "request refused");
    link.finish(crate::link::ws_close_bytes(1013));
}

/// A WebSocket for a session that polls: here, at another core, or at another node.
pub async fn upgrade(shard: Rc<Shard>, app: u16, sid: String, upgrade: OnUpgrade, habits: Habits) {
    let Some((stream, ahead)) = switched(upgrade).await else { return };
    let Some(address) = shard.shared.key.open(&sid, shard.shared.app(app).name()) else { return };
    if address.node != shard.shared.id {
        let link = Rc::new(Link::new(stream, habits));
        let key = shard.turn(|state, _| state.add_arriving(app, &sid, address.node, link.clone()));
        tokio::task::spawn_local(watch_silent(shard.clone(), key, address.node, sid));
        return read(shard, app, key, WsId(0), link, ahead).await;
    }
    if address.shard == shard.ix {
        return attach_here(&shard, &sid, stream, ahead, habits);
    }
    let (Some(owner), Ok(stream)) = (shard.all.get(usize::from(address.shard)), stream.into_std()) else {
        return;
    };
    owner.control(Control::Attach { sid, stream, ahead, habits });
}

/// A WebSocket that says nothing holds a place here, and its session may be gone: the owner is asked from time to time, and
/// the WebSocket is closed when there is nothing left to upgrade, or after the upgrade's time.
async fn watch_silent(shard: Rc<Shard>, key: SessionKey, owner: NodeId, sid: String) {
    const ASK_EVERY: Duration = Duration::from_millis(300);
    let Some(limit_ms) = shard.turn(|state, shard| state.silent_limit_ms(shard, key)) else { return };
    let started = shard.now();
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        if shard.turn(|state, shard| state.silent_limit_ms(shard, key)).is_none() {
            return;
        }
        let req = rand::random();
        let answer = shard.shared.peers.forward(req, owner, &sid, Ask::Check).await.ok().and_then(Result::ok);
        shard.shared.peers.written(req);
        let known = answer.is_some_and(|answer| answer.status == 200);
        if !known || shard.now() > started + limit_ms {
            return shard.turn(|state, shard| state.abandon_silent(shard, key));
        }
    }
}

/// A WebSocket that arrived at another core, for a session of this one.
pub fn attach(shard: &Rc<Shard>, sid: &str, stream: std::net::TcpStream, ahead: Bytes, habits: Habits) {
    match TcpStream::from_std(stream) {
        Ok(stream) => attach_here(shard, sid, stream, ahead, habits),
        Err(error) => tracing::warn!(%error, "a WebSocket could not change cores"),
    }
}

fn attach_here(shard: &Rc<Shard>, sid: &str, stream: TcpStream, ahead: Bytes, habits: Habits) {
    let link = Rc::new(Link::new(stream, habits));
    let attached = shard.turn(|state, shard| {
        let key = state.sessions.by_sid(sid)?;
        state.with_session(shard, key, |_, session| {
            // An upgrade at another node is under way: this one comes too late.
            if session.move_key().is_some() {
                return None;
            }
            let ws = session.new_ws();
            session.links.push((ws, link.clone()));
            session.engine.handle(&shard.shared.app(session.app).engine, shard.now(), Input::WsOpen(ws));
            Some((session.app, session.key, ws))
        })?
    });
    match attached {
        Some((app, key, ws)) => {
            drop(tokio::task::spawn_local(read(shard.clone(), app, key, ws, link, ahead)))
        }
        None => link.finish(crate::link::ws_close_bytes(1008)),
    }
}

/// The TCP connection behind an upgraded request, and what was read of it already.
async fn switched(upgrade: OnUpgrade) -> Option<(TcpStream, Bytes)> {
    let upgraded: Upgraded = upgrade.await.ok()?;
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    Some((parts.io.into_inner(), parts.read_buf))
}

async fn read(shard: Rc<Shard>, app: u16, key: SessionKey, ws: WsId, link: Rc<Link>, ahead: Bytes) {
    shard.readers.set(shard.readers.get() + 1);
    let max = shard.shared.app(app).limits.max_payload_bytes;
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(max))
        .max_frame_size(Some(max));
    let inflating = link.habits.compress_over.map(|_| Box::new(Inflating::new(max)));
    let io = LinkIo { link: link.clone(), ahead, inflating };
    let mut stream = Box::pin(WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await);
    loop {
        let first = tokio::select! {
            biased;
            () = link.closing.notified() => break,
            message = stream.next() => message,
        };
        let mut end = None;
        let mut frames = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            match frame(message, link.plain) {
                Read::Frame(frame) if link.habits.base64 => frames.push(crate::link::from_base64(frame)),
                Read::Frame(frame) => frames.push(frame),
                Read::Nothing => {}
                Read::End(reason) => end = Some(reason),
            }
            if end.is_none() && frames.len() < FRAMES_PER_TURN {
                next = stream.next().now_or_never();
            }
        }
        let paused = shard.turn(|state, shard| {
            let mut paused = false;
            for frame in frames {
                paused = state.ws_frame(shard, key, ws, frame);
            }
            if let Some(reason) = &end {
                state.ws_gone(shard, key, ws, reason);
            }
            paused
        });
        if let Some(reason) = end {
            // What Engine.IO's clients are told is theirs to send; a plain client goes by the code.
            if let End::Broken { code, .. } = reason
                && link.plain
            {
                link.finish(crate::link::ws_close_bytes(code));
            }
            break;
        }
        if paused {
            tokio::select! {
                biased;
                () = link.closing.notified() => break,
                () = link.resume.notified() => {}
            }
        }
    }
    // tungstenite's answer to a close of the client is still in its hands; then this side ends first, as RFC 6455 7.1.1 asks.
    let _ = stream.flush().await;
    link.end();
    drop(stream);
    let _ = tokio::time::timeout(CLOSE_WAIT, link.discard()).await;
    link.abandon();
    shard.readers.set(shard.readers.get() - 1);
}

enum Read {
    Frame(Frame),
    /// A ping, pong or the like, answered already.
    Nothing,
    End(End),
}

/// Why nothing more is read.
pub enum End {
    /// The client closed the WebSocket, with this code if it gave one.
    Closed(Option<u16>),
    /// The connection is gone.
    Gone(Option<std::io::ErrorKind>),
    TooLarge,
    /// The client broke RFC 6455.
    Broken {
        code: u16,
        what: &'static str,
    },
}

impl End {
    /// For the log.
    pub fn known(&self) -> String {
        match self {
            Self::Closed(Some(code)) => format!("the client closed the WebSocket with {code}"),
            Self::Closed(None) => "the client closed the WebSocket".to_owned(),
            Self::Gone(Some(kind)) => format!("the WebSocket's connection broke: {kind}"),
            Self::Gone(None) => "the WebSocket's connection ended without a close frame".to_owned(),
            Self::TooLarge => "too large a message".to_owned(),
            Self::Broken { what, .. } => format!("the client broke RFC 6455: {what}"),
        }
    }
}

const NO_TEXT: End = End::Broken { code: 1007, what: "a text message that is no UTF-8" };

/// What the session machine is given. A plain client's messages are packets without a type; the WebSocket's pong is its pong.
fn frame(message: Option<Result<Message, Error>>, plain: bool) -> Read {
    match message {
        Some(Ok(Message::Text(text))) if plain => Read::Frame(Frame::message(text.as_str())),
        Some(Ok(Message::Text(text))) => match Text::try_from(Bytes::from(text)) {
            Ok(text) => Read::Frame(Frame::Text(text)),
            Err(_) => Read::End(NO_TEXT),
        },
        Some(Ok(Message::Binary(bytes))) => Read::Frame(Frame::Binary(bytes)),
        Some(Ok(Message::Pong(_))) if plain => Read::Frame(Frame::Text(Text::from_static("3"))),
        Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => Read::Nothing,
        Some(Err(Error::Capacity(_))) => Read::End(End::TooLarge),
        Some(Err(Error::Utf8(_))) => Read::End(NO_TEXT),
        Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) | None => {
            Read::End(End::Gone(None))
        }
        Some(Err(Error::Protocol(_))) => Read::End(End::Broken { code: 1002, what: "a malformed frame" }),
        Some(Ok(Message::Close(frame))) => Read::End(End::Closed(frame.map(|frame| frame.code.into()))),
        Some(Err(Error::Io(error))) => Read::End(End::Gone(Some(error.kind()))),
        Some(Err(_)) => Read::End(End::Gone(None)),
    }
}
