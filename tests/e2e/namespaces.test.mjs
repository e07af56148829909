// Applications with the same listener, host and path, told apart by namespace alone: one session of a stock client holds sockets of
// several of them, each with its own tokens, rooms and limits, and moves between nodes with all.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { Manager } from "socket.io-client";
import { Bus } from "../lib/bus.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Frames, Polling } from "../lib/engine.mjs";
import { Ledger } from "../lib/ledger.mjs";
import { Plain } from "../lib/plain.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { chatter, got, join, member, POLLING, send, UPGRADE, WEBSOCKET } from "../lib/visits.mjs";

const secretOf = (app) => `test-key-of-${app}-0123456789-0123456789`;
const app = (name, dialect, namespace, more = "") => `
[[app]]
name = "${name}"
dialect = "${dialect}"
namespace = "${namespace}"
token = { secret = "${secretOf(name)}" }
${more}
`;
const CONFIG = `
[nats]
servers = ["nats://127.0.0.1:4222"]
replicas = 1
[http]
listen = ["127.0.0.1:8080"]
admin = "127.0.0.1:9090"
${app("red", "telehealth", "/red")}
${app("blue", "telehealth", "/blue", 'plain_path = "/plain"\nlimits = { message_chars = 50 }')}
${app("talk", "messenger", "/")}
`;
const ROOM = "topic:same";

