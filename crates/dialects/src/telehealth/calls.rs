//! Calls of two, as a client asks for them: `call:initiate`, `call:accept`, `call:reject`, `call:end`, `call:fail`, `call:rejoin`
//! become commands for the coordinator, whose announcements (`announce`) tell everybody else; `call:signal` is relayed from here
//! and never reaches it. Start at [`Telehealth::call_event`].

use std::collections::BTreeMap;

use domain::call::{Act, Call, CallId, EndReason, Invite, Kind, Leg, Medium, Offer, Person, Status, Subject};
use domain::{Identity, Rejection, UserId};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::announce::incoming;
use super::{Telehealth, id_text, refuse, required, text};
use crate::calling::{check_signal_size, ice_json, parse_call_id, relay};
use crate::{Action, Actions, Command, Inbound, Out, Outcome, Socket};

impl Telehealth {
    /// Events whose names begin with `call:`.
    pub(super) fn call_event(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        match inbound.name {
            "call:initiate" => self.initiate(socket, identity, inbound),
            "call:accept" => self.enter(identity, inbound, Act::Answer { glare: false }),
            "call:rejoin" => self.enter(identity, inbound, Act::Rejoin),
            "call:reject" => self.quit(inbound, |said| Act::Decline { said }),
            "call:end" => self.quit(inbound, |said| Act::End { said }),
            "call:fail" => self.quit(inbound, |said| Act::Fail { said }),
            "call:signal" => self.signal(socket, identity, inbound),
            _ => Err(Rejection::UnknownEvent),
        }
    }

    /// The ack names another call than a new one if the recipient was calling at the same time: that one is answered then, and
    /// the socket is told so as a caller is.
    fn initiate(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        let offer = self.offer(socket, identity, &inbound.object()?)?;
        let (caller, ice) = (identity.user.clone(), self.ice(identity, inbound));
        let answer = move |call: &Call| {
            let mut actions = vec![entered(call, &ice)];
            if call.caller().user != caller {
                let accepted = Out::json(&json!({ "callId": call.id, "iceServers": ice }));
                actions.push(Action::emit("call:accepted", accepted));
            }
            actions
        };
        Ok(ask(inbound, None, Act::Initiate(offer), answer))
    }

    fn offer(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        payload: &Map<String, Value>,
    ) -> Result<Offer, Rejection> {
        let recipient = required(payload, "recipientId")?;
        let medium = medium(text(payload, "callType")?)?;
        let visit = payload.get("visitId").filter(|visit| !visit.is_null()).cloned();
        if let Some(visit) = id_text(payload, "visitId")? {
            self.permitted(socket, identity, &format!("visit:{visit}"))?;
        }
        Ok(Offer {
            kind: Kind::OneToOne,
            medium,
            subject: Subject { visit, ..Subject::default() },
            invited: vec![Invite { who: invited(recipient)? }],
        })
    }

    /// Into a call that exists already: the ack says what its media need.
    fn enter(&self, identity: &Identity, inbound: &Inbound<'_>, act: Act) -> Result<Actions, Rejection> {
        let call = call_id(&inbound.object()?)?;
        let ice = self.ice(identity, inbound);
        Ok(ask(inbound, Some(call), act, move |call| vec![entered(call, &ice)]))
    }

    /// Out of a call, with a reason if the client gives one.
    fn quit(&self, inbound: &Inbound<'_>, act: fn(Option<Box<str>>) -> Act) -> Result<Actions, Rejection> {
        let payload: Map<String, Value> = inbound.object()?;
        let (call, said) = (call_id(&payload)?, self.reason(&payload)?);
        let now_ms = inbound.now_ms;
        // Announced to everybody but who declined: the ending socket hears of the end all the same.
        let ends = inbound.name == "call:end";
        Ok(ask(inbound, Some(call), act(said), move |call| {
            let answer = json!({ "success": true, "callId": call.id, "duration": call.duration_s(now_ms) });
            let mut actions = vec![Action::Ack(Out::json(&answer))];
            if ends && call.status == Status::Rejected {
                let ended = json!({ "callId": call.id, "duration": 0, "reason": EndReason::Rejected.name() });
                actions.push(Action::emit("call:ended", Out::json(&ended)));
            }
            actions
        }))
    }

    /// A reason is stored and told like a message's text, and bounded like one.
    fn reason(&self, payload: &Map<String, Value>) -> Result<Option<Box<str>>, Rejection> {
        let limit = self.limits.max_message_chars;
        match payload.get("reason") {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(said)) if said.chars().count() <= limit => Ok(Some(said.as_str().into())),
            Some(Value::String(_)) => Err(Rejection::OverLimit {
                what: "reason length",
                limit: limit as u64,
                setting: "limits.message_chars",
            }),
            Some(_) => Err(Rejection::InvalidPayload { field: "reason", problem: "must be a string" }),
        }
    }

    /// The relay goes before the word to the coordinator that the devices negotiate: a signal never waits for it, and does not
    /// fail with it.
    fn signal(
        &self,
        socket: &Socket<'_>,
        identity: &Identity,
        inbound: &Inbound<'_>,
    ) -> Result<Actions, Rejection> {
        check_signal_size(&self.realtime.calls, size(inbound))?;
        let payload = Signal::parse(inbound)?;
        let relay = relay(socket, &payload.call, payload.target.as_ref())?;
        let args = Out::json(&RelayedSignal {
            call: &payload.call,
            signal: &payload.signal,
            from: identity.wire_id(),
        });
        // The signal's own bytes stay as they came: placeholders in it keep their numbers.
        let args = Out { attachments: inbound.attachments.to_vec(), ..args };
        let mut actions =
            vec![relay.send("call:signal", args), Action::Ack(Out::json(&json!({ "success": true })))];
        if relay.first {
            actions.push(Action::run(Command::Call { call: Some(relay.call), act: Act::Progress }));
        }
        Ok(actions)
    }

    fn ice(&self, identity: &Identity, inbound: &Inbound<'_>) -> Value {
        ice_json(&self.realtime, &identity.user, inbound.now_ms)
    }
}

