//! Calls and users' records as coordinators keep them, in memory: load, decide, commit.

use std::collections::{BTreeMap, BTreeSet};

use domain::UserId;
use domain::call::{
    Act, Actor, Call, CallId, CallSettings, Command, CommandId, Decision, DeviceId, Event, Invite, Kind,
    MediaAct, MediaChange, Medium, Offer, Person, Refusal, Subject, UserCalls, World, concerned, decide,
    glare,
};

pub const START: u64 = 1_000_000;

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub fn person(name: &str) -> Person {
    Person { user: user(name), wire_id: name.into(), name: None, role: None }
}

pub fn call_id(name: &str) -> CallId {
    CallId::new(name).unwrap()
}

/// `a1` is user `a`'s device `a1`.
pub fn actor(device: &str) -> Actor {
    Actor { who: person(&device[..1]), device: device.into() }
}

pub fn offer(kind: Kind, invited: &[&str]) -> Offer {
    let invited = invited.iter().map(|name| Invite { who: person(name) }).collect();
    Offer { kind, medium: Medium::Video, subject: Subject::default(), invited }
}

pub fn media(what: MediaChange) -> Act {
    Act::Media(MediaAct { what, payload: "{}".into() })
}

pub fn end() -> Act {
    Act::End { said: None }
}

pub const ANSWER: Act = Act::Answer { glare: false };

#[derive(Clone, Default)]
pub struct Stage {
    pub calls: BTreeMap<CallId, Call>,
    pub users: BTreeMap<UserId, UserCalls>,
    pub do_not_disturb: BTreeSet<UserId>,
    pub connected: BTreeSet<UserId>,
    pub settings: CallSettings,
    pub now_ms: u64,
    commands: u128,
}

pub type Decided = Result<Decision, Refusal>;

impl Stage {
    pub fn new() -> Self {
        let connected = ["a", "b", "c", "d"].map(user).into();
        Self { now_ms: START, connected, ..Self::default() }
    }

    /// A call that `device` has made.
    pub fn with(kind: Kind, device: &str, invited: &[&str]) -> Self {
        let mut stage = Self::new();
        stage.does(device, "x", Act::Initiate(offer(kind, invited))).unwrap();
        stage
    }

    /// A call of `a1` and `b1`, answered.
    pub fn live_pair() -> Self {
        let mut stage = Self::with(Kind::OneToOne, "a1", &["b"]);
        stage.does("b1", "x", ANSWER).unwrap();
        stage
    }

    /// A conference of `a1`, `b1` and `c1`; `d` still rings.
    pub fn live_conference() -> Self {
        let mut stage = Self::with(Kind::Conference, "a1", &["b", "c", "d"]);
        stage.does("b1", "x", ANSWER).unwrap();
        stage.does("c1", "x", Act::Join).unwrap();
        stage
    }

    /// A new command of a device.
    pub fn does(&mut self, device: &str, call: &str, act: Act) -> Decided {
        let command = self.command(call, Some(actor(device)), act);
        self.run(&command, self.now_ms)
    }

    /// The same for the call `x`, giving the events.
    pub fn events(&mut self, device: &str, act: Act) -> Vec<Event> {
        self.does(device, "x", act).unwrap().events
    }

    pub fn refusal(&mut self, device: &str, act: Act) -> Refusal {
        self.does(device, "x", act).unwrap_err()
    }

    /// A new command of time or presence for the call `x`, giving the events.
    pub fn happens(&mut self, act: Act) -> Vec<Event> {
        let command = self.command("x", None, act);
        self.run(&command, self.now_ms).unwrap().events
    }

    /// Time passes, and its timers come.
    pub fn after(&mut self, ms: u64) -> Vec<Event> {
        self.now_ms += ms;
        self.happens(Act::Tick { due_ms: self.now_ms })
    }

    /// News of a user's connections, as of now.
    pub fn devices(&mut self, name: &str, present: &[&str]) -> Vec<Event> {
        let present = present.iter().map(|device| DeviceId::from(*device)).collect();
        self.happens(Act::Devices { user: user(name), present, since_ms: self.now_ms })
    }

    pub fn command(&mut self, call: &str, actor: Option<Actor>, act: Act) -> Command {
        self.commands += 1;
        Command { id: CommandId(self.commands), call: call_id(call), actor, act }
    }

    /// Load, decide, commit; both who call each other are given one call.
    pub fn run(&mut self, command: &Command, now_ms: u64) -> Decided {
        let world = self.world(command);
        if let Some(other) = glare(&world, command) {
            let answer = Command { call: other, act: Act::Answer { glare: true }, ..command.clone() };
            match self.run(&answer, now_ms) {
                Err(Refusal::Over) => {}
                decided => return decided,
            }
        }
        let decision = decide(&world, command, &self.settings, now_ms)?;
        self.commit(&decision);
        Ok(decision)
    }

    /// What a coordinator would load: nobody but those it was told to.
    pub fn world(&self, command: &Command) -> World {
        let call = self.calls.get(&command.call).cloned();
        let users = concerned(call.as_ref(), command);
        let record = |user: UserId| Some((user.clone(), self.users.get(&user)?.clone()));
        World {
            users: users.into_iter().filter_map(record).collect(),
            call,
            do_not_disturb: self.do_not_disturb.clone(),
            connected: self.connected.clone(),
            ..World::default()
        }
    }

    fn commit(&mut self, decision: &Decision) {
        if !decision.events.is_empty() {
            self.calls.insert(decision.call.id.clone(), decision.call.clone());
        }
        self.users.extend(decision.users.clone());
    }

    pub fn call(&self) -> &Call {
        &self.calls[&call_id("x")]
    }

    pub fn calls_of(&self, name: &str) -> UserCalls {
        self.users.get(&user(name)).cloned().unwrap_or_default()
    }
}
