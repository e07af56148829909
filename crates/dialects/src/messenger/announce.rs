//! What the coordinator announces of a call: who hears of a change, under which name. Runs where no socket is at hand.
//!
//! What rings, is answered or ends is told to all devices of the users concerned ([`wire::user_room`]); what happens inside a call
//! to the devices in it ([`call_room`]). Start at [`of`].

use domain::UserId;
use domain::call::{
    Call, DeviceId, EndReason, Event, Kind, Leg, MediaAct, MediaChange, call_room, seat_room,
};
use serde_json::{Value, json};

use super::wire;
use crate::calling::ice_json;
use crate::{Announcement, Out, Realtime};

/// In the order in which clients are to hear it. `call` is as it is after the events.
pub fn of(realtime: &Realtime, call: &Call, events: &[Event], now_ms: u64) -> Vec<Announcement> {
    let story = Story { realtime, call, events, now_ms };
    events.iter().flat_map(|event| story.tell(event)).collect()
}

/// One decision: the events, and the call after them.
struct Story<'a> {
    realtime: &'a Realtime,
    call: &'a Call,
    events: &'a [Event],
    now_ms: u64,
}

impl Story<'_> {
    fn tell(&self, event: &Event) -> Vec<Announcement> {
        let call = self.call;
        match event {
            Event::Rings { user } => vec![to_user(user, "call:incoming", &wire::incoming(call))],
            // At the start the answer to `call:initiate` says so.
            Event::Rang if self.begins() => Vec::new(),
            Event::Rang => vec![self.to_caller("call:ringing", &json!({ "callId": call.id }))],
            Event::Busy { user, do_not_disturb } => self.busy(user, *do_not_disturb),
            Event::Accepted { who, device, .. } => self.accepted(&who.user, device),
            Event::Joined { who, device, .. } => self.joined(&who.user, device),
            Event::Declined { user, said, .. } => self.declined(user, said.as_deref()),
            Event::StopsRinging { user, device } => vec![self.elsewhere(user, device.as_ref())],
            Event::Missed { user } => vec![to_user(user, "call:timeout", &self.about(user))],
            Event::Lost { user, .. } => vec![self.inside("call:participant:lost", user)],
            // The device itself is told too: it may have come in time to hear of the loss.
            Event::Rejoined { user, device, .. } => {
                vec![self.elsewhere(user, Some(device)), self.inside("call:participant:back", user)]
            }
            Event::Left { user, lost } => self.left(user, *lost),
            Event::Media { user, device, act } => vec![except(self.media(user, act), device)],
            Event::ShareEnded { user } => vec![self.inside("screen:share:stop", user)],
            Event::ControlEnded { sharer, controller } => vec![self.control_ended(sharer, controller)],
            Event::Ended { reason, by, said, .. } => self.ended(*reason, by.as_ref(), said.as_deref()),
            Event::Initiated { .. } | Event::Progressed | Event::AnnotationsDropped { .. } => Vec::new(),
        }
    }

    fn busy(&self, user: &UserId, do_not_disturb: bool) -> Vec<Announcement> {
        let code = if do_not_disturb { "do_not_disturb" } else { "busy" };
        let mut body = self.about(user);
        body["code"] = code.into();
        vec![self.to_caller("call:busy", &body)]
    }

    /// The answering device has its own `call:accepted` with the answer to what it said.
    fn accepted(&self, user: &UserId, device: &DeviceId) -> Vec<Announcement> {
        let mut body = self.about(user);
        body["iceServers"] = ice_json(self.realtime, &self.call.caller().user, self.now_ms);
        let mut told = vec![self.responded(user, "accept"), self.to_caller("call:accepted", &body)];
        if self.call.kind == Kind::Conference {
            told.push(self.participant_joined(user, device));
        }
        told
    }

    /// Who comes while its devices ring has answered.
    fn joined(&self, user: &UserId, device: &DeviceId) -> Vec<Announcement> {
        let rang = self
            .events
            .iter()
            .any(|event| matches!(event, Event::StopsRinging { user: stops, .. } if stops == user));
        let responded = (rang && *user != self.call.caller().user).then(|| self.responded(user, "accept"));
        responded.into_iter().chain([self.participant_joined(user, device)]).collect()
    }

    fn participant_joined(&self, user: &UserId, device: &DeviceId) -> Announcement {
        let mut body = self.about(user);
        body["user"] = self.call.seat(user).map_or(Value::Null, |seat| wire::person(&seat.who));
        except(self.to_devices("conference:participant:joined", Out::json(&body)), device)
    }

    fn declined(&self, user: &UserId, said: Option<&str>) -> Vec<Announcement> {
        let mut body = self.about(user);
        if let Some(said) = said {
            body["reason"] = said.into();
        }
        vec![self.responded(user, "decline"), self.to_caller("call:declined", &body)]
    }

    fn responded(&self, user: &UserId, action: &str) -> Announcement {
        let mut body = self.about(user);
        body["action"] = action.into();
        self.to_caller("call:response", &body)
    }

    /// To the user's devices besides the one that has answered, declined, or taken the seat over.
    fn elsewhere(&self, user: &UserId, device: Option<&DeviceId>) -> Announcement {
        let taken = self.call.seat(user).is_some_and(|seat| seat.leg.is_in());
        let body = json!({ "callId": self.call.id, "action": if taken { "accept" } else { "decline" } });
        device.into_iter().fold(to_user(user, "call:answered_elsewhere", &body), except)
    }

    /// Who lost its connection is told on all devices, for one of them may still show the call.
    fn left(&self, user: &UserId, lost: bool) -> Vec<Announcement> {
        ["conference:participant:left", "conference:video:leave"]
            .into_iter()
            .map(|event| {
                let mut told = self.inside(event, user);
                if lost {
                    told.rooms.push(wire::user_room(user));
                }
                told
            })
            .collect()
    }

    /// What a client said, as it came. A request for control is the sharer's business alone.
    fn media(&self, user: &UserId, act: &MediaAct) -> Announcement {
        let args = Out::json(&wire::with_user(self.call, user, &act.payload));
        let mut told = self.to_devices(media_event(&act.what), args);
        if let MediaChange::ControlRequest { sharer: Some(sharer) } = &act.what {
            told.rooms = vec![seat_room(&self.call.id, sharer)];
        }
        told
    }

    fn control_ended(&self, sharer: &UserId, controller: &UserId) -> Announcement {
        let mut body = self.about(sharer);
        body["requesterId"] = wire::user_id(self.call, controller);
        self.to_devices("screen:remote:revoke", Out::json(&body))
    }

    /// `call:end` is what old clients know. Who has declined is not concerned any more; to a caller whose call was declined the
    /// response says it.
    fn ended(&self, reason: EndReason, by: Option<&UserId>, said: Option<&str>) -> Vec<Announcement> {
        let concerned = self.call.seats.iter().filter(|seat| seat.leg != Leg::Declined);
        let rooms: Vec<_> = concerned.map(|seat| wire::user_room(&seat.who.user)).collect();
        let body = json!({
            "callId": self.call.id,
            "endedBy": by.map(|user| wire::user_id(self.call, user)),
            "reason": said.unwrap_or_else(|| end_reason(reason)),
            "duration": self.call.duration_s(self.now_ms),
        });
        let to_all = |event: &'static str| Announcement {
            rooms: rooms.clone(),
            event: event.into(),
            args: Out::json(&body),
            except: Vec::new(),
        };
        let first = match reason {
            EndReason::Rejected => return vec![to_all("call:ended")],
            EndReason::Missed => Some(self.to_caller("call:timeout", &json!({ "callId": self.call.id }))),
            _ => None,
        };
        first.into_iter().chain([to_all("call:end"), to_all("call:ended")]).collect()
    }

    fn begins(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Initiated { .. }))
    }

    /// The call, and the user whom the news is about.
    fn about(&self, user: &UserId) -> Value {
        json!({ "callId": self.call.id, "userId": wire::user_id(self.call, user) })
    }

    fn to_caller(&self, event: &'static str, body: &Value) -> Announcement {
        to_user(&self.call.caller().user, event, body)
    }

    fn inside(&self, event: &'static str, user: &UserId) -> Announcement {
        self.to_devices(event, Out::json(&self.about(user)))
    }

    fn to_devices(&self, event: &'static str, args: Out) -> Announcement {
        Announcement { rooms: vec![call_room(&self.call.id)], event: event.into(), args, except: Vec::new() }
    }
}

