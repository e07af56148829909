//! What users see of a call, one story per test.

use domain::call::{Act, CallId, EndReason, Event, Kind, Leg, Limit, Refusal, Status, UserCallState, apply};
use domain::call::{Call, CommandId, REMEMBERED_COMMANDS};

use crate::stage::{ANSWER, START, Stage, call_id, end, offer, user};

fn pair() -> Stage {
    Stage::with(Kind::OneToOne, "a1", &["b"])
}

fn ended(events: &[Event]) -> Option<(Status, EndReason)> {
    events.iter().find_map(|event| match event {
        Event::Ended { status, reason, .. } => Some((*status, *reason)),
        _ => None,
    })
}

fn state_of(stage: &Stage, name: &str) -> Option<UserCallState> {
    stage.calls_of(name).get(&call_id("x")).map(|entry| entry.state)
}

#[test]
fn a_call_rings_is_answered_once_and_counts_from_the_answer() {
    let mut stage = pair();
    assert_eq!(stage.call().status, Status::Ringing);
    assert_eq!(state_of(&stage, "a"), Some(UserCallState::Calling));
    assert_eq!(state_of(&stage, "b"), Some(UserCallState::Ringing));
    stage.now_ms += 7_000;
    let told = stage.events("b1", ANSWER);
    assert!(matches!(&told[0], Event::Accepted { glare: false, .. }));
    assert_eq!(told[1], Event::StopsRinging { user: user("b"), device: Some("b1".into()) });
    assert_eq!(stage.refusal("b2", ANSWER), Refusal::AlreadyAnswered);
    assert_eq!(state_of(&stage, "a"), Some(UserCallState::In));
    stage.now_ms += 5_999;
    assert_eq!(ended(&stage.events("a1", end())), Some((Status::Ended, EndReason::HungUp)));
    assert_eq!(stage.call().duration_s(stage.now_ms + 60_000), 5);
    assert!(stage.calls_of("a").is_empty() && stage.calls_of("b").is_empty());
}

#[test]
fn a_call_to_nobody_connected_begins_to_ring_when_a_device_comes() {
    let mut stage = Stage::new();
    stage.connected.clear();
    stage.does("a1", "x", Act::Initiate(offer(Kind::OneToOne, &["b"]))).unwrap();
    assert_eq!(stage.call().status, Status::Initiating);
    assert_eq!(stage.devices("b", &["b1"]), [Event::Rang]);
    assert_eq!(stage.devices("b", &["b1", "b2"]), []);
}

#[test]
fn nobody_answers() {
    let mut stage = pair();
    assert_eq!(stage.after(stage.settings.ring_ms() - 1), []);
    let told = stage.after(1);
    assert_eq!(told[0], Event::Missed { user: user("b") });
    assert_eq!(ended(&told), Some((Status::Missed, EndReason::Missed)));
    assert_eq!(stage.refusal("b1", ANSWER), Refusal::Over);
    assert_eq!(stage.call().duration_s(stage.now_ms), 0);
}

#[test]
fn an_answer_after_the_ring_is_late_though_the_timer_is_later() {
    let mut stage = pair();
    stage.now_ms = stage.call().ring_until_ms;
    assert_eq!(stage.refusal("b1", ANSWER), Refusal::Over);
    assert!(ended(&stage.events("a1", end())).is_some(), "the caller need not wait for the timer");
}

#[test]
fn a_timer_of_a_faster_clock_counts() {
    let mut stage = pair();
    let due_ms = stage.call().next_deadline_ms().unwrap();
    assert!(ended(&stage.happens(Act::Tick { due_ms })).is_some());
    assert_eq!(stage.call().ended_ms, Some(due_ms));
}

#[test]
fn declined_cancelled_failed() {
    let said: Option<Box<str>> = Some("later".into());
    let mut stage = pair();
    let told = stage.events("b1", Act::Decline { said: said.clone() });
    assert_eq!(ended(&told), Some((Status::Rejected, EndReason::Rejected)));
    assert_eq!((&stage.call().said, &stage.call().ended_by), (&said, &Some(user("b"))));

    assert_eq!(ended(&pair().events("b1", end())), Some((Status::Rejected, EndReason::Rejected)));
    assert_eq!(ended(&pair().events("a1", end())), Some((Status::Ended, EndReason::Cancelled)));
    assert_eq!(ended(&pair().events("a1", Act::Leave)), Some((Status::Ended, EndReason::Cancelled)));
    let failed = pair().events("a1", Act::Fail { said: None });
    assert_eq!(ended(&failed), Some((Status::Failed, EndReason::Failed)));
}

