// All five applications on one cluster, by the example configuration: five by five, none hears another, whatever ids and rooms have the
// same names; a limit and a revocation of one are nothing to the others; each with a key of its own.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { heard, until } from "../lib/clients.mjs";
import { Contract } from "../lib/contract.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Plain } from "../lib/plain.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { got, Users, WEBSOCKET } from "../lib/visits.mjs";

const EXAMPLE = readFileSync(new URL("../../deploy/five-applications.toml", import.meta.url), "utf8");
const APPS = ["portal", "messenger", "clinic", "diet", "telehealth"];
const KEY = "key-of-the-back-office-0123456789abcdef";
const secretOf = (app) => `test-key-of-${app}-0123456789-0123456789`;
const API_KEY = `[[api.keys]]\nname = "tests"\nsecret = "${KEY}"\nscopes = ["emit", "post", "notify", "admin", "read"]\n`;

/**
 * The example, with NATS, a back end's key, a key of its own for each application, and limits of one that the others do not have. Each
 * application has an address of its own, where it takes a free port; the cluster's harness puts its own into `listen = ` alone.
 */
const CONFIG = EXAMPLE
  .replace("[http]", `[nats]\nservers = []\nreplicas = 1\n\n[http]`)
  .replace(/^(?=# Admin panel)/m, API_KEY)
  .split(/^(?=\[\[app\]\])/m).map((part) => part.replace(/^\[app\.token\]$/m, (line) => `${line}\nsecret = "${secretOf(/^name = "(.*)"$/m.exec(part)[1])}"`)).join("")
  .replace(/^listen = \["127\.0\.0\.1:(3001|4000|3000|8080)"\]$/gm, (_, port) => `listen=["127.0.0.${["3001", "4000", "3000", "8080"].indexOf(port) + 2}:0"]`)
  .replace('name = "messenger"', 'name = "messenger"\nevents_per_minute = 30\nlimits = { max_payload_bytes = 2000, message_chars = 10 }');

/** How a client of each application comes in as a user, and what it hears first. */
const SPOKEN = {
  portal: { namespace: "/events", auth: (token) => ({ socket_token: token }), hello: "core:auth:success" },
  messenger: { namespace: "/", auth: (token) => ({ token }) },
  clinic: { namespace: "/events", auth: (token) => ({ token }), hello: "connected" },
  diet: { namespace: "/", path: "/api/socketio", auth: () => ({}), hello: "joined" },
  telehealth: { namespace: "/", auth: (token) => ({ token }), hello: "connected" },
};

describe("the five applications on one cluster", () => {
  const users = new Users();
  const contracts = Object.fromEntries(APPS.map((app) => [app, new Contract(app)]));
  const faults = [];
  let cluster;
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3 });
    for (const node of cluster.nodes) {
      [, node.api] = await node.process.line(/^api (\S+)$/);
      node.urls = {};
      for (const app of APPS) [, node.urls[app]] = await node.process.line(new RegExp(`^listening ${app} (\\S+)$`));
    }
  });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const url = (app, node) => `http://${cluster.nodes[node % 3].urls[app]}`;
  const tokenOf = (app, user, claims = {}) => sign({ userId: user, role: "patient", ...claims }, secretOf(app));

  function dial(app, node, user, { token = tokenOf(app, user), ...options } = {}) {
    const { namespace, path = "/socket.io", auth } = SPOKEN[app];
    return contracts[app].watch(users.dial(`${url(app, node)}${namespace}`, { ...WEBSOCKET, path, auth: auth(token), ...options }), faults);
  }
  async function enter(app, node, user, options) {
    const socket = dial(app, node, user, options);
    if (app === "diet") socket.emit("join", user);
    const { hello } = SPOKEN[app];
    await (hello ? heard(socket, hello) : until(() => socket.connected));
    return socket;
  }
  async function call(app, verb, body, node = 0) {
    const response = await fetch(`http://${cluster.nodes[node % 3].api}/v1/apps/${app}/${verb}`, {
      method: "POST", body: JSON.stringify(body), headers: { authorization: `Bearer ${KEY}`, "content-type": "application/json" },
    });
    const answer = await response.json();
    assert.equal(response.status, 200, JSON.stringify(answer));
    return answer;
  }
  const ask = (socket, event, ...args) => socket.timeout(30_000).emitWithAck(event, ...args);

  /** Tells everyone of every application a last word; what was told before has been heard when it is. */
  async function settled(sockets, word) {
    for (const [n, app] of APPS.entries()) await call(app, "emit", { to: { everyone: true }, event: "last", data: word }, n);
    await Promise.all(sockets.map((socket) => until(() => got(socket, "last").includes(word))));
  }

  it("five by five, none hears another: the same user, the same room, everyone", async () => {
    const sockets = Object.fromEntries(await Promise.all(APPS.map(async (app, n) => [app, await enter(app, n, 7)])));
    // One name that is a room in each of them.
    const room = "chat:5:7";
    for (const app of APPS) await call(app, "members", { user: "7", join: [room] });
    const told = [];
    for (const [n, app] of APPS.entries()) {
      for (const to of [{ user: "7" }, { room }, { everyone: true }, [{ user: "7" }, { room }]]) {
        told.push(call(app, "emit", { to, event: "probe", data: { of: app, to } }, n + 1));
        told.push(call(app, "emit", { to, event: "probe", data: { of: app, to, volatile: true }, volatile: true }, n + 2));
      }
    }
    await Promise.all(told);
    await settled(Object.values(sockets), "five by five");
    for (const app of APPS) {
      // What is stored nowhere has no order with the last word.
      await until(() => got(sockets[app], "probe").length >= 8);
      const probes = got(sockets[app], "probe");
      assert.equal(probes.length, 8, `${app}: ${JSON.stringify(probes)}`);
      assert.deepEqual([...new Set(probes.map(({ of }) => of))], [app]);
    }
  });

  it("what their clients say stays among them", async () => {
    const [ann, ben] = [await enter("messenger", 0, "7"), await enter("messenger", 1, "5")];
    const [eve, dan] = [await enter("telehealth", 1, "7"), await enter("telehealth", 2, "5")];
    // `5:7` is a chat here and there.
    assert.equal((await ask(ann, "message:send", { chatId: "5:7", content: "secret" })).success, true);
    await ask(ben, "typing:start", { chatId: "5:7", isTyping: true });
    assert.equal((await ask(eve, "room:join", { roomId: "chat:5:7", roomType: "chat" })).success, true);
    assert.equal((await ask(eve, "message:send", { roomId: "chat:5:7", message: "visit" })).success, true);
    await until(() => got(dan, "message:new").length === 1);
    await until(() => got(ann, "message:receive").length === 1);
    await settled([ann, ben, eve, dan], "said");
    const history = await ask(dan, "message:history", { roomId: "chat:5:7" });
    assert.deepEqual(history.messages.map(({ message }) => message), ["visit"]);
    const chat = await ask(ann, "message:history", { chatId: "5:7" });
    assert.deepEqual(chat.messages.map(({ content }) => content), ["secret"]);
    assert.deepEqual([got(eve, "message:receive"), got(dan, "message:receive"), got(ann, "message:new")], [[], [], []]);
  });

  it("a user who is online in one is offline in another, and rings there alone", async () => {
    const [ann, dan] = [await enter("messenger", 0, "online"), await enter("telehealth", 1, "caller")];
    const { presences } = await ask(dan, "presence:get", { userIds: ["online"] });
    assert.equal(presences[0].status, "offline");
    assert.equal((await ask(dan, "call:initiate", { recipientId: "online", callType: "audio" })).success, true);
    await settled([ann, dan], "rung");
    assert.deepEqual(got(ann, "call:incoming"), []);
  });

  it("who comes and goes in two at once is told of in both, though the ids are the same", async () => {
    const names = Array.from({ length: 8 }, (_, n) => `both-${n}`);
    const [ann, dan] = [await enter("messenger", 0, "asks"), await enter("telehealth", 1, "asks")];
    await ask(ann, "user:status", { userIds: names });
    await ask(dan, "presence:subscribe", { userIds: names });
    for (const app of ["messenger", "telehealth"]) await Promise.all(names.map((name, n) => enter(app, n, name)));
    const told = (socket, event) => new Set(got(socket, event).map(({ userId }) => userId).filter((id) => names.includes(id))).size;
    await until(() => told(ann, "user:online") === names.length);
    await until(() => told(dan, "presence:changed") === names.length);
  });

  it("a token of one is nothing to another, on both of its fronts", async () => {
    for (const app of ["messenger", "clinic", "telehealth"]) {
      for (const other of APPS.filter((name) => name !== app)) {
        const [error] = await heard(dial(app, 0, "7", { token: tokenOf(other, "7") }), "connect_error");
        assert.ok(error.message.length > 0, `${other} at ${app}`);
        assert.equal(error.message === "timeout", false);
      }
    }
    const socket = dial("portal", 0, "7", { token: tokenOf("clinic", "7") });
    assert.equal((await heard(socket, "core:auth:error"))[0].code, "invalid_token");
    const plain = await Plain.open(`${url("clinic", 0)}/events`, { headers: { authorization: `Bearer ${tokenOf("portal", "7")}` } });
    assert.equal(await plain.closed, 4401);
  });

  it("a namespace or path of one is not there at another", async () => {
    const portal = dial("portal", 0, "7");
    await heard(portal, "core:auth:success");
    const root = users.dial(url("portal", 0), { ...WEBSOCKET, path: "/socket.io", auth: { token: tokenOf("portal", "7") } });
    assert.equal((await heard(root, "connect_error"))[0].message, "Invalid namespace");
    for (const app of APPS) {
      const { status } = await fetch(`${url(app, 0)}/api/socketio/?EIO=4&transport=polling`);
      assert.equal(status === 200, app === "diet", app);
    }
    assert.equal((await fetch(`${url("diet", 0)}/api/socket`)).status, 200);
    assert.equal((await fetch(`${url("telehealth", 0)}/api/socket`)).status, 404);
    assert.equal((await fetch(`${url("clinic", 0)}/health/websocket`)).status, 200);
  });

  it("limits of one are not the others'", async () => {
    const ann = await enter("messenger", 0, "limited");
    const dan = await enter("telehealth", 0, "limited");
    const long = "x".repeat(11);
    assert.equal((await ask(ann, "message:send", { chatId: "limits", content: long })).code, "over_limit");
    await ask(dan, "room:join", { roomId: "topic:limits", roomType: "topic" });
    assert.equal((await ask(dan, "message:send", { roomId: "topic:limits", message: long })).success, true);
    // Thirty a minute, on each node; one was said.
    const answers = await Promise.all(Array.from({ length: 35 }, () => ask(ann, "user:status", { userIds: ["limited"] })));
    assert.ok(answers.some(({ success, code }) => success === false && code === "over_limit"), JSON.stringify(answers.at(-1)));
    for (let n = 0; n < 35; n += 1) assert.equal((await ask(dan, "presence:get", { userIds: ["limited"] })).success, true);
    const closed = heard(ann, "disconnect");
    ann.emit("user:status", { userIds: ["y".repeat(3000)] });
    await closed;
    assert.equal((await ask(dan, "message:send", { roomId: "topic:limits", message: "y".repeat(3000) })).success, true);
  });

  it("what is acked and told is what the contracts for machines say", async () => {
    const said = {
      portal: [["join", ["patient:5", "patient:6"]], ["leave", "patient:5"], ["message:send", { patientId: "5", text: "hello" }], ["join", 5], ["authorization", "bad"]],
      messenger: [
        ["message:send", { chatId: "c", content: "hello" }], ["message:history", { chatId: "c" }], ["message:unread"], ["typing:start", { chatId: "c" }], ["user:status", { userIds: [5] }],
        ["call:initiate", { receiverId: "6", callType: "video" }], ["message:edit", {}], ["call:end", { callId: "none" }],
      ],
      clinic: [["ping"], ["subscribe", { entity: "exam", entityId: 7 }], ["unsubscribe", { entity: "exam", entityId: 7 }], ["catalog:sync", {}], ["admin:events", {}], ["subscribe", {}]],
      diet: [["join_diet", 100], ["leave_diet", "100"], ["ping"], ["notification:getUnreadCount"], ["notification:list"], ["join_diet", null]],
      telehealth: [
        ["room:join", { roomId: "topic:contract" }], ["message:send", { roomId: "topic:contract", message: "hello" }], ["message:history", { roomId: "topic:contract" }], ["presence:get", { userIds: ["5"] }],
        ["presence:setStatus", { status: "busy" }], ["notification:list"], ["call:initiate", { recipientId: "6", callType: "audio" }], ["room:leave", { roomId: "topic:contract" }], ["call:accept", {}],
      ],
    };
    for (const app of APPS) {
      const socket = await enter(app, 0, 5);
      for (const [event, ...payload] of said[app]) {
        faults.push(...contracts[app].faults("ack", event, await ask(socket, event, ...payload)));
        // Refused or done, without an ack: the error event is in the contract, too.
        if (payload.length > 0) socket.emit(event, ...payload);
      }
      await settled([socket], `contract ${app}`);
    }
    assert.deepEqual(faults, []);
  });

  it("a user who is cut off in one stays in the others, and numbers are their own", async () => {
    const sockets = Object.fromEntries(await Promise.all(APPS.map(async (app, n) => [app, await enter(app, n, 77)])));
    const gone = heard(sockets.clinic, "disconnect");
    await call("clinic", "revoke", { user: "77" });
    await gone;
    await settled(APPS.filter((app) => app !== "clinic").map((app) => sockets[app]), "cut off");
    const stats = (app) => fetch(`http://${cluster.nodes[0].api}/v1/apps/${app}/stats`, { headers: { authorization: `Bearer ${KEY}` } }).then((it) => it.json());
    for (const app of APPS) await until(async () => (await stats(app)).totalConnections === (app === "clinic" ? 0 : 1));
  });
});
