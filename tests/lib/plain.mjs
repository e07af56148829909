// A client of the plain WebSocket: `ws` and JSON frames, nothing else.

import { WebSocket } from "ws";
import { deadline, SOON_MS } from "./engine.mjs";

/** A plain connection. What came waits in `frames` until somebody asks for it; `closed` resolves with the close code. */
export class Plain {
  #waiting = [];
  #nextId = 0;
  frames = [];

  /** @param {string} url `ws://…/events` @param {object} [options] `protocols`, and those of `ws` */
  constructor(url, { protocols = [], ...options } = {}) {
    this.ws = new WebSocket(url.replace(/^http/, "ws"), protocols, options);
    this.ws.on("message", (data, isBinary) => this.#got(isBinary ? data : data.toString()));
    this.ws.on("pong", () => this.#got("(pong)"));
    this.closed = new Promise((resolve) => this.ws.on("close", (code) => { this.code = code; resolve(code); }));
    this.opened = new Promise((resolve, reject) => {
      this.ws.on("open", () => resolve(this));
      this.ws.on("unexpected-response", (_, response) => { reject(Object.assign(new Error("refused"), { status: response.statusCode })); this.ws.terminate(); });
      this.ws.on("error", reject);
    });
    this.opened.catch(() => {});
  }

  static async open(url, options) {
    return new Plain(url, options).opened;
  }

  #got(frame) {
    let value = frame;
    if (typeof frame === "string") try { value = JSON.parse(frame); } catch { /* raw text */ }
    this.frames.push(value);
    for (const look of [...this.#waiting]) look();
  }

  /** Takes the first frame that fits out of those that came, or that will come. */
  next(fits = () => true, ms = SOON_MS) {
    return new Promise((resolve, reject) => {
      const look = () => {
        const at = this.frames.findIndex(fits);
        if (at < 0) return;
        this.#waiting.splice(this.#waiting.indexOf(look), 1);
        clearTimeout(timer);
        resolve(this.frames.splice(at, 1)[0]);
      };
      const timer = deadline(ms, () => {
        this.#waiting.splice(this.#waiting.indexOf(look), 1);
        reject(new Error(`no such frame for ${ms} ms; came: ${JSON.stringify(this.frames)}`));
      });
      this.#waiting.push(look);
      look();
    });
  }

  /** The next event of this name: its data. */
  async event(name, ms) {
    return (await this.next((frame) => frame.event === name, ms)).data;
  }

  /** The next event of this name, its binary frames in place of their placeholders. */
  async eventWithBinary(name) {
    const frame = await this.next((it) => it.event === name);
    const parts = [];
    for (let i = 0; i < (frame.binary ?? 0); i += 1) parts.push(await this.next(Buffer.isBuffer));
    const fill = (value) => {
      if (value?._placeholder) return parts[value.num];
      if (Array.isArray(value)) return value.map(fill);
      if (value && typeof value === "object") return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, fill(it)]));
      return value;
    };
    return fill(frame.data);
  }

  say(event, data, more = {}) {
    this.ws.send(JSON.stringify({ event, data, ...more }));
  }

  /** Says it and resolves with the answer's data. */
  async ask(event, data, more = {}) {
    const id = this.#nextId;
    this.#nextId += 1;
    this.say(event, data, { id, ...more });
    return (await this.next((frame) => frame.ack === id)).data;
  }

  close() {
    this.ws.terminate();
  }
}