#[test]
fn strangers_learn_nothing() {
    let mut stage = Stage::live_pair();
    for act in [Act::Look, end(), ANSWER, Act::Rejoin] {
        assert_eq!(stage.refusal("c1", act), Refusal::UnknownCall);
    }
    assert_eq!(stage.does("c1", "nowhere", Act::Look), Err(Refusal::UnknownCall));
}

#[test]
fn another_device_that_lost_the_race_cannot_end_the_call() {
    let mut stage = Stage::live_pair();
    assert_eq!(stage.refusal("b2", end()), Refusal::OtherDevice);
    assert_eq!(stage.refusal("b2", Act::Decline { said: None }), Refusal::AlreadyAnswered);
    assert_eq!(stage.events("b2", Act::Rejoin).len(), 1, "but take it over");
    assert_eq!(stage.refusal("b1", end()), Refusal::OtherDevice);
}

#[test]
fn whoever_call_each_other_get_one_call() {
    let mut stage = pair();
    let decision = stage.does("b1", "y", Act::Initiate(offer(Kind::OneToOne, &["a"]))).unwrap();
    assert!(matches!(&decision.events[0], Event::Accepted { glare: true, .. }));
    assert_eq!(decision.call.id, call_id("x"));
    assert_eq!(stage.calls.len(), 1);
}

#[test]
fn a_call_whose_ring_ran_out_is_not_answered_by_a_call() {
    let mut stage = pair();
    stage.now_ms = stage.call().ring_until_ms;
    let decision = stage.does("b1", "y", Act::Initiate(offer(Kind::OneToOne, &["a"]))).unwrap();
    assert_eq!(decision.call.id, call_id("y"));
}

#[test]
fn who_may_be_called() {
    let calls = |kind, invited: &[&str]| Stage::new().does("a1", "x", Act::Initiate(offer(kind, invited)));
    let seats = |kind, invited: &[&str]| calls(kind, invited).unwrap().call.seats.len();
    assert_eq!(calls(Kind::OneToOne, &["a"]), Err(Refusal::Oneself));
    assert_eq!(calls(Kind::Conference, &["a"]), Err(Refusal::Oneself));
    assert_eq!(calls(Kind::Conference, &[]), Err(Refusal::NobodyInvited));
    assert_eq!(seats(Kind::OneToOne, &["b", "b"]), 2);
    assert_eq!(seats(Kind::Conference, &["a", "b", "b", "c"]), 3);
    let two = Refusal::OverLimit { limit: Limit::Participants, max: 2 };
    assert_eq!(calls(Kind::OneToOne, &["b", "c"]), Err(two));

    let mut stage = Stage::new();
    stage.settings.participants = 3;
    let refused = stage.does("a1", "x", Act::Initiate(offer(Kind::Conference, &["b", "c", "d"])));
    assert_eq!(refused, Err(Refusal::OverLimit { limit: Limit::Participants, max: 3 }));
}

#[test]
fn who_is_busy_or_not_to_be_disturbed_does_not_ring() {
    let mut stage = Stage::new();
    stage.do_not_disturb.insert(user("b"));
    stage.settings.per_user = 1;
    stage.does("c1", "y", Act::Initiate(offer(Kind::OneToOne, &["d"]))).unwrap();
    let pair = |stage: &mut Stage, to| stage.does("a1", "x", Act::Initiate(offer(Kind::OneToOne, &[to])));
    assert_eq!(pair(&mut stage, "b"), Err(Refusal::DoNotDisturb));
    assert_eq!(pair(&mut stage, "c"), Err(Refusal::Busy));
    let all_busy = stage.does("a1", "x", Act::Initiate(offer(Kind::Conference, &["b", "c"])));
    assert_eq!(all_busy, Err(Refusal::Busy));

    let told = stage.events("a1", Act::Initiate(offer(Kind::Conference, &["b", "c", "d"])));
    assert!(told.contains(&Event::Busy { user: user("b"), do_not_disturb: true }));
    assert!(told.contains(&Event::Busy { user: user("c"), do_not_disturb: false }));
    assert!(told.contains(&Event::Rings { user: user("d") }));
    assert!(!told.contains(&Event::Rings { user: user("b") }));
}

