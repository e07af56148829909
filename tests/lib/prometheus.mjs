// A Prometheus that scrapes processes of a test, where it is installed.

import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { until } from "./clients.mjs";
import { freePort } from "./ports.mjs";
import { Process } from "./processes.mjs";

export const prometheusInstalled = () => spawnSync("prometheus", ["--version"]).status === 0;

export class Prometheus {
  /** Scrapes these jobs, `{ name: [address] }`, and evaluates the alert rules of a file; resolves once each was scraped `scrapes` times. */
  static async start(jobs, scrapes, rules) {
    const own = new Prometheus();
    own.dir = mkdtempSync(join(tmpdir(), "trunkline-prometheus-"));
    const address = `127.0.0.1:${await freePort()}`;
    own.url = `http://${address}`;
    const file = join(own.dir, "prometheus.yml");
    const job = ([name, targets]) => ({ job_name: name, static_configs: [{ targets }] });
    const global = { scrape_interval: "200ms", scrape_timeout: "200ms", evaluation_interval: "1s" };
    const config = { global, rule_files: [rules], scrape_configs: Object.entries(jobs).map(job) };
    writeFileSync(file, JSON.stringify(config)); // YAML reads JSON
    const flags = [`--config.file=${file}`, `--storage.tsdb.path=${own.dir}/data`, `--web.listen-address=${address}`, "--log.level=warn"];
    own.process = new Process("prometheus", "prometheus", flags);
    const count = Object.values(jobs).flat().length;
    const scraped = `count(count_over_time(up[1m]) >= ${scrapes} and up == 1) == ${count}`;
    await until(async () => (await own.query(scraped).catch(() => [])).length > 0, 30_000);
    return own;
  }

  async #get(path) {
    const response = await fetch(`${this.url}${path}`);
    const { status, data, error } = await response.json();
    if (status !== "success") throw new Error(error);
    return data;
  }

  /** The result of an instant query; rejects with Prometheus's words where the query is wrong. */
  async query(expr) {
    return (await this.#get(`/api/v1/query?query=${encodeURIComponent(expr)}`)).result;
  }

  /** Every name a sample has. */
  names() {
    return this.#get("/api/v1/label/__name__/values");
  }

  /** The alert rules as they were read. */
  async rules() {
    return (await this.#get("/api/v1/rules")).groups.flatMap((group) => group.rules);
  }

  async stop() {
    await this.process.stop("SIGKILL");
    rmSync(this.dir, { recursive: true, force: true });
  }
}
