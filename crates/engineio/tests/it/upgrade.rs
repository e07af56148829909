//! From polling to a WebSocket, at this node or at another: one test per behaviour.

use bytes::Bytes;
use engineio::{CloseReason, Config, Frame, Input, Output, Refusal, Session, WsId};

use crate::rig::{Rig, answer, calm, payload};

fn text(ws: WsId, text: &str) -> Output {
    Output::Ws { ws, frame: Frame::Text(text.into()) }
}

fn refused(ws: WsId) -> Output {
    Output::WsClose { ws, code: 1008 }
}

fn probed() -> (Rig, WsId) {
    let mut rig = Rig::polling(calm());
    let (ws, _) = rig.open();
    assert_eq!(rig.frame(ws, "2probe"), [text(ws, "3probe")]);
    (rig, ws)
}

fn upgraded() -> (Rig, WsId) {
    let (mut rig, ws) = probed();
    assert_eq!(rig.frame(ws, "5"), [Output::Upgraded(ws)]);
    (rig, ws)
}

#[test]
fn a_probe_returns_the_poll_and_five_completes() {
    let mut rig = Rig::polling(calm());
    let id = rig.hold();
    let (ws, outputs) = rig.open();
    assert_eq!(outputs, []);
    assert_eq!(rig.frame(ws, "2probe"), [text(ws, "3probe"), answer(id, payload("6"))]);
    assert_eq!(rig.session.direct(), None);
    assert_eq!(rig.frame(ws, "5"), [Output::Upgraded(ws)]);
    assert_eq!(rig.session.direct(), Some(ws));
    assert_eq!(rig.send("hello"), [text(ws, "4hello")]);
}

#[test]
fn after_the_upgrade_requests_are_refused_and_the_session_goes_on() {
    let (mut rig, ws) = upgraded();
    let (id, outputs) = rig.poll();
    assert_eq!(outputs, [answer(id, Refusal::BAD_REQUEST)]);
    assert_eq!(rig.frame(ws, "4hello").len(), 1);
}

#[test]
fn after_the_upgrade_a_second_websocket_is_closed_and_the_first_goes_on() {
    let (mut rig, ws) = upgraded();
    let (second, outputs) = rig.open();
    assert_eq!(outputs, [refused(second)]);
    assert_eq!(rig.frame(second, "2probe"), []);
    assert_eq!(rig.frame(ws, "4hello").len(), 1);
}

#[test]
fn what_was_queued_while_probing_follows_the_upgrade_in_order() {
    let (mut rig, ws) = probed();
    assert_eq!(rig.send("a"), []);
    let binary = Frame::Binary(Bytes::from_static(&[7]));
    assert_eq!(rig.give(Input::Send(binary.clone())), []);
    rig.give_only(Input::WsFrame { ws, frame: Frame::UPGRADE });
    rig.give_only(Input::Send(Frame::message("b")));
    assert_eq!(
        rig.draw(),
        [Output::Upgraded(ws), text(ws, "4a"), Output::Ws { ws, frame: binary }, text(ws, "4b")]
    );
}

#[test]
fn a_poll_while_probing_comes_back_with_messages_or_after_a_while_with_a_noop() {
    let (mut rig, ws) = probed();
    rig.send("a");
    assert_eq!(rig.polled(), payload("4a"));
    let id = rig.hold();
    assert_eq!(rig.advance(Session::NOOP_DELAY_MS - 1), []);
    assert_eq!(rig.advance(1), [answer(id, payload("6"))]);
    let id = rig.hold();
    assert_eq!(rig.frame(ws, "5"), [answer(id, payload("6")), Output::Upgraded(ws)]);
}

#[test]
fn an_unprobed_websocket_leaves_polls_alone() {
    let mut rig = Rig::polling(calm());
    rig.open();
    let id = rig.hold();
    assert_eq!(rig.advance(5000), []);
    assert_eq!(rig.send("a"), [answer(id, payload("4a"))]);
}

#[test]
fn anything_but_the_probe_and_five_ends_the_attempt_and_polling_goes_on() {
    for (frames, last) in
        [(&[][..], "5"), (&[], "4a"), (&[], "2"), (&[], ""), (&["2probe"], "2probe"), (&["2probe"], "4a")]
    {
        let mut rig = Rig::polling(calm());
        let (ws, _) = rig.open();
        for frame in frames {
            rig.frame(ws, frame);
        }
        assert_eq!(rig.frame(ws, last), [refused(ws)], "{last}");
        let id = rig.hold();
        assert_eq!(rig.advance(5000), [], "no more noops");
        assert_eq!(rig.send("a"), [answer(id, payload("4a"))]);
    }
}

