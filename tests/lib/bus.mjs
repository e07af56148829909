// A few words of NATS' protocol: what a back end asks, and answers, without a client library.

import { connect } from "node:net";
import { SOON_MS } from "./engine.mjs";

export class Bus {
  #socket;
  #handlers = new Map();
  #sids = 0;
  #rest = Buffer.alloc(0);

  /** @param {string} server `nats://host:port` */
  static async connect(server) {
    const bus = new Bus();
    const { hostname, port } = new URL(server);
    bus.#socket = connect(Number(port), hostname);
    bus.#socket.on("data", (data) => bus.#read(data));
    bus.#socket.on("error", () => {});
    bus.#socket.write('CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nPING\r\n');
    await new Promise((resolve) => { bus.onPong = resolve; });
    return bus;
  }

  /** Resolves with the JSON of the answer. */
  request(subject, body, ms = SOON_MS) {
    const inbox = `_INBOX.${Math.random().toString(36).slice(2)}`;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no answer on ${subject} for ${ms} ms`)), ms);
      const sid = this.#subscribe(inbox, undefined, (text) => {
        clearTimeout(timer);
        this.#socket.write(`UNSUB ${sid}\r\n`);
        this.#handlers.delete(sid);
        if (text === "") reject(new Error(`nobody serves ${subject}`));
        else resolve(JSON.parse(text));
      });
      this.#publish(subject, JSON.stringify(body), inbox);
    });
  }

  /** Answers requests with the JSON that `answer` makes of theirs; `undefined`: not at all. Returns what ends it. */
  serve(subject, answer) {
    const sid = this.#subscribe(subject, "tests", async (text, reply) => {
      const body = await answer(JSON.parse(text));
      if (body !== undefined) this.#publish(reply, JSON.stringify(body));
    });
    return () => { this.#socket.write(`UNSUB ${sid}\r\n`); this.#handlers.delete(sid); };
  }

  close() {
    this.#socket.destroy();
  }

  #subscribe(subject, queue, handler) {
    const sid = String((this.#sids += 1));
    this.#handlers.set(sid, handler);
    this.#socket.write(`SUB ${subject} ${queue ? `${queue} ` : ""}${sid}\r\n`);
    return sid;
  }

  #publish(subject, text, reply) {
    this.#socket.write(`PUB ${subject} ${reply ? `${reply} ` : ""}${Buffer.byteLength(text)}\r\n${text}\r\n`);
  }

  #read(data) {
    this.#rest = Buffer.concat([this.#rest, data]);
    for (;;) {
      const end = this.#rest.indexOf("\r\n");
      if (end < 0) return;
      const words = this.#rest.toString("utf8", 0, end).split(" ");
      const isMessage = words[0] === "MSG" || words[0] === "HMSG";
      const size = isMessage ? Number(words.at(-1)) : 0;
      const whole = isMessage ? end + 2 + size + 2 : end + 2;
      if (this.#rest.length < whole) return;
      const body = this.#rest.subarray(end + 2, end + 2 + size);
      this.#rest = this.#rest.subarray(whole);
      if (words[0] === "PING") this.#socket.write("PONG\r\n");
      if (words[0] === "PONG") this.onPong?.();
      if (words[0] === "MSG") this.#handlers.get(words[2])?.(body.toString(), words.length > 4 ? words[3] : undefined);
      // Headers alone: nobody serves the subject.
      if (words[0] === "HMSG") this.#handlers.get(words[2])?.(body.toString("utf8", Number(words.at(-2))), undefined);
    }
  }
}