describe("applications told apart by namespace", () => {
  const open = [];
  let [cluster, bus] = [];
  before(async () => {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit" });
    bus = await Bus.connect(cluster.nats.servers[0]);
  });
  after(async () => { bus?.close(); await cluster?.stop(); });
  afterEach((test) => { for (const it of open.splice(0)) it.close(); dumpIfFailed(test, cluster); });

  const tokenOf = (name, user) => sign({ userId: user, role: "patient" }, secretOf(name));
  const manager = (options = UPGRADE, url = cluster.url) => {
    const made = new Manager(url, { reconnectionDelay: 20, reconnectionDelayMax: 200, autoConnect: false, ...options });
    open.push({ close: () => made._close() });
    return made;
  };
  /** A socket of the session, by the token of an application. */
  const dial = (session, namespace, name, user) => {
    const socket = session.socket(namespace, { auth: { token: tokenOf(name, user) } });
    socket.log = [];
    socket.onAny((event, ...args) => socket.log.push([event, ...args]));
    socket.connect();
    return socket;
  };
  async function enter(session, name, user) {
    const socket = dial(session, `/${name}`, name, user);
    await heard(socket, "connected");
    return socket;
  }
  const refused = async (socket) => (await heard(socket, "connect_error"))[0];

  it("lets sockets of one session in by the tokens of their own application", async () => {
    const session = manager();
    const red = await enter(session, "red", "ann");
    const wrong = await refused(dial(session, "/blue", "red", "ann"));
    assert.equal(wrong.message, "Authentication error: Invalid token");
    assert.equal((await refused(dial(session, "/", "red", "ann"))).data.code, "invalid_token");
    assert.equal((await refused(dial(session, "/green", "red", "ann"))).message, "Invalid namespace");
    const blue = session.socket("/blue");
    blue.auth = { token: tokenOf("blue", "bob") };
    blue.connect();
    const [welcome] = await heard(blue, "connected");
    assert.equal(welcome.userId, "bob");
    assert.ok(red.connected);
    await join(red, ROOM);
    await join(blue, ROOM);
    assert.equal(red.io, blue.io, "one session");
  });

  it("keeps rooms of the same name apart, on every node and transport", async () => {
    const sessions = [manager(POLLING), manager(WEBSOCKET), manager(UPGRADE)];
    const sockets = { red: [], blue: [] };
    for (const session of sessions) {
      for (const name of ["red", "blue"]) {
        const socket = await enter(session, name, `u${sockets[name].length}`);
        await join(socket, ROOM);
        sockets[name].push(socket);
      }
    }
    await send(sockets.red[0], "for red", { roomId: ROOM });
    await send(sockets.blue[1], "for blue", { roomId: ROOM });
    const texts = (socket) => got(socket, "message:new").map(({ message }) => message);
    const others = [...sockets.red.slice(1), sockets.blue[0], sockets.blue[2]];
    await until(() => others.every((socket) => texts(socket).length > 0));
    // A later message of the other application has come too: what was to come before it has.
    await send(sockets.red[1], "end", { roomId: ROOM });
    await send(sockets.blue[0], "end", { roomId: ROOM });
    await until(() => texts(sockets.red[2]).includes("end") && texts(sockets.blue[2]).includes("end"));
    assert.deepEqual(texts(sockets.red[2]), ["for red", "end"]);
    assert.deepEqual(texts(sockets.blue[2]), ["for blue", "end"]);
    const connections = async (name) => (await bus.request(`tl.api.${name}.stats`, {})).totalConnections;
    await until(async () => await connections("red") === 3 && await connections("blue") === 3);
    assert.equal(await connections("talk"), 0);
  });

  it("ends one socket of a session when its token is revoked, and not the other", async () => {
    const session = manager(WEBSOCKET);
    const [red, blue] = [await enter(session, "red", "eve"), await enter(session, "blue", "eve")];
    const end = heard(blue, "disconnect");
    await bus.request("tl.api.blue.revoke", { user: "eve" });
    assert.equal((await end)[0], "io server disconnect");
    await join(red, ROOM);
    assert.equal((await refused(dial(manager(WEBSOCKET), "/blue", "blue", "eve"))).data.code, "revoked_token");
  });

  it("counts limits for each application", async () => {
    const session = manager(WEBSOCKET);
    const [red, blue] = [await enter(session, "red", "kim"), await enter(session, "blue", "kim")];
    const ask = (socket) => socket.timeout(30_000).emitWithAck("message:send", { roomId: ROOM, message: "x".repeat(51) });
    await Promise.all([join(red, ROOM), join(blue, ROOM)]);
    assert.equal((await ask(blue)).code, "over_limit");
    assert.equal((await ask(red)).success, true);
  });

  it("finds the plain WebSocket of one of them", async () => {
    const client = await Plain.open(`${cluster.nodes[0].url}/plain`, { headers: { authorization: `Bearer ${tokenOf("blue", "pat")}` } });
    open.push(client);
    assert.equal((await client.event("connected")).userId, "pat");
    const other = await Plain.open(`${cluster.nodes[0].url}/plain`, { headers: { authorization: `Bearer ${tokenOf("red", "pat")}` } });
    assert.equal(await other.closed, 4401);
  });

  it("moves a session with all its sockets while messages flow in both", async () => {
    const ledgers = { red: new Ledger(), blue: new Ledger() };
    const expected = { red: 0, blue: 0 };
    const rooms = { red: "topic:moving", blue: "topic:moving" };
    const speak = async (socket, name, user, count, gapMs) => {
      expected[name] += count;
      await member(ledgers[name], socket, user, rooms[name]);
      await chatter(ledgers[name], socket, user, rooms[name], count, gapMs);
    };
    const before = await cluster.metric("trunkline_upgrades_total");
    const steady = Promise.all(cluster.nodes.flatMap((node, i) => ["red", "blue"].map(async (name) => {
      const session = manager(WEBSOCKET, node.url);
      await speak(await enter(session, name, `steady-${i}`), name, `steady-${i}`, 80, 8);
    })));
    steady.catch(() => {}); // awaited below
    for (let wave = 0; wave < 2; wave += 1) {
      await Promise.all(Array.from({ length: 5 }, async (_, i) => {
        const session = manager(UPGRADE);
        await Promise.all(["red", "blue"].map(async (name) => {
          const user = `w${wave}-${i}`;
          await speak(await enter(session, name, user), name, user, 12, 2);
        }));
        await until(() => session.engine.transport.name === "websocket");
      }));
    }
    await steady;
    for (const [name, ledger] of Object.entries(ledgers)) {
      await until(() => ledger.settled, 30_000).catch(() => {}); // the assertion below names what is missing
      ledger.assertRecoverable();
      assert.equal(ledger.counts.acked, expected[name]);
    }
    assert.ok((await cluster.metric("trunkline_upgrades_total")) >= before + 10);
    const moved = await Promise.all(cluster.nodes.map((node) => fetch(`http://${node.admin}/metrics`).then((r) => r.text())));
    assert.match(moved.join("\n"), /^trunkline_upgrades_total\{[^}]*moved_in[^}]*\} [1-9]/m);
  });

  it("takes what both applications told meanwhile along to another node, once and in order", async () => {
    const talkers = await Promise.all(["red", "blue"].map((name) => enter(manager(WEBSOCKET, cluster.nodes[2].url), name, "talker")));
    await Promise.all(talkers.map((socket) => join(socket, "topic:wire")));
    const movers = await Promise.all([0, 1, 0, 1].map((node, i) => Mover.enter(cluster.nodes[node].url, cluster.nodes[1 - node].url, `mover-${i}`, tokenOf)));
    const talk = Promise.all(talkers.map(async (socket) => {
      for (let n = 0; n < COUNT; n += 1) {
        await send(socket, String(n), { roomId: "topic:wire" });
        if (n === COUNT / 4) movers.forEach((mover) => mover.move());
      }
    }));
    talk.catch(() => {}); // awaited below
    const expected = Array.from({ length: COUNT }, (_, n) => String(n));
    await Promise.all(movers.map(async (mover) => {
      const heardThere = await mover.hearAll();
      for (const name of ["red", "blue"]) assert.deepEqual(heardThere[name], expected, name);
    }));
    await talk;
    movers.forEach((mover) => mover.close());
  });
});

