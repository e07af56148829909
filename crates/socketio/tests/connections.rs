//! The session machine: every state under every input, holding, acks, timers, the move to another node.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use socketio::{
    AckError, Connections, DecodeError, Encoded, Event, FrozenConnections, Incoming, Json, Limits, Namespace,
    Violation,
};

fn text(frame: &str) -> Encoded {
    Encoded::Text(frame.to_owned())
}

const TIMEOUT_MS: u64 = 1000;

struct Client {
    limits: Limits,
    session: Connections,
    now: u64,
}

impl Client {
    fn new() -> Self {
        Self { limits: Limits::default(), session: Connections::new(0, TIMEOUT_MS), now: 0 }
    }

    fn connected(namespaces: &[&str]) -> Self {
        let mut client = Self::new();
        for name in namespaces {
            client.send(&format!("0{name},")).unwrap();
            client.session.accept(&nsp(name), "sid", None).unwrap();
        }
        client
    }

    fn send(&mut self, text: &str) -> Result<Option<Event>, Violation> {
        self.session.handle(&self.limits, self.now, Incoming::Text(Bytes::from(text.to_owned())))
    }

    fn send_binary(&mut self, bytes: &'static [u8]) -> Result<Option<Event>, Violation> {
        self.session.handle(&self.limits, self.now, Incoming::Binary(Bytes::from_static(bytes)))
    }

    fn ask(&mut self, name: &str, tag: u64, deadline: u64) -> Result<u64, AckError> {
        self.session.register_ack(&self.limits, &nsp(name), tag, deadline)
    }
}

fn nsp(name: &str) -> Namespace {
    Namespace::new(name).unwrap()
}

/// One word per outcome, so that the table below reads as a table.
fn word(result: &Result<Option<Event>, Violation>) -> &'static str {
    match result {
        Ok(None) => "held",
        Ok(Some(Event::ConnectRequested { .. })) => "requested",
        Ok(Some(Event::Received { .. })) => "received",
        Ok(Some(Event::Acked { .. })) => "acked",
        Ok(Some(Event::StrayAck { .. })) => "stray",
        Ok(Some(Event::Left { .. })) => "left",
        Ok(Some(Event::AckExpired { .. })) => "expired",
        Err(_) => "closed",
    }
}

#[test]
fn every_state_under_every_input() {
    // Input: state of "/a" before it → new, pending, connected, left by the client, refused, disconnected by the server.
    let table = [
        ("0/a,", ["requested", "closed", "closed", "requested", "requested", "requested"]),
        ("0/b,", ["requested", "requested", "requested", "requested", "requested", "requested"]),
        ("2/a,[\"x\"]", ["closed", "held", "received", "closed", "closed", "closed"]),
        ("2/a,7[\"x\"]", ["closed", "held", "received", "closed", "closed", "closed"]),
        ("2/b,[\"x\"]", ["closed", "closed", "closed", "closed", "closed", "closed"]),
        ("3/a,0[]", ["closed", "stray", "acked", "closed", "closed", "closed"]),
        ("3/a,9[]", ["closed", "stray", "stray", "closed", "closed", "closed"]),
        ("1/a,", ["closed", "held", "left", "closed", "closed", "closed"]),
        ("4/a,{\"message\":\"no\"}", ["closed", "closed", "closed", "closed", "closed", "closed"]),
        ("2/a,{}", ["closed", "closed", "closed", "closed", "closed", "closed"]),
        ("abc", ["closed", "closed", "closed", "closed", "closed", "closed"]),
    ];
    for (input, outcomes) in table {
        for (state, outcome) in outcomes.into_iter().enumerate() {
            let mut client = Client::new();
            if state >= 1 {
                client.send("0/a,").unwrap();
            }
            match state {
                4 => drop(client.session.refuse(&nsp("/a"), "no", None).unwrap()),
                2 | 3 | 5 => drop(client.session.accept(&nsp("/a"), "sid", None).unwrap()),
                _ => {}
            }
            match state {
                2 => assert_eq!(client.ask("/a", 1, 100), Ok(0)),
                3 => assert_eq!(word(&client.send("1/a,")), "left"),
                5 => drop(client.session.disconnect(&nsp("/a")).unwrap()),
                _ => {}
            }
            assert_eq!(word(&client.send(input)), outcome, "{input} in state {state}");
        }
    }
}

