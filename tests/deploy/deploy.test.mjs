// The files of deploy/ as far as they can be held against the programs that read them: there is no container daemon in a test. Compose's
// own rules are taken from its documentation; what is mounted is checked by nats-server, haproxy, promtool, systemd and Trunkline itself.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { parse } from "yaml";
import { cleanEnv } from "../lib/cluster.mjs";
import { natsBinary } from "../lib/nats.mjs";

const ROOT = new URL("../..", import.meta.url).pathname;
const TRUNKLINE = process.env.TRUNKLINE_BIN ?? join(ROOT, "target/debug/trunkline");
const read = (path) => readFileSync(join(ROOT, path), "utf8");
const without = (tool) => spawnSync(tool, ["--version"], { stdio: "ignore" }).error && `${tool} is not installed`;

/** Runs to its end and gives what it said; fails with that if it failed. */
function runs(command, args, env = {}) {
  const { status, stdout, stderr } = spawnSync(command, args, { env: { ...cleanEnv(), ...env }, encoding: "utf8" });
  assert.equal(status, 0, `${command} ${args.join(" ")}\n${stdout}${stderr}`);
  return stdout + stderr;
}

/** Secrets as somebody may choose them: one looks like a number to nats-server, one like TOML. */
const SECRETS = { JWT_SECRET: "0123456789abcdef0123456789abcdef", NATS_PASSWORD: "12e7", BACK_END_KEY: "12345678901234567890", GRAFANA_PASSWORD: "x" };

/** `${NAME}`, `${NAME:-default}` and `${NAME:?message}` in every text, as compose puts them in: after the YAML was read. */
function interpolate(value) {
  if (Array.isArray(value)) return value.map(interpolate);
  if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, interpolate(inner)]));
  if (typeof value !== "string") return value;
  return value.replace(/\$\{([A-Z_]+)(?::([-?])([^}]*))?\}/g, (_, name, how, rest) => {
    if (SECRETS[name] !== undefined) return SECRETS[name];
    assert.equal(how, "-", `${name} has neither a default nor a place in env.example`);
    return rest;
  });
}

