// Applications whose clients use the msgpack parser: the published one in JavaScript and python-socketio's, over every transport and
// across nodes; a plain WebSocket beside them; clients that are set to another parser.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import parser from "socket.io-msgpack-parser";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Plain } from "../lib/plain.mjs";
import { Process } from "../lib/processes.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, join, POLLING, send, token, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("msgpack.toml", import.meta.url), "utf8");
const PYTHON = new URL("../../.tools/bin/python", import.meta.url).pathname;
const CLIENT = new URL("../python/client.py", import.meta.url).pathname;
const KEY = "key-of-the-back-office-0123456789abcdef";
const COUNT = 20;

describe("the msgpack parser", () => {
  const users = new Users();
  const plains = [];
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" });
    for (const node of cluster.nodes) [, node.api] = await node.process.line(/^api (\S+)$/);
  });
  after(() => cluster?.stop());
  afterEach((test) => {
    users.leave();
    for (const plain of plains.splice(0)) plain.close();
    dumpIfFailed(test, cluster);
  });

  for (const [name, transports] of Object.entries({ polling: POLLING, websocket: WEBSOCKET, "an upgrade": UPGRADE })) {
    it(`carries events and acks over ${name}, each request to another node`, async () => {
      const room = `topic:${name}`;
      const ann = await users.enter(cluster.url, "ann", { ...transports, parser });
      const bob = await users.enter(cluster.url, "bob", { ...WEBSOCKET, parser });
      await join(ann, room);
      await join(bob, room);
      const metadata = { n: [0, -1, 255, 65536, -2147483649, 2 ** 53 - 1, 0.5], text: "é\u0000\u{1f600}", none: null, deep: { yes: true, list: [[]] } };
      for (let n = 0; n < COUNT; n += 1) await send(ann, `#${n}`, { roomId: room, metadata });
      await until(() => got(bob, "message:new").length === COUNT);
      assert.deepEqual(got(bob, "message:new").map(({ message }) => message), Array.from({ length: COUNT }, (_, n) => `#${n}`));
      assert.deepEqual(got(bob, "message:new")[0].metadata, metadata);
      assert.equal(got(ann, "message:sent").length, COUNT);
    });
  }

  it("refuses in its own words: a bad token, an unknown namespace, wrong payloads", async () => {
    const stranger = users.dial(cluster.url, { ...WEBSOCKET, parser, auth: { token: "bad" } });
    const [refused] = await heard(stranger, "connect_error");
    assert.ok(refused.message.length > 0 && refused.message !== "timeout");
    const [nowhere] = await heard(users.dial(`${cluster.url}/nowhere`, { ...WEBSOCKET, parser, auth: { token: token("a") } }), "connect_error");
    assert.equal(nowhere.message, "Invalid namespace");
    const ann = await users.enter(cluster.url, "ann", { ...WEBSOCKET, parser });
    for (const payload of [{}, { roomId: new Date() }, { roomId: Buffer.from("x") }, { roomId: undefined }]) {
      const ack = await ann.timeout(30_000).emitWithAck("room:join", payload);
      assert.equal(ack.success, false, JSON.stringify(ack));
    }
    assert.ok(ann.connected);
  });

  it("closes a client with another parser at its first packet, and what is no packet", async () => {
    const json = users.dial(cluster.url, { ...WEBSOCKET, auth: { token: token("ann") }, reconnection: false });
    json.connect();
    await until(() => json.io.engine.readyState === "closed");
    assert.equal(json.connected, false);
    const ann = await users.enter(cluster.url, "ann", { ...WEBSOCKET, parser, reconnection: false });
    for (const packet of [{ type: 9, nsp: "/" }, { type: 2, nsp: "/", data: ["connect"] }, { type: 2, nsp: "/", data: "x" }, { type: 2, nsp: "/other", data: ["x"] }]) {
      const bad = await users.enter(cluster.url, "bad", { ...WEBSOCKET, parser, reconnection: false });
      bad.io.engine.write(new parser.Encoder().encode(packet)[0]);
      assert.equal((await heard(bad, "disconnect"))[0], "transport close", JSON.stringify(packet));
    }
    assert.ok(ann.connected);
  });

  it("carries a PDF inside the packet, and behind its header to a plain WebSocket", async () => {
    const options = { auth: { token: token(71, { role: "Medico" }) }, path: "/lab/", parser, forceNew: true };
    const doctor = users.dial(`${cluster.nodes[1].url}/events`, { ...options, ...WEBSOCKET });
    const slow = users.dial(`${cluster.nodes[0].url}/events`, { ...options, ...POLLING });
    await Promise.all([heard(doctor, "connected"), heard(slow, "connected")]);
    const plain = await Plain.open(`${cluster.nodes[2].url}/lab-events`, { headers: { authorization: `Bearer ${token(71, { role: "Medico" })}` } });
    plains.push(plain);
    await plain.event("connected");
    const pdf = Buffer.concat([Buffer.from("%PDF-1.7"), randomBytes(100_000)]);
    const body = { resultId: 1, patientId: 71, examName: "x", status: "delivered", pdf: pdf.toString("base64") };
    const answer = await fetch(`http://${cluster.nodes[2].api}/v1/apps/lab/result-update`, {
      method: "POST", body: JSON.stringify(body), headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    });
    assert.equal(answer.status, 200, await answer.text());
    for (const client of [doctor, slow]) {
      await until(() => got(client, "result:update").length === 1);
      assert.deepEqual(Buffer.from(got(client, "result:update")[0].pdf), pdf);
    }
    assert.deepEqual((await plain.eventWithBinary("result:update")).pdf, pdf);
  });

  for (const transports of ["polling", "websocket", "polling,websocket"]) {
    it(`is python-socketio's too, over ${transports}`, async () => {
      const room = `topic:python ${transports}`;
      const ann = await users.enter(cluster.url, "ann", { ...WEBSOCKET, parser });
      await join(ann, room);
      const python = new Process("python", PYTHON, [CLIENT, cluster.url, token("py"), room, transports, String(COUNT), "msgpack"]);
      const events = (name) => python.lines.map((line) => JSON.parse(line)).filter(([event]) => event === name).map(([, data]) => data);
      await python.line(/^\["joined"/);
      for (let n = 0; n < COUNT; n += 1) await send(ann, `js#${n}`, { roomId: room });
      await until(() => events("acked").length === COUNT && events("message:new").length === COUNT);
      await until(() => got(ann, "message:new").length === COUNT);
      python.child.stdin.end();
      assert.equal(await python.exited, 0, python.log());
      const numbered = (name) => Array.from({ length: COUNT }, (_, n) => `${name}#${n}`);
      assert.deepEqual(events("message:new").map(({ message }) => message), numbered("js"));
      assert.deepEqual(got(ann, "message:new").map(({ message }) => message), numbered("python"));
    });
  }
});
