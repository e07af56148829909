// Traces: one message from its client over NATS to the clients of every node, and a call's command to the coordinator and back.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { call, withApi } from "../lib/api.mjs";
import { ring, told } from "../lib/calls.mjs";
import { until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { Collector } from "../lib/collector.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { join, send, Users, WEBSOCKET } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("observability.toml", import.meta.url), "utf8");
const traced = (url, ratio) => `${CONFIG}\n[traces]\nendpoint = "${url}"\nsample_ratio = ${ratio}\n`;

describe("traces of a cluster", () => {
  const users = new Users();
  let cluster, collector, ann, bob, eve;
  before(async () => {
    collector = await Collector.start();
    cluster = await withApi(await Cluster.start({ config: traced(collector.url, "1.0"), nodes: 2 }));
    [ann, bob, eve] = await Promise.all(["ann", "bob", "eve"].map((name, i) => users.enter(cluster.nodes[i % 2].url, name, WEBSOCKET)));
    await Promise.all([ann, bob, eve].map((socket) => join(socket, "topic:news")));
  });
  after(async () => { users.leave(); await cluster?.stop(); await collector?.stop(); });
  afterEach((test) => dumpIfFailed(test, cluster));

  /** The event's span, and those of its deliveries on two nodes, which it caused. */
  async function followed(event) {
    const root = await collector.span((span) => span.attributes["trunkline.event"] === event && !span.parentSpanId);
    const caused = (span) => span.traceId === root.traceId && span.name === "deliver" && span.parentSpanId === root.spanId;
    const nodes = () => new Set(collector.spans.filter(caused).map((span) => span.attributes["trunkline.node"]));
    await until(() => nodes().size === 2, 10_000);
    return { root, deliveries: collector.spans.filter(caused) };
  }

  it("follow a stored message to both nodes", async () => {
    await send(ann, "a secret message", { roomId: "topic:news" });
    const { root, deliveries } = await followed("message:send");
    assert.match(root.traceId, /^[0-9a-f]{32}$/);
    assert.equal(root.of["service.name"], "trunkline");
    assert.equal(root.of["trunkline.role"], "gateway");
    assert.equal(root.attributes["trunkline.app"], "visits");
    assert.ok(root.attributes["trunkline.session"].length === 8, "the name that the log has for the session");
    for (const { attributes, kind, startTimeUnixNano, endTimeUnixNano } of deliveries) {
      assert.deepEqual([attributes["trunkline.class"], attributes["trunkline.app"], kind], ["recoverable", "visits", 5]);
      assert.ok(attributes["trunkline.receivers"] >= 1);
      assert.ok(BigInt(startTimeUnixNano) >= BigInt(root.startTimeUnixNano) && BigInt(endTimeUnixNano) >= BigInt(startTimeUnixNano));
    }
    assert.ok(!JSON.stringify(collector.spans).includes("a secret message"), "no payload");
    assert.ok(!JSON.stringify(collector.spans).includes("ann"), "no user");
  });

  it("follow an ephemeral event to both nodes", async () => {
    const more = await users.enter(cluster.nodes[1].url, "sam", WEBSOCKET);
    await join(more, "topic:news");
    bob.emit("typing:start", { roomId: "topic:news" });
    const { deliveries } = await followed("typing:start");
    assert.ok(deliveries.every(({ attributes }) => attributes["trunkline.class"] === "ephemeral"));
  });

  it("follow a call's command to the coordinator", async () => {
    const { callId } = await ring(ann, "bob", [bob]);
    const root = await collector.span((span) => span.attributes["trunkline.event"] === "call:initiate");
    const decided = await collector.span((span) => span.name === "coordinator command" && span.parentSpanId === root.spanId);
    assert.deepEqual([decided.traceId, decided.of["trunkline.role"]], [root.traceId, "coordinator"]);
    assert.deepEqual([decided.attributes["trunkline.command"], decided.attributes["trunkline.result"]], ["initiate", "ok"]);
    await told(ann, "call:ended", { callId });
  });

  it("show what was refused, and calls of back ends", async () => {
    await ann.timeout(10_000).emitWithAck("call:accept", { callId: "01ARZ3NDEKTSV4RRFFQ69G5FAV" });
    const refused = await collector.span((span) => span.attributes["trunkline.event"] === "call:accept");
    assert.deepEqual(refused.status, { code: 2, message: "unknown_call" });
    assert.equal((await call(cluster.nodes[0], "visits", "emit", { to: { room: "topic:news" }, event: "news" })).status, 200);
    const root = await collector.span((span) => span.name === "back end call");
    assert.deepEqual([root.attributes["trunkline.call"], root.attributes["trunkline.outcome"]], ["emit", "ok"]);
    await collector.span((span) => span.name === "deliver" && span.parentSpanId === root.spanId);
  });

  it("go on where a back end keeps a trace of its own", async () => {
    const [traceId, spanId] = ["0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"];
    const traceparent = `00-${traceId}-${spanId}-01`;
    assert.equal((await call(cluster.nodes[0], "visits", "emit", { to: { everyone: true }, event: "x" }, { traceparent })).status, 200);
    const root = await collector.span((span) => span.traceId === traceId && span.name === "back end call");
    assert.equal(root.parentSpanId, spanId);
    await collector.span((span) => span.traceId === traceId && span.name === "deliver" && span.parentSpanId === root.spanId);
  });

  it("are exported to the last span when the node leaves, and counted", async () => {
    users.leave();
    const metric = (outcome) => cluster.metric(`trunkline_trace_spans_total\\{outcome="${outcome}"\\}`);
    await until(async () => (await metric("exported")) > 5);
    assert.equal(await metric("dropped"), 0);
    assert.equal(await cluster.nodes[1].process.stop(), 0);
  });
});

describe("a cluster whose collector is away", () => {
  const users = new Users();
  let cluster;
  afterEach((test) => dumpIfFailed(test, cluster));
  after(() => { users.leave(); return cluster?.stop(); });

  it("serves as if nothing were, and says so once", async () => {
    cluster = await Cluster.start({ config: traced("http://127.0.0.1:9", "1.0"), nodes: 1, coordinators: 0 });
    const ann = await users.enter(cluster.url, "ann", WEBSOCKET);
    await join(ann, "topic:news");
    await cluster.nodes[0].process.line(/the collector does not take traces/);
    await send(ann, "hello", { roomId: "topic:news" });
    await until(async () => (await cluster.metric('trunkline_trace_spans_total\\{outcome="failed"\\}')) >= 2);
    const said = cluster.nodes[0].process.lines.filter((line) => line.includes("does not take traces"));
    assert.equal(said.length, 1);
  });
});
