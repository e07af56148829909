// The access log: a line for each session that ends, whatever ended it, and one for each client that is refused.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { call, withApi } from "../lib/api.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Frames, Polling } from "../lib/engine.mjs";
import { Plain } from "../lib/plain.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { join, POLLING, SECRET, send, token, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("observability.toml", import.meta.url), "utf8");
const PATH = "/socket.io/";

/** The lines of a process's access log so far. */
const lines = ({ process }) => process.lines.filter((line) => line.includes('"target":"access"')).map((line) => JSON.parse(line));

/** The first line of a node's access log that has these values, past or coming. */
const line = (node, values, ms = 20_000) => {
  const fits = (one) => Object.entries(values).every(([key, value]) => one[key] === value);
  return until(() => lines(node).find(fits), ms).catch(() => {
    throw new Error(`no ${JSON.stringify(values)} in the access log:\n${lines(node).map((one) => JSON.stringify(one)).join("\n")}`);
  });
};
const ended = (node, values) => line(node, { message: "session closed", ...values });

describe("the access log of two nodes", () => {
  const users = new Users();
  const open = [];
  let cluster, first, second;
  before(async () => {
    cluster = await withApi(await Cluster.start({ config: CONFIG, nodes: 2 }));
    [first, second] = cluster.nodes;
  });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); for (const client of open.splice(0)) client.close(); dumpIfFailed(test, cluster); });

  it("says who left, for how long it was there and what went over the wire", async () => {
    const ann = await users.enter(first.url, "ann-1", { ...WEBSOCKET, claims: { role: "doctor" } });
    await join(ann, "topic:news");
    await send(ann, "hello", { roomId: "topic:news" });
    ann.disconnect();
    const end = await ended(first, { user: "ann-1" });
    const { app, role, peer, transport, sockets, reason, code, moves, level } = end;
    assert.deepEqual({ app, role, peer, transport, sockets, reason, code, moves, level }, {
      app: "visits", role: "doctor", peer: "127.0.0.1", transport: "websocket", sockets: 1, reason: "transport_closed", code: 1001, moves: 0, level: "INFO",
    });
    assert.match(end.known, /^the client closed the WebSocket/);
    assert.ok(end.messages_in >= 3 && end.messages_out >= 3 && end.bytes_in > 100 && end.bytes_out > 100, JSON.stringify(end));
    assert.ok(end.duration_s > 0 && end.duration_s < 60, `${end.duration_s}`);
    const opened = await line(first, { message: "session opened", session: end.session });
    assert.equal(opened.node, end.node);
    assert.ok(!JSON.stringify(lines(first)).includes(token("x").split(".")[0]), "no token");
  });

  it("counts what a polling client sent and got", async () => {
    const bob = await users.enter(first.url, "bob-1", POLLING);
    await join(bob, "topic:news");
    bob.disconnect();
    const end = await ended(first, { user: "bob-1" });
    assert.deepEqual([end.transport, end.reason, end.code], ["polling", "client_close", 1000]);
    assert.ok(end.messages_in >= 2 && end.messages_out >= 2 && end.bytes_in > 50 && end.bytes_out > 50, JSON.stringify(end));
  });

  it("follows a session that moves from node to node", async () => {
    const sid = await Polling.open(first.url, PATH);
    const polled = await sid.post(`40${JSON.stringify({ token: token("eve-1") })}`);
    assert.equal(polled.text, "ok");
    await sid.packets(1);
    const frames = new Frames(second.url, PATH, `&sid=${sid.sid}`);
    open.push({ close: () => frames.ws.terminate() });
    await frames.opened;
    frames.send("2probe");
    assert.equal(await frames.next(), "3probe");
    frames.send("5");
    const moved = await line(second, { message: "session moved here" });
    frames.ws.close(1000);
    const end = await ended(second, { session: moved.session });
    assert.deepEqual([end.user, end.sockets, end.moves, end.transport, end.known], ["eve-1", 1, 1, "websocket", "the client closed the WebSocket with 1000"]);
    const opened = await line(first, { message: "session opened", session: end.session });
    assert.equal(opened.transport, "polling");
    assert.ok(opened.node !== end.node && end.messages_in >= 1, "its account came with it");
  });

  it("says which limit was hit", async () => {
    const large = await users.enter(first.url, "large", { ...WEBSOCKET, reconnection: false });
    large.emit("message:send", { roomId: "topic:news", message: "x".repeat(150_000) });
    const end = await ended(first, { user: "large" });
    assert.deepEqual([end.reason, end.code], ["payload_too_large", 1009]);
    assert.match(end.known, /100000 bytes \(limits.max_payload_bytes\)/);
  });

  it("says that a token was revoked or ran out", async () => {
    const gone = await users.enter(first.url, "gone", { ...WEBSOCKET, reconnection: false });
    const cut = heard(gone, "disconnect", 20_000);
    assert.equal((await call(second, "visits", "revoke", { user: "gone" })).status, 200);
    await cut;
    assert.deepEqual([(await ended(first, { user: "gone" })).reason], ["token_revoked"]);
    const short = sign({ userId: "short", role: "patient" }, SECRET, { ttl_s: 1 });
    users.dial(first.url, { auth: { token: short }, reconnection: false, ...WEBSOCKET });
    const end = await ended(first, { user: "short" });
    assert.equal(end.reason, "token_expired");
    assert.match(end.known, /^exp was \d+$/);
  });

  it("says why a plain client was not let in", async () => {
    const plain = await Plain.open(`${first.url}/plain`, { headers: { authorization: "Bearer nonsense" } });
    open.push(plain);
    await plain.closed;
    const end = await ended(first, { transport: "plain" });
    assert.deepEqual([end.reason, end.code, end.user, end.sockets], ["unauthorized", 4401, undefined, 0]);
    assert.ok(end.known.length > 0);
  });

  it("says why a request got no session", async () => {
    const ask = (query, options) => fetch(`${second.url}${PATH}?${query}`, options);
    const refused = (values) => line(second, { message: "request refused", ...values });
    await ask("EIO=3&transport=polling&token=secret-in-the-query");
    const old = await refused({ reason: "unsupported_version" });
    const { app, peer, status, transport, method, path, known } = old;
    assert.deepEqual({ app, peer, status, transport, method, path, known }, {
      app: "visits", peer: "127.0.0.1", status: 400, transport: "polling", method: "GET", path: PATH, known: "Unsupported protocol version",
    });
    assert.ok(!JSON.stringify(lines(second)).includes("secret-in-the-query"));
    await ask("EIO=4&transport=polling&sid=invented");
    assert.equal((await refused({ reason: "unknown_session" })).status, 400);
    const foreign = new Frames(second.url, PATH, "", { headers: { origin: "https://evil.example" } });
    await assert.rejects(foreign.opened);
    assert.equal((await refused({ reason: "origin" })).origin, "https://evil.example");
    const sessions = await Promise.all(Array.from({ length: 20 }, () => Polling.open(second.url, PATH)));
    assert.equal(sessions.length, 20);
    assert.equal((await ask("EIO=4&transport=polling")).status, 503);
    assert.equal((await refused({ reason: "full" })).known, "Too many sessions (limits.max_sessions)");
    assert.equal(await cluster.metric("trunkline_handshakes_refused_total", [second]), 4);
  });

  it("says that the node drained", async () => {
    const ann = await users.enter(first.url, "ann-2", { ...UPGRADE, reconnection: false });
    await until(() => ann.io.engine.transport.name === "websocket");
    assert.equal(await first.process.stop(), 0);
    const end = await ended(first, { user: "ann-2" });
    assert.deepEqual([end.reason, end.code, end.known], ["server_shutdown", 1001, "the node drains"]);
  });
});

describe("the log's format", () => {
  let cluster;
  after(() => cluster?.stop());

  it("is text for people where the configuration says so", async () => {
    const config = CONFIG.replace('log = "info"', 'log = "warn,access=info"\nlog_format = "text"');
    cluster = await Cluster.start({ config, nodes: 1, coordinators: 0 });
    await Polling.open(cluster.url, PATH);
    const [text] = await cluster.nodes[0].process.line(/^.*session opened.*$/);
    assert.ok(!text.startsWith("{") && text.includes('app="visits"'), text);
    assert.ok(!cluster.nodes[0].process.lines.some((line) => line.includes("metrics and health")), "nothing else at info");
  });
});
