// The events of `diet`: Dietitian and client messaging. Made by `trunkline contract typescript --dialect diet`; do not edit.

/** A number where it was written as one. */
export type Id = string | number;
/** ISO 8601 in UTC, with milliseconds. */
export type Time = string;
/** Bytes: an `ArrayBuffer` in browsers, a `Buffer` in Node. */
export type Binary = ArrayBuffer | Uint8Array;

export type Notification = { id: Id; type?: string; message?: string; data?: unknown; timestamp?: Time; [key: string]: unknown };
/** The ack of what was refused. */
export type Failure = { success: false; error: string; code: string };

/** What clients say. */
export interface ClientToServerEvents {
  /** Enters the user's room, and says who one is where there are no tokens. */
  "join": (payload: Id, ack: (answer: { success: true; userId: Id; room: string } | Failure) => void) => void;
  /** Enters the room of a diet. */
  "join_diet": (payload: Id, ack: (answer: { success: true; dietId: Id; room: string } | Failure) => void) => void;
  /** Leaves it. */
  "leave_diet": (payload: Id, ack: (answer: { success: true; dietId: Id; room: string } | Failure) => void) => void;
  /** Is anybody there? */
  "ping": (ack: (answer: { timestamp: Time } | Failure) => void) => void;
  /** A notification is read and gone. */
  "notification:read": (payload: { notificationId: Id }, ack: (answer: { success: true; notificationId: Id; unreadCount: number } | Failure) => void) => void;
  /** How many are unread. */
  "notification:getUnreadCount": (ack: (answer: { success: true; unreadCount: number } | Failure) => void) => void;
  /** The unread ones, newest first. */
  "notification:list": (payload: { limit?: number; before?: Id }, ack: (answer: { success: true; notifications: Notification[]; hasMore: boolean; unreadCount: number } | Failure) => void) => void;
}

/** What clients hear. */
export interface ServerToClientEvents {
  /** What was refused. */
  "error": (payload: { message: string; code: string; event: string | null }) => void;
  /** The user's room is entered. */
  "joined": (payload: { userId: Id; room: string }) => void;
  /** The diet's room is entered. */
  "joined_diet": (payload: { dietId: Id; room: string }) => void;
  /** It is left. */
  "left_diet": (payload: { dietId: Id; room: string }) => void;
  /** The answer to ping. */
  "pong": (payload: { timestamp: Time }) => void;
  /** A message was created in a diet. */
  "new_message": (payload: { message: unknown; dietId: Id; clientId: Id }) => void;
  /** A notification; kept until it is read. */
  "new_notification": (payload: Notification) => void;
  /** Another device of one's own has read it. */
  "notification:read": (payload: { notificationId: Id; unreadCount: number }) => void;
}

/** The same events for a socket that asks for no acks: `Socket<ServerToClientEvents, WithoutAcks<ClientToServerEvents>>`. */
export type WithoutAcks<Events> = {
  [Event in keyof Events]: Events[Event] extends (...args: infer All) => void
    ? All extends [...infer Payload, (answer: never) => void] ? (...args: Payload) => void : Events[Event]
    : never;
};
