// Tokens that are taken back: who is connected by them is cut off on every node at once, and not let in again.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join as path } from "node:path";
import { promisify } from "node:util";
import { after, afterEach, before, describe, it } from "node:test";
import { Bus } from "../lib/bus.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { Authority, configFor } from "../lib/tokens.mjs";
import { got, join, POLLING, SECRET, send, token, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const now = () => Math.floor(Date.now() / 1000);
const CUT = "io server disconnect";
const TRUNKLINE = process.env.TRUNKLINE_BIN ?? new URL("../../target/debug/trunkline", import.meta.url).pathname;

describe("revocation on three nodes", () => {
  const users = new Users();
  let [authority, cluster, bus] = [];
  let pause = () => undefined;
  before(async () => {
    authority = await Authority.start();
    cluster = await Cluster.start({ config: configFor(authority), nodes: 3, coordinators: 0 });
    bus = await Bus.connect(cluster.nats.servers[0]);
    bus.serve("talk.hook", async (question) => { await pause(question); return { allow: true }; });
  });
  after(async () => { bus?.close(); await cluster?.stop(); authority?.stop(); });
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const tell = async (verb, body, app = "visits") => {
    const answer = await bus.request(`tl.api.${app}.${verb}`, body);
    assert.ok(!answer.error && !answer.code, JSON.stringify(answer));
  };
  const revoke = (body, app) => tell("revoke", body, app);
  const restore = (body, app) => tell("restore", body, app);
  const enterTalk = async (node, claims) => {
    const socket = users.dial(node.url, { ...WEBSOCKET, path: "/talk/", auth: { token: sign(claims, SECRET) } });
    await heard(socket, "connect");
    return socket;
  };
  const refused = async (url, auth, path = "/socket.io/") =>
    (await heard(users.dial(url, { ...WEBSOCKET, path, auth: { token: auth } }), "connect_error"))[0];

  it("cuts a user off on every node and transport, and nobody else", async () => {
    const options = [WEBSOCKET, POLLING, UPGRADE];
    const devices = await Promise.all(cluster.nodes.map((node, i) => users.enter(node.url, "ann", options[i])));
    const bob = await users.enter(cluster.nodes[1].url, "bob", WEBSOCKET);
    await join(bob, "topic:hall");
    const ends = devices.map((device) => heard(device, "disconnect"));
    await revoke({ user: "ann" });
    assert.deepEqual((await Promise.all(ends)).map(([reason]) => reason), [CUT, CUT, CUT]);
    // A client that polls is told in order, too: its transport ends after that.
    for (const device of devices) {
      const [word] = got(device, "error");
      assert.deepEqual(word, { message: "Authentication error: Invalid token", code: "revoked_token", event: null });
      assert.ok(!device.active, "it does not come back by itself");
    }
    assert.ok(bob.connected);
    await send(bob, "still here", { roomId: "topic:hall" });
    for (const node of cluster.nodes) {
      const error = await refused(node.url, token("ann"));
      assert.deepEqual([error.message, error.data.code], ["Authentication error: Invalid token", "revoked_token"]);
    }
    await restore({ user: "ann" });
    for (const node of cluster.nodes) {
      await until(async () => {
        const socket = users.dial(node.url, { ...WEBSOCKET, auth: { token: token("ann") } });
        return Promise.race([heard(socket, "connected").then(() => true), heard(socket, "connect_error").then(() => false)]);
      });
    }
  });

  it("says so in the messenger's words, and belongs to one application", async () => {
    const [here, there] = await Promise.all([
      enterTalk(cluster.nodes[0], { userId: 7 }), users.enter(cluster.nodes[0].url, 7, WEBSOCKET),
    ]);
    const end = heard(here, "disconnect");
    await revoke({ user: 7 }, "talk");
    assert.equal((await end)[0], CUT);
    assert.equal(got(here, "error")[0].message, "User not found");
    const error = await refused(cluster.nodes[2].url, sign({ userId: "7" }, SECRET), "/talk/");
    assert.deepEqual([error.message, error.data.code], ["User not found", "revoked_token"]);
    assert.ok(there.connected);
    await users.enter(cluster.nodes[1].url, 7, WEBSOCKET);
  });

  it("spares tokens that were issued later", async () => {
    const old = { iat: now() - 100 };
    const [before, later] = await Promise.all([
      users.enter(cluster.nodes[0].url, "eve", { ...WEBSOCKET, claims: old }),
      users.enter(cluster.nodes[1].url, "eve", { ...WEBSOCKET, claims: { iat: now() } }),
    ]);
    const end = heard(before, "disconnect");
    await revoke({ user: "eve", issuedUntil: now() - 50 });
    assert.equal((await end)[0], CUT);
    assert.equal((await refused(cluster.nodes[1].url, token("eve", old))).data.code, "revoked_token");
    await users.enter(cluster.nodes[0].url, "eve", WEBSOCKET);
    assert.ok(later.connected);
  });

  it("takes back a single token, a further one too", async () => {
    const [one, other] = await Promise.all([
      enterTalk(cluster.nodes[0], { userId: "dan", jti: "t.1 *" }), enterTalk(cluster.nodes[2], { userId: "dan", jti: "t2" }),
    ]);
    const end = heard(one, "disconnect");
    await revoke({ tokenId: "t.1 *" }, "talk");
    assert.equal((await end)[0], CUT);
    assert.ok(other.connected);
    const again = { token: sign({ userId: "dan", jti: "t.1 *" }, SECRET) };
    // The list may reach this node a moment later.
    const ack = await until(async () => {
      const answer = await other.timeout(30_000).emitWithAck("user:authenticate", again);
      return answer.success ? undefined : answer;
    });
    assert.equal(ack.code, "revoked_token");
  });

  it("ends when it was to end", async () => {
    await revoke({ user: "fay", until: now() + 2 });
    assert.equal((await refused(cluster.nodes[0].url, token("fay"))).data.code, "revoked_token");
    await until(async () => {
      const socket = users.dial(cluster.nodes[0].url, { ...WEBSOCKET, auth: { token: token("fay") } });
      return Promise.race([heard(socket, "connected").then(() => true), heard(socket, "connect_error").then(() => false)]);
    }, 20_000);
  });

  it("lets nobody slip in while it happens", async () => {
    const sockets = [];
    const storm = async (node) => {
      for (let i = 0; i < 15; i += 1) {
        const socket = users.dial(node.url, { ...WEBSOCKET, reconnection: false, auth: { token: token("gus") } });
        sockets.push(socket);
        await Promise.race([heard(socket, "connected"), heard(socket, "connect_error")]);
      }
    };
    const storms = cluster.nodes.map(storm);
    await until(() => sockets.some((socket) => socket.connected));
    await revoke({ user: "gus" });
    await Promise.all(storms);
    await until(() => sockets.every((socket) => !socket.connected));
  });

  it("is an operator's command too, with the reason where it is refused", async () => {
    const file = path(cluster.dir, "operator.toml");
    writeFileSync(file, `[nats]\nservers = ["${cluster.nats.servers[0]}"]\n[[app]]\nname = "visits"\ntoken = { secret = "x" }\n`);
    const trunkline = (verb, ...args) => promisify(execFile)(TRUNKLINE, ["token", verb, "--config", file, ...args], { timeout: 60_000 });
    const [kay, lee] = await Promise.all([users.enter(cluster.nodes[0].url, "kay", WEBSOCKET), enterTalk(cluster.nodes[1], { userId: "lee", jti: "t.7" })]);
    const ends = [heard(kay, "disconnect"), heard(lee, "disconnect")];
    await trunkline("revoke", "--user", "kay", "--issued-until", "now", "--for", "1h");
    await trunkline("revoke", "--app", "talk", "--token-id", "t.7");
    assert.deepEqual((await Promise.all(ends)).map(([reason]) => reason), [CUT, CUT]);
    const { stdout } = await trunkline("restore", "--app", "visits", "--user", "kay");
    assert.deepEqual(JSON.parse(stdout), { ok: true });
    await until(async () => {
      const socket = users.dial(cluster.nodes[0].url, { ...WEBSOCKET, auth: { token: token("kay") } });
      return Promise.race([heard(socket, "connected").then(() => true), heard(socket, "connect_error").then(() => false)]);
    });
    for (const [why, ...args] of [["no gateway serves", "--app", "none", "--user", "kay"], ["tokenId", "--app", "visits", "--token-id", "x".repeat(600)], ["--for 1w", "--app", "visits", "--user", "kay", "--for", "1w"]]) {
      await assert.rejects(trunkline("revoke", ...args), ({ code, stderr }) => code === 1 && stderr.includes(why), why);
    }
  });

  it("counts for who is still waiting for the hook's word", async () => {
    const known = await enterTalk(cluster.nodes[0], { userId: "ivy" });
    let asked;
    let goOn;
    const waits = new Promise((resolve) => { goOn = resolve; });
    const isAsked = new Promise((resolve) => { asked = resolve; });
    pause = () => { asked(); return waits; };
    const late = refused(cluster.nodes[0].url, sign({ userId: "ivy" }, SECRET), "/talk/");
    await isAsked;
    const end = heard(known, "disconnect");
    await revoke({ user: "ivy" }, "talk");
    await end;
    goOn();
    assert.equal((await late).data.code, "revoked_token");
    pause = () => undefined;
  });

  it("is known to a node that starts", async () => {
    await revoke({ user: "hal" });
    const node = await cluster.add();
    assert.equal((await refused(node.url, token("hal"))).data.code, "revoked_token");
  });
});
