// Notifications of telehealth with stock clients over a cluster: kept until read, told on all devices, counted truly.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { ask, call } from "../lib/backend.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("./notifications.toml", import.meta.url), "utf8");
const ISO = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

describe("notifications on three nodes", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3 }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const node = (i) => cluster.nodes[i % 3];
  const enter = (name, i = 0, options = WEBSOCKET) => users.enter(node(i).url, name, options);
  const notify = (userId, notification, i = 0) => call(node(i), "visits", "notify", { userId, notification });
  const say = (socket, event, ...args) => socket.timeout(30_000).emitWithAck(event, ...args);
  const count = async (socket) => (await say(socket, "notification:getUnreadCount")).unreadCount;
  const list = async (socket, payload) => (await say(socket, "notification:list", payload)).notifications;

  it("are told on all devices, whatever node they are at, and to nobody else", async () => {
    const devices = [await enter("ann", 0), await enter("ann", 1), await enter("ann", 2, UPGRADE)];
    const bob = await enter("bob", 1);
    const all = devices.map((device) => heard(device, "notification:new"));
    await notify("ann", { title: "Lab results", message: "Ready", deep: { a: [1, 2.5, null] } });
    const told = (await Promise.all(all)).map(([told]) => told);
    const { id, ...rest } = told[0];
    assert.ok(typeof id === "string" && id);
    assert.deepEqual(rest, { title: "Lab results", message: "Ready", deep: { a: [1, 2.5, null] } });
    for (const other of told) assert.deepEqual(other, told[0]);
    assert.deepEqual(await say(devices[1], "notification:getUnreadCount"), { success: true, unreadCount: 1 });
    assert.equal(await count(bob), 0);
    assert.equal(got(bob, "notification:new").length, 0);
  });

  it("wait for a user who is not there", async () => {
    for (const n of [1, 2, 3]) await notify("cat", { title: "t", message: `${n}` }, n);
    const cat = await enter("cat", 2);
    assert.equal(await count(cat), 3);
    const page = await say(cat, "notification:list", {});
    assert.deepEqual(page.notifications.map(({ message }) => message), ["3", "2", "1"]);
    assert.deepEqual([page.success, page.hasMore, page.unreadCount], [true, false, 3]);
    for (const { id, timestamp } of page.notifications) assert.ok(id && ISO.test(timestamp));
    assert.equal(got(cat, "notification:new").length, 0, "told once, to who was there");
  });

  it("are gone when they are read, also for the other devices", async () => {
    const [one, two] = [await enter("dan", 0), await enter("dan", 1)];
    for (const n of [1, 2]) await notify("dan", { title: "t", message: `${n}` });
    const [newest, oldest] = await list(one);
    const told = heard(two, "notification:read");
    const ack = await say(one, "notification:read", { notificationId: newest.id });
    assert.deepEqual(ack, { success: true, notificationId: newest.id, unreadCount: 1 });
    assert.deepEqual((await told)[0], { notificationId: newest.id, unreadCount: 1 });
    assert.deepEqual((await list(two)).map(({ id }) => id), [oldest.id]);
    const again = await say(two, "notification:read", { notificationId: newest.id });
    assert.deepEqual([again.success, again.unreadCount], [true, 1], "reading twice is no error");
    assert.equal(got(one, "notification:read").length, 0);
  });

  it("of others cannot be read, nor those that never were", async () => {
    await notify("eve", { title: "t", message: "mine" });
    const [eve, fay] = [await enter("eve", 0), await enter("fay", 1)];
    const [{ id }] = await list(eve);
    for (const notificationId of [id, "01ARZ3NDEKTSV4RRFFQ69G5FAV", "no such", 7]) {
      const ack = await say(fay, "notification:read", { notificationId });
      assert.deepEqual([ack.success, ack.code], [false, "unknown_notification"]);
      assert.ok(ack.error);
    }
    assert.equal(await count(eve), 1);
  });

  it("come by pages", async () => {
    const expected = [];
    for (let n = 0; n < 25; n += 1) {
      await notify("gus", { title: "t", message: `${n}` }, n);
      expected.unshift(`${n}`);
    }
    const gus = await enter("gus");
    const pages = [];
    for (let before; ; before = pages.at(-1).notifications.at(-1).id) {
      pages.push(await say(gus, "notification:list", { before }));
      if (!pages.at(-1).hasMore) break;
    }
    assert.deepEqual(pages.map(({ notifications }) => notifications.length), [10, 10, 5]);
    assert.deepEqual(pages.flatMap(({ notifications }) => notifications.map(({ message }) => message)), expected);
    assert.equal((await list(gus, { limit: 20 })).length, 20);
    const over = await say(gus, "notification:list", { limit: 21 });
    assert.deepEqual([over.success, over.code], [false, "over_limit"]);
    assert.match(over.error, /20 \(notifications\.page_most\)/);
  });

  it("are bounded: the oldest goes", async () => {
    for (let n = 0; n < 43; n += 1) await notify("hal", { title: "t", message: `${n}` }, n);
    const hal = await enter("hal", 1);
    assert.equal(await count(hal), 40);
    const messages = [];
    for (let before, page; page?.hasMore !== false; before = page.notifications.at(-1).id) {
      page = await say(hal, "notification:list", { limit: 20, before });
      messages.push(...page.notifications.map(({ message }) => Number(message)));
    }
    assert.deepEqual(messages, Array.from({ length: 40 }, (_, i) => 42 - i));
  });

  it("are counted truly while many write and read at once", async () => {
    const devices = await Promise.all([0, 1, 2, 0, 1, 2].map((i) => enter("ivy", i)));
    const sent = [];
    const first = Array.from({ length: 20 }, (_, n) => notify("ivy", { title: "t", message: `${n}` }, n));
    for (const answer of await Promise.all(first)) sent.push(answer);
    const ids = (await list(devices[0], { limit: 20 })).map(({ id }) => id);
    assert.equal(new Set(ids).size, 20);
    // Each is read on two devices at once, while more come from every node.
    const work = [
      ...ids.slice(0, 15).flatMap((notificationId, n) =>
        [n, n + 1].map((at) => say(devices[at % 6], "notification:read", { notificationId }))),
      ...Array.from({ length: 20 }, (_, n) => notify("ivy", { title: "u", message: `${n}` }, n)),
    ];
    for (const answer of await Promise.all(work)) assert.notEqual(answer.success, false, JSON.stringify(answer));
    const counts = await Promise.all(devices.map(count));
    assert.deepEqual(counts, Array(6).fill(25));
    const listed = [];
    for (let before, page; page?.hasMore !== false; before = page.notifications.at(-1).id) {
      page = await say(devices[3], "notification:list", { limit: 20, before });
      listed.push(...page.notifications.map(({ id }) => id));
    }
    assert.equal(new Set(listed).size, 25);
    for (const id of ids.slice(15)) assert.ok(listed.includes(id));
    await until(() => devices.every((device) => got(device, "notification:new").length === 40));
    for (const device of devices) assert.equal(new Set(got(device, "notification:new").map(({ id }) => id)).size, 40);
  });

  it("keep an id that the back end gave, and are kept once under it", async () => {
    const jim = await enter("jim");
    const told = heard(jim, "notification:new");
    await Promise.all([0, 1, 2].map((i) => notify("jim", { id: 42, title: "t", message: "m" }, i)));
    assert.equal((await told)[0].id, 42);
    assert.equal(await count(jim), 1);
    const ack = await say(jim, "notification:read", { notificationId: "42" });
    assert.deepEqual([ack.success, ack.unreadCount], [true, 0]);
    await notify("jim", { id: "42", title: "t", message: "again" });
    assert.equal(await count(jim), 0, "what was read is not unread again");
    assert.equal(got(jim, "notification:new").length, 1);
  });

  it("come as plain emissions, too, and once for one idempotency key", async () => {
    const kim = await enter("kim", 2);
    const emission = { to: { user: "kim" }, event: "notification:new", data: { title: "t", message: "plain" } };
    const told = heard(kim, "notification:new");
    for (const i of [0, 1]) await call(node(i), "visits", "emit", emission, { "idempotency-key": "k-1" });
    assert.equal((await told)[0].message, "plain");
    assert.equal(await count(kim), 1);
    const other = heard(kim, "reminder");
    await call(node(0), "visits", "emit", { ...emission, event: "reminder" });
    await other;
    assert.equal(await count(kim), 1, "other events are not kept");
    assert.equal(got(kim, "notification:new").length, 1);
  });

  it("refuse what cannot be: the back end's calls", async () => {
    const bad = [
      {}, { userId: "x" }, { notification: {} }, { userId: "x", notification: "text" }, { userId: null, notification: {} },
      { userId: "", notification: {} }, { userId: "x", notification: [1] }, { userId: "x", notification: { id: {} } },
      { userId: "x", notification: { text: "x".repeat(3000) } }, { userId: "x".repeat(600), notification: {} },
    ];
    for (const body of bad) {
      const answer = await ask(node(0), "visits", "notify", body);
      assert.ok(answer.status >= 400 && answer.status < 500, `${answer.status} ${JSON.stringify(body).slice(0, 80)}`);
      assert.ok(answer.body.code && answer.body.message);
    }
    assert.equal(await count(await enter("x")), 0);
  });

  it("refuse what cannot be: the clients' questions", async () => {
    const lee = await enter("lee");
    const bad = [
      ["notification:read"], ["notification:read", null], ["notification:read", "id"], ["notification:read", {}],
      ["notification:read", { notificationId: null }], ["notification:read", { notificationId: 1.5 }],
      ["notification:read", { notificationId: { $gt: "" } }], ["notification:read", { notificationId: "x".repeat(100_000) }],
      ["notification:list", { limit: 0 }], ["notification:list", { limit: -1 }], ["notification:list", { limit: "5" }],
      ["notification:list", { before: {} }], ["notification:list", 7], ["notification:list", []],
    ];
    for (const question of bad) {
      const ack = await say(lee, ...question);
      assert.deepEqual([ack.success, ack.code], [false, "invalid_payload"], JSON.stringify(question).slice(0, 80));
      const error = heard(lee, "error");
      lee.emit(...question);
      assert.deepEqual([(await error)[0].code, (await error)[0].event], ["invalid_payload", question[0]]);
    }
    const unknown = await say(lee, "notification:list", { before: "no such" });
    assert.equal(unknown.code, "unknown_notification");
    assert.equal((await say(lee, "notification:other")).code, "unknown_event");
    assert.deepEqual(await say(lee, "notification:getUnreadCount"), { success: true, unreadCount: 0 });
  });

  it("survive all nodes", async () => {
    await notify("max", { title: "t", message: "stays" });
    await Promise.all(cluster.nodes.splice(0).map(({ process }) => process.stop()));
    for (let i = 0; i < 3; i += 1) await cluster.add();
    const max = await enter("max", 1);
    assert.deepEqual((await list(max)).map(({ message }) => message), ["stays"]);
  });
});
