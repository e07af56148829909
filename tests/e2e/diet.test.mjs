// The diet application with stock clients over a cluster: rooms, numbers, messages of the back end, with tokens and without.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, afterEach, before, describe, it } from "node:test";
import { io } from "socket.io-client";
import { ask, call } from "../lib/backend.mjs";
import { startBalancer } from "../lib/balancers.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";

const CONFIG = readFileSync(new URL("./diet.toml", import.meta.url), "utf8");
const SECRET = /^secret = "(test-key-of-the-end.*)"$/m.exec(CONFIG)[1];
const PATHS = { open: "/api/socketio", safe: "/safe/socketio" };
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

/** What the back end's authors call with. */
const CREATED = {
  message: { id: 77, text: "Merhaba", at: "2026-01-31T12:00:00.000Z" },
  dietId: 100, clientId: 5, from: "client", client: { userId: 12, name: "Ayşe Yılmaz" }, dietitianId: 3,
};

describe("diet without tokens, and a hook that decides", () => {
  const [asked, sockets] = [[], []];
  let [hook, cluster, answer] = [];
  before(async () => {
    hook = createServer(async (request, response) => {
      let body = "";
      for await (const part of request) body += part;
      asked.push(JSON.parse(body));
      const said = answer(asked.at(-1));
      response.writeHead(said === undefined ? 500 : 200).end(JSON.stringify({ allow: said }));
    }).listen(0, "127.0.0.1");
    await once(hook, "listening");
    const open = CONFIG.slice(0, CONFIG.indexOf('[[app]]\nname = "safe"'));
    const config = `${open}\n[app.hook]\nurl = "http://127.0.0.1:${hook.address().port}/may"\ncache_s = 0\ncache_denied_s = 0\n`;
    cluster = await Cluster.start({ config, nodes: 1, coordinators: 0 });
  });
  after(async () => { for (const socket of sockets) socket.disconnect(); await cluster?.stop(); hook?.close(); });
  afterEach((test) => dumpIfFailed(test, cluster));

  it("lets nobody be a user or into a diet that the hook does not grant", async () => {
    answer = ({ right }) => ["user_7", "diet_100"].includes(right);
    const socket = io(cluster.url, { path: PATHS.open, transports: ["websocket"] });
    sockets.push(socket);
    await heard(socket, "connect");
    assert.equal((await socket.emitWithAck("join", 8)).code, "room_denied");
    assert.equal((await socket.emitWithAck("join_diet", 101)).code, "room_denied");
    assert.equal((await socket.emitWithAck("join_diet", "100")).success, true);
    assert.equal((await socket.emitWithAck("join", 7)).success, true, "what was refused has not said who one is");
    assert.deepEqual(asked.map(({ right, userId }) => [right, userId]), [["user_8", null], ["diet_101", null], ["diet_100", null], ["user_7", null]]);
    answer = () => undefined;
    const ack = await socket.emitWithAck("join_diet", 102);
    assert.deepEqual([ack.success, ack.code], [false, "hook_unavailable"]);
    assert.equal(asked.at(-1).userId, 7);
    assert.ok(socket.connected);
  });
});

