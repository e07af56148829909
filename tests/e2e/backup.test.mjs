// What docs/operations.md says of JetStream's files, done: a cold copy brings everything back at another place, and a server of three
// that has lost its disk is filled again by the other two.

import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join as joined } from "node:path";
import { afterEach, describe, it } from "node:test";
import { ask } from "../lib/calls.mjs";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { CONFIG, join, send, Users, WEBSOCKET } from "../lib/visits.mjs";

const ROOM = "topic:kept";
const texts = (messages) => messages.map(({ message }) => message);

describe("the files of JetStream", () => {
  const users = new Users();
  let cluster;
  let copy;
  afterEach(async (test) => {
    users.leave();
    dumpIfFailed(test, cluster);
    await cluster?.stop();
    cluster = undefined;
    if (copy) rmSync(copy, { recursive: true, force: true });
    copy = undefined;
  });

  async function enter(node) {
    const socket = await users.enter(node.url, "ann", WEBSOCKET);
    await join(socket, ROOM);
    return socket;
  }
  const history = async (socket) => texts((await ask(socket, "message:history", { roomId: ROOM })).messages);

  /** Everything stops; what was copied meanwhile is all that a new cluster has. */
  async function moveToTheCopy() {
    await Promise.all(cluster.nodes.map((node) => node.process.stop()));
    await Promise.all(cluster.coordinators.map((replica) => replica.process.stop()));
    await Promise.all(cluster.nats.members.map((member) => member.process.stop()));
    copy = mkdtempSync(joined(tmpdir(), "trunkline-copy-"));
    for (const { name } of cluster.nats.members) cpSync(joined(cluster.nats.dir, name), joined(copy, name), { recursive: true });
    rmSync(cluster.nats.dir, { recursive: true });
    cluster.nats.dir = copy;
    for (const member of cluster.nats.members) cluster.nats.launch(member);
    await Promise.all(cluster.nats.members.map((member) => cluster.nats.ready(member)));
  }

  it("copied while a single server is stopped, hold everything that was acked", async () => {
    cluster = await Cluster.start({ config: CONFIG });
    const before = await enter(cluster.nodes[0]);
    for (const text of ["one", "two", "three"]) await send(before, text, { roomId: ROOM });
    await moveToTheCopy();
    const after = await enter(await cluster.add());
    assert.deepEqual(await history(after), ["one", "two", "three"]);
    await send(after, "four", { roomId: ROOM });
    assert.deepEqual(await history(after), ["one", "two", "three", "four"]);
  });

  it("of one server of three may be lost: the others fill it, and go on meanwhile; of all three they can be moved", async () => {
    cluster = await Cluster.start({ config: CONFIG.replace("replicas = 1", "replicas = 3"), nodes: 2, nats: 3 });
    const ann = await enter(cluster.nodes[0]);
    await send(ann, "one", { roomId: ROOM });
    const lost = cluster.nats.members[2];
    await cluster.nats.restart(lost, async () => {
      rmSync(joined(cluster.nats.dir, lost.name), { recursive: true });
      await send(ann, "while it is gone", { roomId: ROOM });
    });
    // It is whole again when it could be the only one that is copied: it has every stream with as many messages as the leaders.
    await until(async () => (await behind(cluster.nats)).length === 0, 30_000);
    await send(ann, "afterwards", { roomId: ROOM });
    const before = ["one", "while it is gone", "afterwards"];
    assert.deepEqual(await history(ann), before);
    await moveToTheCopy();
    // A gateway that starts before every stream has a leader again exits with a sentence, and is started again by what supervises it.
    await until(async () => (await behind(cluster.nats)).length === 0, 30_000);
    const after = await enter(await cluster.add());
    assert.deepEqual(await history(after), before);
  });
});

/** Streams with a replica that is not current, or that fewer than three servers have, by the monitoring of their leaders. */
async function behind(nats) {
  const known = new Map();
  for (const member of nats.members) {
    const jsz = await fetch(`http://127.0.0.1:${member.monitor}/jsz?accounts=true&streams=true`).then((response) => response.json());
    for (const { name, cluster } of jsz.account_details?.flatMap((account) => account.stream_detail ?? []) ?? []) {
      if (cluster?.leader === member.name) known.set(name, cluster.replicas ?? []);
      else if (!known.has(name)) known.set(name, []);
    }
  }
  return [...known].filter(([, replicas]) => replicas.length < 2 || replicas.some((replica) => !replica.current || replica.lag)).map(([name]) => name);
}
