//! The typed calls of this application's back end: to a user, to a room, to all. A notification for a user is kept until it is read.

use domain::{Rejection, RoomId};

use super::{Telehealth, rooms};
use crate::backend_body::Body;
use crate::{BackendAction, BackendCall, BackendEmission, BackendVerb, Out, everyone, notifying};

const VERBS: &[BackendVerb] = &[
    notifying::VERB,
    BackendVerb {
        name: "emit-to-user",
        summary: "An event on all devices of a user; `notification:new` is kept until it is read.",
        example: r#"{"userId":"7","event":"notification:new","data":{"title":"Reminder","message":"Your visit begins"}}"#,
    },
    BackendVerb {
        name: "emit-to-room",
        summary: "An event to the members of a room.",
        example: r#"{"roomId":"visit:v1","event":"visit:updated","data":{"visitId":"v1"}}"#,
    },
    BackendVerb {
        name: "broadcast",
        summary: "An event to everybody who is connected.",
        example: r#"{"event":"system:notice","data":{"message":"Hello"}}"#,
    },
    BackendVerb {
        name: "maintenance",
        summary: "`system:maintenance` to everybody who is connected.",
        example: r#"{"message":"Back at noon"}"#,
    },
];

impl Telehealth {
    pub(crate) const VERBS: &'static [BackendVerb] = VERBS;

    pub(crate) fn backend(&self, call: &BackendCall<'_>) -> Result<Vec<BackendAction>, Rejection> {
        if call.name == notifying::VERB.name {
            return notifying::notify(call, Self::NOTIFICATION);
        }
        let body = Body::of(call)?;
        match call.name {
            "emit-to-user" => {
                let (user, _) = body.id("userId")?;
                let own = rooms::personal(&user).ok_or(Rejection::InvalidRoom("the name is too long"))?;
                let emission = BackendEmission { rooms: vec![own], ..body.emission()? };
                Ok(notifying::told(Self::NOTIFICATION, vec![user], emission, |user| rooms::personal(&user)))
            }
            "emit-to-room" => {
                let room = rooms::Room::parse(&body.text("roomId")?)?.id;
                Ok(emit(BackendEmission { rooms: vec![room], ..body.emission()? }))
            }
            "broadcast" => Ok(emit(BackendEmission { rooms: vec![everyone()], ..body.emission()? })),
            "maintenance" => {
                body.text("message")?;
                let args = Out::raw(call.body.get(), Vec::new());
                let event = "system:maintenance".into();
                let delivery = crate::Delivery::Recoverable;
                let rooms = vec![everyone()];
                Ok(emit(BackendEmission { rooms, event, args, except: Vec::new(), delivery }))
            }
            _ => Err(Rejection::UnknownEvent),
        }
    }

    /// The room behind a name that a back end writes: two users' chat has one, in whichever order they stand.
    pub(crate) fn room_named(name: &RoomId) -> RoomId {
        rooms::Room::parse(name.as_str()).map_or_else(|_| name.clone(), |room| room.id)
    }
}

fn emit(emission: BackendEmission) -> Vec<BackendAction> {
    vec![BackendAction::Emit(emission)]
}
