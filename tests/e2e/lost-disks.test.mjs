// What docs/operations.md says of lost disks, done: a server of three is filled again by the other two, and a single one that is left is
// copied to their places. Gateways and their clients stay all the time.

import assert from "node:assert/strict";
import { cpSync, rmSync } from "node:fs";
import { afterEach, beforeEach, describe, it } from "node:test";
import { ask } from "../lib/calls.mjs";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { launchAll, storeOf, whole } from "../lib/stores.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { CONFIG, join, send, Users, WEBSOCKET } from "../lib/visits.mjs";

const ROOM = "topic:kept";

describe("of three nats-servers", () => {
  const users = new Users();
  let cluster;
  let ann;
  beforeEach(async () => {
    cluster = await Cluster.start({ config: CONFIG.replace("replicas = 1", "replicas = 3"), nodes: 2, nats: 3 });
    ann = await users.enter(cluster.url, "ann", WEBSOCKET);
    await join(ann, ROOM);
    await send(ann, "one", { roomId: ROOM });
  });
  afterEach(async (test) => {
    users.leave();
    dumpIfFailed(test, cluster);
    await cluster?.stop();
    cluster = undefined;
  });
  /** Says it until it is stored. A try that was not answered in time may have been: the client's own id makes them one message. */
  function insist(message) {
    const said = { message, roomId: ROOM, clientId: message };
    return until(async () => (await ann.timeout(30_000).emitWithAck("message:send", said)).success, 60_000);
  }
  const history = async () => (await ask(ann, "message:history", { roomId: ROOM })).messages.map(({ message }) => message);

  it("one loses its disk: the others go on, and fill it when it is back", async () => {
    const { nats } = cluster;
    const lost = nats.members[2];
    await nats.restart(lost, async () => {
      rmSync(storeOf(nats, lost), { recursive: true });
      await insist("while it is gone");
    });
    await whole(nats);
    await insist("afterwards");
    assert.deepEqual(await history(), ["one", "while it is gone", "afterwards"]);
  });

  it("two lose their disks: the files of the third, copied to their places, bring everything back", async () => {
    const { nats } = cluster;
    await whole(nats);
    await Promise.all(nats.members.map((member) => member.process.stop("SIGKILL")));
    const [left, ...lost] = nats.members.map((member) => storeOf(nats, member));
    for (const store of lost) {
      rmSync(store, { recursive: true });
      cpSync(left, store, { recursive: true });
    }
    await launchAll(nats);
    await whole(nats);
    await insist("two");
    assert.deepEqual(await history(), ["one", "two"]);
  });
});
