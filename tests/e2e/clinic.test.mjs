// The clinic application, row by row of what its clients depend on: stock clients and plain WebSockets on three nodes, its back end
// through the server API.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import net from "node:net";
import { after, afterEach, before, describe, it } from "node:test";
import { io } from "socket.io-client";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Plain } from "../lib/plain.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";

const CONFIG = readFileSync(new URL("clinic.toml", import.meta.url), "utf8");
const SECRET = "test-key-of-the-end-to-end-tests-0123456789";
const KEY = "key-of-the-back-office-0123456789abcdef";
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

const token = (userId, role = "Paciente", claims = {}) => sign({ userId, role, ...claims }, SECRET);

describe("the clinic on three nodes", () => {
  const open = [];
  let cluster;
  let nextUser = 100;
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3, coordinators: 0 });
    for (const node of cluster.nodes) [, node.api] = await node.process.line(/^api (\S+)$/);
  });
  after(() => cluster?.stop());
  afterEach((test) => { for (const client of open.splice(0)) client.close(); dumpIfFailed(test, cluster); });

  const user = () => { nextUser += 1; return nextUser; };

  /** A stock client that need not get in. */
  function dial(node, { path = "/socket.io/", ...options } = {}) {
    const socket = io(`${cluster.nodes[node % 3].url}/events`, { path, forceNew: true, transports: ["websocket"], reconnectionDelay: 20, ...options });
    socket.log = [];
    socket.onAny((event, ...args) => socket.log.push([event, ...args]));
    open.push(socket);
    return socket;
  }
  async function enter(node, id, role, { claims, ...options } = {}) {
    const socket = dial(node, { auth: { token: token(id, role, claims) }, ...options });
    [socket.welcome] = await heard(socket, "connected");
    return socket;
  }
  async function plain(node, shown, path = "/events", options = {}) {
    const client = await Plain.open(`${cluster.nodes[node % 3].url}${path}`, { ...options, ...(shown && { headers: { authorization: `Bearer ${shown}` } }) });
    open.push(client);
    if (shown) client.welcome = await client.event("connected");
    return client;
  }
  async function call(verb, body, { app = "lab", node = 0, headers } = {}) {
    const response = await fetch(`http://${cluster.nodes[node].api}/v1/apps/${app}/${verb}`, {
      method: "POST", body: JSON.stringify(body), headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json", ...headers },
    });
    return { status: response.status, ...await response.json() };
  }
  const told = async (verb, body, options) => {
    const answer = await call(verb, body, options);
    assert.equal(answer.status, 200, JSON.stringify(answer));
    return answer;
  };
  const got = (socket, name) => socket.log.filter(([event]) => event === name).map(([, data]) => data);
  const ask = (socket, event, ...args) => socket.timeout(30_000).emitWithAck(event, ...args);
  /** Everything told before has arrived everywhere: a last word to everyone has. */
  async function settled(sockets, plains = []) {
    const message = `settled ${user()}`;
    await told("system-message", { type: "info", message });
    await Promise.all(sockets.map((socket) => until(() => got(socket, "system:message").some((it) => it.message === message))));
    await Promise.all(plains.map((client) => client.next((frame) => frame.event === "system:message" && frame.data.message === message)));
  }

  it("lets in who shows a token, in any of its places, and nobody else", async () => {
    const id = user();
    for (const socket of [
      await enter(0, id, "Medico"),
      await enter(1, String(id), "Medico"),
      await (async () => { const it = dial(2, { extraHeaders: { authorization: `Bearer ${token(id, "Medico")}` } }); [it.welcome] = await heard(it, "connected"); return it; })(),
    ]) {
      assert.deepEqual({ ...socket.welcome, message: typeof socket.welcome.message }, { message: "string", userId: id, role: "Medico" });
    }
    for (const auth of [{}, { token: "nonsense" }, { token: token(id, "x", { exp: 1 }) }, { token: sign({ userId: id }, "another key of somebody else") }]) {
      const [error] = await heard(dial(0, { auth }), "connect_error");
      assert.equal(error.message, "Unauthorized");
      assert.equal(typeof error.data.code, "string");
    }
  });

  it("answers ping by event and ack", async () => {
    const id = user();
    const socket = await enter(0, id);
    const answer = heard(socket, "pong");
    socket.emit("ping");
    const [pong] = await answer;
    assert.equal(pong.userId, id);
    assert.match(pong.timestamp, ISO);
    assert.equal((await ask(socket, "ping")).userId, id);
    const client = await plain(1, token(id));
    client.ws.send("ping");
    assert.equal(await client.next(), "pong");
    assert.equal((await client.ask("ping")).userId, id);
    assert.equal((await client.event("pong")).userId, id);
  });

  it("tells each event to whom it is for, once, with exactly its keys", async () => {
    const [one, two] = [user(), user()];
    const [patient, again, stranger, doctor, admin, admin2] = await Promise.all([
      enter(0, one), enter(1, one), enter(2, two), enter(0, user(), "Medico"), enter(1, user(), "Administrador"), enter(2, user(), "Administrador"),
    ]);
    const simple = await plain(2, token(one));
    const all = [patient, again, stranger, doctor, admin, admin2];
    const hear = async (verb, body, event, hearers, payload) => {
      await told(verb, body, { node: Math.floor(Math.random() * 3) });
      await settled(all, [simple]);
      for (const socket of all) {
        const heardHere = got(socket, event);
        assert.equal(heardHere.length, hearers.includes(socket) ? 1 : 0, `${event} at ${all.indexOf(socket)}`);
        for (const { timestamp, ...rest } of heardHere) {
          assert.deepEqual(rest, payload, event);
          assert.match(timestamp, ISO);
        }
        socket.log = [];
      }
      const plainly = simple.frames.filter((frame) => frame.event === event);
      assert.equal(plainly.length, hearers.includes(patient) ? 1 : 0, `${event} at the plain client`);
      for (const { data: { timestamp, ...rest } } of plainly) assert.deepEqual(rest, payload);
      simple.frames = [];
    };
    const admins = [admin, admin2];
    const own = [patient, again];
    await hear("catalog-update", { type: "exam", action: "created", entityId: "12", entityName: "Hemograma", junk: 1 },
      "catalog:update", all, { type: "exam", action: "created", entityId: 12, entityName: "Hemograma" });
    await hear("user-update", { userId: one, type: "profile", action: "updated", changes: { email: "a@b.c", n: null } },
      "user:update", own, { type: "profile", action: "updated", changes: { email: "a@b.c", n: null } });
    await hear("admin-event", { eventType: "user", entityType: "user", entityId: one, action: "updated", userId: "5", data: { x: [1] } },
      "admin:event", admins, { eventType: "user", entityType: "user", entityId: one, action: "updated", userId: 5, data: { x: [1] } });
    await hear("appointment-update", { appointmentId: 3, patientId: String(one), action: "cancelled", appointment: { at: "10:00" } },
      "appointment:update", [...own, ...admins], { appointmentId: 3, patientId: one, action: "cancelled", appointment: { at: "10:00" } });
    await hear("result-update", { resultId: 9, patientId: one, examName: "Glucosa", status: "ready" },
      "result:update", [...own, ...admins], { resultId: 9, patientId: one, examName: "Glucosa", status: "ready" });
    for (const socket of all) socket.log = [];
    await told("system-message", { type: "warning", message: "only doctors", targetRole: "Medico" });
    await settled(all);
    for (const socket of all) {
      const messages = got(socket, "system:message").filter(({ message }) => message === "only doctors");
      assert.equal(messages.length, socket === doctor ? 1 : 0);
      for (const { timestamp, ...rest } of messages) assert.deepEqual(rest, { type: "warning", message: "only doctors", targetRole: "Medico" });
    }
  });

  it("adds what is subscribed to, takes it away again, and refuses what is another patient's", async () => {
    const [one, two] = [user(), user()];
    const [doctor, patient] = await Promise.all([enter(0, user(), "Medico"), enter(1, one)]);
    const result = { resultId: 7001, patientId: two, examName: "x", status: "ready" };
    const answer = heard(doctor, "subscribed");
    assert.deepEqual(await ask(doctor, "subscribe", { entity: "result", entityId: "7001", more: true }), { success: true, entity: "result", entityId: 7001 });
    assert.deepEqual(await answer, [{ entity: "result", entityId: 7001 }]);
    await ask(doctor, "subscribe", { entity: "patient", entityId: two });
    await told("result-update", result);
    await told("result-update", { ...result, resultId: 7002, patientId: one });
    await settled([doctor, patient]);
    assert.deepEqual(got(doctor, "result:update").map((it) => it.resultId), [7001]);
    for (const entityId of [7001, undefined]) await ask(doctor, "unsubscribe", { entity: entityId ? "result" : "patient", entityId: entityId ?? two });
    await told("result-update", result);
    await settled([doctor]);
    assert.equal(got(doctor, "result:update").length, 1);

    for (const wanted of [{ entity: "patient", entityId: two }, { entity: "result" }, { entity: "result", entityId: 7001 }, { entity: "user", entityId: two }]) {
      const refused = await ask(patient, "subscribe", wanted);
      assert.deepEqual([refused.success, refused.code, typeof refused.error], [false, "room_denied", "string"]);
      const error = heard(patient, "error");
      patient.emit("subscribe", wanted);
      assert.deepEqual((await error)[0].event, "subscribe");
    }
    for (const fine of [{ entity: "exam" }, { entity: "patient", entityId: one }, { entity: "anything", entityId: 1 }]) {
      assert.equal((await ask(patient, "subscribe", fine)).success, true);
    }
    for (const wrong of [undefined, null, [], 7, {}, { entity: 7 }, { entity: "" }, { entity: "x".repeat(100_000) }, { entity: "x", entityId: {} }]) {
      assert.equal((await ask(patient, "subscribe", wrong)).code, "invalid_payload", JSON.stringify(wrong)?.slice(0, 50));
    }
    assert.equal((await ask(patient, "admin:events")).code, "room_denied");
    assert.equal((await ask(patient, "nonsense", {})).code, "unknown_event");
    assert.ok(patient.connected);
  });

  it("keeps what administrators do, for those who connect and those who ask", async () => {
    const by = user();
    const event = (n) => ({ eventType: "test", entityType: "exam", entityId: n, action: `action ${n}`, userId: by });
    for (let n = 0; n < 5; n += 1) await told("admin-event", event(n), { node: n % 3 });
    const admin = await enter(0, user(), "Administrador");
    const [given] = got(admin, "admin:events").length ? [got(admin, "admin:events")[0]] : await heard(admin, "admin:events");
    assert.deepEqual(given.events.map((it) => it.entityId), [2, 3, 4]);
    assert.equal(given.hasMore, true);
    const earlier = await ask(admin, "admin:events", { before: given.events[0].seq, limit: 2 });
    assert.deepEqual(earlier.events.map(({ seq, timestamp, ...rest }) => rest), [event(0), event(1)]);
    const live = heard(admin, "admin:event");
    await told("catalog-update", { type: "price", action: "updated", entityId: 4, audit: { userId: by, data: { from: 1, to: 2 } } });
    const [{ timestamp, ...raised }] = await live;
    assert.deepEqual(raised, { eventType: "catalog:update", entityType: "price", entityId: 4, action: "updated", userId: by, data: { from: 1, to: 2 } });
    const last = await ask(admin, "admin:events", { limit: 1 });
    assert.deepEqual(last.events.map((it) => it.eventType), ["catalog:update"]);
    const doctor = await enter(1, user(), "Medico");
    await settled([doctor]);
    assert.equal(got(doctor, "admin:events").length, 0);
  });

  it("misses no change of the catalogue over a gap, and says when too many were missed", async () => {
    const change = (entityId) => ({ type: "package", action: "updated", entityId });
    const socket = await enter(0, user());
    const { seq, complete, updates } = await ask(socket, "catalog:sync");
    assert.deepEqual([complete, updates], [true, []]);
    const position = heard(socket, "catalog:seq");
    await told("catalog-update", change(1), { node: 1 });
    assert.deepEqual(await position, [{ seq: seq + 1 }]);
    socket.disconnect();
    await Promise.all(Array.from({ length: 12 }, (_, n) => told("catalog-update", change(n + 2), { node: n % 3 })));
    const back = await enter(2, user());
    const missed = await ask(back, "catalog:sync", { since: seq + 1 });
    assert.deepEqual([missed.complete, missed.hasMore, missed.seq], [true, false, seq + 13]);
    assert.deepEqual(missed.updates.map((it) => it.entityId).sort((a, b) => a - b), Array.from({ length: 12 }, (_, n) => n + 2));
    assert.deepEqual(missed.updates.map((it) => it.seq), Array.from({ length: 12 }, (_, n) => seq + 2 + n));
    // Many at once from all nodes: whoever hears a number has heard all up to it.
    const heardSoFar = new Set();
    let late = 0;
    back.on("catalog:update", ({ entityId }) => heardSoFar.add(entityId));
    back.on("catalog:seq", () => { late += 1; });
    await Promise.all(Array.from({ length: 30 }, (_, n) => told("catalog-update", change(1000 + n), { node: n % 3 })));
    await until(() => late === 30);
    assert.equal(heardSoFar.size, 30);
    const all = await ask(back, "catalog:sync", { since: missed.seq });
    assert.deepEqual(new Set(all.updates.map((it) => it.entityId)), heardSoFar);

    const hasty = await enter(0, user(), "Paciente", { path: "/hasty/" });
    for (let n = 1; n <= 4; n += 1) await told("catalog-update", change(n), { app: "hasty" });
    const cut = await ask(hasty, "catalog:sync", { since: 1 });
    assert.deepEqual([cut.complete, cut.updates, cut.seq], [false, [], 4]);
    assert.deepEqual((await ask(hasty, "catalog:sync", { since: 2 })).updates.map((it) => it.entityId), [3, 4]);
  });

  it("tells a change whose writer died before it told it, with the next one and once", async () => {
    const socket = await enter(0, user());
    await ask(socket, "catalog:sync");
    for (let n = 0; n < 6; n += 1) await told("catalog-update", { type: "category", action: "created", entityId: 2000 + n }, { node: n % 3 });
    const orphan = { type: "category", action: "created", entityId: 2100, timestamp: new Date().toISOString() };
    await publish(cluster.nats.servers[0], "tl.lab.feed.catalog", { "Tl-At": String(Date.now()) }, JSON.stringify(orphan));
    await told("catalog-update", { type: "category", action: "created", entityId: 2101 }, { node: 1 });
    await settled([socket]);
    const ids = got(socket, "catalog:update").map((it) => it.entityId);
    assert.deepEqual(ids, [2000, 2001, 2002, 2003, 2004, 2005, 2100, 2101]);
    assert.deepEqual(got(socket, "catalog:update")[6], orphan);
  });

  it("counts plain clients among the others", async () => {
    const role = `Role ${user()}`;
    await Promise.all([enter(0, user(), role), plain(1, token(user(), role)), plain(2, token(user(), role))]);
    const stats = () => fetch(`${cluster.nodes[0].url}/health/websocket`).then((response) => response.json());
    await until(async () => (await stats()).byRole[role] === 3, 20_000);
  });

  it("carries a result's PDF as bytes to stock and plain clients", async () => {
    const id = user();
    const [socket, client] = [await enter(0, id), await plain(1, token(id))];
    const pdf = Buffer.concat([Buffer.from("%PDF-1.7"), randomBytes(200_000)]);
    const arrived = heard(socket, "result:update");
    await told("result-update", { resultId: 1, patientId: id, examName: "x", status: "delivered", pdf: pdf.toString("base64") }, { node: 2 });
    const [{ timestamp, ...payload }] = await arrived;
    assert.deepEqual(payload, { resultId: 1, patientId: id, examName: "x", status: "delivered", pdf });
    assert.deepEqual((await client.eventWithBinary("result:update")).pdf, pdf);
    const large = await call("result-update", { resultId: 1, patientId: id, examName: "x", status: "ready", pdf: "A".repeat(8 * 1024) + "?" });
    assert.equal(large.status, 400);
  });

  it("refuses wrong calls by the field's name, and tells nobody", async () => {
    const admin = await enter(0, user(), "Administrador");
    const cases = [
      ["catalog-update", { type: "car", action: "created", entityId: 1 }, /^type/],
      ["result-update", { resultId: 1, patientId: 1, examName: "x", status: "lost" }, /^status/],
      ["appointment-update", { appointmentId: 1, action: "created" }, /^patientId/],
      ["system-message", { type: "info", message: 7 }, /^message/],
      ["admin-event", { eventType: "x" }, /is missing|must/],
    ];
    for (const [verb, body, message] of cases) {
      const refused = await call(verb, body);
      assert.equal(refused.status, 400, verb);
      assert.match(refused.message, message);
    }
    await settled([admin]);
    assert.deepEqual(admin.log.filter(([event]) => !["connected", "system:message", "admin:events"].includes(event)), []);
  });

  it("cuts off a deactivated user on both fronts, once told", async () => {
    const id = user();
    const shown = token(id);
    const [socket, client, other] = [await enter(0, id), await plain(1, shown), await enter(2, user())];
    const [notice, gone] = [heard(socket, "user:update"), heard(socket, "disconnect")];
    await told("user-update", { userId: id, type: "account", action: "deactivated", audit: { userId: 1 } });
    assert.equal((await notice)[0].action, "deactivated");
    await gone;
    assert.equal((await client.event("user:update")).action, "deactivated");
    await client.closed;
    const [error] = await heard(dial(1, { auth: { token: shown } }), "connect_error");
    assert.equal(error.message, "Unauthorized");
    const refused = await Plain.open(`${cluster.nodes[2].url}/events`, { headers: { authorization: `Bearer ${shown}` } });
    assert.equal(await refused.closed, 4401);
    assert.ok(other.connected);
  });

  it("takes a further token on both fronts, and what it says counts", async () => {
    const id = user();
    const [socket, client] = [await enter(0, id, "Medico"), await plain(1, token(id, "Medico"))];
    for (const say of [(payload) => ask(socket, "authenticate", payload), (payload) => client.ask("authenticate", payload)]) {
      const fresh = await say({ token: token(id, "Medico") });
      assert.deepEqual([fresh.success, fresh.userId, fresh.role], [true, id, "Medico"]);
      assert.match(fresh.expiresAt, ISO);
      assert.equal((await say({ token: token(user(), "Administrador") })).success, false);
      assert.equal((await say({ token: "nonsense" })).success, false);
      assert.equal((await say({})).code, "invalid_payload");
    }
    await ask(socket, "subscribe", { entity: "result" });
    const left = heard(socket, "unsubscribed");
    assert.equal((await ask(socket, "authenticate", { token: token(id, "Paciente") })).role, "Paciente");
    assert.deepEqual(await left, [{ entity: "result" }]);
    assert.equal((await ask(socket, "subscribe", { entity: "result" })).success, false);
    await told("system-message", { type: "info", message: "doctors", targetRole: "Medico" });
    await told("system-message", { type: "info", message: "patients", targetRole: "Paciente" });
    await settled([socket]);
    const messages = got(socket, "system:message").map((it) => it.message).filter((it) => !it.startsWith("settled"));
    assert.deepEqual(messages, ["patients"]);
  });

  it("authenticates plain clients by header, subprotocol and first frame, and closes others with 4401", async () => {
    const id = user();
    assert.equal((await plain(0, token(id))).welcome.userId, id);
    const paired = await plain(1, undefined, "/events", { protocols: ["bearer", token(id)] });
    assert.equal(paired.ws.protocol, "bearer");
    assert.deepEqual(await paired.event("connected"), { message: "Connected to the event server", userId: id, role: "Paciente" });
    const late = await plain(2, undefined);
    late.ws.send("ping");
    assert.equal(await late.next(), "pong");
    assert.equal((await late.ask("subscribe", { entity: "exam" })).code, "unauthenticated");
    late.say("subscribe", {});
    assert.equal((await late.event("error")).code, "unauthenticated");
    assert.equal((await late.ask("authenticate", { token: 7 })).code, "invalid_payload");
    assert.deepEqual(await late.ask("authenticate", { token: token(id) }), { success: true });
    assert.equal((await late.event("connected")).userId, id);
    assert.deepEqual(await late.ask("subscribe", { entity: "exam" }), { success: true, entity: "exam" });

    for (const shown of ["nonsense", token(id, "x", { exp: 1 })]) {
      const refused = await Plain.open(`${cluster.nodes[0].url}/events`, { headers: { authorization: `Bearer ${shown}` } });
      assert.match((await refused.event("error")).message, /^Unauthorized/);
      assert.equal(await refused.closed, 4401);
      const later = await plain(0, undefined);
      later.say("authenticate", { token: shown });
      assert.match((await later.event("error")).message, /^Unauthorized/);
      assert.equal(await later.closed, 4401);
    }
    const silent = await plain(0, undefined, "/hasty-events");
    assert.match((await silent.event("error")).message, /authenticate_timeout_ms/);
    assert.equal(await silent.closed, 4401);
  });

  it("limits how much one user says, over all of the user's sockets on all nodes", async () => {
    const id = user();
    const options = { path: "/hasty/" };
    const [socket, same, other] = [await enter(0, id, "Paciente", options), await enter(0, id, "Paciente", options), await enter(0, user(), "Paciente", options)];
    const answers = [];
    for (let n = 0; n < 30; n += 1) answers.push(await ask(n % 2 ? socket : same, "ping"));
    const over = answers.filter((it) => it.success === false);
    assert.ok(over.length >= 8 && over.length <= 10, `${over.length}`);
    assert.equal(over[0].code, "over_limit");
    assert.match(over[0].error, /20 \(app\.events_per_minute\)/);
    assert.match((await ask(other, "ping")).timestamp, ISO);
    assert.ok(socket.connected && same.connected);
    // The other nodes have heard of it, each event soon after it was said.
    for (const node of [1, 2]) {
      const elsewhere = await enter(node, id, "Paciente", options);
      let taken = 0;
      while ((await ask(elsewhere, "ping")).success !== false) taken += 1;
      assert.ok(taken < 10, `${taken} at node ${node}`);
    }
  });
});

/** Stores a message as a writer would that dies right after it. */
function publish(server, subject, headers, payload) {
  const block = `NATS/1.0\r\n${Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
  const { hostname, port } = new URL(server.replace("nats:", "http:"));
  return new Promise((resolve, reject) => {
    const socket = net.connect(Number(port), hostname, () => {
      socket.write(`CONNECT {"headers":true,"verbose":false}\r\nHPUB ${subject} ${block.length} ${block.length + payload.length}\r\n${block}${payload}\r\nPING\r\n`);
    });
    socket.on("error", reject);
    socket.on("data", (data) => { if (/^PONG/m.test(data)) { socket.end(); resolve(); } });
  });
}
