// Chats of the messenger in the words of the tests.

import { readFileSync } from "node:fs";
import { ask } from "./calls.mjs";
import { heard } from "./clients.mjs";
import { token } from "./visits.mjs";

export const CONFIG = readFileSync(new URL("../e2e/chat.toml", import.meta.url), "utf8");

export const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** A user of the messenger who is in, and in these chats. */
export async function enterChats(users, url, userId, chats, { path = "/talk/", claims, ...options } = {}) {
  const auth = { token: token(userId, { chats, ...claims }) };
  const socket = users.dial(url, { path, auth, ...options });
  await heard(socket, "connect");
  socket.welcome = { userId };
  return socket;
}

/** Sends to a chat; resolves with the message of the ack. */
export const say = async (socket, chatId, content, more = {}) =>
  (await ask(socket, "message:send", { chatId, content, ...more })).message;

/** A chat's messages as one user sees them. */
export const history = async (socket, chatId, page = {}) =>
  (await ask(socket, "message:history", { chatId, ...page })).messages;

/** What is unread in one chat. */
export const unread = async (socket, chatId) =>
  (await ask(socket, "message:unread", { chatIds: [chatId] })).unread[chatId];