#[test]
fn one_more_call_than_allowed_is_refused_to_whoever_makes_it_or_answers_it() {
    let over = Refusal::OverLimit { limit: Limit::CallsPerUser, max: 1 };
    let mut stage = Stage::new();
    stage.settings.per_user = 1;
    stage.does("c1", "y", Act::Initiate(offer(Kind::OneToOne, &["b"]))).unwrap();
    stage.does("a1", "x", Act::Initiate(offer(Kind::OneToOne, &["b"]))).unwrap();
    let second = stage.does("a1", "z", Act::Initiate(offer(Kind::OneToOne, &["d"])));
    assert_eq!(second, Err(over.clone()));
    stage.does("b1", "x", ANSWER).unwrap();
    assert_eq!(stage.does("b2", "y", ANSWER), Err(over));
}

#[test]
fn too_many_rings_are_busy() {
    let mut stage = Stage::new();
    stage.settings.ringing_per_user = 1;
    stage.does("c1", "y", Act::Initiate(offer(Kind::OneToOne, &["b"]))).unwrap();
    let second = stage.does("a1", "x", Act::Initiate(offer(Kind::OneToOne, &["b"])));
    assert_eq!(second, Err(Refusal::Busy));
}

#[test]
fn a_lost_connection_keeps_the_seat_for_a_while() {
    let mut stage = Stage::live_pair();
    let until_ms = stage.now_ms + stage.settings.grace_ms;
    assert_eq!(stage.devices("b", &[]), [Event::Lost { user: user("b"), until_ms }]);
    assert_eq!(state_of(&stage, "b"), Some(UserCallState::In));
    assert_eq!(stage.after(stage.settings.grace_ms - 1), []);
    assert!(matches!(&stage.devices("b", &["b1"])[..], [Event::Rejoined { .. }]));
    assert_eq!(stage.after(60_000), []);

    stage.devices("b", &["b2"]);
    assert!(matches!(&stage.events("b2", Act::Rejoin)[..], [Event::Rejoined { .. }]));
    stage.devices("b", &[]);
    let told = stage.after(stage.settings.grace_ms);
    assert_eq!(ended(&told), Some((Status::Ended, EndReason::ConnectionLost)));
    assert_eq!(stage.call().ended_by, None);
}

#[test]
fn old_news_of_devices_do_not_end_a_leg_that_came_after_them() {
    let mut stage = pair();
    let before_the_answer = stage.now_ms;
    stage.now_ms += 20_000;
    stage.does("b1", "x", ANSWER).unwrap();
    let old = Act::Devices { user: user("b"), present: vec![], since_ms: before_the_answer };
    let until_ms = stage.now_ms + stage.settings.grace_ms;
    assert_eq!(stage.happens(old.clone()), [Event::Lost { user: user("b"), until_ms }]);
    stage.now_ms += 10_000;
    stage.does("b2", "x", Act::Rejoin).unwrap();
    assert!(matches!(&stage.happens(old)[..], [Event::Lost { until_ms, .. }] if *until_ms > stage.now_ms));
}

#[test]
fn a_loss_in_the_future_of_another_clock_is_one_of_now() {
    let mut stage = Stage::live_pair();
    let until_ms = stage.now_ms + stage.settings.grace_ms;
    let ahead = Act::Devices { user: user("b"), present: vec![], since_ms: stage.now_ms + 3_600_000 };
    assert_eq!(stage.happens(ahead), [Event::Lost { user: user("b"), until_ms }]);
}

#[test]
fn a_loss_that_is_known_late_ends_the_leg_at_once() {
    let mut stage = Stage::live_pair();
    let since_ms = stage.now_ms;
    stage.now_ms += stage.settings.grace_ms;
    let told = stage.happens(Act::Devices { user: user("b"), present: vec![], since_ms });
    assert_eq!(ended(&told), Some((Status::Ended, EndReason::ConnectionLost)));
}

