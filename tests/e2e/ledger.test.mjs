// The ledger over a cluster: messages flow while clients poll, upgrade, come late, while a node drains and while streams have their
// leader on a server without a gateway.

import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { haproxyInstalled } from "../lib/balancers.mjs";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { elapse } from "../lib/engine.mjs";
import { Ledger } from "../lib/ledger.mjs";
import { leadStreamsFrom } from "../lib/streams.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { chatter, CONFIG, join, member, POLLING, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const ROOM = "topic:ledger";
const SETTLE_MS = 15_000;

describe("the ledger balances", () => {
  const users = new Users();
  let cluster;
  afterEach(async (test) => {
    users.leave();
    dumpIfFailed(test, cluster);
    await cluster?.stop();
    cluster = undefined;
  });

  async function start(options) {
    cluster = await Cluster.start({ config: CONFIG, nodes: 3, balancer: "testkit", ...options });
    return cluster;
  }

  /** `count` members who send while they receive. */
  async function conversation(ledger, options, { count = 12, messages = 40, gapMs = 5 } = {}) {
    const names = Array.from({ length: count }, (_, i) => `user-${i}`);
    await Promise.all(names.map(async (name) => {
      const socket = await users.enter(cluster.url, name, options);
      await member(ledger, socket, name, ROOM);
      await chatter(ledger, socket, name, ROOM, messages, gapMs);
    }));
  }

  async function balance(ledger, expected) {
    await until(() => ledger.settled, SETTLE_MS).catch(() => {}); // the assertion below names what is missing
    ledger.assertRecoverable();
    assert.equal(ledger.counts.acked, expected);
  }

  const balancers = { "testkit, round robin": {}, "testkit, random": { seed: 7 }, ...(haproxyInstalled() && { haproxy: { balancer: "haproxy" } }) };
  for (const [name, options] of Object.entries(balancers)) {
    for (const [transport, clients] of Object.entries({ polling: POLLING, websocket: WEBSOCKET, upgrade: UPGRADE })) {
      it(`${transport} behind ${name}`, async () => {
        await start(options);
        const ledger = new Ledger();
        await conversation(ledger, clients);
        await balance(ledger, 12 * 40);
      });
    }
  }

  it("while waves of clients upgrade and messages flow both ways", async () => {
    await start({});
    const ledger = new Ledger();
    const steady = Promise.all(["s0", "s1", "s2"].map(async (name, i) => {
      const socket = await users.enter(cluster.nodes[i].url, name, WEBSOCKET);
      await member(ledger, socket, name, ROOM);
      await chatter(ledger, socket, name, ROOM, 300, 8);
    }));
    steady.catch(() => {}); // awaited below
    for (let wave = 0; wave < 6; wave += 1) {
      await Promise.all(Array.from({ length: 8 }, async (_, i) => {
        const name = `w${wave}-${i}`;
        const socket = await users.enter(cluster.url, name, UPGRADE);
        await member(ledger, socket, name, ROOM);
        await chatter(ledger, socket, name, ROOM, 15, 2);
        await until(() => socket.io.engine.transport.name === "websocket");
      }));
    }
    await steady;
    await balance(ledger, 3 * 300 + 6 * 8 * 15);
    assert.ok((await cluster.metric("trunkline_upgrades_total")) >= 48);
  });

  it("of ephemeral events: at most once, in each sender's order", async () => {
    await start({});
    const ledger = new Ledger();
    const sockets = await Promise.all([0, 1, 2, 3].map((i) => users.enter(cluster.url, `user-${i}`, i % 2 ? WEBSOCKET : UPGRADE)));
    // Typing carries no number of its own: the room is the number.
    const rooms = Array.from({ length: 25 }, (_, n) => `topic:typing-${n}`);
    for (const socket of sockets) for (const room of rooms) await join(socket, room);
    sockets.forEach((socket, i) => {
      socket.on("typing:start", ({ userId, roomId }) => ledger.delivered(`user-${i}`, `${userId} ${roomId}`));
      ledger.joined(`user-${i}`);
    });
    for (const [i, socket] of sockets.entries()) {
      for (const roomId of rooms) {
        ledger.sent(`user-${i} ${roomId}`, `user-${i}`);
        socket.emit("typing:start", { roomId });
      }
    }
    await until(() => ledger.counts.delivered === 4 * 3 * rooms.length);
    ledger.assertEphemeral();
  });

  it("with three nats-servers of which one leads the streams and has no gateway", async () => {
    await start({ config: CONFIG.replace("replicas = 1", "replicas = 3"), nats: 3, natsOf: [0, 1, 0] });
    const moved = await leadStreamsFrom(cluster.nats, "n2");
    assert.ok(moved.length > 0, "there are streams");
    const ledger = new Ledger();
    await conversation(ledger, UPGRADE);
    await balance(ledger, 12 * 40);
  });

  it("when a node drains: clients come back elsewhere on their own, the others notice nothing", async () => {
    await start({});
    const ledger = new Ledger();
    const [leaver, ...stayers] = cluster.nodes;
    const stay = await Promise.all(stayers.map(async (node, i) => {
      const socket = await users.enter(node.url, `stay-${i}`, WEBSOCKET);
      await member(ledger, socket, `stay-${i}`, ROOM);
      return socket;
    }));
    // Through the balancer: until two of them are on the node that goes.
    const moving = await Promise.all(Array.from({ length: 6 }, (_, i) => users.enter(cluster.url, `move-${i}`, WEBSOCKET)));
    const before = moving.map((socket) => socket.id);
    assert.ok((await cluster.metric("trunkline_sessions", [leaver])) > 0);
    const talk = Promise.all(stay.map((socket, i) => chatter(ledger, socket, `stay-${i}`, ROOM, 150, 10)));
    talk.catch(() => {}); // awaited below
    await elapse(200);
    assert.equal(await leaver.process.stop("SIGTERM", 15_000), 0, leaver.process.log());
    await until(() => moving.every((socket) => socket.connected));
    assert.ok(moving.some((socket, i) => socket.id !== before[i]), "somebody was moved");
    await Promise.all(moving.map((socket, i) => member(ledger, socket, `move-${i}`, ROOM)));
    await talk;
    await balance(ledger, 2 * 150);
  });

  it("when a forwarder or an owner is killed nobody hangs", async () => {
    await start({});
    const sockets = await Promise.all(Array.from({ length: 9 }, (_, i) => users.enter(cluster.url, `user-${i}`, POLLING)));
    await cluster.nodes[1].process.stop("SIGKILL");
    // Sessions of the dead node end, the others stay or come back; all are served again within the heartbeat of a poll.
    await Promise.all(sockets.map(async (socket) => {
      await until(async () => {
        if (!socket.connected) return false;
        const ack = await socket.timeout(1000).emitWithAck("room:join", { roomId: ROOM, roomType: "topic" }).catch(() => null);
        return ack?.success;
      }, 25_000);
    }));
  });
});

