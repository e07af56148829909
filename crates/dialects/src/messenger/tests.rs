//! What goes in, what comes out: transcripts. Calls are made by the domain's own machine, so that what is told here is what a
//! coordinator would tell.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use domain::call::{
    Act, Actor, Call, CallId, Command as CallCommand, CommandId, Person, View, World, decide,
};
use domain::ice::{IceServers, Turn};
use domain::{Identity, Rejection, RoomId, UserId};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Messenger;
use crate::{Action, Actions, Announcement, Command, Inbound, Out, Outcome, Realtime, Socket};

mod announce;
mod backend;
mod calls;
mod chat;
mod connecting;
mod media;

const NOW_MS: u64 = 100_000;

fn dialect() -> Messenger {
    let turn = Turn { urls: vec!["turn:t:3478".into()], secret: b"s"[..].into(), ttl_s: 600 };
    let mut realtime = Realtime { ice: IceServers { stun: vec![], turn: vec![turn] }, ..Realtime::default() };
    realtime.calls.signal_bytes = 400;
    realtime.calls.annotation_bytes = 200;
    Messenger::new("/", vec![], realtime).unwrap()
}

/// A user with a name of its own; all but `7` have string ids.
fn identity(user: &str) -> Identity {
    Identity {
        user: UserId::new(user).unwrap(),
        numeric: user == "7",
        role: None,
        name: Some(format!("Name{user}").into()),
        token_id: None,
        expires_at: None,
        claims: json!({ "userId": user, "chats": ["c1", 2] }).as_object().unwrap().clone(),
    }
}

/// The device of this name belongs to the user before its `-`.
fn user_of(device: &str) -> &str {
    device.split('-').next().unwrap()
}

/// A call as it goes on, with everything that was told of it.
struct Stage {
    call: Option<Call>,
    commands: u128,
    now_ms: u64,
}

impl Stage {
    fn new() -> Self {
        Self { call: None, commands: 0, now_ms: NOW_MS }
    }

    fn call(&self) -> &Call {
        self.call.as_ref().unwrap()
    }

    /// A client says something; the command that comes of it is decided.
    fn say(&mut self, device: &str, name: &str, payload: Value) -> Said {
        self.say_raw(device, name, &payload.to_string(), &[])
    }

    fn say_raw(&mut self, device: &str, name: &str, payload: &str, binary: &[Bytes]) -> Said {
        let identity = identity(user_of(device));
        let raw = RawValue::from_string(payload.into()).unwrap();
        let views: Vec<_> = self.call.iter().map(|call| Arc::new(View::of(call))).collect();
        let inbound =
            Inbound { name, args: &[&raw], attachments: binary, wants_ack: true, now_ms: self.now_ms };
        let actions = Action::without_hook(dialect().event(&socket(device, &identity, &views), &inbound));
        let mut said = Said::default();
        self.carry_out(device, actions, &mut said);
        said
    }

