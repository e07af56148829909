// Notifications while connections to a replicated NATS break: every one that was confirmed is unread once, and was told once.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { ask } from "../lib/backend.mjs";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, Users, WEBSOCKET } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("./notifications.toml", import.meta.url), "utf8")
  .replace("replicas = 1", "replicas = 3").replace("per_user = 40", "per_user = 500").replace("page_most = 20", "page_most = 200");

const COUNT = 90;

describe("notifications while NATS connections break", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, nats: 3, natsOf: [0, 1, 2], coordinators: 0, faults: true }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  /** Asks again, at any node, until somebody confirms. */
  async function persist(act) {
    for (let attempt = 0; ; attempt += 1) {
      const answer = await act(attempt);
      if (answer) return answer;
      assert.ok(attempt < 200, "never confirmed");
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  function notify(n) {
    const body = { userId: "ann", notification: { title: "t", message: `${n}` } };
    return persist(async (attempt) => {
      const { status, body: answer } = await ask(cluster.nodes[(n + attempt) % 3], "visits", "notify", body, { "idempotency-key": `n-${n}` });
      assert.ok([200, 409, 503].includes(status), `${status} ${JSON.stringify(answer)}`);
      return status === 200;
    });
  }

  const say = (socket, event, payload) => persist(async () => {
    const ack = await socket.timeout(30_000).emitWithAck(event, payload);
    assert.ok(ack.success || ack.code === "unavailable", JSON.stringify(ack));
    return ack.success && ack;
  });

  it("loses none, and none twice", async () => {
    const devices = await Promise.all([0, 1, 2].map((i) => users.enter(cluster.nodes[i].url, "ann", WEBSOCKET)));
    let done = false;
    const weather = (async () => {
      for (let i = 0; !done; i += 1) {
        await cluster.nodes[i % 3].bus.apply("cut");
        await new Promise((resolve) => setTimeout(resolve, 60));
      }
    })();
    for (let n = 0; n < COUNT; n += 30) await Promise.all(Array.from({ length: 30 }, (_, i) => notify(n + i)));
    const half = (await say(devices[0], "notification:list", { limit: 200 })).notifications.slice(0, COUNT / 2);
    await Promise.all(half.map(({ id }, i) => say(devices[i % 3], "notification:read", { notificationId: id })));
    done = true;
    await weather;
    for (const device of devices) {
      assert.equal((await say(device, "notification:getUnreadCount")).unreadCount, COUNT / 2);
      const { notifications } = await say(device, "notification:list", { limit: 200 });
      const rest = new Set(notifications.map(({ message }) => message));
      assert.equal(rest.size, COUNT / 2);
      for (const { message } of half) assert.ok(!rest.has(message));
      await until(() => got(device, "notification:new").length >= COUNT, 20_000);
      assert.equal(new Set(got(device, "notification:new").map(({ message }) => message)).size, COUNT);
      assert.equal(got(device, "notification:new").length, COUNT);
    }
  });
});