describe("diet on three nodes", () => {
  const sockets = [];
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, coordinators: 0 }); });
  after(() => cluster?.stop());
  afterEach((test) => { for (const socket of sockets.splice(0)) socket.disconnect(); dumpIfFailed(test, cluster); });

  const node = (i = 0) => cluster.nodes[i % 3];
  /** A client as the application's authors write it. */
  function dial(app = "open", i = 0, options = {}) {
    const socket = io(node(i).url, { path: PATHS[app], forceNew: true, transports: ["websocket", "polling"], reconnectionDelay: 20, ...options });
    socket.log = [];
    socket.onAny((event, ...args) => socket.log.push([event, ...args]));
    sockets.push(socket);
    return socket;
  }
  async function enter(app, i, options) {
    const socket = dial(app, i, options);
    await heard(socket, "connect");
    return socket;
  }
  const signed = (claims) => ({ auth: { token: sign(claims, SECRET) } });
  const got = (socket, name) => socket.log.filter(([event]) => event === name).map(([, data]) => data);
  /** Says an event and resolves with the next `answer`. */
  async function say(socket, answer, ...args) {
    const answered = heard(socket, answer);
    socket.emit(...args);
    return (await answered)[0];
  }
  const created = (change = {}, i = 0, app = "open") => call(node(i), app, "message-created", { ...CREATED, ...change });

  describe("without tokens", () => {
    for (const transports of [["polling"], ["websocket"], ["polling", "websocket"]]) {
      it(`joins rooms with numbers for ids (${transports})`, async () => {
        const socket = await enter("open", 0, { transports });
        for (const id of [7, "7"]) assert.deepEqual(await say(socket, "joined", "join", id), { userId: 7, room: "user_7" });
        for (const id of [100, "100"]) {
          assert.deepEqual(await say(socket, "joined_diet", "join_diet", id), { dietId: 100, room: "diet_100" });
        }
        assert.deepEqual(await say(socket, "left_diet", "leave_diet", "100"), { dietId: 100, room: "diet_100" });
        assert.deepEqual(await say(socket, "joined_diet", "join_diet", "abc-1"), { dietId: "abc-1", room: "diet_abc-1" });
        assert.match((await say(socket, "pong", "ping")).timestamp, ISO);
      });
    }

    it("acks where asked", async () => {
      const socket = await enter();
      assert.deepEqual(await socket.emitWithAck("join", 7), { success: true, userId: 7, room: "user_7" });
      assert.deepEqual(await socket.emitWithAck("join_diet", 1), { success: true, dietId: 1, room: "diet_1" });
      assert.deepEqual(await socket.emitWithAck("leave_diet", 1), { success: true, dietId: 1, room: "diet_1" });
      assert.match((await socket.emitWithAck("ping")).timestamp, ISO);
    });

    it("lets nobody be two users, also not after a diet", async () => {
      const socket = await enter();
      await say(socket, "joined_diet", "join_diet", 100);
      await say(socket, "joined", "join", 7);
      const error = await say(socket, "error", "join", 8);
      assert.deepEqual([error.code, error.event], ["room_denied", "join"]);
      assert.ok(error.message);
      const ack = await socket.emitWithAck("join", 8);
      assert.deepEqual([ack.success, ack.code], [false, "room_denied"]);
      await say(socket, "joined", "join", "7");
      await call(node(1), "open", "notify", { userId: 8, notification: { type: "x", message: "m", data: {} } });
      await call(node(1), "open", "notify", { userId: 7, notification: { type: "x", message: "mine", data: {} } });
      await until(() => got(socket, "new_notification").length > 0);
      assert.deepEqual(got(socket, "new_notification").map(({ message }) => message), ["mine"]);
    });

    it("keeps who one is and where, when the session moves to another node", async () => {
      const balancer = await startBalancer(cluster.nodes.map(({ addr }) => addr), { kind: "testkit" });
      try {
        const socket = io(balancer.url, { path: PATHS.open, transports: ["polling", "websocket"] });
        sockets.push(socket);
        await heard(socket, "connect");
        assert.equal((await socket.emitWithAck("join", 44)).success, true);
        assert.equal((await socket.emitWithAck("join_diet", 440)).success, true);
        await until(() => socket.io.engine.transport.name === "websocket");
        const all = [heard(socket, "new_message"), heard(socket, "new_notification")];
        await created({ dietId: 440, dietitianId: 44 });
        await Promise.all(all);
        assert.equal((await socket.emitWithAck("join", 45)).code, "room_denied");
        assert.equal((await socket.emitWithAck("notification:getUnreadCount")).unreadCount, 1);
      } finally {
        await balancer.stop();
      }
    });

    it("refuses what is no id, and goes on", async () => {
      const socket = await enter();
      const bad = [[], [null], [NaN], [1.5], [""], [{}], [[7]], [true], ["x".repeat(100_000)], [Buffer.from("7")]];
      for (const event of ["join", "join_diet", "leave_diet"]) {
        for (const args of bad) {
          const error = await say(socket, "error", event, ...args);
          assert.deepEqual([error.code, error.event], ["invalid_payload", event], JSON.stringify(args).slice(0, 40));
          const ack = await socket.emitWithAck(event, ...args);
          assert.deepEqual([ack.success, ack.code], [false, "invalid_payload"]);
        }
      }
      const ack = await socket.emitWithAck("no_such_event", 1);
      assert.deepEqual([ack.success, ack.code], [false, "unknown_event"]);
      await say(socket, "joined", "join", 7);
    });

    it("answers CORS for any origin", async () => {
      const response = await fetch(`${node().url}${PATHS.open}/?EIO=4&transport=polling`, { headers: { origin: "https://any.example" } });
      assert.equal(response.status, 200);
      assert.ok(["*", "https://any.example"].includes(response.headers.get("access-control-allow-origin")));
    });

    it("tells everybody, also who has not joined", async () => {
      const [one, two] = [await enter("open", 0), await enter("open", 1)];
      await say(two, "joined", "join", 9);
      const all = [one, two].map((socket) => heard(socket, "news"));
      await call(node(2), "open", "emit", { to: { everyone: true }, event: "news", data: { n: 1 } });
      for (const [news] of await Promise.all(all)) assert.deepEqual(news, { n: 1 });
    });

    it("has no limit on joining", async () => {
      const socket = await enter();
      for (let id = 1; id <= 60; id += 1) await say(socket, "joined_diet", "join_diet", id);
    });
  });

  describe("a message of the client", () => {
    it("reaches the diet and notifies the dietitian, with numbers", async () => {
      const [doctor, patient, other] = [await enter("open", 0), await enter("open", 1), await enter("open", 2)];
      await say(doctor, "joined", "join", "3");
      for (const socket of [doctor, patient]) await say(socket, "joined_diet", "join_diet", "100");
      await say(patient, "joined", "join", 12);
      await say(other, "joined_diet", "join_diet", 101);
      const all = [doctor, patient].map((socket) => heard(socket, "new_message"));
      const notified = heard(doctor, "new_notification");
      await created({ dietId: "100", clientId: "5" }, 2);
      for (const [told] of await Promise.all(all)) assert.deepEqual(told, { message: CREATED.message, dietId: 100, clientId: 5 });
      const { id, ...notification } = (await notified)[0];
      assert.ok(id);
      assert.deepEqual(notification, {
        type: "new_message", message: "Yeni mesaj: Ayşe Yılmaz", data: { messageId: 77, dietId: 100, clientId: 5, from: "client" },
      });
      for (const socket of [patient, other]) assert.equal(got(socket, "new_notification").length, 0);
      assert.equal(got(other, "new_message").length, 0);
      assert.equal(got(doctor, "new_message").length, 1);
    });

    it("of the dietitian notifies the client", async () => {
      const patient = await enter("open", 1);
      await say(patient, "joined", "join", 22);
      const notified = heard(patient, "new_notification");
      await created({ from: "dietitian", client: { userId: 22, name: "x" }, message: { id: "m-1" } });
      const { id, ...notification } = (await notified)[0];
      assert.deepEqual(notification, {
        type: "new_message", message: "Diyetisyeninizden yeni mesaj", data: { messageId: "m-1", dietId: 100, clientId: 5, from: "dietitian" },
      });
      assert.deepEqual(await patient.emitWithAck("notification:getUnreadCount"), { success: true, unreadCount: 1 });
      const { notifications } = await patient.emitWithAck("notification:list");
      assert.deepEqual(notifications.map(({ timestamp, ...rest }) => rest), [{ id, ...notification }]);
      const ack = await patient.emitWithAck("notification:read", { notificationId: id });
      assert.deepEqual(ack, { success: true, notificationId: id, unreadCount: 0 });
    });

    it("waits for a dietitian who is not there", async () => {
      for (const n of [1, 2]) await created({ dietitianId: 33, message: { id: n } }, n);
      const doctor = await enter("open", 2);
      const early = await doctor.emitWithAck("notification:list", {});
      assert.deepEqual([early.success, early.code], [false, "unidentified"]);
      await say(doctor, "joined", "join", 33);
      const { notifications } = await doctor.emitWithAck("notification:list", {});
      assert.deepEqual(notifications.map(({ data }) => data.messageId), [2, 1]);
    });

    it("is written in the receiver's language where there is one", async () => {
      const doctor = await enter("safe", 0, signed({ userId: 3, role: "dietitian" }));
      await say(doctor, "joined", "join", 3);
      const texts = [];
      for (const language of ["en", "en-GB", "tr", "de", undefined]) {
        const notified = heard(doctor, "new_notification");
        await created({ language }, 0, "safe");
        texts.push((await notified)[0].message);
      }
      const [english, turkish] = ["New message: Ayşe Yılmaz", "Yeni mesaj: Ayşe Yılmaz"];
      assert.deepEqual(texts, [english, english, turkish, turkish, turkish]);
    });

    it("is refused when something is missing", async () => {
      const doctor = await enter();
      await say(doctor, "joined", "join", 3);
      await say(doctor, "joined_diet", "join_diet", 100);
      for (const change of [
        { message: undefined }, { message: "text" }, { message: {} }, { dietId: null }, { dietId: 1.5 }, { clientId: "" },
        { from: "admin" }, { from: undefined }, { dietitianId: null }, { client: {} }, { from: "dietitian", client: { name: "x" } },
      ]) {
        const answer = await ask(node(), "open", "message-created", { ...CREATED, ...change });
        assert.ok(answer.status >= 400 && answer.status < 500, JSON.stringify(change));
        assert.ok(answer.body.message);
      }
      assert.equal(got(doctor, "new_message").length, 0);
    });
  });

  describe("with tokens", () => {
    for (const [name, options, code] of [
      ["no token", {}, "missing_token"],
      ["garbage", { auth: { token: "x" } }, "invalid_token"],
      ["another key", { auth: { token: sign({ userId: 7 }, "another") } }, "invalid_token"],
      ["an expired token", { auth: { token: sign({ userId: 7 }, SECRET, { ttl_s: -10 }) } }, "expired_token"],
    ]) {
      it(`refuses ${name}`, async () => {
        const [error] = await heard(dial("safe", 0, options), "connect_error");
        assert.deepEqual([error.message, error.data.code], ["Authentication error", code]);
      });
    }

    it("lets one join one's own room and the diets of the token", async () => {
      const socket = await enter("safe", 0, signed({ userId: 7, diets: [100, "101"] }));
      assert.deepEqual(await say(socket, "joined", "join", "7"), { userId: 7, room: "user_7" });
      assert.equal((await say(socket, "error", "join", 8)).code, "room_denied");
      for (const id of [100, 101]) assert.equal((await say(socket, "joined_diet", "join_diet", id)).dietId, id);
      const error = await say(socket, "error", "join_diet", 102);
      assert.deepEqual(error, { code: "room_denied", message: "Room access denied", event: "join_diet" });
      await created({ dietId: 102 }, 1, "safe");
      const heardIt = heard(socket, "new_message");
      await created({ dietId: 101 }, 1, "safe");
      assert.equal((await heardIt)[0].dietId, 101);
      assert.equal(got(socket, "new_message").length, 1);
    });

    it("lets dietitians into the diets of their clients", async () => {
      const doctor = await enter("safe", 0, signed({ userId: 3, role: "dietitian", clients: [55, { id: 6, diets: [600] }] }));
      await say(doctor, "joined_diet", "join_diet", 600);
      assert.equal((await say(doctor, "error", "join_diet", 500)).code, "room_denied", "whose diet it is, nobody has said");
      await call(node(1), "safe", "diet-client", { dietId: 500, clientId: 55 });
      await say(doctor, "joined_diet", "join_diet", 500);
      await created({ dietId: 501, clientId: 55 }, 2, "safe");
      await say(doctor, "joined_diet", "join_diet", 501);
      await call(node(1), "safe", "diet-client", { dietId: 502, clientId: 56 });
      assert.equal((await say(doctor, "error", "join_diet", 502)).code, "room_denied");
      const client = await enter("safe", 0, signed({ userId: 4, role: "client", clients: [55] }));
      assert.equal((await say(client, "error", "join_diet", 500)).code, "room_denied");
    });

    it("counts what a user asks, and never joins, leaving and pings", async () => {
      const socket = await enter("safe", 0, signed({ userId: 71, diets: [100] }));
      for (let n = 0; n < 15; n += 1) {
        assert.equal((await socket.emitWithAck("join", 71)).success, true);
        assert.equal((await socket.emitWithAck("join_diet", 100)).success, true);
        assert.equal((await socket.emitWithAck("leave_diet", 100)).success, true);
        assert.match((await socket.emitWithAck("ping")).timestamp, ISO);
      }
      const codes = [];
      for (let n = 0; n < 20; n += 1) codes.push((await socket.emitWithAck("notification:getUnreadCount")).code);
      assert.equal(codes[0], undefined);
      assert.equal(codes.at(-1), "over_limit");
      assert.equal((await socket.emitWithAck("join_diet", 100)).success, true);
    });

    it("keeps the two applications apart", async () => {
      const safe = await enter("safe", 0, signed({ userId: 7, diets: [100] }));
      const open = await enter("open", 1);
      for (const socket of [safe, open]) {
        await say(socket, "joined", "join", 7);
        await say(socket, "joined_diet", "join_diet", 100);
      }
      const heardIt = heard(safe, "new_message");
      await created({ message: { id: 1 } }, 0, "safe");
      await heardIt;
      const own = heard(open, "new_message");
      await created({ message: { id: 2 } }, 0, "open");
      await own;
      assert.deepEqual([safe, open].map((socket) => got(socket, "new_message").map(({ message }) => message.id)), [[1], [2]]);
    });
  });

  it("says how many are connected", async () => {
    const two = [await enter("open", 0), await enter("open", 1)];
    for (const socket of two) await say(socket, "pong", "ping");
    await until(async () => {
      const response = await fetch(`${node(2).url}/api/socket`);
      const { connectedSockets, ...rest } = await response.json();
      assert.deepEqual([response.status, rest], [200, { success: true, socketInitialized: true, message: "Socket.IO server is running" }]);
      return connectedSockets === 2;
    }, 15_000);
  });

  it("warns at the start that nobody shows a token", async () => {
    assert.match(cluster.log(), /auth = \\?"none\\?"/);
  });
});
