//! Sessions over a WebSocket: one test per behaviour.

use bytes::Bytes;
use engineio::{CloseReason, Frame, Input, Message, Output, Refusal, WsId};

use crate::rig::{Rig, answer, calm, config};

fn text(ws: WsId, text: &str) -> Output {
    Output::Ws { ws, frame: Frame::Text(text.into()) }
}

#[test]
fn frames_go_both_ways() {
    let (mut rig, ws) = Rig::websocket(calm());
    assert_eq!(rig.send("hello"), [text(ws, "4hello")]);
    let binary = Frame::Binary(Bytes::from_static(&[1, 2]));
    assert_eq!(rig.give(Input::Send(binary.clone())), [Output::Ws { ws, frame: binary.clone() }]);
    assert_eq!(rig.frame(ws, "4hi"), [Output::Received(Message::Text("hi".into()))]);
    let received = rig.give(Input::WsFrame { ws, frame: binary });
    assert_eq!(received, [Output::Received(Message::Binary(Bytes::from_static(&[1, 2])))]);
}

#[test]
fn frames_may_be_written_directly_while_nothing_waits() {
    let (mut rig, ws) = Rig::websocket(calm());
    assert_eq!(rig.session.direct(), Some(ws));
    rig.give_only(Input::Send(Frame::message("a")));
    assert_eq!(rig.session.direct(), None);
    rig.draw();
    assert_eq!(rig.session.direct(), Some(ws));
    assert_eq!(Rig::polling(calm()).session.direct(), None);
}

#[test]
fn heartbeats_go_on_while_the_client_answers() {
    let (mut rig, ws) = Rig::websocket(config());
    for _ in 0..5 {
        assert_eq!(rig.advance(299), []);
        assert_eq!(rig.advance(1), [text(ws, "2")]);
        rig.now += 199;
        assert_eq!(rig.frame(ws, "3"), []);
    }
    assert_eq!(rig.advance(300), [text(ws, "2")]);
    let code = CloseReason::PingTimeout.ws_code();
    assert_eq!(rig.advance(200), [Output::WsClose { ws, code }, Output::Closed(CloseReason::PingTimeout)]);
}

#[test]
fn bad_frames_close_the_session() {
    let table = [
        ("", CloseReason::BadPacket),
        ("abc", CloseReason::BadPacket),
        ("bAAEC", CloseReason::BadPacket),
        ("2", CloseReason::BadPacket),
        ("1x", CloseReason::BadPacket),
        ("1", CloseReason::ClientClose),
    ];
    for (frame, reason) in table {
        let (mut rig, ws) = Rig::websocket(calm());
        let outputs = rig.frame(ws, frame);
        assert_eq!(
            outputs,
            [Output::WsClose { ws, code: reason.ws_code() }, Output::Closed(reason)],
            "{frame}"
        );
        assert_eq!(rig.frame(ws, "4late"), [], "nothing is received after the close");
    }
}

#[test]
fn a_message_over_the_limit_closes_with_1009() {
    let (mut rig, ws) = Rig::websocket(calm());
    assert_eq!(rig.frame(ws, &"4".repeat(1000)).len(), 1);
    let outputs = rig.frame(ws, &"4".repeat(1001));
    assert_eq!(outputs, [Output::WsClose { ws, code: 1009 }, Output::Closed(CloseReason::PayloadTooLarge)]);
}

#[test]
fn a_websocket_that_ends_closes_the_session() {
    let (mut rig, ws) = Rig::websocket(calm());
    assert_eq!(rig.gone(ws), [Output::Closed(CloseReason::TransportClosed)]);
}

#[test]
fn a_server_close_writes_what_is_queued_first() {
    let (mut rig, ws) = Rig::websocket(calm());
    rig.give_only(Input::Send(Frame::message("bye")));
    let reason = CloseReason::ServerShutdown;
    let outputs = rig.give(Input::Close(reason));
    assert_eq!(outputs, [text(ws, "4bye"), Output::WsClose { ws, code: 1001 }, Output::Closed(reason)]);
    assert_eq!(rig.give(Input::Close(CloseReason::Internal)), [], "closed once");
}

#[test]
fn requests_to_a_websocket_session_are_refused() {
    let (mut rig, ws) = Rig::websocket(calm());
    let (id, outputs) = rig.poll();
    assert_eq!(outputs, [answer(id, Refusal::BAD_REQUEST)]);
    let (id, outputs) = rig.post(b"4x");
    assert_eq!(outputs, [answer(id, Refusal::BAD_REQUEST)]);
    assert_eq!(rig.send("on"), [text(ws, "4on")]);
}
