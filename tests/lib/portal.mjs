// Users of the portal: stock clients with a socket token, and the words the tests use for them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { until } from "./clients.mjs";
import { SOON_MS } from "./engine.mjs";
import { sign } from "./token.mjs";
import { got, Users, WEBSOCKET } from "./visits.mjs";

export const CONFIG = readFileSync(new URL("../e2e/portal.toml", import.meta.url), "utf8");

/** Applications of the configuration, as options of a client. */
export const QUICK = { path: "/quick/" };
export const STRICT = { path: "/strict/" };

const [SECRET, SESSION_SECRET] = ["end-to-end-tests", "sessions"].map((of) => new RegExp(`^secret = "(.*${of}.*)"$`, "m").exec(CONFIG)[1]);

/** A socket token. */
export const token = (userId, claims = {}, options) => sign({ userId, role: "patient", ...claims }, SECRET, options);

/** A session of the application itself. */
export const session = (userId, claims = {}, options) => sign({ userId, role: "patient", ...claims }, SESSION_SECRET, options);

export class Portal extends Users {
  /** A client that need not get in. */
  dial(url, options = {}) {
    return super.dial(`${url}/events`, { ...WEBSOCKET, ...options });
  }

  /** A user who is in. */
  async enter(url, userId, { claims, ttl_s, ...options } = {}) {
    const socket = this.dial(url, { auth: { socket_token: token(userId, claims, ttl_s && { ttl_s }) }, ...options });
    socket.welcome = await first(socket, "core:auth:success");
    return socket;
  }
}

/** The first event of this name that fits, past or coming. */
export async function first(socket, event, fits = () => true, ms = SOON_MS) {
  try {
    return await until(() => got(socket, event).find(fits), ms);
  } catch {
    throw new Error(`no ${event} within ${ms} ms; heard: ${JSON.stringify(socket.log.slice(-20)).slice(0, 2000)}`);
  }
}

export const ask = (socket, event, ...args) => socket.timeout(30_000).emitWithAck(event, ...args);

/** Joins; all must be allowed. */
export async function join(socket, ...rooms) {
  assert.deepEqual(await ask(socket, "join", rooms), { ok: true, joined: rooms, denied: [] });
}
