// Engine.IO on the wire, without a client library: what a test says is what is sent.

import { WebSocket } from "ws";

/** Longest wait for something that must come: no busy machine takes that long, and a wait that succeeds costs nothing of it. */
export const SOON_MS = 30_000;

/** Calls `late` after `ms`, unless cleared. Keeps no process alive: whom nobody waits for any more does not hold a test's end up. */
export const deadline = (ms, late) => setTimeout(late, ms).unref();

/** Resolves after `ms`; only for behaviour that is itself about time. */
export const elapse = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Engine.IO over HTTP long-polling at `url` with `path`. */
export class Polling {
  constructor(url, path, query = "") {
    this.base = `${url}${path}?EIO=4&transport=polling${query}`;
  }

  /** Opens a session and keeps its handshake. */
  static async open(url, path, query) {
    const polling = new Polling(url, path, query);
    const response = await fetch(polling.base);
    const text = await response.text();
    if (response.status !== 200 || text[0] !== "0") throw new Error(`handshake: ${response.status} ${text}`);
    polling.handshake = JSON.parse(text.slice(1).split("\x1e")[0]);
    polling.sid = polling.handshake.sid;
    return polling;
  }

  get target() {
    return this.sid ? `${this.base}&sid=${this.sid}` : this.base;
  }

  /** One poll: `{ status, text }`. */
  async poll(options) {
    const response = await fetch(this.target, options);
    return { status: response.status, text: await response.text() };
  }

  async post(body) {
    const response = await fetch(this.target, { method: "POST", body });
    return { status: response.status, text: await response.text() };
  }

  /** Polls until `count` packets have come, pings answered and left out. */
  async packets(count) {
    const packets = [];
    while (packets.length < count) {
      const { status, text } = await this.poll();
      if (status !== 200) throw new Error(`poll: ${status} ${text} after ${JSON.stringify(packets)}`);
      for (const packet of text.split("\x1e")) {
        if (packet === "2") await this.post("3");
        else packets.push(packet);
      }
    }
    return packets;
  }
}

/** A WebSocket whose frames wait until a test asks for them: none is lost between two awaits. */
export class Frames {
  constructor(url, path, query = "", options = {}) {
    this.ws = new WebSocket(`${url.replace("http", "ws")}${path}?EIO=4&transport=websocket${query}`, options);
    this.ws.binaryType = "nodebuffer";
    this.queue = [];
    this.takers = [];
    this.ws.on("message", (data, isBinary) => this.#put({ frame: isBinary ? data : data.toString() }));
    this.closed = new Promise((resolve) => {
      this.ws.on("close", (code) => { resolve(code); this.#put({ end: `closed with ${code}` }); });
    });
    this.opened = new Promise((resolve, reject) => {
      this.ws.on("open", resolve);
      this.ws.on("error", (error) => { this.error = error; reject(error); });
    });
    this.opened.catch(() => {}); // whoever waits for it hears of it
  }

  /** Opens a session of its own and keeps its handshake. */
  static async open(url, path, query, options) {
    const frames = new Frames(url, path, query, options);
    await frames.opened;
    const first = await frames.next();
    frames.handshake = JSON.parse(first.slice(1));
    return frames;
  }

  /** The next frame: a string, or a Buffer when it is binary. Rejects when the socket closes or nothing comes. */
  next(ms = SOON_MS) {
    return new Promise((resolve, reject) => {
      const take = ({ frame, end }) => {
        clearTimeout(timer);
        if (end) reject(new Error(end));
        else resolve(frame);
      };
      const timer = deadline(ms, () => {
        this.takers.splice(this.takers.indexOf(take), 1);
        reject(new Error(`no frame for ${ms} ms`));
      });
      if (this.queue.length > 0) take(this.queue[0].end ? this.queue[0] : this.queue.shift());
      else this.takers.push(take);
    });
  }

  /** The next frame that is no ping; pings are answered. */
  async nextPacket(ms) {
    for (;;) {
      const frame = await this.next(ms);
      if (frame !== "2") return frame;
      this.send("3");
    }
  }

  /** Frames that have come and were not asked for. */
  get waiting() {
    return this.queue.flatMap(({ frame }) => (frame === undefined ? [] : [frame]));
  }

  send(...frames) {
    for (const frame of frames) this.ws.send(frame);
  }

  close() {
    this.ws.close();
  }

  /** Resolves with the close code; rejects when the socket stays open. */
  async closing(ms = SOON_MS) {
    const late = new Promise((_, reject) => { deadline(ms, () => reject(new Error(`still open after ${ms} ms`))); });
    return Promise.race([this.closed, late]);
  }

  #put(item) {
    const taker = this.takers.shift();
    if (taker && !item.end) taker(item);
    else {
      this.queue.push(item);
      if (item.end) for (const waiting of [taker, ...this.takers.splice(0)]) waiting?.(item);
    }
  }
}
