// Calls of the telehealth application with stock clients on several nodes: how they begin and end, and what is refused.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import {
  ask, caughtUp, CONFIG, drop, fresh, QUICK, refused, ring, seen, signals, story, talk, told, vanish,
} from "../lib/calls.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { elapse } from "../lib/engine.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, POLLING, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

describe("calls on three nodes", () => {
  const users = new Users();
  const staff = new Users();
  let cluster, postman;
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" });
    postman = await staff.enter(cluster.url, "postman", WEBSOCKET);
  });
  after(() => { staff.leave(); return cluster?.stop(); });
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  /** Devices of these users, one on each node in turn. */
  const onNodes = (names, options = {}) =>
    Promise.all(names.map((name, i) => users.enter(cluster.nodes[i % 3].url, name, { ...WEBSOCKET, ...options })));

  /** A caller and a callee with one device each, and a third user. */
  async function three(options) {
    const names = fresh("ann", "bob", "eve");
    return [...await onNodes(names, options), ...names];
  }

  for (const [name, options] of Object.entries({ websocket: WEBSOCKET, polling: POLLING, upgrade: UPGRADE })) {
    it(`ring on every device, are answered by one, carry signals and end (${name})`, async () => {
      const [ann, bob] = fresh("ann", "bob");
      // Through the balancer: devices of one user, and requests of one session, meet different nodes.
      const enter = (user) => users.enter(cluster.url, user, options);
      const [caller, second, callee, other] = [await enter(ann), await enter(ann), await enter(bob), await enter(bob)];
      const { callId, status, iceServers } = await ring(caller, bob, [callee, other]);
      assert.deepEqual([typeof callId, status, iceServers], ["string", "ringing", []]);
      assert.deepEqual(got(callee, "call:incoming"), [{ callId, callerId: ann, callType: "video" }]);

      const ack = await ask(callee, "call:accept", { callId });
      assert.deepEqual(ack, { success: true, callId, status: "accepted", iceServers: [] });
      assert.deepEqual(await told(caller, "call:accepted", { callId }), { callId, iceServers: [] });
      const stopped = await told(other, "call:ended", { callId });
      assert.deepEqual(stopped, { callId, duration: 0, reason: "answered_elsewhere" });

      await Promise.all([signals(caller, callee, callId, 100), signals(callee, caller, callId, 100)]);
      await elapse(1100); // a duration is in seconds
      const end = await ask(caller, "call:end", { callId });
      for (const socket of [caller, callee]) {
        const { duration, ...rest } = await told(socket, "call:ended", { callId });
        assert.deepEqual(rest, { callId });
        assert.ok(Number.isInteger(duration) && duration >= 1 && duration === end.duration, `${duration}`);
      }
      await caughtUp(postman, caller, callee);
      assert.deepEqual(story(callee, callId).filter((event) => event !== "call:signal"), ["call:incoming", "call:ended"]);
      // Signals go to the devices in the call only; that it is over, to all.
      for (const socket of [second, other]) assert.equal(got(socket, "call:signal").length, 0);
      for (const socket of [caller, second, callee]) assert.equal(got(socket, "call:ended").length, 1);
      assert.equal(got(other, "call:ended").length, 2, "it stopped ringing, and then the call was over");
    });
  }

  it("pass a signal on with its bytes, to all or to one", async () => {
    const [caller, callee] = await three();
    const callId = await talk(caller, callee);
    const signal = { candidate: Buffer.from([0, 255, 1]), n: 12345678901234567, text: "\u0000\u2028" };
    await ask(caller, "call:signal", { callId, signal, targetId: callee.welcome.userId, extra: 1 });
    const relayed = await told(callee, "call:signal", { callId });
    assert.deepEqual(relayed, { callId, signal, fromId: caller.welcome.userId });
    assert.deepEqual(Object.keys(relayed.signal), Object.keys(signal));
    await ask(callee, "call:signal", { callId, signal: "x".repeat(60_000) });
    assert.equal((await told(caller, "call:signal", { callId })).signal.length, 60_000);
  });

  it("are rejected with a reason", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [caller, callee, other] = await onNodes([ann, bob, bob]);
    const { callId } = await ring(caller, bob, [callee, other]);
    await ask(callee, "call:reject", { callId, reason: "not now" });
    const rejected = { callId, reason: "not now" };
    const ended = { callId, duration: 0, reason: "rejected" };
    for (const socket of [caller, other]) {
      assert.deepEqual(await told(socket, "call:rejected", { callId }), rejected);
      assert.deepEqual(await told(socket, "call:ended", { callId }), ended);
    }
    await caughtUp(postman, caller, callee, other);
    assert.deepEqual(story(caller, callId), ["call:rejected", "call:ended"]);
    for (const socket of [caller, callee]) await refused(socket, "call:accept", { callId }, "call_over");
  });

  it("are cancelled before the answer", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [caller, callee, other] = await onNodes([ann, bob, bob]);
    const { callId } = await ring(caller, bob, [callee, other]);
    await ask(caller, "call:end", { callId });
    const ended = { callId, duration: 0, reason: "cancelled" };
    for (const socket of [caller, callee, other]) assert.deepEqual(await told(socket, "call:ended", { callId }), ended);
    await refused(callee, "call:accept", { callId }, "call_over");
    await refused(caller, "call:end", { callId }, "call_over");
  });

  it("are missed when nobody answers in time", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [caller, callee, other] = await onNodes([ann, bob, bob], QUICK);
    const began = Date.now();
    const { callId } = await ring(caller, bob, [callee, other]);
    for (const socket of [caller, callee, other]) {
      const ended = await told(socket, "call:ended", { callId });
      assert.deepEqual(ended, { callId, duration: 0, reason: "missed" });
      assert.deepEqual(story(socket, callId).slice(-2), ["call:missed", "call:ended"]);
    }
    assert.ok(Date.now() - began >= 1500, "it rings its time");
    await refused(callee, "call:accept", { callId }, "call_over");
    await refused(callee, "call:reject", { callId }, "call_over");
    // Nobody is held up by it.
    await talk(callee, caller);
  });

  it("ring on a device that connects in time", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [caller] = await onNodes([ann]);
    const { callId, status } = await ring(caller, bob, []);
    assert.equal(status, "initiating");
    const callee = await users.enter(cluster.nodes[1].url, bob, WEBSOCKET);
    assert.equal((await told(callee, "call:incoming", { callId })).callerId, ann);
    await told(caller, "call:ringing", { callId });
    const late = await users.enter(cluster.nodes[2].url, bob, POLLING);
    await told(late, "call:incoming", { callId });
    await ask(late, "call:accept", { callId });
    await told(caller, "call:accepted", { callId });
    assert.equal((await told(callee, "call:ended", { callId })).reason, "answered_elsewhere");
    await signals(caller, late, callId);
  });

  it("to somebody who never connects are missed", async () => {
    const [caller] = await onNodes(fresh("ann"), QUICK);
    const { callId } = await ring(caller, fresh("bob")[0], []);
    assert.equal((await told(caller, "call:ended", { callId })).reason, "missed");
  });

  it("of a visit name it, to those who have a right to it", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const [caller] = await onNodes([ann], { claims: { visits: [12] } });
    const [callee] = await onNodes([bob]);
    const { callId } = await ring(caller, bob, [callee], { visitId: 12 });
    assert.equal((await told(callee, "call:incoming", { callId })).visitId, 12);
    await refused(caller, "call:initiate", { recipientId: bob, callType: "audio", visitId: 13 }, "room_denied");
  });

  it("keep numeric ids numbers", async () => {
    const [ann, bob] = [1_000_001, 1_000_002];
    const [caller, callee] = await onNodes([ann, bob]);
    const { callId } = await ring(caller, bob, [callee]);
    assert.equal((await told(callee, "call:incoming", { callId })).callerId, ann);
    await ask(callee, "call:accept", { callId });
    callee.emit("call:signal", { callId, signal: 1, targetId: ann });
    assert.equal((await told(caller, "call:signal", { callId })).fromId, bob);
  });

  it("that fail for technical reasons say so on both sides", async () => {
    const [caller, callee] = await three();
    const callId = await talk(caller, callee);
    await ask(callee, "call:fail", { callId, reason: "no camera" });
    for (const socket of [caller, callee]) {
      assert.deepEqual(await told(socket, "call:failed", { callId }), { callId, reason: "no camera" });
      assert.equal((await told(socket, "call:ended", { callId })).reason, "failed");
    }
  });

  describe("and lost connections", () => {
    it("keep the seat for who comes back in time", async () => {
      const [caller, callee] = await three();
      const callId = await talk(caller, callee);
      await signals(caller, callee, callId);
      await drop(callee);
      const userId = callee.welcome.userId;
      await told(caller, "call:participantLost", { callId, userId });
      await told(callee, "call:active", { callId });
      const { status } = await ask(callee, "call:rejoin", { callId });
      assert.equal(status, "in_progress");
      await told(caller, "call:participantBack", { callId, userId });
      await Promise.all([signals(caller, callee, callId), signals(callee, caller, callId)]);
      await ask(callee, "call:end", { callId });
      await told(caller, "call:ended", { callId });
    });

    it("end the call when nobody comes back", async () => {
      const [caller, callee] = await three(QUICK);
      const second = await users.enter(cluster.url, callee.welcome.userId, { ...WEBSOCKET, ...QUICK });
      const callId = await talk(caller, callee);
      vanish(callee);
      const { reason } = await told(caller, "call:ended", { callId });
      assert.equal(reason, "connection_lost");
      assert.equal((await told(second, "call:ended", { callId, reason })).callId, callId);
      await refused(second, "call:rejoin", { callId }, "call_over");
    });

    it("end a call that both have left", async () => {
      const [caller, callee] = await three(QUICK);
      const witness = await users.enter(cluster.url, caller.welcome.userId, { ...WEBSOCKET, ...QUICK });
      const callId = await talk(caller, callee);
      vanish(caller);
      vanish(callee);
      assert.equal((await told(witness, "call:ended", { callId })).reason, "connection_lost");
    });

    it("let another device take the seat over", async () => {
      const [ann, bob] = fresh("ann", "bob");
      const [caller, callee, other] = await onNodes([ann, bob, bob]);
      const callId = await talk(caller, callee);
      await told(other, "call:ended", { callId, reason: "answered_elsewhere" });
      await ask(other, "call:rejoin", { callId });
      assert.equal((await told(callee, "call:ended", { callId })).reason, "rejoined_elsewhere");
      await signals(other, caller, callId);
      await signals(caller, other, callId);
      await refused(callee, "call:signal", { callId, signal: 1 }, "not_in_call");
      assert.equal(got(callee, "call:signal").length, 0);
    });
  });

  describe("refuse", () => {
    it("what is no call", async () => {
      const [caller, , , ann, bob] = await three();
      const initiate = (payload, code) => refused(caller, "call:initiate", payload, code);
      await initiate({ recipientId: ann, callType: "audio" }, "self_call");
      for (const payload of [
        undefined, null, 5, [], {}, { recipientId: bob }, { callType: "audio" }, { recipientId: bob, callType: "smell" },
        { recipientId: "", callType: "audio" }, { recipientId: {}, callType: "audio" }, { recipientId: null, callType: "audio" },
      ]) await initiate(payload, "invalid_payload");
      const error = heard(caller, "error");
      caller.emit("call:initiate", { recipientId: ann, callType: "audio" });
      const [{ code, event, message }] = await error;
      assert.deepEqual([code, event], ["self_call", "call:initiate"]);
      assert.ok(message);
    });

    it("who has no part in it, and ids of no call", async () => {
      const [caller, callee, stranger, , bob] = await three();
      const live = await talk(callee, caller);
      const ringing = (await ring(caller, bob, [callee])).callId;
      for (const event of ["call:accept", "call:reject", "call:end", "call:rejoin", "call:fail"]) {
        for (const callId of [ringing, live, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "no such call", "*", ">", "a.b", "x".repeat(3000), ""]) {
          await refused(stranger, event, { callId }, "unknown_call");
        }
        for (const payload of [undefined, {}, { callId: 5 }, { callId: null }, { callId: {} }]) {
          await refused(stranger, event, payload, "invalid_payload");
        }
      }
      await signals(caller, callee, live);
      await ask(callee, "call:accept", { callId: ringing });
    });

    it("a second answer", async () => {
      const [ann, bob] = fresh("ann", "bob");
      const [caller, callee, other] = await onNodes([ann, bob, bob]);
      const callId = await talk(caller, callee);
      for (const socket of [callee, other]) {
        await refused(socket, "call:accept", { callId }, "already_answered");
      }
      await refused(caller, "call:accept", { callId }, "already_answered");
      await refused(other, "call:end", { callId }, "other_device");
      await signals(caller, callee, callId);
    });

    it("signals of who is not in the call, and where they cannot go", async () => {
      const [caller, callee, stranger, , bob] = await three();
      const second = await users.enter(cluster.url, bob, WEBSOCKET);
      const { callId } = await ring(caller, bob, [callee, second]);
      const signal = { sdp: "x" };
      await refused(caller, "call:signal", { callId, signal }, "call_not_active");
      await refused(callee, "call:signal", { callId, signal }, "not_in_call");
      await ask(callee, "call:accept", { callId });
      await told(caller, "call:accepted", { callId });
      for (const socket of [stranger, second]) await refused(socket, "call:signal", { callId, signal }, "not_in_call");
      await refused(caller, "call:signal", { callId, signal, targetId: stranger.welcome.userId }, "no_such_participant");
      await refused(caller, "call:signal", { callId: "01ARZ3NDEKTSV4RRFFQ69G5FAV", signal }, "not_in_call");
      await refused(caller, "call:signal", { callId }, "invalid_payload");
      await refused(caller, "call:signal", { callId, signal: "x".repeat(66_000) }, "over_limit");
      await signals(caller, callee, callId);
      await ask(caller, "call:end", { callId });
      await told(callee, "call:ended", { callId });
      await refused(callee, "call:signal", { callId, signal }, "not_in_call");
      for (const socket of [stranger, second]) assert.equal(got(socket, "call:signal").length, 0);
    });

    it("who is busy or is not to be disturbed", async () => {
      const [caller, callee, third, ann, bob] = await three(QUICK);
      await ask(callee, "presence:setStatus", { status: "busy" });
      await refused(caller, "call:initiate", { recipientId: bob, callType: "audio" }, "do_not_disturb");
      await ask(callee, "presence:setStatus", { status: "online" });
      // Two calls are all that this application lets one be in.
      for (const name of ["x", "y"]) {
        const other = await users.enter(cluster.url, fresh(name)[0], { ...WEBSOCKET, ...QUICK });
        await talk(callee, other);
      }
      await refused(third, "call:initiate", { recipientId: bob, callType: "audio" }, "busy");
      await refused(callee, "call:initiate", { recipientId: ann, callType: "audio" }, "over_limit");
      assert.equal(got(callee, "call:incoming").length, 0, "nothing rang");
      const [{ callId }] = got(callee, "call:accepted");
      await ask(callee, "call:end", { callId });
      await ring(third, bob, [callee]);
    });
  });

  it("make one busy to see, and free again", async () => {
    const [caller, callee, watcher, ann, bob] = await three();
    await ask(watcher, "presence:subscribe", { userIds: [ann, bob] });
    const callId = await talk(caller, callee);
    for (const user of [ann, bob]) await seen(watcher, user, "in_call");
    await ask(callee, "call:end", { callId });
    for (const user of [ann, bob]) await seen(watcher, user, "online");
    await until(() => got(watcher, "presence:changed").length >= 4);
  });
});
