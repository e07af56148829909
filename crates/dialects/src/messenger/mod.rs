//! `messenger`: chats, calls, conferences, video and screen sharing, the online status.
//!
//! Start at [`handler`] for what clients say and at `announce` for what they are told when a call changes.

mod announce;
mod asked;
mod backend;
mod calls;
mod chat;
mod chat_message;
mod chat_read;
pub(crate) mod contract;
mod media;
mod online;
mod payload;
mod screen;
mod wire;

use std::sync::Arc;

use domain::call::{Act, Call, CallId, Event, Leg};
use domain::chat::ChatSettings;
use domain::presence::Presence;
use domain::{ChatLimits, Identity, Rejection, Rights, RightsError, Rule, UserId};
use serde_json::{Value, json};

use crate::{
    Action, Actions, Announcement, Command, Inbound, Join, Out, Outcome, Realtime, Refusal, Socket, Token,
    TokenFailure,
};
use asked::{Asked, done};
use payload::{Payload, invalid};

/// The dialect with its settings.
#[derive(Debug)]
pub struct Messenger {
    namespace: Box<str>,
    rights: Rights,
    /// Who administers chats.
    administrators: Rights,
    limits: ChatLimits,
    chat: ChatSettings,
    realtime: Arc<Realtime>,
}

impl Messenger {
    /// How long a call rings where the application does not say.
    pub const RING_MS: u64 = 60_000;

    /// `rules`: rights to `chat:*` (a call that names a chat) and `user:*` (to call somebody); empty: the defaults of
    /// [`Messenger::default_rules`].
    pub fn new(namespace: &str, rules: Vec<Rule>, mut realtime: Realtime) -> Result<Self, Vec<RightsError>> {
        let rules = if rules.is_empty() { Self::default_rules() } else { rules };
        realtime.calls.ring_ms.get_or_insert(Self::RING_MS);
        realtime.presence.rooms_told = online::rooms_told(&realtime.presence);
        Ok(Self {
            namespace: namespace.into(),
            rights: Rights::new(rules)?,
            administrators: Rights::new(chat::administrators())?,
            limits: ChatLimits::default(),
            chat: ChatSettings::default(),
            realtime: Arc::new(realtime),
        })
    }

    /// With limits and settings of the chat other than the defaults.
    #[must_use]
    pub fn with_chat(self, limits: ChatLimits, chat: ChatSettings) -> Self {
        Self { limits, chat, ..self }
    }

    /// Chats by the claim `chats`; everybody may call anybody.
    pub fn default_rules() -> Vec<Rule> {
        let rule = |room: &str, claim: Option<&str>| Rule {
            room: room.into(),
            roles: Vec::new(),
            claim: claim.map(Into::into),
            own: false,
            any: claim.is_none(),
        };
        vec![rule("chat:*", Some("chats")), rule("user:*", None)]
    }

    pub(crate) fn has_namespace(&self, namespace: &str) -> bool {
        *self.namespace == *namespace
    }

    pub(crate) fn realtime(&self) -> &Realtime {
        &self.realtime
    }

    pub(crate) fn chat_limits(&self) -> ChatLimits {
        self.limits
    }

    pub(crate) fn call_changed(&self, call: &Call, events: &[Event], now_ms: u64) -> Vec<Announcement> {
        announce::of(&self.realtime, call, events, now_ms)
    }

    /// A good token of a user who may not come has a message of its own; `data.code` tells all cases apart.
    pub(crate) fn refuse_token(&self, failure: TokenFailure) -> Refusal {
        let message = match failure {
            TokenFailure::Revoked | TokenFailure::UnknownUser => "User not found",
            _ => "Authentication failed",
        };
        Refusal { message: message.into(), data: Some(json!({ "code": failure.code() })) }
    }

