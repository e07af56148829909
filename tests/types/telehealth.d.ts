// The events of `telehealth`: Visits with chat, calls, presence and notifications. Made by `trunkline contract typescript --dialect telehealth`; do not edit.

/** A number where it was written as one. */
export type Id = string | number;
/** ISO 8601 in UTC, with milliseconds. */
export type Time = string;
/** Bytes: an `ArrayBuffer` in browsers, a `Buffer` in Node. */
export type Binary = ArrayBuffer | Uint8Array;

export type Message = { id: string; senderId: Id; recipientId?: Id; visitId?: Id; roomId: string; message: string; attachments: unknown[]; timestamp: Time; status: "sent" | "delivered" | "read"; metadata: { [key: string]: unknown }; clientId?: Id; editedAt?: Time; deletedAt?: Time };
export type Presence = { userId: Id; status: Status; customStatus?: string; lastSeen?: Time };
export type Status = "online" | "offline" | "away" | "busy" | "in_call";
export type CallStatus = "initiating" | "ringing" | "accepted" | "in_progress" | "ended" | "rejected" | "missed" | "failed";
export type IceServer = { urls: string | string[]; username?: string; credential?: string };
export type Notification = { id: Id; title?: string; message?: string; timestamp?: Time; [key: string]: unknown };
/** The ack of what was refused. */
export type Failure = { success: false; error: string; code: string };

/** What clients say. */
export interface ClientToServerEvents {
  /** Enters a room; the others hear room:userJoined. */
  "room:join": (payload: { roomId: string; roomType?: string; metadata?: { visitId?: Id } }, ack: (answer: { success: true; roomId: string; participants: { userId: Id; role: string | null }[] } | Failure) => void) => void;
  /** Leaves a room; the others hear room:userLeft. */
  "room:leave": (payload: { roomId: string }, ack: (answer: { success: true; roomId: string } | Failure) => void) => void;
  /** Stores and delivers a message. */
  "message:send": (payload: { message: string; roomId?: string; visitId?: Id; recipientId?: Id; attachments?: unknown[]; metadata?: { [key: string]: unknown }; clientId?: Id }, ack: (answer: { success: true; message: Message } | Failure) => void) => void;
  /** A page of messages, oldest first. */
  "message:history": (payload: { roomId?: string; visitId?: Id; recipientId?: Id; limit?: number; before?: Id; after?: Id }, ack: (answer: { success: true; messages: Message[]; hasMore: boolean } | Failure) => void) => void;
  /** All up to this message is read. */
  "message:read": (payload: { messageId: string }, ack: (answer: { success: true; messageId: string } | Failure) => void) => void;
  /** Is about to write. */
  "typing:start": (payload: { roomId: string }) => void;
  /** Writes no more. */
  "typing:stop": (payload: { roomId: string }) => void;
  /** Calls a user: all the user's devices ring. */
  "call:initiate": (payload: { recipientId: Id; callType: "audio" | "video"; visitId?: Id }, ack: (answer: { success: true; callId: string; status: CallStatus; iceServers: IceServer[] } | Failure) => void) => void;
  /** Answers. */
  "call:accept": (payload: { callId: string }, ack: (answer: { success: true; callId: string; status: CallStatus; iceServers: IceServer[] } | Failure) => void) => void;
  /** Declines. */
  "call:reject": (payload: { callId: string; reason?: string }, ack: (answer: { success: true; callId: string; duration: number } | Failure) => void) => void;
  /** Hangs up, or cancels before the answer. */
  "call:end": (payload: { callId: string; reason?: string }, ack: (answer: { success: true; callId: string; duration: number } | Failure) => void) => void;
  /** The device cannot go on. */
  "call:fail": (payload: { callId: string; reason?: string }, ack: (answer: { success: true; callId: string; duration: number } | Failure) => void) => void;
  /** Back into one's seat after a lost connection. */
  "call:rejoin": (payload: { callId: string }, ack: (answer: { success: true; callId: string; status: CallStatus; iceServers: IceServer[] } | Failure) => void) => void;
  /** Offers, answers and candidates for the other side. */
  "call:signal": (payload: { callId: string; signal: unknown; targetId?: Id }, ack: (answer: { success: true } | Failure) => void) => void;
  /** Who is there, and from now on its changes. */
  "presence:get": (payload: { userIds: Id[] }, ack: (answer: { success: true; presences: Presence[] } | Failure) => void) => void;
  /** The same; refused where there is no room for watching. */
  "presence:subscribe": (payload: { userIds: Id[] }, ack: (answer: { success: true; presences: Presence[] } | Failure) => void) => void;
  /** Watches no more. */
  "presence:unsubscribe": (payload: { userIds: Id[] }, ack: (answer: { success: true } | Failure) => void) => void;
  /** Chooses how one is seen. */
  "presence:setStatus": (payload: { status: "online" | "away" | "busy" | "offline"; customStatus?: string | null }, ack: (answer: { success: true; presence: Presence } | Failure) => void) => void;
  /** A notification is read and gone. */
  "notification:read": (payload: { notificationId: Id }, ack: (answer: { success: true; notificationId: Id; unreadCount: number } | Failure) => void) => void;
  /** How many are unread. */
  "notification:getUnreadCount": (ack: (answer: { success: true; unreadCount: number } | Failure) => void) => void;
  /** The unread ones, newest first. */
  "notification:list": (payload: { limit?: number; before?: Id }, ack: (answer: { success: true; notifications: Notification[]; hasMore: boolean; unreadCount: number } | Failure) => void) => void;
}

