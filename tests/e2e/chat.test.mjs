// The messenger's chats with stock clients on three nodes: what is said, changed, read, and who may.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { ask, fresh, refused, told } from "../lib/calls.mjs";
import { CONFIG, enterChats, history, ISO, say, unread } from "../lib/chat.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { got, POLLING, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

describe("the messenger's chats on three nodes", () => {
  const users = new Users();
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const enter = (name, node, chats, options = WEBSOCKET) =>
    enterChats(users, cluster.nodes[node % 3].url, name, chats, options);
  const onNodes = (names, chats, options) => Promise.all(names.map((name, i) => enter(name, i, chats, options)));
  const idOf = (socket) => socket.welcome.userId;
  const contents = (messages) => messages.map(({ content }) => content);

  describe("messages", () => {
    for (const [name, options] of Object.entries({ websocket: WEBSOCKET, polling: POLLING, upgrade: UPGRADE })) {
      it(`reach the whole chat, the sending socket too, once (${name})`, async () => {
        const [chat, a, b, c] = fresh("chat", "ann", "bob", "eve");
        const [ann, bob] = [await enterChats(users, cluster.url, a, [chat], options), await enterChats(users, cluster.url, b, [chat], options)];
        const other = await enterChats(users, cluster.url, a, [chat], options);
        const stranger = await enterChats(users, cluster.url, c, [], options);
        const attachments = [{ type: "image", url: "https://x/y.png", name: "y.png", size: 12 }];
        const message = await say(ann, chat, "grüße 🎈", { type: "image", attachments, unknown: 1 });
        const { id, createdAt, ...rest } = message;
        assert.ok(id);
        assert.match(createdAt, ISO);
        assert.deepEqual(rest, { chatId: chat, senderId: a, content: "grüße 🎈", type: "image", attachments, status: "sent" });
        for (const socket of [ann, bob, other]) assert.deepEqual(await told(socket, "message:receive"), { message, chatId: chat });
        await say(bob, chat, "the end");
        for (const socket of [ann, bob, other]) {
          await until(() => got(socket, "message:receive").length === 2);
          assert.deepEqual(contents(got(socket, "message:receive").map((it) => it.message)), ["grüße 🎈", "the end"]);
        }
        await refused(stranger, "message:send", { chatId: chat, content: "let me in" }, "room_denied");
        assert.equal(got(stranger, "message:receive").length, 0);
      });
    }

    it("keep numeric ids numbers, and 7 and \"7\" are one chat", async () => {
      const [b] = fresh("bob");
      const [number, text] = [await enter(7, 0, [7]), await enter(b, 1, ["7"])];
      const message = await say(number, 7, "hi");
      assert.deepEqual([message.chatId, message.senderId], [7, 7]);
      assert.equal((await told(text, "message:receive")).chatId, 7);
      assert.equal((await say(text, "7", "ho")).chatId, "7");
    });

    it("answer others of the same chat only", async () => {
      const [chat, second, a] = fresh("chat", "second", "ann");
      const ann = await enter(a, 0, [chat, second]);
      const first = await say(ann, chat, "first");
      assert.equal((await say(ann, chat, "answer", { replyTo: first.id })).replyTo, first.id);
      await refused(ann, "message:send", { chatId: second, content: "x", replyTo: first.id }, "invalid_payload");
      await refused(ann, "message:send", { chatId: chat, content: "x", replyTo: `99@chat:${chat}` }, "unknown_message");
    });

    it("answer the newest message of another node at once", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = await onNodes([a, b], [chat]);
      await say(ann, chat, "warm");
      for (let i = 0; i < 10; i += 1) {
        const question = await say(ann, chat, `question ${i}`);
        assert.equal((await say(bob, chat, "answer", { replyTo: question.id })).replyTo, question.id);
      }
    });

    for (const [payload, code] of [
      [{}, "invalid_payload"], [{ content: 5 }, "invalid_payload"], [{ content: "" }, "invalid_payload"],
      [{ content: "x", chatId: {} }, "invalid_payload"], [{ content: "x", chatId: null }, "invalid_payload"],
      [{ content: "x", chatId: "of others" }, "room_denied"], [{ content: "x", chatId: "y".repeat(600) }, "invalid_payload"],
      [{ content: "x", type: "poem" }, "invalid_payload"], [{ content: "x", attachments: {} }, "invalid_payload"],
      [{ content: "x", attachments: [{ url: 5 }] }, "invalid_payload"], [{ content: "x", attachments: ["a"] }, "invalid_payload"],
      [{ content: "x".repeat(4097) }, "over_limit"], [{ content: "x", clientId: {} }, "invalid_payload"],
      [{ content: "x", userId: "somebody else" }, "invalid_payload"], [{ content: "x", replyTo: 5 }, "invalid_payload"],
    ]) {
      it(`refuse ${JSON.stringify(payload).slice(0, 60)}`, async () => {
        const [chat, a] = fresh("chat", "ann");
        const ann = await enter(a, 0, [chat]);
        await refused(ann, "message:send", { chatId: chat, ...payload }, code);
        const error = heard(ann, "error");
        ann.emit("message:send", { chatId: chat, ...payload });
        assert.deepEqual([(await error)[0].code, (await error)[0].event], [code, "message:send"]);
        await say(ann, chat, "still here");
        assert.deepEqual(contents(await history(ann, chat)), ["still here"]);
      });
    }

    for (const event of ["message:send", "message:edit", "message:delete", "message:read", "message:history", "message:unread", "chat:join", "chat:leave", "typing:start", "typing:stop", "user:status"]) {
      it(`survive nonsense for ${event}`, async () => {
        const [chat, a] = fresh("chat", "ann");
        const ann = await enter(a, 0, [chat]);
        for (const nonsense of [undefined, null, 5, "x", [], [[]], { chatId: [] }, { chatId: chat, messageId: {}, content: [], before: [], limit: "x", isTyping: 9, chatIds: 5, userIds: 5, messageIds: 5 }]) {
          const ack = await ann.timeout(30_000).emitWithAck(event, nonsense);
          const fine = ["chat:join", "chat:leave", "typing:stop", "message:unread"].includes(event) && ack.success;
          assert.ok(fine || (ack.success === false && ack.code && ack.error), JSON.stringify(ack));
        }
        await say(ann, chat, "still here");
      });
    }
  });

  describe("a client's own id", () => {
    it("stores and delivers once, whatever is lost on the way", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob, again] = await Promise.all([enter(a, 0, [chat]), enter(b, 1, [chat]), enter(a, 2, [chat])]);
      const first = await say(ann, chat, "once", { clientId: "c-1" });
      assert.equal(first.clientId, "c-1");
      assert.deepEqual(await say(again, chat, "once more", { clientId: "c-1" }), first);
      assert.deepEqual(await say(ann, chat, "once", { clientMessageId: "c-1" }), first);
      assert.notEqual((await say(bob, chat, "another's", { clientId: "c-1" })).id, first.id);
      await say(ann, chat, "the end");
      for (const socket of [ann, bob, again]) {
        await until(() => got(socket, "message:receive").some(({ message }) => message.content === "the end"));
        assert.deepEqual(contents(got(socket, "message:receive").map((it) => it.message)), ["once", "another's", "the end"]);
      }
    });

    it("holds when two sockets send at once, again and again, among others who send", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [one, two, bob] = await Promise.all([enter(a, 0, [chat]), enter(a, 1, [chat]), enter(b, 2, [chat])]);
      const ids = Array.from({ length: 25 }, (_, i) => `c-${i}`);
      const sends = ids.flatMap((clientId) => [one, two, one].map((socket) => say(socket, chat, clientId, { clientId })));
      const noise = ids.map((id) => say(bob, chat, `noise ${id}`));
      const [acks] = await Promise.all([Promise.all(sends), Promise.all(noise)]);
      for (const clientId of ids) assert.equal(new Set(acks.filter((it) => it.clientId === clientId).map((it) => it.id)).size, 1);
      const stored = await history(bob, chat, { limit: 200 });
      assert.equal(stored.length, 50);
      assert.deepEqual(stored.map(({ id }) => Number(id.split("@")[0])), Array.from({ length: 50 }, (_, i) => i + 1), "without holes");
      await until(() => got(bob, "message:receive").length >= 50);
      await say(bob, chat, "the end");
      await until(() => got(bob, "message:receive").some(({ message }) => message.content === "the end"));
      assert.equal(got(bob, "message:receive").length, 51);
    });
  });

  describe("edits and deletes", () => {
    it("are the author's, and everybody sees them", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = await onNodes([a, b], [chat]);
      const { id } = await say(ann, chat, "helo");
      const ack = await ask(ann, "message:edit", { messageId: id, content: "hello" });
      assert.equal(ack.message.content, "hello");
      assert.match(ack.message.editedAt, ISO);
      for (const socket of [ann, bob]) {
        const { chatId, message } = await told(socket, "message:edit");
        assert.deepEqual([chatId, message.id, message.content, message.senderId], [chat, id, "hello", a]);
      }
      await refused(bob, "message:edit", { messageId: id, content: "mine" }, "not_author");
      await refused(bob, "message:delete", { messageId: id }, "not_administrator");
      await ask(ann, "message:delete", { chatId: chat, messageId: id });
      for (const socket of [ann, bob]) {
        assert.deepEqual(await told(socket, "message:delete"), { chatId: chat, messageId: id, deletedBy: a });
      }
      const [tombstone] = await history(bob, chat);
      assert.deepEqual([tombstone.id, tombstone.content, tombstone.attachments], [id, "", []]);
      assert.match(tombstone.deletedAt, ISO);
      await refused(ann, "message:edit", { messageId: id, content: "back" }, "message_deleted");
      await ask(ann, "message:delete", { messageId: id });
      await say(ann, chat, "the end");
      await until(() => got(bob, "message:receive").length === 2);
      assert.equal(got(bob, "message:delete").length, 1, "what is deleted is not deleted again");
    });

    it("of others are an administrator's", async () => {
      const [chat, a, b, c] = fresh("chat", "ann", "root", "mod");
      const ann = await enter(a, 0, [chat]);
      const root = await enter(b, 1, [chat], { ...WEBSOCKET, claims: { role: "admin" } });
      const mod = await enter(c, 2, [chat], { ...WEBSOCKET, claims: { chatAdmin: [chat] } });
      for (const [socket, name] of [[root, b], [mod, c]]) {
        const { id } = await say(ann, chat, "rude");
        await refused(socket, "message:edit", { messageId: id, content: "nice" }, "not_author");
        await ask(socket, "message:delete", { messageId: id });
        await told(ann, "message:delete", { messageId: id, deletedBy: name });
      }
    });

    it("name a message of a chat one may be in", async () => {
      const [chat, other, a, b] = fresh("chat", "other", "ann", "bob");
      const [ann, bob] = [await enter(a, 0, [chat, other]), await enter(b, 1, [other])];
      const { id } = await say(ann, chat, "secret");
      for (const event of ["message:edit", "message:delete", "message:read"]) {
        await refused(bob, event, { messageId: id, content: "x" }, "room_denied");
        await refused(ann, event, { messageId: `99@chat:${chat}`, content: "x" }, "unknown_message");
        await refused(ann, event, { chatId: other, messageId: id, content: "x" }, "invalid_payload");
        for (const messageId of ["", "x", `0@chat:${chat}`, `1@user:${a}`, 7, null]) await refused(ann, event, { messageId, content: "x" }, "invalid_payload");
      }
    });

    it("that meet end alike for everybody", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const devices = await Promise.all([0, 1, 2, 3, 4, 5, 6, 7, 8].map((node) => enter(a, node, [chat])));
      const bob = await enter(b, 2, [chat]);
      const edited = [];
      for (let round = 0; round < 5; round += 1) {
        const { id } = await say(devices[0], chat, "0");
        await Promise.all(devices.map((device, i) => ask(device, "message:edit", { messageId: id, content: `${round} ${i}` })));
        edited.push(id);
      }
      await say(devices[0], chat, "the end");
      const stands = await history(bob, chat);
      for (const socket of [...devices, bob]) {
        await until(() => got(socket, "message:receive").some(({ message }) => message.content === "the end"));
        for (const id of edited) {
          const last = got(socket, "message:edit").filter(({ message }) => message.id === id).at(-1).message.content;
          assert.equal(last, stands.find((message) => message.id === id).content, "the last word is the one that stands");
        }
      }
    });

    it("do not hide messages that were sent meanwhile", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = await onNodes([a, b], [chat]);
      const { id } = await say(ann, chat, "1");
      const sends = Array.from({ length: 40 }, (_, i) => say([ann, bob][i % 2], chat, `${i + 2}`));
      const edits = Array.from({ length: 20 }, (_, i) => ask(ann, "message:edit", { messageId: id, content: `1 ${i}` }));
      await Promise.all([...sends, ...edits]);
      const fresh1 = await enter(b, 2, [chat]);
      assert.equal((await history(fresh1, chat, { limit: 200 })).length, 41);
      assert.equal((await say(fresh1, chat, "last")).id, `42@chat:${chat}`);
    });
  });

  describe("history", () => {
    it("is read by pages both ways", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = await onNodes([a, b], [chat]);
      assert.deepEqual(await ask(bob, "message:history", { chatId: chat }), { success: true, messages: [], hasMore: false });
      const ids = [];
      for (let i = 1; i <= 60; i += 1) ids.push((await say(ann, chat, `${i}`)).id);
      const newest = await ask(bob, "message:history", { chatId: chat });
      assert.deepEqual([newest.messages.length, newest.hasMore, newest.messages[0].content, newest.messages.at(-1).content], [50, true, "11", "60"]);
      const older = await ask(bob, "message:history", { chatId: chat, before: newest.messages[0].id });
      assert.deepEqual([contents(older.messages), older.hasMore], [Array.from({ length: 10 }, (_, i) => `${i + 1}`), false]);
      const newer = await ask(bob, "message:history", { after: ids[9], limit: 3 });
      assert.deepEqual([contents(newer.messages), newer.hasMore], [["11", "12", "13"], true]);
      const last = await ask(bob, "message:history", { chatId: chat, after: ids[57], limit: 100000 });
      assert.deepEqual([contents(last.messages), last.hasMore], [["59", "60"], false]);
      const between = await ask(bob, "message:history", { chatId: chat, after: ids[9], before: ids[12] });
      assert.deepEqual([contents(between.messages), between.hasMore], [["11", "12"], false]);
      for (const wrong of [{ limit: 0 }, { limit: -1 }, { limit: "5" }, { before: "x" }, { before: {} }, { before: "3@chat:else" }]) {
        await refused(bob, "message:history", { chatId: chat, ...wrong }, "invalid_payload");
      }
      await refused(bob, "message:history", { chatId: "else" }, "room_denied");
      await refused(bob, "message:history", {}, "invalid_payload");
    });

    it("of long messages comes in pages that fit", async () => {
      const [chat, a] = fresh("chat", "ann");
      const ann = await enter(a, 0, [chat]);
      const ids = [];
      for (let i = 0; i < 60; i += 1) ids.push((await say(ann, chat, "🎈".repeat(4096))).id);
      const seen = [];
      let page = { hasMore: true, messages: [] };
      while (page.hasMore) {
        page = await ask(ann, "message:history", { chatId: chat, limit: 200, ...(seen[0] && { before: seen[0] }) });
        seen.unshift(...page.messages.map(({ id }) => id));
      }
      assert.deepEqual(seen, ids);
    });
  });

  describe("marks", () => {
    it("say what was delivered and read, once, and count what was not", async () => {
      const [chat, a, b, c] = fresh("chat", "ann", "bob", "eve");
      const ann = await enter(a, 0, [chat]);
      const { id } = await say(ann, chat, "anybody there?");
      assert.equal((await history(ann, chat))[0].status, "sent");
      const [bob, eve] = [await enter(b, 1, [chat]), await enter(c, 2, [chat])];
      assert.equal(await unread(bob, chat), 1);
      assert.equal(await unread(ann, chat), 0, "one's own are read");
      const second = await say(ann, chat, "now?");
      assert.deepEqual(await told(ann, "message:status", { messageId: second.id }), { chatId: chat, messageId: second.id, status: "delivered" });
      assert.deepEqual((await history(ann, chat)).map(({ status }) => status), ["delivered", "delivered"]);
      assert.equal(await unread(bob, chat), 2);
      await ask(bob, "message:read", { chatId: chat, messageId: second.id });
      for (const socket of [ann, bob, eve]) {
        const { readAt, ...rest } = await told(socket, "message:read");
        assert.match(readAt, ISO);
        assert.deepEqual(rest, { chatId: chat, messageId: second.id, userId: b });
      }
      assert.deepEqual((await history(ann, chat)).map(({ status }) => status), ["read", "read"]);
      assert.deepEqual([await unread(bob, chat), await unread(eve, chat)], [0, 2]);
      await ask(bob, "message:read", { messageIds: [id, second.id] });
      await say(bob, chat, "yes");
      await told(ann, "message:receive", {});
      assert.deepEqual([await unread(eve, chat), await unread(ann, chat), await unread(bob, chat)], [3, 1, 0]);
      await say(eve, chat, "me too");
      assert.equal(await unread(eve, chat), 0, "who writes has read");
      await until(() => got(eve, "message:receive").length >= 3);
      assert.equal(got(ann, "message:read").length, 1, "what was read is not read again");
      assert.equal(got(ann, "message:status").filter((it) => it.messageId === second.id).length, 1);
    });

    it("are told to who sent before one came", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const ann = await enter(a, 0, [chat]);
      const { id } = await say(ann, chat, "later");
      const bob = await enter(b, 1, [chat]);
      await history(bob, chat);
      await told(ann, "message:status", { messageId: id, status: "delivered" });
    });

    it("only grow, whoever moves them, and count exactly", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const ann = await enter(a, 0, [chat]);
      const devices = await Promise.all([0, 1, 2].map((node) => enter(b, node, [chat])));
      const ids = [];
      for (let i = 0; i < 30; i += 1) ids.push((await say(ann, chat, `${i}`)).id);
      const marks = ids.slice(0, 20).map((messageId, i) => ask(devices[i % 3], "message:read", { messageId }));
      await Promise.all(marks);
      for (const device of devices) assert.equal(await unread(device, chat), 10);
      await ask(devices[0], "message:read", { messageId: ids[3] });
      for (const device of devices) assert.equal(await unread(device, chat), 10);
      assert.deepEqual((await ask(devices[1], "message:unread", {})).unread, { [chat]: 10 });
    });

    it("do not count what was deleted", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = await onNodes([a, b], [chat]);
      await say(ann, chat, "1");
      const { id } = await say(ann, chat, "2");
      await ask(ann, "message:delete", { messageId: id });
      assert.equal(await unread(bob, chat), 1);
    });
  });

  describe("typing", () => {
    it("is shown to the others and ends by itself", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob, other] = await Promise.all([enter(a, 0, [chat]), enter(b, 1, [chat]), enter(a, 2, [chat])]);
      await ask(ann, "typing:start", { chatId: chat, isTyping: true });
      for (const socket of [bob, other]) {
        assert.deepEqual(await told(socket, "typing:start"), { chatId: chat, userId: a, isTyping: true });
        assert.deepEqual(await told(socket, "typing:stop"), { chatId: chat, userId: a, isTyping: false });
      }
      assert.equal(ann.log.filter(([event]) => event.startsWith("typing")).length, 0, "not to who types");
      await ask(ann, "typing:start", { chatId: chat, isTyping: true });
      await until(() => got(bob, "typing:start").length === 2);
      await ask(ann, "typing:start", { chatId: chat, isTyping: false });
      await until(() => got(bob, "typing:stop").length === 2);
    });

    it("ends with what is sent, before it", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = await onNodes([a, b], [chat]);
      await ask(ann, "typing:start", { chatId: chat, isTyping: true });
      await say(ann, chat, "hi");
      await told(bob, "message:receive");
      await told(bob, "typing:stop");
      assert.equal(got(bob, "typing:stop").length, 1);
    });

    it("is shown once per interval however often it is said", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = await onNodes([a, b], [chat]);
      const begun = Date.now();
      for (let i = 0; i < 200; i += 1) ann.emit("typing:start", { chatId: chat, isTyping: true });
      await ask(ann, "typing:stop", { chatId: chat });
      await told(bob, "typing:stop");
      const most = 1 + Math.ceil((Date.now() - begun) / 300);
      assert.ok(got(bob, "typing:start").length <= most, `${got(bob, "typing:start").length} of at most ${most}`);
    });

    it("is nobody's business elsewhere", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = [await enter(a, 0, [chat]), await enter(b, 1, [])];
      await refused(bob, "typing:start", { chatId: chat, isTyping: true }, "room_denied");
      await say(ann, chat, "the end");
      await told(ann, "message:receive");
      assert.equal(ann.log.filter(([event]) => event.startsWith("typing")).length, 0);
    });
  });

  describe("who is there", () => {
    it("is told to those who share a chat, and to who asked", async () => {
      const [chat, a, b, c, d] = fresh("chat", "ann", "bob", "eve", "dan");
      const [ann, eve, dan] = [await enter(a, 0, [chat]), await enter(c, 1, []), await enter(d, 2, [])];
      const before = await ask(eve, "user:status", { userIds: [b, 5] });
      assert.deepEqual(before.users, [{ userId: b, status: "offline", online: false }, { userId: 5, status: "offline", online: false }]);
      const bob = await enter(b, 2, [chat]);
      for (const socket of [ann, eve]) assert.deepEqual(await told(socket, "user:online", { userId: b }), { userId: b });
      const [{ status, online }] = (await ask(eve, "user:status", { userIds: [b] })).users;
      assert.deepEqual([status, online], ["online", true]);
      bob.disconnect();
      for (const socket of [ann, eve]) assert.match((await told(socket, "user:offline", { userId: b })).lastSeen, ISO);
      assert.equal(dan.log.filter(([, data]) => data?.userId === b).length, 0);
      await refused(eve, "user:status", { userIds: "x" }, "invalid_payload");
    });
  });

  describe("with other settings", () => {
    const open = (name, node) => enter(name, node, [], { ...WEBSOCKET, path: "/strict/" });

    it("are open to all who name them", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = [await open(a, 0), await open(b, 1)];
      await ask(bob, "chat:join", { chatId: chat });
      await say(ann, chat, "hi");
      await told(bob, "message:receive");
      await told(ann, "message:receive");
      await ask(bob, "chat:leave", { chatId: chat });
      await say(ann, chat, "gone?");
      await until(() => got(ann, "message:receive").length === 2);
      assert.equal((await history(ann, chat)).length, 2);
      assert.equal(got(bob, "message:receive").length, 1);
    });

    it("end typing when the connection ends, and when the chat is left, not by time alone", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const [ann, bob] = [await open(a, 0), await open(b, 1)];
      await Promise.all([ann, bob].map((socket) => ask(socket, "chat:join", { chatId: chat })));
      await ask(ann, "typing:start", { chatId: chat, isTyping: true });
      await told(bob, "typing:start");
      ann.disconnect();
      await told(bob, "typing:stop");
      const again = await open(a, 2);
      await ask(again, "chat:join", { chatId: chat });
      await ask(again, "typing:start", { chatId: chat, isTyping: true });
      await until(() => got(bob, "typing:start").length === 2);
      await ask(again, "chat:leave", { chatId: chat });
      await until(() => got(bob, "typing:stop").length === 2);
    });

    it("take so many messages of one user in a minute, on all nodes together", async () => {
      const [chat, a, b] = fresh("chat", "ann", "bob");
      const devices = [await open(a, 0), await open(a, 1), await open(a, 2)];
      const sends = Array.from({ length: 12 }, (_, i) =>
        devices[i % 3].timeout(30_000).emitWithAck("message:send", { chatId: `${chat}-${i % 4}`, content: `${i}` }));
      const acks = await Promise.all(sends);
      assert.equal(acks.filter((ack) => ack.success).length, 5, JSON.stringify(acks.filter((it) => !it.success)[0]));
      for (const ack of acks.filter((it) => !it.success)) {
        assert.equal(ack.code, "over_limit");
        assert.match(ack.error, /limits\.messages_per_minute/);
      }
      await say(await open(b, 0), chat, "mine");
    });

    it("keep to their limits and say which", async () => {
      const [chat, a] = fresh("chat", "ann");
      const ann = await open(a, 0);
      const over = async (more, setting) => assert.match((await refused(ann, "message:send", { chatId: chat, content: "x", ...more }, "over_limit")).error, setting);
      const file = (url) => ({ url });
      await over({ content: "x".repeat(11) }, /limits\.message_chars/);
      await over({ attachments: [file("a"), file("b"), file("c")] }, /limits\.message_attachments/);
      await over({ attachments: [file("x".repeat(100))] }, /limits\.attachment_bytes/);
      for (let i = 0; i < 5; i += 1) await say(ann, chat, `${i}`);
      const page = await ask(ann, "message:history", { chatId: chat, limit: 100 });
      assert.deepEqual([page.messages.length, page.hasMore], [3, true]);
      const bob = await open(`${a}-bob`, 1);
      assert.equal(await unread(bob, chat), 4, "counts no further");
      for (const name of ["1", "2"]) await ask(ann, "typing:start", { chatId: name, isTyping: true });
      assert.match((await refused(ann, "typing:start", { chatId: "3", isTyping: true }, "over_limit")).error, /chat\.typing_rooms/);
    });
  });
});