    /// Joins the user's own room and the chats of its token first, and reads the user's calls then: a call that begins in between is told twice rather than
    /// never.
    pub(crate) fn connecting(&self, socket: &Socket<'_>) -> Actions {
        let Some(identity) = socket.identity else {
            return vec![Action::Refuse(self.refuse_token(TokenFailure::Missing))];
        };
        let own = Join { room: wire::user_room(&identity.user), note: None, participant: None };
        let chats = chat::of_token(self, identity).map(|room| Join { room, note: None, participant: None });
        vec![Action::Run(
            Command::Join([own].into_iter().chain(chats).collect()),
            Box::new(|_, outcome| match outcome {
                Ok(_) => vec![Action::Accept, Action::Run(Command::OwnCalls, Box::new(tell_own_calls))],
                // The edge closes the transport for this one: a CONNECT_ERROR would stop the client for good.
                Err(_) => Actions::new(),
            }),
        )]
    }

    /// Those who share a chat with the user, and who asked, hear that it is there or gone.
    pub(crate) fn presence_changed(&self, presence: &Presence) -> Vec<Announcement> {
        online::changed(presence)
    }

    pub(crate) fn event(&self, socket: &Socket<'_>, inbound: &Inbound<'_>) -> Actions {
        let Some(identity) = socket.identity else { return Actions::new() };
        let payload = Payload::read(inbound);
        let asked = Asked::of(inbound, payload.as_ref().ok());
        let handled = handler(inbound.name).ok_or(Rejection::UnknownEvent).and_then(|handle| {
            let ask = Ask { dialect: self, socket, identity, inbound, payload: payload?, asked: &asked };
            ask.check_claim()?;
            handle(&ask)
        });
        handled.unwrap_or_else(|rejection| match rejection {
            Rejection::NotGranted { right } => {
                let otherwise = Box::new(move |rejection: &Rejection| asked.refuse(rejection));
                vec![Action::AskHook { right, otherwise }]
            }
            rejection => asked.refuse(&rejection),
        })
    }
}

type Handler = fn(&Ask<'_>) -> Result<Actions, Rejection>;

/// Everything that clients say.
fn handler(event: &str) -> Option<Handler> {
    Some(match event {
        "user:authenticate" => authenticate,
        "user:status" => online::status,
        "chat:join" => chat::join,
        "chat:leave" => chat::leave,
        "message:send" => chat_message::send,
        "message:edit" => chat_message::edit,
        "message:delete" => chat_message::delete,
        "message:read" => chat_read::read,
        "message:history" => chat_read::history,
        "message:unread" => chat_read::unread,
        "typing:start" | "typing:stop" => chat::typing,
        "call:initiate" => calls::initiate,
        "call:response" => calls::response,
        "call:end" => calls::end,
        "call:rejoin" => calls::rejoin,
        "webrtc:signal" => calls::signal,
        "conference:create" => calls::create,
        "conference:video:join" => calls::join,
        "conference:video:leave" => calls::leave,
        "video:stream:start" => media::stream_start,
        "video:stream:stop" => media::stream_stop,
        "video:control:toggle" => media::toggle,
        "video:quality:change" => media::quality,
        "screen:share:start" => screen::start,
        "screen:share:stop" => screen::stop,
        "screen:quality:change" => screen::quality,
        "screen:remote:request" => screen::request,
        "screen:remote:response" => screen::respond,
        "screen:remote:revoke" => screen::revoke,
        "screen:remote:input" => screen::input,
        "screen:annotation:add" => screen::annotate,
        _ => return None,
    })
}

pub use chat::is_chat;

/// One event of a client, with all that its handler may look at.
struct Ask<'a> {
    dialect: &'a Messenger,
    socket: &'a Socket<'a>,
    identity: &'a Identity,
    inbound: &'a Inbound<'a>,
    payload: Payload<'a>,
    asked: &'a Asked,
}