    fn carry_out(&mut self, device: &str, actions: Actions, said: &mut Said) {
        for action in actions {
            match action {
                Action::Ack(out) => said.ack = Some(body(&out)),
                Action::Emit { event, args } => said.own.push((event.into_owned(), body(&args))),
                Action::Run(command, then) => {
                    let outcome = self.run(device, command, said);
                    let identity = identity(user_of(device));
                    let views: Vec<_> = self.call.iter().map(|call| Arc::new(View::of(call))).collect();
                    let more = then(&socket(device, &identity, &views), outcome);
                    self.carry_out(device, more, said);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn run(&mut self, device: &str, command: Command, said: &mut Said) -> Result<Outcome, Rejection> {
        match command {
            Command::Call { call, act } => {
                let id = call.unwrap_or_else(|| CallId::new("C1").unwrap());
                let actor = Actor { who: Person::of(&identity(user_of(device))), device: device.into() };
                let told = self.decide(id, Some(actor), act)?;
                said.told.extend(told);
                Ok(Outcome::Call(Box::new(self.call().clone())))
            }
            Command::Emit(emission) => {
                said.relayed.push((
                    emission.rooms[0].as_str().into(),
                    emission.event.to_string(),
                    emission.args,
                ));
                assert!(emission.except_self);
                Ok(Outcome::Emitted)
            }
            // Into the chat that a call names.
            Command::Join(_) => Ok(Outcome::Joined { participants: Vec::new() }),
            other => panic!("{other:?}"),
        }
    }

    /// What the coordinator does with a command.
    fn decide(
        &mut self,
        call: CallId,
        actor: Option<Actor>,
        act: Act,
    ) -> Result<Vec<Announcement>, Rejection> {
        self.commands += 1;
        let invited = match &act {
            Act::Initiate(offer) => offer.invited.iter().map(|it| it.who.user.clone()).collect(),
            _ => BTreeSet::new(),
        };
        let busy = UserId::new("busy").unwrap();
        let world = World {
            call: self.call.clone().filter(|known| known.id == call),
            users: BTreeMap::new(),
            do_not_disturb: BTreeSet::from([busy]),
            connected: invited,
            ringing_besides: BTreeMap::new(),
        };
        let command = CallCommand { id: CommandId(self.commands), call, actor, act };
        let decision = decide(&world, &command, &dialect().realtime().calls, self.now_ms)?;
        let told = dialect().call_changed(&decision.call, &decision.events, self.now_ms);
        self.call = Some(decision.call);
        Ok(told)
    }

    /// Time does something.
    fn at(&mut self, now_ms: u64, act: Act) -> Vec<(String, String, Value)> {
        self.now_ms = now_ms;
        let id = self.call().id.clone();
        story(&self.decide(id, None, act).unwrap())
    }
}

/// What came of one event of a client.
#[derive(Debug, Default)]
struct Said {
    ack: Option<Value>,
    /// To the client itself.
    own: Vec<(String, Value)>,
    /// By the gateway: room, event, arguments.
    relayed: Vec<(String, String, Out)>,
    /// By the coordinator.
    told: Vec<Announcement>,
}

impl Said {
    fn ack(&self) -> &Value {
        self.ack.as_ref().expect("an ack")
    }

    fn code(&self) -> &str {
        assert_eq!(self.ack()["success"], false, "{:?}", self.ack());
        self.ack()["code"].as_str().unwrap()
    }

    /// The body of an event to the client itself.
    fn own(&self, event: &str) -> &Value {
        &self.own.iter().find(|(name, _)| name == event).unwrap_or_else(|| panic!("no {event}: {self:?}")).1
    }

    fn story(&self) -> Vec<(String, String, Value)> {
        story(&self.told)
    }
}

/// Rooms (with who is left out), event, body of each.
fn story(told: &[Announcement]) -> Vec<(String, String, Value)> {
    told.iter()
        .map(|it| {
            let mut rooms = it.rooms.iter().map(RoomId::as_str).collect::<Vec<_>>().join(" ");
            for device in &it.except {
                rooms += &format!(" -{device}");
            }
            (rooms, it.event.to_string(), body(&it.args))
        })
        .collect()
}

/// Room and event only.
fn outline(story: &[(String, String, Value)]) -> Vec<(&str, &str)> {
    story.iter().map(|(rooms, event, _)| (&**rooms, &**event)).collect()
}

fn socket<'a>(id: &'a str, identity: &'a Identity, calls: &'a [Arc<View>]) -> Socket<'a> {
    Socket {
        id,
        namespace: "/",
        identity: Some(identity),
        memberships: &[],
        placed: &[],
        calls,
        handshake: None,
        stage: 0,
        granted: &[],
    }
}

fn body(out: &Out) -> Value {
    serde_json::from_slice(&out.tail).unwrap()
}

/// 7 calls 9 with the devices `7-a` and `9-a`, and 9 has answered.
fn answered() -> Stage {
    let mut stage = Stage::new();
    stage.say("7-a", "call:initiate", json!({ "receiverId": "9", "callType": "video" }));
    stage.say("9-a", "call:response", json!({ "callId": "C1", "action": "accept" }));
    stage
}

/// A conference of 7 with 8 and 9, whom 8 and 9 have joined.
fn conference() -> Stage {
    let mut stage = Stage::new();
    stage.say("7-a", "conference:create", json!({ "participants": ["8", "9"], "callType": "video" }));
    for device in ["8-a", "9-a"] {
        stage.say(device, "call:response", json!({ "callId": "C1", "action": "accept" }));
    }
    stage
}

/// The user's own TURN credentials.
fn is_ice_of(ice: &Value, user: &str) {
    assert_eq!(ice[0]["username"], format!("700:{user}"));
    assert!(ice[0]["credential"].is_string());
}
