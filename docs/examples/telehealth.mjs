// A visit by telehealth: a patient on the phone, a doctor at the desk, on two nodes.
//
//   make run                              in another terminal
//   cd docs/examples && npm install && node telehealth.mjs [one node's address] [another node's]

import assert from "node:assert/strict";
import { backEnd, end, nodes, person, step, tell, token } from "./walk.mjs";

const [phoneUrl, deskUrl] = nodes(8080);
const visitId = `v${Date.now()}`;

step("The patient logs in by the log-in for development, the doctor's token comes from the clinic's own server");
const login = (email, password) => fetch(`${phoneUrl}/api/v1/auth/login`, { method: "POST", body: JSON.stringify({ email, password }) });
const { user } = await login("ann@example.org", "ann").then((response) => response.json());
tell("patient", `is user ${user.id ?? user.userId}`);
assert.equal((await login("ann@example.org", "guessed")).status, 401);
const health = await fetch(`${phoneUrl}/health`).then((response) => response.json());
assert.equal(health.status, "ok");

step("They connect; a made-up token and one that ran out are refused in the words that clients compare");
const patient = person("patient", phoneUrl, { auth: { token: token({ userId: "7", role: "patient", name: "Ann", visits: [visitId] }) } });
const doctor = person("doctor", deskUrl, { auth: { token: token({ userId: "8", role: "doctor", name: "Dr. Ben", visits: [visitId] }) } });
assert.equal((await patient.hears("connected")).userId, "7");
await doctor.hears("connected");
for (const [bad, words] of [["made up", "Authentication error: Invalid token"], [token({ userId: "7", exp: 1 }), "Authentication error: Token expired"]]) {
  const nobody = person("nobody", phoneUrl, { auth: { token: bad } });
  const [error] = await new Promise((resolve) => { nobody.socket.once("connect_error", (...args) => resolve(args)); });
  assert.equal(error.message, words);
}

step("The doctor watches who is there, and both enter the visit's room. Another visit is closed to the patient");
await doctor.ask("presence:subscribe", { userIds: ["7"] });
await doctor.ask("room:join", { roomId: `visit:${visitId}`, roomType: "visit" });
const joined = await patient.ask("room:join", { roomId: `visit:${visitId}`, roomType: "visit", metadata: { visitId } });
assert.deepEqual(joined.participants.map(({ userId }) => userId).sort(), ["7", "8"]);
await doctor.hears("room:userJoined");
assert.equal((await patient.ask("room:join", { roomId: "visit:another", roomType: "visit" })).error, "Room access denied");

step("The doctor types and writes; the patient hears it, reads it, and the doctor is told of both");
doctor.say("typing:start", { roomId: `visit:${visitId}` });
await patient.hears("typing:start");
const { message } = await doctor.ask("message:send", { message: "Good morning. How is the knee?", visitId, recipientId: "7" });
assert.equal((await patient.hears("message:new")).message, "Good morning. How is the knee?");
await doctor.hears("message:sent");
await doctor.hears("message:status", ({ status }) => status === "delivered");
await patient.ask("message:read", { messageId: message.id });
await doctor.hears("message:status", ({ status }) => status === "read");
await patient.ask("message:send", { message: "It hurts on stairs.", visitId, attachments: [{ url: "https://example.org/knee.jpg", name: "knee.jpg" }] });
await doctor.hears("message:new");
assert.equal((await doctor.ask("message:history", { visitId, limit: 10 })).messages.length, 2);

step("The doctor calls; the patient accepts, offers and answers pass, both show as in a call, and the doctor hangs up");
const { callId } = await doctor.ask("call:initiate", { recipientId: "7", callType: "video", visitId });
assert.equal((await patient.hears("call:incoming")).callerId, "8");
await patient.ask("call:accept", { callId });
await doctor.hears("call:accepted");
doctor.say("call:signal", { callId, signal: { type: "offer", sdp: "v=0…" } });
assert.equal((await patient.hears("call:signal")).fromId, "8");
await doctor.hears("presence:changed", ({ userId, status }) => userId === "7" && status === "in_call");
await doctor.ask("call:end", { callId });
for (const who of [patient, doctor]) await who.hears("call:ended");

step("The patient rejects a second call, which old clients know as ended");
const again = await doctor.ask("call:initiate", { recipientId: "7", callType: "audio" });
await patient.hears("call:incoming");
await patient.ask("call:reject", { callId: again.callId, reason: "on the bus" });
await doctor.hears("call:rejected");
assert.equal((await doctor.hears("call:ended")).reason, "rejected");

step("The doctor is not to be disturbed");
await doctor.ask("presence:setStatus", { status: "busy", customStatus: "with a patient" });
assert.equal((await patient.ask("call:initiate", { recipientId: "8", callType: "audio" })).code, "do_not_disturb");

step("The back end notifies the patient, announces maintenance, and says a word about the visit");
await backEnd("telehealth", "notify", { userId: "7", notification: { title: "Prescription", message: "It is ready." } });
const { id } = await patient.hears("notification:new");
assert.ok((await patient.ask("notification:getUnreadCount")).unreadCount >= 1);
await patient.ask("notification:read", { notificationId: id });
await backEnd("telehealth", "maintenance", { message: "Back at noon" });
await backEnd("telehealth", "emit-to-room", { roomId: `visit:${visitId}`, event: "visit:closed", data: { visitId } });
for (const who of [patient, doctor]) { await who.hears("system:maintenance"); await who.hears("visit:closed"); }

step("The patient leaves the room and goes; the doctor sees it");
await patient.ask("room:leave", { roomId: `visit:${visitId}` });
await doctor.hears("room:userLeft");
patient.socket.disconnect();
await doctor.hears("presence:changed", ({ userId, status }) => userId === "7" && status === "offline");
end();