#[test]
fn a_caller_that_is_lost_stops_ringing() {
    let mut stage = pair();
    stage.devices("a", &[]);
    let told = stage.after(stage.settings.grace_ms);
    assert_eq!(ended(&told), Some((Status::Ended, EndReason::ConnectionLost)));
    assert_eq!(stage.call().seats[1].leg, Leg::Missed);
}

#[test]
fn a_client_that_comes_back_under_a_new_id_may_hang_up() {
    let mut stage = Stage::live_pair();
    stage.devices("b", &["b2"]);
    assert!(ended(&stage.events("b2", end())).is_some());
}

#[test]
fn a_conference_goes_on_with_one_and_ends_with_the_last() {
    let mut stage = Stage::live_conference();
    assert!(matches!(&stage.events("b1", end())[..], [Event::Left { lost: false, .. }]));
    stage.events("a1", Act::Leave);
    assert_eq!(stage.call().status, Status::Accepted);
    assert_eq!(stage.refusal("a1", end()), Refusal::NotIn);
    assert!(matches!(&stage.events("b2", Act::Join)[..], [Event::Joined { .. }]));
    stage.events("c1", Act::Leave);
    assert_eq!(ended(&stage.events("b2", Act::Leave)), Some((Status::Ended, EndReason::HungUp)));
    assert!(stage.users.values().all(|calls| calls.is_empty()), "{:?}", stage.users);
}

#[test]
fn the_creator_ends_its_conference_for_all() {
    let mut stage = Stage::live_conference();
    assert_eq!(ended(&stage.events("a1", end())), Some((Status::Ended, EndReason::HungUp)));
    assert_eq!(stage.call().seats[3].leg, Leg::Missed);
}

#[test]
fn who_missed_or_declined_a_conference_may_join_it_later() {
    let mut stage = Stage::with(Kind::Conference, "a1", &["b", "c", "d"]);
    stage.events("b1", Act::Decline { said: None });
    let told = stage.events("b2", Act::Join);
    assert!(matches!(&told[..], [Event::Accepted { .. }]), "nothing rang any more: {told:?}");
    let rest = [Event::Missed { user: user("c") }, Event::Missed { user: user("d") }];
    assert_eq!(stage.after(stage.settings.ring_ms()), rest);
    assert_eq!(stage.refusal("c1", ANSWER), Refusal::NotRinging);
    assert!(matches!(&stage.events("c1", Act::Join)[..], [Event::Joined { .. }]));
}

#[test]
fn a_conference_that_nobody_wants_is_rejected_and_one_nobody_hears_is_missed() {
    let mut stage = Stage::with(Kind::Conference, "a1", &["b", "c"]);
    assert_eq!(ended(&stage.events("b1", Act::Decline { said: None })), None);
    let told = stage.events("c1", Act::Decline { said: None });
    assert_eq!(ended(&told), Some((Status::Rejected, EndReason::Rejected)));

    let mut stage = Stage::with(Kind::Conference, "a1", &["b", "c"]);
    stage.events("b1", Act::Decline { said: None });
    assert_eq!(ended(&stage.after(60_000)), Some((Status::Missed, EndReason::Missed)));
}

#[test]
fn the_last_ring_of_a_conference_that_goes_on_ends_nothing() {
    let mut stage = Stage::live_conference();
    assert_eq!(ended(&stage.events("d1", Act::Decline { said: None })), None);
    assert_eq!(stage.call().status, Status::Accepted);
}

#[test]
fn nobody_joins_a_conference_whose_ring_ran_out_unanswered() {
    let mut stage = Stage::with(Kind::Conference, "a1", &["b", "c"]);
    stage.events("b1", Act::Decline { said: None });
    stage.now_ms = stage.call().ring_until_ms;
    assert_eq!(stage.refusal("b1", Act::Join), Refusal::Over);
    assert_eq!(stage.refusal("c1", Act::Join), Refusal::Over);
}

#[test]
fn whoever_are_lost_together_end_the_call_once() {
    let mut stage = Stage::live_pair();
    stage.devices("a", &[]);
    stage.devices("b", &[]);
    assert_eq!(stage.after(stage.settings.grace_ms).len(), 1);
}

#[test]
fn a_negotiation_is_told_once() {
    let mut stage = Stage::live_pair();
    assert_eq!(stage.events("b1", Act::Progress), [Event::Progressed]);
    assert_eq!(stage.call().status, Status::InProgress);
    assert_eq!(stage.events("a1", Act::Progress), []);
}

