//! Random commands of several users on two devices each, repeated, with timers early and late and clocks that differ; after each
//! one, every predicate of [`PROMISES`] holds.

use std::collections::{BTreeMap, BTreeSet};

use domain::UserId;
use domain::call::{Act, CallId, CallSettings, Command, Decision, Event, Kind, MediaAct, MediaChange, Mute};
use proptest::prelude::*;

use crate::promises::{Marks, PROMISES, Step};
use crate::stage::{ANSWER, Stage, actor, call_id, media, offer, user};

pub const USERS: [&str; 4] = ["a", "b", "c", "d"];
const CALLS: [&str; 4] = ["w", "x", "y", "z"];

/// One move of the test.
#[derive(Clone, Debug)]
enum Move {
    Does {
        who: usize,
        device: usize,
        call: usize,
        act: Box<Act>,
    },
    /// The `nth` command from the last is sent again.
    Repeats {
        nth: usize,
    },
    /// The call's timer comes, so much before or after its deadline.
    Timer {
        call: usize,
        off_ms: i64,
    },
    Devices {
        call: usize,
        who: usize,
        present: usize,
        ago_ms: u64,
    },
    Connects {
        who: usize,
        connected: bool,
        do_not_disturb: bool,
    },
}

#[derive(Clone, Debug)]
struct Timed {
    then: Move,
    /// Passes before it.
    ms: u64,
    /// The deciding replica's clock against the true one.
    skew_ms: i64,
}

fn offers() -> impl Strategy<Value = Act> {
    let kind = prop_oneof![3 => Just(Kind::OneToOne), 2 => Just(Kind::Conference)];
    let invited = proptest::sample::subsequence(USERS.to_vec(), 1..=3);
    (kind, invited, 0..USERS.len()).prop_map(|(kind, invited, one)| {
        let invited = if kind == Kind::OneToOne { vec![USERS[one]] } else { invited };
        Act::Initiate(offer(kind, &invited))
    })
}

fn media_changes() -> impl Strategy<Value = Act> {
    let quality = || Box::<str>::from("low");
    let someone = || proptest::sample::select(USERS.to_vec()).prop_map(user);
    let change = prop_oneof![
        1 => Just(MediaChange::StreamStart { video: true, audio: true }),
        1 => Just(MediaChange::StreamStop),
        1 => Just(MediaChange::Mute(Mute::MuteVideo)),
        1 => Just(MediaChange::StreamQuality { quality: quality() }),
        3 => Just(MediaChange::ShareStart { audio: false, quality: quality() }),
        1 => Just(MediaChange::ShareStop),
        3 => proptest::option::of(someone()).prop_map(|sharer| MediaChange::ControlRequest { sharer }),
        3 => (someone(), any::<bool>())
            .prop_map(|(requester, granted)| MediaChange::ControlRespond { requester, granted }),
        1 => proptest::option::of(someone()).prop_map(|requester| MediaChange::ControlRevoke { requester }),
        1 => Just(MediaChange::ClearAnnotations),
    ];
    prop_oneof![
        4 => change.prop_map(media),
        2 => "[a-z]{0,7}".prop_map(|drawn| {
            Act::Media(MediaAct { what: MediaChange::Annotate, payload: drawn.into() })
        }),
    ]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => offers(),
        6 => Just(ANSWER),
        2 => Just(Act::Decline { said: None }),
        1 => Just(Act::End { said: Some("bye".into()) }),
        4 => Just(Act::Join),
        2 => Just(Act::Leave),
        2 => Just(Act::Rejoin),
        2 => Just(Act::Progress),
        1 => Just(Act::Fail { said: None }),
        1 => Just(Act::Look),
        8 => media_changes(),
    ]
}

fn moves() -> impl Strategy<Value = Move> {
    let who = || 0..USERS.len();
    // Mostly one call and first devices, so that sequences get far into it.
    let call = || prop_oneof![4 => Just(0), 1 => 1..CALLS.len()];
    let device = prop_oneof![4 => Just(0), 1 => Just(1usize)];
    prop_oneof![
        20 => (who(), device, call(), acts())
            .prop_map(|(who, device, call, act)| Move::Does { who, device, call, act: act.into() }),
        2 => (0..20usize).prop_map(|nth| Move::Repeats { nth }),
        3 => (call(), -2_000..2_000i64).prop_map(|(call, off_ms)| Move::Timer { call, off_ms }),
        3 => (call(), who(), 0..4usize, 0..2_000u64)
            .prop_map(|(call, who, present, ago_ms)| Move::Devices { call, who, present, ago_ms }),
        1 => (who(), any::<bool>(), proptest::bool::weighted(0.2))
            .prop_map(|(who, connected, do_not_disturb)| Move::Connects { who, connected, do_not_disturb }),
    ]
}