fn to_user(user: &UserId, event: &'static str, body: &Value) -> Announcement {
    Announcement {
        rooms: vec![wire::user_room(user)],
        event: event.into(),
        args: Out::json(body),
        except: Vec::new(),
    }
}

/// Leaves a device out.
fn except(mut announcement: Announcement, device: &DeviceId) -> Announcement {
    announcement.except.push(device.clone());
    announcement
}

/// The name under which a client said it.
fn media_event(what: &MediaChange) -> &'static str {
    match what {
        MediaChange::StreamStart { .. } => "video:stream:start",
        MediaChange::StreamStop => "video:stream:stop",
        MediaChange::Mute(_) => "video:control:toggle",
        MediaChange::StreamQuality { .. } => "video:quality:change",
        MediaChange::ShareStart { .. } => "screen:share:start",
        MediaChange::ShareStop => "screen:share:stop",
        MediaChange::ShareQuality { .. } => "screen:quality:change",
        MediaChange::ControlRequest { .. } => "screen:remote:request",
        MediaChange::ControlRespond { .. } => "screen:remote:response",
        MediaChange::ControlRevoke { .. } => "screen:remote:revoke",
        MediaChange::Annotate | MediaChange::ClearAnnotations => "screen:annotation:add",
    }
}

fn end_reason(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Missed => "timeout",
        other => other.name(),
    }
}
