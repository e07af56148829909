//! Sessions that move while messages flow both ways, in a world of lost, doubled and reordered datagrams and dying nodes.

#[path = "../net/mod.rs"]
mod net;
mod scripted;
mod sim;
mod world;

use net::Faults;
use sim::{Plan, Sim};
use world::Client;

const CALM: Plan = Plan { leave: 0, rival: 0, fail: 0, crash: None };

#[test]
fn without_faults_every_move_completes() {
    net::seeds(300, |seed| {
        let sim = Sim::new(seed, Faults::NONE, CALM).run();
        assert_eq!((sim.client, sim.installs), (Client::WebSocket, 1));
    });
}

#[test]
fn reordered_and_doubled_datagrams_change_nothing() {
    net::seeds(500, |seed| {
        let sim = Sim::new(seed, Faults::REORDER, CALM).run();
        assert_eq!((sim.client, sim.installs), (Client::WebSocket, 1));
    });
}

#[test]
fn an_abandoned_or_contested_upgrade_leaves_the_session_usable() {
    net::seeds(500, |seed| {
        let faults = [Faults::NONE, Faults::REORDER][(seed % 2) as usize];
        let sim = Sim::new(seed, faults, Plan { leave: 60, rival: 60, fail: 0, crash: None }).run();
        assert!(sim.client != Client::Lost || sim.left_after_upgrade, "the session was lost");
    });
}

#[test]
fn lost_datagrams_lose_no_message_and_double_no_session() {
    let moved = std::cell::Cell::new(0);
    net::seeds(700, |seed| {
        let sim = Sim::new(seed, Faults::LOSS, Plan { leave: 15, rival: 20, fail: 0, crash: None }).run();
        moved.set(moved.get() + sim.installs);
    });
    assert!(std::env::var("SEED").is_ok() || moved.get() > 400, "only {} of 700 moved", moved.get());
}

#[test]
fn a_session_that_cannot_be_installed_ends_at_both_nodes() {
    net::seeds(300, |seed| {
        let faults = [Faults::NONE, Faults::REORDER, Faults::LOSS][(seed % 3) as usize];
        let sim = Sim::new(seed, faults, Plan { leave: 10, rival: 20, fail: 80, crash: None }).run();
        assert!(sim.client != Client::Paused);
    });
}

#[test]
fn a_dying_node_hangs_nobody() {
    net::seeds(800, |seed| {
        let faults = [Faults::NONE, Faults::REORDER, Faults::LOSS][(seed % 3) as usize];
        let crash = Some((seed % 2) as usize);
        Sim::new(seed, faults, Plan { leave: 10, rival: 20, fail: 0, crash }).run();
    });
}