fn timed() -> impl Strategy<Value = Timed> {
    let ms = prop_oneof![4 => 0..100u64, 1 => 0..3_000u64];
    (moves(), ms, -500..500i64).prop_map(|(then, ms, skew_ms)| Timed { then, ms, skew_ms })
}

struct Run {
    stage: Stage,
    sent: Vec<Command>,
    history: BTreeMap<CallId, Marks>,
}

impl Run {
    fn new(many_sharers: bool) -> Self {
        let mut stage = Stage::new();
        stage.settings = CallSettings {
            ring_ms: Some(4_000),
            grace_ms: 1_000,
            per_user: 2,
            ringing_per_user: 2,
            participants: 3,
            many_sharers,
            annotations: 3,
            annotations_bytes: 12,
            annotation_bytes: 6,
            ..CallSettings::default()
        };
        Self { stage, sent: Vec::new(), history: BTreeMap::new() }
    }

    fn step(&mut self, timed: &Timed) {
        self.stage.now_ms += timed.ms;
        if let Some(command) = self.command(&timed.then) {
            self.sent.push(command.clone());
            self.run(&command, self.stage.now_ms.saturating_add_signed(timed.skew_ms));
        }
    }

    fn command(&mut self, then: &Move) -> Option<Command> {
        let call = |at: usize| CALLS[at];
        match then {
            Move::Does { who, device, call: at, act } => {
                let device = format!("{}{}", USERS[*who], device + 1);
                Some(self.stage.command(call(*at), Some(actor(&device)), (**act).clone()))
            }
            Move::Repeats { nth } => self.sent.iter().rev().nth(*nth).cloned(),
            Move::Timer { call: at, off_ms } => {
                let known = self.stage.calls.get(&call_id(call(*at)))?;
                let due_ms = known.next_deadline_ms()?.saturating_add_signed(*off_ms);
                Some(self.stage.command(call(*at), None, Act::Tick { due_ms }))
            }
            Move::Devices { call: at, who, present, ago_ms } => {
                let (name, since_ms) = (USERS[*who], self.stage.now_ms - ago_ms);
                let devices = (0..2).filter(|bit| present >> bit & 1 == 1);
                let present = devices.map(|device| format!("{name}{}", device + 1).into()).collect();
                let act = Act::Devices { user: user(name), present, since_ms };
                Some(self.stage.command(call(*at), None, act))
            }
            Move::Connects { who, connected, do_not_disturb } => {
                set(&mut self.stage.connected, USERS[*who], *connected);
                set(&mut self.stage.do_not_disturb, USERS[*who], *do_not_disturb);
                None
            }
        }
    }

    fn run(&mut self, command: &Command, now_ms: u64) {
        let calls = self.stage.calls.clone();
        let Ok(decision) = self.stage.run(command, now_ms) else {
            assert_eq!(self.stage.calls, calls, "a refusal changes nothing");
            return;
        };
        // The command was the answer to a call in the other direction.
        let glare = decision.call.id != command.call;
        let act = if glare { Act::Answer { glare } } else { command.act.clone() };
        let command = &Command { call: decision.call.id.clone(), act, ..command.clone() };
        self.count(&decision);
        let step = Step {
            command,
            before: calls.get(&command.call),
            decision: &decision,
            stage: &self.stage,
            now_ms,
            history: &self.history,
        };
        for (promise, holds) in PROMISES {
            assert!(holds(&step), "{promise}: {command:?}\nbefore {:?}\nafter {decision:?}", step.before);
        }
    }

    fn count(&mut self, decision: &Decision) {
        let marks = self.history.entry(decision.call.id.clone()).or_default();
        let count = |is: fn(&Event) -> bool| decision.events.iter().filter(|event| is(event)).count();
        marks.answered += count(|event| matches!(event, Event::Accepted { .. }));
        marks.ended += count(|event| matches!(event, Event::Ended { .. }));
    }
}

fn set(users: &mut BTreeSet<UserId>, name: &str, there: bool) {
    if there {
        users.insert(user(name));
    } else {
        users.remove(&user(name));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_whatever_is_commanded(
        many_sharers in any::<bool>(),
        moves in proptest::collection::vec(timed(), 1..120),
    ) {
        let mut run = Run::new(many_sharers);
        for timed in &moves {
            run.step(timed);
        }
    }
}
