//! Whatever order inputs come in, what the rig asserts holds, and what was sent arrives once and in order.

use engineio::{CloseReason, Config, Message};
use proptest::prelude::*;

use crate::rig::{Rig, config};
use crate::script;

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_script_keeps_the_invariants(bytes in proptest::collection::vec(any::<u8>(), 0..240)) {
        script::run(&bytes, config());
    }

    // Long lives: no deadline ends them, so that upgrades and moves happen deep into a script.
    #[test]
    fn any_script_of_a_calm_session_keeps_the_invariants(bytes in proptest::collection::vec(any::<u8>(), 0..240)) {
        let calm = Config { ping_interval_ms: 1 << 40, max_queue_bytes: 1 << 20, ..config() };
        script::run(&bytes, calm);
    }
}

proptest! {
    /// The story that matters: polling, an upgrade here or a move elsewhere at any moment, sends throughout.
    #[test]
    fn nothing_is_lost_doubled_or_reordered_across_an_upgrade(
        steps in proptest::collection::vec(0_u8..4, 0..40),
        upgrade_at in 0_usize..40,
        moves in any::<bool>(),
    ) {
        let calm = Config { ping_interval_ms: 1 << 40, max_queue_bytes: 1 << 20, ..config() };
        let mut rig = Rig::polling(calm);
        let mut sent = 0;
        for (at, step) in steps.iter().enumerate() {
            if at == upgrade_at {
                upgrade(&mut rig, moves, &mut sent);
            }
            match step {
                0 if rig.unanswered.is_empty() => { rig.poll(); }
                1 => { rig.advance(60); }
                _ => send(&mut rig, &mut sent),
            }
        }
        while rig.session.queued_bytes() > 0 {
            rig.polled();
        }
        let expected: Vec<_> = (0..sent).map(|n: u32| Message::Text(n.to_string().as_str().into())).collect();
        prop_assert_eq!(&rig.delivered, &expected);
        prop_assert_eq!(rig.closed, None::<CloseReason>);
    }
}

fn send(rig: &mut Rig, sent: &mut u32) {
    rig.send(&sent.to_string());
    *sent += 1;
}

fn upgrade(rig: &mut Rig, moves: bool, sent: &mut u32) {
    if moves {
        rig.give(engineio::Input::Reserve(1));
        send(rig, sent);
        let frozen = rig.session.freeze(&rig.config, rig.now).expect("it polls");
        rig.draw();
        rig.arrive(frozen);
        rig.draw();
    } else {
        let (ws, _) = rig.open();
        rig.frame(ws, "2probe");
        send(rig, sent);
        rig.frame(ws, "5");
    }
}
