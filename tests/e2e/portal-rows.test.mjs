// The portal's contract once more, as a stranger would try it: every form of every row, and what is wrong in each, through a balancer
// that takes another node for each request.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join as path } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { io } from "socket.io-client";
import { natsRequest } from "../lib/api.mjs";
import { call } from "../lib/backend.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { ask, CONFIG, first, join, Portal, session, token } from "../lib/portal.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { got, POLLING, UPGRADE, WEBSOCKET } from "../lib/visits.mjs";

const TRUNKLINE = process.env.TRUNKLINE_BIN ?? new URL("../../target/debug/trunkline", import.meta.url).pathname;

describe("portal, row by row", () => {
  const users = new Portal();
  let cluster;
  let made = 0;
  const fresh = () => { made += 1; return `r${made}`; };
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, coordinators: 0, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });
  const enter = (userId, options) => users.enter(cluster.url, userId, options);
  const staff = (options) => enter("admin-1", { claims: { role: "admin" }, ...options });

  it("is at its path with and without slash, in its namespace alone, over both transports", async () => {
    for (const options of [WEBSOCKET, POLLING, UPGRADE]) {
      for (const at of ["/socket.io", "/socket.io/"]) await enter(fresh(), { path: at, ...options });
    }
    const auth = { socket_token: token(fresh()) };
    for (const namespace of ["/", "/other"]) {
      const socket = io(`${cluster.url}${namespace}`, { auth, forceNew: true, ...WEBSOCKET });
      const [error] = await heard(socket, "connect_error");
      assert.equal(error.message, "Invalid namespace");
      socket.disconnect();
    }
  });

  it("says which token is missing, malformed, forged or old, and believes the others", async () => {
    const key = "a key of somebody else, long enough";
    const wrong = {
      missing_token: [undefined, null, "", 7, {}, []],
      invalid_token: [
        "nonsense", "a.b.c", "x".repeat(200_000), sign({ userId: 1 }, key), sign({ userId: 1 }, "", { alg: "none" }), token(undefined), token({ id: 1 }), token(""),
        token("1", { exp: "soon" }), token("1", { nbf: Math.floor(Date.now() / 1000) + 1000 }),
      ],
      expired_token: [token("1", { exp: 1 }), token("1", {}, { ttl_s: -100 })],
    };
    for (const [code, shown] of Object.entries(wrong)) {
      for (const socket_token of shown) {
        const socket = users.dial(cluster.url, { auth: { socket_token } });
        const error = await first(socket, "core:auth:error");
        assert.deepEqual([Object.keys(error), error.code], [["code", "message"], code], String(socket_token).slice(0, 40));
      }
    }
    const right = [
      [token(7, { exp: undefined, aud: "whoever" }), { userId: 7, role: "patient", rooms: ["u:7"], expiresAt: null }],
      [token(undefined, { sub: "8", exp: undefined, role: undefined }), { userId: "8", role: null, rooms: ["u:8"], expiresAt: null }],
      [token(undefined, { id: "9", exp: undefined, role: "doctor" }), { userId: "9", role: "doctor", rooms: ["u:9"], expiresAt: null }],
    ];
    for (const [socket_token, welcome] of right) {
      assert.deepEqual(await first(users.dial(cluster.url, { auth: { socket_token } }), "core:auth:success"), welcome);
    }
    // A place without a token is passed over.
    const cookie = `socket_token=${token("7")}`;
    for (const options of [{ auth: { socket_token: null } }, { extraHeaders: { authorization: "Basic x" } }]) {
      const socket = users.dial(cluster.url, { ...options, extraHeaders: { ...options.extraHeaders, cookie } });
      assert.equal((await first(socket, "core:auth:success")).userId, "7");
    }
  });

  it("serves nothing but authorization to who has shown no token, and answers all of it", async () => {
    const id = fresh();
    const socket = users.dial(cluster.url);
    await first(socket, "core:auth:error");
    for (const args of [["message:send", { text: "x" }], ["nonsense"], ["ping"], ["error", 1]]) {
      assert.equal((await ask(socket, ...args)).code, "unauthenticated");
      socket.emit(...args);
      await first(socket, "core:error", ({ event, code }) => event === args[0] && code === "unauthenticated");
    }
    const wrong = [[undefined, "missing_token"], [null, "missing_token"], [7, "missing_token"], [{ socket_token: 7 }, "missing_token"], ["", "missing_token"], [{ token: "x" }, "invalid_token"],
      [{ socketToken: token(id, { exp: 1 }) }, "expired_token"], ["x".repeat(300_000), "invalid_token"]];
    for (const [shown, code] of wrong) {
      const before = got(socket, "core:auth:error").length;
      const ack = await ask(socket, "authorization", shown);
      assert.deepEqual([ack.ok, ack.code, typeof ack.error], [false, code, "string"]);
      assert.equal(got(socket, "core:auth:error").at(-1).code, code);
      assert.equal(got(socket, "core:auth:error").length, before + 1);
    }
    assert.deepEqual(await ask(socket, "authorization", token(id)), { ok: true, rooms: [`u:${id}`] });
    assert.deepEqual(got(socket, "core:auth:success").length, 1);
    await join(socket, `patient:${id}`);
  });

  it("takes a further token in each of its forms, and another user's in none", async () => {
    const [id, other] = [fresh(), fresh()];
    const socket = await enter(id, { claims: { patientId: "p" } });
    await join(socket, "patient:p");
    const good = token(id, { patientId: "p" });
    for (const form of [{ socket_token: good }, { socketToken: good }, { token: good }, good, `Bearer ${good}`]) {
      assert.deepEqual(await ask(socket, "authorization", form), { ok: true, rooms: [`u:${id}`, "patient:p"] });
    }
    assert.deepEqual(got(socket, "core:auth:success").at(-1).rooms, [`u:${id}`, "patient:p"]);
    for (const [shown, code] of [[token(other), "invalid_token"], [token(id, { exp: 1 }), "expired_token"], ["", "missing_token"]]) {
      const before = got(socket, "core:auth:error").length;
      socket.emit("authorization", { socket_token: shown });
      await until(() => got(socket, "core:auth:error").length > before);
      assert.equal(got(socket, "core:auth:error").at(-1).code, code);
    }
    // None of that changed anything.
    assert.equal((await ask(socket, "message:send", { text: "still here" })).ok, true);
    await first(socket, "message:new");
  });

  it("joins and leaves by every form, and refuses what is no room or nobody's", async () => {
    const id = fresh();
    const socket = await enter(id);
    const room = `patient:${id}`;
    for (const form of [room, [room], [room, room], { room }, { rooms: [room] }, { rooms: room }, { room: [room] }, { room, extra: 1 }]) {
      assert.deepEqual(await ask(socket, "join", form), { ok: true, joined: [room], denied: [] });
      assert.deepEqual(await ask(socket, "leave", form), { ok: true, left: [room] });
      assert.deepEqual(await ask(socket, "leave", form), { ok: true, left: [] });
    }
    const denied = [`patient:0${id}`, `Patient:${id}`, ` ${room}`, `${room} `, `${room}:x`, "patient:*", "patient:", "patient", "u:someone", ".role:admin", "x:1", "__proto__"];
    assert.deepEqual(await ask(socket, "join", [room, ...denied]), { ok: false, joined: [room], denied });
    const wrong = [[], [null], [7], [true], [{}], [{ room: 7 }], [{ rooms: [7] }], [[null]], [[[room]]], [Buffer.from("x")], [""], ["x".repeat(900_000)], [Array.from({ length: 5000 }, (_, n) => `patient:${n}`)]];
    for (const event of ["join", "leave"]) {
      for (const args of wrong) {
        const { error, code, ...lists } = await ask(socket, event, ...args);
        assert.deepEqual(lists, event === "join" ? { ok: false, joined: [], denied: [] } : { ok: false, left: [] });
        assert.ok(["invalid_payload", "invalid_room", "over_limit"].includes(code) && error.length > 0, `${event} ${JSON.stringify(args).slice(0, 60)}`);
      }
    }
    assert.equal(socket.connected, true);
  });

  it("takes a message under each name, and none that claims, hides or floods anything", async () => {
    const id = fresh();
    const [socket, admin] = [await enter(id), await staff()];
    await join(socket, `patient:${id}`);
    await join(admin, `patient:${id}`);
    const right = [{ text: "a" }, { message: "a" }, { content: "a" }, { text: null, content: "a" }, { text: "a", patientId: id, senderId: id, userId: id, id: "mine", unknown: {} }];
    for (const payload of right) {
      const { ok, message } = await ask(socket, "message:send", payload);
      const { id: n, createdAt, ...rest } = message;
      assert.deepEqual({ ok, ...rest }, { ok: true, patientId: id, senderId: id, senderRole: "patient", text: "a", attachments: [], metadata: {} });
      assert.deepEqual(await first(admin, "message:new", (it) => it.message.id === n), { message, patientId: id });
    }
    const wrong = [
      [{ text: "x", patientId: Number.NaN }, "invalid_payload"], [{ text: "x", patientId: true }, "invalid_payload"], [{ text: "x", patientId: "x".repeat(5000) }, "invalid_payload"],
      [{ text: "x", senderId: "someone" }, "invalid_payload"], [{ text: "x", userId: "someone" }, "invalid_payload"], [{ text: "x", patientId: "someone" }, "room_denied"],
      [{ text: Buffer.from("x") }, "invalid_payload"], [{ text: "x", metadata: { scan: Buffer.from("x") } }, "invalid_payload"], [{ text: "x", attachments: [Buffer.from("x")] }, "invalid_payload"],
      [{ text: "x".repeat(4097) }, "over_limit"], [{ text: "x".repeat(900_000) }, "over_limit"], [{ text: "x", metadata: { a: "x".repeat(70_000) } }, "over_limit"],
      [{ text: "x", attachments: Array(33).fill({}) }, "over_limit"], [{ text: "x", metadata: [] }, "invalid_payload"], [{ attachments: [] }, "invalid_payload"],
      [[], "invalid_payload"], [null, "invalid_payload"], ["text", "invalid_payload"], [undefined, "invalid_payload"],
    ];
    for (const [payload, code] of wrong) {
      const ack = await ask(socket, "message:send", payload);
      assert.deepEqual([ack.ok, ack.code], [false, code], JSON.stringify(payload)?.slice(0, 60));
    }
    const { message } = await ask(socket, "message:send", { text: "last" });
    await first(admin, "message:new", (it) => it.message.id === message.id);
    assert.equal(got(admin, "message:new").length, right.length + 1, "nothing of what was refused was told");
    assert.equal((await ask(admin, "message:send", { text: "to whom?" })).code, "invalid_payload");
  });

  it("answers every other event, whatever its name", async () => {
    const socket = await enter(fresh());
    for (const event of ["ping", "error", "", "core:auth:success", "message:new", "__proto__", "toString", "x".repeat(5000)]) {
      assert.equal((await ask(socket, event, { a: 1 }, Buffer.from("x"))).code, "unknown_event");
    }
    const counted = () => cluster.metric("trunkline_client_events_unknown_total");
    const before = await counted();
    socket.emit("nonsense", 1);
    await ask(socket, "ping");
    assert.equal(await counted(), before + 2);
    assert.equal(socket.connected, true);
  });

  it("takes each typed call over NATS and from the command line too", async () => {
    const [patientId, doctorId] = [fresh(), fresh()];
    const url = cluster.nodes[1].url;
    const patient = await users.enter(url, patientId);
    const doctor = await users.enter(url, doctorId, { claims: { role: "doctor" } });
    await join(patient, `patient:${patientId}`);
    await join(doctor, `doctor:${doctorId}`);
    const [server] = cluster.nats.servers;
    const file = path(cluster.dir, "call.toml");
    writeFileSync(file, `[nats]\nservers = ["${server}"]\n[[app]]\nname = "portal"\ndialect = "portal"\ntoken = { secret = "x" }\n`);
    const env = { PATH: process.env.PATH };
    const run = (...args) => promisify(execFile)(TRUNKLINE, ["call", "--config", file, ...args], { env });
    const appointment = { id: 1, doctorId };
    const calls = [
      ["new-message", { message: { id: 1 } }, "message:new"], ["treatment-update", { treatment: { id: 1 } }, "treatment:update"],
      ...["new", "update", "cancelled"].map((change) => [`appointment-${change}`, { appointment }, `appointment:${change}`]),
    ];
    for (const [name, body, event] of calls) {
      const payload = { patientId, ...body };
      assert.deepEqual(await natsRequest(server, `tl.api.portal.${name}`, payload), { ok: true });
      assert.deepEqual(JSON.parse((await run(name, JSON.stringify(payload))).stdout), { ok: true });
      const told = event.startsWith("appointment") ? { ...payload, doctorId } : payload;
      await until(() => got(patient, event).length === 2);
      assert.deepEqual(got(patient, event), [told, told]);
      if (event.startsWith("appointment")) { await until(() => got(doctor, event).length === 2); assert.deepEqual(got(doctor, event), [told, told]); }
    }
    const typed = spawn(TRUNKLINE, ["call", "--config", file, "new-message", "-"], { stdio: ["pipe", "ignore", "ignore"], env });
    typed.stdin.end(JSON.stringify({ patientId, message: { id: "typed" } }));
    await first(patient, "message:new", ({ message }) => message.id === "typed");
    await assert.rejects(run("new-message", JSON.stringify({ patientId })), /message: is missing/);
    await assert.rejects(run("nonsense"), /no call `nonsense`/);
    await assert.rejects(run("a.b"), /no call's name/);
    await assert.rejects(run("new-message", "7"), /must be a JSON object/);
  });

  it("issues tokens at its one path, whatever else is asked", async () => {
    const node = cluster.nodes.at(-1);
    const ask = (at, options) => fetch(`${node.url}${at}`, { headers: { authorization: `Bearer ${session(fresh(), { patientId: "p" })}` }, ...options });
    const issued = await (await ask("/api/rt/issue-socket-token?x=1", { method: "POST", body: "{}" })).json();
    const claims = JSON.parse(Buffer.from(issued.token.split(".")[1], "base64url"));
    assert.deepEqual([claims.patientId, claims.role, claims.exp - claims.iat], ["p", "patient", 1800]);
    const socket = users.dial(node.url, { auth: { socket_token: issued.socketToken } });
    await first(socket, "core:auth:success");
    await join(socket, "patient:p");
    for (const [at, options, status] of [["/api/rt/issue-socket-token", { method: "HEAD" }, 200], ["/api/rt/issue-socket-token", { method: "PUT" }, 405], ["/api/rt/other", {}, 404], ["/", {}, 404]]) {
      const response = await ask(at, options);
      assert.equal(response.status, status, at);
      if (status !== 200) assert.match(response.headers.get("content-type"), /json/);
    }
  });

  it("tells several devices the same, in one order, also when they come back from nodes that leave", async () => {
    const id = fresh();
    const devices = await Promise.all([WEBSOCKET, POLLING, UPGRADE].map((options) => enter(id, options)));
    for (const socket of devices) {
      socket.on("connect", () => socket.emit("join", `patient:${id}`));
      await join(socket, `patient:${id}`);
    }
    await Promise.all(Array.from({ length: 12 }, (_, n) => ask(devices[n % 3], "message:send", { text: `${n}` })));
    await until(() => devices.every((socket) => got(socket, "message:new").length === 12));
    const order = (socket) => got(socket, "message:new").map(({ message }) => message.id);
    for (const socket of devices) assert.deepEqual(order(socket), order(devices[0]));

    const reasons = devices.map((socket) => { const heardOf = []; socket.on("disconnect", (reason) => heardOf.push(reason)); return heardOf; });
    await cluster.nodes[0].process.stop("SIGTERM", 20_000);
    await until(() => devices.every((socket) => socket.connected));
    await until(async () => {
      await call(cluster.nodes[1], "portal", "treatment-update", { patientId: id, treatment: {} });
      return devices.every((socket) => got(socket, "treatment:update").length > 0);
    }, 20_000);
    for (const reason of reasons.flat()) assert.match(reason, /^transport (close|error)$/);
  });
});
