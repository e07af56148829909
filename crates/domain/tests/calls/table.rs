//! Every state × every command. `u` acts with the device `u1`; its leg is `here` (that device is in), `else` (another of its devices
//! is), `lost`, `ring`, or `gone` (declined, missed, left). Of the others, those named in [`Case::call`] are there so that nothing
//! ends by itself.
//!
//! Words of the tables: `ok` the call changed and goes on · `over` it ended · `same` nothing changed · `once` the same as `ok`, and
//! `same` when it has been done (in progress already, ringing already) · else what the refusal's code begins with.

use domain::call::{
    Act, Call, Command, CommandId, Kind, Leg, MediaChange, Mute, Person, Refusal, Seat, Status, World, decide,
};

use crate::stage::{ANSWER, START, Stage, actor, call_id, end, media, offer, person, user};

const NOW: u64 = START + 20_000;

const OF_TWO: &str = "
                   | caller, waiting            | guest   | live
                   | here     else     lost     | ring    | here     else     lost
answer             | not_ring not_ring not_ring | ok      | already  already  already
decline            | not_ring not_ring not_ring | over    | already  already  already
end                | over     other    over     | over    | over     other    over
leave              | over     other    over     | over    | over     other    over
fail               | over     other    over     | not_in  | over     other    over
join               | not_a_co not_a_co not_a_co | not_a_c | not_a_co not_a_co not_a_co
rejoin             | same     ok       ok       | not_in  | same     ok       ok
progress           | call_not other    not_in   | not_in  | once     other    not_in
look               | same     same     same     | same    | same     same     same
initiate           | unknown  unknown  unknown  | unknown | unknown  unknown  unknown
tick, early        | same     same     same     | same    | same     same     same
tick, late         | over     over     over     | over    | same     same     over
devices: none      | ok       ok       same     | same    | ok       ok       same
devices: none long | over     over     same     | same    | over     over     same
devices: all       | same     same     ok       | once    | same     same     ok
stream start       | call_not other    not_in   | not_in  | ok       other    not_in
stream stop        | call_not other    not_in   | not_in  | ok       other    not_in
mute               | call_not other    not_in   | not_in  | ok       other    not_in
stream quality     | call_not other    not_in   | not_in  | ok       other    not_in
share start        | call_not other    not_in   | not_in  | ok       other    not_in
share stop         | call_not other    not_in   | not_in  | not_shar other    not_in
share quality      | call_not other    not_in   | not_in  | not_shar other    not_in
control request    | call_not other    not_in   | not_in  | not_shar other    not_in
control respond    | call_not other    not_in   | not_in  | not_shar other    not_in
control revoke     | call_not other    not_in   | not_in  | not_gran other    not_in
annotate           | call_not other    not_in   | not_in  | ok       other    not_in
clear              | call_not other    not_in   | not_in  | ok       other    not_in
";

const CONFERENCE: &str = "
                   | creator, waiting           | guest, waiting    | guest, live                                 | creator, live
                   | here     else     lost     | ring     gone     | ring     here     else     lost     gone     | here     else     lost     gone
answer             | not_ring not_ring not_ring | ok       not_ring | ok       already  already  already  not_ring | already  already  already  not_ring
decline            | not_ring not_ring not_ring | ok       not_ring | ok       already  already  already  not_ring | already  already  already  not_ring
end                | over     other    over     | ok       not_in   | ok       ok       other    ok       not_in   | over     other    over     not_in
leave              | over     other    over     | not_in   not_in   | not_in   ok       other    ok       not_in   | ok       other    ok       not_in
fail               | over     other    over     | not_in   not_in   | not_in   ok       other    ok       not_in   | ok       other    ok       not_in
join               | same     other    ok       | ok       ok       | ok       same     other    ok       ok       | same     other    ok       ok
rejoin             | same     ok       ok       | not_in   not_in   | not_in   same     ok       ok       not_in   | same     ok       ok       not_in
progress           | call_not other    not_in   | not_in   not_in   | not_in   once     other    not_in   not_in   | once     other    not_in   not_in
look               | same     same     same     | same     same     | same     same     same     same     same     | same     same     same     same
initiate           | unknown  unknown  unknown  | unknown  unknown  | unknown  unknown  unknown  unknown  unknown  | unknown  unknown  unknown  unknown
tick, early        | same     same     same     | same     same     | same     same     same     same     same     | same     same     same     same
tick, late         | over     over     over     | over     over     | ok       ok       ok       ok       ok       | ok       ok       ok       ok
devices: none      | ok       ok       same     | same     same     | same     ok       ok       same     same     | ok       ok       same     same
devices: none long | over     over     same     | same     same     | same     ok       ok       same     same     | ok       ok       same     same
devices: all       | same     same     ok       | once     same     | same     same     same     ok       same     | same     same     ok       same
stream start       | call_not other    not_in   | not_in   not_in   | not_in   ok       other    not_in   not_in   | ok       other    not_in   not_in
stream stop        | call_not other    not_in   | not_in   not_in   | not_in   ok       other    not_in   not_in   | ok       other    not_in   not_in
mute               | call_not other    not_in   | not_in   not_in   | not_in   ok       other    not_in   not_in   | ok       other    not_in   not_in
stream quality     | call_not other    not_in   | not_in   not_in   | not_in   ok       other    not_in   not_in   | ok       other    not_in   not_in
share start        | call_not other    not_in   | not_in   not_in   | not_in   ok       other    not_in   not_in   | ok       other    not_in   not_in
share stop         | call_not other    not_in   | not_in   not_in   | not_in   not_shar other    not_in   not_in   | not_shar other    not_in   not_in
share quality      | call_not other    not_in   | not_in   not_in   | not_in   not_shar other    not_in   not_in   | not_shar other    not_in   not_in
control request    | call_not other    not_in   | not_in   not_in   | not_in   not_shar other    not_in   not_in   | not_shar other    not_in   not_in
control respond    | call_not other    not_in   | not_in   not_in   | not_in   not_shar other    not_in   not_in   | not_shar other    not_in   not_in
control revoke     | call_not other    not_in   | not_in   not_in   | not_in   not_gran other    not_in   not_in   | not_gran other    not_in   not_in
annotate           | call_not other    not_in   | not_in   not_in   | not_in   ok       other    not_in   not_in   | ok       other    not_in   not_in
clear              | call_not other    not_in   | not_in   not_in   | not_in   ok       other    not_in   not_in   | ok       other    not_in   not_in
";

