// The portal's doctors and the hook that knows their patients.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { call } from "../lib/backend.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { ask, CONFIG, first, join, Portal, token } from "../lib/portal.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { Authority } from "../lib/tokens.mjs";
import { got } from "../lib/visits.mjs";

const HOOKED = { path: "/hooked/" };
const DOCTOR = { role: "doctor", patients: ["a"] };

describe("portal's hook", () => {
  const users = new Portal();
  let authority, cluster;
  before(async () => {
    authority = await Authority.start();
    const config = CONFIG.replace("http://127.0.0.1:1/hook", `${authority.url}/hook`);
    cluster = await Cluster.start({ config, nodes: 2, coordinators: 0 });
  });
  after(async () => { await cluster?.stop(); authority?.stop(); });
  beforeEach(() => { authority.asked.length = 0; });
  afterEach((test) => { users.leave(); dumpIfFailed(test, cluster); });

  const doctor = () => users.enter(cluster.url, 3, { ...HOOKED, claims: DOCTOR });
  const allow = (...rooms) => { authority.hook = ({ right }) => [200, { allow: rooms.includes(right) }]; };
  const rights = () => authority.asked.map(({ right }) => right);

  it("opens the patients that a doctor's token does not list", async () => {
    allow("patient:b");
    const socket = await doctor();
    const ack = await ask(socket, "join", ["patient:a", "patient:b", "patient:c", "doctor:4"]);
    assert.deepEqual(ack, { ok: false, joined: ["patient:a", "patient:b"], denied: ["patient:c", "doctor:4"] });
    assert.deepEqual(rights(), ["patient:b", "patient:c"]);
    assert.equal((await ask(socket, "message:send", { patientId: "b", text: "x" })).ok, true);
    assert.equal((await ask(socket, "message:send", { patientId: "c", text: "x" })).code, "room_denied");
    await first(socket, "message:new", ({ patientId }) => patientId === "b");
  });

  it("is not asked for patients", async () => {
    authority.hook = () => [200, { allow: true }];
    const socket = await users.enter(cluster.url, "p", HOOKED);
    assert.deepEqual((await ask(socket, "join", ["patient:p", "patient:q", "doctor:3"])).denied, ["patient:q", "doctor:3"]);
    assert.deepEqual(rights(), []);
  });

  it("lets nobody in without an answer", async () => {
    authority.hook = () => [500, {}];
    const socket = await doctor();
    const { error, ...ack } = await ask(socket, "join", ["patient:b", "patient:a", "patient:c"]);
    assert.deepEqual(ack, { ok: false, joined: ["patient:a"], denied: ["patient:b", "patient:c"], code: "hook_unavailable" });
    assert.equal(typeof error, "string");
    assert.equal((await ask(socket, "message:send", { patientId: "b", text: "x" })).code, "hook_unavailable");
  });

  it("is asked again for its rooms when a further token is shown", async () => {
    allow("patient:b", "patient:c");
    const socket = await doctor();
    await join(socket, "patient:a", "patient:b", "patient:c");
    await call(cluster.nodes[1], "hooked", "members", { user: 3, join: ["ward:1"] });
    allow("patient:c");
    const { rooms } = await ask(socket, "authorization", token(3, DOCTOR));
    assert.deepEqual(rooms.sort(), ["patient:a", "patient:c", "u:3", "ward:1"]);
    await call(cluster.nodes[1], "hooked", "treatment-update", { patientId: "b", treatment: {} });
    await call(cluster.nodes[1], "hooked", "treatment-update", { patientId: "c", treatment: {} });
    await first(socket, "treatment:update", ({ patientId }) => patientId === "c");
    assert.equal(got(socket, "treatment:update").length, 1);
  });
});
