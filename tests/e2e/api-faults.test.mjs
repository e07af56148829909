// The server API while NATS is out of reach: nothing is lost silently, and a repeat with its key is told once.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { call, natsRequest, withApi } from "../lib/api.mjs";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { elapse } from "../lib/engine.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, Users, WEBSOCKET } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("api.toml", import.meta.url), "utf8").replace("[api]\n", "[api]\ntimeout_ms = 2000\n");

describe("the server API without NATS", () => {
  const users = new Users();
  let cluster;
  before(async () => {
    cluster = await withApi(await Cluster.start({ config: CONFIG, nodes: 2, coordinators: 0, faults: true }));
  });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  it("says that it could not, and a repeat tells it once", async () => {
    const [cut, whole] = cluster.nodes;
    const ann = await users.enter(whole.url, "ann", WEBSOCKET);
    const emit = (node, data, idempotencyKey) => call(node, "visits", "emit", { to: { user: "ann" }, event: "e", data }, { idempotencyKey });
    const keys = Array.from({ length: 8 }, () => randomUUID());
    // Some of these are under way when the connection breaks: whether they were stored is not known.
    const early = keys.map((key, i) => emit(cut, i, key));
    await cut.bus.apply("refuse");
    await cut.bus.apply("cut");
    const first = await Promise.all(early);
    assert.ok(first.every(({ status }) => status === 200 || status === 503), JSON.stringify(first.map((a) => a.body)));
    const late = await emit(cut, 99, "late");
    assert.deepEqual([late.status, late.body.code], [503, "unavailable"]);
    await cut.bus.apply("accept");
    const again = (node, data, key) => until(async () => (await emit(node, data, key)).status === 200, 40_000);
    await Promise.all(keys.map((key, i) => again(whole, i, key)));
    await again(cut, 99, "late");
    await until(() => got(ann, "e").includes(99));
    assert.deepEqual(got(ann, "e").sort((a, b) => a - b), [0, 1, 2, 3, 4, 5, 6, 7, 99]);
  });

  it("tells once what another node takes up, stored or not", async () => {
    const [cut, whole] = cluster.nodes;
    const ann = await users.enter(whole.url, "tom", WEBSOCKET);
    const emit = (node, data, idempotencyKey) => call(node, "visits", "emit", { to: { user: "tom" }, event: "e", data }, { idempotencyKey });
    const keys = Array.from({ length: 40 }, () => randomUUID());
    // Slow and one after the other: when the connection breaks, some are stored and their answers are still on the way.
    await cut.bus.apply("delay 150");
    const early = [];
    for (const [i, key] of keys.entries()) {
      early.push(emit(cut, i, key));
      await elapse(40);
    }
    await cut.bus.apply("refuse");
    await cut.bus.apply("cut");
    const statuses = (await Promise.all(early)).map(({ status }) => status);
    assert.ok(statuses.includes(200) && statuses.includes(503), statuses.join());
    // The first node stays without NATS: the other one takes its calls up once they have run out.
    await Promise.all(keys.map((key, i) => until(async () => (await emit(whole, i, key)).status === 200, 60_000)));
    for (const command of ["delay 0", "accept"]) await cut.bus.apply(command);
    await until(() => got(ann, "e").length >= keys.length);
    assert.deepEqual(got(ann, "e").sort((a, b) => a - b), keys.map((_, i) => i));
  });

  it("loses no call when a node leaves", async () => {
    const leaving = await cluster.add();
    const ann = await users.enter(cluster.nodes[1].url, "eve", WEBSOCKET);
    const [server] = cluster.nats.servers;
    const answers = [];
    let next = 0;
    let over = false;
    const caller = async () => {
      while (!over) {
        const n = next++;
        answers.push(await natsRequest(server, "tl.api.visits.emit", { to: { user: "eve" }, event: "n", data: n }));
      }
    };
    const callers = Array.from({ length: 8 }, caller);
    await until(() => answers.length > 100, 20_000);
    const gone = leaving.process.stop("SIGTERM");
    await gone;
    const then = answers.length;
    await until(() => answers.length > then + 100, 20_000);
    over = true;
    await Promise.all(callers);
    assert.deepEqual(answers.filter((answer) => !answer.ok), []);
    await until(() => got(ann, "n").length >= next);
    assert.deepEqual(got(ann, "n").sort((a, b) => a - b), Array.from({ length: next }, (_, i) => i));
  });
});