#[test]
fn a_binary_frame_ends_the_attempt() {
    let (mut rig, ws) = probed();
    let frame = Frame::Binary(Bytes::from_static(b"5"));
    assert_eq!(rig.give(Input::WsFrame { ws, frame }), [refused(ws)]);
}

#[test]
fn an_abandoned_probe_leaves_polling_usable() {
    let (mut rig, ws) = probed();
    rig.send("a");
    assert_eq!(rig.gone(ws), []);
    assert_eq!(rig.polled(), payload("4a"));
    let (ws, _) = rig.open();
    assert_eq!(rig.frame(ws, "2probe"), [text(ws, "3probe")]);
    assert_eq!(rig.frame(ws, "5"), [Output::Upgraded(ws)]);
}

#[test]
fn an_upgrade_has_a_deadline() {
    let (mut rig, ws) = probed();
    assert_eq!(rig.session.next_timeout(), Some(rig.now + 10_000));
    assert_eq!(rig.advance(9_999), []);
    rig.now += 1;
    assert_eq!(rig.frame(ws, "5"), [refused(ws)]);
    rig.hold();
}

#[test]
fn a_later_attempt_replaces_an_earlier_one() {
    let (mut rig, first) = probed();
    let (second, outputs) = rig.open();
    assert_eq!(outputs, [refused(first)]);
    assert_eq!(rig.frame(second, "2probe"), [text(second, "3probe")]);
    assert_eq!(rig.give(Input::Reserve(7)), [refused(second)]);
    assert_eq!(rig.give(Input::Reserve(8)), [Output::ReservationLost(7)]);
    let (_, outputs) = rig.open();
    assert_eq!(outputs, [Output::ReservationLost(8)]);
}

#[test]
fn a_close_while_probing_ends_both() {
    let (mut rig, ws) = probed();
    let id = rig.hold();
    let (post, outputs) = rig.post(b"1");
    assert_eq!(
        outputs,
        [
            answer(post, engineio::Answer::Ok),
            refused(ws),
            answer(id, payload("6")),
            Output::Closed(CloseReason::ClientClose)
        ]
    );
}

#[test]
fn a_reservation_returns_polls_with_noops_until_it_is_released() {
    let mut rig = Rig::polling(calm());
    let id = rig.hold();
    assert_eq!(rig.give(Input::Reserve(7)), [answer(id, payload("6"))]);
    let id = rig.hold();
    assert_eq!(rig.advance(Session::NOOP_DELAY_MS), [answer(id, payload("6"))]);
    let id = rig.hold();
    assert_eq!(rig.give(Input::Release(6)), [], "another attempt's token");
    assert_eq!(rig.give(Input::Release(7)), []);
    assert_eq!(rig.advance(5000), []);
    assert_eq!(rig.send("a"), [answer(id, payload("4a"))]);
}

#[test]
fn a_reservation_expires_unless_it_is_renewed() {
    let mut rig = Rig::polling(calm());
    rig.give(Input::Reserve(7));
    assert_eq!(rig.advance(9_999), []);
    assert_eq!(rig.give(Input::Reserve(7)), []);
    assert_eq!(rig.advance(9_999), []);
    assert_eq!(rig.advance(1), [Output::ReservationLost(7)]);
    rig.hold();
}

#[test]
fn a_session_that_does_not_poll_cannot_be_reserved() {
    let (mut rig, _) = upgraded();
    assert_eq!(rig.give(Input::Reserve(7)), [Output::ReservationLost(7)]);
}

#[test]
fn closing_tells_the_node_that_reserved() {
    let mut rig = Rig::polling(calm());
    rig.give(Input::Reserve(7));
    let reason = CloseReason::TokenRevoked;
    assert_eq!(rig.give(Input::Close(reason)), [Output::ReservationLost(7)]);
    let (id, outputs) = rig.poll();
    assert_eq!(outputs, [answer(id, payload("1")), Output::Closed(reason)]);
}

#[test]
fn a_ping_that_is_out_may_be_answered_over_the_websocket() {
    let mut rig = Rig::polling(Config { ping_interval_ms: 300, ..calm() });
    rig.now += 300;
    assert_eq!(rig.polled(), payload("2"));
    let (ws, _) = rig.open();
    rig.frame(ws, "2probe");
    rig.frame(ws, "5");
    rig.now += 100;
    assert_eq!(rig.frame(ws, "3"), []);
    assert_eq!(rig.session.next_timeout(), Some(rig.now + 300));
}
