//! Single exchanges: what the simulation cannot name.

use std::sync::Arc;

use bytes::Bytes;
use cluster::forwarding::*;
use cluster::node_message::{AskPart, ForwardAsk, ForwardReply, NodeMessage, Sid};

use crate::net::node;

fn sid() -> Sid {
    Arc::from("b-session")
}

fn start(forwarder: &mut Forwarder, req: u64, ask: Ask) -> Vec<ForwarderOutput> {
    forwarder.handle(0, ForwarderInput::Start { req, owner: node("b"), sid: sid(), ask });
    std::iter::from_fn(|| forwarder.poll_output()).collect()
}

fn tell(owner: &mut ForwardOwner, now: Millis, req: u64, msg: ForwardAsk) -> Vec<ForwardOwnerOutput> {
    owner.handle(now, ForwardOwnerInput::Message { from: node("a"), req, msg });
    std::iter::from_fn(|| owner.poll_output()).collect()
}

fn get() -> ForwardAsk {
    ForwardAsk::Request { sid: sid(), part: AskPart::Get }
}

fn key(req: u64) -> ForwardKey {
    ForwardKey { req, from: node("a") }
}

fn fail(req: u64, reason: FailReason) -> ForwarderOutput {
    ForwarderOutput::Fail { req, reason }
}

fn answer(body: &'static [u8]) -> Answer {
    Answer { status: 200, content: Arc::from("text/plain"), body: Bytes::from_static(body) }
}

#[test]
fn an_unconfirmed_request_fails_after_three_misses() {
    let mut forwarder = Forwarder::new(ForwardLimits::default());
    assert_eq!(start(&mut forwarder, 1, Ask::Get).len(), 1);
    let mut times = Vec::new();
    while let Some(at) = forwarder.next_timeout() {
        times.push(at);
        forwarder.handle(at, ForwarderInput::Tick);
    }
    assert_eq!(times, [500, 1_000, 1_500]);
    let last = std::iter::from_fn(|| forwarder.poll_output()).last();
    assert_eq!(last, Some(fail(1, FailReason::Unconfirmed)));
}

#[test]
fn a_held_request_outlives_two_missed_confirmations() {
    let mut forwarder = Forwarder::new(ForwardLimits::default());
    start(&mut forwarder, 1, Ask::Get);
    let confirm = |from: &str| ForwarderInput::Message {
        from: node(from),
        req: 1,
        msg: ForwardReply::Confirm { have: 1 },
    };
    forwarder.handle(400, confirm("b"));
    assert_eq!(forwarder.next_timeout(), Some(2_900));
    forwarder.handle(2_900, ForwarderInput::Tick);
    forwarder.handle(4_900, ForwarderInput::Tick);
    // Another node's word counts for nothing.
    forwarder.handle(4_950, confirm("c"));
    assert_eq!(forwarder.next_timeout(), Some(6_900));
    forwarder.handle(5_000, confirm("b"));
    assert_eq!(forwarder.next_timeout(), Some(7_500));
}

#[test]
fn without_an_owner_a_request_fails_at_once() {
    let mut forwarder = Forwarder::new(ForwardLimits::default());
    start(&mut forwarder, 1, Ask::Check);
    forwarder.handle(1, ForwarderInput::NoResponders { req: 1 });
    assert_eq!(forwarder.poll_output(), Some(fail(1, FailReason::NoOwner)));
    assert_eq!((forwarder.poll_output(), forwarder.next_timeout()), (None, None));
}

#[test]
fn the_forwarders_table_is_bounded_in_number_and_bytes() {
    let mut forwarder = Forwarder::new(ForwardLimits { max_forwards: 2, max_bytes: 10 });
    assert_eq!(start(&mut forwarder, 1, Ask::Post(Bytes::from_static(b"12345678"))).len(), 1);
    let over = Ask::Post(Bytes::from_static(b"123"));
    assert_eq!(start(&mut forwarder, 2, over), [fail(2, FailReason::Overloaded)]);
    assert_eq!(start(&mut forwarder, 3, Ask::Get).len(), 1);
    assert_eq!(start(&mut forwarder, 4, Ask::Get), [fail(4, FailReason::Overloaded)]);
    forwarder.handle(5, ForwarderInput::ClientGone { req: 1 });
    let full = Bytes::from(vec![0; 33 * 1024 * 1024]);
    assert_eq!(start(&mut forwarder, 5, Ask::Post(full)).last(), Some(&fail(5, FailReason::TooLarge)));
}

#[test]
fn the_owners_table_is_bounded_and_refuses_with_503() {
    let mut owner = ForwardOwner::new(ForwardLimits { max_forwards: 1, max_bytes: 4 });
    assert!(matches!(tell(&mut owner, 0, 1, get())[..], [ForwardOwnerOutput::Deliver { .. }]));
    for _ in 0..2 {
        let refused = tell(&mut owner, 0, 2, get());
        let [ForwardOwnerOutput::Send { msg: NodeMessage::ForwardReply { req: 2, msg }, .. }] = &refused[..]
        else {
            panic!("{refused:?}");
        };
        assert!(matches!(msg, ForwardReply::Answer { status: 503, .. }));
    }
    // An answer that nobody can hold: the poll took it out of the session, so the session must close.
    owner.handle(1, ForwardOwnerInput::Answered { key: key(1), answer: answer(b"12345") });
    let said: Vec<_> = std::iter::from_fn(|| owner.poll_output()).collect();
    assert!(
        matches!(said[..], [ForwardOwnerOutput::PollGone { .. }, ForwardOwnerOutput::Send { .. }]),
        "{said:?}"
    );
}

