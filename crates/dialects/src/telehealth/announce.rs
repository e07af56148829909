//! What the coordinator announces of a call: which devices hear of a change, in which words. Runs at the coordinator, where no
//! socket is at hand; start at [`Telehealth::call_changed`].
//!
//! Old clients know one terminal event, `call:ended`: every way out of a call ends with it, after the event that says more.

use domain::UserId;
use domain::call::{Call, DeviceId, EndReason, Event, Medium, Status, call_room};
use serde_json::{Map, Value, json};

use super::{Telehealth, rooms};
use crate::calling::ice_json;
use crate::{Announcement, Out};

impl Telehealth {
    pub(crate) fn call_changed(&self, call: &Call, events: &[Event], now_ms: u64) -> Vec<Announcement> {
        let story = Story { call, events };
        events.iter().flat_map(|event| self.tell(&story, event, now_ms)).collect()
    }

    fn tell(&self, story: &Story<'_>, event: &Event, now_ms: u64) -> Vec<Announcement> {
        let call = story.call;
        let caller = &call.caller().user;
        match event {
            Event::Rings { user } => vec![story.to([user], "call:incoming", incoming(call))],
            // At the start the ack of `call:initiate` says so.
            Event::Rang if story.begins() => Vec::new(),
            Event::Rang => vec![story.to([caller], "call:ringing", story.object())],
            Event::Accepted { .. } => {
                let ice = ice_json(&self.realtime, caller, now_ms);
                vec![story.to([caller], "call:accepted", story.with("iceServers", ice))]
            }
            Event::StopsRinging { user, device } => story.stops_ringing(user, device.as_ref()),
            Event::Declined { user, device, said } => {
                let rejected = story.with_reason(said.as_deref());
                vec![except(story.to([caller, user], "call:rejected", rejected), device)]
            }
            Event::Missed { user } => vec![story.to([caller, user], "call:missed", story.object())],
            Event::Lost { user, .. } => vec![story.to_devices("call:participantLost", user)],
            Event::Rejoined { user, device, .. } => story.rejoined(user, device),
            Event::Ended { status, reason, said, .. } => {
                story.ended(*status, *reason, said.as_deref(), now_ms)
            }
            // Of conferences, or of nobody's concern: this application's calls have two seats and no media state.
            Event::Initiated { .. }
            | Event::Busy { .. }
            | Event::Joined { .. }
            | Event::Progressed
            | Event::Left { .. }
            | Event::Media { .. }
            | Event::AnnotationsDropped { .. }
            | Event::ShareEnded { .. }
            | Event::ControlEnded { .. } => Vec::new(),
        }
    }
}

/// The call as it rings: for `call:incoming`.
pub(super) fn incoming(call: &Call) -> Map<String, Value> {
    let caller = call.caller();
    let medium = match call.medium {
        Medium::Audio => "audio",
        Medium::Video => "video",
    };
    let mut object = Map::new();
    object.insert("callId".into(), call.id.as_str().into());
    object.insert("callerId".into(), caller.wire_id.clone());
    object.extend(caller.name.as_deref().map(|name| ("callerName".to_owned(), name.into())));
    object.insert("callType".into(), medium.into());
    object.extend(call.subject.visit.clone().map(|visit| ("visitId".to_owned(), visit)));
    object
}

/// One decision: the events, and the call after them.
struct Story<'a> {
    call: &'a Call,
    events: &'a [Event],
}

impl Story<'_> {
    /// The other devices of whoever has answered; those of whoever has declined hear of the end instead.
    fn stops_ringing(&self, user: &UserId, device: Option<&DeviceId>) -> Vec<Announcement> {
        if self.call.status.is_over() {
            return Vec::new();
        }
        let taken = self.call.seat(user).is_some_and(|seat| seat.leg.is_in());
        let reason = if taken { "answered_elsewhere" } else { EndReason::Rejected.name() };
        let told = self.to([user], "call:ended", self.over(reason));
        vec![device.into_iter().fold(told, except)]
    }

    /// A device that the seat was taken from is out of the call; which one it was is not known here.
    fn rejoined(&self, user: &UserId, device: &DeviceId) -> Vec<Announcement> {
        vec![
            except(self.to([user], "call:ended", self.over("rejoined_elsewhere")), device),
            except(self.to_devices("call:participantBack", user), device),
        ]
    }

    fn ended(&self, status: Status, reason: EndReason, said: Option<&str>, now_ms: u64) -> Vec<Announcement> {
        let everybody = || self.call.seats.iter().map(|seat| &seat.who.user);
        let failed = status == Status::Failed;
        let failed = failed.then(|| self.to(everybody(), "call:failed", self.with_reason(said)));
        let object = self.end(reason, said, now_ms);
        let ended = self.to(everybody(), "call:ended", object);
        // Who declined is neither ringing nor waiting any more, and has its ack.
        let ended = self.decliner().into_iter().fold(ended, except);
        failed.into_iter().chain([ended]).collect()
    }

    /// An ordinary end has a reason only if a client gave one: `{ callId, duration }` is what old clients know.
    fn end(&self, reason: EndReason, said: Option<&str>, now_ms: u64) -> Map<String, Value> {
        let reason = if reason == EndReason::HungUp { said } else { Some(reason.name()) };
        let mut object = self.with_reason(reason);
        object.insert("duration".into(), self.call.duration_s(now_ms).into());
        object
    }

    fn begins(&self) -> bool {
        self.events.iter().any(|event| matches!(event, Event::Initiated { .. }))
    }

    fn decliner(&self) -> Option<&DeviceId> {
        self.events.iter().find_map(|event| match event {
            Event::Declined { device, .. } => Some(device),
            _ => None,
        })
    }

    fn object(&self) -> Map<String, Value> {
        Map::from_iter([("callId".to_owned(), self.call.id.as_str().into())])
    }

    fn with(&self, key: &str, value: Value) -> Map<String, Value> {
        let mut object = self.object();
        object.insert(key.into(), value);
        object
    }

    fn with_reason(&self, reason: Option<&str>) -> Map<String, Value> {
        reason.map_or_else(|| self.object(), |reason| self.with("reason", reason.into()))
    }

    /// For those who were never in the call, or are not any more.
    fn over(&self, reason: &str) -> Map<String, Value> {
        let mut object = self.with("reason", reason.into());
        object.insert("duration".into(), 0.into());
        object
    }

    /// To all devices of users.
    fn to<'u>(
        &self,
        users: impl IntoIterator<Item = &'u UserId>,
        event: &'static str,
        object: Map<String, Value>,
    ) -> Announcement {
        // Too long for a room's name means: never let in.
        let rooms = users.into_iter().filter_map(rooms::personal).collect();
        Announcement { rooms, event: event.into(), args: Out::json(&object), except: Vec::new() }
    }

    /// To the devices in the call, of what happened to a user's.
    fn to_devices(&self, event: &'static str, user: &UserId) -> Announcement {
        let id = self.call.seat(user).map_or_else(|| user.as_str().into(), |seat| seat.who.wire_id.clone());
        let args = Out::json(&json!({ "callId": self.call.id, "userId": id }));
        Announcement { rooms: vec![call_room(&self.call.id)], event: event.into(), args, except: Vec::new() }
    }
}

/// Leaves a device out.
fn except(mut announcement: Announcement, device: &DeviceId) -> Announcement {
    announcement.except.push(device.clone());
    announcement
}