#[test]
fn a_lost_participant_of_a_conference_leaves_it() {
    let mut stage = Stage::live_conference();
    stage.devices("b", &[]);
    stage.devices("c", &[]);
    assert!(matches!(&stage.events("c2", Act::Join)[..], [Event::Rejoined { .. }]));
    assert_eq!(stage.after(stage.settings.grace_ms), [Event::Left { user: user("b"), lost: true }]);
    stage.devices("a", &[]);
    stage.devices("c", &[]);
    assert_eq!(ended(&stage.after(60_000)), Some((Status::Ended, EndReason::ConnectionLost)));
}

#[test]
fn a_repeat_changes_nothing() {
    let mut stage = pair();
    let answer = stage.command("x", Some(crate::stage::actor("b1")), ANSWER);
    let first = stage.run(&answer, stage.now_ms).unwrap();
    let again = stage.run(&answer, stage.now_ms + 99_000).unwrap();
    assert_eq!((again.events.len(), again.users.len()), (0, 0));
    assert_eq!(again.call, first.call);
    let hang_up = stage.command("x", Some(crate::stage::actor("b1")), end());
    stage.run(&hang_up, stage.now_ms).unwrap();
    assert!(stage.run(&hang_up, stage.now_ms).unwrap().events.is_empty(), "also of what ended the call");
    assert_eq!(stage.refusal("a1", end()), Refusal::Over);
}

#[test]
fn ids_of_commands_are_remembered_within_bounds() {
    let mut stage = Stage::live_pair();
    for _ in 0..REMEMBERED_COMMANDS / 2 {
        stage.events("b2", Act::Rejoin);
        stage.events("b1", Act::Rejoin);
    }
    assert_eq!(stage.call().done.len(), REMEMBERED_COMMANDS);
    assert_eq!(stage.call().rev, 2 + REMEMBERED_COMMANDS as u64);
    assert!(!stage.call().done.contains(&CommandId(1)));
}

#[test]
fn time_and_presence_count_again_under_the_same_id() {
    let mut stage = Stage::live_pair();
    let lost = Act::Devices { user: user("b"), present: vec![], since_ms: stage.now_ms };
    let lost = stage.command("x", None, lost);
    assert_eq!(stage.run(&lost, stage.now_ms).unwrap().events.len(), 1);
    assert_eq!(stage.run(&lost, stage.now_ms).unwrap().events, []);
    stage.events("b1", Act::Rejoin);
    assert_eq!(stage.run(&lost, stage.now_ms).unwrap().events.len(), 1);
    let tick = stage.command("x", None, Act::Tick { due_ms: 0 });
    assert_eq!(stage.run(&tick, stage.now_ms).unwrap().events, []);
    assert!(ended(&stage.run(&tick, stage.now_ms + 60_000).unwrap().events).is_some());
}

#[test]
fn an_id_that_is_taken_makes_no_call() {
    let mut stage = pair();
    let again = Act::Initiate(offer(Kind::OneToOne, &["c"]));
    assert_eq!(stage.refusal("a1", again.clone()), Refusal::UnknownCall);
    assert_eq!(stage.refusal("c1", again), Refusal::UnknownCall);
}

#[test]
fn clocks_of_replicas_never_make_a_call_younger() {
    let mut stage = pair();
    stage.now_ms -= 10_000;
    stage.events("b1", ANSWER);
    stage.now_ms -= 10_000;
    stage.events("b1", end());
    let call = stage.call();
    assert_eq!((call.accepted_ms, call.ended_ms), (Some(START), Some(START)));
}

#[test]
fn any_event_in_any_state_is_taken() {
    let mut stage = Stage::live_conference();
    let stranger = Event::Lost { user: user("z"), until_ms: 1 };
    let call = stage.call().clone();
    let mut after: Call = call.clone();
    apply(&mut after, &stranger);
    apply(&mut after, &Event::AnnotationsDropped { oldest: 99 });
    assert_eq!(after, call);
    let not_a_start = Call::begin(&CallId::new("y").unwrap(), &stranger);
    assert_eq!(not_a_start, None);
    stage.events("a1", end());
}
