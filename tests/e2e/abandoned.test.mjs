// Clients that vanish: their sessions end, and the memory they took is used again.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Frames, Polling } from "../lib/engine.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";

/** Sessions end soon, and not before a busy machine has opened a WebSocket for each. */
const CONFIG = readFileSync(new URL("../conformance/engineio.toml", import.meta.url), "utf8")
  .replace(/^ping_timeout_ms = .*$/m, "ping_timeout_ms = 1700");
const PATH = "/engine.io/";
const WAVE = 400;
/** Growth from the second wave on: an allocator may keep a little, a leak of sessions would be far more. */
const SLACK_KIB = 4096;

describe("sessions that are abandoned", () => {
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 2, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => dumpIfFailed(test, cluster));

  const sessions = () => cluster.metric("trunkline_sessions");
  const memoryKib = () => cluster.nodes.reduce((sum, node) => sum + rssKib(node.process.pid), 0);

  async function abandon() {
    const opened = [];
    for (let i = 0; i < WAVE; i += 50) {
      opened.push(...await Promise.all(Array.from({ length: 50 }, () => Polling.open(cluster.url, PATH))));
    }
    await until(async () => (await sessions()) === 0);
    return opened;
  }

  it("end at their deadline and leave no memory behind", async () => {
    await abandon();
    await abandon();
    const early = memoryKib();
    for (let wave = 0; wave < 4; wave += 1) await abandon();
    const growth = memoryKib() - early;
    assert.ok(growth < SLACK_KIB, `${growth} KiB more after ${4 * WAVE} sessions`);
  });

  it("also with half an upgrade and with messages waiting", async () => {
    const opened = await Promise.all(Array.from({ length: 50 }, () => Polling.open(cluster.url, PATH)));
    await Promise.all(opened.map(async (session, i) => {
      await session.post("4never fetched");
      if (i % 2) return;
      const frames = new Frames(cluster.url, PATH, `&sid=${session.sid}`);
      await frames.opened;
      frames.send("2probe");
      await frames.next();
      frames.ws.terminate();
    }));
    await until(async () => (await sessions()) === 0);
    assert.equal((await opened[0].poll()).status, 400);
  });
});

function rssKib(pid) {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))[1]);
}
