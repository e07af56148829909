//! Sessions over polling: one test per behaviour.

use bytes::Bytes;
use engineio::{Answer, CloseReason, Config, Frame, Input, Message, Output, Refusal, Session};

use crate::rig::{Rig, answer, answer_of, calm, config, payload};

fn received(text: &str) -> Output {
    Output::Received(Message::Text(text.into()))
}

#[test]
fn a_poll_waits_for_a_message() {
    let mut rig = Rig::polling(calm());
    let id = rig.hold();
    assert_eq!(rig.send("hello"), [answer(id, payload("4hello"))]);
}

#[test]
fn what_is_sent_in_one_turn_shares_an_answer() {
    let mut rig = Rig::polling(calm());
    let id = rig.hold();
    rig.give_only(Input::Send(Frame::message("a")));
    rig.give_only(Input::Send(Frame::Binary(Bytes::from_static(&[1, 2, 3, 4]))));
    rig.give_only(Input::Send(Frame::message("b")));
    assert_eq!(rig.draw(), [answer(id, payload("4a\x1ebAQIDBA==\x1e4b"))]);
}

#[test]
fn what_was_sent_between_polls_waits() {
    let mut rig = Rig::polling(calm());
    assert_eq!(rig.send("a"), []);
    assert!(rig.session.queued_bytes() > 0);
    assert_eq!(rig.send("b"), []);
    assert_eq!(rig.polled(), payload("4a\x1e4b"));
    assert_eq!(rig.session.queued_bytes(), 0);
    rig.hold();
}

#[test]
fn a_large_queue_takes_several_answers_and_a_large_packet_goes_alone() {
    let mut rig = Rig::polling(Config { answer_max_bytes: 10, ..calm() });
    for text in ["aaaa", "bbb", "c", "too large for one"] {
        rig.send(text);
    }
    assert_eq!(rig.polled(), payload("4aaaa\x1e4bbb"));
    assert_eq!(rig.polled(), payload("4c"));
    assert_eq!(rig.polled(), payload("4too large for one"));
}

#[test]
fn a_post_delivers_all_its_messages_before_ok() {
    let mut rig = Rig::polling(calm());
    let (id, outputs) = rig.post(b"4a\x1ebAQI=\x1e3\x1e4b");
    let binary = Output::Received(Message::Binary(Bytes::from_static(&[1, 2])));
    assert_eq!(outputs, [received("a"), binary, received("b"), answer(id, Answer::Ok)]);
}

#[test]
fn a_body_that_is_no_packet_kills_the_session_and_delivers_nothing() {
    for body in [&b"abc"[..], b"", b"4a\x1ex", b"4\xff", b"2", b"2probe", b"0{}"] {
        let mut rig = Rig::polling(calm());
        let held = rig.hold();
        let (id, outputs) = rig.post(body);
        assert_eq!(
            outputs,
            [
                answer(id, Refusal::BAD_REQUEST),
                answer(held, payload("1")),
                Output::Closed(CloseReason::BadPacket)
            ]
        );
        assert_eq!(rig.polled(), Refusal::UNKNOWN_SID.into());
    }
}

#[test]
fn a_body_over_the_limit_is_too_large_and_kills_the_session() {
    let mut rig = Rig::polling(calm());
    let mut body = vec![b'4'; rig.config.max_payload];
    assert_eq!(rig.post(&body).1.last().unwrap(), &answer(engineio::PollId(1), Answer::Ok));
    body.push(b'4');
    let (id, outputs) = rig.post(&body);
    assert_eq!(outputs, [answer(id, Answer::TooLarge), Output::Closed(CloseReason::PayloadTooLarge)]);
    assert_eq!(rig.post(b"4a").1, [answer(engineio::PollId(3), Refusal::UNKNOWN_SID)]);
}

#[test]
fn a_second_poll_ends_the_session() {
    let mut rig = Rig::polling(calm());
    let first = rig.hold();
    let (second, outputs) = rig.poll();
    assert_eq!(
        outputs,
        [
            answer(first, payload("1")),
            answer(second, Refusal::BAD_REQUEST),
            Output::Closed(CloseReason::OverlappingPoll)
        ]
    );
    assert_eq!(rig.polled(), Refusal::UNKNOWN_SID.into());
}

