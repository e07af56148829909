//! Every input in every state. `table.txt` holds what comes out and what the state is afterwards; read it to see the whole
//! machine at once. A change of behaviour shows there as a change of lines.

use std::fmt::Write as _;

use bytes::Bytes;
use engineio::{Answer, CloseReason, Frame, Input, Output, PollId, WsId};

use crate::rig::{Rig, config};

type Make = fn() -> Rig;

const STATES: [(&str, Make); 15] = [
    ("polling", polling),
    ("polling, held", || held(polling())),
    ("polling, queued", || queued(polling())),
    ("candidate", candidate),
    ("candidate, held", || held(candidate())),
    ("probed", probed),
    ("probed, held", || held(probed())),
    ("reserved", reserved),
    ("reserved, held", || held(reserved())),
    ("websocket", websocket),
    ("websocket, pinged", pinged),
    ("closing by server", || given(queued(polling()), Input::Close(CloseReason::ServerShutdown))),
    ("closing by client", || posted(polling(), "1")),
    ("moved", moved),
    ("closed", || given(polling(), Input::Close(CloseReason::Internal))),
];

fn polling() -> Rig {
    Rig::polling(config())
}

fn held(mut rig: Rig) -> Rig {
    rig.hold();
    rig
}

fn queued(mut rig: Rig) -> Rig {
    rig.send("queued");
    rig
}

fn given(mut rig: Rig, input: Input) -> Rig {
    rig.give(input);
    rig
}

fn posted(mut rig: Rig, body: &str) -> Rig {
    rig.post(body.as_bytes());
    rig
}

fn candidate() -> Rig {
    let mut rig = polling();
    rig.open();
    rig
}

fn probed() -> Rig {
    let mut rig = polling();
    let (ws, _) = rig.open();
    rig.frame(ws, "2probe");
    rig
}

fn reserved() -> Rig {
    given(polling(), Input::Reserve(7))
}

fn websocket() -> Rig {
    let mut rig = probed();
    rig.frame(WsId(1), "5");
    rig
}

fn pinged() -> Rig {
    let mut rig = websocket();
    rig.advance(300);
    rig
}

fn moved() -> Rig {
    let mut rig = polling();
    rig.session.freeze(&rig.config, rig.now);
    rig
}

const REQUEST: PollId = PollId(90);
const NEW_WS: WsId = WsId(2);

fn inputs() -> Vec<(&'static str, Input)> {
    let post = |body: &'static str| Input::Post { id: REQUEST, body: Bytes::from_static(body.as_bytes()) };
    let frame = |ws, text: &str| Input::WsFrame { ws: WsId(ws), frame: Frame::Text(text.into()) };
    vec![
        ("GET", Input::Poll(REQUEST)),
        ("GET's client gone", Input::PollGone(PollId(1))),
        ("another GET's client gone", Input::PollGone(PollId(77))),
        ("POST 4a", post("4a")),
        ("POST 3", post("3")),
        ("POST 1", post("1")),
        ("POST 5", post("5")),
        ("POST 2probe", post("2probe")),
        ("POST garbage", post("garbage")),
        ("POST too large", Input::Post { id: REQUEST, body: Bytes::from(vec![b'4'; 1001]) }),
        ("new WebSocket", Input::WsOpen(NEW_WS)),
        ("WebSocket gone", Input::WsGone(WsId(1))),
        ("another WebSocket gone", Input::WsGone(WsId(77))),
        ("frame 2probe", frame(1, "2probe")),
        ("frame 5", frame(1, "5")),
        ("frame 4a", frame(1, "4a")),
        ("frame 3", frame(1, "3")),
        ("frame 1", frame(1, "1")),
        ("frame garbage", frame(1, "garbage")),
        ("frame binary", Input::WsFrame { ws: WsId(1), frame: Frame::Binary(Bytes::from_static(&[0])) }),
        ("another WebSocket's frame 4a", frame(77, "4a")),
        ("send b", Input::Send(Frame::message("b"))),
        ("send too much", Input::Send(Frame::Binary(vec![0; 5000].into()))),
        ("reserve 7", Input::Reserve(7)),
        ("reserve 8", Input::Reserve(8)),
        ("release 7", Input::Release(7)),
        ("release 8", Input::Release(8)),
        ("tick", Input::Tick),
        ("close, polite", Input::Close(CloseReason::ServerDisconnect)),
        ("close, hard", Input::Close(CloseReason::LeaseLost)),
    ]
}

#[test]
fn every_input_in_every_state_does_what_the_table_says() {
    let mut actual = String::new();
    for (state, make) in STATES {
        writeln!(actual, "# {state}").unwrap();
        for (name, input) in inputs() {
            let mut rig = make();
            let outputs = rig.give(input);
            writeln!(actual, "{name:28} -> {}", line(&outputs)).unwrap();
            check_end(rig, state, name);
        }
    }
    if actual != include_str!("table.txt") {
        panic!("the machine differs from table.txt; it does now:\n{actual}");
    }
}

// Left alone, every session ends exactly once (the rig counts) and owes nobody an answer.
fn check_end(mut rig: Rig, state: &str, name: &str) {
    rig.advance(600);
    rig.advance(20_000);
    if rig.closed.is_none() {
        assert_eq!(state, "moved", "{name} leaves a session that never ends");
        rig.give(Input::Close(CloseReason::MoveFailed));
    }
    assert!(rig.closed.is_some() && rig.unanswered.is_empty(), "{state}, {name}");
    assert_eq!(rig.session.next_timeout(), None);
}

fn line(outputs: &[Output]) -> String {
    if outputs.is_empty() {
        "nothing".to_owned()
    } else {
        outputs.iter().map(word).collect::<Vec<_>>().join(", ")
    }
}

fn word(output: &Output) -> String {
    match output {
        Output::Answer { id, answer } => format!("{} {}", who(*id), answer_word(answer)),
        Output::Ws { ws, frame } => format!("ws{} {frame:?}", ws.0),
        Output::WsClose { ws, code } => format!("ws{} closed {code}", ws.0),
        Output::Received(message) => format!("received {message:?}"),
        Output::Upgraded(ws) => format!("upgraded to ws{}", ws.0),
        Output::ReservationLost(token) => format!("reservation {token} lost"),
        Output::Closed(reason) => format!("CLOSED {}", reason.name()),
    }
}

fn who(id: PollId) -> &'static str {
    if id == REQUEST { "it gets" } else { "held poll gets" }
}

fn answer_word(answer: &Answer) -> String {
    match answer {
        Answer::Payload(body) => format!("{body:?}"),
        Answer::Ok => "ok".to_owned(),
        Answer::Refused { code, .. } => format!("400/{code}"),
        Answer::TooLarge => "413".to_owned(),
    }
}
