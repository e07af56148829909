// NATS itself restarts, or loses the leader of its streams, while calls ring and go on: nobody is turned offline by it.

import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { ask, caughtUp, changes, CONFIG, fresh, presences, QUICK, ring, signals, talk, theEnd, told } from "../lib/calls.mjs";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { elapse } from "../lib/engine.mjs";
import { leadStreamsFrom } from "../lib/streams.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, Users, WEBSOCKET } from "../lib/visits.mjs";

/** Longer than a lease and a sweep: who were taken for gone would be told gone by then. */
const SURELY_SWEPT_MS = 24_000;
/** The bus is away, elects, comes back. */
const BACK_MS = 30_000;

describe("with a NATS that fails", () => {
  const users = new Users();
  let cluster;
  afterEach(async (test) => {
    users.leave();
    dumpIfFailed(test, cluster);
    await cluster?.stop();
    cluster = undefined;
  });

  const enter = (name, node, options = {}) => users.enter(cluster.nodes[node].url, name, { ...WEBSOCKET, ...options });

  /** Until it is done: a command may time out while NATS is away, and have been done before its answer was lost. */
  const insist = (socket, event, payload, done) => until(async () => {
    const ack = await socket.timeout(8000).emitWithAck(event, payload).catch(() => ({ code: "unavailable" }));
    assert.ok(ack.success || ["unavailable", done].includes(ack.code), JSON.stringify(ack));
    return ack.success || ack.code === done;
  }, BACK_MS);

  /** Until a signal of each is at the other: those sent while the bus is away may be lost. */
  async function talking(one, two, callId) {
    let n = 0;
    const has = (socket) => got(socket, "call:signal").some(({ signal }) => signal.probe > 0 && signal.probe >= n - 10);
    await until(async () => {
      n += 1;
      for (const socket of [one, two]) socket.emit("call:signal", { callId, signal: { probe: n } });
      await elapse(20);
      return n > 12 && has(one) && has(two);
    }, BACK_MS);
    await Promise.all([signals(one, two, callId), signals(two, one, callId)]);
  }

  async function watched(names) {
    const watcher = await enter(fresh("watcher")[0], 2);
    await presences(watcher, names, "presence:subscribe");
    return watcher;
  }

  async function nobodyWentOffline(watcher, names) {
    const postman = await enter(fresh("postman")[0], 0);
    await caughtUp(postman, watcher);
    for (const name of names) assert.ok(!changes(watcher, name).includes("offline"), `${name}: ${changes(watcher, name)}`);
    assert.ok((await presences(watcher, names)).every((status) => status !== "offline"));
  }

  it("a single server restarts: what rang is answered or missed, what went on goes on, nobody is offline", async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" });
    const names = fresh("ann", "bob", "cat", "dan", ...Array.from({ length: 20 }, (_, i) => `u${i}`));
    const [ann, bob, cat, dan, ...rest] = names;
    const watcher = await watched(names);
    await Promise.all(rest.map((name, i) => enter(name, i % 3)));
    const [caller, callee, other] = [await enter(ann, 0), await enter(bob, 1), await enter(bob, 2)];
    const live = [await enter(cat, 0), await enter(dan, 1)];
    const [quickCaller, quickCallee] = [await enter(cat, 0, QUICK), await enter(dan, 1, QUICK)];
    for (const name of names) await told(watcher, "presence:changed", { userId: name, status: "online" });
    const inCall = await talk(...live);
    const { callId } = await ring(caller, bob, [callee, other]);
    const short = (await ring(quickCaller, dan, [quickCallee])).callId;

    await cluster.nats.restart();
    const restartedAt = Date.now();

    await insist(callee, "call:accept", { callId }, "already_answered");
    await told(caller, "call:accepted", { callId }, BACK_MS);
    await told(other, "call:ended", { callId, reason: "answered_elsewhere" }, BACK_MS);
    await talking(caller, callee, callId);
    await talking(...live, inCall);
    for (const socket of [quickCaller, quickCallee]) {
      assert.equal((await told(socket, "call:ended", { callId: short }, BACK_MS)).reason, "missed");
      theEnd(socket, short);
    }
    await elapse(Math.max(0, restartedAt + SURELY_SWEPT_MS - Date.now()));
    await nobodyWentOffline(watcher, names);
    for (const [one, two, id] of [[caller, callee, callId], [...live, inCall]]) {
      await ask(one, "call:end", { callId: id });
      await told(two, "call:ended", { callId: id });
      theEnd(one, id);
    }
    await talk(callee, caller);
  });

  it("three servers lose the leader of all streams: calls go on, new ones are made, nobody is offline", async () => {
    cluster = await Cluster.start({ config: CONFIG.replace("replicas = 1", "replicas = 3"), nodes: 3, nats: 3, balancer: "testkit" });
    const names = fresh("ann", "bob", "cat", "dan", ...Array.from({ length: 10 }, (_, i) => `u${i}`));
    const [ann, bob, cat, dan, ...rest] = names;
    const watcher = await watched(names);
    await Promise.all(rest.map((name, i) => enter(name, i % 3)));
    const [caller, callee, other] = [await enter(ann, 0), await enter(bob, 1), await enter(bob, 2)];
    const live = [await enter(cat, 0), await enter(dan, 1)];
    for (const name of names) await told(watcher, "presence:changed", { userId: name, status: "online" });
    assert.ok((await leadStreamsFrom(cluster.nats, "n1")).length > 0);
    const inCall = await talk(...live);
    const { callId } = await ring(caller, bob, [callee, other]);

    const leader = cluster.nats.members[1];
    await leader.process.stop("SIGKILL");
    const killedAt = Date.now();

    await insist(callee, "call:accept", { callId }, "already_answered");
    await told(caller, "call:accepted", { callId }, BACK_MS);
    await talking(caller, callee, callId);
    await talking(...live, inCall);
    const [eve, fay] = [await enter(fresh("eve")[0], 0), await enter(fresh("fay")[0], 1)];
    await ask(eve, "call:end", { callId: await talk(eve, fay) });

    cluster.nats.launch(leader);
    await cluster.nats.ready(leader);
    await elapse(Math.max(0, killedAt + SURELY_SWEPT_MS - Date.now()));
    await nobodyWentOffline(watcher, names);
    for (const [one, two, id] of [[caller, callee, callId], [...live, inCall]]) {
      await ask(one, "call:end", { callId: id });
      await told(two, "call:ended", { callId: id });
      theEnd(one, id);
    }
  });
});
