// `make cluster`: whoever tries failure by hand kills a member of each kind while stock clients talk. They come back, what was
// acknowledged is there, what died starts again, and at the end nobody is left.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join as path } from "node:path";
import { after, afterEach, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { haproxyInstalled } from "../lib/balancers.mjs";
import { heard, until } from "../lib/clients.mjs";
import { cleanEnv } from "../lib/cluster.mjs";
import { elapse } from "../lib/engine.mjs";
import { natsBinary } from "../lib/nats.mjs";
import { Process } from "../lib/processes.mjs";
import { CONFIG, join, POLLING, UPGRADE, Users, WEBSOCKET } from "../lib/visits.mjs";

const TESTKIT = process.env.TESTKIT_BIN ?? new URL("../../target/debug/testkit", import.meta.url).pathname;
const TRUNKLINE = process.env.TRUNKLINE_BIN ?? new URL("../../target/debug/trunkline", import.meta.url).pathname;
const ROOM = "topic:by-hand";
/** On a busy machine nine processes take their time. */
const SLOW_MS = 60_000;

describe("the cluster for trying failure by hand", () => {
  const dir = mkdtempSync(path(tmpdir(), "trunkline-by-hand-"));
  const config = path(dir, "trunkline.toml");
  writeFileSync(config, CONFIG);
  const users = new Users();
  const started = [];
  afterEach(async (test) => {
    users.leave();
    if (test.error) for (const file of readdirSync(path(dir, "data/log"))) console.error(`${file}\n${readFileSync(path(dir, "data/log", file), "utf8").slice(-2000)}`);
    await Promise.all(started.splice(0).map((cluster) => cluster.stop("SIGTERM", SLOW_MS)));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  function launch(...flags) {
    const args = ["cluster", "--config", config, "--trunkline", TRUNKLINE, "--nats-server", natsBinary(), "--data-dir", path(dir, "data"), ...flags];
    const cluster = new Process("cluster", TESTKIT, args, { env: cleanEnv() });
    started.push(cluster);
    return cluster;
  }

  /** It ends at once, and says why. */
  async function refuses(cluster, why) {
    await once(cluster.child, "close"); // after its last line, unlike "exit"
    assert.match(cluster.lines.join("\n"), why);
    assert.equal(await cluster.exited, 1);
  }

  /** Resolves with the process, its members' pids by name, the address for clients and the printed token. */
  async function start(...flags) {
    const cluster = launch("--free-ports", ...flags);
    await cluster.line(/^ready$/, SLOW_MS);
    const members = new Map(cluster.lines.map((line) => /^ {2}([a-z]+(?:-\d)?) +(\d+) /.exec(line)).filter(Boolean).map(([, name, pid]) => [name, Number(pid)]));
    const [, url] = await cluster.line(/^ {2}visits +(http:\/\/127\.0\.0\.1:\d+)/);
    const [, token] = await cluster.line(/^ {2}(ey\S+)$/);
    return { cluster, members, url, token };
  }

  /** Talks without a pause, through every loss of connection, until told to stop: `{ acked, stop }`. */
  function talk(socket, name) {
    const acked = [];
    let goesOn = true;
    socket.on("connected", () => join(socket, ROOM).catch(() => {})); // the connection may go again: the next `connected` joins
    const done = (async () => {
      for (let i = 0; goesOn; i += 1) {
        const id = `${name}#${i}`;
        const ack = await socket.timeout(2000).emitWithAck("message:send", { message: id, roomId: ROOM }).catch(() => null);
        if (ack?.success) acked.push(id);
        await elapse(25);
      }
    })();
    return { acked, stop: () => { goesOn = false; return done; } };
  }

  const goOn = (talks) => Promise.all(talks.map(async ({ acked }) => {
    const before = acked.length;
    await until(() => acked.length > before, SLOW_MS);
  }));

  async function history(socket) {
    const messages = [];
    for (let more = true; more;) {
      const ack = await socket.timeout(30_000).emitWithAck("message:history", { roomId: ROOM, before: messages[0]?.id });
      assert.equal(ack.success, true, JSON.stringify(ack));
      messages.unshift(...ack.messages);
      more = ack.hasMore;
    }
    return messages.map(({ message }) => message);
  }

  /** Kills one from outside, as people do, and waits until the others go on; then starts it again. */
  async function killAndStart({ cluster, members }, name, meanwhile) {
    process.kill(members.get(name), "SIGKILL");
    await cluster.line(new RegExp(`^${name} \\(pid ${members.get(name)}\\) died by signal 9: \`start ${name}\` brings it back$`));
    await meanwhile();
    cluster.say(`start ${name}`);
    const [, pid] = await cluster.line(new RegExp(`^${name} \\(pid (?!${members.get(name)}\\b)(\\d+)\\) serves after`), SLOW_MS);
    members.set(name, Number(pid));
  }

  /** Whether all gateways take part, as haproxy sees it. */
  async function haproxySees({ cluster }) {
    const [, stats] = await cluster.line(/^ {2}balancer +\d+ +(http:\S+)/);
    await until(async () => (await (await fetch(`${stats};csv`)).text()).match(/^visits,gateway-\d,.*,UP,/gm)?.length === 3, SLOW_MS);
  }

  /** The script of the documentation, as a reader starts it. */
  function talker({ url, token }) {
    const page = readFileSync(new URL("../../docs/operations-local.md", import.meta.url), "utf8");
    writeFileSync(path(dir, "talk.mjs"), /^```js\n(.*?)^```$/ms.exec(page)[1]);
    const packages = fileURLToPath(new URL("../lib/walks-packages.mjs", import.meta.url));
    const env = { ...cleanEnv(), URL: url, TOKEN: token };
    const child = new Process("talk.mjs", process.execPath, ["--import", packages, path(dir, "talk.mjs")], { env });
    started.push(child);
    return child;
  }

  const alive = ({ members }) => [...members].filter(([, pid]) => { try { return process.kill(pid, 0); } catch { return false; } });

  it("goes on when one of each kind is killed, keeps what was acknowledged, and leaves nobody behind", async () => {
    const running = await start();
    if (haproxyInstalled()) await haproxySees(running);
    const sockets = await Promise.all([POLLING, WEBSOCKET, UPGRADE].map((how, i) => users.enter(running.url, `user-${i}`, how)));
    const talks = sockets.map((socket, i) => talk(socket, `user-${i}`));
    await goOn(talks);
    const script = talker(running);
    await script.line(/^message \d+ is stored$/, SLOW_MS);
    for (const name of ["gateway-2", "nats-1", "coordinator-1"]) await killAndStart(running, name, () => goOn(talks));
    // Without a balancer nobody gets anywhere.
    await killAndStart(running, "balancer", () => script.line(/^disconnected: transport (close|error)$/));
    script.lines.length = 0;
    await Promise.all([script.line(/^connected as /, SLOW_MS), script.line(/^message \d+ is stored$/, SLOW_MS)]);
    await script.stop();
    await goOn(talks);
    await Promise.all(talks.map(({ stop }) => stop()));
    const kept = await history(sockets[0]);
    assert.deepEqual(kept.filter((id, i) => kept.indexOf(id) !== i), [], "nothing is kept twice");
    assert.deepEqual(talks.flatMap(({ acked }) => acked).filter((id) => !kept.includes(id)), [], "what was acknowledged is kept");


    // The supervisor dies without a word: the next one stops what it left behind and goes on with its data.
    await running.cluster.stop("SIGKILL");
    const next = await start("--balancer", "testkit");
    await next.cluster.line(/^Stopping what a killed cluster left behind/);
    assert.deepEqual(alive(running), []);
    const seven = users.dial(next.url, { auth: { token: next.token }, ...WEBSOCKET });
    await heard(seven, "connected", SLOW_MS);
    assert.deepEqual(await history(seven), kept);

    await refuses(launch("--free-ports"), /is in use by process \d+/);
    next.cluster.say("quit");
    assert.equal(await next.cluster.exited, 0, next.cluster.log());
    assert.deepEqual(alive(next), []);
  });

  it("says at once when somebody else listens where clients connect", async () => {
    const other = createServer();
    await new Promise((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address();
    writeFileSync(config, CONFIG.replace(/^listen = .*$/m, `listen = ["127.0.0.1:${port}"]`));
    try {
      await refuses(launch(), new RegExp(`^cluster: clients cannot connect to 127\\.0\\.0\\.1:${port}: .*--free-ports$`, "m"));
    } finally {
      other.close();
    }
  });
});
