//! Calls and presence in a world where replicas and gateways die, clocks differ, reads lag, and messages are late, doubled, lost
//! and out of order. No NATS: the pure plans, and a model of what carries them out.
//!
//! A failing seed names itself; `SEED=n` runs it alone, `SEEDS=n` runs n times as many.

mod chance;
mod client;
mod faults;
mod gateway;
mod scripted;
mod sim;
mod store;
mod task;
mod witness;

use faults::{Broken, Faults};
use sim::Sim;

/// Milliseconds of the world's own time.
pub type Millis = u64;

fn run(seed: u64, faults: Faults) -> Sim {
    Sim::new(seed, faults, None).run()
}

#[test]
fn without_faults_every_command_is_answered() {
    let (accepted, glares) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    chance::seeds(200, |seed| {
        let sim = run(seed, Faults::NONE);
        assert_eq!(sim.witness.unavailable, 0);
        accepted.set(accepted.get() + sim.witness.accepted);
        glares.set(glares.get() + sim.witness.glares);
    });
    assert!(std::env::var("SEED").is_ok() || (accepted.get() > 200 && glares.get() > 20));
}

#[test]
fn late_doubled_and_lost_messages_change_nothing() {
    chance::seeds(200, |seed| drop(run(seed, Faults::NETWORK)));
}

#[test]
fn dying_replicas_leave_nothing_half_done() {
    chance::seeds(200, |seed| drop(run(seed, Faults::REPLICAS)));
}

#[test]
fn dying_gateways_leave_no_ghosts() {
    chance::seeds(200, |seed| drop(run(seed, Faults::GATEWAYS)));
}

#[test]
fn clients_that_leave_in_the_middle_of_it_leave_no_ghosts() {
    chance::seeds(100, |seed| drop(run(seed, Faults::HASTY)));
}

#[test]
fn everything_at_once() {
    chance::seeds(200, |seed| drop(run(seed, Faults::ALL)));
}

/// The world finds a broken rule within so many seeds, and says what came of it.
fn is_found(broken: Broken, said: &[&str]) {
    let found = (0..1_500).find_map(|seed| {
        let sim = std::panic::AssertUnwindSafe(|| drop(Sim::new(seed, Faults::ALL, Some(broken)).run()));
        let panic = std::panic::catch_unwind(sim).err()?;
        panic
            .downcast_ref::<String>()
            .cloned()
            .or(panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
    });
    let found = found.expect("a broken rule was not found");
    assert!(said.iter().any(|said| found.contains(said)), "{found}");
}

#[test]
fn broken_rules_are_found() {
    is_found(Broken::Compare, &["mirror", "revisions have a gap", "after the end", "two effects"]);
    is_found(Broken::LookFirst, &["presence", "hangs", "mirror"]);
    is_found(Broken::RememberCommands, &["two effects", "was refused"]);
    is_found(Broken::RememberChoices, &["two effects"]);
    is_found(Broken::TellEarlier, &["was told"]);
    is_found(Broken::TellFirst, &["was told"]);
    is_found(Broken::SetTimers, &["rings for ever", "waits for ever"]);
    is_found(Broken::ReadFresh, &[""]);
    is_found(Broken::Follow, &["mirror"]);
    is_found(Broken::Dangling, &["mirror", "somebody hangs", "something hangs"]);
}

#[test]
fn rarely_needed_rules_are_found_broken() {
    is_found(Broken::LookAgain, &["presence"]);
    is_found(Broken::NoteInstead, &["two effects", "was refused"]);
}
