// Calls and presence in the words of the tests. Everything a client has heard stays in its log, so nothing is missed between two looks.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { heard, until } from "./clients.mjs";
import { got, send, token } from "./visits.mjs";

export const CONFIG = readFileSync(new URL("../e2e/calls.toml", import.meta.url), "utf8");

/** Applications of the configuration, as options of a client. */
export const QUICK = { path: "/quick/" };
export const TALK = { path: "/talk/" };

/** Longest wait for what another process decides: more than a command is tried on after its coordinator died. */
const DECIDED_MS = 12_000;

let made = 0;

/** Names of users that no other test has. */
export function fresh(...names) {
  made += 1;
  return names.map((name) => `${name}-${made}`);
}

/** The ack, which must be a success. */
export async function ask(socket, event, payload) {
  const ack = await socket.timeout(DECIDED_MS).emitWithAck(event, payload);
  assert.equal(ack.success, true, `${event} ${JSON.stringify(payload)}: ${JSON.stringify(ack)}`);
  return ack;
}

/** The ack, which must be a refusal with this code. */
export async function refused(socket, event, payload, code) {
  const ack = await socket.timeout(DECIDED_MS).emitWithAck(event, payload);
  const { success, error } = ack;
  assert.deepEqual({ success, code: ack.code }, { success: false, code }, `${event}: ${JSON.stringify(ack)}`);
  assert.ok(error.length > 0);
  return ack;
}

/** The first thing told under this name that has these values, past or coming. */
export async function told(socket, event, values = {}, ms = DECIDED_MS) {
  const fits = (data) => Object.entries(values).every(([key, value]) => data?.[key] === value);
  try {
    return await until(() => got(socket, event).find(fits), ms);
  } catch {
    throw new Error(`no ${event} ${JSON.stringify(values)} within ${ms} ms; heard last:\n${lately(socket)}`);
  }
}

const lately = (socket) => socket.log.slice(-30).map((entry) => `  ${JSON.stringify(entry).slice(0, 200)}`).join("\n");

/** Names of the events about this call, in the order in which they came. */
export const story = (socket, callId) =>
  socket.log.filter(([, data]) => data?.callId === callId).map(([event]) => event);

/** What ended this call on this socket: exactly one thing. */
export function theEnd(socket, callId, event = "call:ended") {
  const ends = got(socket, event).filter((data) => data.callId === callId);
  assert.equal(ends.length, 1, `${event} comes once; heard last:\n${lately(socket)}`);
  return ends[0];
}

/** Resolves once the sockets have everything that was announced before: an application's events have one order. The postman is a user of its own. */
export async function caughtUp(postman, ...sockets) {
  made += 1;
  const message = `marker ${made}`;
  for (const recipientId of new Set(sockets.map((socket) => socket.welcome.userId))) await send(postman, message, { recipientId });
  await Promise.all(sockets.map((socket) => told(socket, "message:new", { message })));
}

/** Calls; resolves with the ack once every one of `ringing` rings. */
export async function ring(caller, recipientId, ringing, more = {}) {
  const ack = await ask(caller, "call:initiate", { recipientId, callType: "video", ...more });
  for (const socket of ringing) await told(socket, "call:incoming", { callId: ack.callId });
  return ack;
}

/** A call of two that was answered: its id. */
export async function talk(caller, callee) {
  const { callId } = await ring(caller, callee.welcome.userId, [callee]);
  await ask(callee, "call:accept", { callId });
  await told(caller, "call:accepted", { callId });
  return callId;
}

/** Sends `count` signals and resolves once `to` has them, in order, unchanged. */
export async function signals(from, to, callId, count = 20) {
  made += 1;
  const series = made;
  const sent = Array.from({ length: count }, (_, i) => ({ series, i, sdp: `v=0\r\no=- ${i} 🎈\r\n`, deep: [null, 1.5, { "a.b": true }] }));
  for (const signal of sent) from.emit("call:signal", { callId, signal });
  const mine = () => got(to, "call:signal").filter(({ signal }) => signal.series === series);
  await until(() => mine().length >= count).catch(() => {}); // the assertion below names what is missing
  const { userId: fromId } = from.welcome;
  assert.deepEqual(mine(), sent.map((signal) => ({ callId, signal, fromId })));
}

/** A user of the messenger who is in. */
export async function enterTalk(users, url, userId, { claims, ...options } = {}) {
  const socket = users.dial(url, { ...TALK, auth: { token: token(userId, claims) }, ...options });
  await heard(socket, "connect");
  socket.welcome = { userId };
  return socket;
}

/** Breaks the connection without a goodbye of Socket.IO; the client comes back on its own, as another socket. */
export async function drop(socket) {
  const before = socket.id;
  socket.io.engine.close();
  await until(() => socket.connected && socket.id !== before);
}

/** The connection breaks and does not come back. */
export function vanish(socket) {
  socket.io.reconnection(false);
  socket.io.engine.close();
}

/** The presence of each of `userIds`, as `socket` is told. */
export async function presences(socket, userIds, event = "presence:get") {
  const ack = await ask(socket, event, { userIds });
  assert.deepEqual(ack.presences.map(({ userId }) => userId), userIds, "in the order of the question");
  return ack.presences.map(({ status }) => status);
}

/** Resolves once `socket` has been told, or is answered, that `userId` has `status`. */
export async function seen(socket, userId, status, ms = DECIDED_MS) {
  return until(async () => (await presences(socket, [userId]))[0] === status, ms);
}

/** What a socket was told of a user's presence, in order. */
export const changes = (socket, userId) =>
  got(socket, "presence:changed").filter((change) => change.userId === userId).map(({ status }) => status);
