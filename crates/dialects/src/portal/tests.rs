//! What goes in, what comes out: transcripts of single events.

use domain::{Identity, Rejection, RoomId, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Portal, PortalSettings};
use crate::{Action, Actions, Command, Inbound, Membership, Out, Outcome, Socket, Token, TokenFailure};

mod authorization;
mod backend;
mod message;
mod rights;
mod rooms;

fn settings() -> PortalSettings {
    PortalSettings { max_rooms: 5, ..PortalSettings::default() }
}

fn dialect() -> Portal {
    Portal::new("/events", settings()).unwrap()
}

fn identity(claims: Value) -> Identity {
    let id = claims.get("userId").cloned().unwrap_or_else(|| "7".into());
    Identity {
        user: UserId::from_json(&id).unwrap(),
        numeric: id.is_number(),
        role: claims.get("role").and_then(Value::as_str).map(Into::into),
        name: None,
        token_id: None,
        expires_at: claims.get("exp").and_then(Value::as_u64),
        claims: claims.as_object().unwrap().clone(),
    }
}

fn patient() -> Identity {
    identity(json!({ "userId": "7", "role": "patient" }))
}

fn doctor() -> Identity {
    identity(json!({ "userId": 3, "role": "doctor", "patients": [7, "8"] }))
}

fn member(room: &str, note: Option<&str>) -> Membership {
    Membership { room: room.into(), note: note.map(Into::into) }
}

fn socket<'a>(identity: Option<&'a Identity>, memberships: &'a [Membership]) -> Socket<'a> {
    Socket {
        id: "s1",
        namespace: "/events",
        identity,
        memberships,
        placed: &[],
        calls: &[],
        handshake: None,
        stage: 0,
        granted: &[],
    }
}

/// What a socket says, and what the dialect answers.
struct Talk<'a> {
    identity: Option<&'a Identity>,
    memberships: &'a [Membership],
    wants_ack: bool,
}

impl<'a> Talk<'a> {
    fn of(identity: &'a Identity) -> Self {
        Self { identity: Some(identity), memberships: &[], wants_ack: true }
    }

    fn nobody() -> Self {
        Self { identity: None, memberships: &[], wants_ack: true }
    }

    fn inside(self, memberships: &'a [Membership]) -> Self {
        Self { memberships, ..self }
    }

    fn without_ack(self) -> Self {
        Self { wants_ack: false, ..self }
    }

    fn say(&self, name: &str, payload: Value) -> Actions {
        let raw = RawValue::from_string(payload.to_string()).unwrap();
        let inbound = Inbound { name, args: &[&raw], attachments: &[], wants_ack: self.wants_ack, now_ms: 0 };
        dialect().event(&socket(self.identity, self.memberships), &inbound)
    }

    /// The one command, and what follows it.
    fn settle(&self, actions: Actions, outcome: Result<Outcome, Rejection>) -> (Command, Actions) {
        assert_eq!(actions.len(), 1, "{actions:?}");
        let Some(Action::Run(command, then)) = actions.into_iter().next() else { panic!("no command") };
        (command, then(&socket(self.identity, self.memberships), outcome))
    }
}

fn joined() -> Result<Outcome, Rejection> {
    Ok(Outcome::Joined { participants: vec![] })
}

fn names<T: AsRef<str>>(rooms: impl IntoIterator<Item = T>) -> Vec<String> {
    rooms.into_iter().map(|room| room.as_ref().to_owned()).collect()
}

fn rooms_of(command: &Command) -> Vec<String> {
    match command {
        Command::Join(joins) => names(joins.iter().map(|join| join.room.as_str())),
        Command::Leave(rooms) => names(rooms.iter().map(RoomId::as_str)),
        other => panic!("neither join nor leave: {other:?}"),
    }
}

fn body(out: &Out) -> Value {
    serde_json::from_slice(&out.tail).unwrap()
}

