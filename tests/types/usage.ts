// Compiled by types.test.mjs: the event maps fit the published client's typed sockets, and hold what they promise.

import { io, type Socket } from "socket.io-client";
import type * as Clinic from "./clinic.js";
import type * as Diet from "./diet.js";
import type * as Messenger from "./messenger.js";
import type * as Portal from "./portal.js";
import type * as Telehealth from "./telehealth.js";

const visits: Socket<Telehealth.ServerToClientEvents, Telehealth.ClientToServerEvents> = io();
visits.on("message:new", (message) => { const text: string = message.message; console.log(text, message.status === "read"); });
visits.on("call:incoming", ({ callId }) => visits.emit("call:accept", { callId }, (answer) => answer.success && console.log(answer.iceServers)));
visits.on("notification:new", (notification) => console.log(notification.id, notification["anything"]));
visits.emit("typing:start", { roomId: "topic:news" });
const joined = await visits.timeout(1000).emitWithAck("room:join", { roomId: "topic:news" });
if (joined.success) console.log(joined.participants[0]?.userId);
else console.log(joined.code);
// @ts-expect-error there is no such event
visits.emit("room:enter", { roomId: "x" });
// @ts-expect-error a key is missing
visits.emit("typing:start", {});
// @ts-expect-error the status is one of five
visits.on("presence:changed", ({ status }) => status === "asleep");

const silent: Socket<Telehealth.ServerToClientEvents, Telehealth.WithoutAcks<Telehealth.ClientToServerEvents>> = io();
silent.emit("room:join", { roomId: "topic:news" });
silent.emit("notification:getUnreadCount");

const chats: Socket<Messenger.ServerToClientEvents, Messenger.ClientToServerEvents> = io();
chats.emit("webrtc:signal", { callId: "c", sdp: { type: "offer" } }, () => {});
chats.on("message:receive", ({ message, chatId }) => console.log(message.content, chatId));
const sent = await chats.emitWithAck("message:send", { chatId: 100, content: "hello" });
if (sent.success) console.log(sent.message.createdAt);

const panel: Socket<Portal.ServerToClientEvents, Portal.ClientToServerEvents> = io("/events");
panel.on("core:auth:success", ({ rooms, expiresAt }) => console.log(rooms.length, expiresAt));
for (const rooms of ["patient:7", ["patient:7"], { room: "patient:7" }, { rooms: ["patient:7"] }]) await panel.emitWithAck("join", rooms);
panel.emit("authorization", "token", (answer) => answer.ok && console.log(answer.rooms));

const lab: Socket<Clinic.ServerToClientEvents, Clinic.ClientToServerEvents> = io("/events");
lab.on("result:update", ({ pdf }) => pdf?.byteLength);
lab.on("catalog:update", ({ type }) => type === "exam");
const synced = await lab.emitWithAck("catalog:sync", { since: 3 });
if (synced && "updates" in synced) console.log(synced.updates.length);

const diets: Socket<Diet.ServerToClientEvents, Diet.ClientToServerEvents> = io({ path: "/api/socketio" });
diets.on("new_message", ({ dietId }) => dietId === Number.parseInt("100", 10));
diets.emit("join", 7, () => {});
