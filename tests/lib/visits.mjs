// Users of the telehealth application: stock clients with a token, and the words the tests use for them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { io } from "socket.io-client";
import { heard } from "./clients.mjs";
import { elapse } from "./engine.mjs";
import { sign } from "./token.mjs";

export const CONFIG = readFileSync(new URL("../e2e/telehealth.toml", import.meta.url), "utf8");
export const SECRET = /^secret = "(.*)"$/m.exec(CONFIG)[1];

/** `transports` and `upgrade` of a stock client. */
export const POLLING = { transports: ["polling"] };
export const WEBSOCKET = { transports: ["websocket"] };
export const UPGRADE = { transports: ["polling", "websocket"] };

export const token = (userId, claims = {}) => sign({ userId, role: "patient", ...claims }, SECRET);

/** The users of one test, disconnected at its end. */
export class Users {
  #sockets = [];

  /** A client that need not get in. */
  dial(url, { auth, ...options } = {}) {
    const socket = io(url, { auth, forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 200, ...options });
    socket.log = [];
    socket.onAny((event, ...args) => socket.log.push([event, ...args]));
    this.#sockets.push(socket);
    return socket;
  }

  /** A user who is in: the event `connected` has come. */
  async enter(url, userId, { claims, ...options } = {}) {
    const socket = this.dial(url, { auth: { token: token(userId, claims) }, ...options });
    [socket.welcome] = await heard(socket, "connected");
    return socket;
  }

  leave() {
    for (const socket of this.#sockets.splice(0)) socket.disconnect();
  }
}

/** Joins and resolves with the ack, which must be a success. */
export async function join(socket, roomId, metadata) {
  const ack = await socket.timeout(30_000).emitWithAck("room:join", { roomId, roomType: roomId.split(":")[0], metadata });
  assert.equal(ack.success, true, JSON.stringify(ack));
  return ack;
}

/** Sends and resolves with the message of the ack, which must be a success. */
export async function send(socket, message, to) {
  const ack = await socket.timeout(30_000).emitWithAck("message:send", { message, ...to });
  assert.equal(ack.success, true, JSON.stringify(ack));
  return ack.message;
}

/** Events of `name` a client has got so far. */
export const got = (socket, name) => socket.log.filter(([event]) => event === name).map(([, data]) => data);

/** Enters `name` into the ledger: what it is sent from now on is owed to it. */
export async function member(ledger, socket, name, roomId) {
  socket.on("message:new", ({ message }) => ledger.delivered(name, message));
  await join(socket, roomId);
  ledger.joined(name);
}

/** Sends `count` messages as fast as they are handed over, `gapMs` apart; resolves once each is acknowledged. */
export async function chatter(ledger, socket, name, roomId, count, gapMs = 0) {
  const acks = [];
  for (let i = 0; i < count; i += 1) {
    const id = `${name}#${i}`;
    ledger.sent(id, name);
    acks.push(send(socket, id, { roomId }).then(() => ledger.acked(id)));
    if (gapMs > 0) await elapse(gapMs);
  }
  await Promise.all(acks);
}
