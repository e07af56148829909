//! Single exchanges: what the simulation cannot name.

use std::sync::Arc;

use bytes::Bytes;
use cluster::moving::*;
use cluster::node_message::{MoveAsk, MoveReply, NodeMessage, RefuseReason, Sid};

use crate::net::node;

fn sid() -> Sid {
    Arc::from("a-session")
}

fn key(mv: u64) -> MoveKey {
    MoveKey { mv, taker: node("b") }
}

fn owner_says(owner: &mut MoveOwner) -> Vec<MoveOwnerOutput> {
    std::iter::from_fn(|| owner.poll_output()).collect()
}

fn ask(owner: &mut MoveOwner, now: Millis, mv: u64, msg: MoveAsk) -> Vec<MoveOwnerOutput> {
    owner.handle(now, MoveOwnerInput::Message { from: node("b"), mv, msg });
    owner_says(owner)
}

fn send(mv: u64, msg: MoveReply) -> MoveOwnerOutput {
    MoveOwnerOutput::Send { to: node("b"), msg: NodeMessage::MoveReply { mv, msg } }
}

/// A session reserved by move 1 at time 0.
fn reserved() -> MoveOwner {
    let mut owner = MoveOwner::new();
    let said = ask(&mut owner, 0, 1, MoveAsk::Reserve { sid: sid() });
    assert_eq!(said, [MoveOwnerOutput::Reserve { key: key(1), sid: sid() }]);
    let info = Bytes::from_static(b"rooms");
    owner.handle(0, MoveOwnerInput::Reserved { key: key(1), info: info.clone() });
    assert_eq!(owner_says(&mut owner), [send(1, MoveReply::Reserved { info })]);
    owner
}

fn frozen() -> MoveOwner {
    let mut owner = reserved();
    let said = ask(&mut owner, 100, 1, MoveAsk::Take);
    assert_eq!(said, [MoveOwnerOutput::Freeze { key: key(1), sid: sid() }]);
    owner.handle(100, MoveOwnerInput::Frozen { key: key(1), state: Bytes::from_static(b"state"), tails: 0 });
    assert_eq!(owner_says(&mut owner).len(), 1);
    owner
}

fn tick_out(owner: &mut MoveOwner, until: Millis) -> Vec<(Millis, MoveOwnerOutput)> {
    let mut said = Vec::new();
    while let Some(at) = owner.next_timeout().filter(|at| *at <= until) {
        owner.handle(at, MoveOwnerInput::Tick);
        said.extend(owner_says(owner).into_iter().map(|output| (at, output)));
    }
    said
}

#[test]
fn a_second_reservation_is_refused() {
    let mut owner = reserved();
    let refused = MoveReply::Refused { reason: RefuseReason::AlreadyReserved };
    assert_eq!(ask(&mut owner, 1, 2, MoveAsk::Reserve { sid: sid() }), [send(2, refused)]);
    // Its late copy must not reserve the session that is free again.
    ask(&mut owner, 2, 1, MoveAsk::Release);
    assert_eq!(ask(&mut owner, 3, 2, MoveAsk::Reserve { sid: sid() }), [send(2, MoveReply::Aborted)]);
    assert_eq!(ask(&mut owner, 4, 3, MoveAsk::Reserve { sid: sid() }).len(), 1);
}

#[test]
fn an_unknown_session_is_refused() {
    let mut owner = MoveOwner::new();
    ask(&mut owner, 0, 1, MoveAsk::Reserve { sid: sid() });
    let reason = RefuseReason::UnknownSession;
    owner.handle(0, MoveOwnerInput::Refused { key: key(1), reason });
    assert_eq!(owner_says(&mut owner), [send(1, MoveReply::Refused { reason })]);
    assert_eq!(owner.next_timeout(), None);
}

#[test]
fn a_reservation_ends_after_ten_seconds_and_the_session_goes_on() {
    let mut owner = reserved();
    let released = MoveOwnerOutput::Release { key: key(1), sid: sid() };
    assert_eq!(tick_out(&mut owner, 20_000), [(10_000, send(1, MoveReply::Aborted)), (10_000, released)]);
    assert_eq!(ask(&mut owner, 10_001, 1, MoveAsk::Take), [send(1, MoveReply::Aborted)]);
}

