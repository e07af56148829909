// Tokens with stock clients over a cluster: keys that rotate, where a token may stand, what its end does, further tokens.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { Authority, configFor, keyPair, signBy } from "../lib/tokens.mjs";
import { join, POLLING, SECRET, token, Users, WEBSOCKET } from "../lib/visits.mjs";

const INVALID = "Authentication error: Invalid token";

describe("tokens on three nodes", () => {
  const users = new Users();
  const [first, second] = [keyPair("first"), keyPair("second")];
  let authority;
  let cluster;
  before(async () => {
    authority = await Authority.start();
    authority.keys = [first];
    cluster = await Cluster.start({ config: configFor(authority), nodes: 3, coordinators: 0 });
  });
  after(async () => { await cluster?.stop(); authority?.stop(); });
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  /** Resolves with `"in"`, or with the refusal. */
  const fate = (socket) => Promise.race([heard(socket, "connect").then(() => "in"), heard(socket, "connect_error")]);

  describe("keys that rotate", () => {
    const dial = (node, key, claims = { userId: "ann" }) =>
      users.dial(node.url, { ...WEBSOCKET, auth: { token: signBy(key, claims) } });
    const everywhere = (key) => Promise.all(cluster.nodes.map((node) => fate(dial(node, key))));

    it("are those of the set, on every node", async () => {
      assert.deepEqual(await everywhere(first), ["in", "in", "in"]);
      for (const [refused] of await everywhere(second)) {
        assert.deepEqual([refused.message, refused.data.code], [INVALID, "invalid_token"]);
      }
      const impostor = { ...second, kid: "first" };
      for (const [refused] of await everywhere(impostor)) assert.equal(refused.data.code, "invalid_token");
    });

    it("are believed as soon as they are in the set, and no longer than that", async () => {
      authority.keys = [first, second];
      for (const node of cluster.nodes) await until(async () => (await fate(dial(node, second))) === "in");
      assert.deepEqual(await everywhere(first), ["in", "in", "in"]);
      authority.keys = [second];
      // An unknown key makes a node look again.
      for (const node of cluster.nodes) {
        await until(async () => { await fate(dial(node, keyPair("third"))); return (await fate(dial(node, first))) !== "in"; });
      }
      assert.deepEqual(await everywhere(second), ["in", "in", "in"]);
    });

    it("stay when their source fails; a token that cannot be checked is not refused for good", async () => {
      authority.keysStatus = 500;
      const [node] = cluster.nodes;
      const third = keyPair("third");
      // Until the node has seen the failure it may say that there is no such key.
      const left = async () => {
        const socket = dial(node, third);
        const end = await Promise.race([heard(socket, "connect_error").then(() => "refused"), heard(socket.io, "close").then(() => "closed")]);
        socket.disconnect();
        return end === "closed";
      };
      await until(left);
      assert.equal(await fate(dial(node, second)), "in");
      const patient = dial(node, third);
      await heard(patient.io, "close");
      authority.keys = [second, third];
      authority.keysStatus = 200;
      await heard(patient, "connected");
    });

    it("never make a public key an HMAC secret", async () => {
      const pem = JSON.stringify(second.jwk);
      const socket = users.dial(cluster.url, { ...WEBSOCKET, auth: { token: sign({ userId: "ann" }, pem) } });
      assert.equal((await fate(socket))[0].data.code, "invalid_token");
    });
  });

  describe("where a token may stand", () => {
    for (const [name, headers] of Object.entries({
      "a header": { authorization: `Bearer ${token("ann")}` },
      "a cookie": { cookie: `other=1; visit_token=${token("ann")}` },
      "a quoted cookie": { cookie: `visit_token="${token("ann")}"` },
    })) {
      for (const [transport, options] of Object.entries({ polling: POLLING, websocket: WEBSOCKET })) {
        it(`${name} (${transport})`, async () => {
          const socket = users.dial(cluster.url, { ...options, extraHeaders: headers });
          assert.equal((await heard(socket, "connected"))[0].userId, "ann");
        });
      }
    }

    it("a cookie opens no WebSocket for a stranger's page", async () => {
      const from = (origin) => users.dial(cluster.url, {
        ...WEBSOCKET, reconnection: false, extraHeaders: { cookie: `visit_token=${token("ann")}`, origin },
      });
      const [error] = await heard(from("https://evil.example").io, "error");
      assert.match(String(error.description?.message ?? error.message), /403|websocket error/);
      await heard(from("https://clinic.example"), "connected");
    });

    it("credentials cross sites for named origins only", async () => {
      const open = (origin) => fetch(`${cluster.url}/socket.io/?EIO=4&transport=polling`, { headers: { origin } });
      const named = await open("https://clinic.example");
      assert.equal(named.headers.get("access-control-allow-origin"), "https://clinic.example");
      assert.equal(named.headers.get("access-control-allow-credentials"), "true");
      assert.match(named.headers.get("vary") ?? "", /origin/i);
      const stranger = await open("https://evil.example");
      assert.equal(stranger.headers.get("access-control-allow-origin"), null);
      assert.equal(stranger.headers.get("access-control-allow-credentials"), null);
    });
  });

  it("logs who a client is behind a trusted proxy", async () => {
    const socket = users.dial(cluster.url, {
      ...WEBSOCKET, auth: { token: "garbage" }, extraHeaders: { "x-forwarded-for": "203.0.113.9, 198.51.100.7" },
    });
    await heard(socket, "connect_error");
    await until(() => /token refused.*198\.51\.100\.7|198\.51\.100\.7.*token refused/.test(cluster.nodes[0].process.log()));
    assert.ok(!cluster.nodes[0].process.log().includes("203.0.113.9"));
  });

  describe("the end of a live connection's token", () => {
    /** A client of an application of messengers, by a token that ends soon. */
    const enter = async (app, claims) => {
      const socket = users.dial(cluster.url, { ...WEBSOCKET, path: `/${app}/`, auth: { token: sign(claims, SECRET) } });
      await heard(socket, "connect");
      return socket;
    };
    const soon = () => ({ userId: "ann", exp: Math.floor(Date.now() / 1000) + 2 });
    const later = () => sign({ userId: "ann" }, SECRET);
    const refresh = (socket, further) => socket.timeout(30_000).emitWithAck("user:authenticate", { token: further });

    it("closes the transport, unless a further token came in time", async () => {
      const claims = soon();
      const [refreshed, left] = await Promise.all([enter("closed", claims), enter("closed", claims)]);
      assert.deepEqual(await refresh(refreshed, later()), { success: true, userId: "ann" });
      assert.equal((await heard(left, "disconnect"))[0], "transport close");
      const [refused] = await heard(left, "connect_error");
      assert.deepEqual([refused.message, refused.data.code], ["Authentication failed", "expired_token"]);
      assert.ok(refreshed.connected);
      assert.equal((await refresh(refreshed, later())).success, true);
    });

    it("is told to operators only, or to nobody", async () => {
      const claims = soon();
      const [loud, quiet] = await Promise.all([enter("warned", claims), enter("lasting", claims)]);
      await until(() => /a live connection's token has expired/.test(cluster.nodes[0].process.log()));
      for (const socket of [loud, quiet]) {
        assert.ok(socket.connected);
        assert.equal((await refresh(socket, later())).success, true);
      }
      assert.equal(cluster.nodes[0].process.log().match(/a live connection's token has expired/g).length, 1);
    });

    it("comes as early as the further token says", async () => {
      const socket = await enter("closed", { userId: "ann" });
      const ended = heard(socket, "disconnect");
      assert.equal((await refresh(socket, sign(soon(), SECRET))).success, true);
      assert.equal((await ended)[0], "transport close");
    });

    it("takes no further token that proves nothing, or somebody else", async () => {
      const socket = await enter("closed", { userId: "ann" });
      for (const [further, code] of [
        ["garbage", "invalid_token"],
        ["", "invalid_token"],
        [sign({ userId: "bob" }, SECRET), "invalid_token"],
        [sign({ userId: "ann" }, "another key"), "invalid_token"],
        [sign({ userId: "ann" }, SECRET, { ttl_s: -10 }), "expired_token"],
      ]) {
        const ack = await refresh(socket, further);
        assert.deepEqual([ack.success, ack.code], [false, code]);
        assert.ok(ack.error);
      }
      assert.ok(socket.connected);
    });
  });

  it("a room still needs a right", async () => {
    const socket = await users.enter(cluster.url, "ann", { ...WEBSOCKET, claims: { visits: [1] } });
    await join(socket, "visit:1");
  });
});
