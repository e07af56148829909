//! The switch to a plain WebSocket. Whatever is no WebSocket at that path is told so; a request without a token is let through: its
//! first frame may bring one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::{Peer, Request, Site, cors, handshake, leaving, refused, switch, text, wants_websocket};
use crate::link::Habits;
use crate::plain::{Shown, shown};
use crate::shard::Control;
use engineio::Refusal;

pub async fn serve(
    State(site): State<Arc<Site>>,
    Extension(Peer(peer)): Extension<Peer>,
    request: Request,
) -> Response {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = site.respond_plain(peer, request);
    cors::allow(&site.shared.app(site.app).config.cors_origins, origin.as_ref(), response.headers_mut());
    response
}

impl Site {
    fn respond_plain(&self, peer: SocketAddr, mut request: Request) -> Response {
        let app = self.shared.app(self.app);
        if !wants_websocket(request.headers()) {
            return upgrade_required();
        }
        if self.is_draining() {
            return leaving();
        }
        if !cors::may_switch(&app.config, request.headers()) {
            return refused(Refusal { message: "Origin not allowed", ..Refusal::FORBIDDEN });
        }
        let (opening, _) = match handshake::opening(app, peer, &request) {
            Ok(opened) => opened,
            Err(message) => return refused(Refusal { message, ..Refusal::FORBIDDEN }),
        };
        let Shown { token, protocol } = shown(app, request.headers());
        let Some((mut response, upgrade)) = switch(&mut request) else {
            return refused(Refusal::BAD_REQUEST);
        };
        if let Some(protocol) = protocol {
            let chosen = HeaderValue::from_static(protocol);
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
        }
        // Its binary messages are bytes, whatever the query says.
        let habits = Habits { base64: false, ..self.habits(&request, &mut response) };
        self.here.control(Control::OpenPlain { opening: Box::new(opening), upgrade, habits, token });
        response
    }
}

fn upgrade_required() -> Response {
    let refusal = Refusal { message: "This path takes WebSockets only", ..Refusal::BAD_REQUEST };
    let mut response = text(StatusCode::UPGRADE_REQUIRED, "application/json", Body::from(refusal.body()));
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response
}
