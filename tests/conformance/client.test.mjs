// The published socket.io-client against the handlers of the `client` row, on each of its transports.

import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { io } from "socket.io-client";
import { heard, until } from "../lib/clients.mjs";
import { elapse } from "../lib/engine.mjs";
import { onEveryTopology } from "../lib/suite.mjs";

const BYTES = Buffer.from("asdfasdf");
const TRANSPORTS = { polling: ["polling"], websocket: ["websocket"], upgrade: ["polling", "websocket"] };

onEveryTopology("client", (url) => {
  const open = [];
  afterEach(() => open.splice(0).forEach((socket) => socket.disconnect()));

  function client(namespace = "/", options = {}) {
    const socket = io(`${url()}${namespace}`, { forceNew: true, reconnectionDelay: 10, ...options });
    open.push(socket);
    return socket;
  }

  /** Sends `event` and resolves with the arguments of the event `answer`, without the offset that recovery appends. */
  async function ask(socket, event, answer, ...args) {
    const answered = heard(socket, answer);
    socket.emit(event, ...args);
    return answered;
  }

  for (const [name, transports] of Object.entries(TRANSPORTS)) {
    describe(name, () => {
      const connect = (namespace, options) => client(namespace, { transports, ...options });

      it("echoes, acks and answers acks", async () => {
        const socket = connect();
        await ask(socket, "hi", "hi");
        assert.deepEqual(await socket.emitWithAck("echo", { a: [1, "€"] }), { a: [1, "€"] });
        socket.on("ack", (answer) => answer(5, { test: true }));
        await ask(socket, "ack", "got it");
        assert.equal(await socket.emitWithAck("getId"), socket.id);
      });

      it("sends dates, false and text beyond ASCII", async () => {
        const socket = connect();
        const iso = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;
        assert.match(await socket.emitWithAck("getAckDate", { test: true }), iso);
        assert.match((await ask(socket, "getDate", "takeDate"))[0], iso);
        assert.match((await ask(socket, "getDateObj", "takeDateObj"))[0].date, iso);
        assert.equal((await ask(socket, "false", "false"))[0], false);
        const texts = [];
        socket.on("takeUtf8", (text) => texts.push(text));
        socket.emit("getUtf8");
        await until(() => texts.length === 5);
        assert.deepEqual(texts, ["てすと", "Я Б Г Д Ж Й", "Ä ä Ü ü ß", "utf8 — string", "utf8 — string"]);
      });

      it("carries binary both ways", async () => {
        const socket = connect();
        assert.deepEqual((await ask(socket, "doge", "doge"))[0], BYTES);
        assert.deepEqual((await ask(socket, "getbin", "takebin"))[0], BYTES);
        const mixed = { hello: "lol", message: BYTES, goodbye: "gotcha" };
        await ask(socket, "buffa", "buffack", BYTES);
        await ask(socket, "jsonbuff", "jsonbuff-ack", mixed);
        await ask(socket, "blob", "back", BYTES);
        await ask(socket, "jsonblob", "jsonblob-ack", mixed);
        socket.emit("abuff1", BYTES);
        await ask(socket, "abuff2", "abuff2-ack", "second");
        socket.emit("blob1", BYTES);
        socket.emit("blob2", "second");
        await ask(socket, "blob3", "blob3-ack", BYTES);
        assert.deepEqual(await socket.emitWithAck("echo", [BYTES, { deep: BYTES }]), [BYTES, { deep: BYTES }]);
      });

      it("tells the handshake", async () => {
        const socket = connect("/abc", { auth: { a: "b" }, query: { "&a": "&=?a" }, extraHeaders: { "x-test": "1" } });
        const [handshake] = await heard(socket, "handshake");
        const { headers, time, address, xdomain, secure, issued, url, query, auth } = handshake;
        assert.equal(headers["x-test"], "1");
        assert.ok(time && address && url.includes("EIO=4") && Math.abs(Date.now() - issued) < 60_000);
        assert.deepEqual([xdomain, secure, auth], [false, false, { a: "b" }]);
        assert.equal(query["&a"], "&=?a");
        assert.equal(query.EIO, "4");
      });

      it("gives a socket of each namespace its own id", async () => {
        const [main, foo] = [connect("/"), connect("/foo")];
        const ids = await Promise.all([main.emitWithAck("getId"), foo.emitWithAck("getId")]);
        assert.deepEqual(ids, [main.id, foo.id]);
        assert.equal(new Set([...ids, main.io.engine.id, foo.io.engine.id]).size, 4);
      });
    });
  }

  it("refuses with the reason", async () => {
    const [custom] = await heard(client("/no"), "connect_error");
    assert.equal(custom.message, "Auth failed (custom namespace)");
    const [main] = await heard(client("/?fail=1"), "connect_error");
    assert.equal(main.message, "Auth failed (main namespace)");
    const [unknown] = await heard(client("/nowhere"), "connect_error");
    assert.equal(unknown.message, "Invalid namespace");
  });

  it("acknowledges nothing that has no handler for it", async () => {
    const socket = client();
    await assert.rejects(socket.timeout(100).emitWithAck("unknown"));
    await assert.rejects(socket.timeout(100).emitWithAck("ack"));
  });

  it("serves several namespaces of one connection one after the other", async () => {
    const main = client("/");
    await heard(main, "connect");
    const names = ["/foo", "/asd", "/valid", "/timeout_socket"];
    const others = names.map((name) => main.io.socket(name));
    await Promise.all(others.map((socket) => until(() => socket.connected)));
    main.disconnect();
    assert.equal(await others[0].emitWithAck("getId"), others[0].id);
    others.forEach((socket) => socket.disconnect());
  });

  it("takes a client back after disconnect and connect", async () => {
    const socket = client();
    await heard(socket, "connect");
    socket.disconnect();
    socket.connect();
    await heard(socket, "connect");
    assert.equal(await socket.emitWithAck("echo", 1), 1);
  });

  it("keeps a quiet connection over several heartbeats", async () => {
    const socket = client();
    await heard(socket, "connect");
    let pings = 0;
    socket.io.on("ping", () => { pings += 1; });
    await until(() => pings >= 2, 8000);
    assert.ok(socket.connected);
  });

  it("keeps order and count of a burst through the upgrade", async () => {
    await Promise.all(Array.from({ length: 10 }, async () => {
      const socket = client();
      const answers = [];
      for (let i = 0; i < 200; i += 1) {
        socket.emit("echo", i, (value) => answers.push(value));
        if (i % 20 === 0) await elapse(2);
      }
      await until(() => answers.length >= 200);
      await until(() => socket.io.engine.transport.name === "websocket");
      assert.deepEqual(answers, Array.from({ length: 200 }, (_, i) => i));
    }));
  });
});