#[test]
fn a_join_the_taker_does_not_confirm_ends_the_reservation_and_is_acked() {
    let mut owner = reserved();
    let rooms = Bytes::from_static(b"room");
    owner.handle(10, MoveOwnerInput::RoomsJoined { key: key(1), ticket: 5, rooms: rooms.clone() });
    let extend = send(1, MoveReply::Extend { seq: 1, rooms });
    assert_eq!(owner_says(&mut owner), std::slice::from_ref(&extend));
    let again: Vec<_> = [260, 760, 1_760].map(|at| (at, extend.clone())).into();
    let end = [
        (2_010, send(1, MoveReply::Aborted)),
        (2_010, MoveOwnerOutput::ExtendDone { key: key(1), ticket: 5 }),
        (2_010, MoveOwnerOutput::Release { key: key(1), sid: sid() }),
    ];
    assert_eq!(tick_out(&mut owner, 20_000), [again, end.into()].concat());
}

#[test]
fn a_join_without_a_reservation_waits_for_nobody() {
    let mut owner = MoveOwner::new();
    owner.handle(0, MoveOwnerInput::RoomsJoined { key: key(1), ticket: 5, rooms: Bytes::new() });
    assert_eq!(owner_says(&mut owner), [MoveOwnerOutput::ExtendDone { key: key(1), ticket: 5 }]);
}

#[test]
fn after_the_freeze_every_failure_closes_the_session() {
    let close = |reason| MoveOwnerOutput::CloseSession { key: key(1), sid: sid(), reason };
    let last = |owner: &mut MoveOwner| owner_says(owner).last().cloned();

    let said = ask(&mut frozen(), 200, 1, MoveAsk::Release);
    assert_eq!(said.last(), Some(&close(CloseReason::Abandoned)));

    let mut owner = frozen();
    owner.handle(200, MoveOwnerInput::NoResponders { mv: 1 });
    assert_eq!(last(&mut owner), Some(close(CloseReason::NoTaker)));

    let mut owner = frozen();
    owner.handle(200, MoveOwnerInput::Withdrawn { key: key(1) });
    assert_eq!(last(&mut owner), Some(close(CloseReason::SessionEnded)));

    let said = tick_out(&mut frozen(), 60_000);
    assert_eq!(said.last(), Some(&(5_100, close(CloseReason::Unconfirmed))));
}

#[test]
fn a_large_state_is_sent_in_a_window_of_chunks() {
    let mut owner = reserved();
    ask(&mut owner, 100, 1, MoveAsk::Take);
    let state = Bytes::from(vec![0; 10 * CHUNK_BYTES]);
    owner.handle(100, MoveOwnerInput::Frozen { key: key(1), state, tails: 0 });
    assert_eq!(owner_says(&mut owner).len(), 8);
    let next = ask(&mut owner, 110, 1, MoveAsk::Got { chunk: 3 });
    assert!(matches!(
        next[..],
        [MoveOwnerOutput::Send {
            msg: NodeMessage::MoveReply { msg: MoveReply::State { chunk: 8, .. }, .. },
            ..
        }]
    ));
}

