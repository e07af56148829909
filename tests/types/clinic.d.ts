// The events of `clinic`: Events of a laboratory's back office. Made by `trunkline contract typescript --dialect clinic`; do not edit.

/** A number where it was written as one. */
export type Id = string | number;
/** ISO 8601 in UTC, with milliseconds. */
export type Time = string;
/** Bytes: an `ArrayBuffer` in browsers, a `Buffer` in Node. */
export type Binary = ArrayBuffer | Uint8Array;

export type CatalogUpdate = { type: "exam" | "price" | "category" | "package" | "location"; action: "created" | "updated" | "deleted"; entityId: Id; entityName?: string; timestamp: Time; seq?: number };
export type AdminEvent = { eventType: string; entityType: string; entityId: Id | null; action: string; userId: Id; data?: unknown; timestamp: Time; seq?: number };
export type Entity = { entity: string; entityId?: Id };
/** The ack of what was refused. */
export type Failure = { success: false; error: string; code: string };

/** What clients say. */
export interface ClientToServerEvents {
  /** Is anybody there? */
  "ping": (ack: (answer: { timestamp: Time; userId: Id } | Failure) => void) => void;
  /** Adds the events about a kind or an instance. */
  "subscribe": (payload: Entity, ack: (answer: { success: true; entity: string; entityId?: Id } | Failure) => void) => void;
  /** The reverse. */
  "unsubscribe": (payload: Entity, ack: (answer: { success: true; entity: string; entityId?: Id } | Failure) => void) => void;
  /** Shows a further token of the same user. */
  "authenticate": (payload: { token: string }, ack: (answer: { success: true; userId: Id; role: string | null; expiresAt?: Time } | Failure) => void) => void;
  /** Administrators: a page of the audit feed, oldest first. */
  "admin:events": (payload: { limit?: number; before?: number }, ack: (answer: { success: true; events: AdminEvent[]; hasMore: boolean } | Failure) => void) => void;
  /** What has changed in the catalogue. */
  "catalog:sync": (payload: { since?: number }, ack: (answer: { success: true; seq: number; complete: boolean; updates: CatalogUpdate[]; hasMore: boolean } | Failure) => void) => void;
}

/** What clients hear. */
export interface ServerToClientEvents {
  /** The token counts. */
  "connected": (payload: { message: string; userId: Id; role: string | null }) => void;
  /** What was refused, where no ack was asked for. */
  "error": (payload: { message: string; code: string; event: string | null }) => void;
  /** The answer to ping. */
  "pong": (payload: { timestamp: Time; userId: Id }) => void;
  /** What was added. */
  "subscribed": (payload: Entity) => void;
  /** What was taken away. */
  "unsubscribed": (payload: Entity) => void;
  /** The further token counts. */
  "authenticated": (payload: { userId: Id; role: string | null; expiresAt?: Time }) => void;
  /** A page of the audit feed. */
  "admin:events": (payload: { events: AdminEvent[]; hasMore: boolean }) => void;
  /** What has changed in the catalogue. */
  "catalog:synced": (payload: { seq: number; complete: boolean; updates: CatalogUpdate[]; hasMore: boolean }) => void;
  /** The number of the change told before. */
  "catalog:seq": (payload: { seq: number }) => void;
  /** A change of the catalogue. */
  "catalog:update": (payload: CatalogUpdate) => void;
  /** A change of the user. */
  "user:update": (payload: { type: string; action: string; changes?: unknown; timestamp: Time }) => void;
  /** What an administrator did. */
  "admin:event": (payload: AdminEvent) => void;
  /** A change of an appointment. */
  "appointment:update": (payload: { appointmentId: Id; patientId: Id; action: "created" | "updated" | "cancelled" | "confirmed"; appointment?: unknown; timestamp: Time }) => void;
  /** A change of a result. */
  "result:update": (payload: { resultId: Id; patientId: Id; examName: string; status: "pending" | "ready" | "delivered"; pdf?: Binary; timestamp: Time }) => void;
  /** A word to everyone, or to a role. */
  "system:message": (payload: { type: "info" | "warning" | "error" | "success"; message: string; targetRole?: string; timestamp: Time }) => void;
}

/** The same events for a socket that asks for no acks: `Socket<ServerToClientEvents, WithoutAcks<ClientToServerEvents>>`. */
export type WithoutAcks<Events> = {
  [Event in keyof Events]: Events[Event] extends (...args: infer All) => void
    ? All extends [...infer Payload, (answer: never) => void] ? (...args: Payload) => void : Events[Event]
    : never;
};