impl Ask<'_> {
    /// A payload that says it is somebody else's is refused. Signals and what is said about screens name other users rightly.
    fn check_claim(&self) -> Result<(), Rejection> {
        let names_others = ["webrtc:", "screen:"].iter().any(|part| self.inbound.name.starts_with(part));
        if names_others { Ok(()) } else { self.check_speaker("userId") }
    }

    /// A field that says whose the payload is says so truly, or nothing.
    fn check_speaker(&self, field: &'static str) -> Result<(), Rejection> {
        let claimed = self.payload.value(field).and_then(|value| UserId::from_json(&value));
        match claimed {
            Some(user) if user != self.identity.user => Err(invalid(field, "is another user's")),
            _ => Ok(()),
        }
    }

    /// A right that no rule grants is the application's hook's to grant.
    fn check_right(&self, right: &str) -> Result<(), Rejection> {
        let granted = self.dialect.rights.grants(self.identity, right) || self.socket.is_granted(right);
        if granted { Ok(()) } else { Err(Rejection::NotGranted { right: right.into() }) }
    }

    /// Runs a command of a call; a refusal is answered as such.
    fn run(
        &self,
        call: Option<CallId>,
        act: Act,
        then: impl FnOnce(&Socket<'_>, &Call) -> Actions + 'static,
    ) -> Actions {
        let asked = self.asked.clone();
        vec![Action::Run(
            Command::Call { call, act },
            Box::new(move |socket, outcome| match outcome {
                Ok(Outcome::Call(call)) => then(socket, &call),
                Ok(_) => asked.refuse(&Rejection::Unavailable),
                Err(rejection) => asked.refuse(&rejection),
            }),
        )]
    }

    /// The actor's own ICE servers.
    fn ice(&self) -> Value {
        crate::calling::ice_json(&self.dialect.realtime, &self.identity.user, self.inbound.now_ms)
    }

    /// The payload as the client wrote it.
    fn text(&self) -> &str {
        self.inbound.args.first().map_or("", |raw| raw.get())
    }

    /// Bytes of the payload, binary parts included.
    fn size(&self) -> usize {
        self.text().len() + self.inbound.attachments.iter().map(bytes::Bytes::len).sum::<usize>()
    }

    /// The client's payload with the sender's id in it, binary parts included.
    fn passed_on(&self, key: &str) -> Out {
        let body = self.payload.with(key, &self.identity.wire_id());
        Out::raw(body, self.inbound.attachments.to_vec())
    }
}

/// A further token of the same user.
fn authenticate(ask: &Ask<'_>) -> Result<Actions, Rejection> {
    let token = Token(ask.payload.text("token")?);
    let asked = ask.asked.clone();
    Ok(vec![Action::Run(
        Command::Verify { token },
        Box::new(move |_, outcome| match outcome {
            Ok(Outcome::Verified(identity)) => {
                let body = json!({ "userId": identity.wire_id() });
                vec![Action::emit("user:authenticated", Out::json(&body)), done(&body)]
            }
            Ok(_) => asked.refuse(&Rejection::Unavailable),
            Err(rejection) => asked.refuse(&rejection),
        }),
    )])
}

/// A device that connects hears of the user's calls, and rings where they ring.
fn tell_own_calls(socket: &Socket<'_>, outcome: Result<Outcome, Rejection>) -> Actions {
    let Some(identity) = socket.identity else { return Actions::new() };
    match outcome {
        Ok(Outcome::Calls(calls)) => calls.iter().flat_map(|call| own_call(call, &identity.user)).collect(),
        Ok(_) => Actions::new(),
        Err(rejection) => {
            let body = json!({ "message": rejection.to_string(), "code": rejection.code() });
            vec![Action::emit("call:error", Out::json(&body))]
        }
    }
}

fn own_call(call: &Call, user: &UserId) -> Actions {
    let rings = call.seat(user).is_some_and(|seat| seat.leg == Leg::Ringing);
    let incoming = rings.then(|| Action::emit("call:incoming", Out::json(&wire::incoming(call))));
    let active = Action::emit("call:active", Out::json(&wire::active(call)));
    incoming.into_iter().chain([active]).collect()
}

#[cfg(test)]
mod tests;
