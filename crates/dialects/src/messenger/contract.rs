//! The contract of `messenger` for machines; docs/messenger.md is the one for people.

use crate::contract::{Contract, ERROR, FAILURE, Heard, Said, asks, hears};

pub static CONTRACT: Contract = Contract {
    title: "messenger",
    about: "Chats, calls, conferences, video and screen sharing.",
    path: "/socket.io",
    namespace: "/",
    types: &[
        ("User", "{ id: Id, username: string }"),
        ("Attachment", "{ type?: string, url: string, name?: string, size?: number }"),
        (
            "Message",
            "{ id: string, chatId: Id, senderId: Id, content: string | null, type: MessageType, replyTo?: Id, attachments: Attachment[], status: \"sent\" | \"delivered\" | \"read\", createdAt: Time, editedAt?: Time, deletedAt?: Time, clientId?: Id }",
        ),
        ("MessageType", "\"text\" | \"image\" | \"file\" | \"audio\" | \"video\""),
        (
            "CallStatus",
            "\"initiating\" | \"ringing\" | \"accepted\" | \"in_progress\" | \"ended\" | \"rejected\" | \"missed\" | \"failed\"",
        ),
        ("IceServer", "{ urls: string | string[], username?: string, credential?: string }"),
        (
            "Participant",
            "{ id: Id, userId: Id, username: string, state: \"ringing\" | \"joined\" | \"lost\" | \"declined\" | \"missed\" | \"left\" }",
        ),
        (
            "Call",
            "{ callId: string, callType: Medium, status: CallStatus, conference?: true, caller?: User, participants: Participant[], acceptedAt?: Time, chatId?: Id, title?: string, iceServers?: IceServer[] }",
        ),
        ("Medium", "\"audio\" | \"video\""),
        ("Quality", "\"low\" | \"medium\" | \"high\""),
        ("Mute", "\"mute_video\" | \"unmute_video\" | \"mute_audio\" | \"unmute_audio\""),
        ("Mark", "\"draw\" | \"pointer\" | \"text\" | \"clear\""),
        ("InCall", "{ callId: string, userId: Id }"),
        ("CallError", "{ message: string, code: string, callId?: string }"),
        ("CallOver", "{ callId: string, endedBy: Id | null, reason: string, duration: number }"),
    ],
    failure: FAILURE,
    says: SAYS,
    hears: HEARS,
};

const DONE: &str = "{ success: true }";
const DONE_IN_CALL: &str = "{ success: true, callId: string }";
const DONE_IN_CHAT: &str = "{ success: true, chatId: Id }";
const CHANGED: &str = "{ success: true, chatId: Id, messageId: string, message: Message }";
const IN_CALL: &str = "{ success: true, callId: string, callType: Medium, status: CallStatus, participants: Participant[], iceServers: IceServer[], conference?: true, caller?: User, acceptedAt?: Time, chatId?: Id, title?: string }";
const CALL: &str = "{ callId: string }";
const CHAT: &str = "{ chatId: Id }";

