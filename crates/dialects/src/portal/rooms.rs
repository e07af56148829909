//! `join` and `leave`: a room's name, several, or an object with `room` or `rooms`.

use domain::{Identity, Rejection, RoomId, UserId};
use serde_json::{Value, json};

use super::access::Verdict;
use super::{Asked, Portal};
use crate::{Action, Actions, Command, Inbound, Join, Membership, Out, Outcome, Socket};

/// The notes of memberships that a client asked for: what granted them. The others are the user's own room and those that the back
/// end has put the user in.
const BY_RIGHT: &str = "right";
const BY_HOOK: &str = "hook";

/// The room of all of a user's devices.
pub fn of_user(user: &UserId) -> RoomId {
    named("u", user)
}

pub fn of_patient(patient: &UserId) -> RoomId {
    named("patient", patient)
}

pub fn of_doctor(doctor: &UserId) -> RoomId {
    named("doctor", doctor)
}

fn named(kind: &str, id: &UserId) -> RoomId {
    RoomId::new(format!("{kind}:{id}")).expect("ids are shorter than room names")
}

/// Whether the back end has put the user in this room: then no right is needed.
pub fn is_by_back_end(membership: &Membership) -> bool {
    membership.note.is_none()
}

/// Whether the hook has let the socket into this room.
pub fn is_by_hook(membership: &Membership) -> bool {
    membership.note.as_deref() == Some(BY_HOOK)
}

impl Portal {
    pub(super) fn join(&self, identity: &Identity, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
        let rooms = self.rooms_named(inbound)?;
        let verdict = |room: RoomId| match self.access.of(identity, room.as_str()) {
            Verdict::Granted => (room, Stand::Granted),
            Verdict::AskHook => (room, Stand::Open),
            Verdict::Denied => (room, Stand::Denied),
        };
        let rooms = rooms.into_iter().map(verdict).collect();
        Ok(Joining { asked: Asked::of(inbound), rooms, trouble: None }.go_on())
    }

    pub(super) fn leave(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Result<Actions, Rejection> {
        let mut rooms = self.rooms_named(inbound)?;
        rooms.retain(|room| socket.memberships.iter().any(|membership| *membership.room == *room.as_str()));
        let ack = Action::Ack(Out::json(&json!({ "ok": true, "left": rooms })));
        if rooms.is_empty() {
            return Ok(vec![ack]);
        }
        Ok(vec![Action::run(Command::Leave(rooms)), ack])
    }

    /// Each once, in the order they are named.
    fn rooms_named(&self, inbound: &Inbound<'_>) -> Result<Vec<RoomId>, Rejection> {
        let invalid = |problem| Rejection::InvalidPayload { field: "room", problem };
        let first = inbound.args.first().map_or("null", |raw| raw.get());
        let value: Value = serde_json::from_str(first).map_err(|_| invalid("cannot be read"))?;
        let named = match value {
            Value::Object(mut object) => {
                let room = object.remove("room").filter(|room| !room.is_null());
                room.or_else(|| object.remove("rooms")).unwrap_or(Value::Null)
            }
            value => value,
        };
        let names = match named {
            Value::Array(names) => names,
            Value::Null => return Err(invalid("is missing: name a room, or several")),
            name => vec![name],
        };
        if names.len() > self.max_rooms {
            return Err(Rejection::OverLimit {
                what: "number of rooms",
                limit: self.max_rooms as u64,
                setting: "limits.rooms_per_socket",
            });
        }
        let mut rooms = Vec::with_capacity(names.len());
        let mut seen = std::collections::HashSet::new();
        for name in names {
            let Value::String(name) = name else { return Err(invalid("must be a string")) };
            let room =
                RoomId::new(name).ok_or(Rejection::InvalidRoom("the name must have 1 to 2048 bytes"))?;
            if seen.insert(room.clone()) {
                rooms.push(room);
            }
        }
        Ok(rooms)
    }
}

/// Where the right to a room stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stand {
    Granted,
    ByHook,
    Denied,
    /// The hook is still to be asked.
    Open,
}

impl Stand {
    /// The note of a membership that is granted.
    fn note(self) -> Option<&'static str> {
        match self {
            Self::Granted => Some(BY_RIGHT),
            Self::ByHook => Some(BY_HOOK),
            Self::Denied | Self::Open => None,
        }
    }
}

/// A `join` on its way: one question to the hook after the other, then the rooms that are granted at once.
struct Joining {
    asked: Asked,
    rooms: Vec<(RoomId, Stand)>,
    /// The hook gave no answer.
    trouble: Option<Rejection>,
}

impl Joining {
    fn go_on(mut self) -> Actions {
        let Some(at) = self.rooms.iter().position(|(_, stand)| *stand == Stand::Open) else {
            return self.join();
        };
        let right = self.rooms[at].0.to_string();
        let then = move |_: &Socket<'_>, outcome| {
            match outcome {
                Ok(Outcome::Authorized(true)) => self.rooms[at].1 = Stand::ByHook,
                Ok(_) => self.rooms[at].1 = Stand::Denied,
                Err(rejection) => self.give_up(rejection),
            }
            self.go_on()
        };
        vec![Action::Run(Command::Authorize { right }, Box::new(then))]
    }

    /// A hook that is in trouble is not asked for the other rooms too.
    fn give_up(&mut self, rejection: Rejection) {
        for (_, stand) in self.rooms.iter_mut().filter(|(_, stand)| *stand == Stand::Open) {
            *stand = Stand::Denied;
        }
        self.trouble = Some(rejection);
    }

    fn join(self) -> Actions {
        let granted = self.rooms.iter().filter_map(|(room, stand)| Some((room, stand.note()?)));
        let join = |(room, note): (&RoomId, &str)| Join {
            room: room.clone(),
            note: Some(note.into()),
            participant: None,
        };
        let joins: Vec<Join> = granted.map(join).collect();
        if joins.is_empty() {
            return self.answer();
        }
        let then = move |_: &Socket<'_>, outcome: Result<Outcome, Rejection>| match outcome {
            Ok(_) => self.answer(),
            Err(rejection) => self.asked.refuse(&rejection),
        };
        vec![Action::Run(Command::Join(joins), Box::new(then))]
    }

    fn answer(&self) -> Actions {
        let (denied, joined): (Vec<_>, Vec<_>) =
            self.rooms.iter().partition(|(_, stand)| *stand == Stand::Denied);
        let names = |rooms: &[&(RoomId, Stand)]| rooms.iter().map(|(room, _)| room.to_string()).collect();
        let (denied, joined): (Vec<String>, Vec<String>) = (names(&denied), names(&joined));
        let rejection = self.trouble.clone().unwrap_or(Rejection::RoomDenied);
        let (message, code) = (rejection.to_string(), rejection.code());
        if self.asked.wants_ack {
            let mut ack = json!({ "ok": denied.is_empty(), "joined": joined, "denied": denied });
            if self.trouble.is_some() {
                ack["error"] = message.into();
                ack["code"] = code.into();
            }
            return vec![Action::Ack(Out::json(&ack))];
        }
        if denied.is_empty() {
            return Actions::new();
        }
        let body = json!({ "message": message, "code": code, "event": self.asked.event, "denied": denied });
        vec![Action::emit("core:error", Out::json(&body))]
    }
}