/** Messages of each application. */
const COUNT = 60;

/** A session on the wire with a socket in each of two namespaces, which goes on by WebSocket at another node in the midst of it. */
class Mover {
  static async enter(here, there, user, tokenOf) {
    const mover = new Mover();
    mover.there = there;
    mover.polling = await Polling.open(here, "/socket.io/");
    const names = ["red", "blue"];
    await mover.polling.post(names.map((name) => `40/${name},${JSON.stringify({ token: tokenOf(name, user) })}`).join("\x1e"));
    await mover.polling.packets(4); // two CONNECTs, two events `connected`
    const word = JSON.stringify(["room:join", { roomId: "topic:wire", roomType: "topic" }]);
    await mover.polling.post(names.map((name) => `42/${name},1${word}`).join("\x1e"));
    mover.heard = { red: [], blue: [] };
    let joined = 0;
    while (joined < 2) joined += (await mover.polling.packets(1)).filter((packet) => mover.#take(packet).startsWith("43")).length;
    return mover;
  }

  /** From the next answer to a poll on, the session is on its way. */
  move() {
    this.isMoving = true;
  }

  /** Hears until the last message of both has come; resolves with what came. */
  async hearAll() {
    while (!this.isMoving) (await this.#poll()).forEach((packet) => this.#take(packet));
    this.frames = new Frames(this.there, "/socket.io/", `&sid=${this.polling.sid}`);
    await this.frames.opened;
    this.frames.send("2probe");
    const probed = this.frames.next(30_000);
    let answered = false;
    probed.then(() => { answered = true; }, () => {});
    while (!answered) (await this.#poll()).forEach((packet) => this.#take(packet));
    assert.equal(await probed, "3probe");
    this.frames.send("5");
    while (!this.#isDone()) this.#take(await this.frames.nextPacket(30_000));
    return this.heard;
  }

  async #poll() {
    const { status, text } = await this.polling.poll();
    assert.equal(status, 200, text);
    return text.split("\x1e");
  }

  #take(packet) {
    const [, name, args] = /^42\/(red|blue),(\[.*\])$/.exec(packet) ?? [];
    const [event, data] = args ? JSON.parse(args) : [];
    if (event === "message:new") this.heard[name].push(data.message);
    return packet;
  }

  #isDone() {
    return Object.values(this.heard).every((texts) => texts.at(-1) === String(COUNT - 1));
  }

  close() {
    this.frames?.close();
  }
}