const SAYS: &[Said] = &[
    asks(
        "user:authenticate",
        "{ token: string }",
        "{ success: true, userId: Id }",
        "Shows a further token of the same user.",
    ),
    asks(
        "user:status",
        "{ userIds: Id[] }",
        "{ success: true, users: { userId: Id, status: string, online: boolean, lastSeen?: Time }[] }",
        "Who is there.",
    ),
    asks("chat:join", CHAT, "{ success: true, chatId: Id }", "Enters a chat."),
    asks("chat:leave", CHAT, "{ success: true, chatId: Id }", "Leaves it."),
    asks(
        "message:send",
        "{ chatId: Id, content?: string, type?: MessageType, replyTo?: Id, attachments?: Attachment[], clientId?: Id }",
        "{ success: true, message: Message }",
        "Stores a message and tells it to the chat.",
    ),
    asks(
        "message:edit",
        "{ chatId?: Id, messageId: string, content: string }",
        CHANGED,
        "The author writes it anew.",
    ),
    asks(
        "message:delete",
        "{ chatId?: Id, messageId: string }",
        CHANGED,
        "The author or an administrator deletes it.",
    ),
    asks(
        "message:read",
        "{ chatId?: Id, messageId?: string, messageIds?: string[] }",
        "{ success: true, messageId?: string, messageIds?: string[] }",
        "All up to the newest of them is read.",
    ),
    asks(
        "message:history",
        "{ chatId?: Id, limit?: integer, before?: Id, after?: Id }",
        "{ success: true, messages: Message[], hasMore: boolean }",
        "A page of messages, oldest first.",
    ),
    asks(
        "message:unread",
        "{ chatIds?: Id[] }",
        "{ success: true, unread: { [key]: integer } }",
        "Unread messages by chat.",
    ),
    asks("typing:start", "{ chatId: Id, isTyping?: boolean }", DONE_IN_CHAT, "Is about to write."),
    asks("typing:stop", "{ chatId: Id, isTyping?: boolean }", DONE_IN_CHAT, "Writes no more."),
    asks(
        "call:initiate",
        "{ receiverId: Id, callType: Medium, chatId?: Id }",
        "{ success: true, callId: string, status: CallStatus, iceServers: IceServer[] }",
        "Calls a user: all the user's devices ring.",
    ),
    asks(
        "call:response",
        "{ callId: string, action: \"accept\" | \"decline\", reason?: string }",
        "{ success: true, callId: string, action: string, status: CallStatus, iceServers?: IceServer[] }",
        "Answers or declines.",
    ),
    asks(
        "call:end",
        "{ callId: string, reason?: string }",
        "{ success: true, callId: string, status: CallStatus, duration: number }",
        "Hangs up, cancels, or leaves a conference.",
    ),
    asks("call:rejoin", CALL, IN_CALL, "Back into one's seat."),
    asks(
        "webrtc:signal",
        "{ callId: string, targetId?: Id, ... }",
        DONE,
        "The whole payload, for the others or the target.",
    ),
    asks(
        "conference:create",
        "{ participants: Id[], callType: Medium, chatId?: Id, title?: string }",
        IN_CALL,
        "Rings all.",
    ),
    asks("conference:video:join", CALL, IN_CALL, "Into a conference, or ready with video."),
    asks(
        "conference:video:leave",
        CALL,
        "{ success: true, callId: string, status: CallStatus }",
        "Out of it.",
    ),
    asks(
        "video:stream:start",
        "{ callId: string, hasVideo: boolean, hasAudio: boolean }",
        DONE_IN_CALL,
        "Sends a stream.",
    ),
    asks("video:stream:stop", CALL, DONE_IN_CALL, "Sends no more."),
    asks(
        "video:control:toggle",
        "{ callId: string, action: Mute, enabled?: unknown }",
        DONE_IN_CALL,
        "Mutes or unmutes.",
    ),
    asks("video:quality:change", "{ callId: string, quality: string }", DONE_IN_CALL, "Another quality."),
    asks(
        "screen:share:start",
        "{ callId: string, hasAudio?: boolean, quality?: Quality }",
        DONE_IN_CALL,
        "Shares the screen; one at a time.",
    ),
    asks("screen:share:stop", CALL, DONE_IN_CALL, "Shares no more."),
    asks("screen:quality:change", "{ callId: string, quality: Quality }", DONE_IN_CALL, "Another quality."),
    asks("screen:remote:request", "{ callId: string, sharerId?: Id }", DONE_IN_CALL, "Asks for control."),
    asks(
        "screen:remote:response",
        "{ callId: string, requesterId: Id, granted: boolean }",
        DONE_IN_CALL,
        "The sharer grants it or not.",
    ),
    asks("screen:remote:revoke", "{ callId: string, requesterId?: Id }", DONE_IN_CALL, "Control ends."),
    asks(
        "screen:remote:input",
        "{ callId: string, sharerId?: Id, ... }",
        DONE,
        "The whole payload, for the sharer's device.",
    ),
    asks(
        "screen:annotation:add",
        "{ callId: string, type: Mark, data?: unknown, ... }",
        "{ success: true, callId?: string }",
        "Draws on a shared screen.",
    ),
];