#[test]
fn replies_are_the_published_bytes() {
    let mut client = Client::new();
    let custom = nsp("/custom");
    let auth = Some(Json::new(r#"{"token":"123"}"#).unwrap());
    let requested = Event::ConnectRequested { nsp: Namespace::MAIN, auth };
    assert_eq!(client.send(r#"0{"token":"123"}"#), Ok(Some(requested)));
    let accepted = client.session.accept(&Namespace::MAIN, "abc", None).unwrap();
    assert_eq!((accepted.frame, accepted.held), (text(r#"40{"sid":"abc"}"#), vec![]));

    client.send("0/custom").unwrap();
    let accepted = client.session.accept(&custom, "abc", Some("p")).unwrap();
    assert_eq!(accepted.frame, text(r#"40/custom,{"sid":"abc","pid":"p"}"#));
    assert_eq!(client.session.sid(&custom), Some("abc"));
    assert_eq!(client.session.disconnect(&custom).unwrap().frame, text("41/custom,"));
    assert_eq!(client.session.disconnect(&Namespace::MAIN).unwrap().frame, text("41"));

    client.send("0/random").unwrap();
    let refused = client.session.refuse(&nsp("/random"), "Invalid namespace", None);
    assert_eq!(refused, Some(text(r#"44/random,{"message":"Invalid namespace"}"#)));
    client.send("0").unwrap();
    let data = Json::new(r#"{"code":"E1"}"#).unwrap();
    let refused = client.session.refuse(&Namespace::MAIN, "no \"entry\"", Some(&data));
    assert_eq!(refused, Some(text(r#"44{"message":"no \"entry\"","data":{"code":"E1"}}"#)));
}

#[test]
fn decisions_come_once() {
    let mut client = Client::connected(&["/a"]);
    assert_eq!(client.session.accept(&nsp("/a"), "again", None), None);
    assert_eq!(client.session.refuse(&nsp("/a"), "no", None), None);
    assert_eq!(client.session.accept(&nsp("/b"), "sid", None), None);
    client.send("0/b,").unwrap();
    assert_eq!(client.session.disconnect(&nsp("/b")), None);
    assert_eq!(client.session.connected().collect::<Vec<_>>(), [(&nsp("/a"), "sid")]);
}

#[test]
fn packets_before_the_decision_follow_it_in_order() {
    let mut client = Client::new();
    client.send("0").unwrap();
    for text in ["2[\"one\"]", "25[\"two\"]", "51-[\"three\",{\"_placeholder\":true,\"num\":0}]"] {
        assert_eq!(client.send(text), Ok(None));
    }
    assert_eq!(client.send_binary(b"x"), Ok(None));
    assert_eq!(client.send("1"), Ok(None));
    assert_eq!(client.send("2[\"after goodbye\"]"), Err(Violation::NotConnected));

    let held = client.session.accept(&Namespace::MAIN, "sid", None).unwrap().held;
    let names: Vec<_> = held
        .iter()
        .map(|event| match event {
            Event::Received { ack, args, .. } => (args.event_name().unwrap().into_owned(), ack.is_some()),
            Event::Left { .. } => ("left".to_owned(), false),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = [("one", false), ("two", true), ("three", false), ("left", false)];
    assert_eq!(names, expected.map(|(name, ack)| (name.to_owned(), ack)));
    assert_eq!(client.session.connected().count(), 0);
}

#[test]
fn holding_is_bounded_in_packets_and_bytes() {
    let mut client = Client::new();
    client.send("0").unwrap();
    for _ in 0..client.limits.max_held_packets {
        assert_eq!(client.send("2[\"x\"]"), Ok(None));
    }
    assert_eq!(client.send("2[\"x\"]"), Err(Violation::HeldTooMuch));

    let mut client = Client::new();
    client.limits.max_held_bytes = 9;
    client.send("0").unwrap();
    assert_eq!(client.send("2[\"x\"]"), Ok(None));
    assert_eq!(client.send("2[\"x\"]"), Err(Violation::HeldTooMuch));
}

#[test]
fn a_session_has_a_bounded_number_of_namespaces() {
    let mut client = Client::new();
    client.limits.max_sockets_per_session = 2;
    client.send("0/a,").unwrap();
    client.send("0/b,").unwrap();
    assert_eq!(client.send("0/c,"), Err(Violation::TooManyNamespaces));
}

#[test]
fn violations_are_told_apart() {
    let mut client = Client::connected(&["/"]);
    assert_eq!(client.send("0"), Err(Violation::AlreadyConnected));
    assert_eq!(client.send("4\"x\""), Err(Violation::ConnectErrorFromClient));
    assert_eq!(client.send("2[\"connect\"]"), Err(Violation::Decode(DecodeError::ReservedEvent)));
    assert_eq!(client.send_binary(b"x"), Err(Violation::Decode(DecodeError::UnexpectedBinary)));
}

#[test]
fn an_answer_counts_once_in_its_namespace() {
    let mut client = Client::connected(&["/a", "/b"]);
    assert_eq!(client.ask("/a", 70, 100), Ok(0));
    assert_eq!(client.ask("/b", 71, 100), Ok(1));
    assert_eq!(client.ask("/c", 72, 100), Err(AckError::NotConnected));
    assert_eq!(word(&client.send("3/b,0[]")), "stray");
    let Ok(Some(Event::Acked { nsp: from, tag, args })) = client.send("3/a,0[5,{}]") else {
        panic!("no answer")
    };
    assert_eq!((from, tag, args.json().as_str()), (nsp("/a"), 70, "[5,{}]"));
    assert_eq!(client.send("3/a,0[5]"), Ok(Some(Event::StrayAck { nsp: nsp("/a"), id: 0 })));

    client.send("61-/b,1[{\"_placeholder\":true,\"num\":0}]").unwrap();
    let Ok(Some(Event::Acked { args, .. })) = client.send_binary(b"x") else { panic!("no binary answer") };
    assert_eq!(args.binary_at(0), Some(&Bytes::from_static(b"x")));
}

#[test]
fn acks_are_bounded_and_expire() {
    let mut client = Client::connected(&["/a"]);
    client.limits.max_pending_acks = 2;
    client.ask("/a", 1, 50).unwrap();
    client.ask("/a", 2, 40).unwrap();
    assert_eq!(client.ask("/a", 3, 60), Err(AckError::TooMany));
    assert_eq!(client.session.next_timeout(), Some(40));
    assert_eq!(client.session.expire(39), Ok(vec![]));
    client.now = 40;
    assert_eq!(word(&client.send("3/a,1[]")), "stray", "due, though no timer has fired yet");
    assert_eq!(client.session.expire(40), Ok(vec![Event::AckExpired { nsp: nsp("/a"), tag: 2 }]));
    assert_eq!(client.session.next_timeout(), Some(50));
    assert_eq!(word(&client.send("3/a,0[]")), "acked");
    assert_eq!(client.session.next_timeout(), None);
}

#[test]
fn leaving_tells_which_answers_never_come() {
    let mut client = Client::connected(&["/a", "/b"]);
    client.ask("/a", 1, 50).unwrap();
    client.ask("/b", 2, 50).unwrap();
    client.ask("/a", 3, 50).unwrap();
    assert_eq!(client.send("1/a,"), Ok(Some(Event::Left { nsp: nsp("/a"), unanswered: vec![1, 3] })));
    client.send("0/a,").unwrap();
    client.session.accept(&nsp("/a"), "new", None).unwrap();
    assert_eq!(word(&client.send("3/a,0[]")), "stray", "an old answer never reaches a new socket");
    assert_eq!(client.ask("/a", 4, 50), Ok(3));
    assert_eq!(client.session.disconnect(&nsp("/b")).unwrap().unanswered, [2]);
    assert_eq!(client.session.into_unanswered(), [4]);
}

#[test]
fn a_silent_client_is_closed() {
    let mut client = Client::new();
    assert_eq!(client.session.next_timeout(), Some(TIMEOUT_MS));
    assert_eq!(client.session.expire(TIMEOUT_MS - 1), Ok(vec![]));
    assert_eq!(client.session.expire(TIMEOUT_MS), Err(Violation::ConnectTimeout));
    client.now = TIMEOUT_MS;
    assert_eq!(client.send("0"), Err(Violation::ConnectTimeout), "checked on arrival too");

    let mut refused = Client::new();
    refused.send("0").unwrap();
    refused.session.refuse(&Namespace::MAIN, "no", None).unwrap();
    assert_eq!(
        refused.session.expire(TIMEOUT_MS),
        Err(Violation::ConnectTimeout),
        "a refusal is no connection"
    );

    let mut left = Client::connected(&["/"]);
    left.send("1").unwrap();
    assert_eq!(left.session.next_timeout(), None, "as in the reference, once is enough");

    let mut asked = Client::connected(&["/"]);
    asked.session.disconnect(&Namespace::MAIN).unwrap();
    asked.session.expect_connect(10, 5);
    assert_eq!(asked.session.expire(14), Ok(vec![]));
    asked.send("0").unwrap();
    asked.session.accept(&Namespace::MAIN, "again", None).unwrap();
    assert_eq!(asked.session.expire(15), Ok(vec![]), "it came back in time");
}

#[test]
fn a_session_moves_between_clocks() {
    let mut client = Client::connected(&["/a"]);
    client.ask("/a", 1, 500).unwrap();
    client.send("0/b,").unwrap();
    client.send("2/b,[\"early\"]").unwrap();
    client.send("51-/a,[\"half\",{\"_placeholder\":true,\"num\":0}]").unwrap();

    let wire = rmp_serde::to_vec(&client.session.freeze(200)).unwrap();
    let frozen: FrozenConnections = rmp_serde::from_slice(&wire).unwrap();
    client.session = Connections::thaw(frozen, 1_000_000);
    client.now = 1_000_000;

    assert_eq!(client.session.next_timeout(), Some(1_000_300));
    assert_eq!(word(&client.send_binary(b"rest")), "received");
    assert_eq!(client.session.accept(&nsp("/b"), "sid", None).unwrap().held.len(), 1);
    assert_eq!(word(&client.send("3/a,0[]")), "acked");

    let silent = Connections::new(0, TIMEOUT_MS).freeze(400);
    assert_eq!(Connections::thaw(silent, 5000).next_timeout(), Some(5600));
}
