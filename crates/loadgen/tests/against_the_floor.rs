//! The generator against its own floor server, faithful and faulty: clean runs are reported clean, and every kind of
//! fault is found.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use loadgen::crew::Muster;
use loadgen::floor::{self, Fault, Mode};
use loadgen::measure::Window;
use loadgen::scenario::churn::Churn;
use loadgen::scenario::connections::Connections;
use loadgen::scenario::echo::Echo;
use loadgen::scenario::fanout::{self, Fanout, Load};
use loadgen::session::{Target, Transport};
use loadgen::tokens::Tokens;
use loadgen::vocabulary::{App, Class, Vocabulary};
use loadgen::wire::http::Endpoint;

/// The server lives on a thread of its own until the test process ends.
fn floor(mode: Mode, fault: Fault) -> Arc<Target> {
    let (tell, told) = mpsc::channel();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    thread::spawn(move || {
        floor::run(listen, mode, fault, |addr| tell.send(addr).expect("the test waits for it"))
    });
    let endpoint = told.recv().expect("the floor binds a free port");
    let endpoint = Endpoint::parse(&format!("http://{endpoint}")).expect("an address is a URL's host");
    Arc::new(Target {
        endpoints: vec![endpoint],
        sources: Vec::new(),
        path: "/socket.io/".to_owned(),
        transport: Transport::Websocket,
        vocabulary: Vocabulary::new(App::Rooms, "/"),
        tokens: Tokens::None,
        first_user: 0,
        timeout: Duration::from_secs(10),
    })
}

fn window() -> Window {
    let pids = vec![std::process::id()];
    Window { warmup: Duration::from_millis(50), length: Duration::from_millis(400), pids }
}

fn muster(clients: usize) -> Muster {
    Muster { clients, threads: 2, connect_rate: 5000.0 }
}

fn run_fanout(mode: Mode, fault: Fault, class: Class, load: Load) -> fanout::Report {
    let plan = Fanout {
        threads: 2,
        connect_rate: 5000.0,
        rooms: 3,
        members: 10,
        senders: 2,
        class,
        payload_bytes: 128,
        load,
        window: window(),
    };
    plan.run(&floor(mode, fault)).expect("the floor accepts everybody")
}

#[test]
fn a_faithful_server_is_reported_clean() {
    for mode in [Mode::PerDelivery, Mode::PerTurn] {
        for class in [Class::Ephemeral, Class::Recoverable] {
            let report = run_fanout(mode, Fault::None, class, Load::Open { rate: 100.0 });
            assert!(report.is_clean(), "{report:?}");
            // 3 rooms at 100 messages per second for 0.45 s: 135, give or take one per sender for its phase.
            assert!((129..=141).contains(&report.sent), "{report:?}");
            assert_eq!(
                (report.verdict.expected, report.verdict.delivered),
                (report.sent * 10, report.sent * 10)
            );
            assert_eq!(report.verdict.room_order_breaks, 0);
            assert_eq!(report.ack_latency.is_some(), class == Class::Recoverable);
            assert!(report.latency.count >= 1140 && report.cpu.is_some(), "{report:?}");
        }
    }
}

#[test]
fn a_closed_loop_keeps_going_and_stays_clean() {
    let report = run_fanout(Mode::PerDelivery, Fault::None, Class::Ephemeral, Load::Closed { in_flight: 4 });
    assert!(report.is_clean(), "{report:?}");
    assert!(report.sent > 100 && report.verdict.delivered == report.sent * 10, "{report:?}");
}

#[test]
fn faults_are_found_and_told_apart() {
    let open = Load::Open { rate: 100.0 };
    let found = |fault| run_fanout(Mode::PerDelivery, fault, Class::Ephemeral, open).verdict;
    let dropped = found(Fault::Drop(50));
    assert_eq!((dropped.lost, dropped.duplicated, dropped.out_of_order), (dropped.expected / 50, 0, 0));
    let doubled = found(Fault::Duplicate(50));
    assert_eq!((doubled.lost, doubled.duplicated, doubled.out_of_order), (0, doubled.expected / 50, 0));
    let reordered = found(Fault::Reorder(7));
    assert_eq!(reordered.duplicated, 0);
    assert!(reordered.room_order_breaks > 0 && !reordered.is_clean(), "{reordered:?}");
}

#[test]
fn echoes_come_back_in_both_loops() {
    for rate in [None, Some(2000.0)] {
        let plan = Echo { muster: muster(20), rate, payload_bytes: 64, window: window() };
        let report = plan.run(&floor(Mode::PerTurn, Fault::None)).unwrap();
        assert!(report.is_clean(), "{report:?}");
        assert!(report.answered > 500 && report.answered == report.sent, "{report:?}");
    }
}

#[test]
fn churn_is_answered() {
    let plan = Churn { muster: muster(20), rooms: 4, rate: 1000.0, window: window() };
    let report = plan.run(&floor(Mode::PerDelivery, Fault::None)).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(report.join_latency.count > 100 && report.leave_latency.count > 100, "{report:?}");
}

#[test]
fn connections_are_held_and_weighed() {
    let pids = vec![std::process::id()];
    let plan = Connections { muster: muster(100), hold: Duration::from_millis(50), pids };
    let report = plan.run(&floor(Mode::PerDelivery, Fault::None)).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(report.connects.opened, 100);
    assert!(report.memory.len() == 1 && report.idle_cpu.is_some());
}

#[test]
fn a_server_that_is_not_there_is_an_error() {
    let target = floor(Mode::PerDelivery, Fault::None);
    let mut gone = Arc::into_inner(target).unwrap();
    // Port 1 is not listened on.
    gone.endpoints = vec![Endpoint::parse("http://127.0.0.1:1").unwrap()];
    let plan = Echo { muster: muster(2), rate: None, payload_bytes: 64, window: window() };
    let error = plan.run(&Arc::new(gone)).unwrap_err().to_string();
    assert!(error.starts_with("2 of 2 clients did not connect"), "{error}");
}
