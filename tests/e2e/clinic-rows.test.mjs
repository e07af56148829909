// The clinic's contract once more, as a stranger would try it: every form of every row, and what is wrong in each, through a balancer
// that takes another node for each request.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { io } from "socket.io-client";
import { natsRequest } from "../lib/api.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Plain } from "../lib/plain.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { got, POLLING, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("clinic.toml", import.meta.url), "utf8");
const [KEY, SECRET] = [...CONFIG.matchAll(/^secret = "(.*)"$/gm)].map(([, text]) => text);
const STATS = "/api/admin/websocket/stats";
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

const token = (userId, role = "Paciente", claims = {}) => sign({ userId, role, ...claims }, SECRET);
const bearer = (shown) => ({ authorization: `Bearer ${shown}` });
const ask = (socket, event, ...args) => socket.timeout(30_000).emitWithAck(event, ...args);

describe("clinic, row by row", () => {
  const users = new Users();
  const plains = [];
  let cluster;
  let made = 5000;
  const fresh = () => { made += 1; return made; };
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3, coordinators: 0, balancer: "testkit" });
    for (const node of cluster.nodes) [, node.api] = await node.process.line(/^api (\S+)$/);
  });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); for (const client of plains.splice(0)) client.close(); dumpIfFailed(test, cluster); });

  const dial = (options) => users.dial(`${cluster.url}/events`, { ...WEBSOCKET, reconnection: false, ...options });
  async function enter(id, role, { claims, ...options } = {}) {
    const socket = dial({ auth: { token: token(id, role, claims) }, ...options });
    await until(() => got(socket, "connected").length > 0);
    return socket;
  }
  async function plain(options) {
    const client = await Plain.open(`${cluster.url}/events`, options);
    plains.push(client);
    client.welcome = await client.event("connected");
    return client;
  }
  async function call(verb, body) {
    made += 1;
    const response = await fetch(`http://${cluster.nodes[made % 3].api}/v1/apps/lab/${verb}`, { method: "POST", body: JSON.stringify(body), headers: bearer(KEY) });
    return { status: response.status, ...await response.json() };
  }
  async function told(verb, body) {
    const answer = await call(verb, body);
    assert.equal(answer.status, 200, JSON.stringify(answer));
  }
  /** Everything told before has arrived everywhere: a last word to everyone has. */
  async function settled(...sockets) {
    const last = `settled ${fresh()}`;
    await told("system-message", { type: "info", message: last });
    await Promise.all(sockets.map((socket) => until(() => got(socket, "system:message").some(({ message }) => message === last))));
  }
  const http = (at, shown) => fetch(`${cluster.url}${at}`, { headers: shown ? bearer(shown) : {} });

  it("is at its path with and without slash, in its namespace alone, over each transport", async () => {
    for (const options of [WEBSOCKET, POLLING, UPGRADE]) {
      for (const path of ["/socket.io", "/socket.io/"]) assert.equal((await enter(fresh(), "Medico", { path, ...options })).log.length, 1);
    }
    const elsewhere = io(cluster.url, { ...WEBSOCKET, forceNew: true, auth: { token: token(1) } });
    assert.equal((await heard(elsewhere, "connect_error"))[0].message, "Invalid namespace");
    elsewhere.disconnect();
    for (const at of ["/events", "/events/", "/events?x=1"]) plains.push(await Plain.open(`${cluster.url}${at}`, { headers: bearer(token(1)) }));
    for (const client of plains) assert.equal((await client.event("connected")).userId, 1);
    await assert.rejects(Plain.open(`${cluster.url}/event`), { status: 404 });
  });

  it("lets nobody in without a good token, and says who one is with exactly three keys", async () => {
    const cases = {
      missing_token: [{}, { auth: { token: 7 } }, { auth: { token: "" } }, { auth: { token: {} } }, { auth: { other: token(1) } }],
      invalid_token: ["x", "x".repeat(200_000), sign({ userId: 1 }, "", { alg: "none" }), token(undefined), token({}), token(1, "x".repeat(5000))].map((shown) => ({ auth: { token: shown } })),
      expired_token: [{ auth: { token: token(1, "Medico", { exp: 1 }) } }, { extraHeaders: bearer(token(1, "Medico", { exp: 1 })) }],
    };
    for (const [code, options] of Object.entries(cases)) {
      for (const option of options) {
        const [error] = await heard(dial(option), "connect_error");
        assert.deepEqual([error.message, error.data], ["Unauthorized", { code }]);
      }
    }
    for (const [id, role, claims, userId, shownRole] of [[5, "Medico", { exp: undefined }, 5, "Medico"], ["5", "Otro", { aud: "whoever" }, 5, "Otro"], ["05", "", {}, "05", ""], ["ana", null, {}, "ana", ""]]) {
      const [welcome] = got(await enter(id, role, { claims }), "connected");
      assert.deepEqual({ ...welcome, message: typeof welcome.message }, { message: "string", userId, role: shownRole });
    }
  });

  it("answers ping whatever comes with it", async () => {
    const socket = await enter(7);
    for (const args of [[], [null], [{}], ["x", 2], [Buffer.from("x")]]) {
      const ack = await ask(socket, "ping", ...args);
      assert.deepEqual([Object.keys(ack), ack.userId], [["timestamp", "userId"], 7]);
      assert.match(ack.timestamp, ISO);
      assert.deepEqual(got(socket, "pong").at(-1), ack);
    }
  });

  it("subscribes to what is anybody's or one's own, in every form, and to nothing else", async () => {
    const id = fresh();
    const socket = await enter(id, "Paciente", { claims: { results: [31], appointments: ["32"] } });
    const right = [
      [{ entity: "exam" }], [{ entity: "exam", entityId: 5 }], [{ entity: "exam", entityId: "5", x: 1 }, { entity: "exam", entityId: 5 }], [{ entity: "exam", entityId: -1 }], [{ entity: "a:b é 🎈%3A", entityId: "x-1" }],
      [{ entity: "patient", entityId: `${id}` }, { entity: "patient", entityId: id }], [{ entity: "user", entityId: id }], [{ entity: "result", entityId: 31 }], [{ entity: "appointment", entityId: 32 }],
    ];
    for (const [payload, said = payload] of right) {
      for (const [verb, event] of [["subscribe", "subscribed"], ["subscribe", "subscribed"], ["unsubscribe", "unsubscribed"], ["unsubscribe", "unsubscribed"]]) {
        assert.deepEqual(await ask(socket, verb, payload), { success: true, ...said });
        assert.deepEqual(got(socket, event).at(-1), said);
      }
    }
    const others = [{ entity: "patient" }, { entity: "patient", entityId: id + 1 }, { entity: "result" }, { entity: "results", entityId: 31 }, { entity: "result", entityId: 33 }, { entity: "appointment", entityId: 33 }, { entity: "user", entityId: 1 }, { entity: "users" }];
    for (const payload of others) {
      const { error, ...rest } = await ask(socket, "subscribe", payload);
      assert.deepEqual([rest, typeof error], [{ success: false, code: "room_denied" }, "string"], JSON.stringify(payload));
    }
    const wrong = [
      undefined, null, 7, "exam", ["exam"], {}, { entity: 7 }, { entity: null }, { entity: "" }, { entity: "  " }, { entity: "x".repeat(65) }, { entity: "x".repeat(900_000) }, { entity: Buffer.from("x") },
      ...[Number.NaN, 1.5, true, "", {}, [], "x".repeat(5000), 1e21].map((entityId) => ({ entity: "exam", entityId })),
    ];
    for (const payload of wrong) {
      for (const verb of ["subscribe", "unsubscribe"]) {
        assert.equal((await ask(socket, verb, payload)).code, "invalid_payload", `${verb} ${JSON.stringify(payload)?.slice(0, 60)}`);
        const before = got(socket, "error").length;
        socket.emit(verb, payload);
        await until(() => got(socket, "error").length > before);
        assert.deepEqual([Object.keys(got(socket, "error").at(-1)), got(socket, "error").at(-1).event], [["message", "code", "event"], verb]);
      }
    }
    assert.equal(socket.connected, true);
  });

  it("adds to a doctor's events what is subscribed to, each told once", async () => {
    const [patientId, resultId, appointmentId] = [fresh(), fresh(), fresh()];
    const [doctor, other, patient] = [await enter(fresh(), "Medico"), await enter(fresh(), "Medico"), await enter(patientId)];
    for (const entity of ["result", "appointment", "patient", "user"]) {
      const id = { result: resultId, appointment: appointmentId, patient: patientId, user: patientId }[entity];
      assert.equal((await ask(doctor, "subscribe", { entity })).success, true);
      assert.equal((await ask(doctor, "subscribe", { entity, entityId: id })).success, true);
    }
    assert.equal((await ask(patient, "subscribe", { entity: "patient", entityId: patientId })).success, true);
    await told("result-update", { resultId, patientId, examName: "x", status: "pending" });
    await told("appointment-update", { appointmentId, patientId, action: "created" });
    await told("user-update", { userId: patientId, type: "profile", action: "updated" });
    await told("admin-event", { eventType: "e", entityType: "result", entityId: resultId, action: "a", userId: 1 });
    await settled(doctor, other, patient);
    const counts = (socket) => ["result:update", "appointment:update", "user:update", "admin:event"].map((event) => got(socket, event).length);
    assert.deepEqual([doctor, other, patient].map(counts), [[1, 1, 1, 0], [0, 0, 0, 0], [1, 1, 1, 0]]);
  });

  it("takes every value that a call may have, and refuses others and missing ones by name, over HTTP and NATS", async () => {
    const calls = {
      "catalog-update": [{ type: ["exam", "price", "category", "package", "location"], action: ["created", "updated", "deleted"] }, { entityId: 1 }],
      "appointment-update": [{ action: ["created", "updated", "cancelled", "confirmed"] }, { appointmentId: 1, patientId: 2 }],
      "result-update": [{ status: ["pending", "ready", "delivered"] }, { resultId: 1, patientId: 2, examName: "x" }],
      "system-message": [{ type: ["info", "warning", "error", "success"] }, { message: "x" }],
      "user-update": [{ type: ["x"], action: ["y"] }, { userId: 2 }],
      "admin-event": [{ eventType: ["a"], entityType: ["b"], action: ["c"] }, { entityId: 1, userId: 1 }],
    };
    const [server] = cluster.nats.servers;
    for (const [name, [choices, rest]] of Object.entries(calls)) {
      const first = Object.fromEntries(Object.entries(choices).map(([key, values]) => [key, values[0]]));
      for (const [key, values] of Object.entries(choices)) {
        for (const value of values) await told(name, { ...first, ...rest, [key]: value });
      }
      const { ok } = await natsRequest(server, `tl.api.lab.${name}`, { ...first, ...rest });
      assert.equal(ok, true);
      for (const key of [...Object.keys(choices), ...Object.keys(rest)]) {
        for (const value of [undefined, {}, "", ...(values(key) ?? [])]) {
          const answer = await call(name, { ...first, ...rest, [key]: value });
          assert.deepEqual([answer.status, answer.field], [400, key], `${name} ${key} ${JSON.stringify(value)}`);
        }
      }
      function values(key) { return choices[key]?.length > 1 ? ["other", 7] : undefined; }
    }
  });

  it("sends times in one form, whoever filled them in", async () => {
    const socket = await enter(fresh());
    const times = [["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000Z"], ["2026-01-02T03:04:05.5+02:00", "2026-01-02T01:04:05.500Z"], [951782400000, "2000-02-29T00:00:00.000Z"], ["2026-01-02", "2026-01-02T00:00:00.000Z"]];
    for (const [timestamp, sent] of times) {
      const message = `at ${timestamp}`;
      await told("system-message", { type: "info", message, timestamp });
      await until(() => got(socket, "system:message").some((it) => it.message === message && it.timestamp === sent));
    }
    for (const timestamp of ["yesterday", "aaaa-bb-cc", "2026-02-30", "2026-01-02T25:00", "", -1, 1e18, {}, true]) {
      assert.equal((await call("system-message", { type: "info", message: "x", timestamp })).field, "timestamp");
    }
  });

  it("keeps a deactivated user out on every node and front, with later tokens too, until activated again", async () => {
    const id = fresh();
    const later = (shown = token(id, "Administrador", { iat: Math.floor(Date.now() / 1000) + 5 })) => shown;
    const [socket, client] = [await enter(id, "Administrador"), await plain({ headers: bearer(token(id, "Administrador")) })];
    const gone = [heard(socket, "disconnect"), client.closed];
    await told("user-update", { userId: id, type: "account", action: "deactivated" });
    const [[reason], code] = await Promise.all(gone);
    assert.deepEqual([reason, code], ["io server disconnect", 1008]);
    assert.equal(got(socket, "user:update").length, 1);
    for (const { url } of cluster.nodes) {
      const again = users.dial(`${url}/events`, { ...WEBSOCKET, reconnection: false, auth: { token: later() } });
      assert.deepEqual((await heard(again, "connect_error"))[0].data, { code: "revoked_token" });
      const plainly = await Plain.open(`${url}/events`, { headers: bearer(later()) });
      assert.equal(await plainly.closed, 4401);
      assert.equal((await fetch(`${url}${STATS}`, { headers: bearer(later()) })).status, 401);
    }
    await told("user-update", { userId: id, type: "account", action: "activated" });
    await until(async () => (await http(STATS, later())).status === 200);
    await until(async () => {
      const again = dial({ auth: { token: token(id) } });
      return Promise.race([heard(again, "connected").then(() => true), heard(again, "connect_error").then(() => false)]);
    });
  });

  it("closes who shows no further token in time, and keeps who does, on both fronts", async () => {
    const id = fresh();
    const soon = () => ({ exp: Math.floor(Date.now() / 1000) + 2 });
    const [careless, careful] = [await enter(id, "Paciente", { claims: soon() }), await enter(id, "Paciente", { claims: soon() })];
    const [carelessly, carefully] = [await plain({ headers: bearer(token(id, "Paciente", soon())) }), await plain({ headers: bearer(token(id, "Paciente", soon())) })];
    for (const shown of [{ token: token(id + 1) }, { token: token(id, "Paciente", { exp: 1 }) }, { token: 7 }, {}, token(id), null]) {
      assert.equal((await ask(careful, "authenticate", shown)).success, false);
      assert.equal((await carefully.ask("authenticate", shown)).success, false);
    }
    const closing = heard(careless, "disconnect");
    assert.equal((await ask(careful, "authenticate", { token: token(id) })).userId, id);
    assert.equal((await carefully.ask("authenticate", { token: token(id) })).userId, id);
    // The transport is closed: a stock client comes back by itself, with a new token.
    assert.equal((await closing)[0], "transport close");
    assert.equal(await carelessly.closed, 1008);
    assert.equal((await ask(careful, "ping")).userId, id);
    assert.equal((await carefully.ask("ping")).userId, id);
  });

  it("says who is connected in the whole cluster, to administrators, page by page", async () => {
    const role = `Role ${fresh()}`;
    const ids = [fresh(), fresh(), fresh()];
    await Promise.all([enter(ids[0], role, WEBSOCKET), enter(ids[1], role, POLLING), plain({ headers: bearer(token(ids[2], role)) })]);
    const admin = token(1, "Administrador");
    const ours = ({ clients }) => clients.filter((client) => client.role === role).sort((a, b) => a.userId - b.userId);
    const all = await until(async () => {
      const body = await (await http(STATS, admin)).json();
      return ours(body).length === 3 && body.byRole[role] === 3 && body;
    }, 20_000);
    assert.deepEqual(Object.keys(all).slice(0, 3), ["total", "byRole", "clients"]);
    assert.equal(all.total, Object.values(all.byRole).reduce((sum, n) => sum + n, 0));
    assert.deepEqual(ours(all).map(({ userId, transport }) => [userId, transport]), [[ids[0], "websocket"], [ids[1], "polling"], [ids[2], "websocket"]]);
    for (const client of all.clients) {
      assert.deepEqual(Object.keys(client), ["socketId", "userId", "role", "connectedAt", "node", "transport"]);
      assert.match(client.connectedAt, ISO);
    }
    // Each node hears of the others' sockets within a second.
    await until(async () => {
      const clients = [];
      for (let after = ""; after !== undefined;) {
        const page = await (await http(`${STATS}?limit=2${after && `&after=${after}`}`, admin)).json();
        assert.ok(page.clients.length <= 2);
        clients.push(...page.clients);
        after = page.next;
      }
      return ours({ clients }).length === 3;
    }, 20_000);
    for (const [at, shown, status, clients] of [
      [STATS, undefined, 401], [STATS, "nonsense", 401], [STATS, token(7), 403], [`${STATS}?limit=0`, admin, 400], [`${STATS}?limit=x`, admin, 400], [`${STATS}?limit=1001`, admin, 400],
      ["/health/websocket", undefined, 200, 0], ["/health/websocket", "nonsense", 200, 0], ["/health/websocket", token(7), 200, 0],
    ]) {
      const response = await http(at, shown);
      assert.equal(response.status, status, `${at} ${shown?.slice(0, 10)}`);
      if (clients !== undefined) assert.equal((await response.json()).clients.length, clients);
    }
    await until(async () => ours(await (await http("/health/websocket", admin)).json()).length === 3, 20_000);
  });

  it("answers what no event is, on both fronts", async () => {
    const id = fresh();
    const [socket, client] = [await enter(id), await plain({ headers: bearer(token(id)) })];
    for (const event of ["nonsense", "error", "", "message:send", "catalog:update", "__proto__", "x".repeat(5000)]) {
      const { error, ...rest } = await ask(socket, event, { a: 1 }, Buffer.from("x"));
      assert.deepEqual([rest, typeof error], [{ success: false, code: "unknown_event" }, "string"]);
    }
    socket.emit("nonsense", {});
    const [error] = await heard(socket, "error");
    assert.deepEqual({ ...error, message: typeof error.message }, { message: "string", code: "unknown_event", event: "nonsense" });
    for (const frame of ["{", "[]", "7", "null", "PING", '{"data":1}', '{"event":7}', '{"event":""}', '{"event":"ping","id":"a"}', '{"event":"ping","id":-1}', Buffer.from("ping")]) {
      client.ws.send(frame);
      const bad = await client.event("error");
      assert.deepEqual([bad.code, bad.event], ["bad_frame", null], String(frame));
    }
    client.say("nonsense", {});
    assert.equal((await client.event("error")).code, "unknown_event");
    for (const frame of ["ping", " ping "]) { client.ws.send(frame); assert.equal(await client.next(), "pong"); }
    client.say("ping");
    assert.deepEqual(Object.keys(await client.event("pong")), ["timestamp", "userId"]);
    for (const [event, payload] of [["admin:events", { limit: 1 }], ["subscribe", { entity: "result" }]]) assert.equal((await client.ask(event, payload)).code, "room_denied");
  });

  it("refuses wrong questions about its feeds", async () => {
    const [admin, patient] = [await enter(fresh(), "Administrador"), await enter(fresh())];
    for (const payload of [7, "x", [], { limit: -1 }, { limit: "x" }, { before: 1.5 }, { before: {} }]) {
      assert.equal((await ask(admin, "admin:events", payload)).code, "invalid_payload", JSON.stringify(payload));
    }
    for (const payload of [7, "x", { since: -1 }, { since: "x" }, { since: 1.5 }]) {
      assert.equal((await ask(patient, "catalog:sync", payload)).code, "invalid_payload", JSON.stringify(payload));
    }
    const future = await ask(patient, "catalog:sync", { since: 1_000_000_000 });
    assert.deepEqual([future.success, future.complete, future.updates], [true, false, []]);
    for (const payload of [undefined, null, {}, { limit: 0 }, { limit: 1e9 }, { before: 0 }]) assert.equal((await ask(admin, "admin:events", payload)).success, true);
  });
});
