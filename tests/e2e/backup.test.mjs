// What docs/operations.md says of backups, done: a cold copy of JetStream's files brings everything back at another place.

import assert from "node:assert/strict";
import { afterEach, describe, it } from "node:test";
import { ask } from "../lib/calls.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { moveToACopy, whole } from "../lib/stores.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { CONFIG, join, send, Users, WEBSOCKET } from "../lib/visits.mjs";

const ROOM = "topic:kept";
const THREE = CONFIG.replace("replicas = 1", "replicas = 3");

describe("the files of JetStream, copied while it is stopped, hold everything that was acked", () => {
  const users = new Users();
  let cluster;
  afterEach(async (test) => {
    users.leave();
    dumpIfFailed(test, cluster);
    await cluster?.stop();
    cluster = undefined;
  });

  for (const [name, options] of Object.entries({ "a single server": { config: CONFIG }, "three servers": { config: THREE, nats: 3 } })) {
    it(`of ${name}`, async () => {
      cluster = await Cluster.start(options);
      const enter = async (node) => {
        const socket = await users.enter(node.url, "ann", WEBSOCKET);
        await join(socket, ROOM);
        return socket;
      };
      const history = async (socket) => (await ask(socket, "message:history", { roomId: ROOM })).messages.map(({ message }) => message);
      const before = await enter(cluster.nodes[0]);
      for (const text of ["one", "two"]) await send(before, text, { roomId: ROOM });
      await moveToACopy(cluster);
      // Elections take seconds; a gateway that starts before waits for them for a while only.
      if (options.nats) await whole(cluster.nats);
      const after = await enter(await cluster.add());
      assert.deepEqual(await history(after), ["one", "two"]);
      await send(after, "three", { roomId: ROOM });
      assert.deepEqual(await history(after), ["one", "two", "three"]);
    });
  }
});
