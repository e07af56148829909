//! The contract of `telehealth` for machines; docs/telehealth.md is the one for people.

use crate::contract::{Contract, ERROR, FAILURE, Heard, Said, asks, hears, says};
use crate::notifying;

pub static CONTRACT: Contract = Contract {
    title: "telehealth",
    about: "Visits with chat, calls, presence and notifications.",
    path: "/socket.io",
    namespace: "/",
    types: &[
        (
            "Message",
            "{ id: string, senderId: Id, recipientId?: Id, visitId?: Id, roomId: string, message: string, attachments: unknown[], timestamp: Time, status: \"sent\" | \"delivered\" | \"read\", metadata: { [key]: unknown }, clientId?: Id, editedAt?: Time, deletedAt?: Time }",
        ),
        ("Presence", "{ userId: Id, status: Status, customStatus?: string, lastSeen?: Time }"),
        ("Status", "\"online\" | \"offline\" | \"away\" | \"busy\" | \"in_call\""),
        (
            "CallStatus",
            "\"initiating\" | \"ringing\" | \"accepted\" | \"in_progress\" | \"ended\" | \"rejected\" | \"missed\" | \"failed\"",
        ),
        ("IceServer", "{ urls: string | string[], username?: string, credential?: string }"),
        ("Notification", "{ id: Id, title?: string, message?: string, timestamp?: Time, ... }"),
    ],
    failure: FAILURE,
    says: SAYS,
    hears: HEARS,
};

const IN_CALL: &str = "{ success: true, callId: string, status: CallStatus, iceServers: IceServer[] }";
const OUT_OF_CALL: &str = "{ success: true, callId: string, duration: number }";
const PRESENCES: &str = "{ success: true, presences: Presence[] }";
const REASON: &str = "{ callId: string, reason?: string }";
const USERS: &str = "{ userIds: Id[] }";
const WHO: &str = "{ roomId: string, userId: Id, role: string | null }";

const SAYS: &[Said] = &[
    asks(
        "room:join",
        "{ roomId: string, roomType?: string, metadata?: { visitId?: Id } }",
        "{ success: true, roomId: string, participants: { userId: Id, role: string | null }[] }",
        "Enters a room; the others hear room:userJoined.",
    ),
    asks(
        "room:leave",
        "{ roomId: string }",
        "{ success: true, roomId: string }",
        "Leaves a room; the others hear room:userLeft.",
    ),
    asks(
        "message:send",
        "{ message: string, roomId?: string, visitId?: Id, recipientId?: Id, attachments?: unknown[], metadata?: { [key]: unknown }, clientId?: Id }",
        "{ success: true, message: Message }",
        "Stores and delivers a message.",
    ),
    asks(
        "message:history",
        "{ roomId?: string, visitId?: Id, recipientId?: Id, limit?: integer, before?: Id, after?: Id }",
        "{ success: true, messages: Message[], hasMore: boolean }",
        "A page of messages, oldest first.",
    ),
    asks(
        "message:read",
        "{ messageId: string }",
        "{ success: true, messageId: string }",
        "All up to this message is read.",
    ),
    says("typing:start", "{ roomId: string }", "Is about to write."),
    says("typing:stop", "{ roomId: string }", "Writes no more."),
    asks(
        "call:initiate",
        "{ recipientId: Id, callType: \"audio\" | \"video\", visitId?: Id }",
        IN_CALL,
        "Calls a user: all the user's devices ring.",
    ),
    asks("call:accept", "{ callId: string }", IN_CALL, "Answers."),
    asks("call:reject", REASON, OUT_OF_CALL, "Declines."),
    asks("call:end", REASON, OUT_OF_CALL, "Hangs up, or cancels before the answer."),
    asks("call:fail", REASON, OUT_OF_CALL, "The device cannot go on."),
    asks("call:rejoin", "{ callId: string }", IN_CALL, "Back into one's seat after a lost connection."),
    asks(
        "call:signal",
        "{ callId: string, signal: unknown, targetId?: Id }",
        "{ success: true }",
        "Offers, answers and candidates for the other side.",
    ),
    asks("presence:get", USERS, PRESENCES, "Who is there, and from now on its changes."),
    asks("presence:subscribe", USERS, PRESENCES, "The same; refused where there is no room for watching."),
    asks("presence:unsubscribe", USERS, "{ success: true }", "Watches no more."),
    asks(
        "presence:setStatus",
        "{ status: \"online\" | \"away\" | \"busy\" | \"offline\", customStatus?: string | null }",
        "{ success: true, presence: Presence }",
        "Chooses how one is seen.",
    ),
    notifying::READ,
    notifying::UNREAD_COUNT,
    notifying::LIST,
];

const HEARS: &[Heard] = &[
    hears("connected", "{ socketId: string, userId: Id }", "The token counts."),
    hears("error", ERROR, "What was refused, where no ack was asked for."),
    hears("room:userJoined", WHO, "Somebody has entered a room one is in."),
    hears("room:userLeft", WHO, "Somebody has left it."),
    hears("message:new", "Message", "A message of somebody else, or of another device of one's own."),
    hears("message:sent", "Message", "One's own message is stored."),
    hears(
        "message:status",
        "{ messageId: string, roomId: string, status: \"delivered\" | \"read\" }",
        "One's own message has been delivered or read.",
    ),
    hears("typing:start", WHO, "Somebody is about to write."),
    hears("typing:stop", WHO, "And writes no more."),
    hears(
        "call:incoming",
        "{ callId: string, callerId: Id, callerName?: string, callType: \"audio\" | \"video\", visitId?: Id }",
        "It rings.",
    ),
    hears("call:ringing", "{ callId: string }", "The recipient's first device rings."),
    hears("call:accepted", "{ callId: string, iceServers: IceServer[] }", "The recipient has answered."),
    hears("call:rejected", REASON, "The recipient has declined."),
    hears("call:missed", "{ callId: string }", "Nobody has answered in time."),
    hears("call:failed", REASON, "A device could not go on."),
    hears(
        "call:ended",
        "{ callId: string, duration: number, reason?: string }",
        "The call is over, for this device at least.",
    ),
    hears(
        "call:active",
        "{ callId: string, status: CallStatus, lost: boolean, callerId: Id, callerName?: string, recipientId: Id, callType: \"audio\" | \"video\", visitId?: Id }",
        "A call that the user is in with another device, or a lost connection.",
    ),
    hears("call:participantLost", "{ callId: string, userId: Id }", "The other side's connection is lost."),
    hears("call:participantBack", "{ callId: string, userId: Id }", "It is back."),
    hears("call:signal", "{ callId: string, signal: unknown, fromId: Id }", "A signal of the other side."),
    hears("presence:changed", "Presence", "Somebody's presence is another."),
    hears("notification:new", "Notification", "A notification, as the back end made it."),
    hears(
        "notification:read",
        "{ notificationId: Id, unreadCount: integer }",
        "Another device of one's own has read it.",
    ),
    hears("system:maintenance", "{ message: string }", "A word of the operators."),
];