#[test]
fn a_poll_that_is_being_answered_is_not_open() {
    let mut rig = Rig::polling(calm());
    let first = rig.hold();
    rig.give_only(Input::Send(Frame::message("a")));
    let second = rig.request();
    assert_eq!(rig.give(Input::Poll(second)), [answer(first, payload("4a"))]);
    assert_eq!(rig.send("b"), [answer(second, payload("4b"))]);
}

#[test]
fn a_poll_that_goes_away_closes_the_session() {
    let mut rig = Rig::polling(calm());
    let id = rig.hold();
    assert_eq!(rig.give(Input::PollGone(id)), [Output::Closed(CloseReason::TransportClosed)]);
    assert_eq!(rig.polled(), Refusal::UNKNOWN_SID.into());
}

#[test]
fn an_answered_poll_may_go_away() {
    let mut rig = Rig::polling(calm());
    let id = rig.hold();
    rig.send("a");
    assert_eq!(rig.give(Input::PollGone(id)), []);
    rig.hold();
}

#[test]
fn heartbeats_go_on_while_the_client_answers() {
    let mut rig = Rig::polling(config());
    for _ in 0..5 {
        let id = rig.hold();
        assert_eq!(rig.advance(299), []);
        assert_eq!(rig.advance(1), [answer(id, payload("2"))]);
        rig.now += 199;
        let (post, outputs) = rig.post(b"3");
        assert_eq!(outputs, [answer(post, Answer::Ok)]);
    }
}

#[test]
fn a_silent_client_is_dead_at_the_very_millisecond_without_any_tick() {
    let mut alive = Rig::polling(config());
    alive.now += 499;
    assert_eq!(alive.polled(), payload("2"));
    let mut dead = Rig::polling(config());
    dead.now += 500;
    let (id, outputs) = dead.poll();
    assert_eq!(outputs, [answer(id, Refusal::UNKNOWN_SID), Output::Closed(CloseReason::PingTimeout)]);
}

#[test]
fn a_late_tick_gives_no_extra_time() {
    let mut rig = Rig::polling(config());
    let id = rig.hold();
    assert_eq!(rig.advance(350), [answer(id, payload("2"))]);
    assert_eq!(rig.session.next_timeout(), Some(1500));
    assert_eq!(rig.advance(150), [Output::Closed(CloseReason::PingTimeout)]);
}

#[test]
fn messages_do_not_count_as_pongs() {
    let mut rig = Rig::polling(config());
    rig.now += 490;
    rig.post(b"4still here");
    assert_eq!(rig.advance(10), [Output::Closed(CloseReason::PingTimeout)]);
}

#[test]
fn a_held_poll_is_answered_when_the_heartbeat_ends() {
    let mut rig = Rig::polling(config());
    let first = rig.hold();
    assert_eq!(rig.advance(300), [answer(first, payload("2"))]);
    let second = rig.hold();
    assert_eq!(rig.advance(200), [answer(second, payload("1")), Output::Closed(CloseReason::PingTimeout)]);
}

#[test]
fn the_clients_close_returns_its_poll_with_a_noop() {
    let mut rig = Rig::polling(calm());
    let held = rig.hold();
    let (id, outputs) = rig.post(b"4last\x1e1\x1e4ignored");
    assert_eq!(
        outputs,
        [
            received("last"),
            answer(id, Answer::Ok),
            answer(held, payload("6")),
            Output::Closed(CloseReason::ClientClose)
        ]
    );
    assert_eq!(rig.polled(), Refusal::UNKNOWN_SID.into());
}

#[test]
fn a_poll_overtaken_by_the_clients_close_comes_back_too() {
    let mut rig = Rig::polling(calm());
    let (post, outputs) = rig.post(b"1");
    assert_eq!(outputs, [answer(post, Answer::Ok)]);
    rig.now += Session::CLIENT_CLOSE_LINGER_MS - 1;
    let (id, outputs) = rig.poll();
    assert_eq!(outputs, [answer(id, payload("6")), Output::Closed(CloseReason::ClientClose)]);
    assert_eq!(rig.polled(), Refusal::UNKNOWN_SID.into());
}

