// ICE servers as a call serves them: a real coturn takes the credentials, and no others.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, afterEach, before, describe, it } from "node:test";
import { ask, CONFIG, fresh, ring, told } from "../lib/calls.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Coturn, coturnInstalled } from "../lib/coturn.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { Users, WEBSOCKET } from "../lib/visits.mjs";

const SECRET = "the-shared-secret-of-the-turn-servers";
const TTL_S = 7200;
const missing = coturnInstalled() ? false : "coturn is not installed (turnserver, turnutils_uclient)";

describe("ICE servers", { skip: missing }, () => {
  const users = new Users();
  let cluster, coturn, caller, callee;
  before(async () => {
    coturn = await Coturn.start(SECRET);
    const ice = [
      "[app.ice]", 'stun = ["stun:stun.example:3478"]',
      "[[app.ice.turn]]", `urls = ["turn:127.0.0.1:${coturn.port}?transport=udp"]`, `secret = "${SECRET}"`, `ttl_s = ${TTL_S}`,
    ].join("\n");
    // The first application's alone.
    cluster = await Cluster.start({ config: CONFIG.replace("[app.presence]", `${ice}\n[app.presence]`) });
    const [ann, bob] = fresh("ann", "bob");
    [caller, callee] = [await users.enter(cluster.url, ann, WEBSOCKET), await users.enter(cluster.url, bob, WEBSOCKET)];
  });
  after(async () => { users.leave(); await cluster?.stop(); await coturn?.stop(); });
  afterEach((test) => { dumpIfFailed(test, cluster); dumpIfFailed(test, coturn); });

  const credential = (username, secret = SECRET) => createHmac("sha1", secret).update(username).digest("base64");
  const inSeconds = (s) => Math.floor(Date.now() / 1000) + s;

  it("come with the call, for each participant, and are let in", async () => {
    const { callId, iceServers } = await ring(caller, callee.welcome.userId, [callee]);
    const accepted = await ask(callee, "call:accept", { callId });
    const again = await told(caller, "call:accepted", { callId });
    const lists = [[caller, iceServers], [callee, accepted.iceServers], [caller, again.iceServers]];
    for (const [socket, [stun, turn, ...more]] of lists) {
      assert.deepEqual([stun, more], [{ urls: ["stun:stun.example:3478"] }, []]);
      assert.deepEqual(turn.urls, [`turn:127.0.0.1:${coturn.port}?transport=udp`]);
      const [, expiry, user] = /^(\d+):(.*)$/.exec(turn.username);
      assert.equal(user, socket.welcome.userId);
      assert.ok(Math.abs(Number(expiry) - inSeconds(TTL_S)) < 60, turn.username);
    }
    // At the same time: the client takes seconds for each.
    assert.deepEqual(await Promise.all(lists.map(([, [, turn]]) => coturn.accepts(turn))), [true, true, true]);
  });

  it("let nobody in who changes them, or comes too late", async () => {
    const { iceServers: [, turn] } = await ring(caller, callee.welcome.userId, [callee]);
    const [expiry] = turn.username.split(":");
    const expired = `${inSeconds(-10)}:${caller.welcome.userId}`;
    for (const wrong of [
      { ...turn, credential: turn.credential.replace(/^./, (first) => (first === "A" ? "B" : "A")) },
      { ...turn, username: `${Number(expiry) + 1}:${caller.welcome.userId}` },
      { ...turn, username: `${expiry}:somebody` },
      { username: turn.username, credential: credential(turn.username, "another secret") },
      { username: expired, credential: credential(expired) },
    ]) assert.equal(await coturn.accepts(wrong), false, JSON.stringify(wrong));
    // It was the time alone that made the last one wrong.
    const inTime = `${inSeconds(60)}:${caller.welcome.userId}`;
    assert.equal(await coturn.accepts({ username: inTime, credential: credential(inTime) }), true);
  });

  it("are not told of where there are none, and the secret stands in no log", async () => {
    const quick = { ...WEBSOCKET, path: "/quick/" };
    const [ann, bob] = fresh("ann", "bob");
    const [plain] = [await users.enter(cluster.url, ann, quick), await users.enter(cluster.url, bob, quick)];
    assert.deepEqual((await ask(plain, "call:initiate", { recipientId: bob, callType: "audio" })).iceServers, []);
    assert.ok(!cluster.log().includes(SECRET));
  });
});
