// The applications' own servers decide: rights that no rule grants, and who is a user.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { Bus } from "../lib/bus.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { Authority, configFor } from "../lib/tokens.mjs";
import { got, join, SECRET, send, Users, WEBSOCKET } from "../lib/visits.mjs";

const DENIED = "Room access denied";

describe("hooks on two nodes", () => {
  const users = new Users();
  let [authority, cluster, bus] = [];
  before(async () => {
    authority = await Authority.start();
    cluster = await Cluster.start({ config: configFor(authority), nodes: 2, coordinators: 2 });
    bus = await Bus.connect(cluster.nats.servers[0]);
  });
  after(async () => { bus?.close(); await cluster?.stop(); authority?.stop(); });
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const ask = (socket, event, payload) => socket.timeout(30_000).emitWithAck(event, payload);
  const refused = async (socket, event, payload, code) => {
    const ack = await ask(socket, event, payload);
    assert.deepEqual([ack.success, ack.code], [false, code], JSON.stringify(ack));
    assert.ok(ack.error.startsWith(DENIED), ack.error);
  };

  describe("of rights, over HTTP", () => {
    it("grants what the token does not say, and only that", async () => {
      authority.hook = ({ right, userId }) => [200, { allow: right === "visit:42" && userId === 7 }];
      const [doctor, patient] = await Promise.all([
        users.enter(cluster.nodes[0].url, 7, WEBSOCKET), users.enter(cluster.nodes[1].url, "ann", { ...WEBSOCKET, claims: { visits: [42] } }),
      ]);
      authority.asked.length = 0;
      await join(patient, "visit:42");
      assert.equal(authority.asked.length, 0, "what a rule grants is not asked for");
      await join(doctor, "visit:42");
      assert.deepEqual(authority.asked, [
        { kind: "right", app: "visits", userId: 7, role: "patient", right: "visit:42", authorization: "Bearer the hook's secret" },
      ]);
      const news = heard(patient, "message:new");
      await send(doctor, "good morning", { visitId: 42 });
      assert.equal((await news)[0].message, "good morning");
      await refused(doctor, "room:join", { roomId: "visit:43", roomType: "visit" }, "room_denied");
      await refused(patient, "message:send", { visitId: 43, message: "x" }, "room_denied");
      await refused(patient, "room:join", { roomId: "topic:a", roomType: "topic", metadata: { visitId: 9 } }, "room_denied");
    });

    it("asks for every right that an event needs", async () => {
      authority.hook = () => [200, { allow: true }];
      const socket = await users.enter(cluster.nodes[0].url, "eve", WEBSOCKET);
      authority.asked.length = 0;
      await join(socket, "call:1", { visitId: 2 });
      assert.deepEqual(authority.asked.map(({ right }) => right).sort(), ["call:1", "visit:2"]);
    });

    it("never opens what is two users' own, or nobody's", async () => {
      authority.hook = () => [200, { allow: true }];
      const socket = await users.enter(cluster.nodes[0].url, "eve", WEBSOCKET);
      authority.asked.length = 0;
      for (const roomId of ["chat:ann:bob", "notifications:ann"]) {
        await refused(socket, "room:join", { roomId, roomType: "x" }, "room_denied");
      }
      assert.equal((await ask(socket, "room:join", { roomId: ".call:1" })).code, "invalid_room");
      assert.equal(authority.asked.length, 0);
    });

    it("fails closed, with a word that says so, and the connection stays", async () => {
      const [socket, member] = await Promise.all([
        users.enter(cluster.nodes[0].url, "eve", WEBSOCKET), users.enter(cluster.nodes[1].url, "ann", { ...WEBSOCKET, claims: { visits: [5] } }),
      ]);
      await join(member, "visit:5");
      for (const answer of [[500, { allow: true }], [200, { allowed: true }], [200, "yes"], [404, {}], [200, { allow: "true" }]]) {
        authority.hook = () => answer;
        await refused(socket, "message:send", { visitId: 5, message: "x" }, "hook_unavailable");
      }
      socket.emit("room:join", { roomId: "visit:5", roomType: "visit" });
      const [error] = await heard(socket, "error");
      assert.deepEqual([error.code, error.event], ["hook_unavailable", "room:join"]);
      authority.hook = () => [200, { allow: true }];
      await join(socket, "visit:5");
      assert.deepEqual(got(member, "message:new"), []);
    });

    it("keeps the order of what a client says", async () => {
      authority.hook = () => [200, { allow: true }];
      const [socket, member] = await Promise.all([
        users.enter(cluster.nodes[0].url, "eve", WEBSOCKET), users.enter(cluster.nodes[1].url, "ann", { ...WEBSOCKET, claims: { visits: [6] } }),
      ]);
      await join(member, "visit:6");
      const said = ["1", "2", "3", "4", "5", "6"];
      // Every other one needs no question.
      await Promise.all(said.map((message, i) => send(socket, message, i % 2 ? { visitId: 6 } : { visitId: 6, roomId: "topic:t" })));
      await until(() => got(member, "message:new").length === said.length);
      assert.deepEqual(got(member, "message:new").map(({ message }) => message), said);
    });
  });

  describe("of users, over NATS", () => {
    const dial = (node, claims) =>
      users.dial(node.url, { ...WEBSOCKET, path: "/talk/", auth: { token: sign(claims, SECRET) } });
    let answer = () => ({ allow: true });
    let quiet;
    before(() => { quiet = bus.serve("talk.hook", (question) => answer(question)); });
    after(() => quiet?.());

    it("refuses whom it does not know", async () => {
      answer = ({ kind, userId }) => ({ allow: kind === "user" && userId === "ann" });
      await heard(dial(cluster.nodes[0], { userId: "ann" }), "connect");
      const [error] = await heard(dial(cluster.nodes[1], { userId: "nobody" }), "connect_error");
      assert.deepEqual([error.message, error.data.code], ["User not found", "unknown_user"]);
    });

    it("is not asked about tokens that prove nothing", async () => {
      let asked = 0;
      answer = () => { asked += 1; return { allow: true }; };
      const socket = users.dial(cluster.url, { ...WEBSOCKET, path: "/talk/", auth: { token: sign({ userId: "ann" }, "wrong") } });
      assert.equal((await heard(socket, "connect_error"))[0].message, "Authentication failed");
      assert.equal(asked, 0);
    });

    it("completes what the token says: the name, and the chats of a user", async () => {
      answer = ({ kind, userId, right }) =>
        (kind === "user" ? { allow: true, user: { name: `Doctor ${userId}`, claims: { chats: ["c9"] } } } : { allow: right.startsWith("user:") });
      const [caller, receiver] = [dial(cluster.nodes[0], { userId: "ann" }), dial(cluster.nodes[1], { userId: "bob" })];
      await Promise.all([heard(caller, "connect"), heard(receiver, "connect")]);
      const rings = heard(receiver, "call:incoming");
      assert.equal((await ask(caller, "call:initiate", { receiverId: "bob", callType: "audio", chatId: "c9" })).success, true);
      const [incoming] = await rings;
      assert.deepEqual([incoming.caller.id, incoming.caller.username, incoming.chatId], ["ann", "Doctor ann", "c9"]);
      const elsewhere = await ask(caller, "call:initiate", { receiverId: "bob", callType: "audio", chatId: "c8" });
      assert.deepEqual([elsewhere.success, elsewhere.code], [false, "room_denied"]);
    });

    it("leaves the client to come again when it gives no answer", async () => {
      answer = () => undefined;
      const socket = dial(cluster.nodes[0], { userId: "ann" });
      let refusals = 0;
      socket.on("connect_error", () => { refusals += 1; });
      await heard(socket.io, "close");
      answer = () => ({ allow: true });
      await heard(socket, "connect");
      assert.equal(refusals, 0);
    });

    it("is asked again about a further token", async () => {
      answer = () => ({ allow: true });
      const socket = dial(cluster.nodes[0], { userId: "ann" });
      await heard(socket, "connect");
      answer = () => ({ allow: false });
      const ack = await ask(socket, "user:authenticate", { token: sign({ userId: "ann" }, SECRET) });
      assert.deepEqual([ack.success, ack.code], [false, "revoked_token"]);
    });
  });
});
