// Trunkline as a user runs it: nats-server, gateway and coordinator processes with a configuration file each, a balancer in front.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startBalancer, startFaultProxy } from "./balancers.mjs";
import { Nats } from "./nats.mjs";
import { freePort } from "./ports.mjs";
import { Process } from "./processes.mjs";

const TRUNKLINE = process.env.TRUNKLINE_BIN ?? new URL("../../target/debug/trunkline", import.meta.url).pathname;

export class Cluster {
  /**
   * @param {object} options
   * @param {string} options.config TOML; the addresses in it are replaced by free ones
   * @param {number} [options.nodes] gateway processes
   * @param {number} [options.coordinators] coordinator processes; default: two where an application has calls and presence
   * @param {1|3} [options.nats] nats-servers
   * @param {number[]} [options.natsOf] index of the nats-server each node talks to; default: all of them
   * @param {"none"|"testkit"|"haproxy"} [options.balancer]
   * @param {number} [options.seed] of testkit's balancer
   * @param {string[]} [options.listen] where clients connect; default: a free port
   * @param {boolean} [options.faults] puts a fault proxy between each node and its nats-server: `node.bus.apply("cut")`
   */
  static async start({
    config, nodes = 1, coordinators = coordinated(config) ? 2 : 0, nats = 1, natsOf, balancer = "none", seed, listen, faults = false,
  }) {
    const cluster = new Cluster();
    try {
      cluster.config = config;
      cluster.faults = faults;
      cluster.dir = mkdtempSync(join(tmpdir(), "trunkline-test-"));
      cluster.nats = await Nats.start(nats);
      cluster.nodes = [];
      cluster.coordinators = [];
      cluster.listen = balancer === "none" && listen ? listen : ["127.0.0.1:0"];
      // One after the other: the first creates the streams.
      for (let i = 0; i < nodes; i += 1) await cluster.add(natsOf?.[i]);
      await Promise.all(Array.from({ length: coordinators }, () => cluster.addCoordinator()));
      if (balancer !== "none") {
        cluster.balancer = await startBalancer(cluster.nodes.map((node) => node.addr), { kind: balancer, seed, listen });
      }
      return cluster;
    } catch (error) {
      await cluster.stop();
      throw error;
    }
  }

  /** Where clients connect: the balancer, else the first node. */
  get url() {
    return this.balancer?.url ?? this.nodes[0].url;
  }

  /** Starts one more gateway node and waits until it is ready. */
  async add(natsIndex) {
    const name = `node-${this.nodes.length}`;
    const admin = `127.0.0.1:${await freePort()}`;
    let servers = natsIndex === undefined ? this.nats.servers : [this.nats.servers[natsIndex]];
    const bus = this.faults ? await startFaultProxy(servers[0].replace("nats://", "")) : undefined;
    if (bus) servers = [`nats://${bus.addr}`];
    const file = this.#write(name, { listen: this.listen, admin, servers });
    const child = new Process(name, TRUNKLINE, ["gateway", "--config", file], { env: cleanEnv() });
    const node = { name, admin, process: child, bus };
    this.nodes.push(node);
    [, node.app, node.addr] = await child.line(/^listening (\S+) (127\.0\.0\.1:\d+)$/);
    await child.line(/^ready$/);
    node.url = `http://${node.addr}`;
    return node;
  }

  /** Starts one more coordinator and waits until it is ready. */
  async addCoordinator() {
    const name = `coordinator-${this.coordinators.length}`;
    const coordinator = { name };
    this.coordinators.push(coordinator);
    coordinator.admin = `127.0.0.1:${await freePort()}`;
    const file = this.#write(name, { listen: this.listen, admin: coordinator.admin, servers: this.nats.servers });
    const args = ["coordinator", "--config", file, "--admin", coordinator.admin];
    coordinator.process = new Process(name, TRUNKLINE, args, { env: cleanEnv() });
    await coordinator.process.line(/^ready$/);
    return coordinator;
  }

  #write(name, values) {
    const file = join(this.dir, `${name}.toml`);
    writeFileSync(file, located(this.config, values));
    return file;
  }

  /** The value of a metric summed over its labels and the nodes; 0 when it was never counted. */
  async metric(name, nodes = this.nodes) {
    const texts = await Promise.all(nodes.map((node) => fetch(`http://${node.admin}/metrics`).then((r) => r.text())));
    const samples = texts.join("\n").matchAll(new RegExp(`^${name}(?:\\{[^}]*\\})? (\\S+)`, "gm"));
    return [...samples].reduce((sum, [, value]) => sum + Number(value), 0);
  }

  log() {
    const parts = [...this.#processes(), ...(this.nats?.members ?? [])];
    return parts.map((part) => part.process.log()).join("\n");
  }

  async stop() {
    await this.balancer?.stop();
    await Promise.all(this.#processes().map((part) => part.process.stop("SIGKILL")));
    await Promise.all((this.nodes ?? []).map((node) => node.bus?.stop()));
    await this.nats?.stop();
    if (this.dir) rmSync(this.dir, { recursive: true, force: true });
  }

  /** Those that came as far as being started. */
  #processes() {
    return [...(this.nodes ?? []), ...(this.coordinators ?? [])].filter((part) => part.process);
  }
}

/** Whether an application of this configuration has calls and presence: all but the conformance suites. */
function coordinated(config) {
  return [...config.matchAll(/^dialect = "(.*)"$/gm)].some(([, dialect]) => dialect !== "conformance");
}

/** The configuration with this run's addresses in place of its own. */
function located(config, values) {
  return config.replace(/^(listen|admin|servers) = .*$/gm, (_, key) => `${key} = ${JSON.stringify(values[key])}`);
}

/** The environment without what would override the file. */
export function cleanEnv() {
  const ours = /^(TRUNKLINE_|JWT_SECRET$|CORS_ORIGINS$|PORT$|HOST$)/;
  return Object.fromEntries(Object.entries(process.env).filter(([key]) => !ours.test(key)));
}
