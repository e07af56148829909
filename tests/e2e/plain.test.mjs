// The plain WebSocket: its frames, its rooms beside those of Socket.IO clients, its limits, its end.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import net from "node:net";
import { after, afterEach, before, describe, it } from "node:test";
import { io } from "socket.io-client";
import { heard, heardWhere, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Plain } from "../lib/plain.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";

const CONFIG = readFileSync(new URL("plain.toml", import.meta.url), "utf8");

describe("the plain WebSocket on three nodes", () => {
  const open = [];
  let cluster;
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, coordinators: 0 }); });
  after(() => cluster?.stop());
  afterEach((test) => { for (const client of open.splice(0)) client.close(); dumpIfFailed(test, cluster); });

  const url = (node, path = "/plain") => `${cluster.nodes[node].url}${path}`;
  async function dial(node = 0, path = "/plain", options = {}) {
    const client = await Plain.open(url(node, path), options);
    open.push(client);
    return client;
  }
  async function stock(node) {
    const socket = io(cluster.nodes[node].url, { path: "/rooms/", forceNew: true, transports: ["websocket"] });
    open.push(socket);
    await heard(socket, "connect");
    return socket;
  }

  it("says pong to ping and answers what asks for an answer", async () => {
    const client = await dial();
    client.ws.send("ping");
    assert.equal(await client.next(), "pong");
    assert.deepEqual(await client.ask("echo", { a: [1, "2", null] }), { a: [1, "2", null] });
    client.say("echo", "first", { id: 77, more: ["second"] });
    assert.deepEqual(await client.next((frame) => frame.ack === 77), { ack: 77, data: "first", more: ["second"] });
  });

  it("shares rooms with Socket.IO clients on other nodes, in one order, binary parts included", async () => {
    const [plain, other, socket] = [await dial(0), await dial(1), await stock(2)];
    await Promise.all([plain.ask("join", "r"), other.ask("join", "r"), socket.emitWithAck("join", "r")]);
    const heardBySocket = [];
    socket.on("event", (...args) => heardBySocket.push(args));
    for (let n = 0; n < 50; n += 1) {
      await (n % 2 ? plain.ask("store", "r", { more: [n] }) : socket.emitWithAck("store", "r", n));
    }
    await until(() => heardBySocket.length === 50);
    for (const client of [plain, other]) {
      const order = [];
      for (let n = 0; n < 50; n += 1) order.push((await client.next((frame) => frame.event === "event")).more[0]);
      assert.deepEqual(order, heardBySocket.map(([, n]) => n));
    }

    const bytes = randomBytes(3000);
    socket.emit("send", "r", { file: bytes, name: "x" });
    const frame = await plain.next((it) => it.event === "event");
    assert.deepEqual(frame, { event: "event", data: "r", more: [{ file: { _placeholder: true, num: 0 }, name: "x" }], binary: 1 });
    assert.deepEqual(await plain.next(Buffer.isBuffer), bytes);

    const got = heardWhere(socket, "event", (_, data) => Array.isArray(data));
    plain.say("send", "r", { binary: 2, more: [[{ _placeholder: true, num: 1 }, { _placeholder: true, num: 0 }]] });
    plain.ws.send(Buffer.from("a"));
    plain.ws.send(Buffer.from("b"));
    assert.deepEqual(await got, ["r", [Buffer.from("b"), Buffer.from("a")]]);
    await plain.ask("leave", "r");
    await socket.emitWithAck("store", "r", "last");
    plain.ws.send("ping");
    await plain.next((it) => it === "pong");
    assert.ok(!plain.frames.some((it) => it.more?.[0] === "last"));
  });

  it("compresses large messages for who takes them, and reads what they compress", async () => {
    const [taker, sender] = [await dial(0), await dial(1)];
    const without = await dial(0, "/plain", { perMessageDeflate: false });
    assert.match(taker.ws.extensions, /^permessage-deflate/);
    assert.equal(without.ws.extensions, "");
    await Promise.all([taker, without].map((client) => client.ask("join", "big")));
    const socket = await stock(0);
    await socket.emitWithAck("join", "big");
    const text = "all work and no play ".repeat(4000);
    const [bytesBefore, plainBefore] = [taker.ws._socket.bytesRead, without.ws._socket.bytesRead];
    const got = heard(socket, "event");
    await sender.ask("store", "big", { more: [text, { small: 1 }] });
    for (const client of [taker, without]) {
      assert.deepEqual((await client.next((frame) => frame.event === "event")).more, [text, { small: 1 }]);
    }
    assert.deepEqual(await got, ["big", text, { small: 1 }]);
    assert.ok(taker.ws._socket.bytesRead - bytesBefore < text.length / 20);
    assert.ok(without.ws._socket.bytesRead - plainBefore > text.length);
    const noise = randomBytes(50_000).toString("base64");
    assert.deepEqual(await taker.ask("echo", noise), noise);
    // Small on the wire, large in memory.
    taker.ws.send(JSON.stringify({ event: "echo", data: "x".repeat(5_000_000) }));
    assert.equal(await taker.closed, 1009);
  });

  it("names what is wrong with a frame and listens on", async () => {
    const client = await dial();
    const wrong = ["", "{", "[]", "7", "{}", '{"event":7}', '{"event":"x","id":"a"}', '{"event":"x","id":-1}', '{"event":"x","binary":4}', "x".repeat(99_000)];
    for (const frame of wrong) {
      client.ws.send(frame);
      const error = await client.event("error");
      assert.equal(error.code, "bad_frame", frame);
      assert.equal(typeof error.message, "string");
    }
    client.ws.send(Buffer.from([1, 2, 3]));
    assert.equal((await client.event("error")).code, "bad_frame");
    // A header whose frames do not come.
    client.say("echo", { _placeholder: true, num: 0 }, { id: 5, binary: 1 });
    client.say("echo", "lost");
    assert.deepEqual((await client.next((frame) => frame.ack === 5)).data.code, "bad_frame");
    assert.deepEqual(await client.ask("echo", "still here"), "still here");
    // Nested beyond any sense.
    client.say("echo", JSON.parse("[".repeat(300) + "]".repeat(300)), { id: 6 });
    assert.equal((await client.next((frame) => frame.ack === 6)).data.code, "bad_frame");
  });

  it("pings, and closes who does not answer", async () => {
    const client = await dial(0, "/hasty");
    await new Promise((resolve) => client.ws.once("ping", resolve));
    await new Promise((resolve) => client.ws.once("ping", resolve));
    const mute = await dial(0, "/hasty", { autoPong: false });
    assert.equal(await mute.closed, 1001);
    assert.equal(client.ws.readyState, client.ws.OPEN);
  });

  it("closes for too large a message and for a slow reader", async () => {
    const large = await dial();
    large.ws.send("x".repeat(100_001));
    assert.equal(await large.closed, 1009);
    const [slow, sender] = [await dial(0), await dial(0)];
    await slow.ask("join", "flood");
    slow.ws.pause();
    const full = randomBytes(60_000).toString("base64"); // 80 kB that do not compress
    for (let n = 0; n < 300; n += 1) await sender.ask("store", "flood", { more: [full] });
    await until(async () => /slow_client/.test(cluster.log()), 20_000);
  });

  it("refuses what is no WebSocket", async () => {
    const response = await fetch(url(0));
    assert.equal(response.status, 426);
    assert.equal((await fetch(url(0, "/plain/"))).status, 426);
  });

  it("keeps RFC 6455: fragments, control frames, UTF-8, close codes", async () => {
    const talk = () => Raw.open(cluster.nodes[0].addr, "/echo");
    let raw = await talk();
    raw.frame(0x01, "fra");
    raw.frame(0x89, "between");
    assert.deepEqual(await raw.next(), { head: 0x8a, body: Buffer.from("between") });
    raw.frame(0x00, "gme");
    raw.frame(0x80, "nt");
    assert.deepEqual(await raw.next(), { head: 0x81, body: Buffer.from("fragment") });
    const bytes = randomBytes(70_000);
    raw.frame(0x82, bytes);
    assert.deepEqual(await raw.next(), { head: 0x82, body: bytes });
    raw.frame(0x88, Buffer.from([0x03, 0xe8]));
    assert.deepEqual(await raw.next(), { head: 0x88, body: Buffer.from([0x03, 0xe8]) });
    await raw.ended;

    const wrong = [
      ["a reserved bit", [[0xc1, "x"]], 1002],
      ["a reserved opcode", [[0x83, "x"]], 1002],
      ["a reserved control opcode", [[0x8b, "x"]], 1002],
      ["a fragmented ping", [[0x09, "x"]], 1002],
      ["a ping of 126 bytes", [[0x89, "x".repeat(126)]], 1002],
      ["a continuation of nothing", [[0x80, "x"]], 1002],
      ["a new message within another", [[0x01, "x"], [0x81, "y"]], 1002],
      ["bytes that are no UTF-8", [[0x81, Buffer.from([0xce, 0xba, 0xe1, 0xbd, 0xb9, 0xed, 0xa0, 0x80])]], 1007],
      ["a character cut short", [[0x81, Buffer.from([0xf0, 0x9f])]], 1007],
    ];
    for (const [what, frames, code] of wrong) {
      raw = await talk();
      for (const [head, body] of frames) raw.frame(head, body);
      const { head, body } = await raw.next();
      assert.deepEqual([head, body.readUInt16BE(0)], [0x88, code], what);
      await raw.ended;
    }
  });

  it("says goodbye with 1001 when its node leaves", async () => {
    const node = await cluster.add();
    const client = await Plain.open(`${node.url}/plain`);
    await client.ask("join", "r");
    node.process.child.kill("SIGTERM");
    assert.equal(await client.closed, 1001);
  });
});

