//! One translator module per application: wire event to command, outcome to wire event. A dialect never serves: it is
//! asked, answers with [`Action`]s, and the gateway carries them out in order.
//!
//! Start at [`Dialect`] for the questions and [`Action`] for the answers. Adding an application: a module here, a
//! variant of [`Dialect`], a name in the configuration.

mod action;
mod backend;
mod backend_body;
mod calling;
mod chatting;
mod clinic;
mod conformance;
mod contract;
mod diet;
mod feed;
mod http;
mod messenger;
mod notifying;
mod number;
mod payload;
mod portal;
mod telehealth;
mod time;

pub use action::{
    Action, Actions, Announcement, Command, Delivery, Emission, EngineAction, Join, Otherwise, Out, Outcome,
    Participant, Post, Refusal, Then, Token, Watch,
};
pub use backend::{
    Audience, BackendAction, BackendCall, BackendEmission, BackendVerb, Fact, Record, everyone, everyone_with,
};
pub use backend_body::wrong_event;
pub use chatting::{Amend, History, MarkRead, Reader, TypingSignal};
pub use clinic::{Clinic, ClinicSettings};
pub use conformance::{Conformance, Profile};
pub use contract::{Contract, Heard, Said, Shape};
pub use diet::{Access as DietAccess, Diet};
pub use feed::{FeedEntry, FeedPage, FeedSpec, Span};
pub use http::{Endpoint, HttpRoute};
pub use messenger::Messenger;
pub use notifying::{Notice, NotificationAct, NotificationOutcome, NotificationPage, with_member};
pub use payload::Inbound;
pub use portal::{Portal, PortalRoles, PortalSettings};
pub use telehealth::Telehealth;
pub use time::iso8601 as iso;

use domain::call::{Call, CallSettings, Event, View};
use domain::ice::IceServers;
use domain::presence::{Presence, PresenceSettings};
use domain::{ChatLimits, Identity, Rejection};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A room the socket is in, with what the dialect wants to remember about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub room: Box<str>,
    pub note: Option<Box<str>>,
}

/// Where the back end has put a socket, or what it has taken it out of: while the connection lives, this counts more than rights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    pub room: Box<str>,
    pub inside: bool,
}

/// What a dialect may know about the socket it is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Socket<'a> {
    pub id: &'a str,
    pub namespace: &'a str,
    /// `None` in applications without tokens, and of a socket in its grace: see [`Dialect::grace`].
    pub identity: Option<&'a Identity>,
    pub memberships: &'a [Membership],
    /// The back end's word about rooms, at most one for each.
    pub placed: &'a [Placed],
    /// The calls that this socket's device is in, each as of its last change that has reached this node.
    pub calls: &'a [std::sync::Arc<View>],
    /// The handshake, kept only where [`Dialect::keeps_handshake`].
    pub handshake: Option<&'a Handshake>,
    /// What [`Action::Remember`] stored last; 0 at first.
    pub stage: u32,
    /// What the application's hook has granted for the event at hand: see [`Action::AskHook`].
    pub granted: &'a [Box<str>],
}

impl Socket<'_> {
    /// Whether the hook has granted a right for the event at hand.
    pub fn is_granted(&self, right: &str) -> bool {
        self.granted.iter().any(|granted| **granted == *right)
    }

    /// Whether the back end has put the socket into the room, or has taken it out; `None`: it has said nothing.
    pub fn placed_in(&self, room: &str) -> Option<bool> {
        self.placed.iter().find(|placed| *placed.room == *room).map(|placed| placed.inside)
    }
}

/// What an application's calls and presence are built with.
#[derive(Clone, Debug, Default)]
pub struct Realtime {
    pub calls: CallSettings,
    pub presence: PresenceSettings,
    pub ice: IceServers,
}

/// The request that opened the session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handshake {
    /// Lower-case names; repeated headers joined by `, `.
    pub headers: Map<String, Value>,
    /// Those of the last POST.
    pub post_headers: Option<Map<String, Value>>,
    /// Decoded.
    pub query: Map<String, Value>,
    pub url: String,
    pub address: String,
    pub secure: bool,
    pub xdomain: bool,
    /// Milliseconds since the Unix epoch.
    pub issued_ms: u64,
}

/// Why a token was not accepted, as applications distinguish it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenFailure {
    Missing,
    Invalid,
    Expired,
    /// The token, or every token of its user, was revoked.
    Revoked,
    /// The application's hook does not know the user.
    UnknownUser,
}

