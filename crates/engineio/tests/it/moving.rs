//! Sessions that leave for another node.

use bytes::Bytes;
use engineio::{CloseReason, Frame, Frozen, HeartbeatLeft, Input, Output, Refusal, Session, WsId};

use crate::rig::{Rig, answer, calm, config, payload};

fn travel(frozen: &Frozen) -> Frozen {
    let json = serde_json::to_vec(frozen).expect("it serializes");
    serde_json::from_slice(&json).expect("it comes back")
}

#[test]
fn the_queue_arrives_in_order() {
    let mut rig = Rig::polling(calm());
    rig.give(Input::Reserve(7));
    let id = rig.hold();
    let frames = [Frame::message("a"), Frame::Binary(Bytes::from_static(&[1])), Frame::message("b")];
    for frame in frames.clone() {
        rig.session.handle(&rig.config, rig.now, Input::Send(frame));
    }
    let frozen = rig.session.freeze(&rig.config, rig.now).unwrap();
    assert_eq!(rig.draw(), [answer(id, payload("6"))]);
    assert_eq!(travel(&frozen), frozen);
    let ws = rig.arrive(frozen);
    assert_eq!(rig.session.direct(), None);
    rig.give_only(Input::Send(Frame::message("c")));
    let expected = frames.into_iter().chain([Frame::message("c")]).map(|frame| Output::Ws { ws, frame });
    assert_eq!(rig.draw(), expected.collect::<Vec<_>>());
    assert_eq!(rig.session.direct(), Some(ws));
}

#[test]
fn what_stays_behind_refuses_and_can_only_be_closed() {
    let mut rig = Rig::polling(calm());
    rig.session.freeze(&rig.config, rig.now).unwrap();
    assert_eq!(rig.session.freeze(&rig.config, rig.now), None);
    assert_eq!(rig.session.next_timeout(), None);
    let (id, outputs) = rig.poll();
    assert_eq!(outputs, [answer(id, Refusal::BAD_REQUEST)]);
    let (ws, outputs) = rig.open();
    assert_eq!(outputs, [Output::WsClose { ws, code: 1008 }]);
    assert_eq!(rig.send("nobody"), []);
    assert_eq!(rig.advance(10_000_000), []);
    let reason = CloseReason::MoveFailed;
    assert_eq!(rig.give(Input::Close(reason)), [Output::Closed(reason)]);
}

#[test]
fn only_a_polling_session_freezes() {
    let (mut websocket, _) = Rig::websocket(calm());
    assert_eq!(websocket.session.freeze(&websocket.config, websocket.now), None);
    let mut closing = Rig::polling(calm());
    closing.give(Input::Close(CloseReason::ServerShutdown));
    assert_eq!(closing.session.freeze(&closing.config, closing.now), None);
    let mut dead = Rig::polling(config());
    dead.now += 500;
    assert_eq!(dead.session.freeze(&dead.config, dead.now), None);
    assert_eq!(dead.draw(), [Output::Closed(CloseReason::PingTimeout)]);
}

#[test]
fn a_local_candidate_is_told() {
    let mut rig = Rig::polling(calm());
    let (ws, _) = rig.open();
    rig.session.freeze(&rig.config, rig.now).unwrap();
    assert_eq!(rig.draw(), [Output::WsClose { ws, code: 1008 }]);
}

#[test]
fn the_heartbeat_goes_on_where_it_was() {
    let mut rig = Rig::polling(config());
    rig.now += 100;
    let frozen = rig.session.freeze(&rig.config, rig.now).unwrap();
    assert_eq!(frozen.heartbeat, HeartbeatLeft::PingIn(200));
    let thawed = Session::thaw(frozen, 5, &config(), WsId(1));
    assert_eq!(thawed.next_timeout(), Some(205));

    let mut rig = Rig::polling(config());
    rig.advance(350);
    let frozen = rig.session.freeze(&rig.config, rig.now).unwrap();
    assert_eq!(frozen.heartbeat, HeartbeatLeft::PongWithin(150));
    assert_eq!(frozen.queue, [Frame::PING]);
    let thawed = Session::thaw(frozen, 5, &config(), WsId(1));
    assert_eq!(thawed.next_timeout(), Some(155));
}

#[test]
fn no_other_node_can_stretch_a_heartbeat() {
    for left in [HeartbeatLeft::PingIn(u64::MAX), HeartbeatLeft::PongWithin(u64::MAX)] {
        let frozen = Frozen { queue: Vec::new(), heartbeat: left };
        assert!(Session::thaw(frozen, 0, &config(), WsId(1)).next_timeout().unwrap() <= 300);
    }
}
