// The events of `messenger`: Chats, calls, conferences, video and screen sharing. Made by `trunkline contract typescript --dialect messenger`; do not edit.

/** A number where it was written as one. */
export type Id = string | number;
/** ISO 8601 in UTC, with milliseconds. */
export type Time = string;
/** Bytes: an `ArrayBuffer` in browsers, a `Buffer` in Node. */
export type Binary = ArrayBuffer | Uint8Array;

export type User = { id: Id; username: string };
export type Attachment = { type?: string; url: string; name?: string; size?: number };
export type Message = { id: string; chatId: Id; senderId: Id; content: string | null; type: MessageType; replyTo?: Id; attachments: Attachment[]; status: "sent" | "delivered" | "read"; createdAt: Time; editedAt?: Time; deletedAt?: Time; clientId?: Id };
export type MessageType = "text" | "image" | "file" | "audio" | "video";
export type CallStatus = "initiating" | "ringing" | "accepted" | "in_progress" | "ended" | "rejected" | "missed" | "failed";
export type IceServer = { urls: string | string[]; username?: string; credential?: string };
export type Participant = { id: Id; userId: Id; username: string; state: "ringing" | "joined" | "lost" | "declined" | "missed" | "left" };
export type Call = { callId: string; callType: Medium; status: CallStatus; conference?: true; caller?: User; participants: Participant[]; acceptedAt?: Time; chatId?: Id; title?: string; iceServers?: IceServer[] };
export type Medium = "audio" | "video";
export type Quality = "low" | "medium" | "high";
export type Mute = "mute_video" | "unmute_video" | "mute_audio" | "unmute_audio";
export type Mark = "draw" | "pointer" | "text" | "clear";
export type InCall = { callId: string; userId: Id };
export type CallError = { message: string; code: string; callId?: string };
export type CallOver = { callId: string; endedBy: Id | null; reason: string; duration: number };
/** The ack of what was refused. */
export type Failure = { success: false; error: string; code: string };

