// The telehealth application with stock clients over a cluster: who gets in, rooms, messages, typing, bad input.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { heard, heardWhere, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { CONFIG, got, join, POLLING, SECRET, send, token, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const INVALID = "Authentication error: Invalid token";
const EXPIRED = "Authentication error: Token expired";
const DENIED = "Room access denied";
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe("telehealth on three nodes", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  /** A user on each node, in the order of the names. */
  const onNodes = (...names) =>
    Promise.all(names.map((name, i) => users.enter(cluster.nodes[i % 3].url, name, WEBSOCKET)));

  describe("connecting", () => {
    for (const [name, options] of Object.entries({ polling: POLLING, websocket: WEBSOCKET, upgrade: UPGRADE })) {
      it(`says who one is (${name})`, async () => {
        const socket = await users.enter(cluster.url, "ann", options);
        assert.deepEqual(socket.welcome, { socketId: socket.id, userId: "ann" });
        if (name === "upgrade") await until(() => socket.io.engine.transport.name === "websocket");
        await join(socket, "topic:hall");
      });
    }

    it("keeps a numeric id a number and takes the token from the header", async () => {
      const socket = users.dial(cluster.url, { ...WEBSOCKET, extraHeaders: { authorization: `Bearer ${token(7)}` } });
      assert.equal((await heard(socket, "connected"))[0].userId, 7);
    });

    const half = token("ann");
    for (const [name, auth, message, code] of [
      ["no token", undefined, INVALID, "missing_token"],
      ["an empty token", { token: "" }, INVALID, undefined],
      ["garbage", { token: "garbage" }, INVALID, "invalid_token"],
      ["a token that is no text", { token: { a: 1 } }, INVALID, undefined],
      ["the algorithm none", { token: sign({ userId: "ann" }, "", { alg: "none" }) }, INVALID, "invalid_token"],
      ["another algorithm", { token: sign({ userId: "ann" }, SECRET, { alg: "HS512" }) }, INVALID, "invalid_token"],
      ["another key", { token: sign({ userId: "ann" }, "another") }, INVALID, "invalid_token"],
      ["a changed signature", { token: half.slice(0, -4) }, INVALID, "invalid_token"],
      ["no user", { token: sign({}, SECRET) }, INVALID, "invalid_token"],
      ["a token of 100 KB", { token: sign({ userId: "ann", x: "x".repeat(100_000) }, SECRET) }, INVALID, "invalid_token"],
      ["an expired token", { token: sign({ userId: "ann" }, SECRET, { ttl_s: -10 }) }, EXPIRED, "expired_token"],
    ]) {
      it(`refuses ${name}`, async () => {
        const socket = users.dial(cluster.url, { ...WEBSOCKET, auth });
        const [error] = await heard(socket, "connect_error");
        assert.equal(error.message, message);
        if (code) assert.equal(error.data.code, code);
        else assert.ok(error.data.code);
      });
    }

    it("closes the transport when the token expires, and then refuses it", async () => {
      const socket = users.dial(cluster.url, { ...WEBSOCKET, auth: { token: sign({ userId: "ann" }, SECRET, { ttl_s: 2 }) } });
      await heard(socket, "connected");
      const refused = heard(socket, "connect_error");
      assert.equal((await heard(socket, "disconnect"))[0], "transport close");
      assert.equal((await refused)[0].message, EXPIRED);
    });
  });

  describe("rooms", () => {
    it("tell who is there, across nodes", async () => {
      const [fay, ann, bob, eve] = await onNodes("fay", "ann", "bob", "eve");
      const patients = (...ids) => ids.map((userId) => ({ userId, role: "patient" }));
      const byId = (a, b) => (a.userId < b.userId ? -1 : 1);
      assert.deepEqual((await join(fay, "topic:a")).participants, patients("fay"));
      // Told after the ack: only then is it over for those who come later.
      const told = heard(fay, "room:userJoined");
      assert.deepEqual((await join(ann, "topic:a")).participants.sort(byId), patients("ann", "fay"));
      assert.equal((await told)[0].userId, "ann");
      const news = heard(ann, "room:userJoined");
      const ack = await join(bob, "topic:a");
      assert.deepEqual(ack.participants.sort(byId), patients("ann", "bob", "fay"));
      assert.equal(ack.roomId, "topic:a");
      assert.deepEqual((await news)[0], { roomId: "topic:a", userId: "bob", role: "patient" });
      const second = heard(bob, "room:userJoined");
      await join(eve, "topic:a");
      assert.equal((await second)[0].userId, "eve");
      const left = heardWhere(ann, "room:userLeft", ({ userId }) => userId === "bob");
      assert.equal((await bob.emitWithAck("room:leave", { roomId: "topic:a" })).success, true);
      assert.deepEqual((await left)[0], { roomId: "topic:a", userId: "bob", role: "patient" });
      const gone = heardWhere(ann, "room:userLeft", ({ userId }) => userId === "eve");
      eve.disconnect();
      await gone;
      assert.equal(got(bob, "room:userJoined").length, 1, "only of those who came after");
    });

    it("of a chat have one name for both orders", async () => {
      const [ann, bob] = await onNodes("ann", "bob");
      await join(ann, "chat:bob:ann");
      await join(bob, "chat:ann:bob");
      const heardIt = heard(bob, "message:new");
      await send(ann, "hello", { roomId: "chat:bob:ann" });
      assert.equal((await heardIt)[0].message, "hello");
    });

    it("of visits open by claim", async () => {
      const doctor = await users.enter(cluster.url, "doc", { ...WEBSOCKET, claims: { role: "doctor", visits: [12, "x.y"] } });
      for (const roomId of ["visit:12", "call:12", "visit:x.y"]) await join(doctor, roomId);
      const ack = await doctor.emitWithAck("room:join", { roomId: "visit:13", roomType: "visit" });
      assert.deepEqual([ack.success, ack.error], [false, DENIED]);
    });

    for (const roomId of ["chat:bob:eve", "chat:annabel:bob", "visit:1", "call:1", "notifications:bob", "secret:1", "nothing", "visit:", "chat:ann", "*", ">", ""]) {
      it(`deny ${JSON.stringify(roomId)} to a stranger`, async () => {
        const ann = await users.enter(cluster.url, "ann", WEBSOCKET);
        for (const event of ["room:join", "message:send"]) {
          const ack = await ann.emitWithAck(event, { roomId, message: "hi" });
          assert.equal(ack.success, false);
          if (/^(chat:\w+:|visit:\d|call:\d|notif)/.test(roomId)) assert.equal(ack.error, DENIED);
          assert.ok(ack.code && ack.error);
        }
        const error = heard(ann, "error");
        ann.emit("room:join", { roomId });
        const { message, code, event } = (await error)[0];
        assert.ok(message && code);
        assert.equal(event, "room:join");
        assert.ok(ann.connected);
      });
    }

    it("that were denied deliver nothing", async () => {
      const [bob, eve, ann] = await onNodes("bob", "eve", "ann");
      await join(bob, "chat:bob:eve");
      await join(eve, "chat:bob:eve");
      await ann.emitWithAck("room:join", { roomId: "chat:bob:eve" });
      await ann.emitWithAck("message:send", { roomId: "chat:bob:eve", message: "let me in" });
      const heardIt = heard(eve, "message:new");
      await send(bob, "secret", { roomId: "chat:bob:eve" });
      assert.equal((await heardIt)[0].message, "secret");
      await send(bob, "for all", { recipientId: "ann" });
      await heardWhere(ann, "message:new", ({ message }) => message === "for all").catch(() => {});
      assert.deepEqual(got(ann, "message:new").map(({ message }) => message), ["for all"]);
    });
  });

  describe("messages", () => {
    it("reach every other socket of the room once, as one object", async () => {
      const [ann, bob, eve] = await onNodes("ann", "bob", "eve");
      const device = await users.enter(cluster.nodes[1].url, "ann", POLLING);
      for (const socket of [ann, bob, eve]) await join(socket, "topic:m");
      const all = [bob, eve, device].map((socket) => heard(socket, "message:new"));
      const own = heard(ann, "message:sent");
      const metadata = { a: { b: [1, null] } };
      const message = await send(ann, "grüße 🎈", { roomId: "topic:m", attachments: [{ url: "x" }], metadata, unknown: 1 });
      assert.equal(message.senderId, "ann");
      assert.equal(message.message, "grüße 🎈");
      assert.match(message.timestamp, ISO);
      assert.deepEqual([message.roomId, message.attachments, message.metadata], ["topic:m", [{ url: "x" }], metadata]);
      assert.ok(message.id && ["sent", "delivered"].includes(message.status));
      assert.deepEqual((await own)[0], message);
      for (const [copy] of await Promise.all(all)) assert.deepEqual(copy, message);
      await send(ann, "last", { roomId: "topic:m" });
      await until(() => [bob, eve, device].every((socket) => got(socket, "message:new").length >= 2));
      for (const socket of [bob, eve, device]) assert.equal(got(socket, "message:new").length, 2);
      assert.equal(got(ann, "message:new").length, 0);
    });

    it("reach a recipient who is in no room, and one who is, with one copy", async () => {
      const [ann, bob] = await onNodes("ann", "bob");
      await send(ann, "one", { recipientId: "bob" });
      await join(bob, "chat:ann:bob");
      await send(ann, "two", { recipientId: "bob" });
      await send(ann, "three", { roomId: "chat:ann:bob", recipientId: "bob" });
      await until(() => got(bob, "message:new").some(({ message }) => message === "three"));
      assert.deepEqual(got(bob, "message:new").map(({ message }) => message), ["one", "two", "three"]);
    });

    it("of a visit reach its room, those whose join names it, and the recipient, once each", async () => {
      const claims = { visits: ["9"] };
      const enter = (name, node) => users.enter(cluster.nodes[node].url, name, { ...WEBSOCKET, claims });
      const [ann, bob, eve, doc] = await Promise.all([enter("ann", 0), enter("bob", 1), enter("eve", 2), enter("doc", 0)]);
      await join(bob, "visit:9");
      await join(eve, "topic:lobby", { visitId: "9" });
      await join(doc, "visit:9", { visitId: "9" });
      await send(ann, "to the visit", { visitId: "9", recipientId: "doc" });
      await send(ann, "the end", { visitId: "9", recipientId: "doc" });
      for (const socket of [bob, eve, doc]) {
        await until(() => got(socket, "message:new").some(({ message }) => message === "the end"));
        assert.deepEqual(got(socket, "message:new").map(({ message }) => message), ["to the visit", "the end"]);
      }
    });

    it("of half a megabyte arrive whole", async () => {
      const [ann, bob] = await onNodes("ann", "bob");
      await join(bob, "chat:ann:bob");
      const text = "é🎈x".repeat(60_000);
      const heardIt = heard(bob, "message:new");
      const ack = await ann.timeout(30_000).emitWithAck("message:send", { message: text, roomId: "chat:ann:bob" });
      if (ack.success) assert.equal((await heardIt)[0].message, text);
      else {
        // A limit on the text is allowed if it is said.
        heardIt.catch(() => {});
        assert.ok(ack.code && ack.error);
      }
    });
  });

  it("typing reaches the others and nobody else", async () => {
    const [ann, bob] = await onNodes("ann", "bob");
    for (const socket of [ann, bob]) await join(socket, "chat:ann:bob");
    for (const event of ["typing:start", "typing:stop"]) {
      const heardIt = heard(bob, event);
      ann.emit(event, { roomId: "chat:ann:bob" });
      assert.deepEqual((await heardIt)[0], { roomId: "chat:ann:bob", userId: "ann", role: "patient" });
    }
    assert.equal(got(ann, "typing:start").length, 0);
  });

  describe("bad input", () => {
    it("has ids of every kind, and keeps their rooms apart", async () => {
      const ids = [
        "a.b.c", "a.b", "*", ">", "a.*", "a b", " ", "\t", "🎈", "é", "e\u0301", "=2E", "..", "$JS.API.INFO", "_INBOX", "\u0000", "h", "A", "a",
        "x".repeat(300), "x".repeat(299), "🎈".repeat(300), `${"🎈".repeat(299)}x`, `h${"0".repeat(32)}`,
      ];
      const [ann, bob] = await onNodes("ann", "bob");
      for (const id of ids) {
        await join(bob, `topic:${id}`);
        await send(ann, id, { roomId: `topic:${id}` });
      }
      await until(() => got(bob, "message:new").length >= ids.length);
      assert.deepEqual(got(bob, "message:new").map(({ roomId, message }) => [roomId, message]), ids.map((id) => [`topic:${id}`, id]));
    });

    it("has users of every kind", async () => {
      const ann = await users.enter(cluster.url, "ann", WEBSOCKET);
      for (const id of ["we.ird *>", "🎈", "x".repeat(300), "1", "$SYS"]) {
        const other = await users.enter(cluster.url, id, WEBSOCKET);
        assert.equal(other.welcome.userId, id);
        const heardIt = heard(other, "message:new");
        await send(ann, "hi", { recipientId: id });
        assert.equal((await heardIt)[0].recipientId, id);
      }
    });

    it("is answered and leaves the connection up", async () => {
      const ann = await users.enter(cluster.url, "ann", WEBSOCKET);
      for (const payload of [undefined, null, 5, "x", [], {}, { roomId: 5 }, { roomId: null }, { roomId: {} }, { roomId: "x".repeat(5000) }, { message: 5, roomId: "topic:a" }, { roomId: "topic:a" }]) {
        for (const event of ["room:leave", "message:send"]) {
          const ack = await ann.emitWithAck(event, payload);
          assert.equal(ack.success, false, `${event} ${JSON.stringify(payload)}`);
          assert.ok(ack.error && ack.code);
        }
      }
      const unknown = await ann.emitWithAck("no:such:event", { a: 1 });
      assert.equal(unknown.success, false);
      ann.emit("no:such:event", Buffer.from([1, 2, 3]));
      ann.emit("typing:start", Buffer.from([1, 2, 3]));
      const noArguments = await ann.emitWithAck("message:send");
      assert.equal(noArguments.success, false);
      await join(ann, "topic:a");
      assert.ok(ann.connected);
    });

    it("that is too large closes the transport, and the client comes back", async () => {
      for (const options of [WEBSOCKET, POLLING]) {
        const ann = await users.enter(cluster.url, "ann", options);
        const closed = heard(ann, "disconnect");
        const back = heard(ann, "connected");
        ann.emit("message:send", { message: "x".repeat(1_100_000), roomId: "topic:a" });
        assert.match((await closed)[0], /^transport (close|error)$/);
        await back;
      }
    });
  });
});
