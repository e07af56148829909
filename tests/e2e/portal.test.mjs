// The portal with stock clients on several nodes, row by row of its contract: connecting, rooms, messages, what the back end tells.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { ask as request, call } from "../lib/backend.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { ask, CONFIG, first, join, Portal, token } from "../lib/portal.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, POLLING, UPGRADE, WEBSOCKET } from "../lib/visits.mjs";

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe("portal on three nodes", () => {
  const users = new Portal();
  let cluster;
  let made = 0;
  /** An id that no other test has. */
  const fresh = () => { made += 1; return `p${made}`; };
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, coordinators: 0, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });
  const node = (i) => cluster.nodes[i % 3].url;
  const staff = (i, options) => users.enter(node(i), "admin-1", { claims: { role: "admin" }, ...options });
  /** Resolves once the sockets have everything that was told in the room before. */
  async function caughtUp(room, ...sockets) {
    made += 1;
    const marker = `marker ${made}`;
    await call(cluster.nodes[made % 3], "portal", "emit", { to: { room }, event: "marker", args: [marker] });
    await Promise.all(sockets.map((socket) => first(socket, "marker", (seen) => seen === marker)));
  }

  for (const [name, options] of Object.entries({ websocket: WEBSOCKET, polling: POLLING, upgrade: UPGRADE })) {
    it(`tells a user of its token's success (${name})`, async () => {
      const id = fresh();
      const socket = await users.enter(cluster.url, id, options);
      const { expiresAt, ...rest } = socket.welcome;
      assert.deepEqual(rest, { userId: id, role: "patient", rooms: [`u:${id}`] });
      assert.match(expiresAt, ISO);
      assert.ok(Math.abs(Date.parse(expiresAt) - Date.now() - 3_600_000) < 60_000, expiresAt);
      assert.equal(got(socket, "core:auth:success").length, 1);
    });
  }

  it("finds the token in the CONNECT packet, a header or a cookie, in this order", async () => {
    const [a, b] = [fresh(), fresh()];
    const bearer = { authorization: `Bearer ${token(a)}` };
    const cases = [
      [{ auth: { socket_token: token(a) }, extraHeaders: { "x-socket-token": token(b) } }, a],
      [{ extraHeaders: { ...bearer, "x-socket-token": token(b) } }, a],
      [{ extraHeaders: { "x-socket-token": token(a), cookie: `socket_token=${token(b)}` } }, a],
      [{ extraHeaders: { cookie: `x=1; socket_token=${token(a)}; y=2` } }, a],
      [{ auth: { other: 1 }, extraHeaders: bearer, ...POLLING }, a],
    ];
    for (const [options, userId] of cases) {
      const socket = users.dial(cluster.url, options);
      assert.equal((await first(socket, "core:auth:success")).userId, userId);
    }
  });

  it("keeps the form of ids: a number stays a number", async () => {
    const socket = await users.enter(node(0), 4711);
    assert.deepEqual([socket.welcome.userId, socket.welcome.rooms], [4711, ["u:4711"]]);
    await join(socket, "patient:4711");
    const ack = await ask(socket, "message:send", { text: "x" });
    assert.deepEqual([ack.message.patientId, ack.message.senderId], [4711, 4711]);
  });

  it("verifies again on every reconnection, and the client joins its rooms again", async () => {
    const id = fresh();
    const socket = users.dial(cluster.url, { auth: { socket_token: token(id) } });
    socket.on("connect", () => socket.emit("join", `patient:${id}`));
    await first(socket, "core:auth:success");
    const before = socket.id;
    socket.io.engine.close();
    await until(() => socket.connected && socket.id !== before);
    await until(() => got(socket, "core:auth:success").length === 2);
    await until(async () => {
      await call(cluster.nodes[0], "portal", "treatment-update", { patientId: id, treatment: { n: 1 } });
      return got(socket, "treatment:update").length > 0;
    });
  });

  it("lets join what roles and claims allow, in every form", async () => {
    const [id, other] = [fresh(), fresh()];
    const patient = await users.enter(node(0), id);
    await join(patient, `patient:${id}`);
    for (const room of [`patient:${other}`, `doctor:${id}`, `u:${other}`, "nonsense", "patient:", ".everyone"]) {
      assert.deepEqual(await ask(patient, "join", room), { ok: false, joined: [], denied: [room] });
    }
    const claimed = await users.enter(node(1), fresh(), { claims: { patientId: other } });
    assert.deepEqual(await ask(claimed, "join", { room: `patient:${other}` }), { ok: true, joined: [`patient:${other}`], denied: [] });
    const doctor = await users.enter(node(2), "d1", { claims: { role: "doctor", patients: [id] } });
    assert.deepEqual(await ask(doctor, "join", { rooms: ["doctor:d1", `patient:${id}`, `patient:${other}`, "doctor:d2"] }),
      { ok: false, joined: ["doctor:d1", `patient:${id}`], denied: [`patient:${other}`, "doctor:d2"] });
    for (const role of ["admin", "reception"]) {
      const member = await users.enter(node(0), "s", { claims: { role } });
      await join(member, `patient:${other}`, "doctor:d7");
    }
    patient.emit("join", [`patient:${other}`]);
    const { message, ...rest } = await first(patient, "core:error");
    assert.deepEqual([rest, typeof message], [{ code: "room_denied", event: "join", denied: [`patient:${other}`] }, "string"]);
  });

  it("tells nothing of a room that was left or denied", async () => {
    const id = fresh();
    const [inside, gone, foreign] = [await staff(0), await staff(1), await users.enter(node(2), fresh())];
    await join(inside, `patient:${id}`);
    await join(gone, `patient:${id}`);
    await ask(foreign, "join", `patient:${id}`);
    assert.deepEqual(await ask(gone, "leave", [`patient:${id}`, "patient:never"]), { ok: true, left: [`patient:${id}`] });
    await call(cluster.nodes[0], "portal", "new-message", { patientId: id, message: { id: 1 } });
    await first(inside, "message:new");
    await caughtUp(`u:${foreign.welcome.userId}`, foreign);
    await caughtUp("u:admin-1", gone);
    assert.deepEqual([got(gone, "message:new"), got(foreign, "message:new")], [[], []]);
  });

  it("stores a message and tells it to the patient's room, its sender included", async () => {
    const id = fresh();
    const patient = await users.enter(node(0), id);
    const doctor = await users.enter(node(1), "d1", { claims: { role: "doctor", patients: [id], name: "Dr. Ann" } });
    const [admin, foreign] = [await staff(2), await users.enter(node(1), fresh())];
    await Promise.all([join(patient, `patient:${id}`), join(doctor, `patient:${id}`), join(admin, `patient:${id}`)]);
    const ack = await ask(patient, "message:send", { text: "Does it hurt?", attachments: [{ url: "x.png" }], metadata: { a: [1] }, extra: 1 });
    const { id: messageId, createdAt, ...rest } = ack.message;
    assert.deepEqual({ ok: ack.ok, ...rest }, {
      ok: true, patientId: id, senderId: id, senderRole: "patient", text: "Does it hurt?", attachments: [{ url: "x.png" }], metadata: { a: [1] },
    });
    assert.ok(messageId.length > 0);
    assert.match(createdAt, ISO);
    for (const socket of [patient, doctor, admin]) {
      assert.deepEqual(await first(socket, "message:new"), { message: ack.message, patientId: id });
    }
    const answers = [{ patientId: id, message: "No" }, { patientId: id, content: "Yes" }];
    for (const [i, payload] of answers.entries()) {
      const { ok, message } = await ask(doctor, "message:send", payload);
      assert.deepEqual([ok, message.text, message.senderName], [true, ["No", "Yes"][i], "Dr. Ann"]);
    }
    await caughtUp(`patient:${id}`, patient, doctor, admin);
    for (const socket of [patient, doctor, admin]) {
      assert.deepEqual(got(socket, "message:new").map(({ message }) => message.text), ["Does it hurt?", "No", "Yes"]);
    }
    await caughtUp(`u:${foreign.welcome.userId}`, foreign);
    assert.deepEqual(got(foreign, "message:new"), []);
  });

  it("tells a sender outside of the room its own message, once", async () => {
    const id = fresh();
    const [patient, inside] = [await users.enter(node(0), id), await users.enter(node(1), id)];
    await join(inside, `patient:${id}`);
    const { message } = await ask(patient, "message:send", { text: "x" });
    assert.deepEqual(await first(patient, "message:new"), { message, patientId: id });
    await first(inside, "message:new");
    await caughtUp(`u:${id}`, patient, inside);
    assert.deepEqual([got(patient, "message:new").length, got(inside, "message:new").length], [1, 1]);
  });

  it("refuses wrong payloads in the ack or by core:error, delivers nothing and stays connected", async () => {
    const id = fresh();
    const [patient, admin] = [await users.enter(node(0), id), await staff(1)];
    await join(admin, `patient:${id}`, "patient:other");
    const wrong = [
      ["message:send", [{ patientId: "other", text: "x" }], "room_denied"],
      ["message:send", [{}], "invalid_payload"],
      ["message:send", [{ text: 7 }], "invalid_payload"],
      ["message:send", [{ text: "" }], "invalid_payload"],
      ["message:send", [{ text: "x".repeat(5000) }], "over_limit"],
      ["message:send", [{ text: "x", patientId: Number.NaN, attachments: 1 }], "invalid_payload"],
      ["message:send", [{ text: "x", patientId: [id] }], "invalid_payload"],
      ["message:send", ["x"], "invalid_payload"],
      ["message:send", [], "invalid_payload"],
      ["join", [], "invalid_payload"],
      ["join", [7], "invalid_payload"],
      ["join", [[1, 2]], "invalid_payload"],
      ["join", ["x".repeat(10_000)], "invalid_room"],
      ["join", [Array.from({ length: 2000 }, (_, i) => `patient:${i}`)], "over_limit"],
      ["leave", [{ room: {} }], "invalid_payload"],
      ["nonsense", [{ a: 1 }], "unknown_event"],
      ["error", ["x"], "unknown_event"],
      ["ping", [], "unknown_event"],
    ];
    for (const [event, args, code] of wrong) {
      const ack = await ask(patient, event, ...args);
      assert.deepEqual([ack.ok, ack.code, typeof ack.error], [false, code, "string"], `${event} ${JSON.stringify(args).slice(0, 80)}`);
      if (code === "unknown_event") continue;
      const before = got(patient, "core:error").length;
      patient.emit(event, ...args);
      await until(() => got(patient, "core:error").length > before);
      const { code: told, event: of } = got(patient, "core:error").at(-1);
      assert.deepEqual([told, of], [code, event]);
    }
    const before = patient.id;
    await join(patient, `patient:${id}`);
    await caughtUp(`patient:${id}`, patient, admin);
    assert.deepEqual([got(admin, "message:new"), patient.id], [[], before]);
  });

  it("tells what the back end emits, one copy for each socket, untouched", async () => {
    const [id, doctorId] = [fresh(), `d-${fresh()}`];
    const patient = await users.enter(node(0), id);
    const doctor = await users.enter(node(1), doctorId, { claims: { role: "doctor", patients: [id] } });
    const [admin, foreign] = [await staff(2), await users.enter(node(2), fresh())];
    await join(patient, `patient:${id}`);
    await join(doctor, `doctor:${doctorId}`, `patient:${id}`);
    await join(admin, `doctor:${doctorId}`);
    const appointment = { id: 1, doctorId, when: "2026-01-31", nested: { z: [1.5, null], a: "🎈" } };
    for (const [verb, event] of [["new", "new"], ["update", "update"], ["cancelled", "cancelled"]]) {
      await call(cluster.nodes[0], "portal", `appointment-${verb}`, { patientId: id, appointment });
      for (const socket of [patient, doctor, admin]) {
        assert.deepEqual(await first(socket, `appointment:${event}`), { appointment, patientId: id, doctorId });
      }
    }
    const message = { id: "m1", from: "clinic" };
    await call(cluster.nodes[1], "portal", "new-message", { patientId: id, message });
    await call(cluster.nodes[2], "portal", "treatment-update", { patientId: id, treatment: { state: "done" } });
    await call(cluster.nodes[2], "portal", "appointment-new", { patientId: id, appointment: { id: 2 } });
    for (const socket of [patient, doctor]) {
      assert.deepEqual(await first(socket, "message:new"), { message, patientId: id });
      assert.deepEqual(await first(socket, "treatment:update"), { treatment: { state: "done" }, patientId: id });
      const without = await first(socket, "appointment:new", (data) => data.appointment.id === 2);
      assert.deepEqual(without, { appointment: { id: 2 }, patientId: id });
    }
    await caughtUp(`patient:${id}`, patient, doctor);
    await caughtUp(`doctor:${doctorId}`, admin);
    await caughtUp(`u:${foreign.welcome.userId}`, foreign);
    const counts = (socket) => ["appointment:new", "appointment:update", "appointment:cancelled", "message:new", "treatment:update"].map((event) => got(socket, event).length);
    assert.deepEqual([patient, doctor, admin, foreign].map(counts), [[2, 1, 1, 1, 1], [2, 1, 1, 1, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0]]);
  });

  it("refuses the back end's wrong calls with the field, and emits to a user", async () => {
    const wrong = [
      ["new-message", { message: {} }], ["new-message", { patientId: "1", message: "x" }], ["appointment-new", { patientId: "1" }],
      ["treatment-update", { patientId: {}, treatment: {} }], ["appointment-update", { patientId: "1", appointment: { doctorId: [] } }],
    ];
    for (const [verb, body] of wrong) {
      const { status, body: answer } = await request(cluster.nodes[0], "portal", verb, body);
      assert.deepEqual([status, answer.code], [400, "invalid_payload"], JSON.stringify(answer));
    }
    const id = fresh();
    const [one, two] = [await users.enter(node(0), id), await users.enter(node(1), id)];
    await call(cluster.nodes[2], "portal", "emit", { to: { user: id }, event: "hello", args: [{ a: 1 }] });
    for (const socket of [one, two]) assert.deepEqual(await first(socket, "hello"), { a: 1 });
  });

  it("cuts off whose tokens are revoked, and says so", async () => {
    const id = fresh();
    const socket = await users.enter(node(0), id);
    await call(cluster.nodes[1], "portal", "revoke", { user: id });
    assert.equal((await first(socket, "core:auth:error")).code, "revoked_token");
    await until(() => !socket.connected);
    const again = users.dial(node(2), { auth: { socket_token: token(id) } });
    assert.equal((await first(again, "core:auth:error")).code, "revoked_token");
  });

  it("writes a journal that operators can search", async () => {
    const id = fresh();
    const socket = users.dial(node(0), { extraHeaders: { cookie: `socket_token=${token(id)}` } });
    await first(socket, "core:auth:success");
    await join(socket, `patient:${id}`);
    await ask(socket, "message:send", { text: "a secret" });
    await ask(socket, "leave", `patient:${id}`);
    socket.disconnect();
    const log = () => cluster.nodes[0].process.lines.filter((line) => line.includes(`"${id}"`)).map((line) => JSON.parse(line));
    await until(() => log().some((entry) => entry.message === "[RT Gateway] disconnect"));
    const steps = log().filter((entry) => entry.message.startsWith("[RT Gateway]"));
    assert.deepEqual(steps.map((entry) => entry.message.replace("[RT Gateway] ", "")), ["connect", "join", "join", "publish", "leave", "disconnect"]);
    assert.deepEqual([steps[0].token_from, steps[0].auth, steps[2].rooms, steps[3].event], ["cookie:socket_token", "success", `patient:${id}`, "message:new"]);
    assert.ok(!cluster.nodes[0].process.log().includes("a secret"));
  });
});