fn act(name: &str) -> Act {
    let devices = |present: &[&str], since_ms| Act::Devices {
        user: user("u"),
        present: present.iter().map(|device| (*device).into()).collect(),
        since_ms,
    };
    match name {
        "answer" => ANSWER,
        "decline" => Act::Decline { said: None },
        "end" => end(),
        "leave" => Act::Leave,
        "fail" => Act::Fail { said: None },
        "join" => Act::Join,
        "rejoin" => Act::Rejoin,
        "progress" => Act::Progress,
        "look" => Act::Look,
        "initiate" => Act::Initiate(offer(Kind::OneToOne, &["o"])),
        "tick, early" => Act::Tick { due_ms: NOW },
        "tick, late" => Act::Tick { due_ms: NOW + 3_600_000 },
        "devices: none" => devices(&[], NOW),
        "devices: none long" => devices(&[], START),
        "devices: all" => devices(&["u1", "u2"], START),
        media => media_act(media),
    }
}

fn media_act(name: &str) -> Act {
    media(match name {
        "stream start" => MediaChange::StreamStart { video: true, audio: true },
        "stream stop" => MediaChange::StreamStop,
        "mute" => MediaChange::Mute(Mute::MuteAudio),
        "stream quality" => MediaChange::StreamQuality { quality: "low".into() },
        "share start" => MediaChange::ShareStart { audio: true, quality: "low".into() },
        "share stop" => MediaChange::ShareStop,
        "share quality" => MediaChange::ShareQuality { quality: "low".into() },
        "control request" => MediaChange::ControlRequest { sharer: None },
        "control respond" => MediaChange::ControlRespond { requester: user("o"), granted: true },
        "control revoke" => MediaChange::ControlRevoke { requester: None },
        "annotate" => MediaChange::Annotate,
        "clear" => MediaChange::ClearAnnotations,
        other => panic!("no act is called {other}"),
    })
}

fn legs(name: &str) -> Vec<Leg> {
    let joined = |device: &str| Leg::Joined { device: device.into(), since_ms: START };
    let lost = |device: &str| Leg::Lost { device: device.into(), since_ms: START, until_ms: NOW + 5_000 };
    match name {
        "here" => vec![joined("u1")],
        "else" => vec![joined("u2")],
        "lost" => vec![lost("u1"), lost("u2")],
        "ring" => vec![Leg::Ringing],
        "gone" => vec![Leg::Declined, Leg::Missed, Leg::Left],
        other => panic!("no leg is called {other}"),
    }
}

fn statuses(column: &str) -> &'static [Status] {
    if column.contains("live") {
        &[Status::Accepted, Status::InProgress]
    } else {
        &[Status::Initiating, Status::Ringing]
    }
}

const OVER: [Status; 4] = [Status::Ended, Status::Rejected, Status::Missed, Status::Failed];

struct Case {
    kind: Kind,
    status: Status,
    caller: bool,
    leg: Leg,
}

impl Case {
    fn call(&self) -> Call {
        let seat = |who: Person, leg: &Leg| Seat { who, leg: leg.clone() };
        let other = Leg::Joined { device: "o1".into(), since_ms: START };
        let waiting = self.status.is_waiting();
        let u = seat(person("u"), &self.leg);
        let mut seats = match (self.caller, waiting) {
            (true, true) => vec![u, seat(person("o"), &Leg::Ringing)],
            (true, false) => vec![u, seat(person("o"), &other)],
            (false, _) => vec![seat(person("o"), &other), u],
        };
        if self.kind == Kind::Conference {
            seats.push(seat(person("p"), &Leg::Ringing));
        }
        let mut call = Stage::live_pair().call().clone();
        call.kind = self.kind;
        call.status = self.status;
        call.accepted_ms = (!waiting).then_some(START);
        Call { seats, ..call }
    }