/** What clients hear. */
export interface ServerToClientEvents {
  /** The token counts. */
  "connected": (payload: { socketId: string; userId: Id }) => void;
  /** What was refused, where no ack was asked for. */
  "error": (payload: { message: string; code: string; event: string | null }) => void;
  /** Somebody has entered a room one is in. */
  "room:userJoined": (payload: { roomId: string; userId: Id; role: string | null }) => void;
  /** Somebody has left it. */
  "room:userLeft": (payload: { roomId: string; userId: Id; role: string | null }) => void;
  /** A message of somebody else, or of another device of one's own. */
  "message:new": (payload: Message) => void;
  /** One's own message is stored. */
  "message:sent": (payload: Message) => void;
  /** One's own message has been delivered or read. */
  "message:status": (payload: { messageId: string; roomId: string; status: "delivered" | "read" }) => void;
  /** Somebody is about to write. */
  "typing:start": (payload: { roomId: string; userId: Id; role: string | null }) => void;
  /** And writes no more. */
  "typing:stop": (payload: { roomId: string; userId: Id; role: string | null }) => void;
  /** It rings. */
  "call:incoming": (payload: { callId: string; callerId: Id; callerName?: string; callType: "audio" | "video"; visitId?: Id }) => void;
  /** The recipient's first device rings. */
  "call:ringing": (payload: { callId: string }) => void;
  /** The recipient has answered. */
  "call:accepted": (payload: { callId: string; iceServers: IceServer[] }) => void;
  /** The recipient has declined. */
  "call:rejected": (payload: { callId: string; reason?: string }) => void;
  /** Nobody has answered in time. */
  "call:missed": (payload: { callId: string }) => void;
  /** A device could not go on. */
  "call:failed": (payload: { callId: string; reason?: string }) => void;
  /** The call is over, for this device at least. */
  "call:ended": (payload: { callId: string; duration: number; reason?: string }) => void;
  /** A call that the user is in with another device, or a lost connection. */
  "call:active": (payload: { callId: string; status: CallStatus; lost: boolean; callerId: Id; callerName?: string; recipientId: Id; callType: "audio" | "video"; visitId?: Id }) => void;
  /** The other side's connection is lost. */
  "call:participantLost": (payload: { callId: string; userId: Id }) => void;
  /** It is back. */
  "call:participantBack": (payload: { callId: string; userId: Id }) => void;
  /** A signal of the other side. */
  "call:signal": (payload: { callId: string; signal: unknown; fromId: Id }) => void;
  /** Somebody's presence is another. */
  "presence:changed": (payload: Presence) => void;
  /** A notification, as the back end made it. */
  "notification:new": (payload: Notification) => void;
  /** Another device of one's own has read it. */
  "notification:read": (payload: { notificationId: Id; unreadCount: number }) => void;
  /** A word of the operators. */
  "system:maintenance": (payload: { message: string }) => void;
}

/** The same events for a socket that asks for no acks: `Socket<ServerToClientEvents, WithoutAcks<ClientToServerEvents>>`. */
export type WithoutAcks<Events> = {
  [Event in keyof Events]: Events[Event] extends (...args: infer All) => void
    ? All extends [...infer Payload, (answer: never) => void] ? (...args: Payload) => void : Events[Event]
    : never;
};