#[test]
fn tails_reach_the_taker_in_order_whatever_their_size() {
    let mut owner = reserved();
    ask(&mut owner, 100, 1, MoveAsk::Take);
    owner.handle(100, MoveOwnerInput::Frozen { key: key(1), state: Bytes::new(), tails: 2 });
    let large = Bytes::from(vec![1; CHUNK_BYTES + 1]);
    owner.handle(120, MoveOwnerInput::Tail { key: key(1), bytes: large });
    owner_says(&mut owner);
    let said = ask(&mut owner, 130, 1, MoveAsk::Installed);
    let [MoveOwnerOutput::HandedOver { .. }, MoveOwnerOutput::Send { .. }, first, second] = &said[..] else {
        panic!("{said:?}");
    };
    let tail = |output: &MoveOwnerOutput| match output {
        MoveOwnerOutput::Send {
            msg: NodeMessage::MoveReply { msg: MoveReply::Tail { seq, more, .. }, .. },
            ..
        } => (*seq, *more),
        other => panic!("{other:?}"),
    };
    assert_eq!((tail(first), tail(second)), ((0, true), (1, false)));
    owner.handle(140, MoveOwnerInput::Tail { key: key(1), bytes: Bytes::from_static(b"last") });
    assert_eq!(tail(&owner_says(&mut owner)[0]), (2, false));
    assert_eq!(ask(&mut owner, 150, 1, MoveAsk::GotTail { next: 3 }), []);
    assert_eq!(owner.next_timeout(), None);
    // The move is remembered as done.
    assert_eq!(ask(&mut owner, 160, 1, MoveAsk::Installed), [send(1, MoveReply::Handed)]);
}

fn taker_says(taker: &mut Taker) -> Vec<TakerOutput> {
    std::iter::from_fn(|| taker.poll_output()).collect()
}

fn told(taker: &mut Taker, now: Millis, from: &str, msg: MoveReply) -> Vec<TakerOutput> {
    taker.handle(now, TakerInput::Message { from: node(from), mv: 1, msg });
    taker_says(taker)
}

fn pull(msg: MoveAsk) -> TakerOutput {
    TakerOutput::Send { to: node("a"), msg: NodeMessage::MoveAsk { mv: 1, msg } }
}

fn probing() -> Taker {
    let mut taker = Taker::new();
    taker.handle(0, TakerInput::ProbeArrived { mv: 1, owner: node("a"), sid: sid() });
    assert_eq!(taker_says(&mut taker), [pull(MoveAsk::Reserve { sid: sid() })]);
    taker
}

#[test]
fn a_probe_is_answered_only_when_reserved_and_subscribed() {
    let mut taker = probing();
    taker.handle(1, TakerInput::Subscribed { mv: 1, seq: 0 });
    assert_eq!(taker_says(&mut taker), []);
    let info = Bytes::from_static(b"rooms");
    assert_eq!(told(&mut taker, 2, "c", MoveReply::Reserved { info: info.clone() }), []);
    let said = told(&mut taker, 3, "a", MoveReply::Reserved { info: info.clone() });
    assert_eq!(said, [TakerOutput::Subscribe { mv: 1, seq: 0, rooms: info }]);
    taker.handle(4, TakerInput::Subscribed { mv: 1, seq: 0 });
    assert_eq!(taker_says(&mut taker), [TakerOutput::AnswerProbe { mv: 1 }]);
}

#[test]
fn an_early_upgrade_is_abandoned_and_released_until_the_owner_knows() {
    let mut taker = probing();
    taker.handle(1, TakerInput::UpgradeArrived { mv: 1 });
    let abandon = TakerOutput::Abandon { mv: 1, reason: AbandonReason::EarlyUpgrade };
    assert_eq!(taker_says(&mut taker), [abandon, pull(MoveAsk::Release)]);
    taker.handle(251, TakerInput::Tick);
    assert_eq!(taker_says(&mut taker), [pull(MoveAsk::Release)]);
    assert_eq!(told(&mut taker, 300, "a", MoveReply::Aborted), []);
    assert_eq!(taker.next_timeout(), None);
}

#[test]
fn without_an_owner_an_upgrade_is_abandoned_at_once() {
    let mut taker = probing();
    taker.handle(1, TakerInput::NoResponders { mv: 1 });
    assert_eq!(taker_says(&mut taker), [TakerOutput::Abandon { mv: 1, reason: AbandonReason::NoOwner }]);
    assert_eq!(taker.next_timeout(), None);
}

