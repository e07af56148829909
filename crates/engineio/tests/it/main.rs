//! The codecs and the session machine under test. `rig` drives a session and checks what holds always; `random` feeds it
//! whatever, `table` every input in every state; the others tell one behaviour per test.

mod codec;
mod moving;
mod polling;
mod random;
mod requests;
mod rig;
mod script;
mod table;
mod upgrade;
mod websocket;