/// After `connected`: what rings for the user rings on this device too, and calls the user is in are named, so that the client
/// may offer to rejoin them.
pub(super) fn catch_up() -> Action {
    Action::Run(
        Command::OwnCalls,
        Box::new(|socket, outcome| match (outcome, socket.identity) {
            (Ok(Outcome::Calls(calls)), Some(identity)) => {
                calls.iter().filter_map(|call| reminder(socket, identity, call)).collect()
            }
            (Err(rejection), _) => refuse("connected", false, &rejection),
            _ => Actions::new(),
        }),
    )
}

fn reminder(socket: &Socket<'_>, identity: &Identity, call: &Call) -> Option<Action> {
    if call.status.is_over() {
        return None;
    }
    match &call.seat(&identity.user)?.leg {
        Leg::Ringing => Some(Action::emit("call:incoming", Out::json(&incoming(call)))),
        leg if leg.device().is_some_and(|device| **device != *socket.id) => {
            Some(Action::emit("call:active", Out::json(&active(call, leg))))
        }
        _ => None,
    }
}

fn active(call: &Call, leg: &Leg) -> Value {
    let mut object = incoming(call);
    let recipient = call.seats.get(1).map(|seat| seat.who.wire_id.clone());
    object.extend(recipient.map(|id| ("recipientId".to_owned(), id)));
    object.insert("status".into(), call.status.name().into());
    object.insert("lost".into(), matches!(leg, Leg::Lost { .. }).into());
    object.into()
}

/// Asks for a change of a call and answers with what the call is then.
fn ask(
    inbound: &Inbound<'_>,
    call: Option<CallId>,
    act: Act,
    answer: impl FnOnce(&Call) -> Actions + 'static,
) -> Actions {
    let (event, wants_ack) = (inbound.name.to_owned(), inbound.wants_ack);
    vec![Action::Run(
        Command::Call { call, act },
        Box::new(move |_, outcome| match outcome {
            Ok(Outcome::Call(call)) => answer(&call),
            Err(rejection) => refuse(&event, wants_ack, &rejection),
            _ => Actions::new(),
        }),
    )]
}

/// The ack of whoever takes part from now on.
fn entered(call: &Call, ice: &Value) -> Action {
    Action::Ack(Out::json(&json!({
        "success": true, "callId": call.id, "status": call.status.name(), "iceServers": ice
    })))
}

fn call_id(payload: &Map<String, Value>) -> Result<CallId, Rejection> {
    parse_call_id(text(payload, "callId")?)
}

fn medium(call_type: &str) -> Result<Medium, Rejection> {
    match call_type {
        "audio" => Ok(Medium::Audio),
        "video" => Ok(Medium::Video),
        _ => Err(Rejection::InvalidPayload { field: "callType", problem: "must be `audio` or `video`" }),
    }
}

/// The id goes back out in the form it came in.
fn invited(id: &Value) -> Result<Person, Rejection> {
    let user = UserId::from_json(id).ok_or(Rejection::InvalidPayload {
        field: "recipientId",
        problem: "must be a non-empty string or an integer",
    })?;
    Ok(Person { user, wire_id: id.clone(), name: None, role: None })
}

/// Bytes of the client's whole payload.
fn size(inbound: &Inbound<'_>) -> usize {
    let text: usize = inbound.args.iter().map(|arg| arg.get().len()).sum();
    text + inbound.attachments.iter().map(|bytes| bytes.len()).sum::<usize>()
}

/// `call:signal` as it comes in. Only what it is addressed with is read.
struct Signal {
    call: String,
    target: Option<UserId>,
    signal: Box<RawValue>,
}

impl Signal {
    fn parse(inbound: &Inbound<'_>) -> Result<Self, Rejection> {
        let mut raw: BTreeMap<String, Box<RawValue>> = inbound.object()?;
        let signal = raw
            .remove("signal")
            .ok_or(Rejection::InvalidPayload { field: "signal", problem: "is missing" })?;
        let address: Map<String, Value> = ["callId", "targetId"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), serde_json::from_str(raw.get(key)?.get()).ok()?)))
            .collect();
        let call = text(&address, "callId")?.to_owned();
        let target = id_text(&address, "targetId")?.and_then(UserId::new);
        Ok(Self { call, target, signal })
    }
}

/// `call:signal` as it goes out.
#[derive(Serialize)]
struct RelayedSignal<'a> {
    #[serde(rename = "callId")]
    call: &'a str,
    signal: &'a RawValue,
    #[serde(rename = "fromId")]
    from: Value,
}
