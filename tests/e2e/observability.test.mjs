// Metrics of a running cluster: those of the documentation are those that are served, and every query of the dashboard and of the alert
// rules is one that Prometheus can answer from them.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { after, afterEach, before, describe, it } from "node:test";
import { call, withApi } from "../lib/api.mjs";
import { ask, talk, told } from "../lib/calls.mjs";
import { heard, until } from "../lib/clients.mjs";
import { Cluster } from "../lib/cluster.mjs";
import { documented, families, row, write } from "../lib/metrics.mjs";
import { Prometheus, prometheusInstalled } from "../lib/prometheus.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { join, send, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const CONFIG = readFileSync(new URL("observability.toml", import.meta.url), "utf8");
const FILES = new URL("../../helm/trunkline/files/", import.meta.url);

/** Metrics whose series appear with what they count: a refusal in a command, a call's end. The traffic below has some of each. */
async function traffic(cluster, users) {
  const [ann, bob] = await Promise.all(["ann", "bob"].map((name, i) => users.enter(cluster.nodes[i].url, name, WEBSOCKET)));
  await users.enter(cluster.url, "eve", UPGRADE);
  await Promise.all([ann, bob].map((socket) => join(socket, "topic:news")));
  await send(ann, "hello", { roomId: "topic:news" });
  await told(bob, "message:new", { message: "hello" });
  const callId = await talk(ann, bob);
  await ask(ann, "call:end", { callId });
  const refused = await ann.timeout(10_000).emitWithAck("room:join", { roomId: "visit:9", roomType: "visit" });
  assert.equal(refused.success, false);
  const stranger = users.dial(cluster.url, { auth: { token: "no token" }, reconnection: false, ...WEBSOCKET });
  await heard(stranger, "connect_error", 10_000);
  assert.equal((await call(cluster.nodes[0], "visits", "emit", { to: { everyone: true }, event: "news" })).status, 200);
}

/** Queries of the dashboard, with Grafana's variables as `All` fills them in. */
function dashboardQueries() {
  const dashboard = JSON.parse(readFileSync(new URL("dashboard.json", FILES), "utf8"));
  const panels = dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }) => [`panel ${title}`, expr]));
  const notes = dashboard.annotations.list.map(({ name, expr }) => [`annotation ${name}`, expr]);
  const variables = dashboard.templating.list.filter(({ type }) => type === "query");
  const filled = (expr) => expr.replaceAll("$__rate_interval", "1m").replace(/\$\{?(instance|app)\}?/g, ".*");
  return { queries: [...panels, ...notes].map(([what, expr]) => [what, filled(expr)]), variables };
}

describe("metrics of a cluster", () => {
  const users = new Users();
  let cluster;
  before(async () => {
    cluster = await withApi(await Cluster.start({ config: CONFIG, nodes: 2, balancer: "testkit" }));
    await traffic(cluster, users);
  });
  after(() => { users.leave(); return cluster?.stop(); });
  afterEach((test) => dumpIfFailed(test, cluster));

  it("are those of the documentation, and all of them", async () => {
    const served = new Map();
    const scrape = async (role, processes) => {
      for (const { admin } of processes) {
        const text = await (await fetch(`http://${admin}/metrics`)).text();
        for (const [name, family] of families(text)) {
          const known = served.get(name) ?? { ...family, labels: new Set(), roles: new Set() };
          family.labels.forEach((label) => known.labels.add(label));
          served.set(name, { ...known, roles: known.roles.add(role) });
        }
      }
    };
    const rows = async () => {
      await scrape("gateway", cluster.nodes);
      await scrape("coordinator", cluster.coordinators);
      return [...served].map(([name, family]) => row(name, family, family.roles)).sort();
    };
    // What a process counts last is there a moment after its client has heard.
    const listed = documented().sort();
    await until(async () => (await rows()).length >= listed.length).catch(() => {});
    if (process.env.TRUNKLINE_WRITE_DOCS) write(await rows());
    assert.deepEqual(await rows(), documented().sort(), "TRUNKLINE_WRITE_DOCS=1 writes the table anew");
  });

  it("follow Prometheus's conventions", { skip: !prometheusInstalled() && "promtool is not installed" }, async () => {
    for (const { name, admin } of [...cluster.nodes, ...cluster.coordinators]) {
      const input = await (await fetch(`http://${admin}/metrics`)).text();
      const { status, stdout, stderr } = spawnSync("promtool", ["check", "metrics"], { input, encoding: "utf8" });
      assert.equal(status, 0, `${name}: ${stdout}${stderr}`);
    }
  });

  it("answer every query of the dashboard and of the alert rules", { skip: !prometheusInstalled() && "prometheus is not installed" }, async () => {
    const targets = (processes) => processes.map(({ admin }) => admin);
    const jobs = { "trunkline-gateway": targets(cluster.nodes), "trunkline-coordinator": targets(cluster.coordinators) };
    const prometheus = await Prometheus.start(jobs, 3, new URL("rules.yaml", FILES).pathname);
    try {
      const { queries, variables } = dashboardQueries();
      const rules = (await prometheus.rules()).map(({ name, query }) => [`alert ${name}`, query]);
      assert.ok(queries.length > 60 && rules.length > 20, `${queries.length} queries, ${rules.length} rules`);
      const names = new Set([...await prometheus.names(), "up"]);
      for (const [what, expr] of [...queries, ...rules]) {
        await prometheus.query(expr).catch((error) => assert.fail(`${what}: ${error.message}\n${expr}`));
        const unknown = metricNames(expr).filter((name) => !names.has(name));
        assert.deepEqual(unknown, [], `${what} names what no process serves`);
      }
      for (const { name, definition } of variables) {
        const [, metric, label] = /^label_values\((\w+), (\w+)\)$/.exec(definition);
        const series = await prometheus.query(`count by (${label}) (${metric})`);
        assert.ok(series.length > 0 && series.every((one) => one.metric[label]), `the variable ${name} has values`);
      }
      // What a panel is for: these are never empty in a cluster that serves.
      for (const title of ["Sessions", "Sessions by transport", "Gateways ready", "Coordinators ready", "CPU", "Memory", "Memory for each session", "Time to store an event"]) {
        const [, expr] = queries.find(([what]) => what === `panel ${title}`);
        assert.ok((await prometheus.query(expr)).length > 0, `${title} shows something: ${expr}`);
      }
      const firing = (await prometheus.query('ALERTS{alertstate="firing"}')).map(({ metric }) => metric.alertname);
      assert.deepEqual(firing, [], "a healthy cluster alerts nobody");
    } finally {
      await prometheus.stop();
    }
  });
});

const metricNames = (expr) => [...new Set(expr.match(/\b(?:trunkline|process)_[a-z0-9_]+\b/g))];
