// A day at the portal: a patient on the phone, a doctor and the reception at the panel, on two nodes.
//
//   make run                              in another terminal
//   cd docs/examples && npm install && node portal.mjs [one node's address] [another node's]

import assert from "node:assert/strict";
import { backEnd, end, nodes, person, step, tell, token } from "./walk.mjs";

const [phoneUrl, panelUrl] = nodes(3002);
// The application's own server gives these to who logs in.
const sessions = {
  patient: token({ userId: "7", role: "patient", name: "Ann" }),
  doctor: token({ userId: "d8", role: "doctor", name: "Dr. Ben", patients: ["7"] }),
  reception: token({ userId: "1", role: "admin", name: "Cleo" }),
};

step("Everybody exchanges the application's session for a socket token of 30 minutes");
async function socketToken(url, who) {
  const response = await fetch(`${url}/api/rt/issue-socket-token`, { headers: { authorization: `Bearer ${sessions[who]}` } });
  const { socket_token, expiresIn } = await response.json();
  tell(who, `is given a token for ${expiresIn} s, and the cookie ${response.headers.get("set-cookie").replace(/=.*?;/, "=…;")}`);
  return socket_token;
}
const tokens = { patient: await socketToken(phoneUrl, "patient"), doctor: await socketToken(panelUrl, "doctor"), reception: await socketToken(panelUrl, "reception") };

step("They connect: the phone shows its token in the CONNECT packet, the panel's browser sends the cookie");
const patient = person("patient", `${phoneUrl}/events`, { auth: { socket_token: tokens.patient } });
const doctor = person("doctor", `${panelUrl}/events`, { extraHeaders: { cookie: `socket_token=${tokens.doctor}` } });
const reception = person("reception", `${panelUrl}/events`, { auth: { socket_token: tokens.reception } });
assert.deepEqual((await patient.hears("core:auth:success")).rooms, ["u:7"]);
await Promise.all([doctor.hears("core:auth:success"), reception.hears("core:auth:success")]);

step("They join what is theirs; another patient's room is closed to the patient");
await patient.ask("join", "patient:7");
assert.equal((await patient.ask("join", ["patient:9"])).ok, false);
await doctor.ask("join", { rooms: ["doctor:d8", "patient:7"] });
await reception.ask("join", ["patient:7"]);

step("The patient writes, the doctor answers: all three hear both, also who sent it");
await patient.ask("message:send", { text: "May I take both pills at once?" });
await doctor.hears("message:new");
await doctor.ask("message:send", { patientId: "7", text: "One in the morning, one at night.", attachments: [{ url: "plan.pdf" }] });
for (const who of [patient, reception]) await who.hears("message:new", ({ message }) => message.senderId === "d8");

step("The back end makes an appointment, moves it, cancels it: the patient and the doctor hear of it, once each");
const appointment = { id: 31, doctorId: "d8", at: "2030-05-04T09:00:00.000Z" };
for (const change of ["new", "update", "cancelled"]) {
  await backEnd("portal", `appointment-${change}`, { patientId: "7", appointment });
  for (const who of [patient, doctor]) assert.deepEqual(await who.hears(`appointment:${change}`), { appointment, patientId: "7", doctorId: "d8" });
}
await backEnd("portal", "treatment-update", { patientId: "7", treatment: { id: 5, state: "started" } });
await patient.hears("treatment:update");

step("The token is renewed on the live connection, long before it expires");
await patient.ask("authorization", { socket_token: await socketToken(phoneUrl, "patient") });
await patient.hears("core:auth:success");

step("Somebody without a token is told so, has ten seconds to show one, and what it wants to join waits for that");
const late = person("late", `${panelUrl}/events`);
assert.equal((await late.hears("core:auth:error")).code, "missing_token");
late.say("join", "patient:7");
await late.ask("authorization", { token: tokens.patient });
await late.hears("core:auth:success");
await backEnd("portal", "new-message", { patientId: "7", message: { from: "laboratory", text: "Your results are there." } });
for (const who of [late, patient, doctor, reception]) await who.hears("message:new", ({ message }) => message.from === "laboratory");

step("The doctor goes home");
await doctor.ask("leave", ["doctor:d8", "patient:7"]);
end();
