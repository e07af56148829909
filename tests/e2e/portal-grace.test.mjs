// The portal's connections without a good token, tokens that expire on live connections, and the issue of socket tokens.

import assert from "node:assert/strict";
import { after, afterEach, before, describe, it } from "node:test";
import { call } from "../lib/backend.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { elapse } from "../lib/engine.mjs";
import { ask, CONFIG, first, join, Portal, QUICK, session, STRICT, token } from "../lib/portal.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { sign } from "../lib/token.mjs";
import { got, POLLING, UPGRADE, WEBSOCKET } from "../lib/visits.mjs";

const ISSUE = "/api/rt/issue-socket-token";
const ONCE = { reconnection: false };

describe("portal's tokens on three nodes", () => {
  const users = new Portal();
  let cluster;
  let made = 0;
  /** An id that no other test has. */
  const fresh = () => { made += 1; return `g${made}`; };
  before(async () => { cluster = await Cluster.start({ config: CONFIG, nodes: 3, coordinators: 0, balancer: "testkit" }); });
  after(() => cluster?.stop());
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const errors = (socket) => got(socket, "core:auth:error").map(({ code }) => code);
  const tell = (app, room, event, ...args) => call(cluster.nodes[made % 3], app, "emit", { to: { room }, event, args });

  it("says what is wrong with a token, and closes the transport after the grace", async () => {
    const cases = {
      missing_token: {},
      invalid_token: { auth: { socket_token: "nonsense" } },
      expired_token: { auth: { socket_token: token("1", {}, { ttl_s: -10 }) } },
    };
    const forged = { auth: { socket_token: sign({ userId: "1" }, "another key of the same length 0123456789") } };
    for (const [code, options] of [...Object.entries(cases), ["invalid_token", forged], ["invalid_token", { auth: { socket_token: token("1") + "x" } }]]) {
      const socket = users.dial(cluster.url, { ...QUICK, ...ONCE, ...options });
      const closed = heard(socket, "disconnect");
      const { message, ...rest } = await first(socket, "core:auth:error");
      assert.deepEqual([rest, typeof message], [{ code }, "string"]);
      assert.ok(socket.connected, "it is let in for its grace");
      const [why] = await closed;
      assert.ok(why === "transport close" || why === "transport error", `the client would not come back after ${why}`);
      assert.deepEqual(errors(socket), [code]);
    }
  });

  it("is come back to by a stock client, with a new token by then", async () => {
    const id = fresh();
    let shown = "nonsense";
    const socket = users.dial(cluster.url, { ...QUICK, auth: (say) => say({ socket_token: shown }) });
    await first(socket, "core:auth:error");
    shown = token(id);
    assert.equal((await first(socket, "core:auth:success")).userId, id);
  });

  for (const [name, options] of Object.entries({ websocket: WEBSOCKET, polling: POLLING, upgrade: UPGRADE })) {
    it(`holds joins until an authorization succeeds (${name})`, async () => {
      const id = fresh();
      const socket = users.dial(cluster.url, options);
      await first(socket, "core:auth:error");
      if (options === UPGRADE) await until(() => socket.io.engine.transport.name === "websocket");
      const acks = Promise.all([
        ask(socket, "join", `patient:${id}`), ask(socket, "join", ["patient:other"]), ask(socket, "leave", `patient:${id}`), ask(socket, "join", { room: `patient:${id}` }),
      ]);
      assert.deepEqual(await ask(socket, "message:send", { text: "x" }), { ok: false, error: "Not authenticated", code: "unauthenticated" });
      socket.emit("authorization", { socket_token: "nonsense" });
      await until(() => errors(socket).includes("invalid_token"));
      const ack = await ask(socket, "authorization", { token: token(id) });
      assert.deepEqual(ack, { ok: true, rooms: [`u:${id}`] });
      assert.deepEqual(await acks, [
        { ok: true, joined: [`patient:${id}`], denied: [] }, { ok: false, joined: [], denied: ["patient:other"] },
        { ok: true, left: [`patient:${id}`] }, { ok: true, joined: [`patient:${id}`], denied: [] },
      ]);
      const { expiresAt, ...welcome } = await first(socket, "core:auth:success");
      assert.deepEqual(welcome, { userId: id, role: "patient", rooms: [`u:${id}`] });
      await tell("portal", `patient:${id}`, "hello", 1);
      assert.equal(await first(socket, "hello"), 1);
      assert.equal((await ask(socket, "message:send", { text: "x" })).ok, true);
    });
  }

  it("keeps held joins over an upgrade to another node", async () => {
    const id = fresh();
    for (let i = 0; i < 6; i += 1) {
      const socket = users.dial(cluster.url, { ...UPGRADE, ...ONCE });
      const ack = new Promise((resolve) => socket.once("connect", () => resolve(ask(socket, "join", `patient:${id}`))));
      await until(() => socket.io.engine.transport.name === "websocket" && !socket.io.engine.upgrading);
      await first(socket, "core:auth:error");
      socket.emit("authorization", token(id));
      assert.deepEqual(await ack, { ok: true, joined: [`patient:${id}`], denied: [] });
      assert.deepEqual(errors(socket), ["missing_token"]);
    }
  });

  it("bounds what it holds", async () => {
    const id = fresh();
    const socket = users.dial(cluster.url, QUICK);
    await first(socket, "core:auth:error");
    const held = Array.from({ length: 8 }, (_, i) => ask(socket, "join", `patient:${id}${i || ""}`));
    const refused = await ask(socket, "join", "patient:9");
    assert.deepEqual([refused.ok, refused.code], [false, "over_limit"]);
    assert.match(refused.error, /limits\.pending_commands/);
    assert.equal((await ask(socket, "authorization", token(id))).ok, true);
    const acks = await Promise.all(held);
    assert.deepEqual(acks.map(({ ok }) => ok), [true, ...Array(7).fill(false)]);
  });

  it("hears nothing before it is authenticated", async () => {
    const id = fresh();
    const socket = users.dial(cluster.url, {});
    await first(socket, "core:auth:error");
    await call(cluster.nodes[0], "portal", "emit", { to: { user: id }, event: "hello", args: [0] });
    await call(cluster.nodes[0], "portal", "emit", { to: { everyone: true }, event: "hello", args: [1] });
    await ask(socket, "authorization", { socketToken: token(id) });
    await call(cluster.nodes[0], "portal", "emit", { to: { user: id }, event: "hello", args: [2] });
    await first(socket, "hello", (n) => n === 2);
    assert.deepEqual(got(socket, "hello"), [2]);
  });

  it("refuses at once where the setting says so", async () => {
    for (const [code, options] of [["missing_token", {}], ["expired_token", { auth: { socket_token: token("1", {}, { ttl_s: -1 }) } }]]) {
      const socket = users.dial(cluster.url, { ...STRICT, ...options });
      const [error] = await heard(socket, "connect_error");
      assert.deepEqual([error.data, typeof error.message], [{ code }, "string"]);
    }
  });

  it("mutes a live connection whose token expires, and restores it without loss", async () => {
    const id = fresh();
    const [socket, witness] = [await users.enter(cluster.url, id, { ttl_s: 2 }), await users.enter(cluster.url, id)];
    await join(socket, `patient:${id}`);
    await join(witness, `patient:${id}`);
    await tell("portal", `patient:${id}`, "n", 0);
    await until(() => errors(socket).includes("expired_token"));
    for (let n = 1; n <= 20; n += 1) await tell("portal", n % 2 ? `patient:${id}` : `u:${id}`, "n", n);
    await first(witness, "n", (n) => n === 20);
    assert.deepEqual(await ask(socket, "message:send", { text: "x" }), { ok: false, error: "Not authenticated", code: "unauthenticated" });
    const late = ask(socket, "join", "patient:other");
    assert.deepEqual(got(socket, "n"), [0], "nothing of its rooms reaches it");
    // Another user's token is refused, and changes nothing.
    assert.deepEqual((await ask(socket, "authorization", token("another"))).code, "invalid_token");
    socket.emit("authorization", { socket_token: token(id) });
    await first(socket, "n", (n) => n === 20);
    assert.deepEqual(got(socket, "n"), Array.from({ length: 21 }, (_, n) => n));
    assert.deepEqual(await late, { ok: false, joined: [], denied: ["patient:other"] });
    assert.deepEqual(got(socket, "core:auth:success").at(-1).rooms.sort(), [`patient:${id}`, `u:${id}`]);
    await tell("portal", `patient:${id}`, "n", 21);
    await first(socket, "n", (n) => n === 21);
    assert.ok(socket.connected);
  });

  it("closes the transport of one that shows no token in time", async () => {
    const id = fresh();
    const socket = await users.enter(cluster.url, id, { ...QUICK, ...ONCE, ttl_s: 2 });
    const [why] = await heard(socket, "disconnect");
    assert.equal(why, "transport close");
    assert.deepEqual(errors(socket), ["expired_token"]);
  });

  it("closes it when more waits than may, so that the client asks anew", async () => {
    const id = fresh();
    const socket = await users.enter(cluster.url, id, { ...QUICK, ...ONCE, ttl_s: 2 });
    await until(() => errors(socket).includes("expired_token"));
    const closed = heard(socket, "disconnect");
    const big = "x".repeat(40_000);
    for (let n = 0; n < 3; n += 1) await call(cluster.nodes[n], "quick", "emit", { to: { user: id }, event: "n", args: [big] });
    const [why] = await closed;
    assert.equal(why, "transport close");
    assert.deepEqual(got(socket, "n"), []);
  });

  it("replaces rights and expiry by a further token on a live connection", async () => {
    const id = fresh();
    const claims = { role: "doctor", patients: ["a", "b"] };
    const socket = await users.enter(cluster.url, id, { claims, ttl_s: 2 });
    await join(socket, "patient:a", "patient:b");
    assert.equal((await ask(socket, "authorization", token("another", claims))).code, "invalid_token");
    assert.equal((await ask(socket, "authorization", { nothing: 1 })).code, "missing_token");
    const { ok, rooms } = await ask(socket, "authorization", { socketToken: token(id, { role: "doctor", patients: ["b", "c"] }) });
    assert.deepEqual([ok, rooms], [true, [`u:${id}`, "patient:b"]]);
    assert.equal(got(socket, "core:auth:success").length, 2);
    await tell("portal", "patient:a", "lost", 1);
    await tell("portal", "patient:b", "kept", 1);
    await first(socket, "kept");
    assert.deepEqual(got(socket, "lost"), []);
    assert.deepEqual(await ask(socket, "join", ["patient:a", "patient:c"]), { ok: false, joined: ["patient:c"], denied: ["patient:a"] });
    await elapse(2500); // past the first token's expiry
    assert.deepEqual([socket.connected, errors(socket).includes("expired_token")], [true, false]);
  });

  describe("token issue", () => {
    const issue = (options = {}) => fetch(`${cluster.url}${ISSUE}`, options);
    const bearer = (id, claims) => ({ headers: { authorization: `Bearer ${session(id, claims)}` } });

    it("gives a socket token for a session, by GET and POST, that connects", async () => {
      const id = fresh();
      const claims = { role: "doctor", patients: ["a"], unlisted: 1 };
      for (const method of ["GET", "POST"]) {
        const response = await issue({ method, ...bearer(id, claims) });
        assert.equal(response.status, 200);
        const { socket_token, socketToken, token: third, expiresIn, ...rest } = await response.json();
        assert.deepEqual([socketToken, third, expiresIn, rest], [socket_token, socket_token, 1800, {}]);
        assert.equal(response.headers.get("set-cookie"), `socket_token=${socket_token}; HttpOnly; Path=/; SameSite=Lax; Max-Age=1800; Secure`);
        const cookie = response.headers.get("set-cookie").split(";")[0];
        for (const options of [{ auth: { socket_token } }, { extraHeaders: { cookie } }]) {
          const socket = users.dial(cluster.url, options);
          const welcome = await first(socket, "core:auth:success");
          assert.deepEqual([welcome.userId, welcome.role], [id, "doctor"]);
          assert.ok(Math.abs(Date.parse(welcome.expiresAt) - Date.now() - 1_800_000) < 60_000);
          await join(socket, "patient:a");
        }
      }
    });

    it("takes the session from a cookie", async () => {
      const response = await issue({ headers: { cookie: `a=1; session=${session(fresh())}` } });
      assert.equal(response.status, 200);
    });

    it("answers 401 where there is no session", async () => {
      const cases = [
        [{}, "missing_token"],
        [{ headers: { authorization: "Bearer nonsense" } }, "invalid_token"],
        [{ headers: { authorization: `Bearer ${token("1")}` } }, "invalid_token"],
        [{ headers: { cookie: `session=${session("1", {}, { ttl_s: -1 })}` } }, "expired_token"],
      ];
      for (const [options, code] of cases) {
        for (const method of ["GET", "POST"]) {
          const response = await issue({ method, ...options });
          assert.deepEqual([response.status, response.headers.get("content-type"), response.headers.get("set-cookie")], [401, "application/json", null]);
          assert.equal((await response.json()).code, code);
        }
      }
      assert.equal((await issue({ method: "DELETE" })).status, 405);
    });

    it("refuses a user whose tokens were revoked", async () => {
      const id = fresh();
      await call(cluster.nodes[0], "portal", "revoke", { user: id });
      await until(async () => (await issue(bearer(id))).status === 401);
    });

    it("is limited for each user, over all nodes", async () => {
      const [id, other, hasty] = [fresh(), fresh(), fresh()];
      const ask = (userId) => issue(bearer(userId));
      const statuses = [];
      for (let i = 0; i < 7; i += 1) statuses.push((await ask(id)).status);
      assert.deepEqual(statuses, [...Array(5).fill(200), 429, 429]);
      const refused = await ask(id);
      assert.deepEqual([refused.headers.get("retry-after"), (await refused.json()).code], ["60", "over_limit"]);
      assert.equal((await ask(other)).status, 200);
      const atOnce = await Promise.all(Array.from({ length: 20 }, () => ask(hasty)));
      assert.equal(atOnce.filter(({ status }) => status === 200).length, 5);
    });

    it("is open to the pages of named origins, with credentials", async () => {
      const origin = "https://portal.example";
      const allowed = ["access-control-allow-origin", "access-control-allow-credentials"];
      const preflight = await issue({ method: "OPTIONS", headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization" } });
      assert.equal(preflight.status, 204);
      assert.equal(preflight.headers.get("access-control-allow-headers"), "authorization");
      for (const response of [preflight, await issue({ headers: { origin } })]) {
        assert.deepEqual(allowed.map((name) => response.headers.get(name)), [origin, "true"]);
      }
      const foreign = await issue({ headers: { origin: "https://evil.example" } });
      assert.deepEqual(allowed.map((name) => foreign.headers.get(name)), [null, null]);
    });
  });
});
