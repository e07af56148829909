// The server API on three nodes: who hears an emission, what is refused, what a repeat does, typed calls, numbers.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join as path } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { promisify } from "node:util";
import { ALL, ask, call, natsRequest, withApi } from "../lib/api.mjs";
import { startBalancer } from "../lib/balancers.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, join, POLLING, token, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("api.toml", import.meta.url), "utf8");
const TRUNKLINE = process.env.TRUNKLINE_BIN ?? new URL("../../target/debug/trunkline", import.meta.url).pathname;
const ok = (answer) => { assert.equal(answer.status, 200, JSON.stringify(answer.body)); assert.equal(answer.body.ok, true); return answer.body; };

describe("the server API on three nodes", () => {
  const users = new Users();
  let cluster, first, second, third;
  before(async () => {
    cluster = await withApi(await Cluster.start({ config: CONFIG, nodes: 3 }));
    [first, second, third] = cluster.nodes;
  });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const enter = (name, node, options = {}) => users.enter(node.url, name, { ...WEBSOCKET, ...options });
  const emit = (node, body, options) => call(node, "visits", "emit", body, options);
  const chatter = async (name, node, claims = {}) => {
    const socket = users.dial(node.url, { path: "/chat.io/", auth: { token: token(name, claims) }, ...WEBSOCKET });
    await heard(socket, "connect");
    return socket;
  };
  /** Everything that was told before has come once this has: one order per room, and everybody hears it. */
  const settled = async (...sockets) => {
    const mark = randomUUID();
    ok(await emit(first, { to: { everyone: true }, event: "mark", data: mark }));
    await Promise.all(sockets.map((socket) => until(() => got(socket, "mark").includes(mark))));
  };

  it("reaches a user, a room, a role and everyone, on every node and once per socket", async () => {
    const ann = await enter("ann", first);
    const ann2 = await enter("ann", second, POLLING);
    const bob = await enter("bob", third, { ...UPGRADE, claims: { role: "doctor" } });
    await join(bob, "topic:news");
    await join(ann, "topic:news");
    ok(await emit(third, { to: { user: "ann" }, event: "a", data: { n: 1.0 } }));
    ok(await emit(first, { to: { room: "topic:news" }, event: "b", args: [1, "two", null] }));
    ok(await emit(second, { to: { role: "doctor" }, event: "c" }));
    ok(await emit(first, { to: [{ user: "ann" }, { room: "topic:news" }, { everyone: true }], event: "d", data: {} }));
    ok(await emit(first, { to: { everyone: true }, event: "e", except: [ann.id], data: 1 }));
    await settled(ann, ann2, bob);
    const names = (socket) => socket.log.map(([event]) => event).filter((event) => "abcde".includes(event)).sort().join("");
    assert.deepEqual([ann, ann2, bob].map(names), ["abd", "ade", "bcde"]);
    assert.deepEqual(ann.log.find(([event]) => event === "b"), ["b", 1, "two", null]);
    assert.deepEqual(ann.log.find(([event]) => event === "a"), ["a", { n: 1 }]);
  });

  it("goes with a session that moves to another node", async () => {
    const balancer = await startBalancer(cluster.nodes.map((node) => node.addr));
    try {
      const names = Array.from({ length: 9 }, (_, i) => `mover${i}`);
      const claims = { role: "mover" };
      const before = await cluster.metric("trunkline_upgrades_total");
      const sockets = await Promise.all(names.map((name) => users.enter(balancer.url, name, { ...UPGRADE, claims })));
      const early = emit(first, { to: { role: "mover" }, event: "m", data: 0 });
      await Promise.all(sockets.map((socket) => until(() => socket.io.engine.transport.name === "websocket")));
      ok(await early);
      ok(await emit(first, { to: [{ role: "mover" }, { everyone: true }], event: "m", data: 1 }));
      await settled(...sockets);
      for (const socket of sockets) assert.deepEqual(got(socket, "m"), [0, 1]);
      assert.ok((await cluster.metric("trunkline_upgrades_total")) >= before + 9);
      for (const node of cluster.nodes) {
        await until(async () => ok(await ask(node, "visits", "stats")).byRole.mover === 9);
      }
    } finally {
      await balancer.stop();
    }
  });

  it("tells volatile events and binary arguments", async () => {
    const ann = await enter("ann", first);
    await settled(ann);
    ok(await emit(second, { to: { user: "ann" }, event: "v", data: 1, volatile: true }));
    await until(() => got(ann, "v").length === 1);
    const args = [{ pdf: { _placeholder: true, num: 0 } }, { _placeholder: true, num: 1 }];
    const attachments = [Buffer.from("%PDF"), Buffer.from([0, 255])].map((bytes) => bytes.toString("base64"));
    ok(await emit(second, { to: { user: "ann" }, event: "bin", args, attachments }));
    await until(() => got(ann, "bin").length === 1);
    const [, object, bytes] = ann.log.find(([event]) => event === "bin");
    assert.equal(Buffer.from(object.pdf).toString(), "%PDF");
    assert.deepEqual([...Buffer.from(bytes)], [0, 255]);
  });

  it("refuses with a reason, and nothing is delivered", async () => {
    const ann = await enter("ann", first);
    const to = { user: "ann" };
    const cases = [
      [400, "invalid_payload", "to", { event: "x" }],
      [400, "invalid_payload", "to", { to: { user: "ann", room: "topic:x" }, event: "x" }],
      [400, "invalid_payload", "to", { to: [], event: "x" }],
      [400, "invalid_payload", "to.user", { to: { user: "" }, event: "x" }],
      [400, "invalid_payload", "to.user", { to: { user: "u".repeat(600) }, event: "x" }],
      [400, "invalid_payload", "to.room", { to: { room: ".everyone" }, event: "x" }],
      [400, "invalid_payload", "to.room", { to: { room: "r".repeat(3000) }, event: "x" }],
      [400, "invalid_payload", "event", { to }],
      [400, "invalid_payload", "event", { to, event: 7 }],
      [400, "invalid_payload", "event", { to, event: "disconnect" }],
      [400, "invalid_payload", "event", { to, event: "e".repeat(300) }],
      [400, "invalid_payload", "args", { to, event: "x", args: {} }],
      [400, "invalid_payload", "args", { to, event: "x", args: [], data: 1 }],
      [400, "invalid_payload", "args", { to, event: "x", args: [{ _placeholder: true, num: 1 }], attachments: ["AA=="] }],
      [400, "invalid_payload", "attachments", { to, event: "x", args: [], attachments: ["AA=="] }],
      [400, "invalid_payload", "attachments", { to, event: "x", attachments: ["?"] }],
      [400, "invalid_payload", "except", { to, event: "x", except: "s" }],
      [400, "invalid_payload", "volatile", { to, event: "x", volatile: "yes" }],
    ];
    for (const [status, code, field, body] of cases) {
      const answer = await emit(first, body);
      assert.deepEqual([answer.status, answer.body.code, answer.body.field], [status, code, field], JSON.stringify(body).slice(0, 100));
      assert.equal(answer.body.ok, false);
      assert.ok(answer.body.message.length > 5);
    }
    const fine = { to, event: "x" };
    const others = [
      [401, "unauthorized", emit(first, fine, { key: "" })],
      [401, "unauthorized", emit(first, fine, { key: `${ALL}x` })],
      [403, "forbidden", emit(first, fine, { key: "reader-key-0123456789" })],
      [403, "forbidden", call(first, "chat", "emit", fine, { key: "visits-key-0123456789" })],
      [404, "unknown_app", call(first, "nothing", "emit", fine)],
      [404, "unknown_call", call(first, "visits", "no-such-call", {})],
      [405, "method_not_allowed", call(first, "visits", "emit", fine, { method: "PUT" })],
      [405, "method_not_allowed", ask(first, "visits", "emit")],
      [413, "too_large", emit(first, { ...fine, data: "x".repeat(70_000) })],
      [400, "invalid_payload", emit(first, undefined, { raw: "{" })],
      [400, "invalid_payload", emit(first, undefined, { raw: "[1]" })],
      [400, "invalid_payload", emit(first, undefined, { raw: "[".repeat(5000) })],
      [400, "invalid_payload", emit(first, fine, { idempotencyKey: "k".repeat(300) })],
    ];
    for (const [status, code, asked] of others) {
      const answer = await asked;
      assert.deepEqual([answer.status, answer.body.code], [status, code], JSON.stringify(answer.body));
    }
    await settled(ann);
    assert.deepEqual(ann.log.map(([event]) => event), ["connected", "mark"]);
  });

  it("executes a call once however often it is repeated, at whichever node", async () => {
    const ann = await enter("ann", first);
    const idempotencyKey = randomUUID();
    const body = { to: { user: "ann" }, event: "once", data: { a: 1 } };
    const answers = await Promise.all(Array.from({ length: 24 }, (_, i) => emit(cluster.nodes[i % 3], body, { idempotencyKey })));
    for (const answer of answers) ok(answer);
    ok(await emit(second, body, { idempotencyKey }));
    const other = await emit(second, { ...body, data: 2 }, { idempotencyKey });
    assert.deepEqual([other.status, other.body.code], [422, "idempotency_mismatch"]);
    // Somebody else's key is another one.
    ok(await emit(second, body, { idempotencyKey, key: "visits-key-0123456789" }));
    await settled(ann);
    assert.equal(got(ann, "once").length, 2);
  });

  it("serves the same calls as NATS requests, and the command line through them", async () => {
    const ann = await enter("ann", third);
    const [server] = cluster.nats.servers;
    const request = (verb, body) => natsRequest(server, `tl.api.visits.${verb}`, body);
    const keyed = { to: { user: "ann" }, event: "n", data: 1, idempotencyKey: randomUUID() };
    assert.deepEqual(await request("emit", keyed), { ok: true });
    assert.deepEqual(await request("emit", keyed), { ok: true });
    assert.equal((await request("emit", { to: {}, event: "n" })).field, "to");
    assert.equal((await request("emit", "nonsense")).code, "invalid_payload");
    assert.equal((await request("what", {})).code, "unknown_call");
    await until(async () => (await request("stats", {})).totalConnections === 1);
    const file = path(cluster.dir, "emit.toml");
    writeFileSync(file, `[nats]\nservers = ["${server}"]\n[[app]]\nname = "visits"\ntoken = { secret = "x" }\n`);
    const run = (...args) => promisify(execFile)(TRUNKLINE, ["emit", "--config", file, ...args]);
    const { stdout } = await run("--to-user", "ann", "cli", '{"a":[1]}', "plain text");
    assert.deepEqual(JSON.parse(stdout), { ok: true });
    await assert.rejects(run("--to-room", ".everyone", "cli"), /to\.room/);
    await assert.rejects(run("--app", "nobody", "--everyone", "cli"), /no gateway serves/);
    await assert.rejects(run("cli"), /--to-user/);
    await settled(ann);
    assert.equal(got(ann, "n").length, 1);
    assert.deepEqual(ann.log.find(([event]) => event === "cli"), ["cli", { a: [1] }, "plain text"]);
  });

  it("carries out the typed calls of telehealth", async () => {
    const user = randomUUID();
    const ann = await enter(user, first);
    const away = randomUUID();
    ok(await call(second, "visits", "emit-to-user", { userId: user, event: "x", data: { b: 1 } }));
    ok(await call(second, "visits", "maintenance", { message: "noon", at: 12 }));
    ok(await call(second, "visits", "broadcast", { event: "y" }));
    const notification = { title: "Lab", message: "ready" };
    ok(await call(second, "visits", "notify", { userId: user, notification }));
    ok(await call(third, "visits", "emit", { to: { user: away }, event: "notification:new", data: notification }));
    await settled(ann);
    assert.deepEqual(got(ann, "x"), [{ b: 1 }]);
    assert.deepEqual(got(ann, "system:maintenance"), [{ message: "noon", at: 12 }]);
    assert.equal(got(ann, "y").length, 1);
    const [told] = got(ann, "notification:new");
    assert.deepEqual({ title: told.title, message: told.message }, notification);
    assert.equal((await ann.emitWithAck("notification:getUnreadCount")).unreadCount, 1);
    const later = await enter(away, first);
    assert.equal((await later.emitWithAck("notification:getUnreadCount")).unreadCount, 1);
    const wrong = await call(second, "visits", "emit-to-user", { event: "x" });
    assert.deepEqual([wrong.status, wrong.body.field], [400, "userId"]);
  });

  it("finds two users' chat in whichever order they are named", async () => {
    const ann = await enter("ann", first);
    await join(ann, "chat:ann:bob");
    ok(await emit(second, { to: { room: "chat:bob:ann" }, event: "x", data: 1 }));
    ok(await call(second, "visits", "emit-to-room", { roomId: "chat:bob:ann", event: "x", data: 2 }));
    await settled(ann);
    assert.deepEqual(got(ann, "x"), [1, 2]);
  });

  it("carries out the typed calls of messenger: chats, messages, who is in", async () => {
    const chatId = randomUUID();
    const ann = await chatter("ann", first, { chats: [chatId] });
    const bob = await chatter("bob", second);
    const idempotencyKey = randomUUID();
    const message = { senderId: "bot", content: "Welcome" };
    const post = (node) => call(node, "chat", "send-chat-message", { chatId, message }, { idempotencyKey });
    const [posted, again] = await Promise.all([post(first), post(second)]);
    assert.deepEqual(ok(again).posted, ok(posted).posted);
    assert.equal(posted.body.posted[0].message.content, "Welcome");
    assert.equal(ok(await call(third, "chat", "chat-add", { chatId, userIds: ["bob", "nobody"] })).moved[0], 1);
    ok(await call(first, "chat", "send-to-chat", { chatId, event: "chat:renamed", data: { title: "T" } }));
    ok(await call(first, "chat", "chat-remove", { chatId, userId: "bob" }));
    ok(await call(second, "chat", "send-to-chat", { chatId, event: "chat:closed", data: {} }));
    ok(await call(first, "chat", "notify-all", { event: "notice", data: { message: "hi" } }));
    await Promise.all([ann, bob].map((socket) => until(() => got(socket, "notice").length === 1)));
    const names = (socket) => socket.log.map(([event]) => event).filter((event) => /^(chat|message):/.test(event));
    assert.deepEqual(names(ann), ["message:receive", "chat:renamed", "chat:closed"]);
    assert.deepEqual(names(bob), ["chat:renamed"]);
    const wrong = await call(first, "chat", "send-chat-message", { chatId, message: { senderId: "bot", content: "x".repeat(5000) } });
    assert.equal(wrong.body.code, "over_limit");
  });

  it("counts the whole cluster, lists its clients, tells presence", async () => {
    const nodes = cluster.nodes;
    const stats = (node) => ask(node, "chat", "stats").then(ok);
    await until(async () => (await stats(first)).totalConnections === 0);
    for (const [i, name] of ["ann", "ann", "bob", "eve"].entries()) {
      await chatter(name, nodes[i % 3], { role: i === 3 ? "admin" : "user" });
    }
    for (const node of nodes) {
      await until(async () => (await stats(node)).totalConnections === 4);
      const { onlineUsers, byRole } = await stats(node);
      assert.deepEqual([onlineUsers, byRole], [3, { user: 3, admin: 1 }]);
    }
    const page = (query) => ask(second, "chat", "clients", query).then(ok);
    await until(async () => (await page("")).clients.length === 4);
    const head = await page("?limit=3");
    const tail = await page(`?limit=3&after=${head.next}`);
    const clients = [...head.clients, ...tail.clients];
    assert.deepEqual([head.clients.length, tail.clients.length, tail.next], [3, 1, undefined]);
    assert.deepEqual(clients.map((client) => client.userId).sort(), ["ann", "ann", "bob", "eve"]);
    assert.equal(new Set(clients.map((client) => client.node)).size, 3);
    assert.ok(clients.every((client) => client.transport === "websocket" && /Z$/.test(client.connectedAt)));
    const presences = async () => ok(await ask(third, "chat", "presence", "?users=ann,nobody")).presences.map((p) => [p.userId, p.status]);
    await until(async () => (await presences())[0][1] === "online");
    assert.deepEqual(await presences(), [["ann", "online"], ["nobody", "offline"]]);
    const wrong = await ask(first, "chat", "clients", "?limit=0");
    assert.deepEqual([wrong.status, wrong.body.field], [400, "limit"]);
  });

  it("forgets what a node counted that died", async () => {
    const doomed = await cluster.add();
    [, doomed.api] = await doomed.process.line(/^api (\S+)$/);
    const bob = users.dial(doomed.url, { path: "/chat.io/", auth: { token: token("doomed") }, ...WEBSOCKET, reconnection: false });
    await heard(bob, "connect");
    const names = async () => ok(await ask(first, "chat", "clients")).clients.map((client) => client.userId);
    await until(async () => (await names()).includes("doomed"));
    await doomed.process.stop("SIGKILL");
    await until(async () => !(await names()).includes("doomed"), 40_000);
    cluster.nodes.pop();
  });

  it("moves a user between rooms, revokes and restores", async () => {
    const name = randomUUID();
    const ann = await enter(name, first);
    const twin = await enter(name, second);
    assert.deepEqual(ok(await call(third, "visits", "members", { user: name, join: ["topic:vip"] })).moved, [2]);
    ok(await emit(third, { to: { room: "topic:vip" }, event: "vip", data: 1 }));
    ok(await call(third, "visits", "members", { user: name, leave: ["topic:vip"] }));
    ok(await emit(third, { to: { room: "topic:vip" }, event: "vip", data: 2 }));
    await settled(ann, twin);
    assert.deepEqual([got(ann, "vip"), got(twin, "vip")], [[1], [1]]);
    const gone = [ann, twin].map((socket) => heard(socket, "disconnect"));
    ok(await call(third, "visits", "revoke", { user: name }));
    assert.deepEqual((await Promise.all(gone)).map(([why]) => why), ["io server disconnect", "io server disconnect"]);
    const refused = users.dial(second.url, { auth: { token: token(name) }, ...WEBSOCKET });
    const [error] = await heard(refused, "connect_error");
    assert.equal(error.data.code, "revoked_token");
    ok(await call(third, "visits", "restore", { user: name }));
    await until(async () => {
      const socket = users.dial(second.url, { auth: { token: token(name) }, ...WEBSOCKET });
      return Promise.race([heard(socket, "connected").then(() => true), heard(socket, "connect_error").then(() => false)]);
    });
  });

  it("describes itself", async () => {
    const document = await fetch(`http://${first.api}/v1/openapi.json`).then((response) => response.json());
    assert.match(document.openapi, /^3\.1/);
    for (const name of ["visits/emit", "visits/notify", "chat/send-chat-message", "food/message-created", "chat/stats"]) {
      assert.ok(document.paths[`/v1/apps/${name}`], name);
    }
    const nowhere = await fetch(`http://${first.api}/other`);
    assert.deepEqual([nowhere.status, (await nowhere.json()).code], [404, "not_found"]);
  });

  it("serves the applications' own HTTP paths", async () => {
    const get = async (url, headers = {}) => {
      const response = await fetch(`${first.url}${url}`, { headers });
      return { status: response.status, headers: response.headers, text: await response.text() };
    };
    const health = await get("/health", { origin: "https://app.example" });
    assert.deepEqual([health.status, JSON.parse(health.text).status], [200, "ok"]);
    assert.equal(health.headers.get("access-control-allow-origin"), "https://app.example");
    assert.match((await get("/api/docs")).text, /message:send/);
    assert.match((await get("/api/docs", { accept: "text/html" })).headers.get("content-type"), /text\/html/);
    const login = (body) => fetch(`${first.url}/api/v1/auth/login`, { method: "POST", body: JSON.stringify(body) });
    for (const body of [{}, { email: "ann@example.org", password: "wrong" }, { email: 1, password: 2 }]) {
      assert.ok([400, 401].includes((await login(body)).status));
    }
    const granted = await login({ email: "Ann@example.org", password: "correct horse" }).then((response) => response.json());
    const ann = users.dial(second.url, { auth: { token: granted.token }, ...WEBSOCKET });
    assert.equal((await heard(ann, "connected"))[0].userId, 7);
    await join(ann, "visit:v1");
    const statuses = await Promise.all(Array.from({ length: 100 }, () => login({ email: "x", password: "y" }).then((r) => r.status)));
    assert.ok(statuses.includes(429));
  });

  it("tells diet's and clinic's clients how many are connected", async () => {
    const status = async () => (await fetch(`${third.url}/api/socket`)).json();
    const diet = users.dial(first.url, { path: "/api/socketio/", auth: { token: token("7") }, ...WEBSOCKET });
    await heard(diet, "connect");
    const expected = { success: true, socketInitialized: true, connectedSockets: 1, message: "Socket.IO server is running" };
    await until(async () => (await status()).connectedSockets === 1);
    assert.deepEqual(await status(), expected);
    const lab = async (node, user, role) => {
      const socket = users.dial(`${node.url}/events`, { path: "/lab.io/", auth: { token: token(user, { role }) }, ...WEBSOCKET });
      await heard(socket, "connected");
    };
    await lab(first, 1, "Administrador");
    await lab(second, 2, "Paciente");
    await lab(third, 3, "Paciente");
    const stats = async (url, role) => {
      const headers = role ? { authorization: `Bearer ${token(9, { role })}` } : {};
      const response = await fetch(`${second.url}${url}`, { headers });
      return { status: response.status, ...await response.json() };
    };
    await until(async () => (await stats("/health/websocket")).total === 3);
    assert.deepEqual(await stats("/health/websocket"), { status: 200, total: 3, byRole: { Administrador: 1, Paciente: 2 }, clients: [] });
    assert.deepEqual(await stats("/health/websocket", "Paciente").then((s) => s.clients), []);
    const own = "/api/admin/websocket/stats";
    assert.deepEqual([(await stats(own)).status, (await stats(own, "Paciente")).status], [401, 403]);
    await until(async () => (await stats(own, "Administrador")).clients.length === 3);
    const { clients } = await stats(own, "Administrador");
    assert.deepEqual(clients.map((client) => client.userId).sort(), [1, 2, 3]);
    assert.deepEqual(Object.keys(clients[0]).sort(), ["connectedAt", "node", "role", "socketId", "transport", "userId"]);
    const head = await stats(`${own}?limit=2`, "Administrador");
    assert.equal((await stats(`${own}?limit=2&after=${head.next}`, "Administrador")).clients.length, 1);
  });
});

describe("limits of the server API", () => {
  let cluster;
  before(async () => {
    const config = CONFIG.replace("[api]\n", "[api]\nrequests_per_second = 5\n");
    cluster = await withApi(await Cluster.start({ config, nodes: 1, coordinators: 0 }));
  });
  after(() => cluster?.stop());

  it("bounds the calls of one key and says when to come back", async () => {
    const [node] = cluster.nodes;
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask(node, "visits", "stats")));
    const refused = answers.filter((answer) => answer.status === 429);
    assert.ok(refused.length >= 30);
    assert.deepEqual([refused[0].body.code, refused[0].headers.get("retry-after")], ["rate_limited", "1"]);
    assert.equal((await ask(node, "visits", "stats", "", { key: "reader-key-0123456789" })).status, 200);
  });
});
