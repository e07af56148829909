// Presence over several devices and nodes: what is seen, who is told, what is refused.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { ask, caughtUp, changes, CONFIG, drop, fresh, presences, QUICK, refused, seen, talk, told } from "../lib/calls.mjs";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { elapse } from "../lib/engine.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, join, POLLING, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe("presence on three nodes", () => {
  const users = new Users();
  const staff = new Users();
  let cluster, postman;
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" });
    postman = await staff.enter(cluster.url, "postman", WEBSOCKET);
  });
  after(() => { staff.leave(); return cluster?.stop(); });
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const enter = (name, node, options = {}) => users.enter(cluster.nodes[node].url, name, { ...WEBSOCKET, ...options });

  /** A user who watches `names`, on the third node. */
  async function watcherOf(names, options) {
    const watcher = await enter(fresh("watcher")[0], 2, options);
    await presences(watcher, names, "presence:subscribe");
    return watcher;
  }

  /** Resolves once the last thing that the watcher was told of `user` is `status`. */
  const toldOf = (watcher, user, status) =>
    until(() => changes(watcher, user).at(-1) === status)
      .catch(() => assert.fail(`not ${status}, but ${changes(watcher, user)}`));

  it("folds devices, choice and calls into one status, told once each", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const watcher = await watcherOf([ann]);
    const first = await enter(ann, 0);
    await toldOf(watcher, ann, "online");
    const second = await enter(ann, 1, POLLING);
    await ask(first, "presence:setStatus", { status: "busy" });
    await toldOf(watcher, ann, "busy");
    for (const device of [first, second]) await told(device, "presence:changed", { userId: ann, status: "busy" });
    const callee = await enter(bob, 2);
    const callId = await talk(second, callee);
    await toldOf(watcher, ann, "in_call");
    await ask(callee, "call:end", { callId });
    await toldOf(watcher, ann, "busy");
    await ask(second, "presence:setStatus", { status: "online" });
    await toldOf(watcher, ann, "online");
    first.disconnect();
    await elapse(1500); // longer than the grace: the other device keeps the user online
    assert.deepEqual(await presences(watcher, [ann]), ["online"]);
    second.disconnect();
    await toldOf(watcher, ann, "offline");
    assert.deepEqual(changes(watcher, ann), ["online", "busy", "in_call", "busy", "online", "offline"]);
    const { presences: [last] } = await ask(watcher, "presence:get", { userIds: [ann] });
    assert.match(last.lastSeen, ISO);
    assert.ok(Math.abs(Date.parse(last.lastSeen) - Date.now()) < 10_000);
    assert.equal(got(watcher, "presence:changed").at(-1).lastSeen, last.lastSeen);
  });

  it("is away when every device is idle, and back with the next event", async () => {
    const [ann] = fresh("ann");
    const watcher = await watcherOf([ann], QUICK);
    const [first, second] = [await enter(ann, 0, QUICK), await enter(ann, 1, QUICK)];
    await toldOf(watcher, ann, "away");
    await join(second, "topic:awake");
    await toldOf(watcher, ann, "online");
    // While one device is busy the user is not away, whatever the other does.
    const until = Date.now() + 2500;
    while (Date.now() < until) {
      await ask(first, "room:join", { roomId: "topic:awake", roomType: "topic" });
      await elapse(250);
    }
    await caughtUp(await enter(fresh("postman")[0], 1, QUICK), watcher);
    assert.deepEqual(changes(watcher, ann).slice(-2), ["away", "online"]);
    await toldOf(watcher, ann, "away");
  });

  for (const [name, options] of Object.entries({ websocket: WEBSOCKET, upgrade: UPGRADE })) {
    it(`of a connection that flaps changes nothing (${name})`, async () => {
      const [ann] = fresh("ann");
      const watcher = await watcherOf([ann]);
      const socket = await users.enter(cluster.url, ann, options);
      await toldOf(watcher, ann, "online");
      for (let i = 0; i < 5; i += 1) {
        await drop(socket);
        await elapse(100 * i);
      }
      await elapse(1500); // longer than the grace
      await caughtUp(postman, watcher);
      assert.deepEqual(changes(watcher, ann), ["online"]);
      assert.deepEqual(await presences(watcher, [ann]), ["online"]);
    });
  }

  it("of 300 users is one answer, in the order and form of the question", async () => {
    const names = fresh(...Array.from({ length: 297 }, (_, i) => `u${i}`));
    const online = names.filter((_, i) => i % 10 === 0);
    await Promise.all(online.map((name, i) => enter(name, i % 3)));
    const asker = await enter(fresh("asker")[0], 1);
    for (const name of online) await seen(asker, name, "online");
    const userIds = [...names, 4_711_001, "4711001", names[0]];
    const { presences: list } = await ask(asker, "presence:get", { userIds });
    assert.deepEqual(list.map(({ userId }) => userId), userIds);
    const expected = userIds.map((id) => (online.includes(id) ? "online" : "offline"));
    assert.deepEqual(list.map(({ status }) => status), expected);
    // Who asked is told of changes.
    await enter(4_711_001, 2);
    await told(asker, "presence:changed", { userId: 4_711_001, status: "online" });
  });

  it("is told to subscribers on any node until they unsubscribe, and to nobody else", async () => {
    const [ann] = fresh("ann");
    const watchers = await Promise.all([0, 1, 2].map((node) => enter(fresh("watcher")[0], node)));
    const [stranger] = [await enter(fresh("stranger")[0], 0)];
    for (const watcher of watchers) assert.deepEqual(await presences(watcher, [ann], "presence:subscribe"), ["offline"]);
    const socket = await enter(ann, 1);
    for (const watcher of watchers) await toldOf(watcher, ann, "online");
    await ask(watchers[0], "presence:unsubscribe", { userIds: [ann] });
    await ask(socket, "presence:setStatus", { status: "away" });
    for (const watcher of watchers.slice(1)) await toldOf(watcher, ann, "away");
    await caughtUp(postman, watchers[0], stranger);
    assert.deepEqual(changes(watchers[0], ann), ["online"]);
    assert.deepEqual(changes(stranger, ann), []);
  });

  it("is told in the rooms one is in, one copy per socket", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [socket, mate] = [await enter(ann, 0), await enter(bob, 1)];
    for (const it of [socket, mate]) for (const room of ["topic:one", "topic:two"]) await join(it, room);
    await presences(mate, [ann], "presence:subscribe");
    await until(async () => {
      // The rooms are written beside the join: a change after they are is told there.
      await ask(socket, "presence:setStatus", { status: "busy" });
      await ask(socket, "presence:setStatus", { status: "online" });
      return changes(mate, ann).length > 0;
    });
    await caughtUp(postman, mate);
    const before = changes(mate, ann).length;
    await ask(socket, "presence:setStatus", { status: "away", customStatus: "lunch" });
    await toldOf(mate, ann, "away");
    await caughtUp(postman, mate);
    assert.equal(changes(mate, ann).length, before + 1);
  });

  it("carries a custom status, which stays over connections", async () => {
    const [ann] = fresh("ann");
    const watcher = await watcherOf([ann]);
    const socket = await enter(ann, 0);
    const ack = await ask(socket, "presence:setStatus", { status: "busy", customStatus: "in surgery 🏥" });
    assert.deepEqual(ack.presence, { userId: ann, status: "busy", customStatus: "in surgery 🏥" });
    await told(watcher, "presence:changed", { userId: ann, status: "busy", customStatus: "in surgery 🏥" });
    await ask(socket, "presence:setStatus", { status: "online" });
    await told(watcher, "presence:changed", { userId: ann, status: "online", customStatus: "in surgery 🏥" });
    await ask(socket, "presence:setStatus", { status: "busy" });
    socket.disconnect();
    await toldOf(watcher, ann, "offline");
    await enter(ann, 1);
    await toldOf(watcher, ann, "busy");
    const again = await enter(ann, 2);
    assert.equal((await ask(again, "presence:setStatus", { status: "online", customStatus: null })).presence.customStatus, undefined);
    assert.equal((await ask(watcher, "presence:get", { userIds: [ann] })).presences[0].customStatus, undefined);
  });

  it("lets one be invisible", async () => {
    const [ann] = fresh("ann");
    const watcher = await watcherOf([ann]);
    const socket = await enter(ann, 0);
    await toldOf(watcher, ann, "online");
    await ask(socket, "presence:setStatus", { status: "offline" });
    await toldOf(watcher, ann, "offline");
    const other = await enter(ann, 1);
    await caughtUp(postman, watcher);
    assert.deepEqual(await presences(watcher, [ann]), ["offline"]);
    await ask(other, "presence:setStatus", { status: "online" });
    await toldOf(watcher, ann, "online");
    assert.deepEqual(changes(watcher, ann), ["online", "offline", "online"]);
  });

  describe("refuses", () => {
    it("what is no status", async () => {
      const socket = await enter(fresh("ann")[0], 0);
      for (const payload of [
        undefined, null, 5, [], {}, { status: "in_call" }, { status: "sleepy" }, { status: null }, { status: 5 },
        { status: "online", customStatus: 5 }, { status: "online", customStatus: {} },
      ]) await refused(socket, "presence:setStatus", payload, "invalid_payload");
      await refused(socket, "presence:setStatus", { status: "online", customStatus: "x".repeat(129) }, "over_limit");
    });

    it("what is no list of users, and too long a one", async () => {
      const socket = await enter(fresh("ann")[0], 0);
      const quick = await enter(fresh("ann")[0], 0, QUICK);
      for (const event of ["presence:get", "presence:subscribe", "presence:unsubscribe"]) {
        for (const payload of [undefined, {}, { userIds: null }, { userIds: "x" }, { userIds: [{}] }, { userIds: [""] }, { userIds: [null] }]) {
          await refused(socket, event, payload, "invalid_payload");
        }
        await refused(quick, event, { userIds: Array.from({ length: 301 }, (_, i) => `u${i}`) }, "over_limit");
      }
      const many = Array.from({ length: 401 }, (_, i) => `somebody-${i}`);
      await refused(socket, "presence:subscribe", { userIds: many }, "over_limit");
      assert.equal((await ask(socket, "presence:get", { userIds: many })).presences.length, 401);
      assert.deepEqual((await ask(socket, "presence:get", { userIds: [] })).presences, []);
    });
  });
});