describe("deploy/compose.yaml", () => {
  let compose;
  let dir;
  before(() => {
    compose = interpolate(parse(read("deploy/compose.yaml"), { merge: true }));
    dir = mkdtempSync(join(tmpdir(), "trunkline-deploy-"));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  const services = (pattern) => Object.entries(compose.services).filter(([name]) => pattern.test(name));
  /** Host path and container path of each file that is mounted. */
  const mounts = (service) => (service.volumes ?? []).map((volume) => volume.split(":")).filter(([from]) => from.startsWith("."));
  const mounted = (service, to) => join(ROOT, "deploy", mounts(service).find(([, path]) => path === to)[0]);

  it("starts what it says: 3 nats-servers, 3 gateways, 2 coordinators, a balancer, what watches them", () => {
    const kinds = Object.keys(compose.services).map((name) => name.replace(/-\d$/, ""));
    const count = (kind) => kinds.filter((name) => name === kind).length;
    assert.deepEqual(["nats", "gateway", "coordinator", "haproxy", "prometheus", "grafana"].map(count), [3, 3, 2, 1, 1, 1]);
    assert.equal(kinds.length, 11);
  });

  it("asks for every secret that env.example names, and for no other", () => {
    const named = read("deploy/compose/env.example").match(/^[A-Z_]+(?==)/gm);
    const asked = [...read("deploy/compose.yaml").matchAll(/\$\{([A-Z_]+):\?/g)].map(([, name]) => name);
    assert.deepEqual([...new Set(asked)].sort(), named.sort());
    assert.deepEqual(Object.keys(SECRETS).sort(), named);
    assert.equal(execFileSync("git", ["check-ignore", "deploy/.env"], { cwd: ROOT, encoding: "utf8" }).trim(), "deploy/.env");
  });

  it("mounts files that exist, read-only, and volumes that are declared", () => {
    for (const [name, service] of services(/./)) {
      for (const [from, , mode] of mounts(service)) {
        assert.ok(existsSync(join(ROOT, "deploy", from)), `${name}: ${from}`);
        assert.equal(mode, "ro", `${name}: ${from}`);
      }
      const volumes = (service.volumes ?? []).map((volume) => volume.split(":")[0]).filter((from) => !from.startsWith("."));
      for (const volume of volumes) assert.ok(volume in compose.volumes, `${name}: ${volume}`);
      for (const other of service.depends_on ?? []) assert.ok(other in compose.services, `${name} depends on ${other}`);
    }
  });

  it("publishes each host port once, on loopback unless somebody says otherwise", () => {
    const ports = services(/./).flatMap(([, service]) => service.ports ?? []);
    for (const port of ports) assert.match(port, /^127\.0\.0\.1:\d+:\d+$/);
    assert.equal(new Set(ports.map((port) => port.split(":")[1])).size, ports.length);
  });

  it("runs the image that make image makes, and the nats-server that is tested with", () => {
    const version = /^version = "(.*)"$/m.exec(read("Cargo.toml"))[1];
    for (const [, service] of services(/^(gateway|coordinator)/)) assert.equal(service.image, `trunkline:${version}`);
    const nats = /^NATS_VERSION := (.*)$/m.exec(read("Makefile"))[1];
    for (const [, service] of services(/^nats/)) assert.equal(service.image, `nats:${nats}`);
  });

  it("gives Trunkline a configuration without mistakes, with every listener where haproxy looks for it", () => {
    const proxy = read("deploy/compose/haproxy.cfg");
    for (const [name, service] of services(/^(gateway|coordinator)/)) {
      const file = mounted(service, "/etc/trunkline/trunkline.toml");
      const effective = runs(TRUNKLINE, ["check-config", "--config", file], service.environment);
      if (!name.startsWith("gateway")) continue;
      const listens = [...effective.matchAll(/^listen = \["(.*)"\]$/gm)].map(([, addr]) => addr);
      // The first is http.listen, which no application uses.
      const ports = listens.slice(1).map((addr) => /^0\.0\.0\.0:(\d+)$/.exec(addr)?.[1]);
      const behind = [...proxy.matchAll(new RegExp(`^ {2}server ${name} ${name}:(\\d+)$`, "gm"))].map(([, port]) => port);
      assert.deepEqual(ports.sort(), behind.sort(), name);
      assert.equal(service.environment.TRUNKLINE_HTTP__TRUSTED_PROXIES, compose.networks.default.ipam.config[0].subnet);
    }
    const binds = [...proxy.matchAll(/^ {2}bind :(\d+)$/gm)].map(([, port]) => port);
    assert.deepEqual(compose.services.haproxy.ports.map((port) => port.split(":")[2]).sort(), binds.sort());
  });

  it("stops a gateway later than its drain ends", () => {
    for (const [, service] of services(/^gateway/)) {
      const effective = runs(TRUNKLINE, ["check-config", "--config", mounted(service, "/etc/trunkline/trunkline.toml")], service.environment);
      const drain = Number(/^drain_s = (\d+)$/m.exec(effective)[1]);
      assert.ok(Number.parseInt(service.stop_grace_period, 10) >= drain + 15);
    }
  });

  it("gives nats-server a configuration it takes, whatever the password looks like", () => {
    for (const [name, service] of services(/^nats/)) {
      assert.deepEqual(service.command.slice(2), ["--server_name", name]);
      runs(natsBinary(), ["-t", "--config", mounted(service, "/etc/nats/nats.conf")], service.environment);
    }
  });

  it("gives haproxy a configuration it takes", { skip: without("haproxy") }, () => {
    runs("haproxy", ["-c", "-f", mounted(compose.services.haproxy, "/usr/local/etc/haproxy/haproxy.cfg")]);
  });

  it("gives Prometheus every process to scrape, and rules it takes", { skip: without("promtool") }, () => {
    const { prometheus } = compose.services;
    const rules = mounted(prometheus, "/etc/prometheus/rules.yaml");
    const config = read("deploy/compose/prometheus.yml");
    const targets = parse(config).scrape_configs.flatMap((job) => job.static_configs).flatMap(({ targets: list }) => list);
    assert.deepEqual(targets.sort(), services(/^(gateway|coordinator)/).map(([name]) => `${name}:${name.startsWith("gateway") ? 9090 : 9190}`).sort());
    writeFileSync(join(dir, "prometheus.yml"), config.replace("/etc/prometheus/rules.yaml", rules));
    runs("promtool", ["check", "config", join(dir, "prometheus.yml")]);
  });

  it("gives Grafana a dashboard where its provider looks, and the address of Prometheus", () => {
    const { grafana } = compose.services;
    const [provider] = parse(read("deploy/compose/grafana-dashboards.yml")).providers;
    const dashboard = mounted(grafana, `${provider.options.path}/trunkline.json`);
    assert.ok(JSON.parse(readFileSync(dashboard, "utf8")).panels.length > 0);
    const [source] = parse(read("deploy/compose/grafana-datasource.yml")).datasources;
    assert.equal(source.url, "http://prometheus:9090");
  });
});

describe("deploy/systemd", () => {
  const units = ["trunkline-gateway.service", "trunkline-coordinator.service"];
  const credentials = (unit) => [...read(`deploy/systemd/${unit}`).matchAll(/^LoadCredential=([^:]+):/gm)].map(([, name]) => name);
  let dir;
  before(() => { dir = mkdtempSync(join(tmpdir(), "trunkline-units-")); });
  after(() => rmSync(dir, { recursive: true, force: true }));

  it("has units that systemd takes and finds well confined", { skip: without("systemd-analyze") }, () => {
    for (const unit of units) {
      const file = join(dir, unit);
      writeFileSync(file, read(`deploy/systemd/${unit}`).replace("/usr/local/bin/trunkline", TRUNKLINE));
      assert.equal(runs("systemd-analyze", ["verify", "--man=no", file]), "");
      const verdict = spawnSync("systemd-analyze", ["security", "--offline=yes", "--threshold=20", file], { encoding: "utf8" });
      // Before systemd 250 it cannot judge a file.
      if (!/unrecognized option/.test(verdict.stderr)) assert.equal(verdict.status, 0, verdict.stdout.split("\n").slice(-3).join("\n"));
    }
  });

  it("has a configuration without mistakes, whose secrets are those of the units", () => {
    const gateway = /"\/run\/credentials\/trunkline-gateway\.service\/([^"]+)"/g;
    const named = [...read("deploy/systemd/trunkline.toml").matchAll(gateway)].map(([, name]) => name);
    assert.deepEqual([...named, "nats.creds"].sort(), credentials(units[0]).sort());
    assert.deepEqual(credentials(units[1]), ["nats.creds"]);
    for (const name of credentials(units[0])) writeFileSync(join(dir, name), "a secret that is long enough for this\n");
    const file = join(dir, "trunkline.toml");
    writeFileSync(file, read("deploy/systemd/trunkline.toml").replaceAll("/run/credentials/trunkline-gateway.service", dir));
    const effective = runs(TRUNKLINE, ["check-config", "--config", file], { TRUNKLINE_NATS__CREDS_FILE: join(dir, "nats.creds") });
    const drain = Number(/^drain_s = (\d+)$/m.exec(effective)[1]);
    const [, stop] = /^TimeoutStopSec=(\d+)$/m.exec(read(`deploy/systemd/${units[0]}`));
    assert.ok(Number(stop) >= drain + 15);
  });

  it("can be checked as the documentation says, while no unit runs", () => {
    const [, command] = /^trunkline (check-config (?:.*\\\n)*.*)$/m.exec(read("docs/operations-local.md").split("## systemd")[1]);
    for (const name of ["back-end-key", "token-key"]) writeFileSync(join(dir, name), "a secret that is long enough for this\n");
    const here = command.replaceAll("/etc/trunkline/secrets", dir).replace("/etc/trunkline/trunkline.toml", join(ROOT, "deploy/systemd/trunkline.toml"));
    runs("sh", ["-c", `"$0" ${here}`, TRUNKLINE]);
  });
});