/** What clients say. */
export interface ClientToServerEvents {
  /** Shows a further token of the same user. */
  "user:authenticate": (payload: { token: string }, ack: (answer: { success: true; userId: Id } | Failure) => void) => void;
  /** Who is there. */
  "user:status": (payload: { userIds: Id[] }, ack: (answer: { success: true; users: { userId: Id; status: string; online: boolean; lastSeen?: Time }[] } | Failure) => void) => void;
  /** Enters a chat. */
  "chat:join": (payload: { chatId: Id }, ack: (answer: { success: true; chatId: Id } | Failure) => void) => void;
  /** Leaves it. */
  "chat:leave": (payload: { chatId: Id }, ack: (answer: { success: true; chatId: Id } | Failure) => void) => void;
  /** Stores a message and tells it to the chat. */
  "message:send": (payload: { chatId: Id; content?: string; type?: MessageType; replyTo?: Id; attachments?: Attachment[]; clientId?: Id }, ack: (answer: { success: true; message: Message } | Failure) => void) => void;
  /** The author writes it anew. */
  "message:edit": (payload: { chatId?: Id; messageId: string; content: string }, ack: (answer: { success: true; chatId: Id; messageId: string; message: Message } | Failure) => void) => void;
  /** The author or an administrator deletes it. */
  "message:delete": (payload: { chatId?: Id; messageId: string }, ack: (answer: { success: true; chatId: Id; messageId: string; message: Message } | Failure) => void) => void;
  /** All up to the newest of them is read. */
  "message:read": (payload: { chatId?: Id; messageId?: string; messageIds?: string[] }, ack: (answer: { success: true; messageId?: string; messageIds?: string[] } | Failure) => void) => void;
  /** A page of messages, oldest first. */
  "message:history": (payload: { chatId?: Id; limit?: number; before?: Id; after?: Id }, ack: (answer: { success: true; messages: Message[]; hasMore: boolean } | Failure) => void) => void;
  /** Unread messages by chat. */
  "message:unread": (payload: { chatIds?: Id[] }, ack: (answer: { success: true; unread: { [key: string]: number } } | Failure) => void) => void;
  /** Is about to write. */
  "typing:start": (payload: { chatId: Id; isTyping?: boolean }, ack: (answer: { success: true; chatId: Id } | Failure) => void) => void;
  /** Writes no more. */
  "typing:stop": (payload: { chatId: Id; isTyping?: boolean }, ack: (answer: { success: true; chatId: Id } | Failure) => void) => void;
  /** Calls a user: all the user's devices ring. */
  "call:initiate": (payload: { receiverId: Id; callType: Medium; chatId?: Id }, ack: (answer: { success: true; callId: string; status: CallStatus; iceServers: IceServer[] } | Failure) => void) => void;
  /** Answers or declines. */
  "call:response": (payload: { callId: string; action: "accept" | "decline"; reason?: string }, ack: (answer: { success: true; callId: string; action: string; status: CallStatus; iceServers?: IceServer[] } | Failure) => void) => void;
  /** Hangs up, cancels, or leaves a conference. */
  "call:end": (payload: { callId: string; reason?: string }, ack: (answer: { success: true; callId: string; status: CallStatus; duration: number } | Failure) => void) => void;
  /** Back into one's seat. */
  "call:rejoin": (payload: { callId: string }, ack: (answer: { success: true; callId: string; callType: Medium; status: CallStatus; participants: Participant[]; iceServers: IceServer[]; conference?: true; caller?: User; acceptedAt?: Time; chatId?: Id; title?: string } | Failure) => void) => void;
  /** The whole payload, for the others or the target. */
  "webrtc:signal": (payload: { callId: string; targetId?: Id; [key: string]: unknown }, ack: (answer: { success: true } | Failure) => void) => void;
  /** Rings all. */
  "conference:create": (payload: { participants: Id[]; callType: Medium; chatId?: Id; title?: string }, ack: (answer: { success: true; callId: string; callType: Medium; status: CallStatus; participants: Participant[]; iceServers: IceServer[]; conference?: true; caller?: User; acceptedAt?: Time; chatId?: Id; title?: string } | Failure) => void) => void;
  /** Into a conference, or ready with video. */
  "conference:video:join": (payload: { callId: string }, ack: (answer: { success: true; callId: string; callType: Medium; status: CallStatus; participants: Participant[]; iceServers: IceServer[]; conference?: true; caller?: User; acceptedAt?: Time; chatId?: Id; title?: string } | Failure) => void) => void;
  /** Out of it. */
  "conference:video:leave": (payload: { callId: string }, ack: (answer: { success: true; callId: string; status: CallStatus } | Failure) => void) => void;
  /** Sends a stream. */
  "video:stream:start": (payload: { callId: string; hasVideo: boolean; hasAudio: boolean }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** Sends no more. */
  "video:stream:stop": (payload: { callId: string }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** Mutes or unmutes. */
  "video:control:toggle": (payload: { callId: string; action: Mute; enabled?: unknown }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** Another quality. */
  "video:quality:change": (payload: { callId: string; quality: string }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** Shares the screen; one at a time. */
  "screen:share:start": (payload: { callId: string; hasAudio?: boolean; quality?: Quality }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** Shares no more. */
  "screen:share:stop": (payload: { callId: string }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** Another quality. */
  "screen:quality:change": (payload: { callId: string; quality: Quality }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** Asks for control. */
  "screen:remote:request": (payload: { callId: string; sharerId?: Id }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** The sharer grants it or not. */
  "screen:remote:response": (payload: { callId: string; requesterId: Id; granted: boolean }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** Control ends. */
  "screen:remote:revoke": (payload: { callId: string; requesterId?: Id }, ack: (answer: { success: true; callId: string } | Failure) => void) => void;
  /** The whole payload, for the sharer's device. */
  "screen:remote:input": (payload: { callId: string; sharerId?: Id; [key: string]: unknown }, ack: (answer: { success: true } | Failure) => void) => void;
  /** Draws on a shared screen. */
  "screen:annotation:add": (payload: { callId: string; type: Mark; data?: unknown; [key: string]: unknown }, ack: (answer: { success: true; callId?: string } | Failure) => void) => void;
}

/** What clients hear. */
export interface ServerToClientEvents {
  /** What was refused, where no ack was asked for. */
  "error": (payload: { message: string; code: string; event: string | null }) => void;
  /** The further token counts. */
  "user:authenticated": (payload: { userId: Id }) => void;
  /** A user has come. */
  "user:online": (payload: { userId: Id }) => void;
  /** A user is gone. */
  "user:offline": (payload: { userId: Id; lastSeen?: Time }) => void;
  /** A message, one's own too. */
  "message:receive": (payload: { message: Message; chatId: Id }) => void;
  /** It was written anew. */
  "message:edit": (payload: { chatId: Id; message: Message }) => void;
  /** It was deleted. */
  "message:delete": (payload: { chatId: Id; messageId: string; deletedBy: Id }) => void;
  /** Somebody has read up to it. */
  "message:read": (payload: { chatId: Id; messageId: string; userId: Id; readAt: Time }) => void;
  /** One's own message has arrived. */
  "message:status": (payload: { chatId: Id; messageId: string; status: "delivered" }) => void;
  /** Somebody is about to write. */
  "typing:start": (payload: { chatId: Id; userId: Id; isTyping: boolean }) => void;
  /** And writes no more. */
  "typing:stop": (payload: { chatId: Id; userId: Id; isTyping: boolean }) => void;
  /** It rings. */
  "call:incoming": (payload: { callId: string; caller: User; callType: Medium; chatId?: Id; conference?: true; title?: string; participants?: User[] }) => void;
  /** One's own call. */
  "call:initiated": (payload: { callId: string; status: CallStatus; iceServers: IceServer[] }) => void;
  /** The receiver's first device rings. */
  "call:ringing": (payload: { callId: string }) => void;
  /** Somebody has answered or declined. */
  "call:response": (payload: { callId: string; action: "accept" | "decline"; userId: Id }) => void;
  /** Somebody has answered. */
  "call:accepted": (payload: { callId: string; userId: Id; iceServers: IceServer[] }) => void;
  /** Somebody has declined. */
  "call:declined": (payload: { callId: string; userId: Id; reason?: string }) => void;
  /** Another device of one's own has. */
  "call:answered_elsewhere": (payload: { callId: string; action: string }) => void;
  /** The receiver cannot be called now. */
  "call:busy": (payload: { callId?: string; userId?: Id; receiverId?: Id; message?: string; code: string }) => void;
  /** Nobody has answered in time. */
  "call:timeout": (payload: { callId: string; userId?: Id }) => void;
  /** The call is over. */
  "call:end": (payload: CallOver) => void;
  /** The call is over. */
  "call:ended": (payload: CallOver) => void;
  /** A call that goes on without this device. */
  "call:active": (payload: Call) => void;
  /** What was refused, where no ack was asked for. */
  "call:error": (payload: CallError) => void;
  /** A connection is lost. */
  "call:participant:lost": (payload: InCall) => void;
  /** It is back. */
  "call:participant:back": (payload: InCall) => void;
  /** One's own conference. */
  "conference:created": (payload: Call) => void;
  /** Somebody has come. */
  "conference:participant:joined": (payload: { callId: string; userId: Id; user: User }) => void;
  /** Somebody is gone. */
  "conference:participant:left": (payload: InCall) => void;
  /** Somebody's video is ready. */
  "conference:video:join": (payload: InCall) => void;
  /** Somebody is gone. */
  "conference:video:leave": (payload: InCall) => void;
  /** The whole payload of another participant. */
  "webrtc:signal": (payload: { callId: string; fromId: Id; targetId?: Id; [key: string]: unknown }) => void;
  /** What was refused, where no ack was asked for. */
  "video:error": (payload: CallError) => void;
  /** Everybody's streams. */
  "video:state": (payload: { callId: string; participants: { userId: Id; hasVideo: boolean; hasAudio: boolean; videoMuted: boolean; audioMuted: boolean; quality: string | null }[] }) => void;
  /** Somebody sends a stream. */
  "video:stream:start": (payload: { callId: string; userId: Id; hasVideo: boolean; hasAudio: boolean }) => void;
  /** Somebody sends no more. */
  "video:stream:stop": (payload: InCall) => void;
  /** Somebody mutes or unmutes. */
  "video:control:toggle": (payload: { callId: string; userId: Id; action: Mute; enabled?: unknown }) => void;
  /** Somebody's other quality. */
  "video:quality:change": (payload: { callId: string; userId: Id; quality: string }) => void;
  /** What was refused, where no ack was asked for. */
  "screen:error": (payload: CallError) => void;
  /** Who shares, who controls, what is drawn. */
  "screen:state": (payload: { callId: string; sharers: { userId: Id; hasAudio: boolean; quality: string | null }[]; controls: { sharerId: Id; requesterId: Id; granted: boolean }[]; annotations: unknown[] }) => void;
  /** Somebody shares. */
  "screen:share:start": (payload: { callId: string; userId: Id; hasAudio?: boolean; quality?: Quality }) => void;
  /** Somebody shares no more. */
  "screen:share:stop": (payload: InCall) => void;
  /** Another quality. */
  "screen:quality:change": (payload: { callId: string; userId: Id; quality: Quality }) => void;
  /** Somebody asks for control. */
  "screen:remote:request": (payload: { callId: string; userId: Id; sharerId?: Id }) => void;
  /** The sharer has granted it or not. */
  "screen:remote:response": (payload: { callId: string; userId: Id; requesterId: Id; granted: boolean }) => void;
  /** Control ends. */
  "screen:remote:revoke": (payload: { callId: string; userId: Id; requesterId?: Id }) => void;
  /** The whole payload of who has control. */
  "screen:remote:input": (payload: { callId: string; userId: Id; [key: string]: unknown }) => void;
  /** Somebody draws. */
  "screen:annotation:add": (payload: { callId: string; userId: Id; type: Mark; data?: unknown; [key: string]: unknown }) => void;
}

/** The same events for a socket that asks for no acks: `Socket<ServerToClientEvents, WithoutAcks<ClientToServerEvents>>`. */
export type WithoutAcks<Events> = {
  [Event in keyof Events]: Events[Event] extends (...args: infer All) => void
    ? All extends [...infer Payload, (answer: never) => void] ? (...args: Payload) => void : Events[Event]
    : never;
};
