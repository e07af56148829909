// The contract of telehealth, row by row, as its stock clients meet it: behind the balancer, on three nodes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { call, withApi } from "../lib/api.mjs";
import { ask, fresh, told } from "../lib/calls.mjs";
import { ISO } from "../lib/chat.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { got, SECRET, token, Users } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("telehealth-rows.toml", import.meta.url), "utf8");

describe("telehealth, row by row", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await withApi(await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" })); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const enter = (userId, claims = {}, options = {}) => users.enter(cluster.url, userId, { claims, transports: ["websocket", "polling"], path: "/socket.io", ...options });
  const refusal = async (auth, options) => {
    const [error] = await heard(users.dial(cluster.url, { path: "/socket.io", auth, ...options }), "connect_error");
    return [error.message, error.data?.code];
  };
  const backend = async (verb, body, app = "visits") => {
    const { status, body: answer } = await call(cluster.nodes[1], app, verb, body);
    assert.equal(status, 200, JSON.stringify(answer));
    return answer;
  };
  let marks = 0;
  async function settled(sockets, app = "visits") {
    const mark = `mark ${marks += 1}`;
    await backend("emit", { to: { everyone: true }, event: "mark", data: mark }, app);
    await Promise.all(sockets.map((socket) => until(() => got(socket, "mark").includes(mark))));
  }
  /** What a socket has heard since it was asked last, in order, but for presence. */
  const UNASKED = new Set(["mark", "connected", "presence:changed"]);
  const story = (socket) => socket.log.splice(0).filter(([event]) => !UNASKED.has(event));
  const codeOf = async (socket, event, payload) => (await socket.timeout(30_000).emitWithAck(event, payload)).code;
  const room = (...names) => `chat:${names.sort().join(":")}`;

  describe("connecting", () => {
    it("is told by connected { socketId, userId }", async () => {
      const [a] = fresh("a");
      const ann = await enter(a);
      assert.deepEqual(ann.welcome, { socketId: ann.id, userId: a });
      assert.equal((await enter(77)).welcome.userId, 77, "a number stays one");
    });

    for (const [what, shown, message, code] of [
      ["no token", undefined, "Invalid token", "missing_token"], ["garbage", { token: "x" }, "Invalid token", "invalid_token"], ["an object", { token: {} }, "Invalid token", "missing_token"],
      ["another key", { token: sign({ userId: 1 }, "other") }, "Invalid token", "invalid_token"], ["nobody's", { token: sign({ role: "x" }, SECRET) }, "Invalid token", "invalid_token"],
      ["past", { token: sign({ userId: 1 }, SECRET, { ttl_s: -60 }) }, "Token expired", "expired_token"],
    ]) {
      it(`refuses ${what} in the words that clients compare`, async () => {
        assert.deepEqual(await refusal(shown), [`Authentication error: ${message}`, code]);
      });
    }

    it("refuses who was revoked, and cuts off who is connected", async () => {
      const [a] = fresh("a");
      const ann = await enter(a);
      const closed = heard(ann, "disconnect");
      await backend("revoke", { user: a });
      assert.equal((await closed)[0], "io server disconnect");
      assert.deepEqual(got(ann, "error"), [{ message: "Authentication error: Invalid token", code: "revoked_token", event: null }]);
      assert.deepEqual(await refusal({ token: token(a) }), ["Authentication error: Invalid token", "revoked_token"]);
    });

    it("has /health, /api/docs and the log-in for development", async () => {
      const get = (path, options) => fetch(cluster.url + path, options);
      assert.deepEqual(Object.keys(await get("/health").then((it) => it.json())).sort(), ["status", "timestamp", "uptime"]);
      assert.match(await get("/api/docs").then((it) => it.text()), /message:send/);
      const login = (body) => get("/api/v1/auth/login", { method: "POST", body });
      const granted = await login(JSON.stringify({ email: "ann@example.org", password: "ann" })).then((it) => it.json());
      const [welcome] = await heard(users.dial(cluster.url, { path: "/socket.io", auth: { token: granted.token } }), "connected");
      assert.equal(welcome.userId, 7);
      for (const [body, status] of [[JSON.stringify({ email: "ann@example.org", password: "no" }), 401], [JSON.stringify({ email: 5 }), 400], ["{", 400], ["x".repeat(5000), 400]]) {
        assert.equal((await login(body)).status, status, body.slice(0, 40));
      }
      assert.equal((await get("/api/v1/auth/login")).status, 405);
    });
  });

  describe("rooms", () => {
    it("are joined by those with a right to them, and the others hear of it", async () => {
      const [a, b, c] = fresh("a", "b", "c");
      const [ann, bob, eve] = [await enter(a, { visits: ["v1", 42] }), await enter(b, { role: "doctor", visits: ["v1"] }), await enter(c)];
      const join = (socket, roomId, more) => ask(socket, "room:join", { roomId, roomType: "anything", ...more });
      const annIn = { userId: a, role: "patient" };
      assert.deepEqual(await join(ann, "visit:v1"), { success: true, roomId: "visit:v1", participants: [annIn] });
      assert.deepEqual((await join(bob, "visit:v1")).participants, [annIn, { userId: b, role: "doctor" }]);
      assert.deepEqual(await told(ann, "room:userJoined"), { roomId: "visit:v1", userId: b, role: "doctor" });
      const [first, second] = [a, b].sort();
      assert.equal((await join(ann, `chat:${second}:${first}`)).roomId, `chat:${second}:${first}`, "as it was asked for");
      assert.equal((await join(bob, `chat:${first}:${second}`)).participants.length, 2, "both spellings are one room");
      for (const roomId of ["call:42", `notifications:${a}`, "topic:news"]) await join(ann, roomId);
      for (const [socket, roomId, metadata] of [[eve, "visit:v1"], [eve, room(a, b)], [bob, "call:42"], [eve, `notifications:${a}`], [eve, "topic:x", { visitId: "v1" }]]) {
        const ack = await socket.timeout(30_000).emitWithAck("room:join", { roomId, metadata });
        assert.deepEqual(ack, { success: false, error: "Room access denied", code: "room_denied" }, roomId);
      }
      eve.emit("room:join", { roomId: "visit:v1" });
      assert.deepEqual(await told(eve, "error"), { message: "Room access denied", code: "room_denied", event: "room:join" });
      assert.deepEqual(await ask(bob, "room:leave", { roomId: "visit:v1" }), { success: true, roomId: "visit:v1" });
      assert.deepEqual(await told(ann, "room:userLeft"), { roomId: "visit:v1", userId: b, role: "doctor" });
      assert.equal(await codeOf(bob, "room:leave", { roomId: "visit:v1" }), "not_member");
    });

    it("are refused by name when they are none", async () => {
      const [a] = fresh("a");
      const ann = await enter(a);
      for (const [payload, code] of [
        [{}, "invalid_payload"], [{ roomId: null }, "invalid_payload"], [{ roomId: 5 }, "invalid_payload"], [{ roomId: "x" }, "invalid_room"], [{ roomId: "visit:" }, "invalid_room"], [{ roomId: "foo:1" }, "invalid_room"],
        [{ roomId: `topic:${"x".repeat(5000)}` }, "invalid_room"], [{ roomId: ".everyone" }, "invalid_room"], [{ roomId: "topic:a", metadata: 5 }, "invalid_payload"], [{ roomId: "topic:a", metadata: { visitId: {} } }, "invalid_payload"],
        [{ roomId: "topic:a", userId: "somebody else" }, "invalid_payload"], [null, "invalid_payload"], ["topic:a", "invalid_payload"], [["topic:a"], "invalid_payload"],
      ]) assert.equal(await codeOf(ann, "room:join", payload), code, JSON.stringify(payload).slice(0, 60));
      await ask(ann, "room:join", { roomId: "topic:a", metadata: null, unknown: 1 });
    });

    it("are the back end's to put users into and to take them out of, for as long as they are connected", async () => {
      const [a, v] = fresh("a", "v");
      const ann = await enter(a);
      await backend("members", { user: a, join: [`visit:${v}`] });
      await ask(ann, "message:send", { visitId: v, message: "in" });
      await backend("members", { user: a, leave: [`visit:${v}`] });
      assert.equal(await codeOf(ann, "message:send", { visitId: v, message: "out" }), "room_denied");
    });
  });

  describe("messages", () => {
    it("are flat on the wire, and nested in the ack alone", async () => {
      const [a, b] = fresh("a", "b");
      const [ann, ann2, bob, bob2] = [await enter(a), await enter(a), await enter(b), await enter(b)];
      const { success, message } = await ask(ann, "message:send", { message: "hi", recipientId: b });
      assert.match(message.timestamp, ISO);
      assert.deepEqual([success, message], [true, {
        id: message.id, senderId: a, recipientId: b, roomId: room(a, b), message: "hi", attachments: [], timestamp: message.timestamp, status: "sent", metadata: {},
      }]);
      for (const socket of [ann2, bob, bob2]) assert.deepEqual(await told(socket, "message:new"), message);
      assert.deepEqual(await told(ann, "message:sent"), message);
      for (const socket of [ann, ann2]) assert.deepEqual(await told(socket, "message:status"), { messageId: message.id, roomId: room(a, b), status: "delivered" });
      assert.deepEqual(await ask(bob, "message:read", { messageId: message.id }), { success: true, messageId: message.id });
      await told(ann, "message:status", { status: "read" });
      await settled([ann, ann2, bob, bob2]);
      assert.deepEqual(story(ann).map(([event]) => event), ["message:sent", "message:status", "message:status"], "no message:new to the sending socket");
      assert.deepEqual(story(bob2).map(([event]) => event), ["message:new"]);
    });

    it("of a visit reach its room, those whose join names it, and the recipient, one copy each", async () => {
      const [a, b, c, d, v] = fresh("a", "b", "c", "d", "v");
      const claims = { visits: [v] };
      const [ann, bob, cat, dan] = [await enter(a, claims), await enter(b, claims), await enter(c, claims), await enter(d, claims)];
      await ask(bob, "room:join", { roomId: `visit:${v}` });
      await ask(cat, "room:join", { roomId: `topic:${v}`, metadata: { visitId: v } });
      const full = { message: "full", visitId: v, recipientId: b, attachments: [{ url: "https://x/y", name: "n" }], metadata: { k: [1] } };
      const { message } = await ask(ann, "message:send", full);
      assert.deepEqual([message.visitId, message.recipientId, message.roomId, message.attachments, message.metadata], [v, b, `visit:${v}`, full.attachments, full.metadata]);
      await ask(ann, "message:send", { message: "visit alone", visitId: v });
      await ask(ann, "message:send", { message: "all three", visitId: v, recipientId: b, roomId: `topic:${v}` });
      await settled([ann, bob, cat, dan]);
      const texts = (socket) => got(socket, "message:new").map((it) => it.message);
      for (const socket of [bob, cat]) assert.deepEqual(texts(socket), ["full", "visit alone", "all three"]);
      assert.deepEqual([texts(ann), texts(dan)], [[], []]);
      const { messages, hasMore } = await ask(dan, "message:history", { visitId: v, limit: 1 });
      assert.deepEqual([messages.map((it) => it.message), hasMore], [["visit alone"], true]);
    });

    it("are refused with a reason, without an ack by event error, and nobody hears them", async () => {
      const [a, b, c] = fresh("a", "b", "c");
      const [ann, bob] = [await enter(a), await enter(b)];
      const to = { recipientId: b };
      for (const [payload, code] of [
        [{}, "invalid_payload"], [{ message: "x" }, "invalid_payload"], [{ message: 5, ...to }, "invalid_payload"], [{ message: null, ...to }, "invalid_payload"], [{ message: "", ...to }, "invalid_payload"],
        [{ message: "x".repeat(4097), ...to }, "over_limit"], [{ message: "x", recipientId: {} }, "invalid_payload"], [{ message: "x", visitId: "of others" }, "room_denied"], [{ message: "x", ...to, senderId: c }, "invalid_payload"],
        [{ message: "x", ...to, userId: c }, "invalid_payload"], [{ message: "x", ...to, attachments: {} }, "invalid_payload"], [{ message: "x", ...to, metadata: "x" }, "invalid_payload"],
        [{ message: "x", roomId: `notifications:${b}` }, "room_denied"], [{ message: "x", roomId: room(b, c) }, "room_denied"], [null, "invalid_payload"], ["hello", "invalid_payload"], [[], "invalid_payload"],
      ]) {
        assert.equal(await codeOf(ann, "message:send", payload), code, JSON.stringify(payload).slice(0, 60));
        ann.log.length = 0;
        ann.emit("message:send", payload);
        const { message, ...rest } = await told(ann, "error");
        assert.deepEqual(rest, { code, event: "message:send" });
        assert.ok(message.length > 0);
      }
      const { message } = await ask(ann, "message:send", { message: "", ...to, attachments: [{ url: "u" }], metadata: null, roomId: null, senderId: a });
      assert.equal(message.senderId, a);
      await settled([bob]);
      assert.equal(got(bob, "message:new").length, 1);
      for (const [event, payload, code] of [
        ["message:history", {}, "invalid_payload"], ["message:history", { roomId: "visit:of others" }, "room_denied"], ["message:history", { ...to, before: "zz" }, "invalid_payload"], ["message:history", { ...to, limit: -1 }, "invalid_payload"],
        ["message:read", {}, "invalid_payload"], ["message:read", { messageId: 5 }, "invalid_payload"], ["message:read", { messageId: "zz" }, "invalid_payload"], ["message:read", { messageId: message.id, userId: c }, "invalid_payload"],
      ]) assert.equal(await codeOf(bob, event, payload), code, `${event} ${JSON.stringify(payload)}`);
      assert.equal(await codeOf(await enter(c), "message:read", { messageId: message.id }), "room_denied");
    });

    it("typing is told to the others with user and role, without an ack", async () => {
      const [a, b] = fresh("a", "b");
      const [ann, bob] = [await enter(a), await enter(b, { role: "doctor" })];
      const roomId = `topic:${a}`;
      for (const socket of [ann, bob]) await ask(socket, "room:join", { roomId });
      ann.emit("typing:start", { roomId });
      assert.deepEqual(await told(bob, "typing:start"), { roomId, userId: a, role: "patient" });
      ann.emit("typing:stop", { roomId });
      assert.deepEqual(await told(bob, "typing:stop"), { roomId, userId: a, role: "patient" });
      for (const [payload, code] of [[{}, "invalid_payload"], [{ roomId: "visit:of others" }, "room_denied"], [{ roomId, userId: b }, "invalid_payload"]]) {
        ann.log.length = 0;
        ann.emit("typing:start", payload);
        assert.equal((await told(ann, "error")).code, code);
      }
    });
  });

  describe("calls", () => {
    const rung = async (ann, devices, more = {}) => {
      const ack = await ask(ann, "call:initiate", { recipientId: devices[0].welcome.userId, callType: "video", ...more });
      for (const socket of devices) await told(socket, "call:incoming", { callId: ack.callId });
      return ack.callId;
    };

    it("initiate, accept, signal, end: names, keys and order on every device", async () => {
      const [a, b, v] = fresh("a", "b", "v");
      const [ann, ann2, bob, bob2] = [await enter(a, { name: "Ann", visits: [v] }), await enter(a), await enter(b), await enter(b)];
      const sockets = [ann, ann2, bob, bob2];
      const callId = await rung(ann, [bob, bob2], { visitId: v });
      assert.deepEqual(await ask(bob, "call:accept", { callId }), { success: true, callId, status: "accepted", iceServers: [] });
      await told(ann, "call:accepted");
      await until(async () => (await ask(ann, "presence:get", { userIds: [a, b] })).presences.every(({ status }) => status === "in_call"));
      assert.deepEqual(await ask(ann, "call:signal", { callId, signal: { type: "offer" } }), { success: true });
      await told(bob, "call:signal");
      assert.equal((await ask(ann, "room:join", { roomId: `call:${callId}` })).roomId, `call:${callId}`);
      assert.equal(await codeOf(ann2, "room:join", { roomId: `call:${callId}` }), "room_denied", "another device is not in the call");
      assert.deepEqual(await ask(ann, "call:end", { callId }).then(({ duration, ...rest }) => rest), { success: true, callId });
      await settled(sockets);
      const timeless = (socket) => story(socket).map(([event, data]) => [event, data.duration === undefined ? data : { ...data, duration: 0 }]);
      const [accepted, ended] = [["call:accepted", { callId, iceServers: [] }], ["call:ended", { callId, duration: 0 }]];
      const incoming = ["call:incoming", { callId, callerId: a, callerName: "Ann", callType: "video", visitId: v }];
      for (const socket of [ann, ann2]) assert.deepEqual(timeless(socket), [accepted, ended]);
      assert.deepEqual(timeless(bob), [incoming, ["call:signal", { callId, signal: { type: "offer" }, fromId: a }], ended]);
      assert.deepEqual(timeless(bob2), [incoming, ["call:ended", { callId, duration: 0, reason: "answered_elsewhere" }], ended]);
    });

    it("reject, cancel, no answer: old clients hear call:ended each time", async () => {
      const [a, b] = fresh("a", "b");
      const [ann, bob, bob2] = await Promise.all([a, b, b].map((name) => enter(name, {}, { path: "/quick" })));
      const stories = async () => {
        await settled([ann, bob, bob2], "quick");
        return [ann, bob, bob2].map((socket) => story(socket).filter(([event]) => event !== "call:incoming"));
      };
      let callId = await rung(ann, [bob, bob2]);
      assert.deepEqual(await ask(bob, "call:reject", { callId, reason: "later" }), { success: true, callId, duration: 0 });
      const rejected = [["call:rejected", { callId, reason: "later" }], ["call:ended", { callId, duration: 0, reason: "rejected" }]];
      assert.deepEqual(await stories(), [rejected, [], rejected]);

      callId = await rung(ann, [bob, bob2]);
      await ask(ann, "call:end", { callId });
      const cancelled = [["call:ended", { callId, duration: 0, reason: "cancelled" }]];
      assert.deepEqual(await stories(), [cancelled, cancelled, cancelled]);

      callId = await rung(ann, [bob, bob2]);
      for (const socket of [ann, bob, bob2]) await told(socket, "call:ended", { callId });
      const missed = [["call:missed", { callId }], ["call:ended", { callId, duration: 0, reason: "missed" }]];
      assert.deepEqual(await stories(), [missed, missed, missed]);
    });

    it("what is wrong is refused, and nobody hears of it", async () => {
      const [a, b] = fresh("a", "b");
      const [ann, bob] = [await enter(a), await enter(b)];
      const callId = await rung(ann, [bob]);
      await ask(ann, "call:end", { callId });
      await settled([ann, bob]);
      [ann, bob].forEach(story);
      const [to, audio] = [{ recipientId: b }, { callType: "audio" }];
      for (const [event, payload, code] of [
        ["call:initiate", {}, "invalid_payload"], ["call:initiate", to, "invalid_payload"], ["call:initiate", { ...to, callType: "x" }, "invalid_payload"], ["call:initiate", { recipientId: a, ...audio }, "self_call"],
        ["call:initiate", { ...to, ...audio, visitId: "of others" }, "room_denied"], ["call:initiate", { ...to, ...audio, callerId: b }, "invalid_payload"], ["call:initiate", { ...to, ...audio, userId: b }, "invalid_payload"],
        ["call:accept", {}, "invalid_payload"], ["call:accept", { callId }, "call_over"], ["call:reject", { callId: 5 }, "invalid_payload"], ["call:end", { callId: "none" }, "unknown_call"], ["call:signal", { callId }, "invalid_payload"],
        ["call:signal", { callId, signal: 1 }, "not_in_call"], ["call:rejoin", { callId }, "call_over"], ["call:fail", { callId: null }, "invalid_payload"],
        ["presence:get", {}, "invalid_payload"], ["presence:get", { userIds: "x" }, "invalid_payload"], ["presence:get", { userIds: [null] }, "invalid_payload"], ["presence:subscribe", { userIds: [{}] }, "invalid_payload"],
        ["presence:setStatus", {}, "invalid_payload"], ["presence:setStatus", { status: "asleep" }, "invalid_payload"], ["presence:setStatus", { status: "in_call" }, "invalid_payload"], ["presence:setStatus", { status: "busy", customStatus: 5 }, "invalid_payload"],
        ["presence:setStatus", { status: "busy", userId: b }, "invalid_payload"], ["notification:read", {}, "invalid_payload"], ["notification:read", { notificationId: "none" }, "unknown_notification"],
        ["notification:list", { limit: 0 }, "invalid_payload"], ["notification:list", { userId: b }, "invalid_payload"],
      ]) {
        assert.equal(await codeOf(ann, event, payload), code, `${event} ${JSON.stringify(payload)}`);
        ann.emit(event, payload);
        await told(ann, "error", { event }).catch((error) => assert.fail(`${event} ${JSON.stringify(payload)}: ${error.message}`));
        const [[, error], ...more] = story(ann);
        assert.deepEqual([error.code, error.event, more], [code, event, []]);
      }
      assert.equal(await codeOf(ann, "notification:list", { limit: 1e9 }), "over_limit");
      for (const event of ["nonsense", "ping", "error"]) assert.equal(await codeOf(ann, event, 1), "unknown_event");
      await settled([bob]);
      assert.deepEqual(story(bob), []);
      assert.deepEqual(await ask(ann, "presence:get", { userIds: [a] }).then(({ presences }) => presences[0].status), "online");
    });
  });

  describe("presence, notifications, the back end", () => {
    it("presence comes to subscribers, to who asked, and to the user, in the contract's words", async () => {
      const [a, b, c, d] = fresh("a", "b", "c", "d");
      const [bob, eve, dan] = [await enter(b), await enter(c), await enter(d)];
      assert.deepEqual(await ask(bob, "presence:subscribe", { userIds: [a] }), { success: true, presences: [{ userId: a, status: "offline" }] });
      assert.deepEqual(await ask(eve, "presence:get", { userIds: [a, 5, "5"] }), { success: true, presences: [{ userId: a, status: "offline" }, { userId: 5, status: "offline" }, { userId: "5", status: "offline" }] });
      const [ann, ann2] = [await enter(a), await enter(a)];
      for (const socket of [bob, eve]) assert.deepEqual(await told(socket, "presence:changed", { userId: a }), { userId: a, status: "online" });
      const busy = { userId: a, status: "busy", customStatus: "with a patient" };
      assert.deepEqual(await ask(ann, "presence:setStatus", { status: "busy", customStatus: "with a patient" }), { success: true, presence: busy });
      for (const socket of [ann, ann2, bob, eve]) assert.deepEqual(await told(socket, "presence:changed", { status: "busy" }), busy);
      assert.equal(await codeOf(bob, "call:initiate", { recipientId: a, callType: "audio" }), "do_not_disturb");
      await ask(ann, "presence:setStatus", { status: "online", customStatus: null });
      await told(bob, "presence:changed", { userId: a, status: "away" });
      ann.disconnect();
      assert.deepEqual(await ask(bob, "presence:unsubscribe", { userIds: [a] }), { success: true });
      assert.notEqual((await ask(eve, "presence:get", { userIds: [a] })).presences[0].status, "offline", "one device is left");
      ann2.disconnect();
      const { lastSeen, ...gone } = await told(eve, "presence:changed", { userId: a, status: "offline" });
      assert.match(lastSeen, ISO);
      assert.deepEqual(gone, { userId: a, status: "offline" });
      await settled([bob, dan]);
      assert.ok(!got(bob, "presence:changed").some(({ userId, status }) => userId === a && status === "offline"), "unsubscribed");
      assert.ok(!got(dan, "presence:changed").some(({ userId }) => userId === a));
    });

    it("notifications wait, are counted, listed, read, and told on all devices", async () => {
      const [a] = fresh("a");
      await backend("notify", { userId: a, notification: { title: "T", message: "M" } });
      const [ann, ann2] = [await enter(a), await enter(a)];
      assert.deepEqual(await ann.timeout(30_000).emitWithAck("notification:getUnreadCount"), { success: true, unreadCount: 1 }, "the callback is the only argument");
      const { success, notifications: [{ id, timestamp, ...first }] } = await ann.timeout(30_000).emitWithAck("notification:list");
      assert.match(timestamp, ISO);
      assert.deepEqual([success, first], [true, { title: "T", message: "M" }]);
      await backend("emit-to-user", { userId: a, event: "notification:new", data: { title: "T2", message: "M2", extra: 1 } });
      for (const socket of [ann, ann2]) {
        const { id: second, ...rest } = await told(socket, "notification:new");
        assert.deepEqual([typeof second, rest], ["string", { title: "T2", message: "M2", extra: 1 }]);
      }
      assert.deepEqual(await ask(ann, "notification:read", { notificationId: id }), { success: true, notificationId: id, unreadCount: 1 });
    });

    it("the back end emits to a user, to a room, to all", async () => {
      const [a, b, v] = fresh("a", "b", "v");
      const [ann, bob] = [await enter(a, { visits: [v] }), await enter(b)];
      await ask(ann, "room:join", { roomId: `visit:${v}` });
      await backend("emit-to-user", { userId: a, event: "to her", data: 1 });
      await backend("emit-to-room", { roomId: `visit:${v}`, event: "to the visit", data: 2 });
      await backend("emit", { to: { room: `visit:${v}` }, event: "to the room", data: 3 });
      await backend("maintenance", { message: "soon" });
      await backend("broadcast", { event: "to all", data: [4] });
      await settled([ann, bob]);
      const toAll = [["system:maintenance", { message: "soon" }], ["to all", [4]]];
      assert.deepEqual([story(ann), story(bob)], [[["to her", 1], ["to the visit", 2], ["to the room", 3], ...toAll], toAll]);
    });
  });
});
