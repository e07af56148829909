//! The switch to a plain WebSocket. Whatever is no WebSocket at that path is told so; a request without a token is let through: its
//! first frame may bring one.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use http::{HeaderValue, header};

use super::refusals::upgrade_required;
use super::{
    Asked, Peer, Request, Site, cors, handshake, leaving, refused, switch, wants_websocket, wrong_origin,
};
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
    let websocket = wants_websocket(request.headers());
    let asked = Asked::of(request.method(), request.uri(), origin.as_ref(), websocket);
    let mut response = site.respond_plain(peer, request);
    site.note_refusal(peer, &asked, &response);
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
            return wrong_origin();
        }
        let (opening, _) = match handshake::opening(&self.shared, app, peer, &request) {
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
