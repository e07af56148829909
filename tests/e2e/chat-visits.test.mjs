// Messages of telehealth after they were sent: history, status, read marks, typing; and gateways that die meanwhile.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { ask, fresh, refused, told } from "../lib/calls.mjs";
import { CONFIG } from "../lib/chat.mjs";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, join, POLLING, send, Users, WEBSOCKET } from "../lib/visits.mjs";

describe("messages of visits on three nodes", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const enter = (name, node, options = WEBSOCKET) => users.enter(cluster.nodes[node % 3].url, name, options);
  const onNodes = (...names) => Promise.all(names.map((name, i) => enter(name, i)));
  const texts = (messages) => messages.map(({ message }) => message);
  const pair = (a, b) => `chat:${[a, b].sort().join(":")}`;

  it("are delivered, then read, and the sender hears of both once", async () => {
    const [a, b] = fresh("ann", "bob");
    const [ann, bob] = await onNodes(a, b);
    const other = await enter(b, 2, POLLING);
    const { id, roomId, status } = await send(ann, "hello", { recipientId: b });
    assert.deepEqual([roomId, status], [pair(a, b), "sent"]);
    for (const socket of [bob, other]) assert.equal((await told(socket, "message:new")).id, id);
    assert.deepEqual(await told(ann, "message:status"), { messageId: id, roomId, status: "delivered" });
    await Promise.all([bob, other].map((socket) => ask(socket, "message:read", { messageId: id })));
    assert.deepEqual(await told(ann, "message:status", { status: "read" }), { messageId: id, roomId, status: "read" });
    await ask(bob, "message:read", { messageId: id });
    const { messages, hasMore } = await ask(ann, "message:history", { recipientId: b });
    assert.deepEqual([texts(messages), messages[0].status, hasMore], [["hello"], "read", false]);
    await send(bob, "hi", { roomId });
    await told(ann, "message:new", { message: "hi" });
    assert.deepEqual(got(ann, "message:status").map((it) => it.status), ["delivered", "read"]);
  });

  it("stay sent while the recipient is away, and are delivered with the history", async () => {
    const [a, b] = fresh("ann", "bob");
    const ann = await enter(a, 0);
    const ids = [];
    for (const text of ["1", "2", "3"]) ids.push((await send(ann, text, { recipientId: b })).id);
    const stand = async () => (await ask(ann, "message:history", { recipientId: b })).messages.map((it) => it.status);
    assert.deepEqual(await stand(), ["sent", "sent", "sent"]);
    const bob = await enter(b, 1);
    assert.deepEqual(texts((await ask(bob, "message:history", { roomId: pair(a, b) })).messages), ["1", "2", "3"]);
    for (const messageId of ids) await told(ann, "message:status", { messageId, status: "delivered" });
    assert.deepEqual(await stand(), ["delivered", "delivered", "delivered"]);
    await ask(bob, "message:read", { messageId: ids[1] });
    assert.deepEqual(await stand(), ["read", "read", "delivered"]);
  });

  it("of a visit are delivered when the recipient has them, not just anybody", async () => {
    const [v, a, b, c] = fresh("visit", "ann", "bob", "eve");
    const claims = { visits: [v] };
    const [ann, eve] = [await enter(a, 0, { ...WEBSOCKET, claims }), await enter(c, 1, { ...WEBSOCKET, claims })];
    await join(eve, `visit:${v}`);
    const { id } = await send(ann, "for bob", { visitId: v, recipientId: b });
    await told(eve, "message:new", { id });
    await ask(eve, "message:read", { messageId: id });
    const stand = async () => (await ask(ann, "message:history", { visitId: v })).messages[0].status;
    assert.equal(await stand(), "sent");
    const bob = await enter(b, 2, { ...WEBSOCKET, claims });
    await ask(bob, "message:read", { messageId: id });
    await told(ann, "message:status", { messageId: id, status: "read" });
    assert.equal(await stand(), "read");
  });

  it("are read by pages, by those who may", async () => {
    const [a, b, c] = fresh("ann", "bob", "eve");
    const [ann, bob, eve] = await onNodes(a, b, c);
    for (let i = 1; i <= 7; i += 1) await send(ann, `${i}`, { recipientId: b });
    const roomId = pair(a, b);
    const first = await ask(bob, "message:history", { roomId, limit: 3 });
    assert.deepEqual([texts(first.messages), first.hasMore], [["5", "6", "7"], true]);
    const before = first.messages[0].id;
    const second = await ask(bob, "message:history", { roomId: `chat:${[a, b].sort().reverse().join(":")}`, limit: 3, before });
    assert.deepEqual([texts(second.messages), second.hasMore], [["2", "3", "4"], true]);
    assert.deepEqual(texts((await ask(bob, "message:history", { before: second.messages[0].id })).messages), ["1"]);
    assert.deepEqual(texts((await ask(bob, "message:history", { roomId, after: before })).messages), ["6", "7"]);
    for (const to of [{ roomId }, { before }]) await refused(eve, "message:history", to, "room_denied");
    await refused(eve, "message:read", { messageId: before }, "room_denied");
    await refused(eve, "message:history", { visitId: "nobody's" }, "room_denied");
    await refused(bob, "message:history", { recipientId: c, before }, "invalid_payload");
    for (const wrong of [{}, { roomId, limit: 0 }, { roomId, limit: {} }, { roomId, before: [] }, { roomId: 5 }]) {
      await refused(bob, "message:history", wrong, "invalid_payload");
    }
    for (const messageId of [undefined, null, 5, "x", "", `1@`]) await refused(bob, "message:read", { messageId }, "invalid_payload");
    await refused(bob, "message:read", { messageId: `99@${roomId}` }, "unknown_message");
  });

  it("of a client's own id are stored once, also when the gateway dies before the ack", async () => {
    const [a, b] = fresh("ann", "bob");
    const bob = await enter(b, 0);
    const doomed = await cluster.add();
    const ann = await users.enter(doomed.url, a, { ...WEBSOCKET, reconnection: false });
    const ids = Array.from({ length: 40 }, (_, i) => `own-${i}`);
    ids.forEach((clientId) => ann.emit("message:send", { message: clientId, recipientId: b, clientId }));
    await told(bob, "message:new");
    await doomed.process.stop("SIGKILL");
    const again = await enter(a, 1);
    const acked = await Promise.all(ids.map((clientId) => send(again, clientId, { recipientId: b, clientId })));
    assert.equal(new Set(acked.map(({ id }) => id)).size, ids.length);
    const { messages } = await ask(again, "message:history", { recipientId: b, limit: 200 });
    assert.deepEqual(texts(messages).sort(), [...ids].sort());
    await send(again, "the end", { recipientId: b });
    await told(bob, "message:new", { message: "the end" });
    assert.deepEqual(texts(got(bob, "message:new")).sort(), ["the end", ...ids].sort(), "each delivered, none twice");
    cluster.nodes.pop();
  });

  it("typing is shown to the others, and ends by itself, by sending, by leaving and by going", async () => {
    const [t, a, b] = fresh("topic", "ann", "bob");
    const [ann, bob] = await onNodes(a, b);
    const roomId = `topic:${t}`;
    for (const socket of [ann, bob]) await join(socket, roomId);
    const shown = { roomId, userId: a, role: "patient" };
    const stops = (count) => until(() => got(bob, "typing:stop").length === count);
    const starts = (count) => until(() => got(bob, "typing:start").length === count);
    ann.emit("typing:start", { roomId });
    assert.deepEqual(await told(bob, "typing:start"), shown);
    assert.deepEqual(await told(bob, "typing:stop"), shown);
    ann.emit("typing:start", { roomId });
    await starts(2);
    await send(ann, "hi", { roomId });
    await stops(2);
    ann.emit("typing:start", { roomId });
    await starts(3);
    ann.emit("typing:stop", { roomId });
    await stops(3);
    ann.emit("typing:start", { roomId });
    await starts(4);
    await ask(ann, "room:leave", { roomId });
    await stops(4);
    ann.emit("typing:start", { roomId });
    await starts(5);
    ann.disconnect();
    await stops(5);
    assert.equal(ann.log.filter(([event]) => event.startsWith("typing")).length, 0);
  });
});
