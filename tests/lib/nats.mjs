// Real nats-servers with JetStream on a temporary directory: one, or a cluster of three.

import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "./ports.mjs";
import { Process } from "./processes.mjs";

const LOCAL = new URL("../../.tools/bin/nats-server", import.meta.url).pathname;
const MIN_MINOR = 12;

/** The first nats-server that is new enough: of the tree, else of PATH. */
export function natsBinary() {
  for (const binary of [LOCAL, "nats-server"]) {
    if (binary === LOCAL && !existsSync(LOCAL)) continue;
    try {
      const [, major, minor] = /v(\d+)\.(\d+)/.exec(execFileSync(binary, ["--version"], { encoding: "utf8" }));
      if (+major > 2 || (+major === 2 && +minor >= MIN_MINOR)) return binary;
    } catch {
      // Not installed: the next place is tried, and the end of the loop says what is missing.
    }
  }
  throw new Error("no nats-server 2.12 or newer: run `make tools` first");
}

export class Nats {
  /** Starts `size` servers (1 or 3) and waits until JetStream answers. */
  static async start(size = 1) {
    const nats = new Nats();
    nats.dir = mkdtempSync(join(tmpdir(), "trunkline-nats-"));
    const ports = await Promise.all(Array.from({ length: size * 3 }, freePort));
    nats.members = Array.from({ length: size }, (_, i) => ({
      name: `n${i}`, port: ports[3 * i], monitor: ports[3 * i + 1], route: ports[3 * i + 2],
    }));
    for (const member of nats.members) nats.launch(member);
    await Promise.all(nats.members.map((member) => nats.ready(member)));
    return nats;
  }

  get servers() {
    return this.members.map((member) => `nats://127.0.0.1:${member.port}`);
  }

  launch(member) {
    const store = join(this.dir, member.name);
    const lines = [
      `server_name: ${member.name}`, `listen: "127.0.0.1:${member.port}"`, `http: "127.0.0.1:${member.monitor}"`,
      `max_payload: 4194304`, `jetstream { store_dir: "${store}" }`,
    ];
    if (this.members.length > 1) {
      const routes = this.members.map((other) => `nats://127.0.0.1:${other.route}`).join(", ");
      lines.push(`cluster { name: test, listen: "127.0.0.1:${member.route}", routes: [${routes}] }`);
    }
    const file = join(this.dir, `${member.name}.conf`);
    writeFileSync(file, `${lines.join("\n")}\n`);
    member.process = new Process(`nats ${member.name}`, natsBinary(), ["-c", file]);
  }

  /** Waits for the health endpoint, which says 200 once JetStream (and its cluster) serves. */
  async ready(member) {
    const deadline = Date.now() + 20_000;
    while (Date.now() < deadline && !member.process.ended) {
      const answer = await fetch(`http://127.0.0.1:${member.monitor}/healthz`).catch(() => null);
      if (answer?.status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`nats-server ${member.name} is not healthy\n${member.process.log()}`);
  }

  /** Kills a server and starts it again on its store; resolves once it serves. `whileDown` runs in between. */
  async restart(member = this.members[0], whileDown = async () => {}) {
    await member.process.stop("SIGKILL");
    await whileDown();
    this.launch(member);
    await this.ready(member);
  }

  async stop() {
    await Promise.all(this.members.map((member) => member.process.stop()));
    rmSync(this.dir, { recursive: true, force: true });
  }
}
