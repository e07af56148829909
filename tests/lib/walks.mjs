// The walks of docs/examples, run as a newcomer runs them: `trunkline dev` with its built-in configuration, then the script with the
// published client.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Process } from "./processes.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const TRUNKLINE = process.env.TRUNKLINE_BIN ?? here("../../target/debug/trunkline");

/** `trunkline dev` in a directory of its own, on free ports. */
export class Dev {
  static async start() {
    const dev = new Dev();
    dev.dir = mkdtempSync(join(tmpdir(), "trunkline-walk-"));
    try {
      // The applications' own ports may be taken. Free ones on one address would be told to be the same: each has an address of its own.
      let made = 1;
      const free = () => { made += 1; return `"127.0.0.${made}:0"`; };
      const config = readFileSync(here("../../deploy/five-applications.toml"), "utf8").replace(/"127\.0\.0\.1:\d+"/g, free);
      writeFileSync(join(dev.dir, "trunkline.toml"), `coordinator.admin = "127.0.0.1:0"\n${config}`);
      const path = [process.env.PATH, here("../../.tools/bin")].join(delimiter);
      const ours = /^(TRUNKLINE_|JWT_SECRET$|CORS_ORIGINS$|PORT$|HOST$)/;
      const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !ours.test(key)));
      dev.process = new Process("dev", TRUNKLINE, ["dev"], { cwd: dev.dir, env: { ...env, PATH: path } });
      await dev.process.line(/^Ctrl-C stops everything/, 60_000);
      return dev;
    } catch (error) {
      await dev.stop();
      throw error;
    }
  }

  /** The addresses printed under this name, one for each node. */
  urls(name) {
    const line = new RegExp(`^  node \\d  ${name} +(http://[^/]+)`);
    return this.process.lines.flatMap((text) => line.exec(text)?.[1] ?? []);
  }

  /** Runs a walk of docs/examples to its end; resolves with what it printed. It must end well. */
  async walk(app) {
    const env = { ...process.env, API_URL: this.urls("back ends")[0], DATA_DIR: `file://${this.dir}/.trunkline` };
    const args = ["--import", here("walks-packages.mjs"), here(`../../docs/examples/${app}.mjs`), ...this.urls(app)];
    const walk = new Process(`walk of ${app}`, process.execPath, args, { env });
    const code = await walk.exited;
    assert.equal(code, 0, walk.log());
    assert.match(walk.lines.at(-1), /^The walk is over\.$/, walk.log());
    return walk.lines;
  }

  log() {
    return this.process.log();
  }

  async stop() {
    await this.process?.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}
