// Calls, conferences and screens of the messenger application, by its own names.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { ask, CONFIG, drop, enterTalk, fresh, refused, story, theEnd, told, vanish } from "../lib/calls.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, POLLING, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

describe("the messenger on three nodes", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const enter = (name, node, options = WEBSOCKET) => enterTalk(users, cluster.nodes[node % 3].url, name, options);
  const onNodes = (names) => Promise.all(names.map((name, i) => enter(name, i)));
  const idOf = (socket) => socket.welcome.userId;

  /** Rings; resolves with the call's id once every one of `ringing` rings. */
  async function ring(caller, receiverId, ringing, more = {}) {
    const { callId } = await ask(caller, "call:initiate", { receiverId, callType: "video", ...more });
    for (const socket of ringing) await told(socket, "call:incoming", { callId });
    return callId;
  }

  async function talk(caller, callee) {
    const callId = await ring(caller, idOf(callee), [callee]);
    await ask(callee, "call:response", { callId, action: "accept" });
    await told(caller, "call:accepted", { callId });
    return callId;
  }

  /** A conference of these sockets, the first of which makes it; all but `late` of them are in it. */
  async function conference(sockets, late = []) {
    const [creator, ...others] = sockets;
    const { callId } = await ask(creator, "conference:create", { participants: others.map(idOf), callType: "video", title: "rounds" });
    for (const socket of others) await told(socket, "call:incoming", { callId });
    for (const socket of others.filter((it) => !late.includes(it))) {
      await ask(socket, "call:response", { callId, action: "accept" });
      await told(creator, "conference:participant:joined", { callId, userId: idOf(socket) });
    }
    return callId;
  }

  for (const [name, options] of Object.entries({ websocket: WEBSOCKET, polling: POLLING, upgrade: UPGRADE })) {
    it(`rings everywhere, is answered once, relays signals and ends (${name})`, async () => {
      const [ann, bob] = fresh("ann", "bob");
      const enterAny = (user) => enterTalk(users, cluster.url, user, { claims: { username: `Dr ${user}`, chats: ["c1"] }, ...options });
      const [caller, callee, other] = [await enterAny(ann), await enterAny(bob), await enterAny(bob)];
      const ack = await ask(caller, "call:initiate", { receiverId: bob, callType: "audio", chatId: "c1" });
      const { callId } = ack;
      assert.deepEqual(ack, { success: true, callId, status: "ringing", iceServers: [] });
      assert.deepEqual(await told(caller, "call:initiated", { callId }), { callId, status: "ringing", iceServers: [] });
      for (const socket of [callee, other]) {
        const incoming = await told(socket, "call:incoming", { callId });
        assert.deepEqual(incoming, { callId, caller: { id: ann, username: `Dr ${ann}` }, callType: "audio", chatId: "c1" });
      }
      await ask(callee, "call:response", { callId, action: "accept" });
      assert.deepEqual(await told(caller, "call:response", { callId }), { callId, action: "accept", userId: bob });
      for (const socket of [caller, callee]) assert.deepEqual((await told(socket, "call:accepted", { callId })).iceServers, []);
      await told(other, "call:answered_elsewhere", { callId });

      const sent = Array.from({ length: 50 }, (_, n) => ({ callId, type: "offer", n, sdp: "v=0\r\n🎈", fromId: "somebody else" }));
      for (const signal of sent) caller.emit("webrtc:signal", signal);
      await until(() => got(callee, "webrtc:signal").length >= sent.length);
      assert.deepEqual(got(callee, "webrtc:signal"), sent.map((signal) => ({ ...signal, fromId: ann })));
      assert.equal(got(other, "webrtc:signal").length, 0);

      await ask(callee, "call:end", { callId, reason: "done" });
      for (const socket of [caller, callee]) {
        for (const event of ["call:end", "call:ended"]) {
          const { duration, ...rest } = await told(socket, event, { callId });
          assert.deepEqual(rest, { callId, endedBy: bob, reason: "done" });
          assert.ok(Number.isInteger(duration));
        }
        theEnd(socket, callId);
      }
    });
  }

  it("tells a declined, a cancelled and a busy call by name", async () => {
    const [ann, bob, eve] = fresh("ann", "bob", "eve");
    const [caller, callee, other] = await onNodes([ann, bob, bob]);
    const declined = await ring(caller, bob, [callee, other]);
    await ask(callee, "call:response", { callId: declined, action: "decline" });
    assert.deepEqual(await told(caller, "call:response", { callId: declined }), { callId: declined, action: "decline", userId: bob });
    await told(caller, "call:declined", { callId: declined });
    await told(other, "call:answered_elsewhere", { callId: declined });
    const cancelled = await ring(caller, bob, [callee, other]);
    await ask(caller, "call:end", { callId: cancelled });
    for (const socket of [callee, other]) assert.equal((await told(socket, "call:ended", { callId: cancelled })).reason, "cancelled");
    for (let i = 0; i < 5; i += 1) await talk(callee, await enter(fresh("x")[0], i));
    const third = await enter(eve, 2);
    await refused(third, "call:initiate", { receiverId: bob, callType: "video" }, "busy");
    assert.equal((await told(third, "call:busy")).receiverId, bob);
  });

  it("tells a device that connects what rings and what goes on", async () => {
    const [ann, bob] = fresh("ann", "bob");
    const caller = await enter(ann, 0);
    const callId = await ring(caller, bob, []);
    const callee = await enter(bob, 1);
    await told(callee, "call:incoming", { callId });
    // It is this device that makes it ring: which of the two it sees first is open.
    assert.match((await told(callee, "call:active", { callId })).status, /^(initiating|ringing)$/);
    await ask(callee, "call:response", { callId, action: "accept" });
    await drop(callee);
    await until(() => got(callee, "call:active").length === 2);
    assert.equal(got(callee, "call:active")[1].status, "accepted");
    await ask(callee, "call:rejoin", { callId });
    caller.emit("webrtc:signal", { callId, n: 1 });
    assert.equal((await told(callee, "webrtc:signal", { callId })).n, 1);
  });

  it("ends with the last participant, whose connection is lost", async () => {
    const [caller, callee] = await onNodes(fresh("ann", "bob"));
    const callId = await talk(caller, callee);
    const witness = await enter(idOf(caller), 2);
    vanish(callee);
    assert.equal((await told(witness, "call:ended", { callId })).reason, "connection_lost");
  });

  describe("in conferences", () => {
    it("a late joiner gets what the others have", async () => {
      const [creator, second, late] = await onNodes(fresh("ann", "bob", "eve"));
      const callId = await conference([creator, second, late], [late]);
      await ask(creator, "video:stream:start", { callId, hasVideo: true, hasAudio: true, extra: { kept: [1.5] } });
      assert.deepEqual(await told(second, "video:stream:start", { callId }), { callId, hasVideo: true, hasAudio: true, extra: { kept: [1.5] }, userId: idOf(creator) });
      await ask(creator, "video:control:toggle", { callId, action: "mute_audio", enabled: true });
      assert.equal((await told(second, "video:control:toggle", { callId })).action, "mute_audio");
      await ask(second, "video:quality:change", { callId, quality: "hd" });
      await told(creator, "video:quality:change", { callId, quality: "hd" });
      assert.equal(got(late, "video:stream:start").length, 0, "it only rings there");

      await ask(late, "conference:video:join", { callId });
      for (const socket of [creator, second]) await told(socket, "conference:participant:joined", { callId, userId: idOf(late) });
      const { participants } = await told(late, "video:state", { callId });
      assert.deepEqual(participants.map(({ userId }) => userId).sort(), [creator, second, late].map(idOf).sort());
      const stateOf = (socket) => participants.find(({ userId }) => userId === idOf(socket));
      assert.deepEqual(stateOf(creator), { userId: idOf(creator), hasVideo: true, hasAudio: true, videoMuted: false, audioMuted: true, quality: null });
      assert.equal(stateOf(second).quality, "hd");

      late.emit("webrtc:signal", { callId, targetId: idOf(second), only: "one" });
      await told(second, "webrtc:signal", { callId, only: "one", fromId: idOf(late) });
      second.emit("webrtc:signal", { callId, to: "all" });
      for (const socket of [creator, late]) await told(socket, "webrtc:signal", { callId, to: "all" });
      assert.ok(!got(creator, "webrtc:signal").some(({ only }) => only));

      await ask(second, "conference:video:leave", { callId });
      for (const socket of [creator, late]) await told(socket, "conference:participant:left", { callId, userId: idOf(second) });
      await refused(second, "video:stream:start", { callId, hasVideo: true, hasAudio: true }, "not_in_call");
      await ask(second, "conference:video:join", { callId });
      await ask(creator, "call:end", { callId });
      for (const socket of [creator, second, late]) await told(socket, "call:ended", { callId });
    });

    it("the number of participants holds", async () => {
      const [creator] = await onNodes(fresh("ann"));
      await refused(creator, "conference:create", { participants: fresh("a", "b", "c", "d"), callType: "video" }, "over_limit");
      await refused(creator, "conference:create", { participants: [], callType: "video" }, "nobody_invited");
      await refused(creator, "conference:create", { participants: "all", callType: "video" }, "invalid_payload");
    });

    it("one who loses the connection leaves after the grace, the others stay", async () => {
      const sockets = await onNodes(fresh("ann", "bob", "eve"));
      const [creator, lost, other] = sockets;
      const callId = await conference(sockets);
      vanish(lost);
      for (const socket of [creator, other]) await told(socket, "conference:participant:left", { callId, userId: idOf(lost) });
      creator.emit("webrtc:signal", { callId, n: 1 });
      await told(other, "webrtc:signal", { callId, n: 1 });
      for (const socket of [creator, other]) await ask(socket, "conference:video:leave", { callId });
      await told(creator, "call:ended", { callId });
    });

    it("four who join at once are all in it, and know of each other", async () => {
      const sockets = await onNodes(fresh("ann", "bob", "eve", "dan"));
      const [creator, ...others] = sockets;
      const callId = await conference(sockets, others);
      await Promise.all(others.map((socket) => ask(socket, "call:response", { callId, action: "accept" })));
      for (const socket of others) await told(creator, "conference:participant:joined", { callId, userId: idOf(socket) });
      for (const socket of sockets) socket.emit("webrtc:signal", { callId, hello: idOf(socket) });
      for (const socket of sockets) {
        for (const other of sockets.filter((it) => it !== socket)) await told(socket, "webrtc:signal", { callId, hello: idOf(other) });
      }
    });
  });

  describe("screens", () => {
    const share = { hasAudio: false, quality: "high" };

    it("are shared by one at a time", async () => {
      const [caller, callee] = await onNodes(fresh("ann", "bob"));
      const callId = await talk(caller, callee);
      const acks = await Promise.all([caller, callee].map((socket) => socket.timeout(30_000).emitWithAck("screen:share:start", { callId, ...share })));
      assert.deepEqual(acks.map(({ success }) => success).sort(), [false, true]);
      const [sharer, viewer] = acks[0].success ? [caller, callee] : [callee, caller];
      await told(viewer, "screen:share:start", { callId, userId: idOf(sharer), quality: "high" });
      const error = heard(viewer, "screen:error");
      viewer.emit("screen:share:start", { callId, ...share });
      const [{ message, code }] = await error;
      assert.deepEqual([message, code], ["already_sharing", "already_sharing"]);
      await ask(sharer, "screen:quality:change", { callId, quality: "low" });
      await told(viewer, "screen:quality:change", { callId, quality: "low" });
      await ask(sharer, "screen:share:stop", { callId });
      await told(viewer, "screen:share:stop", { callId });
      await ask(viewer, "screen:share:start", { callId, ...share });
    });

    it("are controlled by whom the sharer lets, as long as the sharer does", async () => {
      const sockets = await onNodes(fresh("ann", "bob", "eve"));
      const [sharer, controller, third] = sockets;
      const callId = await conference(sockets);
      const input = (socket, n) => socket.timeout(30_000).emitWithAck("screen:remote:input", { callId, n, key: "Enter" });
      const codeOf = async (ack) => (await ack).code;
      await refused(controller, "screen:remote:request", { callId }, "not_sharing");
      await ask(sharer, "screen:share:start", { callId, ...share });
      assert.equal(await codeOf(input(controller, 0)), "not_granted");
      await refused(sharer, "screen:remote:response", { callId, requesterId: idOf(controller), granted: true }, "not_requested");
      await ask(controller, "screen:remote:request", { callId });
      await told(sharer, "screen:remote:request", { callId, userId: idOf(controller) });
      assert.equal(await codeOf(input(controller, 0)), "not_granted");
      await refused(third, "screen:remote:response", { callId, requesterId: idOf(controller), granted: true }, "not_sharing");
      await ask(sharer, "screen:remote:response", { callId, requesterId: idOf(controller), granted: true });
      await told(controller, "screen:remote:response", { callId, granted: true });
      await until(async () => (await input(controller, 1)).success);
      const first = await told(sharer, "screen:remote:input", { callId, n: 1 });
      assert.deepEqual(first, { callId, n: 1, key: "Enter", userId: idOf(controller) });
      assert.equal(await codeOf(input(third, 2)), "not_granted");
      await ask(sharer, "screen:remote:revoke", { callId, requesterId: idOf(controller) });
      await told(controller, "screen:remote:revoke", { callId });
      await until(async () => (await codeOf(input(controller, 3))) === "not_granted");
      assert.equal(got(third, "screen:remote:input").length, 0);
    });

    it("keep annotations for who comes later, until they are cleared", async () => {
      const sockets = await onNodes(fresh("ann", "bob", "eve"));
      const [sharer, viewer, late] = sockets;
      const callId = await conference(sockets, [late]);
      await ask(sharer, "screen:share:start", { callId, ...share });
      // Three are kept; a pointer never is.
      for (const n of [0, 1, 2, 3]) await ask(viewer, "screen:annotation:add", { callId, type: "draw", data: { n } });
      await ask(viewer, "screen:annotation:add", { callId, type: "pointer", data: { n: 4 } });
      await until(() => got(sharer, "screen:annotation:add").length === 5);
      assert.deepEqual(got(sharer, "screen:annotation:add").filter(({ type }) => type === "draw").map(({ data }) => data.n), [0, 1, 2, 3]);
      await ask(late, "call:response", { callId, action: "accept" });
      const { annotations, sharers } = await told(late, "screen:state", { callId });
      assert.deepEqual(sharers, [{ userId: idOf(sharer), hasAudio: false, quality: "high" }]);
      assert.deepEqual(annotations, [1, 2, 3].map((n) => ({ callId, type: "draw", data: { n }, userId: idOf(viewer) })));
      await ask(sharer, "screen:annotation:add", { callId, type: "clear", data: null });
      await told(late, "screen:annotation:add", { callId, type: "clear" });
      await drop(late);
      await ask(late, "call:rejoin", { callId });
      await until(() => got(late, "screen:state").length === 2);
      assert.deepEqual(got(late, "screen:state")[1].annotations, []);
    });

    it("and streams are refused outside of a call", async () => {
      const [caller, callee, stranger] = await onNodes(fresh("ann", "bob", "eve"));
      const ringing = await ring(caller, idOf(callee), [callee]);
      await refused(caller, "video:stream:start", { callId: ringing, hasVideo: true, hasAudio: true }, "call_not_active");
      await refused(stranger, "screen:share:start", { callId: ringing, ...share }, "unknown_call");
      await refused(stranger, "screen:share:start", { callId: "x", ...share }, "unknown_call");
      for (const [event, payload] of [
        ["video:stream:start", {}], ["video:control:toggle", { action: "dance", enabled: true }], ["screen:share:start", { hasAudio: true, quality: "ultra" }],
        ["screen:annotation:add", { type: "erase", data: 1 }], ["screen:remote:response", { requesterId: "x" }],
      ]) await refused(caller, event, { callId: ringing, ...payload }, "invalid_payload");
      assert.deepEqual(story(stranger, ringing), []);
    });
  });
});
