// The published engine.io-client against the handlers of the `engine-client` row.

import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { Socket } from "engine.io-client";
import { heard, until } from "../lib/clients.mjs";
import { onEveryTopology } from "../lib/suite.mjs";

const MAX_PAYLOAD = 100;
const UTF8 = "пойду спать всем спокойной ночи";

onEveryTopology("engine-client", (url) => {
  const open = [];
  afterEach(() => open.splice(0).forEach((socket) => socket.close()));

  function client(options = {}) {
    const socket = new Socket(url(), options);
    socket.binaryType = "arraybuffer";
    socket.received = [];
    socket.on("message", (data) => socket.received.push(data));
    open.push(socket);
    return socket;
  }

  /** The messages after `hi`, once there are `count`. */
  async function messages(socket, count) {
    await until(() => socket.received.length > count);
    const [hi, ...rest] = socket.received.map((data) => (data instanceof ArrayBuffer ? [...new Uint8Array(data)] : data));
    assert.equal(hi, "hi");
    return rest;
  }

  /** The answer that made the client fail, read before the client forgets it. */
  async function failure(socket) {
    return new Promise((resolve) => {
      socket.once("error", (error) => resolve({ status: error.description, text: error.context.responseText }));
    });
  }

  for (const [name, options] of Object.entries({
    polling: { transports: ["polling"] }, websocket: { transports: ["websocket"] }, upgrade: {}, base64: { forceBase64: true },
  })) {
    describe(name, () => {
      it("echoes text and binary in order", async () => {
        const socket = client(options);
        socket.send("cash money €€€");
        socket.send(Uint8Array.from([0, 1, 2, 3, 4]));
        socket.send("\uD800\uDC00-\uDB7F\uDFFF\uE000-\uF8FF");
        assert.deepEqual(await messages(socket, 3), ["cash money €€€", [0, 1, 2, 3, 4], "\uD800\uDC00-\uDB7F\uDFFF\uE000-\uF8FF"]);
      });

      it("gives binary and utf8", async () => {
        const socket = client(options);
        socket.send("give binary");
        socket.send("give utf8");
        assert.deepEqual(await messages(socket, 2), [[0, 1, 2, 3, 4], UTF8]);
      });

      it("refuses when asked to", async () => {
        const socket = client({ ...options, query: { deny: 1 } });
        await heard(socket, "error");
      });
    });
  }

  it("upgrades and goes on", async () => {
    const socket = client();
    await heard(socket, "upgrade");
    socket.send("after");
    assert.deepEqual(await messages(socket, 1), ["after"]);
    assert.equal(socket.transport.name, "websocket");
  });

  it("merges packets up to the greatest payload", async () => {
    const socket = client({ transports: ["polling"] });
    const sent = ["a".repeat(99), "b".repeat(30), "c".repeat(30), "d".repeat(35), "€".repeat(33), "f".repeat(99)];
    await heard(socket, "open");
    sent.forEach((text) => socket.send(text));
    assert.deepEqual(await messages(socket, sent.length), sent);
  });

  it("answers 413 over polling and 1009 over WebSocket to what is too large", async () => {
    // Without a poll beside it: on another node that one may hear first that the session is over.
    const path = `${url()}/engine.io/?EIO=4&transport=polling`;
    const { sid } = JSON.parse((await (await fetch(path)).text()).split("\x1e")[0].slice(1));
    const refused = await fetch(`${path}&sid=${sid}`, { method: "POST", body: `4${"a".repeat(MAX_PAYLOAD)}` });
    assert.deepEqual([refused.status, await refused.text()], [413, ""]);

    const websocket = client({ transports: ["websocket"] });
    await heard(websocket, "open");
    const closed = heard(websocket, "close");
    websocket.send("a".repeat(MAX_PAYLOAD + 1));
    const [reason, details] = await closed;
    assert.equal(reason, "transport close");
    assert.deepEqual([details.context.code, details.context.reason], [1009, ""]);
  });

  it("says that a session is unknown", async () => {
    const answer = await failure(client({ transports: ["polling"], query: { sid: "abc" } }));
    assert.deepEqual(answer, { status: 400, text: '{"code":1,"message":"Session ID unknown"}' });
  });

  it("sets cookies at the handshake that the client returns", async () => {
    const [first, second] = [true, false].map((withCredentials) => client({ transports: ["polling"], withCredentials }));
    for (const socket of [first, second]) {
      await messages(socket, 0); // the cookies came before it
      socket.send("sendHeaders");
    }
    const cookies = [first, second].map(async (socket) => JSON.parse((await messages(socket, 1))[0]).cookie);
    assert.deepEqual(await Promise.all(cookies), ["1=1; 2=2", undefined]);
  });

  it("closes cleanly while the upgrade is under way", async () => {
    await Promise.all(Array.from({ length: 10 }, async () => {
      const socket = client();
      await heard(socket, "upgrading");
      socket.send("hi");
      const closed = heard(socket, "close");
      socket.close();
      await closed;
      assert.equal(socket.writeBuffer.length, 0);
    }));
  });
});
