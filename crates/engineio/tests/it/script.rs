//! A session driven by bytes: every two are one step. The property tests and the fuzz target share this file.

use bytes::Bytes;
use engineio::{CloseReason, Config, Frame, Input, Message, PollId, WsId};

use crate::rig::Rig;

/// Bodies and frames worth mixing.
const TEXTS: [&str; 16] = [
    "4a", "3", "2probe", "5", "2probe", "5", "1", "6", "2", "", "7", "4a\x1e4b", "bAQI=", "b!", "0{}",
    "3probe",
];

/// Runs the script; panics when an invariant breaks.
pub fn run(bytes: &[u8], config: Config) {
    let mut rig = match bytes.first() {
        Some(first) if first % 4 == 0 => Rig::websocket(config).0,
        _ => Rig::polling(config),
    };
    let mut sent = 0;
    for step in bytes.chunks_exact(2) {
        take(&mut rig, step[0], step[1], &mut sent);
        // Some steps pile up before anything is drawn.
        if step[1] < 200 || !rig.unanswered.is_empty() {
            rig.draw();
        }
    }
    rig.draw();
    check_order(&rig, sent);
}

fn take(rig: &mut Rig, what: u8, detail: u8, sent: &mut u32) {
    let text = TEXTS[usize::from(detail % 16)];
    match what % 16 {
        0 | 1 => {
            let id = rig.request();
            rig.give_only(Input::Poll(id));
        }
        2 => {
            let last = PollId(rig.requests_seen().saturating_sub(u64::from(detail % 2)));
            rig.give_only(Input::PollGone(last));
        }
        3 | 4 => {
            let id = rig.request();
            let body = if detail == 255 {
                Bytes::from(vec![b'4'; 2000])
            } else {
                Bytes::from_static(text.as_bytes())
            };
            rig.give_only(Input::Post { id, body });
        }
        5 => {
            let ws = rig.next_ws();
            rig.give_only(Input::WsOpen(ws));
        }
        6 => {
            rig.draw();
            let ws = some_ws(rig, detail);
            rig.gone(ws);
        }
        7 | 8 => rig.give_only(Input::WsFrame { ws: some_ws(rig, detail), frame: Frame::Text(text.into()) }),
        9 | 10 => send(rig, detail, sent),
        11 => rig.give_only(Input::Reserve(u64::from(detail % 3))),
        12 => rig.give_only(Input::Release(u64::from(detail % 3))),
        13 => {
            rig.now += u64::from(detail) * 2;
            rig.give_only(Input::Tick);
        }
        14 => move_on(rig, detail),
        // Seldom: it ends the story.
        _ if detail < 60 => {
            let reason = CloseReason::ALL[usize::from(detail) % CloseReason::ALL.len()];
            rig.give_only(Input::Close(reason));
        }
        _ => rig.give_only(Input::Tick),
    }
}

// The latest WebSocket, most of the time.
fn some_ws(rig: &Rig, detail: u8) -> WsId {
    WsId(rig.websockets_seen().saturating_sub(u32::from(detail / 16 == 15)))
}

fn send(rig: &mut Rig, detail: u8, sent: &mut u32) {
    let frame = if detail.is_multiple_of(2) {
        Frame::message(&format!("{sent:04}{}", "x".repeat(usize::from(detail))))
    } else {
        Frame::Binary(format!("{sent:04}").into())
    };
    rig.give_only(Input::Send(frame));
    *sent += 1;
}

fn move_on(rig: &mut Rig, detail: u8) {
    rig.draw();
    if detail >= 60 {
        return;
    }
    if let Some(frozen) = rig.session.freeze(&rig.config, rig.now) {
        rig.draw();
        rig.arrive(frozen);
    }
}

// Sends stop counting when the session closes, so what arrived is the beginning of what was sent; while the session is
// alive and nothing waits, it is all of it.
fn check_order(rig: &Rig, sent: u32) {
    let numbers: Vec<u32> = rig.delivered.iter().map(number).collect();
    let expected: Vec<u32> = (0..).take(numbers.len()).collect();
    assert_eq!(numbers, expected);
    if rig.session.direct().is_some() {
        assert_eq!(numbers.len(), sent as usize);
    }
}

fn number(message: &Message) -> u32 {
    let bytes = match message {
        Message::Text(text) => text.as_bytes(),
        Message::Binary(bytes) => bytes,
    };
    std::str::from_utf8(&bytes[..4]).expect("digits").parse().expect("a number")
}
