// A question to the dietitian: clients without tokens, as the old ones are, on two nodes. They listen; their application's server speaks.
//
//   make run                              in another terminal
//   cd docs/examples && npm install && node diet.mjs [one node's address] [another node's]

import assert from "node:assert/strict";
import { backEnd, end, nodes, person, step } from "./walk.mjs";

const [one, other] = nodes(3000);
const [dietId, clientId] = [100, 7];
const client = person("client", one, { path: "/api/socketio" });
const dietitian = person("dietitian", other, { path: "/api/socketio" });

step("They say who they are, and enter the diet; ids come back as numbers, whatever form they had");
client.say("join", "7");
assert.deepEqual(await client.hears("joined"), { userId: 7, room: "user_7" });
dietitian.say("join", 3);
await dietitian.hears("joined");
for (const who of [client, dietitian]) {
  who.say("join_diet", String(dietId));
  assert.deepEqual(await who.hears("joined_diet"), { dietId, room: "diet_100" });
}
client.say("ping");
await client.hears("pong");

step("One connection is one user, and NaN is nobody");
assert.equal((await client.ask("join", 8)).success, false);
assert.equal((await client.ask("join_diet", NaN)).code, "invalid_payload");

step("The client writes by HTTP to the application's server, which says so: the diet hears it, the dietitian is notified");
const about = { dietId, clientId, client: { userId: 7, name: "Ayşe" }, dietitianId: 3 };
await backEnd("diet", "message-created", { ...about, from: "client", message: { id: 501, text: "May I have bread?" } });
for (const who of [client, dietitian]) assert.equal((await who.hears("new_message")).dietId, dietId);
assert.equal((await dietitian.hears("new_notification")).message, "Yeni mesaj: Ayşe");

step("The dietitian answers, and the client is notified");
await backEnd("diet", "message-created", { ...about, from: "dietitian", message: { id: 502, text: "One slice." } });
const notification = await client.hears("new_notification");
assert.equal(notification.message, "Diyetisyeninizden yeni mesaj");
assert.deepEqual(notification.data, { messageId: 502, dietId, clientId, from: "dietitian" });
await client.ask("notification:read", { notificationId: notification.id });

step("The server says how many are connected, and the client goes");
const status = await fetch(`${one}/api/socket`).then((response) => response.json());
assert.equal(status.message, "Socket.IO server is running");
client.say("leave_diet", dietId);
await client.hears("left_diet");
end();
