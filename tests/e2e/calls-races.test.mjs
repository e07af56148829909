// Commands that meet: many rounds of each, and every round has one outcome that everybody agrees on.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { ask, caughtUp, CONFIG, fresh, QUICK, ring, signals, story, theEnd, told } from "../lib/calls.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { elapse } from "../lib/engine.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

/** Groups of users that race beside each other, and rounds of each. */
const GROUPS = 5;
const ROUNDS = 10;

describe("races", () => {
  const users = new Users();
  const staff = new Users();
  let cluster, postman;
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" });
    postman = await staff.enter(cluster.url, "postman", WEBSOCKET);
  });
  after(() => { staff.leave(); return cluster?.stop(); });
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  /** `race(sockets, names, round)` for every round of every group; its sockets are on nodes of their own. */
  async function inGroups(names, race, options = WEBSOCKET) {
    await Promise.all(Array.from({ length: GROUPS }, async (_, group) => {
      const own = fresh(...new Set(names));
      const nameOf = (name) => own[[...new Set(names)].indexOf(name)];
      const sockets = await Promise.all(
        names.map((name, i) => users.enter(cluster.nodes[(i + group) % 3].url, nameOf(name), options)),
      );
      for (let round = 0; round < ROUNDS; round += 1) await race(sockets, round);
    }));
  }

  const say = (socket, event, payload) => socket.timeout(30_000).emitWithAck(event, payload);
  const codes = (acks) => acks.map(({ success, code }) => (success ? "ok" : code)).sort();

  it("of two devices that answer: one wins, every time", async () => {
    await inGroups(["ann", "bob", "bob"], async ([caller, ...devices]) => {
      const { callId } = await ring(caller, devices[0].welcome.userId, devices);
      const acks = await Promise.all(devices.map((socket) => say(socket, "call:accept", { callId })));
      assert.deepEqual(codes(acks), ["already_answered", "ok"]);
      const [winner, loser] = acks[0].success ? devices : [...devices].reverse();
      assert.equal((await told(loser, "call:ended", { callId })).reason, "answered_elsewhere");
      await told(caller, "call:accepted", { callId });
      await signals(caller, winner, callId, 2);
      await ask(caller, "call:end", { callId });
      await told(winner, "call:ended", { callId });
      assert.equal(got(caller, "call:accepted").filter((data) => data.callId === callId).length, 1);
      assert.equal(theEnd(winner, callId).reason, undefined);
    });
  });

  it("of two who call each other: one call, and both are in it", async () => {
    await inGroups(["ann", "bob"], async ([ann, bob]) => {
      const initiate = (from, to) => ask(from, "call:initiate", { recipientId: to.welcome.userId, callType: "video" });
      const [a, b] = await Promise.all([initiate(ann, bob), initiate(bob, ann)]);
      assert.equal(a.callId, b.callId);
      const { callId } = a;
      assert.ok([a, b].some(({ status }) => status === "accepted"));
      for (const socket of [ann, bob]) await told(socket, "call:accepted", { callId });
      await Promise.all([signals(ann, bob, callId, 2), signals(bob, ann, callId, 2)]);
      await ask(ann, "call:end", { callId });
      for (const socket of [ann, bob]) await told(socket, "call:ended", { callId });
      for (const socket of [ann, bob]) theEnd(socket, callId);
    });
  });

  it("of an answer and a rejection: one of them counts", async () => {
    await inGroups(["ann", "bob", "bob"], async ([caller, yes, no]) => {
      const { callId } = await ring(caller, yes.welcome.userId, [yes, no]);
      const [accept, reject] = await Promise.all([say(yes, "call:accept", { callId }), say(no, "call:reject", { callId })]);
      assert.notEqual(accept.success, reject.success, JSON.stringify([accept, reject]));
      if (accept.success) {
        await told(caller, "call:accepted", { callId });
        await signals(caller, yes, callId, 1);
        await ask(yes, "call:end", { callId });
      } else assert.equal(accept.code, "call_over");
      await told(caller, "call:ended", { callId });
      await told(yes, "call:ended", { callId });
      theEnd(caller, callId);
      assert.equal(story(caller, callId).includes("call:accepted"), accept.success);
      assert.equal(story(caller, callId).includes("call:rejected"), reject.success);
    });
  });

  it("of an answer and a cancellation: the call is over, and both sides know how", async () => {
    await inGroups(["ann", "bob"], async ([caller, callee]) => {
      const { callId } = await ring(caller, callee.welcome.userId, [callee]);
      const [accept, end] = await Promise.all([say(callee, "call:accept", { callId }), ask(caller, "call:end", { callId })]);
      assert.equal(end.success, true);
      if (!accept.success) assert.equal(accept.code, "call_over");
      const reason = accept.success ? undefined : "cancelled";
      for (const socket of [caller, callee]) {
        assert.equal((await told(socket, "call:ended", { callId })).reason, reason);
        theEnd(socket, callId);
      }
    });
  });

  it("of both who hang up: the call ends once", async () => {
    await inGroups(["ann", "bob"], async ([caller, callee]) => {
      const { callId } = await ring(caller, callee.welcome.userId, [callee]);
      await ask(callee, "call:accept", { callId });
      const acks = await Promise.all([caller, callee].map((socket) => say(socket, "call:end", { callId })));
      assert.deepEqual(codes(acks), ["call_over", "ok"]);
      for (const socket of [caller, callee]) await told(socket, "call:ended", { callId });
      await caughtUp(postman, caller, callee);
      for (const socket of [caller, callee]) theEnd(socket, callId);
    });
  });

  it("of an answer and the end of the ring: either, and never both", async () => {
    const outcomes = new Set();
    await Promise.all(Array.from({ length: 30 }, async (_, i) => {
      const [ann, bob] = fresh("ann", "bob");
      const enter = (name, node) => users.enter(cluster.nodes[node % 3].url, name, { ...WEBSOCKET, ...QUICK });
      const [caller, callee] = [await enter(ann, i), await enter(bob, i + 1)];
      const { callId } = await ring(caller, bob, [callee]);
      await elapse(600 + 40 * i); // it rings 1.5 s
      const { success, code } = await say(callee, "call:accept", { callId });
      outcomes.add(success);
      if (success) {
        await told(caller, "call:accepted", { callId });
        await ask(caller, "call:end", { callId });
      } else assert.equal(code, "call_over");
      for (const socket of [caller, callee]) {
        const { reason } = await told(socket, "call:ended", { callId });
        assert.equal(reason, success ? undefined : "missed");
        theEnd(socket, callId);
        assert.equal(story(socket, callId).includes("call:missed"), !success);
      }
    }));
    assert.ok(outcomes.has(false), "the last ones come too late for certain");
  });

  it("for the limit of calls: it holds", async () => {
    for (let round = 0; round < ROUNDS; round += 1) {
      const [ann, ...others] = fresh("ann", "b", "c", "d", "e", "f");
      const devices = await Promise.all([0, 1, 2].map((node) => users.enter(cluster.nodes[node].url, ann, { ...WEBSOCKET, ...QUICK })));
      const acks = await Promise.all(others.map((recipientId, i) => say(devices[i % 3], "call:initiate", { recipientId, callType: "audio" })));
      assert.deepEqual(codes(acks), ["ok", "ok", "over_limit", "over_limit", "over_limit"], JSON.stringify(acks));
      devices.forEach((socket) => socket.disconnect());
    }
  });

  it("for the limit of answered calls: it holds", async () => {
    const enter = (name) => users.enter(cluster.url, name, { ...WEBSOCKET, ...QUICK });
    const [bob, ...names] = fresh("bob", "a", "b", "c");
    const devices = [await enter(bob), await enter(bob), await enter(bob)];
    const callers = await Promise.all(names.map(enter));
    const calls = await Promise.all(callers.map((caller) => ring(caller, bob, devices)));
    const acks = await Promise.all(calls.map(({ callId }, i) => say(devices[i], "call:accept", { callId })));
    assert.deepEqual(codes(acks), ["ok", "ok", "over_limit"], JSON.stringify(acks));
  });

  it("while clients upgrade: one device wins", async () => {
    await inGroups(["ann"], async ([caller]) => {
      const [bob] = fresh("bob");
      const devices = await Promise.all([users.enter(cluster.url, bob, UPGRADE), users.enter(cluster.url, bob, UPGRADE)]);
      const { callId } = await ring(caller, bob, devices);
      const acks = await Promise.all(devices.map((socket) => say(socket, "call:accept", { callId })));
      assert.deepEqual(codes(acks), ["already_answered", "ok"]);
      const winner = devices[acks[0].success ? 0 : 1];
      await told(caller, "call:accepted", { callId });
      await signals(winner, caller, callId, 3);
      await signals(caller, winner, callId, 3);
      await ask(winner, "call:end", { callId });
      await told(caller, "call:ended", { callId });
      devices.forEach((socket) => socket.disconnect());
    });
  });
});
