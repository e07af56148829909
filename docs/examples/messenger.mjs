// An evening with the messenger: three friends on two nodes write, call, hold a conference, share a screen.
//
//   make run                              in another terminal
//   cd docs/examples && npm install && node messenger.mjs [one node's address] [another node's]

import assert from "node:assert/strict";
import { backEnd, end, nodes, person, step, tell, token } from "./walk.mjs";

const [one, other] = nodes(3001);
const chatId = `plans-${Date.now()}`;
const tokenOf = (userId, username) => token({ userId, username, chats: [chatId] });

step("They connect, Ben with two devices; the chats of their tokens are entered for them. A bad token is refused");
const ann = person("ann", one, { auth: { token: tokenOf("7", "Ann") } });
const ben = person("ben", other, { auth: { token: tokenOf("8", "Ben") } });
const tablet = person("ben's tab", one, { auth: { token: tokenOf("8", "Ben") } });
const cleo = person("cleo", other, { auth: { token: tokenOf("9", "Cleo") } });
const nobody = person("nobody", one, { auth: { token: "made up" } });
await new Promise((resolve) => { nobody.socket.once("connect_error", resolve); });
await Promise.all([ann, ben, tablet, cleo].map((who) => who.ask("chat:join", { chatId })));

step("Ann is about to write, and writes: the whole chat hears it, she too. Ben answers her message");
ann.say("typing:start", { chatId, isTyping: true });
await ben.hears("typing:start");
const { message } = await ann.ask("message:send", { chatId, content: "Cinema to morrow?", attachments: [{ type: "image", url: "https://example.org/poster.png", name: "poster.png", size: 48211 }] });
for (const who of [ann, ben, tablet, cleo]) assert.equal((await who.hears("message:receive")).message.id, message.id);
await ann.hears("message:status", ({ status }) => status === "delivered");
await ben.ask("message:send", { chatId, content: "Yes!", replyTo: message.id });

step("Ann mends her spelling, Ben reads, Cleo sees what she has not read, Ann deletes");
await ann.ask("message:edit", { messageId: message.id, content: "Cinema tomorrow?" });
await ben.hears("message:edit");
await ben.ask("message:read", { chatId, messageId: message.id });
await ann.hears("message:read", ({ userId }) => userId === "8");
assert.equal((await cleo.ask("message:unread", { chatIds: [chatId] })).unread[chatId], 2);
await ann.ask("message:delete", { messageId: message.id });
const { messages } = await cleo.ask("message:history", { chatId, limit: 10 });
assert.ok(messages[0].deletedAt);

step("Nobody edits what another wrote, and nobody calls in another's name");
assert.equal((await ann.ask("message:edit", { messageId: messages[1].id, content: "No!" })).code, "not_author");
assert.equal((await cleo.ask("call:initiate", { receiverId: "8", callType: "audio", callerId: "7" })).code, "invalid_payload");

step("Ann calls Ben: both his devices ring, he answers on one, and they exchange what browsers exchange");
const { callId } = await ann.ask("call:initiate", { receiverId: "8", callType: "video", chatId });
assert.deepEqual((await ben.hears("call:incoming")).caller, { id: "7", username: "Ann" });
await ben.ask("call:response", { callId, action: "accept" });
await tablet.hears("call:answered_elsewhere");
await ann.hears("call:accepted");
ann.say("webrtc:signal", { callId, type: "offer", sdp: "v=0…" });
assert.equal((await ben.hears("webrtc:signal")).fromId, "7");
await ben.ask("video:control:toggle", { callId, action: "mute_audio", enabled: false });
await ann.hears("video:control:toggle");
await ben.ask("call:end", { callId, reason: "supper" });
assert.equal((await ann.hears("call:ended")).reason, "supper");

step("Cleo declines a call, and Ann hears who it was");
const declined = await ann.ask("call:initiate", { receiverId: "9", callType: "audio" });
await cleo.hears("call:incoming");
await cleo.ask("call:response", { callId: declined.callId, action: "decline" });
await ann.hears("call:declined");

step("A conference: Ann shares her screen, Cleo comes late and gets to know, Ben may not share at the same time");
const conference = await ann.ask("conference:create", { participants: ["8", "9"], callType: "video", title: "Which film?" });
const id = { callId: conference.callId };
await ben.hears("call:incoming", ({ callId: it }) => it === id.callId);
await ben.ask("call:response", { ...id, action: "accept" });
await ann.ask("screen:share:start", { ...id, hasAudio: false, quality: "high" });
await ben.hears("screen:share:start");
assert.equal((await ben.ask("screen:share:start", { ...id, hasAudio: false, quality: "low" })).code, "already_sharing");
await ben.ask("screen:annotation:add", { ...id, type: "draw", data: { line: [[0, 0], [9, 9]] } });
await cleo.ask("conference:video:join", id);
assert.equal((await cleo.hears("screen:state")).annotations.length, 1);
await ann.hears("conference:participant:joined", ({ userId }) => userId === "9");
await ben.ask("screen:remote:request", id);
await ann.hears("screen:remote:request");
await ann.ask("screen:remote:response", { ...id, requesterId: "8", granted: true });
await ben.ask("screen:remote:input", { ...id, key: "PageDown" });
await ann.hears("screen:remote:input");
await cleo.ask("conference:video:leave", id);
await ann.ask("call:end", id);
await ben.hears("call:ended", ({ callId: it }) => it === id.callId);

step("The back end writes into the chat, tells everybody something, and takes Cleo out of the chat");
await backEnd("messenger", "send-chat-message", { chatId, message: { senderId: "bot", content: "Two seats are left." } });
await ben.hears("message:receive", ({ message: it }) => it.senderId === "bot");
await backEnd("messenger", "notify-all", { event: "news", data: { text: "A new version is there." } });
await tablet.hears("news");
await backEnd("messenger", "chat-remove", { chatId, userId: "9" });
assert.equal((await cleo.ask("message:send", { chatId, content: "And I?" })).code, "room_denied");

step("Cleo goes; who asked is told");
await ann.ask("user:status", { userIds: ["8", "9"] });
cleo.socket.disconnect();
await ann.hears("user:offline", ({ userId }) => userId === "9");
tell("ann", "goes, too");
end();
