// Bytes that no client sends: nothing crashes, nothing hangs, and others are served meanwhile.

import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, afterEach, before, describe, it } from "node:test";
import { Cluster } from "../lib/cluster.mjs";
import { Frames, Polling } from "../lib/engine.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { CONFIG, join, token, Users, UPGRADE } from "../lib/visits.mjs";

const PATH = "/socket.io/";
const ROUNDS = 200;

/** Bytes that are the same in every run. */
function* noise(seed) {
  let state = seed;
  const byte = () => { state = (Math.imul(state, 1103515245) + 12345) >>> 0; return state >>> 16 & 255; };
  for (;;) yield Buffer.from(Array.from({ length: 1 + byte() }, byte));
}

describe("garbage", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 2, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach(async (test) => {
    const user = await users.enter(cluster.url, "ann", UPGRADE);
    await join(user, "topic:alive");
    users.leave();
    assert.deepEqual(cluster.nodes.map((node) => node.process.ended), [undefined, undefined]);
    dumpIfFailed(test, cluster);
  });

  /** Writes `bytes` to a node's port and resolves with what came back before the connection was closed. */
  function raw(bytes) {
    return new Promise((resolve) => {
      const [host, port] = cluster.nodes[0].addr.split(":");
      const socket = connect(Number(port), host, () => socket.end(bytes));
      let answer = "";
      socket.on("data", (data) => { answer += data; });
      socket.on("error", () => resolve(answer));
      socket.on("close", () => resolve(answer));
    });
  }

  it("on the port", async () => {
    const source = noise(1);
    for (let i = 0; i < ROUNDS; i += 1) await raw(source.next().value);
    await raw(`GET ${PATH}?EIO=4 HTTP/1.1\r\nhost: x\r\nx: ${"x".repeat(300_000)}\r\n\r\n`);
    await raw(`POST ${PATH}?EIO=4&transport=polling&sid=x HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n4`);
    await raw(`GET ${PATH}?EIO=4&transport=polling&sid=${"%".repeat(500)} HTTP/1.1\r\nhost: x\r\n\r\n`);
  });

  it("as bodies", async () => {
    const source = noise(2);
    for (let i = 0; i < ROUNDS; i += 1) {
      const session = await Polling.open(cluster.url, PATH);
      const body = source.next().value;
      const { status } = await session.post(i % 2 ? body : Buffer.concat([Buffer.from("4"), body]));
      assert.ok([200, 400, 413].includes(status), `${status} for ${body.toString("hex")}`);
    }
  });

  it("as frames, before and after the login", async () => {
    const source = noise(3);
    for (let i = 0; i < ROUNDS; i += 1) {
      const frames = await Frames.open(cluster.url, PATH);
      if (i % 4 > 1) {
        frames.send(`40{"token":"${token("ann")}"}`);
        await frames.nextPacket();
      }
      const bytes = source.next().value;
      frames.send(i % 2 ? bytes : `4${bytes.toString("latin1")}`);
      frames.close();
      await frames.closing();
    }
  });

  it("below the frames", async () => {
    const source = noise(4);
    for (let i = 0; i < 40; i += 1) {
      const frames = await Frames.open(cluster.nodes[0].url, PATH);
      frames.ws.on("error", () => {});
      frames.ws._socket.write(source.next().value);
      frames.ws._socket.end();
      await frames.closing();
    }
  });

  it("that is deep or long: nesting, attachment counts, namespaces, ids", async () => {
    for (const packet of [
      `42["message:send",${"[".repeat(100_000)}${"]".repeat(100_000)}]`, `42["message:send",${'{"a":'.repeat(50_000)}1${"}".repeat(50_000)}]`,
      `4599999999999-["x",{"_placeholder":true,"num":0}]`, `451-["x",{"_placeholder":true,"num":99}]`, `40/${"x".repeat(100_000)},`,
      `42${"9".repeat(1000)}["x"]`, `43${"9".repeat(20)}[]`, `42["${"e".repeat(500_000)}"]`, `40${"[".repeat(1000)}`,
    ]) {
      const frames = await Frames.open(cluster.url, PATH);
      frames.send(`40{"token":"${token("ann")}"}`);
      await frames.nextPacket();
      frames.send(packet);
      frames.close();
      await frames.closing();
    }
  });
});
