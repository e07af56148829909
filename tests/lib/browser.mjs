// A headless Chromium with an empty profile, spoken to by the DevTools protocol. It comes from the system's packages: tests skip without it.

import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WebSocket } from "ws";
import { until } from "./clients.mjs";
import { Process } from "./processes.mjs";

const PLACES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
export const CHROMIUM = PLACES.find((path) => path && existsSync(path));

/** For `it(…, { skip: noBrowser }, …)`: why not, or `false`. */
export const noBrowser = CHROMIUM ? false : "Chromium is not installed (CHROMIUM=/path/to/it)";

const QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];

export class Browser {
  #answers = new Map();
  #asked = 0;

  static async start() {
    const browser = new Browser();
    browser.dir = mkdtempSync(join(tmpdir(), "trunkline-browser-"));
    browser.process = new Process("chromium", CHROMIUM, [...QUIET, "--remote-debugging-port=0", `--user-data-dir=${browser.dir}`, "about:blank"]);
    const [, url] = await browser.process.line(/^DevTools listening on (ws:\S+)$/, 30_000);
    browser.ws = new WebSocket(url);
    browser.ws.on("message", (data) => browser.#heard(JSON.parse(data)));
    await new Promise((resolve, reject) => { browser.ws.on("open", resolve); browser.ws.on("error", reject); });
    return browser;
  }

  /** A page of a profile of its own. */
  async open(url) {
    const { browserContextId } = await this.#ask("Target.createBrowserContext");
    const { targetId } = await this.#ask("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.#ask("Target.attachToTarget", { targetId, flatten: true });
    const page = {
      /** The value of an expression in the page. */
      evaluate: async (expression) => {
        const { result, exceptionDetails } = await this.#ask("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true }, sessionId);
        if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
        return result.value;
      },
      /** Resolves with the expression's value once it holds. */
      until: (expression, ms = 15_000) => until(() => page.evaluate(expression), ms),
    };
    await this.#ask("Page.navigate", { url }, sessionId);
    await page.until("document.readyState === 'complete' && location.href !== 'about:blank'");
    return page;
  }

  #ask(method, params = {}, sessionId) {
    const id = this.#asked += 1;
    return new Promise((resolve, reject) => {
      this.#answers.set(id, ({ result, error }) => (error ? reject(new Error(`${method}: ${error.message}`)) : resolve(result)));
      this.ws.send(JSON.stringify({ id, method, params, sessionId }));
    });
  }

  #heard(message) {
    this.#answers.get(message.id)?.(message);
    this.#answers.delete(message.id);
  }

  async stop() {
    this.ws?.close();
    await this.process.stop("SIGTERM");
    // Its other processes may still write: `maxRetries` would not look again at what has come meanwhile.
    await until(() => removed(this.dir));
  }
}

function removed(dir) {
  try {
    rmSync(dir, { recursive: true, force: true });
    return true;
  } catch (error) {
    if (error.code === "ENOTEMPTY") return false;
    throw error;
  }
}
