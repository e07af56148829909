// The commands of the documentation, run as a reader runs them: each page marks what can be run (lib/pages.mjs). Addresses are replaced
// by free ones, `target/release` by the build under test; a page's own files are written to a fresh directory.

import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { after, afterEach, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { natsBinary } from "../lib/nats.mjs";
import { steps } from "../lib/pages.mjs";
import { freePort } from "../lib/ports.mjs";
import { Process } from "../lib/processes.mjs";
import { dumpIfFailed } from "../lib/suite.mjs";
import { Dev } from "../lib/walks.mjs";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const TRUNKLINE = process.env.TRUNKLINE_BIN ?? here("../../target/debug/trunkline");
const PAGES = ["README.md", "docs/quick-start.md", "docs/migration.md", "docs/operations.md"];

/** Addresses of `make run` that pages name, by what `trunkline dev` prints for them: the line's name and the node. */
const OF_DEV = { 8080: ["telehealth", 0], 8083: ["telehealth", 1], 9100: ["back ends", 0], 9090: ["operators", 0] };

/** Where a part of a page is tried: a directory, what runs in it, and the addresses that stand for those of the page. */
class Stage {
  static async start(kind) {
    const stage = new Stage();
    stage.processes = [];
    stage.addresses = new Map();
    stage.printed = [];
    if (kind === "dev") {
      stage.dev = await Dev.start();
      stage.dir = stage.dev.dir;
      rmSync(join(stage.dir, "trunkline.toml")); // a reader has none
      for (const [port, [name, node]] of Object.entries(OF_DEV)) stage.addresses.set(port, stage.dev.urls(name)[node].replace("http://", ""));
    } else {
      stage.dir = mkdtempSync(join(tmpdir(), "trunkline-docs-"));
    }
    const ours = /^(TRUNKLINE_|JWT_SECRET$|CORS_ORIGINS$|PORT$|HOST$)/;
    const env = Object.fromEntries(Object.entries(process.env).filter(([key]) => !ours.test(key)));
    const path = [dirname(TRUNKLINE), dirname(natsBinary()), process.env.PATH].join(delimiter);
    // Packages that a reader installs beside the script are those of the tests. A coordinator's own port may be taken.
    stage.env = { ...env, PATH: path, NODE_OPTIONS: `--import ${here("../lib/walks-packages.mjs")}`, TRUNKLINE_COORDINATOR__ADMIN: `127.0.0.1:${await freePort()}` };
    return stage;
  }

  /** The text with this run's addresses and build. */
  async located(text) {
    const named = /(?:127\.0\.0\.1|0\.0\.0\.0):(\d+)/g;
    for (const [, port] of text.matchAll(named)) {
      if (!this.addresses.has(port)) this.addresses.set(port, `127.0.0.1:${await freePort()}`);
    }
    const ports = (_, flag, port) => `${flag}${this.addresses.get(port)?.split(":")[1] ?? port}`;
    return text.replace(named, (_, port) => this.addresses.get(port)).replaceAll("target/release/trunkline", "trunkline").replace(/(--port )(\d+)/g, ports);
  }

  async take({ mark, value, lang, text, line }) {
    const located = await this.located(text);
    if (mark === "file") return writeFileSync(join(this.dir, value), `${located}\n`);
    if (mark === "prints") return this.#expect(value === "dev" ? this.dev.process.lines : this.printed, located);
    if (mark === "run if" && !installed(value)) return (this.printed = null);
    const child = new Process(`line ${line}`, "bash", ["-euo", "pipefail", "-c", mark === "serve" ? `exec ${located}` : located], { cwd: this.dir, env: this.env });
    this.processes.push(child);
    child.child.stdin.end();
    if (mark === "serve") return child.line(new RegExp(value), 60_000);
    assert.equal(lang, "sh");
    assert.equal(await child.exited, 0, child.log());
    this.printed = child.lines;
  }

  /** Each line of the page is the beginning of one that was printed. */
  #expect(printed, text) {
    if (printed === null) return; // the program is not installed
    for (const wanted of text.split("\n").filter((line) => line.trim())) {
      const parts = wanted.trim().split("…").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
      assert.ok(printed.some((line) => new RegExp(parts.join(".*")).test(line)), `not printed: ${wanted}\n${printed.join("\n")}`);
    }
  }

  log() {
    return [this.dev, ...this.processes].filter(Boolean).map((part) => part.log()).join("\n");
  }

  async stop() {
    for (const child of this.processes.reverse()) await child.stop();
    await this.dev?.stop();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

function installed(program) {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/** The runnable steps of a page, by stage. */
function stages(page) {
  const found = [];
  for (const step of steps(here(`../../${page}`))) {
    if (step.mark === "stage") found.push({ kind: step.value, line: step.line, steps: [] });
    else if (["file", "run", "run if", "serve", "prints"].includes(step.mark)) found.at(-1).steps.push(step);
  }
  return found;
}

describe("the commands of", () => {
  let stage;
  afterEach(async (test) => {
    dumpIfFailed(test, stage);
    await stage?.stop();
    stage = undefined;
  });
  for (const page of PAGES) {
    for (const { kind, line, steps: own } of stages(page)) {
      it(`${page}, from line ${line} on`, async () => {
        stage = await Stage.start(kind);
        for (const step of own) await stage.take(step);
      });
    }
  }
});

describe("the configurations in the documentation", () => {
  const pages = ["README.md", ...readdirSync(here("../../docs")).filter((name) => name.endsWith(".md")).map((name) => `docs/${name}`)];
  const blocks = pages.flatMap((page) => steps(here(`../../${page}`)).filter(({ lang }) => lang === "toml").map((step) => ({ page, ...step })));
  const dir = mkdtempSync(join(tmpdir(), "trunkline-toml-"));
  after(() => rmSync(dir, { recursive: true, force: true }));

  it("have no unknown key and no value of a wrong type", () => {
    assert.ok(blocks.length > 10, "they were not found");
    const wrong = blocks.flatMap(({ page, line, text }) => {
      // A part of an application's section stands in one.
      const whole = /^\[+app\.|^[a-z_.]+ = /.test(text.replace(/^(\s*#.*\n)*/, "").trimStart()) ? `[[app]]\n${text}` : text;
      const file = join(dir, `${page.replaceAll("/", "-")}-${line}.toml`);
      writeFileSync(file, whole);
      const { stderr } = spawnSync(TRUNKLINE, ["check-config", "--config", file], { encoding: "utf8" });
      // What a page leaves out (keys, files, other applications) is missing here.
      return stderr.split("\n").filter((mistake) => /unknown|invalid type|expected|duplicate/.test(mistake)).map((mistake) => `${page}:${line}: ${mistake}`);
    });
    assert.deepEqual(wrong, []);
  });
});
