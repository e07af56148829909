//! What a dialect answers with: frames to its own client, commands for the domain, and what to do with their outcomes.

use std::borrow::Cow;

use bytes::Bytes;
use domain::call::{Act, Call, CallId};
use domain::chat::{Draft, Message, Page};
use domain::presence::{ChoiceChange, Presence};
use domain::{Identity, Rejection, RoomId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Amend, FeedPage, History, MarkRead, NotificationAct, NotificationOutcome, Socket, Span, TypingSignal,
};

/// Arguments on their way out: JSON values joined by commas (no brackets), binary ones as placeholders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Out {
    pub tail: Vec<u8>,
    pub attachments: Vec<Bytes>,
}

impl Out {
    pub fn none() -> Self {
        Self::default()
    }

    /// One argument.
    pub fn json(value: &impl Serialize) -> Self {
        Self::none().and(value)
    }

    /// Raw JSON text that is already a comma-joined list of values.
    pub fn raw(tail: impl Into<Vec<u8>>, attachments: Vec<Bytes>) -> Self {
        Self { tail: tail.into(), attachments }
    }

    /// One more argument.
    #[must_use]
    pub fn and(mut self, value: &impl Serialize) -> Self {
        if !self.tail.is_empty() {
            self.tail.push(b',');
        }
        serde_json::to_writer(&mut self.tail, value).expect("the dialects' own values have string keys");
        self
    }

    /// One more argument: bytes.
    #[must_use]
    pub fn and_binary(self, bytes: Bytes) -> Self {
        let num = self.attachments.len();
        let mut out = self.and(&serde_json::json!({ "_placeholder": true, "num": num }));
        out.attachments.push(bytes);
        out
    }
}

/// Why a socket is not let in: the CONNECT_ERROR's message and `data`.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    pub message: Cow<'static, str>,
    pub data: Option<Value>,
}

impl Refusal {
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), data: None }
    }
}

/// Decides what follows a command. Runs at the node that owns the session, in the session's order.
pub type Then = Box<dyn FnOnce(&Socket<'_>, Result<Outcome, Rejection>) -> Actions>;

pub type Actions = Vec<Action>;

/// One step; the gateway carries a list out in order and waits for each [`Action::Run`].
pub enum Action {
    /// Lets the connecting socket in.
    Accept,
    /// Refuses the connecting socket. Later actions are dropped.
    Refuse(Refusal),
    /// Answers the event that is being handled, if its sender asked for an answer.
    Ack(Out),
    /// To the socket itself.
    Emit {
        event: Cow<'static, str>,
        args: Out,
    },
    /// To the socket itself; its answer comes to [`crate::Dialect::acked`] with the tag.
    EmitWithAck {
        event: Cow<'static, str>,
        args: Out,
        tag: u64,
    },
    /// Keeps a number with the socket, given back as [`Socket::stage`].
    Remember(u32),
    Run(Command, Then),
    /// Nothing but the answer to an event whose right no rule grants: asks the application's hook. If it grants the right, the event
    /// is put to the dialect again, with the right among [`Socket::granted`]; otherwise these actions follow, for
    /// [`Rejection::RoomDenied`] or [`Rejection::HookUnavailable`].
    AskHook {
        right: Box<str>,
        otherwise: Otherwise,
    },
    /// Nothing but the answer to an event of a socket in its grace ([`crate::Dialect::grace`]): the event waits, and is put to the
    /// dialect again after [`Action::Restore`]. `otherwise`: more waits than may.
    PutOff {
        otherwise: Otherwise,
    },
    /// The socket's grace is over, its token counts: what came in its rooms meanwhile follows, then the events that were put off.
    Restore,
}

/// Words a rejection.
pub type Otherwise = Box<dyn FnOnce(&Rejection) -> Actions>;

impl Action {
    /// A command whose outcome changes nothing for the client.
    pub fn run(command: Command) -> Self {
        Self::Run(command, Box::new(|_, _| Actions::new()))
    }

    pub fn emit(event: &'static str, args: Out) -> Self {
        Self::Emit { event: Cow::Borrowed(event), args }
    }

    /// What follows in an application that has no hook.
    #[cfg(test)]
    pub fn without_hook(actions: Actions) -> Actions {
        let refused = |action| match action {
            Self::AskHook { otherwise, .. } => otherwise(&Rejection::RoomDenied),
            action => vec![action],
        };
        actions.into_iter().flat_map(refused).collect()
    }
}

impl std::fmt::Debug for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Accept => f.write_str("Accept"),
            Self::Refuse(refusal) => f.debug_tuple("Refuse").field(refusal).finish(),
            Self::Ack(out) => write!(f, "Ack({})", String::from_utf8_lossy(&out.tail)),
            Self::Emit { event, args } => write!(f, "Emit({event}, {})", String::from_utf8_lossy(&args.tail)),
            Self::EmitWithAck { event, tag, .. } => write!(f, "EmitWithAck({event}, {tag})"),
            Self::Remember(stage) => write!(f, "Remember({stage})"),
            Self::Run(command, _) => f.debug_tuple("Run").field(command).finish(),
            Self::AskHook { right, .. } => write!(f, "AskHook({right})"),
            Self::PutOff { .. } => f.write_str("PutOff"),
            Self::Restore => f.write_str("Restore"),
        }
    }
}

