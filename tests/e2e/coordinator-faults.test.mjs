// Coordinators and gateways that are killed while calls ring, go on and are answered: one truth, no ghosts.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { ask, caughtUp, changes, CONFIG, fresh, presences, QUICK, ring, signals, talk, theEnd, told } from "../lib/calls.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { elapse } from "../lib/engine.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, Users, WEBSOCKET } from "../lib/visits.mjs";

/** A lease, the look of a sweep, the turns of two replicas, and time for slow machines. */
const SWEPT_MS = 40_000;

const say = (socket, event, payload) => socket.timeout(30_000).emitWithAck(event, payload);

describe("coordinators that are killed", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const onNodes = (names, options = {}) =>
    Promise.all(names.map((name, i) => users.enter(cluster.nodes[i % 3].url, name, { ...WEBSOCKET, ...options })));
  const alive = () => cluster.coordinators.filter(({ process }) => !process.ended);
  const kill = (coordinator) => coordinator.process.stop("SIGKILL");

  it("one after the other, at every step of a call, are not missed", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [caller, callee, other] = await onNodes([ann, bob, bob]);
    const { callId } = await ring(caller, bob, [callee, other]);
    await kill(alive()[0]);
    await ask(callee, "call:accept", { callId });
    await told(caller, "call:accepted", { callId });
    await told(other, "call:ended", { callId, reason: "answered_elsewhere" });
    const second = alive()[0];
    await cluster.addCoordinator();
    await kill(second);
    await Promise.all([signals(caller, callee, callId), signals(callee, caller, callId)]);
    await ask(caller, "call:end", { callId });
    for (const socket of [caller, callee]) await told(socket, "call:ended", { callId });
    theEnd(caller, callId);
    theEnd(callee, callId);
    await cluster.addCoordinator();
  });

  it("while two devices answer: one of them wins, every time", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [caller, ...devices] = await onNodes([ann, bob, bob]);
    for (let round = 0; round < 8; round += 1) {
      const { callId } = await ring(caller, bob, devices);
      const answers = devices.map((socket) => say(socket, "call:accept", { callId }));
      if (round % 2 === 1) await elapse(round / 2);
      await kill(alive()[round % 2]);
      const acks = await Promise.all(answers);
      assert.deepEqual(acks.map(({ success, code }) => (success ? "ok" : code)).sort(), ["already_answered", "ok"], JSON.stringify(acks));
      const [winner, loser] = acks[0].success ? devices : [...devices].reverse();
      await told(loser, "call:ended", { callId, reason: "answered_elsewhere" });
      await signals(winner, caller, callId, 3);
      await ask(winner, "call:end", { callId });
      await told(caller, "call:ended", { callId });
      assert.equal(got(caller, "call:accepted").filter((data) => data.callId === callId).length, 1);
      theEnd(caller, callId);
      await cluster.addCoordinator();
    }
  });

  it("all of them, and come back after the ring: the call is missed then", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [caller, callee] = await onNodes([ann, bob], QUICK);
    const { callId } = await ring(caller, bob, [callee]);
    await Promise.all(alive().map(kill));
    await elapse(2000); // longer than it rings
    assert.equal(got(caller, "call:ended").length, 0, "there is nobody to end it");
    const late = say(callee, "call:accept", { callId });
    await Promise.all([cluster.addCoordinator(), cluster.addCoordinator()]);
    assert.equal((await late).code, "call_over");
    for (const socket of [caller, callee]) {
      assert.equal((await told(socket, "call:ended", { callId })).reason, "missed");
      theEnd(socket, callId);
    }
    await talk(callee, caller);
  });

  it("all of them, in a call: signals go on, and what is asked is done when they are back", async () => {
    const [caller, callee] = await onNodes(fresh("ann", "bob"));
    const callId = await talk(caller, callee);
    await signals(caller, callee, callId);
    await Promise.all(alive().map(kill));
    await Promise.all([signals(caller, callee, callId), signals(callee, caller, callId)]);
    const end = ask(callee, "call:end", { callId });
    await Promise.all([cluster.addCoordinator(), cluster.addCoordinator()]);
    await end;
    await told(caller, "call:ended", { callId });
    theEnd(caller, callId);
  });

  it("leave presence true: what changes meanwhile is seen afterwards", async () => {
    const [ann, bob, eve] = fresh("ann", "bob", "eve");
    const [socket, watcher] = await onNodes([ann, eve]);
    await presences(watcher, [ann, bob], "presence:subscribe");
    await Promise.all(alive().map(kill));
    const came = await users.enter(cluster.nodes[2].url, bob, WEBSOCKET);
    socket.disconnect();
    await Promise.all([cluster.addCoordinator(), cluster.addCoordinator()]);
    await told(watcher, "presence:changed", { userId: bob, status: "online" });
    await told(watcher, "presence:changed", { userId: ann, status: "offline" });
    assert.deepEqual([changes(watcher, bob), changes(watcher, ann).at(-1)], [["online"], "offline"]);
    assert.ok(came.connected);
  });
});

