// What stands in front of the nodes: testkit's balancer, or haproxy, which choose anew for every request; and testkit's fault proxy,
// which stands between a node and its nats-server.

import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./ports.mjs";
import { Process } from "./processes.mjs";

const TESTKIT = process.env.TESTKIT_BIN ?? new URL("../../target/debug/testkit", import.meta.url).pathname;

export function haproxyInstalled() {
  try {
    execFileSync("haproxy", ["-v"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/**
 * Resolves with `{ url, stop }`. `seed` replaces the round robin by a fixed random sequence, `listen` the free port.
 *
 * @param {string[]} backends addresses of the nodes
 * @param {{ kind?: "testkit"|"haproxy", seed?: number, listen?: string[] }} [options]
 */
export async function startBalancer(backends, { kind = "testkit", seed, listen = ["127.0.0.1:0"] } = {}) {
  return kind === "haproxy" ? startHaproxy(backends, listen) : startTestkit(backends, listen, seed);
}

async function startTestkit(backends, listen, seed) {
  const args = ["balancer", ...listen.flatMap((addr) => ["--listen", addr]), ...backends.flatMap((addr) => ["--backend", addr])];
  if (seed !== undefined) args.push("--seed", String(seed));
  const child = new Process("balancer", TESTKIT, args);
  const [, addr] = await child.line(/^listening (\S+)$/);
  return { url: `http://${addr}`, stop: () => child.stop() };
}

/** Resolves with `{ addr, apply, stop }`; `apply("delay 20 5")` and so on take effect before it resolves. */
export async function startFaultProxy(to) {
  const child = new Process("fault proxy", TESTKIT, ["faultproxy", "--to", to]);
  const [, addr] = await child.line(/^listening (\S+)$/);
  const apply = async (command) => {
    child.lines.length = 0;
    child.say(command);
    await child.line(new RegExp(`^ok ${command}$`));
  };
  return { addr, apply, stop: () => child.stop() };
}

async function startHaproxy(backends, listen) {
  const dir = mkdtempSync(join(tmpdir(), "trunkline-haproxy-"));
  const port = Number(listen[0].split(":").at(-1)) || (await freePort());
  const binds = listen.map((addr) => `  bind ${addr.replace(/:\d+$/, `:${port}`)}`).join("\n");
  const servers = backends.map((addr, i) => `  server s${i} ${addr}`).join("\n");
  writeFileSync(join(dir, "haproxy.cfg"), `defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout tunnel 1h
  option http-server-close
  option abortonclose
frontend front
${binds}
  default_backend nodes
backend nodes
  balance roundrobin
${servers}
`);
  const child = new Process("haproxy", "haproxy", ["-db", "-f", join(dir, "haproxy.cfg")]);
  await answers(port, child);
  return { url: `http://127.0.0.1:${port}`, stop: async () => { await child.stop("SIGKILL"); rmSync(dir, { recursive: true }); } };
}

/** haproxy says nothing when it is ready: it is, once its port takes a connection. */
async function answers(port, child) {
  for (let tries = 0; tries < 250 && !child.ended; tries += 1) {
    if (await takesConnections(port)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`haproxy does not answer\n${child.log()}`);
}

function takesConnections(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.on("connect", () => { socket.destroy(); resolve(true); });
    socket.on("error", () => resolve(false));
  });
}