const HEARS: &[Heard] = &[
    hears("error", ERROR, "What was refused, where no ack was asked for."),
    hears("user:authenticated", "{ userId: Id }", "The further token counts."),
    hears("user:online", "{ userId: Id }", "A user has come."),
    hears("user:offline", "{ userId: Id, lastSeen?: Time }", "A user is gone."),
    hears("message:receive", "{ message: Message, chatId: Id }", "A message, one's own too."),
    hears("message:edit", "{ chatId: Id, message: Message }", "It was written anew."),
    hears("message:delete", "{ chatId: Id, messageId: string, deletedBy: Id }", "It was deleted."),
    hears(
        "message:read",
        "{ chatId: Id, messageId: string, userId: Id, readAt: Time }",
        "Somebody has read up to it.",
    ),
    hears(
        "message:status",
        "{ chatId: Id, messageId: string, status: \"delivered\" }",
        "One's own message has arrived.",
    ),
    hears("typing:start", "{ chatId: Id, userId: Id, isTyping: boolean }", "Somebody is about to write."),
    hears("typing:stop", "{ chatId: Id, userId: Id, isTyping: boolean }", "And writes no more."),
    hears(
        "call:incoming",
        "{ callId: string, caller: User, callType: Medium, chatId?: Id, conference?: true, title?: string, participants?: User[] }",
        "It rings.",
    ),
    hears(
        "call:initiated",
        "{ callId: string, status: CallStatus, iceServers: IceServer[] }",
        "One's own call.",
    ),
    hears("call:ringing", CALL, "The receiver's first device rings."),
    hears(
        "call:response",
        "{ callId: string, action: \"accept\" | \"decline\", userId: Id }",
        "Somebody has answered or declined.",
    ),
    hears(
        "call:accepted",
        "{ callId: string, userId: Id, iceServers: IceServer[] }",
        "Somebody has answered.",
    ),
    hears("call:declined", "{ callId: string, userId: Id, reason?: string }", "Somebody has declined."),
    hears(
        "call:answered_elsewhere",
        "{ callId: string, action: string }",
        "Another device of one's own has.",
    ),
    hears(
        "call:busy",
        "{ callId?: string, userId?: Id, receiverId?: Id, message?: string, code: string }",
        "The receiver cannot be called now.",
    ),
    hears("call:timeout", "{ callId: string, userId?: Id }", "Nobody has answered in time."),
    hears("call:end", "CallOver", "The call is over."),
    hears("call:ended", "CallOver", "The call is over."),
    hears("call:active", "Call", "A call that goes on without this device."),
    hears("call:error", "CallError", "What was refused, where no ack was asked for."),
    hears("call:participant:lost", "InCall", "A connection is lost."),
    hears("call:participant:back", "InCall", "It is back."),
    hears("conference:created", "Call", "One's own conference."),
    hears(
        "conference:participant:joined",
        "{ callId: string, userId: Id, user: User }",
        "Somebody has come.",
    ),
    hears("conference:participant:left", "InCall", "Somebody is gone."),
    hears("conference:video:join", "InCall", "Somebody's video is ready."),
    hears("conference:video:leave", "InCall", "Somebody is gone."),
    hears(
        "webrtc:signal",
        "{ callId: string, fromId: Id, targetId?: Id, ... }",
        "The whole payload of another participant.",
    ),
    hears("video:error", "CallError", "What was refused, where no ack was asked for."),
    hears(
        "video:state",
        "{ callId: string, participants: { userId: Id, hasVideo: boolean, hasAudio: boolean, videoMuted: boolean, audioMuted: boolean, quality: string | null }[] }",
        "Everybody's streams.",
    ),
    hears(
        "video:stream:start",
        "{ callId: string, userId: Id, hasVideo: boolean, hasAudio: boolean }",
        "Somebody sends a stream.",
    ),
    hears("video:stream:stop", "InCall", "Somebody sends no more."),
    hears(
        "video:control:toggle",
        "{ callId: string, userId: Id, action: Mute, enabled?: unknown }",
        "Somebody mutes or unmutes.",
    ),
    hears(
        "video:quality:change",
        "{ callId: string, userId: Id, quality: string }",
        "Somebody's other quality.",
    ),
    hears("screen:error", "CallError", "What was refused, where no ack was asked for."),
    hears(
        "screen:state",
        "{ callId: string, sharers: { userId: Id, hasAudio: boolean, quality: string | null }[], controls: { sharerId: Id, requesterId: Id, granted: boolean }[], annotations: unknown[] }",
        "Who shares, who controls, what is drawn.",
    ),
    hears(
        "screen:share:start",
        "{ callId: string, userId: Id, hasAudio?: boolean, quality?: Quality }",
        "Somebody shares.",
    ),
    hears("screen:share:stop", "InCall", "Somebody shares no more."),
    hears("screen:quality:change", "{ callId: string, userId: Id, quality: Quality }", "Another quality."),
    hears(
        "screen:remote:request",
        "{ callId: string, userId: Id, sharerId?: Id }",
        "Somebody asks for control.",
    ),
    hears(
        "screen:remote:response",
        "{ callId: string, userId: Id, requesterId: Id, granted: boolean }",
        "The sharer has granted it or not.",
    ),
    hears("screen:remote:revoke", "{ callId: string, userId: Id, requesterId?: Id }", "Control ends."),
    hears(
        "screen:remote:input",
        "{ callId: string, userId: Id, ... }",
        "The whole payload of who has control.",
    ),
    hears(
        "screen:annotation:add",
        "{ callId: string, userId: Id, type: Mark, data?: unknown, ... }",
        "Somebody draws.",
    ),
];
