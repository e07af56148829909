// The contract of the messenger, row by row, as its stock clients meet it: behind the balancer, on three nodes. What has tests of its own
// (chat.test.mjs, calls-messenger.test.mjs) is here in one piece: names, keys and order of what is heard.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { ask as question, call, withApi } from "../lib/api.mjs";
import { Bus } from "../lib/bus.mjs";
import { ask, fresh, refused, told, vanish } from "../lib/calls.mjs";
import { ISO } from "../lib/chat.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { got, POLLING, SECRET, token, Users } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("messenger-rows.toml", import.meta.url), "utf8");

describe("the messenger, row by row", () => {
  const users = new Users();
  let cluster, bus;
  before(async () => {
    cluster = await withApi(await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" }));
    bus = await Bus.connect(cluster.nats.servers[0]);
  });
  after(async () => { bus?.close(); await cluster?.stop(); });
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  /** A client with the stock client's own transports, and the token's claims as given. */
  const dial = (claims, { path = "/socket.io", ...options } = {}) =>
    users.dial(cluster.url, { path, auth: { token: sign(claims, SECRET) }, ...options });
  async function enter(userId, claims = {}, options) {
    const socket = dial({ userId, ...claims }, options);
    await heard(socket, "connect");
    socket.welcome = { userId };
    return socket;
  }
  const refusal = async (auth, options) => {
    const [error] = await heard(users.dial(cluster.url, { path: "/socket.io", auth, ...options }), "connect_error");
    return [error.message, error.data?.code];
  };
  const backend = async (verb, body, app = "talk", node = 1) => {
    const { status, body: answer } = await call(cluster.nodes[node % 3], app, verb, body);
    assert.equal(status, 200, JSON.stringify(answer));
    return answer;
  };
  /** Everything told before has come once this has. */
  let marks = 0;
  async function settled(sockets, app = "talk") {
    const mark = `mark ${marks += 1}`;
    await backend("emit", { to: { everyone: true }, event: "mark", data: mark }, app);
    await Promise.all(sockets.map((socket) => until(() => got(socket, "mark").includes(mark))));
  }
  /** All that a socket has heard of calls and chats since it was asked last, in order. */
  const story = (socket) => socket.log.splice(0).filter(([event]) => event !== "mark" && !event.startsWith("user:"));
  const codeOf = async (socket, event, payload) => (await socket.timeout(30_000).emitWithAck(event, payload)).code;

  describe("connecting", () => {
    it("takes the user id from userId, then sub, then id", async () => {
      const [a, b, c] = fresh("a", "b", "c");
      for (const [claims, id] of [[{ userId: a, sub: "x", id: "y" }, a], [{ sub: b, id: "y" }, b], [{ id: c }, c]]) {
        const socket = dial(claims);
        await heard(socket, "connect");
        assert.deepEqual(await ask(socket, "user:authenticate", { token: sign(claims, SECRET) }), { success: true, userId: id });
        assert.deepEqual(await told(socket, "user:authenticated"), { userId: id });
      }
    });

    for (const [what, shown, code] of [
      ["no token", undefined, "missing_token"], ["an empty one", { token: "" }, "missing_token"], ["null", { token: null }, "missing_token"], ["a number", { token: 5 }, "missing_token"],
      ["garbage", { token: "x.y.z" }, "invalid_token"], ["100 kB", { token: "x".repeat(100_000) }, "invalid_token"], ["another key", { token: sign({ userId: 1 }, "other") }, "invalid_token"],
      ["no algorithm", { token: sign({ userId: 1 }, SECRET, { alg: "none" }) }, "invalid_token"], ["nobody's", { token: sign({ name: "x" }, SECRET) }, "invalid_token"],
      ["past", { token: sign({ userId: 1 }, SECRET, { ttl_s: -60 }) }, "expired_token"],
    ]) {
      it(`refuses ${what} with "Authentication failed"`, async () => {
        assert.deepEqual(await refusal(shown), ["Authentication failed", code]);
      });
    }

    it("cuts off and refuses a revoked user with \"User not found\"", async () => {
      const [gone] = fresh("gone");
      const live = await enter(gone);
      const closed = heard(live, "disconnect");
      await backend("revoke", { user: gone });
      assert.equal((await closed)[0], "io server disconnect");
      assert.equal(got(live, "error")[0].message, "User not found");
      assert.deepEqual(await refusal({ token: token(gone) }), ["User not found", "revoked_token"]);
    });

    it("user:authenticate takes the same user's token only", async () => {
      const [a, b] = fresh("a", "b");
      const socket = await enter(a);
      socket.emit("user:authenticate", { token: token(a) });
      assert.deepEqual(await told(socket, "user:authenticated"), { userId: a });
      for (const [payload, code] of [[{ token: token(b) }, "invalid_token"], [{ token: "x" }, "invalid_token"], [{}, "invalid_payload"], [null, "invalid_payload"], [{ token: 5 }, "invalid_payload"]]) {
        assert.equal(await codeOf(socket, "user:authenticate", payload), code);
      }
      socket.emit("user:authenticate", { token: token(b) });
      assert.deepEqual(await told(socket, "error"), { message: "Authentication failed", code: "invalid_token", event: "user:authenticate" });
      assert.equal(await codeOf(socket, "user:status", { userIds: [a] }), undefined, "it is still in");
    });

    it("lets pages of named origins read", async () => {
      const allowed = async (origin) => (await fetch(`${cluster.url}/socket.io/?EIO=4&transport=polling`, { headers: { origin } })).headers.get("access-control-allow-origin");
      assert.deepEqual([await allowed("https://app.example"), await allowed("https://evil.example")], ["https://app.example", null]);
    });
  });

  describe("chats", () => {
    it("are entered by the claim, and user:{userId} by everybody", async () => {
      const [c, a] = fresh("c", "a");
      const ann = await enter(a, { chats: [c] });
      await backend("send-to-chat", { chatId: c, event: "to the chat", data: { x: [1] } });
      await backend("emit", { to: { room: `user:${a}` }, event: "to her", data: 1 });
      assert.deepEqual(await told(ann, "to the chat"), { x: [1] });
      await until(() => got(ann, "to her")[0] === 1);
    });

    it("are those of the hook at connect; the name is the token's, then the hook's, then the id", async () => {
      const [c, a, b, d] = fresh("c", "a", "b", "d");
      const quiet = bus.serve("asked.hook", ({ kind, userId, right }) => (kind === "user"
        ? { allow: userId !== "nobody", user: { ...(userId !== d && { name: `Hook ${userId}` }), claims: { chats: [c] } } }
        : { allow: right.startsWith("user:") }));
      const [ann, bob, dan] = [await enter(a, { username: "Ann" }, { path: "/asked" }), await enter(b, {}, { path: "/asked" }), await enter(d, {}, { path: "/asked" })];
      await backend("send-to-chat", { chatId: c, event: "hello", data: 1 }, "asked");
      await settled([ann, bob, dan], "asked");
      for (const socket of [ann, bob, dan]) assert.deepEqual(got(socket, "hello"), [1]);
      for (const [caller, receiver, username] of [[ann, bob, "Ann"], [bob, ann, `Hook ${b}`], [dan, ann, d]]) {
        const { callId } = await ask(caller, "call:initiate", { receiverId: receiver.welcome.userId, callType: "audio" });
        assert.deepEqual((await told(receiver, "call:incoming", { callId })).caller, { id: caller.welcome.userId, username });
        await ask(caller, "call:end", { callId });
      }
      assert.deepEqual(await refusal({ token: token("nobody") }, { path: "/asked" }), ["User not found", "unknown_user"]);
      quiet();
    });

    it("are the back end's to add users to and to take them from, for as long as they are connected", async () => {
      const [c, a, b] = fresh("c", "a", "b");
      // One of them over polling, one that has changed the node.
      const [ann, bob, bob2] = [await enter(a, { chats: [c] }), await enter(b, {}, POLLING), await enter(b)];
      assert.equal(await codeOf(bob, "message:send", { chatId: c, content: "?" }), "room_denied");
      await backend("chat-add", { chatId: c, userIds: [b] });
      await until(() => bob2.io.engine.transport.name === "websocket");
      for (const socket of [bob, bob2]) assert.equal((await ask(socket, "message:send", { chatId: c, content: "in" })).message.senderId, b);
      await ask(bob, "chat:leave", { chatId: c });
      await ask(bob, "chat:join", { chatId: c });
      await backend("chat-remove", { chatId: c, userIds: [a, b] });
      for (const socket of [ann, bob, bob2]) {
        for (const [event, payload] of [["message:send", { content: "x" }], ["chat:join", {}], ["message:history", {}], ["typing:start", { isTyping: true }]]) {
          assert.equal(await codeOf(socket, event, { chatId: c, ...payload }), "room_denied", `${event}: also with a token that names the chat`);
        }
      }
      await backend("send-to-chat", { chatId: c, event: "unheard", data: 1 });
      await settled([ann, bob, bob2]);
      for (const socket of [ann, bob, bob2]) assert.deepEqual(got(socket, "unheard"), []);
      const again = await enter(a, { chats: [c] });
      await ask(again, "message:send", { chatId: c, content: "a new connection goes by its token" });
    });

    it("are entered by whom the back end adds while the connection moves to another node", async () => {
      const [c] = fresh("c");
      const before = await cluster.metric("trunkline_upgrades_total");
      const names = Array.from({ length: 24 }, (_, n) => `${c}-${n}`);
      const sockets = await Promise.all(names.map(async (name, n) => {
        const socket = await enter(name, {}, { reconnection: false });
        await backend("chat-add", { chatId: c, userIds: [name] }, "talk", n);
        return socket;
      }));
      await Promise.all(sockets.map((socket) => until(() => socket.io.engine.transport.name === "websocket", 10_000)));
      for (const socket of sockets) await ask(socket, "message:send", { chatId: c, content: "here" });
      for (const socket of sockets) await until(() => got(socket, "message:receive").length >= sockets.length - sockets.indexOf(socket), 10_000);
      assert.ok((await cluster.metric("trunkline_upgrades_total")) > before, "some did move");
    });

    it("are left and entered, by those with a right to them", async () => {
      const [c, other, a] = fresh("c", "other", "a");
      const ann = await enter(a, { chats: [c] });
      assert.deepEqual(await ask(ann, "chat:leave", { chatId: c }), { success: true, chatId: c });
      await backend("send-to-chat", { chatId: c, event: "unheard", data: 1 });
      assert.deepEqual(await ask(ann, "chat:join", { chatId: c }), { success: true, chatId: c });
      await backend("send-to-chat", { chatId: c, event: "heard", data: 1 });
      await until(() => got(ann, "heard").length === 1);
      assert.deepEqual(got(ann, "unheard"), []);
      await refused(ann, "chat:join", { chatId: other }, "room_denied");
    });

    it("are open to all in open mode, with any event that names one, a call too", async () => {
      const [c, a, b] = fresh("c", "a", "b");
      const [ann, bob] = [await enter(a, {}, { path: "/open" }), await enter(b, {}, { path: "/open" })];
      const { callId } = await ask(bob, "call:initiate", { receiverId: a, callType: "audio", chatId: c });
      assert.equal((await told(ann, "call:incoming", { callId })).chatId, c);
      await ask(ann, "message:send", { chatId: c, content: "x" });
      await told(bob, "message:receive");
    });
  });

  describe("messages", () => {
    it("reach the whole chat under message:receive, with the keys of the contract", async () => {
      const [c, a, b] = fresh("c", "a", "b");
      const [ann, ann2, bob] = [await enter(a, { chats: [c] }), await enter(a, { chats: [c] }), await enter(b, { chats: [c] })];
      const { message, ...rest } = await ask(ann, "message:send", { chatId: c, content: "hi", unknown: { deep: [1] } });
      assert.deepEqual(rest, { success: true });
      assert.match(message.createdAt, ISO);
      assert.deepEqual(message, { id: message.id, chatId: c, senderId: a, content: "hi", type: "text", attachments: [], status: "sent", createdAt: message.createdAt });
      for (const socket of [ann, ann2, bob]) assert.deepEqual(await told(socket, "message:receive"), { message, chatId: c });
      for (const type of ["text", "image", "file", "audio", "video"]) assert.equal((await ask(ann, "message:send", { chatId: c, content: "x", type })).message.type, type);
      const nulls = { type: null, replyTo: null, attachments: null, clientId: null };
      assert.equal((await ask(ann, "message:send", { chatId: c, content: "x", ...nulls })).message.type, "text", "null counts as left out");
    });

    it("have 4096 characters at most, whatever their bytes", async () => {
      const [c, a] = fresh("c", "a");
      const ann = await enter(a, { chats: [c] });
      for (const sign of ["x", "😀"]) {
        assert.equal((await ask(ann, "message:send", { chatId: c, content: sign.repeat(4096) })).message.content.length, 4096 * sign.length);
        assert.match((await refused(ann, "message:send", { chatId: c, content: sign.repeat(4097) }, "over_limit")).error, /4096/);
      }
      const { message } = await ask(ann, "message:send", { chatId: c, content: "short" });
      await refused(ann, "message:edit", { messageId: message.id, content: "x".repeat(4097) }, "over_limit");
    });

    it("of somebody else are refused, also without an ack, and nobody hears them", async () => {
      const [c, a, b] = fresh("c", "a", "b");
      const [ann, bob] = [await enter(a, { chats: [c] }), await enter(b, { chats: [c] })];
      for (const field of ["userId", "senderId"]) {
        assert.match((await refused(ann, "message:send", { chatId: c, content: "x", [field]: b }, "invalid_payload")).error, new RegExp(field));
        ann.emit("message:send", { chatId: c, content: "x", [field]: b });
      }
      await until(() => got(ann, "error").length === 2);
      assert.deepEqual(Object.keys(got(ann, "error")[0]).sort(), ["code", "event", "message"]);
      assert.equal((await ask(ann, "message:send", { chatId: c, content: "mine", userId: a, senderId: a })).message.senderId, a);
      await settled([bob]);
      assert.deepEqual(got(bob, "message:receive").map(({ message }) => message.content), ["mine"]);
    });

    it("are edited, read, deleted and listed, with the keys of the contract", async () => {
      const [c, a, b] = fresh("c", "a", "b");
      const [ann, bob] = [await enter(a, { chats: [c] }), await enter(b, { chats: [c] })];
      const ids = [];
      for (const content of ["0", "1", "2", "3"]) ids.push((await ask(ann, "message:send", { chatId: c, content })).message.id);
      assert.deepEqual(await told(ann, "message:status", { messageId: ids[3] }), { chatId: c, messageId: ids[3], status: "delivered" });
      assert.deepEqual(await ask(bob, "message:read", { messageId: ids[0] }), { success: true, messageId: ids[0] });
      assert.deepEqual(await ask(bob, "message:read", { chatId: c, messageIds: [ids[1], ids[2]] }), { success: true, messageIds: [ids[1], ids[2]] });
      await ask(bob, "message:read", { messageId: ids[0] });
      assert.deepEqual(await ask(bob, "message:unread", { chatIds: [c] }), { success: true, unread: { [c]: 1 } });
      assert.deepEqual(await bob.timeout(30_000).emitWithAck("message:unread"), { success: true, unread: { [c]: 1 } }, "without a payload");
      const { message, ...edited } = await ask(ann, "message:edit", { messageId: ids[3], content: "three", senderId: b });
      assert.deepEqual(edited, { success: true, chatId: c, messageId: ids[3] });
      assert.match(message.editedAt, ISO);
      await ask(ann, "message:delete", { chatId: c, messageId: ids[3] });
      await settled([ann, bob]);
      const since = story(bob).filter(([event]) => event !== "message:receive");
      assert.deepEqual(since.map(([event]) => event), ["message:read", "message:read", "message:read", "message:edit", "message:delete"]);
      assert.deepEqual(since.slice(0, 3).map(([, { readAt, ...rest }]) => (assert.match(readAt, ISO), rest)), ids.slice(0, 3).map((messageId) => ({ chatId: c, messageId, userId: b })));
      assert.deepEqual(since[3][1], { chatId: c, message });
      assert.deepEqual(since[4][1], { chatId: c, messageId: ids[3], deletedBy: a });
      const { messages, hasMore } = await ask(bob, "message:history", { chatId: c, limit: 1 });
      assert.deepEqual([hasMore, messages[0].content, messages[0].deletedAt !== undefined], [true, "", true]);
    });

    it("typing is over by itself, and refused where it may not be", async () => {
      const [c, a, b] = fresh("c", "a", "b");
      const [ann, bob] = [await enter(a, { chats: [c] }), await enter(b, { chats: [c] })];
      ann.emit("typing:start", { chatId: c, isTyping: true });
      assert.deepEqual(await told(bob, "typing:start"), { chatId: c, userId: a, isTyping: true });
      assert.deepEqual(await told(bob, "typing:stop"), { chatId: c, userId: a, isTyping: false });
      for (const [payload, code] of [[{}, "invalid_payload"], [{ chatId: c, isTyping: "yes" }, "invalid_payload"], [{ chatId: "of others", isTyping: true }, "room_denied"], [{ chatId: c, isTyping: true, userId: b }, "invalid_payload"]]) {
        await refused(ann, "typing:start", payload, code);
      }
    });
  });

  describe("calls", () => {
    it("initiate, accept, signal, end: names, keys and order on every device", async () => {
      const [c, a, b] = fresh("c", "a", "b");
      const [ann, ann2, bob, bob2] = [await enter(a, { username: "Ann", chats: [c] }), await enter(a), await enter(b, { name: "Bob" }), await enter(b)];
      const { callId, ...rest } = await ask(ann, "call:initiate", { receiverId: b, callType: "video", chatId: c });
      assert.deepEqual(rest, { success: true, status: "ringing", iceServers: [] });
      for (const socket of [bob, bob2]) assert.deepEqual(await told(socket, "call:incoming"), { callId, caller: { id: a, username: "Ann" }, callType: "video", chatId: c });
      assert.deepEqual(await ask(bob, "call:response", { callId, action: "accept" }), { success: true, callId, action: "accept", status: "accepted", iceServers: [] });
      await told(ann, "call:accepted");
      for (const kind of ["call", "video", "screen"]) await backend("emit", { to: { room: `${kind}:${callId}` }, event: kind, data: callId });
      assert.equal(await codeOf(ann2, "chat:join", { chatId: `call:${callId}` }), "room_denied", "nobody joins a call's room");
      const offer = { callId, type: "offer", sdp: "x", nested: { a: [1, null] } };
      ann.emit("webrtc:signal", offer);
      assert.deepEqual(await told(bob, "webrtc:signal"), { ...offer, fromId: a });
      await settled([ann, ann2, bob, bob2]);
      await ask(ann, "call:end", { callId });
      await settled([ann, ann2, bob, bob2]);
      const [answered, accepted] = [["call:response", { callId, action: "accept", userId: b }], ["call:accepted", { callId, userId: b, iceServers: [] }]];
      const over = { callId, endedBy: a, reason: "hung_up", duration: 0 };
      const told3 = (socket) => story(socket).map(([event, data]) => [event, data?.duration === undefined ? data : { ...data, duration: 0 }]);
      const initiated = ["call:initiated", { callId, status: "ringing", iceServers: [] }];
      const rooms = ["call", "video", "screen"].map((kind) => [kind, callId]);
      assert.deepEqual(told3(ann), [initiated, answered, accepted, ...rooms, ["call:end", over], ["call:ended", over]]);
      assert.deepEqual(told3(ann2), [answered, accepted, ["call:end", over], ["call:ended", over]]);
      assert.deepEqual(told3(bob2).slice(1), [["call:answered_elsewhere", { callId, action: "accept" }], ["call:end", over], ["call:ended", over]]);
      const atBob = told3(bob);
      assert.deepEqual(atBob.map(([event]) => event), ["call:incoming", "call:accepted", "video:state", "screen:state", "call", "video", "screen", "webrtc:signal", "call:end", "call:ended"]);
      assert.deepEqual(atBob[1], accepted);
    });

    it("decline, cancel, no answer", async () => {
      const [a, b] = fresh("a", "b");
      const [ann, bob, bob2] = [await enter(a, {}, { path: "/quick" }), await enter(b, {}, { path: "/quick" }), await enter(b, {}, { path: "/quick" })];
      const sockets = [ann, bob, bob2];
      const made = async () => {
        const { callId } = await ask(ann, "call:initiate", { receiverId: b, callType: "audio" });
        for (const socket of [bob, bob2]) await told(socket, "call:incoming", { callId });
        sockets.forEach(story);
        return callId;
      };
      let callId = await made();
      assert.deepEqual(await ask(bob, "call:response", { callId, action: "decline" }), { success: true, callId, action: "decline", status: "rejected" });
      await settled(sockets, "quick");
      assert.deepEqual(story(ann), [
        ["call:response", { callId, action: "decline", userId: b }], ["call:declined", { callId, userId: b }], ["call:ended", { callId, endedBy: b, reason: "rejected", duration: 0 }],
      ]);
      assert.deepEqual([story(bob), story(bob2)], [[], [["call:answered_elsewhere", { callId, action: "decline" }]]]);

      callId = await made();
      assert.deepEqual(await ask(ann, "call:end", { callId }), { success: true, callId, status: "ended", duration: 0 });
      await settled(sockets, "quick");
      const cancelled = { callId, endedBy: a, reason: "cancelled", duration: 0 };
      for (const socket of sockets) assert.deepEqual(story(socket), [["call:end", cancelled], ["call:ended", cancelled]]);

      callId = await made();
      for (const socket of sockets) await told(socket, "call:ended", { callId });
      const timeout = { callId, endedBy: null, reason: "timeout", duration: 0 };
      assert.deepEqual(story(ann), [["call:timeout", { callId }], ["call:end", timeout], ["call:ended", timeout]]);
      for (const socket of [bob, bob2]) assert.deepEqual(story(socket), [["call:timeout", { callId, userId: b }], ["call:end", timeout], ["call:ended", timeout]]);
    });

    it("at most 5 at once per user; then the caller is refused, and others hear that the user is busy", async () => {
      const [a, ...others] = fresh("a", "b", "c", "d", "e", "f", "g");
      const ann = await enter(a);
      const sockets = await Promise.all(others.map((name) => enter(name)));
      for (const socket of sockets.slice(0, 5)) {
        const { callId } = await ask(ann, "call:initiate", { receiverId: socket.welcome.userId, callType: "audio" });
        await told(socket, "call:incoming", { callId });
        await ask(socket, "call:response", { callId, action: "accept" });
      }
      const sixth = { receiverId: others[5], callType: "audio" };
      assert.match((await refused(ann, "call:initiate", sixth, "over_limit")).error, /5 \(calls.per_user\)/);
      ann.emit("call:initiate", sixth);
      assert.equal((await told(ann, "call:error")).code, "over_limit");
      sockets[5].emit("call:initiate", { receiverId: a, callType: "audio" });
      assert.deepEqual(await told(sockets[5], "call:busy"), { receiverId: a, message: "The user is busy", code: "busy" });
    });

    it("a conference takes 50, the creator among them", async () => {
      const [a] = fresh("a");
      const ann = await enter(a);
      const many = Array.from({ length: 50 }, (_, n) => `${a}-${n}`);
      await refused(ann, "conference:create", { participants: many, callType: "audio" }, "over_limit");
      const { callId, participants } = await ask(ann, "conference:create", { participants: [...many.slice(0, 49), many[0], a], callType: "audio" });
      assert.equal(participants.length, 50, "each once");
      await ask(ann, "call:end", { callId });
    });

    it("a seat is kept for who comes back, and call:active says which", async () => {
      const [a, b] = fresh("a", "b");
      const [ann, bob] = [await enter(a, {}, { path: "/quick" }), await enter(b, {}, { path: "/quick" })];
      const { callId } = await ask(ann, "call:initiate", { receiverId: b, callType: "video" });
      await told(bob, "call:incoming");
      await ask(bob, "call:response", { callId, action: "accept" });
      vanish(bob);
      const back = await enter(b, {}, { path: "/quick" });
      const active = await told(back, "call:active");
      assert.deepEqual(Object.keys(active).sort(), ["acceptedAt", "callId", "callType", "caller", "participants", "status"]);
      assert.deepEqual(await ask(back, "call:rejoin", { callId }).then(({ iceServers, callType }) => [iceServers, callType]), [[], "video"]);
      ann.emit("webrtc:signal", { callId, targetId: b, n: 1 });
      assert.equal((await told(back, "webrtc:signal")).fromId, a);
    });

    it("what is wrong is refused in the ack, else by the error event of its kind, and nobody hears of it", async () => {
      const [a, b] = fresh("a", "b");
      const [ann, bob] = [await enter(a), await enter(b)];
      const { callId } = await ask(ann, "call:initiate", { receiverId: b, callType: "audio" });
      await ask(ann, "call:end", { callId });
      await settled([ann, bob]);
      [ann, bob].forEach(story);
      const audio = { callType: "audio" };
      for (const [event, payload, code, told] of [
        ["call:initiate", {}, "invalid_payload"], ["call:initiate", { receiverId: b }, "invalid_payload"], ["call:initiate", { receiverId: b, callType: "smell" }, "invalid_payload"],
        ["call:initiate", { receiverId: null, ...audio }, "invalid_payload"], ["call:initiate", { receiverId: "x".repeat(5000), ...audio }, "invalid_payload"], ["call:initiate", { receiverId: a, ...audio }, "self_call"],
        ["call:initiate", { receiverId: b, ...audio, chatId: "of others" }, "room_denied"], ["call:initiate", { receiverId: b, ...audio, callerId: b }, "invalid_payload"],
        ["call:initiate", [b, "audio"], "invalid_payload"], ["call:response", { callId }, "invalid_payload"], ["call:response", { callId, action: "maybe" }, "invalid_payload"],
        ["call:response", { callId: 5, action: "accept" }, "invalid_payload"], ["call:response", { callId, action: "accept" }, "call_over"], ["call:end", {}, "invalid_payload"],
        ["call:end", { callId: "none" }, "unknown_call"], ["call:rejoin", { callId }, "call_over"], ["webrtc:signal", { callId }, "not_in_call"], ["webrtc:signal", {}, "invalid_payload"],
        ["webrtc:signal", "x", "invalid_payload"], ["conference:create", { participants: [a], ...audio }, "nobody_invited"], ["conference:create", { participants: [b], ...audio, title: 5 }, "invalid_payload"],
        ["conference:create", { participants: [{}], ...audio }, "invalid_payload"], ["conference:video:join", { callId }, "call_over", "video:error"], ["conference:video:leave", { callId }, "call_over", "video:error"],
        ["video:stream:start", { callId }, "invalid_payload", "video:error"], ["video:stream:start", { callId, hasVideo: 1, hasAudio: true }, "invalid_payload", "video:error"],
        ["video:stream:stop", { callId }, "call_over", "video:error"], ["video:quality:change", { callId }, "invalid_payload", "video:error"],
        ["video:control:toggle", { callId, action: "mute_video", enabled: true }, "call_over", "video:error"], ["screen:share:start", { callId }, "invalid_payload", "screen:error"],
        ["screen:share:stop", { callId }, "call_over", "screen:error"], ["screen:quality:change", { callId, quality: "ultra" }, "invalid_payload", "screen:error"],
        ["screen:annotation:add", { callId, type: "draw", data: {} }, "call_over", "screen:error"], ["screen:remote:request", { callId: "none" }, "unknown_call", "screen:error"],
        ["screen:remote:revoke", {}, "invalid_payload", "screen:error"], ["nonsense", { a: 1 }, "unknown_event", "error"], ["ping", {}, "unknown_event", "error"], ["error", null, "unknown_event", "error"],
      ]) {
        const what = `${event} ${JSON.stringify(payload).slice(0, 80)}`;
        assert.equal(await codeOf(ann, event, payload), code, what);
        ann.emit(event, payload);
        const heardOf = told ?? "call:error";
        await until(() => ann.log.some(([name]) => name === heardOf));
        const [[name, error], ...more] = story(ann);
        assert.deepEqual([name, error.code, more], [heardOf, code, []], what);
        assert.ok(error.message.length > 0, what);
      }
      await settled([bob]);
      assert.deepEqual(story(bob), []);
    });
  });

  describe("who is there, and the back end", () => {
    it("user:online and user:offline come to those who share a chat or asked, and to nobody else", async () => {
      const [c, a, b, d, e] = fresh("c", "a", "b", "d", "e");
      const quick = (name, claims) => enter(name, claims, { path: "/quick" });
      const [bob, dan, eve] = [await quick(b, { chats: [c] }), await quick(d), await quick(e)];
      assert.deepEqual(await ask(dan, "user:status", { userIds: [a, 5] }), {
        success: true, users: [{ userId: a, status: "offline", online: false }, { userId: 5, status: "offline", online: false }],
      });
      const ann = await quick(a, { chats: [c] });
      for (const socket of [bob, dan]) assert.deepEqual(await told(socket, "user:online", { userId: a }), { userId: a });
      ann.disconnect();
      for (const socket of [bob, dan]) {
        const { lastSeen, ...rest } = await told(socket, "user:offline", { userId: a });
        assert.match(lastSeen, ISO);
        assert.deepEqual(rest, { userId: a });
      }
      assert.equal((await ask(dan, "user:status", { userIds: [a] })).users[0].online, false);
      await settled([eve], "quick");
      assert.ok(!eve.log.some(([event, data]) => event.startsWith("user:") && data.userId === a));
      for (const payload of [{}, { userIds: "x" }, { userIds: [null] }, { userIds: [{}] }]) await refused(dan, "user:status", payload, "invalid_payload");
    });

    it("sends events and messages to a chat, notifies everybody, and counts the whole cluster", async () => {
      const [c, a, b] = fresh("c", "a", "b");
      const [ann, bob] = [await enter(a, { chats: [c] }, { path: "/open" }), await enter(b, {}, { path: "/open" })];
      const { posted: [{ message }] } = await backend("send-chat-message", { chatId: c, message: { senderId: "bot", content: "hello" } }, "open");
      assert.deepEqual(await told(ann, "message:receive"), { message, chatId: c });
      await backend("notify-all", { event: "news", data: { a: [1] } }, "open");
      for (const socket of [ann, bob]) assert.deepEqual(await told(socket, "news"), { a: [1] });
      for (const node of cluster.nodes) {
        await until(async () => {
          const { totalConnections, onlineUsers } = (await question(node, "open", "stats")).body;
          return totalConnections === 2 && onlineUsers === 2;
        }, 15_000);
      }
    });

    it("a payload over the limit closes the transport, and the client comes back on its own", async () => {
      const [c, a] = fresh("c", "a");
      const ann = await enter(a, { chats: [c] }, { path: "/quick" });
      const closed = heard(ann, "disconnect");
      ann.emit("message:send", { chatId: c, content: "x".repeat(5000) });
      assert.notEqual((await closed)[0], "io server disconnect");
      await heard(ann, "connect");
      await ask(ann, "message:send", { chatId: c, content: "back" });
    });
  });
});