#[test]
fn a_close_without_any_poll_ends_soon() {
    let mut rig = Rig::polling(calm());
    rig.post(b"1");
    assert_eq!(rig.advance(Session::CLIENT_CLOSE_LINGER_MS), [Output::Closed(CloseReason::ClientClose)]);
}

#[test]
fn a_server_close_hands_over_what_is_queued_first() {
    let mut rig = Rig::polling(calm());
    rig.send("goodbye");
    assert_eq!(rig.give(Input::Close(CloseReason::ServerDisconnect)), []);
    let (post, outputs) = rig.post(b"4too late");
    assert_eq!(outputs, [answer(post, Answer::Ok)]);
    let (id, outputs) = rig.poll();
    let closed = Output::Closed(CloseReason::ServerDisconnect);
    assert_eq!(outputs, [answer(id, payload("4goodbye\x1e1")), closed]);
}

#[test]
fn a_server_close_answers_the_held_poll() {
    let mut rig = Rig::polling(calm());
    let id = rig.hold();
    rig.give_only(Input::Send(Frame::message("bye")));
    let outputs = rig.give(Input::Close(CloseReason::ServerShutdown));
    assert_eq!(outputs, [answer(id, payload("4bye\x1e1")), Output::Closed(CloseReason::ServerShutdown)]);
}

#[test]
fn a_long_goodbye_takes_several_polls() {
    let mut rig = Rig::polling(Config { answer_max_bytes: 4, ..calm() });
    rig.send("aaa");
    rig.send("bbb");
    rig.give(Input::Close(CloseReason::BadMessage));
    assert_eq!(rig.polled(), payload("4aaa"));
    assert_eq!(rig.polled(), payload("4bbb"));
    assert_eq!(rig.polled(), payload("1"));
    assert_eq!(rig.closed, Some(CloseReason::BadMessage));
}

#[test]
fn a_goodbye_waits_no_longer_than_its_deadline_or_a_second_close() {
    let mut rig = Rig::polling(calm());
    rig.give(Input::Close(CloseReason::ServerShutdown));
    assert_eq!(rig.session.next_timeout(), Some(rig.now + Session::LINGER_MS));
    assert_eq!(rig.advance(Session::LINGER_MS), [Output::Closed(CloseReason::ServerShutdown)]);

    let mut rig = Rig::polling(calm());
    rig.give(Input::Close(CloseReason::TokenExpired));
    assert_eq!(
        rig.give(Input::Close(CloseReason::ServerShutdown)),
        [Output::Closed(CloseReason::TokenExpired)]
    );
}

#[test]
fn a_hard_close_waits_for_nobody() {
    let mut rig = Rig::polling(calm());
    rig.send("lost");
    assert_eq!(rig.give(Input::Close(CloseReason::LeaseLost)), [Output::Closed(CloseReason::LeaseLost)]);
}

#[test]
fn a_queue_over_its_bound_closes_the_session() {
    let mut rig = Rig::polling(calm());
    let mut sent = 0;
    while rig.closed.is_none() {
        rig.give(Input::Send(Frame::Text("4".into())));
        sent += 1;
    }
    assert_eq!(rig.closed, Some(CloseReason::SlowClient));
    assert!(sent <= 64, "small frames count as well");
    assert_eq!(rig.session.queued_bytes(), 0);
}

#[test]
fn a_poll_and_what_it_carries_are_drawn_together_after_many_inputs() {
    let mut rig = Rig::polling(calm());
    let id = rig.request();
    rig.give_only(Input::Poll(id));
    rig.give_only(Input::Send(Frame::message("a")));
    let post = rig.request();
    rig.give_only(Input::Post { id: post, body: Bytes::from_static(b"4x") });
    let outputs = rig.draw();
    assert_eq!(answer_of(&outputs, id), Some(payload("4a")));
    assert_eq!(answer_of(&outputs, post), Some(Answer::Ok));
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 168, "{}", size_of::<Session>());
}