/// What the domain is asked to do for a socket. The dialect has checked the right to it. A command runs to its end, whether or
/// not the socket that asked is still there.
#[derive(Clone, Debug)]
pub enum Command {
    /// Settles when a recoverable event from any node will reach the socket.
    Join(Vec<Join>),
    Leave(Vec<RoomId>),
    /// Settles when stored (recoverable) or at once (ephemeral).
    Emit(Emission),
    /// Settles after this many milliseconds.
    Wait(u64),
    /// Settles when the message is stored under the next position of its room and on its way to everybody.
    Post(Box<Post>),
    /// Settles when the message is changed and everybody is about to hear of it.
    Amend(Box<Amend>),
    /// Settles when the mark is stored and those concerned are about to hear of it.
    MarkRead(Box<MarkRead>),
    /// A part of a room's conversation.
    History {
        room: RoomId,
        page: Page,
        /// Tells that a device of the reader has a message now: see [`Post::receipt`].
        receipt: fn(&Message) -> Announcement,
    },
    /// How much the user has not read in each of these rooms.
    Unread(Vec<RoomId>),
    /// The user types, or no longer does. What of it is shown is not the dialect's business.
    Typing(Box<TypingSignal>),
    /// Asks the coordinator; settles when it has decided and all that follows is on its way to everybody. Afterwards the socket is
    /// in the call's rooms if the call says that its device is in it. `call`: `None` for [`Act::Initiate`] alone, which is given
    /// a new id.
    Call {
        call: Option<CallId>,
        act: Act,
    },
    /// The user's calls that are not over.
    OwnCalls,
    /// The user's own status.
    Choose(ChoiceChange),
    /// What is to be seen of users, each with the id as the client wrote it, in this order; `watch`: changes from now on reach
    /// the socket.
    Presences {
        users: Vec<(UserId, Value)>,
        watch: Watch,
    },
    Unwatch(Vec<UserId>),
    /// Checks a further token of the same user; from then on the socket speaks, and expires, by it.
    Verify {
        token: Token,
    },
    /// Reads a page of one of the application's feeds. Sees every entry whose event could have reached anybody before.
    Feed {
        feed: &'static str,
        span: Span,
    },
    /// The user's own notifications.
    Notifications(NotificationAct),
    /// In applications without tokens: from now on the socket speaks for this user. Refused for one that speaks for another.
    Identify(Box<Identity>),
    /// What a back end's [`Fact`](crate::Fact) says.
    Recall {
        key: String,
    },
    /// Asks the application's hook for a right that no rule grants, such as the name of a room. Without a hook it is not granted; one
    /// that does not answer in time is [`Rejection::HookUnavailable`]. For an event that one right decides, [`Action::AskHook`]
    /// is shorter.
    Authorize {
        right: String,
    },
}

/// A token as it came, kept out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(pub String);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

/// Whether who asks for a presence hears of its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The answer is given whether or not there is room for watching.
    IfPossible,
    /// Over the socket's limit the command is refused.
    Required,
}

/// An event that the coordinator tells of, in one application's words.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Announcement {
    /// One copy per socket, however many of the rooms it is in.
    pub rooms: Vec<RoomId>,
    pub event: Cow<'static, str>,
    pub args: Out,
    /// Ids of sockets that are left out.
    pub except: Vec<Box<str>>,
}

/// A message to store, and the event that tells of it.
#[derive(Clone, Debug)]
pub struct Post {
    pub draft: Draft,
    pub rooms: Vec<RoomId>,
    pub event: Cow<'static, str>,
    /// The event's arguments, once the message has its place.
    pub args: fn(&Message) -> Out,
    /// Leaves the acting socket out.
    pub except_self: bool,
    /// Tells that a device of whom it is for has it; `None`: nobody is told.
    pub receipt: Option<fn(&Message) -> Announcement>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    pub room: RoomId,
    pub note: Option<Box<str>>,
    /// Lists the socket among the room's participants, for all to see.
    pub participant: Option<Participant>,
}

/// Somebody in a room, as other participants see them. A user with several sockets is listed once.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Participant {
    /// As JSON text, so that number and string ids come back as they were.
    #[serde(rename = "u")]
    pub user: Box<str>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Box<str>>,
}

/// The class of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Delivery {
    /// Stored before it is acked; one order per room on every node; recoverable.
    Recoverable,
    /// Straight through, at most once, in order per sender.
    Ephemeral,
}

/// An event for the members of rooms, on all nodes: one copy per socket however many of the rooms it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Emission {
    pub rooms: Vec<RoomId>,
    pub event: Cow<'static, str>,
    pub args: Out,
    pub delivery: Delivery,
    /// Leaves the acting socket out.
    pub except_self: bool,
}

/// What came of a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The participants of the first room joined as a participant, the joiner included.
    Joined {
        participants: Vec<Participant>,
    },
    Left,
    Emitted,
    Waited,
    Posted(Box<Message>),
    /// The message as it is now.
    Amended(Box<Message>),
    Marked,
    History(Box<History>),
    /// In the order of the question.
    Unread(Vec<usize>),
    Call(Box<Call>),
    /// Each with its users' calls in full.
    Calls(Vec<Call>),
    Presences(Vec<Presence>),
    Chosen(Box<Presence>),
    Unwatched,
    Verified(Box<Identity>),
    Feed(FeedPage),
    Notifications(NotificationOutcome),
    Identified,
    /// `None`: no back end has said.
    Recalled(Option<Value>),
    /// Whether the right is granted.
    Authorized(bool),
}

/// Bare Engine.IO messages, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineAction {
    Text(String),
    Binary(Bytes),
}
