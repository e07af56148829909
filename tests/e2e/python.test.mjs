// python-socketio and the JavaScript client in one room.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Process } from "../lib/processes.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { CONFIG, got, join, send, token, Users, WEBSOCKET } from "../lib/visits.mjs";

const PYTHON = new URL("../../.tools/bin/python", import.meta.url).pathname;
const CLIENT = new URL("../python/client.py", import.meta.url).pathname;
const COUNT = 20;

describe("python-socketio", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  for (const transports of ["polling", "websocket", "polling,websocket"]) {
    it(`talks to the JavaScript client over ${transports}`, async () => {
      const room = `topic:python ${transports}`;
      const ann = await users.enter(cluster.url, "ann", WEBSOCKET);
      await join(ann, room);
      const python = new Process("python", PYTHON, [CLIENT, cluster.url, token("py"), room, transports, String(COUNT)]);
      const events = (name) => python.lines.map((line) => JSON.parse(line)).filter(([event]) => event === name).map(([, data]) => data);
      await python.line(/^\["joined"/);
      for (let n = 0; n < COUNT; n += 1) await send(ann, `js#${n}`, { roomId: room });
      await until(() => events("acked").length === COUNT && events("message:new").length === COUNT);
      await until(() => got(ann, "message:new").length === COUNT);
      python.child.stdin.end();
      assert.equal(await python.exited, 0, python.log());

      assert.equal(events("connected")[0].userId, "py");
      assert.ok(events("joined")[0].success && events("joined")[0].participants.length === 2);
      assert.equal(events("transport")[0], transports.split(",").at(-1));
      const numbered = (name) => Array.from({ length: COUNT }, (_, n) => `${name}#${n}`);
      assert.deepEqual(events("message:new").map(({ message }) => message), numbered("js"));
      assert.deepEqual(got(ann, "message:new").map(({ message }) => message), numbered("python"));
      assert.deepEqual(events("message:sent").map(({ message }) => message), numbered("python"));
    });
  }
});