describe("gateways that are killed", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 5, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  /** Clients that do not come back by themselves: where they come back to is the test's business. */
  const enter = (name, node) => users.enter(cluster.nodes[node].url, name, { ...WEBSOCKET, reconnection: false });
  const kill = (node) => cluster.nodes[node].process.stop("SIGKILL");

  it("while two devices answer: the call is answered once, and the user can go on with the device that is left", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [caller, doomed, device] = [await enter(ann, 0), await enter(bob, 4), await enter(bob, 1)];
    const { callId } = await ring(caller, bob, [doomed, device]);
    const lost = say(doomed, "call:accept", { callId }).catch(() => "no answer");
    const answer = say(device, "call:accept", { callId });
    await kill(4);
    const { success, code } = await answer;
    if (!success) {
      assert.equal(code, "already_answered");
      assert.equal((await ask(device, "call:rejoin", { callId })).success, true);
    }
    await Promise.all([signals(caller, device, callId), signals(device, caller, callId)]);
    assert.equal(got(caller, "call:accepted").length, 1);
    await ask(device, "call:end", { callId });
    await told(caller, "call:ended", { callId });
    await lost;
  });

  it("take their users offline once, and nobody else; their calls are rejoined or end", async () => {
    const only = fresh(...Array.from({ length: 30 }, (_, i) => `only-${i}`));
    const both = fresh(...Array.from({ length: 10 }, (_, i) => `both-${i}`));
    const [watch, ann, bob, cat, dan, eve, fay, gil, hal] = fresh("watch", "ann", "bob", "cat", "dan", "eve", "fay", "gil", "hal");
    const watcher = await enter(watch, 0);
    await presences(watcher, [...only, ...both], "presence:subscribe");
    await Promise.all([...only.map((name) => enter(name, 3)), ...both.map((name) => enter(name, 3)), ...both.map((name, i) => enter(name, i % 3))]);
    for (const name of [...only, ...both]) await told(watcher, "presence:changed", { userId: name, status: "online" });

    // Four calls with one side on the node: back in time, never back, ringing from it, ringing to it.
    const [backs, stays] = [await enter(ann, 3), await enter(bob, 1)];
    const rejoined = await talk(backs, stays);
    const [goes, left] = [await enter(cat, 3), await enter(dan, 2)];
    const abandoned = await talk(goes, left);
    const [calls, called] = [await enter(eve, 3), await enter(fay, 1)];
    const outgoing = (await ring(calls, fay, [called])).callId;
    const [calling, asked] = [await enter(gil, 2), await enter(hal, 3)];
    const incoming = (await ring(calling, hal, [asked])).callId;

    const killedAt = Date.now();
    await kill(3);

    const again = await enter(ann, 0);
    await told(again, "call:active", { callId: rejoined });
    await ask(again, "call:rejoin", { callId: rejoined });
    await Promise.all([signals(again, stays, rejoined), signals(stays, again, rejoined)]);

    const caller = await enter(eve, 2);
    await ask(called, "call:accept", { callId: outgoing });
    await told(caller, "call:accepted", { callId: outgoing });
    await ask(caller, "call:rejoin", { callId: outgoing });
    await Promise.all([signals(caller, called, outgoing), signals(called, caller, outgoing)]);

    const callee = await enter(hal, 1);
    await told(callee, "call:incoming", { callId: incoming });
    await ask(callee, "call:accept", { callId: incoming });
    await signals(callee, calling, incoming);

    for (const name of only) await told(watcher, "presence:changed", { userId: name, status: "offline" }, SWEPT_MS);
    const took = Date.now() - killedAt;
    assert.equal((await told(left, "call:ended", { callId: abandoned }, SWEPT_MS)).reason, "connection_lost");
    const postman = await enter(fresh("postman")[0], 2);
    await caughtUp(postman, watcher);
    for (const name of only) assert.deepEqual(changes(watcher, name), ["online", "offline"]);
    for (const name of both) assert.deepEqual(changes(watcher, name), ["online"], "another device is elsewhere");
    assert.ok(new Set(await presences(watcher, both)).has("online"));
    const { presences: [{ lastSeen }] } = await ask(watcher, "presence:get", { userIds: [only[0]] });
    assert.ok(Date.parse(lastSeen) < killedAt + took - 3000, "last seen when the node was, not when it was found dead");

    // The calls that were rejoined went on over the sweep.
    for (const [one, two, callId] of [[again, stays, rejoined], [caller, called, outgoing], [callee, calling, incoming]]) {
      await Promise.all([signals(one, two, callId, 3), signals(two, one, callId, 3)]);
      await ask(two, "call:end", { callId });
      await told(one, "call:ended", { callId });
      theEnd(two, callId);
    }
  });

  it("behind a balancer: its clients come back elsewhere and rejoin by themselves", async () => {
    const names = fresh("ann", "bob", "cat", "dan", "eve", "fay");
    const sockets = await Promise.all(names.map((name) => users.enter(cluster.url, name, WEBSOCKET)));
    const pairs = [0, 2, 4].map((i) => [sockets[i], sockets[i + 1]]);
    const ids = await Promise.all(pairs.map(([caller, callee]) => talk(caller, callee)));
    for (const socket of sockets) socket.on("call:active", ({ callId }) => socket.emit("call:rejoin", { callId }));
    const before = sockets.map(({ id }) => id);
    const gone = Promise.race(sockets.map((socket) => heard(socket, "disconnect")));
    await kill(2);
    await gone;
    await until(() => sockets.every((socket) => socket.connected));
    assert.ok(sockets.some(({ id }, i) => id !== before[i]), "somebody was there");
    for (const [i, [caller, callee]] of pairs.entries()) {
      let n = 0;
      await until(() => {
        n += 1;
        caller.emit("call:signal", { callId: ids[i], signal: { n } }, () => {});
        callee.emit("call:signal", { callId: ids[i], signal: { n } }, () => {});
        return [caller, callee].every((socket) => got(socket, "call:signal").some(({ signal }) => signal.n === n - 1));
      }, 15_000);
      await ask(caller, "call:end", { callId: ids[i] });
      await told(callee, "call:ended", { callId: ids[i] });
    }
  });
});
