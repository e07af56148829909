// A morning at the laboratory: an administrator, a doctor and a patient with the stock client, a tester with a bare WebSocket, on two nodes.
//
//   make run                              in another terminal
//   cd docs/examples && npm install && node clinic.mjs [one node's address] [another node's]

import assert from "node:assert/strict";
import { once } from "node:events";
import { WebSocket } from "ws";
import { backEnd, end, nodes, person, step, tell, token } from "./walk.mjs";

const [first, second] = nodes(4000);
const client = { transports: ["websocket"] };
// Ids of this walk alone: another run's results are not this one's.
const [patientId, resultId] = [Date.now(), Date.now() + 1];

step("They connect, and are told who they are; somebody without a token is not let in");
const admin = person("admin", `${first}/events`, { ...client, auth: { token: token({ userId: 1, role: "Administrador" }) } });
const doctor = person("doctor", `${second}/events`, { ...client, auth: { token: token({ userId: 2, role: "Medico" }) } });
const patient = person("patient", `${second}/events`, { ...client, extraHeaders: { authorization: `Bearer ${token({ userId: patientId, role: "Paciente" })}` } });
assert.equal((await patient.hears("connected")).userId, patientId);
await Promise.all([admin.hears("connected"), doctor.hears("connected")]);
const stranger = person("stranger", `${first}/events`, client);
const [refusal] = await once(stranger.socket, "connect_error");
assert.equal(refusal.message, "Unauthorized");

step("ping, pong: with the library, and from a tester's bare WebSocket");
await patient.ask("ping");
const tester = new WebSocket(`${first.replace("http", "ws")}/events`, ["bearer", token({ userId: patientId, role: "Paciente" })]);
const frames = [];
tester.on("message", (data, isBinary) => {
  frames.push(isBinary ? data : JSON.parse(data));
  tell("tester", `receives ${isBinary ? `${data.length} bytes` : data}`);
});
await once(tester, "message");
tester.send(JSON.stringify({ event: "ping" }));
await once(tester, "message");
assert.deepEqual(frames.map((frame) => frame.event), ["connected", "pong"]);

step("The doctor subscribes to a result; another patient's is closed to the patient");
await doctor.ask("subscribe", { entity: "result", entityId: resultId });
assert.equal((await patient.ask("subscribe", { entity: "patient", entityId: patientId + 5 })).success, false);

step("The result is there, with its PDF: its patient, administrators and that doctor hear of it, the tester's tool too");
const pdf = Buffer.from("%PDF-1.7 everything is fine");
const withBytes = once(tester, "message");
await backEnd("clinic", "result-update", { resultId, patientId, examName: "Hemograma", status: "ready", pdf: pdf.toString("base64") });
for (const who of [patient, admin, doctor]) {
  const update = await who.hears("result:update", (it) => it.resultId === resultId);
  assert.equal(Buffer.compare(Buffer.from(update.pdf), pdf), 0);
}
await withBytes;

step("A price changes: everyone hears of it, and administrators see who did it");
await patient.ask("catalog:sync");
await backEnd("clinic", "catalog-update", { type: "price", action: "updated", entityId: 12, entityName: "Hemograma", audit: { userId: 1, data: { from: 10, to: 12 } } });
for (const who of [patient, doctor, admin]) await who.hears("catalog:update");
await admin.hears("admin:event", (it) => it.eventType === "catalog:update");
const { seq } = await patient.hears("catalog:seq");

step("The patient's telephone loses its connection, and on coming back asks for what it has missed");
patient.socket.disconnect();
await backEnd("clinic", "catalog-update", { type: "exam", action: "created", entityId: 13, entityName: "Glucosa" });
patient.socket.connect();
await patient.hears("connected");
const missed = await patient.ask("catalog:sync", { since: seq });
assert.ok(missed.updates.some((update) => update.entityId === 13));

step("Appointments, words to one role, a change of the patient's own data");
await backEnd("clinic", "appointment-update", { appointmentId: 31, patientId, action: "confirmed", appointment: { at: "10:00" } });
for (const who of [patient, admin]) await who.hears("appointment:update");
await backEnd("clinic", "system-message", { type: "warning", message: "The archive is closed today", targetRole: "Medico" });
await doctor.hears("system:message");
await backEnd("clinic", "user-update", { userId: patientId, type: "profile", action: "updated", changes: { phone: "555" } });
await patient.hears("user:update");

step("Who is connected? That is for administrators");
const stats = (claims) => fetch(`${first}/api/admin/websocket/stats`, { headers: { authorization: `Bearer ${token(claims)}` } });
assert.equal((await stats({ userId: patientId, role: "Paciente" })).status, 403);
tell("admin", `reads ${JSON.stringify((await (await stats({ userId: 1, role: "Administrador" })).json()).byRole)}`);

step("The patient is deactivated: told so, then closed, on both fronts");
const closed = [new Promise((resolve) => patient.socket.on("disconnect", resolve)), once(tester, "close")];
await backEnd("clinic", "user-update", { userId: patientId, type: "account", action: "deactivated" });
await patient.hears("user:update", (it) => it.action === "deactivated");
const [reason, [code]] = await Promise.all(closed);
tell("patient", `is disconnected: ${reason}; the tester's WebSocket is closed with ${code}`);
end();