/** A WebSocket by hand: frames as they stand on the wire. */
class Raw {
  #buffer = Buffer.alloc(0);
  #frames = [];
  #waiting = [];

  static open(addr, path) {
    const [host, port] = addr.split(":");
    return new Promise((resolve, reject) => {
      const raw = new Raw();
      raw.socket = net.connect(Number(port), host);
      raw.socket.on("error", reject);
      raw.ended = new Promise((done) => raw.socket.on("close", done));
      raw.socket.write(`GET ${path} HTTP/1.1\r\nHost: ${addr}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${randomBytes(16).toString("base64")}\r\n\r\n`);
      const head = (chunk) => {
        raw.#buffer = Buffer.concat([raw.#buffer, chunk]);
        const end = raw.#buffer.indexOf("\r\n\r\n");
        if (end < 0) return;
        assert.match(raw.#buffer.subarray(0, end).toString(), /^HTTP\/1.1 101 /);
        raw.#buffer = raw.#buffer.subarray(end + 4);
        raw.socket.off("data", head);
        raw.socket.on("data", (more) => raw.#read(more));
        raw.#read(Buffer.alloc(0));
        resolve(raw);
      };
      raw.socket.on("data", head);
    });
  }

  frame(head, body) {
    const payload = Buffer.from(body);
    const mask = randomBytes(4);
    const length = payload.length < 126 ? Buffer.from([0x80 | payload.length])
      : payload.length < 65_536 ? Buffer.from([0xfe, payload.length >> 8, payload.length & 255])
        : Buffer.concat([Buffer.from([0xff]), (() => { const it = Buffer.alloc(8); it.writeBigUInt64BE(BigInt(payload.length)); return it; })()]);
    this.socket.write(Buffer.concat([Buffer.from([head]), length, mask, payload.map((byte, i) => byte ^ mask[i % 4])]));
  }

  next() {
    return new Promise((resolve) => { this.#waiting.push(resolve); this.#serve(); });
  }

  #read(chunk) {
    this.#buffer = Buffer.concat([this.#buffer, chunk]);
    for (;;) {
      if (this.#buffer.length < 2) break;
      let [length, at] = [this.#buffer[1], 2];
      if (length === 126 && this.#buffer.length >= 4) [length, at] = [this.#buffer.readUInt16BE(2), 4];
      else if (length === 127 && this.#buffer.length >= 10) [length, at] = [Number(this.#buffer.readBigUInt64BE(2)), 10];
      else if (length > 125) break;
      if (this.#buffer.length < at + length) break;
      this.#frames.push({ head: this.#buffer[0], body: Buffer.from(this.#buffer.subarray(at, at + length)) });
      this.#buffer = this.#buffer.subarray(at + length);
    }
    this.#serve();
  }

  #serve() {
    while (this.#waiting.length && this.#frames.length) this.#waiting.shift()(this.#frames.shift());
  }
}