    /// What a command gives, in the tables' words.
    fn outcome(&self, by: &str, act: Act) -> String {
        let call = self.call();
        let world = World { call: Some(call.clone()), ..World::default() };
        let command = Command { id: CommandId(1_000), call: call_id("x"), actor: Some(actor(by)), act };
        match decide(&world, &command, &Stage::new().settings, NOW) {
            Err(refusal) => refusal.code().into(),
            Ok(decision) if decision.events.is_empty() => {
                assert_eq!(decision.call, call, "nothing changed, and yet the call did");
                "same".into()
            }
            Ok(decision) if decision.call.status.is_over() => "over".into(),
            Ok(_) => "ok".into(),
        }
    }
}

fn rows(table: &str) -> impl Iterator<Item = (&str, Vec<&str>)> {
    table.lines().skip(3).filter_map(|line| {
        let (name, cells) = line.split_once('|')?;
        Some((name.trim(), cells.split_whitespace().filter(|cell| *cell != "|").collect()))
    })
}

/// Role and phase, and leg, of each column.
fn columns(table: &str) -> Vec<(&str, &str)> {
    let mut head = table.lines().skip(1).map(|line| line.split('|').skip(1));
    let (groups, legs) = (head.next().unwrap(), head.next().unwrap());
    groups
        .zip(legs)
        .flat_map(|(group, legs)| legs.split_whitespace().map(move |leg| (group.trim(), leg)))
        .collect()
}

fn as_expected(expected: &str, got: &str, status: Status) -> bool {
    let done = matches!(status, Status::InProgress | Status::Ringing);
    match expected {
        "once" => got == if done { "same" } else { "ok" },
        "ok" | "over" | "same" => got == expected,
        code => got.starts_with(code),
    }
}

fn check(kind: Kind, table: &str) {
    let columns = columns(table);
    for (name, cells) in rows(table) {
        assert_eq!(cells.len(), columns.len(), "{name}");
        for ((group, leg), expected) in columns.iter().zip(cells) {
            check_cell(kind, name, group, leg, expected);
        }
    }
}

fn check_cell(kind: Kind, name: &str, group: &str, leg: &str, expected: &str) {
    // Of two, both are alike once it is answered.
    let callers: &[bool] = match group {
        "live" => &[true, false],
        group if group.starts_with("guest") => &[false],
        _ => &[true],
    };
    for &status in statuses(group) {
        for &caller in callers {
            for leg in legs(leg) {
                let case = Case { kind, status, caller, leg };
                let got = case.outcome("u1", act(name));
                let what = format!("{kind:?} {status:?} {group} {:?}: {name}", case.leg);
                assert!(as_expected(expected, &got, status), "{what}: {got}, not {expected}");
            }
        }
    }
}

#[test]
fn calls_of_two() {
    check(Kind::OneToOne, OF_TWO);
}

#[test]
fn conferences() {
    check(Kind::Conference, CONFERENCE);
}

/// Every status, kind, role and leg there is, reachable or not.
fn all_cases(statuses: &[Status]) -> Vec<Case> {
    let mut cases = Vec::new();
    for &status in statuses {
        for kind in [Kind::OneToOne, Kind::Conference] {
            for caller in [true, false] {
                let legs = ["here", "else", "lost", "ring", "gone"].into_iter().flat_map(legs);
                cases.extend(legs.map(|leg| Case { kind, status, caller, leg }));
            }
        }
    }
    cases
}

#[test]
fn what_is_over_stays_so() {
    for case in all_cases(&OVER) {
        for (name, _) in rows(OF_TWO) {
            let quiet = name == "look" || name.starts_with("tick") || name.starts_with("devices");
            let expected = if quiet { "same" } else { Refusal::Over.code() };
            assert_eq!(case.outcome("u1", act(name)), expected, "{:?} {:?}: {name}", case.status, case.leg);
        }
    }
}

#[test]
fn who_has_no_seat_is_told_of_no_call() {
    let all = [&OVER[..], statuses("waiting"), statuses("live")].concat();
    for case in all_cases(&all) {
        for (name, _) in
            rows(OF_TWO).filter(|(name, _)| !name.starts_with("tick") && !name.starts_with("dev"))
        {
            assert_eq!(case.outcome("z1", act(name)), Refusal::UnknownCall.code(), "{name}");
        }
    }
}

#[test]
fn states_that_cannot_be_panic_neither() {
    for case in all_cases(&[statuses("waiting"), statuses("live")].concat()) {
        for (name, _) in rows(OF_TWO) {
            case.outcome("u1", act(name));
        }
    }
}

#[test]
fn without_a_call_there_is_only_a_new_one() {
    for (name, _) in rows(OF_TWO).filter(|(name, _)| *name != "initiate") {
        assert_eq!(Stage::new().does("u1", "x", act(name)), Err(Refusal::UnknownCall), "{name}");
    }
    assert!(Stage::new().does("u1", "x", act("initiate")).is_ok());
}