impl TokenFailure {
    /// Stable machine name.
    pub fn code(self) -> &'static str {
        match self {
            Self::Missing => "missing_token",
            Self::Invalid => "invalid_token",
            Self::Expired => "expired_token",
            Self::Revoked => "revoked_token",
            Self::UnknownUser => "unknown_user",
        }
    }
}

/// Which protocol layer an application's clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Bare Engine.IO messages.
    Engine,
    SocketIo,
}

/// The applications.
#[derive(Debug)]
pub enum Dialect {
    Telehealth(Telehealth),
    Messenger(Messenger),
    Portal(Portal),
    Clinic(Clinic),
    Diet(Diet),
    Conformance(Conformance),
}

/// The contract of the dialect with this name; `None`: there is none.
pub fn contract(dialect: &str) -> Option<&'static Contract> {
    CONTRACTS.into_iter().find(|contract| contract.title == dialect)
}

/// Of every application, in the order of their names.
pub static CONTRACTS: [&Contract; 5] = [
    &clinic::contract::CONTRACT,
    &diet::contract::CONTRACT,
    &messenger::contract::CONTRACT,
    &portal::contract::CONTRACT,
    &telehealth::contract::CONTRACT,
];

impl Dialect {
    /// What its clients say and hear, for machines; `None`: the public suites say it themselves.
    pub fn contract(&self) -> Option<&'static Contract> {
        match self {
            Self::Telehealth(_) => Some(&telehealth::contract::CONTRACT),
            Self::Messenger(_) => Some(&messenger::contract::CONTRACT),
            Self::Portal(_) => Some(&portal::contract::CONTRACT),
            Self::Clinic(_) => Some(&clinic::contract::CONTRACT),
            Self::Diet(_) => Some(&diet::contract::CONTRACT),
            Self::Conformance(_) => None,
        }
    }

    /// Whether the application has such an event.
    pub fn knows(&self, event: &str) -> bool {
        self.contract().is_none_or(|contract| contract.says.iter().any(|said| said.event == event))
    }

    pub fn layer(&self) -> Layer {
        match self {
            Self::Conformance(it) => it.layer(),
            _ => Layer::SocketIo,
        }
    }

    pub fn keeps_handshake(&self) -> bool {
        matches!(self, Self::Conformance(_))
    }

    /// Whether operators look for each connect, room and event in the log.
    pub fn keeps_journal(&self) -> bool {
        matches!(self, Self::Portal(_))
    }

    /// Whether sockets may connect to `namespace`; otherwise they get `Invalid namespace`.
    pub fn has_namespace(&self, namespace: &str) -> bool {
        match self {
            Self::Telehealth(it) => it.has_namespace(namespace),
            Self::Messenger(it) => it.has_namespace(namespace),
            Self::Portal(it) => it.has_namespace(namespace),
            Self::Clinic(it) => it.has_namespace(namespace),
            Self::Diet(it) => it.has_namespace(namespace),
            Self::Conformance(it) => it.has_namespace(namespace),
        }
    }

    /// The CONNECT_ERROR for a token that was not accepted.
    pub fn refuse_token(&self, failure: TokenFailure) -> Refusal {
        match self {
            Self::Telehealth(it) => it.refuse_token(failure),
            Self::Messenger(it) => it.refuse_token(failure),
            Self::Portal(it) => it.refuse_token(failure),
            Self::Clinic(it) => it.refuse_token(failure),
            Self::Diet(it) => it.refuse_token(failure),
            Self::Conformance(_) => Refusal::new("Authentication error"),
        }
    }

    /// A socket's CONNECT, its token already verified. Answers with [`Action::Accept`] or [`Action::Refuse`] among others.
    /// `auth` is the CONNECT payload.
    pub fn connecting(&self, socket: &Socket<'_>, auth: Option<&serde_json::value::RawValue>) -> Actions {
        match self {
            Self::Telehealth(it) => it.connecting(socket),
            Self::Messenger(it) => it.connecting(socket),
            Self::Portal(it) => it.connecting(socket),
            Self::Clinic(it) => it.connecting(socket),
            Self::Diet(it) => it.connecting(socket),
            Self::Conformance(it) => it.connecting(socket, auth),
        }
    }

    /// What a socket is told that connects without a token that counts, and gets a grace: it is let in, hears nothing of its rooms, and
    /// has no identity until it is restored ([`Action::Restore`]) or its transport is closed. `None`: there is no grace.
    pub fn grace(&self, failure: TokenFailure) -> Option<Actions> {
        match self {
            Self::Portal(it) => it.grace(failure),
            _ => None,
        }
    }

    /// The same for a live socket whose token has expired.
    pub fn grace_of_expired(&self) -> Option<Actions> {
        match self {
            Self::Portal(it) => Some(it.cut_off(TokenFailure::Expired)),
            _ => None,
        }
    }

    /// The last words to a socket that is cut off because of its token, before its DISCONNECT.
    pub fn cut_off(&self, failure: TokenFailure) -> Actions {
        match self {
            Self::Conformance(_) => Actions::new(),
            Self::Portal(it) => it.cut_off(failure),
            _ => {
                let refusal = self.refuse_token(failure);
                let body =
                    serde_json::json!({ "message": refusal.message, "code": failure.code(), "event": null });
                vec![Action::emit("error", Out::json(&body))]
            }
        }
    }

    /// An event from a client.
    pub fn event(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Actions {
        match self {
            Self::Telehealth(it) => it.event(socket, inbound),
            Self::Messenger(it) => it.event(socket, inbound),
            Self::Portal(it) => it.event(socket, inbound),
            Self::Clinic(it) => it.event(socket, inbound),
            Self::Diet(it) => it.event(socket, inbound),
            Self::Conformance(it) => it.event(socket, inbound),
        }
    }

    /// The answer to an event that was refused before it was looked at.
    pub fn refuse(&self, inbound: &Inbound<'_>, rejection: &Rejection) -> Actions {
        match self {
            Self::Conformance(_) => Actions::new(),
            _ => refused(inbound.name, inbound.wants_ack, rejection),
        }
    }

    /// A client's answer to [`Action::EmitWithAck`] with this `tag`. `inbound.name` is empty.
    pub fn acked(&self, socket: &Socket<'_>, tag: u64, inbound: &Inbound<'_>) -> Actions {
        match self {
            Self::Conformance(it) => it.acked(socket, tag, inbound),
            _ => Actions::new(),
        }
    }

    /// The socket is gone; its memberships are still listed. Only [`Action::Run`] makes sense here.
    pub fn disconnected(&self, socket: &Socket<'_>) -> Actions {
        match self {
            Self::Telehealth(it) => it.disconnected(socket),
            _ => Actions::new(),
        }
    }

    /// Headers that the handshake's response carries besides, or a refusal of the handshake (HTTP 403 with this message).
    pub fn handshake(&self, handshake: &Handshake) -> Result<Vec<(&'static str, String)>, &'static str> {
        match self {
            Self::Conformance(it) => it.handshake(handshake),
            _ => Ok(Vec::new()),
        }
    }

    /// Engine layer only: the session is open.
    pub fn engine_opened(&self) -> Vec<EngineAction> {
        match self {
            Self::Conformance(it) => it.engine_opened(),
            _ => Vec::new(),
        }
    }

    /// Engine layer only: a message came.
    pub fn engine_message(&self, handshake: Option<&Handshake>, message: EngineAction) -> Vec<EngineAction> {
        match self {
            Self::Conformance(it) => it.engine_message(handshake, message),
            _ => Vec::new(),
        }
    }

    /// A call changed: whom to tell what, in this order. `call` is as it is after the events. Runs at the coordinator.
    pub fn call_changed(&self, call: &Call, events: &[Event], now_ms: u64) -> Vec<Announcement> {
        match self {
            Self::Telehealth(it) => it.call_changed(call, events, now_ms),
            Self::Messenger(it) => it.call_changed(call, events, now_ms),
            _ => Vec::new(),
        }
    }

    /// A user's presence changed. Runs at the coordinator. The rooms are those of `presence.told`, of the watchers and of the
    /// user.
    pub fn presence_changed(&self, presence: &Presence) -> Vec<Announcement> {
        match self {
            Self::Telehealth(it) => it.presence_changed(presence),
            Self::Messenger(it) => it.presence_changed(presence),
            _ => Vec::new(),
        }
    }

    /// Whether those in the room hear of it when a member comes online or goes.
    pub fn tells_presence_in(&self, room: &str) -> bool {
        matches!(self, Self::Messenger(_)) && messenger::is_chat(room)
    }

    /// The settings of calls; `None`: the application has none, nor presence.
    pub fn realtime(&self) -> Option<&Realtime> {
        match self {
            Self::Telehealth(it) => Some(it.realtime()),
            Self::Messenger(it) => Some(it.realtime()),
            _ => None,
        }
    }

    /// Whether an event counts towards what one user may say in a minute.
    pub fn is_counted(&self, event: &str) -> bool {
        match self {
            Self::Diet(_) => Diet::is_counted(event),
            _ => true,
        }
    }

    /// A typed call of a back end. [`Rejection::UnknownEvent`]: there is no such call.
    pub fn backend(&self, call: &BackendCall<'_>) -> Result<Vec<BackendAction>, Rejection> {
        match self {
            Self::Telehealth(it) => it.backend(call),
            Self::Messenger(it) => it.backend(call),
            Self::Portal(it) => it.backend(call),
            Self::Clinic(it) => it.backend(call),
            Self::Diet(it) => it.backend(call),
            Self::Conformance(_) => Err(Rejection::UnknownEvent),
        }
    }

    /// The typed calls there are.
    pub fn backend_verbs(&self) -> &'static [BackendVerb] {
        match self {
            Self::Telehealth(_) => Telehealth::VERBS,
            Self::Messenger(_) => Messenger::VERBS,
            Self::Portal(_) => Portal::VERBS,
            Self::Clinic(_) => Clinic::backend_verbs(),
            Self::Diet(_) => Diet::VERBS,
            Self::Conformance(_) => &[],
        }
    }

    /// What the gateway keeps for the application beyond its events' delivery.
    pub fn feeds(&self) -> Vec<FeedSpec> {
        match self {
            Self::Clinic(it) => it.feeds(),
            _ => Vec::new(),
        }
    }

    /// What a plain emission does; some events are stored for their receivers besides.
    pub fn told(&self, audiences: &[Audience], emission: BackendEmission) -> Vec<BackendAction> {
        match self.notification_event() {
            Some(event) => {
                let users = audiences.iter().filter_map(|audience| self.user_of(audience));
                notifying::told(event, users.collect(), emission, |user| self.room_of(&Audience::User(user)))
            }
            None => vec![BackendAction::Emit(emission)],
        }
    }

    /// Whose all devices the audience is.
    fn user_of(&self, audience: &Audience) -> Option<domain::UserId> {
        let prefix = match self {
            Self::Telehealth(_) => "notifications:",
            Self::Diet(_) => "user_",
            _ => return None,
        };
        match audience {
            Audience::User(user) => Some(user.clone()),
            Audience::Room(room) => domain::UserId::new(room.as_str().strip_prefix(prefix)?),
            Audience::Role(_) | Audience::Everyone => None,
        }
    }

    /// How clients hear of a notification, which is kept until it is read; `None`: the application has none.
    pub fn notification_event(&self) -> Option<&'static str> {
        match self {
            Self::Telehealth(_) => Some(Telehealth::NOTIFICATION),
            Self::Diet(_) => Some(Diet::NOTIFICATION),
            _ => None,
        }
    }

    /// Whether the name in a user's token counts more than the one that the application's hook knows.
    pub fn believes_names_of_tokens(&self) -> bool {
        matches!(self, Self::Messenger(_))
    }

    /// The room that stands for an audience; `None`: the application has none like it.
    pub fn room_of(&self, audience: &Audience) -> Option<domain::RoomId> {
        match audience {
            _ if matches!(self, Self::Clinic(_)) => Clinic::room_of(audience),
            Audience::Room(room) if matches!(self, Self::Telehealth(_)) => Some(Telehealth::room_named(room)),
            Audience::Room(room) if matches!(self, Self::Messenger(_)) => Some(Messenger::room_named(room)),
            Audience::Room(room) => Some(room.clone()),
            Audience::Everyone => Some(everyone()),
            Audience::Role(role) => everyone_with(role).ok(),
            Audience::User(user) => match self {
                Self::Telehealth(_) => domain::RoomId::new(format!("notifications:{user}")),
                Self::Messenger(_) => domain::RoomId::new(format!("user:{user}")),
                Self::Portal(_) => domain::RoomId::new(format!("u:{user}")),
                Self::Diet(_) => domain::RoomId::new(format!("user_{user}")),
                Self::Clinic(_) | Self::Conformance(_) => None,
            },
        }
    }

    pub fn chat_limits(&self) -> ChatLimits {
        match self {
            Self::Telehealth(it) => it.chat_limits(),
            Self::Messenger(it) => it.chat_limits(),
            Self::Portal(it) => it.chat_limits(),
            Self::Clinic(_) | Self::Diet(_) | Self::Conformance(_) => ChatLimits::default(),
        }
    }
}

/// An error as most applications' clients expect it: in the ack where one was asked for, as event `error` otherwise.
fn refused(event: &str, wants_ack: bool, rejection: &Rejection) -> Actions {
    let (message, code) = (rejection.to_string(), rejection.code());
    if wants_ack {
        let body = serde_json::json!({ "success": false, "error": message, "code": code });
        vec![Action::Ack(Out::json(&body))]
    } else {
        let body = serde_json::json!({ "message": message, "code": code, "event": event });
        vec![Action::emit("error", Out::json(&body))]
    }
}