fn ack(actions: &[Action]) -> Value {
    let acks: Vec<Value> = actions
        .iter()
        .filter_map(|action| match action {
            Action::Ack(out) => Some(body(out)),
            _ => None,
        })
        .collect();
    assert_eq!(acks.len(), 1, "{actions:?}");
    acks[0].clone()
}

fn emitted(actions: &[Action]) -> Vec<(String, Value)> {
    let event = |action: &Action| match action {
        Action::Emit { event, args } => Some((event.to_string(), body(args))),
        _ => None,
    };
    actions.iter().filter_map(event).collect()
}

#[test]
fn a_good_token_joins_the_users_room_then_says_so() {
    let who = identity(json!({ "userId": "7", "role": "patient", "exp": 1_709_251_199u64 }));
    let talk = Talk::of(&who);
    let (command, then) = talk.settle(dialect().connecting(&socket(Some(&who), &[])), joined());
    assert_eq!(rooms_of(&command), ["u:7"]);
    assert!(matches!(then[0], Action::Accept), "{then:?}");
    let expected = json!({
        "userId": "7", "role": "patient", "rooms": ["u:7"], "expiresAt": "2024-02-29T23:59:59.000Z",
    });
    assert_eq!(emitted(&then), [("core:auth:success".to_owned(), expected)]);
}

#[test]
fn a_bus_that_does_not_answer_lets_nobody_in_and_refuses_nobody() {
    let who = patient();
    let actions = dialect().connecting(&socket(Some(&who), &[]));
    assert!(Talk::of(&who).settle(actions, Err(Rejection::Unavailable)).1.is_empty());
}

#[test]
fn a_bad_token_is_told_and_gets_a_grace_unless_the_setting_says_no() {
    let cases = [
        (TokenFailure::Missing, "missing_token"),
        (TokenFailure::Invalid, "invalid_token"),
        (TokenFailure::Expired, "expired_token"),
        (TokenFailure::Revoked, "revoked_token"),
        (TokenFailure::UnknownUser, "revoked_token"),
    ];
    let strict = Portal::new("/events", PortalSettings { refuse_at_once: true, ..settings() }).unwrap();
    for (failure, code) in cases {
        let told = emitted(&dialect().grace(failure).unwrap());
        assert_eq!((told.len(), &*told[0].0), (1, "core:auth:error"));
        assert_eq!(told[0].1["code"], code);
        assert!(told[0].1["message"].is_string());
        assert!(strict.grace(failure).is_none());
        assert_eq!(strict.refuse_token(failure).data, Some(json!({ "code": code })));
    }
}

#[test]
fn in_its_grace_a_socket_is_served_nothing_but_its_token() {
    let nobody = Talk::nobody();
    for event in ["join", "leave"] {
        let actions = nobody.say(event, json!("patient:7"));
        let [Action::PutOff { .. }] = &actions[..] else { panic!("{actions:?}") };
    }
    let Some(Action::PutOff { otherwise }) = nobody.say("join", json!("patient:7")).pop() else { panic!() };
    let limit = Rejection::OverLimit { what: "x", limit: 1, setting: "limits.pending_commands" };
    assert_eq!(ack(&otherwise(&limit))["code"], "over_limit");
    for event in ["message:send", "anything", "error", "ping"] {
        let answer = ack(&nobody.say(event, json!({ "patientId": "7", "text": "x" })));
        assert_eq!(answer, json!({ "ok": false, "error": "Not authenticated", "code": "unauthenticated" }));
        let told = emitted(&Talk::nobody().without_ack().say(event, json!({})));
        let expected = json!({ "message": "Not authenticated", "code": "unauthenticated", "event": event });
        assert_eq!(told, [("core:error".to_owned(), expected)]);
    }
}

#[test]
fn unknown_events_are_answered_where_an_answer_is_asked_for() {
    let who = patient();
    for event in ["nonsense", "ping", "error", "message:new", "core:auth:success"] {
        assert_eq!(ack(&Talk::of(&who).say(event, json!({})))["code"], "unknown_event");
        assert!(Talk::of(&who).without_ack().say(event, json!({})).is_empty());
    }
}
