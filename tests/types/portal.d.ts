// The events of `portal`: Admin panel and patient app of a clinic. Made by `trunkline contract typescript --dialect portal`; do not edit.

/** A number where it was written as one. */
export type Id = string | number;
/** ISO 8601 in UTC, with milliseconds. */
export type Time = string;
/** Bytes: an `ArrayBuffer` in browsers, a `Buffer` in Node. */
export type Binary = ArrayBuffer | Uint8Array;

export type Message = { id: string; patientId: Id; senderId: Id; senderRole?: string; senderName?: string; text: string; attachments: unknown[]; metadata: { [key: string]: unknown }; createdAt: Time };
export type Rooms = string | string[] | { room: string } | { rooms: string[] };
/** The ack of what was refused. */
export type Failure = { ok: false; error: string; code: string };

/** What clients say. */
export interface ClientToServerEvents {
  /** Enters what the rights allow. */
  "join": (payload: Rooms, ack: (answer: { ok: boolean; joined: string[]; denied: string[] } | Failure) => void) => void;
  /** Leaves rooms. */
  "leave": (payload: Rooms, ack: (answer: { ok: true; left: string[] } | Failure) => void) => void;
  /** Stores a message and tells it to the patient's room. */
  "message:send": (payload: { patientId?: Id; text?: string; message?: string; content?: string; attachments?: unknown[]; metadata?: { [key: string]: unknown } }, ack: (answer: { ok: true; message: Message } | Failure) => void) => void;
  /** Shows a token, on a connection without one or in place of the old one. */
  "authorization": (payload: string | { socket_token: string } | { socketToken: string } | { token: string }, ack: (answer: { ok: true; rooms: string[] } | Failure) => void) => void;
}

/** What clients hear. */
export interface ServerToClientEvents {
  /** The token counts. */
  "core:auth:success": (payload: { userId: Id; role: string | null; rooms: string[]; expiresAt: Time | null }) => void;
  /** It does not. */
  "core:auth:error": (payload: { code: string; message: string }) => void;
  /** What was refused, where no ack was asked for. */
  "core:error": (payload: { message: string; code: string; event: string | null; denied?: string[] }) => void;
  /** A message to or of a patient. */
  "message:new": (payload: { message: unknown; patientId: Id }) => void;
  /** An appointment was made. */
  "appointment:new": (payload: { appointment: unknown; patientId: Id; doctorId?: Id }) => void;
  /** It was changed. */
  "appointment:update": (payload: { appointment: unknown; patientId: Id; doctorId?: Id }) => void;
  /** It was cancelled. */
  "appointment:cancelled": (payload: { appointment: unknown; patientId: Id; doctorId?: Id }) => void;
  /** A treatment was changed. */
  "treatment:update": (payload: { treatment: unknown; patientId: Id }) => void;
}

/** The same events for a socket that asks for no acks: `Socket<ServerToClientEvents, WithoutAcks<ClientToServerEvents>>`. */
export type WithoutAcks<Events> = {
  [Event in keyof Events]: Events[Event] extends (...args: infer All) => void
    ? All extends [...infer Payload, (answer: never) => void] ? (...args: Payload) => void : Events[Event]
    : never;
};