#[test]
fn what_is_said_of_a_forgotten_move_is_answered_so_that_nobody_waits() {
    let mut taker = Taker::new();
    let state = MoveReply::State { chunk: 0, chunks: 1, tails: 0, bytes: Bytes::new() };
    assert_eq!(told(&mut taker, 0, "a", state), [pull(MoveAsk::Release)]);
    let tail = MoveReply::Tail { seq: 4, more: false, bytes: Bytes::new() };
    assert_eq!(told(&mut taker, 0, "a", tail), [pull(MoveAsk::GotTail { next: 5 })]);
    assert_eq!(told(&mut taker, 0, "a", MoveReply::Aborted), []);
}

/// The owner's state has arrived whole at 1000.
fn installing() -> Taker {
    let mut taker = probing();
    told(&mut taker, 3, "a", MoveReply::Reserved { info: Bytes::new() });
    taker.handle(4, TakerInput::Subscribed { mv: 1, seq: 0 });
    taker.handle(5, TakerInput::UpgradeArrived { mv: 1 });
    taker_says(&mut taker);
    let state = MoveReply::State { chunk: 0, chunks: 1, tails: 0, bytes: Bytes::new() };
    let said = told(&mut taker, 1_000, "a", state);
    assert_eq!(
        said,
        [TakerOutput::Install { mv: 1, state: Bytes::new(), tails: 0 }, pull(MoveAsk::Got { chunk: 0 })]
    );
    taker
}

#[test]
fn a_failed_installation_is_released_until_the_owner_knows() {
    let mut taker = installing();
    taker.handle(1_001, TakerInput::InstallFailed { mv: 1 });
    let abandon = TakerOutput::Abandon { mv: 1, reason: AbandonReason::InstallFailed };
    assert_eq!(taker_says(&mut taker), [abandon, pull(MoveAsk::Release)]);
    taker.handle(1_002, TakerInput::Installed { mv: 1 });
    taker.handle(1_003, TakerInput::InstallFailed { mv: 1 });
    assert_eq!(taker_says(&mut taker), []);
    assert_eq!(told(&mut taker, 1_100, "a", MoveReply::Aborted), []);
    assert_eq!(taker.next_timeout(), None);
}

#[test]
fn an_installation_nobody_reports_is_given_up() {
    let mut taker = installing();
    assert_eq!(taker.next_timeout(), Some(6_000));
    taker.handle(6_000, TakerInput::Tick);
    let abandon = TakerOutput::Abandon { mv: 1, reason: AbandonReason::Timeout };
    assert_eq!(taker_says(&mut taker), [abandon, pull(MoveAsk::Release)]);
    while let Some(at) = taker.next_timeout() {
        assert!(at <= 11_000);
        taker.handle(at, TakerInput::Tick);
    }
}

#[test]
fn a_slow_freeze_leaves_the_transfer_its_whole_time() {
    let mut owner = reserved();
    ask(&mut owner, 100, 1, MoveAsk::Take);
    assert_eq!(owner.next_timeout(), Some(8_100));
    let frozen = MoveOwnerInput::Frozen { key: key(1), state: Bytes::from_static(b"state"), tails: 0 };
    owner.handle(7_900, frozen);
    assert_eq!(owner_says(&mut owner).len(), 1);
    let close = MoveOwnerOutput::CloseSession { key: key(1), sid: sid(), reason: CloseReason::Unconfirmed };
    assert_eq!(tick_out(&mut owner, 60_000).last(), Some(&(12_900, close)));

    let mut taker = probing();
    told(&mut taker, 3, "a", MoveReply::Reserved { info: Bytes::new() });
    taker.handle(4, TakerInput::Subscribed { mv: 1, seq: 0 });
    taker.handle(100, TakerInput::UpgradeArrived { mv: 1 });
    let chunk = MoveReply::State { chunk: 0, chunks: 2, tails: 0, bytes: Bytes::new() };
    while let Some(at) = taker.next_timeout().filter(|at| *at < 8_500) {
        taker.handle(at, TakerInput::Tick);
    }
    taker_says(&mut taker);
    assert_eq!(told(&mut taker, 8_500, "a", chunk), [pull(MoveAsk::Got { chunk: 0 })]);
    assert_eq!(taker.next_timeout(), Some(13_500));
}