#[test]
fn a_hang_up_that_overtakes_its_request_prevents_it() {
    let mut owner = ForwardOwner::new(ForwardLimits::default());
    assert_eq!(tell(&mut owner, 0, 1, ForwardAsk::Gone), []);
    assert_eq!(tell(&mut owner, 1, 1, get()), []);
}

#[test]
fn a_finished_request_is_remembered_for_half_a_minute() {
    let mut owner = ForwardOwner::new(ForwardLimits::default());
    tell(&mut owner, 0, 1, get());
    owner.handle(10, ForwardOwnerInput::Answered { key: key(1), answer: answer(b"6") });
    while owner.poll_output().is_some() {}
    tell(&mut owner, 20, 1, ForwardAsk::Wrote);
    assert_eq!(owner.next_timeout(), None);
    assert_eq!(tell(&mut owner, 30_000, 1, get()), []);
}

#[test]
fn a_slow_reader_keeps_its_answer_as_long_as_it_reads() {
    let mut owner = ForwardOwner::new(ForwardLimits::default());
    tell(&mut owner, 0, 1, get());
    owner.handle(0, ForwardOwnerInput::Answered { key: key(1), answer: answer(b"4hello") });
    tell(&mut owner, 300, 1, ForwardAsk::Writing);
    for _ in 0..20 {
        let at = owner.next_timeout().expect("the owner asks on");
        owner.handle(at, ForwardOwnerInput::Tick);
        assert!(matches!(owner.poll_output(), Some(ForwardOwnerOutput::Send { .. })));
        assert_eq!(tell(&mut owner, at, 1, ForwardAsk::Writing), []);
    }
    owner.handle(50_000, ForwardOwnerInput::NoResponders { req: 1 });
    assert_eq!(owner.poll_output(), Some(ForwardOwnerOutput::PollGone { key: key(1), sid: sid() }));
}

#[test]
fn an_unknown_session_is_answered_with_code_1() {
    let mut owner = ForwardOwner::new(ForwardLimits::default());
    tell(&mut owner, 0, 1, get());
    owner.handle(0, ForwardOwnerInput::SessionGone { key: key(1) });
    let said = owner.poll_output();
    let Some(ForwardOwnerOutput::Send { msg: NodeMessage::ForwardReply { msg, .. }, .. }) = said else {
        panic!("{said:?}");
    };
    let ForwardReply::Answer { status: 400, bytes, .. } = msg else { panic!("{msg:?}") };
    assert_eq!(bytes, r#"{"code":1,"message":"Session ID unknown"}"#);
}

#[test]
fn a_written_answer_is_confirmed_at_once_and_again_when_doubled() {
    let mut forwarder = Forwarder::new(ForwardLimits::default());
    start(&mut forwarder, 1, Ask::Get);
    let (content, bytes) = (Arc::from("text/plain"), Bytes::from_static(b"6"));
    let msg = ForwardReply::Answer { part: 0, parts: 1, status: 200, content, bytes };
    let again = ForwarderInput::Message { from: node("b"), req: 1, msg };
    let says = |msg| ForwarderOutput::Send { to: node("b"), msg: NodeMessage::ForwardAsk { req: 1, msg } };
    forwarder.handle(10, again.clone());
    assert_eq!(forwarder.poll_output(), Some(ForwarderOutput::Answer { req: 1, answer: answer(b"6") }));
    forwarder.handle(20, again.clone());
    assert_eq!(forwarder.poll_output(), Some(says(ForwardAsk::Writing)));
    forwarder.handle(30, ForwarderInput::Written { req: 1 });
    assert_eq!(forwarder.poll_output(), Some(says(ForwardAsk::Wrote)));
    forwarder.handle(40, again);
    assert_eq!(forwarder.poll_output(), Some(says(ForwardAsk::Wrote)));
    assert_eq!(forwarder.poll_output(), None);
}

#[test]
fn a_lost_refusal_closes_nothing() {
    let mut owner = ForwardOwner::new(ForwardLimits::default());
    tell(&mut owner, 0, 1, get());
    assert_eq!((owner.peer(1), owner.peer(2)), (Some(&node("a")), None));
    let refusal = Answer { status: 400, ..answer(b"an upgraded session answers no polls") };
    owner.handle(1, ForwardOwnerInput::Answered { key: key(1), answer: refusal });
    while let Some(at) = owner.next_timeout() {
        owner.handle(at, ForwardOwnerInput::Tick);
    }
    let said: Vec<_> = std::iter::from_fn(|| owner.poll_output()).collect();
    assert!(said.iter().all(|output| matches!(output, ForwardOwnerOutput::Send { .. })), "{said:?}");
}
