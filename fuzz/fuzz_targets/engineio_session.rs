//! The session machine driven by arbitrary bytes; the script and its invariants are those of the property tests.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/engineio/tests/it/rig.rs"]
mod rig;
#[path = "../../crates/engineio/tests/it/script.rs"]
mod script;

fuzz_target!(|bytes: &[u8]| script::run(bytes, rig::config()));
