//! Calls and conferences: made, answered, ended, entered again; signals.

use std::collections::HashSet;

use domain::call::{Act, Call, Invite, Kind, Offer, Person, Subject, call_room};
use domain::{Rejection, UserId};
use serde_json::{Value, json};

use super::asked::done;
use super::chat::Chat;
use super::payload::{Named, invalid};
use super::{Ask, wire};
use crate::calling::{check_signal_size, relay};
use crate::{Action, Actions, Command, Delivery, Emission, Out, Socket};

pub fn initiate(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    ask.check_speaker("callerId")?;
    let receiver = ask.payload.user("receiverId")?;
    let (subject, chat) = subject(ask)?;
    let offer = Offer {
        kind: Kind::OneToOne,
        medium: ask.payload.medium()?,
        subject,
        invited: vec![invite(ask, receiver)?],
    };
    let ice = ask.ice();
    let run = ask.run(None, Act::Initiate(offer), move |socket, call| {
        let body = json!({ "callId": call.id, "status": call.status.name(), "iceServers": ice });
        let mut actions = vec![Action::emit("call:initiated", Out::json(&body)), done(&body)];
        if call.status.is_live() {
            // Both called each other: this call was the answer.
            actions.push(accepted(socket, call, &ice));
            actions.extend(states(call));
        }
        actions
    });
    Ok(inside(ask, chat, run))
}

pub fn create(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    ask.check_speaker("callerId")?;
    let mut seen: HashSet<UserId> = HashSet::from([ask.identity.user.clone()]);
    let named = ask.payload.users("participants")?;
    let others = named.into_iter().filter(|named| seen.insert(named.user.clone()));
    let invited = others.map(|named| invite(ask, named)).collect::<Result<_, _>>()?;
    let (subject, chat) = subject(ask)?;
    let offer = Offer { kind: Kind::Conference, medium: ask.payload.medium()?, subject, invited };
    let ice = ask.ice();
    let run = ask.run(None, Act::Initiate(offer), move |_, call| {
        let mut body = wire::created(call);
        body.insert("iceServers".into(), ice);
        let body = Value::Object(body);
        vec![Action::emit("conference:created", Out::json(&body)), done(&body)]
    });
    Ok(inside(ask, chat, run))
}

pub fn response(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let call = ask.payload.call_id()?;
    match &*ask.payload.text("action")? {
        "accept" => {
            let ice = ask.ice();
            Ok(ask.run(Some(call), Act::Answer { glare: false }, move |socket, call| {
                let body = json!({ "callId": call.id, "action": "accept", "status": call.status.name(), "iceServers": ice });
                entered(call, vec![accepted(socket, call, &ice), done(&body)])
            }))
        }
        "decline" => {
            let said = ask.payload.said("reason")?;
            Ok(ask.run(Some(call), Act::Decline { said }, |_, call| {
                vec![done(&json!({ "callId": call.id, "action": "decline", "status": call.status.name() }))]
            }))
        }
        _ => Err(invalid("action", "must be accept or decline")),
    }
}

pub fn end(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let (call, said) = (ask.payload.call_id()?, ask.payload.said("reason")?);
    let now_ms = ask.inbound.now_ms;
    Ok(ask.run(Some(call), Act::End { said }, move |_, call| {
        vec![done(
            &json!({ "callId": call.id, "status": call.status.name(), "duration": call.duration_s(now_ms) }),
        )]
    }))
}

pub fn rejoin(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let ice = ask.ice();
    Ok(ask.run(Some(ask.payload.call_id()?), Act::Rejoin, move |_, call| {
        entered(call, vec![done(&own_seat(call, ice))])
    }))
}

/// Who answered is in the conference already and says with this that its video is ready; who is not enters with it.
pub fn join(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let call = ask.payload.call_id()?;
    let (ice, asked) = (ask.ice(), ask.asked.clone());
    let news = Emission {
        rooms: vec![call_room(&call)],
        event: "conference:video:join".into(),
        args: ask.passed_on("userId"),
        delivery: Delivery::Recoverable,
        except_self: true,
    };
    Ok(ask.run(Some(call), Act::Join, move |_, call| {
        let answer = entered(call, vec![done(&own_seat(call, ice))]);
        vec![Action::Run(
            Command::Emit(news),
            Box::new(move |_, outcome| match outcome {
                Ok(_) => answer,
                Err(rejection) => asked.refuse(&rejection),
            }),
        )]
    }))
}

pub fn leave(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    Ok(ask.run(Some(ask.payload.call_id()?), Act::Leave, |_, call| {
        vec![done(&json!({ "callId": call.id, "status": call.status.name() }))]
    }))
}

/// Passed on as it came, to one or to all; the first one shows that the devices negotiate.
pub fn signal(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let call = ask.payload.text("callId")?;
    check_signal_size(&ask.dialect.realtime.calls, ask.size())?;
    let target = ask.payload.user_if_any("targetId")?.map(|named| named.user);
    let relay = relay(ask.socket, &call, target.as_ref())?;
    let mut actions = vec![relay.send("webrtc:signal", ask.passed_on("fromId")), done(&json!({}))];
    if relay.first {
        // The signal has passed; the call's status follows it, now or with the next signal.
        actions.push(Action::run(Command::Call { call: Some(relay.call), act: Act::Progress }));
    }
    Ok(actions)
}

/// The right to call somebody.
fn invite(ask: &Ask<'_>, named: Named) -> Result<Invite, Rejection> {
    let Named { user, wire_id } = named;
    if user != ask.identity.user {
        ask.check_right(&format!("user:{user}"))?;
    }
    Ok(Invite { who: Person { user, wire_id, name: None, role: None } })
}

/// What the call is about, and the chat it names, to which the right is checked.
fn subject(ask: &Ask<'_>) -> Result<(Subject, Option<Chat>), Rejection> {
    let chat = ask.payload.user_if_any("chatId")?.map(|named| ask.chat_named(named)).transpose()?;
    let title = ask.payload.said("title")?.map(|title| Value::from(&*title));
    let chat_id = chat.as_ref().map(|chat| chat.wire_id.clone());
    Ok((Subject { visit: None, chat: chat_id, title }, chat))
}

/// These steps, the socket being in the chat that the call names.
fn inside(ask: &Ask<'_>, chat: Option<Chat>, steps: Actions) -> Actions {
    match chat {
        Some(chat) => ask.inside(&chat.room, steps),
        None => steps,
    }
}

/// To the device that answered; everybody else hears it from the coordinator.
fn accepted(socket: &Socket<'_>, call: &Call, ice: &Value) -> Action {
    let user = socket.identity.map(domain::Identity::wire_id);
    let body = json!({ "callId": call.id, "userId": user, "iceServers": ice });
    Action::emit("call:accepted", Out::json(&body))
}

/// These steps, and then what a late joiner must know.
fn entered(call: &Call, mut steps: Actions) -> Actions {
    steps.extend(states(call));
    steps
}

fn states(call: &Call) -> [Action; 2] {
    [
        Action::emit("video:state", Out::json(&wire::video_state(call))),
        Action::emit("screen:state", wire::screen_state(call)),
    ]
}

fn own_seat(call: &Call, ice: Value) -> Value {
    let mut body = wire::active(call);
    body["iceServers"] = ice;
    body
}
